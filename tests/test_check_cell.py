"""check_cell: good cells pass, and each broken cell is caught by its own check alone, with the way to mend it."""

import copy

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.check_cell import CHECKS, CellError, check_cell

F, H = 3, 4


class Plain(nn.Module):
    """An Elman cell, as a user writes it. The broken cells below differ from it in one place each."""

    def __init__(self, dtype=np.float32):
        rng = np.random.default_rng(0)
        self.input_size, self.state_size = F, H
        self.w = nn.Parameter(rng.normal(size=(F, H)).astype(dtype))
        self.u = nn.Parameter(rng.normal(size=(H, H)).astype(dtype))

    def forward(self, x, h):
        return tg.tanh(x @ self.w + h @ self.u).named("h")


def broken(name):
    """A subclass of Plain, filed under the check that must catch it."""

    def file(kind):
        BROKEN.append((name, kind))
        return kind

    return file


BROKEN = []


# -- state --------------------------------------------------------------------------------------------------------------------


@broken("state")
class ReturnsAnOutputToo(Plain):
    mend = r"state_size = 4 means one Tensor, and forward returned a tuple of 2: return the new state alone"

    def forward(self, x, h):
        h = super().forward(x, h)
        return h, h


@broken("state")
class ReturnsAList(Plain):
    mend = r"state_size = \(4, 4\) means 2 Tensors in a tuple, and forward returned a list of 2: return \(state0, state1\)"

    def __init__(self):
        super().__init__()
        self.state_size = (H, H)

    def forward(self, x, state):
        h, c = state
        return [super().forward(x, h), c]


@broken("state")
class ForgetsAMember(ReturnsAList):
    mend = r"state_size = \(4, 4\) means 2 Tensors in a tuple, and forward returned a Tensor: return \(state0, state1\)"

    def forward(self, x, state):
        return Plain.forward(self, x, state[0])


@broken("state")
class ReturnsAnArray(Plain):
    mend = r"state0 came back as a ndarray, cut off from the graph: return the Tensor itself"

    def forward(self, x, h):
        return super().forward(x, h).numpy()


@broken("state")
class SaysAnotherWidth(Plain):
    mend = r"state0 has shape \(3, 5\) for a batch of 3, expected \(3, 4\): give its width in state_size"

    def forward(self, x, h):
        return tg.concatenate([super().forward(x, h), x[:, :1]], axis=-1)


@broken("state")
class FixesTheBatch(Plain):
    mend = r"state0 has shape \(3, 4\) for a batch of 1, expected \(1, 4\)"

    def forward(self, x, h):
        return super().forward(x, h) + np.zeros((3, 1), x.dtype)


@broken("state")
class SaysNoStateSize(Plain):
    mend = r"raised TypeError: SaysNoStateSize is not a cell: it needs `state_size`"

    def __init__(self):
        super().__init__()
        self.state_size = None


# -- output, dtype ------------------------------------------------------------------------------------------------------------


@broken("output")
class OutputOfAnotherSize(Plain):
    mend = r"output\(state\) is \(3, 8\) for a batch of 3, expected \(3, 4\): write self.output_size = 8"

    def output(self, h):
        return tg.concatenate([h, h], axis=-1)


@broken("dtype")
class Widens(Plain):
    mend = r"given float32, the result of mul .* float64\) is the first that is not, made of 'h' .*: 0.5, not np.float64"

    def forward(self, x, h):
        return super().forward(x, h) * np.float64(0.5)


@broken("dtype")
class Narrows(Plain):
    mend = r"given float64, the result of astype \(shape \(3, 4\), float32\) is the first that is not"

    def forward(self, x, h):
        return super().forward(x, h).astype(np.float32)


# -- memory, determinism ------------------------------------------------------------------------------------------------------


@broken("memory")
class KeepsTheState(Plain):
    mend = r"a call changed KeepsTheState.last: a step keeps nothing. What it must remember belongs in the state"

    def forward(self, x, h):
        self.last = super().forward(x, h)
        return self.last


