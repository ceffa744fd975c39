"""grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp: values, structures, how they nest, and what they refuse."""

import asyncio
import gc
import threading
import weakref
from collections import namedtuple
from functools import partial

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.tensor import Tensor

Pair = namedtuple("Pair", "a b")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def same(got, expected, rtol=1e-12, atol=1e-12):
    """Equal trees: of one structure, Tensors on the left, numbers on the right."""
    if isinstance(expected, dict):
        assert type(got) is dict
        assert list(got) == list(expected)
        for key in expected:
            same(got[key], expected[key], rtol, atol)
    elif isinstance(expected, list | tuple):
        assert type(got) is type(expected)
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other, rtol, atol)
    else:
        assert isinstance(got, Tensor)
        assert got.shape == np.shape(expected)
        np.testing.assert_allclose(got.numpy(), expected, rtol, atol)


def slope(f, x, v, eps=1e-6):
    """The derivative of f at the array x in the direction v, by central differences; each output of a tuple has its own."""
    above, below = f(x + eps * v), f(x - eps * v)
    if isinstance(above, tuple):
        return tuple((a.numpy() - b.numpy()) / (2 * eps) for a, b in zip(above, below, strict=True))
    return (above.numpy() - below.numpy()) / (2 * eps)


# -- arguments and structures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [3.0, np.float64(3), np.array(3.0), Tensor(3.0), Tensor(3.0, requires_grad=True)])
def test_numbers_arrays_and_tensors(x):
    value, slope = tg.value_and_grad(lambda x: x * x + 1)(x)
    same([value, slope, tg.grad(lambda x: x**3)(x), tg.hessian(lambda x: x**3)(x)], [10, 6, 27, 18])


def test_argnums():
    def f(x, y, z):
        return x * y**2 * z**3

    same(tg.grad(f)(2.0, 3.0, 4.0), 9 * 64)
    same(tg.grad(f, 1)(2.0, 3.0, 4.0), 2 * 6 * 64)
    same(tg.grad(f, -1)(2.0, 3.0, 4.0), 2 * 9 * 48)
    same(tg.grad(f, np.int64(2))(2.0, 3.0, 4.0), 2 * 9 * 48)
    same(tg.grad(f, (2, 0))(2.0, 3.0, 4.0), (2 * 9 * 48, 9 * 64))
    same(tg.grad(f, [1])(2.0, 3.0, 4.0), (2 * 6 * 64,))
    same(tg.grad(f, (0, -3))(2.0, 3.0, 4.0), (9 * 64, 9 * 64))
    same(tg.grad(f, 0)(2.0, 3, 4), 9 * 64)  # what is not differentiated may be an integer
    same(tg.value_and_grad(f, (0, 1))(2.0, 3.0, 4.0), (2 * 9 * 64, (9 * 64, 2 * 6 * 64)))


def test_argnums_of_jacobian_and_hessian():
    def f(x, y):
        return (x * x * y).sum()

    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    same(tg.jacobian(lambda x, y: x * y, (0, 1))(x, y), (np.diag(y), np.diag(x)))
    same(tg.jacobian(lambda x, y: x * y, -1)(x, y), np.diag(x))
    same(tg.hessian(f)(x, y), np.diag(2 * y))
    same(tg.hessian(f, (0, 1))(x, y), ((np.diag(2 * y), np.diag(2 * x)), (np.diag(2 * x), np.zeros((2, 2)))))


def test_trees():
    def f(tree, scale=1.0):
        (a, [b, c]), named, d = tree["x"], tree["y"], tree["z"]
        return scale * (a * b + c * named.a**2 + (named.b * d).sum())

    tree = {"x": (2.0, [3.0, Tensor(4.0)]), "y": Pair(5.0, np.array([1.0, 2.0])), "z": np.array([6.0, 7.0])}
    expected = {"x": (3, [2, 25]), "y": Pair(40, np.array([6, 7])), "z": np.array([1, 2])}
    same(tg.grad(f)(tree), expected)
    same(tg.grad(partial(f, scale=1.0))(tree), expected)
    same(tg.value_and_grad(f)(tree, scale=2.0)[1]["y"], Pair(80, np.array([12, 14])))
    same(tg.vjp(f, tree)[1](1.0), (expected,))
    ones = {"x": (1.0, [1.0, 1.0]), "y": Pair(1.0, np.ones(2)), "z": np.ones(2)}
    same(tg.jvp(f, (tree,), (ones,)), (2 * 3 + 4 * 25 + 6 + 14, 3 + 2 + 25 + 40 + 13 + 3))
    same(tg.grad(lambda tree: 2.0)((1.0, (), {})), (0, (), {}))


