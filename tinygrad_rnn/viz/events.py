"""All that a forward and a backward pass compute, event by event, as plain data (event_types.py).

The backward events are told by the walk of backward.py itself, through the hooks that it has for a watch; ledger.py adds the
bookkeeping. Replaying the additions in their order gives every `.grad` to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backward import gradients, toposort
from ..ops import Array
from ..scope import Watch, current_scope
from ..tensor import Tensor
from .event_types import Events, Node, Value, numbers
from .graph import Builder
from .labels import is_run
from .ledger import Ledger
from .parts import Graph
from .rules import input_names


def events(loss: Tensor, gradient: Any = None) -> Events:
    """What forward computed for `loss`, and what `loss.backward(gradient)` does, as data for `json.dumps`.

    Runs the backward pass, and leaves every `.grad` as it is. Raises as `backward()` does.
    """
    seed = checked("events", loss, gradient)
    builder = Builder([loss], (), {})
    return collect(builder, builder.graph(), seed)


def checked(what: str, loss: Tensor, gradient: Any) -> Tensor:
    """The gradient to begin with, if there is a backward pass at all."""
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"{what}: expected a Tensor, got {type(loss).__name__}. Give it what a computation returned, such as a loss"
        )
    if loss.op is None or not loss.requires_grad:
        why, hint = "does not require grad", "make a leaf with requires_grad=True, and compute outside of no_grad()"
        if loss.requires_grad:
            why, hint = "was given, not computed", f"write {what}(loss), with a loss that was computed from it"
        raise RuntimeError(f"{what}: {loss.describe()} {why}, so there is no backward pass to show: {hint}")
    run = next((x for x in toposort(loss) if is_run(x)), None)
    if run is not None and run.op is not None:
        raise TypeError(
            f"{what}: {run.op.name} is one node, made by tg.compile, and has no steps to show. Call the layer itself: "
            "compiled.layer(x)"
        )
    return loss._seed(gradient)


def collect(builder: Builder, graph: Graph, seed: Tensor) -> Events:
    """The events of a graph. Each of them is told in the words of its picture."""
    (root,), recorder = builder.roots, Recorder()
    with np.errstate(all="ignore"):
        with watched(recorder):
            gradients([root], [seed])
        with watched(None):
            ledger = Ledger(builder, root, seed)
            backward = [ledger.event(*visit) for visit in recorder.visits]
    label = builder.words | {x: node.label for x, node in zip(builder.drawn, graph.nodes, strict=True)}
    return {
        "nodes": [node(x, label[x], builder, ledger.ids) for x in builder.order],
        "given": [value(x, ledger.ids) for x in builder.order if x.op is None],
        "forward": [value(x, ledger.ids) for x in builder.order if x.op is not None],
        "seed": numbers(seed._data),
        "backward": backward,
        "parameters": ledger.parameters(),
    }


@contextmanager
def watched(watch: Watch | None) -> Iterator[None]:
    """Within this block no graph is recorded, and walks tell this watch what they do."""
    token = current_scope.set(current_scope.get()._replace(recording=False, watch=watch))
    try:
        yield
    finally:
        current_scope.reset(token)


class Recorder(Watch):
    """Keeps what the walk tells its watch: each node, the gradient that arrived, and the shares that its rules gave."""

    def __init__(self) -> None:
        self.visits: list[tuple[Tensor, Array, list[Array]]] = []

    def arrived(self, g: Array, node: Tensor) -> None:
        self.visits.append((node, g, []))

    def gradient(self, share: Array, x: Tensor, node: Tensor) -> None:
        self.visits[-1][2].append(share)


def node(x: Tensor, label: str, builder: Builder, ids: dict[Tensor, int]) -> Node:
    """A Tensor in words, those of its picture."""
    return {
        "label": label,
        "op": x.op.name if x.op is not None else None,
        "inputs": [ids[y] for y in x.inputs],
        "names": input_names(x.op, len(x.inputs)) if x.op is not None else [],
        "step": builder.step.get(x),
        "module": builder.names.path(x.scope.module) if x.op is not None and x.scope.module is not None else "",
        "shape": list(x.shape),
        "dtype": str(x.dtype),
    }


def value(x: Tensor, ids: dict[Tensor, int]) -> Value:
    """A node and its value."""
    return {"node": ids[x], "value": numbers(x._data)}
