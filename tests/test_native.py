"""What is special about programs of C: every operation, every index, names, memory, and the switch to NumPy.

The oracle is a loop over NumPy arrays in double precision, and its central differences.
"""

import copy
import pickle
import re
import sys
import threading
import time

import numpy as np
import pytest
from conftest import in_threads, needs_compiler

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compiler.native import build, loops, pass_text
from tinygrad_rnn.compiler.native.c_text import ELEMENT, END, KEYWORDS
from tinygrad_rnn.compiler.native.call import functions

pytestmark = [needs_compiler, pytest.mark.filterwarnings("error")]


class Cell(nn.Module):
    """A step that is a function of x, the state's members, and weights by their names; on arrays it is the same."""

    def __init__(self, step, sizes, weights=(), dtype=np.float64):
        self.step, self.state_size = step, sizes
        for name, value in dict(weights).items():
            setattr(self, name, nn.Parameter(np.asarray(value, dtype)))

    def forward(self, x, state):
        state = state if isinstance(state, tuple) else (state,)
        new = self.step(x, *state, **dict(self.named_parameters()))
        return tuple(new) if isinstance(self.state_size, tuple) else new


def looped(step, x, states, weights):
    """The states after every step, of each member, as NumPy computes them."""
    found = []
    for x_t in x:
        new = step(x_t, *states, **weights)
        states = new if isinstance(new, tuple) else (new,)
        found.append(states)
    return [np.stack(each) for each in zip(*found, strict=True)]


def slope(f, array, i):
    """df / d array[i], by central differences."""
    values = []
    for sign in (1, -1):
        moved = array.copy()
        moved.flat[i] += sign * 1e-6
        values.append(f(moved))
    return (values[0] - values[1]) / 2e-6


def same(step, x, states, weights=(), dtype=np.float64, tolerance=None, sizes=None):
    """The program in C has the values of the loop, and its gradients are the loop's differences. Returns the layer."""
    weights, rng = dict(weights), np.random.default_rng(2)
    sizes = sizes or (tuple(h.shape[1] for h in states) if len(states) > 1 else states[0].shape[1])
    layer = tg.compile(nn.Recurrent(Cell(step, sizes, weights, dtype)), target="c")
    expected = looped(step, x, states, weights)
    assert any(v.any() for v in expected)
    dy, *dfinals = (rng.normal(size=v.shape) for v in (expected[0], *(v[-1] for v in expected)))

    def loss(x, *given):
        hs = looped(step, x, given[: len(states)], dict(zip(weights, given[len(states) :], strict=True)))
        return (hs[0] * dy).sum() + sum((h[-1] * d).sum() for h, d in zip(hs, dfinals, strict=True))

    leaves = [tg.Tensor(v, dtype=dtype, requires_grad=True) for v in (x, *states)]
    hx = tuple(h.reshape(1, *h.shape) for h in leaves[1:])
    y, final = layer(leaves[0], hx if len(hx) > 1 else hx[0])
    finals = final if isinstance(final, tuple) else (final,)
    tolerance = tolerance or (1e-12 if dtype == np.float64 else 2e-5)
    np.testing.assert_allclose(y.data, expected[0], rtol=tolerance, atol=tolerance)
    for found, h in zip(finals, expected, strict=True):
        np.testing.assert_allclose(found.data[0], h[-1], rtol=tolerance, atol=tolerance)
        assert found.dtype == dtype
    total = (y * dy.astype(dtype)).sum() + sum((h[0] * d.astype(dtype)).sum() for h, d in zip(finals, dfinals, strict=True))
    total.backward()
    arrays = [x, *states, *weights.values()]
    for i, leaf in enumerate([*leaves, *layer.parameters()]):
        found = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.data
        f = lambda moved, i=i: loss(*arrays[:i], moved, *arrays[i + 1 :])  # noqa: E731
        wanted = [slope(f, arrays[i], j) for j in range(arrays[i].size)]
        rough = 3e-6 if dtype == np.float64 else 2e-4
        np.testing.assert_allclose(found.ravel(), wanted, rtol=rough, atol=rough * max(1, np.abs(wanted).max(initial=0)))
    return layer


# -- every operation ----------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return tg.sigmoid(x) if isinstance(x, tg.Tensor) else 1 / (1 + np.exp(-x))


SMOOTH = ["arctan", "arcsinh", "cos", "cosh", "exp", "exp2", "expm1", "sin", "sinh", "tan", "tanh"]
POSITIVE = ["arccosh", "cbrt", "log", "log10", "log1p", "log2", "sqrt"]
SMALL = ["arccos", "arcsin", "arctanh"]
STEPS = ["ceil", "floor", "rint", "trunc"]
ONE = {  # of one number
    "neg": lambda a: -a,
    "abs": np.abs,
    "reciprocal": lambda a: np.reciprocal(a * a + 1),
    "sigmoid": sigmoid,
    "np.sign": lambda a: np.sign(a) * a,
    **{name: getattr(np, name) for name in SMOOTH},
    "sinc": np.sinc,
    **{f"np.{name}": lambda a, name=name: getattr(np, name)(2 * a) * a for name in STEPS},
    **{name: lambda a, name=name: getattr(np, name)(a * a + 1.5) for name in POSITIVE},
    **{name: lambda a, name=name: getattr(np, name)(np.sin(a) / 2) for name in SMALL},
    "root": lambda a: a.std(axis=1, keepdims=True) * a,
}
TESTS = ["isfinite", "isinf", "isnan", "signbit"]
TWO = {  # of two
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": lambda a, b: a / (b * b + 1),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": lambda a, b: (a * a + 0.5) ** b,
    "arctan2": np.arctan2,
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
    "mod": lambda a, b: np.mod(a, 0.7 * np.sign(b)) * b,
    "fmod": lambda a, b: np.fmod(a, 0.7 * np.sign(b)) * b,
    "np.floor_divide": lambda a, b: np.floor_divide(a, 0.7 * np.sign(b)) * b,
    "astype": lambda a, b: a.max(axis=1, keepdims=True) * b,  # in its gradient
    "where": lambda a, b: np.where(a > 0.1, a * b, b),
    **{
        f"np.{name}": lambda a, b, name=name: np.where(getattr(np, name)(a, b), a, 0.5 * b)
        for name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
    },
    "np.logical_not": lambda a, b: np.where(np.logical_not(a > b), a, 0.5 * b),
    "np.logical_and": lambda a, b: np.where(np.logical_and(a > b, b > 0), a, 0.5 * b),
    "np.logical_or": lambda a, b: np.where(np.logical_or(a > b, b > 0), a, 0.5 * b),
    "np.logical_xor": lambda a, b: np.where(np.logical_xor(a > b, b > 0), a, 0.5 * b),
    **{f"np.{name}": lambda a, b, name=name: np.where(getattr(np, name)(a), b, a) for name in TESTS},
}
WIDTH = 9  # one vector of doubles, and one left


