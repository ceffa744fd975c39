"""RMSprop, with PyTorch's exact semantics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..ops import Array
from ..tensor import Tensor
from .optimizer import Optimizer


class RMSprop(Optimizer):
    """Divide by the root of the mean square (Tieleman & Hinton 2012). For a parameter p with gradient g, from v = 0:

        v = alpha * v + (1 - alpha) * g**2      the mean of recent squares
        p -= lr * g / (sqrt(v) + eps)

    where g is the gradient after, in this order:

        maximize      g = -g
        weight_decay  g = g + weight_decay * p

    centered: sqrt(v - m**2), with the mean gradient m = alpha * m + (1 - alpha) * g: the variance for the mean square
    (Graves 2013). momentum: b = momentum * b + g / (sqrt(v) + eps), from b = 0, and p -= lr * b.
    """

    state_names = ("step", "square_avg")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "centered": centered, "maximize": maximize})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["alpha"] > 1:
            raise ValueError(f"Invalid alpha value: {group['alpha']}")

    def update(self, p: Array, g: Array, group: dict[str, Any], state: dict[str, Any]) -> Array:
        names = ("lr", "alpha", "eps", "weight_decay", "momentum")
        lr, alpha, eps, weight_decay, momentum = (float(group[name]) for name in names)  # np.float64 would widen the dtype
        if group["maximize"]:
            g = -g
        if weight_decay:
            g = g + weight_decay * p

        v = alpha * state.get("square_avg", 0) + (1 - alpha) * g * g
        state.update(step=np.array(float(state.get("step", 0)) + 1, np.float32), square_avg=v)
        if group["centered"]:
            m = state["grad_avg"] = alpha * state.get("grad_avg", 0) + (1 - alpha) * g
            v = v - m * m
        step: Array = g / (np.sqrt(v) + eps)
        if momentum:
            step = state["momentum_buffer"] = momentum * state.get("momentum_buffer", 0) + step
        return lr * step
