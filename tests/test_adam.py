"""Adam and AdamW: PyTorch's golden numbers, the papers' equations written out, state dicts, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from descent import descend, parameter

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.optim import SGD, Adam, AdamW

# -- the rule -----------------------------------------------------------------------------------------------------------------

GOLDEN = [  # torch 2.13.0 from p = 1 with these gradients
    (Adam, {}, [0.99900000002, 0.9988085019894177, 0.9982049656368286, 0.9976546406347918]),
    (Adam, {"lr": 0.1, "betas": (0.8, 0.9)}, [0.900000002, 0.8863557727496709, 0.8245741894519588, 0.7695036855819561]),
    (Adam, {"lr": 0.1, "weight_decay": 0.3}, [0.90000000125, 0.8358312342726762, 0.7549569999987861, 0.6766933505285537]),
    (
        Adam,
        {"lr": 0.1, "betas": (0.5, 0.5), "amsgrad": True},
        [0.900000002, 0.9081649676092772, 0.8404043941129306, 0.7992260973997076],
    ),
    (
        Adam,
        {"lr": 0.1, "eps": 0.1, "maximize": True},
        [1.0833333333333333, 1.0987448540116884, 1.1501127669928608, 1.1959343806820923],
    ),
    (
        Adam,
        {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True},
        [0.870000002, 0.8247501988817751, 0.739654057656413, 0.6624319357230465],
    ),
    (AdamW, {}, [0.99899000002, 0.9987885120894177, 0.9981749878517077, 0.9976146810997925]),
    (AdamW, {"lr": 0.1, "weight_decay": 0.3}, [0.870000002, 0.8247501988817751, 0.739654057656413, 0.6624319357230465]),
    (
        AdamW,
        {"lr": 0.1, "betas": (0.5, 0.5), "amsgrad": True, "maximize": True},
        [1.098999998, 1.0897360323927228, 1.1564068698566767, 1.196428759700043],
    ),
]


@pytest.mark.parametrize(("kind", "options", "expected"), GOLDEN)
def test_the_golden_numbers(kind, options, expected):
    p = parameter()
    np.testing.assert_allclose(descend(kind([p], **options), p, [0.5, -0.3, 0.8, 0.1]), expected, rtol=1e-14)


def by_hand(p, gradients, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled):
    """The paper's algorithm 1 in scalars; its sums are written out, not kept as running means."""
    seen, largest, values = [], 0, []
    beta1, beta2 = betas
    for g in gradients:
        g = -g if maximize else g
        seen.append(g if decoupled else g + weight_decay * p)
        t = len(seen)
        m = (1 - beta1) * sum(beta1 ** (t - i) * g for i, g in enumerate(seen, 1))
        v = (1 - beta2) * sum(beta2 ** (t - i) * g**2 for i, g in enumerate(seen, 1))
        largest = max(largest, v)
        v_hat = (largest if amsgrad else v) / (1 - beta2**t)
        p = p * (1 - lr * weight_decay * decoupled) - lr * m / (1 - beta1**t) / (math.sqrt(v_hat) + eps)
        values.append(p)
    return values


SETTINGS = list(itertools.product([(0.9, 0.999), (0, 0.5)], [1e-8, 0.1], [0, 0.3], [False, True], [False, True]))


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(("betas", "eps", "weight_decay", "amsgrad", "maximize"), SETTINGS)
def test_every_combination_of_settings(kind, betas, eps, weight_decay, amsgrad, maximize):
    gradients = np.random.default_rng(0).normal(size=10)
    p = parameter()
    found = descend(kind([p], 0.05, betas, eps, weight_decay, amsgrad, maximize=maximize), p, gradients)
    expected = by_hand(1.0, gradients, 0.05, betas, eps, weight_decay, amsgrad, maximize, kind is AdamW)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_first_step_is_lr_whatever_the_size_of_the_gradient(scale):
    p = parameter([1.0, 1.0])
    descend(Adam([p], lr=0.1, eps=0), p, [[3 * scale, -0.2 * scale]])
    np.testing.assert_allclose(p.data, [0.9, 1.1], rtol=1e-14)


