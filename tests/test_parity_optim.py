"""Optimisers and schedules against PyTorch, where torch is installed: 20 steps in float64, states exchanged on the way."""

import itertools
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.optim import lr_scheduler

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

STEPS = 20
SHAPES = [(3, 2), (2,), (), (4,)]


def same(ours, theirs, rtol=1e-12):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(ours.numpy() if isinstance(ours, tg.Tensor) else ours, theirs, rtol=rtol, atol=1e-13)


def as_torch(state):
    states = {i: {k: torch.tensor(v) for k, v in s.items()} for i, s in state["state"].items()}
    return {"state": states, "param_groups": state["param_groups"]}


class Pair:
    """The same parameters here and there, in two groups, with an optimiser each."""

    def __init__(self, kind, settings, second=None, seed=0):
        self.rng = np.random.default_rng(seed)
        values = [self.rng.normal(size=shape) for shape in SHAPES]
        self.ours = [nn.Parameter(v) for v in values]
        self.theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
        self.kind, self.settings, self.second = kind, settings, second or {}
        self.make()

    def make(self):
        self.optimizer, self.torch_optimizer = (
            getattr(module, self.kind)([{"params": ps[:2]}, {"params": ps[2:], **self.second}], **self.settings)
            for module, ps in ((tg.optim, self.ours), (torch.optim, self.theirs))
        )

    def step(self, missing=0.2):
        for p, q in zip(self.ours, self.theirs, strict=True):
            g = self.rng.normal(size=p.shape)
            p.grad, q.grad = (None, None) if self.rng.random() < missing else (tg.Tensor(g), torch.tensor(g))
        self.optimizer.step()
        self.torch_optimizer.step()

    def exchange(self, prepare=lambda: None):
        """Each goes on from the other's state, in a new optimiser that is prepared first."""
        state, torch_state = self.optimizer.state_dict(), self.torch_optimizer.state_dict()
        self.make()
        prepare()
        self.optimizer.load_state_dict(torch_state)
        self.torch_optimizer.load_state_dict(as_torch(state))

    def compare(self):
        for p, q in zip(self.ours, self.theirs, strict=True):
            same(p, q)
        state, torch_state = self.optimizer.state_dict(), self.torch_optimizer.state_dict()
        for group, torch_group in zip(state["param_groups"], torch_state["param_groups"], strict=True):
            assert group.items() <= torch_group.items()
        assert state["state"].keys() == torch_state["state"].keys()
        for i, s in torch_state["state"].items():
            assert state["state"][i].keys() == s.keys()
            for name, value in s.items():
                same(state["state"][i][name], value)
                assert str(value.dtype) == f"torch.{state['state'][i][name].dtype}"


def compare_runs(pair):
    for step in range(STEPS):
        pair.step()
        pair.compare()
        if step in (3, 11):
            pair.exchange()


ADAM = [
    {"lr": lr, "betas": betas, "eps": eps, "weight_decay": decay, "amsgrad": amsgrad, "maximize": maximize}
    for lr, betas, eps, decay, amsgrad, maximize in itertools.product(
        [0.3, 1e-3], [(0.9, 0.999), (0.0, 0.5)], [1e-8, 0.1], [0, 0.1], [False, True], [False, True]
    )
]
RMSPROP = [
    {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": decay, "momentum": momentum, "centered": centered, "maximize": up}
    for lr, alpha, eps, decay, momentum, centered, up in itertools.product(
        [0.3, 1e-3], [0.99, 0.3], [1e-8, 0.1], [0, 0.1], [0, 0.9], [False, True], [False, True]
    )
]


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
@pytest.mark.parametrize("settings", ADAM)
def test_adam(kind, settings):
    compare_runs(Pair(kind, settings, {"lr": 0.05, "betas": (0.5, 0.9)}))


@pytest.mark.parametrize("settings", RMSPROP)
def test_rmsprop(settings):
    compare_runs(Pair("RMSprop", settings, {"lr": 0.05, "alpha": 0.8}))


def test_defaults():
    for kind in ("SGD", "Adam", "AdamW", "RMSprop"):
        compare_runs(Pair(kind, {}))


def test_adamw_goes_on_from_a_state_of_adam():
    pair = Pair("Adam", {"weight_decay": 0.1})
    pair.step()
    pair.kind = "AdamW"
    pair.exchange()
    pair.step()
    pair.compare()


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "RMSprop"])
def test_float32(kind):
    values = np.random.default_rng(0).normal(size=(STEPS + 1, 50)).astype(np.float32)
    p, q = nn.Parameter(values[0]), torch.nn.Parameter(torch.tensor(values[0]))
    optimizers = getattr(tg.optim, kind)([p], lr=0.01), getattr(torch.optim, kind)([q], lr=0.01)
    for g in values[1:]:
        p.grad, q.grad = tg.Tensor(g), torch.tensor(g)
        for optimizer in optimizers:
            optimizer.step()
    assert p.dtype == np.float32
    same(p, q, rtol=3e-5)


