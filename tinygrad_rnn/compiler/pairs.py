"""Which node of the way back is the gradient of which node of the way forward, as far as that can be told from the program.

A trace names the gradients of what has a name. From there: the slope of an activation leads to its argument, sums and products
pass gradients on, and what was split has the gradients of its parts, joined. Only what is read once has one such gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .program import SEED, Node, ordered
from .trace import Step

ACTIVATIONS = ("sigmoid", "tanh", "relu")


class Pairs:
    """`of` has the gradients found. `way`: the way forward; `reading`: the readers of its nodes; `parts`: what is split."""

    def __init__(
        self, step: Step, way: Sequence[Node], reading: Mapping[Node, list[Node]], parts: Mapping[Node, tuple[Node, ...]]
    ) -> None:
        self.step, self.reading, self.parts = step, reading, parts
        self.back = [n for n in ordered(step.gradients.values()) if n.rank >= SEED and n.args]
        self.known = {(n.op, n.args): n for n in self.back}
        self.of: dict[Node, Node] = {}
        self.by_name(way)
        self.by_slope()
        for x in reversed(way):
            self.of_product(x)
            self.of_parts(x)
            self.passed_on(x)

    def once(self, node: Node) -> bool:
        """Is a node computed, and read by one other only?"""
        return bool(node.args) and len(self.reading.get(node, ())) == 1

    def by_name(self, way: Sequence[Node]) -> None:
        """What the trace has named, if it has named only one so; and a new state that the step itself does not read."""
        final = set(self.step.gradients.values())
        named = {f"d{n.name}": n for n in way if n.args and n.name}
        there, here = Counter(n.name for n in way if n.args), Counter(n.name for n in self.back if n not in final)
        for g in self.back:
            x = named.get(g.name or "")
            if x is not None and g not in final and there[x.name] == here[g.name] == 1:
                self.of[x] = g
        for new, carry in zip(self.step.new, self.step.carries, strict=False):  # without gradients, no carries
            for seed in self.step.seeds.values():
                if new not in self.reading and ("add", (carry, seed)) in self.known:
                    self.of.setdefault(new, self.known["add", (carry, seed)])

    def by_slope(self) -> None:
        """g * slope of an activation is the gradient of its argument."""
        for g in self.back:
            y = activation(g.args[1]) if g.op == "mul" else None
            if y is not None and self.once(y.args[0]):
                self.of.setdefault(y.args[0], g)

    def of_product(self, x: Node) -> None:
        """The gradient of W in y @ W.T is g.T @ y."""
        dw = self.step.gradients.get(unturned(x.args[1])) if x.op == "matmul" else None
        if dw is not None and dw.op == "matmul" and dw.args[0].op == "transpose" and dw.args[1] is x.args[0]:
            self.of.setdefault(x, dw.args[0].args[0])

    def of_parts(self, x: Node) -> None:
        """The gradients of all parts, joined: these very ones, or the only ones of these shapes."""
        parts = self.parts.get(x, ())
        if x in self.of or not parts:
            return
        exact = self.known.get(("concatenate", tuple(self.of.get(part, part) for part in parts)))
        shapes = [part.shape for part in parts]
        alike = [g for g in self.back if g.op == "concatenate" and [y.shape for y in g.args] == shapes]
        joined = exact or (alike[0] if len(alike) == 1 else None)
        if joined is not None:
            self.of[x] = joined
            for part, g in zip(parts, joined.args, strict=True):
                self.of.setdefault(part, g)

    def passed_on(self, x: Node) -> None:
        """From a result to its arguments: g through a sum, g * y through x * y, g / y through x / y, g @ W through x @ W.T."""
        g = self.of.get(x)
        if g is None or len(x.args) != 2:
            return
        for i, y in enumerate(x.args):
            other = x.args[1 - i]
            if not self.once(y) or y in self.of:
                continue
            if x.op == "add" and y.shape == g.shape:
                self.of[y] = g
            elif (x.op == "mul" and y.shape == g.shape) or (x.op in ("div", "matmul") and i == 0):
                share = self.known.get((x.op, (g, unturned(other) if x.op == "matmul" else other)))
                if share is not None:
                    self.of[y] = share


def unturned(node: Node) -> Node:
    """What a transpose is of."""
    return node.args[0] if node.op == "transpose" else node


def activation(slope: Node) -> Node | None:
    """The activation whose slope this is: y * (1 - y), 1 - y**2 or y > 0."""
    x, y = slope.args if len(slope.args) == 2 else (slope, slope)
    if slope.op == "mul" and y.op == "sub" and y.args[1] is x and x.op == "sigmoid":
        return x
    if slope.op == "sub" and y.op == "power" and y.args[0].op == "tanh":
        return y.args[0]
    return x if slope.op == "np.greater" and x.op == "relu" else None
