"""Initial values: spreads by formula, orthogonality, repeatability, what is written in place, and what is refused."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import init


@pytest.fixture(autouse=True)
def _seeded():
    tg.manual_seed(0)


def leaf(*shape, dtype=np.float64):
    return tg.Tensor(np.full(shape, np.nan), dtype=dtype)


EVERY = {
    "constant_": lambda w: init.constant_(w, 0.25),
    "zeros_": init.zeros_,
    "ones_": init.ones_,
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "orthogonal_": init.orthogonal_,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EVERY)
def test_a_leaf_is_written_in_place_and_returned(name, dtype):
    layer = nn.Linear(6, 4, dtype=dtype)
    weight = layer.weight
    loss = (weight * weight).sum()
    assert EVERY[name](weight) is weight is layer.weight
    assert (weight.shape, weight.dtype, weight.requires_grad) == ((4, 6), dtype, True)
    assert np.isfinite(weight.data).all()
    with pytest.raises(RuntimeError, match=r"modified by an in-place operation: 'weight'"):
        loss.backward()


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_draws_the_same_numbers(name):
    draws = []
    for seed in (1, 1, 2):
        tg.manual_seed(seed)
        draws.append(EVERY[name](leaf(4, 6)).numpy())
    assert (draws[0] == draws[1]).all()
    assert (draws[0] == draws[2]).all() == (name in ("constant_", "zeros_", "ones_"))


def test_constants():
    values = [f(leaf(2)).data.tolist() for f in (init.zeros_, init.ones_, lambda w: init.constant_(w, -2.5))]
    assert values == [[0, 0], [1, 1], [-2.5, -2.5]]


SQUARE_ROOT_OF_3 = math.sqrt(3)
SPREADS = [  # shape, the standard deviation that the formula gives
    (lambda w: init.uniform_(w, -1, 3), lambda w: init.normal_(w, 1, 2 / SQUARE_ROOT_OF_3), (300, 200), 2 / SQUARE_ROOT_OF_3),
    (init.xavier_uniform_, init.xavier_normal_, (300, 200), math.sqrt(2 / 500)),
    (lambda w: init.xavier_uniform_(w, 2.0), lambda w: init.xavier_normal_(w, 2.0), (20, 50, 40), 2 * math.sqrt(2 / 2800)),
    (init.kaiming_uniform_, init.kaiming_normal_, (300, 200), math.sqrt(2 / 200)),
    (
        lambda w: init.kaiming_uniform_(w, 0.5, "fan_out"),
        lambda w: init.kaiming_normal_(w, 0.5, "fan_out"),
        (300, 200),
        math.sqrt(2 / 1.25 / 300),
    ),
    (
        lambda w: init.kaiming_uniform_(w, nonlinearity="tanh"),
        lambda w: init.kaiming_normal_(w, nonlinearity="tanh"),
        (300, 40, 5),
        5 / 3 / math.sqrt(200),
    ),
]


@pytest.mark.parametrize(("uniform", "normal", "shape", "std"), SPREADS)
def test_spreads(uniform, normal, shape, std):
    values = uniform(leaf(*shape)).data
    center = 1 if values.max() > 2 else 0
    half = std * SQUARE_ROOT_OF_3
    np.testing.assert_allclose([values.min(), values.max()], [center - half, center + half], atol=2e-3 * half)
    np.testing.assert_allclose([values.mean() - center, values.std()], [0, std], atol=0.015 * std)
    values = normal(leaf(*shape)).data
    np.testing.assert_allclose([values.mean() - center, values.std()], [0, std], atol=0.015 * std)
    assert 3.5 < abs(values - center).max() / std < 6


def test_gains():
    gains = [init.calculate_gain(name) for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")]
    np.testing.assert_allclose(gains, [1, 1, 1.6666666666666667, 1.4142135623730951, 1.4141428569978354, 0.75], rtol=1e-15)
    assert init.calculate_gain("leaky_relu", 1.0) == 1


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3), (1, 6), (6, 1)])
@pytest.mark.parametrize("gain", [1, 0.5])
def test_orthogonal(shape, gain):
    q = init.orthogonal_(leaf(*shape), gain).data.reshape(shape[0], -1)
    q = q if q.shape[0] >= q.shape[1] else q.T
    np.testing.assert_allclose(q.T @ q, gain**2 * np.eye(q.shape[1]), atol=1e-12)


def test_all_orthogonal_matrices_are_equally_likely():
    """The diagonal of a Haar-distributed matrix has mean 0 and mean square 1/n; qr alone would give it one sign."""
    diagonals = np.array([np.diagonal(init.orthogonal_(leaf(3, 3)).data) for _ in range(2000)])
    np.testing.assert_allclose(diagonals.mean(0), 0, atol=0.05)
    np.testing.assert_allclose((diagonals**2).mean(0), 1 / 3, atol=0.03)


@pytest.mark.parametrize("make", [lambda: nn.LSTM(2, 3), lambda: nn.LSTM(2, 3, num_layers=2, bidirectional=True)])
def test_the_forget_bias(make):
    lstm = make()
    before = lstm.state_dict()
    for name, parameter in lstm.named_parameters():
        if name.startswith("bias_ih"):
            assert init.forget_bias_(parameter) is parameter
        elif name.startswith("bias_hh"):
            init.forget_bias_(parameter, 0)
    for name, parameter in lstm.named_parameters():
        expected = before[name]
        if name.startswith("bias"):
            expected[3:6] = name.startswith("bias_ih")
        assert (parameter.data == expected).all()


def test_the_forget_bias_keeps_the_state():
    """With all other numbers at 0, c' = sigmoid(bias) * c."""
    lstm = nn.LSTMCell(2, 3, dtype=np.float64)
    for parameter in lstm.parameters():
        init.zeros_(parameter)
    init.forget_bias_(lstm.bias_ih, 4.0)
    c = np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_allclose(lstm(np.ones((1, 2)), (np.zeros((1, 3)), c))[1].data, c / (1 + math.exp(-4)), rtol=1e-14)


