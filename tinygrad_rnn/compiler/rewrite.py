"""The same values in fewer and longer operations. Each function here is a law of arithmetic, applied where it pays.

    pack:      activations of neighbouring slices become one: tanh(z[:, :H]), sigmoid(z[:, H:]) -> tanh(z * s) * p + q
    lower:     sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, and other ops that are made of simpler ones
    regroup:   a + (h + b) = (a + b) + h, what is known first is added first; (x @ W) * s = x @ (W * s)
    linear:    a gradient that is carried is only ever multiplied: g*y - g*y*out*out = g * k, and k leaves the loop
    spread:    [g * k0, g * k1] = g * [k0, k1]
    dots:      the sum of a row is its product with ones; of a * b, that of a row with a row
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .program import CARRY, CONSTANT, STATE, Node, Program, elementwise, ordered, sliced, users
from .trace import Step

Rule = Callable[[Node, tuple[Node, ...]], Node | None]


def improved(program: Program, step: Step) -> Step:
    """A step that gives the same."""
    step = pack(program, step)
    step = rebuilt(program, step, lambda node, args: lower(program, node, args))
    step = regroup(program, step)
    if step.carries:
        step = linear(program, step)
        step = spread(program, step)
    return dots(program, step)


def roots(step: Step) -> list[Node]:
    """All that a step is for."""
    return [*step.new, *step.outputs.values(), *step.gradients.values()]


def rebuilt(program: Program, step: Step, rule: Rule) -> Step:
    """The step with every node made anew: as the rule says, or as it was."""
    new: dict[Node, Node] = {}
    for node in ordered(roots(step)):
        args = tuple(new[x] for x in node.args)
        made = rule(node, args)
        if made is None:
            made = node if args == node.args else program.make(node.op, *args, **node.params)
        if made.name is None and made.args:
            made.name = node.name
        new[node] = made
    return step._replace(
        new=tuple(new[n] for n in step.new),
        outputs={name: new[n] for name, n in step.outputs.items()},
        gradients={of: new[n] for of, n in step.gradients.items()},
    )


def replaced(program: Program, step: Step, swap: dict[Node, Node]) -> Step:
    """The step with some nodes replaced by others."""
    return rebuilt(program, step, lambda node, args: swap.get(node)) if swap else step


# -- pack --------------------------------------------------------------------------------------------------------------------


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
            together.name = together.name or "".join(n.name or "" for n in nodes[:count]) or None
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
        if all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False)):
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
    """The same op on all; an argument that they share is spread over them."""
    first, count, (rows, width) = nodes[0], len(nodes), nodes[0].shape
    args: list[Node] = []
    alone: list[bool] = []
    for each in zip(*(n.args for n in nodes), strict=True):
        alone.append(all(x is each[0] for x in each) and each[0].shape == (rows, width))
        found = each[0] if alone[-1] else packed(program, each)
        if found is None:
            return None
        args.append(found)
    if not any(alone):
        return program.make(first.op, *args, **first.params)
    shaped = []
    for x, shared in zip(args, alone, strict=True):
        if shared:
            x = program.make("reshape", x, shape=(rows, 1, width))
        elif x.shape:
            x = program.make("reshape", x, shape=(*x.shape[:-1], count, width))
        shaped.append(x)
    return program.make("reshape", program.make(first.op, *shaped, **first.params), shape=(rows, count * width))


def activation(program: Program, x: Node, nodes: Sequence[Node]) -> Node:
    """tanh(x * s) * p + q, which in a column of a sigmoid is sigmoid(x), and in one of a tanh is tanh(x)."""
    if all(n.op == "tanh" for n in nodes):
        return program.make("tanh", x)
    if all(n.op == "sigmoid" for n in nodes):
        return program.make("sigmoid", x)

    def vector(sigmoid: float, tanh: float) -> Node:
        values = [np.full(n.shape[1], sigmoid if n.op == "sigmoid" else tanh, x.dtype) for n in nodes]
        return program.constant(np.concatenate(values))

    inner = program.make("tanh", program.make("mul", x, vector(0.5, 1)))
    return program.make("add", program.make("mul", inner, vector(0.5, 1)), vector(0.5, 0))


# -- lower -------------------------------------------------------------------------------------------------------------------


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
        return make("mul", x, make("div", program.constant(1), args[1]))  # few divisions, many products
    if node.op == "clip":
        return make("minimum", make("maximum", x, args[1]), args[2])
    return None


# -- regroup -----------------------------------------------------------------------------------------------------------------


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
        by = scaling.times(*node.args[0].args)
        if by is not None:
            step = replaced(program, step, {node: program.make("tanh", by)})
            step = replaced(program, step, scaling.swap)


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
        """x * s, or None if that would cost a multiplication at every step; `shared`: whatever else reads x is seen to."""
        make = self.program.make
        if x.rank < STATE:
            return (self.times_slice(x, s) if x.op == "getitem" else None) or self.scaled(x, s)
        if len(self.reading.get(x, ())) > 1 and x.op != "getitem" and not shared:
            return None
        if x.op == "add":
            parts = [self.times(y, s) for y in x.args]
            return None if any(y is None for y in parts) else make("add", *(y for y in parts if y is not None))
        if x.op == "matmul" and x.args[1].rank == CONSTANT and len(x.args[1].shape) == 2:
            return make("matmul", x.args[0], make("mul", x.args[1], s))
        if x.op == "mul":
            for c, u in (x.args, x.args[::-1]):
                if c.rank == CONSTANT:
                    return make("mul", make("mul", c, s), u)
        if x.op == "reshape" and s.shape in ((), x.shape[-1:]):
            inner = x.args[0]
            if x.shape[:1] == inner.shape[:1] and len(x.shape) == 2:
                by = self.times(inner, make("reshape", s, shape=inner.shape[1:]) if s.shape else s)
                return None if by is None else make("reshape", by, shape=x.shape)
        if x.op == "getitem":
            return self.times_slice(x, s)
        return None

    def scaled(self, x: Node, s: Node) -> Node:
        """x * s for an x that does not depend on the state."""
        if x.op == "matmul" and x.args[1].rank == CONSTANT and len(x.args[1].shape) == 2:
            return self.program.make("matmul", x.args[0], self.program.make("mul", x.args[1], s))
        if x.op == "add":
            return self.program.make("add", *(self.scaled(y, s) for y in x.args))
        return self.program.make("mul", x, s)

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
        by = self.times(whole, self.program.constant(vector), shared=True)
        if by is None:
            return None
        for n in rest:
            self.swap[n] = self.program.make("getitem", by, key=n.params["key"])
        return self.program.make("getitem", by, key=x.params["key"])


# -- linear ------------------------------------------------------------------------------------------------------------------

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
    if any(np.broadcast_shapes(x.shape, () if k is None else k.shape) != node.shape or x.dtype != node.dtype for x, k in found):
        return None
    return [(x, k if k is None or k.dtype == x.dtype or k.is_number else program.make("astype", k, dtype=x.dtype)) for x, k in found]


def times(program: Program, terms: Terms, by: Node) -> Terms:
    """All terms times a factor."""
    return [(x, by if k is None else program.make("mul", k, by)) for x, k in terms]


def added(program: Program, a: Node | None, b: Node | None) -> Node:
    """The sum of two factors; minus one times something is taken off."""
    one = program.constant(1)
    a, b = one if a is None else a, one if b is None else b
    for this, other in ((b, a), (a, b)):
        if this.op == "mul" and any(x.value is not None and filled_with(x, -1) for x in this.args):
            x = next(x for x in this.args if not (x.value is not None and filled_with(x, -1)))
            return program.make("sub", other, x)
    return program.make("add", a, b)


def filled_with(x: Node, number: int) -> bool:
    """Is this constant one number all over?"""
    return bool(np.all(np.equal(x.value, number)))


# -- spread ------------------------------------------------------------------------------------------------------------------


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
    factors = make("reshape", make("concatenate", *(x.args[1] for x in group), axis=1), shape=(rows, count, width))
    carried = make("reshape", group[0].args[0], shape=(rows, 1, width))
    return make("reshape", make("mul", carried, factors), shape=(rows, count * width))


# -- dots --------------------------------------------------------------------------------------------------------------------


def dots(program: Program, step: Step) -> Step:
    """Sums over features within a loop as products, which are quicker."""
    reading = users(ordered(roots(step)))

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op != "sum" or node.rank < STATE or node.dtype.kind != "f" or len(args[0].shape) != 2:
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
