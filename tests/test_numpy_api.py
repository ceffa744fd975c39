"""NumPy code as it is: forwards written for arrays, the seeds' own, take Tensors; what cannot join says what can."""

from operator import attrgetter

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import functions, numpy_api
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.functions import linalg
from tinygrad_rnn.gradcheck import gradcheck
from tinygrad_rnn.tensor import Tensor

rng = np.random.default_rng(0)
X = rng.normal(size=(2, 3))


def leaf(data):
    return Tensor(np.asarray(data, dtype=float), requires_grad=True)


# -- the seeds' forwards, word for word --------------------------------------------------------------------------------------


class SeedClassifier:  # seed 000: `self` holds arrays there, Tensors here
    def forward(self, x):
        self.x = x
        self.h = np.zeros((self.hidden_size, 1))
        for t in range(len(x)):
            self.h = np.tanh(np.dot(self.Wxh, x[t]) + np.dot(self.Whh, self.h) + self.bh)
        self.y_pred = np.dot(self.Why, self.h) + self.by
        return self.sigmoid(self.y_pred)

    def sigmoid(self, z):
        return 1 / (1 + np.exp(-np.clip(z, -250, 250)))

    def loss(self, x, y):
        pred = self.forward(x)
        return -np.mean(y * np.log(pred + 1e-8) + (1 - y) * np.log(1 - pred + 1e-8))


class SeedRegression:  # seed 002
    def forward(self, x_seq):
        h_seq = []
        y_seq = []
        h_t = np.zeros((self.hidden_size,))
        for x_t in x_seq:
            h_t = np.tanh(x_t @ self.W_xh + h_t @ self.W_hh + self.b_h)
            y_t = h_t @ self.W_hy + self.b_y
            h_seq.append(h_t)
            y_seq.append(y_t)
        h_seq = np.stack(h_seq, axis=0)
        y_seq = np.stack(y_seq, axis=0)
        return h_seq, y_seq

    def compute_loss(self, y_pred, y_true):
        return 0.5 * np.sum((y_pred - y_true) ** 2)

    def backward(self, x_seq, h_seq, y_seq, y_true):  # its BPTT, correct, up to the updates
        dW_xh, dW_hh, dW_hy = np.zeros_like(self.W_xh), np.zeros_like(self.W_hh), np.zeros_like(self.W_hy)
        db_h, db_y, dh_next = np.zeros_like(self.b_h), np.zeros_like(self.b_y), np.zeros((self.hidden_size,))
        for t in reversed(range(len(x_seq))):
            dy = y_seq[t] - y_true[t]
            dW_hy += np.outer(h_seq[t], dy)
            db_y += dy
            dh = dy @ self.W_hy.T + dh_next
            dtanh = (1 - h_seq[t] ** 2) * dh
            dW_xh += np.outer(x_seq[t], dtanh)
            h_prev = np.zeros_like(h_seq[t]) if t == 0 else h_seq[t - 1]
            dW_hh += np.outer(h_prev, dtanh)
            db_h += dtanh
            dh_next = dtanh @ self.W_hh.T
        return [dW_xh, dW_hh, dW_hy, db_h, db_y]


B, E, H = 1, 5, 3


def manual_rnn_numpy(x_np, U_np, W_np):  # seed 004
    B_local, T_local, _ = x_np.shape
    h_prev = np.zeros((B_local, H), dtype=np.float32)
    steps = []
    for t in range(T_local):
        x_t = x_np[:, t, :]
        h_t = np.tanh(x_t @ U_np + h_prev @ W_np)
        steps.append(h_t)
        h_prev = h_t
    return np.stack(steps, axis=1), h_prev


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def manual_lstm_numpy(x_np, weights):  # seed 004
    U_f, W_f, U_i, W_i, U_c, W_c, U_o, W_o = weights
    B_local, T_local, _ = x_np.shape
    h_prev = np.zeros((B_local, H), dtype=np.float32)
    c_prev = np.zeros((B_local, H), dtype=np.float32)
    steps = []
    for t in range(T_local):
        x_t = x_np[:, t, :]
        f_t = sigmoid(x_t @ U_f + h_prev @ W_f)
        i_t = sigmoid(x_t @ U_i + h_prev @ W_i)
        c_tilde_t = np.tanh(x_t @ U_c + h_prev @ W_c)
        c_t = f_t * c_prev + i_t * c_tilde_t
        o_t = sigmoid(x_t @ U_o + h_prev @ W_o)
        h_t = o_t * np.tanh(c_t)
        steps.append(h_t)
        h_prev, c_prev = h_t, c_t
    outputs = np.stack(steps, axis=1)
    return outputs, h_prev, c_prev


