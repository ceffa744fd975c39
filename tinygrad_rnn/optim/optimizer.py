"""What every optimiser is: groups of parameters with their settings, a state per parameter, and a state dict as PyTorch's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..ops import Array
from ..tensor import Tensor

SETTINGS = {
    "lr": "learning rate", "momentum": "momentum value", "weight_decay": "weight_decay value",
    "eps": "epsilon value", "alpha": "alpha value",
}  # fmt: skip
SCHEDULED = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")  # what lr_scheduler.py notes in a group


class Optimizer:
    """Base: a subclass writes `update(p, g, group, state)`, the new step for one parameter.

    params: Tensors, or dicts {"params": [...], "lr": ...} of groups with settings of their own.
    param_groups may be edited between steps (`optimizer.param_groups[0]["lr"] = 0.01`).
    """

    state_names: tuple[str, ...] = ()  # what the state of a parameter holds after its first step, whatever the settings
    stepped = False  # whether step() was ever called: schedulers ask

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        who = type(self).__name__
        given = listed(who, params)
        if not given:
            raise ValueError(f"{who} got an empty parameter list: pass model.parameters()")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in groups:
            if not isinstance(group, dict) or "params" not in group:
                raise TypeError(f'{who}: expected groups {{"params": [...], "lr": ...}}, got {brief(group)}')
            self.param_groups.append({**defaults, **group, "params": listed(who, group["params"])})
        every = [p for group in self.param_groups for p in group["params"]]
        for p in every:
            if not isinstance(p, Tensor) or p.op is not None:
                raise TypeError(f"{who} can only optimise leaf Tensors, got {brief(p)}: pass model.parameters()")
        twice = [p.describe() for p, n in Counter(every).items() if n > 1]
        if twice:
            raise ValueError(f"{who}: some parameters appear more than once, list each of them once: {', '.join(twice)}")
        for group in self.param_groups:
            self.check(group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if the settings of a group make no sense."""
        for name, what in SETTINGS.items():
            if name in group and not group[name] >= 0:
                raise ValueError(f"Invalid {what}: {group[name]}")

    def update(self, p: Array, g: Array, group: dict[str, Any], state: dict[str, Any]) -> Array:
        """What to subtract from the array p whose gradient is g. Neither may be edited; `state` is the parameter's own."""
        raise NotImplementedError(f"{type(self).__name__} has no update: write `def update(self, p, g, group, state): ...`")

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        due = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, _ in due:
            if not isinstance(p.grad, Tensor) or p.grad.shape != p.shape:
                got = brief(p.grad)
                raise TypeError(f"{type(self).__name__}: expected .grad to be a Tensor shaped as {p.describe()}, got {got}")
        self.stepped = True
        for p, group in due:
            p.subtract_(self.update(p._data, p.grad._data, group, self.state.setdefault(p, {})))

    def zero_grad(self) -> None:
        """Forget the gradients: sets them to None."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {...}}, "param_groups": [{..., "params": [indices]}]}, parameters numbered in their order."""
        index = {p: i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        groups = [{**group, "params": [index[p] for p in group["params"]]} for group in self.param_groups]
        state = {index[p]: {k: _copy(k, v, p) for k, v in s.items()} for p, s in self.state.items() if s}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, here or in PyTorch. All or nothing."""
        who = f"load_state_dict into {type(self).__name__}"
        if not {"state", "param_groups"} <= set(state_dict):
            raise KeyError(f"{who}: expected what state_dict() gives, 'state' and 'param_groups', got {list(state_dict)}")
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise ValueError(f"{who}: expected groups of {own} parameters, got {sizes}")
        numbers, every = ([p for g in some for p in g["params"]] for some in (groups, self.param_groups))
        at = dict(zip(numbers, every, strict=True))
        strange = [i for i in state_dict["state"] if i not in at]
        if strange:
            raise ValueError(f"{who}: there is a state for parameters {strange}, which are in none of its groups")
        state = {at[i]: {k: _copy(k, v, at[i]) for k, v in s.items()} for i, s in state_dict["state"].items()}
        for p, s in state.items():
            for name, value in s.items():
                if isinstance(value, np.ndarray) and value.shape != (() if name == "step" else p.shape):
                    raise ValueError(f"{who}: {name} has shape {value.shape}, expected that of {p.describe()}")
            missing = [name for name in self.state_names if s and name not in s]
            if missing:
                raise KeyError(f"{who}: the state of {p.describe()} has no {', '.join(missing)}; is it of another optimiser?")
        settings = [
            {k: g[k] for k in (*mine, *SCHEDULED) if k in g and k != "params"}
            for g, mine in zip(groups, self.param_groups, strict=True)
        ]
        for new, mine in zip(settings, self.param_groups, strict=True):
            started = {"lr": new["initial_lr"]} if "initial_lr" in new else {}  # a schedule may have rounded lr to below 0
            self.check({**mine, **new, **started})
        for new, mine in zip(settings, self.param_groups, strict=True):
            mine.update(new)
        self.state = state


def listed(who: str, params: Any) -> list[Any]:
    """Parameters, or groups, as a list."""
    if isinstance(params, set | dict):
        fix = "a list, for a set has no order that every run repeats" if isinstance(params, set) else "[group]"
        raise TypeError(f"{who}: expected a list of parameters or of groups, got a {type(params).__name__}: write {fix}")
    if not isinstance(params, Iterable):
        raise TypeError(f"{who}: expected model.parameters(), or a list of groups, got a {type(params).__name__}")
    return [params] if isinstance(params, Tensor) else list(params)


def brief(x: Any) -> str:
    """What an error calls something that it did not expect."""
    return x.describe() if isinstance(x, Tensor) else repr(x) if isinstance(x, dict) else f"a {type(x).__name__}"


def _copy(name: str, value: Any, p: Tensor) -> Any:
    """A value of a parameter's state, safe from later steps; arrays, except step counters, in the dtype of the parameter."""
    if not hasattr(value, "__array__"):
        return value
    return np.array(np.asarray(value), None if name == "step" else p.dtype)
