"""The Tensor: what backward() adds and to whom, what it refuses, what it keeps alive, and how a Tensor answers to Python."""

import asyncio
import copy
import ctypes
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.backward import gradients, toposort
from tinygrad_rnn.gradcheck import gradcheck
from tinygrad_rnn.tensor import ROWS, Tensor


def leaf(data, **kwargs):
    return Tensor(np.asarray(data, dtype=float), requires_grad=True, **kwargs)


# -- backward ----------------------------------------------------------------------------------------------------------------


def test_backward_adds_exactly_and_again():
    x = leaf([1, 2, 3])
    loss = (x * x).sum()
    loss.backward()
    assert x.grad.data.tolist() == [2, 4, 6]
    loss.backward()
    assert x.grad.data.tolist() == [4, 8, 12]
    (x * 3).sum().backward()
    assert x.grad.data.tolist() == [7, 11, 15]


def test_a_diamond_is_walked_once_per_edge():
    x = leaf(3.0)
    a = x * 2
    b, c = a * a, a + x
    (b * c + b).backward()  # f = 4x^2 * 3x + 4x^2
    assert x.grad.item() == 36 * 9 + 8 * 3


def test_a_node_that_is_used_a_million_ways_is_walked_in_linear_time():
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_a_root_may_be_a_leaf_and_an_input_of_another_root():
    x = leaf(2.0)
    x.backward()
    assert x.grad.item() == 1
    y = x * x
    z = y * 3
    found = gradients([y, z, y], [Tensor(1.0), Tensor(1.0), Tensor(10.0)])
    assert found[x] == (1 + 3 + 10) * 2 * 2


def test_intermediate_nodes_and_constants_get_no_gradient():
    x, c = leaf([1, 2]), Tensor([3.0, 4.0])
    y = x * c
    y.sum().backward()
    assert (y.grad, c.grad) == (None, None)
    assert x.grad.data.tolist() == [3, 4]


def test_uses_in_several_shapes_and_by_several_kinds_of_rule_add_up():
    x = leaf([[1, 2, 3]])  # broadcast by mul, indexed, multiplied as a matrix, summed: each has its own shape of gradient
    y = Tensor(np.ones((4, 3)))
    ((x * y).sum() + x[0].sum() + (x @ np.ones((3, 2))).sum() + x.sum() + (y @ x.T).sum()).backward()
    assert x.grad.data.tolist() == [[4 + 1 + 2 + 1 + 4] * 3]


def test_gradient_weights_a_result_of_any_shape():
    x = leaf([[1, 2], [3, 4]])
    (x * x).backward([[1, 0], [0, 10]])
    assert x.grad.data.tolist() == [[2, 0], [0, 80]]
    x.grad = None
    (x * x).backward(Tensor([[0, 1], [0, 0]]))
    assert x.grad.data.tolist() == [[0, 4], [0, 0]]


def test_a_scalar_needs_no_gradient_whatever_its_axes():
    x = leaf([[3.0]])
    (x * x).backward()
    assert x.grad.data.tolist() == [[6.0]]


def test_gradients_belong_to_nobody_else():
    seed = Tensor([1.0, 1.0])
    for f in (lambda x, y: x + y, lambda x, y: x.reshape(2, 1).reshape(2) + y, lambda x, y: x.T + (y + x) + y):
        x, y = leaf([1, 2]), leaf([3, 4])
        f(x, y).backward(seed)
        expected = y.grad.data.tolist()
        x.grad.data[:] = 99
        assert (y.grad.data.tolist(), seed.data.tolist()) == (expected, [1, 1])
        y.grad.data[:] = 99
        assert seed.data.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("f", "slope"), [(lambda x, s: (x * s).sum(), 3), (lambda x, s: s * s, 1), (lambda x, s: s.sum() + s, 2)]
)
def test_the_gradient_of_a_number_is_an_array_that_can_be_edited(f, slope):
    s = leaf(0.5)
    f(leaf([1, 2]), s).backward()
    s.grad.data *= 0.25
    assert s.grad.data == 0.25 * slope


