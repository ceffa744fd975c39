"""What steps in C have besides matrices of floats: a number for each row, integers, truth values, constants of a batch."""

import re

import numpy as np
import pytest
from conftest import needs_compiler
from test_compile_cells import Written, agree, states

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compiler.native import rows
from tinygrad_rnn.nn import functional as F

pytestmark = needs_compiler


def mixed(a, b, share):
    return share * a + (1 - share) * b


def masked(weights):
    return weights * np.tril(np.ones((2, 2), int))


CELLS = {
    # a number for each row
    "a gate of one unit": lambda c, x, h: mixed(c.n(x, h), h, tg.sigmoid(h @ c.p + x[:, 0])[:, None]),
    "halting": lambda c, x, h: np.where((tg.sigmoid(h @ c.p) > 0.5)[..., np.newaxis], c.n(x, h), 0.5 * h),
    "scores": lambda c, x, h: mixed(c.n(x, h), h, F.softmax(np.stack([h @ c.p, x @ c.own.weight[0]], axis=1), axis=1)[:, :1]),
    "scores of one vector": lambda c, x, h: c.n(x, h) * np.column_stack([h @ c.p, c.n(x, h) @ c.p]),
    "a squeezed column": lambda c, x, h: c.n(x, h) * np.expand_dims(np.squeeze(h @ c.square[:, :1], 1), -1),
    "an outer product": lambda c, x, h: np.tanh((h @ c.p)[:, None] @ c.p[None] + c.own(x)),
    "a factor on both sides": lambda c, x, h: (x[:, 0] + h @ c.p)[:, None] * np.tanh(h * c.p[None] + c.own(x)),
    "a column beside itself, cut": lambda c, x, h: c.n(x, h) + (h[:, :1] + np.broadcast_to(x[:, 2:], (len(h), 2)))[:, 1:],
    "the largest beside a row": lambda c, x, h: c.own(np.concatenate([z := c.n(x, h), z.max(axis=1, keepdims=True)], axis=1)),
    "a cosine": lambda c, x, h: c.n(x, h) * ((h @ c.p) / (np.linalg.norm(h, axis=1) + 1)).reshape(-1, 1),
    # integers
    "a range": lambda c, x, h: c.n(x, h) * np.arange(2) + np.maximum(h, np.arange(2)) / np.arange(1, 3),
    "a mask of bytes": lambda c, x, h: np.where(np.array([[0, 3]]), c.n(x, h) * np.array([1, 2], np.uint8), 0.5 * h),
    "a vector of integers": lambda c, x, h: c.n(x, h) + 0.1 * (h @ np.arange(2))[:, None],
    "a matrix of integers": lambda c, x, h: c.n(x, h) + 0.5 * (h @ np.eye(2, dtype=int)[::-1]),
    "masked weights": lambda c, x, h: np.tanh(h @ masked(c.square) + c.own(x)),
    "whole numbers": lambda c, x, h: c.n(x, h) + 0.1 * (2 * h.astype(int) - 1) * np.fix(2 * h),
    "products that are whole": lambda c, x, h: c.n(x, h) * ((2 * h).astype(int) @ np.array([1, 2]))[:, None],
    "a number for each sequence": lambda c, x, h: c.n(x, h) * (1 + np.arange(len(h)))[:, None],
    # truth values
    "a sign": lambda c, x, h: c.n(x, h) * (2 * (h > 0) - 1) + (1 - (h > 0)) * h,
    "how many": lambda c, x, h: c.n(x, h) / (1 + (h > 0).sum(axis=1, keepdims=True)) + (h < 0).mean(axis=1)[:, None],
    "signs of logic": lambda c, x, h: np.where((h > 0) & ~(x[:, :2] > 0) | (h < 0) ^ (c.p > 0), c.n(x, h), 0.5 * h),
    "a mask": lambda c, x, h: c.n(x, h) * np.array([True, False]) + np.where(np.array([False, True]), h, 0),
    "sums of truth values": lambda c, x, h: c.n(x, h) * ((h > 0) + (x[:, :2] > 0)) + h * ((h < 0) * (x[:, :2] < 0)),
    "ones and zeros": lambda c, x, h: c.n(x, h) + np.concatenate([np.ones_like(h[:, :1]), np.zeros((len(h), 1), int)], axis=1),
    "NaN": lambda c, x, h: np.nan_to_num(np.where(h > 0, c.n(x, h), np.nan) + np.array([[np.nan, 0]]), nan=0.5),
    "what is finite": lambda c, x, h: np.nan_to_num(c.n(x, h) + np.log(1.0 * (h > 0)), nan=0.5, neginf=-0.5) + np.round(h),
}


