"""Adam and AdamW, with PyTorch's exact semantics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..ops import Array
from ..tensor import Tensor
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015). For a parameter p with gradient g, at its t-th step, from m = v = 0:

        m = beta1 * m + (1 - beta1) * g         the mean of recent gradients
        v = beta2 * v + (1 - beta2) * g**2      the mean of their squares
        m_hat = m / (1 - beta1**t)              both means start at zero: this undoes the bias
        v_hat = v / (1 - beta2**t)
        p -= lr * m_hat / (sqrt(v_hat) + eps)

    where g is the gradient after, in this order:

        maximize      g = -g
        weight_decay  g = g + weight_decay * p; or, decoupled, p -= lr * weight_decay * p beside the rule: that is AdamW

    amsgrad: v_hat is computed from the largest v so far (Reddi et al. 2018).
    """

    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**settings, "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"betas must be a pair (beta1, beta2), got {betas}")
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")

    def update(self, p: Array, g: Array, group: dict[str, Any], state: dict[str, Any]) -> Array:
        lr, eps, weight_decay = (float(group[name]) for name in ("lr", "eps", "weight_decay"))  # np.float64 would widen
        beta1, beta2 = map(float, group["betas"])
        decoupled = group["decoupled_weight_decay"]
        if group["maximize"]:
            g = -g
        if weight_decay and not decoupled:
            g = g + weight_decay * p

        t = float(state.get("step", 0)) + 1
        m = beta1 * state.get("exp_avg", 0) + (1 - beta1) * g
        v = beta2 * state.get("exp_avg_sq", 0) + (1 - beta2) * g * g
        state.update(step=np.array(t, np.float32), exp_avg=m, exp_avg_sq=v)
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0), v)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        step: Array = lr * m_hat / (np.sqrt(v_hat) + eps)
        return step + lr * weight_decay * p if decoupled else step


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): p -= lr * weight_decay * p, which m and v never see."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # whatever was saved: an Adam's state may be loaded too
