"""Schedules: PyTorch's golden numbers, closed forms, chains of two, state dicts, and what is refused."""

import copy
import json
import math
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.optim import SGD, Adam, Optimizer
from tinygrad_rnn.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)


def sgd(*lrs, momentum=0.0):
    groups = [{"params": [nn.Parameter(1.0)], "lr": lr} for lr in lrs or (1.0,)]
    return SGD(groups, momentum=momentum)


def rates(optimizer, *schedulers, epochs=8):
    """The learning rate of the first group in every epoch."""
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(epochs):
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


# -- the rules ----------------------------------------------------------------------------------------------------------------

GOLDEN = [  # torch 2.13.0 from lr = 1
    (StepLR, {"step_size": 3, "gamma": 0.5}, [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
    (MultiStepLR, {"milestones": [5, 2, 5], "gamma": 0.5}, [1, 1, 0.5, 0.5, 0.5, 0.125, 0.125, 0.125, 0.125]),
    (ExponentialLR, {"gamma": 0.9}, [1, 0.9, 0.81, 0.729, 0.6561, 0.59049, 0.531441, 0.4782969, 0.43046721]),
    (LinearLR, {}, [0.3333333333333333, 0.4666666666666667, 0.6, 0.7333333333333333, 0.8666666666666667, 1, 1, 1, 1]),
    (
        LinearLR,
        {"start_factor": 0.25, "end_factor": 0.5, "total_iters": 4},
        [0.25, 0.3125, 0.375, 0.4375, 0.5, 0.5, 0.5, 0.5, 0.5],
    ),
    (
        CosineAnnealingLR,
        {"T_max": 4},
        [1, 0.8535533905932737, 0.5, 0.1464466094067262, 0, 0.1464466094067262, 0.5, 0.8535533905932742, 1],
    ),
    (CosineAnnealingLR, {"T_max": 3, "eta_min": 0.1}, [1, 0.775, 0.325, 0.1, 0.325, 0.775, 1, 0.775, 0.325]),
    (LambdaLR, {"lr_lambda": lambda t: 1 / (1 + t)}, [1 / (1 + t) for t in range(9)]),
    (
        OneCycleLR,
        {"max_lr": 2.0, "total_steps": 8},
        [
            0.08, 1.638550209784384, 1.9438835547750464, 1.623491307899526, 1.1119680282454032, 0.5661219964173985,
            0.1532831876685128, 8e-06, 0.15328318766851268,
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "expected"), GOLDEN)
def test_the_golden_numbers(kind, options, expected):
    optimizer = sgd()
    np.testing.assert_allclose(rates(optimizer, kind(optimizer, **options)), expected, rtol=1e-12, atol=1e-15)


THREE_PHASES = {
    "max_lr": 2.0, "epochs": 2, "steps_per_epoch": 4, "pct_start": 0.4, "anneal_strategy": "linear", "three_phase": True,
    "div_factor": 4, "final_div_factor": 10,
}  # fmt: skip
CYCLES = [  # torch 2.13.0: the momentum at every step
    (
        {"max_lr": 2.0, "total_steps": 8},
        [
            0.95, 0.8688255099070633, 0.8528058334845816, 0.8688255099070633, 0.8944017761948346, 0.9216941869558779,
            0.9423362099614142, 0.95,
        ],
    ),
    (THREE_PHASES, [0.95, 0.9045454545454545, 0.8590909090909091, 0.8863636363636364, 0.9318181818181818, 0.95, 0.95, 0.95]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), CYCLES)
def test_one_cycle_moves_the_momentum_the_other_way(options, expected):
    plain, adam = sgd(momentum=0.9), Adam([nn.Parameter(1.0)], betas=(0.5, 0.99))
    schedulers = [OneCycleLR(optimizer, **options) for optimizer in (plain, adam)]
    for momentum in expected:
        np.testing.assert_allclose(plain.param_groups[0]["momentum"], momentum, rtol=1e-12)
        np.testing.assert_allclose(adam.param_groups[0]["betas"], (momentum, 0.99), rtol=1e-12)
        for scheduler in schedulers:
            scheduler.optimizer.step()
            scheduler.step()


def test_three_phases():
    optimizer = sgd()
    found = rates(optimizer, OneCycleLR(optimizer, **THREE_PHASES), epochs=7)
    expected = [0.5, 1.1818181818181817, 1.8636363636363635, 1.4545454545454546, 0.7727272727272727, 0.3961538461538462]
    np.testing.assert_allclose(found, [*expected, 0.2230769230769231, 0.05], rtol=1e-12)


def test_one_cycle_may_start_at_its_peak_and_leave_the_momentum_alone():
    optimizer = sgd(momentum=0.5)
    scheduler = OneCycleLR(optimizer, 1.0, total_steps=10, pct_start=0.1, anneal_strategy="linear", cycle_momentum=False)
    found = rates(optimizer, scheduler, epochs=9)
    np.testing.assert_allclose(found, np.linspace(1, 1 / 25 / 1e4, 10), rtol=1e-9)
    assert optimizer.param_groups[0]["momentum"] == 0.5


def test_one_cycle_ends():
    optimizer = sgd()
    scheduler = OneCycleLR(optimizer, 1.0, total_steps=4)
    rates(optimizer, scheduler, epochs=4)
    with pytest.raises(ValueError, match=r"Tried to step 5 times. The specified number of total steps is 4"):
        scheduler.step()


PLATEAUS = [  # torch 2.13.0 with these metrics, from lr = 1
    ({"patience": 1}, [1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]),
    (
        {"patience": 1, "mode": "max", "factor": 0.5},
        [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.03125, 0.03125],
    ),
    (
        {"patience": 0, "threshold": 0.5, "threshold_mode": "abs", "cooldown": 2, "factor": 0.5},
        [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125, 0.0625],
    ),
    ({"patience": 0, "factor": 0.5, "min_lr": 0.2}, [1, 1, 0.5, 0.25, *[0.2] * 8]),
    ({"patience": 0, "factor": 0.5, "eps": 0.2}, [1, 1, 0.5, *[0.25] * 9]),
]


@pytest.mark.parametrize(("options", "expected"), PLATEAUS)
def test_plateaus(options, expected):
    optimizer, found = sgd(), []
    scheduler = ReduceLROnPlateau(optimizer, **options)
    for metric in [3.0, 2.0, 2.0, 2.0, 1.9999, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, tg.Tensor(1.0, requires_grad=True)]:
        scheduler.step(metric)
        found += scheduler.get_last_lr()
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("T_max", [1, 2, 5, 7])
def test_the_cosine_in_closed_form(T_max):
    optimizer = sgd(0.3)
    found = rates(optimizer, CosineAnnealingLR(optimizer, T_max, 0.1), epochs=25)
    np.testing.assert_allclose(found, [0.1 + 0.1 * (1 + math.cos(math.pi * t / T_max)) for t in range(26)], rtol=1e-11)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: StepLR(o, 2),
        lambda o: LinearLR(o, 0.5),
        lambda o: CosineAnnealingLR(o, 5),
        lambda o: LambdaLR(o, [lambda t: 0.9**t, lambda t: 0.9**t]),
    ],
)
def test_groups_keep_their_proportions(make):
    optimizer = sgd(1.0, 0.1)
    scheduler = make(optimizer)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        big, small = scheduler.get_last_lr()
        assert [group["lr"] for group in optimizer.param_groups] == [big, small]
        np.testing.assert_allclose(small, big / 10, rtol=1e-12)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1.0, 0.1]


