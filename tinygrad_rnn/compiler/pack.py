"""Activations that lie side by side, computed together: tanh(z[:, :H]), sigmoid(z[:, H:]) -> tanh(z * s) * p + q."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .program import CONSTANT, STATE, Node, Program, elementwise, ordered, sliced
from .rebuild import replaced
from .trace import Step


def pack(program: Program, step: Step) -> Step:
    """Do together the activations that are ready at the same time and whose arguments lie side by side."""
    level, deepest = 1, 1
    while level <= deepest:  # from the first to the last, since what is replaced is part of what comes later
        depth: dict[Node, int] = {}
        ready: dict[tuple[int, str], list[Node]] = {}
        for node in ordered(step.new):
            depth[node] = max((depth[x] for x in node.args), default=0)
            if node.op in ("sigmoid", "tanh") and node.rank == STATE and len(node.shape) == 2:
                depth[node] += 1
                if depth[node] == level:
                    ready.setdefault((node.shape[0], node.dtype.str), []).append(node)
        swap: dict[Node, Node] = {}
        for nodes in ready.values():
            swap |= pack_some(program, sorted(nodes, key=lane))
        step = replaced(program, step, swap)
        level, deepest = level + 1, max(depth.values(), default=0)
    return step


def pack_some(program: Program, nodes: list[Node]) -> dict[Node, Node]:
    """Of these activations, as many as possible at a time: what each becomes."""
    swap: dict[Node, Node] = {}
    while len(nodes) > 1:
        count, together = next(
            ((n, made) for n in range(len(nodes), 1, -1) if (made := packed(program, nodes[:n])) is not None), (1, None)
        )
        if together is not None:
            together.named("".join(n.name or "" for n in nodes[:count]) or None)
            start = 0
            for node in nodes[:count]:
                swap[node] = program.make("getitem", together, key=columns(start, start + node.shape[1]))
                start += node.shape[1]
        nodes = nodes[count:]
    return swap


def lane(node: Node) -> int:
    """Where the first slice that a value is made of begins."""
    return next((s[1] for s in map(sliced, ordered([node])[::-1]) if s is not None), 1 << 62)


def columns(start: int, stop: int) -> tuple[slice, slice]:
    """The index of some columns."""
    return slice(None), slice(start, stop)


def packed(program: Program, nodes: Sequence[Node]) -> Node | None:
    """One node that has the columns of all of these side by side, if it takes no copying."""
    first, make = nodes[0], program.make
    if all(n.rank == CONSTANT for n in nodes):
        return packed_constants(program, nodes)
    if any(len(n.shape) != 2 or n.rank == CONSTANT for n in nodes):
        return None
    cuts = [sliced(n) for n in nodes]
    if all(cut is not None and cut[0] == 1 and n.args[0] is first.args[0] for cut, n in zip(cuts, nodes, strict=True)):
        bounds = [cut[1:] for cut in cuts if cut is not None]
        if all(a[1] == b[0] for a, b in pairwise(bounds)):
            whole = (bounds[0][0], bounds[-1][1]) == (0, first.args[0].shape[1])
            return first.args[0] if whole else make("getitem", first.args[0], key=columns(bounds[0][0], bounds[-1][1]))
        return None
    if {n.op for n in nodes} <= {"sigmoid", "tanh"}:
        below = packed(program, [n.args[0] for n in nodes])
        return None if below is None else activation(program, below, nodes)
    if any(n.op != first.op or n.params != first.params or n.shape != first.shape for n in nodes) or not elementwise(first):
        return None
    return packed_op(program, nodes)


def packed_constants(program: Program, nodes: Sequence[Node]) -> Node | None:
    """Constants side by side."""
    first = nodes[0]
    if all(n is first for n in nodes) and first.shape == ():
        return first
    if any(len(n.shape) != 1 or n.dtype != first.dtype for n in nodes):
        return None
    return program.make("concatenate", *nodes, axis=0)


def packed_op(program: Program, nodes: Sequence[Node]) -> Node | None:
    """The same op on all; if they share an argument, each by itself, with the results side by side."""
    first, count, (rows, width) = nodes[0], len(nodes), nodes[0].shape
    if any(x.shape not in ((rows, width), (width,), ()) for n in nodes for x in n.args):
        return None
    args: list[Node] = []
    for each in zip(*(n.args for n in nodes), strict=True):
        if all(x is each[0] for x in each) and each[0].shape == (rows, width):
            return program.make("concatenate", *nodes, axis=1)
        found = packed(program, each)
        if found is None:
            return None
        args.append(found)
    made = program.make(first.op, *args, **first.params)
    return made if made.shape == (rows, count * width) else None


def activation(program: Program, x: Node, nodes: Sequence[Node]) -> Node:
    """tanh(x * s) * p + q, which in a column of a sigmoid is sigmoid(x), and in one of a tanh is tanh(x)."""
    if all(n.op == "tanh" for n in nodes):
        return program.make("tanh", x)
    if all(n.op == "sigmoid" for n in nodes):
        return program.make("sigmoid", x)

    def vector(name: str, sigmoid: float, tanh: float) -> Node:
        values = [np.full(n.shape[1], sigmoid if n.op == "sigmoid" else tanh, x.dtype) for n in nodes]
        made = program.constant(np.concatenate(values))
        made.name = name
        return made

    scale = vector("scale", 0.5, 1)
    inner = program.make("tanh", program.make("mul", x, scale))
    return program.make("add", program.make("mul", inner, scale), vector("offset", 0.5, 0))
