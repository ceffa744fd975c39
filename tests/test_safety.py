"""No silent wrong gradient, and nothing left behind: the traps of micrograd, DeZero, HIPS autograd, MyGrad, JAX and PyTorch.

Each is either refused with a message that says what to write, or shown to give the right numbers.
"""

import asyncio
import contextvars
import copy
import gc
import math
import pickle
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import functions, optim
from tinygrad_rnn.nn import functional as F
from tinygrad_rnn.scope import Scope, current_scope
from tinygrad_rnn.tensor import Tensor

STALE = r"modified by an in-place operation: .* read by .* is at version .* Call backward\(\) before you change it"


def leaf(data, name=None):
    return Tensor(np.asarray(data, float), requires_grad=True, name=name)


@pytest.fixture(params=["RNN", "LSTM", "GRU"])
def net(request):
    tg.manual_seed(0)
    return getattr(tg.nn, request.param)(2, 3, num_layers=2, bidirectional=True, dtype=np.float64)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(4, 5, 2))


def grads_of(module):
    return [p.grad.numpy() for p in module.parameters()]


# -- edits between forward and backward --------------------------------------------------------------------------------------


def test_an_optimiser_step_between_forward_and_backward(net, x):
    """As in two losses that share a network, where the first is stepped before the second is walked (PyTorch's GAN error)."""
    optimiser = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    first, second = (net(x)[0].sum() for _ in range(2))
    first.backward()
    optimiser.step()
    with pytest.raises(
        RuntimeError, match=r"in-place operation: '(weight|bias)_[ih]h' .*before you change it, or run the forward"
    ):
        second.backward()
    net.zero_grad()
    net(x)[0].sum().backward()


@pytest.mark.parametrize(
    "edit",
    [
        lambda net: net.load_state_dict(net.state_dict()),
        lambda net: net.weight_hh_l1.data.__imul__(0.5),
        lambda net: setattr(net.bias_ih_l0_reverse, "data", net.bias_ih_l0_reverse.data + 1),
        lambda net: net.weight_ih_l0.data.T.fill(0),
        lambda net: net.weight_hh_l0.data[:3].sort(),
    ],
    ids=["load_state_dict", "in place", "assigned", "transposed view", "sorted rows"],
)
def test_a_weight_edited_after_use(net, x, edit):
    loss = net(x)[0].sum()
    edit(net)
    with pytest.raises(RuntimeError, match=STALE):
        loss.backward()
    assert all(p.grad is None for p in net.parameters())


def test_an_edit_between_two_uses_in_one_graph():
    w, x = leaf([[1, 2], [3, 4]], "w"), np.ones((1, 2))
    first = x @ w.T
    w.data[0, 0] = 9
    second = x @ w.T
    assert second.data.tolist() == [[11, 7]]
    with pytest.raises(RuntimeError, match=r"in-place operation: 'w' "):
        (first + second).sum().backward()
    second.sum().backward()
    assert w.grad.data.tolist() == [[1, 1], [1, 1]]


def test_an_edit_of_the_input_or_of_the_state(net, x):
    given = Tensor(x, name="x")
    loss = net(given)[0].sum()
    given.data[2] = 0
    with pytest.raises(RuntimeError, match="in-place operation: 'x'"):
        loss.backward()


def test_an_edit_between_two_walks_of_one_graph():
    w = leaf([1, 2])
    loss = (w * w).sum()
    loss.backward()
    w.data[0] = 5
    with pytest.raises(RuntimeError, match=STALE):
        loss.backward()
    assert w.grad.data.tolist() == [2, 4]


def test_an_edit_between_the_first_order_and_the_second():
    w = leaf([1, 2])
    (w**3).sum().backward(create_graph=True)
    slope = w.grad.sum()
    w.data[0] = 5
    with pytest.raises(RuntimeError, match=STALE):
        slope.backward()


def test_truncated_bptt_without_detach_is_refused():
    """The state of the last batch still hangs on the old weights."""
    w, h = leaf(0.5, "w"), Tensor(1.0)
    for attempt in range(2):
        h = np.tanh(w * h)
        if attempt:
            with pytest.raises(RuntimeError, match="in-place operation: 'w'"):
                h.backward()
        else:
            h.backward()
            w.data -= 0.1 * w.grad.data
    h = h.detach()
    np.tanh(w * h).backward()


def test_a_leaf_that_begins_to_require_grad_after_it_was_used():
    """Only some of its uses would have been recorded: x * w, but not w * 3."""
    w, x = Tensor([2.0], name="w"), leaf([1.0])
    y = x * w + x * (w * 3)
    w.requires_grad = True
    with pytest.raises(RuntimeError, match=r"'w' .*run the forward pass again"):
        y.backward()
    (x * w + x * (w * 3)).backward()
    assert w.grad.data.tolist() == [4]


