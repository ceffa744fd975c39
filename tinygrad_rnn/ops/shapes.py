"""The rows that move elements to other places: shapes, joining, and indexing with its adjoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from .table import Together, Uses, along, call, op


def basic(key: Any) -> bool:
    """Is this NumPy's basic indexing (a view, no element twice), as opposed to an index by arrays?"""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is Ellipsis or type(part) in (int, slice) for part in parts)


def scatter(*gs: Any, keys: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Zeros of this shape with each `g` added at its key: what indexing is, read backwards."""
    out = np.zeros(shape, np.result_type(*gs))
    for g, key in zip(gs, keys, strict=True):
        if basic(key):
            view = out[key]
            out[key] = view + g if view.ndim == 0 else np.add(view, g, out=view)
        else:
            np.add.at(out, key, g)
    return out


def index_dx(uses: Uses) -> Any:
    """The gradient of what was indexed: every use adds at its own place."""
    gs, keys, x = [g for g, _, _ in uses], [params["key"] for _, _, params in uses], uses[0][1][0]
    return call("scatter", *gs, keys=keys, shape=x.shape)


def split_dx(uses: Uses) -> Any:
    """The gradient of what was split: its pieces' gradients joined again, if each piece was used."""
    bounds, axis = uses[0][2]["bounds"], uses[0][2]["axis"]
    pieces = {params["piece"]: g for g, _, params in uses if params["bounds"] is bounds}
    if len(pieces) == len(uses) == len(bounds) - 1:
        return call("concatenate", *(pieces[i] for i in range(len(pieces))), axis=axis)
    return index_dx(uses)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes a permutation."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def pieces(g: Any, lengths: Sequence[int], axis: int) -> Callable[[int], Any]:
    """What each of some concatenated arrays, of these lengths, has of the whole."""
    ends = list(accumulate(lengths))
    return lambda i: g[along(axis % g.ndim, slice(ends[i] - lengths[i], ends[i]))]


# fmt: off

# Shapes.
RESHAPE  = op("reshape",  lambda x, shape: x.reshape(shape),      lambda g, out, x, shape: g.reshape(x.shape))
TRANSPOSE = op("transpose", lambda x, axes: x.transpose(axes),    lambda g, out, x, axes: g.transpose(inverse(axes)))
BROADCAST_TO = op("broadcast_to", lambda x, shape: np.broadcast_to(x, shape), lambda g, out, x, shape: g)
CONCATENATE = op("concatenate", lambda *xs, axis: np.concatenate(xs, axis=axis),
                 lambda g, out, *xs, axis: pieces(g, [x.shape[axis] for x in xs], axis), variadic=True)
STACK    = op("stack",    lambda *xs, axis: np.stack(xs, axis=axis),
                          lambda g, out, *xs, axis: lambda i: g[(slice(None),) * (axis % out.ndim) + (i,)], variadic=True)

# Indexing and its adjoint.
GETITEM  = op("getitem",  lambda x, key: x[key],                          Together(index_dx))
SPLIT    = op("split",    lambda x, key, piece, bounds, axis: x[key],     Together(split_dx))
SCATTER  = op("scatter",  scatter, lambda g, out, *gs, keys, shape: lambda i: g[keys[i]], variadic=True)
# fmt: on