# -- schedules ----------------------------------------------------------------------------------------------------------------

SCHEDULES = [
    *[("StepLR", {"step_size": n, "gamma": g}) for n, g in itertools.product([1, 3, 20], [0.1, 0.5, 1.1])],
    *[("MultiStepLR", {"milestones": m, "gamma": 0.3}) for m in ([], [0, 4], [7, 2, 7], [19, 30])],
    *[("ExponentialLR", {"gamma": g}) for g in (0.0, 0.5, 1.0, 1.2)],
    *[
        ("LinearLR", {"start_factor": a, "end_factor": b, "total_iters": n})
        for a, b, n in itertools.product([1 / 3, 1.0], [1.0, 0.25, 0.0], [1, 5, 40])
    ],
    *[("CosineAnnealingLR", {"T_max": n, "eta_min": low}) for n, low in itertools.product([1, 2, 7, 19, 50], [0.0, 0.01])],
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t) ** 0.5}),
    ("LambdaLR", {"lr_lambda": [lambda t: 0.9**t, lambda t: 1.0]}),
    *[
        ("OneCycleLR", {"max_lr": 0.5, "total_steps": n, "pct_start": p, "anneal_strategy": how, "three_phase": three})
        for n, p, how, three in itertools.product([20, 33], [0.0, 0.3, 0.45], ["cos", "linear"], [False, True])
    ],
    (
        "OneCycleLR",
        {"max_lr": [0.5, 1.0], "epochs": 5, "steps_per_epoch": 4, "base_momentum": 0.5, "max_momentum": [0.9, 0.7]},
    ),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 33, "pct_start": 1.0, "div_factor": 3.0, "final_div_factor": 7.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20, "cycle_momentum": False}),
]


def schedulers(pair, schedule, **more):
    return [
        getattr(module, schedule[0])(optimizer, **schedule[1], **more)
        for module, optimizer in ((lr_scheduler, pair.optimizer), (torch.optim.lr_scheduler, pair.torch_optimizer))
    ]


def same_rates(pair, ours, theirs):
    assert len(ours.get_last_lr()) == 2
    same(ours.get_last_lr(), theirs.get_last_lr())
    for group, torch_group in zip(pair.optimizer.param_groups, pair.torch_optimizer.param_groups, strict=True):
        shared = group.keys() - {"params"}
        assert shared <= torch_group.keys()
        assert {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"} & (torch_group.keys() - shared) == set()
        for name in shared:
            same(group[name], torch_group[name])


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule, kind):
    pair = Pair(kind, {"lr": 0.1}, {"lr": 0.02})
    ours, theirs = schedulers(pair, schedule)
    for step in range(STEPS):
        same_rates(pair, ours, theirs)
        pair.step(missing=0)
        ours.step()
        theirs.step()
        if step in (4, 9):
            state, torch_state = ours.state_dict(), theirs.state_dict()
            assert state.keys() <= torch_state.keys()
            again = []
            pair.exchange(lambda again=again: again.extend(schedulers(pair, schedule)))
            ours, theirs = again
            ours.load_state_dict(torch_state)
            theirs.load_state_dict(state)
    same_rates(pair, ours, theirs)
    for p, q in zip(pair.ours, pair.theirs, strict=True):
        same(p, q, rtol=1e-11)