def test_a_leaf_that_is_frozen_after_it_was_used_gets_nothing():
    w, x = leaf([2.0]), leaf([1.0])
    y = x * w
    w.requires_grad = False
    y.backward()
    assert (w.grad, x.grad.data.tolist()) == (None, [2])


def test_views_of_a_lent_array_outlive_it():
    w = leaf([[1, 2], [3, 4]])
    view = w.data[1:].T[::-1]
    gc.collect()
    loss = (w * w).sum()
    view[0] = 7
    with pytest.raises(RuntimeError, match=STALE):
        loss.backward()
    assert w.data.tolist() == [[1, 2], [3, 7]]


# -- what was captured -------------------------------------------------------------------------------------------------------

A = np.array
CAPTURES = {
    "operand": (A([2.0, 3.0]), lambda w, a: w * a),
    "left operand": (A([2.0, 3.0]), lambda w, a: a * w),
    "list operand": ([2.0, 3.0], lambda w, a: w * a),
    "np.multiply": (A([2.0, 3.0]), np.multiply),
    "power": (A([2.0, 3.0]), lambda w, a: w**a),
    "matmul": (A([[2.0, 3.0], [4.0, 5.0]]), lambda w, a: w @ a),
    "array @": (A([[2.0, 3.0], [4.0, 5.0]]), lambda w, a: a @ w),
    "dot": (A([2.0, 3.0]), lambda w, a: w.dot(a)),
    "einsum": (A([2.0, 3.0]), lambda w, a: np.einsum("i,i->i", w, a)),
    "where condition": (A([True, False]), lambda w, a: np.where(a, w * w, w)),
    "where branch": (A([2.0, 3.0]), lambda w, a: np.where(A([True, False]), w * a, a) * w),
    "mask": (A([True, False]), lambda w, a: w[a] ** 2),
    "mask as a factor": (A([True, False]), lambda w, a: w * a),
    "index array": (A([0, 0]), lambda w, a: w[a] ** 2),
    "index list": ([0, 0], lambda w, a: w[a] ** 2),
    "index tuple of lists": ([0, 0], lambda w, a: w[(a,)] ** 2),
    "index among others": (A([0, 0]), lambda w, a: w.reshape(1, 2)[:, a] ** 2),
    "bounds of clip": (A([0.5, 2.5]), lambda w, a: np.clip(w, a, 9.0) * w),
    "maximum": (A([0.5, 2.5]), lambda w, a: np.maximum(w, a) * w),
    "concatenate": (A([0.5, 2.5]), lambda w, a: np.concatenate([a, w]) ** 2),
    "stack": (A([0.5, 2.5]), lambda w, a: np.stack([w, a]) ** 2),
    "split points": ([1], lambda w, a: np.split(w * w, a)[0]),
    "shape list": ([2, 1], lambda w, a: (w * w).reshape(a)),
    "axes list": ([1, 0], lambda w, a: (w * w).reshape(1, 2).transpose(a)),
    "Tensor": (A([2.0, 3.0]), lambda w, a: Tensor(a) * w),
    "Tensor of a list": ([2.0, 3.0], lambda w, a: Tensor(a) * w),
    "Tensor index": (Tensor([0, 0]), lambda w, a: w[a] ** 2),
    "0-d operand": (A(2.0), lambda w, a: w * a),
    "mse target": (A([2.0, 3.0]), F.mse_loss),
    "l1 target": (A([0.0, 3.0]), F.l1_loss),
    "bce target": (A([0.0, 1.0]), F.binary_cross_entropy_with_logits),
    "class": (A(1), F.cross_entropy),
    "classes": (A([1, 0]), lambda w, a: F.cross_entropy(np.stack([w, w * 2]), a)),
}  # fmt: skip


@pytest.mark.parametrize("name", CAPTURES)
def test_what_the_caller_edits_later_changes_nothing(name):
    given, f = CAPTURES[name]
    given = copy.deepcopy(given)
    grads = []
    for edit in (False, True):
        w = leaf([1.0, 2.0])
        y = f(w, given)
        if edit and isinstance(given, list):
            given[:] = given[::-1] if given[0] != given[-1] else [1 - given[0]] * len(given)
        elif edit:
            array = given.data if isinstance(given, Tensor) else given
            array[...] = ~array if array.dtype == bool else 1 - array if array.dtype.kind == "i" else array + 100
        y.sum().backward()
        grads.append(w.grad.data.tolist())
    assert grads[0] == grads[1]
    assert any(grads[0])


