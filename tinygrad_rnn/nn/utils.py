"""Gradient clipping, against the explosion of gradients over many steps (Pascanu et al. 2013)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..tensor import Tensor


def _with_gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """Those that have a gradient, each once."""
    every = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p for p in dict.fromkeys(every) if p.grad is not None]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> float:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), the norm being that of all of them as one vector.

    Returns the norm before clipping; norm_type may be np.inf. Raises RuntimeError if the norm is not finite.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must not be negative, got {max_norm}")
    clipped = _with_gradients(parameters)
    if not clipped:
        return 0.0
    grads = [p.grad._data for p in clipped if p.grad is not None]
    norm = float(np.linalg.norm(np.concatenate(grads, axis=None, dtype=float), norm_type))
    if not np.isfinite(norm):
        norms = [np.linalg.norm(g.ravel().astype(float), norm_type) for g in grads]
        which = ", ".join(p.describe() for p, n in zip(clipped, norms, strict=True) if not np.isfinite(n))
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}, so scaling cannot help; see {which}")
    scale = min(1.0, float(max_norm) / (norm + 1e-6))
    for p, g in zip(clipped, grads, strict=True):
        p.grad = Tensor(g * scale)
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must not be negative, got {clip_value}")
    limit = float(clip_value)  # np.float64 would widen the dtype
    for p in _with_gradients(parameters):
        p.grad = p.grad.detach().clip(-limit, limit)  # type: ignore[union-attr]
