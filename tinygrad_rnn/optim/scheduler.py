"""What every learning rate schedule is: an optimiser, an epoch, a rule, and a state dict as PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from .optimizer import Optimizer


class Scheduler:
    """What all of them are: an optimiser whose learning rates they set, and a state dict without it, as PyTorch's."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        self._last_lr = self.scaled(1)

    def scaled(self, factor: float) -> list[float]:
        """The learning rate of every group, times a factor."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def set(self, lrs: list[float]) -> None:
        """Give every group its learning rate."""
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr
        self._last_lr = lrs

    def get_last_lr(self) -> list[float]:
        """The learning rate of every group, as this scheduler last set it."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything but the optimiser and functions. The learning rates themselves are in the optimiser's."""
        return {name: deepcopy(value) for name, value in vars(self).items() if name not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, here or in PyTorch. All or nothing."""
        who, own = f"load_state_dict into {type(self).__name__}", Scheduler.state_dict(self)
        missing = [name for name in own if name not in state_dict]
        if missing:
            raise KeyError(f"{who}: missing {', '.join(missing)}; is it the state of another scheduler?")
        if len(state_dict["_last_lr"]) != len(self._last_lr):
            raise ValueError(f"{who}: expected {len(self._last_lr)} learning rates, got {state_dict['_last_lr']}")
        vars(self).update({name: deepcopy(state_dict[name]) for name in own})


class LRScheduler(Scheduler):
    """Base of the schedules by epoch: a subclass writes `get_lr`. The first epoch, 0, is entered at once.

    last_epoch: the epoch that was last completed, for an optimiser that goes on from a state dict.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with last_epoch >= 0: "
                    "load the optimiser's state dict first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self.step()

    @property
    def entering(self) -> bool:
        """Whether this is the step that the constructor takes; the learning rates are already those of its epoch."""
        return self._step_count == 1

    def step(self) -> None:
        """Enter the next epoch."""
        if self._step_count == 1 and not self.optimizer.stepped:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first learning rate of the schedule is "
                "never used. Call `optimizer.step()` first",
                stacklevel=2,
            )
        self._step_count += 1
        self.last_epoch += 1
        self.set(self.get_lr())

    def get_lr(self) -> list[float]:
        """The learning rate of every group in the epoch `self.last_epoch`."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr: write `def get_lr(self): return [...]`")


def whole(name: str, value: int, least: int = 1) -> int:
    """The value, if it is a positive integer, or with least=0 one that is not negative."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"Expected {'positive' if least else 'non-negative'} integer {name}, but got {value}")
    return int(value)


def not_negative(name: str, value: float) -> float:
    """The value, if it is not negative."""
    if not value >= 0:
        raise ValueError(f"Invalid {name}: {value}")
    return value


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for each group, from a list of them or from one for all."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        what = f"{name} has {len(value)} values, param_groups has {groups}"
        raise ValueError(f"{name} must have the same length as optimizer.param_groups. {what}")
    return list(value)