def with_weights(net, names, arrays):
    for name, array in zip(names, arrays, strict=True):
        setattr(net, name, array)
    return net


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_classifier_of_seed_000(label):
    names = ["Wxh", "Whh", "Why", "bh", "by"]
    arrays = [rng.normal(size=shape) * 0.5 for shape in [(4, 1), (4, 4), (1, 4), (4, 1), (1, 1)]]
    x, y, net = rng.normal(size=(10, 1, 1)), np.array([[label]]), SeedClassifier()
    net.hidden_size = 4
    expected = with_weights(net, names, arrays).loss(x, y)
    assert with_weights(net, names, map(leaf, arrays)).loss(x, y).item() == pytest.approx(expected, rel=1e-14)
    assert gradcheck(lambda *weights: with_weights(net, names, weights).loss(x, y), arrays, second_order=False)


def test_the_regression_of_seed_002_and_its_own_bptt():
    names = ["W_xh", "W_hh", "W_hy", "b_h", "b_y"]
    arrays = [rng.normal(size=shape) * 0.5 for shape in [(1, 8), (8, 8), (8, 1), (8,), (1,)]]
    x, net = rng.normal(size=(10, 1)), SeedRegression()
    net.hidden_size = 8

    h_seq, y_seq = with_weights(net, names, arrays).forward(x)
    loss, by_hand = net.compute_loss(y_seq, 2 * x), net.backward(x, h_seq, y_seq, 2 * x)

    leaves = [leaf(array) for array in arrays]
    ours = net.compute_loss(with_weights(net, names, leaves).forward(x)[1], 2 * x)
    ours.backward()
    assert ours.item() == pytest.approx(loss, rel=1e-14)
    for weight, expected in zip(leaves, by_hand, strict=True):
        np.testing.assert_allclose(weight.grad.data, expected, rtol=1e-10, atol=1e-12)


def test_the_rnn_and_the_lstm_of_seed_004():
    x = rng.normal(size=(B, 4, E))
    arrays = [rng.normal(size=shape) for _ in range(4) for shape in [(E, H), (H, H)]]
    leaves = [leaf(array) for array in arrays]
    for ours, expected in [
        *zip(manual_rnn_numpy(leaf(x), *leaves[:2]), manual_rnn_numpy(x, *arrays[:2]), strict=True),
        *zip(manual_lstm_numpy(x, leaves), manual_lstm_numpy(x, arrays), strict=True),
    ]:
        assert ours.requires_grad
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
    assert gradcheck(lambda x, U, W: manual_rnn_numpy(x, U, W)[0], [x, *arrays[:2]])
    assert gradcheck(lambda x, *weights: manual_lstm_numpy(x, weights)[0], [x, *arrays])


# -- mixing, in both orders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [X, X[0], np.float64(2), 2, 2.5, True, X[0].tolist(), np.arange(3), np.array(1.5)])
def test_an_array_on_either_side(other):
    x = leaf(X)
    for f in [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / (b * b + 1),
        np.add,
        np.maximum,
        lambda a, b: abs(a) ** b,
        np.logaddexp,
    ]:
        if isinstance(other, list) and not isinstance(f, np.ufunc):
            continue
        for got, expected in [(f(x, other), f(X, other)), (f(other, x), f(other, X))]:
            assert isinstance(got, Tensor)
            assert got.requires_grad
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-15, strict=True)


def test_matrix_products_on_either_side():
    x = leaf(X)
    for got, expected in [
        (x @ X.T, X @ X.T),
        (X.T @ x, X.T @ X),
        (np.dot(X, x.T), X @ X.T),
        (np.dot(x, X[0]), X @ X[0]),
        (np.outer(X, x), np.outer(X, X)),
        (np.einsum("ij,kj->ik", X, x), X @ X.T),
        (np.matmul(X[0], x.T), X[0] @ X.T),
        (x.dot(X.T), X @ X.T),
        (X.dot(X.T) @ x, X @ X.T @ X),
    ]:
        assert isinstance(got, Tensor)
        assert got.requires_grad
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-14)


