"""A vector that meets every row of a batch at every step, repeated once: NumPy then takes the batch for one long row."""

from __future__ import annotations

from math import prod

import numpy as np

from .program import CONSTANT, STATE, Node, Program, elementwise

MOST = 1 << 17  # elements that stay in the cache; a vector is quicker than what would not


def written_out(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """An elementwise operation without vectors; None if it has none, or if all are."""
    if node.rank < STATE or not 0 < node.size <= MOST or not any(is_row(x, node.shape) for x in args):
        return None
    if not elementwise(node) or all(x.shape != node.shape for x in args):
        return None
    return program.make(node.op, *(whole(program, x, node.shape) for x in args), **node.params)


def is_row(x: Node, shape: tuple[int, ...]) -> bool:
    """Is this a vector, the same at all steps, that meets the rows of something of this shape?"""
    return x.rank == CONSTANT and len(shape) > len(x.shape) == 1 and x.shape == shape[-1:]


def whole(program: Program, x: Node, shape: tuple[int, ...]) -> Node:
    """A vector of these rows repeated for each of them; anything else as it is."""
    rows, like = prod(shape[:-1]), shape[-1:]
    if not is_row(x, shape):
        return x
    if x.op == "constant":
        made = program.constant(np.broadcast_to(x.value, shape).copy())
    elif elementwise(x) and any(y.op == "constant" and y.shape == like for y in x.args):
        made = program.make(x.op, *(whole(program, y, shape) if y.op == "constant" else y for y in x.args), **x.params)
    else:
        row = program.make("reshape", x, shape=(1, *like))
        made = program.make("reshape", row if rows == 1 else program.make("np.repeat", row, repeats=rows, axis=0), shape=shape)
    made.name = made.name or x.name
    return made