def used(monkeypatch):
    """The operations that are written from now on."""
    found = set()

    class Watched(dict):
        def __getitem__(self, op):
            found.add(op)
            return super().__getitem__(op)

    for name in ("ELEMENT", "END"):
        monkeypatch.setattr(pass_text, name, Watched(getattr(pass_text, name)))
    return found


def test_no_operation_is_forgotten():
    assert ONE.keys() | TWO.keys() | {"np.positive"} == ELEMENT.keys()
    assert ENDS.keys() == END.keys()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_operations_of_one_number(dtype, monkeypatch):
    """Each with a state of its own."""
    written, rng = used(monkeypatch), np.random.default_rng(0)
    same(
        lambda x, *hs: tuple(0.5 * f(np.tanh(h)) + x for f, h in zip(ONE.values(), hs, strict=True)),
        rng.normal(size=(3, 2, WIDTH)),
        [rng.normal(size=(2, WIDTH)) for _ in ONE],
        dtype=dtype,
    )
    assert ONE.keys() <= written


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_operations_of_two(dtype, monkeypatch):
    written, rng = used(monkeypatch), np.random.default_rng(0)
    same(
        lambda x, *hs: tuple(0.5 * f(h, x) for f, h in zip(TWO.values(), hs, strict=True)),
        rng.normal(size=(3, 2, WIDTH)),
        [rng.normal(size=(2, WIDTH)) for _ in TWO],
        dtype=dtype,
    )
    assert TWO.keys() <= written


