"""A step in operations that go row by row: before it becomes C, in place of what rewrite.py does for NumPy."""

from __future__ import annotations

from functools import partial, reduce
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from ...ops import basic
from ..norms import deviation, expanded
from ..program import CONSTANT, NORMS, Node, Program, elementwise, ordered, users
from ..rebuild import everywhere, rebuilt, roots
from ..roll import turned
from ..trace import Step, plain_key
from .rows import by_rows, column, cut, width
from .text import CHEAP


def lowered(program: Program, step: Step) -> Step:
    """The step in operations that go row by row, slices taken before the operations whose results they are of."""
    return pieces(program, simpler(program, without_norms(program, step)))


@everywhere
def without_norms(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """Layer normalisation as what it is made of."""
    return expanded(program, node.op, args[0], **node.params) if node.op in NORMS and node.rank > CONSTANT else None


@everywhere
def simpler(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """Means as sums, and a few ops that others can stand for."""
    make, op = program.make, node.op
    if node.rank == CONSTANT or not args:
        return None
    x = args[0]
    if op == "mean" and x.dtype.kind == "f":
        return make("div", make("sum", x, **node.params), program.constant(prod(x.shape[a] for a in node.params["axis"])))
    if op in ("np.max", "np.min") and isinstance(node.params.get("axis"), int) and node.params.keys() <= {"axis", "keepdims"}:
        params = {"axis": (node.params["axis"] % len(x.shape),), "keepdims": bool(node.params.get("keepdims", False))}
        return make(op[3:], x, **params)
    if op == "np.nan_to_num" and x.dtype.kind == "f":
        first, *others = map(node.params.get, ("nan", "posinf", "neginf"))
        finite = make("np.less", make("abs", x), program.constant(np.inf))
        return make("where", finite, x, program.constant(first)) if others == [first, first] else None
    if op == "scatter" and len(node.shape) == 2 and not any(y.op == "matmul" and turned(y.args[0]) for y in args):
        return among_zeros(program, node, args)  # but not the gradient of a weight, which is summed over time first
    if op in ("getitem", "scatter") and len(args) == 1:
        (key,) = node.params.get("keys") or [node.params["key"]]
        if basic(key) and key == (slice(None), None):  # numbers of each row as a column, and back
            return make("reshape", x, shape=node.shape)
    if op == "relu":
        return make("maximum", x, program.constant(0))
    if op == "clip":
        return make("minimum", make("maximum", x, args[1]), args[2])
    if op == "div" and x.dtype.kind == "b":  # in C a quotient of truth values is an integer, or the end of the process
        return make("div", make("astype", x, dtype=node.dtype), args[1])
    if op == "concatenate" and node.size and not all(y.size for y in args):
        full = [y for y in args if y.size]
        return make("concatenate", *full, **node.params) if len(full) > 1 else full[0]
    if op == "power" and args[1].is_number and args[1].value == 2:
        return make("mul", x, x)
    if op == "div" and args[1].op == "sum" and args[1].args[0].dtype.kind == "b":  # by how many are the largest
        return make("div", x, make("sum", make("astype", args[1].args[0], dtype=node.dtype), **args[1].params))
    if op == "div" and len(x.shape) == 2 and args[1].shape == (x.shape[0], 1) and deviation(args[1]):
        return make("mul", x, make("div", program.constant(1), args[1]))  # one division for a row
    if op == "matmul" and len(x.shape) == 2 and len(args[1].shape) == 1:
        return make("sum", make("mul", x, args[1]), axis=(1,), keepdims=False)
    return None


def among_zeros(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """A scatter of slices of rows, or of elements of them, as concatenations with zeros."""
    make, (n, wide) = program.make, node.shape
    found: list[tuple[int, Node]] = []
    for g, key in zip(args, node.params["keys"], strict=True):
        start = column(plain_key(key, node.shape), wide) if basic(key) else None
        if start is None:
            return None
        if g.size:
            found.append((start, g if len(g.shape) == 2 else make("reshape", g, shape=(n, 1))))
    found.sort(key=lambda pair: pair[0])
    zero = program.constant(node.dtype.type(0).reshape(()))

    def row(*pieces: tuple[int, Node]) -> Node:
        joined, at = list[Node](), 0
        for start, x in (*pieces, (wide, None)):
            joined += [make("broadcast_to", zero, shape=(n, start - at))] if start > at else []
            joined += [x] if x is not None else []
            at = start + (x.shape[1] if x is not None else 0)
        return make("concatenate", *joined, axis=1)

    if all(a + x.shape[1] <= b for (a, x), (b, _) in pairwise(found)):
        return row(*found)
    return reduce(partial(make, "add"), map(row, found))


def sliced(node: Node) -> bool:
    """Are these some columns of a matrix?"""
    return cut(node) is not None and len(node.shape) == 2


def pieces(program: Program, step: Step) -> Step:
    """(a + b)[:, i:j] as a[:, i:j] + b[:, i:j], if nothing but such pieces is read of the sum; likewise other operations.

    What is cheap may also be read whole: on the way back, where it is computed again, or if it is made of one array alone.
    """
    order, ahead = ordered(roots(step)), set(ordered([*step.new, *step.outputs.values()]))
    reading, wanted = users(order), set(roots(step))
    apart: set[Node] = set()  # what is read in pieces
    whole: set[Node] = set()  # what of that is read whole, too
    for node in reversed(order):
        readers = reading.get(node, [])
        if not readers or node in wanted or width(node) == 1 or not elementwise(node) or not by_rows(node):
            continue
        by_piece = [y for y in readers if y in apart or sliced(y)]
        others = [y for y in readers if y in whole or y not in by_piece]
        single = sum(width(x) > 1 for x in node.args) == 1
        cheap = node.op in CHEAP and (single or not any(y in ahead and y not in whole for y in others))
        if by_piece and (cheap or not others):
            apart.add(node)
            whole |= {node} if others else set()
    new: set[Node] = set()  # the same, as they are made anew

    def piece(node: Node, key: Any) -> Node:
        if not node.shape or node.shape[-1] == 1:
            return node
        if node in new and elementwise(node):  # it may have become something simpler
            return program.make(node.op, *(piece(x, key) for x in node.args), **node.params)
        return program.make("getitem", node, key=key[-len(node.shape) :])

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node in apart:
            made = program.make(node.op, *args, **node.params)
            new.add(made)
            return made
        return piece(args[0], node.params["key"]) if sliced(node) and node.args[0] in apart else None

    return rebuilt(program, step, rule)
