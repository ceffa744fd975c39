"""Operations that go row by row, each sequence of a batch on its own, and the step in terms of them."""

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
from ..trace import Step, plain_key

# C for an element; {f} is f for single precision and nothing for double.
UNARY = {
    "abs": "fabs{f}({0})", "neg": "-{0}", "np.positive": "{0}", "reciprocal": "1 / {0}", "sigmoid": "sigmoid{f}({0})",
    "np.sign": "({0} > 0) - ({0} < 0)", "np.logical_not": "!{0}", "np.isnan": "{0} != {0}",
    "arccos": "acos{f}({0})", "arccosh": "acosh{f}({0})", "arcsin": "asin{f}({0})", "arcsinh": "asinh{f}({0})",
    "arctan": "atan{f}({0})", "arctanh": "atanh{f}({0})",
} | {name: f"{name}{{f}}({{0}})" for name in (
    "cbrt", "cos", "cosh", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh",
)} | {"root": "sqrt{f}({0})"}  # fmt: skip
BINARY = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "power": "pow{f}({0}, {1})",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}", "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "arctan2": "atan2{f}({0}, {1})", "hypot": "hypot{f}({0}, {1})",
    "np.greater": "{0} > {1}", "np.greater_equal": "{0} >= {1}", "np.equal": "{0} == {1}",
    "np.less": "{0} < {1}", "np.less_equal": "{0} <= {1}", "np.not_equal": "{0} != {1}",
    "np.logical_and": "{0} && {1}", "np.logical_or": "{0} || {1}",
}  # fmt: skip
ELEMENT = UNARY | BINARY | {"where": "{0} ? {1} : {2}", "astype": "({c}) {0}"}
CHEAP = {"add", "sub", "mul", "neg", "np.positive", "maximum", "minimum", "where", "astype", "abs"} | {
    op for op in BINARY if op.startswith("np.")
}  # not worth memory of their own
TYPES = {"float32": "float", "float64": "double", "bool": "unsigned char", "int64": "long", "int32": "int"}
END = {
    "sum": "{0} += {1}",
    "max": "{0} = {1} > {0} || {1} != {1} ? {1} : {0}",
    "min": "{0} = {1} < {0} || {1} != {1} ? {1} : {0}",
}


def width(node: Node) -> int:
    """The number of elements in a row: of a matrix (N, W), or 1 of a number for each row."""
    return node.shape[-1] if len(node.shape) > 1 or node.rank == CONSTANT and node.shape else 1


def by_rows(node: Node) -> bool:
    """Is each row of the result made of the same row of each argument, in a way that we can write?"""
    if node.rank == CONSTANT:
        return False
    if not all(row_like(x) for x in (node, *node.args)) or str(node.dtype) not in TYPES:
        return False
    if elementwise(node):
        one = len(node.shape) == 1  # numbers for each row meet numbers only, not along the wrong axis
        return node.op in ELEMENT and all(len(x.shape) == 1 or not x.shape for x in node.args) is one
    if node.op == "getitem":
        return cut(node) is not None
    if node.op == "concatenate":
        return node.params["axis"] == 1
    if node.op in END:
        return node.params["axis"] == (1,)
    if node.op == "reshape":
        return width(node) == 1 == width(node.args[0])
    return node.op == "broadcast_to" and len(node.args[0].shape) != 1


def cut(node: Node) -> int | None:
    """The column where a slice of each row begins, or of the element that is taken of each; None if a node is neither."""
    if node.op != "getitem" or not basic(node.params["key"]):
        return None
    shape, key = node.args[0].shape, plain_key(node.params["key"], node.args[0].shape)
    if node.rank == CONSTANT:
        return column((slice(None), *key), shape[0]) if len(shape) == 1 and len(key) == 1 else None
    return column(key, shape[1]) if len(shape) == 2 else None


