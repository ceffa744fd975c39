"""SGD: PyTorch's golden numbers, the rule written out by hand, parameter groups, state dicts, and what is refused."""

import numpy as np
import pytest
from descent import descend, parameter

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.optim import SGD, Optimizer

# -- the rule -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.8, 0.6, 0.4]),
        ({"momentum": 0.9, "dampening": 0.5}, [0.8, 0.52, 0.168]),
        ({"momentum": 0.9, "nesterov": True}, [0.62, 0.078, -0.6098]),
        ({"weight_decay": 0.1}, [0.79, 0.5821, 0.376279]),
        ({"maximize": True}, [1.2, 1.4, 1.6]),
    ],
)
def test_the_golden_numbers(options, expected):
    p = parameter()
    np.testing.assert_allclose(descend(SGD([p], lr=0.1, **options), p, [2.0] * 3), expected, rtol=1e-14)


def by_hand(p, gradients, lr, momentum, dampening, weight_decay, nesterov, maximize):
    """The rule in scalars, as PyTorch's documentation gives it."""
    buffer, values = None, []
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
        values.append(p)
    return values


MOMENTA = [(0, 0, False), (0, 0.4, False), (0.8, 0, False), (0.8, 0.4, False), (0.8, 0, True)]


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("weight_decay", [0, 0.3])
@pytest.mark.parametrize(("momentum", "dampening", "nesterov"), MOMENTA)
def test_every_combination_of_settings(momentum, dampening, weight_decay, nesterov, maximize):
    options = (0.05, momentum, dampening, weight_decay, nesterov)
    gradients = np.random.default_rng(0).normal(size=10)
    p = parameter()
    found = descend(SGD([p], *options, maximize=maximize), p, gradients)
    np.testing.assert_allclose(found, by_hand(1.0, gradients, *options, maximize), rtol=1e-13)


def test_a_gradient_of_none_is_skipped_and_starts_no_momentum():
    p, q = parameter(), parameter()
    optimizer = SGD([p, q], lr=0.1, momentum=0.9)
    descend(optimizer, p, [2.0, 2.0])
    assert q.item() == 1
    assert list(optimizer.state_dict()["state"]) == [0]
    p.grad = None
    descend(optimizer, q, [1.0])
    np.testing.assert_allclose([p.item(), q.item()], [1 - 0.2 - 0.38, 0.9], rtol=1e-14)


def test_neither_the_gradient_nor_its_array_is_edited():
    p = parameter([1.0, 2.0])
    optimizer = SGD([p], lr=0.1, momentum=0.9, weight_decay=0.1)
    g = tg.Tensor([1.0, 1.0])
    p.grad = g
    optimizer.step()
    optimizer.step()
    assert p.grad is g
    assert g.data.tolist() == [1, 1]


def test_zero_grad_sets_none():
    p, q = parameter(), parameter()
    optimizer = SGD([{"params": [p]}, {"params": q}])
    p.grad = q.grad = tg.Tensor(1.0)
    optimizer.zero_grad()
    assert (p.grad, q.grad) == (None, None)


def test_a_step_between_forward_and_backward_is_noticed():
    p = parameter([1.0])
    loss = (p * p).sum()
    loss.backward()
    SGD([p]).step()
    with pytest.raises(RuntimeError, match=r"modified by an in-place operation: 'w'"):
        loss.backward()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept_whatever_the_settings_are_made_of(dtype):
    p = parameter([1.0, 2.0], dtype)
    values = [np.float64(v) for v in (0.1, 0.9, 0.1, 0.1)]
    optimizer = SGD([p], *values)
    found = descend(optimizer, p, [1.0, 2.0])
    assert optimizer.state_dict()["state"][0]["momentum_buffer"].dtype == p.dtype == dtype
    np.testing.assert_allclose(np.array(found)[:, 0], by_hand(1.0, [1.0, 2.0], 0.1, 0.9, 0.1, 0.1, False, False), rtol=1e-6)


def test_training_a_small_network():
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), tg.tanh, nn.Linear(8, 1))
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([[0], [1], [1], [0]], np.float32)
    optimizer = SGD(model.parameters(), lr=0.5, momentum=0.9)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    assert ((model(x).data > 0) == y).all()


# -- parameter groups ---------------------------------------------------------------------------------------------------------


