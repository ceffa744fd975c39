"""The rows that reduce an array over some of its axes, or accumulate along one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .table import along, axes_of, call, count, keep, op


def ties(g: Any, out: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Where `x` attains its extremum; several that tie share the gradient evenly."""
    hit = np.equal(x, keep(out, x, axis))
    return keep(g, x, axis) * hit / hit.sum(axis=axis, keepdims=True)


def others(x: Any, axis: Any) -> Any:
    """For each element of `x`, the product of those before it and after it along `axis`. No division, so zeros do no harm."""
    axes = axes_of(x, axis)
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    flat = x.transpose(order)
    moved = flat.shape
    flat = flat.reshape(*moved[: x.ndim - len(axes)], count(x, axis))
    rest = before(flat) * np.flip(before(np.flip(flat, -1)), -1)
    return rest.reshape(moved).transpose(tuple(order.index(i) for i in range(x.ndim)))


def before(x: Any) -> Any:
    """For each element of `x`, the product of those before it along the last axis."""
    return np.concatenate([np.ones_like(x[..., :1]), np.cumprod(x[..., :-1], axis=-1)], axis=-1)


def cumsum_dx(g: Any, out: Any, x: Any, axis: int) -> Any:
    """An element is in the sums from its own place on."""
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)


def cumprod_dx(g: Any, out: Any, x: Any, axis: int) -> Any:
    """y_t = y_{t-1} x_t is a recurrence, and this is its BPTT. Without a division, so zeros are as good as any number."""
    steps, y_bar = [], None
    for t in reversed(range(x.shape[axis])):
        here, after = along(axis, t), along(axis, t + 1)
        y_bar = g[here] if y_bar is None else g[here] + y_bar * x[after]
        steps.append(y_bar * out[along(axis, t - 1)] if t else y_bar)
    return np.stack(steps[::-1], axis) if steps else g


def mean(x: Any, axis: Any, keepdims: bool) -> Any:
    """The mean; NumPy's own method takes long to find out that it needs no wider numbers."""
    if type(x) is np.ndarray and x.dtype.char in "fd":
        total: Any = np.add.reduce
        return total(x, axis=axis, keepdims=keepdims) / count(x, axis)
    return x.mean(axis=axis, keepdims=keepdims)


def rms(x: Any, axis: Any, eps: float) -> Any:
    """The root of the mean square, which `eps` keeps from being 0."""
    return np.sqrt(mean(x * x, axis, True) + eps)


# fmt: off

SUM      = op("sum",      lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: keep(g, x, axis) + np.zeros(x.shape, x.dtype))
MEAN     = op("mean",     mean,
                          lambda g, out, x, axis, keepdims: keep(g, x, axis) / count(x, axis) + np.zeros(x.shape, x.dtype))
MAX      = op("max",      lambda x, axis, keepdims: np.maximum.reduce(x, axis=axis, keepdims=keepdims), ties)
MIN      = op("min",      lambda x, axis, keepdims: np.minimum.reduce(x, axis=axis, keepdims=keepdims), ties)
PROD     = op("prod",     lambda x, axis, keepdims: np.multiply.reduce(x, axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: keep(g, x, axis) * others(x, axis))
CUMSUM   = op("cumsum",   lambda x, axis: np.cumsum(x, axis=axis),   cumsum_dx)
CUMPROD  = op("cumprod",  lambda x, axis: np.cumprod(x, axis=axis),  cumprod_dx)

# What layer normalisation is made of.
CENTRE   = op("centre",   lambda x, axis: x - mean(x, axis, True), lambda g, out, x, axis: call("centre", g, axis=axis))
RMS_NORM = op("rms_norm", lambda x, axis, eps: x / rms(x, axis, eps),
              lambda g, out, x, axis, eps: (g - out * mean(g * out, axis, True)) / rms(x, axis, eps))
# fmt: on
