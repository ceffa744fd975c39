"""Linear, Embedding, Dropout, LayerNorm and the losses as modules, against their formulas in NumPy and numbers from torch."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.gradcheck import gradcheck

F = nn.functional
rng = np.random.default_rng(0)


def leaf(array, dtype=np.float64):
    return tg.Tensor(array, requires_grad=True, dtype=dtype)


# -- Linear -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(), (2,), (4, 2), (2, 1, 3), (0,)])
def test_linear(lead, bias):
    layer = nn.Linear(3, 2, bias=bias, dtype=np.float64)
    x, g = leaf(rng.normal(size=(*lead, 3))), rng.normal(size=(*lead, 2))
    y = layer(x)
    w = layer.weight.data
    np.testing.assert_allclose(y.data, x.data @ w.T + (layer.bias.data if bias else 0), rtol=1e-14, atol=1e-15)
    (y * g).sum().backward()
    rows, grads = x.data.reshape(-1, 3), g.reshape(-1, 2)
    np.testing.assert_allclose(x.grad.data, g @ w, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(layer.weight.grad.data, grads.T @ rows, rtol=1e-13, atol=1e-15)
    if bias:
        np.testing.assert_allclose(layer.bias.grad.data, grads.sum(0), rtol=1e-13, atol=1e-15)


def test_initial_values_of_linear_and_embedding():
    tg.manual_seed(0)
    layer, table = nn.Linear(400, 100), nn.Embedding(200, 100)
    for p in layer.parameters():
        assert 0.045 < abs(p.data).max() <= 0.05  # 1 / sqrt(400)
    np.testing.assert_allclose(layer.weight.data.var(), 0.05**2 / 3, rtol=0.05)
    np.testing.assert_allclose([table.weight.data.mean(), table.weight.data.std()], [0, 1], atol=0.02)
    first = [p.data.copy() for p in (*layer.parameters(), table.weight)]
    tg.manual_seed(0)
    again = [p.data for p in (*nn.Linear(400, 100).parameters(), nn.Embedding(200, 100).weight)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


# -- Embedding ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [2, [], [0, 2, 2], [[1], [0]], np.array([3, 3], np.uint8), tg.Tensor([1, 0])], ids=repr)
def test_embedding(indices):
    table = nn.Embedding(4, 3, dtype=np.float64)
    plain = indices.numpy() if isinstance(indices, tg.Tensor) else np.array(indices, dtype=int)
    y = table(plain if plain.size == 0 else indices)
    np.testing.assert_array_equal(y.data, table.weight.data[plain])
    g = rng.normal(size=y.shape)
    (y * g).sum().backward()
    expected = np.zeros((4, 3))
    for i, row in zip(plain.ravel(), g.reshape(-1, 3), strict=True):
        expected[i] += row
    np.testing.assert_allclose(table.weight.grad.data, expected, rtol=1e-14)


# -- Dropout ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_a_share_and_scales_the_rest(p):
    tg.manual_seed(1)
    x = leaf(np.full((100, 100), 3.0))
    y = nn.Dropout(p)(x)
    kept = y.data != 0
    np.testing.assert_allclose(y.data[kept], 3 / (1 - p), rtol=1e-15)
    assert abs(kept.mean() - (1 - p)) < 0.02
    y.sum().backward()
    np.testing.assert_allclose(x.grad.data, kept / (1 - p), rtol=1e-15)


def test_dropout_repeats_with_the_seed_and_differs_without():
    layer, x = nn.Dropout(0.5), np.ones(50)
    tg.manual_seed(7)
    first, second = layer(x).data.tolist(), layer(x).data.tolist()
    tg.manual_seed(7)
    assert layer(x).data.tolist() == first
    assert first != second


def test_dropout_at_its_ends_and_in_eval():
    x = np.array([1.0, -2.0])
    assert nn.Dropout(0)(x).data.tolist() == [1, -2]
    assert nn.Dropout(0.9).eval()(x).data.tolist() == [1, -2]
    dropped = leaf(x)
    y = nn.Dropout(1)(dropped)
    assert abs(y.data).tolist() == [0, 0]
    y.sum().backward()
    assert dropped.grad.data.tolist() == [0, 0]


# -- LayerNorm ----------------------------------------------------------------------------------------------------------------


def test_layer_norm_takes_a_length_of_numpys():
    assert nn.LayerNorm(np.int64(3)).normalized_shape == nn.LayerNorm(3).normalized_shape == (3,)


def test_layer_norm_is_what_torch_gave():
    layer = nn.LayerNorm(3, dtype=np.float64)
    layer.load_state_dict({"weight": [1, 2, 3], "bias": [0.1, 0.2, 0.3]})
    x = leaf([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    y = layer(x)
    (y * np.array([[1.0, 2, 3], [4, 5, 6]])).sum().backward()
    expected = {
        "y": [[1.3247407889291, -2.24948157785819, 0.3], [-0.06222122902679, 2.79553966442863, -3.10664580956258]],
        "x": [
            [-1.7690781933373, -1.76906186356898, 3.53814005690628],
            [-3.45787306056148, 1.38314538215195, 2.07472767840953],
        ],
        "weight": [0.57585587282194, 4.03936758321338, -6.81329161912515],
        "bias": [5, 7, 9],
    }
    found = {"y": y, "x": x.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].data, value, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(4,), (2, 4)])
def test_layer_norm_over_the_last_axes(shape, bias):
    layer = nn.LayerNorm(shape if len(shape) > 1 else shape[0], eps=1e-3, bias=bias, dtype=np.float64)
    layer.weight.data = rng.normal(size=shape)
    x = leaf(rng.normal(size=(3, 2, 4)))
    axes = tuple(range(-len(shape), 0))
    expected = (
        (x.data - x.data.mean(axes, keepdims=True)) / np.sqrt(x.data.var(axes, keepdims=True) + 1e-3) * layer.weight.data
    )
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-13)
    assert list(layer.state_dict()) == ["weight", "bias"][: 1 + bias]
    assert gradcheck(lambda *_: layer(x), [x, *layer.parameters()])


# -- all of them --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make", [lambda d: nn.Linear(4, 4, dtype=d), lambda d: nn.Dropout(0.3), lambda d: nn.LayerNorm(4, dtype=d)]
)
def test_the_dtype_is_kept(make, dtype):
    layer, x = make(dtype), leaf(rng.normal(size=(3, 4)), dtype)
    y = layer(x)
    y.sum().backward()
    assert {y.dtype, x.grad.dtype, *(p.grad.dtype for p in layer.parameters())} == {np.dtype(dtype)}
    assert {p.dtype for p in nn.Embedding(2, 2, dtype=dtype).parameters()} == {np.dtype(dtype)}


y, t, logits, classes = rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(0, 1, (3, 4)), rng.normal(size=(3, 4)), np.array([0, 3, 1])


@pytest.mark.parametrize(
    ("module", "function", "args"),
    [
        (nn.MSELoss("sum"), lambda: F.mse_loss(y, t, "sum"), (y, t)),
        (nn.L1Loss("none"), lambda: F.l1_loss(y, t, "none"), (y, t)),
        (nn.SmoothL1Loss("sum", 0.1), lambda: F.smooth_l1_loss(y, t, "sum", beta=0.1), (y, t)),
        (nn.BCELoss(), lambda: F.binary_cross_entropy(y, t), (y, t)),
        (nn.BCEWithLogitsLoss("none"), lambda: F.binary_cross_entropy_with_logits(logits, t, "none"), (logits, t)),
        (
            nn.CrossEntropyLoss(ignore_index=3, reduction="sum", label_smoothing=0.2),
            lambda: F.cross_entropy(logits, classes, ignore_index=3, reduction="sum", label_smoothing=0.2),
            (logits, classes),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_loss_module_is_its_function(module, function, args):
    np.testing.assert_array_equal(module(*args).data, function().data)
    assert module.parameters() == []


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.Linear(3, 2)(np.ones((2, 4))), ValueError, r"Linear: expected input \(..., 3\), got \(2, 4\)"),
        (lambda: nn.Linear(3, 2)(1.0), ValueError, r"Linear: expected input \(..., 3\), got \(\)"),
        (
            lambda: nn.Linear(3, 2)([1, 2, 3]),
            TypeError,
            r"Linear: expected input of a floating dtype, got int64. Write x.astype",
        ),
        (lambda: nn.Linear(0, 2), ValueError, r"Linear: sizes must be positive, got in 0, out 2"),
        (lambda: nn.Linear(3, -2), ValueError, r"Linear: sizes must be positive, got in 3, out -2"),
        (lambda: nn.Embedding(0, 2), ValueError, r"Embedding: sizes must be positive, got 0 rows of 2"),
        (lambda: nn.Embedding(2, -1), ValueError, r"Embedding: sizes must be positive, got 2 rows of -1"),
        (
            lambda: nn.Embedding(4, 2)([0, 4]),
            IndexError,
            r"Embedding: indices lie between 0 and 4, and the table has rows 0 ... 3",
        ),
        (lambda: nn.Embedding(4, 2)([-1]), IndexError, r"indices lie between -1 and -1, and the table has rows 0 ... 3"),
        (lambda: nn.Embedding(4, 2)([1.0]), TypeError, r"expected integers, got dtype float64; write x.astype\(np.int64\)"),
        (lambda: nn.Embedding(4, 2)([True]), TypeError, r"expected integers, got dtype bool"),
        (lambda: nn.Dropout(1.1), ValueError, r"Dropout: p must be between 0 and 1, got 1.1"),
        (lambda: nn.Dropout(-0.1), ValueError, r"Dropout: p must be between 0 and 1, got -0.1"),
        (lambda: nn.Dropout(0.5)([1, 2]), TypeError, r"dropout: expected a floating dtype, got .*int64\): write x.astype"),
        (lambda: F.dropout(np.ones(2), float("nan")), ValueError, r"dropout: p must be between 0 and 1, got nan"),
        (
            lambda: nn.LayerNorm(3)(np.ones((2, 4))),
            ValueError,
            r"LayerNorm: expected the last axes to be \(3,\), got \(2, 4\)",
        ),
        (lambda: nn.LayerNorm((2, 3))(np.ones(3)), ValueError, r"expected the last axes to be \(2, 3\), got \(3,\)"),
        (
            lambda: nn.LayerNorm(3)(np.ones((2, 3), int)),
            TypeError,
            r"LayerNorm: expected input of a floating dtype, got int64",
        ),
        (lambda: nn.LayerNorm(0), ValueError, r"LayerNorm: sizes must be positive, got \(0,\)"),
        (lambda: nn.MSELoss("avg"), ValueError, r"MSELoss: reduction is 'mean', 'sum' or 'none', got 'avg'"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