def test_groups_have_settings_of_their_own():
    p, q, r = parameter(), parameter(), parameter()
    groups = [{"params": [p]}, {"params": q, "lr": 1.0}, {"params": (w for w in [r]), "momentum": 0.5, "name": "head"}]
    optimizer = SGD(groups, lr=0.1)
    for _ in range(2):
        for w in (p, q, r):
            w.grad = tg.Tensor(1.0)
        optimizer.step()
    np.testing.assert_allclose([p.item(), q.item(), r.item()], [0.8, -1, 1 - 0.1 - 0.15], rtol=1e-14)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0, 0.1]
    assert optimizer.param_groups[2]["name"] == "head"


def test_settings_may_change_between_steps():
    p = parameter()
    optimizer = SGD([p], lr=0.1)
    descend(optimizer, p, [1.0])
    optimizer.param_groups[0]["lr"] = 0.01
    np.testing.assert_allclose(descend(optimizer, p, [1.0]), [0.89], rtol=1e-14)


@pytest.mark.parametrize("give", [lambda p: p, lambda p: [p], lambda p: (q for q in [p]), lambda p: {"w": p}.values()])
def test_whatever_can_be_iterated_over_is_taken(give):
    p = parameter()
    assert SGD(give(p)).param_groups[0]["params"] == [p]


# -- state dicts --------------------------------------------------------------------------------------------------------------


def test_the_form_of_a_state_dict():
    p, q = parameter([1.0]), parameter([2.0])
    optimizer = SGD([{"params": [q], "lr": 0.2}, {"params": [p]}], lr=0.1, momentum=0.9)
    descend(optimizer, p, [3.0])
    state = optimizer.state_dict()
    settings = {"momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}
    assert state["param_groups"] == [{"lr": 0.2, **settings, "params": [0]}, {"lr": 0.1, **settings, "params": [1]}]
    assert {i: {k: v.tolist() for k, v in s.items()} for i, s in state["state"].items()} == {1: {"momentum_buffer": [3.0]}}
    state["state"][1]["momentum_buffer"][:] = 100
    np.testing.assert_allclose(descend(optimizer, p, [0.0]), [[1 - 0.3 - 0.27]], rtol=1e-14)


def test_a_run_goes_on_from_a_state_dict():
    gradients = np.random.default_rng(0).normal(size=8)
    p, q = parameter([1.0, -1.0]), parameter([0.0, 0.0])
    whole = SGD([p], lr=0.1, momentum=0.9, nesterov=True)
    descend(whole, p, gradients[:4])
    state, q.data = whole.state_dict(), p.data
    resumed = SGD([q], lr=5.0)
    resumed.load_state_dict(state)
    state["state"][0]["momentum_buffer"][:] = 100
    assert descend(resumed, q, gradients[4:]) == descend(whole, p, gradients[4:])


def test_a_state_is_loaded_in_the_dtype_of_its_parameter():
    p, q = parameter([1.0]), parameter([1.0], np.float32)
    source, target = SGD([p], momentum=0.9), SGD([q], momentum=0.9)
    descend(source, p, [1.0])
    target.load_state_dict(source.state_dict())
    assert target.state[q]["momentum_buffer"].dtype == np.float32


GROUP = {"lr": 0.5, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ({}, KeyError, r"load_state_dict into SGD: expected what state_dict\(\) gives, 'state' and 'param_groups', got \[\]"),
        ({"state": {}}, KeyError, r"got \['state'\]"),
        (
            {"state": {}, "param_groups": [{**GROUP, "params": [0]}]},
            ValueError,
            r"expected groups of \[2\] parameters, got \[1\]",
        ),
        (
            {"state": {}, "param_groups": [{**GROUP, "params": [0]}, {**GROUP, "params": [1]}]},
            ValueError,
            r"expected groups of \[2\] parameters, got \[1, 1\]",
        ),
        (
            {"state": {0: {"momentum_buffer": np.ones(3)}}, "param_groups": [{**GROUP, "params": [0, 1]}]},
            ValueError,
            r"momentum_buffer has shape \(3,\), expected that of 'w' \(shape \(2,\), float64\)",
        ),
        (
            {"state": {7: {"momentum_buffer": np.ones(2)}}, "param_groups": [{**GROUP, "params": [0, 1]}]},
            ValueError,
            r"there is a state for parameters \[7\], which are in none of its groups",
        ),
        ({"state": {}, "param_groups": [{**GROUP, "lr": -1.0, "params": [0, 1]}]}, ValueError, r"Invalid learning rate: -1.0"),
        (
            {"state": {}, "param_groups": [{**GROUP, "nesterov": True, "dampening": 0.5, "params": [0, 1]}]},
            ValueError,
            r"Nesterov momentum requires a momentum and zero dampening",
        ),
    ],
)
def test_loading_is_all_or_nothing(state, error, match):
    p, q = parameter([1.0, 2.0]), parameter([3.0])
    optimizer = SGD([p, q], lr=0.1, momentum=0.9)
    descend(optimizer, p, [1.0])
    before = optimizer.state_dict()
    with pytest.raises(error, match=match):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    assert optimizer.state[p]["momentum_buffer"].tolist() == [1, 1]


