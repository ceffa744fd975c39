"""The tester, tested: what it must catch, whom it names, and that it leaves no trace."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.gradcheck import GradcheckError, gradcheck
from tinygrad_rnn.ops import Op
from tinygrad_rnn.tensor import Tensor, apply

rng = np.random.default_rng(0)


def cube(factor):
    """x**3 with a derivative that is off by a factor."""
    row = Op("cube", lambda x: x**3, lambda g, out, x: factor * 3 * g * x * x)
    return lambda x: apply(row, x)


def leaf(*shape, name=None):
    return Tensor(rng.normal(size=shape), requires_grad=True, name=name)


@pytest.mark.parametrize("factor", [1.0005, 0.9995, -1.0, 0.0])
def test_a_wrong_derivative_is_caught(factor):
    x = rng.normal(size=(2, 3))
    assert gradcheck(cube(1), x, second_order=True)
    with pytest.raises(GradcheckError, match=r"backward\(\) disagrees with finite differences\n  input 0: WRONG in 6 of 36"):
        gradcheck(cube(factor), x)
    with pytest.raises(AssertionError):
        gradcheck(lambda x: cube(factor)(x).sum(), x * 1e-2)


def test_the_message_names_the_input_and_the_worst_element():
    w, b = Tensor([[1.0, 1.0], [1.0, 2.0]], requires_grad=True, name="w"), leaf(2)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda w, b: (b * 2.0, cube(1.001)(w)[1] + b), [w, b])
    assert str(caught.value) == (
        "backward() disagrees with finite differences\n"
        "  input 0 'w': WRONG in 2 of 16, worst at [1, 1] (for output 1[1]): backward() 12.012, finite differences 12, "
        "difference 0.012\n"
        "  input 1: agrees"
    )


def test_a_wrong_second_derivative_is_caught(monkeypatch):
    x = rng.normal(size=3)
    with monkeypatch.context() as patch:  # the first derivative is right, but is not what the graph says
        patch.setattr(ops.SIN, "rules", (lambda g, out, x: g * np.cos(x.detach() if isinstance(x, Tensor) else x),))
        assert gradcheck(np.sin, x)
        with pytest.raises(
            GradcheckError, match=r"second order.*\n  input 0: WRONG in 3 of 9.*\n  input 1 'gradient of output 0': agrees"
        ):
            gradcheck(np.sin, x, second_order=True)
    with monkeypatch.context() as patch:  # right on arrays only
        patch.setattr(ops.SIN, "rules", (lambda g, out, x: g * np.cos(x) * (2 if isinstance(x, Tensor) else 1),))
        assert gradcheck(np.sin, x)
        with pytest.raises(GradcheckError, match=r"backward\(create_graph=True\) disagrees"):
            gradcheck(np.sin, x, second_order=True)
    assert gradcheck(np.sin, x, second_order=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_caught(bad):
    row = Op("bad", lambda x: x * 2, lambda g, out, x: g * np.array([2.0, bad]))
    with pytest.raises(GradcheckError, match=rf"worst at \[1\].*: backward\(\) {bad}, finite differences 2"):
        gradcheck(lambda x: apply(row, x).sum(), [np.ones(2)])
    with pytest.raises(GradcheckError, match=r"finite differences (nan|inf)"):
        gradcheck(lambda x: x * bad, [1.0])


def test_an_input_that_does_not_matter_has_gradient_zero():
    assert gradcheck(lambda x, y: x * 2, [1.0, rng.normal(size=3)], second_order=True)
    assert gradcheck(lambda x: Tensor([1.0, 2.0]), [1.0])
    lies = Op("lies", lambda x, y: x * 2, lambda g, out, x, y: g * 2, lambda g, out, x, y: g)
    with pytest.raises(GradcheckError, match=r"input 0: agrees\n  input 1: WRONG in 1 of 1, worst at \[\]: backward\(\) 1, "):
        gradcheck(lambda x, y: apply(lies, x, y), [1.0, 1.0])


def test_inputs_of_every_kind():
    t32, index = Tensor([1.0, 2.0], dtype=np.float32), np.array([0, 0, 1])

    def f(a, b, c, d, i, n, flag):
        assert [x.dtype for x in (a, b, c, d)] == [np.float64] * 4
        assert i is index
        assert n == 2
        assert flag is True
        return [(a * b * c)[i] ** n, d.sum()]

    assert gradcheck(f, (2.0, np.ones(2, np.float16), t32, leaf(2) * 2, index, 2, True), second_order=True)
    assert gradcheck(np.tanh, 0.3)
    assert gradcheck(np.tanh, leaf(2))
    assert gradcheck(np.tanh, iter([0.3]))
    assert gradcheck(np.tanh, np.zeros((0, 3)), second_order=True)
    assert gradcheck(lambda x, y: x * y, [w := leaf(2), w])


def test_closures_over_leaves():
    w, b = leaf(2, 2, name="w"), leaf(2)
    x = rng.normal(size=(3, 2))
    parameters = [w, b]
    assert gradcheck(lambda *_: np.tanh(x @ w.T + b) @ w.T, parameters, second_order=True)
    with pytest.raises(GradcheckError, match=r"input 0 'w': WRONG in 4 of 4"):
        gradcheck(lambda *_: cube(1.01)(w).sum() + b.sum(), parameters)


@pytest.mark.parametrize("how", ["passes", "fails", "raises"])
def test_nothing_is_left_behind(how):
    calls = []

    def f(x, y):
        calls.append(0)
        if how == "raises" and len(calls) == 9:
            raise ZeroDivisionError
        return cube(1.1 if how == "fails" else 1)(x) * y

    x, y = leaf(2, 2), leaf(2)
    x.data[0] = [0.1, -0.0]
    alias = x.data
    (x * y).sum().backward()
    grads, before, pending = (x.grad, y.grad), (x.data.tobytes(), y.data.tobytes()), (x * x.T @ x * y).sum()
    try:
        gradcheck(f, [x, y], second_order=True)
        assert how == "passes"
    except (GradcheckError, ZeroDivisionError):
        assert how != "passes"
    assert (x.data.tobytes(), y.data.tobytes()) == before
    assert alias is x.data
    assert (x.grad, y.grad) == grads
    pending.backward()  # the graph from before is as good as ever
    alias[0] = 5
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        pending.backward()


def bptt(w_in, w_rec, x):
    """A small recurrent net and its gradient derived by hand: h_t = tanh(x_t w_in + h_{t-1} w_rec), loss = sum(h_T)."""
    hs = [np.zeros(3)]
    for x_t in x:
        hs.append(np.tanh(x_t @ w_in + hs[-1] @ w_rec))
    d_in, d_rec, dh = np.zeros_like(w_in), np.zeros_like(w_rec), np.ones(3)
    for x_t, before, h in zip(x[::-1], hs[-2::-1], hs[:0:-1], strict=True):
        dz = dh * (1 - h * h)
        d_in += np.outer(x_t, dz)
        d_rec += np.outer(before, dz)
        dh = dz @ w_rec.T
    return d_in, d_rec


def test_a_gradient_derived_by_hand():
    w_in, w_rec, x = leaf(2, 3, name="w_in"), leaf(3, 3, name="w_rec"), rng.normal(size=(5, 2))

    def loss(w_in, w_rec):
        h = np.zeros(3)
        for x_t in x:
            h = np.tanh(x_t @ w_in + h @ w_rec)
        return h.sum()

    d_in, d_rec = bptt(w_in.numpy(), w_rec.numpy(), x)
    assert gradcheck(loss, [w_in, w_rec], gradient=[d_in, Tensor(d_rec)])
    assert gradcheck(loss, [w_in, w_rec], gradient=(None, d_rec))
    assert gradcheck(lambda w: loss(w, w_rec), w_in, gradient=d_in)

    wrong = d_rec.copy()
    wrong[2, 1] *= 1.0005
    with pytest.raises(GradcheckError) as caught:
        gradcheck(loss, [w_in, w_rec], gradient=[d_in, wrong])
    assert str(caught.value) == (
        "the given gradient disagrees with backward()\n"
        "  input 0 'w_in': agrees\n"
        f"  input 1 'w_rec': WRONG in 1 of 9, worst at [2, 1]: the given gradient {wrong[2, 1]:.8g}, "
        f"backward() {d_rec[2, 1]:.8g}, difference {abs(wrong - d_rec).max():.3g}"
    )
    with pytest.raises(
        GradcheckError, match=r"'w_in': not compared\n.*'w_rec': WRONG, the given gradient has shape \(3,\), expected \(3, 3"
    ):
        gradcheck(loss, [w_in, w_rec], gradient=[None, d_rec[0]])
    with pytest.raises(GradcheckError, match=r"'w_rec': WRONG in 9 of 9.*the given gradient nan"):
        gradcheck(loss, [w_in, w_rec], gradient=[d_in, d_rec * np.nan])
    with pytest.raises(ValueError, match="gradient= has 1 entries for 2 inputs"):
        gradcheck(loss, [w_in, w_rec], gradient=[d_in])
    with pytest.raises(ValueError, match=r"gradient= belongs to one number, and f returned shapes \[\(2, 3\)\]"):
        gradcheck(np.tanh, w_in, gradient=d_in)


def test_our_own_error_is_not_blamed_on_the_hand():
    x = np.array([1.0, 2.0])
    with pytest.raises(GradcheckError, match=r"backward\(\) disagrees with finite differences"):
        gradcheck(lambda x: cube(1.01)(x).sum(), x, gradient=3 * x**2)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_a_wrong_derivative_is_caught_at_large_numbers(size):
    x = size * rng.uniform(1, 2, 3)
    assert gradcheck(cube(1), x)
    with pytest.raises(GradcheckError, match="WRONG in 3 of 9"):
        gradcheck(cube(1.0005), x)


def test_large_and_small_numbers():
    assert gradcheck(lambda x: (x * x).sum(), np.array([1e8, -3e5, 1e-8, 0.0]))
    assert gradcheck(lambda x: (np.exp(x) + 1e6).sum(), rng.normal(size=4))


def test_bad_input():
    with pytest.raises(
        TypeError, match=r"expected float64, and input 1 is 'w' \(shape \(2,\), float32\); make it with dtype="
    ):
        gradcheck(lambda x, w: x * w, [1.0, Tensor([1, 2], requires_grad=True, dtype=np.float32, name="w")])
    with pytest.raises(ValueError, match="nothing to check, as no input has a floating dtype"):
        gradcheck(lambda i: Tensor(1.0), [np.arange(3)])
    with pytest.raises(TypeError, match="f must return float64 Tensors, got float"):
        gradcheck(lambda x: 1.0, [1.0])
    with pytest.raises(TypeError, match=r"f must return float64 Tensors, got the result of astype \(shape \(\), float32\)"):
        gradcheck(lambda x: x.astype(np.float32), [1.0])
    with pytest.raises(ValueError, match="f gave two results for the same inputs; switch what is random off"):
        gradcheck(lambda x: x * rng.normal(), [1.0])


def test_it_is_public():
    assert tg.gradcheck is gradcheck