def test_trees_as_values():
    def f(x):
        return {"double": 2 * x, "rest": [x[0], (x * x, 7.0)]}

    x = np.array([1.0, 2.0])
    jacobians = {"double": 2 * np.eye(2), "rest": [np.array([1, 0]), (np.diag(2 * x), np.zeros(2))]}
    same(tg.jacobian(f)(x), jacobians)
    same(
        tg.jvp(f, (x,), (np.array([1.0, 10.0]),))[1],
        {"double": [2, 20], "rest": [1, (np.array([2, 40]), 0)]} | {"double": np.array([2, 20])},
    )
    out, pullback = tg.vjp(f, x)
    same(out, {"double": 2 * x, "rest": [1, (x * x, 7)]})
    same(pullback({"double": np.ones(2), "rest": [10.0, (np.ones(2), 5.0)]}), (np.array([2 + 10 + 2, 2 + 4]),))
    same(pullback({"rest": [0.0, (np.ones(2), 0.0)], "double": np.zeros(2)}), (2 * x,))  # again, the keys in another order


def test_trees_of_inputs_and_outputs_in_a_jacobian():
    def f(pair):
        return pair.a * pair.b, pair.a.sum()

    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    same(tg.jacobian(f)(Pair(a, b)), (Pair(np.diag(b), np.diag(a)), Pair(np.ones(2), np.zeros(2))))


def test_shapes_of_a_jacobian():
    x = np.arange(6.0).reshape(2, 3)
    assert tg.jacobian(lambda x: x.sum(axis=0))(x).shape == (3, 2, 3)
    same(tg.jacobian(lambda x: x.T)(x), np.eye(6).reshape(2, 3, 2, 3).transpose(1, 0, 2, 3))
    same(tg.jacobian(lambda x: x.sum())(x), np.ones((2, 3)))
    same(tg.jacobian(lambda x: x[:, :0])(x), np.zeros((2, 0, 2, 3)))
    same(tg.jacobian(lambda x: x * 1.0)(np.zeros((0,))), np.zeros((0, 0)))
    same(tg.hessian(lambda x: (x**3).sum())(x), (6 * x.ravel() * np.eye(6)).reshape(2, 3, 2, 3))


def test_dtypes_are_those_of_the_arguments():
    x = np.array([1.0, 2.0], np.float32)
    value, slope = tg.value_and_grad(lambda x, y: (x * y).sum())(x, np.array([3.0, 4.0]))
    assert (value.dtype, slope.dtype) == (np.float64, np.float32)
    assert tg.jacobian(lambda x: x * 2.0)(x).dtype == np.float32
    assert tg.jvp(lambda x: x * 2.0, (x,), (np.ones(2),))[1].dtype == np.float32
    assert tg.vjp(lambda x: x * 2.0, x)[1](np.ones(2))[0].dtype == np.float32
    assert tg.vjp(lambda x: x.sum(), x)[1](1)[0].dtype == np.float32
    assert tg.hvp(lambda x: (x**3).sum(), (x,), (np.ones(2, int),))[0].dtype == np.float32


def test_a_transformed_function_keeps_its_name():
    def energy(x):
        """E."""
        return x * x

    for transform in (tg.grad, tg.value_and_grad, tg.jacobian, tg.hessian):
        assert (transform(energy).__name__, transform(energy).__doc__) == ("energy", "E.")


# -- values ------------------------------------------------------------------------------------------------------------------


def test_a_quadratic_form(rng):
    a, x, v = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)

    def f(x):
        return x @ a @ x

    same(tg.grad(f)(x), (a + a.T) @ x)
    same(tg.hessian(f)(x), a + a.T)
    same(tg.hvp(f, (x,), (v,)), ((a + a.T) @ v,))
    same(tg.jvp(f, (x,), (v,)), (x @ a @ x, v @ (a + a.T) @ x))
    same(tg.jacobian(lambda x: a @ x)(x), a)
    same(tg.jvp(lambda x: a @ x, (x,), (v,))[1], a @ v)
    same(tg.vjp(lambda x: a @ x, x)[1](v), (a.T @ v,))


def test_hvp_of_several_arguments(rng):
    x, y, v, w = rng.normal(size=(4, 3))

    def f(x, tree):
        return (x * x * tree["y"]).sum()

    hx, hy = tg.hvp(f, (x, {"y": y}), (v, {"y": w}))
    same([hx, hy], [2 * y * v + 2 * x * w, {"y": 2 * x * v}])


def test_softmax_has_its_textbook_jacobian(rng):
    x = rng.normal(size=5)
    p = np.exp(x) / np.exp(x).sum()
    same(tg.jacobian(tg.nn.functional.softmax)(x), np.diag(p) - np.outer(p, p))