ENDS = {
    "sum": lambda a: a * np.sum(a, axis=1, keepdims=True),
    "max": lambda a: a * np.max(a, axis=1, keepdims=True),
    "min": lambda a: a * np.min(a, axis=1, keepdims=True),
}
MORE_ENDS = {
    "mean": lambda a: a - np.mean(a, axis=1, keepdims=True),
    "variance": lambda a: a / (np.var(a, axis=1, keepdims=True) + 1),
    "softmax": lambda a: (lambda e: e / e.sum(axis=1, keepdims=True))(np.exp(a - a.max(axis=1, keepdims=True))),
    "of a piece": lambda a: a * a[:, 1:4].sum(axis=1, keepdims=True) - a[:, 2:].max(axis=1, keepdims=True),
    "of the larger": lambda a: a * np.maximum(a, -0.5 * a).max(axis=1, keepdims=True),
    "of the smaller": lambda a: a * np.minimum(a, -0.5 * a).min(axis=1, keepdims=True),
    "of what it is of": lambda a: a * (a * a.sum(axis=1, keepdims=True)).max(axis=1, keepdims=True),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sums_and_the_like(dtype, monkeypatch):
    written, rng = used(monkeypatch), np.random.default_rng(0)
    steps = [*ENDS.values(), *MORE_ENDS.values()]
    same(
        lambda x, *hs: tuple(0.2 * f(h) + x for f, h in zip(steps, hs, strict=True)),
        rng.normal(size=(3, 2, WIDTH)),
        [rng.normal(size=(2, WIDTH)) for _ in steps],
        dtype=dtype,
    )
    assert ENDS.keys() <= written


@pytest.mark.parametrize("width", [16, 20, 48])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sums_of_long_rows(dtype, width):
    steps, rng = [*ENDS.values(), *MORE_ENDS.values()], np.random.default_rng(0)
    layer = nn.Recurrent(
        Cell(lambda x, *hs: tuple(f(h) / width + x for f, h in zip(steps, hs, strict=True)), (width,) * len(steps))
    )
    x, dy, found = rng.normal(size=(3, 2, width)).astype(dtype), rng.normal(size=(2, width)).astype(dtype), []
    compiled = tg.compile(layer, target="c")
    for call in (compiled, layer):
        leaf = tg.Tensor(x, requires_grad=True)
        _, final = call(leaf)
        sum((h * dy).sum() for h in final).backward()
        found.append([h.data for h in (*final, leaf.grad)])
    assert ("LANES(" in compiled.source) is (width % 16 == 0)
    for mine, expected in zip(*found, strict=True):
        tolerance = 1e-12 if dtype == np.float64 else 2e-5
        np.testing.assert_allclose(mine, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_a_row_that_is_joined_before_a_mean_and_after():
    def step(x, h):
        new = np.tanh(h * np.mean(h * h, axis=1, keepdims=True))
        return x + np.tanh(np.concatenate([h[:, :1], new], axis=1)[:, :-1])

    rng = np.random.default_rng(0)
    same(step, rng.normal(size=(3, 2, 4)), [rng.normal(size=(2, 4))])


@pytest.mark.parametrize("at", [0, 20, 31])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("end", [np.sum, np.max, np.min])
def test_one_of_many_is_not_finite(end, bad, at):
    layer, x = nn.Recurrent(Cell(lambda x, h: 0 * h + end(x, axis=1, keepdims=True), 32)), np.ones((1, 2, 32))
    x[0, 1, at] = bad
    with tg.no_grad():
        found = tg.compile(layer, target="c")(x)[0].data
    np.testing.assert_array_equal(found[0], np.broadcast_to(end(x[0], axis=1, keepdims=True), (2, 32)))


def test_norms_remember_no_rows():
    """All that is read of an earlier loop is there in any case, or computed again; so no row waits for the sums of its own."""
    compiled = tg.compile(nn.Recurrent(nn.zoo.LayerNormLSTMCell(3, 16)), target="c")
    compiled(np.ones((1, 2, 3), np.float32))
    forward = compiled.source.split("void backward_steps")[0]
    assert "_row" not in forward
    assert forward.count("for (long n = 0;") == 5  # two means, two squares, gates and a mean, squares, the state


def test_both_sums_of_a_norms_gradient_are_taken_in_one_loop():
    """The mean of (g - z * mean(g * z)) / r is that of g / r, if z has none."""
    compiled = tg.compile(nn.Recurrent(nn.zoo.LayerNormLSTMCell(3, 16)), target="c")
    compiled(np.ones((1, 2, 3), np.float32))
    backward = compiled.source.split("void backward_steps")[1]
    assert backward.count("for (long block = 0;") == 2  # of c, and of both norms of the gates


@pytest.mark.parametrize(
    "text",
    ["a - b - c", "a - (b - c)", "a - b * c", "(a - b) * c", "a / b * c", "a / (b * c)", "a * (b / c)", "exp(a - b) - c"],
)
def test_parentheses(text):
    """No more than C needs to compute the same."""

    def step(x, h):
        names = {name: named(f(h + x), name) for name, f in (("a", np.sin), ("b", np.cosh), ("c", np.exp))}
        return np.tanh(eval(text, {"exp": np.exp}, names))

    layer, x = nn.Recurrent(Cell(step, 2)), np.random.default_rng(0).normal(size=(3, 2, 2))
    compiled = tg.compile(layer, target="c")
    with tg.no_grad():  # or the gradient would have parts of it kept
        np.testing.assert_allclose(compiled(x)[0].data, layer(x)[0].data, rtol=1e-12)
    assert f"tanh({text});" in compiled.source


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, -1e30, 700.0]
PLAIN = ONE | {name: getattr(np, name) for name in ["reciprocal", "sign", *POSITIVE, *SMALL, *STEPS]}
PLAIN_TWO = TWO | {name: getattr(np, name) for name in ["divide", "power", "mod", "fmod", "floor_divide"]}
UNORDERED = ("maximum", "minimum", "astype")  # of 0.0 and -0.0 either may be the larger


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_not_finite_and_zeros_with_a_sign(dtype):
    """As NumPy has it, there and back."""
    plain = np.random.default_rng(0).normal(size=(2, 50, 1))
    pairs = np.concatenate([np.array(np.meshgrid(SPECIAL, SPECIAL)).reshape(2, -1, 1), plain], axis=1)
    pairs = pairs.astype(dtype)  # every row is one
    functions = [*(lambda a, b, f=f: f(a) for name, f in PLAIN.items()), *PLAIN_TWO.values()]
    names = [*PLAIN, *PLAIN_TWO]
    layer = nn.Recurrent(
        Cell(lambda x, *hs: tuple(f(h, x) for f, h in zip(functions, hs, strict=True)), (1,) * len(functions))
    )
    found, grads = [], []
    for call in (tg.compile(layer, target="c"), layer):
        leaves = [tg.Tensor(a, requires_grad=True) for a in (pairs[1:], *[pairs[:1]] * len(names))]
        with np.errstate(all="ignore"):
            _, final = call(leaves[0], tuple(leaves[1:]))
            sum(h.sum() for h in final).backward()
        found.append([h.data for h in final])
        grads.append([0 if leaf.grad is None else leaf.grad.data for leaf in leaves[1:]])
    for name, f, mine, slopes, wanted_slopes in zip(names, functions, found[0], *grads, strict=True):
        with np.errstate(all="ignore"):
            expected = f(pairs[0], pairs[1])
        np.testing.assert_allclose(mine[0], expected, rtol=8 * np.finfo(dtype).eps, atol=1e-37, err_msg=name)
        if name not in UNORDERED:
            edge = (np.abs(expected) == np.inf) | (expected == 0)
            assert (np.signbit(mine[0]) == np.signbit(expected))[edge].all(), name
        np.testing.assert_allclose(slopes, wanted_slopes, rtol=1e-5, atol=1e-37, err_msg=f"gradient of {name}")


# -- every index --------------------------------------------------------------------------------------------------------------

rng = np.random.default_rng(3)
W = rng.normal(size=(3, 3)) / 2
U, V, B = rng.normal(size=(3, 6)) / 2, rng.normal(size=(2, 3)) / 2, rng.normal(size=3)


def joined(*parts):
    return np.concatenate(parts, axis=1)


INDICES = {  # of a state three wide, and x two wide
    "slices": lambda x, h, W: np.tanh(joined(h[:, 1:] * x, h[:, :1]) @ W),
    "slices of slices": lambda x, h, W: np.tanh(joined(h[:, 1:][:, 1:], h[:, :-1]) @ W),
    "a slice of a product": lambda x, h, U: np.tanh((h @ U)[:, 2:5]) * (h @ U)[:, :3] + (h @ U)[:, 3:],
    "overlapping pieces": lambda x, h, U: (lambda z: np.tanh(z[:, 1:4] + z[:, 2:5]) * z[:, 1:4])(np.tanh(h @ U)),
    "the product of a slice": lambda x, h, V: np.tanh(h[:, 1:] @ V) + 0.5 * (h[:, :2] @ V),
    "the product of a column": lambda x, h, V: np.tanh(h[:, 2:] @ V[:1] + x[:, :1] @ V[1:]),
    "the product of a column of x": lambda x, h, V: np.tanh(h + x[:, 1:] @ V[1:]),
    "the product of a column again and again": lambda x, h, W: np.tanh(h @ W + np.broadcast_to(x[:, 1:], h.shape) @ W),
    "a column of each row": lambda x, h, B: np.tanh(h * h[:, 1:2] + B),
    "elements as rows of numbers": lambda x, h, W: np.tanh(h @ W) * (h[:, 0] * h[:, -1] + x[:, 1]).reshape(-1, 1),
    "one number a row": lambda x, h, W: np.tanh(h @ W) * x[:, :1] + h.mean(axis=1, keepdims=True) * x[:, 1:],
    "joined": lambda x, h, U: (lambda z: np.tanh(z[:, :3] * z[:, 3:]))(joined(h, x, h[:, 1:2] * x[:, :1]) * U[0]),
    "joined and read apart": lambda x, h, W: (lambda z: np.tanh(z @ W) + z[:, :1] * z)(joined(np.sin(h[:, :1]), x * h[:, 1:])),
    "joined with itself": lambda x, h, U: np.tanh(joined(h, h) @ U.T) + joined(x, h)[:, 1:4],
    "a product that is read as it is": lambda x, h, W: (lambda z: z + np.tanh(z) - 0.5 * z[:, :1])(h @ W),
    "two products in a row": lambda x, h, W: np.tanh(np.tanh(h @ W) @ W.T) * (h @ W),
    "products of one and the same": lambda x, h, W, U: np.tanh(h @ W) * np.tanh(h @ W.T) + (np.tanh(h @ W) @ U)[:, :3],
    "masks": lambda x, h, W: np.where(x[:, :1] > 0, np.tanh(h @ W), h) * (h < 0) + np.where(h[:, :1] > 0, 0.3, -0.3),
    "weights of one column": lambda x, h, W, B: np.tanh(h * W[:, 0] + B[1]) * W[1:2] + B[:1],
    "repeated columns": lambda x, h, W: np.tanh(h @ W) * np.broadcast_to(x[:, :1] * h[:, :1], h.shape),
    "a state from another row": lambda x, h, W: joined(h[:, 1:], np.tanh(x[:, :1] + (h @ W)[:, :1])),
}
WEIGHTS = {"W": W, "U": U, "V": V, "B": B}


def weights_of(step):
    return {name: WEIGHTS[name] for name in step.__code__.co_varnames[: step.__code__.co_argcount] if name in WEIGHTS}


@pytest.mark.parametrize("step", INDICES.values(), ids=INDICES)
def test_indices(step):
    rng = np.random.default_rng(0)
    same(step, rng.normal(size=(3, 2, 2)), (rng.normal(size=(2, 3)),), weights_of(step))


STATES = {  # h three wide, s two wide, x two wide; what is carried is read over all steps
    "carried as it is": lambda x, h, s, V: (np.tanh(s @ V), s + x),
    "carried, and a product over all steps": lambda x, h, s, V: (np.tanh(s @ V), s + x @ V[:, :2]),
    "carried, and two products": lambda x, h, s, V: (np.tanh(s @ V) + x @ V, s + x @ V[:, 1:]),
    "a slice carried": lambda x, h, s, V: (joined(s, h[:, 1:2]) + x @ V, h[:, 1:] + x @ V[:, 1:]),
    "the gradient of the sum is carried": lambda x, h, s, V: (np.tanh(h + x @ V), s),
    "delayed": lambda x, h, s, V: (np.tanh(joined(s, s[:, :1]) + x @ V), h[:, :2]),
    "swapped": lambda x, h, s, V: (joined(s, h[:, :1]), h[:, 1:]),
    "rolled": lambda x, h, s, V: (joined(h[:, 1:], s[:, :1]), joined(s[:, 1:], np.tanh(x[:, :1] + h[:, :1]))),
    "one of the other": lambda x, h, s, W, V: (lambda new: (new, np.tanh(s + new[:, 1:])))(np.tanh(h @ W + s @ V)),
    "a product with the new one": lambda x, h, s, W, V: (lambda new: (new, np.tanh(s + new @ V.T)))(np.tanh(h @ W + s @ V)),
    "of a slice of the new one": lambda x, h, s, W: (lambda new: (new, new[:, 1:] @ W[1:, 1:]))(np.tanh(h @ W + x[:, :1])),
}


@pytest.mark.parametrize("step", STATES.values(), ids=STATES)
def test_states_that_are_carried(step, monkeypatch):
    written, rng = used(monkeypatch), np.random.default_rng(0)
    same(step, rng.normal(size=(4, 2, 2)), (rng.normal(size=(2, 3)), rng.normal(size=(2, 2))), weights_of(step))
    assert step is not STATES["carried as it is"] or "np.positive" in written


def lstm(x, h, c, w, u, b):
    i, f, g, o = np.split(x @ w.T + h @ u.T + b, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("steps", "batch", "width"), [(3, 2, 2), (1, 2, 3), (3, 1, 3), (2, 1, 1), (1, 3, 1), (2, 2, 17)])
def test_sizes(steps, batch, width, dtype):
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4 * width, 2)), "u": rng.normal(size=(4 * width, width)), "b": rng.normal(size=4 * width)}
    states = rng.normal(size=(2, batch, width))
    same(lstm, rng.normal(size=(steps, batch, 2)), list(states), weights, dtype, None if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_that_blas_makes(dtype):
    """Values and the gradient of x, against products of NumPy, where there are enough multiplications."""
    rng = np.random.default_rng(0)
    layer = nn.RNN(3, 64, dtype=dtype)
    w, u, b, c = (p.data.astype(float) for p in layer.parameters())
    x, dy = rng.normal(size=(3, 5, 3)), rng.normal(size=(3, 5, 64))
    (hs,) = looped(lambda x, h: np.tanh(x @ w.T + b + h @ u.T + c), x, (np.zeros((5, 64)),), {})
    dx, du, carried = np.zeros_like(x), np.zeros_like(u), np.zeros((5, 64))
    for t in reversed(range(3)):
        dz = (dy[t] + carried) * (1 - hs[t] ** 2)
        dx[t], carried = dz @ w, dz @ u
        du += dz.T @ (hs[t - 1] if t else np.zeros((5, 64)))
    leaf = tg.Tensor(x, dtype=dtype, requires_grad=True)
    compiled = tg.compile(layer, target="c")
    y, _ = compiled(leaf)
    assert "gemm" in compiled.source
    (y * dy.astype(dtype)).sum().backward()
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    for found, wanted in ((y, hs), (leaf.grad, dx), (layer.weight_hh_l0.grad, du)):
        np.testing.assert_allclose(found.data, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_small_products_are_loops(batch):
    compiled = tg.compile(nn.RNN(3, 16), target="c")  # 256 multiplications a sequence
    compiled(np.zeros((2, batch, 3), np.float32))
    assert (" productf(" in compiled.source) is (batch * 256 > 1024) is ("small_product" not in compiled.source)


def test_products_that_blas_makes_of_slices_and_in_them():
    rng = np.random.default_rng(0)
    weights = {"V": rng.normal(size=(32, 38)) / 8, "W": rng.normal(size=(40, 40)) / 8}
    step = lambda x, h, V, W: np.tanh(joined(x, h[:, 8:] @ V) @ W)  # noqa: E731
    same(step, rng.normal(size=(2, 3, 2)), (rng.normal(size=(3, 40)),), weights)


@pytest.mark.parametrize("batch", [1, 3])
def test_products_with_what_is_one_element_wide(batch):
    """The gradients of the weights are sums that the loop takes, and none is a product of all steps."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape) for name, shape in {"w": (1, 2), "u": (1, 2), "v": (2, 1)}.items()}
    step = lambda x, h, w, u, v: np.tanh(x @ w + (h @ v) @ u)  # noqa: E731
    x, h = rng.normal(size=(3, batch, 1)), rng.normal(size=(batch, 2))
    layer = same(step, x, (h,), weights)
    layer(x)  # without a gradient of x, which is a product
    assert "@" not in layer.source.split('"""')[-1]
    assert "dot" not in layer.source.split('"""')[-1]


def test_states_of_two_dtypes():
    """A counter in double precision beside a state in single."""
    cell = Cell(lambda x, h, s: (np.tanh(0.5 * h + x), s + 1e-9), (2, 1), dtype=np.float32)
    h, s = np.ones((1, 2, 2), np.float32), np.ones((1, 2, 1))
    y, (last, count) = tg.compile(nn.Recurrent(cell), target="c")(np.zeros((3, 2, 2), np.float32), (h, s))
    assert (y.dtype, last.dtype, count.dtype) == (np.float32, np.float32, np.float64)
    np.testing.assert_allclose(y.data[-1], np.tanh(0.5 * np.tanh(0.5 * np.tanh(0.5 * h[0].astype(float)))), rtol=1e-6)
    np.testing.assert_allclose(count.data, np.full((1, 2, 1), 1 + 3e-9), rtol=1e-15)


# -- what stands around a step ------------------------------------------------------------------------------------------------


def test_lengths_are_those_of_sequences_alone():
    layer = nn.GRU(2, 3, bidirectional=True, dtype=np.float64)
    compiled, x = tg.compile(layer, target="c"), np.random.default_rng(0).normal(size=(4, 3, 2))
    y, h = compiled(x, lengths=[2, 4, 1])
    for n, length in enumerate([2, 4, 1]):
        alone, last = compiled(x[:length, n : n + 1])
        np.testing.assert_allclose(y.data[:length, n], alone.data[:, 0], rtol=1e-13)
        assert not y.data[length:, n].any()
        np.testing.assert_allclose(h.data[:, n], last.data[:, 0], rtol=1e-13)


def test_zoneout():
    """In training an element is either as it was or as the step has it; else it is between them."""
    step = lambda x, h, W: np.tanh(h @ W + 1)  # noqa: E731
    layer = nn.Recurrent(Cell(step, 3, {"W": W}), zoneout=0.25)
    compiled, x = tg.compile(layer, target="c"), np.zeros((300, 2, 2))
    y = compiled(x)[0].data
    old = np.concatenate([np.zeros((1, 2, 3)), y[:-1]])
    kept, new = np.isclose(y, old, rtol=1e-14, atol=0), np.isclose(y, step(x, old, W), rtol=1e-12)
    assert (kept | new).all()
    assert 0.15 < kept[:20].mean() < 0.6
    layer.eval()
    (expected,) = looped(lambda x, h: 0.25 * h + 0.75 * step(x, h, W), x[:5], (np.zeros((2, 3)),), {})
    np.testing.assert_allclose(compiled(x[:5])[0].data, expected, rtol=1e-13)


def test_recurrent_dropout_of_everything():
    layer = nn.Recurrent(Cell(lambda x, h, W: np.tanh(h @ W + 1), 3, {"W": W}), recurrent_dropout=0.999999)
    y = tg.compile(layer, target="c")(np.zeros((3, 2, 2)))[0].data
    np.testing.assert_allclose(y, np.full((3, 2, 3), np.tanh(1)), rtol=1e-15)


def test_a_record():
    layer = nn.LSTM(2, 3, dtype=np.float64)
    w, u, b, c = (p.data for p in layer.parameters())
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    y, _, records = tg.compile(layer, target="c")(x, record=("f", "c"))
    hs, cs = looped(lambda x, h, s: lstm(x, h, s, w, u, b + c), x, np.zeros((2, 2, 3)), {})
    old = np.concatenate([np.zeros((1, 2, 3)), hs[:-1]])
    np.testing.assert_allclose(y.data, hs, rtol=1e-13)
    np.testing.assert_allclose(records["l0"]["c"].data, cs, rtol=1e-13)
    np.testing.assert_allclose(records["l0"]["f"].data, sigmoid((x @ w.T + old @ u.T + b + c)[:, :, 3:6]), rtol=1e-13)


# -- memory -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def layer():
    tg.manual_seed(0)
    return nn.LSTM(2, 3, dtype=np.float64)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(4, 2, 2))


def grads_of(layer, y, dy=None):
    layer.zero_grad()
    y.backward(dy)
    return [p.grad.data for p in layer.parameters()]


def test_arrays_of_any_layout(layer, x):
    compiled, rng = tg.compile(layer, target="c"), np.random.default_rng(1)
    dy, h, c = rng.normal(size=(4, 2, 3)), rng.normal(size=(1, 2, 3)), rng.normal(size=(1, 2, 3))
    y, _ = layer(x, (h, c))
    expected = [y.data, *grads_of(layer, y, dy)]
    strided = np.repeat(np.repeat(x, 2, axis=0), 3, axis=2)[::2, :, ::3]
    assert not strided.flags.c_contiguous
    for x_, h_, dy_ in (
        (np.asfortranarray(x), np.asfortranarray(h), np.asfortranarray(dy)),
        (strided, h[:, ::-1][:, ::-1], dy),
    ):
        y, _ = compiled(x_, (h_, c))
        for a, b in zip([y.data, *grads_of(layer, y, dy_)], expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    broadcast = grads_of(layer, compiled(x, (h, c))[0].sum())
    for a, b in zip(broadcast, grads_of(layer, layer(x, (h, c))[0].sum()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


COPY = """void copy(
    long T, long N, const double *restrict a, double *restrict out
) {
    for (long i = 0; i < T * N; i++) out[i] = a[i];
}
"""


@pytest.mark.parametrize(
    "given",
    [
        np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2).T, np.arange(12.0).reshape(2, 6)[:, ::2],
        np.ones((2, 3), "f4"), np.arange(6).reshape(2, 3), np.ones((2, 3), ">f8"),
        np.ones((2, 3), np.dtype("f8", metadata={"of": "an equal dtype"})), pickle.loads(pickle.dumps(np.ones((3, 2)))).T,
        np.ma.array(np.ones((2, 3))), np.ones((2, 3)).view(np.matrix), np.float64(3), 3.0, 3, np.array(3.0), np.ones(()) > 0,
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')}",
)  # fmt: skip
def test_what_c_is_given_is_converted_if_need_be(given):
    [copy] = functions(COPY)
    out = np.full(np.shape(given), np.nan)
    copy(1, out.size, given, out)
    np.testing.assert_array_equal(out, given)


def test_what_c_is_given_is_aligned():
    """Else it is undefined what C does, although many processors do not mind."""
    [remainder] = functions(COPY.replace("a[i]", "1 + (long) &a[i] % sizeof *a"))
    odd = np.zeros(49, np.uint8)[1:].view("f8")
    assert odd.flags.c_contiguous
    out = np.zeros(6)
    remainder(1, 6, odd, out)
    assert out.tolist() == [1] * 6


@pytest.mark.parametrize("given", [np.ones(6), np.ones((6, 2))[:, 0]], ids=["as it is", "converted"])
def test_a_call_of_c_keeps_nothing(given):
    [copy] = functions(COPY)
    out = np.zeros(6)
    counts = [sys.getrefcount(x) for x in (given, out, copy)]
    for _ in range(10):
        copy(1, 6, given, out)
    assert [sys.getrefcount(x) for x in (given, out, copy)] == counts


def test_what_cannot_be_converted_is_an_error():
    [copy] = functions(COPY)
    with pytest.raises(ValueError, match="could not convert string to float"):
        copy(1, 1, "one", np.zeros(1))


def test_other_threads_run_while_c_does():
    waiting = COPY.replace("i < T * N; i++) out[i] = a[i];", "i <= T && out[0] == 0; i++) out[1] = i + a[0];")
    [wait] = functions(waiting.replace("double *restrict out", "volatile double *out"))
    out, steps = np.zeros(2), 10**10

    def end():
        while out[1] == 0:  # C has not begun
            time.sleep(0.001)
        out[0] = 1

    other = threading.Thread(target=end)
    other.start()
    wait(steps, 1, np.ones(1), out)
    other.join()
    assert out[1] <= steps


def test_results_stay_after_the_next_calls(layer, x):
    compiled = tg.compile(layer, target="c")
    leaf = tg.Tensor(x, requires_grad=True)
    y, (h, c) = compiled(leaf)
    grads = [*grads_of(layer, (y * y).sum()), leaf.grad.data]
    everything = [y.data, h.data, c.data, *grads]
    before = [a.copy() for a in everything]
    assert all(a.any() for a in everything)
    for _ in range(3):
        again = tg.Tensor(3 - x, requires_grad=True)
        (compiled(again)[0] ** 3).sum().backward()
    for a, b in zip(everything, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(everything[3:]) for b in everything[: i + 3])


def test_gradients_that_are_reshaped_share_no_memory():
    def step(x, h, column, row, cube):
        return np.tanh(x + h + column.reshape(3) + row + cube.reshape(3, 1)[:, 0])

    rng = np.random.default_rng(0)
    weights = {"column": rng.normal(size=(3, 1)), "row": rng.normal(size=3), "cube": rng.normal(size=(1, 3, 1))}
    layer = same(step, rng.normal(size=(4, 2, 3)), (rng.normal(size=(2, 3)),), weights)
    grads = [p.grad.data for p in layer.parameters()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(grads) for b in grads[:i])
    assert "[dcolumn, drow.copy(), dcube.copy()]" in layer.source  # the first is all that is left of memory for three


def test_changed_weights_are_seen(layer, x):
    compiled = tg.compile(layer, target="c")
    compiled(x)
    for p in layer.parameters():
        p.data = p.data + 0.5
    w, u, b, c = (p.data for p in layer.parameters())
    hs, _ = looped(lambda x, h, s: lstm(x, h, s, w, u, b + c), x, np.zeros((2, 2, 3)), {})
    np.testing.assert_allclose(compiled(x)[0].data, hs, rtol=1e-13)


def test_two_threads_with_one_program(layer):
    """C runs without Python's lock: what it works in belongs to a call."""
    compiled, rng = tg.compile(layer, target="c"), np.random.default_rng(0)
    inputs = [rng.normal(size=(2000, 8, 2)) for _ in range(2)]
    expected = [compiled(v)[0].data for v in inputs]
    np.testing.assert_allclose(expected[0][:9], layer(inputs[0][:9])[0].data, rtol=1e-12)
    wrong = []

    def work(v, y):
        wrong.extend(i for i in range(10) if not np.array_equal(compiled(v)[0].data, y))

    in_threads(work, zip(inputs, expected, strict=True))
    assert not wrong


# -- text ---------------------------------------------------------------------------------------------------------------------


def test_the_source_is_the_program(layer, x):
    """Run by itself it gives the same bits; and it is the same text again."""
    compiled = tg.compile(layer, target="c")
    y, (h, c) = compiled(tg.Tensor(x, requires_grad=True))
    source, names = compiled.source, {}
    exec(source, names)
    zeros, weights = np.zeros((2, 3)), [p.data for p in layer.parameters()]
    (ys,), finals, saved = names["forward"](x, zeros, zeros, *weights)
    for mine, theirs in zip((ys, *finals), (y.data, h.data[0], c.data[0]), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    dx, _, totals = names["backward"](saved, np.ones((4, 2, 3)), zeros, zeros)
    for mine, theirs in zip(totals, grads_of(layer, y, np.ones((4, 2, 3))), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert dx.shape == x.shape
    again = tg.compile(copy.deepcopy(layer), target="c")
    again(tg.Tensor(x, requires_grad=True))
    assert again.source == source


def test_the_names_of_the_cell_are_in_the_source(layer, x):
    compiled = tg.compile(layer, target="c")
    compiled(x)
    text = compiled.source.split('"""')[3]
    for line in (
        "const double f = sigmoid(",
        "const double c = f * c_old[n * 3 + j] + i * g;",
        "const double d_o = dh * ",
    ):
        assert line in text
    assert re.findall(r"^void (\w+)\(", text, re.M) == ["forward_steps", "backward_steps"]
    there, back = (set(re.findall(r"restrict (\w+ = kept.*);", way)) for way in text.split("void backward_steps"))
    assert len(back) == 5
    assert back <= there  # under the same names


def test_what_is_kept_is_not_kept_twice(layer, x):
    """Of an update gate z nothing but z, not 1 - z besides; of an LSTM the gates and tanh(c)."""
    gru = nn.GRU(2, 3, dtype=np.float64)
    for each, arrays in ((gru, 4), (layer, 5)):  # each three wide
        compiled = tg.compile(each, target="c")
        compiled(tg.Tensor(x, requires_grad=True))
        assert f"kept = empty(2 * (T * {arrays * 3} + " in compiled.source


@pytest.mark.parametrize("stack", [24, 23])  # a product of twelve columns for each of two sequences
def test_what_is_little_and_of_one_step_is_on_the_stack_of_c(stack, monkeypatch):
    def step(x, h, U):
        i, f, g, o = np.split(h @ U, 4, axis=1)
        return x + i - f + g - o

    monkeypatch.setattr(loops, "STACK", stack)
    rng = np.random.default_rng(0)
    layer = same(step, rng.normal(size=(4, 2, 3)), (rng.normal(size=(2, 3)),), {"U": rng.normal(size=(3, 12)) / 5})
    forward = layer.source.split("void backward_steps")[0]
    assert ("double z[N * 12];" in forward, "double *restrict z = kept;" in forward) == (stack == 24, stack < 24)


def test_batches_of_two_sizes_run_the_same_c():
    compiled, texts = tg.compile(nn.GRU(2, 3), target="c"), []
    for batch in (2, 3):
        compiled(np.ones((4, batch, 2), np.float32))
        texts.append(compiled.source.split('"""')[3])
    assert "float dh_rows[N * 3];" in texts[0]
    assert texts[0] == texts[1]


def test_a_name_of_the_cell_goes_before_one_made_up():
    compiled = tg.compile(nn.GRU(2, 3, dtype=np.float64), target="c")  # its product would be called z, as its update gate is
    compiled(np.zeros((1, 2, 2)))
    assert "const double z = sigmoid(" in compiled.source


def test_long_lines_are_broken_before_signs():
    line = f"    const float o = sigmoidf({' + '.join(f'long_name[n * 16 + {i} + j] * w[{i} - j]' for i in range(9))});"
    first, *others = loops.folded(line)
    assert first.startswith("    const float o = sigmoidf(long_name[n * 16 + 0 + j] * w[0 - j] + ")
    assert len(others) == 3
    for row in others:
        assert row.startswith("        + long_name[n * 16 + ")
        assert len(row) <= 127
    assert " ".join(row.strip() for row in [first, *others]) == line.strip()
    assert loops.folded("    #pragma omp simd") == ["    #pragma omp simd"]
    deep = f"x = {'a' * 60} + ({'b' * 50} - {'c' * 30}) * d;"  # in as few parentheses as can be
    assert loops.folded(deep) == [deep[:64], f"    + ({'b' * 50} - {'c' * 30}) * d;"]


NAMES = [
    *sorted(KEYWORDS), "T", "N", "I", "j", "n", "t", "gemm", "gemmf", "product", "tanh", "expf", "sigmoid", "VECTOR", "main",
    "lanes", "lanesf", "LANES", "small_product",
    "kept", "h_old", "h_new", "hs_all", "x", "dh", "é", "a b", "1", "_", "a;b", "forward_steps", "NULL", "stdin", "asm",
    "typeof", "M_PI", "bool", "true", "unix", "linux", "__x86_64__", "Array", "on_arrays", "python", "method", "head",
    "types", "errno", "float64", '"""', "*/", "a\nb",
]  # fmt: skip


def test_names_that_c_has_a_use_for():
    """Of parameters, of states' neighbours and of what is recorded; gradients of theirs begin with d: do, double."""
    plain = [name for name in NAMES if name.isidentifier() and name not in ("x", "forward")]
    weights = {name: np.array(1 + 0.01 * i / len(plain)) for i, name in enumerate(plain)}

    def step(x, h, **given):
        h = np.tanh(h + x)
        for name in NAMES:
            h = h * given.get(name, 1.0) * np.cos(h / len(NAMES))
            h = h.named(name) if isinstance(h, tg.Tensor) else h
        return np.tanh(h)

    rng = np.random.default_rng(0)
    same(step, rng.normal(size=(2, 2, 2)), (rng.normal(size=(2, 2)),), weights)


def test_gradients_whose_names_are_keywords():
    def step(x, h, uble, o):
        a = named(np.tanh(h * uble), "o")
        b = named(np.sin(h * o), "uble")
        return named(a * b + x, "ouble")

    rng = np.random.default_rng(0)
    weights = {"uble": rng.normal(size=2), "o": rng.normal(size=2)}
    same(step, rng.normal(size=(2, 2, 2)), (rng.normal(size=(2, 2)),), weights)


def named(value, name):
    return value.named(name) if isinstance(value, tg.Tensor) else value


# -- the switch ---------------------------------------------------------------------------------------------------------------


def runs_in(compiled):
    """The target of the program that ran last."""
    (program,) = compiled._last.values()
    return program.target


@pytest.fixture
def no_compiler(monkeypatch):
    build.loaded.clear()
    monkeypatch.setenv("CC", "/nonexistent")


@pytest.fixture
def failing(monkeypatch, tmp_path):
    build.loaded.clear()
    monkeypatch.setattr("tinygrad_rnn.compiler.run.compiler_failed", False)
    monkeypatch.setenv("CC", "false")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_compiler_is_used_where_there_is_one(layer, x):
    compiled, numpy = tg.compile(layer), tg.compile(layer, target="numpy")
    np.testing.assert_allclose(compiled(x)[0].data, numpy(x)[0].data, rtol=1e-13)
    assert (runs_in(compiled), runs_in(numpy)) == ("c", "numpy")
    assert ("sigmoid(" in compiled.source, "for (long" in numpy.source) == (True, False)


def test_without_a_compiler(layer, x, no_compiler):
    compiled = tg.compile(layer)
    np.testing.assert_allclose(compiled(x)[0].data, layer(x)[0].data, rtol=1e-12)
    assert runs_in(compiled) == "numpy"
    with pytest.raises(build.NoCompilerError, match=r"CC=/nonexistent, which is not a program; .*target=\"numpy\""):
        tg.compile(layer, target="c")(x)


def test_a_compiler_that_fails(layer, x, failing):
    compiled = tg.compile(layer)
    with pytest.warns(RuntimeWarning, match="the C compiler failed") as caught:
        y, _ = compiled(x)
    assert len(caught) == 1
    compiled(x[:, :1])  # no warning any more
    np.testing.assert_allclose(y.data, layer(x)[0].data, rtol=1e-12)
    with pytest.raises(
        build.BuildError, match=r"the C compiler failed:\nno message, exit code 1\nThe command was: false -pipe"
    ):
        tg.compile(layer, target="c")(x)


def test_a_step_that_c_cannot_have(x):
    layer = nn.Recurrent(Cell(lambda x, h: np.cumsum(np.tanh(h + x), axis=1), 2))
    needs = r"test_native.py:\d+ needs cumsum of \(2, 2\) in every step, which cannot be written in C\. Leave target"
    with pytest.raises(tg.CompileError, match=needs):
        tg.compile(layer, target="c")(x)
    compiled = tg.compile(layer)
    (expected,) = looped(lambda x, h: np.cumsum(np.tanh(h + x), axis=1), x, (np.zeros((2, 2)),), {})
    np.testing.assert_allclose(compiled(x)[0].data, expected, rtol=1e-13)
    assert runs_in(compiled) == "numpy"


def test_what_the_check_refuses_in_c_alone(x, monkeypatch):
    layer = nn.Recurrent(Cell(lambda x, h: np.tanh(h + x), 2))
    monkeypatch.setitem(ELEMENT, "add", "{0} - {1}")
    with pytest.raises(tg.CompileError, match="differs from the unrolled layer's on random numbers"):
        tg.compile(layer, target="c")(x)
    compiled = tg.compile(layer)
    with pytest.warns(RuntimeWarning, match=r"C was refused, since .*; NumPy's program was not, and runs"):
        y, _ = compiled(x)
    np.testing.assert_allclose(y.data, layer(x)[0].data, rtol=1e-6)
    assert runs_in(compiled) == "numpy"


def test_long_rows_in_a_thread_with_a_small_stack():
    wide = nn.Recurrent(Cell(lambda x, h: np.exp(h) / np.exp(h).sum(axis=1, keepdims=True) + x, 20_000))
    x, found = tg.Tensor(np.ones((3, 2, 1))), []
    compiled = tg.compile(wide, target="c")
    compiled(x)
    before = threading.stack_size(1 << 16)
    try:
        thread = threading.Thread(target=lambda: found.append(compiled(x)[0].data))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    np.testing.assert_allclose(found[0], wide(x)[0].data, rtol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may give a thread more")
@pytest.mark.parametrize("hidden", [256, 257, 512])  # for 2 * 4 * 256 elements there is room
def test_scratch_leaves_room_on_the_smallest_stack(hidden):
    layer, rng = nn.LSTM(1, hidden, dtype=np.float64), np.random.default_rng(0)
    compiled, x = tg.compile(layer, target="c"), rng.normal(size=(2, 1, 1))

    def gradient(call):
        given = tg.Tensor(x, requires_grad=True)
        (call(given)[0] ** 2).sum().backward()
        return given.grad.data

    found, before = [gradient(compiled)], threading.stack_size(1 << 15)
    try:
        thread = threading.Thread(target=lambda: found.append(gradient(compiled)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    np.testing.assert_allclose(found, [gradient(layer)] * 2, rtol=1e-9)
    assert (f"double dbias_hh_row[{4 * hidden}];" in compiled.source) == (hidden == 256)


def test_no_sequences_at_all(layer):
    compiled = tg.compile(layer)
    y, (h, c) = compiled(tg.Tensor(np.zeros((3, 0, 2)), requires_grad=True))
    assert (y.shape, h.shape, c.shape) == ((3, 0, 3), (1, 0, 3), (1, 0, 3))
    assert not any(g.any() for g in grads_of(layer, y.sum()))
    assert runs_in(compiled) == "numpy"


def test_half_precision_runs_in_numpy():
    layer = nn.LSTM(2, 3, dtype=np.float16)
    compiled = tg.compile(layer)
    y, _ = compiled(np.ones((3, 2, 2), np.float16))
    np.testing.assert_allclose(y.data, layer(np.ones((3, 2, 2), np.float16))[0].data, rtol=1e-2)
    assert (runs_in(compiled), y.dtype) == ("numpy", np.float16)


def test_an_unknown_target(layer):
    with pytest.raises(ValueError, match="target is 'c', 'numpy', or None for the first of them that can be had, got 'gpu'"):
        tg.compile(layer, target="gpu")


@pytest.mark.parametrize("target", [None, "c", "numpy"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_has_the_target(copied, target, layer, x):
    compiled = tg.compile(layer, target=target)
    y, _ = compiled(x)
    other = copied(compiled)
    assert other.target == target
    np.testing.assert_array_equal(other(x)[0].data, y.data)
    assert runs_in(other) == runs_in(compiled)