def test_the_defaults():
    common = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "maximize": False}
    for kind, weight_decay in ((Adam, 0), (AdamW, 0.01)):
        own = {"weight_decay": weight_decay, "decoupled_weight_decay": kind is AdamW}
        assert kind([parameter()]).state_dict()["param_groups"] == [{**common, **own, "params": [0]}]


def test_a_gradient_of_none_is_skipped_and_counts_no_step():
    p, q = parameter(), parameter()
    optimizer = Adam([p, q], lr=0.1)
    descend(optimizer, p, [1.0, 1.0])
    assert q.item() == 1
    assert list(optimizer.state_dict()["state"]) == [0]
    p.grad = None
    descend(optimizer, q, [1.0])
    assert [float(optimizer.state[w]["step"]) for w in (p, q)] == [2, 1]


def test_neither_the_gradient_nor_its_array_is_edited():
    p = parameter([1.0, 2.0])
    optimizer = AdamW([p], amsgrad=True, maximize=True)
    g = p.grad = tg.Tensor([1.0, 1.0])
    optimizer.step()
    optimizer.step()
    assert p.grad is g
    assert g.data.tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(2,), ()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept_whatever_the_settings_are_made_of(dtype, shape):
    p = parameter(np.ones(shape), dtype)
    lr, beta, eps, decay = (np.float64(v) for v in (0.1, 0.9, 1e-8, 0.1))
    optimizer = Adam([p], lr, (beta, beta), eps, decay, amsgrad=True)
    descend(optimizer, p, [1.0, 2.0])
    state = optimizer.state_dict()["state"][0]
    assert {name: value.dtype for name, value in state.items() if name != "step"} == dict.fromkeys(
        ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), p.dtype
    )
    assert p.dtype == dtype
    assert all(value.shape == (() if name == "step" else shape) for name, value in state.items())


def test_training_a_small_network():
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), tg.tanh, nn.Linear(8, 1))
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([[0], [1], [1], [0]], np.float32)
    optimizer = Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    assert ((model(x).data > 0) == y).all()


# -- state dicts --------------------------------------------------------------------------------------------------------------


def test_the_form_of_a_state_dict():
    p, q = parameter([1.0]), parameter([2.0])
    optimizer = Adam([{"params": [q], "betas": (0.5, 0.75)}, {"params": [p], "amsgrad": True}])
    descend(optimizer, p, [2.0])
    descend(optimizer, q, [2.0])
    states = optimizer.state_dict()["state"]
    expected = [{"step": 1, "exp_avg": [1], "exp_avg_sq": [1]}, {"step": 2, "exp_avg": [0.38], "exp_avg_sq": [0.007996]}]
    expected[1]["max_exp_avg_sq"] = expected[1]["exp_avg_sq"]
    assert [list(state) for state in states.values()] == [list(state) for state in expected]
    for state, numbers in zip(states.values(), expected, strict=True):
        for name, value in numbers.items():
            np.testing.assert_allclose(state[name], value, rtol=1e-12)
    assert (states[0]["step"].shape, states[0]["step"].dtype) == ((), np.float32)


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_run_goes_on_from_a_state_dict(kind, amsgrad):
    gradients = np.random.default_rng(0).normal(size=8)
    p, q = parameter([1.0, -1.0]), parameter([0.0, 0.0])
    whole = kind([p], lr=0.1, weight_decay=0.2, amsgrad=amsgrad)
    descend(whole, p, gradients[:4])
    state, q.data = whole.state_dict(), p.data
    resumed = kind([q], lr=5.0)
    resumed.load_state_dict(state)
    for value in state["state"][0].values():
        value[...] = 100
    assert descend(resumed, q, gradients[4:]) == descend(whole, p, gradients[4:])