def test_lists_that_mix_arrays_and_tensors():
    x = leaf(X)
    np.stack([X, x, X]).sum().backward()
    np.concatenate([x, np.ones((1, 3)), x[:1] * 2]).sum().backward()
    np.where(X > 0, x, X).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 1 + 1 + np.array([[2.0], [0]]) + (X > 0))


@pytest.mark.parametrize("name", [name for name in functions.__all__ if hasattr(np, name)])
def test_every_function_of_ours_is_numpys_too(name):
    assert numpy_api.JOINS[getattr(np, name)] is getattr(functions, name)


@pytest.mark.parametrize("name", linalg.__all__)
def test_every_function_of_our_linalg_is_numpys_too(name):
    assert numpy_api.JOINS[getattr(np.linalg, name)] is getattr(tg.linalg, name)


def test_a_function_of_numpys_is_in_one_table_at_most():
    tables = [numpy_api.JOINS, numpy_api.CONSTANT, numpy_api.PLAIN]
    for module in (np, np.linalg):
        for function in vars(module).values():
            if isinstance(function, np.ufunc) or hasattr(function, "_implementation"):
                assert sum(function in table for table in tables) <= 1
    for name, near in numpy_api.NEAREST.items():
        function, ours = (attrgetter(each)(np) for each in (name, near))
        assert ours in numpy_api.JOINS
        assert not any(function in table for table in tables)


def test_other_names_of_the_same():
    x = leaf(X)
    for got, expected in [
        (np.amax(x, axis=1), X.max(1)),
        (np.amin(x), X.min()),
        (np.true_divide(x, 2), X / 2),
        (np.absolute(x), abs(X)),
    ]:
        assert got.requires_grad
        np.testing.assert_array_equal(got.numpy(), expected)


CONSTANTS = [
    "angle", "argmax", "argmin", "argsort", "around", "ceil", "fix", "floor", "imag", "isfinite", "isinf", "isnan", "isneginf",
    "logical_not", "nanargmax", "ones_like", "rint", "round", "sign", "signbit", "trunc", "zeros_like",
]  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_piecewise_constant_functions_give_constants(name):
    got = getattr(np, name)(leaf(X))
    assert isinstance(got, Tensor)
    assert not got.requires_grad
    assert got.op is None
    np.testing.assert_array_equal(got.numpy(), getattr(np, name)(X), strict=True)


def test_questions_about_an_array_get_numpys_answer():
    x = leaf(X)
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((2, 3), 2, 6)
    assert np.allclose(x, X) is True
    assert np.array_equal(X, x)
    assert np.any(x > 0)
    assert not np.all(x > 0)
    assert np.result_type(x) == np.float64
    assert np.array_repr(x) == np.array_repr(X)
    assert np.count_nonzero(x > 0) == np.count_nonzero(X > 0)
    np.testing.assert_array_equal(np.nonzero(x > 0), np.nonzero(X > 0))
    np.testing.assert_allclose(x.detach(), X)
    np.testing.assert_array_equal(np.greater(X, x * 2).numpy(), np.greater(X, X * 2))