def test_a_gradient_in_closed_form_through_many_steps():
    t = 200
    same(tg.grad(lambda h: power(h, t))(0.999), t * 0.999 ** (t - 1))
    same(tg.grad(tg.grad(lambda h: power(h, t)))(0.999), t * (t - 1) * 0.999 ** (t - 2))


def power(x, n):
    y = 1.0
    for _ in range(n):
        y = y * x
    return y


# -- what a function may do with its arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [2.0, 3, np.array([1.0, 2.0]).sum(), Tensor(4.0), Tensor(5.0, requires_grad=True)])
def test_what_does_not_depend_has_gradient_zero(constant):
    x = np.ones((2, 3))
    same(tg.grad(lambda x: constant)(x), np.zeros((2, 3)))
    same(tg.grad(lambda x, y: (y * y).sum(), (0, 1))(x, x), (np.zeros((2, 3)), 2 * x))
    same(tg.jacobian(lambda x: constant)(x), np.zeros((2, 3)))
    same(tg.jvp(lambda x: (constant, x.sum()), (x,), (x,))[1], (0, 6))
    same(tg.vjp(lambda x: (constant, x.sum()), x)[1]((7.0, 2.0)), (2 * x,))
    same(tg.hessian(lambda x: x.sum())(np.ones(2)), np.zeros((2, 2)))
    same(tg.hvp(lambda x: constant, (1.0,), (1.0,)), (0,))


def test_a_piecewise_constant_function_has_gradient_zero():
    same(tg.grad(lambda x: (x > 1).sum())(np.ones(3)), np.zeros(3))
    same(tg.jacobian(lambda x: np.floor(x))(np.ones(2)), np.zeros((2, 2)))


def test_the_identity_returns_copies():
    x, v = np.ones(2), Tensor([1.0, 2.0])
    out, pullback = tg.vjp(lambda x: x, x)
    (pulled,) = pullback(v)
    out.data[0] = pulled.data[0] = 99
    assert (x.tolist(), v.data.tolist()) == ([1, 1], [1, 2])
    same(pullback(v), (np.array([1, 2]),))
    left, right = tg.grad(lambda x, y: (x + y).sum(), (0, 1))(x, x)
    left.data[0] = 99
    same(right, np.ones(2))


def test_one_array_as_several_arguments():
    x = np.array([1.0, 2.0])
    same(tg.grad(lambda x, y: (x * y * y).sum(), (0, 1))(x, x), (x * x, 2 * x * x))
    same(tg.grad(lambda t: (t[0] * t[1] * t[1]).sum())([x, x]), [x * x, 2 * x * x])


def test_control_flow():
    def f(x, n):
        while x < 10:
            x = x * x if n % 2 else x * 3
        return x

    same(tg.grad(f)(2.0, 1), 4 * 2**3)
    same(tg.grad(f)(2.0, 2), 9)


# -- nesting -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", range(6))
def test_derivatives_to_depth_five(depth):
    f, x = (lambda x: np.sin(2 * x)), 0.3
    for _ in range(depth):
        f = tg.grad(f)
    expected = 2**depth * [np.sin, np.cos, lambda a: -np.sin(a), lambda a: -np.cos(a)][depth % 4](2 * x)
    np.testing.assert_allclose(np.float64(f(x).numpy() if depth else f(x)), expected, rtol=1e-12)


def derivative(f):
    """The derivative of a function of one number, in forward mode."""
    return lambda x: tg.jvp(f, (x,), (1.0,))[1]


@pytest.mark.parametrize(
    "modes", ["ff", "fr", "rf", "ffr", "frf", "rff", "rrf", "fff", "jfr", "rjf", "vrf", "hr", "rh", "ffrrf", "rvfjr"]
)
def test_every_mode_nests_in_every_other(modes):
    way = {
        "f": (derivative, 1),
        "r": (tg.grad, 1),
        "j": (tg.jacobian, 1),
        "v": (lambda f: lambda x: tg.vjp(f, x)[1](1.0)[0], 1),
        "h": (lambda f: lambda x: tg.hvp(f, (x,), (1.0,))[0], 2),
    }
    f, order = np.exp, 0
    for mode in modes:
        f, order = way[mode][0](f), order + way[mode][1]
    same((lambda g: g(0.25))(f), np.exp(0.25))
    cube = lambda x: x * x * x  # noqa: E731
    for mode in modes:
        cube = way[mode][0](cube)
    same(cube(2.0), [8, 12, 12, 6, 0, 0][order])