def test_a_state_is_loaded_in_the_dtype_of_its_parameter():
    for value in (1.0, [1.0]):
        p, q = parameter(value), parameter(value, np.float32)
        source, target = Adam([p]), Adam([q])
        descend(source, p, [1.0])
        target.load_state_dict(source.state_dict())
        assert target.state[q]["exp_avg"].dtype == np.float32


def test_a_step_counter_may_be_a_plain_number():
    p = parameter()
    optimizer = Adam([p])
    descend(optimizer, p, [1.0])
    state = optimizer.state_dict()
    state["state"][0]["step"] = 1
    optimizer.load_state_dict(state)
    descend(optimizer, p, [1.0])
    assert float(optimizer.state[p]["step"]) == 2


def test_amsgrad_may_be_switched_on_later():
    p = parameter()
    optimizer = Adam([p])
    descend(optimizer, p, [1.0])
    optimizer.param_groups[0]["amsgrad"] = True
    descend(optimizer, p, [1.0])
    assert float(optimizer.state[p]["max_exp_avg_sq"]) == float(optimizer.state[p]["exp_avg_sq"])


def test_adamw_stays_decoupled_whoever_saved_the_state():
    p, q = parameter(), parameter()
    optimizer = AdamW([p])
    optimizer.load_state_dict(Adam([q], lr=0.5).state_dict())
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["decoupled_weight_decay"]) == (0.5, True)


def test_what_a_scheduler_noted_in_a_group_is_loaded_too():
    p, q = parameter(), parameter()
    source, target = Adam([p], lr=0.5), Adam([q])
    tg.optim.lr_scheduler.ExponentialLR(source, 0.5)
    target.load_state_dict(source.state_dict())
    assert target.param_groups[0]["initial_lr"] == 0.5


def test_the_state_of_another_kind_of_optimiser_is_refused():
    p, q = parameter(), parameter([1.0, 2.0])
    other, optimizer = SGD([p], momentum=0.9), Adam([q])
    descend(other, p, [1.0])
    state = other.state_dict()
    with pytest.raises(ValueError, match=r"momentum_buffer has shape \(\), expected that of 'w' \(shape \(2,\), float64\)"):
        optimizer.load_state_dict(state)
    state["state"][0]["momentum_buffer"] = np.ones(2)
    match = r"the state of 'w' \(shape \(2,\), float64\) has no step, exp_avg, exp_avg_sq; is it of another optimiser\?"
    with pytest.raises(KeyError, match=match):
        optimizer.load_state_dict(state)
    assert optimizer.state == {}


# -- bad input ----------------------------------------------------------------------------------------------------------------

w = parameter()


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": -1.0}, r"Invalid learning rate: -1.0"),
        ({"eps": -1e-8}, r"Invalid epsilon value: -1e-08"),
        ({"eps": float("nan")}, r"Invalid epsilon value: nan"),
        ({"betas": (1.0, 0.9)}, r"Invalid beta parameter at index 0: 1.0"),
        ({"betas": (0.9, -0.1)}, r"Invalid beta parameter at index 1: -0.1"),
        ({"betas": (0.9, float("nan"))}, r"Invalid beta parameter at index 1: nan"),
        ({"betas": 0.9}, r"betas must be a pair \(beta1, beta2\), got 0.9"),
        ({"betas": (0.9,)}, r"betas must be a pair \(beta1, beta2\), got \(0.9,\)"),
        ({"weight_decay": -0.1}, r"Invalid weight_decay value: -0.1"),
    ],
)
def test_bad_settings(kind, options, match):
    with pytest.raises(ValueError, match=match):
        kind([w], **options)
    with pytest.raises(ValueError, match=match):
        kind([{"params": [w], **options}])


def test_a_state_dict_with_bad_settings_changes_nothing():
    optimizer = Adam([w])
    state = optimizer.state_dict()
    state["param_groups"][0] |= {"lr": 7.0, "betas": (0.9, 2.0)}
    with pytest.raises(ValueError, match=r"Invalid beta parameter at index 1: 2.0"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.001
