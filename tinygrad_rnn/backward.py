"""The way back through a graph: its order, and the walk that adds up gradients. This is the whole of reverse mode.

A node's gradient is complete when every node that used it has been visited. Then the rule of each input, a line of the op
table, turns it into that input's share. Nothing is written to any node: the sums live in local dicts until the walk is over.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from contextlib import nullcontext
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from .ops import Together, fit
from .scope import Watch, current_scope, recording

if TYPE_CHECKING:
    from .tensor import Tensor

NOTHING = nullcontext()
birth, array = attrgetter("birth"), attrgetter("_data")


def toposort(*roots: Tensor) -> list[Tensor]:
    """All that the roots were computed from, and the roots themselves: every node after its inputs."""
    seen, stack = set(roots), list(roots)
    while stack:
        for x in stack.pop().inputs:
            if x not in seen:
                seen.add(x)
                if x.op is not None:
                    stack.append(x)
    return sorted(seen, key=birth)


def gradients(
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    create_graph: bool = False,
    targets: Collection[Tensor] = (),
    through: bool = False,
) -> dict[Tensor, Any]:
    """The gradient of sum(seed * root) over all roots, for every leaf that requires one, or for the targets alone.

    The walk ends at a target; if one target leads to others, that is the gradient with them held fixed. `through`: it goes on.
    Arrays, each nobody else's; or with create_graph Tensors that have a graph of their own. Raises RuntimeError if a leaf has
    been written to since the graph read it.
    """
    order = toposort(*roots)
    check_fresh(order)
    sums: dict[Tensor, Any] = {}
    for root, seed in zip(roots, seeds):  # noqa: B905 (strict is slow)
        g = seed if create_graph else seed._data
        sums[root] = sums[root] + g if root in sums else g
    watch, skip = current_scope.get().watch, beside(order, targets) if targets else ()
    if watch is None and not create_graph:
        return walk(order, sums, False, targets, skip, through)
    with NOTHING if watch is None else watch.walking(order), recording(True) if create_graph else NOTHING:
        return walk(order, sums, create_graph, targets, skip, through, watch)


def beside(order: Sequence[Tensor], targets: Collection[Tensor]) -> set[Tensor]:
    """The nodes that lead to none of the targets: no gradient need go there."""
    toward: set[Tensor] = set()
    for node in order:
        if node in targets or not toward.isdisjoint(node.inputs):
            toward.add(node)
    return set(order) - toward


def walk(
    order: Sequence[Tensor],
    sums: dict[Tensor, Any],
    create_graph: bool,
    targets: Collection[Tensor],
    skip: Container[Tensor],
    through: bool = False,
    watch: Watch | None = None,
) -> dict[Tensor, Any]:
    """`sums` holds what each node has received so far. Nothing is given to the nodes to `skip`."""
    ours: set[Tensor] = set()  # the nodes whose sum is an array made here, which may be added to in place
    waiting: dict[Tensor, dict[Together, list[Any]]] = {}  # uses of an input whose shares are computed together
    found: dict[Tensor, Any] = {}
    for node in reversed(order):
        if not node._requires_grad:
            continue

        # What has arrived.
        op, g, data = node.op, sums.pop(node, None), node._data
        if g is not None and g.shape != data.shape:  # the node was broadcast where it was used
            if g.size > data.size:  # what is summed is new memory
                ours.add(node)
            g = fit(g, data.shape)
        if node in waiting:
            for rule, uses in waiting.pop(node).items():
                g = rule.rule(uses) if g is None else g + rule.rule(uses)
                ours.add(node)
        if g is None:
            continue
        if g.dtype is not data.dtype and g.dtype != data.dtype:
            g = g.astype(data.dtype)
        if watch is not None:
            watch.arrived(g, node)
        if op is None or node in targets:
            if create_graph:  # a leaf could be edited, and may be the gradient of another node as well
                found[node] = g = g.astype(data.dtype) if g.op is None else g
            else:
                own = node in ours and g.flags.c_contiguous
                found[node] = np.asarray(g) if own else np.array(g, order="C")  # asarray: sums may be NumPy's numbers
            if op is None or not through:
                continue

        # What is passed on.
        inputs, params = node.inputs, node.params
        out: Any = data
        args: list[Any] = list(map(array, inputs))
        if create_graph:
            out, args = node, [a if x.is_number else x for x, a in zip(inputs, args, strict=True)]
        rules: Any = op.rules
        if op.variadic:
            share_of = rules[0](g, out, *args, **params)
            rules = range(len(inputs))
        for x, each in zip(inputs, rules):  # noqa: B905 (strict is slow)
            if each is None or not x._requires_grad or (skip and x in skip):
                continue
            if each.__class__ is not Together:
                share = share_of(each) if op.variadic else each(g, out, *args, **params)
            elif each.alone is None or (share := each.alone(g, out, *args, **params)) is None:
                uses = waiting.setdefault(x, {}).setdefault(each, [])
                uses.append((g, args, params))
                if each.enough is None or not each.enough(uses):
                    continue
                share = each.rule(waiting[x].pop(each))
            if share is None:
                continue
            if watch is not None:
                watch.gradient(share, x, node)
            so_far = sums.get(x)
            if so_far is None:
                sums[x] = share
                if op.fresh:
                    ours.add(x)
            elif so_far.shape != share.shape:  # used in two shapes: each is summed to x's own before they meet
                sums[x] = fit(so_far, x.shape) + fit(share, x.shape)
            elif x in ours and not create_graph:
                so_far += share
                sums[x] = so_far
            else:
                sums[x] = so_far + share
                ours.add(x)
    return found


def check_fresh(order: Sequence[Tensor]) -> None:
    """Raise if anything in a graph has been written to since a node read it."""
    last_write = 0
    for x in order:
        if x.op is None:
            if x._lent is not None:
                x._settle()
            if x.version != x.birth and x.version > last_write:
                last_write = x.version
    for node in order:
        if node.birth > last_write:
            break
        for x in node.inputs:
            if x.version > node.birth:
                op = node.op.name if node.op else "nothing"
                raise RuntimeError(
                    "one of the tensors needed for gradient computation has been modified by an in-place operation: "
                    f"{x.describe()}, read by {op}, is at version {x.version}; expected version {node.birth} or earlier. "
                    "Call backward() before you change it, or run the forward pass again"
                )
