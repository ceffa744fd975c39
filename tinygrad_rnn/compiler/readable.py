"""A step as one writes it by hand: equal values by the laws of school algebra, so that the derivatives look familiar.

g - g*y*y -> g * (1 - y**2)    y - y*y -> y * (1 - y)    g*x - g*y -> g * (x - y)    sum / n -> mean    (a.T @ b).T -> b.T @ a
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .norms import expanded
from .program import NORMS, Node, Program
from .rebuild import rebuilt
from .trace import Step


def readable(step: Step, without: Collection[str] = ()) -> Step:
    """A step of equal values in familiar forms. The gradients of the outputs named in `without` are zero, and leave it."""
    maker, zero = Maker(), {step.seeds[name] for name in without}

    def rule(node: Node, args: tuple[Node, ...]) -> Node:
        if node in zero:
            return maker.constant(np.zeros(node.shape, node.dtype))
        if node.op == "constant":
            return maker.constant(node.value)
        return maker.make(node.op, *args, **node.params) if args else node

    made = rebuilt(maker.program, step, rule)
    return made._replace(seeds={name: n for name, n in step.seeds.items() if name not in without})


class Maker:
    """Makes nodes in the form in which one would write them."""

    def __init__(self) -> None:
        self.program = Program()
        self.constant = self.program.constant

    def make(self, op: str, *args: Node, **params: Any) -> Node:
        """The node of an op on these arguments, or one that equals it and reads better."""
        if op in NORMS:
            return expanded(self, op, args[0], **params)
        plain = self.program.make(op, *args, **params)
        if plain.op != op or plain.args != args:
            return plain
        if op in ("add", "sub", "mul", "div"):
            better = getattr(self, op)(*args)
            return better if better is not None and better.shape == plain.shape and better.dtype == plain.dtype else plain
        return self.moved(plain) or plain

    def add(self, x: Node, y: Node) -> Node | None:
        """x + y."""
        if x is y:
            return self.times(x, 2)
        if y.op == "neg":
            return self.make("sub", x, y.args[0])
        if x.op == "neg":
            return self.make("sub", y, x.args[0])
        if x.op == "add" and y in x.args:
            return self.make("add", x.args[x.args[0] is y], self.times(y, 2))
        return self.factored("add", x, y)

    def sub(self, x: Node, y: Node) -> Node | None:
        """x - y."""
        if y.op == "neg":
            return self.make("add", x, y.args[0])
        if y.op == "power" and y.args == (x, self.constant(2)):
            return self.make("mul", x, self.make("sub", self.constant(1), x))
        if y.op == "mul" and y.args[0].op == "mul" and y.args[0].args == (x, y.args[1]):
            return self.make("mul", x, self.make("sub", self.constant(1), self.make("power", y.args[1], self.constant(2))))
        if x.op == "sub" and x.args[1] is y:
            return self.make("sub", x.args[0], self.times(y, 2))
        return self.factored("sub", x, y)

    def factored(self, op: str, x: Node, y: Node) -> Node | None:
        """g * a - g * b as g * (a - b)."""
        if x.op == y.op == "mul" and x.args[0] is y.args[0]:
            return self.make("mul", x.args[0], self.make(op, x.args[1], y.args[1]))
        return None

    def mul(self, x: Node, y: Node) -> Node | None:
        """x * y."""
        if x is y:
            return self.make("power", x, self.constant(2))
        return self.make("neg", self.make("mul", x.args[0], y)) if x.op == "neg" else None

    def div(self, x: Node, y: Node) -> Node | None:
        """x / y."""
        if x.op == "neg":
            return self.make("neg", self.make("div", x.args[0], y))
        if not y.is_number:
            return None
        if x.op == "div" and not x.args[1].is_number:
            return self.make("div", self.make("div", x.args[0], y), x.args[1])
        if x.op == "sum" and y.value == np.prod([x.args[0].shape[a] for a in x.params["axis"]]):
            return self.make("mean", x.args[0], **x.params)
        if x.op == "mul" and x.args[1].is_number:
            return self.make("mul", self.make("div", x.args[0], y), x.args[1])
        return None

    def times(self, x: Node, k: float) -> Node:
        """k * x."""
        taken = self.taken_in(x, k)
        return self.make("mul", self.constant(k), x) if taken is None else taken

    def taken_in(self, x: Node, k: float) -> Node | None:
        """k * x, where a number inside of x becomes another one, or None."""
        above = []
        while x.op in ("mul", "div", "sum", "mean", "reshape", "transpose") and not (x.op == "mul" and x.args[1].is_number):
            above.append(x)
            x = x.args[0]
        if x.op != "mul":
            return None
        k *= x.args[1].value
        x = x.args[0] if k == 1 else self.make("mul", x.args[0], self.constant(k))
        for node in reversed(above):
            x = self.make(node.op, x, *node.args[1:], **node.params)
        return x

    def moved(self, node: Node) -> Node | None:
        """Sums that keep their axes, signs in front, and products of transposes the right way round."""
        op, x = node.op, node.args[0]
        if op in ("sum", "reshape") and x.op == "neg":
            return self.make("neg", self.make(op, x.args[0], **node.params))
        if op == "reshape" and x.op == "sum" and not x.params["keepdims"]:
            axes, whole = x.params["axis"], x.args[0]
            if node.shape == tuple(1 if i in axes else n for i, n in enumerate(whole.shape)):
                return self.make("sum", whole, axis=axes, keepdims=True)
        if (
            op == "transpose"
            and x.op == "matmul"
            and x.args[0].op == "transpose"
            and len(x.shape) == len(x.args[1].shape) == 2
        ):
            return self.make("matmul", self.make("transpose", x.args[1], axes=(1, 0)), x.args[0].args[0])
        if op.startswith("np.") and len(node.args) == 2 and node.args[1].op == "constant" and node.args[1].shape == ():
            other = node.args[1]  # a number that was made an array on the way
            return None if other.is_number else self.make(op, x, self.constant(other.value.item()))
        return None