def test_what_backward_refuses():
    x = leaf([1, 2, 3], name="x")
    with pytest.raises(
        RuntimeError, match=r"implicitly created only for scalar outputs.*'x' \(shape \(3,\).*gradient= of shape \(3"
    ):
        x.backward()
    with pytest.raises(RuntimeError, match=r"result of mul \(shape \(3,\), float64\).*Reduce it first"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\), expected that of the result of mul \(shape \(3,\)"):
        (x * 2).backward(np.ones(2))
    with pytest.raises(ValueError, match=r"gradient has shape \(\), expected"):
        (x * 2).backward(1.0)
    with pytest.raises(RuntimeError, match=r"does not require grad and has no graph: make a leaf with requires_grad=True"):
        Tensor([1.0]).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_only_floats_require_gradients(dtype):
    with pytest.raises(TypeError, match=rf"Only Tensors of floating point dtype can require gradients, got {np.dtype(dtype)}"):
        Tensor([1, 0], dtype=dtype, requires_grad=True)
    x = Tensor([1, 0], dtype=dtype)
    with pytest.raises(TypeError, match="Only Tensors of floating point dtype"):
        x.requires_grad = True
    assert not x.requires_grad


def test_requires_grad_is_for_leaves():
    x = leaf([1, 2])
    y = x * 2
    with pytest.raises(RuntimeError, match=r"can be set on leaves only, and the result of mul .* was computed by mul"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad


@pytest.mark.parametrize("data", [[1j], ["a"], [None], [{}]])
def test_a_tensor_holds_real_numbers(data):
    with pytest.raises(TypeError, match="Tensor: expected real numbers or bools, got list of dtype"):
        Tensor(data)


def test_an_error_in_the_middle_leaves_everything_as_it_was(monkeypatch):
    x = leaf([1, 2])
    y = np.tanh(x * 2) * x
    (x * 1.0).sum().backward()
    monkeypatch.setattr(x.grad, "name", "before")
    with monkeypatch.context() as patch:
        patch.setattr((x * 2).op, "rules", (lambda *a: 1 / 0, lambda *a: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            y.sum().backward()
    assert (x.grad.name, x.grad.data.tolist()) == ("before", [1, 1])
    assert (x * 2).requires_grad  # recording is on again
    y.sum().backward()
    t = np.tanh([2.0, 4.0])
    np.testing.assert_allclose(x.grad.data, 1 + t + [1, 2] * (1 - t * t) * 2)


# -- higher orders -----------------------------------------------------------------------------------------------------------


def test_gradients_of_gradients():
    x = leaf(0.5)
    y, derivatives = np.sin(x) * x**3, []
    for _ in range(4):
        x.grad = None
        y.backward(create_graph=True)
        y = x.grad
        derivatives.append(y.item())
    s, c, v = np.sin(0.5), np.cos(0.5), 0.5
    expected = [
        c * v**3 + 3 * v**2 * s,
        -s * v**3 + 6 * v**2 * c + 6 * v * s,
        -c * v**3 - 9 * v**2 * s + 18 * v * c + 6 * s,
        s * v**3 - 12 * v**2 * c - 36 * v * s + 24 * c,
    ]
    np.testing.assert_allclose(derivatives, expected, rtol=1e-14)


def test_a_gradient_joins_an_expression():
    w = leaf([1, 2, 3])
    (w**3).sum().backward(create_graph=True)
    penalty, w.grad = (w.grad * w.grad).sum(), None  # sum of 9 w^4
    penalty.backward()
    assert w.grad.data.tolist() == [36.0 * v**3 for v in (1, 2, 3)]


def test_create_graph_gives_the_same_numbers_and_a_plain_backward_no_graph():
    x = leaf([[0.3, -1.0], [2.0, 0.1]])

    def loss():
        return (np.tanh(x @ x.T)[[0, 0]] * np.split(x, 2, axis=1)[1]).sum()

    loss().backward()
    plain, x.grad = x.grad, None
    loss().backward(create_graph=True)
    np.testing.assert_array_equal(plain.data, x.grad.data)
    assert (plain.op, plain.requires_grad, x.grad.requires_grad) == (None, False, True)


# -- dtypes ------------------------------------------------------------------------------------------------------------------

KEEPING = {
    "add": lambda x: x + 1.5,
    "radd": lambda x: 2 + x,
    "sub": lambda x: 1.5 - x,
    "mul": lambda x: True * x * 0.1,
    "div": lambda x: 1 / (x + 2),
    "power": lambda x: (x + 2) ** 0.5 + 2.0**x + x**2,
    "matmul": lambda x: x @ x.T,
    "sum": lambda x: x.sum() * 0.5,
    "mean": lambda x: x.mean(axis=0),
    "var": lambda x: x.var(axis=1, ddof=1),
    "std": lambda x: x.std(),
    "max": lambda x: x.max() + x.min(axis=1),
    "prod": lambda x: x.prod(axis=0),
    "sigmoid": tg.sigmoid,
    "relu": tg.relu,
    "where": lambda x: np.where(x > 0, x, 0.5),
    "clip": lambda x: np.clip(x, -1, 0.5),
    "maximum": lambda x: np.maximum(x, 0.0),
    "unary": lambda x: np.tanh(np.exp(-abs(x))) + np.log1p(np.sqrt(x * x + 1)),
    "index": lambda x: x[[0, 0]] + x[:, :1],
    "split": lambda x: np.split(x, 2)[0] * 0.5,
    "stack": lambda x: np.stack([x, x * 2]),
    "concatenate": lambda x: np.concatenate([x, x.T]),
    "einsum": lambda x: np.einsum("ij,ij->i", x, x),
    "0-d": lambda x: 2.0 * x[0, 0] ** 2,
    "bool": lambda x: x * (x > 0),
    "small int": lambda x: x * np.array([1, 2], np.int8),
    "reshape": lambda x: x.reshape(-1) * 2.0,
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", KEEPING)
def test_the_dtype_is_kept_forward_and_backward(name, dtype):
    x = Tensor([[0.5, -1.25], [0.75, 0.25]], requires_grad=True, dtype=dtype)
    y = KEEPING[name](x)
    y.sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    y.sum().backward()
    assert {y.dtype, first.dtype, x.grad.dtype} == {np.dtype(dtype)}
    exact = Tensor(x.data, requires_grad=True, dtype=float)
    KEEPING[name](exact).sum().backward()
    np.testing.assert_allclose(x.grad.data, exact.grad.data, rtol=30 * np.finfo(dtype).eps, atol=30 * np.finfo(dtype).eps)


def test_widening_is_numpys_and_comes_back_in_the_dtype_of_the_leaf():
    x = Tensor([1.0, 2.0], requires_grad=True, dtype=np.float32)
    y = x * np.array([3.0, 4.0]) + np.float64(1) * x
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, x.grad.data.tolist()) == (np.float64, np.float32, [4, 5])
    assert (x * np.float32(2)).dtype == (x + 2**40).dtype == np.float32


def test_astype_brings_the_gradient_back():
    x = Tensor([1.0, 2.0], requires_grad=True, dtype=np.float16)
    y = x.astype(np.float64) * 3
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, x.grad.data.tolist()) == (np.float64, np.float16, [3, 3])


# -- no_grad -----------------------------------------------------------------------------------------------------------------


def test_no_grad_as_context_and_as_decorator():
    x = leaf([1, 2])

    @tg.no_grad()
    def f():
        return x * 2

    with tg.no_grad():
        y = x * 2
        with tg.no_grad():
            pass
        assert not (x * 2).requires_grad
    assert not y.requires_grad
    assert y.op is None
    assert y.inputs == ()
    assert not f().requires_grad
    assert not f().requires_grad
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_no_grad_is_per_thread_and_per_task():
    x, seen = leaf([1, 2]), []
    with tg.no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        seen.append((x * 2).requires_grad)

    async def quiet(inside, done):
        with tg.no_grad():
            inside.set()
            await done.wait()
            seen.append((x * 2).requires_grad)

    async def main():
        inside, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(quiet(inside, done))
        await inside.wait()
        seen.append((x * 2).requires_grad)
        done.set()
        await task

    asyncio.run(main())
    assert seen == [True, False, True, False]


def test_threads_build_and_walk_graphs_of_their_own():
    w, results = leaf(np.eye(4) * 0.5), {}

    def work(i):
        h = Tensor(np.full(4, float(i)))
        for _ in range(50):
            h = np.tanh(h @ w + 0.1)
        results[i] = gradients([h.sum()], [Tensor(1.0)])[w]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(results)
    for i in range(8):
        work(i)
        np.testing.assert_array_equal(together[i], results[i])


def test_views_made_in_no_grad_are_read_only_and_require_nothing():
    x = leaf([1, 2, 3])
    with tg.no_grad():
        views = [x[1:], x.reshape(3, 1), x.T, np.broadcast_to(x, (2, 3)), np.split(x, 3)[0]]
    for view in views:
        assert not view.requires_grad
        with pytest.raises(ValueError, match="read-only"):
            view.data[...] = 99


def test_detach_and_numpy_give_copies():
    x = leaf([1, 2, 3])
    x.detach().data[:] = 99
    x.numpy()[:] = 99
    np.testing.assert_array_equal(x.data, [1, 2, 3])


def test_a_transpose_that_is_held_shows_later_edits_of_its_leaf():
    w, x = leaf(np.arange(6.0).reshape(2, 3)), tg.Tensor(np.ones((1, 3)))
    with tg.no_grad():
        held = w.T
        np.testing.assert_array_equal((x @ held).data, [[3, 12]])
        w.data[0, 0] = 10
        np.testing.assert_array_equal((x @ held).data, [[13, 12]])
        w.data = w.data * 2
        np.testing.assert_array_equal((x @ w.T).data, [[26, 24]])


def test_a_forward_pass_gives_the_same_bits_again():
    cell, x = tg.nn.LSTMCell(5, 7), np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    first = cell(x)
    again = cell(x)
    with tg.no_grad():
        unrecorded = cell(x)
    for a, b, c in zip(first, again, unrecorded, strict=True):
        assert a.data.tobytes() == b.data.tobytes() == c.data.tobytes()


# -- edits -------------------------------------------------------------------------------------------------------------------


def assign(w, alias):
    w.data = np.zeros(3)


def subtract(w, alias):
    w.data -= 1


def assign_own_view(w, alias):
    w.data = w.data[::-1]


def swap_and_restore_one(w, alias):
    alias[[0, 1]] = alias[[1, 0]]


EDITS = {
    "item": lambda w, alias: w.data.__setitem__(0, 9),
    "in place": subtract,
    "assign": assign,
    "own view": assign_own_view,
    "alias": lambda w, alias: alias.__setitem__(1, 9),
    "ufunc": lambda w, alias: np.add(w.data, 1, out=w.data),
    "ufunc alias": lambda w, alias: np.negative(alias, out=alias),
    "view": lambda w, alias: alias[1:].__iadd__(1),
    "view of a view": lambda w, alias: alias[::-1].reshape(3, 1)[1:].T[0].__setitem__(0, 7),
    "fill": lambda w, alias: w.data.fill(0),
    "copyto": lambda w, alias: np.copyto(w.data, 0),
    "flat": lambda w, alias: alias.flat.__setitem__(2, 5),
    "nan": lambda w, alias: alias.fill(np.nan),
    "put": lambda w, alias: np.put(w.data, [0], 5),
    "sort": lambda w, alias: w.data[::-1].sort(),
    "bits": lambda w, alias: alias.view(np.uint8).__setitem__(0, 1),
    "memoryview": lambda w, alias: memoryview(w.data).__setitem__(0, 9.0),
    "frombuffer": lambda w, alias: np.frombuffer(w.data).__setitem__(0, 9),
    "pointer": lambda w, alias: ctypes.memset(w.data.ctypes.data, 0, 8),
    "swap": swap_and_restore_one,
    "sign of zero": lambda w, alias: alias.__imul__([1, 1, -1]),
}


@pytest.mark.parametrize(
    "of", [lambda w: w * w, lambda w: w.T + 1, lambda w: w[1:] * 2, lambda w: np.exp(w), lambda w: w.reshape(3, 1) @ [[2]]]
)
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_between_forward_and_backward_is_refused(name, of):
    w = leaf([1, 2, 0], name="w")
    alias = w.data
    loss = of(w).sum()
    EDITS[name](w, alias)
    with pytest.raises(
        RuntimeError, match=r"modified by an in-place operation: 'w' \(shape \(3,\), float64\), read by \w+, is at version"
    ):
        loss.backward()
    assert w.grad is None
    of(w).sum().backward()
    assert w.grad is not None


def test_a_constant_that_the_graph_needs_is_guarded_too():
    x, c = leaf([1, 2]), Tensor([[3.0, 4.0], [5.0, 6.0]])
    loss = (x * c[0]).sum()
    c.data[0, 0] = 99
    with pytest.raises(RuntimeError, match=r"modified by an in-place operation: a Tensor \(shape \(2, 2\)"):
        loss.backward()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble, ">f8"])
@pytest.mark.parametrize("shape", [(), (2, 3), (1, 1)])
def test_edits_are_seen_in_every_dtype_and_shape(dtype, shape):
    w = Tensor(np.ones(shape), dtype=dtype, requires_grad=True)
    loss = (w * w).sum()
    w.data[...] = 2
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        loss.backward()


def test_edits_in_their_proper_place_are_welcome():
    w = leaf([1, 2, 3])
    alias = w.data
    for step in range(3):
        before = w.data.copy()
        loss = (w * w).sum()
        assert w.data.sum() == alias.sum() == before.sum()  # reading is free
        loss.backward()
        np.testing.assert_array_equal(w.grad.data, 2 * before)
        w.data -= 0.25 * w.grad.data
        alias += step
        w.data[0] = 1
        w.grad = None
    np.testing.assert_array_equal(alias, w.data)
    alias[:] = alias + 1
    loss = (w * w).sum()
    alias[:] = alias + 0  # the same bytes again
    loss.backward()
    np.testing.assert_array_equal(w.grad.data, 2 * alias)


def test_one_graph_stale_another_fresh():
    w = leaf([1, 2])
    old = (w * w).sum()
    w.data[0] = 5
    new = (w * w).sum()
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        old.backward()
    new.backward()
    assert w.grad.data.tolist() == [10, 4]


def test_the_transpose_that_is_shared_follows_edits():
    w, x = leaf([[1, 2], [3, 4]]), np.eye(2)
    kept = x @ w.T
    assert w.T is w.T is kept.inputs[1]
    w.data[0, 0] = 9
    assert (x @ w.T).data.tolist() == [[9, 3], [2, 4]]
    with tg.no_grad():
        assert not w.T.requires_grad
    assert w.T.requires_grad


def test_a_large_transpose_that_is_in_rows_by_now_follows_edits():
    rng = np.random.default_rng(0)
    w, x = leaf(rng.normal(size=(300, 70))), rng.normal(size=(3, 70))
    assert w.size > ROWS
    with tg.no_grad():
        held, *_ = (w.T for _ in range(5))
        for use in range(12):
            if use % 6 == 5:
                w.data[:, use] = 9
            np.testing.assert_allclose((x @ w.T).data, x @ w.numpy().T)
            np.testing.assert_allclose((x @ held).data, x @ w.numpy().T)
    loss = sum(((x @ w.T) * k).sum() for k in range(6))
    loss.backward()
    np.testing.assert_allclose(w.grad.data, 15 * np.broadcast_to(x.sum(0), w.shape))
    w.data[0] = 1
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        loss.backward()


def test_data_can_be_assigned():
    w = Tensor([[1, 2], [3, 4]], dtype=np.float32)
    w.data = w.data.T
    assert w.data.tolist() == [[1, 3], [2, 4]]
    w.data = w.data[::-1]
    assert w.data.tolist() == [[2, 4], [1, 3]]
    mine = np.array([[5.0, 6.0], [7.0, 8.0]])
    w.data = mine
    mine[:] = 0
    assert (w.data.tolist(), w.dtype) == ([[5, 6], [7, 8]], np.float32)
    with pytest.raises(ValueError, match=r"cannot assign data of shape \(2,\) to a Tensor \(shape \(2, 2\), float32\)"):
        w.data = [1, 2]
    with pytest.raises(TypeError, match=r"cannot assign data of dtype complex128 to a Tensor .*: use .astype\(float32\)"):
        w.data = np.ones((2, 2)) * 1j
    n = Tensor([1, 2])
    with pytest.raises(TypeError, match=r"cannot assign data of dtype float64 to a Tensor \(shape \(2,\), int64\)"):
        n.data = [1.5, 2.5]
    assert (w.data.tolist(), n.data.tolist()) == ([[5, 6], [7, 8]], [1, 2])


def test_the_data_of_a_computed_tensor_is_read_only():
    y = leaf([1, 2]) * 2
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 5
    with pytest.raises(RuntimeError, match=r"cannot assign .data of the result of mul.*use .detach\(\)"):
        y.data = np.zeros(2)
    assert y.data.tolist() == [2, 4]


def test_what_the_graph_captures_is_a_copy():
    array, key, condition, x = np.array([2.0, 3.0]), [0, 0], np.array([True, False]), leaf([1, 1])
    y = x * array + x[key] + np.where(condition, x, 0) + x[condition].sum() + Tensor(array) * x
    array[:], key[:], condition[:] = 99, [1, 1], False
    y.sum().backward()
    assert x.grad.data.tolist() == [2 + 2 + 1 + 2 + 2, 3 + 0 + 0 + 0 + 3]
    index = Tensor([0, 0])
    picked = x[index]
    index.data[:] = 1
    x.grad = None
    picked.sum().backward()
    assert x.grad.data.tolist() == [2, 0]
    shape = [2, 1]
    node = x.reshape(shape)
    shape[0] = 99
    assert node.params == {"shape": (2, 1)}


def test_augmented_assignment_on_a_leaf_says_what_to_write():
    def power(w):
        w **= 2

    def times(w):
        w @= w

    def plus(w):
        w += 1

    w = leaf([[1, 2], [3, 4]], name="w")
    for f, symbol in (power, r"\*\*="), (times, "@="), (plus, r"\+="):
        with pytest.raises(RuntimeError, match=rf"`{symbol}` on 'w' .*a leaf that requires grad.*write `p.data {symbol} ...`"):
            f(w)
    h = k = w * 1
    h += 1
    h *= 2
    h -= k
    h /= 2
    assert k.data.tolist() == [[1, 2], [3, 4]]
    assert h.data.tolist() == [[1.5, 2], [2.5, 3]]


def test_a_tensor_cannot_be_assigned_to():
    x = leaf([1, 2])
    with pytest.raises(TypeError, match=r"cannot be assigned to in place.*np.where, np.concatenate or np.stack"):
        x[0] = 5
    with pytest.raises(TypeError, match="cannot be assigned to in place"):
        x[0] += 5


# -- memory and depth --------------------------------------------------------------------------------------------------------


def step(w, x):
    h = x
    for part in np.split(w, 2):
        h = np.tanh(h @ part.T) * tg.sigmoid(h) + h[:, [0, 0, 1]].mean(axis=1, keepdims=True)
    return (h * h).sum()


def test_graphs_are_freed_by_reference_counts_alone(no_gc):
    w, x = leaf(np.ones((6, 3))), np.ones((2, 3))
    loss = step(w, x)
    loss.backward()
    nodes = [weakref.ref(node) for node in toposort(loss) if node is not w]
    del loss
    assert len(nodes) >= 20
    assert not any(node() for node in nodes)

    loss = step(w, x)
    loss.backward(create_graph=True)
    nodes = [weakref.ref(node) for node in toposort(loss, w.grad) if node is not w]
    del loss
    w.grad = None
    assert not any(node() for node in nodes)

    loss = step(w, x)
    nodes = [weakref.ref(node) for node in toposort(loss) if node is not w]
    with pytest.raises(ValueError, match="reshape: "):
        loss.reshape(2)
    w.data += 1
    with pytest.raises(RuntimeError):
        loss.backward()
    del loss
    assert not any(node() for node in nodes)


def test_a_thousand_steps_do_not_grow(no_gc):
    w, x = leaf(np.full((6, 3), 0.1)), np.ones((2, 3))

    def train(steps):
        for _ in range(steps):
            loss = step(w, x)
            w.grad = None
            loss.backward()
            w.data -= 1e-3 * w.grad.data

    train(10)
    tracemalloc.start()
    train(10)
    before = tracemalloc.get_traced_memory()[0]
    train(1000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 2000


def test_depth_is_no_limit():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y * 1.00001
    y.backward()
    np.testing.assert_allclose(x.grad.item(), 1.00001**100_000, rtol=1e-9)
    last = weakref.ref(y)
    del y
    assert last() is None

    y = x
    for _ in range(3_000):
        y = np.sin(y)
    x.grad = None
    y.backward(create_graph=True)
    second, x.grad = x.grad, None
    second.backward()
    assert np.isfinite(x.grad.item())
    assert x.grad.item() != 0


# -- a Tensor among Python's objects -----------------------------------------------------------------------------------------


def test_hash_and_equality_are_those_of_the_object():
    a, b = Tensor([1.0]), Tensor([1.0])
    assert {a: 1, b: 2}[a] == 1
    assert len({a, b, a}) == 2
    assert a != b
    assert [b, a].index(a) == 1


def test_comparisons_are_elementwise_constants():
    x = leaf([1, 2, 3])
    for got, expected in [
        (x > 2, [0, 0, 1]),
        (x >= 2, [0, 1, 1]),
        (x < 2, [1, 0, 0]),
        (x <= 2, [1, 1, 0]),
        (np.int64(2) > x, [1, 0, 0]),
        (np.full(3, 2) <= x, [0, 1, 1]),
        ((x > 1) & (x < 3), [0, 1, 0]),
        ((x < 2) | (x > 2), [1, 0, 1]),
        (~(x > 2), [1, 1, 0]),
        (np.equal(x, 2), [0, 1, 0]),
    ]:
        assert isinstance(got, Tensor)
        assert got.dtype == bool
        assert not got.requires_grad
        assert got.data.tolist() == expected


def test_copies():
    w = leaf([1, 2], name="w")
    loss = (w * w).sum()
    for twin in (copy.deepcopy(w), copy.copy(w)):
        assert (twin.name, twin.requires_grad, twin.op, twin.dtype) == ("w", True, None, w.dtype)
        twin.data[0] = 99
    assert w.data.tolist() == [1, 2]
    loss.backward()
    assert copy.deepcopy({"a": [w, w]})["a"][0].data.tolist() == [1, 2]
    with pytest.raises(RuntimeError, match=r"only leaves can be copied, and the result of sum .* was computed: use .detach"):
        copy.deepcopy(loss)


def test_arrays_do_not_swallow_a_gradient():
    x, c = leaf([1, 2], name="x"), Tensor([1.0, 2.0])
    for convert in (
        np.asarray,
        np.array,
        lambda t: np.array([t, t]),
        lambda t: np.zeros(2).__setitem__(slice(None), t),
        Tensor.__array__,
    ):
        with pytest.raises(TypeError, match=r"'x' .* requires grad, and a plain array would lose it. Write .numpy\(\)"):
            convert(x)
    array = np.asarray(c)
    array[:] = 99
    assert c.data.tolist() == [1, 2]
    assert np.asarray(c, dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError, match="requires grad, and a plain array"):
        Tensor([leaf(1.0), leaf(2.0)])


def test_numbers():
    x = Tensor([[1.5]])
    assert (x.item(), float(x), int(x), bool(x), f"{x:.2f}", f"{x}") == (1.5, 1.5, 1, True, "1.50", "Tensor([[1.5]])")
    assert [10, 20, 30][Tensor(2)] == 30
    assert list(range(Tensor(2))) == [0, 1]
    with pytest.raises(ValueError, match=r"item\(\) takes a Tensor with one element, and this is a Tensor \(shape \(2,\)"):
        Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match=r"truth value of a Tensor \(shape \(2,\), float64\) is ambiguous"):
        bool(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="only an integer can be an index"):
        [1, 2][Tensor(1.0)]


def test_sequences():
    x = leaf([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.data.tolist() for row in x] == [[1, 2], [3, 4]]
    a, b = x
    (a * b).sum().backward()
    assert x.grad.data.tolist() == [[3, 4], [1, 2]]
    assert sum(leaf(v) for v in (1, 2, 3)).item() == 6
    for f in (len, iter, list):
        with pytest.raises(TypeError, match=r"0-d Tensor: it has no axes. Write .item\(\)"):
            list(f(leaf(1.0)))


def test_repr():
    assert repr(leaf([1, 2.5])) == "Tensor([1. , 2.5], requires_grad=True)"
    assert repr(Tensor([1], dtype=np.float32)) == "Tensor([1.], dtype=float32)"
    assert repr(leaf(1) * 2) == "Tensor(2., op=mul, requires_grad=True)"
    assert repr(Tensor([True])) == "Tensor([ True])"


def test_names_reach_the_errors():
    x = leaf(np.ones((2, 3)), name="x")
    with pytest.raises(
        ValueError, match=r"matmul: .*\(inputs: 'x' \(shape \(2, 3\), float64\), 'gate' \(shape \(2, 3\), float64\)\)"
    ):
        x @ (x * 2).named("gate")
    with pytest.raises(ValueError, match=r"add: .*inputs: 'x' \(shape \(2, 3\), float64\), a Tensor \(shape \(4,\), int64\)"):
        x + np.arange(4)
    with pytest.raises(IndexError, match=r"getitem: index 7 is out of bounds.*'x'"):
        x[7]
    with pytest.raises(TypeError, match="expected real numbers or bools, got NoneType"):
        x + None


def test_memory_errors_stay_memory_errors():
    x = Tensor(np.zeros(10**6))
    with pytest.raises(MemoryError):
        x[:, None, None] * x[:, None] * x


def test_strided_and_fortran_arrays():
    base = np.arange(24.0).reshape(4, 6)
    for array in (np.asfortranarray(base), base[::2, ::-3], base.T, base[:, 0], np.broadcast_to(base[0], (2, 6))):
        x = leaf(array)
        assert gradcheck(lambda x: np.tanh(x * 0.1) * x.sum(), x)
        np.testing.assert_array_equal(x.data, array)


def test_empty_tensors():
    x = leaf(np.zeros((0, 3)))
    (x * x + x.sum()).sum().backward()
    assert x.grad.shape == (0, 3)
    x.data[...] = 1
    assert repr(x).startswith("Tensor([]")


def test_a_grad_of_the_wrong_shape_is_refused():
    v, w = leaf([1, 2]), leaf([3, 4])
    w.grad = tg.Tensor(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"the .grad of a Tensor \(shape \(2,\).* has shape \(3, 2\).*Set it to None"):
        (v * w).sum().backward()
    w.grad = 5
    with pytest.raises(ValueError, match=r"the .grad of a Tensor \(shape \(2,\).* is a int, so nothing can be added to it"):
        (v * w).sum().backward()
    assert v.grad is None


def test_bytes_in_the_order_of_another_machine_are_turned():
    x = leaf(np.array([1.0, 2.0], ">f8"))
    (x * x).sum().backward()
    assert x.dtype.isnative
    assert (x.data.tolist(), x.grad.data.tolist()) == ([1, 2], [2, 4])