# -- bad input ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: init.uniform_(leaf(2), 1, 0), ValueError, r"uniform_: expected a <= b, got a=1 and b=0"),
        (lambda: init.normal_(leaf(2), 0, -1), ValueError, r"normal_: std must not be negative, got -1"),
        (
            lambda: init.xavier_uniform_(leaf(3)),
            ValueError,
            r"can not be computed for tensor with fewer than 2 dimensions, got a Tensor \(shape \(3,\), float64\)",
        ),
        (lambda: init.kaiming_normal_(leaf()), ValueError, r"can not be computed for tensor with fewer than 2 dimensions"),
        (
            lambda: init.kaiming_uniform_(leaf(2, 2), mode="fan"),
            ValueError,
            r"Mode fan not supported, please use one of 'fan_in', 'fan_out'",
        ),
        (
            lambda: init.kaiming_uniform_(leaf(2, 2), nonlinearity="gelu"),
            ValueError,
            r"Unsupported nonlinearity gelu: expected one of linear, sigmoid, tanh, selu, relu, leaky_relu",
        ),
        (lambda: init.calculate_gain("Tanh"), ValueError, r"Unsupported nonlinearity Tanh"),
        (lambda: init.orthogonal_(leaf(3)), ValueError, r"Only tensors with 2 or more dimensions are supported, got a Tensor"),
        (lambda: init.forget_bias_(leaf(4, 4)), ValueError, r"expected the bias of an LSTM, of shape \(4 \* hidden,\), got"),
        (lambda: init.forget_bias_(leaf(6)), ValueError, r"forget_bias_: expected the bias of an LSTM"),
        (
            lambda: init.zeros_(np.ones(2)),
            TypeError,
            r"expected a leaf Tensor to write into, such as layer.weight, got a ndarray",
        ),
        (lambda: init.ones_(nn.Parameter([1.0]) * 2), RuntimeError, r"cannot assign .data of .*: it was computed by mul"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
