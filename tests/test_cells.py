"""RNNCell, LSTMCell and GRUCell: one step each, held against the papers' equations in NumPy and against finite differences."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.gradcheck import gradcheck

E, H, N = 3, 4, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def make(kind, bias=True, dtype=np.float64):
    tg.manual_seed(5)
    option = {"RNN relu": {"nonlinearity": "relu"}, "LSTM proj": {"proj_size": 2}}.get(kind, {})
    cell = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}[kind.split()[0]]
    return cell(E, H, bias=bias, dtype=dtype, **option)


def draw(cell, *lead, dtype=np.float64):
    """An input and a state."""
    rng = np.random.default_rng(0)
    sizes = cell.state_size if isinstance(cell.state_size, tuple) else (cell.state_size,)
    x, *state = [tg.Tensor(rng.normal(size=(*lead, n)), True, dtype) for n in (E, *sizes)]
    return x, tuple(state) if len(state) > 1 else state[0]


def members(state):
    return state if isinstance(state, tuple) else (state,)


def by_the_paper(kind, p, x, h, c=None):
    """The same step, gate by gate, each with its own rows of the weights."""

    def gate(k, recurrent=1.0):
        rows = slice(k * H, (k + 1) * H)
        from_x = p["weight_ih"][rows] @ x + p.get("bias_ih", np.zeros(4 * H))[rows]
        return from_x + recurrent * (p["weight_hh"][rows] @ h + p.get("bias_hh", np.zeros(4 * H))[rows])

    if kind == "RNN":
        return (np.tanh(gate(0)),)
    if kind == "RNN relu":
        return (np.maximum(gate(0), 0),)
    if kind == "GRU":
        r, z = sigmoid(gate(0)), sigmoid(gate(1))
        return ((1 - z) * np.tanh(gate(2, r)) + z * h,)
    c = sigmoid(gate(1)) * c + sigmoid(gate(0)) * np.tanh(gate(2))
    h = sigmoid(gate(3)) * np.tanh(c)
    return (p["weight_hr"] @ h if "weight_hr" in p else h), c


KINDS = ["RNN", "RNN relu", "LSTM", "LSTM proj", "GRU"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_the_paper(kind, bias):
    cell = make(kind, bias)
    p = cell.state_dict()
    x, state = draw(cell, N)
    found = members(cell(x, state))
    for b in range(N):
        expected = by_the_paper(kind, p, x.data[b], *[h.data[b] for h in members(state)])
        alone = cell(x[b], tuple(h[b] for h in state) if isinstance(state, tuple) else state[b])
        for ours, single, theirs in zip(found, members(alone), expected, strict=True):
            np.testing.assert_allclose(ours.data[b], theirs, rtol=0, atol=1e-14)
            np.testing.assert_allclose(single.data, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_left_out_is_zero(kind):
    cell = make(kind)
    x, state = draw(cell, N)
    zero = tuple(np.zeros(h.shape) for h in members(state))
    for ours, expected in zip(members(cell(x)), members(cell(x, zero if len(zero) > 1 else zero[0])), strict=True):
        np.testing.assert_allclose(ours.data, expected.data, rtol=1e-14)


@pytest.mark.parametrize("lead", [(), (N,)], ids=["single", "batch"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind, bias, lead):
    cell = make(kind, bias)
    x, state = draw(cell, *lead)
    assert gradcheck(lambda *_: members(cell(x, state)), [x, *members(state), *cell.parameters()], second_order=bias)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("RNN", {"weight_ih": (4, 3), "weight_hh": (4, 4), "bias_ih": (4,), "bias_hh": (4,)}),
        ("LSTM", {"weight_ih": (16, 3), "weight_hh": (16, 4), "bias_ih": (16,), "bias_hh": (16,)}),
        ("LSTM proj", {"weight_ih": (16, 3), "weight_hh": (16, 2), "bias_ih": (16,), "bias_hh": (16,), "weight_hr": (2, 4)}),
        ("GRU", {"weight_ih": (12, 3), "weight_hh": (12, 4), "bias_ih": (12,), "bias_hh": (12,)}),
    ],
)
def test_names_and_shapes_of_parameters(kind, expected):
    cell = make(kind)
    assert list({n: p.shape for n, p in cell.named_parameters()}.items()) == list(expected.items())
    assert [p.name for p in cell.parameters()] == list(expected)
    assert all(abs(p.data).max() <= 0.5 for p in cell.parameters())  # 1 / sqrt(H)
    assert list(make(kind, bias=False).state_dict()) == [n for n in expected if not n.startswith("bias")]


@pytest.mark.parametrize(
    ("kind", "names"),
    [("RNN", "h"), ("LSTM", "c f g h i o"), ("LSTM proj", "c f g h i o"), ("GRU", "h n r z")],
)
def test_gates_and_states_have_names(kind, names):
    cell = make(kind)
    x, state = draw(cell, N)
    nodes = toposort(*members(cell(x, state)))
    assert sorted(n.name for n in nodes if n.name and n.op) == names.split()
    assert {n.scope.module for n in nodes if n.op} == {cell}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_dtype_is_kept(kind, dtype):
    cell = make(kind, dtype=dtype)
    x, state = draw(cell, N, dtype=dtype)
    for out in (members(cell(x)), members(cell(x, state))):
        assert {n.dtype for n in toposort(*out) if n.ndim} == {np.dtype(dtype)}  # Python's numbers have no dtype of their own
        out[0].sum().backward()
    assert {t.grad.dtype for t in (x, members(state)[0], *cell.parameters())} == {np.dtype(dtype)}


def test_the_default_dtype_is_float32():
    assert {p.dtype for p in nn.GRUCell(2, 3).parameters()} == {np.dtype(np.float32)}


def test_large_inputs_saturate_without_a_warning():
    cell = make("LSTM")
    h, c = cell(np.full((1, E), 1e6))
    assert np.isfinite(h.data).all()
    assert np.isfinite(c.data).all()
    h.sum().backward()
    assert all(np.isfinite(p.grad.data).all() for p in cell.parameters())


def test_a_loop_written_by_hand_is_the_layer():
    layer = nn.LSTM(E, H, dtype=np.float64)
    cell = nn.LSTMCell(E, H, dtype=np.float64)
    cell.load_state_dict({n.removesuffix("_l0"): value for n, value in layer.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, N, E))
    state, hs = None, []
    for x_t in x:
        state = cell(x_t, state)
        hs.append(state[0])
    (np.stack(hs) ** 2).sum().backward()
    out, _ = layer(x)
    (out**2).sum().backward()
    np.testing.assert_allclose(np.stack(hs).data, out.data, rtol=1e-14)
    for p, q in zip(cell.parameters(), layer.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.data, rtol=1e-12)


x = np.ones((N, E), np.float32)
h = np.zeros((N, H), np.float32)
lstm, gru = nn.LSTMCell(E, H), nn.GRUCell(E, H)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: gru(x[:, :2]), ValueError, r"GRUCell: expected input of shape \(3,\) or \(batch, 3\), got \(2, 2\)"),
        (lambda: gru(x[None]), ValueError, r"expected input of shape \(3,\) or \(batch, 3\), got \(1, 2, 3\)"),
        (lambda: gru(1.0), ValueError, r"expected input of shape .* got \(\)"),
        (lambda: gru(x.astype(int)), TypeError, r"a floating dtype, got int64. Write x.astype\(np.float32\), or"),
        (lambda: gru(x > 0), TypeError, r"expected input of a floating dtype, got bool"),
        (lambda: gru(x, h[:1]), ValueError, r"GRUCell: Expected hidden size \(2, 4\), got \[1, 4\]"),
        (lambda: gru(x, h[:, :3]), ValueError, r"GRUCell: Expected hidden size \(2, 4\), got \[2, 3\]"),
        (lambda: gru(x[0], h), ValueError, r"GRUCell: Expected hidden size \(4,\), got \[2, 4\]"),
        (lambda: gru(x, h[0]), ValueError, r"GRUCell: Expected hidden size \(2, 4\), got \[4\]"),
        (lambda: gru(x, (h,)), TypeError, r"expected a state of one Tensor, got a tuple of ndarray; write tg.Tensor\(h\)"),
        (lambda: gru(x, h.tolist()), TypeError, r"expected a state of one Tensor, got a list of list and list"),
        (lambda: gru(x, 0.0), TypeError, r"expected a state of one Tensor, got a float"),
        (lambda: lstm(x, h), TypeError, r"expected a state of 2 Tensors in a tuple, got a ndarray; write \(h, c\)"),
        (lambda: lstm(x, [h, h]), TypeError, r"got a list of ndarray and ndarray; write \(h, c\)"),
        (lambda: lstm(x, (h,)), TypeError, r"got a tuple of ndarray; write \(h, c\)"),
        (lambda: lstm(x, (h, h, h)), TypeError, r"got a tuple of ndarray and ndarray and ndarray; write \(h, c\)"),
        (lambda: lstm(x, (h, None)), TypeError, r"got a tuple of ndarray and NoneType"),
        (lambda: lstm(x, (h, h[:1])), ValueError, r"LSTMCell: Expected hidden\[1\] size \(2, 4\), got \[1, 4\]"),
        (lambda: make("LSTM proj")(x, (h, h[:, :2])), ValueError, r"Expected hidden\[0\] size \(2, 2\), got \[2, 4\]"),
        (lambda: nn.RNNCell(3, 0), ValueError, r"RNNCell: sizes must be positive, got input 3, hidden 0"),
        (lambda: nn.LSTMCell(-3, 4), ValueError, r"LSTMCell: sizes must be positive, got input -3, hidden 4"),
        (lambda: nn.LSTMCell(3, 4, proj_size=5), ValueError, r"LSTMCell: expected 0 <= proj_size < hidden_size = 4, got 5"),
        (lambda: nn.RNNCell(3, 4, nonlinearity="relu6"), ValueError, r"nonlinearity is 'tanh' or 'relu', got 'relu6'"),
        (lambda: nn.GRUCell(3, "4"), TypeError, r"'str' object cannot be interpreted as an integer"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
