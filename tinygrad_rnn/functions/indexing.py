"""The functions that pick elements, reorder them, and place them in a larger array. All end in one op, or its adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..methods import Axis
from ..ops import Array, along, axes_of, normal
from ..tensor import Tensor, apply
from .convert import constant, plain, tensor
from .elementwise import where
from .shapes import moveaxis

# -- picking -----------------------------------------------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements at these indices along an axis; without one, of x flattened."""
    t, key = tensor(x), np.asarray(indices.numpy() if isinstance(indices, Tensor) else plain(indices))
    return t.ravel()[key] if axis is None else t[along(normal(axis, t.ndim), key)]


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """Along an axis, for each line the elements at its own indices, such as those of argsort or argmax."""
    t, key = tensor(x), np.asarray(indices.numpy() if isinstance(indices, Tensor) else plain(indices))
    if axis is None:
        return t.ravel()[key]
    if key.ndim != t.ndim:
        raise ValueError(f"take_along_axis: indices of {key.ndim} axes for {t.describe()}; expected {t.ndim}")
    grid = np.ogrid[tuple(map(slice, t.shape))]
    return t[tuple(key if i == normal(axis, t.ndim) else each for i, each in enumerate(grid))]


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along an axis; without one, of x flattened."""
    t = tensor(x).ravel() if axis is None else tensor(x)
    axis = axis or 0
    return take(t, np.repeat(np.arange(t.shape[axis]), plain(repeats)), axis)


def delete(x: Any, obj: Any, axis: int | None = None) -> Tensor:
    """Without the elements at these indices along an axis; without one, of x flattened."""
    t = tensor(x).ravel() if axis is None else tensor(x)
    axis = axis or 0
    return take(t, np.delete(np.arange(t.shape[axis]), plain(obj)), axis)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tensor:
    """For each element the choice of the first condition that holds, else the default."""
    if len(condlist) != len(choicelist):
        raise ValueError(f"select: {len(condlist)} conditions for {len(choicelist)} choices; expected one for each")
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return tensor(result)


# -- reordering --------------------------------------------------------------------------------------------------------------


def flip(x: Any, axis: Axis = None) -> Tensor:
    """In reverse order along these axes, by default all."""
    t = tensor(x)
    turned = axes_of(t, axis)
    return t[tuple(slice(None, None, -1 if i in turned else None) for i in range(t.ndim))]


def flipud(x: Any) -> Tensor:
    """In reverse order along the first axis."""
    return flip(x, 0)


def fliplr(x: Any) -> Tensor:
    """In reverse order along the second axis."""
    return flip(x, 1)


def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turned by 90 degrees, k times, in the plane of two axes, from the first to the second."""
    t, (first, second) = tensor(x), axes
    if k % 4 == 2:
        return flip(flip(t, first), second)
    turned = t.swapaxes(first, second) if k % 2 else t
    return turned if k % 4 == 0 else flip(turned, first if k % 4 == 1 else second)


def sort(x: Any, axis: int | None = -1) -> Tensor:
    """In ascending order along an axis; without one, of x flattened."""
    t = tensor(x).ravel() if axis is None else tensor(x)
    axis = -1 if axis is None else axis
    return take_along_axis(t, constant(np.argsort, t, axis=axis, kind="stable"), axis)


def partition(x: Any, kth: int | Sequence[int], axis: int | None = -1) -> Tensor:
    """With the k-th element where sorting would put it, the smaller ones before it and the larger ones after it."""
    t = tensor(x).ravel() if axis is None else tensor(x)
    axis = -1 if axis is None else axis
    return take_along_axis(t, constant(np.argpartition, t, kth, axis=axis), axis)


# -- diagonals and triangles -------------------------------------------------------------------------------------------------


def corner(rows: int, columns: int, offset: int) -> tuple[Any, Any]:
    """The indices of a diagonal."""
    i = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return i - min(offset, 0), i + max(offset, 0)


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal of the matrices in two axes, as the last axis."""
    t = moveaxis(x, (axis1, axis2), (-2, -1))
    return t[(..., *corner(t.shape[-2], t.shape[-1], offset))]


def diag(x: Any, k: int = 0) -> Tensor:
    """The diagonal of a matrix; of a vector, the matrix with it as its diagonal."""
    t = tensor(x)
    if t.ndim == 2:
        return diagonal(t, k)
    if t.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, got {t.describe()}")
    n = t.size + abs(k)
    return apply(ops.SCATTER, t, keys=[corner(n, n, k)], shape=(n, n))


def diagflat(x: Any, k: int = 0) -> Tensor:
    """The matrix that has the elements of x as its diagonal."""
    return diag(tensor(x).ravel(), k)


def triu(x: Any, k: int = 0) -> Tensor:
    """The upper triangle of each matrix, zeros below its k-th diagonal."""
    t = tensor(x)
    return where(below(t, k - 1), 0, t)


def tril(x: Any, k: int = 0) -> Tensor:
    """The lower triangle of each matrix, zeros above its k-th diagonal."""
    t = tensor(x)
    return where(below(t, k), t, 0)


def below(t: Tensor, k: int) -> Array:
    """Where a matrix is at or below its k-th diagonal."""
    rows, columns = t.shape[-2:] if t.ndim > 1 else t.shape * 2
    return np.tri(rows, columns, k, bool)


# -- padding -----------------------------------------------------------------------------------------------------------------


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Tensor:
    """With more elements at the ends of each axis: of a "constant", or x again ("edge", "reflect", "symmetric", "wrap").

    pad_width: how many; an int, or (before, after), or one such pair for each axis.
    """
    t = tensor(x)
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        return t.ravel()[np.pad(np.arange(t.size).reshape(t.shape), pad_width, mode)]  # type: ignore[call-overload]
    if mode != "constant":
        raise ValueError(f"pad: mode is 'constant', 'edge', 'reflect', 'symmetric' or 'wrap', got {mode!r}")
    around = np.pad(np.zeros(t.shape, t.dtype), pad_width, constant_values=constant_values)
    widths = np.broadcast_to(pad_width, (t.ndim, 2)).tolist()
    middle = tuple(slice(before, before + n) for (before, _), n in zip(widths, t.shape, strict=True))
    placed = apply(ops.SCATTER, t, keys=[middle], shape=around.shape)
    return placed + around if around.any() else placed