def test_settings_for_each_group():
    optimizer = sgd(1.0, 1.0)
    LambdaLR(optimizer, [lambda t: 0.5, lambda t: 0.25])
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    OneCycleLR(optimizer, [2.0, 4.0], total_steps=10, base_momentum=[0.1, 0.2], max_momentum=[0.3, 0.4])
    np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], [0.08, 0.16])
    assert [group["momentum"] for group in optimizer.param_groups] == [0.3, 0.4]
    plateau = ReduceLROnPlateau(sgd(1.0, 1.0), patience=0, min_lr=[0.5, 0.3])
    plateau.step(1)
    plateau.step(1)
    assert plateau.get_last_lr() == [0.5, 0.3]


# -- chains -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (lambda o: ExponentialLR(o, 0.9), [0.5, 0.6, 0.675, 0.729, 0.6561, 0.59049, 0.531441, 0.4782969, 0.43046721]),
        (
            lambda o: CosineAnnealingLR(o, 4),
            [
                0.5,
                0.5690355937288492,
                0.4166666666666667,
                0.1464466094067262,
                0,
                0.1464466094067262,
                0.5,
                0.8535533905932742,
                1,
            ],
        ),
    ],
)
def test_two_schedulers_chain(second, expected):
    optimizer = sgd()
    schedulers = [LinearLR(optimizer, 0.5, total_iters=3), second(optimizer)]
    np.testing.assert_allclose(rates(optimizer, *schedulers), expected, rtol=1e-12, atol=1e-15)


