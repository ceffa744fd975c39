"""Layer normalisation: its two ops in simpler ones, and the first of them as a property of the weights.

Taking its mean off each row of x @ W is x @ (W with the mean taken off its rows), and likewise on the way back: products let
`centre` through, to the parameters, or to the end of a sum over time. And what divides a row can do so on that side of a
product where the row is shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .program import CONSTANT, NORMS, STATE, Node, Program, ordered, users
from .rebuild import rebuilt, roots
from .trace import Step

SHORT = 64  # elements of a row, up to which a product with a square matrix is quicker than a mean and a difference


def norms(program: Program, step: Step) -> Step:
    """The step in simpler ops; but what is to be summed over time is centred after that."""
    if not any(node.op in NORMS for node in ordered(roots(step))):
        return step
    step = through_products(program, step)
    later = {g for g in step.gradients.values() if g.op == "centre"}

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op not in NORMS or node in later:
            return None
        if by_rows(node) and node.rank > STATE and node.shape[1] <= SHORT:
            return program.make("matmul", args[0], centring(program, node))
        return expanded(program, node.op, args[0], **node.params)

    return rebuilt(program, step, rule)


def centring(program: Program, node: Node) -> Node:
    """The matrix whose product with a row takes its mean off: one operation where there would be three. For gradients alone,
    since it leaves a little of a constant row, which the norm would make large."""
    n = node.shape[1]
    matrix = program.constant((np.eye(n) - 1 / n).astype(node.dtype))
    matrix.name = "centring"
    return matrix


def through_products(program: Program, step: Step) -> Step:
    """`centre` of a product as a product with weights that are centred once, and divisions of rows where they are short."""
    make, reading = program.make, users(ordered(roots(step)))

    def centred(w: Node, axis: int) -> Node:
        if w.op == "transpose":
            return make("transpose", centred(w.args[0], 1 - axis), axes=(1, 0))
        return make("centre", w, axis=(axis,))

    def product(a: Node, b: Node) -> Node:
        if by_rows(a) and b.rank == CONSTANT and a.dtype == b.dtype:
            return product(a.args[0], centred(b, 0))
        if by_rows(b):
            return make("centre", product(a, b.args[0]), axis=(1,))
        if divided(a) and b.shape[1] < b.shape[0]:
            return make("div", product(a.args[0], b), a.args[1])
        if divided(b) and a.op == "transpose" and a.shape[0] < b.shape[1]:
            return product(make("transpose", make("div", a.args[0], b.args[1]), axes=(1, 0)), b.args[0])
        return make("matmul", a, b)

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if any(len(x.shape) != 2 for x in args):
            return None
        if node.op == "centre" and by_rows(node) and args[0].op == "matmul" and len(reading[node.args[0]]) == 1:
            x, w = args[0].args
            return make("matmul", x, centred(w, 1)) if w.rank == CONSTANT and w.dtype == node.dtype else None
        if node.op == "matmul":
            return product(*args)
        if node.op == "transpose" and by_rows(args[0]):
            return make("centre", make("transpose", args[0].args[0], axes=(1, 0)), axis=(0,))
        return None

    return rebuilt(program, step, rule)


def by_rows(node: Node) -> bool:
    """Is the mean taken off each row of a matrix?"""
    return node.op == "centre" and node.params["axis"] == (1,) and len(node.shape) == 2 and node.rank > CONSTANT


def divided(node: Node) -> bool:
    """Is this a matrix with a deviation that divides each row?"""
    if node.op != "div" or not deviation(node.args[1]):
        return False
    return node.args[0].shape == node.shape and node.args[1].shape == (node.shape[0], 1)


def deviation(x: Node) -> bool:
    """Is this a root that an eps keeps from 0, so that its inverse is finite?"""
    return x.op == "sqrt" and x.args[0].op == "add" and x.args[0].args[1].is_number and x.args[0].args[1].value > 1e-30


def expanded(maker: Any, op: str, x: Node, axis: tuple[int, ...], eps: float = 0) -> Node:
    """x - mean(x), or x / sqrt(mean(x * x) + eps)."""
    make: Callable[..., Node] = maker.make
    if op == "centre":
        return make("sub", x, make("mean", x, axis=axis, keepdims=True))
    squares = make("mean", make("mul", x, x), axis=axis, keepdims=True)
    return make("div", x, make("sqrt", make("add", squares, maker.constant(eps))))
