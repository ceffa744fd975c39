"""The state, the input and a 1 in one row: h @ U + x @ W + b = [h x 1] @ [U W b], one product a step and no sum.

The rows are the state's own memory (places.py), filled with x and 1 before the loop. The gradients of U, W, b are one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .pack import columns
from .program import CONSTANT, STATE, SUMS, Node, Program, filled, ordered, users
from .rebuild import replaced, roots
from .roll import Rolled
from .trace import Step

WEIGHTS = 300_000  # elements of joined weights that stay in the cache; of more, those of x are better used once, for all steps


class Sum(NamedTuple):
    """rows[0] @ weights[0] + rows[1] @ weights[1] + ... + bias"""

    rows: tuple[Node, ...] = ()
    weights: tuple[Node, ...] = ()
    bias: Node | None = None


def join(program: Program, step: Step) -> Step:
    """Sums of products with the state and the input, each as one product."""
    order = ordered(roots(step))
    reading = users(order)
    found: dict[Node, Sum] = {}
    for node in order:
        known = summed(node, found, step.states)
        if known is not None:
            found[node] = known
    ends = {n: s for n, s in found.items() if n.rank == STATE and any(y not in found for y in reading.get(n, [n]))}
    kinds = {(s.rows, s.bias is None) for s in ends.values()}  # one, since the state has one memory
    if len(kinds) != 1 or not all(map(pays, ends, ends.values())):
        return step
    return replaced(program, step, {n: joined(program, s) for n, s in ends.items()})


def summed(node: Node, found: dict[Node, Sum], states: Sequence[Node]) -> Sum | None:
    """A node as a sum of products with parameters: of the state, and of what does not depend on it."""
    if node.rank == CONSTANT:
        return Sum(bias=node) if len(node.shape) == 1 else None
    if len(node.shape) != 2 or node.rank > STATE or any(x.dtype != node.dtype for x in node.args):
        return None
    if node.op == "matmul" and node.args[1].rank == CONSTANT:
        x, w = node.args
        return Sum((x,), (w,)) if x.rank < STATE or has_state(x, states) else None
    if node.op != "add" or any(x not in found or x.shape[-1:] != node.shape[1:] for x in node.args):
        return None
    a, b = (found[x] for x in sorted(node.args, key=lambda x: -x.rank))  # the state first
    if (a.bias and b.bias) or sum(x.rank == STATE for x in a.rows + b.rows) > 1:
        return None
    return Sum(a.rows + b.rows, a.weights + b.weights, a.bias or b.bias)


def has_state(x: Node, states: Sequence[Node]) -> bool:
    """A state, or one beside values that do not depend on it."""
    inner = x.args if x.op == "concatenate" and x.params["axis"] == 1 else (x,)
    return sum(y in states for y in inner) == 1 and all(y.rank < STATE or y in states for y in inner)


def pays(node: Node, terms: Sum) -> bool:
    """Is one product quicker? It saves sums, as long as its result; but the state becomes a slice, which is copied."""
    (batch, width), length = node.shape, sum(x.shape[1] for x in terms.rows)
    sliced = terms.rows[0].op == "concatenate"  # already
    worth = terms.bias is not None if sliced else len(terms.rows) > 1 and (batch == 1 or 2 * length <= width)
    return worth and length * width <= WEIGHTS


def joined(program: Program, terms: Sum) -> Node:
    """[rows 1] @ [weights bias]"""
    make, (first, *_) = program.make, terms.rows
    rows = [y for x in terms.rows for y in (x.args if x.op == "concatenate" else (x,))]
    weights = list(terms.weights)
    if terms.bias is not None:
        rows.append(program.constant(np.ones((first.shape[0], 1), first.dtype)))
        weights.append(terms.bias)
    row = make("concatenate", *rows, axis=1)
    row.name = "".join(x.name or "" for x in rows)
    return make("matmul", row, stacked(program, weights))


def stacked(program: Program, weights: Sequence[Node]) -> Node:
    """Matrices below each other, and a vector as the last row; what is done to all of them is done once."""
    make, first = program.make, weights[0]
    if first.op == "mul" and all(w.op == "mul" and w.args[1] is first.args[1] for w in weights):
        return make("mul", stacked(program, [w.args[0] for w in weights]), first.args[1])
    columns = [
        make("reshape", w, shape=(*w.shape, 1)) if len(w.shape) == 1 else make("transpose", w, axes=(1, 0)) for w in weights
    ]
    return make("transpose", make("concatenate", *columns, axis=1), axes=(1, 0))


# -- the gradients of what was joined ---------------------------------------------------------------------------------------


def joined_products(program: Program, rolled: Rolled) -> Rolled:
    """d.T @ h, d.T @ x and the sum of d, all over time, as parts of d.T @ [h x 1]."""
    rows = [n for n in ordered(rolled.new) if n.op == "concatenate" and has_state(n, rolled.states) and filled(n.args[-1], 1)]
    if not rows:
        return rolled
    whole, new = rows[0], dict[Node, Node]()

    def place(node: Node) -> tuple[slice, int | slice] | None:
        """Which of the columns of the product with the whole this node is."""
        if node.op == "total" and node.params["axes"] == (0,) and len(node.args[0].shape) == 2:
            return slice(None), whole.shape[1] - 1
        x = node.args[-1] if node.op == "product" else node
        inner = x.args if x.op == "concatenate" and x.params["axis"] == 1 else (x,)
        at = next((i for i in range(len(whole.args)) if whole.args[i : i + len(inner)] == inner), None)
        start = sum(y.shape[1] for y in whole.args[:at])
        return None if at is None else columns(start, start + x.shape[1])

    order = ordered(n for n in rolled.totals if n is not None)
    often = {n.args[0] for n in order if n.op == "product" and place(n) and has_state(n.args[1], rolled.states)}
    for node in order:
        key = place(node) if node.op in SUMS and node.args[0] in often else None
        if key is not None:
            product = program.make("product", node.args[0], whole)
            product.name = "dw"
            new[node] = program.make("getitem", product, key=key)
            new[node].name = node.name
        else:
            args = tuple(new[x] for x in node.args)
            new[node] = node if args == node.args else program.make(node.op, *args, **node.params)
            new[node].name = node.name
    return rolled._replace(totals=tuple(None if n is None else new[n] for n in rolled.totals))
