"""Operations that go row by row, each sequence of a batch on its own, and a step in terms of them."""

from __future__ import annotations

from functools import partial, reduce
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...ops import basic
from ..norms import deviation, expanded
from ..program import CONSTANT, NORMS, Node, Program, elementwise, filled, ordered, users
from ..rebuild import everywhere, rebuilt, roots
from ..roll import turned
from ..trace import Step, plain_key
from .text import ARITHMETIC, END, LOGIC, TYPES


def width(node: Node) -> int:
    """The number of elements in a row: of a matrix (N, W), or 1 of numbers (N,), one for each row."""
    return node.shape[-1] if len(node.shape) > 1 or (node.rank == CONSTANT and node.shape) else 1


def by_rows(node: Node) -> bool:
    """Is each row of the result made of the same row of each argument, in a way that C can write?"""
    if node.rank == CONSTANT or not all(map(in_rows, (node, *node.args))):
        return False
    if elementwise(node):
        numbers = len(node.shape) == 1  # which meet numbers only: NumPy would lay them along a row
        same = all(not x.shape or (len(x.shape) == 1 and x.rank != CONSTANT) for x in node.args) if numbers else True
        same = same and (numbers or all(len(x.shape) != 1 or x.rank == CONSTANT for x in node.args))
        return same and node.op in (LOGIC if node.dtype.kind == "b" else ARITHMETIC)
    if node.op == "getitem":
        return cut(node) is not None
    if node.op == "concatenate":
        return bool(node.params["axis"] == 1)
    if node.op in END:
        return bool(node.params["axis"] == (1,)) and node.dtype.kind == "f"
    if node.op == "reshape":
        return width(node) == 1 == width(node.args[0])
    return node.op == "broadcast_to" and len(node.args[0].shape) != 1


def in_rows(node: Node) -> bool:
    """Is this a matrix, a number for each row, or something that is the same for all rows, of a dtype that C has?"""
    return same_number(node) or (
        str(node.dtype) in TYPES and len(node.shape) in ((0, 1, 2) if node.rank == CONSTANT else (1, 2)) and node.size > 0
    )


def same_number(node: Node) -> bool:
    """Is this a constant that C writes as a number?"""
    return node.op == "constant" and node.size > 0 and filled(node, np.asarray(node.value).flat[0])


def cut(node: Node) -> int | None:
    """The column where a slice of each row begins, or of the element that is taken of each; None if a node is neither."""
    if node.op != "getitem" or not basic(node.params["key"]):
        return None
    shape = node.args[0].shape
    key = plain_key(node.params["key"], shape)
    if node.rank == CONSTANT:
        return column((slice(None), *key), shape[0]) if len(shape) == 1 else None
    return column(key, shape[1]) if len(shape) == 2 else None


def column(key: tuple[Any, ...], wide: int) -> int | None:
    """The first column of what an index takes of all rows; None if that is not some columns side by side."""
    if len(key) != 2 or key[0] != slice(None):
        return None
    if isinstance(key[1], slice):
        start, _, step = key[1].indices(wide)
        return start if step == 1 else None
    return int(key[1]) % wide if isinstance(key[1], int | np.integer) else None


class View(NamedTuple):
    """What a node shows: of which value, from which column on, and whether it is one column that is met again and again."""

    root: Node
    start: int
    one: bool


def view(node: Node) -> View:
    """What a node is, or is a view of."""
    start, one = 0, width(node) == 1
    while True:
        at = cut(node)
        if at is not None:
            start += at
        elif node.op not in ("broadcast_to", "reshape") or not (by_rows(node) or node.args[0].size == 1):
            return View(node, start, one)
        node = node.args[0]
        one = one or width(node) == 1


# -- a step in terms of them -------------------------------------------------------------------------------------------------


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
    if op == "getitem" and len(x.shape) == 1 and node.params["key"] == (slice(None), None):
        return make("reshape", x, shape=node.shape)
    if (
        op == "scatter"
        and len(node.shape) == 1
        and [plain_key(k, node.shape) for k in node.params["keys"]] == [(slice(None), None)]
    ):
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


def pieces(program: Program, step: Step) -> Step:
    """(a + b)[:, i:j] as a[:, i:j] + b[:, i:j], if nothing but such pieces is read of the sum; likewise other operations."""
    order = ordered(roots(step))
    reading, wanted = users(order), set(roots(step))
    apart: set[Node] = set()  # what is read in pieces only
    for node in reversed(order):
        readers = reading.get(node, [])
        if not readers or node in wanted or width(node) == 1 or not elementwise(node) or not by_rows(node):
            continue
        if all(y in apart or (cut(y) is not None and len(y.shape) == 2) for y in readers):
            apart.add(node)
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
        return piece(args[0], node.params["key"]) if node.args and node.args[0] in apart else None

    return rebuilt(program, step, rule)
