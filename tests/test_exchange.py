"""Weights from and to other frameworks: the official safetensors, PyTorch, Keras, and ONNX' layouts."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.checkpoint import from_keras, from_onnx_weights, load, save, to_keras, to_onnx_weights
from tinygrad_rnn.checkpoint.safetensors import CODES, write
from tinygrad_rnn.nn import zoo

LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


@pytest.fixture(autouse=True)
def _seed():
    tg.manual_seed(11)


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


def assert_states_equal(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# -- the official safetensors package ----------------------------------------------------------------------------------------

SHAPES = [(), (3,), (0, 2), (2, 2)]
ARRAYS = {f"{name}.{i}": np.ones(shape, name) for name in CODES for i, shape in enumerate(SHAPES)}
ARRAYS |= {name: np.zeros(i) for i, name in enumerate(['é"\\\n\x01\x7f', "", "a.b", "Z", "\U0001d11e", "\uff5a"])}
ARRAYS["big"] = np.arange(3, dtype=">i4")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"k": 'é"\n'}])
@pytest.mark.parametrize("count", [0, 1, 2, len(ARRAYS)])
def test_our_bytes_are_those_of_the_official_writer(tmp_path, metadata, count):
    official = pytest.importorskip("safetensors.numpy")
    arrays = dict(list(ARRAYS.items())[-count:] if count else [])
    write(tmp_path / "ours", arrays, metadata)
    assert (tmp_path / "ours").read_bytes() == official.save(arrays, metadata or None)


def test_the_official_reader_and_ours_read_the_same(tmp_path):
    official = pytest.importorskip("safetensors.numpy")
    official.save_file(ARRAYS, tmp_path / "theirs")
    save(tmp_path / "ours", ARRAYS)
    assert_states_equal(load(tmp_path / "theirs"), ARRAYS)
    assert_states_equal(official.load_file(tmp_path / "ours"), ARRAYS)
    assert {name: a.dtype for name, a in load(tmp_path / "theirs").items()} == {
        name: a.dtype.newbyteorder("=") for name, a in ARRAYS.items()
    }


def test_the_official_reader_opens_a_nested_state(tmp_path):
    official = pytest.importorskip("safetensors")
    lstm = nn.LSTM(2, 3)
    save(tmp_path / "x", {"model": lstm.state_dict(), "epoch": 3})
    with official.safe_open(tmp_path / "x", "np") as file:
        assert_states_equal({n.removeprefix("model."): file.get_tensor(n) for n in file.keys()}, lstm.state_dict())  # noqa: SIM118


# -- PyTorch -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("kind", LAYERS)
def test_pytorch_weights_travel_both_ways_through_safetensors(tmp_path, kind):
    torch, official = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    theirs = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=True)
    ours = LAYERS[kind](3, 4, num_layers=2, bidirectional=True)
    x = draw(5, 2, 3)

    def agree():
        expected = theirs(torch.from_numpy(x))[0].detach().numpy()
        np.testing.assert_allclose(ours(x)[0].numpy(), expected, rtol=0, atol=1e-6)

    official.save_file(theirs.state_dict(), tmp_path / "theirs")
    ours.load_state_dict(load(tmp_path / "theirs"))
    agree()
    ours.load_state_dict({name: array * 0.5 for name, array in ours.state_dict().items()})
    save(tmp_path / "ours", ours.state_dict())
    theirs.load_state_dict(official.load_file(tmp_path / "ours"))
    agree()


@pytest.mark.parity
def test_pytorch_bfloat16_is_read_as_float32(tmp_path):
    torch, official = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    numbers = torch.tensor([0.1, -3.7, 1e30, float("inf"), 1e-40, -0.0]).bfloat16()
    official.save_file({"x": numbers}, tmp_path / "x")
    np.testing.assert_array_equal(load(tmp_path / "x")["x"], numbers.float().numpy())


# -- Keras: the layouts against a forward written by Keras' own equations ----------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def keras_rnn(x, w, h, c):
    return np.tanh(x @ w["kernel"] + w["bias"] + h @ w["recurrent_kernel"]), c


def keras_lstm(x, w, h, c):
    z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]
    z0, z1, z2, z3 = np.split(z, 4, axis=1)
    i, f = sigmoid(z0), sigmoid(z1)
    c = f * c + i * np.tanh(z2)
    return sigmoid(z3) * np.tanh(c), c


def keras_gru(x, w, h, c):
    x_z, x_r, x_h = np.split(x @ w["kernel"] + w["bias"][0], 3, axis=1)
    recurrent_z, recurrent_r, recurrent_h = np.split(h @ w["recurrent_kernel"] + w["bias"][1], 3, axis=1)
    z, r = sigmoid(x_z + recurrent_z), sigmoid(x_r + recurrent_r)
    hh = np.tanh(x_h + r * recurrent_h)
    return z * h + (1 - z) * hh, c


def keras_gru_reset_before(x, w, h, c):
    x_z, x_r, x_h = np.split(x @ w["kernel"] + w["bias"], 3, axis=1)
    u_z, u_r, u_h = np.split(w["recurrent_kernel"], 3, axis=1)
    z, r = sigmoid(x_z + h @ u_z), sigmoid(x_r + h @ u_r)
    hh = np.tanh(x_h + (r * h) @ u_h)
    return z * h + (1 - z) * hh, c


KERAS = {"RNN": (1, keras_rnn), "LSTM": (4, keras_lstm), "GRU": (3, keras_gru)}


def keras_weights(kind, features=3, hidden=5):
    columns, rng = KERAS[kind][0] * hidden, np.random.default_rng(3)
    shapes = {"kernel": (features, columns), "recurrent_kernel": (hidden, columns)}
    shapes["bias"] = (2, columns) if kind == "GRU" else (columns,)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", KERAS)
def test_keras_weights_give_what_keras_gives(kind):
    weights, x = keras_weights(kind), draw(7, 2, 3, dtype=float)
    layer = LAYERS[kind](3, 5, dtype=np.float64)
    layer.load_state_dict(from_keras(kind, weights))
    h = c = np.zeros((2, 5))
    for t, y in enumerate(layer(x)[0].numpy()):
        h, c = KERAS[kind][1](x[t], weights, h, c)
        np.testing.assert_allclose(y, h, rtol=0, atol=1e-12)


def test_a_keras_gru_that_resets_before_the_product():
    weights, x, h = keras_weights("GRU"), draw(7, 2, 3, dtype=float), np.zeros((2, 5))
    weights["bias"] = weights["bias"][0]
    layer = nn.Recurrent(zoo.ResetBeforeGRUCell(3, 5, dtype=np.float64))
    layer.load_state_dict(from_keras("GRU", weights, reset_after=False))
    for t, y in enumerate(layer(x)[0].numpy()):
        h, _ = keras_gru_reset_before(x[t], weights, h, None)
        np.testing.assert_allclose(y, h, rtol=0, atol=1e-12)
    assert_states_equal(to_keras("GRU", layer.state_dict(), reset_after=False), weights)
    del weights["bias"]
    assert_states_equal(to_keras("GRU", from_keras("GRU", weights, "", reset_after=False), "", reset_after=False), weights)
    with pytest.raises(KeyError, match="expected a ResetBeforeGRUCell, with weight_in_l0 and weight_hn_l0 in its state dict"):
        to_keras("GRU", nn.GRU(2, 3).state_dict(), reset_after=False)


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("suffix", ["", "l0", "l1_reverse"])
def test_keras_weights_come_back(kind, suffix):
    weights = keras_weights(kind)
    state = from_keras(kind, weights, suffix)
    assert list(state) == [
        name + (f"_{suffix}" if suffix else "") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    assert_states_equal(to_keras(kind, state, suffix), weights)
    del weights["bias"]
    assert_states_equal(to_keras(kind, from_keras(kind, weights)), weights)


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_two_biases_become_their_sum(kind):
    state = LAYERS[kind](3, 5).state_dict()
    np.testing.assert_array_equal(to_keras(kind, state)["bias"], state["bias_ih_l0"] + state["bias_hh_l0"])


def test_wrong_keras_weights_are_refused():
    weights = keras_weights("GRU")
    with pytest.raises(ValueError, match=r"one bias was made with reset_after=False.*another model"):
        from_keras("GRU", {**weights, "bias": weights["bias"][0]})
    with pytest.raises(ValueError, match=r"bias: expected shape \(20\), got \(2, 15\)"):
        from_keras("LSTM", {**keras_weights("LSTM"), "bias": weights["bias"]})
    with pytest.raises(ValueError, match=r"recurrent_kernel: expected shape \(hidden, 20\), got \(5, 15\)"):
        from_keras("LSTM", weights)
    with pytest.raises(ValueError, match=r"kernel: expected shape \(features, 15\), got \(3,\)"):
        from_keras("GRU", {**weights, "kernel": np.ones(3)})
    with pytest.raises(KeyError, match="expected kernel, recurrent_kernel and, if there is one, bias; got kernel, gamma"):
        from_keras("GRU", {"kernel": weights["kernel"], "gamma": weights["kernel"]})
    with pytest.raises(ValueError, match="expected one of RNN, LSTM, GRU, got 'SimpleRNN'"):
        from_keras("SimpleRNN", weights)


def test_state_dicts_that_have_no_place_elsewhere_are_refused():
    with pytest.raises(ValueError, match="weight_hr_l0: a projection"):
        to_keras("LSTM", nn.LSTM(2, 4, proj_size=3).state_dict())
    with pytest.raises(KeyError, match="expected weight_ih_l1 and weight_hh_l1 in the state dict, got weight_ih_l0"):
        to_onnx_weights("LSTM", nn.LSTM(2, 4).state_dict(), layer=1)
    with pytest.raises(ValueError, match=r"weight_hh_l0: expected shape \(12, hidden\), got \(16, 4\)"):
        to_onnx_weights("GRU", nn.LSTM(2, 4).state_dict())
    state = nn.LSTM(2, 4).state_dict()
    del state["bias_hh_l0"]
    with pytest.raises(KeyError, match="expected both bias_ih_l0 and bias_hh_l0"):
        to_keras("LSTM", state)


# -- ONNX: the layouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_onnx_weights_come_back(kind, bidirectional, bias):
    state = LAYERS[kind](3, 4, num_layers=2, bias=bias, bidirectional=bidirectional).state_dict()
    found = {}
    for layer in range(2):
        found |= from_onnx_weights(kind, **to_onnx_weights(kind, state, layer), layer=layer)
    assert_states_equal(found, state)


def test_onnx_weights_are_in_onnx_order():
    state = {"weight_ih_l0": np.repeat([1, 2, 3, 4], 2)[:, None], "weight_hh_l0": np.repeat([1, 2, 3, 4], 2)[:, None] * [1, 1]}
    state |= {"bias_ih_l0": np.repeat([1, 2, 3, 4], 2), "bias_hh_l0": np.repeat([5, 6, 7, 8], 2)}
    W, R, B = to_onnx_weights("LSTM", state).values()
    assert W[0, ::2, 0].tolist() == R[0, ::2, 1].tolist() == [1, 4, 2, 3]
    assert B[0, ::2].tolist() == [1, 4, 2, 3, 5, 8, 6, 7]
    gru = {name: array[:6] for name, array in state.items()}
    assert to_onnx_weights("GRU", gru)["B"][0, ::2].tolist() == [2, 1, 3, 6, 5, 7]


def test_wrong_onnx_weights_are_refused():
    W, R, B = to_onnx_weights("LSTM", nn.LSTM(2, 3).state_dict()).values()
    with pytest.raises(ValueError, match=r"W: expected shape \(1, 12, features\), got \(12, 2\)"):
        from_onnx_weights("LSTM", W[0], R, B)
    with pytest.raises(ValueError, match=r"R: expected shape \(1, 9, hidden\), got \(1, 12, 3\)"):
        from_onnx_weights("GRU", W, R, B)
    with pytest.raises(ValueError, match=r"B: expected shape \(1, 24\), got \(1, 12\)"):
        from_onnx_weights("LSTM", W, R, B[:, :12])
    with pytest.raises(ValueError, match="R: expected one direction or two on the first axis, got 3"):
        from_onnx_weights("LSTM", W, np.repeat(R, 3, axis=0), B)