def test_a_rate_set_by_hand_is_kept_to():
    optimizer = sgd()
    scheduler = ExponentialLR(optimizer, 0.5)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 8.0
    scheduler.step()
    assert scheduler.get_last_lr() == [4.0]


def test_a_schedule_of_ones_own():
    class Sqrt(LRScheduler):
        def get_lr(self):
            return [base / math.sqrt(1 + self.last_epoch) for base in self.base_lrs]

    optimizer = sgd()
    np.testing.assert_allclose(rates(optimizer, Sqrt(optimizer), epochs=3), [1, 0.5**0.5, 3**-0.5, 0.5])
    with pytest.raises(NotImplementedError, match=r"LRScheduler has no get_lr: write `def get_lr\(self\): return"):
        LRScheduler(sgd())


# -- state dicts --------------------------------------------------------------------------------------------------------------

SCHEDULES = [(kind, options) for kind, options, _ in GOLDEN]


@pytest.mark.parametrize(("kind", "options"), SCHEDULES)
@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_run_goes_on_from_state_dicts(kind, options, at):
    whole = sgd()
    scheduler = kind(whole, **options)
    rates(whole, scheduler, epochs=at)
    state, scheduler_state = whole.state_dict(), scheduler.state_dict()
    resumed = sgd(7.0)
    again = kind(resumed, **options)
    resumed.load_state_dict(state)
    again.load_state_dict(scheduler_state)
    assert again.get_last_lr() == scheduler.get_last_lr()
    assert rates(resumed, again, epochs=8 - at) == rates(whole, scheduler, epochs=8 - at)
    assert again.state_dict() == scheduler.state_dict()


@pytest.mark.parametrize(("kind", "options"), SCHEDULES)
def test_a_run_goes_on_from_last_epoch(kind, options):
    whole = sgd()
    scheduler = kind(whole, **options)
    rates(whole, scheduler, epochs=4)
    resumed = sgd()
    resumed.load_state_dict(whole.state_dict())
    again = kind(resumed, **options, last_epoch=3)
    np.testing.assert_allclose(rates(resumed, again, epochs=4), rates(whole, scheduler, epochs=4), rtol=1e-14)


def test_a_rate_that_a_schedule_has_rounded_below_zero_is_loaded():
    optimizer = sgd()
    rates(optimizer, LinearLR(optimizer, end_factor=0.0))
    assert -1e-15 < optimizer.param_groups[0]["lr"] < 0
    resumed = sgd()
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_a_plateau_goes_on_from_a_state_dict():
    metrics = [3.0, 2.0, 2.0, 2.0, 1.9, 2.5, 1.0, 1.0, 1.0, 1.0]
    first = ReduceLROnPlateau(sgd(), patience=1, cooldown=1)
    for metric in metrics[:4]:
        first.step(metric)
    second = ReduceLROnPlateau(sgd(*first.get_last_lr()))
    second.load_state_dict(first.state_dict())
    for metric in metrics[4:]:
        first.step(metric)
        second.step(metric)
        assert second.get_last_lr() == first.get_last_lr()
    assert first.get_last_lr()[0] < 0.1