def test_perturbation_confusion():
    """Pearlmutter & Siskind 2008; Manzyuk et al. 2019: inner and outer derivatives must not mix."""
    for d in (tg.grad, derivative, tg.jacobian):
        for inner in (tg.grad, derivative, tg.jacobian):
            same(d(lambda x: x * inner(lambda y: x + y)(1.0))(1.0), 1)  # noqa: B023
            same(d(lambda x: x * inner(lambda y: x * y)(2.0))(3.0), 6)  # noqa: B023
            same(d(lambda x: x * inner(lambda y: y)(x))(5.0), 1)  # noqa: B023
            same(d(lambda x: x * inner(lambda y: x)(x))(5.0), 0)  # noqa: B023
            same(d(lambda x: inner(lambda y: y * y * x)(x))(3.0), 12)  # noqa: B023
            same(d(lambda x: inner(lambda x: x * x)(x) * inner(lambda y: x * x * y)(x))(2.0), 2 * 3 * 4)  # noqa: B023


def test_a_function_that_returns_a_function():
    """The amazing bug of Manzyuk et al.: the derivative of a curried shift, applied to a function that differentiates."""

    def shift(offset):
        return lambda f: lambda x: f(x + offset)

    def d(f):
        return lambda x: tg.jvp(f, (x,), (1.0,))[1]

    def along(g):  # d/d offset of shift(offset)(g) at 0, which is the derivative of g
        return lambda y: tg.jvp(lambda offset: shift(offset)(g)(y), (0.0,), (1.0,))[1]

    same(along(along(np.exp))(1.0), np.e)
    same(d(along(np.sin))(0.5), -np.sin(0.5))


def test_closures_over_outer_variables():
    x, y, z = 2.0, 3.0, 5.0
    f = tg.grad(lambda x: tg.grad(lambda y: tg.grad(lambda z: x**2 * y**3 * z**4)(z))(y))
    same(f(x), 2 * x * 3 * y**2 * 4 * z**3)
    mixed = tg.grad(lambda x: (tg.hessian(lambda y: (x * y * y * y).sum())(np.array([1.0, 2.0]))).sum())
    same(mixed(4.0), 6 + 12)


def test_gradients_of_a_hessian_and_of_a_jvp(rng):
    a = rng.normal(size=3)

    def f(x):
        return (np.sin(x) * a).sum()

    x, v = rng.normal(size=(2, 3))
    same(tg.jacobian(tg.hessian(f))(x), -np.einsum("ij,jk->ijk", np.eye(3), np.diag(np.cos(x) * a)))
    same(tg.grad(lambda x: tg.jvp(f, (x,), (v,))[1])(x), -np.sin(x) * a * v)
    same(tg.grad(lambda v: tg.jvp(f, (x,), (v,))[1])(v), np.cos(x) * a)
    same(tg.grad(lambda v: (tg.hvp(f, (x,), (v,))[0] ** 2).sum())(v), 2 * v * (np.sin(x) * a) ** 2)
    same(tg.grad(lambda v: (tg.vjp(np.sin, x)[1](v)[0] ** 2).sum())(v), 2 * v * np.cos(x) ** 2)
    same(tg.grad(lambda x: (tg.vjp(np.sin, x)[1](v)[0] ** 2).sum())(x), -2 * v**2 * np.cos(x) * np.sin(x))
    same(tg.grad(lambda x: tg.value_and_grad(lambda y: (x * y).sum())(x)[0])(x), 2 * x)


# -- what is outside ---------------------------------------------------------------------------------------------------------


def test_results_stay_connected_to_the_parameters_in_a_closure():
    w = tg.nn.Parameter([2.0, 3.0])
    value, slope = tg.value_and_grad(lambda x: (w * w * x * x).sum())(np.ones(2))
    same([value, slope], [13, np.array([8, 18])])
    (slope * slope).sum().backward()  # sum of 4 w^4
    same(w.grad, 16 * np.array([8.0, 27.0]))
    w.grad = None
    value.backward()
    same(w.grad, np.array([4.0, 6.0]))
    for result in (
        tg.jvp(lambda x: (w * x * x).sum(), (np.ones(2),), (np.ones(2),))[1],
        tg.vjp(lambda x: (w * x * x).sum(), np.ones(2))[1](1.0)[0].sum(),
        tg.jacobian(lambda x: w * x * x)(np.ones(2)).sum(),
        tg.hvp(lambda x: (w * x * x).sum(), (np.ones(2),), (np.ones(2),))[0].sum(),
    ):
        w.grad = None
        result.backward()
        same(w.grad, np.full(2, 2.0))