@broken("memory")
class CountsInAList(Plain):
    mend = r"a call changed CountsInAList.seen: a step keeps nothing"

    def __init__(self):
        super().__init__()
        self.seen = [0]

    def forward(self, x, h):
        self.seen[0] += 1
        return super().forward(x, h)


@broken("memory")
class CountsBelow(Plain):
    mend = r"a call changed CountsBelow.inner.calls: a step keeps nothing"

    def __init__(self):
        super().__init__()
        self.inner = nn.Dropout(0.0)

    def forward(self, x, h):
        self.inner.calls = 1
        return super().forward(x, h)


@broken("memory")
class WritesIntoItsArgument(Plain):
    mend = r"a call wrote into its argument 'state0': compute a new Tensor instead"

    def forward(self, x, h):
        new = super().forward(x, h)
        if h.op is None:
            h.data[:] = 0
        return new


@broken("determinism")
class DropsInEvaluation(Plain):
    mend = r"two equal calls after eval\(\) differ in state0: .*dropout\(x, p, self.training\)"

    def forward(self, x, h):
        return nn.functional.dropout(super().forward(x, h), 0.5)


COUNT = [0]


@broken("determinism")
class CountsOutside(Plain):
    mend = r"two equal calls after eval\(\) differ in state0: .* keep counters in the state"

    def forward(self, x, h):
        COUNT[0] += 1
        return super().forward(x, h) + COUNT[0]


# -- batch, causality, loop ---------------------------------------------------------------------------------------------------


@broken("batch")
class NormalisesOverTheBatch(Plain):
    mend = r"sample 0 alone gives another result than in a batch of 3 \(state0 differs by .*axis=-1, never over axis 0"

    def forward(self, x, h):
        h = super().forward(x, h)
        return h - h.mean(axis=0, keepdims=True)


@broken("batch")
class AddsNeighbours(Plain):
    mend = r"something is computed across samples"

    def forward(self, x, h):
        return super().forward(x, h) + 0.1 * h[::-1]


@broken("causality")
class LooksAhead(Plain):
    mend = r"the output of step 0 changes with the inputs of steps 2 to 3: a step may read its x and its state"

    def forward(self, x, h):
        whole = x.inputs[0] if x.op is not None and x.inputs[0].ndim == 3 else None
        return super().forward(x, h) + (0 if whole is None else whole[-1][:, :1])


@broken("loop")
class BeginsElsewhere(Plain):
    mend = r"with the first state left out, step 0 of a loop by hand gives another .* let state=None mean zeros"

    def forward(self, x, h=None):
        return super().forward(x, np.ones((*x.shape[:-1], H), x.dtype) if h is None else h)


@broken("loop")
class KnowsTheLoop(Plain):
    mend = r"with the first state zero, step 1 of a loop by hand .* let a step depend on x and the state alone"

    def forward(self, x, h):
        from tinygrad_rnn.scope import current_scope

        return super().forward(x, h) + (current_scope.get().step or 0)


# -- gradients ----------------------------------------------------------------------------------------------------------------


@broken("gradients")
class CutsAGate(Plain):
    mend = r"\n.* w: WRONG, worst at \[\d, \d\], backward [-\d.e]+, differences [-\d.e]+"

    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(np.linspace(-1, 1, F * H, dtype=np.float32).reshape(F, H))

    def forward(self, x, h):
        f = tg.sigmoid(x @ self.w)
        return f.detach() * tg.tanh(x @ self.w + h @ self.u) + x @ self.v


@broken("gradients")
class CutsAParameter(CutsAGate):
    mend = r"v: WRONG, worst at \[\d, \d\], backward 0, differences [-\d.]+. Part of the way to it is cut: by .detach"

    def forward(self, x, h):
        return tg.tanh(x @ self.w + h @ self.u) + x @ tg.Tensor(self.v.numpy())


@broken("gradients")
class CutsTheState(Plain):
    mend = r"state0: WRONG, .* backward 0, .*\n.* w: worst"

    def forward(self, x, h):
        return super().forward(x, h.detach())