def test_the_form_of_a_state_dict():
    state = StepLR(sgd(), 3).state_dict()
    assert state == {
        "step_size": 3, "gamma": 0.1, "base_lrs": [1.0], "last_epoch": 0, "_step_count": 1, "_last_lr": [1.0],
    }  # fmt: skip
    assert json.loads(json.dumps(state)) == state
    assert LambdaLR(sgd(), lambda t: 1).state_dict()["lr_lambdas"] == [None]


def test_a_state_dict_is_a_copy_and_so_is_what_is_loaded():
    scheduler = MultiStepLR(sgd(), [2])
    state = scheduler.state_dict()
    state["milestones"][1] = 1
    assert scheduler.milestones == {2: 1}
    scheduler.load_state_dict(state)
    state["milestones"][0] = 1
    assert scheduler.milestones == {1: 1, 2: 1}
    scheduler.get_last_lr()[0] = 5.0
    assert scheduler.get_last_lr() == [1.0]


def test_loading_is_all_or_nothing():
    scheduler = StepLR(sgd(), 3)
    before = copy.deepcopy(scheduler.state_dict())
    match = r"load_state_dict into StepLR: missing step_size; is it the state of another scheduler\?"
    with pytest.raises(KeyError, match=match):
        scheduler.load_state_dict(ExponentialLR(sgd(), 0.5).state_dict())
    with pytest.raises(ValueError, match=r"load_state_dict into StepLR: expected 1 learning rates, got \[1.0, 2.0\]"):
        scheduler.load_state_dict(StepLR(sgd(1.0, 2.0), 7).state_dict())
    assert scheduler.state_dict() == before


# -- bad input ----------------------------------------------------------------------------------------------------------------


