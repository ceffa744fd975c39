"""Cells and calls that programs in C once got wrong."""

import numpy as np
import pytest
from conftest import needs_compiler
from test_compile_cells import Written, agree, states

import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops
from tinygrad_rnn.compiler.trace import CompileError
from tinygrad_rnn.tensor import apply

pytestmark = needs_compiler


def in_c(step, size=2, batch=5, **options):
    """The step, compiled to C, gives what it gives unrolled."""
    layer, rng = nn.Recurrent(Written(step, size)), np.random.default_rng(0)
    agree(layer, rng.normal(size=(4, batch, 3)), states(layer, rng, batch), tg.compile(layer, target="c"), **options)


@pytest.mark.parametrize(
    "step",
    [lambda c, x, h: np.tanh(h + c.own(x)), lambda c, x, h: h + np.full(h.shape, 0.3) @ c.square],
    ids=["in a product", "in a sum over the batch"],
)
def test_a_carry_that_is_read_after_the_loop_is_kept_for_all_steps(step):
    in_c(step)


def test_a_carry_that_is_read_as_it_is_after_the_loop_is_kept_for_all_steps():
    def accumulated(c, x, state):
        return np.tanh(c.own(x) + state[0]), state[1] + np.full((5, 2), 0.3) @ c.square

    in_c(accumulated, (2, 2))


def test_a_carry_meets_what_depends_on_the_carry_of_another_state():
    def step(c, x, state):
        h = np.tanh(c.own(x))
        return h, 0.9 * state[1] + np.tanh(h @ c.square)

    in_c(step, (2, 2))


@pytest.mark.parametrize(
    "step",
    [
        lambda c, x, h: np.tanh((h @ c.square).sum(axis=1, keepdims=True) + c.own(x)),  # on the way back
        lambda c, x, h: np.tanh(np.broadcast_to(h[:, :1], h.shape) @ c.square + c.own(x)),
        lambda c, x, h: np.tanh(np.broadcast_to(x[:, 1:2], h.shape) @ c.square + h),
        lambda c, x, h: np.tanh(np.broadcast_to((h @ c.square)[:, 1:], (len(h), 40)) @ np.ones((40, 2)) + c.own(x)),
    ],
    ids=["sum", "state", "input", "product"],
)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_column_times_a_matrix(step, batch):
    in_c(step, batch=batch)


@pytest.mark.parametrize(
    "step",
    [
        lambda c, x, h: c.n(x - x.mean(axis=0, keepdims=True), h),
        lambda c, x, h: c.n(x * np.tanh(x.sum(axis=0, keepdims=True)), h),
        lambda c, x, h: c.n(x, h) + np.tanh(x.reshape(1, -1) * 2).reshape(len(h), 3)[:, :2],
    ],
    ids=["mean", "factor", "reshaped"],
)
def test_rows_that_are_not_those_of_the_batch(step):
    with pytest.raises(CompileError, match="cannot be written in C"):
        in_c(step)


@pytest.mark.parametrize(
    "step",
    [
        lambda c, x, h: np.where((h > 0) < 0.5, c.n(x, h), 0.5 * h),
        lambda c, x, h: np.where(np.not_equal(h > 0, 0.5), c.n(x, h), 0.5 * h),
        lambda c, x, h: np.where(np.not_equal(h > 0, np.nan), c.n(x, h), 0.5 * h),
        lambda c, x, h: c.n(x, h) / (1 + (h > 0) / (np.abs(x[:, :2]) >= 0)),
        lambda c, x, h: np.where((h > 0) / (x[:, :2] > 0) > 0.5, c.n(x, h), 0.5 * h),
    ],
    ids=["less", "not equal", "nan", "quotient", "quotients by 0"],
)
def test_numbers_beside_truth_values(step):
    with np.errstate(all="ignore"):
        in_c(step)


