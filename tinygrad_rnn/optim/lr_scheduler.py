"""Learning rates that change while training, with PyTorch's exact semantics: call `scheduler.step()` after each epoch.

Every schedule says how to go from the learning rate of one epoch to that of the next. So two of them on one optimiser chain:
each acts on what the other has left. Only LambdaLR and OneCycleLR set the rate whatever it was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsFloat

from .one_cycle import OneCycleLR
from .optimizer import Optimizer
from .scheduler import LRScheduler, Scheduler, not_negative, per_group, whole

__all__ = [
    "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "OneCycleLR",
    "ReduceLROnPlateau", "StepLR",
]  # fmt: skip


class StepLR(LRScheduler):
    """lr *= gamma, every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = whole("step_size", step_size), not_negative("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self.scaled(self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else 1)


class MultiStepLR(LRScheduler):
    """lr *= gamma, at each of the milestones, which are epochs."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = Counter(whole("milestone", m, 0) for m in milestones), not_negative("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self.scaled(self.gamma ** self.milestones.get(self.last_epoch, 0))


class ExponentialLR(LRScheduler):
    """lr *= gamma, every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = not_negative("gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self.scaled(1 if self.entering else self.gamma)


class LinearLR(LRScheduler):
    """A factor that goes in a line from start_factor to end_factor in total_iters epochs, and stays there: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(
                f"Starting multiplicative factor expected to be greater than 0 and less or equal to 1, got {start_factor}"
            )
        if not 0 <= end_factor <= 1:
            raise ValueError(f"Ending multiplicative factor expected to be between 0 and 1, got {end_factor}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, whole("total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, slope = self.last_epoch, (self.end_factor - self.start_factor) / self.total_iters
        if t == 0:
            return self.scaled(self.start_factor)
        if self.entering or t > self.total_iters:
            return self.scaled(1)
        return self.scaled(1 + slope / (self.start_factor + slope * (t - 1)))


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial learning rate down to eta_min in T_max epochs (Loshchilov & Hutter 2017), then up again:

    lr - eta_min is proportional to 1 + cos(pi * epoch / T_max).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = whole("T_max", T_max), not_negative("eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        def height(t: int) -> float:
            return (1 + math.cos(math.pi * t / self.T_max)) / 2

        t, lrs = self.last_epoch, self.scaled(1)
        if self.entering:
            return lrs
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:  # the epoch before was a valley, which has no height to scale
            return [lr + (base - self.eta_min) * height(t) for lr, base in zip(lrs, self.base_lrs, strict=True)]
        return [self.eta_min + (lr - self.eta_min) * height(t) / height(t - 1) for lr in lrs]


class LambdaLR(LRScheduler):
    """The initial learning rate times lr_lambda(epoch): one function, or a list with one for each group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        Scheduler.__init__(self, optimizer)  # raises unless it is one
        self.lr_lambdas = per_group("lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for f, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lr_lambdas": [None] * len(self.lr_lambdas)}  # the place that PyTorch looks for


class ReduceLROnPlateau(Scheduler):
    """lr *= factor when a metric has not improved for more than `patience` epochs: `scheduler.step(validation_loss)`.

    mode: whether the metric should become smaller ("min") or larger ("max"). threshold: what counts as better than the best so
    far, by that share of it (threshold_mode="rel") or by that amount ("abs"). cooldown: epochs after a reduction in which
    nothing is counted. min_lr: a bound, or one for each group; changes below eps are not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(optimizer)
        if not factor < 1:
            raise ValueError(f"Factor should be < 1.0, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode} is unknown: expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode} is unknown: expected 'rel' or 'abs'")
        self.mode, self.threshold_mode, self.threshold = mode, threshold_mode, not_negative("threshold", threshold)
        self.patience, self.cooldown = whole("patience", patience, 0), whole("cooldown", cooldown, 0)
        self.factor, self.min_lrs = not_negative("factor", factor), per_group("min_lr", optimizer, min_lr)
        self.eps = not_negative("eps", eps)
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: SupportsFloat) -> None:
        """End an epoch, whose metric is given."""
        metric = float(metrics)
        self.last_epoch += 1
        if self.is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        lrs = self.scaled(1)
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            lower = [max(lr * self.factor, least) for lr, least in zip(lrs, self.min_lrs, strict=True)]
            lrs = [new if lr - new > self.eps else lr for new, lr in zip(lower, lrs, strict=True)]
        self.set(lrs)

    def is_better(self, metric: float) -> bool:
        """Whether the metric beats the best so far by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        margin = sign * self.threshold
        return sign * metric > sign * (self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin)
