"""Which time step each node of a graph belongs to.

Recurrent layers say it themselves (`scope.step`). For a loop that someone wrote, the data flow tells: an integer index into a
sequence (`x[:, t]`, `x[t]`) starts step t, and what follows from it and from the previous state belongs to t, until a later
index is needed. Without an index (each x_t is an array of its own) the k-th call of a recurrent module is step k.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from . import ops
from .calls import Calls
from .nn.module import Parameter
from .tensor import Tensor

RESHAPERS = {ops.TRANSPOSE, ops.RESHAPE, ops.BROADCAST_TO, ops.ASTYPE, ops.GETITEM, ops.SPLIT}


class Timing(NamedTuple):
    """What is known of time in a graph. What has no step (the loss, an output layer on the last state) is outside of time."""

    step: dict[Tensor, int]  # of every computed node that belongs to one
    role: dict[Tensor, int]  # what those nodes are within their steps: equal for nodes computed alike in different steps
    picks: dict[Tensor, int]  # the nodes that pick one position of a sequence: x[:, t]
    origin: dict[Tensor, Tensor]  # the trained leaf that a node is, or only rearranges: W for W, W.T and W[0:4]
    consumers: dict[Tensor, list[Tensor]]  # who reads each node


def timing(order: Sequence[Tensor]) -> Timing:
    """Tell the time of every node; `order` is a topological order of the whole graph."""
    consumers, picks = uses(order), indices(order)
    origin = sources(order, picks)
    # Two kinds of nodes whose step is known from the start: a layer tells it, or an index into a sequence marks it.
    told = {x: x.scope.step for x in order if x.scope.step is not None and x.op is not None and x not in origin}
    marked = {x: t for x, t in picks.items() if x not in told and not any(y in told for y in consumers[x])}
    moving = [x for x in order if x not in origin]
    calls = Calls(order, origin)
    step = spread(moving, told, marked, calls)
    # Failing both, calls are counted.
    counted = {} if told else {x: k for x, k in calls.counted(moving).items() if x not in step}
    if counted:
        told, calls = counted, Calls(order, origin)
        step = spread(moving, told, marked, calls)
    picks |= marked
    pull(order, step, consumers, origin, fixed=[*told, *marked, *calls.home])
    step = settle(order, step, consumers, told, marked, calls, roles(order, step, origin, picks))
    return Timing(step, roles(order, step, origin, picks), picks, origin, consumers)


def uses(order: Sequence[Tensor]) -> dict[Tensor, list[Tensor]]:
    """Who reads each node."""
    consumers: dict[Tensor, list[Tensor]] = {x: [] for x in order}
    for x in order:
        for y in x.inputs:
            consumers[y].append(x)
    return consumers


def sources(order: Sequence[Tensor], picks: Container[Tensor]) -> dict[Tensor, Tensor]:
    """The trained leaf behind each node that is one, or that only rearranges one."""
    found: dict[Tensor, Tensor] = {}
    for x in order:
        if x.op is None:
            if x.requires_grad or isinstance(x, Parameter):
                found[x] = x
        elif x.op in RESHAPERS and x.inputs[0] in found and x not in picks:
            if x.op is ops.GETITEM and not ops.basic(x.params["key"]):
                continue
            found[x] = found[x.inputs[0]]
    return found


# -- what marks a step -------------------------------------------------------------------------------------------------------


def places(key: Any, shape: tuple[int, ...]) -> dict[int, int]:
    """The axes that an index fixes to one position: {1: 5} for x[:, 5], and for x[:, 5:6]."""
    parts = key if isinstance(key, tuple) else (key,)
    found, axis = {}, 0
    for i, part in enumerate(parts):
        if part is None:
            continue
        if part is Ellipsis:
            axis = len(shape) - sum(later is not None for later in parts[i + 1 :])
            continue
        if isinstance(part, int | np.integer) and not isinstance(part, bool):
            found[axis] = int(part) % shape[axis]
        elif isinstance(part, slice):
            start, stop, stride = part.indices(shape[axis])
            if stop - start == stride == 1 < shape[axis]:
                found[axis] = start
        axis += 1
    return found


def behind(x: Tensor, axis: int) -> tuple[Tensor, int]:
    """The node of which `x` is a transpose, and where `axis` lies in it."""
    while x.op is ops.TRANSPOSE:
        x, axis = x.inputs[0], x.params["axes"][axis]
    return x, axis


def indices(order: Sequence[Tensor]) -> dict[Tensor, int]:
    """The nodes that pick one position of a sequence, along the axis on which the positions differ."""
    found: dict[tuple[Tensor, int], list[tuple[Tensor, int]]] = {}
    for x in order:
        if x.op is ops.GETITEM:
            for axis, t in places(x.params["key"], x.inputs[0].shape).items():
                base = behind(x.inputs[0], axis)
                if base[0].op is None and not isinstance(base[0], Parameter):
                    found.setdefault(base, []).append((x, t))
    best: dict[Tensor, list[tuple[Tensor, int]]] = {}
    for (leaf, _), picks in found.items():
        ts = [t for _, t in picks]
        moves = {b - a for a, b in pairwise(ts) if a != b}
        if len(set(ts)) > 1 and (not leaf.requires_grad or moves in ({1}, {-1})):  # W[0], W[1], W[0] are gates, not time
            best[leaf] = max(best.get(leaf, []), picks, key=lambda picks: len({t for _, t in picks}))
    return {x: t for picks in best.values() for x, t in picks}


def unstacked(x: Tensor, step: dict[Tensor, int], in_time: dict[Tensor, bool]) -> int | None:
    """The step that `x` picks out of results stacked over time, as in `np.stack(outputs)[t]`; `in_time` remembers stacks."""
    for axis, t in places(x.params["key"], x.inputs[0].shape).items() if x.op is ops.GETITEM else ():
        stack, axis = behind(x.inputs[0], axis)
        if stack.op is ops.STACK and stack.params["axis"] % stack.ndim == axis:
            if stack not in in_time:
                steps = [step.get(y) for y in stack.inputs]
                in_time[stack] = None not in steps and steps == list(range(steps[0] or 0, (steps[0] or 0) + len(steps)))
            return step[stack.inputs[t]] if in_time[stack] else None
    return None


# -- how steps spread ---------------------------------------------------------------------------------------------------------


def spread(order: Sequence[Tensor], told: dict[Tensor, int], marked: dict[Tensor, int], calls: Calls) -> dict[Tensor, int]:
    """A step for all that follows from a marked node: that of the mark which came last, in the order of the program.

    `marked` gains the nodes that pick one step out of stacked results, as in `np.stack(outputs)[t]`.
    """
    step: dict[Tensor, int] = {}
    latest: dict[Tensor, int] = {}  # when the mark that a node follows from was read
    in_time: dict[Tensor, bool] = {}
    calls.mark(marked, told)
    for x in order:
        if x.op is None:
            continue
        again = unstacked(x, step, in_time) if x not in told and x not in marked else None
        if again is not None:
            marked[x] = again
        t = told.get(x, marked.get(x))
        t = calls.step_of(x, step, latest, marked) if t is None else t
        fresh = [marked[y] for y in x.inputs if y in marked]
        if t is None and fresh:
            t = max(fresh)
        if t is not None:
            step[x], latest[x] = t, x.birth
            continue
        newest = max((y for y in x.inputs if y in latest), key=lambda y: latest[y], default=None)
        if newest is not None:
            step[x], latest[x] = step[newest], latest[newest]
    return step


def pull(
    order: Sequence[Tensor],
    step: dict[Tensor, int],
    consumers: dict[Tensor, list[Tensor]],
    origin: dict[Tensor, Tensor],
    fixed: Iterable[Tensor],
) -> None:
    """Give each step its own beginning: `h @ U` needs nothing newer than h, yet it opens the next step.

    The first step shows what such a beginning looks like: it is what step 0 alone computes from the initial state.
    """

    def looks(x: Tensor) -> tuple[Any, ...]:
        return x.op, *(origin.get(y) for y in x.inputs)

    keep, openings = set(fixed), set()
    given: set[Tensor] = set()  # leaves, and what only rearranges them
    for x in order:
        if x.op is None or (x.op in RESHAPERS and x.inputs[0] in given):
            given.add(x)
    for x in reversed(order):
        if x not in given and x not in step:
            wanted = {step.get(y) for y in consumers[x]}
            t = wanted.pop() if len(wanted) == 1 else None
            if t is not None:
                step[x] = t
                keep.add(x)
                openings.add(looks(x))
    for x in reversed(order):
        if x in step and x not in keep:
            wanted = {step.get(y) for y in consumers[x]}
            t = wanted.pop() if len(wanted) == 1 else None
            if t is not None and t != step[x] and looks(x) in openings:
                step[x] = t


def roles(
    order: Sequence[Tensor], step: dict[Tensor, int], origin: dict[Tensor, Tensor], picks: Container[Tensor]
) -> dict[Tensor, int]:
    """A number for what a node is within its step: equal for nodes computed alike in different steps."""
    numbers: dict[tuple[Any, ...], int] = {}
    role: dict[Tensor, int] = {}
    parts: list[Any]
    for x in order:
        if x in step:
            parts = [role[y] if step.get(y) == step[x] else origin.get(y) for y in x.inputs]
            parts = [behind(x.inputs[0], 0)[0]] if x in picks else parts
            role[x] = numbers.setdefault((x.op, x.params.get("piece"), *parts), len(numbers))
    return role


def settle(
    order: Sequence[Tensor],
    step: dict[Tensor, int],
    consumers: dict[Tensor, list[Tensor]],
    told: dict[Tensor, int],
    marked: dict[Tensor, int],
    calls: Calls,
    role: dict[Tensor, int],
) -> dict[Tensor, int]:
    """Keep the steps of what the loop computed; what only follows from its last step stands after it.

    The loop computed what has its like in another step, what a module called in several steps made, and what leads to those.
    """
    several = repeated((role[x], t) for x, t in step.items())
    looped = repeated((calls.siblings(calls.home[x]), t) for x, t in step.items() if x in calls.home)
    inside: set[Tensor] = set()
    for x in reversed(order):
        if x in step and (
            x in told
            or role[x] in several
            or (x in calls.home and calls.siblings(calls.home[x]) in looped)
            or any(y in inside and y not in marked and abs(step[y] - step[x]) <= 1 for y in consumers[x])
        ):
            inside.add(x)
    if not told and not any(y in inside and step[y] != step[x] for x in inside for y in x.inputs):
        return {}  # nothing is carried from one position to another: columns of features, not time
    return {x: step[x] for x in order if x in inside}


def repeated(pairs: Iterable[tuple[Any, int]]) -> set[Any]:
    """The keys that are paired with more than one step."""
    first: dict[Any, int] = {}
    return {key for key, t in pairs if first.setdefault(key, t) != t}
