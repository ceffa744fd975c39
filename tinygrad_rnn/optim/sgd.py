"""Stochastic gradient descent, with PyTorch's exact semantics."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from ..ops import Array
from ..tensor import Tensor
from .optimizer import Optimizer

settings = itemgetter("lr", "momentum", "dampening", "weight_decay")


class SGD(Optimizer):
    """p -= lr * g, where g is the gradient after, in this order:

    maximize      g = -g
    weight_decay  g = g + weight_decay * p
    momentum      v = g on the first step, then v = momentum * v + (1 - dampening) * g; g = v
    nesterov      g = g + momentum * v instead of v (Sutskever et al. 2013)
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.001,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        rates = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**rates, "nesterov": nesterov, "maximize": maximize})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def update(self, p: Array, g: Array, group: dict[str, Any], state: dict[str, Any]) -> Array:
        lr, momentum, dampening, weight_decay = map(float, settings(group))  # np.float64 would widen the dtype
        if group["maximize"]:
            g = -g
        if weight_decay:
            g = g + weight_decay * p
        if momentum:
            v = state.get("momentum_buffer")
            v = g.copy() if v is None else momentum * v + (1 - dampening) * g
            state["momentum_buffer"] = v
            g = g + momentum * v if group["nesterov"] else v
        return lr * g
