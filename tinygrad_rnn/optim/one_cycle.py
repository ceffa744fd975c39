"""The 1cycle policy: learning rate and momentum from corner to corner of one planned run."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import Any

from .optimizer import Optimizer
from .scheduler import LRScheduler, Scheduler, per_group, whole


class OneCycleLR(LRScheduler):
    """Up to max_lr and down again once, stepped after each batch (Smith & Topin 2019):

        step               0                    pct_start * steps - 1   steps - 1
        learning rate      max_lr / div_factor  max_lr                  max_lr / div_factor / final_div_factor
        momentum or beta1  max_momentum         base_momentum           max_momentum

    steps: total_steps, or epochs * steps_per_epoch. Half a cosine leads from corner to corner, or a line.
    three_phase: down to max_lr / div_factor as long as it went up, then on to the end. cycle_momentum: False leaves it alone.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 10000.0,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        Scheduler.__init__(self, optimizer)  # raises unless it is one
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
            total_steps = whole("epochs", epochs) * whole("steps_per_epoch", steps_per_epoch)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not (div_factor > 0 and final_div_factor > 0):
            raise ValueError(f"div_factor and final_div_factor must be positive, got {div_factor} and {final_div_factor}")
        if cycle_momentum and not all("betas" in g or "momentum" in g for g in optimizer.param_groups):
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.total_steps, self._anneal_func_type = whole("total_steps", total_steps), anneal_strategy
        self.cycle_momentum = cycle_momentum  # this and the names with an underscore are what PyTorch has in its state dict

        peak = pct_start * self.total_steps - 1
        corners: list[tuple[float, str, str]] = [(0, "initial_lr", "max_momentum"), (peak, "max_lr", "base_momentum")]
        if three_phase:
            corners.append((2 * peak, "initial_lr", "max_momentum"))
        corners.append((self.total_steps - 1, "min_lr", "max_momentum"))
        self._schedule_phases: list[dict[str, Any]] = [
            {"end_step": end, "start_lr": lr, "end_lr": next_lr, "start_momentum": momentum, "end_momentum": next_momentum}
            for (_, lr, momentum), (end, next_lr, next_momentum) in pairwise(corners)
        ]

        if last_epoch == -1:
            given = {"max_lr": max_lr, "base_momentum": base_momentum, "max_momentum": max_momentum}
            columns = [per_group(name, optimizer, value) for name, value in given.items()]
            rows = list(zip(optimizer.param_groups, *columns, strict=True))
            for group, lr, low, high in rows:
                optimizer.check({**group, "lr": lr})
                for momentum in (low, high) if cycle_momentum else ():
                    optimizer.check({**group, **with_momentum(group, momentum)})
            for group, lr, low, high in rows:
                group.update(initial_lr=lr / div_factor, max_lr=lr, min_lr=lr / div_factor / final_div_factor)
                if cycle_momentum:
                    group.update(base_momentum=low, max_momentum=high)
        super().__init__(optimizer, last_epoch)

    def between(self, start: float, end: float, share: float) -> float:
        """From start, at share 0, to end, at share 1."""
        if self._anneal_func_type == "linear":
            return start + (end - start) * share
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"Tried to step {t} times. The specified number of total steps is {self.total_steps}")
        ends = [phase["end_step"] for phase in self._schedule_phases]
        now = bisect_left(ends[:-1], t)  # the last phase has no successor, so it never ends
        phase, start = self._schedule_phases[now], ends[now - 1] if now else 0
        share = (t - start) / (ends[now] - start) if ends[now] != start else 1
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            for group in groups:
                momentum = self.between(group[phase["start_momentum"]], group[phase["end_momentum"]], share)
                group.update(with_momentum(group, momentum))
        return [self.between(group[phase["start_lr"]], group[phase["end_lr"]], share) for group in groups]


def with_momentum(group: dict[str, Any], momentum: float) -> dict[str, Any]:
    """The setting of a group that is its momentum, with a new value: for Adam that is beta1."""
    return {"betas": (momentum, *group["betas"][1:])} if "betas" in group else {"momentum": momentum}