def test_results_stay_connected_to_an_argument_that_requires_grad():
    x, v = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 10.0], requires_grad=True)
    slope = tg.grad(lambda x: (x**3).sum())(x)
    slope.sum().backward()
    same(x.grad, 6 * np.array([2.0, 3.0]))
    x.grad = None
    tg.jvp(lambda x: (x**3).sum(), (x,), (v,))[1].backward()
    same([x.grad, v.grad], [np.array([12.0, 180.0]), np.array([12.0, 27.0])])


@pytest.mark.parametrize("layer", ["RNN", "LSTM", "GRU"])
def test_a_penalty_on_the_gradient_of_a_layer_reaches_its_weights(layer, rng):
    tg.manual_seed(0)
    net, x = getattr(tg.nn, layer)(2, 3, dtype=np.float64), rng.normal(size=(4, 2, 2))
    weights = net.parameters()

    def penalty(*_):
        return (tg.grad(lambda x: (net(x)[0] ** 2).sum())(x) ** 2).sum()

    assert tg.gradcheck(penalty, weights)
    assert all(w.grad is None for w in weights)


def test_grad_fields_are_never_touched():
    w, x = tg.nn.Parameter([2.0]), Tensor([3.0], requires_grad=True)
    w.grad = x.grad = sentinel = Tensor([7.0])

    def f(x):
        return (w * x * x).sum()

    tg.value_and_grad(f)(x)
    tg.grad(tg.grad(f))(Tensor(2.0, requires_grad=True))
    tg.jvp(f, (x,), (x,))
    tg.vjp(f, x)[1](1.0)
    tg.hessian(f)(x)
    tg.hvp(f, (x,), (x,))
    assert w.grad is sentinel
    assert x.grad is sentinel
    assert sentinel.data.tolist() == [7]


def test_no_grad_outside_cuts_the_result_off_and_no_grad_inside_makes_constants():
    w, x = tg.nn.Parameter([2.0]), Tensor([3.0], requires_grad=True)

    def f(x):
        return (w * x * x).sum()

    def half(x):
        with tg.no_grad():
            y = x * x
        return (x * y).sum()

    with tg.no_grad():
        results = [*tg.value_and_grad(f)(x), tg.jvp(f, (x,), (x,))[1], tg.vjp(f, x)[1](1.0)[0], tg.jacobian(f)(x)]
        same(results, [18, np.array([12]), 36, np.array([12]), np.array([12])])
        same(tg.hessian(f)(x), np.array([[4]]))
        assert not any(result.requires_grad for result in results)
        same(tg.grad(half)(x), np.array([9]))
        assert not (x * x).requires_grad
    same(tg.grad(half)(x), np.array([9]))
    value, slope = tg.value_and_grad(tg.no_grad()(f))(x)
    same([value, slope], [18, np.array([0])])


def test_a_pullback_called_under_no_grad_is_cut_off_as_well():
    w = tg.nn.Parameter([2.0])
    out, pullback = tg.vjp(lambda x: (w * x * x).sum(), np.ones(1))
    with tg.no_grad():
        (pulled,) = pullback(1.0)
    same([out, pulled], [2, np.array([4])])
    assert (out.requires_grad, pulled.requires_grad, pullback(1.0)[0].requires_grad) == (True, False, True)


def test_a_value_may_be_connected_where_its_derivative_is_not():
    w = tg.nn.Parameter([2.0])
    for transform in (
        lambda f: tg.jvp(f, (np.ones(1),), (np.ones(1),))[0],
        lambda f: tg.vjp(f, np.ones(1))[0],
        lambda f: tg.value_and_grad(f)(np.ones(1))[0],
    ):
        w.grad = None
        transform(lambda x: (x + w * w).sum()).backward()
        same(w.grad, np.array([4]))


def test_an_argument_made_under_no_grad_outside_the_transform():
    x = Tensor([3.0], requires_grad=True)
    with tg.no_grad():
        y = x.reshape(1)
    same(tg.grad(lambda y: (y * y).sum())(y), np.array([6]))
    assert not tg.grad(lambda y: (y * y).sum())(y).requires_grad


def test_a_result_that_nothing_outside_needs_is_plain_and_its_graph_is_freed():
    seen = []

    def f(x):
        y = np.exp(x) * x
        seen.append(weakref.ref(y))
        return y.sum()

    gc.collect()
    gc.disable()
    try:
        value, slope = tg.value_and_grad(f)(np.ones(3))
        out, tangent = tg.jvp(f, (np.ones(3),), (np.ones(3),))
        jacobian, hessian = tg.jacobian(f)(np.ones(3)), tg.hessian(f)(np.ones(3))
        product = tg.hvp(f, (np.ones(3),), (np.ones(3),))
        primal, pullback = tg.vjp(f, np.ones(3))
        assert [ref() is None for ref in seen[:-1]] == [True] * (len(seen) - 1)
        assert seen[-1]() is not None  # the pullback may be called at any time
        del pullback
        assert seen[-1]() is None
    finally:
        gc.enable()
    for result in (value, slope, out, tangent, jacobian, hessian, *product, primal):
        assert not result.requires_grad
        assert result.op is None
        result.data[...] = 0  # and the caller's own


