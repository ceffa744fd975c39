"""A step in operations that go row by row: before it becomes C, in place of what rewrite.py does for NumPy."""

from __future__ import annotations

from typing import Any

from ..norms import expanded
from ..program import CONSTANT, NORMS, Node, Program, elementwise, frozen, ordered, users
from ..rebuild import everywhere, rebuilt, roots
from ..trace import Step
from .c_text import CHEAP
from .rows import by_rows, cut, width
from .simpler import simpler


def lowered(program: Program, step: Step) -> Step:
    """The step in operations that go row by row, slices taken before the operations whose results they are of."""
    return pieces(program, simpler(program, without_norms(program, centred_early(program, step))))


@everywhere
def centred_early(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """(g - z * mean(g * z)) / r, less its mean, as (g - mean(g) - z * mean(g * z)) / r, if z has none: both means at once."""
    return centre(program, args[0], node.params["axis"]) if node.op == "centre" and node.rank > CONSTANT else None


def centre(program: Program, x: Node, axis: tuple[int, ...]) -> Node:
    """A matrix less its mean, which is taken off where there still is one."""
    if centred(x, axis):
        return x
    if scaled(x, axis):
        return program.make(x.op, centre(program, x.args[0], axis), x.args[1])
    alike = all(part.shape == x.shape for part in x.args)  # the mean of a number or of a bias is another
    if x.op in ("add", "sub") and alike and any(centred(part, axis) for part in x.args):
        return program.make(x.op, *(centre(program, part, axis) for part in x.args))
    return program.make("centre", x, axis=axis)


def centred(x: Node, axis: tuple[int, ...]) -> bool:
    """Has a matrix no mean, by what it is made of?"""
    if x.op == "centre":
        return bool(x.params["axis"] == axis)
    return (x.op == "rms_norm" or scaled(x, axis)) and centred(x.args[0], axis)


def scaled(x: Node, axis: tuple[int, ...]) -> bool:
    """Is all that a mean is of multiplied or divided by one number?"""
    if x.op not in ("mul", "div") or x.args[0].shape != x.shape or not x.args[1].shape:
        return False
    one_each = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
    return x.args[1].shape == one_each != x.shape


@everywhere
def without_norms(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """Layer normalisation as what it is made of."""
    return expanded(program, node.op, args[0], **node.params) if node.op in NORMS and node.rank > CONSTANT else None


def sliced(node: Node) -> bool:
    """Are these some columns of a matrix?"""
    return cut(node) is not None and len(node.shape) == 2


def pieces(program: Program, step: Step) -> Step:
    """(a + b)[:, i:j] as a[:, i:j] + b[:, i:j] where the sum is read in pieces; likewise other operations."""
    apart, new = read_in_pieces(step), set[Node]()  # new: the same, as they are made anew
    known: dict[Any, Node] = {}

    def piece(node: Node, key: Any) -> Node:
        if not node.shape or node.shape[-1] == 1:
            return node
        this = node, frozen(key)
        if this not in known:
            if node in new and elementwise(node):  # it may have become something simpler
                known[this] = program.make(node.op, *(piece(x, key) for x in node.args), **node.params)
            else:
                known[this] = program.make("getitem", node, key=key[-len(node.shape) :])
        return known[this]

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node in apart:
            made = program.make(node.op, *args, **node.params)
            new.add(made)
            return made
        return piece(args[0], node.params["key"]) if sliced(node) and node.args[0] in apart else None

    return rebuilt(program, step, rule)


def read_in_pieces(step: Step) -> set[Node]:
    """The elementwise operations of whose results nothing but slices is read.

    What is cheap may also be read whole: on the way back, where it is computed again, or if it is made of one array alone.
    """
    order, ahead = ordered(roots(step)), set(ordered([*step.new, *step.outputs.values()]))
    reading, wanted = users(order), set(roots(step))
    apart: set[Node] = set()
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
    return apart
