"""The functions that reduce an array over some of its axes, accumulate along one, or compare neighbours."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from .. import ops
from ..methods import Axis
from ..ops import along, axes_of, normal
from ..tensor import Tensor, apply, lift
from .convert import constant, tensor
from .elementwise import add, divide, exp, log, where
from .indexing import diagonal, sort, take_along_axis
from .shapes import broadcast_to, concatenate, moveaxis


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`: None for all of them, an int, or a tuple of ints."""
    return tensor(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`."""
    return tensor(x).mean(axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`; ties share the gradient evenly."""
    return tensor(x).max(axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`; ties share the gradient evenly."""
    return tensor(x).min(axis, keepdims)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`."""
    return tensor(x).prod(axis, keepdims)


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The variance over `axis`."""
    return tensor(x).var(axis, ddof, keepdims)


def std(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation over `axis`."""
    return tensor(x).std(axis, ddof, keepdims)


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """From the smallest to the largest element over `axis`."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


def average(x: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    """The mean over `axis`, weighted; the weights are of x's shape, or a vector along the axis. returned: their sum too."""
    t = tensor(x)
    w = tensor(np.ones(t.shape, t.dtype) if weights is None else weights)
    if w.shape != t.shape:
        if not isinstance(axis, int) or w.shape != (t.shape[axis],):
            raise ValueError(f"average: weights of shape {w.shape} along axis {axis} of {t.describe()}")
        w = broadcast_to(w.reshape([-1 if i == normal(axis, t.ndim) else 1 for i in range(t.ndim)]), t.shape)
    total = w.sum(axis, keepdims)
    result = t.mean(axis, keepdims) if weights is None else (t * w).sum(axis, keepdims) / total
    return (result, total) if returned else result


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of the diagonal of the matrices in two axes."""
    return diagonal(x, offset, axis1, axis2).sum(axis=-1)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow."""
    t = tensor(x)
    top = constant(np.nan_to_num, constant(np.max, t, axis=axis, keepdims=True), nan=0, posinf=0, neginf=0)
    return log(exp(t - top).sum(axis, keepdims)) + (top if keepdims else top.squeeze(axis))


# -- medians -----------------------------------------------------------------------------------------------------------------


def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The middle element over `axis`, or the mean of the two in the middle; NaN where there is one."""
    t = tensor(x)
    n = np.full(ops.keep(t.sum(axis), t, axis).shape, ops.count(t, axis))
    return middle(t, axis, np.where(np.isnan(t._data).any(axis=axis, keepdims=True), 2 * n - 1, n), keepdims)


def nanmedian(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The median of what is not NaN."""
    t = tensor(x)
    return middle(t, axis, (~np.isnan(t._data)).sum(axis=axis, keepdims=True), keepdims)


def middle(t: Tensor, axis: Axis, n: Any, keepdims: bool) -> Tensor:
    """The median over `axis` of the n smallest elements."""
    axes = axes_of(t, axis)
    last = tuple(range(-len(axes), 0))
    ordered = moveaxis(t, axes, last)
    ordered = sort(ordered.reshape((*ordered.shape[: t.ndim - len(axes)], -1)))
    n = np.moveaxis(n, axes, last).reshape((*ordered.shape[:-1], 1))
    low, high = (take_along_axis(ordered, i, -1) for i in ((n - 1) // 2, n // 2))
    result = (low + high) / 2
    return result.reshape(np.sum(np.empty(t.shape, bool), axis=axis, keepdims=keepdims).shape)


# -- without NaN -------------------------------------------------------------------------------------------------------------


def known(x: Any, instead: float) -> Tensor:
    """x with a number in the place of each NaN."""
    t = tensor(x)
    return where(constant(np.isnan, t), instead, t)


def counts(x: Any, axis: Axis, keepdims: bool) -> Tensor:
    """How many elements over `axis` are not NaN."""
    t = tensor(x)
    there = constant(np.logical_not, constant(np.isnan, t))
    return there.astype(t.dtype if t.dtype.kind == "f" else float).sum(axis, keepdims)


def nansum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum of what is not NaN."""
    return known(x, 0).sum(axis, keepdims)


def nanprod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product of what is not NaN."""
    return known(x, 1).prod(axis, keepdims)


def nanmean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean of what is not NaN."""
    return divide(nansum(x, axis, keepdims), counts(x, axis, keepdims))


def nanvar(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The variance of what is not NaN."""
    t = tensor(x)
    centred = where(constant(np.isnan, t), 0, t - nanmean(t, axis, keepdims=True))
    return divide((centred * centred).sum(axis, keepdims), counts(x, axis, keepdims) - ddof)


def nanstd(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation of what is not NaN."""
    return apply(ops.ROOT, nanvar(x, axis, ddof, keepdims))


def nanmax(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element that is not NaN; NaN where there is none."""
    t = tensor(x)
    if t.dtype.kind != "f":
        return t.max(axis, keepdims)
    return where(np.equal(counts(t, axis, keepdims), 0), np.nan, known(t, -np.inf).max(axis, keepdims))


def nanmin(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element that is not NaN; NaN where there is none."""
    t = tensor(x)
    if t.dtype.kind != "f":
        return t.min(axis, keepdims)
    return where(np.equal(counts(t, axis, keepdims), 0), np.nan, known(t, np.inf).min(axis, keepdims))


def nancumsum(x: Any, axis: int | None = None) -> Tensor:
    """The sums so far, of what is not NaN."""
    return cumsum(known(x, 0), axis)


def nancumprod(x: Any, axis: int | None = None) -> Tensor:
    """The products so far, of what is not NaN."""
    return cumprod(known(x, 1), axis)


# -- along an axis -----------------------------------------------------------------------------------------------------------


def cumsum(x: Any, axis: int | None = None) -> Tensor:
    """The sums so far, along an axis; without one, of x flattened."""
    t = tensor(x).ravel() if axis is None else tensor(x)
    return apply(ops.CUMSUM, t, axis=normal(axis or 0, t.ndim))


def cumprod(x: Any, axis: int | None = None) -> Tensor:
    """The products so far, along an axis; without one, of x flattened."""
    t = tensor(x).ravel() if axis is None else tensor(x)
    return apply(ops.CUMPROD, t, axis=normal(axis or 0, t.ndim))


def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """What each element is more than the one before it, n times over."""
    t = tensor(x)
    at = normal(axis, t.ndim)
    ends = [None if end is None else tensor(end) for end in (prepend, append)]
    one = tuple(1 if i == at else k for i, k in enumerate(t.shape))
    before, after = (end if end is None or end.ndim else broadcast_to(end, one) for end in ends)
    t = concatenate([part for part in (before, t, after) if part is not None], axis)
    for _ in range(n):
        t = t[along(at, slice(1, None))] - t[along(at, slice(None, -1))]
    return t


def gradient(f: Any, *varargs: Any, axis: Axis = None) -> Any:
    """The slope at each element: half of the difference of its neighbours; at the ends, the difference to the only one.

    varargs: the spacing, one number for all axes or one for each, or the coordinates along an axis. One axis gives a Tensor,
    several give a tuple of them.
    """
    t = tensor(f)
    axes = axes_of(t, axis)
    spacings = [np.asarray(h, float) for h in varargs or (1.0,)]
    if len(spacings) == 1 and not spacings[0].ndim:
        spacings *= len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"gradient: {len(spacings)} spacings for {len(axes)} axes; expected one number, or one for each")
    slopes = tuple(slope(t, a, h) for a, h in zip(axes, spacings, strict=True))
    return slopes[0] if len(slopes) == 1 else slopes


def slope(t: Tensor, axis: int, h: Any) -> Tensor:
    """The slope along one axis, for a spacing or for coordinates."""
    n = t.shape[axis]
    if n < 2:
        raise ValueError(f"gradient: {t.describe()} has fewer than 2 elements along axis {axis}")
    steps = np.diff(h) if h.ndim else np.full(n - 1, h)
    steps = steps.reshape([-1 if i == axis else 1 for i in range(t.ndim)]).astype(t.dtype)
    rises = diff(t, axis=axis) / steps
    early, late = along(axis, slice(None, -1)), along(axis, slice(1, None))
    before, after = steps[early], steps[late]
    inside = (rises[early] * after + rises[late] * before) / (before + after)
    return concatenate([rises[along(axis, slice(None, 1))], inside, rises[along(axis, slice(-1, None))]], axis)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tensor:
    """The integral of y over x by the trapezoidal rule: over coordinates, or steps of dx."""
    t = moveaxis(y, axis, -1)
    widths = dx if x is None else diff(x) if tensor(x).ndim == 1 else diff(moveaxis(x, axis, -1))
    return ((t[..., 1:] + t[..., :-1]) * widths).sum(axis=-1) / 2


def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True) -> Tensor:
    """`num` numbers from start to stop, evenly spaced, along a new first axis."""
    start, stop = lift(start), lift(stop)
    dtype = np.result_type(start._data, stop._data, 1.0)
    t = np.linspace(0.0, 1.0, num, endpoint, dtype=dtype).reshape(num, *[1] * builtins.max(start.ndim, stop.ndim))
    return add(start * (1 - t), stop * t)
