"""What a program saves, as its text shows it: NumPy calls per step, and passes over short rows; and that it stays right.

The oracle for values is the unrolled layer, as in test_compile_cells.py, whose cells run here with all joined that can be.
What is said of text and of `joining` is for NumPy's programs; cells that may be hard to write run in C, too.
"""

import re

import numpy as np
import pytest
from conftest import IN_C
from test_compile_cells import CELLS, E, N, T, Written, agree, in_every_call, random_case

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compiler.aligned import aligned
from tinygrad_rnn.nn import zoo

pytestmark = pytest.mark.usefixtures("target")
both = pytest.mark.parametrize("target", ["numpy", IN_C], indirect=True)


class SideBySide(nn.Module):
    """tanh(W [x h] + b): a cell that joins them itself, in any order."""

    def __init__(self, order=("x", "h"), bias=True):
        self.state_size, self.order = 2, order
        size = {"x": E, "h": 2}
        self.linear = nn.Linear(sum(size[name] for name in order), 2, bias=bias, dtype=np.float64)

    def forward(self, x, h):
        return np.tanh(self.linear(np.concatenate([{"x": x, "h": h}[name] for name in self.order], axis=-1)))


class Projected(nn.Module):
    """An LSTM whose h is a projection, gates written one by one, in an order of its own (Sak et al. 2014)."""

    def __init__(self):
        self.state_size = (2, 3)
        self.gates = [nn.Linear(E, 3, dtype=np.float64) for _ in range(4)]
        self.back = [nn.Linear(2, 3, bias=False, dtype=np.float64) for _ in range(4)]
        self.project = nn.Linear(3, 2, bias=False, dtype=np.float64)

    def forward(self, x, state):
        h, c = state
        o, g, f, i = (a(x) + b(h) for a, b in zip(self.gates, self.back, strict=True))
        c = tg.sigmoid(f) * c + tg.sigmoid(i) * np.tanh(g)
        return self.project(tg.sigmoid(o) * np.tanh(c)), c


def source(cell, batch, dtype=np.float32):
    """The program of a cell for some sequences."""
    compiled = tg.compile(nn.Recurrent(cell))
    compiled(np.zeros((2, batch, E), dtype))
    return compiled.source


def calls(text):
    """The functions that the loops call, forward and backward."""
    return [re.findall(r"^        (\w+)\(", way, re.M) for way in text.split("def backward")]


@pytest.fixture
def joining(monkeypatch):
    """Whatever can be joined is, at any size."""
    monkeypatch.setattr("tinygrad_rnn.compiler.join.pays", lambda node, terms: True)


