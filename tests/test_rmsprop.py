"""RMSprop: PyTorch's golden numbers, the equations written out, state dicts, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from descent import descend, parameter

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.optim import RMSprop

# -- the rule -----------------------------------------------------------------------------------------------------------------

ALL = {"lr": 0.1, "alpha": 0.6, "eps": 0.1, "weight_decay": 0.3, "momentum": 0.5, "centered": True, "maximize": True}


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # torch 2.13.0 from p = 1 with these gradients
        ({}, [0.900000019999996, 0.9516397890605408, 0.8705842686719792, 0.8604536739933881]),
        ({"lr": 0.1, "alpha": 0.5}, [0.8585786477626903, 0.9500777871715556, 0.8192200580944988, 0.7963908527942575]),
        ({"centered": True}, [0.899496238676095, 0.9511651227393555, 0.869696180991143, 0.8595040443885009]),
        ({"momentum": 0.9}, [0.900000019999996, 0.8616398070605373, 0.7460600950264629, 0.6319077595172048]),
        (ALL, [1.1010205144336438, 1.0133535464818881, 1.0613421741862679, 1.0388864851654005]),
    ],
)
def test_the_golden_numbers(options, expected):
    p = parameter()
    np.testing.assert_allclose(descend(RMSprop([p], **options), p, [0.5, -0.3, 0.8, 0.1]), expected, rtol=1e-13)


def by_hand(p, gradients, lr, alpha, eps, weight_decay, momentum, centered, maximize):
    """The rule in scalars; its means are written out as sums."""
    seen, steps, values = [], [], []
    for g in gradients:
        seen.append((-g if maximize else g) + weight_decay * p)
        weights = [(1 - alpha) * alpha ** (len(seen) - i) for i in range(1, len(seen) + 1)]
        square = sum(w * g**2 for w, g in zip(weights, seen, strict=True))
        mean = sum(w * g for w, g in zip(weights, seen, strict=True))
        steps.append(seen[-1] / (math.sqrt(square - mean**2 * centered) + eps))
        p = p - lr * sum(momentum ** (len(steps) - i) * step for i, step in enumerate(steps, 1))
        values.append(p)
    return values


@pytest.mark.parametrize(
    ("alpha", "eps", "weight_decay", "momentum", "centered", "maximize"),
    list(itertools.product([0.99, 0.5], [1e-8, 0.1], [0, 0.3], [0, 0.9], [False, True], [False, True])),
)
def test_every_combination_of_settings(alpha, eps, weight_decay, momentum, centered, maximize):
    gradients = np.random.default_rng(0).normal(size=10)
    p = parameter()
    found = descend(RMSprop([p], 0.05, alpha, eps, weight_decay, momentum, centered, maximize=maximize), p, gradients)
    expected = by_hand(1.0, gradients, 0.05, alpha, eps, weight_decay, momentum, centered, maximize)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_the_defaults():
    settings = {"lr": 0.01, "momentum": 0, "alpha": 0.99, "eps": 1e-8, "centered": False, "weight_decay": 0}
    assert RMSprop([parameter()]).state_dict()["param_groups"] == [{**settings, "maximize": False, "params": [0]}]


def test_neither_the_gradient_nor_its_array_is_edited():
    p = parameter([1.0, 2.0])
    optimizer = RMSprop([p], momentum=0.9, centered=True, maximize=True)
    g = p.grad = tg.Tensor([1.0, 1.0])
    optimizer.step()
    optimizer.step()
    assert p.grad is g
    assert g.data.tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(2,), ()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept_whatever_the_settings_are_made_of(dtype, shape):
    p = parameter(np.ones(shape), dtype)
    optimizer = RMSprop([p], *(np.float64(v) for v in (0.1, 0.9, 1e-8, 0.1, 0.5)), centered=True)
    descend(optimizer, p, [1.0, 2.0])
    state = optimizer.state_dict()["state"][0]
    assert {name: value.dtype for name, value in state.items() if name != "step"} == dict.fromkeys(
        ("square_avg", "grad_avg", "momentum_buffer"), p.dtype
    )
    assert p.dtype == dtype


def test_training_a_small_network():
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), tg.tanh, nn.Linear(8, 1))
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([[0], [1], [1], [0]], np.float32)
    optimizer = RMSprop(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    assert ((model(x).data > 0) == y).all()


# -- state dicts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"step": 1, "square_avg": [1]}),
        ({"centered": True}, {"step": 1, "square_avg": [1], "grad_avg": [0.5]}),
        ({"momentum": 0.9}, {"step": 1, "square_avg": [1], "momentum_buffer": [2]}),
    ],
)
def test_the_form_of_a_state_dict(options, expected):
    p = parameter([1.0])
    optimizer = RMSprop([p], alpha=0.75, eps=0, **options)
    descend(optimizer, p, [2.0])
    state = optimizer.state_dict()["state"][0]
    assert state.pop("step").dtype == np.float32
    assert {"step": 1, **{k: v.tolist() for k, v in state.items()}} == expected


@pytest.mark.parametrize("options", [{}, {"centered": True}, {"momentum": 0.9}, ALL])
def test_a_run_goes_on_from_a_state_dict(options):
    gradients = np.random.default_rng(0).normal(size=8)
    p, q = parameter([1.0, -1.0]), parameter([0.0, 0.0])
    whole = RMSprop([p], **options)
    descend(whole, p, gradients[:4])
    state, q.data = whole.state_dict(), p.data
    resumed = RMSprop([q], lr=5.0)
    resumed.load_state_dict(state)
    for value in state["state"][0].values():
        value[...] = 100
    assert descend(resumed, q, gradients[4:]) == descend(whole, p, gradients[4:])


# -- bad input ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": -1.0}, r"Invalid learning rate: -1.0"),
        ({"alpha": -0.1}, r"Invalid alpha value: -0.1"),
        ({"alpha": 1.5}, r"Invalid alpha value: 1.5"),
        ({"alpha": float("nan")}, r"Invalid alpha value: nan"),
        ({"eps": -1e-8}, r"Invalid epsilon value: -1e-08"),
        ({"momentum": -0.9}, r"Invalid momentum value: -0.9"),
        ({"weight_decay": -0.1}, r"Invalid weight_decay value: -0.1"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        RMSprop([parameter()], **options)
    with pytest.raises(ValueError, match=match):
        RMSprop([{"params": [parameter()], **options}])
