"""Operations that go row by row, each sequence of a batch on its own, and what of a row they read."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...ops import basic
from ..places import Place
from ..program import CONSTANT, Node, elementwise, filled
from ..trace import plain_key
from .c_text import END, KINDS, TYPES


def width(node: Node) -> int:
    """The number of elements in a row: of a matrix (N, W), or 1 of numbers (N,), one for each row."""
    return node.shape[-1] if len(node.shape) > 1 or (node.rank == CONSTANT and node.shape) else 1


def by_rows(node: Node) -> bool:
    """Is each row of the result made of the same row of each argument, in a way that C can write?"""
    if node.rank == CONSTANT or not all(map(in_rows, (node, *node.args))):
        return False
    if elementwise(node):
        alike = all(not x.shape or numbers(x) == numbers(node) for x in node.args)  # else NumPy lays numbers along a row
        return alike and node.op in KINDS[node.dtype.kind]
    if node.op == "getitem":
        return cut(node) is not None
    if node.op == "concatenate":
        return bool(node.params["axis"] == 1)
    if node.op in END:
        return bool(node.params["axis"] == (1,)) and node.dtype.kind in ("fi" if node.op == "sum" else "f")
    if node.op == "reshape":
        return width(node) == 1 == width(node.args[0])
    return node.op == "broadcast_to" and len(node.args[0].shape) != 1


def in_rows(node: Node) -> bool:
    """Is this a matrix, a number for each row, or something that is the same for all rows, of a dtype that C has?"""
    return same_number(node) or (
        node.dtype in TYPES and len(node.shape) in ((0, 1, 2) if node.rank == CONSTANT else (1, 2)) and node.size > 0
    )


def numbers(node: Node) -> bool:
    """Is this a number for each row, (N,)?"""
    return len(node.shape) == 1 and node.rank != CONSTANT


def same_number(node: Node) -> bool:
    """Is this a constant that C writes as a number?"""
    if node.op != "constant" or not node.size:
        return False
    first = np.asarray(node.value).flat[0]
    return filled(node, first) or bool(first != first and np.isnan(node.value).all())


def cut(node: Node) -> int | None:
    """The column where a slice of each row begins, or of the element that is taken of each; None if a node is neither."""
    if node.op != "getitem" or len(node.args[0].shape) != (1 if node.rank == CONSTANT else 2):
        return None
    return column(node.params["key"], node.args[0].shape)


def column(key: Any, shape: tuple[int, ...]) -> int | None:
    """The first column of what an index takes of all rows; None if that is not some columns side by side."""
    *rows, columns = plain_key(key, shape) if basic(key) else (None,)
    if rows != [slice(None)] * (len(shape) - 1):
        return None
    if isinstance(columns, slice):
        start, _, step = columns.indices(shape[-1])
        return start if step == 1 else None
    return columns % shape[-1] if isinstance(columns, int) else None


def first_column(place: Place) -> int:
    """The column of a buffer's rows where a value begins."""
    return sum(key[1].start or 0 for _, key in place.views)


class View(NamedTuple):
    """What a node shows: of which value, from which column on, and whether it is one column that is met again and again."""

    root: Node
    start: int
    one: bool


def view(node: Node) -> View:
    """What a node is, or is a view of."""
    start, one = 0, width(node) == 1
    while node.op in ("getitem", "broadcast_to", "reshape"):
        at = cut(node) if node.op == "getitem" else 0 if by_rows(node) or node.args[0].size == 1 else None
        if at is None:
            break
        node, start = node.args[0], start + at
        if width(node) == 1:  # of equal columns each is the first
            start, one = 0, True
    return View(node, start, one)
