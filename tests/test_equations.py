"""equations: the text that is printed computes what the cell does, and its gradients; names say what they name."""

import re

import numpy as np
import pytest
from test_textbook import CELLS, NAMES, E, N

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.state import members, sizes


def evaluated(text, values):
    """The values of all names once a text has run."""
    values = dict(values)
    exec(text, values)
    return values


class Try:
    """A cell, its equations, and random values for the names that these begin with."""

    def __init__(self, make):
        rng = np.random.default_rng(0)
        self.cell = make()
        self.equations = tg.viz.equations(self.cell)
        self.states = {}
        lines = self.equations.adjoint.splitlines()[-len(sizes(self.cell.state_size)) :]
        for line, n in zip(lines, sizes(self.cell.state_size), strict=True):
            self.states[line.split(" = ")[0].removeprefix("d").removesuffix("_prev")] = rng.normal(size=(N, n))
        self.leaves = {path.replace(".", "_"): p for path, p in self.cell.named_parameters()}
        self.leaves["x"] = tg.Tensor(rng.normal(size=(N, E)), requires_grad=True)
        self.leaves |= {f"{name}_prev": tg.Tensor(h, requires_grad=True) for name, h in self.states.items()}
        self.values = self.equations.names | {name: leaf.numpy() for name, leaf in self.leaves.items()}
        self.seeds = {f"d{name}": rng.normal(size=h.shape) for name, h in self.states.items()}


SANE = [(make, name) for make, name in zip(CELLS, NAMES, strict=True) if name != "Awkward"]  # it has a value that is named dh


