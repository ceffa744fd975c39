"""The cells of the zoo: each is its paper's equations, held against a second writing of them in plain NumPy, gate by gate; has
the gradients of finite differences; keeps the contract; runs in every option of Recurrent; and learns."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.check_cell import check_cell
from tinygrad_rnn.gradcheck import gradcheck
from tinygrad_rnn.nn import zoo

E, H, N = 3, 4, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(z, weight, bias=0.0):
    return (z - z.mean()) / np.sqrt(z.var() + 1e-5) * weight + bias


# -- the papers, for a single sample: p the parameters, x and h vectors -------------------------------------------------------


def block(p, k, x, h):
    """The k-th gate before its function."""
    rows = slice(k * H, (k + 1) * H)
    z = p["weight_ih"][rows] @ x + p["weight_hh"][rows] @ h
    return z + p["bias_ih"][rows] + p["bias_hh"][rows] if "bias_ih" in p else z


def peephole(p, x, h, c):
    i = sigmoid(block(p, 0, x, h) + p["peephole_i"] * c)
    f = sigmoid(block(p, 1, x, h) + p["peephole_f"] * c)
    new = f * c + i * np.tanh(block(p, 2, x, h))
    return sigmoid(block(p, 3, x, h) + p["peephole_o"] * new) * np.tanh(new), new


def coupled(p, x, h, c):
    f = sigmoid(block(p, 0, x, h))
    new = f * c + (1 - f) * np.tanh(block(p, 1, x, h))
    return sigmoid(block(p, 2, x, h)) * np.tanh(new), new


def layer_norm(p, x, h, c):
    z = norm(p["weight_ih"] @ x, p["norm_x.weight"]) + norm(p["weight_hh"] @ h, p["norm_h.weight"])
    z = z + p.get("bias_ih", 0) + p.get("bias_hh", 0)
    new = sigmoid(z[H : 2 * H]) * c + sigmoid(z[:H]) * np.tanh(z[2 * H : 3 * H])
    return sigmoid(z[3 * H :]) * np.tanh(norm(new, p["norm_c.weight"], p.get("norm_c.bias", 0))), new


def forget_bias(p, x, h, c):
    new = sigmoid(block(p, 1, x, h)) * c + sigmoid(block(p, 0, x, h)) * np.tanh(block(p, 2, x, h))
    return sigmoid(block(p, 3, x, h)) * np.tanh(new), new


def candidate(p, x, gated):
    return np.tanh(p["weight_in"] @ x + p["weight_hn"] @ gated + p.get("bias_n", 0))


def reset_before(p, x, h):
    r, z = sigmoid(block(p, 0, x, h)), sigmoid(block(p, 1, x, h))
    return (candidate(p, x, r * h) + z * (h - candidate(p, x, r * h)),)


def minimal(p, x, h):
    f = sigmoid(block(p, 0, x, h))
    return (h - f * h + f * candidate(p, x, f * h),)


def independent(p, x, h):
    z = p["weight_ih"] @ x + np.array([u * own for u, own in zip(p["weight_hh"], h, strict=True)])
    return (np.maximum(z + p.get("bias_ih", 0) + p.get("bias_hh", 0), 0),)


def janet(p, x, h):
    s = block(p, 0, x, h)
    return (h / (1 + np.exp(-s)) + np.tanh(block(p, 1, x, h)) / (1 + np.exp(s - 1)),)


def leaky(p, x, h):
    return (0.7 * h + 0.3 * np.tanh(block(p, 0, x, h)),)


ZOO = {
    zoo.PeepholeLSTMCell: peephole,
    zoo.CoupledLSTMCell: coupled,
    zoo.LayerNormLSTMCell: layer_norm,
    zoo.ForgetBiasLSTMCell: forget_bias,
    zoo.ResetBeforeGRUCell: reset_before,
    zoo.MinimalGatedCell: minimal,
    zoo.IndRNNCell: independent,
    zoo.JANETCell: janet,
    zoo.LeakyCell: leaky,
}
each_cell = pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.__name__)


def make(kind, bias=True, dtype=np.float64):
    """A cell whose parameters are all away from where they begin."""
    rng = np.random.default_rng(0)
    cell = kind(E, H, dtype=dtype) if kind is zoo.ForgetBiasLSTMCell else kind(E, H, bias, dtype)
    for p in cell.parameters():
        p.data = rng.normal(size=p.shape)
    return cell


def draw(cell):
    rng = np.random.default_rng(1)
    sizes = cell.state_size if isinstance(cell.state_size, tuple) else (cell.state_size,)
    x, *state = [tg.Tensor(rng.normal(size=(N, n)), True) for n in (E, *sizes)]
    return x, state


def members(state):
    return state if isinstance(state, tuple) else (state,)


def test_the_table_is_complete():
    cells = {
        v for v in vars(zoo).values() if isinstance(v, type) and issubclass(v, nn.Module) and v.__module__ == zoo.__name__
    }
    assert cells == set(ZOO)


@pytest.mark.parametrize("bias", [False, True])
@each_cell
def test_a_step_is_that_of_the_paper(kind, bias):
    cell = make(kind, bias)
    x, state = draw(cell)
    p = cell.state_dict()
    assert any("bias" in name for name in p) is (bias or kind is zoo.ForgetBiasLSTMCell)
    found = members(cell(x, tuple(state) if len(state) > 1 else state[0]))
    begun, zeros = members(cell(x)), [np.zeros(h.shape) for h in state]
    for n in range(N):
        for states, results in (([h.data for h in state], found), (zeros, begun)):
            expected = ZOO[kind](p, x.data[n], *[h[n] for h in states])
            for ours, theirs in zip(results, expected, strict=True):
                np.testing.assert_allclose(ours.data[n], theirs, rtol=0, atol=1e-14)


@each_cell
def test_gradients_are_those_of_finite_differences(kind):
    cell = make(kind)
    x, state = draw(cell)
    given = tuple(state) if len(state) > 1 else state[0]
    assert gradcheck(lambda *_: members(cell(x, given)), [x, *state, *cell.parameters()], second_order=True)


@each_cell
def test_the_contract_is_kept(kind):
    tg.manual_seed(0)
    check_cell(kind(E, H))
    check_cell(make(kind))


@each_cell
def test_every_option_of_recurrent(kind):
    tg.manual_seed(0)
    layer = nn.Recurrent(
        lambda n: kind(n, H, dtype=np.float64), E, 2, bidirectional=True, dropout=0.2, recurrent_dropout=0.2, zoneout=0.1,
        batch_first=True, learn_initial_state=True,
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(3, 5, E))
    out, _, records = layer(x, lengths=[2, 5, 3], record="state0")
    assert (out.shape, records["l1_reverse"]["state0"].shape) == ((3, 5, 2 * H), (3, 5, H))
    (out**2).sum().backward()
    assert all(np.isfinite(p.grad.data).all() for p in layer.parameters())
    layer.eval()
    np.testing.assert_allclose(layer(x, lengths=[2, 5, 3])[0].data[0, :2], layer(x[0, :2])[0].data, rtol=0, atol=1e-14)


@each_cell
def test_each_learns_the_mean_of_what_it_has_read(kind):
    """Six inputs of 1 or -1: always answering 0 costs 1/6. Every cell ends below 0.002."""
    tg.manual_seed(0)
    layer, readout = nn.Recurrent(kind(1, 16)), nn.Linear(16, 1)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = tg.optim.Adam(parameters, lr=0.03)
    x = np.random.default_rng(0).choice([-1, 1], size=(6, 32, 1)).astype(np.float32)
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(readout(layer(x)[0][-1]), x.mean(axis=0))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.002


# -- what is particular to one cell -------------------------------------------------------------------------------------------


def test_the_forget_bias():
    tg.manual_seed(0)
    cell = zoo.ForgetBiasLSTMCell(E, H, forget_bias=2.0)
    tg.manual_seed(0)
    plain = nn.LSTMCell(E, H)
    f = slice(H, 2 * H)
    assert (cell.bias_ih.data[f] + cell.bias_hh.data[f]).tolist() == [2.0] * H
    np.testing.assert_array_equal(
        np.delete(cell.bias_ih.data, range(H, 2 * H)), np.delete(plain.bias_ih.data, range(H, 2 * H))
    )
    np.testing.assert_array_equal(cell.weight_hh.data, plain.weight_hh.data)


def test_a_leak_of_one_is_elmans_cell():
    cell, plain = zoo.LeakyCell(E, H, leak=1), nn.RNNCell(E, H)
    plain.load_state_dict(cell.state_dict())
    x, h = np.ones((N, E), np.float32), np.ones((N, H), np.float32)
    np.testing.assert_allclose(cell(x, h).data, plain(x, h).data, rtol=1e-6)
    for leak in (0, 1.5):
        with pytest.raises(ValueError, match=f"LeakyCell: leak must be above 0 and at most 1, got {leak}"):
            zoo.LeakyCell(E, H, leak=leak)


def test_units_of_the_independent_cell_see_only_themselves():
    cell = make(zoo.IndRNNCell)
    h = tg.Tensor(np.ones((1, H)), True)
    cell.weight_hh.data, cell.bias_ih.data = np.arange(1.0, 5.0), np.full(H, 50.0)  # all of them on the slope
    jacobian = tg.jacobian(lambda h: cell(np.ones((1, E)), h)[0])(h)
    np.testing.assert_array_equal(np.squeeze(jacobian.data), np.diag([1.0, 2.0, 3.0, 4.0]))


def test_the_initial_recurrent_weights_of_the_independent_cell():
    tg.manual_seed(0)
    u = zoo.IndRNNCell(1, 500).weight_hh.data
    assert 0 <= u.min() < 0.01 < 0.99 < u.max() <= 1


NAMES = ["i f g o c h", "f g o c h", "i f g o c h", "i f g o c h", "r z n h", "f n h", "h", "f i g h", "n h"]


@pytest.mark.parametrize(("kind", "names"), list(zip(ZOO, NAMES, strict=True)))
def test_names_of_gates_and_states(kind, names):
    out, _, records = nn.Recurrent(kind(E, H))(np.ones((2, 1, E), np.float32), record=names.split())
    assert list(records["l0"]) == names.split()
    np.testing.assert_array_equal(records["l0"]["h"].data, out.data)


def test_bad_input():
    with pytest.raises(ValueError, match=r"PeepholeLSTMCell: sizes must be positive, got input 0, hidden 4"):
        zoo.PeepholeLSTMCell(0, 4)
    with pytest.raises(TypeError, match=r"JANETCell: expected a state of one Tensor, got a tuple of Tensor and Tensor"):
        make(zoo.JANETCell)(np.ones((N, E)), (tg.Tensor(np.ones((N, H))),) * 2)
    with pytest.raises(ValueError, match=r"CoupledLSTMCell: Expected hidden\[1\] size \(2, 4\), got \[1, 4\]"):
        make(zoo.CoupledLSTMCell)(np.ones((N, E)), (tg.Tensor(np.ones((N, H))), tg.Tensor(np.ones((1, H)))))