@pytest.mark.parametrize("bound", [np.float64(0.1), np.array([0.1, 0.1])], ids=["number", "row"])
def test_single_precision_meets_a_bound_in_double_precision(bound):
    def step(c, x, h):
        return np.where(h * 0 + np.float32(0.1) > bound, c.n(x, h), np.float32(0.5) * h)

    layer, rng = nn.Recurrent(Written(step, dtype=np.float32)), np.random.default_rng(0)
    x, h = rng.normal(size=(4, 5, 3)).astype(np.float32), np.zeros((1, 5, 2), np.float32)
    agree(layer, x, h, tg.compile(layer, target="c"), tolerance=1e-5)


@pytest.mark.parametrize("target", ["c", "numpy"])
def test_two_numbers_in_a_row_do_not_widen(target):
    layer = nn.Recurrent(Written(lambda c, x, h: c.n(x, h) * 2.0 * 0.5, dtype=np.float32))
    assert tg.compile(layer, target=target)(tg.Tensor(np.ones((4, 5, 3), np.float32)))[0].dtype == np.float32


def test_a_gradient_that_is_zero_at_every_step():
    in_c(lambda c, x, h: np.tanh((np.concatenate([h @ c.square, h + c.p], axis=1) + c.z(x, h))[:, :2]))


@pytest.mark.parametrize("target", ["c", "numpy"])
def test_gradients_of_x_from_both_directions_that_are_the_same_at_every_step(target):
    def unused(c, x, h):
        return np.concatenate([np.tanh(h), c.own(x)], axis=1)[:, :2]

    layer = nn.Recurrent(lambda features: Written(unused), 3, bidirectional=True)
    agree(layer, np.ones((4, 5, 3)), np.ones((2, 5, 2)), tg.compile(layer, target=target))


def test_names_that_compilers_know():
    """Of what is recorded."""
    names = ("linux", "unix", "asm", "typeof")
    in_c(lambda c, x, h: sum(((0.1 * i * h).named(name) for i, name in enumerate(names)), c.n(x, h)), record=names)


def test_slices_without_columns():
    def shifted(v):  # by one column, also where there is but one
        return np.concatenate([v[:, 1:], v[:, :1]], axis=1)

    for size in (1, 2):
        in_c(lambda c, x, h: np.tanh(shifted(np.tanh(shifted(h) + c.own(x)) * 2) - shifted(c.p * h)), size)


def test_a_batch_without_sequences_is_left_to_numpy():
    layer = nn.Recurrent(Written(lambda c, x, h: c.n(x, h)))
    compiled = tg.compile(layer, target="c")
    agree(layer, np.zeros((4, 0, 3)), compiled=compiled)
    assert "functions(C)" not in compiled.source


@pytest.mark.parametrize("target", ["c", "numpy"])
def test_a_sum_over_time_of_a_carry_of_one_element(target):
    def step(c, x, state):
        return np.tanh(c.own(x)), 0.3 * state[1] + 0.7 * (np.tanh(state[0]) - c.square)

    layer, rng = nn.Recurrent(Written(step, (1, 1))), np.random.default_rng(0)
    agree(layer, rng.normal(size=(4, 1, 3)), states(layer, rng, 1), tg.compile(layer, target=target))


def test_products_are_rounded_before_they_are_added():
    def signs(c, x, h):
        same = h + 0 * x[:, :2]
        return np.where(h * h - same * same >= 0, 1.0, -1.0) * c.n(x, h)

    in_c(signs)


@pytest.mark.parametrize("added", [lambda c: 3.0, lambda c: c.scalar, lambda c: c.p], ids=["number", "scalar", "bias"])
def test_the_mean_of_what_has_none_and_something_shorter(added):
    def norm(z):
        return apply(ops.RMS_NORM, apply(ops.CENTRE, z, axis=(-1,)), axis=(-1,), eps=0.1)

    in_c(lambda c, x, h: np.tanh(norm(added(c) - norm(h + c.own(x))) * h))