def test_a_value_that_stays_connected_brings_nothing_to_hidden_variables():
    w, kept = tg.nn.Parameter(2.0), []

    def f(x):
        kept.append(x)
        return w * x * x

    value, _ = tg.value_and_grad(f)(3.0)
    value.backward(create_graph=True)
    same(w.grad, 9)
    assert kept[0].grad is None


def test_threads_and_tasks_do_not_meet():
    results = {}

    def work(i):
        with tg.no_grad() if i % 2 else tg.detect_anomaly():
            results[i] = tg.hessian(lambda x: (x**3).sum())(np.full(2, float(i))).numpy()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def task(i):
        f = tg.grad(lambda x: (x * x * x).sum())
        await asyncio.sleep(0)
        return tg.jacobian(f)(np.full(2, float(i))).numpy()

    async def main():
        return await asyncio.gather(*map(task, range(6)))

    for i, result in enumerate(asyncio.run(main())):
        np.testing.assert_array_equal(result, 6 * i * np.eye(2))
        np.testing.assert_array_equal(results[i], result)


# -- recurrent layers --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["RNN", "LSTM", "GRU"])
def layer(request):
    tg.manual_seed(1)
    return getattr(tg.nn, request.param)(2, 3, num_layers=2, bidirectional=True, dtype=np.float64)


def test_hessian_of_a_layer(layer, rng):
    x = rng.normal(size=(3, 1, 2))

    def loss(x):
        return (layer(x)[0] ** 2).sum()

    hessian = tg.hessian(loss)(x).numpy().reshape(6, 6)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-13)
    for i, v in enumerate(np.eye(6).reshape(6, 3, 1, 2)):
        np.testing.assert_allclose(hessian[i], slope(tg.grad(loss), x, v).ravel(), rtol=1e-5, atol=1e-8)
        same(tg.hvp(loss, (x,), (v,)), (hessian[i].reshape(3, 1, 2),), atol=1e-13)


def test_jvp_and_vjp_of_a_layer(layer, rng):
    x, v = rng.normal(size=(2, 3, 2, 2))

    def outputs(x):
        y, state = layer(x)
        return (y, *state) if isinstance(state, tuple) else (y, state)

    out, tangents = tg.jvp(outputs, (x,), (v,))
    same(tangents, slope(outputs, x, v), rtol=1e-6, atol=1e-8)
    jacobian = tg.jacobian(outputs)(x)
    cotangents = tuple(rng.normal(size=y.shape) for y in out)
    expected = sum(np.tensordot(c, j.numpy(), c.ndim) for c, j in zip(cotangents, jacobian, strict=True))
    same(tg.vjp(outputs, x)[1](cotangents), (expected,))
    for j, tangent in zip(jacobian, tangents, strict=True):
        np.testing.assert_allclose(np.tensordot(j.numpy(), v, 3), tangent.numpy(), rtol=1e-10, atol=1e-13)


def test_the_state_jacobian_of_a_step_is_what_bptt_multiplies(rng):
    tg.manual_seed(2)
    cell, x = tg.nn.RNNCell(2, 3, dtype=np.float64), rng.normal(size=(4, 2))

    def run(h):
        for x_t in x:
            h = cell(x_t, h)
        return h

    h, product = Tensor(np.zeros(3)), np.eye(3)
    for x_t in x:
        one = tg.jacobian(lambda h: cell(x_t, h))(h).numpy()  # noqa: B023
        h = cell(x_t, h).detach()
        np.testing.assert_allclose(one, (1 - h.numpy() ** 2)[:, None] * cell.weight_hh.numpy(), rtol=1e-12)
        product = one @ product
    same(tg.jacobian(run)(np.zeros(3)).detach(), product)