def test_the_arrays_given_to_a_layer_are_copied(net, x):
    h = np.zeros((4, 5, 3))
    state = (h, h.copy()) if isinstance(net.state_size, tuple) else h
    mine, twin = x.copy(), copy.deepcopy(net)
    loss = (net(mine, state)[0] ** 2).sum()
    mine[:] = h[:] = 99
    loss.backward()
    (twin(x)[0] ** 2).sum().backward()
    for ours, theirs in zip(grads_of(net), grads_of(twin), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_parameters_and_state_dicts_are_copies():
    array = np.ones((1, 2))
    layer = tg.nn.Linear(2, 1, dtype=np.float64)
    layer.weight = p = tg.nn.Parameter(array)
    state = {"weight": array, "bias": np.zeros(1)}
    layer.load_state_dict(state)
    array[:] = 99
    assert p.data.tolist() == [[1, 1]]
    best = layer.state_dict()  # PyTorch's trap: a "best" checkpoint that goes on training
    p.data -= 1
    assert best["weight"].tolist() == [[1, 1]]
    best["weight"][:] = 7
    assert p.data.tolist() == [[0, 0]]


def test_two_modules_loaded_from_one_state_dict_share_nothing():
    one, two = (tg.nn.GRU(2, 3) for _ in range(2))
    two.load_state_dict(one.state_dict())
    two.weight_hh_l0.data[:] = 0
    assert one.weight_hh_l0.data.any()


def test_the_state_of_an_optimiser_is_its_own():
    w = leaf([1.0])
    optimiser = optim.SGD([w], lr=0.1, momentum=0.9)
    w.grad = Tensor([2.0])
    optimiser.step()
    w.grad.data[:] = 99  # the buffer is not the gradient
    saved = optimiser.state_dict()
    saved["state"][0]["momentum_buffer"][:] = 99
    assert optimiser.state_dict()["state"][0]["momentum_buffer"].tolist() == [2]
    buffer = np.array([5.0])
    saved["state"][0]["momentum_buffer"] = buffer
    optimiser.load_state_dict(saved)
    buffer[:] = 99
    w.grad = Tensor([0.0])
    optimiser.step()
    np.testing.assert_allclose(w.data, 1 - 0.1 * 2 - 0.1 * 0.9 * 5)
    assert buffer.tolist() == [99]


def test_seeds_and_cotangents_are_copied():
    seed, w = np.ones(2), leaf([1, 2])
    (w * 3).backward(seed)
    seed[:] = 99
    assert w.grad.data.tolist() == [3, 3]
    w.grad.data[:] = 0
    assert seed.tolist() == [99, 99]
    cotangent = Tensor([1.0, 1.0])
    _, pullback = tg.vjp(lambda w: w, np.ones(2))
    (pulled,) = pullback(cotangent)
    cotangent.data[:] = 99
    assert pulled.data.tolist() == [1, 1]
    primal, tangent = np.ones(2), np.ones(2)
    results = tg.jvp(lambda w: w, (primal,), (tangent,))
    primal[:] = tangent[:] = 99
    assert [r.data.tolist() for r in results] == [[1, 1], [1, 1]]


def test_a_list_of_parts_may_be_used_again():
    a, b = leaf([1.0]), leaf([2.0])
    parts = [a, b]
    y = np.concatenate(parts) * np.stack(parts)[:, 0]
    parts[0], parts[1] = b, a
    y.sum().backward()
    assert (a.grad.data.tolist(), b.grad.data.tolist()) == ([2], [4])


# -- one array as two --------------------------------------------------------------------------------------------------------

SHARING = {
    "add": lambda x, y: x + y,
    "stacked": lambda x, y: np.stack([x, y]).sum(axis=0),
    "reshaped": lambda x, y: x.reshape(2, 1).reshape(2) + y,
    "scaled": lambda x, y: 3 * (x + y),
    "summed": lambda x, y: x.sum() + y.sum() + np.zeros(2),
    "sliced": lambda x, y: x[:] + y[:],
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", SHARING)
def test_two_gradients_are_never_one_array(name, create_graph):
    """DeZero returns one object as two gradients, and clipping then scales it twice."""
    x, y, seed = leaf([1, 2]), leaf([3, 4]), Tensor([1.0, 1.0])
    SHARING[name](x, y).backward(seed, create_graph=create_graph)
    before = y.grad.numpy()
    try:
        x.grad.data[:] = 99
    except ValueError:  # with a graph a gradient may be a computed one, which nobody can edit
        assert create_graph
    np.testing.assert_array_equal(y.grad.data, before)
    assert seed.data.tolist() == [1, 1]
    tg.nn.utils.clip_grad_norm_([x, y, x], 1.0)
    tg.nn.utils.clip_grad_value_([x, y, x], 1.0)
    norm = np.sqrt(sum((p.grad.data**2).sum() for p in (x, y)))
    assert norm <= 1 + 1e-9


def test_a_gradient_assigned_to_two_parameters_is_stepped_once_each():
    a, b = leaf([1.0]), leaf([1.0])
    a.grad = b.grad = Tensor([4.0])
    assert tg.nn.utils.clip_grad_norm_([a, b], 1.0) == pytest.approx(np.sqrt(32))
    optim.SGD([a, b], lr=1.0, weight_decay=0.5).step()
    np.testing.assert_allclose([a.data, b.data], 1 - 0.5 - 1 / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(a.grad.data, 1 / np.sqrt(2), rtol=1e-6)


def test_a_gradient_of_the_wrong_shape_is_refused_by_the_optimiser():
    w = leaf([1.0, 2.0], "w")
    for wrong in (np.ones(2), Tensor(np.ones((3, 2))), Tensor(1.0)):
        w.grad = wrong
        with pytest.raises(TypeError, match=r"expected .grad to be a Tensor shaped as 'w' \(shape \(2,\), float64\), got"):
            optim.SGD([w], lr=0.1).step()
    assert w.data.tolist() == [1, 2]


def test_clipping_twice_clips_once():
    w = leaf([3.0, 4.0])
    (w * w / 2).sum().backward()
    kept = w.grad
    assert tg.nn.utils.clip_grad_norm_([w], 1.0) == 5
    assert tg.nn.utils.clip_grad_norm_([w], 1.0) == pytest.approx(1)
    np.testing.assert_allclose(w.grad.data, [0.6, 0.8], rtol=1e-6)
    assert kept.data.tolist() == [3, 4]


def test_detached_copies_are_independent():
    w = leaf([1.0, 2.0])
    y = w * 2
    for twin in (w.detach(), y.detach(), Tensor(y.detach()), w.numpy(), y.numpy(), copy.deepcopy(w), w[1:].detach()):
        (twin if isinstance(twin, np.ndarray) else twin.data)[...] = 99
    assert w.data.tolist() == [1, 2]
    y.sum().backward()
    assert w.grad.data.tolist() == [2, 2]
    assert not (w.detach() * 2).requires_grad


def test_the_numbers_of_what_was_computed_cannot_be_edited():
    w = leaf([1.0, 2.0])
    for y in (w * 2, w[1:], w.T, np.tanh(w), w.reshape(2, 1)):
        for edit in (lambda a: a.fill(0), lambda a: np.negative(a, out=a), lambda a: a[..., None].sort()):
            with pytest.raises(ValueError, match=r"read-only|not writeable"):
                edit(y.data)
        with pytest.raises(RuntimeError, match=r"cannot assign .data of the result of .* use .detach\(\)"):
            y.data = np.zeros(y.shape)


# -- copies of models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"])
def test_a_copied_model_is_a_model_of_its_own(net, x, duplicate):
    net(x)[0].sum().backward()
    twin = duplicate(net)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert all(p.requires_grad and p.grad is None for p in twin.parameters())
    np.testing.assert_array_equal(twin(x)[0].data, net(x)[0].data)
    loss = net(x)[0].sum()
    for p in twin.parameters():
        p.data -= 1
    loss.backward()
    assert not np.array_equal(twin(x)[0].data, net(x)[0].data)


def test_shared_parameters_stay_shared_in_a_copy():
    class Tied(tg.nn.Module):
        def __init__(self):
            self.encode = tg.nn.Linear(2, 2, bias=False, dtype=np.float64)
            self.decode = tg.nn.Linear(2, 2, bias=False, dtype=np.float64)
            self.decode.weight = self.encode.weight

        def forward(self, x):
            return self.decode(self.encode(x))

    for model in (Tied(), copy.deepcopy(Tied())):
        assert model.encode.weight is model.decode.weight
        assert len(model.parameters()) == 1
        w = model.encode.weight
        w.data = [[1.0, 2.0], [3.0, 4.0]]
        model(np.ones((1, 2))).sum().backward()
        assert tg.gradcheck(lambda _: model(np.ones((1, 2))).sum(), [w])  # noqa: B023
        optim.SGD(model.parameters(), lr=0.0).step()


def test_an_optimiser_goes_on_with_the_parameters_it_was_given():
    """As in PyTorch: a parameter that is replaced later is nobody's. What it takes to train it is a new optimiser."""
    layer = tg.nn.Linear(2, 1, dtype=np.float64)
    optimiser = optim.SGD(layer.parameters(), lr=0.1)
    layer.weight.data = np.zeros((1, 2))  # the numbers alone: the optimiser follows
    layer(np.ones((1, 2))).sum().backward()
    optimiser.step()
    np.testing.assert_allclose(layer.weight.data, -0.1)
    with pytest.raises(TypeError, match=r"weight is a Parameter, and a ndarray in its place would not be trained.*\.data = "):
        layer.weight = np.zeros((1, 2))
    with pytest.raises(TypeError, match=r"would not be trained"):
        layer.weight = layer.weight * 0.5
    with pytest.raises(ValueError, match="appear more than once"):
        optim.SGD([layer.bias, layer.bias], lr=0.1)
    with pytest.raises(TypeError, match="can only optimise leaf Tensors, got the result of mul"):
        optim.SGD([layer.weight * 1], lr=0.1)


def test_parameters_in_lists_and_dicts_are_trained():
    """In PyTorch a plain list hides its modules from the optimiser."""

    class Model(tg.nn.Module):
        def __init__(self):
            self.layers = [tg.nn.Linear(2, 2), (tg.nn.Linear(2, 2), {"head": tg.nn.Linear(2, 1)})]
            self.scale = Tensor([1.0], requires_grad=True)
            self.offset = Tensor([1.0])

    names = [name for name, _ in Model().named_parameters()]
    assert names == [f"layers.{path}.{p}" for path in ("0", "1.0", "1.1.head") for p in ("weight", "bias")] + ["scale"]


# -- shapes that broadcast ---------------------------------------------------------------------------------------------------


def test_a_state_of_batch_one_is_refused(net, x):
    """DeZero broadcasts it in silence."""
    h = np.zeros((4, 1, 3))
    with pytest.raises(ValueError, match=r"Expected hidden(\[0\])? size \(4, 5, 3\), got \[4, 1, 3\]"):
        net(x, (h, h) if isinstance(net.state_size, tuple) else h)
    cell = tg.nn.GRUCell(2, 3)
    with pytest.raises(ValueError, match=r"GRUCell: Expected hidden size \(5, 3\), got \[1, 3\]"):
        cell(x[0], Tensor(np.zeros((1, 3))))


@pytest.mark.parametrize(
    "loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits]
)
def test_a_loss_over_pairs_that_nobody_meant_is_refused(loss):
    """(5, 1) against (5,) would broadcast to 25 pairs."""
    prediction = leaf(np.full((5, 1), 0.5))
    for target in (np.ones(5), np.ones((1, 5)), 1.0, np.ones((5, 2))):
        with pytest.raises(
            ValueError, match=r"prediction has shape \(5, 1\) and target .*; they must be equal, so reshape one"
        ):
            loss(prediction, target)


def test_classes_of_the_wrong_shape_are_refused():
    scores = leaf(np.zeros((5, 3)))
    for target in (np.zeros((5, 1), int), np.zeros(3, int), np.zeros(5), np.eye(3)[[0, 1, 2, 0, 1]]):
        with pytest.raises(ValueError, match=r"expected input .* and integer targets of the same shape without C, got"):
            F.cross_entropy(scores, target)


def test_a_seed_does_not_broadcast():
    y = leaf(np.ones((2, 3))) * 2
    for seed in (1.0, np.ones(3), np.ones((1, 3)), np.ones((3, 2)), np.ones((1, 2, 3))):
        with pytest.raises(ValueError, match=r"gradient has shape .*, expected that of the result of mul \(shape \(2, 3\)"):
            y.backward(seed)


# -- ways around the graph ---------------------------------------------------------------------------------------------------

AROUND = {
    "np.array of a list": lambda x, s: np.array([s, s]),
    "np.array of a list of vectors": lambda x, s: np.array([x, x]),
    "np.asarray": lambda x, s: np.asarray(x),
    "np.array of dtype object": lambda x, s: np.array([x, None], dtype=object),
    "np.sum of a list": lambda x, s: np.sum([s, s]),
    "np.mean of a list": lambda x, s: np.mean([x, x]),
    "a slice of an array": lambda x, s: np.zeros(4).__setitem__(slice(0, 2), x),
    "a row of an array": lambda x, s: np.zeros((3, 2)).__setitem__(0, x),
    "masked assignment": lambda x, s: np.zeros(2).__setitem__([True, False], s),
    "np.full": lambda x, s: np.full(2, s),
    "array.dot": lambda x, s: np.ones((2, 2)).dot(x),
    "np.arange": lambda x, s: np.arange(s),
    "np.float32": lambda x, s: np.float32(s),
    "np.vectorize": lambda x, s: np.vectorize(math.sin)(x),
    "np.fill_diagonal": lambda x, s: np.fill_diagonal(np.zeros((2, 2)), x),
    "a random number": lambda x, s: np.random.default_rng(0).normal(x, 1.0),
    "tg.Tensor of a list": lambda x, s: Tensor([s, s]),
    "tg.Tensor": lambda x, s: Tensor(x),
}  # fmt: skip


@pytest.mark.parametrize("name", AROUND)
def test_an_array_never_swallows_a_gradient(name):
    with pytest.raises(TypeError, match=r"requires grad"):
        AROUND[name](leaf([1.0, 2.0]), leaf(3.0))


INTO = {
    "out=": lambda x, a: np.add(a, x, out=a),
    "+=": lambda x, a: a.__iadd__(x),
    "*= of a view": lambda x, a: a[:].__imul__(x),
    "ufunc.at": lambda x, a: np.add.at(a, [0, 1], x),
    "copyto": lambda x, a: np.copyto(a, x),
    "put": lambda x, a: np.put(a, [0, 1], x),
    "place": lambda x, a: np.place(a, [True, True], x),
    "concatenate out=": lambda x, a: np.concatenate([x], out=a),
    "where=": lambda x, a: np.add(x, a, where=[True, False]),
    "sum where=": lambda x, a: np.sum(x, where=[True, False]),
    "dtype=": lambda x, a: np.add(x, a, dtype=np.float32),
    "ufunc.reduceat": lambda x, a: np.add.reduceat(x, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", INTO)
def test_numpy_cannot_write_a_gradient_away(name):
    a = np.ones(2)
    with pytest.raises(TypeError, match=r"np\.|would lose the gradient: write a = a \+ b"):
        INTO[name](leaf([1.0, 2.0]), a)
    assert a.tolist() == [1, 1]


def test_assignment_to_a_tensor_is_refused():
    w, y = leaf([1.0, 2.0]), leaf([1.0, 2.0]) * 2
    for x in (w, y):
        with pytest.raises(TypeError, match=r"cannot be assigned to in place.*np.where, np.concatenate or np.stack"):
            x[0] = 1.0
    with (
        pytest.raises(RuntimeError, match=r"`-=` on a Tensor .* leaf that requires grad.*write `p.data -= ...`"),
        tg.no_grad(),
    ):
        w -= 0.1
    with pytest.raises(AttributeError):
        w.require_grad = True  # a typo
    with pytest.raises(AttributeError):
        w.shape = (2, 1)


def test_equality_with_numbers_is_refused():
    """`mask = x == 0` would be False for all of x."""
    x = leaf([0.0, 1.0])
    for compare in (lambda: x == 0, lambda: x != 0, lambda: x == np.zeros(2), lambda: 0.0 in x):
        with pytest.raises(TypeError, match=r"`==` on Tensors compares identity.*write np.equal"):
            compare()


def test_a_number_taken_out_of_a_tensor_is_a_number():
    """float(), int(), math.* and .item() take the number alone, as everywhere; np.* and tg.* functions join the graph."""
    x = leaf(0.5)
    for number in (float(x), x.item(), math.sin(x), math.fsum([x, x]), max(x, 0.0).item(), complex(x), np.float64(x)):
        assert not isinstance(number, Tensor)
    with pytest.raises(RuntimeError, match="has no graph: make a leaf with requires_grad=True"):
        (Tensor(math.sin(x)) * 2).backward()
    max(x * 2, x).backward()  # Python's own max picks one of them, with its graph
    assert x.grad.item() == 2


# -- no_grad, threads, tasks, generators -------------------------------------------------------------------------------------


def test_without_a_graph_backward_says_so():
    w = leaf([1.0])
    with tg.no_grad():
        y = (w * 2).sum()
    with pytest.raises(RuntimeError, match=r"does not require grad and has no graph: .* compute outside of no_grad\(\)"):
        y.backward()


def test_threads_share_weights_while_one_of_them_is_in_no_grad(net, x):
    expected = copy.deepcopy(net)
    (expected(x)[0] ** 2).sum().backward()
    rounds, wrong = 8, []
    start = threading.Barrier(4)

    def train():
        start.wait()
        for _ in range(rounds):
            (net(x)[0] ** 2).sum().backward()

    def look():
        start.wait()
        for _ in range(rounds):
            with tg.no_grad():
                y, _ = net(x)
            wrong.extend([y] if y.requires_grad else [])

    threads = [threading.Thread(target=f) for f in (train, look, train, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for ours, theirs in zip(grads_of(net), grads_of(expected), strict=True):
        np.testing.assert_allclose(ours, 2 * rounds * theirs, rtol=1e-12)


def test_gradients_of_many_threads_add_up_in_one_leaf():
    w, n, rounds = leaf(np.ones(3)), 8, 100
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as often as can be

    def work():
        for _ in range(rounds):
            (w * 2.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert w.grad.data.tolist() == [2 * n * rounds] * 3


def test_scopes_are_per_task():
    net = tg.nn.Recurrent(tg.nn.RNNCell(2, 3, dtype=np.float64))
    seen = []

    class Slow(tg.nn.Module):
        """A module whose forward is a coroutine."""

        async def forward(self, x):
            await asyncio.sleep(0)
            return x * 2

    async def quiet(x):
        with tg.no_grad():
            await asyncio.sleep(0)
            seen.append(net(x)[0].requires_grad)
            await asyncio.sleep(0)

    async def loud(x):
        for _ in range(3):
            await asyncio.sleep(0)
            y, _ = net(x)
            seen.append(y.requires_grad)
            y.sum().backward()
        assert (await Slow()(leaf([1.0]))).requires_grad
        assert current_scope.get() == Scope()

    async def main():
        x = np.ones((2, 1, 2))
        await asyncio.gather(*[f(x) for f in (quiet, loud, quiet, loud)])

    asyncio.run(main())
    assert sorted(seen) == [False] * 2 + [True] * 6


def test_module_scopes_are_per_thread():
    class Waiting(tg.nn.Module):
        def __init__(self, inner=None):
            self.inner = inner

        def forward(self, x):
            start.wait()
            y = x * 2 if self.inner is None else self.inner(x)
            start.wait()
            return y

    modules, results = [Waiting() for _ in range(4)], {}
    start = threading.Barrier(4)
    threads = [threading.Thread(target=lambda m=m: results.setdefault(m, m(leaf([1.0])))) for m in modules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for module, y in results.items():
        assert y.scope.module is module
        assert y.scope.parent == Scope()


def test_a_generator_may_build_a_graph_lazily():
    w = leaf([2.0])

    def states(h):
        while True:
            h = w * h
            yield h

    with tg.no_grad():
        sequence = states(1.0)
    third = [next(sequence) for _ in range(3)][-1]
    third.backward()
    assert w.grad.data.tolist() == [12]


def test_a_generator_that_is_suspended_in_no_grad_acts_on_its_caller():
    """So does every context manager that a generator is suspended in; what was computed then says that it has no graph."""

    def batches():
        with tg.no_grad():
            yield from (1.0, 2.0)

    def train():
        w = leaf([1.0])
        for batch in batches():
            with pytest.raises(RuntimeError, match="does not require grad and has no graph"):
                (w * batch).sum().backward()
        return (w * 2).requires_grad

    assert contextvars.copy_context().run(train)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit])
def test_an_error_in_a_forward_leaves_the_scope_clean(error):
    class Failing(tg.nn.Module):
        def __init__(self):
            self.state_size, self.calls = 2, 0

        def forward(self, x, h):
            self.calls += 1
            if self.calls == 3:
                raise error
            return h + x

    net = tg.nn.Sequential(tg.nn.Recurrent(Failing()))
    with pytest.raises(error), tg.no_grad(), tg.detect_anomaly():
        net(np.zeros((5, 1, 2)))
    assert current_scope.get() == Scope()
    with pytest.raises(ValueError, match="broadcast"):
        net[0].cells["l0"](np.zeros(3), np.zeros(2))
    assert current_scope.get() == Scope()
    y = leaf([1.0]) * 2
    assert y.requires_grad
    assert (y.scope.module, y.scope.step, y.scope.watch) == (None, None, None)


def test_an_error_in_backward_brings_nothing_to_any_leaf():
    a, b = leaf([1.0], "a"), leaf([1.0], "b")
    y = a * b
    b.data[0] = 2
    with pytest.raises(RuntimeError, match="'b'"):
        y.backward()
    assert (a.grad, b.grad, current_scope.get()) == (None, None, Scope())


# -- twice -------------------------------------------------------------------------------------------------------------------


def test_a_second_walk_adds_the_same_again(net, x):
    loss = (net(x)[0] ** 2).sum()
    loss.backward()
    once = grads_of(net)
    loss.backward()
    for one, two in zip(once, grads_of(net), strict=True):
        np.testing.assert_array_equal(2 * one, two)


def test_a_backward_within_another_forward():
    """A gradient that is taken in the middle of a forward pass touches nothing of the graph around it."""
    w = leaf([2.0])
    y = w * 3
    slope = tg.grad(lambda v: (v * v).sum())(np.ones(1))
    (w * 5).sum().backward()
    (y * slope).backward()
    assert w.grad.data.tolist() == [5 + 3 * 2]


def test_dropout_has_one_mask_for_both_ways():
    tg.manual_seed(0)
    x = leaf(np.ones(1000))
    y = F.dropout(x, 0.5)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)
    assert set(y.data) == {0, 2}


def test_broadcasting_is_undone_to_the_shape_of_each():
    for shape in ((), (1,), (3,), (1, 3), (2, 1), (2, 3), (1, 1, 1)):
        x = leaf(np.full(shape, 2.0))
        (x * np.ones((2, 3))).sum().backward()
        assert x.grad.shape == shape
        np.testing.assert_array_equal(x.grad.data, 6 / max(1, x.size))


# -- leaks -------------------------------------------------------------------------------------------------------------------


def train_step(net, x):
    net.zero_grad()
    (net(x)[0] ** 2).sum().backward()


def create_graph_step(net, x):
    w = net.weight_hh_l0
    net.zero_grad()
    (net(x)[0] ** 2).sum().backward(create_graph=True)
    penalty = (w.grad * w.grad).sum()
    net.zero_grad()
    penalty.backward()


def transform_step(net, x):
    def loss(x):
        return (net(x)[0] ** 2).sum()

    small = x[:2, :1]
    tg.value_and_grad(loss)(small)
    tg.jvp(loss, (small,), (small,))
    tg.vjp(loss, small)[1](1.0)
    tg.hvp(loss, (small,), (small,))
    tg.jacobian(loss)(small)


def anomaly_step(net, x):
    with tg.detect_anomaly():
        train_step(net, x)
        with pytest.raises(tg.AnomalyError):
            np.log(leaf(0.0))


def failing_step(net, x):
    loss = net(x)[0].sum()
    net.bias_hh_l0.data += 0.0
    net.bias_hh_l0.data[0] += 1e-9
    with pytest.raises(RuntimeError, match="in-place"):
        loss.backward()
    with pytest.raises(ValueError, match="expected x of shape"):
        net(x[..., :1])


def optimiser_step(net, x):
    optimiser = optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
    for _ in range(2):
        train_step(net, x)
        tg.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    copy.deepcopy(net).load_state_dict(net.state_dict())


def small_steps(count):
    """Many small graphs, of first and second order and of a transform."""
    w = leaf([[0.1, 0.2], [0.3, 0.4]])
    for _ in range(count):
        w.grad = None
        h = np.ones((1, 2))
        for _ in range(3):
            h = np.tanh(h @ w.T) * tg.sigmoid(h) + np.split(h, 2, axis=1)[0]
        h.sum().backward(create_graph=True)
        tg.grad(lambda v: (v * v * w).sum())(np.ones((2, 2)))
        w.data -= 1e-3 * w.grad.data
    w.grad = None


def growth(step, times):
    """How many objects, and bytes of arrays, a repeated step leaves behind. (Python's own free lists are neither.)"""
    arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)

    def measure():
        taken = tracemalloc.take_snapshot().filter_traces([arrays])
        return np.array([len(gc.get_objects()), sum(trace.size for trace in taken.traces)])

    tracemalloc.start()
    try:
        for _ in range(3):
            step()
        before = measure()
        for _ in range(times):
            step()
        return measure() - before
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize(
    "step",
    [train_step, create_graph_step, transform_step, anomaly_step, failing_step, optimiser_step],
    ids=lambda f: f.__name__,
)
def test_no_step_leaves_anything_for_the_garbage_collector(step):
    tg.manual_seed(0)
    net, x = tg.nn.LSTM(2, 3, num_layers=2, bidirectional=True, dtype=np.float64), np.ones((3, 2, 2))
    objects, size = growth(lambda: step(net, x), 12)
    assert objects < 12
    assert size < 12 * 32


@pytest.mark.usefixtures("no_gc")
def test_thousands_of_steps_do_not_grow():
    small_steps(100)
    before = len(gc.get_objects())
    small_steps(2000)
    assert len(gc.get_objects()) - before < 50
    objects, size = growth(lambda: small_steps(40), 6)
    assert objects < 50
    assert size < 1000


def test_the_measure_of_growth_sees_a_leak():
    kept = []
    objects, size = growth(lambda: kept.append(leaf([1.0, 2.0])), 100)
    assert objects >= 100
    assert size >= 1600


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_functions_leave_their_arguments_alone():
    """Every function that takes one array."""
    x, count = np.array([[0.5, 0.25], [0.125, 0.75]]), 0
    for name in functions.__all__:
        before = x.copy()
        try:
            y = getattr(functions, name)(x)
        except (TypeError, ValueError):
            continue
        if isinstance(y, Tensor):
            y.named(name)
            y.detach().data[...] = 0
            count += 1
        np.testing.assert_array_equal(x, before, err_msg=name)
    assert count > 20