# -- how many ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "batch", "forward", "backward"),
    [
        (nn.RNNCell(E, 4), 1, ["dot", "tanh"], ["add", "multiply", "dot"]),
        (nn.RNNCell(E, 4), 32, ["dot", "add", "tanh"], ["add", "multiply", "dot"]),  # a slice of a row costs more than a sum
        (nn.LSTMCell(E, 4), 1, 9, 7),
        (nn.LSTMCell(E, 16), 32, 9, 7),
        (nn.LSTMCell(E, 2), 32, 10, 7),  # a long row for a short result
        (nn.GRUCell(E, 4), 1, 13, 5),
        (zoo.PeepholeLSTMCell(E, 4), 1, 18, 7),
        (zoo.PeepholeLSTMCell(E, 4), 32, 18, 7),
        (zoo.CoupledLSTMCell(E, 4), 1, 10, 7),
        (zoo.LayerNormLSTMCell(E, 4), 1, 26, 18),
        (zoo.MinimalGatedCell(E, 4), 1, 12, 11),
        (SideBySide(), 32, ["dot", "tanh"], ["add", "multiply", "dot"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_calls_per_step(cell, batch, forward, backward):
    dtype = np.float64 if isinstance(cell, SideBySide) else np.float32
    found = calls(source(cell, batch, dtype))
    for way, wanted in zip(found, (forward, backward), strict=True):
        assert (len(way) if isinstance(wanted, int) else way) == wanted


def test_what_a_layer_norm_takes_on_the_way_back():
    """The weight of the norm is multiplied once, for a sum and a product; the deviation divides what the product gives."""
    loop = re.findall(r"^        (\w+)\((.*)\)$", source(zoo.LayerNormLSTMCell(E, 4), 1).split("def backward")[1], re.M)
    at = next(i for i, (_, text) in enumerate(loop) if "norm_h_weight" in text)
    assert [name for name, _ in loop[at : at + 7]] == ["multiply", "vecdot", "multiply", "multiply", "add", "dot", "multiply"]
    product, gradient = loop[at + 5 : at + 7]
    assert product[1].split(", ")[2] == gradient[1].split(", ")[0]
    assert gradient[1].split(", ")[2] == "dh"


@pytest.mark.parametrize(("cell", "together"), [(nn.LSTMCell(E, 4), True), (zoo.CoupledLSTMCell(E, 4), False)])
def test_slopes_together_for_most_of_the_gates(cell, together):
    """Three sigmoids of four, but not two of three."""
    assert bool(re.search(r"= i?fgo \* i?fgo$", source(cell, 1), re.M)) is together


@pytest.mark.parametrize(("size", "copied"), [(16, True), (2, False)])
def test_gates_that_are_read_often_in_short_rows_are_copied(size, copied):
    text = source(nn.LSTMCell(E, size), 32).split("def backward")[1]
    assert ("i = ifgo[:, 0].copy()" in text) is copied


def test_one_product_for_the_gradients_of_what_is_joined():
    text = source(nn.LSTMCell(E, 4), 1)
    assert "dw = dot(dz.reshape(-1, 16).T, hxs[:-1].reshape(-1, 8))" in text
    assert re.findall(r"(d\w+) = dw\[(.*)\]", text) == [
        ("dweight_ih", ":, 4:7"),
        ("dweight_hh", ":, 0:4"),
        ("dbias_hh", ":, 7"),
    ]


def test_large_weights_are_not_joined(monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.compiler.join.WEIGHTS", 4 * 4 * (4 + E))
    assert "hxs" in source(nn.LSTMCell(E, 4), 1)
    assert "hxs" not in source(nn.LSTMCell(E, 5), 1)


# -- is it right ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [*CELLS, lambda n, size, dtype: Projected()], ids=lambda c: c.__name__)
def test_joined_cells(cell, joining):
    in_every_call(nn.Recurrent(cell(E, 2, dtype=np.float64)))


@both
@pytest.mark.parametrize("order", ["xh", "hx", "xhx", "hh", "hxh", "h"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, N])
def test_what_a_cell_joins_itself(order, bias, batch, joining, target):
    rng = np.random.default_rng(0)
    agree(nn.Recurrent(SideBySide(order, bias)), rng.normal(size=(3, batch, E)), rng.normal(size=(1, batch, 2)))


STEPS = {
    "the state itself, too": lambda c, x, h: np.tanh(c.own(x) + h @ c.square) + 0.5 * h,
    "twice": lambda c, x, h: np.tanh(c.own(x) + h @ c.square) * tg.sigmoid(c.own(x) + h @ c.square.T + c.p),
    "with and without input": lambda c, x, h: np.tanh(h @ c.square + c.p) * tg.sigmoid(c.own(x) + h @ c.square.T),
    "what is made of the input": lambda c, x, h: np.tanh(c.own(np.tanh(x)) + h @ c.square),
    "another product with the input": lambda c, x, h: np.tanh(c.own(x) + h @ c.square) + tg.relu(c.own(x * x)),
    "the other way round": lambda c, x, h: np.tanh(c.p + h @ c.square + c.own(x)),
    "less": lambda c, x, h: np.tanh(c.own(x) - h @ c.square - c.p),
}


@both
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_joined_steps(step, joining):
    in_every_call(nn.Recurrent(Written(step)))


def test_joined_in_chunks(joining, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.compiler.emit.CACHE", 2 * N * 2)
    for cell in (nn.LSTMCell(E, 2, dtype=np.float64), SideBySide()):
        assert "x_old[:, :, 5:6] = 1" in source(cell, N, np.float64).replace("xh", "hx")
        in_every_call(nn.Recurrent(cell))


def test_what_is_not_finite_meets_no_zeros(joining):
    """A step in which one sum has the input and another has not: 0 * inf would be nan."""
    x = np.random.default_rng(0).normal(size=(3, N, E))
    x[1, 0, 0] = np.inf
    layer = nn.Recurrent(Written(STEPS["with and without input"]))
    with np.errstate(all="ignore"):
        assert np.isfinite(layer(x)[0].data).all()
        assert np.isfinite(tg.compile(layer)(x)[0].data).all()


def test_random_joined_cells(joining):
    for seed in range(60, 90):
        layer, x, hx, call = random_case(seed)
        agree(layer, x, hx, tolerance=1e-8, **call)


def test_the_output_is_an_array_of_its_own():
    """And not a slice of rows, which would be slow to read."""
    y, h = tg.compile(nn.Recurrent(nn.RNNCell(E, 4)))(np.zeros((2, 1, E), np.float32))
    assert y.data.flags.c_contiguous
    assert h.shape == (1, 1, 4)


def test_a_mean_of_float16_does_not_overflow():
    """Its sum would: 400 times 200."""
    layer = nn.Recurrent(Written(lambda c, x, h: h + (200 + h).mean(axis=-1, keepdims=True), 400, dtype=np.float16))
    agree(layer, np.zeros((1, 1, E), np.float16), np.zeros((1, 1, 400), np.float16), tolerance=1e-2)


def test_a_norm_of_a_product_takes_its_mean_from_the_weights():
    cell = Written(lambda c, x, h: np.tanh(c.norm(h @ c.square)), size=5)
    compiled = tg.compile(nn.Recurrent(cell))
    agree(compiled.layer, np.ones((T, N, E)), compiled=compiled)
    loop = re.search(r"    for .*\n((?:        .*\n)+)", compiled.source)[1]
    assert re.findall(r"(\w+)\(", loop) == ["dot", "vecdot", "add", "sqrt", "divide", "multiply", "multiply", "add", "tanh"]


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_steps_in_chunks(monkeypatch, name):
    """What does not fit into the cache is computed for some steps at a time; here, so small a cache that all of it is."""
    monkeypatch.setattr("tinygrad_rnn.compiler.emit.CACHE", 2 * N * 2)  # for two steps of states (N, 2)
    layer = getattr(nn, name)(E, 2, dtype=np.float64)
    compiled = tg.compile(layer)
    for t in (1, 2, 3, 7, 9):
        agree(layer, np.random.default_rng(0).normal(size=(t, N, E)), None, compiled)
    assert "forward_steps" in compiled.source


def test_the_indices_in_a_schedule():
    compiled = tg.compile(nn.LSTM(E, 2))
    assert "dbias_hh   = dw[:, 5]" in compiled.schedule
    compiled(np.zeros((T, N, E), np.float32))
    assert sorted(re.findall(r"= (ifgo\[.*\])", compiled.schedule)) == ["ifgo[0]", "ifgo[1]", "ifgo[2]", "ifgo[3]"]


# -- gates that lie together ------------------------------------------------------------------------------------------------


def test_the_gates_of_a_batch_are_planes():
    text = source(nn.LSTMCell(E, 2), N)
    found = re.findall(r"^    (\w) = ifgo\[:, (\d)\]$", text.split("def backward")[0], re.M)
    assert sorted(found, key=lambda gate: gate[1]) == [("i", "0"), ("f", "1"), ("g", "2"), ("o", "3")]
    assert f"z = empty((4, {N}, 2), float32)" in text
    assert re.search(r"matmul\(h, w\d, z\)", text)
    assert f"rz = empty((T, 2, {N}, 2), float32)" in source(nn.GRUCell(E, 2), N)
    assert "ifgo[:, :, 0:2]" in source(nn.LSTMCell(E, 2), 1)  # where they lie together anyhow


GATES = {
    "read as a whole, too": lambda c, x, h: (
        (z := c.linear(np.concatenate([x, h], axis=-1)))[:, :2] * z.mean(axis=-1, keepdims=True)
    ),
    "unequal": lambda c, x, h: np.tanh((z := c.linear(np.concatenate([x, h], axis=-1)))[:, :1]) * z[:, 1:3] + z[:, 2:],
    "overlapping": lambda c, x, h: np.tanh((z := c.linear(np.concatenate([x, h], axis=-1)))[:, :2]) * z[:, 1:3],
    "backwards": lambda c, x, h: np.tanh((z := c.linear(np.concatenate([x, h], axis=-1)))[:, 2:]) * z[:, :2][:, ::-1],
    "a number a row": lambda c, x, h: (
        tg.sigmoid((z := c.linear(np.concatenate([x, h], axis=-1)) * x[:, :1])[:, 2:]) * z[:, :2]
    ),
    "with the input": lambda c, x, h: tg.sigmoid((z := h @ c.wide + c.linear.bias + x @ c.wider)[:, 2:]) * z[:, :2],
    "with the square": lambda c, x, h: tg.sigmoid((z := h @ c.wide + (h * h) @ c.wide)[:, 2:]) * z[:, :2],
    "one of them": lambda c, x, h: np.tanh(c.linear(np.concatenate([x, h], axis=-1))[:, 2:]),
    "cut twice": lambda c, x, h: (z := np.tanh((h @ c.widest + x @ c.wider[:, :1])[:, :4]))[:, :2] * z[:, 2:],
}


class Wide(Written):
    """With matrices for several gates."""

    def __init__(self, step):
        super().__init__(step, 2)
        rng = np.random.default_rng(1)
        self.wide, self.wider, self.widest = (nn.Parameter(rng.normal(size=s)) for s in ((2, 4), (E, 4), (2, 6)))


@both
@pytest.mark.parametrize("name", GATES)
def test_gates_of_any_kind(name, target):
    layer = nn.Recurrent(Wide(GATES[name]))
    if target == "c" and name == "backwards":
        with pytest.raises(tg.CompileError, match=r"getitem of \(3, 2\) in every step, which cannot be written in C"):
            in_every_call(layer)
    else:
        in_every_call(layer)


@pytest.mark.parametrize("step", GATES.values(), ids=GATES)
def test_joined_gates_of_any_kind(step, joining):
    in_every_call(nn.Recurrent(Wide(step)))


# -- pieces -----------------------------------------------------------------------------------------------------------------


def test_the_slopes_of_all_gates_together():
    """ifgo - ifgo * ifgo, of which g's is not used."""
    back = source(nn.LSTMCell(E, 2), 1).split("def backward")[1]
    assert "k2 = ifgo * ifgo\n    subtract(ifgo, k2, out=k2)\n" in back
    assert "i * i" not in back
    assert "ifgo * ifgo" not in source(nn.LSTMCell(E, 2), N)  # of a batch, that is too much work
    assert "rz * rz" in source(nn.GRUCell(E, 2), 1)


SLOPES = {
    "of two of four": lambda c, x, h: (z := tg.sigmoid(x @ c.wider + h @ c.wide))[:, :1] * z[:, 1:2] * h + z[:, 2:],
    "of pieces of other widths": lambda c, x, h: (z := tg.sigmoid(x @ c.wider + h @ c.wide))[:, :1] * z[:, 1:3] * h + z[:, 3:],
    "of all": lambda c, x, h: (z := np.tanh(x @ c.wider + h @ c.wide))[:, :2] * h + z[:, 2:],
    "of two arrays": lambda c, x, h: (
        (z := tg.sigmoid(x @ c.wider + h @ c.wide))[:, :2] * (y := tg.sigmoid(x @ c.wider - h @ c.wide))[:, 2:]
        + z[:, 2:] * y[:, :2] * h
    ),
    "of what is read as a whole": lambda c, x, h: (z := tg.sigmoid(x @ c.wider + h @ c.wide))[:, :2] * (z * z)[:, 2:] + h,
}


@both
@pytest.mark.parametrize("step", SLOPES.values(), ids=SLOPES)
@pytest.mark.parametrize("batch", [1, N])
def test_slopes_of_pieces(step, batch):
    rng = np.random.default_rng(0)
    agree(nn.Recurrent(Wide(step)), rng.normal(size=(3, batch, E)), rng.normal(size=(1, batch, 2)))


# -- vectors that meet rows -------------------------------------------------------------------------------------------------


def test_a_vector_is_repeated_for_the_rows_that_it_meets():
    text = source(nn.LSTMCell(E, 2), N)
    assert "# scale: 0.5 x 4, 1.0 x 2, 0.5 x 2\n" in text  # of the weights
    assert f"# scale3: 0.5 x {4 * N}, 1.0 x {2 * N}, 0.5 x {2 * N}\n" in text  # of all gates of a step
    assert f"# offset: 0.5 x {4 * N}, 0.0 x {2 * N}, 0.5 x {2 * N}\n" in text
    assert f"weight_hh2 = repeat(w2, repeats={N}, axis=0)" in source(zoo.IndRNNCell(E, 2), N)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, zoo.LayerNormLSTMCell, zoo.IndRNNCell, zoo.PeepholeLSTMCell])
def test_a_vector_that_would_not_stay_in_the_cache_is_not_repeated(cell, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.compiler.broadcast.MOST", 0)
    assert "repeat(" not in source(cell(E, 2), N)
    in_every_call(nn.Recurrent(cell(E, 2, dtype=np.float64)))


# -- weights that begin at a line of the cache ------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", range(0, 64, 8))
def test_an_aligned_copy(offset):
    x = np.empty(808, np.uint8)[offset : offset + 720].view(np.float64).reshape(9, 10)
    x[...] = np.arange(90).reshape(9, 10)
    copy = aligned(x.T)
    np.testing.assert_array_equal(copy, x.T)
    assert copy.ctypes.data % 64 == 0
    assert not np.shares_memory(copy, x)
    assert aligned(np.empty((0, 3))).shape == (0, 3)


def test_which_weights_are_copied(monkeypatch):
    """Those that BLAS reads where they are, and not too few."""
    monkeypatch.setattr("tinygrad_rnn.compiler.aligned.LEAST", 16 * 16)
    monkeypatch.setattr("tinygrad_rnn.compiler.aligned.MOST", 4 * 16 * 16)
    assert source(nn.RNNCell(E, 16), 4).count("= aligned(weight_hh") == 2
    assert "aligned" not in source(nn.RNNCell(E, 15), 4)
    assert "aligned" not in source(nn.RNNCell(E, 16), 5)
    monkeypatch.setattr("tinygrad_rnn.compiler.aligned.MOST", 4 * 16 * (16 + E + 1))
    text = source(nn.LSTMCell(E, 16), 4)  # there, a product for each gate; back, one large product
    assert [line.count("aligned(") for line in text.split("def backward")] == [1, 0]


@pytest.mark.parametrize("cell", CELLS)
def test_values_with_copied_weights(cell, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.compiler.aligned.LEAST", 0)
    in_every_call(nn.Recurrent(cell(E, 2, dtype=np.float64)))
