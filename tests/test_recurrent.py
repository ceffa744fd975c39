"""RNN, LSTM, GRU and Recurrent, without PyTorch at hand.

Three oracles, none of which knows the package: BPTT derived by hand, a forward pass in plain NumPy for every combination of
options, and numbers that torch 2.13.0 gave once. The rest is what a loop over time owes its users: time steps on the nodes,
errors that help, nothing kept between calls.
"""

import gc
import threading
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.gradcheck import gradcheck

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaf(array, dtype=np.float64):
    return tg.Tensor(array, requires_grad=True, dtype=dtype)


# -- backpropagation through time, by hand -----------------------------------------------------------------------------------
#
# Each function runs one layer over x (T, N, E) and returns outputs, final states, and the gradients of sum(dy * y) by name.
# Letters are those of the papers; d_ before a letter is the gradient of the loss with respect to it.


def bptt_rnn(p, x, h0, dy, nonlinearity):
    w_ih, w_hh, b = p["weight_ih_l0"], p["weight_hh_l0"], p["bias_ih_l0"] + p["bias_hh_l0"]
    hs = [h0]
    for x_t in x:
        z = x_t @ w_ih.T + hs[-1] @ w_hh.T + b
        hs.append(np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0))
    d = {name: np.zeros_like(value) for name, value in p.items()}
    d_x, d_h = np.zeros_like(x), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        d_h = d_h + dy[t]
        d_z = d_h * (1 - hs[t + 1] ** 2 if nonlinearity == "tanh" else hs[t + 1] > 0)
        d["weight_ih_l0"] += d_z.T @ x[t]
        d["weight_hh_l0"] += d_z.T @ hs[t]
        d["bias_ih_l0"] += d_z.sum(0)
        d["bias_hh_l0"] += d_z.sum(0)
        d_x[t] = d_z @ w_ih
        d_h = d_z @ w_hh
    return np.stack(hs[1:]), (hs[-1],), {**d, "x": d_x, "h0": d_h}


def bptt_lstm(p, x, h0, c0, dy):
    w_ih, w_hh, b = p["weight_ih_l0"], p["weight_hh_l0"], p["bias_ih_l0"] + p["bias_hh_l0"]
    hs, cs, gates = [h0], [c0], []
    for x_t in x:
        i, f, g, o = np.split(x_t @ w_ih.T + hs[-1] @ w_hh.T + b, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        cs.append(f * cs[-1] + i * g)
        hs.append(o * np.tanh(cs[-1]))
        gates.append((i, f, g, o))
    d = {name: np.zeros_like(value) for name, value in p.items()}
    d_x, d_h, d_c = np.zeros_like(x), np.zeros_like(h0), np.zeros_like(c0)
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        d_h = d_h + dy[t]
        tanh_c = np.tanh(cs[t + 1])
        d_c = d_c + d_h * o * (1 - tanh_c**2)
        d_i, d_f, d_g, d_o = d_c * g, d_c * cs[t], d_c * i, d_h * tanh_c
        d_z = np.hstack([d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o)])
        d["weight_ih_l0"] += d_z.T @ x[t]
        d["weight_hh_l0"] += d_z.T @ hs[t]
        d["bias_ih_l0"] += d_z.sum(0)
        d["bias_hh_l0"] += d_z.sum(0)
        d_x[t] = d_z @ w_ih
        d_h, d_c = d_z @ w_hh, d_c * f
    return np.stack(hs[1:]), (hs[-1], cs[-1]), {**d, "x": d_x, "h0": d_h, "c0": d_c}