def test_weights_as_arguments(rng):
    def loss(weights, x):
        h = np.zeros(3)
        for x_t in x:
            h = np.tanh(weights["W"] @ x_t + weights["U"] @ h + weights["b"])
        return (h * h).sum()

    weights = {"W": rng.normal(size=(3, 2)), "U": rng.normal(size=(3, 3)), "b": rng.normal(size=3)}
    directions = {name: rng.normal(size=w.shape) for name, w in weights.items()}
    x = rng.normal(size=(5, 2))
    gradient = tg.grad(loss)(weights, x)
    moved = [{k: w + s * directions[k] for k, w in weights.items()} for s in (1e-6, -1e-6)]
    along = sum(float((gradient[k].numpy() * directions[k]).sum()) for k in weights)
    np.testing.assert_allclose(along, (loss(moved[0], x) - loss(moved[1], x)) / 2e-6, rtol=1e-7)
    same(tg.jvp(lambda w: loss(w, x), (weights,), (directions,))[1], along)
    (product,) = tg.hvp(lambda w: loss(w, x), (weights,), (directions,))
    above, below = (tg.grad(loss)(w, x) for w in moved)
    same(product, {k: (above[k].numpy() - below[k].numpy()) / 2e-6 for k in weights}, rtol=1e-6, atol=1e-8)


# -- what is refused ---------------------------------------------------------------------------------------------------------


def test_what_grad_refuses():
    with pytest.raises(
        TypeError, match=r"must return one number, got shape \(3,\). Reduce it \(.sum\(\)\), or use tg.jacobian"
    ):
        tg.grad(lambda x: x * 2)(np.ones(3))
    with pytest.raises(TypeError, match="must return one number, got a tuple"):
        tg.value_and_grad(lambda x: (x, x))(1.0)
    with pytest.raises(TypeError, match="must return one number, got shape"):
        tg.hessian(lambda x: x * 2)(np.ones(3))
    with pytest.raises(
        TypeError, match=r"only floating dtypes have gradients.*int64.*write 2.0 for 2.*argnums=, or come from"
    ):
        tg.grad(lambda x: x * x)(2)
    with pytest.raises(TypeError, match=r"only floating dtypes have gradients, got 'index' \(shape \(1,\), int64\)"):
        tg.vjp(lambda x, i: x[i], np.ones(3), Tensor([1], name="index"))
    with pytest.raises(TypeError, match="only floating dtypes have gradients"):
        tg.grad(lambda tree: tree["a"])({"a": 1.0, "b": True})
    with pytest.raises(TypeError, match="argnums=2, but the function was called with 2 positional arguments"):
        tg.grad(lambda x, y: x, (0, 2))(1.0, 2.0)
    with pytest.raises(TypeError, match="argnums=-2, but the function was called with 1 positional arguments"):
        tg.grad(lambda x, y: x, -2)(1.0, y=2.0)
    with pytest.raises(TypeError, match="forgetful returned None: does it end with `return`"):
        tg.grad(forgetful)(1.0)
    with pytest.raises(TypeError, match="expected real numbers or bools, got str"):
        tg.grad(lambda x: "text")(1.0)
    with pytest.raises(TypeError, match="expected real numbers or bools, got NoneType"):
        tg.grad(lambda x: x[0])((1.0, None))


def forgetful(x):
    x * x


def test_what_vjp_refuses():
    _, pullback = tg.vjp(lambda x: {"a": x, "b": (x[0], x)}, np.ones(3))
    with pytest.raises(ValueError, match=r"one structure, got \{'a': \*, 'b': \(\*, \*\)\} and \*"):
        pullback(1.0)
    with pytest.raises(ValueError, match=r"one structure, got \{'a': .* and \{'a': \*, 'c': \*\}"):
        pullback({"a": np.ones(3), "c": 1.0})
    with pytest.raises(ValueError, match=r"one structure, got \(\*, \*\) and \[\*, \*\]"):
        pullback({"a": np.ones(3), "b": [1.0, np.ones(3)]})
    with pytest.raises(ValueError, match=r"expected a tangent of shape \(3,\), like the value it belongs to, got \(1, 3\)"):
        pullback({"a": np.ones((1, 3)), "b": (1.0, np.ones(3))})
    with pytest.raises(ValueError, match=r"one structure, got \* and \(\*,\)"):
        tg.vjp(lambda x: x, 1.0)[1]((1.0,))


def test_what_jvp_refuses():
    for transform, name in ((tg.jvp, "jvp"), (tg.hvp, "hvp")):
        with pytest.raises(
            TypeError, match=rf"{name}: expected primals and tangents in a tuple each, such as \(x,\) and \(v,\)"
        ):
            transform(lambda x: x, np.ones(1), np.ones(1))
        with pytest.raises(TypeError, match="got tuple and Tensor"):
            transform(lambda x: x, (np.ones(1),), Tensor([1.0]))
        with pytest.raises(ValueError, match=rf"{name}: 1 primals and 2 tangents"):
            transform(lambda x: x.sum(), (np.ones(3),), (np.ones(3), 1.0))
        with pytest.raises(ValueError, match=r"expected a tangent of shape \(3,\), like the value it belongs to, got \(\)"):
            transform(lambda x: x.sum(), (np.ones(3),), (1.0,))
        with pytest.raises(ValueError, match=r"expected trees of one structure, got \{'a': \*\} and \(\*,\)"):
            transform(lambda x: x["a"], ({"a": 1.0},), ((1.0,),))


