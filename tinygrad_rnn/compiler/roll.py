"""From one step to all of them: the gradient of what every step reads is a sum over time, taken at the end where it can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .norms import expanded
from .program import CARRY, CONSTANT, Node, Program, ordered, users
from .rebuild import roots
from .trace import Step


class Rolled(NamedTuple):
    """The program of a whole sequence: a step, with what is made of it over time."""

    given: dict[str, Node]
    states: tuple[Node, ...]  # the old ones: given
    externals: tuple[Node, ...]  # given
    new: tuple[Node, ...]
    outputs: dict[str, Node]
    seeds: dict[str, Node]  # given
    carries: tuple[Node, ...]  # given
    back: tuple[Node, ...]  # what the carries become; () if there is no way back
    dx: Node | None
    totals: tuple[Node | None, ...]  # of the externals: gradients summed over all steps

    def forward_roots(self) -> list[Node]:
        """What the forward pass is for."""
        return [*self.new, *self.outputs.values()]

    def backward_roots(self) -> list[Node]:
        """What the backward pass is for."""
        return [*self.back, *(node for node in (self.dx, *self.totals) if node is not None)]


def roll(program: Program, step: Step) -> Rolled:
    """The program of all steps."""
    reading = users(ordered(roots(step)))
    zero = {h: program.make("broadcast_to", program.constant(h.dtype.type(0).reshape(())), shape=h.shape) for h in step.states}
    found = {of: kept(program, g) for of, g in step.gradients.items() if of not in step.states}
    found |= {h: step.gradients[h] for h in step.states if h in step.gradients}
    back = tuple(found.get(h, zero[h]) for h in step.states) if step.carries else ()
    return Rolled(
        step.given,
        step.states,
        tuple(step.externals.values()),
        step.new,
        step.outputs,
        step.seeds,
        step.carries,
        back,
        found.get(step.given["x"]),
        tuple(total(program, reading, found[e]) if e in found else None for e in step.externals.values()),
    )


def kept(program: Program, x: Node) -> Node:
    """A value of every step; a carry is there during its own step only, so it is copied."""
    return program.make("np.positive", x) if x.rank == CARRY and not x.args else x


def total(program: Program, reading: Mapping[Node, list[Node]], g: Node) -> Node:
    """The sum over all steps of what one step gives."""
    make = program.make
    if g.op in ("add", "sub") and g.args[0].shape == g.args[1].shape:
        node = make(g.op, *(total(program, reading, x) for x in g.args))
    elif g.op == "neg":
        node = make("neg", total(program, reading, g.args[0]))
    elif g.op == "mul" and g.args[1].rank == CONSTANT and g.args[0].shape == g.shape:
        node = make("mul", total(program, reading, g.args[0]), g.args[1])
    elif g.op == "centre":
        node = expanded(program, "centre", total(program, reading, g.args[0]), **g.params)
    elif g.op == "scatter":
        node = make("scatter", *(total(program, reading, x) for x in g.args), **g.params)
    elif g.op == "reshape":
        node = make("reshape", total(program, reading, g.args[0]), **g.params)
    elif g.op == "matmul" and turned(g.args[0]):
        a, b = g.args  # the sum of a.T @ b is one product of long matrices
        node = make("product", kept(program, a.args[0]), kept(program, b))
    elif g.op == "transpose" and g.args[0].op == "matmul" and turned(g.args[0].args[0]) and len(g.shape) == 2:
        a, b = g.args[0].args
        node = make("product", kept(program, b), kept(program, a.args[0]))
    elif g.op == "transpose":
        node = make("transpose", total(program, reading, g.args[0]), **g.params)
    elif g.op == "sum":
        x, axes = g.args[0], g.params["axis"]
        if axes == (0,) and x.op == "mul" and matrices(*x.args) and len(reading[x]) == 1:
            node = make("columns", *(kept(program, y) for y in x.args))
        else:
            node = make("total", kept(program, x), axes=axes)
        if g.params["keepdims"]:
            node = make("reshape", node, shape=g.shape)
    else:
        node = make("total", kept(program, g), axes=())
    return node.named(g.name)


def matrices(a: Node, b: Node) -> bool:
    """Are these two matrices of one shape, both with a value at every step?"""
    return len(a.shape) == 2 and a.shape == b.shape and a.rank != CONSTANT != b.rank


def turned(x: Node) -> bool:
    """Is this the transpose of a matrix?"""
    return x.op == "transpose" and len(x.shape) == 2
