"""Sums in the order in which their terms are known, and factors pushed into the parameters.

a + (h + b) = (a + b) + h, where a + b is known before the loop; (x @ W) * s = x @ (W * s), where W * s is.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from .program import CONSTANT, STATE, Node, Program, ordered, sliced, users
from .rebuild import rebuilt, replaced, roots
from .trace import Step


def regroup(program: Program, step: Step) -> Step:
    """Sums in the order in which their terms are known, and factors of them pushed into the parameters."""
    step, tried = sums(program, step), set[Node]()
    while True:
        order = ordered(roots(step))
        node = next((n for n in order if n not in tried and scaled_activation(n)), None)
        if node is None:
            return sums(program, step)
        tried.add(node)
        scaling = Scaling(program, users(order))
        x, s = node.args[0].args
        by = scaling.times(x, s)
        if by is not None:
            step = replaced(program, step, {node: program.make("tanh", by)})
            step = replaced(program, step, scaling.swap)  # also in what has just been made


def scaled_activation(node: Node) -> bool:
    """tanh(x * s) with a constant s, in a loop."""
    return node.op == "tanh" and node.rank == STATE and node.args[0].op == "mul" and node.args[0].args[1].op == "constant"


def sums(program: Program, step: Step) -> Step:
    """Add first what is known first."""
    reading = users(ordered(roots(step)))
    final = set(roots(step))

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op != "add" or node.rank != STATE:
            return None
        terms: list[Node] = []
        stack = list(reversed(args))
        while stack:
            x = stack.pop()
            if x.op == "add" and x.shape == node.shape and x not in final and len(reading.get(x, ())) <= 1:
                stack += reversed(x.args)
            else:
                terms.append(x)
        if len(terms) == 2:
            return None
        terms.sort(key=lambda x: x.rank)
        total = terms[0]
        for x in terms[1:]:
            total = program.make("add", total, x)
        return total

    return rebuilt(program, step, rule)


class Scaling:
    """x * s without a multiplication at run time: in the parameters that x is made of."""

    def __init__(self, program: Program, reading: dict[Node, list[Node]]) -> None:
        self.program, self.reading = program, reading
        self.swap: dict[Node, Node] = {}  # slices of what was scaled elsewhere

    def times(self, x: Node, s: Node, shared: bool = False) -> Node | None:
        """x * s; None if that takes a multiplication in the loop. `shared`: whatever else reads x is seen to."""
        make = self.program.make
        by: Node | None = None
        if x.rank == STATE and len(self.reading.get(x, ())) > 1 and x.op != "getitem" and not shared:
            return None
        if x.op == "add" and x.rank != CONSTANT:
            parts = [self.times(y, s) for y in x.args]
            by = make("add", *filter(None, parts)) if all(parts) else None
        elif x.op == "matmul" and x.args[1].rank == CONSTANT and len(x.args[1].shape) == 2:
            by = make("matmul", x.args[0], make("mul", x.args[1], s))
        elif x.op == "mul":
            u, v = x.args
            if v.rank == CONSTANT:
                by = make("mul", u, make("mul", v, s))
            elif u.rank == CONSTANT:
                by = make("mul", make("mul", u, s), v)
        elif x.op == "concatenate" and x.rank != CONSTANT and x.params["axis"] == 1 == len(x.shape) - 1:
            ends = accumulate(y.shape[-1] for y in x.args)
            cuts = [
                make("getitem", s, key=(slice(e - y.shape[-1], e),)) if s.shape else s
                for y, e in zip(x.args, ends, strict=True)
            ]
            parts = list(map(self.times, x.args, cuts))
            by = make("concatenate", *filter(None, parts), **x.params) if all(parts) else None
        elif x.op == "reshape" and s.shape in ((), x.shape[-1:]):
            inner = x.args[0]
            if x.shape[:1] == inner.shape[:1] and len(x.shape) == 2:
                by = self.times(inner, make("reshape", s, shape=inner.shape[1:]) if s.shape else s)
                by = by and make("reshape", by, shape=x.shape)
        elif x.op == "getitem":
            by = self.times_slice(x, s)
        return make("mul", x, s) if by is None and x.rank < STATE else by

    def times_slice(self, x: Node, s: Node) -> Node | None:
        """Some columns times s: all of them times s there and 1 elsewhere, if the rest is read in other slices only."""
        cut, whole = sliced(x), x.args[0]
        if cut is None or cut[0] != 1 or len(whole.shape) != 2 or s.op != "constant":
            return None
        rest = [n for n in self.reading[whole] if n is not x]
        others = [sliced(n) for n in rest]
        if any(o is None or o[0] != 1 or not (o[2] <= cut[1] or o[1] >= cut[2]) for o in others):
            return None
        vector = np.ones(whole.shape[1], x.dtype)
        vector[cut[1] : cut[2]] = s.value
        scale = self.program.constant(vector)
        scale.name = "scale"
        by = self.times(whole, scale, shared=True)
        if by is None:
            return None
        for n in rest:
            self.swap[n] = self.program.make("getitem", by, key=n.params["key"])
        return self.program.make("getitem", by, key=x.params["key"])
