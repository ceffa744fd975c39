"""The rows that reduce an array over some of its axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .table import count, keep, op


def ties(g: Any, out: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Where `x` attains its extremum; several that tie share the gradient evenly."""
    hit = np.equal(x, keep(out, x, axis))
    return keep(g, x, axis) * hit / hit.sum(axis=axis, keepdims=True)


def others(x: Any, axis: Any) -> Any:
    """For each element of `x`, the product of the other ones along `axis`. No division, so zeros are as good as any number."""
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    flat = x.transpose(order)
    moved = flat.shape
    flat = flat.reshape(*moved[: x.ndim - len(axes)], 1, count(x, axis))
    rest = np.where(np.eye(count(x, axis), dtype=bool), 1, flat).prod(axis=-1)
    return rest.reshape(moved).transpose(tuple(order.index(i) for i in range(x.ndim)))


# fmt: off

# Reductions.
SUM      = op("sum",      lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: np.broadcast_to(keep(g, x, axis), x.shape))
MEAN     = op("mean",     lambda x, axis, keepdims: x.mean(axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: np.broadcast_to(keep(g, x, axis) / count(x, axis), x.shape))
MAX      = op("max",      lambda x, axis, keepdims: np.maximum.reduce(x, axis=axis, keepdims=keepdims), ties)
MIN      = op("min",      lambda x, axis, keepdims: np.minimum.reduce(x, axis=axis, keepdims=keepdims), ties)
PROD     = op("prod",     lambda x, axis, keepdims: np.multiply.reduce(x, axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: keep(g, x, axis) * others(x, axis))
# fmt: on
