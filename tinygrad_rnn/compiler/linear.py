"""A gradient that is carried is only ever added and multiplied, so what multiplies it can leave the loop.

g * y - g * y * out * out = g * k with k = y - y * out * out. And neighbours: [g * k0, g * k1] = g * [k0, k1].
"""

from __future__ import annotations

import numpy as np

from .pack import columns
from .program import CARRY, Node, Program, filled, ordered, users
from .rebuild import replaced, roots
from .trace import Step

Terms = list[tuple[Node, Node | None]]  # a sum of values, each with a factor that does not depend on the carry, or None for 1


def linear(program: Program, step: Step) -> Step:
    """Each gradient as a sum of few others times factors that leave the loop."""
    order = ordered(roots(step))
    reading, final = users(order), set(roots(step))
    forms: dict[Node, Terms] = {}
    new: dict[Node, Node] = {}

    def value(node: Node) -> Node:
        """The node made from its terms."""
        if node not in new:
            terms = [x if k is None else program.make("mul", x, k) for x, k in forms[node]]
            made = terms[0]
            for term in terms[1:]:
                made = program.make("add", made, term)
            if made.name is None and made.args:
                made.name = node.name
            new[node] = made
        return new[node]

    for node in order:
        if node.rank != CARRY or not node.args:
            forms[node] = [(node, None)]
            new[node] = node
            continue
        terms = multiplied(program, node, forms)
        if terms is None:
            made = program.make(node.op, *(value(x) for x in node.args), **node.params)
            if made.name is None:
                made.name = node.name
            forms[node], new[node] = [(made, None)], made
            continue
        forms[node] = terms
        often = len(reading.get(node, ())) + (node in final) > 1
        if len(terms) > 1 and (often or all(k is None for _, k in terms)):
            forms[node] = [(value(node), None)]
    return step._replace(gradients={of: value(g) for of, g in step.gradients.items()})


def multiplied(program: Program, node: Node, forms: dict[Node, Terms]) -> Terms | None:
    """The terms of a node, if it is linear in those of its arguments, element by element or summed over some axes."""
    args, minus = node.args, program.constant(-1)
    if node.op == "neg":
        found = times(program, forms[args[0]], minus)
    elif node.op in ("add", "sub") and args[0].shape == args[1].shape:
        found = list(forms[args[0]])
        for x, k in forms[args[1]] if node.op == "add" else times(program, forms[args[1]], minus):
            at = next((i for i, (y, _) in enumerate(found) if y is x), None)
            if at is None:
                found.append((x, k))
            else:
                found[at] = x, added(program, found[at][1], k)
    elif node.op == "mul" and args[0].rank == CARRY and args[1].rank < CARRY:
        found = times(program, forms[args[0]], args[1])
    elif node.op == "mul" and args[1].rank == CARRY and args[0].rank < CARRY:
        found = times(program, forms[args[1]], args[0])
    elif node.op == "div" and args[1].rank < CARRY:
        one = program.constant(1)
        found = [(x, program.make("div", one if k is None else k, args[1])) for x, k in forms[args[0]]]
    elif node.op in ("sum", "reshape") and all(k is None or k.shape == () for _, k in forms[args[0]]):
        found = [(program.make(node.op, x, **node.params), k) for x, k in forms[args[0]] if x.shape == args[0].shape]
        if len(found) < len(forms[args[0]]):
            return None
    elif node.op == "broadcast_to":
        found = forms[args[0]]
        if any(k is None or np.broadcast_shapes(x.shape, k.shape) != node.shape for x, k in found):
            return None
    else:
        return None
    if any(
        np.broadcast_shapes(x.shape, () if k is None else k.shape) != node.shape or x.dtype != node.dtype for x, k in found
    ):
        return None
    return [
        (x, k if k is None or k.dtype == x.dtype or k.is_number else program.make("astype", k, dtype=x.dtype))
        for x, k in found
    ]


def times(program: Program, terms: Terms, by: Node) -> Terms:
    """All terms times a factor."""
    return [(x, by if k is None else program.make("mul", k, by)) for x, k in terms]


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
