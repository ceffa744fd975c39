"""The same values in fewer and longer operations. Each pass is a law of arithmetic, applied where it pays."""

from __future__ import annotations

import numpy as np

from .linear import linear, spread
from .norms import norms
from .pack import pack
from .program import CONSTANT, STATE, Node, Program, ordered, users
from .rebuild import rebuilt, roots
from .regroup import regroup
from .trace import Step


def improved(program: Program, step: Step) -> Step:
    """A step that gives the same."""
    step = pack(program, norms(program, step))
    step = rebuilt(program, step, lambda node, args: lower(program, node, args))
    step = regroup(program, step)
    if step.carries:
        step = linear(program, step)
        step = spread(program, step)
    return dots(program, step)


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
    if node.op == "div" and args[1].size * 4 <= node.size and args[1].op != "constant":
        return make("mul", x, inverse(program, args[1]))  # few divisions, many products
    if node.op == "clip":
        return make("minimum", make("maximum", x, args[1]), args[2])
    return None


def inverse(program: Program, x: Node) -> Node:
    """1 / x; of the root of a mean, without the division by how many there are."""
    make, above = program.make, program.constant(1)
    if x.op == "sqrt" and x.args[0].op == "add" and x.args[0].args[1].is_number and x.args[0].args[0].op == "div":
        (total, count), eps = x.args[0].args[0].args, x.args[0].args[1]
        if count.is_number:
            above = program.constant(float(np.sqrt(count.value)))
            x = make("sqrt", make("add", total, program.constant(count.value * eps.value)))
    return make("div", above, x)


def dots(program: Program, step: Step) -> Step:
    """Sums over features as products, which are quicker."""
    reading = users(ordered(roots(step)))

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
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

    return rebuilt(program, step, rule)