def test_a_schedule_that_runs_ahead_of_its_optimiser_warns():
    optimizer = sgd()
    scheduler = StepLR(optimizer, 3)
    with pytest.warns(
        UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`: the first"
    ) as w:
        scheduler.step()
    assert w[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


@pytest.mark.parametrize(("kind", "options"), [*SCHEDULES, (ReduceLROnPlateau, {})])
@pytest.mark.parametrize("given", [nn.Linear(1, 1), 0.1, None])
def test_only_an_optimiser_has_a_learning_rate(kind, options, given):
    with pytest.raises(TypeError, match=rf"{type(given).__name__} is not an Optimizer"):
        kind(given, **options)


class Plain(Optimizer):
    """An optimiser without momentum."""


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda o: StepLR(o, 0), r"Expected positive integer step_size, but got 0"),
        (lambda o: StepLR(o, 2.5), r"Expected positive integer step_size, but got 2.5"),
        (lambda o: StepLR(o, 2, gamma=-0.1), r"Invalid gamma: -0.1"),
        (lambda o: StepLR(o, 2, gamma=float("nan")), r"Invalid gamma: nan"),
        (lambda o: MultiStepLR(o, [3, -1]), r"Expected non-negative integer milestone, but got -1"),
        (lambda o: MultiStepLR(o, [3], gamma=-1), r"Invalid gamma: -1"),
        (lambda o: ExponentialLR(o, -0.9), r"Invalid gamma: -0.9"),
        (
            lambda o: LinearLR(o, 0),
            r"Starting multiplicative factor expected to be greater than 0 and less or equal to 1",
        ),
        (lambda o: LinearLR(o, 1.5), r"Starting multiplicative factor .* got 1.5"),
        (lambda o: LinearLR(o, end_factor=-0.1), r"Ending multiplicative factor expected to be between 0 and 1, got -0.1"),
        (lambda o: LinearLR(o, total_iters=0), r"Expected positive integer total_iters, but got 0"),
        (lambda o: CosineAnnealingLR(o, 0), r"Expected positive integer T_max, but got 0"),
        (lambda o: CosineAnnealingLR(o, 5, eta_min=-1.0), r"Invalid eta_min: -1.0"),
        (
            lambda o: LambdaLR(o, [abs, abs]),
            r"lr_lambda must have the same length as optimizer.param_groups. lr_lambda has 2 values, param_groups has 1",
        ),
        (lambda o: OneCycleLR(o, 1.0), r"You must define either total_steps OR \(epochs AND steps_per_epoch\)"),
        (lambda o: OneCycleLR(o, 1.0, epochs=3), r"You must define either total_steps"),
        (lambda o: OneCycleLR(o, 1.0, total_steps=0), r"Expected positive integer total_steps, but got 0"),
        (lambda o: OneCycleLR(o, 1.0, epochs=0, steps_per_epoch=1), r"Expected positive integer epochs, but got 0"),
        (lambda o: OneCycleLR(o, 1.0, epochs=1, steps_per_epoch=0.5), r"positive integer steps_per_epoch, but got 0.5"),
        (lambda o: OneCycleLR(o, 1.0, 10, pct_start=1.2), r"Expected float between 0 and 1 pct_start, but got 1.2"),
        (
            lambda o: OneCycleLR(o, 1.0, 10, anneal_strategy="x"),
            r"must be one of 'cos' or 'linear', instead got x",
        ),
        (
            lambda o: OneCycleLR(o, 1.0, 10, div_factor=0),
            r"div_factor and final_div_factor must be positive, got 0 and",
        ),
        (lambda o: OneCycleLR(o, -1.0, 10), r"Invalid learning rate: -1.0"),
        (lambda o: OneCycleLR(o, 1.0, 10, base_momentum=-0.5), r"Invalid momentum value: -0.5"),
        (lambda o: OneCycleLR(Adam([nn.Parameter(1.0)]), 1.0, 10, max_momentum=1), r"Invalid beta parameter at index 0: 1"),
        (
            lambda o: OneCycleLR(Plain([nn.Parameter(1.0)], {"lr": 1}), 1.0, 10),
            r"optimizer must support momentum or beta1 with",
        ),
        (lambda o: OneCycleLR(o, [1.0, 2.0], 10), r"max_lr must have the same length .* has 2 values, param_groups has 1"),
        (lambda o: ReduceLROnPlateau(o, factor=1.0), r"Factor should be < 1.0, got 1.0"),
        (lambda o: ReduceLROnPlateau(o, factor=-0.1), r"Invalid factor: -0.1"),
        (lambda o: ReduceLROnPlateau(o, "best"), r"mode best is unknown: expected 'min' or 'max'"),
        (lambda o: ReduceLROnPlateau(o, threshold_mode="no"), r"threshold mode no is unknown: expected 'rel' or 'abs'"),
        (lambda o: ReduceLROnPlateau(o, threshold=-1), r"Invalid threshold: -1"),
        (lambda o: ReduceLROnPlateau(o, patience=-1), r"Expected non-negative integer patience, but got -1"),
        (lambda o: ReduceLROnPlateau(o, cooldown=0.5), r"Expected non-negative integer cooldown, but got 0.5"),
        (lambda o: ReduceLROnPlateau(o, eps=-1), r"Invalid eps: -1"),
        (lambda o: ReduceLROnPlateau(o, min_lr=[0, 0]), r"min_lr must have the same length as optimizer.param_groups"),
    ],
)
def test_bad_settings_change_nothing(make, match):
    optimizer = sgd(momentum=0.5)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=match):
        make(optimizer)
    assert optimizer.state_dict() == before


def test_last_epoch_needs_an_optimiser_that_was_scheduled_before():
    match = r"param 'initial_lr' is not specified in param_groups\[0\] when resuming scheduler with last_epoch >= 0: load the"
    with pytest.raises(KeyError, match=match):
        StepLR(sgd(), 3, last_epoch=4)