def test_arguments_by_position_by_name_and_with_numpys_defaults():
    x = leaf(X)
    for got, expected in [
        (np.sum(x, 0, None, None, True), X.sum(0, keepdims=True)),
        (np.max(x, 1, None, True), X.max(1, keepdims=True)),
        (np.std(x, 0, None, None, 1), X.std(0, ddof=1)),
        (np.sum(a=x, axis=1), X.sum(1)),
        (np.reshape(x, (3, 2), order="C"), X.reshape(3, 2)),
        (np.clip(a=x, a_min=0, a_max=1), X.clip(0, 1)),
        (np.cumsum(x, 1, None, None), X.cumsum(1)),
        (np.concatenate([x, X], 1, None, dtype=None), np.concatenate([X, X], 1)),
        (np.linalg.norm(x, None, 1, True), np.linalg.norm(X, None, 1, True)),
        (np.nan_to_num(x, True, 1.0), X),
        (np.meshgrid(x[0], x[1], copy=True)[0], np.meshgrid(X[0], X[1])[0]),
        (np.linspace(x, X, 3, True), np.linspace(X, X, 3)),
        (np.median(x, 1, None, False, True), np.median(X, 1, keepdims=True)),
        (np.linalg.outer(x[0], x[1]), np.outer(X[0], X[1])),
        (np.linalg.cross(x, X[0]), np.cross(X, X[0])),
        (np.linalg.tensordot(x, X, axes=2), np.tensordot(X, X)),
        (np.linalg.pinv(x, None, False), np.linalg.pinv(X)),
        (np.linalg.pinv(x, rcond=0.9), np.linalg.pinv(X, 0.9)),
    ]:
        assert got.requires_grad
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("ord", "axis"),
    [
        *((ord, axis) for ord in (None, 1, 2, 3, 0.5, -1, 0, np.inf, -np.inf) for axis in (0, -1)),
        *((ord, axis) for ord in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf) for axis in ((0, 1), (2, 0))),
        (None, None),
    ],
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_norms(ord, axis, keepdims):
    array = rng.normal(size=(2, 3, 2))
    got, expected = (np.linalg.norm(a, ord, axis, keepdims) for a in (leaf(array), array))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13, strict=True)
    if ord != 0:
        assert gradcheck(lambda x: np.linalg.norm(x, ord, axis, keepdims), array)


def test_results_with_names():
    matrix = np.eye(2) + 1
    for function in (np.linalg.eigh, np.linalg.svd, np.linalg.slogdet):
        ours, numpys = function(leaf(matrix)), function(matrix)
        assert ours._fields == numpys._fields
        for each, other in zip(ours, numpys, strict=True):
            np.testing.assert_allclose(each.numpy(), other, rtol=1e-14)


