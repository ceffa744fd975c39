"""Weights where BLAS reads them fastest: from a multiple of 64 bytes on, as wide as a register and a line of the cache."""

from __future__ import annotations

import numpy as np

from ..ops import Array
from .program import CONSTANT, STATE, Node, Program

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


def multiplied(program: Program, node: Node) -> Node | None:
    """A product with weights at every step, with a copy of them if it pays."""
    if node.op != "matmul" or node.rank < STATE or len(node.args[0].shape) != 2 or node.args[1].rank != CONSTANT:
        return None
    x, w = node.args
    fits = w.size >= LEAST and x.size * w.shape[-1] <= MOST and w.op not in ("aligned", "constant")
    return program.make("matmul", x, program.make("aligned", w)) if fits else None