@pytest.mark.parametrize("make", [make for make, _ in SANE], ids=[name for _, name in SANE])
def test_the_printed_text_computes_the_cell_and_its_gradients(make):
    it = Try(make)
    cell, old = it.cell, [it.leaves[f"{name}_prev"] for name in it.states]
    new = members(cell(it.leaves["x"], tuple(old) if isinstance(cell.state_size, tuple) else old[0]))
    results = dict(zip(it.states, new, strict=True))
    if hasattr(cell, "output"):
        results["y"] = cell.output(new)
        it.seeds["dy"] = np.random.default_rng(1).normal(size=results["y"].shape)
    sum((results[name[1:]] * d).sum() for name, d in it.seeds.items()).backward()

    after = evaluated(it.equations.forward, it.values)
    for name, h in results.items():
        np.testing.assert_allclose(after[name], h.numpy(), rtol=1e-12)
    after = evaluated(it.equations.adjoint, after | it.seeds)
    for name, leaf in it.leaves.items():
        if leaf.grad is None:
            assert not np.any(after.get(f"d{name}", 0))
        else:
            np.testing.assert_allclose(after[f"d{name}"], leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


NAMED = [(make, name) for make, name in SANE if name not in ("Echo", "Shows", "Swap", "Twins")]  # no lines, y, one h as two


@pytest.mark.parametrize("make", [make for make, _ in NAMED], ids=[name for _, name in NAMED])
def test_a_name_with_a_d_is_the_gradient_of_what_follows_the_d(make):
    """Each value is pushed a little after its line; what that does to the results is what its gradient says."""
    it = Try(make)
    lines, rng, tried = it.equations.forward.splitlines(), np.random.default_rng(5), set()
    plain = evaluated(it.equations.forward, it.values)
    gradients = evaluated(it.equations.adjoint, plain | it.seeds)
    for i, line in enumerate(lines):
        for name in (name for name in line.split(" = ")[0].split(", ") if f"d{name}" in gradients):
            push, pushed = rng.normal(size=plain[name].shape) * 1e-5, []
            for sign in "+-":
                text = "\n".join([*lines[: i + 1], f"{name} = {name} {sign} push", *lines[i + 1 :]])
                after = evaluated(text, it.values | {"push": push})
                pushed.append(sum((after[n] * it.seeds[f"d{n}"]).sum() for n in it.states))
            expected = (push * gradients[f"d{name}"]).sum()
            assert (pushed[0] - pushed[1]) / 2 == pytest.approx(expected, rel=1e-5, abs=1e-10), name
            tried.add(name)
    assert tried >= it.states.keys()


def test_elmans_equations():
    equations = tg.viz.equations(nn.RNNCell(3, 4))
    assert equations.forward == "a = x @ weight_ih.T + bias_ih + h_prev @ weight_hh.T + bias_hh\nh = tanh(a)"
    assert equations.adjoint == (
        "da = dh * (1 - h ** 2)\n"
        "dx = da @ weight_ih\n"
        "dweight_ih = da.T @ x\n"
        "dweight_hh = da.T @ h_prev\n"
        "dbias_ih = da.sum(axis=0)\n"
        "dbias_hh = da.sum(axis=0)\n"
        "dh_prev = da @ weight_hh"
    )
    assert str(equations) == repr(equations) == f"# the step\n{equations.forward}\n\n# its gradients\n{equations.adjoint}"
    assert equations.names == {"tanh": np.tanh}
    assert (
        equations.latex
        == r"""\begin{aligned}
a_{t} &= x_{t} W_{ih}^\top + b_{ih} + h_{t-1} W_{hh}^\top + b_{hh} \\
h_{t} &= \tanh(a_{t}) \\[1ex]
\bar{a}_{t} &= \bar{h}_{t} \odot (1 - h_{t}^{2}) \\
\bar{x}_{t} &= \bar{a}_{t} W_{ih} \\
\bar{W}_{ih} &= \bar{a}_{t}^\top x_{t} \\
\bar{W}_{hh} &= \bar{a}_{t}^\top h_{t-1} \\
\bar{b}_{ih} &= \mathrm{sum}_{0}(\bar{a}_{t}) \\
\bar{b}_{hh} &= \mathrm{sum}_{0}(\bar{a}_{t}) \\
\bar{h}_{t-1} &= \bar{a}_{t} W_{hh}
\end{aligned}"""
    )
    assert equations._repr_latex_() == f"$$\n{equations.latex}\n$$"


def test_the_equations_of_an_lstm():
    equations = tg.viz.equations(nn.LSTMCell(3, 4))
    assert equations.forward.splitlines() == [
        "a = x @ weight_ih.T + bias_ih + bias_hh + h_prev @ weight_hh.T",
        "a_i, a_f, a_g, a_o = split(a, 4, axis=1)",
        "i = sigmoid(a_i)",
        "f = sigmoid(a_f)",
        "g = tanh(a_g)",
        "o = sigmoid(a_o)",
        "c = f * c_prev + i * g",
        "h = o * tanh(c)",
    ]
    assert "dc = dc + dh * o * (1 - tanh(c) ** 2)" in equations.adjoint
    assert "da = concatenate([da_i, da_f, da_g, da_o], axis=1)" in equations.adjoint
    assert r"\bar{c}_{t} &\leftarrow \bar{c}_{t} + \bar{h}_{t} \odot o_{t} \odot (1 - \tanh(c_{t})^{2})" in equations.latex


@pytest.mark.parametrize("make", CELLS, ids=NAMES)
def test_latex_has_the_lines_of_the_text_and_every_brace_is_closed(make):
    equations = tg.viz.equations(make())
    rows = equations.latex.splitlines()[1:-1]
    assert len(rows) == len(equations.forward.splitlines()) + len(equations.adjoint.splitlines())
    for row in rows:
        assert row.count("&") == 1
        assert "  " not in row
        for opening, closing in ("{}", "()", "[]"):
            assert row.replace("[1ex]", "").count(opening) == row.replace("[1ex]", "").count(closing)


@pytest.mark.parametrize("name", ["LSTMCell", "LayerNormLSTMCell", "Attends", "Contracts", "Shows"])
def test_latex_can_be_set(name):
    mathtext = pytest.importorskip("matplotlib.mathtext")
    for row in tg.viz.equations(CELLS[NAMES.index(name)]()).latex.splitlines()[1:-1]:
        row = row.partition(r" \\")[0].replace("&", "").replace(r"\top", "T")  # what matplotlib's small TeX knows
        mathtext.MathTextParser("agg").parse(f"${row}$")


def test_numbers_in_latex():
    equations = tg.viz.equations(nn.zoo.LayerNormLSTMCell(3, 4))
    assert r"+ 10^{-5}}" in equations.latex
    assert r"\overline{\mathrm{norm\_c\_weight}}" in equations.latex


# -- parentheses -------------------------------------------------------------------------------------------------------------


class Expression(nn.Module):
    """A cell that computes any one expression."""

    input_size = state_size = N  # square, so that matrices multiply; the batch is square too

    def __init__(self, function):
        self.function = function
        self.W = nn.Parameter(np.random.default_rng(7).uniform(0.5, 1.5, (N, N)))

    def forward(self, x, h):
        return self.function(x, h, self.W)


PAIRS = [f"x {one} (h {two} W)" for one in "+-*/@" for two in "+-*/@"] + [f"(x {a} h) {b} W" for a in "+-*/@" for b in "+-*/@"]
OTHERS = [
    "-(x {} h) * W",
    "x {} -h",
    "(-x) {} (-h)",
    "(x {} h) ** 2",
    "(x {} h).T {} W",
    "(x {} h).sum(axis=1, keepdims=True) {} W",
]
OTHERS += ["(-(x {} h)) ** 2", "np.where(x > (h {} W), x, h) {} W", "(x {} h)[:, ::-1]", "1 - (2 {} x)", "(x {} -0.5) {} -2"]
OTHERS += ["np.tanh(-(x {} h) ** 2)", "-(-x {} h).T", "(x {} h > W) * x", "x * np.equal(x > h, h > (W {} x))"]
FILLED = [text.replace("{}", sign) for text in OTHERS for sign in "+-*/@" if not (sign == "@" and re.search(r"\d", text))]


@pytest.mark.parametrize("text", PAIRS + FILLED)
def test_parentheses_are_where_they_are_needed(text):
    def function(x, h, W):
        return eval(text, {"np": np, "x": x, "h": h, "W": W})

    rng = np.random.default_rng(0)
    x, h, cell = rng.uniform(0.5, 1.5, (N, N)), rng.uniform(0.5, 1.5, (N, N)), Expression(function)
    equations = tg.viz.equations(cell)
    after = evaluated(equations.forward, equations.names | {"x": x, "h_prev": h, "W": cell.W.numpy()})
    np.testing.assert_allclose(after["h"], function(x, h, cell.W.numpy()), rtol=1e-12)


# -- what it refuses ---------------------------------------------------------------------------------------------------------


class Bare(nn.Module):
    state_size = 2

    def forward(self, x, h):
        return h + x.sum(axis=1, keepdims=True)


class Looks(Bare):
    input_size = 2

    def forward(self, x, h):
        return h + 1 if x.sum() > 0 else h


def test_features_of_a_cell_that_does_not_tell():
    with pytest.raises(TypeError, match=r"Bare does not say how many features x has; write equations\(\.\.\., input_size=3\)"):
        tg.viz.equations(Bare())
    assert tg.viz.equations(Bare(), input_size=5).forward == "h = h_prev + x.sum(axis=1, keepdims=True)"


@pytest.mark.parametrize("input_size", [0, -1, 2.5, True, "3"])
def test_what_is_no_number_of_features(input_size):
    with pytest.raises(ValueError, match=rf"equations: input_size={input_size!r} should be how many .*, such as input_size=3"):
        tg.viz.equations(Bare(), input_size)


def test_what_is_no_cell():
    with pytest.raises(TypeError, match=r"expected a cell, got a Compiled; write equations\(layer.cells\['l0'\]\)"):
        tg.viz.equations(tg.compile(nn.LSTM(3, 4)))
    with pytest.raises(TypeError, match=r"expected a cell, got a LSTM; write equations\(layer.cells\['l0'\]\)"):
        tg.viz.equations(nn.LSTM(3, 4))
    with pytest.raises(TypeError, match=r"of a class make an instance: SomeCell\(3, 4\)"):
        tg.viz.equations(nn.LSTMCell)
    with pytest.raises(tg.CompileError, match="takes the truth of a value"):
        tg.viz.equations(Looks())


def test_the_cell_and_the_random_numbers_stay_as_they_were():
    tg.manual_seed(0)
    expected = nn.Linear(2, 2).weight.numpy()
    tg.manual_seed(0)
    cell = nn.zoo.LeakyCell(2, 2)
    tg.manual_seed(0)
    before = dict(vars(cell))
    tg.viz.equations(cell)
    assert np.array_equal(nn.Linear(2, 2).weight.numpy(), expected)
    assert vars(cell) == before
