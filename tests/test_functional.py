"""Losses and softmax: numbers that torch 2.13.0 gave once, finite differences, and inputs that overflow naive formulas."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.gradcheck import gradcheck

F = nn.functional


def leaf(array, dtype=np.float64):
    return tg.Tensor(array, requires_grad=True, dtype=dtype)


X, T = [[-2.0, 0.3], [1.5, 0.9]], [[0.5, 0.2], [-1.0, 0.9]]
P, B, LOGITS = [[0.1, 0.9], [0.5, 0.999]], [[0.0, 1.0], [0.25, 0.0]], [[-2.0, 0.3], [1.5, 30.0]]
SCORES, CLASSES = [[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 4.0]], [0, 2, 1]

# Loss, arguments, reduction; then the loss and its gradient, flattened. For "none" the elements were weighed by 1, 2, 3, ...
GOLDEN = [
    ("mse_loss", X, T, {}, "none", [6.25, 0.01, 6.25, 0.0], [-5.0, 0.4, 15.0, 0.0]),
    ("mse_loss", X, T, {}, "mean", [3.1275], [-1.25, 0.05, 1.25, 0.0]),
    ("mse_loss", X, T, {}, "sum", [12.51], [-5.0, 0.2, 5.0, 0.0]),
    ("l1_loss", X, T, {}, "none", [2.5, 0.1, 2.5, 0.0], [-1.0, 2.0, 3.0, 0.0]),
    ("l1_loss", X, T, {}, "mean", [1.275], [-0.25, 0.25, 0.25, 0.0]),
    ("l1_loss", X, T, {}, "sum", [5.1], [-1.0, 1.0, 1.0, 0.0]),
    ("smooth_l1_loss", X, T, {}, "none", [2.0, 0.005, 2.0, 0.0], [-1.0, 0.2, 3.0, 0.0]),
    ("smooth_l1_loss", X, T, {}, "mean", [1.00125], [-0.25, 0.025, 0.25, 0.0]),
    ("smooth_l1_loss", X, T, {}, "sum", [4.005], [-1.0, 0.1, 1.0, 0.0]),
    ("smooth_l1_loss", X, T, {"beta": 3.0}, "none", [1.04166666667, 0.00166666666667, 1.04166666667, 0.0],
     [-0.833333333333, 0.0666666666667, 2.5, 0.0]),
    ("smooth_l1_loss", X, T, {"beta": 3.0}, "mean", [0.52125], [-0.208333333333, 0.00833333333333, 0.208333333333,
     0.0]),
    ("smooth_l1_loss", X, T, {"beta": 3.0}, "sum", [2.085], [-0.833333333333, 0.0333333333333, 0.833333333333, 0.0]),
    ("binary_cross_entropy", P, B, {}, "none", [0.105360515658, 0.105360515658, 0.69314718056, 6.90775527898],
     [1.11111111111, -2.22222222222, 3.0, 4000.0]),
    ("binary_cross_entropy", P, B, {}, "mean", [1.95290587271], [0.277777777778, -0.277777777778, 0.25, 250.0]),
    ("binary_cross_entropy", P, B, {}, "sum", [7.81162349086], [1.11111111111, -1.11111111111, 1.0, 1000.0]),
    ("binary_cross_entropy_with_logits", LOGITS, B, {}, "none", [0.126928011043, 0.554355244469, 1.32641327798, 30.0],
     [0.119202922022, -0.851114966377, 1.70272342858, 4.0]),
    ("binary_cross_entropy_with_logits", LOGITS, B, {}, "mean", [8.00192413337], [0.0298007305055, -0.106389370797,
     0.141893619048, 0.25]),
    ("binary_cross_entropy_with_logits", LOGITS, B, {}, "sum", [32.0076965335], [0.119202922022, -0.425557483188,
     0.567574476194, 1.0]),
    ("cross_entropy", SCORES, CLASSES, {}, "none", [0.241311296657, 5.05498523538, 3.09492295642], [-0.214402965411,
     0.0391125732707, 0.17529039214, 0.0942468330493, 1.89299824511, -1.98724507816, 0.135835502231, -2.86416449777,
     2.72832899554]),
    ("cross_entropy", SCORES, CLASSES, {}, "mean", [2.79707316282], [-0.0714676551369, 0.0130375244236, 0.0584301307134,
     0.0157078055082, 0.315499707518, -0.331207513026, 0.0150928335812, -0.318240499752, 0.303147666171]),
    ("cross_entropy", SCORES, CLASSES, {}, "sum", [8.39121948846], [-0.214402965411, 0.0391125732707, 0.17529039214,
     0.0471234165247, 0.946499122553, -0.993622539078, 0.0452785007436, -0.954721499256, 0.909442998513]),
    ("cross_entropy", SCORES, CLASSES, {"ignore_index": 2}, "none", [0.241311296657, 0.0, 3.09492295642],
     [-0.214402965411, 0.0391125732707, 0.17529039214, 0.0, 0.0, 0.0, 0.135835502231, -2.86416449777, 2.72832899554]),
    ("cross_entropy", SCORES, CLASSES, {"ignore_index": 2}, "mean", [1.66811712654], [-0.107201482705, 0.0195562866353,
     0.08764519607, 0.0, 0.0, 0.0, 0.0226392503718, -0.477360749628, 0.454721499256]),
    ("cross_entropy", SCORES, CLASSES, {"ignore_index": 2}, "sum", [3.33623425308], [-0.214402965411, 0.0391125732707,
     0.17529039214, 0.0, 0.0, 0.0, 0.0452785007436, -0.954721499256, 0.909442998513]),
    ("cross_entropy", SCORES, CLASSES, {"label_smoothing": 0.1}, "none", [0.391311296657, 4.82165190204, 2.99492295642],
     [-0.147736298744, 0.00577923993735, 0.141957058807, 0.0275801663827, 1.82633157844, -1.85391174482,
     0.0358355022309, -2.66416449777, 2.62832899554]),
    ("cross_entropy", SCORES, CLASSES, {"label_smoothing": 0.1}, "mean", [2.73596205171], [-0.0492454329147,
     0.00192641331245, 0.0473190196022, 0.00459669439711, 0.304388596407, -0.308985290804, 0.0039817224701,
     -0.29601827753, 0.29203655506]),
    ("cross_entropy", SCORES, CLASSES, {"label_smoothing": 0.1}, "sum", [8.20788615512], [-0.147736298744,
     0.00577923993735, 0.141957058807, 0.0137900831913, 0.91316578922, -0.926955872411, 0.0119451674103, -0.88805483259,
     0.876109665179]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "x", "t", "options", "reduction", "value", "gradient"), GOLDEN)
def test_losses_and_their_gradients_are_those_that_torch_gave(name, x, t, options, reduction, value, gradient):
    x = leaf(x)
    loss = getattr(F, name)(x, t, reduction=reduction, **options)
    np.testing.assert_allclose(loss.data.ravel(), value, rtol=1e-11, atol=1e-13)
    assert loss.shape == (() if reduction != "none" else np.shape(t))
    (loss * np.arange(1.0, 1 + loss.size).reshape(loss.shape)).sum().backward()
    np.testing.assert_allclose(x.grad.data.ravel(), gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "name", ["mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"]
)
def test_gradients_of_elementwise_losses_with_respect_to_both(name, reduction):
    rng = np.random.default_rng(0)
    x, t = rng.uniform(0.1, 0.45, (2, 3)), rng.uniform(0.55, 0.9, (2, 3))
    second_order = name not in ("l1_loss", "smooth_l1_loss")
    assert gradcheck(lambda a, b: getattr(F, name)(a, b, reduction=reduction), [x, t], second_order=second_order)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 4, 3), (2, 4, 3, 2), (0, 4)], ids=repr)
def test_cross_entropy_of_any_rank(shape, smoothing):
    rng = np.random.default_rng(0)
    classes = shape[0] if len(shape) == 1 else shape[1]
    x, t = rng.normal(size=shape), rng.integers(0, classes, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    last = x if len(shape) == 1 else np.moveaxis(x, 1, -1)
    logp = last - np.log(np.exp(last).sum(-1, keepdims=True))
    wanted = np.eye(classes)[t] * (1 - smoothing) + smoothing / classes
    expected = -(wanted * logp).sum(-1)

    def loss(x):
        return F.cross_entropy(x, t, reduction="none", label_smoothing=smoothing)

    np.testing.assert_allclose(loss(x).data, expected, rtol=1e-13)
    np.testing.assert_allclose(
        F.cross_entropy(x, t, reduction="sum", label_smoothing=smoothing).item(), expected.sum(), rtol=1e-13
    )
    assert gradcheck(loss, x, second_order=True)


def test_what_is_ignored_has_no_gradient_and_no_part_in_the_mean():
    x, t = leaf(SCORES), np.array([0, -100, 1])
    F.cross_entropy(x, t).backward()
    kept = leaf([SCORES[0], SCORES[2]])
    F.cross_entropy(kept, [0, 1]).backward()
    np.testing.assert_allclose(x.grad.data[[0, 2]], kept.grad.data, rtol=1e-14)
    assert x.grad.data[1].tolist() == [0, 0, 0]
    assert F.cross_entropy(SCORES, [-100] * 3, reduction="sum").item() == 0
    assert F.cross_entropy(SCORES, [9, 9, 9], ignore_index=9, reduction="none").data.tolist() == [0, 0, 0]


def test_classes_may_be_any_integers():
    values = {F.cross_entropy(SCORES, t).item() for t in (CLASSES, np.array(CLASSES, np.uint8), tg.Tensor(CLASSES))}
    assert len(values) == 1


# -- softmax ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "value", "gradient"),
    [
        (
            F.softmax,
            [[0.78559703458928, 0.03911257327069, 0.17529039214004], [0.04712341652466, 0.94649912255289, 0.00637746092244]],
            [[-0.30614194609102, 0.02387066327038, 0.28227128282063], [-0.04520332788713, 0.03856601122508, 0.00663731666204]],
        ),
        (
            F.log_softmax,
            [
                [-0.24131129665716, -3.24131129665716, -1.74131129665716],
                [-3.05498523537715, -0.05498523537715, -5.05498523537715],
            ],
            [[-3.71358220753566, 1.76532456037588, 1.94825764715978], [3.29314875213004, -9.19748683829341, 5.90433808616336]],
        ),
    ],
)
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_is_what_torch_gave(f, value, gradient, axis):
    x = leaf(SCORES[:2])
    y = f(x) if axis == -1 else f(x.T, axis=0).T
    (y * np.array([[1.0, 2, 3], [4, 5, 6]])).sum().backward()
    np.testing.assert_allclose(y.data, value, rtol=1e-12)
    np.testing.assert_allclose(x.grad.data, gradient, rtol=1e-11)


@pytest.mark.parametrize("f", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_softmax_along_any_axis(f, axis):
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    expected = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    np.testing.assert_allclose(f(x, axis=axis).data, expected if f is F.softmax else np.log(expected), rtol=1e-13)
    assert gradcheck(lambda x: f(x, axis=axis), x, second_order=True)


# -- numbers that overflow the naive formulas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_huge_numbers(dtype):
    x = leaf([[1000.0, 0.0, -1000.0], [-1e30, -1e30, -1e30]], dtype)
    y, logy = F.softmax(x), F.log_softmax(x)
    third = dtype(1) / 3
    np.testing.assert_allclose(y.data, [[1, 0, 0], [third] * 3], rtol=1e-6)
    np.testing.assert_allclose(logy.data, [[0, -1000, -2000], [np.log(third)] * 3], rtol=1e-6)
    (y * logy).sum().backward()
    assert np.isfinite(x.grad.data).all()


def test_a_score_of_minus_infinity_is_a_class_ruled_out():
    x = leaf([[1.0, -np.inf, 1.0]])
    y = F.softmax(x)
    assert y.data.tolist() == [[0.5, 0, 0.5]]
    (y * np.array([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.data.tolist() == [[-0.5, 0, 0.5]]
    x.grad = None
    F.cross_entropy(x, [0]).backward()
    assert x.grad.data.tolist() == [[-0.5, 0, 0.5]]


@pytest.mark.parametrize(
    ("x", "t", "value", "gradient"),
    [
        (1000, 1, 0, 0), (1000, 0, 1000, 1), (-1000, 0, 0, 0), (-1000, 1, 1000, -1), (1e4, 0.25, 7500, 0.75),
        (50, 1, np.exp(-50), -np.exp(-50)), (-50, 0, np.exp(-50), np.exp(-50)), (0, 1, np.log(2), -0.5),
        (0, 0.5, np.log(2), 0),
    ],
)  # fmt: skip
def test_binary_cross_entropy_with_logits_is_exact_at_any_score(x, t, value, gradient):
    x = leaf(x)
    loss = F.binary_cross_entropy_with_logits(x, float(t))
    loss.backward()
    np.testing.assert_allclose([loss.item(), x.grad.item()], [value, gradient], rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logarithms_of_probabilities_stop_at_minus_100(dtype):
    p, t = leaf([0.0, 0.0, 1.0, 1.0], dtype), np.array([1, 0, 1, 0], dtype)
    loss = F.binary_cross_entropy(p, t, reduction="none")
    assert loss.data.tolist() == [100, 0, 0, 100]
    assert loss.dtype == dtype
    loss.sum().backward()
    assert p.grad.data.tolist() == [0, 1, -1, 0]


def test_cross_entropy_of_huge_scores():
    x = leaf([[1e5, 0.0], [1e5, 0.0]])
    loss = F.cross_entropy(x, [0, 1], reduction="none")
    assert loss.data.tolist() == [0, 1e5]
    loss.sum().backward()
    assert x.grad.data.tolist() == [[0, 0], [1, -1]]


def test_conventions_at_kinks():
    x = leaf([0.0, 1.0, -1.0])
    F.l1_loss(x, [0.0, 0.0, 0.0], reduction="sum").backward()
    assert x.grad.data.tolist() == [0, 1, -1]
    x.grad = None
    F.smooth_l1_loss(x, [0.0, 0.0, 0.0], reduction="sum").backward()
    assert x.grad.data.tolist() == [0, 1, -1]
    x.grad = None
    loss = F.smooth_l1_loss(x, [0.0, 0.0, 0.0], reduction="sum", beta=0)
    loss.backward()
    assert (loss.item(), x.grad.data.tolist()) == (2, [0, 1, -1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "call",
    [
        F.mse_loss, F.l1_loss, F.smooth_l1_loss, lambda x, t: F.smooth_l1_loss(x, t, beta=0.1), F.binary_cross_entropy,
        F.binary_cross_entropy_with_logits, lambda x, t: F.cross_entropy(x, [0, 1]),
        lambda x, t: F.cross_entropy(x, [0, 1], label_smoothing=0.1, reduction="none").sum(),
        lambda x, t: F.softmax(x).sum(), lambda x, t: F.log_softmax(x).sum(), lambda x, t: F.dropout(x, 0.3).sum(),
    ],
)  # fmt: skip
def test_the_dtype_is_kept(call, dtype):
    x, t = leaf([[0.2, 0.7], [0.5, 0.1]], dtype), np.full((2, 2), 0.25, dtype)
    loss = call(x, t)
    loss.backward()
    floats = {n.dtype for n in toposort(loss) if n.dtype.kind == "f" and n.ndim}
    assert {loss.dtype, x.grad.dtype, *floats} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: F.mse_loss(np.ones((3, 1)), np.ones(3)),
            ValueError,
            r"mse_loss: prediction has shape \(3, 1\) and target \(3,\); they ",
        ),
        (
            lambda: F.l1_loss(np.ones(3), 1.0),
            ValueError,
            r"l1_loss: prediction has shape \(3,\) and target \(\); they must be equal",
        ),
        (
            lambda: F.smooth_l1_loss(np.ones((2, 1)), np.ones((1, 2))),
            ValueError,
            r"smooth_l1_loss: .* \(2, 1\) and target \(1, 2\)",
        ),
        (lambda: F.smooth_l1_loss([1.0], [1.0], beta=-1), ValueError, r"smooth_l1_loss: beta must not be negative, got -1"),
        (lambda: F.smooth_l1_loss([1.0], [1.0], beta=float("nan")), ValueError, r"beta must not be negative, got nan"),
        (lambda: F.binary_cross_entropy([[0.5]], [0.5]), ValueError, r"binary_cross_entropy: prediction has shape \(1, 1\)"),
        (
            lambda: F.binary_cross_entropy([1.5], [1.0]),
            ValueError,
            r"must be a probability .* use binary_cross_entropy_with_logits",
        ),
        (lambda: F.binary_cross_entropy([-0.1], [1.0]), ValueError, r"must be a probability between 0 and 1"),
        (lambda: F.binary_cross_entropy([np.nan], [1.0]), ValueError, r"must be a probability between 0 and 1"),
        (
            lambda: F.binary_cross_entropy_with_logits([1.0], [[1.0]]),
            ValueError,
            r"binary_cross_entropy_with_logits: .* reshape one",
        ),
        (lambda: F.mse_loss([1.0], [1.0], "average"), ValueError, r"reduction is 'mean', 'sum' or 'none', got 'average'"),
        (lambda: F.cross_entropy(SCORES, CLASSES, reduction="all"), ValueError, r"reduction is .* got 'all'"),
        (
            lambda: F.cross_entropy(SCORES, [0, 3, 1]),
            ValueError,
            r"cross_entropy: target 3 is not one of the 3 classes 0 ... 2",
        ),
        (
            lambda: F.cross_entropy(SCORES, [0, -1, 1]),
            ValueError,
            r"cross_entropy: target -1 is not one of the 3 classes 0 ... 2",
        ),
        (
            lambda: F.cross_entropy(SCORES, [0, 1]),
            ValueError,
            r"same shape without C, got input \(3, 3\) and target \(2,\) of dtype int64",
        ),
        (lambda: F.cross_entropy(SCORES, [0.0, 1, 1]), ValueError, r"integer targets .* target \(3,\) of dtype float64"),
        (lambda: F.cross_entropy(SCORES, SCORES), ValueError, r"integer targets .* target \(3, 3\) of dtype float64"),
        (lambda: F.cross_entropy(1.0, 0), ValueError, r"got input \(\) and target \(\)"),
        (
            lambda: F.cross_entropy(SCORES, CLASSES, label_smoothing=1.5),
            ValueError,
            r"label_smoothing must be between 0 and 1, got 1.5",
        ),
        (
            lambda: F.cross_entropy(SCORES, [-100] * 3),
            ValueError,
            r"no target but -100, the ignore_index.* write reduction='sum'",
        ),
        (lambda: F.cross_entropy(np.ones((0, 3)), np.ones(0, int)), ValueError, r"nothing to take the mean of"),
        (lambda: F.softmax([1.0, 2.0], axis=1), ValueError, r"axis 1 is out of bounds for array of dimension 1"),
        (lambda: F.log_softmax(np.ones((2, 0))), ValueError, r"zero-size array"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
