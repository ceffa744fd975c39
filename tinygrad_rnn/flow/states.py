"""What a loop carries from step to step, found in its graph, and the gradients that reach it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median_low
from typing import Any

import numpy as np

from ..backward import gradients, toposort
from ..nn.module import module_path
from ..nn.recurrent import Recurrent
from ..ops import Array
from ..steps import Timing, repeated, timing
from ..tensor import Tensor
from ..transforms import leaves, tree_map


def gradients_at(loss: Tensor, nodes: Any) -> Any:
    """dL/d(node) as an array, for any nodes of the loss's graph: computed ones too, in a tuple, list or dict of them.

    All paths from the node to the loss count, also those through other nodes asked for. Zeros if there is none.
    """
    check_number("gradients_at", loss)
    asked = leaves(nodes)
    for x in asked:
        if not isinstance(x, Tensor):
            raise TypeError(f"gradients_at: expected Tensors of the loss's graph, got a {type(x).__name__}")
    found = gradients([loss], [Tensor(np.ones(loss.shape, loss.dtype))], targets=set(asked), through=True)
    return tree_map(lambda x: found[x] if x in found else np.zeros(x.shape, x.dtype), nodes)


def norms(loss: Tensor) -> dict[str, Array]:
    """The norm of dL/dh_t at every step, {name: array (T,)}: where it vanishes and where it explodes (Bengio et al. 1994).

    The states are those of `states(loss)`; where the loss does not depend on one, zero. The norm is that of the whole array,
    batch and features: over a batch of N, a mean in the loss makes it smaller by sqrt(N), as a rule, and a sum larger.
    """
    found = gradients_at(loss, states(loss))
    length = 1 + max((t for series in found.values() for t in series), default=-1)
    return {name: np.array([np.linalg.norm(series.get(t, 0)) for t in range(length)]) for name, series in found.items()}


def states(loss: Tensor) -> dict[str, dict[int, Tensor]]:
    """What the loops in a graph carry from one time step to another, {name: {t: node}}.

    Works on any graph that has time steps: of layers and of loops that people wrote. A name is the path of the module that
    computed the state, which tells layer and direction, and the node's own name ("LSTM.l0.h"), or "state" if it has none.
    A sum of losses is no state.
    """
    order, time = timed("states", [loss])
    looks = Looks(time.step)
    crossing = carried(order, time, looks)
    found: dict[tuple[Any, ...], dict[int, list[Tensor]]] = {}
    for x in order:
        if x in crossing:
            found.setdefault(looks.key(x), {}).setdefault(time.step[x], []).append(x)
    add_unread(order, looks, found)

    result: dict[str, dict[int, Tensor]] = {}
    for (path, name, _), series in found.items():
        for rank in range(width(series)):
            label = f"{path}.{name}".lstrip(".")
            more = sum(other == label or other.startswith(f"{label}[") for other in result)
            members = {t: nodes[rank] for t, nodes in sorted(series.items()) if rank < len(nodes)}
            result[f"{label}[{more}]" if more else label] = members
    return result


class Looks:
    """What makes nodes of different steps the same state: the cell that computed them, their name, their shape."""

    def __init__(self, step: dict[Tensor, int]) -> None:
        self.step = step
        self.paths: dict[tuple[int, ...], str] = {}  # of the modules around a node, for `module_path` takes its time
        self.constant = repeated((x.name, t) for x, t in step.items())  # not names such as f"h{t}", each of one step

    def made(self, x: Tensor) -> Tensor:
        """A state as the cell returned it, where a layer has had its say in it since (zoneout, lengths)."""
        while isinstance(x.scope.module, Recurrent):
            inner = [y for y in x.inputs if self.step.get(y) == self.step[x] and y.requires_grad and y.shape == x.shape]
            if not inner:
                break
            x = inner[-1]
        return x

    def key(self, x: Tensor) -> tuple[Any, ...]:
        made = self.made(x)
        name = x.name or made.name or "state"
        name = name if name in self.constant else re.sub(r"\W*_*\d+\W*$", "", name) or name
        modules = tuple(id(call.module) for call in made.scope.calls())
        if modules not in self.paths:
            self.paths[modules] = module_path(made.scope).replace("cells.", "")
        return self.paths[modules], name, x.shape


def carried(order: Sequence[Tensor], time: Timing, looks: Looks) -> set[Tensor]:
    """The nodes that another step reads on the way to their like there or later. What a layer itself made is no state."""
    step, known = time.step, {}
    found: set[Tensor] = set()
    for x in order:
        for y in x.inputs if x in step else ():
            if step.get(y, step[x]) == step[x] or y in time.picks or not y.shape or not y.requires_grad:
                continue
            pair = time.role[y], time.role[x]
            if pair not in known:
                known[pair] = not isinstance(looks.made(y).scope.module, Recurrent) and leads_on(y, x, time, looks)
            if known[pair]:
                found.add(y)
    return found


def leads_on(y: Tensor, x: Tensor, time: Timing, looks: Looks) -> bool:
    """Is there a node like y, in another step, among all that follows from its use by x?"""
    key, stack, seen = looks.key(y), [x], {x}
    while stack:
        x = stack.pop()
        if x in time.step and time.step[x] != time.step[y] and x.shape == y.shape and looks.key(x) == key:
            return True
        after = [z for z in time.consumers[x] if z not in seen]
        seen.update(after)
        stack += after
    return False


def add_unread(order: Sequence[Tensor], looks: Looks, found: dict[tuple[Any, ...], dict[int, list[Tensor]]]) -> None:
    """No step reads the last state. It is what the last step computed by the same op, and last if there are several."""
    steps = set(looks.step.values())
    unread = {t for series in found.values() for t in steps - series.keys()}
    ops = {key: {looks.made(x).op for nodes in series.values() for x in nodes} for key, series in found.items()}
    spare: dict[tuple[Any, ...], dict[Tensor, Tensor]] = {}
    for x in order:
        if looks.step.get(x) in unread and x.requires_grad:
            key, made = looks.key(x), looks.made(x)
            if key in found and looks.step[x] not in found[key] and made.op in ops[key]:
                spare.setdefault((key, looks.step[x]), {})[made] = x
    for (key, t), nodes in spare.items():
        found[key][t] = list(nodes.values())[-width(found[key]) :]


def width(series: dict[int, list[Tensor]]) -> int:
    """How many states look alike. In some steps there may be more (with lengths, padding reads the first output again)."""
    return median_low(map(len, series.values()))


def timed(who: str, roots: Sequence[Tensor]) -> tuple[list[Tensor], Timing]:
    """The whole graph in order, and its time."""
    order = toposort(*roots)
    time = timing(order)
    if not time.step:
        raise ValueError(
            f"{who}: no time steps in the graph of {', '.join(x.describe() for x in roots[:3])}. Use tg.nn.Recurrent "
            "(not compiled), or in a loop of your own read the input of a step by its index, x[:, t]"
        )
    return order, time


def check_number(who: str, loss: Any) -> None:
    if not isinstance(loss, Tensor):
        raise TypeError(f"{who}: expected a loss, a Tensor with one element, got a {type(loss).__name__}")
    if loss.size != 1:
        raise ValueError(f"{who}: expected a loss of one number, got {loss.describe()}; reduce it first (.sum(), .mean())")
    if not loss.requires_grad:
        raise ValueError(f"{who}: {loss.describe()} does not require grad and has no graph")
