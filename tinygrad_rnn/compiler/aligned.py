"""Weights where BLAS reads them fastest: from a multiple of 64 bytes on, since a line of the cache has 64."""

from __future__ import annotations

import numpy as np

from ..ops import Array
from .program import CONSTANT, STATE, Node, Program
from .rebuild import everywhere

LINE = 64
LEAST = 1 << 14  # weights that are worth the copy
MOST = 1_000_000  # multiplications, up to which BLAS reads a matrix where it is; it packs a larger one first


def aligned(x: Array) -> Array:
    """A copy that begins there."""
    room = np.empty(x.nbytes + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    copy: Array = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@everywhere
def aligned_weights(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """A product with weights at every step: with an aligned copy of them, if that pays."""
    if node.op != "matmul" or node.rank < STATE or len(args[0].shape) != 2 or args[1].rank != CONSTANT:
        return None
    x, w = args
    fits = w.size >= LEAST and x.size * w.shape[-1] <= MOST and w.op not in ("aligned", "constant")
    return program.make("matmul", x, program.make("aligned", w)) if fits else None
