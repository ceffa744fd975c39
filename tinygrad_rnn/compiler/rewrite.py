"""The same values in fewer and longer operations. Each pass is a law of arithmetic, applied where it pays."""

from __future__ import annotations

import numpy as np

from .broadcast import written_out
from .join import join
from .linear import linear, spread
from .memory import multiplied
from .norms import norms
from .pack import pack
from .planes import planes
from .program import CARRY, CONSTANT, STATE, Node, Program, ordered, sliced, users
from .rebuild import rebuilt, roots
from .regroup import regroup
from .trace import Step
from .widen import widen, widened


def improved(program: Program, step: Step) -> Step:
    """A step that gives the same."""
    step = pack(program, norms(program, step))
    step = rebuilt(program, step, lambda node, args: lower(program, node, args))
    step = regroup(program, step)
    if step.carries:
        step = linear(program, step)
        step = spread(program, step)
    order = ordered(roots(step))
    reading, rows, wide = users(order), join(program, step), widened(step, order)

    def one_by_one(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node in wide:
            return widen(program, node, args)
        return rows.get(node) or narrow(program, reading, node, args) or dots(program, reading, node, args)

    step = rebuilt(program, step, one_by_one)
    layer = planes(program, step)

    def laid_out(node: Node, args: tuple[Node, ...]) -> Node | None:
        made = layer(node, args) or (node if args == node.args else program.make(node.op, *args, **node.params))
        return written_out(program, made, made.args) or multiplied(program, made) or made

    return rebuilt(program, step, laid_out)


def lower(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """An op in terms of simpler ones, where those can be written into memory that is there already."""
    make, x = program.make, args[0] if args else node
    if node.op == "sigmoid" and node.rank >= STATE:
        half = program.constant(0.5)
        return make("add", make("mul", make("tanh", make("mul", x, half)), half), half)
    if node.op == "relu":
        return make("maximum", x, program.constant(0))
    if node.op == "mean" and node.dtype.kind == "f" and node.shape and x.dtype.itemsize > 2:
        count = int(np.prod([x.shape[a] for a in node.params["axis"]]))
        return make("div", make("sum", x, **node.params), program.constant(count))
    if node.op == "power" and args[1].is_number and args[1].value == 2:
        return make("mul", x, x)
    if node.op == "div" and args[1].size * 4 <= node.size and deviation(args[1]):
        return make("mul", x, inverse(program, args[1]))  # few divisions, many products
    if node.op == "clip":
        return make("minimum", make("maximum", x, args[1]), args[2])
    return None


def deviation(x: Node) -> bool:
    """Is this a root that an eps keeps from 0, so that its inverse is finite?"""
    return x.op == "sqrt" and x.args[0].op == "add" and x.args[0].args[1].is_number and x.args[0].args[1].value > 1e-30


def inverse(program: Program, x: Node) -> Node:
    """1 / x of a deviation; that of a mean without the division by how many there are."""
    make, above, (square, eps) = program.make, program.constant(1), x.args[0].args
    if square.op == "div" and square.args[1].is_number:
        total, count = square.args
        above = program.constant(float(np.sqrt(count.value)))
        x = make("sqrt", make("add", total, program.constant(count.value * eps.value)))
    return make("div", above, x)


def narrow(program: Program, reading: dict[Node, list[Node]], node: Node, args: tuple[Node, ...]) -> Node | None:
    """(g @ W)[:, a:b] = g @ W[:, a:b], if all that is read of the product are such pieces."""
    x = args[0] if args else node
    if node.rank < CARRY or sliced(node) is None or x.op != "matmul" or x.args[1].rank != CONSTANT:
        return None
    if len(x.shape) != 2 or any((cut := sliced(y)) is None or cut[0] != 1 for y in reading[node.args[0]]):
        return None
    return program.make("matmul", x.args[0], program.make("getitem", x.args[1], **node.params))


def dots(program: Program, reading: dict[Node, list[Node]], node: Node, args: tuple[Node, ...]) -> Node | None:
    """Sums over features as products, which are quicker."""
    if node.op != "sum" or node.rank == CONSTANT or node.dtype.kind != "f" or len(args[0].shape) != 2:
        return None
    if node.params["axis"] != (1,):
        return None
    x = args[0]
    if x.op == "mul" and x.args[0].shape == x.args[1].shape == x.shape and len(reading.get(node.args[0], ())) == 1:
        made = program.make("np.vecdot", *x.args)
    else:
        made = program.make("matmul", x, program.constant(np.ones(x.shape[1], x.dtype)))
    return program.make("reshape", made, shape=node.shape)
