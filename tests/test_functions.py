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

# Every public function on arrays; NumPy's of the same name is the oracle.
CALLS = {
    "abs": [(X - 1,)],
    "add": [(X, V)],
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
    assert set(CALLS) | {"relu", "sigmoid"} == set(functions.__all__)
    assert functions.__all__ == sorted(functions.__all__)
    assert all(getattr(tg, name) is getattr(functions, name) for name in functions.__all__)
    assert all(inspect.getdoc(getattr(functions, name)) for name in functions.__all__)


@pytest.mark.parametrize(("name", "args"), [(name, args) for name, calls in CALLS.items() for args in calls])
def test_values_are_numpys_on_arrays_and_on_tensors(name, args):
    expected = getattr(np, name)(*args)
    for given_args in (args, to_tensors(args)):
        got = getattr(functions, name)(*given_args)
        flat = zip(got, expected, strict=True) if isinstance(got, list) else [(got, expected)]
        for ours, numpys in flat:
            assert isinstance(ours, Tensor)
            assert ours.dtype == np.asarray(numpys).dtype
            np.testing.assert_allclose(ours.numpy(), numpys, rtol=1e-15, strict=True)


@pytest.mark.parametrize(
    "name", sorted(set(CALLS) - {"concatenate", "einsum", "matmul", "split", "stack", "swapaxes", "moveaxis"})
)
def test_numbers_and_lists_will_do(name):
    args = {"broadcast_to": (2,), "clip": (0, 1), "expand_dims": (0,), "reshape": (-1,), "where": (1.0, 2.0)}
    pair = name in {"add", "divide", "dot", "logaddexp", "maximum", "minimum", "multiply", "outer", "power", "subtract"}
    rest = args.get(name, (1.5,) if pair else ())
    for x in (0.5, [0.5, 0.25], 2):
        expected = getattr(np, name)(x, *rest)
        np.testing.assert_allclose(getattr(functions, name)(x, *rest).numpy(), expected, rtol=1e-15)


def test_sigmoid_and_relu():
    for x in (0.5, [0.5, -0.25], X, Tensor(X - 1), 1, np.arange(3)):
        array = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
        np.testing.assert_allclose(tg.sigmoid(x).numpy(), 1 / (1 + np.exp(-array)), rtol=1e-15)
        np.testing.assert_array_equal(tg.relu(x).numpy(), np.maximum(array, 0))


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
        (lambda: tg.einsum(X, [0, 1]), TypeError, 'einsum: expected subscripts such as "ij,jk->ik" first, got a ndarray'),
        (lambda: tg.einsum("ij,jk", X, X), ValueError, r"einsum: .*\(inputs: a Tensor \(shape \(2, 3\), float64\), a Tensor"),
        (lambda: tg.clip(X), ValueError, "clip: expected min, max, or both"),
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
