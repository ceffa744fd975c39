"""The functions that change shapes, join arrays and split them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from .. import ops
from ..methods import Axis, unpacked
from ..ops import along, normal
from ..tensor import Tensor, apply
from .convert import tensor

# -- shapes and axes ---------------------------------------------------------------------------------------------------------


def reshape(x: Any, shape: int | Sequence[int]) -> Tensor:
    """The same elements in another shape; -1 for what remains."""
    return tensor(x).reshape(shape)


def ravel(x: Any) -> Tensor:
    """The elements in one axis."""
    return tensor(x).ravel()


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; by default reversed."""
    return tensor(x).transpose(*(() if axes is None else (tuple(axes),)))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    return tensor(x).swapaxes(axis1, axis2)


def matrix_transpose(x: Any) -> Tensor:
    """Each matrix of a stack transposed."""
    return tensor(x).swapaxes(-1, -2)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other places; the rest keep their order."""
    t = tensor(x)
    return t.transpose(np.moveaxis(np.empty(tuple(range(t.ndim)), bool), source, destination).shape)


def rollaxis(x: Any, axis: int, start: int = 0) -> Tensor:
    """An axis moved to before `start`."""
    t = tensor(x)
    return t.transpose(np.rollaxis(np.empty(tuple(range(t.ndim)), bool), axis, start).shape)


def squeeze(x: Any, axis: Axis = None) -> Tensor:
    """Without the axes of length 1, or without those named."""
    return tensor(x).squeeze(axis)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> Tensor:
    """With a new axis of length 1 at each place named."""
    t = tensor(x)
    return t.reshape(np.expand_dims(np.empty(t.shape, bool), axis).shape)


def broadcast_to(x: Any, shape: int | Sequence[int]) -> Tensor:
    """Repeated to a shape; the gradient is summed over the repeats."""
    return apply(ops.BROADCAST_TO, x, shape=unpacked((shape,)))


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """Each repeated to the shape that they broadcast to."""
    tensors = [tensor(x) for x in arrays]
    shape = np.broadcast_shapes(*(x.shape for x in tensors))
    return tuple(broadcast_to(x, shape) for x in tensors)


def full_like(x: Any, fill_value: Any) -> Tensor:
    """An array of x's shape and dtype, filled with one value, or with what broadcasts to it."""
    t = tensor(x)
    return broadcast_to(tensor(fill_value).astype(t.dtype), t.shape)


def atleast(rank: int) -> Callable[..., Any]:
    """NumPy's atleast_1d, atleast_2d and atleast_3d."""

    def function(*arrays: Any) -> Any:
        results = tuple(tensor(x).reshape(getattr(np, name)(np.empty(tensor(x).shape, bool)).shape) for x in arrays)
        return results[0] if len(results) == 1 else results

    name = function.__name__ = function.__qualname__ = f"atleast_{rank}d"
    function.__doc__ = f"With axes of length 1 added, so that there are at least {rank}; several arrays give a tuple."
    return function


atleast_1d, atleast_2d, atleast_3d = atleast(1), atleast(2), atleast(3)


