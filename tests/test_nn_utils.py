"""Clipping of gradients: PyTorch's golden numbers, the norms there are, and what cannot be clipped."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.nn.utils import clip_grad_norm_, clip_grad_value_


def with_gradient(gradient, dtype=np.float64):
    p = tg.nn.Parameter(np.zeros(np.shape(gradient)), dtype=dtype, name="w")
    p.grad = tg.Tensor(gradient, dtype=dtype)
    return p


def test_the_golden_numbers():
    p = with_gradient([3.0, 4.0])
    assert clip_grad_norm_([p], 1.0) == 5.0
    np.testing.assert_allclose(p.grad.data, [0.59999988, 0.79999984], rtol=1e-8)
    np.testing.assert_allclose(p.grad.data, np.array([3, 4]) / (5 + 1e-6), rtol=1e-15)


def test_a_small_gradient_is_left_as_it_is():
    p = with_gradient([3.0, 4.0])
    assert clip_grad_norm_(p, 5.1) == 5.0
    assert p.grad.data.tolist() == [3, 4]


@pytest.mark.parametrize(("norm_type", "norm"), [(1, 10), (2, np.sqrt(30)), (3, 100 ** (1 / 3)), (np.inf, 4)])
def test_the_norm_is_that_of_all_gradients_as_one_vector(norm_type, norm):
    a, b, without = with_gradient([[1.0], [-2.0]]), with_gradient([3.0, -4.0]), tg.nn.Parameter([1.0])
    np.testing.assert_allclose(clip_grad_norm_([a, without, b], 2.0, norm_type), norm, rtol=1e-14)
    scale = 2 / (norm + 1e-6)
    np.testing.assert_allclose(a.grad.data, [[scale], [-2 * scale]], rtol=1e-13)
    np.testing.assert_allclose(b.grad.data, [3 * scale, -4 * scale], rtol=1e-13)
    assert without.grad is None


def test_a_parameter_given_twice_is_scaled_once():
    p = with_gradient([3.0, 4.0])
    assert clip_grad_norm_([p, p], 1.0) == 5.0
    np.testing.assert_allclose(np.linalg.norm(p.grad.data), 1, rtol=1e-6)
    clip_grad_value_([p, p], 0.5)
    assert p.grad.data.tolist() == [0.5, 0.5]


def test_a_gradient_that_two_hold_is_not_edited():
    p = with_gradient([3.0, 4.0])
    held = p.grad
    clip_grad_norm_(p, 1.0)
    clip_grad_value_(p, 0.1)
    assert held.data.tolist() == [3, 4]


@pytest.mark.parametrize("give", [lambda p: p, lambda p: [p], lambda p: (q for q in [p]), lambda p: {"w": p}.values()])
def test_whatever_can_be_iterated_over_is_taken(give):
    p = with_gradient([-3.0, 0.5])
    clip_grad_value_(give(p), 1)
    assert p.grad.data.tolist() == [-1, 0.5]
    assert clip_grad_norm_(give(p), 0) == np.sqrt(1.25)
    assert abs(p.grad.data).tolist() == [0, 0]


def test_nothing_to_clip():
    assert clip_grad_norm_([], 1.0) == 0.0
    assert clip_grad_norm_([tg.nn.Parameter([1.0])], 1.0) == 0.0
    clip_grad_value_([tg.nn.Parameter([1.0])], 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept_and_squares_do_not_overflow(dtype):
    p = with_gradient([3e30, 4e30], dtype)
    np.testing.assert_allclose(clip_grad_norm_(p, np.float64(1.0)), 5e30, rtol=1e-6)
    np.testing.assert_allclose(p.grad.data, [0.6, 0.8], rtol=1e-6)
    clip_grad_value_(p, np.float64(0.7))
    assert p.grad.dtype == p.dtype == dtype


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_is_an_error_and_changes_nothing(value):
    good, bad = with_gradient([3.0, 4.0]), with_gradient([[1.0, value]])
    with pytest.raises(
        RuntimeError, match=rf"norm of the gradients is {value}, so scaling cannot help; see 'w' \(shape \(1, 2\), "
    ):
        clip_grad_norm_([good, bad], 1.0)
    assert good.grad.data.tolist() == [3, 4]
    np.testing.assert_array_equal(bad.grad.data, [[1, value]])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: clip_grad_norm_(p, -1), r"clip_grad_norm_: max_norm must not be negative, got -1"),
        (lambda p: clip_grad_norm_(p, float("nan")), r"clip_grad_norm_: max_norm must not be negative, got nan"),
        (lambda p: clip_grad_value_(p, -1), r"clip_grad_value_: clip_value must not be negative, got -1"),
        (lambda p: clip_grad_value_(p, float("nan")), r"clip_grad_value_: clip_value must not be negative, got nan"),
    ],
)
def test_bad_input(call, match):
    p = with_gradient([3.0, 4.0])
    with pytest.raises(ValueError, match=match):
        call(p)
    assert p.grad.data.tolist() == [3, 4]
