"""The functions: NumPy's names, values and errors, on Tensors, arrays, lists, numbers; broadcasting and indices at random."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_rnn as tg
from tinygrad_rnn import functions
from tinygrad_rnn.gradcheck import gradcheck
from tinygrad_rnn.tensor import Tensor

rng = np.random.default_rng(0)
X, Y, M = rng.uniform(0.2, 2, (2, 3)), rng.uniform(0.2, 2, (2, 3)), rng.uniform(0.2, 2, (3, 4))
V = rng.uniform(0.2, 2, 3)
C = rng.normal(size=(2, 3, 4))
N = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 0.5]])
INFINITE = np.array([[1.0, np.inf, 3.0, 2.0], [np.nan, -np.inf, 0.5, 1.0], [np.nan, 4.0, 2.0, 1.0]])
POSITIVE = X > 1

PAIRS = [
    "add", "arctan2", "divide", "dot", "hypot", "inner", "kron", "logaddexp", "maximum", "minimum", "mod", "multiply", "outer",
    "power", "subtract",
]  # fmt: skip

# Every public function on arrays; NumPy's of the same name is the oracle.
CALLS = {
    "abs": [(X - 1,)],
    "add": [(X, V)],
    "append": [(X, Y), (X, Y, 0), (V, 4.0), ([1.0, 2.0], [[3.0]])],
    "arccos": [(X / 3,)],
    "arccosh": [(X + 1,)],
    "arcsin": [(X / 3,)],
    "arcsinh": [(X,)],
    "arctan": [(X,)],
    "arctan2": [(X - 1, V - 1)],
    "arctanh": [(X / 3,)],
    "array": [([1.0, 2.0],), (X,)],
    "array_split": [(V, 2), (M, 2, 1), (M, [1, 3], -1), (V, 5)],
    "atleast_1d": [(X,), (1.5,), (X, 1.5)],
    "atleast_2d": [(V,), (C,), (V, 1.5)],
    "atleast_3d": [(V,), (X,), (C,)],
    "average": [(X,), (X, 1), (X, 1, V), (X, None, Y), (X, 0, Y, True)],
    "broadcast_arrays": [(X, V, 1.5)],
    "cbrt": [(X - 1,)],
    "column_stack": [([V, V],), ([X, X],), ([V, M],)],
    "copy": [(X,), (1.5,), (np.arange(3),)],
    "copysign": [(X, Y - 1), (V - 1, np.array([0.0, -0.0, 1.0])), (V, np.array([1, -1, 0])), (np.arange(3), [-1, 1, -1])],
    "cosh": [(X,)],
    "cross": [(X, V), (C[:, :, 0], V), (M, M, 0, 0, 0), (M, M, -1, -1, -1, 0)],
    "cumprod": [(X,), (X, 1), (C, -2)],
    "cumsum": [(X,), (X, 1), (C, -2)],
    "deg2rad": [(X,)],
    "degrees": [(X,)],
    "delete": [(V, 1), (X, [0, 2], 1), (X, 3), (V, slice(0, 2))],
    "diag": [(V,), (V, 1), (V, -2), (X,), (X, 1), (X, -1), (X, 9)],
    "diagflat": [(X,), (V, 1)],
    "diagonal": [(X,), (C,), (C, 1, 2, 0), (C, -1, 1, -1)],
    "diff": [(X,), (C, 2, 1), (V, 1, -1, 0.5), (X, 1, 0, Y, 1.0), (V, 0), (V, 4)],
    "divmod": [(X, V), (X - 1, -V)],
    "dsplit": [(C, 2), (C, [1])],
    "dstack": [([V, V],), ([X, X],), ([C, C],)],
    "exp2": [(X,)],
    "expm1": [(X,)],
    "flip": [(X,), (X, 0), (C, (0, -1)), (C, ())],
    "fliplr": [(X,)],
    "flipud": [(X,)],
    "float_power": [(X, 2), (np.arange(1, 4), -1.0), (X, Y)],
    "fmax": [(X, Y), (N, Y), (N, N[::-1])],
    "fmin": [(X, Y), (N, Y), (N, N[::-1])],
    "fmod": [(X - 1, V), (X, -V / 2)],
    "full_like": [(X, 2), (X, V), (np.arange(3), 1.5)],
    "gradient": [(V,), (X,), (C, 0.5), (C, 1.0, 2.0, np.array([0.0, 1, 3, 4])), (V, np.array([0.0, 2, 3]))],
    "hsplit": [(X, 3), (V, 3), (C, [1])],
    "hstack": [([V, V],), ([X, X],), ([C, C],), ([1.5, 2.5],)],
    "hypot": [(X, V), (np.array([1e200]), np.array([1e200]))],
    "inner": [(V, V), (X, V), (C, M), (V, 2.0), (2.0, X)],
    "kron": [(V, V), (X, M), (V, X), (C, V), (X, 2.0)],
    "linspace": [(0.5, 2.0, 5), (V, 1.0, 3), (0.0, 1.0, 4, False), (1.0, 2.0, 1), (1.0, 2.0, 0), (X, V, 3)],
    "log2": [(X,)],
    "log10": [(X,)],
    "logaddexp2": [(X, Y)],
    "matrix_transpose": [(X,), (C,)],
    "median": [
        (V,),
        (X,),
        (X, 0),
        (X, 1),
        (C, (0, 2)),
        (
            C,
            1,
        ),
        (N, 1),
        (np.arange(4.0),),
    ],
    "meshgrid": [(V, V[:2]), (V,), (V, V[:2], V), ()],
    "mod": [(X, V), (X - 1, -V)],
    "modf": [(X * 3 - 2,)],
    "nan_to_num": [(N,), (np.array([np.inf, -np.inf, np.nan, 1.0]),)],
    "nancumprod": [(N,), (N, 1)],
    "nancumsum": [(N,), (N, 1)],
    "nanmax": [(N,), (N, 1), (INFINITE, 1), (np.arange(3),)],
    "nanmean": [(N,), (N, 1), (INFINITE, 1), (np.arange(3),)],
    "nanmedian": [(N,), (N, 1), (C, (0, 1)), (INFINITE,), (INFINITE, 0), (INFINITE, 1)],
    "nanmin": [(N,), (N, 1), (INFINITE, 1), (np.arange(3),)],
    "nanprod": [(N,), (N, 1)],
    "nanstd": [(N,), (N, 1), (INFINITE, 0), (INFINITE, 1)],
    "nansum": [(N,), (N, 0), (INFINITE, 1), (np.arange(3),)],
    "nanvar": [(N,), (N, 1), (INFINITE,), (INFINITE, 0), (INFINITE, 1)],
    "pad": [
        (X, 0),
        (X, 2),
        (X, (1, 2)),
        (X, ((0, 1), (2, 0))),
        (X, ((1, 2),)),
        *((C, 2, mode) for mode in ("edge", "symmetric", "wrap")),
        (C, 1, "reflect"),
    ],
    "partition": [(V, 1), (X, 0, 1), (C, 2, -1), (X, 3, None)],
    "positive": [(X,)],
    "ptp": [(X,), (X, 0)],
    "rad2deg": [(X,)],
    "radians": [(X,)],
    "reciprocal": [(X,)],
    "repeat": [(X, 2), (X, 2, 1), (X, [1, 0, 2], 1), (V, 0), (1.5, 3)],
    "roll": [(V, 1), (X, 2), (X, -1, 1), (C, (1, 2), (0, 2)), (X, (1, 1), (1, 1)), (X, 7, 0)],
    "rollaxis": [(C, 2), (C, 0, 2), (C, -1, 1)],
    "rot90": [*((X, k) for k in range(-1, 5)), (C, 1, (1, 2)), (C, 3, (2, 0))],
    "select": [([POSITIVE, X > 0.5], [X, Y]), ([POSITIVE], [X], 2.0), ([POSITIVE], [X], Y)],
    "sinc": [(X - 1,), (np.zeros(2),)],
    "sinh": [(X,)],
    "sort": [(V,), (X,), (X, 0), (X, None), (C, -2)],
    "take": [(V, [0, 2, 0]), (X, 1, 0), (X, [[0, 2]], 1), (X, 4), (X, np.array([0, 5]))],
    "take_along_axis": [(X, np.argsort(X), 1), (X, X.argmax(0)[None], 0), (X, np.array([4, 0]), None)],
    "tan": [(X,)],
    "tensordot": [
        (X, M, 1),
        (C, C, 3),
        (C, C[0]),
        (V, V, 0),
        (X, M, (1, 0)),
        (C, X, ([0, 1], [0, 1])),
        (C, X, [[1, 0], [1, 0]]),
        (V, 2.0, 0),
    ],
    "tile": [(V, 2), (X, (2, 1)), (V, (2, 2)), (C, (2,)), (X, 0), (X, np.array([1, 2]))],
    "trace": [(X,), (C,), (C, 1, 1, 2), (X, -1)],
    "trapezoid": [(X,), (X, V), (X, None, 0.5, 0), (C, None, 2.0, 1)],
    "tril": [(X,), (C, 1), (M, -1), (V,)],
    "triu": [(X,), (C, 1), (M, -1), (V,)],
    "vdot": [(V, V), (X, Y)],
    "vecdot": [(X, Y), (X, V)],
    "vsplit": [(X, 2), (M, [1, 2])],
    "vstack": [([V, V],), ([V, X],), ([C, C],), ([1.5, 2.5],)],
    "broadcast_to": [(V, (2, 3)), (V, [4, 3])],
    "clip": [(X, 0.5, 1), (X, None, 1), (X, 0.5, None)],
    "concatenate": [([X, Y],), ((X, Y), 1), ([X, V], None)],
    "cos": [(X,)],
    "divide": [(X, Y)],
    "dot": [
        (X, M),
        (V, V),
        (X, V),
        (np.ones((2, 3, 4)), np.ones((5, 4, 3))),
        (2.0, V),
        (V, 2.0),
        (np.ones((2, 3, 4)), np.ones(4)),
    ],
    "einsum": [("ij,jk->ik", X, M), ("ij,jk", X, M), ("ij", X), ("ba", X), ("...j,j", X, V), ("ij->", X), (" i j -> j i ", X)],
    "exp": [(X,)],
    "expand_dims": [(X, 0), (X, (0, -1))],
    "log": [(X,)],
    "log1p": [(X,)],
    "logaddexp": [(X, Y)],
    "matmul": [(X, M), (V, M)],
    "max": [(X,), (X, 1), (X, (0, 1))],
    "maximum": [(X, Y), (X, 1)],
    "mean": [(X,), (X, 0), (X, (0, -1))],
    "min": [(X,), (X, -1)],
    "minimum": [(X, Y)],
    "moveaxis": [(np.ones((2, 3, 4)), 0, -1), (np.ones((2, 3, 4)), [0, 1], [1, 2])],
    "multiply": [(X, Y), (X, V)],
    "negative": [(X,)],
    "outer": [(V, V), (X, V), (2.0, V)],
    "power": [(X, Y), (2, X), (X, 2)],
    "prod": [(X,), (X, 0)],
    "ravel": [(X,)],
    "reshape": [(X, (3, 2)), (X, -1), (X, [6])],
    "sin": [(X,)],
    "split": [(X, 3, 1), (X, [1, 2], -1), (M, np.int64(3)), (V, (1,)), (V, [-1])],
    "sqrt": [(X,)],
    "square": [(X,)],
    "squeeze": [(X[None],), (X[:, :, None], -1)],
    "stack": [([X, Y],), ((X, Y), 1), ([X, Y], -1)],
    "std": [(X,), (X, 1)],
    "subtract": [(X, V)],
    "sum": [(X,), (X, 0), (X, (0, 1)), (X, ())],
    "swapaxes": [(X, 0, -1)],
    "tanh": [(X,)],
    "transpose": [(X,), (np.ones((2, 3, 4)), (1, -1, 0)), (X, None)],
    "var": [(X,), (X, 0)],
    "where": [(X > 1, X, Y), (X > 1, X, 0)],
}


def to_tensors(x):
    if isinstance(x, np.ndarray) and x.dtype == float:
        return Tensor(x)
    return type(x)(map(to_tensors, x)) if isinstance(x, list | tuple) and any(isinstance(y, np.ndarray) for y in x) else x


def test_every_function_is_covered_and_public():
    assert set(CALLS) | {"logsumexp", "relu", "sigmoid"} == set(functions.__all__)
    assert all(getattr(tg, name) is getattr(functions, name) for name in functions.__all__)
    assert all(inspect.getdoc(getattr(functions, name)) for name in functions.__all__)


@pytest.mark.filterwarnings("ignore:All-NaN|invalid value|Mean of empty|Degrees of freedom:RuntimeWarning")
@pytest.mark.parametrize(("name", "args"), [(name, args) for name, calls in CALLS.items() for args in calls])
def test_values_are_numpys_on_arrays_and_on_tensors(name, args):
    expected = getattr(np, name)(*args)
    for given_args in (args, to_tensors(args)):
        got = getattr(functions, name)(*given_args)
        flat = zip(got, expected, strict=True) if isinstance(got, list | tuple) else [(got, expected)]
        for ours, numpys in flat:
            assert isinstance(ours, Tensor)
            assert ours.dtype == np.asarray(numpys).dtype
            np.testing.assert_allclose(ours.numpy(), numpys, rtol=1e-14, atol=1e-15, strict=True)


def with_floats_as(dtype, x, wrap=lambda array: array):
    if isinstance(x, np.ndarray) and x.dtype == float:
        return wrap(x.astype(dtype))
    return type(x)(with_floats_as(dtype, y, wrap) for y in x) if isinstance(x, list | tuple) else x


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(set(CALLS) - {"dot", "float_power"}))
def test_the_dtype_is_numpys_and_gradients_keep_it(name):
    for args in CALLS[name]:
        leaves = []

        def leaf(x, leaves=leaves):
            leaves.append(Tensor(x, requires_grad=name != "gradient" or not leaves))
            return leaves[-1]

        got, expected = getattr(tg, name)(*with_floats_as("f4", args, leaf)), getattr(np, name)(*with_floats_as("f4", args))
        pairs = zip(got, expected, strict=True) if isinstance(got, list | tuple) else [(got, expected)]
        for ours, numpys in pairs:
            assert ours.dtype == np.asarray(numpys).dtype
            if ours.requires_grad:
                ours.sum().backward()
        assert {x.grad.dtype for x in leaves if x.grad is not None} <= {np.dtype("f4")}


@pytest.mark.parametrize(
    "name",
    [
        "abs", "add", "arctan", "arctan2", "broadcast_to", "cbrt", "clip", "cos", "divide", "dot", "exp", "expand_dims",
        "expm1", "hypot", "inner", "kron", "log", "log10", "log1p", "logaddexp", "max", "maximum", "mean", "median", "min",
        "minimum", "mod", "multiply", "negative", "nansum", "outer", "power", "prod", "ptp", "ravel", "reciprocal", "reshape",
        "sin", "sinc", "sinh", "sqrt", "square", "squeeze", "std", "subtract", "sum", "tanh", "transpose", "var", "where",
    ],
)  # fmt: skip
def test_numbers_and_lists_will_do(name):
    args = {"broadcast_to": (2,), "clip": (0, 1), "expand_dims": (0,), "reshape": (-1,), "where": (1.0, 2.0)}
    pair = name in PAIRS
    rest = args.get(name, (1.5,) if pair else ())
    for x in (0.5, [0.5, 0.25], 2):
        expected = getattr(np, name)(x, *rest)
        np.testing.assert_allclose(getattr(functions, name)(x, *rest).numpy(), expected, rtol=1e-15)


def test_sigmoid_and_relu():
    for x in (0.5, [0.5, -0.25], X, Tensor(X - 1), 1, np.arange(3)):
        array = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
        np.testing.assert_allclose(tg.sigmoid(x).numpy(), 1 / (1 + np.exp(-array)), rtol=1e-15)
        np.testing.assert_array_equal(tg.relu(x).numpy(), np.maximum(array, 0))


def test_logsumexp_neither_overflows_nor_loses_infinities():
    x = np.array([[1000.0, 1000.5], [-np.inf, -1000.0], [-np.inf, -np.inf]])
    with np.errstate(divide="ignore"):
        got = tg.logsumexp(x, axis=1, keepdims=True).numpy()
    np.testing.assert_allclose(got, np.logaddexp.reduce(x, axis=1, keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(tg.logsumexp(C, axis=(0, 2)).numpy(), np.log(np.exp(C).sum((0, 2))), rtol=1e-14)
    assert gradcheck(lambda x: tg.logsumexp(x, axis=1), X, second_order=True)


def test_lists_of_tensors():
    x = Tensor(0.0, requires_grad=True)
    for f, slope in [
        (lambda x: tg.mean([x, x + 2]), 1), (lambda x: tg.std((x, x + 2)), 0), (lambda x: tg.sum([[x, 1.0], [x, x]]), 3),
        (lambda x: tg.linalg.norm([x, x + 2]), 1), (lambda x: tg.array([[x, 1], [2, x]]).T[0].sum(), 1),
        (lambda x: np.array([1.0, x, x], like=x).sum(), 2), (lambda x: tg.append([x, x], 1.0)[1], 1),
    ]:  # fmt: skip
        x.grad = None
        f(x).backward()
        assert x.grad.item() == slope
    assert tg.array([x, 1], dtype=np.float32).dtype == np.float32


def test_padding_and_where_by_their_other_arguments():
    padded = np.pad(X, ((1, 0), (0, 2)), constant_values=((1, 2), (3, 4)))
    np.testing.assert_array_equal(np.pad(Tensor(X), ((1, 0), (0, 2)), constant_values=((1, 2), (3, 4))).numpy(), padded)
    np.testing.assert_array_equal(np.where(Tensor(X) > 1), np.where(X > 1))


def test_a_copy_stays_as_it_was_and_passes_the_gradient_on():
    for copy in (np.copy, tg.copy, Tensor.copy):
        w = Tensor(V, requires_grad=True)
        before = copy(w)
        (before * V).sum().backward()
        w.data += 1
        np.testing.assert_array_equal(before.numpy(), V)
        np.testing.assert_array_equal(w.grad.numpy(), V)


def test_generators_and_clip_by_any_name():
    assert tg.stack(Tensor(V) for _ in range(2)).shape == (2, 3)
    assert tg.concatenate(Tensor(V) for _ in range(2)).shape == (6,)
    for clipped in (tg.clip(V, 0.5, 1), tg.clip(V, min=0.5, max=1), tg.clip(V, a_min=0.5, a_max=1), Tensor(V).clip(0.5, 1)):
        np.testing.assert_array_equal(clipped.numpy(), np.clip(V, 0.5, 1))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: tg.split(X, 4, 1), ValueError, "split: an axis of length 3 cannot be cut into 4 equal sections"),
        (lambda: tg.split(X, 0), ValueError, "split: .* 0 equal sections"),
        (lambda: tg.split(X, [2, 1], 1), ValueError, r"split: expected indices in ascending order, got \[2, 1\]"),
        (lambda: tg.split(X, 2, 5), np.exceptions.AxisError, "axis 5 is out of bounds"),
        (lambda: tg.einsum("ij,jk", X), ValueError, "einsum: 'ij,jk' has 2 operands, got 1"),
        (lambda: tg.einsum("i...", 1.0), ValueError, "einsum: 'i...' names more axes than the operands have"),
        (
            lambda: tg.einsum(X, "ij"),
            TypeError,
            'einsum: expected subscripts such as "ij,jk->ik", or a list of axes, got a str',
        ),
        (lambda: tg.einsum("ij,jk", X, X), ValueError, r"einsum: .*\(inputs: a Tensor \(shape \(2, 3\), float64\), a Tensor"),
        (
            lambda: tg.tensordot(X, X, 1),
            ValueError,
            r"tensordot: axes \[1\] of a Tensor .* and \[0\] of a Tensor .* differ in length",
        ),
        (lambda: tg.cross(V, V[:2]), ValueError, r"cross: expected vectors of length 3, got .* and .* \(shape \(2,\)"),
        (lambda: tg.where(X > 1, X), ValueError, "where: expected both x and y, or neither"),
        (lambda: tg.meshgrid(V, indexing="ji"), ValueError, "meshgrid: indexing is 'xy' or 'ij', got 'ji'"),
        (lambda: tg.take_along_axis(X, [0]), ValueError, r"take_along_axis: indices of 1 axes for a Tensor .*; expected 2"),
        (lambda: tg.select([X > 1], []), ValueError, "select: 1 conditions for 0 choices; expected one for each"),
        (lambda: tg.diag(C), ValueError, r"diag: expected a vector or a matrix, got a Tensor \(shape \(2, 3, 4\)"),
        (lambda: tg.pad(X, 1, "mean"), ValueError, "pad: mode is 'constant', 'edge', .*, got 'mean'"),
        (lambda: tg.average(X, 0, V), ValueError, r"average: weights of shape \(3,\) along axis 0 of a Tensor"),
        (lambda: tg.gradient(X, 1.0, 2.0, 3.0), TypeError, "gradient: 3 spacings for 2 axes; expected one number"),
        (lambda: tg.gradient(X[:1]), ValueError, r"gradient: a Tensor .* has fewer than 2 elements along axis 0"),
        (lambda: tg.linalg.svd(X), ValueError, "svd: the full matrices .* write full_matrices=False"),
        (lambda: tg.linalg.eigh(X[:, :2], "D"), ValueError, "eigh: UPLO is 'L' or 'U', got 'D'"),
        (
            lambda: tg.linalg.norm(C, 2),
            ValueError,
            r"norm: ord=2 over axes \(0, 1, 2\) .*; expected one axis, or two for a matrix",
        ),
        (lambda: tg.linalg.norm(X, 3), ValueError, "norm: a matrix has the orders 1, -1, 2, .*, got 3"),
        (lambda: tg.clip(X), ValueError, "clip: expected min, max, or both"),
        (
            lambda: Tensor(X).astype(complex),
            TypeError,
            r"astype: expected a dtype of real numbers or bools for a Tensor \(shape \(2, 3\), float64\), got complex128",
        ),
        (lambda: tg.reshape(X, 5), ValueError, r"reshape: cannot reshape array of size 6 into shape \(5,\).*inputs: a Tensor"),
        (lambda: tg.transpose(X, (0, 0)), ValueError, r"transpose: axes .* are not a permutation of the 2 axes of a Tensor"),
        (lambda: tg.broadcast_to(X, (2, 2)), ValueError, "broadcast_to: .*requested shape"),
        (lambda: tg.stack([V, X]), ValueError, "stack: all input arrays must have the same shape"),
        (lambda: tg.concatenate([]), ValueError, "concatenate: need at least one array"),
        (lambda: tg.squeeze(X, 0), ValueError, "not equal to one"),
        (lambda: tg.sum(X, 2), np.exceptions.AxisError, "sum: axis 2 is out of bounds"),
        (lambda: tg.max(np.zeros((0, 2))), ValueError, "max: zero-size array"),
        (
            lambda: tg.matmul(X, X),
            ValueError,
            r"matmul: .*\(inputs: a Tensor \(shape \(2, 3\), float64\), a Tensor \(shape \(2, 3\)",
        ),
    ],
)
def test_errors_name_what_was_given(call, error, match):
    with pytest.raises(error, match=match):
        call()


# -- at random ---------------------------------------------------------------------------------------------------------------

numbers = st.floats(0.25, 2)
quick = settings(max_examples=150, deadline=None, derandomize=True)


def arrays(shape):
    return hnp.arrays(np.float64, shape, elements=numbers)


@quick
@given(st.data(), hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0))
def test_broadcasting_at_random(data, shapes):
    inputs = [data.draw(arrays(shape)) for shape in shapes.input_shapes]
    f = data.draw(
        st.sampled_from(
            [
                lambda x, y, z: x * y + z / (x + 1),
                lambda x, y, z: np.where(np.broadcast_to(True, shapes.result_shape), x - y, z) * z,
                lambda x, y, z: (x**y).sum() * z + x,
                lambda x, y, z: np.tanh(x * y) * x.sum() + np.logaddexp(y, z),
            ]
        )
    )
    out = f(*map(Tensor, inputs))
    np.testing.assert_allclose(out.numpy(), f(*inputs), rtol=1e-14)
    assert gradcheck(lambda *xs: f(*xs).sum(), inputs, second_order=True)


@st.composite
def keys(draw, shape):
    """Basic, advanced, boolean and mixed indices, with Nones, an Ellipsis and repetitions."""
    if draw(st.booleans()):
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    if draw(st.booleans()):
        return draw(hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))]))
    lengths = hnp.broadcastable_shapes((draw(st.integers(0, 4)),), max_dims=2, max_side=4)
    key = []
    for n in shape[: draw(st.integers(1, len(shape)))]:
        kind = draw(st.integers(0, 3))
        if kind < 2:
            key.append(draw(hnp.arrays(np.intp, draw(lengths), elements=st.integers(-n, n - 1))))
        else:
            key.append(draw(st.slices(n)) if kind == 2 else draw(st.integers(-n, n - 1)))
    return tuple(key)


@quick
@given(st.data(), hnp.array_shapes(max_dims=3, max_side=4))
def test_indexing_at_random(data, shape):
    x, key, other = data.draw(arrays(shape)), data.draw(keys(shape)), data.draw(keys(shape))
    try:
        expected = x[key], x[other]
    except IndexError:  # arrays that do not broadcast against each other
        with pytest.raises(IndexError, match="getitem: "):
            Tensor(x)[key], Tensor(x)[other]
        return
    np.testing.assert_array_equal(Tensor(x)[key].numpy(), expected[0])
    np.testing.assert_array_equal(Tensor(x)[other].numpy(), expected[1])
    assert gradcheck(lambda x: ((x[key] ** 2).sum() * x[other]).sum() + (x[key] * 2.0).sum(), x, second_order=True)


@quick
@given(
    st.data(),
    hnp.array_shapes(max_dims=4, max_side=3),
    st.sampled_from(["sum", "mean", "prod", "max", "min", "var"]),
    st.booleans(),
)
def test_reductions_at_random(data, shape, name, keepdims):
    x = np.asarray(data.draw(st.permutations(range(int(np.prod(shape))))), float).reshape(shape) / 10 + 0.5  # no ties
    axis = data.draw(st.none() | hnp.valid_tuple_axes(len(shape)))
    expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    got = getattr(Tensor(x), name)(axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13, atol=1e-15)
    assert gradcheck(lambda x: (getattr(x, name)(axis=axis, keepdims=keepdims) ** 2).sum(), x, rtol=1e-4)


@quick
@given(st.data())
def test_matmul_at_random(data):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3, min_side=0))
    a, b = (data.draw(arrays(shape)) for shape in shapes.input_shapes)
    c = data.draw(arrays(a.shape))
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).numpy(), a @ b, rtol=1e-14)
    assert gradcheck(lambda a, b, c: ((a @ b) ** 2).sum() + (c @ b).sum(), [a, b, c], second_order=True)