def test_settings_that_a_state_dict_lacks_stay():
    optimizer = SGD([parameter()], lr=0.1, momentum=0.9)
    optimizer.load_state_dict({"state": {}, "param_groups": [{"lr": 0.7, "foreach": None, "params": [0]}]})
    assert optimizer.param_groups[0] | {"params": []} == {**GROUP, "lr": 0.7, "params": []}


# -- bad input ----------------------------------------------------------------------------------------------------------------

w = parameter()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: SGD([]), ValueError, r"SGD got an empty parameter list: pass model.parameters\(\)"),
        (lambda: SGD(p for p in []), ValueError, r"SGD got an empty parameter list"),
        (
            lambda: SGD([w * 2]),
            TypeError,
            r"SGD can only optimise leaf Tensors, got the result of mul \(shape \(\), float64\): pass",
        ),
        (lambda: SGD(nn.Linear(1, 1).named_parameters()), TypeError, r"leaf Tensors, got a tuple: pass model.parameters\(\)"),
        (lambda: SGD([np.ones(2)]), TypeError, r"can only optimise leaf Tensors, got a ndarray"),
        (lambda: SGD(nn.Linear(1, 1)), TypeError, r"SGD: expected model.parameters\(\), .* got a Linear"),
        (
            lambda: SGD([w, w]),
            ValueError,
            r"some parameters appear more than once, list each of them once: 'w' \(shape \(\), float64\)",
        ),
        (lambda: SGD([{"params": [w]}, {"params": [w]}]), ValueError, r"some parameters appear more than once"),
        (lambda: SGD({"params": [w]}), TypeError, r"expected a list of parameters or of groups, got a dict: write \[group\]"),
        (lambda: SGD({w}), TypeError, r"got a set: write a list, for a set has no order that every run repeats"),
        (lambda: SGD([{"params": {w}}]), TypeError, r"got a set: write a list"),
        (lambda: SGD([{"params": [w]}, parameter()]), TypeError, r'expected groups {"params": \[...\], "lr": ...}, got \'w\''),
        (lambda: SGD([{"lr": 0.1}]), TypeError, r'expected groups {"params": \[...\], "lr": ...}, got {\'lr\': 0.1}'),
        (lambda: SGD([w], lr=-1.0), ValueError, r"Invalid learning rate: -1.0"),
        (lambda: SGD([w], lr=float("nan")), ValueError, r"Invalid learning rate: nan"),
        (lambda: SGD([w], momentum=-0.5), ValueError, r"Invalid momentum value: -0.5"),
        (lambda: SGD([w], weight_decay=-0.1), ValueError, r"Invalid weight_decay value: -0.1"),
        (lambda: SGD([w], nesterov=True), ValueError, r"Nesterov momentum requires a momentum and zero dampening"),
        (lambda: SGD([w], momentum=0.9, dampening=0.1, nesterov=True), ValueError, r"requires a momentum and zero dampening"),
        (lambda: SGD([{"params": [w], "lr": -2.0}]), ValueError, r"Invalid learning rate: -2.0"),
        (
            lambda: Optimizer([w], {}).update(1, 2, {}, {}),
            NotImplementedError,
            r"Optimizer has no update: write `def update\(",
        ),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize(
    ("gradient", "match"),
    [
        (np.ones(2), r"SGD: expected .grad to be a Tensor shaped as 'q' \(shape \(2,\), float64\), got a ndarray"),
        (tg.Tensor([1.0]), r"shaped as 'q' \(shape \(2,\), float64\), got a Tensor \(shape \(1,\), float64\)"),
    ],
)
def test_a_gradient_of_another_kind_is_refused_before_anything_moves(gradient, match):
    p, q = parameter([1.0], name="p"), parameter([1.0, 2.0], name="q")
    p.grad, q.grad = tg.Tensor([1.0]), gradient
    with pytest.raises(TypeError, match=match):
        SGD([p, q], lr=0.1).step()
    assert (p.data.tolist(), q.data.tolist()) == ([1], [1, 2])