@broken("gradients")
class RunsWithoutAGraph(Plain):
    mend = r"x: WRONG, .* backward 0, "

    def forward(self, x, h):
        with tg.no_grad():
            return super().forward(x, h)


@pytest.mark.parametrize(("name", "kind"), BROKEN, ids=[kind.__name__ for _, kind in BROKEN])
def test_a_broken_cell_is_caught_by_its_own_check_alone(name, kind):
    COUNT[0] = 0
    with pytest.raises(
        CellError, match=rf"{kind.__name__} does not keep the contract of a cell(?s:.*)  {name}: WRONG"
    ) as error:
        check_cell(kind())
    assert error.value.failed == [name]
    with pytest.raises(CellError, match=kind.mend):
        check_cell(kind())


def test_every_check_has_a_broken_cell():
    assert {name for name, _ in BROKEN} == set(CHECKS)


# -- good cells ---------------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A state of two widths, one of which counts steps; an output that is neither; dropout that acts in training only."""

    def __init__(self):
        self.state_size, self.output_size = (H, 1), H + 1
        self.inner = nn.Linear(F + H, H)

    def forward(self, x, state):
        h, t = state
        h = tg.tanh(self.inner(tg.concatenate([x, h], axis=-1)))
        return nn.functional.dropout(h, 0.5, self.training), t + 1

    def output(self, state):
        return tg.concatenate(state, axis=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: nn.RNNCell(F, H, nonlinearity="relu", dtype=dtype),
        lambda dtype: nn.LSTMCell(F, H, dtype=dtype, proj_size=2),
        lambda dtype: nn.GRUCell(F, H, bias=False, dtype=dtype),
        Plain,
    ],
    ids=["RNN relu", "LSTM proj", "GRU", "Plain"],
)
def test_good_cells_pass(make, dtype):
    tg.manual_seed(0)
    report = check_cell(make(dtype))
    assert list(report) == list(CHECKS)
    assert report["dtype"] == f"{np.dtype(dtype)} is kept"


def test_a_report_names_every_parameter_and_its_worst_element():
    report = check_cell(Counting(), F)
    names = [line.split(":")[0].strip() for line in report["gradients"].splitlines()[1:]]
    assert names == ["x", "state0", "state1", "inner.weight", "inner.bias"]
    assert str(report).startswith("state: (4, 1), as given\noutput: 5 features\ndtype: float32 is kept\n")
    assert all("worst at [" in line for line in report["gradients"].splitlines()[1:])


def test_a_large_cell_is_sampled():
    assert check_cell(nn.LSTMCell(64, 128))["output"] == "128 features"


def test_the_given_cell_is_neither_called_nor_changed():
    class Watched(Plain):
        def forward(self, x, h):
            assert self is not given
            return super().forward(x, h)

    given = Watched()
    given.w.requires_grad = False
    before, frozen = copy.deepcopy(given.state_dict()), dict(vars(given))
    report = check_cell(given)
    assert "w:" not in report["gradients"]
    assert vars(given) == frozen
    assert given.training
    assert {p.dtype for p in given.parameters()} == {np.dtype(np.float32)}
    for name, value in given.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_cannot_be_judged_is_said_to_be_unchecked():
    with pytest.raises(CellError, match=r"memory: not checked, as that needs: state(?s:.*)gradients: not checked") as error:
        check_cell(ReturnsAnOutputToo())
    assert "WRONG" not in str(error.value).split("state: WRONG")[1]


def test_a_cell_that_was_called_before_and_kept_its_state():
    cell = KeepsTheState()
    cell(np.ones((2, F), np.float32), np.ones((2, H), np.float32))
    with pytest.raises(
        CellError, match=r"the cell cannot be copied .* If an earlier call left it there: a step keeps nothing"
    ):
        check_cell(cell)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: check_cell(nn.LSTMCell), r"expected a cell, a Module, got .*; of a class make an instance: SomeCell\(3, 4\)"),
        (lambda: check_cell(Counting()), r"Counting does not say how many features x has; write check_cell\(cell, 3\)"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(TypeError, match=match):
        call()
