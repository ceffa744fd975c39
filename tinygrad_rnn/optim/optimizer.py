"""What every optimiser is: groups of parameters with their settings, a state per parameter, and a state dict as PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..ops import Array
from ..tensor import Tensor


class Optimizer:
    """Base: a subclass writes `update(p, g, group, state)`, the new step for one parameter.

    params: Tensors, or dicts {"params": [...], "lr": ...} of groups with settings of their own.
    param_groups may be edited between steps (`optimizer.param_groups[0]["lr"] = 0.01`).
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        given: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise ValueError(f"{type(self).__name__} got an empty parameter list: pass model.parameters()")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in groups:
            inside = group["params"]
            self.param_groups.append({**defaults, **group, "params": [inside] if isinstance(inside, Tensor) else list(inside)})
        every = [p for group in self.param_groups for p in group["params"]]
        for p in every:
            if not isinstance(p, Tensor) or p.op is not None:
                what = p.describe() if isinstance(p, Tensor) else type(p).__name__
                raise TypeError(f"{type(self).__name__} can only optimise leaf Tensors, got {what}: pass model.parameters()")
        if len(set(every)) != len(every):
            raise ValueError(f"{type(self).__name__}: some parameters appear more than once; list each of them once")
        for group in self.param_groups:
            self.check(group)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError if the settings of a group make no sense."""
        for name, what in (("lr", "learning rate"), ("momentum", "momentum value"), ("weight_decay", "weight_decay value")):
            if name in group and not group[name] >= 0:
                raise ValueError(f"Invalid {what}: {group[name]}")

    def update(self, p: Array, g: Array, group: dict[str, Any], state: dict[str, Any]) -> Array:
        """What to subtract from the array p whose gradient is g. Neither may be edited; `state` is the parameter's own."""
        raise NotImplementedError

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
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
        state = {index[p]: {k: _copy(v) for k, v in s.items()} for p, s in self.state.items() if s}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, here or in PyTorch. All or nothing."""
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise ValueError(f"load_state_dict: the state has groups of {sizes} parameters, this {type(self).__name__} of {own}")
        at = {i: p for g, mine in zip(groups, self.param_groups, strict=True) for i, p in zip(g["params"], mine["params"])}
        state = {at[i]: {k: _copy(v) for k, v in s.items()} for i, s in state_dict["state"].items()}
        for p, s in state.items():
            for name, value in s.items():
                if isinstance(value, np.ndarray) and value.ndim and value.shape != p.shape:
                    raise ValueError(f"load_state_dict: {name} has shape {value.shape}, expected that of {p.describe()}")
        for g in groups:
            self.check({**g})
        for g, mine in zip(groups, self.param_groups, strict=True):
            mine.update({k: v for k, v in g.items() if k in mine and k != "params"})
        self.state = state


def _copy(value: Any) -> Any:
    """A value of a state, safe from later steps."""
    return np.array(value) if hasattr(value, "__array__") else value