@pytest.mark.parametrize(("batch", "dtype"), [(5, np.float64), (1, np.float64), (5, np.float32), (1, np.float32)])
@pytest.mark.parametrize("name", CELLS)
def test_cells(name, batch, dtype):
    layer, rng = nn.Recurrent(Written(CELLS[name], dtype=dtype)), np.random.default_rng(0)
    x, hx = rng.normal(size=(4, batch, 3)).astype(dtype), states(layer, rng, batch).astype(dtype)
    with np.errstate(all="ignore"):
        agree(layer, x, hx, tg.compile(layer, target="c"), tolerance=1e-11 if dtype == np.float64 else 2e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_integers_in_rows_of_sixteen(dtype):
    step = lambda c, x, h: np.where((h > 0).sum(axis=1, keepdims=True) > 8, c.n(x, h), 0.5 * h) * np.arange(16)  # noqa: E731
    layer, rng = nn.Recurrent(Written(step, 16, dtype=dtype)), np.random.default_rng(0)
    x, hx = rng.normal(size=(4, 5, 3)).astype(dtype), states(layer, rng, 5).astype(dtype)
    agree(layer, x, hx, tg.compile(layer, target="c"), tolerance=1e-11 if dtype == np.float64 else 2e-5)


@pytest.mark.parametrize(
    "end",
    [lambda z: np.tanh(z[:, :2]) * z[:, 2:4], lambda z: np.tanh(z[:, :2] * z.max(axis=1, keepdims=True))],
    ids=["pieces", "whole"],
)
def test_each_of_many_values_is_read_twice(end):
    """No work on a step goes by the paths through it, of which there are 2 ** 40."""

    def step(c, x, h):
        z = np.tanh(c.z(x, h))
        for i in range(40):
            z = np.maximum(z - 0.01 * i, 0.9 * z)
        return end(z)

    layer, rng = nn.Recurrent(Written(step)), np.random.default_rng(0)
    agree(layer, rng.normal(size=(2, 3, 3)), states(layer, rng, 3), tg.compile(layer, target="c"))


def refused(step):
    """What is said of a step that C cannot have."""
    with pytest.raises(tg.CompileError) as caught:
        tg.compile(nn.Recurrent(Written(step)), target="c")(tg.Tensor(np.ones((1, 3, 3)), requires_grad=True))
    return str(caught.value)


@pytest.mark.parametrize(
    "step",
    [
        lambda c, x, h: c.n(x, h) * ((2 * h).astype(int) @ np.eye(2, dtype=int)),
        lambda c, x, h: c.n(x, h) * ((h > 0) @ np.eye(2, dtype=bool)),
        lambda c, x, h: c.n(x, h) * ((h > 0) @ np.array([True, True]))[:, None],
        lambda c, x, h: c.n(x, h) * ((h > 0) ** 2 + (x[:, :2] > 0) ** 2),
        lambda c, x, h: np.nan_to_num(c.n(x, h), nan=np.array([1.0, 2])),
    ],
    ids=["integers", "truth values", "a vector of them", "powers of them", "an array for NaN"],
)
def test_what_is_not_what_it_looks_like(step):
    """Products and powers of truth values and integers are not those of floats."""
    assert "cannot be written in C" in refused(step)


def test_the_line_that_c_cannot_have_is_named(monkeypatch):
    def step(c, x, h):
        z = c.n(x, h)
        return np.flip(z, 1)

    assert re.search(
        rf"test_native_cells.py:{step.__code__.co_firstlineno + 2} needs getitem of \(3, 2\) in every", refused(step)
    )
    parts = refused(lambda c, x, h: c.n(x, h) - h.mean(axis=0))  # mean is not, but a sum that it is made of
    assert re.search(r"test_native_cells.py:\d+ needs sum of \(3, 2\) in every", parts)
    monkeypatch.setitem(rows.KINDS, "f", rows.KINDS["f"] - {"cos"})
    back = refused(lambda c, x, h: c.n(x, h) + np.sin(h))
    assert re.search(r"test_native_cells.py:\d+, for the gradient of sin, needs cos of \(3, 2\) in every", back)
