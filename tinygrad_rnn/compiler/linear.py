"""A gradient that is carried is only ever added and multiplied, so what multiplies it can leave the loop.

g * y - g * y * out * out = g * k with k = y - y * out * out. And neighbours: [g * k0, g * k1] = g * [k0, k1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .pack import columns
from .program import CARRY, CONSTANT, Node, Program, filled, ordered, users
from .rebuild import replaced, roots
from .trace import Step


class Term(NamedTuple):
    """A value times factors that do not depend on the carry: those that are not larger than it, and those that are."""

    x: Node
    small: Node | None = None
    large: Node | None = None

    def times(self, program: Program, by: Node, op: str = "mul") -> Term:
        """The term times a factor, or divided by it."""
        which = "small" if by.size <= self.x.size else "large"
        factor = getattr(self, which)
        if factor is None and op == "div":
            factor = program.constant(1)
        return self._replace(**{which: by if factor is None else program.make(op, factor, by)})

    def node(self, program: Program) -> Node:
        """The product."""
        made = self.x
        for factor in (self.small, self.large):
            made = made if factor is None else program.make("mul", made, factor)
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the product."""
        return np.broadcast_shapes(*(x.shape for x in self if x is not None))


Terms = list[Term]  # of a sum


def linear(program: Program, step: Step) -> Step:
    """Each gradient as a sum of few others times factors that leave the loop."""
    order = ordered(roots(step))
    reading, final = users(order), set(roots(step))
    forms: dict[Node, Terms] = {}
    new: dict[Node, Node] = {}

    def value(node: Node) -> Node:
        """The node made from its terms."""
        if node not in new:
            made, *rest = (term.node(program) for term in forms[node])
            for term in rest:
                made = program.make("add", made, term)
            new[node] = made.named(node.name)
        return new[node]

    for node in order:
        if node.rank != CARRY or not node.args:
            forms[node] = [Term(node)]
            new[node] = node
            continue
        terms = multiplied(program, node, forms)
        if terms is None:
            new[node] = program.make(node.op, *(value(x) for x in node.args), **node.params).named(node.name)
            forms[node] = [Term(new[node])]
            continue
        forms[node] = terms
        often = len(reading.get(node, ())) + (node in final) > 1
        plain = all(term.small is term.large is None for term in terms)
        if (len(terms) > 1 and (often or plain)) or (often and scaled(terms)):
            forms[node] = [Term(value(node))]
    return step._replace(gradients={of: value(g) for of, g in step.gradients.items()})


def scaled(terms: Terms) -> bool:
    """Is this one value times parameters? To fold those into other factors, at every step, would not pay."""
    small, large = terms[0].small, terms[0].large
    return len(terms) == 1 and large is None and small is not None and small.rank == CONSTANT and small.op != "constant"


def multiplied(program: Program, node: Node, forms: dict[Node, Terms]) -> Terms | None:
    """The terms of a node, if it is linear in those of its arguments, element by element or summed over some axes."""
    args, minus = node.args, program.constant(-1)
    if node.op == "neg":
        found = [term.times(program, minus) for term in forms[args[0]]]
    elif node.op in ("add", "sub") and args[0].shape == args[1].shape:
        found = list(forms[args[0]])
        for term in forms[args[1]]:
            term = term if node.op == "add" else term.times(program, minus)
            at = next((i for i, other in enumerate(found) if other.x is term.x and other.large is term.large), None)
            if at is None:
                found.append(term)
            else:
                found[at] = term._replace(small=added(program, found[at].small, term.small))
    elif node.op == "mul" and args[0].rank == CARRY and args[1].rank < CARRY:
        found = [term.times(program, args[1]) for term in forms[args[0]]]
    elif node.op == "mul" and args[1].rank == CARRY and args[0].rank < CARRY:
        found = [term.times(program, args[0]) for term in forms[args[1]]]
    elif node.op == "div" and args[1].rank < CARRY:
        found = [term.times(program, args[1], "div") for term in forms[args[0]]]
    elif node.op in ("sum", "reshape") and all(k is None or k.shape == () for term in forms[args[0]] for k in term[1:]):
        found = [
            term._replace(x=program.make(node.op, term.x, **node.params))
            for term in forms[args[0]]
            if term.x.shape == args[0].shape
        ]
        if len(found) < len(forms[args[0]]):
            return None
    elif node.op == "broadcast_to":
        found = forms[args[0]]
    else:
        return None
    if any(term.shape != node.shape or term.x.dtype != node.dtype for term in found):
        return None
    return [
        term._replace(small=of_dtype(program, term.small, term.x), large=of_dtype(program, term.large, term.x))
        for term in found
    ]


def of_dtype(program: Program, factor: Node | None, x: Node) -> Node | None:
    """A factor that does not change the dtype of what it multiplies."""
    if factor is None or factor.dtype == x.dtype or factor.is_number:
        return factor
    return program.make("astype", factor, dtype=x.dtype)


def added(program: Program, a: Node | None, b: Node | None) -> Node:
    """The sum of two factors; minus one times something is taken off."""
    one = program.constant(1)
    a, b = one if a is None else a, one if b is None else b
    for this, other in ((b, a), (a, b)):
        if this.op == "mul" and any(filled(x, -1) for x in this.args):
            x = next(x for x in this.args if not filled(x, -1))
            return program.make("sub", other, x)
    return program.make("add", a, b)


# -- neighbours -------------------------------------------------------------------------------------------------------------


def spread(program: Program, step: Step) -> Step:
    """Neighbours in a concatenation that are one value times different factors become one product."""
    back = [step.gradients[h] for h in step.states if h in step.gradients]
    swap: dict[Node, Node] = {}
    for whole in ordered(back):
        if whole.op != "concatenate" or len(whole.shape) != 2 or whole.params["axis"] != 1 or whole.rank != CARRY:
            continue
        groups: list[list[Node]] = []
        for part in whole.args:
            if groups and same_factor(groups[-1][-1], part):
                groups[-1].append(part)
            else:
                groups.append([part])
        if all(len(group) == 1 for group in groups):
            continue
        made = program.make("concatenate", *(one_product(program, group) for group in groups), axis=1)
        made.name = whole.name
        swap[whole] = made
        start = 0
        for part in whole.args:
            piece = program.make("getitem", made, key=columns(start, start + part.shape[1]))
            swap.setdefault(part, piece)
            start += part.shape[1]
    return replaced(program, step, swap)


def same_factor(a: Node, b: Node) -> bool:
    """Are these one value times two factors of its own shape?"""
    products = a.op == b.op == "mul" and a.args[0] is b.args[0] and a.args[0].rank == CARRY and a.shape == b.shape
    return products and all(x.args[1].shape == x.shape and x.args[1].rank < CARRY for x in (a, b))


def one_product(program: Program, group: list[Node]) -> Node:
    """[g * k0, g * k1, ...] as g * [k0, k1, ...]."""
    if len(group) == 1:
        return group[0]
    (rows, width), count, make = group[0].shape, len(group), program.make
    factors = make("stack", *(x.args[1] for x in group), axis=0)  # one after the other, so that each lies together
    product = make("transpose", make("mul", group[0].args[0], factors), axes=(1, 0, 2))
    return make("reshape", product, shape=(rows, count * width))