def column(key: tuple[Any, ...], wide: int) -> int | None:
    """The first column of what is taken of all rows; None if it is not some columns side by side."""
    if len(key) != 2 or key[0] != slice(None):
        return None
    if isinstance(key[1], slice):
        start, _, step = key[1].indices(wide)
        return start if step == 1 else None
    return int(key[1]) % wide if isinstance(key[1], int | np.integer) else None


def row_like(node: Node) -> bool:
    """Is this a matrix, a number for each row, or something that is the same for all rows?"""
    return node.is_number or len(node.shape) in ((0, 1, 2) if node.rank == CONSTANT else (1, 2))


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
    if op in ("np.max", "np.min") and isinstance(node.params.get("axis"), int):
        params = {"axis": (node.params["axis"] % len(x.shape),), "keepdims": bool(node.params.get("keepdims", False))}
        return make(op[3:], x, **params) if set(node.params) <= {"axis", "keepdims"} else None
    if op == "scatter" and len(node.shape) == 2:
        return spread(program, node, args)
    if op == "relu":
        return make("maximum", x, program.constant(0))
    if op == "clip":
        return make("minimum", make("maximum", x, args[1]), args[2])
    if op == "power" and args[1].is_number and args[1].value == 2:
        return make("mul", x, x)
    if op == "div" and len(x.shape) == 2 and args[1].shape == (x.shape[0], 1) and deviation(args[1]):
        return make("mul", x, make("div", program.constant(1), args[1]))  # a division a row
    if op == "matmul" and len(x.shape) == 2 and len(args[1].shape) == 1:
        return make("sum", make("mul", x, args[1]), axis=(1,), keepdims=False)
    return None


def spread(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """Slices of rows, or elements of them, among zeros."""
    make, (n, wide) = program.make, node.shape
    found: list[tuple[int, Node]] = []
    for g, key in zip(args, node.params["keys"], strict=True):
        start = column(plain_key(key, node.shape), wide) if basic(key) else None
        if start is None:
            return None
        found.append((start, g if len(g.shape) == 2 else make("reshape", g, shape=(n, 1))))
    found.sort(key=lambda pair: pair[0])
    apart = all(a + x.shape[1] <= b for (a, x), (b, _) in pairwise(found))
    zero = program.constant(node.dtype.type(0).reshape(()))

    def among(pieces: list[tuple[int, Node]]) -> Node:
        row, at = list[Node](), 0
        for start, x in [*pieces, (wide, None)]:
            row += [make("broadcast_to", zero, shape=(n, start - at))] if start > at else []
            row += [] if x is None else [x]
            at = start + (0 if x is None else x.shape[1])
        return make("concatenate", *row, axis=1)

    return among(found) if apart else reduce(partial(make, "add"), (among([pair]) for pair in found))


def pieces(program: Program, step: Step) -> Step:
    """(a + b)[:, i:j] as a[:, i:j] + b[:, i:j], if all that is read of a sum are such pieces."""
    order = ordered(roots(step))
    reading = users(order)
    whole = set(roots(step))
    cut: set[Node] = set()  # what is read in pieces only
    for node in reversed(order):
        readers = reading.get(node, [])
        if node in whole or not readers or len(node.shape) != 2 or not elementwise(node) or not by_rows(node):
            continue
        if all(y in cut or (y.op == "getitem" and by_rows(y)) for y in readers):
            cut.add(node)

    def piece(node: Node, key: Any) -> Node:
        if node.is_number or not node.shape or node.shape[-1] == 1:
            return node
        if node not in made_in_pieces:
            return program.make("getitem", node, key=key if len(node.shape) == 2 else key[1:])
        return program.make(node.op, *(piece(x, key) for x in node.args), **node.params)

    made_in_pieces: set[Node] = set()

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op == "getitem" and node.args[0] in cut:
            return piece(args[0], node.params["key"])
        if node in cut:
            made = program.make(node.op, *args, **node.params)
            made_in_pieces.add(made)
            return made
        return None

    return rebuilt(program, step, rule)
