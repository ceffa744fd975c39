"""The same values in fewer and longer operations. Each pass is a law of arithmetic, applied where it pays."""

from __future__ import annotations

import numpy as np

from .aligned import aligned_weights
from .broadcast import written_out
from .join import join
from .linear import linear, spread
from .norms import deviation, norms
from .pack import pack
from .planes import planes
from .program import CARRY, CONSTANT, STATE, Node, Program, ordered, sliced, users
from .rebuild import everywhere, rebuilt, roots
from .regroup import regroup
from .trace import Step
from .widen import widen


def improved(program: Program, step: Step) -> Step:
    """A step that gives the same; so it does in any order of the passes, but in this one each finds what it looks for."""
    for better in (
        norms,  # layer normalisation in simpler ops, its mean taken off the weights
        pack,  # activations side by side, while a sigmoid is a sigmoid
        lower,  # after this it is a tanh with factors,
        regroup,  # which go into the weights
        linear,  # factors of a gradient leave the loop,
        spread,  # and if they are side by side, they are one
        join,  # the state, the input and a 1 side by side
        widen,
        narrow,
        dots,  # of the sums that means have become
        planes,  # gates one after the other, when nothing looks for columns any more
        written_out,
        aligned_weights,  # copies of vectors and weights, as they are in the end
    ):
        step = better(program, step)
    return step


@everywhere
def lower(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """An op in terms of simpler ones, which can be written into memory that is there already, or are quicker."""
    make, x = program.make, args[0] if args else node
    if node.op == "sigmoid" and node.rank >= STATE:
        half = program.constant(0.5)
        return make("add", make("mul", make("tanh", make("mul", x, half)), half), half)
    if node.op == "relu":
        return make("maximum", x, program.constant(0))
    if node.op == "mean" and node.dtype.kind == "f" and node.shape and x.dtype.itemsize > 2:  # a sum of float16 may overflow
        count = int(np.prod([x.shape[a] for a in node.params["axis"]]))
        return make("div", make("sum", x, **node.params), program.constant(count))
    if node.op == "power" and args[1].is_number and args[1].value == 2 and x.dtype == node.dtype:
        return make("mul", x, x)
    if node.op == "div" and args[1].size * 4 <= node.size and deviation(args[1]):
        return make("mul", x, inverse(program, args[1]))  # few divisions, many products
    if node.op == "clip":
        return make("minimum", make("maximum", x, args[1]), args[2])
    return None


def inverse(program: Program, x: Node) -> Node:
    """1 / x of a deviation; that of a mean without the division by how many there are."""
    make, above, (square, eps) = program.make, program.constant(1), x.args[0].args
    if square.op == "div" and square.args[1].is_number:
        total, count = square.args
        above = program.constant(float(np.sqrt(count.value)))
        x = make("sqrt", make("add", total, program.constant(count.value * eps.value)))
    return make("div", above, x)


def narrow(program: Program, step: Step) -> Step:
    """(g @ W)[:, a:b] = g @ W[:, a:b], if all that is read of the product are such pieces."""
    reading = users(ordered(roots(step)))

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        x = args[0] if args else node
        if node.rank < CARRY or sliced(node) is None or x.op != "matmul" or x.args[1].rank != CONSTANT:
            return None
        if len(x.shape) != 2 or any((cut := sliced(y)) is None or cut[0] != 1 for y in reading[node.args[0]]):
            return None
        return program.make("matmul", x.args[0], program.make("getitem", x.args[1], **node.params))

    return rebuilt(program, step, rule)


def dots(program: Program, step: Step) -> Step:
    """Sums over features as products, which are quicker."""
    reading = users(ordered(roots(step)))

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op != "sum" or node.rank == CONSTANT or node.dtype.kind != "f" or len(args[0].shape) != 2:
            return None
        if node.params["axis"] != (1,):
            return None
        x = args[0]
        if x.op == "mul" and x.args[0].shape == x.args[1].shape == x.shape and len(reading[node.args[0]]) == 1:
            made = program.make("np.vecdot", *x.args)
        else:
            made = program.make("matmul", x, program.constant(np.ones(x.shape[1], x.dtype)))
        return program.make("reshape", made, shape=node.shape)

    return rebuilt(program, step, rule)