@pytest.mark.parametrize("last_epoch", [0, 2, 6, 11])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_last_epoch(schedule, last_epoch):
    pair = Pair("SGD", {"lr": 0.1}, {"lr": 0.02})
    ours, theirs = schedulers(pair, schedule)
    for _ in range(last_epoch):
        pair.step()
        ours.step()
        theirs.step()
    pair.exchange()
    ours, theirs = schedulers(pair, schedule, last_epoch=last_epoch)
    for _ in range(STEPS - last_epoch - 1):
        same_rates(pair, ours, theirs)
        pair.step()
        ours.step()
        theirs.step()
    same_rates(pair, ours, theirs)


CHAINABLE = [schedule for schedule in SCHEDULES if schedule[0] not in ("OneCycleLR", "LambdaLR")][::3]


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(CHAINABLE, 2)))
def test_chains(first, second):
    pair = Pair("SGD", {"lr": 0.1}, {"lr": 0.02})
    chain = [schedulers(pair, first), schedulers(pair, second)]
    for _ in range(STEPS):
        pair.step()
        for ours, theirs in chain:
            ours.step()
            theirs.step()
            same_rates(pair, ours, theirs)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("threshold_mode", "threshold"), [("rel", 1e-4), ("rel", 0.2), ("abs", 0.3)])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (0, 2), (2, 0), (1, 3)])
@pytest.mark.parametrize(("min_lr", "eps"), [(0, 1e-8), ([0.01, 0.001], 0.004)])
def test_plateaus(mode, threshold_mode, threshold, patience, cooldown, min_lr, eps):
    options = {
        "mode": mode, "factor": 0.6, "patience": patience, "threshold": threshold, "threshold_mode": threshold_mode,
        "cooldown": cooldown, "min_lr": min_lr, "eps": eps,
    }  # fmt: skip
    pair = Pair("SGD", {"lr": 0.1}, {"lr": 0.02})
    ours, theirs = schedulers(pair, ("ReduceLROnPlateau", options))
    metrics = np.random.default_rng(0).normal(2, 1, STEPS)
    metrics[10] = np.nan
    for step, metric in enumerate(metrics):
        ours.step(metric)
        theirs.step(metric)
        same_rates(pair, ours, theirs)
        if step == 7:
            state, torch_state = ours.state_dict(), theirs.state_dict()
            assert state.keys() <= torch_state.keys()
            ours, theirs = schedulers(pair, ("ReduceLROnPlateau", {}))
            ours.load_state_dict(torch_state)
            theirs.load_state_dict(state)


def test_the_same_schedules_run_ahead_of_their_optimiser():
    for module, parameter in ((tg.optim, nn.Parameter(1.0)), (torch.optim, torch.nn.Parameter(torch.tensor(1.0)))):
        optimizer = module.SGD([parameter])
        scheduler = module.lr_scheduler.StepLR(optimizer, 3)
        with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
            scheduler.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scheduler.step()


# -- initial values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains(name):
    same(nn.init.calculate_gain(name), torch.nn.init.calculate_gain(name))
    same(nn.init.calculate_gain("leaky_relu", 0.3), torch.nn.init.calculate_gain("leaky_relu", 0.3))


@pytest.mark.parametrize("shape", [(400, 300), (30, 200, 20)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform_", {"a": -1.0, "b": 2.0}),
        ("normal_", {"mean": 0.5, "std": 2.0}),
        ("xavier_uniform_", {"gain": 1.5}),
        ("xavier_normal_", {"gain": 1.5}),
        ("orthogonal_", {"gain": 1.5}),
        *[
            (f"kaiming_{kind}_", {"a": 0.3, "mode": mode, "nonlinearity": f})
            for kind, mode, f in itertools.product(["uniform", "normal"], ["fan_in", "fan_out"], ["leaky_relu", "tanh"])
        ],
    ],
)
def test_the_same_distributions(name, options, shape):
    """The quantiles of 120,000 draws."""
    tg.manual_seed(0)
    torch.manual_seed(0)
    ours = getattr(nn.init, name)(tg.Tensor(np.empty(shape)), **options).numpy()
    theirs = getattr(torch.nn.init, name)(torch.empty(shape, dtype=torch.float64), **options).numpy()
    shares = np.linspace(0.01, 0.99, 25)
    np.testing.assert_allclose(np.quantile(ours, shares), np.quantile(theirs, shares), atol=0.03 * theirs.std())
