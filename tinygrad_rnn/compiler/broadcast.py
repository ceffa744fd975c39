"""A vector that meets every row of a batch at every step, repeated once: NumPy then takes the batch for one long row."""

from __future__ import annotations

import numpy as np

from .program import CONSTANT, STATE, Node, Program, elementwise
from .rebuild import everywhere

MOST = 1 << 17  # elements that stay in the cache; a vector is quicker than what would not


@everywhere
def written_out(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """An elementwise operation without vectors; None if it has none, or if all are."""
    if node.rank < STATE or not 0 < node.size <= MOST or not any(is_row(x, node.shape) for x in args):
        return None
    if not elementwise(node) or all(x.shape != node.shape for x in args):
        return None
    return program.make(node.op, *(whole(program, x, node.shape) for x in args), **node.params)


def is_row(x: Node, shape: tuple[int, ...]) -> bool:
    """Are these vectors, the same at all steps, that meet the rows of something of this shape?"""
    longer = x.shape != shape and len(shape) > 1 <= len(x.shape)
    return x.rank == CONSTANT and longer and x.shape in (shape[-1:], (*shape[:-2], 1, shape[-1]))


def whole(program: Program, x: Node, shape: tuple[int, ...]) -> Node:
    """Vectors repeated for each of the rows; anything else as it is."""
    if not is_row(x, shape):
        return x
    if x.op == "constant":
        made = program.constant(np.broadcast_to(x.value, shape).copy())
    elif elementwise(x) and any(y.op == "constant" and y.shape == x.shape for y in x.args):
        made = program.make(x.op, *(whole(program, y, shape) if y.op == "constant" else y for y in x.args), **x.params)
    else:
        lead = (1,) * (len(shape) - 2) if len(x.shape) == 1 else shape[:-2]
        made = program.make("reshape", x, shape=(*lead, 1, shape[-1]))
        for axis, (now, then) in enumerate(zip(made.shape, shape, strict=True)):
            if now != then:
                made = program.make("np.repeat", made, repeats=then, axis=axis)
    made.name = made.name or x.name
    return made