def test_methods_are_numpys():
    array = rng.normal(size=(3, 3))
    for name, args in [
        ("cumsum", (1,)), ("cumprod", ()), ("trace", ()), ("diagonal", (1,)), ("repeat", (2, 0)), ("take", ([0, 2], 1)),
        ("round", (1,)), ("argmax", (1,)), ("argmin", ()), ("argsort", ()), ("std", ()), ("var", (0,)),
    ]:  # fmt: skip
        np.testing.assert_allclose(getattr(leaf(array), name)(*args).numpy(), getattr(array, name)(*args), rtol=1e-14)
    x = leaf(array)
    assert (x.tolist(), x.all(), (x > 9).any(), len(x.nonzero())) == (array.tolist(), True, False, 2)
    for got, expected in [
        (x // 0.3, array // 0.3),
        (2 // x, 2 // array),
        (divmod(x, 0.3)[1], array % 0.3),
        (divmod(2, x)[0], 2 // array),
    ]:
        np.testing.assert_array_equal(got.numpy(), expected)


# -- what cannot join --------------------------------------------------------------------------------------------------------

x = leaf(X[0])
REFUSALS = {
    "out": (
        lambda: np.tanh(x, out=np.zeros(3)),
        r"np.tanh: out= would write where the graph cannot follow. Leave it out: x = np.tanh",
    ),
    "out=tensor": (lambda: np.tanh(X[0], out=leaf(X[0])), "np.tanh: out= would write"),
    "out of a function": (lambda: np.sum(x, out=np.zeros(())), "np.sum: out= would write"),
    "dot out": (lambda: np.dot(x, x, out=np.zeros(())), "np.dot: out= would write"),
    "where": (lambda: np.add(x, 1, where=X[0] > 0), "np.add: where= is not supported on Tensors, which take x, y"),
    "dtype": (lambda: np.sum(x, dtype=np.float32), "np.sum: dtype= is not supported on Tensors, which take x, axis, keepdims"),
    "order": (lambda: np.reshape(x, (3, 1), order="F"), "np.reshape: order= is not supported"),
    "initial": (lambda: np.max(x, initial=0), "np.max: initial= is not supported"),
    "positions": (
        lambda: np.sum(x, 0, np.float32),
        "np.sum: dtype= is not supported on Tensors, which take x, axis, keepdims",
    ),
    "nancumsum": (lambda: np.nancumsum(x, dtype=int), "np.nancumsum: dtype= is not supported on Tensors, which take x, axis"),
    "cumulative_sum": (
        lambda: np.cumulative_sum(x),
        r"np.cumulative_sum is not differentiable here; np.cumsum is. Functions that join.*tensor.numpy\(\)",
    ),
    "percentile": (lambda: np.percentile(x, 5), "np.percentile is not differentiable here; np.median is"),
    "fft": (lambda: np.fft.fft(x), r"np.fft.fft is not differentiable here. Functions"),
    "save": (lambda: np.save("x.npy", x), r"np.save is not differentiable here. Functions"),
    "no ufunc of NumPy's": (lambda: np.frompyfunc(float, 1, 1)(x), r"^float \(vectorized\) is not differentiable here. Func"),
    "unique": (lambda: np.unique(x), "np.unique is not differentiable here; np.sort is"),
    "linalg.trace": (lambda: np.linalg.trace(leaf(X)), "np.linalg.trace is not differentiable here; np.trace is"),
    "eig": (lambda: np.linalg.eig(x), "np.linalg.eig is not differentiable here; np.linalg.eigh is"),
    "lstsq": (lambda: np.linalg.lstsq(x, x), "np.linalg.lstsq is not differentiable here; np.linalg.pinv is"),
    "sort by fields": (lambda: np.sort(x, order="a"), "np.sort: order= is not supported on Tensors, which take x, axis"),
    "copyto": (lambda: np.copyto(np.zeros(3), x), "np.copyto is not differentiable here"),
    "reduce": (lambda: np.add.reduce(x), "np.add.reduce is not differentiable here: use np.sum"),
    "maximum.reduce": (lambda: np.maximum.reduce(x), "np.maximum.reduce is not differentiable here: use np.max"),
    "outer": (lambda: np.multiply.outer(x, x), "np.multiply.outer is not differentiable here: use np.outer"),
    "at": (
        lambda: np.add.at(np.zeros(3), [0], x),
        "np.add.at is not differentiable here: use a function listed in tg.functions",
    ),
    "accumulate": (lambda: np.add.accumulate(x), "np.add.accumulate is not differentiable here: use np.cumsum"),
    "maximum.accumulate": (
        lambda: np.maximum.accumulate(x),
        "np.maximum.accumulate is not differentiable here: use a function",
    ),
    "asarray": (lambda: np.asarray(x), r"requires grad, and a plain array would lose it. Write .numpy\(\)"),
    "a list of tensors": (lambda: np.sum([x, x]), "requires grad, and a plain array would lose it"),
    "a value to pad with": (lambda: np.pad(X, 1, constant_values=x[0]), "requires grad, and a plain array would lose it"),
    "a value in the place of NaN": (lambda: np.nan_to_num(x, nan=x[0]), "requires grad, and a plain array would lose it"),
    "full": (lambda: np.full((2, 3), x), "requires grad, and a plain array would lose it"),
    "assignment": (lambda: np.zeros((2, 3)).__setitem__(0, x), "requires grad, and a plain array would lose it"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_join_says_what_can(name):
    call, match = REFUSALS[name]
    with pytest.raises(TypeError, match=match):
        call()


def test_in_place_into_an_array_is_refused():
    for f in (lambda a: a.__iadd__(x), lambda a: a[:1].__imul__(x[:1]), lambda a: np.subtract(a, x, out=a)):
        array = np.ones(3)
        with pytest.raises(TypeError, match=r"would lose the gradient: write a = a \+ b, not a \+= b"):
            f(array)
        assert array.tolist() == [1, 1, 1]
    h = np.zeros(3)
    h = h + x
    assert h.requires_grad


def test_a_number_of_numpy_becomes_a_tensor():
    total = np.float64(0)
    for value in x:
        total += value * value
    total.backward()
    np.testing.assert_array_equal(x.grad.data, 2 * X[0])
    x.grad = None


def test_the_graph_is_that_of_our_own_functions():
    ops = [node.op.name for node in toposort(np.sum(np.tanh(x @ X.T) ** 2)) if node.op]
    assert (
        ops
        == ["matmul", "tanh", "power", "sum"]
        == [node.op.name for node in toposort(tg.sum(tg.tanh(tg.matmul(x, X.T)) ** 2)) if node.op]
    )


@pytest.mark.parametrize("call", [lambda a: a @ 2, lambda a: np.matmul(a, 2), lambda a: np.matmul(2.0, a)])
def test_a_number_is_no_matrix(call):
    with pytest.raises(ValueError, match=r"matmul: a number has no axes to sum over: write a \* b"):
        call(tg.Tensor(np.ones((2, 2))))