def test_an_error_in_the_function_leaves_nothing_behind():
    x = Tensor([1.0], requires_grad=True)
    for transform in (tg.grad, tg.jacobian, tg.hessian, lambda f: partial(tg.vjp, f)):
        with pytest.raises(ZeroDivisionError), tg.no_grad():
            transform(lambda x: 1 / 0)(x)
        assert (x * 1).requires_grad
        with tg.no_grad():
            with pytest.raises(ZeroDivisionError):
                transform(lambda x: 1 / 0)(x)
            assert not (x * 1).requires_grad
    assert x.grad is None


def test_an_edit_between_vjp_and_pullback_is_noticed():
    w = tg.nn.Parameter([2.0], name="w")
    _, pullback = tg.vjp(lambda x: x * w, np.ones(1))
    w.data += 1
    with pytest.raises(RuntimeError, match="modified by an in-place operation: 'w'"):
        pullback(np.ones(1))
    x = np.ones(1)
    _, pullback = tg.vjp(lambda x: x * x, x)
    x += 1  # the variable is a copy
    same(pullback(np.ones(1)), (np.array([2]),))


# -- against PyTorch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_against_torch_func(rng):
    torch = pytest.importorskip("torch")

    def ours(x, w):
        return np.tanh(x @ w) * np.exp(-(x * x)).sum(axis=1, keepdims=True) + 1 / (2 + (w * w).sum())

    def theirs(x, w):
        return torch.tanh(x @ w) * torch.exp(-(x * x)).sum(dim=1, keepdim=True) + 1 / (2 + (w * w).sum())

    x, w, v, u = rng.normal(size=(4, 3, 3))
    tensors = [torch.tensor(a) for a in (x, w, v, u)]

    def check(got, expected):
        if isinstance(expected, tuple):
            assert len(got) == len(expected)
            for one, other in zip(got, expected, strict=True):
                check(one, other)
        else:
            same(got, expected.detach().numpy(), rtol=1e-9, atol=1e-11)

    pair, directions = tuple(tensors[:2]), tuple(tensors[2:])
    scalar, torch_scalar = lambda x, w: (ours(x, w) ** 2).sum(), lambda x, w: (theirs(x, w) ** 2).sum()
    check(tg.jacobian(ours, (0, 1))(x, w), torch.func.jacrev(theirs, (0, 1))(*pair))
    check(tg.jacobian(ours, 1)(x, w), torch.func.jacfwd(theirs, 1)(*pair))
    check(tg.hessian(scalar, (0, 1))(x, w), torch.func.hessian(torch_scalar, (0, 1))(*pair))
    check(tg.jvp(ours, (x, w), (v, u)), torch.func.jvp(theirs, pair, directions))
    check(tg.grad(scalar, (0, 1))(x, w), torch.func.grad(torch_scalar, (0, 1))(*pair))
    check(tg.vjp(ours, x, w)[1](v), torch.func.vjp(theirs, *pair)[1](tensors[2]))
    gradient = torch.func.grad(torch_scalar, (0, 1))
    check(tg.hvp(scalar, (x, w), (v, u)), torch.func.jvp(gradient, pair, directions)[1])


@pytest.mark.parity
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_layers_against_torch_func(name, rng):
    torch = pytest.importorskip("torch")
    tg.manual_seed(3)
    mine, other = getattr(tg.nn, name)(2, 3, dtype=np.float64), getattr(torch.nn, name)(2, 3, dtype=torch.float64)
    other.load_state_dict({k: torch.tensor(w) for k, w in mine.state_dict().items()})
    x, v = rng.normal(size=(2, 4, 1, 2))
    x_torch, v_torch = torch.tensor(x), torch.tensor(v)
    hessian = torch.autograd.functional.hessian(lambda x: (other(x)[0] ** 2).sum(), x_torch)
    same(tg.hessian(lambda x: (mine(x)[0] ** 2).sum())(x), hessian.numpy(), rtol=1e-9, atol=1e-11)
    _, tangent = torch.autograd.functional.jvp(lambda x: other(x)[0], x_torch, v_torch)
    same(tg.jvp(lambda x: mine(x)[0], (x,), (v,))[1], tangent.numpy(), rtol=1e-9, atol=1e-11)
