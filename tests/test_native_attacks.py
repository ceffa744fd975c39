"""Cells and calls that programs in C once got wrong."""

import shutil

import numpy as np
import pytest
from test_compile_cells import Written, agree, states

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compiler.trace import CompileError

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")


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


def test_a_carry_is_read_in_its_step_alone():
    with pytest.raises(CompileError, match=r"a product of \(2, 5\) and \(5, 2\) in every step"):
        in_c(lambda c, x, state: (np.tanh(c.own(x) + state[0]), state[1] + np.full((5, 2), 0.3) @ c.square), (2, 2))


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