def meshgrid(*xi: Any, indexing: str = "xy", sparse: bool = False) -> tuple[Tensor, ...]:
    """The coordinates of a grid: each vector along an axis of its own, repeated over the others."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij', got {indexing!r}")
    axes = list(range(len(xi)))
    if indexing == "xy":
        axes[:2] = axes[:2][::-1]
    grids = tuple(
        tensor(x).reshape([-1 if i == axis else 1 for i in range(len(xi))]) for x, axis in zip(xi, axes, strict=True)
    )
    return grids if sparse else broadcast_arrays(*grids)


# -- joining -----------------------------------------------------------------------------------------------------------------


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Joined along an axis they have; axis=None flattens them first."""
    if axis is None:
        arrays, axis = [tensor(x).ravel() for x in arrays], 0
    return apply(ops.CONCATENATE, *arrays, axis=axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Joined along a new axis."""
    return apply(ops.STACK, *arrays, axis=axis)


def vstack(arrays: Sequence[Any]) -> Tensor:
    """Joined one below the other; vectors are rows."""
    return concatenate([atleast_2d(x) for x in arrays], axis=0)


def hstack(arrays: Sequence[Any]) -> Tensor:
    """Joined side by side: along the second axis, vectors along their only one."""
    tensors = [atleast_1d(x) for x in arrays]
    return concatenate(tensors, axis=0 if tensors and tensors[0].ndim == 1 else 1)


def dstack(arrays: Sequence[Any]) -> Tensor:
    """Joined along the third axis."""
    return concatenate([atleast_3d(x) for x in arrays], axis=2)


def column_stack(arrays: Sequence[Any]) -> Tensor:
    """Joined side by side; vectors are columns."""
    tensors = [tensor(x) for x in arrays]
    return concatenate([x if x.ndim > 1 else x.reshape(-1, 1) for x in tensors], axis=1)


def append(x: Any, values: Any, axis: int | None = None) -> Tensor:
    """x with values after it; both flattened if no axis is named."""
    return concatenate([tensor(x), tensor(values)], axis)


def tile(x: Any, reps: int | Sequence[int]) -> Tensor:
    """The whole of x, repeated `reps` times along each axis."""
    t = tensor(x)
    times = tuple(reps) if isinstance(reps, Sequence | np.ndarray) else (reps,)
    rank = builtins.max(t.ndim, len(times))
    lengths, times = (1,) * (rank - t.ndim) + t.shape, (1,) * (rank - len(times)) + times
    pairs = list(zip(times, lengths, strict=True))
    spread = broadcast_to(t.reshape([k for n in lengths for k in (1, n)]), [k for pair in pairs for k in pair])
    return spread.reshape([n * m for n, m in pairs])


def roll(x: Any, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """Moved along an axis; what leaves at one end enters at the other."""
    t = tensor(x)
    if axis is None:
        return roll(t.ravel(), shift, 0).reshape(t.shape)
    for by, i in np.broadcast(shift, axis):
        length = t.shape[normal(int(i), t.ndim)]
        cut = -int(by) % length if length else 0
        t = concatenate(split(t, [cut], int(i))[::-1], int(i)) if cut else t
    return t


# -- splitting ---------------------------------------------------------------------------------------------------------------


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut into equal sections (an int), or at the given indices: the gates of a cell are split(z, 4, axis=-1)."""
    x, where = tensor(x), indices_or_sections
    if type(where) is not int:
        where = int(where) if isinstance(where, int | np.integer) else tuple(map(int, where))
    axis = normal(axis, x.ndim)
    return [apply(ops.SPLIT, x, **piece) for piece in pieces(x.shape[axis], where, axis)]


@lru_cache
def pieces(length: int, where: int | tuple[int, ...], axis: int) -> list[dict[str, Any]]:
    """The parameters of each piece of an axis that is split."""
    if isinstance(where, int):
        if where < 1 or length % where:
            raise ValueError(f"split: an axis of length {length} cannot be cut into {where} equal sections")
        bounds = tuple(range(0, length + 1, length // where)) if length else (0,) * (where + 1)
    else:
        bounds = (0, *(slice(i).indices(length)[1] for i in where), length)
        if list(bounds) != sorted(bounds):
            raise ValueError(f"split: expected indices in ascending order, got {list(where)}")
    return [
        {"key": along(axis, slice(start, stop)), "piece": i, "bounds": bounds, "axis": axis}
        for i, (start, stop) in enumerate(pairwise(bounds))
    ]


def array_split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut into sections whose lengths differ by one at most, or at the given indices."""
    t, where = tensor(x), indices_or_sections
    if isinstance(where, int | np.integer):
        where = np.cumsum([len(part) for part in np.array_split(np.empty(t.shape[axis], bool), where)])[:-1].tolist()
    return split(t, where, axis)


def vsplit(x: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Cut along the first axis."""
    return split(x, indices_or_sections, 0)


def hsplit(x: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Cut along the second axis, a vector along its only one."""
    return split(x, indices_or_sections, 0 if tensor(x).ndim == 1 else 1)


def dsplit(x: Any, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """Cut along the third axis."""
    return split(x, indices_or_sections, 2)