def bptt_gru(p, x, h0, dy):
    w_ih, w_hh, b_ih, b_hh = (p[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    hs, gates = [h0], []
    for x_t in x:
        x_r, x_z, x_n = np.split(x_t @ w_ih.T + b_ih, 3, axis=1)
        h_r, h_z, h_n = np.split(hs[-1] @ w_hh.T + b_hh, 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        hs.append((1 - z) * n + z * hs[-1])
        gates.append((r, z, n, h_n))
    d = {name: np.zeros_like(value) for name, value in p.items()}
    d_x, d_h = np.zeros_like(x), np.zeros_like(h0)
    for t in reversed(range(len(x))):
        r, z, n, h_n = gates[t]
        d_h = d_h + dy[t]
        d_n = d_h * (1 - z) * (1 - n**2)
        d_z = d_h * (hs[t] - n) * z * (1 - z)
        d_r = d_n * h_n * r * (1 - r)
        d_of_x, d_of_h = np.hstack([d_r, d_z, d_n]), np.hstack([d_r, d_z, d_n * r])
        d["weight_ih_l0"] += d_of_x.T @ x[t]
        d["weight_hh_l0"] += d_of_h.T @ hs[t]
        d["bias_ih_l0"] += d_of_x.sum(0)
        d["bias_hh_l0"] += d_of_h.sum(0)
        d_x[t] = d_of_x @ w_ih
        d_h = d_h * z + d_of_h @ w_hh
    return np.stack(hs[1:]), (hs[-1],), {**d, "x": d_x, "h0": d_h}


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("kind", ["RNN tanh", "RNN relu", "LSTM", "GRU"])
def test_every_gradient_is_that_of_bptt_by_hand(kind, steps):
    name, *nonlinearity = kind.split()
    rng = np.random.default_rng(steps)
    layer = KINDS[name](3, 4, **({"nonlinearity": nonlinearity[0]} if nonlinearity else {}), dtype=np.float64)
    p = {n: rng.normal(size=v.shape) * 0.7 for n, v in layer.state_dict().items()}
    layer.load_state_dict(p)
    x, dy = rng.normal(size=(steps, 2, 3)), rng.normal(size=(steps, 2, 4))
    states = [rng.normal(size=(2, 4)) for _ in range(2 if name == "LSTM" else 1)]
    by_hand = {"RNN": bptt_rnn, "LSTM": bptt_lstm, "GRU": bptt_gru}[name]
    expected, final, gradients = by_hand(p, x, *states, dy, *nonlinearity)

    given = [leaf(h[None]) for h in states]
    x = leaf(x)
    out, last = layer(x, tuple(given) if len(given) > 1 else given[0])
    (out * dy).sum().backward()
    np.testing.assert_allclose(out.data, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(last if isinstance(last, tuple) else (last,), final, strict=True):
        np.testing.assert_allclose(ours.data, theirs[None], rtol=0, atol=1e-12)
    found = {n: q.grad.data for n, q in layer.named_parameters()}
    found |= {"x": x.grad.data} | {n: h.grad.data[0] for n, h in zip(("h0", "c0"), given, strict=False)}
    assert found.keys() == gradients.keys()
    for n, g in gradients.items():
        np.testing.assert_allclose(found[n], g, rtol=1e-12, atol=1e-12, err_msg=n)


# -- numbers that torch 2.13.0 gave once --------------------------------------------------------------------------------------
#
# Input 1, hidden 2, T = 3, N = 1, everything filled with cosines; the loss weighs the outputs by another cosine and adds the
# squares of the final states. Arrays are flattened.

GOLDEN = {
    "RNN": {
        "output": [-0.99407113401, -0.93798227698, -0.93775243738, -0.65212999642, -0.60610704441, -0.43131320647],
        "h_n": [-0.60610704441, -0.43131320647],
        "d/d x": [-0.0033026559059, -0.10955577448, -0.2345286383],
        "d/d hx0": [0.043556933183, -0.013681598953],
        "d/d weight_ih_l0": [-0.10218613731, -0.12159606077],
        "d/d weight_hh_l0": [0.27369280401, 0.22334756035, 0.20264160729, 0.10861649612],
        "d/d bias_ih_l0": [-0.27458343497, -0.27216430854],
        "d/d bias_hh_l0": [-0.27458343497, -0.27216430854],
    },
    "RNN relu": {
        "output": [1.1259459364, 0.0, 1.575810484, 0.0, 2.3414473367, 0.0],
        "h_n": [2.3414473367, 0.0],
        "d/d x": [1.4144710547, 1.2504214203, 1.5931966973],
        "d/d hx0": [4.7878538192, 2.6232661912],
        "d/d weight_ih_l0": [-2.3473506121, 0.0],
        "d/d weight_hh_l0": [15.228377795, 4.9857583154, 0.0, 0.0],
        "d/d bias_ih_l0": [15.011127286, 0.0],
        "d/d bias_hh_l0": [15.011127286, 0.0],
    },
    "LSTM": {
        "output": [0.22547605355, 0.23941669827, 0.15424520232, 0.061486149889, 0.13652036777, -0.057096767724],
        "h_n": [0.13652036777, -0.057096767724],
        "c_n": [0.64026878543, -0.09556802874],
        "d/d x": [0.0049628836227, -0.040166759996, 0.14758134992],
        "d/d hx0": [-0.023124583653, 0.12119091597],
        "d/d hx1": [0.64748363166, -0.08332480006],
        "d/d weight_ih_l0": [0.12935648868, -0.0081618099073, 0.10783396765, 0.0055102964961, 0.19139439825,
            0.0070700467339, -0.027015099934, 0.000258649046],
        "d/d weight_hh_l0": [0.048096459249, 0.046775213234, -0.0055991620835, 0.0044244540187, 0.08602751734,
            0.10852458536, -1.395675971e-05, -0.0059682098801, 0.072460283053, 0.057469194406, 0.0020050727605,
            0.0010514599503, 0.047710829581, 0.14338816882, -0.0039471589458, -0.0099537051635],
        "d/d bias_ih_l0": [0.27511006243, -0.031762038165, 0.45269403803, 0.0025196662875, 0.41571165641,
            0.012099992292, 0.21209871323, -0.018436676592],
        "d/d bias_hh_l0": [0.27511006243, -0.031762038165, 0.45269403803, 0.0025196662875, 0.41571165641,
            0.012099992292, 0.21209871323, -0.018436676592],
    },
    "LSTM proj": {
        "output": [0.076753529926, -0.014985035092, -0.090729152806],
        "h_n": [-0.090729152806],
        "c_n": [0.47471216866, -0.053974176776],
        "d/d x": [-0.043196342916, 0.0046304702595, 0.090782117993],
        "d/d hx0": [-0.0086134931246],
        "d/d hx1": [0.2919416314, -0.15266520573],
        "d/d weight_ih_l0": [0.099095045812, -0.0018423928223, 0.023490643969, 0.0038142751447, 0.13754578995,
            -0.042295287929, 0.086743820049, -0.0082234128115],
        "d/d weight_hh_l0": [-0.00035607066048, 0.010047347146, 0.022245880239, -0.0029246846089, 0.012644482361,
            0.00017689412787, -0.012377694777, 0.0043047012659],
        "d/d bias_ih_l0": [0.15192045634, 0.14972203164, 0.30962232389, -0.03648333605, 0.38735310475,
            -0.066344772146, 0.039041024504, 0.020811599896],
        "d/d bias_hh_l0": [0.15192045634, 0.14972203164, 0.30962232389, -0.03648333605, 0.38735310475,
            -0.066344772146, 0.039041024504, 0.020811599896],
        "d/d weight_hr_l0": [-0.085683882708, 0.19576839098],
    },
    "GRU": {
        "output": [0.27296441816, 0.6293892521, 0.30231447446, 0.31841900457, 0.48610860971, 0.18076003475],
        "h_n": [0.48610860971, 0.18076003475],
        "d/d x": [0.064861831494, -0.054108438919, 0.56547843617],
        "d/d hx0": [0.64819313841, -0.098323041797],
        "d/d weight_ih_l0": [0.0027496324982, -0.047576878327, -0.16972878593, 0.07861653089, 0.17956113488,
            0.23911935617],
        "d/d weight_hh_l0": [0.0027485980614, 0.0046562315812, -0.020356267788, -0.022754635305, -0.061797594411,
            -0.060544547975, 0.040140243378, 0.040846717836, 0.033228469149, 0.037405533419, 0.02011495028,
            0.022290456244],
        "d/d bias_ih_l0": [0.0092434374021, -0.067813131503, -0.20400075171, 0.13973811609, 0.3838131308,
            0.33989775027],
        "d/d bias_hh_l0": [0.0092434374021, -0.067813131503, -0.20400075171, 0.13973811609, 0.11011563389,
            0.066916142414],
    },
}  # fmt: skip


def cosines(shape, offset):
    return np.cos(np.arange(np.prod(shape, dtype=int)) * 1.3 + offset).reshape(shape)


@pytest.mark.parametrize("kind", GOLDEN)
def test_outputs_states_and_gradients_are_those_that_torch_gave(kind):
    name, *option = kind.split()
    options = {"relu": {"nonlinearity": "relu"}, "proj": {"proj_size": 1}}[option[0]] if option else {}
    layer = KINDS[name](1, 2, dtype=np.float64, **options)
    for k, p in enumerate(layer.parameters()):
        p.data = cosines(p.shape, k + 5 * (option == ["relu"]))
    x = leaf(cosines((3, 1, 1), 3))
    sizes = layer.state_size if name == "LSTM" else (layer.state_size,)
    hx = [leaf(cosines((1, 1, n), 5 + i)) for i, n in enumerate(sizes)]
    out, last = layer(x, tuple(hx) if name == "LSTM" else hx[0])
    last = last if isinstance(last, tuple) else (last,)
    loss = (out * cosines(out.shape, 7)).sum()
    for h in last:
        loss = loss + (h * h).sum()
    loss.backward()

    found = {"output": out} | dict(zip(("h_n", "c_n"), last, strict=False)) | {"d/d x": x.grad}
    found |= {f"d/d hx{i}": h.grad for i, h in enumerate(hx)} | {f"d/d {n}": p.grad for n, p in layer.named_parameters()}
    assert found.keys() == GOLDEN[kind].keys()
    for n, expected in GOLDEN[kind].items():
        np.testing.assert_allclose(found[n].data.ravel(), expected, rtol=1e-9, atol=1e-11, err_msg=n)


# -- every combination of options, against a forward pass in plain NumPy -----------------------------------------------------


def numpy_step(kind, p, suffix, x, state):
    """One step of one layer and direction, with the parameters of a state dict."""
    h = state[0]
    zx = x @ p["weight_ih" + suffix].T + p.get("bias_ih" + suffix, 0)
    zh = h @ p["weight_hh" + suffix].T + p.get("bias_hh" + suffix, 0)
    if kind == "RNN":
        return (np.tanh(zx + zh),)
    if kind == "GRU":
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(zx, 3, -1), np.split(zh, 3, -1)
        z = sigmoid(x_z + h_z)
        return ((1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h,)
    i, f, g, o = np.split(zx + zh, 4, -1)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h @ p["weight_hr" + suffix].T if "weight_hr" + suffix in p else h), c


def numpy_layers(kind, p, x, states, directions):
    """x (T, N, E); states: one tuple per layer and direction. Returns the outputs and the final states, in that order."""
    final = []
    for k in range(len(states) // directions):
        outs = []
        for d in range(directions):
            suffix, state, ys = f"_l{k}" + "_reverse" * d, states[len(final)], []
            for x_t in x[::-1] if d else x:
                state = numpy_step(kind, p, suffix, x_t, state)
                ys.append(state[0])
            outs.append(np.stack(ys[::-1] if d else ys))
            final.append(state)
        x = np.concatenate(outs, axis=-1)
    return x, [np.stack(members) for members in zip(*final, strict=True)]


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("layout", ["time first", "batch first", "unbatched", "unbatched, batch first"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "LSTM proj", "GRU"])
def test_layers_directions_and_layouts(kind, layers, directions, bias, layout, given):
    kind, *proj = kind.split()
    T, N, E, H, P = 3, 2, 3, 4, 2 if proj else 4
    batch_first, unbatched = "batch first" in layout, "unbatched" in layout
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": directions == 2, "dtype": np.float64}
    layer = KINDS[kind](E, H, layers, **options, **({"proj_size": P} if proj else {}))
    p = layer.state_dict()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, N, E))
    widths = (P, H) if kind == "LSTM" else (H,)
    hx = [rng.normal(size=(layers * directions, N, n)) * given for n in widths]
    expected, final = numpy_layers(kind, p, x, [tuple(h[i] for h in hx) for i in range(layers * directions)], directions)

    if unbatched:
        out, last = layer(x[:, 0], pack([h[:, 0] for h in hx]) if given else None)
        expected, final = expected[:, 0], [h[:, 0] for h in final]
    else:
        out, last = layer(x.swapaxes(0, 1) if batch_first else x, pack(hx) if given else None)
        expected = expected.swapaxes(0, 1) if batch_first else expected
    np.testing.assert_allclose(out.data, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(last if isinstance(last, tuple) else (last,), final, strict=True):
        np.testing.assert_allclose(ours.data, theirs, rtol=0, atol=1e-12)


def pack(states):
    return states[0] if len(states) == 1 else tuple(states)


@pytest.mark.parametrize("options", [{}, {"proj_size": 1}], ids=["", "proj"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_deep_bidirectional_layer(kind, options):
    if options and kind != "LSTM":
        options = {"bias": False}
    tg.manual_seed(1)
    layer = KINDS[kind](2, 2, 2, bidirectional=True, batch_first=True, dtype=np.float64, **options)
    rng = np.random.default_rng(0)
    widths = layer.state_size if kind == "LSTM" else (layer.state_size,)
    x, hx = leaf(rng.normal(size=(1, 3, 2))), [leaf(rng.normal(size=(4, 1, n))) for n in widths]

    def every_result(*_):
        out, last = layer(x, pack(hx))
        return (out, *(last if isinstance(last, tuple) else (last,)))

    assert gradcheck(every_result, [x, *hx, *layer.parameters()])


def test_final_states_are_the_last_outputs():
    layer = nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2, dtype=np.float64)
    out, (h, c) = layer(np.random.default_rng(0).normal(size=(5, 2, 3)))
    assert (out.shape, h.shape, c.shape) == ((5, 2, 4), (4, 2, 2), (4, 2, 4))
    np.testing.assert_array_equal(h.data[-2], out.data[-1, :, :2])
    np.testing.assert_array_equal(h.data[-1], out.data[0, :, 2:])


# -- parameters ---------------------------------------------------------------------------------------------------------------


def test_names_order_and_shapes_of_parameters():
    layer = nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2)
    each = [("weight_ih", (16, 3)), ("weight_hh", (16, 2)), ("bias_ih", (16,)), ("bias_hh", (16,)), ("weight_hr", (2, 4))]
    above = [(name, (16, 4) if name == "weight_ih" else shape) for name, shape in each]
    expected = [
        (f"{name}_l{k}{suffix}", shape)
        for k, parameters in enumerate((each, above))
        for suffix in ("", "_reverse")
        for name, shape in parameters
    ]
    assert [(name, p.shape) for name, p in layer.named_parameters()] == expected
    assert list(layer.state_dict()) == [name for name, _ in expected]
    assert list(nn.GRU(3, 4, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]
    assert nn.GRU(3, 4).weight_ih_l0.shape == (12, 3)


def test_initial_values_are_uniform_within_one_over_root_hidden():
    tg.manual_seed(0)
    for p in nn.LSTM(50, 100, proj_size=20).parameters():
        bound = 0.1
        assert abs(p.data).max() <= bound
        assert abs(p.data).max() > 0.98 * bound
        np.testing.assert_allclose(p.data.var(), bound**2 / 3, rtol=0.15)
        assert abs(p.data.mean()) < 0.01


def test_a_parameter_of_a_layer_is_read_and_assigned_by_its_flat_name():
    layer = nn.RNN(2, 3, 2, bidirectional=True)
    assert layer.weight_hh_l1_reverse is layer.cells["l1_reverse"].weight_hh
    layer.weight_hh_l1_reverse = nn.Parameter(np.eye(3, dtype=np.float32))
    assert layer.cells["l1_reverse"].weight_hh.data.tolist() == np.eye(3).tolist()
    assert layer.state_dict()["weight_hh_l1_reverse"].tolist() == np.eye(3).tolist()
    assert "weight_hh_l1_reverse" not in vars(layer)
    layer.bias_ih_l0.data[:] = 7
    assert layer.cells["l0"].bias_ih.data.tolist() == [7, 7, 7]
    for wrong in ("weight_ih_l2", "weight_xx_l0", "weight_ih", "_l0"):
        with pytest.raises(AttributeError, match=f"RNN has no attribute '{wrong}'"):
            getattr(layer, wrong)
    with pytest.raises(TypeError, match=r"RNNCell.weight_hh is a Parameter, and a ndarray in its place would not be trained"):
        layer.weight_hh_l0 = np.eye(3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_dtype_is_kept_in_outputs_states_and_gradients(kind, dtype):
    layer = KINDS[kind](3, 4, 2, dropout=0.5, bidirectional=True, dtype=dtype)
    x = leaf(np.random.default_rng(0).normal(size=(3, 2, 3)), dtype)
    out, last = layer(x)
    loss = nn.functional.mse_loss(out, np.zeros(out.shape, dtype)) + pack_first(last).sum()
    loss.backward()
    nodes = [n for n in toposort(loss) if n.ndim]
    assert {n.dtype for n in nodes} == {np.dtype(dtype)}
    assert {g.grad.dtype for g in (x, *layer.parameters())} == {np.dtype(dtype)}


def pack_first(last):
    return last[0] if isinstance(last, tuple) else last


def test_settings_have_the_names_that_torch_gives_them():
    layer = nn.LSTM(3, 4, 2, batch_first=True, dropout=0.25, bidirectional=True, proj_size=2)
    known = (layer.input_size, layer.hidden_size, layer.num_layers, layer.batch_first, layer.dropout, layer.bidirectional)
    assert known == (3, 4, 2, True, 0.25, True)
    assert layer.proj_size == 2
    assert nn.RNN(3, 4, nonlinearity="relu").nonlinearity == "relu"


# -- dropout ------------------------------------------------------------------------------------------------------------------


def test_dropout_acts_between_layers_in_training_only():
    layer = nn.GRU(2, 400, 2, dropout=0.25, dtype=np.float64)
    for p in layer.cells["l1"].parameters():
        p.data = np.zeros(p.shape)
    layer.weight_ih_l1.data[800:] = np.eye(400)  # r = z = 1/2, n = tanh(x): half of tanh(what comes from below)
    x = np.random.default_rng(0).normal(size=(1, 5, 2))
    tg.manual_seed(3)
    dropped = layer(x)[0].data
    np.testing.assert_array_equal(layer(x)[1].data[0], layer.eval()(x)[1].data[0])  # the first layer itself drops nothing
    whole = layer(x)[0].data
    np.testing.assert_array_equal(whole, layer(x)[0].data)
    below = np.arctanh(2 * whole)
    kept = dropped != 0
    np.testing.assert_allclose(np.arctanh(2 * dropped[kept]), below[kept] / 0.75, rtol=1e-12)
    assert 0.72 < kept.mean() < 0.78
    layer.train()
    tg.manual_seed(3)
    np.testing.assert_array_equal(layer(x)[0].data, dropped)


def test_all_dropped_between_layers():
    layer = nn.RNN(2, 3, 2, dropout=1.0, dtype=np.float64)
    x = leaf(np.ones((2, 1, 2)))
    out, _ = layer(x)
    h = np.tanh(layer.bias_ih_l1.data + layer.bias_hh_l1.data)
    np.testing.assert_allclose(out.data[0, 0], h, rtol=1e-15)
    out.sum().backward()
    assert not x.grad.data.any()
    assert not layer.weight_ih_l1.grad.data.any()


@pytest.mark.parametrize("make", [lambda: nn.RNN(3, 4, dropout=0.5), lambda: nn.Recurrent(nn.RNNCell(3, 4), dropout=0.5)])
def test_dropout_with_one_layer_warns_at_the_callers_line(make):
    with pytest.warns(UserWarning, match=r"with num_layers=1 dropout=0.5 does nothing") as record:
        make()
    assert record[0].filename == __file__


# -- cells of your own --------------------------------------------------------------------------------------------------------


class MinimalGatedCell(nn.Module):
    """The design's example of an invented cell."""

    def __init__(self, input_size, hidden_size):
        self.state_size = hidden_size
        self.gate = nn.Linear(input_size + hidden_size, hidden_size, dtype=np.float64)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size, dtype=np.float64)

    def forward(self, x, h):
        f = tg.sigmoid(self.gate(tg.concatenate([x, h], axis=-1))).named("f")
        n = tg.tanh(self.candidate(tg.concatenate([x, f * h], axis=-1))).named("n")
        return (1 - f) * h + f * n


class Leaky(nn.Module):
    """A tuple of states of different widths, and an output that is neither of them."""

    def __init__(self, input_size):
        self.state_size = (2, 3)
        self.output_size = 5
        self.w = nn.Parameter(np.linspace(-1, 1, input_size * 2).reshape(input_size, 2))
        self.v = nn.Parameter(np.linspace(0, 1, 6).reshape(2, 3))

    def forward(self, x, state):
        h, s = state
        h = tg.tanh(x @ self.w + h)
        return h, 0.5 * s + h @ self.v

    def output(self, state):
        return tg.concatenate(state, axis=-1)


def numpy_minimal_gated(p, x, h):
    hs = []
    for x_t in x:
        f = sigmoid(np.hstack([x_t, h]) @ p["gate.weight_l0"].T + p["gate.bias_l0"])
        n = np.tanh(np.hstack([x_t, f * h]) @ p["candidate.weight_l0"].T + p["candidate.bias_l0"])
        h = (1 - f) * h + f * n
        hs.append(h)
    return np.stack(hs)


def test_a_cell_of_ones_own():
    layer = nn.Recurrent(MinimalGatedCell(2, 3))
    rng = np.random.default_rng(0)
    x, h0 = leaf(rng.normal(size=(3, 2, 2))), leaf(rng.normal(size=(1, 2, 3)))
    p = layer.state_dict()
    assert list(p) == ["gate.weight_l0", "gate.bias_l0", "candidate.weight_l0", "candidate.bias_l0"]
    out, last = layer(x, h0)
    np.testing.assert_allclose(out.data, numpy_minimal_gated(p, x.data, h0.data[0]), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(last.data, out.data[-1:])
    np.testing.assert_allclose(layer(x)[0].data, layer(x, np.zeros((1, 2, 3)))[0].data, rtol=1e-14)
    assert gradcheck(lambda *_: layer(x, h0)[0], [x, h0, *layer.parameters()])


def test_a_cell_with_a_tuple_of_states_and_an_output():
    layer = nn.Recurrent(Leaky, 4, 2, bidirectional=True, batch_first=True)
    assert [p.shape for p in layer.parameters()] == [(4, 2), (2, 3), (4, 2), (2, 3), (10, 2), (2, 3), (10, 2), (2, 3)]
    x = leaf(np.random.default_rng(0).normal(size=(2, 3, 4)))
    out, (h, s) = layer(x)
    assert (out.shape, h.shape, s.shape) == ((2, 3, 10), (4, 2, 2), (4, 2, 3))
    np.testing.assert_array_equal(out.data[:, -1, :5], np.hstack([h.data[2], s.data[2]]))
    np.testing.assert_array_equal(out.data[:, 0, 5:], np.hstack([h.data[3], s.data[3]]))
    first = np.tanh(x.data[:, 0] @ np.linspace(-1, 1, 8).reshape(4, 2))
    below = nn.Recurrent(Leaky(4), batch_first=True)(x)[0].data
    np.testing.assert_allclose(below[:, 0], np.hstack([first, first @ np.linspace(0, 1, 6).reshape(2, 3)]), rtol=1e-14)
    assert gradcheck(lambda *_: layer(x)[0], [x, *layer.parameters()])
    out.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_paths_of_the_modules_in_a_layer():
    model = nn.Sequential(nn.Recurrent(MinimalGatedCell(2, 3)), nn.LSTM(3, 4))
    paths = [path for path, _ in model.named_modules()]
    assert paths == ["", "0", "0.cells.l0", "0.gate_l0", "0.candidate_l0", "1", "1.cells.l0"]


# -- learned initial states ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_initial_states_are_learned(kind):
    layer = KINDS[kind](2, 3, 2, bidirectional=True, learn_initial_state=True, dtype=np.float64)
    plain = KINDS[kind](2, 3, 2, bidirectional=True, dtype=np.float64)
    states = range(2 if kind == "LSTM" else 1)
    names = [f"initial_state{i}_l{k}{d}" for k in range(2) for d in ("", "_reverse") for i in states]
    begun = layer.state_dict()
    assert list(begun) == [*plain.state_dict(), *names]
    assert all((begun[name] == np.zeros(3)).all() for name in names)
    plain.load_state_dict({name: value for name, value in begun.items() if name not in names})
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    np.testing.assert_allclose(layer(x)[0].data, plain(x)[0].data, rtol=1e-14)

    rng = np.random.default_rng(1)
    layer.load_state_dict(begun | {name: rng.normal(size=3) for name in names})
    hx = [leaf(np.stack([np.tile(getattr(layer, name).data, (3, 1)) for name in names[i :: len(states)]])) for i in states]
    out, expected = layer(x)[0], plain(x, pack(hx))[0]
    np.testing.assert_allclose(out.data, expected.data, rtol=1e-13)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    for i in states:
        for j, name in enumerate(names[i :: len(states)]):
            np.testing.assert_allclose(getattr(layer, name).grad.data, hx[i].grad.data[j].sum(0), rtol=1e-12)
    np.testing.assert_allclose(layer(x, pack(hx))[0].data, expected.data, rtol=1e-13)  # what is given comes first
    np.testing.assert_allclose(layer(x[:, 0])[0].data, layer(x)[0].data[:, 0], rtol=1e-12)


def test_learned_initial_states_of_a_cell_of_ones_own():
    layer = nn.Recurrent(Leaky(4), learn_initial_state=True)
    assert {n: p.shape for n, p in layer.named_parameters()} == {
        "w_l0": (4, 2), "v_l0": (2, 3), "initial_state0_l0": (2,), "initial_state1_l0": (3,),
    }  # fmt: skip
    x = leaf(np.random.default_rng(0).normal(size=(3, 2, 4)))
    assert gradcheck(lambda *_: layer(x)[0], layer.parameters())
    assert {p.dtype for p in nn.GRU(1, 2, learn_initial_state=True).parameters()} == {np.dtype(np.float32)}


# -- where and when a node was made -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_every_node_of_a_step_knows_its_step_and_its_module(batch_first):
    T = 4
    layer = nn.LSTM(2, 3, 2, bidirectional=True, dropout=0.5, batch_first=batch_first)
    out, _ = layer(np.ones((T, T, 2), np.float32))
    owners = {id(cell): name for name, cell in layer.cells.items()} | {id(layer): ""}
    places = {}
    for node in toposort(out):
        if node.op is not None and node.op.name != "transpose":
            assert id(node.scope.module) in owners
            places.setdefault((owners[id(node.scope.module)], node.op.name), []).append(node.scope.step)
    for cell in layer.cells:
        assert sorted(places[cell, "tanh"]) == sorted(2 * list(range(T)))
        assert sorted(places[cell, "sigmoid"]) == sorted(3 * list(range(T)))
    assert sorted(places["", "getitem"]) == sorted(2 * list(range(T)))
    assert sorted(places["", "concatenate"]) == sorted(2 * list(range(T)))
    assert sorted(places["", "mul"]) == list(range(T))  # dropout, between the layers
    assert places["", "stack"] == [None]
    gates = [n for n in toposort(out) if n.name == "f" and n.scope.module is layer.cells["l1_reverse"]]
    assert [n.scope.step for n in gates] == [3, 2, 1, 0]


def test_the_scope_is_restored_after_an_error():
    class Breaks(nn.Module):
        state_size = 1

        def forward(self, x, h):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        nn.Recurrent(Breaks())(np.ones((2, 1, 1)))
    node = tg.Tensor([1.0], requires_grad=True) * 2
    assert (node.scope.module, node.scope.step, node.scope.parent) == (None, None, None)


# -- sizes at the edge, and what is left behind -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_small_sizes(kind):
    layer = KINDS[kind](1, 1, dtype=np.float64)
    x = leaf([[[0.5]]])
    out, last = layer(x)
    assert out.shape == (1, 1, 1)
    np.testing.assert_array_equal(pack_first(last).data, out.data)
    out.sum().backward()
    assert x.grad.item() != 0

    empty = leaf(np.ones((3, 0, 1)))
    out, last = layer(empty)
    assert (out.shape, pack_first(last).shape) == ((3, 0, 1), (1, 0, 1))
    layer.zero_grad()
    out.sum().backward()
    assert empty.grad.shape == (3, 0, 1)
    assert [p.grad.data.tolist() for p in layer.parameters()] == [np.zeros(p.shape).tolist() for p in layer.parameters()]


def test_five_thousand_steps():
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=np.float64)
    layer.load_state_dict({"weight_ih_l0": [[1.0]], "weight_hh_l0": [[1.0]]})
    x = leaf(np.ones((5000, 1, 1)))
    out, last = layer(x)
    np.testing.assert_array_equal(out.data.ravel(), np.arange(1, 5001))
    last.sum().backward()  # h_T is the sum of the inputs
    assert layer.weight_ih_l0.grad.item() == 5000
    assert layer.weight_hh_l0.grad.item() == 4999 * 5000 / 2
    np.testing.assert_array_equal(x.grad.data, np.ones((5000, 1, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_on_the_module(kind):
    layer = KINDS[kind](2, 3, 2)
    x = np.ones((4, 2, 2), np.float32)
    before = {path: dict(vars(module)) for path, module in layer.named_modules()}
    first = layer(x)[0].data.copy()
    np.testing.assert_allclose(layer(x)[0].data, first, rtol=1e-6)
    layer(x[:, :1])
    layer(x[0])
    assert {path: dict(vars(module)) for path, module in layer.named_modules()} == before


def test_dropping_the_output_frees_the_graph_at_once():
    layer = nn.LSTM(2, 3, 2, bidirectional=True, dropout=0.5)
    out, last = layer(np.ones((4, 2, 2), np.float32))
    nodes = [weakref.ref(n) for n in toposort(out, *last) if n.op is not None]
    gc.disable()
    try:
        del out, last
        assert [n() for n in nodes] == [None] * len(nodes)
    finally:
        gc.enable()


def test_without_recording_there_is_no_graph():
    layer = nn.GRU(2, 3)
    x = np.ones((4, 2, 2), np.float32)
    with tg.no_grad():
        out, last = layer(x)
    assert not out.requires_grad
    assert out.op is None
    np.testing.assert_allclose(out.data, layer(x)[0].data, rtol=1e-6)
    with pytest.raises(RuntimeError, match=r"does not require grad and has no graph"):
        last.sum().backward()


def test_truncated_bptt_by_detaching_the_state():
    layer = nn.RNN(1, 1, bias=False, dtype=np.float64)
    layer.load_state_dict({"weight_ih_l0": [[0.5]], "weight_hh_l0": [[0.8]]})
    _, h = layer(np.ones((3, 1, 1)))
    out, _ = layer(np.ones((1, 1, 1)), h.detach())
    out.sum().backward()
    h3 = 0.0
    for _ in range(3):
        h3 = np.tanh(0.5 + 0.8 * h3)
    np.testing.assert_allclose(layer.weight_hh_l0.grad.item(), (1 - np.tanh(0.5 + 0.8 * h3) ** 2) * h3, rtol=1e-14)


def test_two_threads_on_one_module():
    layer = nn.LSTM(3, 8, 2, dtype=np.float64)
    inputs = [np.random.default_rng(i).normal(size=(20, 2, 3)) for i in range(2)]
    alone = []
    for x in inputs:
        x = leaf(x)
        layer(x)[0].sum().backward()
        alone.append(x.grad.data.copy())
    wrong, start = [], threading.Barrier(2)

    def run(i):
        start.wait()
        for _ in range(15):
            x = leaf(inputs[i])
            out, _ = layer(x)
            out.sum().backward()
            steps = {n.scope.step for n in toposort(out) if n.name == "c"}
            if not np.allclose(x.grad.data, alone[i], rtol=0, atol=1e-14) or steps != set(range(20)):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- bad input ----------------------------------------------------------------------------------------------------------------

x = np.ones((5, 2, 3), np.float32)


class Returns(nn.Module):
    """A cell that returns what it is told to."""

    def __init__(self, state_size, *returns):
        self.state_size, self.returns = state_size, returns

    def forward(self, x, state):
        return self.returns[0](state)


def zeros(*shape):
    return tg.Tensor(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.GRU(3, 4)(x[..., :2]), ValueError, r"GRU: expected x of shape \(T, N, 3\) or \(T, 3\) .*got \(5, 2, 2\)"),
        (lambda: nn.GRU(3, 4, batch_first=True)(x.T), ValueError, r"expected x of shape \(N, T, 3\) or .*got \(3, 2, 5\)"),
        (lambda: nn.GRU(3, 4)(x[None]), ValueError, r"expected x of shape .* got \(1, 5, 2, 3\)"),
        (lambda: nn.GRU(3, 4)(x[0, 0]), ValueError, r"expected x of shape .* got \(3,\)"),
        (lambda: nn.GRU(3, 4)(1.0), ValueError, r"expected x of shape .* got \(\)"),
        (lambda: nn.GRU(3, 4)(x[:0]), ValueError, r"with T > 0, got \(0, 2, 3\)"),
        (lambda: nn.GRU(3, 4, batch_first=True)(x[:, :0]), ValueError, r"with T > 0, got \(5, 0, 3\)"),
        (lambda: nn.GRU(3, 4)(x.astype(int)), TypeError, r"GRUCell: .*floating dtype, got int64. Write x.astype"),
        (lambda: nn.RNN(3, 5)(x, zeros(1, 3, 5)), ValueError, r"RNN: Expected hidden size \(1, 2, 5\), got \[1, 3, 5\]"),
        (lambda: nn.RNN(3, 5)(x, zeros(2, 2, 5)), ValueError, r"Expected hidden size \(1, 2, 5\), got \[2, 2, 5\]"),
        (lambda: nn.RNN(3, 5)(x, zeros(2, 5)), ValueError, r"Expected hidden size \(1, 2, 5\), got \[2, 5\]"),
        (lambda: nn.RNN(3, 5)(x[:, 0], zeros(1, 1, 5)), ValueError, r"Expected hidden size \(1, 5\), got \[1, 1, 5\]"),
        (lambda: nn.RNN(3, 5, 2, bidirectional=True)(x, zeros(2, 2, 5)), ValueError, r"size \(4, 2, 5\), got \[2, 2, 5\]"),
        (
            lambda: nn.LSTM(3, 5)(x, (zeros(1, 3, 5), zeros(1, 2, 5))),
            ValueError,
            r"LSTM: Expected hidden\[0\] size \(1, 2, 5\), got \[1, 3, 5\]",
        ),
        (
            lambda: nn.LSTM(3, 5, proj_size=2)(x, (zeros(1, 2, 5), zeros(1, 2, 2))),
            ValueError,
            r"Expected hidden\[0\] size \(1, 2, 2\), got \[1, 2, 5\]",
        ),
        (
            lambda: nn.LSTM(3, 5)(x, (zeros(1, 2, 5), zeros(1, 1, 5))),
            ValueError,
            r"Expected hidden\[1\] size \(1, 2, 5\), got \[1, 1, 5\]",
        ),
        (lambda: nn.LSTM(3, 5)(x, zeros(1, 2, 5)), TypeError, r"state of 2 Tensors in a tuple, got a Tensor; write \(h, c\)"),
        (lambda: nn.LSTM(3, 5)(x, [zeros(1, 2, 5)] * 2), TypeError, r"got a list of Tensor and Tensor; write \(h, c\)"),
        (lambda: nn.LSTM(3, 5)(x, (zeros(1, 2, 5),)), TypeError, r"got a tuple of Tensor; write \(h, c\)"),
        (lambda: nn.LSTM(3, 5)(x, (zeros(1, 2, 5), None)), TypeError, r"got a tuple of Tensor and NoneType; write \(h, c\)"),
        (lambda: nn.GRU(3, 5)(x, (zeros(1, 2, 5), zeros(1, 2, 5))), TypeError, r"state of one Tensor, got a tuple of Tensor"),
        (lambda: nn.GRU(3, 5)(x, [[[0.0] * 5] * 2]), TypeError, r"got a list of list; write tg.Tensor\(h\)"),
        (lambda: nn.RNN(0, 4), ValueError, r"RNNCell: sizes must be positive, got input 0, hidden 4"),
        (lambda: nn.LSTM(3, -4), ValueError, r"LSTMCell: .*hidden.* -4"),
        (lambda: nn.GRU(3, 4.0), TypeError, r"'float' object cannot be interpreted as an integer"),
        (lambda: nn.RNN(3, 4, 0), ValueError, r"RNN: num_layers must be at least 1, got 0"),
        (lambda: nn.RNN(3, 4, 2, dropout=1.5), ValueError, r"RNN: dropout must be between 0 and 1, got 1.5"),
        (lambda: nn.RNN(3, 4, 2, dropout=-0.1), ValueError, r"RNN: dropout must be between 0 and 1, got -0.1"),
        (lambda: nn.RNN(3, 4, 2, dropout=float("nan")), ValueError, r"RNN: dropout must be between 0 and 1, got nan"),
        (lambda: nn.RNN(3, 4, peephole=True), TypeError, r"unexpected keyword argument 'peephole'"),
        (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), ValueError, r"nonlinearity is 'tanh' or 'relu', got 'sigmoid'"),
        (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, r"expected 0 <= proj_size < hidden_size = 4, got 4"),
        (lambda: nn.LSTM(3, 4, proj_size=-1), ValueError, r"expected 0 <= proj_size < hidden_size = 4, got -1"),
        (lambda: nn.GRU(3, 4, dtype=np.int64), TypeError, r"Only Tensors of floating point dtype .*got int64"),
        (
            lambda: nn.Recurrent(Returns(4, lambda h: (h, h)))(x[:1]),
            ValueError,
            r"Returns: state_size=4 means a state of shape \(2, 4\), and forward returned a tuple, \(2, 4\) and \(2, 4\); "
            r"tg.check_cell\(cell\) says what to mend",
        ),
        (
            lambda: nn.Recurrent(Returns((4, 4), list))(x),
            ValueError,
            r"shape \(2, 4\) and \(2, 4\), and forward returned a list",
        ),
        (lambda: nn.Recurrent(Returns(4, lambda h: h[:1]))(x), ValueError, r"returned a Tensor, \(1, 4\); "),
        (lambda: nn.Recurrent(Returns(4, lambda h: 0.0))(x), ValueError, r"returned a float, float; "),
        (
            lambda: nn.Recurrent(nn.RNNCell(3, 4), num_layers=2),
            TypeError,
            r"one cell cannot be several layers or directions.* Recurrent\(lambda n: RNNCell\(n, ...\), 3\)",
        ),
        (lambda: nn.Recurrent(nn.RNNCell(3, 4), bidirectional=True), TypeError, r"one cell cannot be several layers"),
        (lambda: nn.Recurrent(lambda n: nn.RNNCell(n, 4)), TypeError, r"needs input_size, the features of x"),
        (lambda: nn.Recurrent(nn.Linear(3, 4)), TypeError, r"Linear is not a cell: it needs `state_size`"),
        (lambda: nn.Recurrent(nn.LSTM(3, 4)), TypeError, r"LSTM is a layer, .* pass its cell, layer.cells\['l0'\]"),
        (lambda: nn.Recurrent(lambda n: nn.GRU(n, 4), 3, 2), TypeError, r"GRU is a layer, which runs a cell over time"),
        (
            lambda: nn.LSTM(3, 4, zoneout=[0.1, 0.2]),
            ValueError,
            r"zoneout must be between 0 and 1 \(or, for each state, in a tuple\), got \[0.1, 0.2\]",
        ),
        (lambda: nn.GRU(3, 4, 2, dropout=(0.1, 0.2)), ValueError, r"GRU: dropout must be between 0 and 1, got \(0.1, 0.2\)"),
        (lambda: nn.LSTM(3, 4, 2, dropout="0.5"), ValueError, r"LSTM: dropout must be between 0 and 1, got '0.5'"),
        (lambda: nn.Recurrent(5, 3), TypeError, r"Recurrent: expected a cell, or a function that makes one, got a int"),
        (
            lambda: nn.Recurrent(lambda n: nn.RNNCell(n, n + 1), 3, 2),
            ValueError,
            r"every layer and direction needs states of the same size, got l0: 4, l1: 5",
        ),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
