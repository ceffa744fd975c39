"""Finding the first number that is not finite, in the forward pass or on the way back, and saying where it was made.

Every op and every gradient is looked at while `detect_anomaly()` is on; off, there is nothing to pay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .nn.module import module_path
from .ops import Op
from .scope import current_scope
from .tensor import Tensor

HOME = str(Path(__file__).parent)


class AnomalyError(FloatingPointError):
    """A value or a gradient is not finite."""


class Place(NamedTuple):
    """Where a node was made. Nodes that do the same thing at different time steps differ in `step` alone."""

    module: str
    name: str
    op: str
    line: str
    step: int | None

    def __str__(self) -> str:
        step = "" if self.step is None else f" at time step {self.step}"
        module = f" in {self.module}" if self.module else ""
        name = f"{self.name!r}, " if self.name else ""
        return f"{name}the result of {self.op}{step}{module}, made by {self.line}"


class Watch:
    """What is told of every value and gradient while `detect_anomaly()` is on."""

    def __init__(self) -> None:
        self.places: dict[Tensor, Place] = {}
        self.values: list[tuple[Place, float]] = []
        self.gradients: list[tuple[Place, float]] = []

    def value(self, node: Tensor, op: Op, inputs: tuple[Tensor, ...]) -> None:
        """An op has made a node."""
        place = Place(module_path(node.scope), "", op.name, caller(), node.scope.step)
        self.places[node] = place
        self.values.append((place, norm(node._data)))
        if not np.isfinite(node._data).all():
            came = [x.describe() for x in inputs if not np.isfinite(x._data).all()]
            cause = f"its inputs were not finite already: {', '.join(came)}" if came else "its inputs were finite"
            self.report(f"the forward pass made {kind(node._data)}: {place}; {cause}", place, self.values)

    def gradient(self, share: Any, x: Tensor, node: Tensor) -> None:
        """The rule of a node has given one of its inputs its share."""
        assert node.op is not None
        array = share._data if isinstance(share, Tensor) else share
        place = self.places.get(node, Place("", "", node.op.name, "an op outside of detect_anomaly()", node.scope.step))
        place = place._replace(name=node.name or "")
        self.gradients.append((place, norm(array)))
        if not np.isfinite(array).all():
            text = f"the backward pass made {kind(array)}: the gradient for {x.describe()} from {place}"
            self.report(text, place, self.gradients)

    def report(self, text: str, place: Place, seen: list[tuple[Place, float]]) -> None:
        """Raise, with the norms of the same quantity at the steps before."""
        alike = [(p.step, n) for p, n in seen if p.step is not None and p[:1] + p[2:4] == place[:1] + place[2:4]]
        steps = dict(alike[-5:])
        if len(steps) > 1:
            text += ". Norms at the neighbouring steps: " + ", ".join(f"t={t}: {n:.3g}" for t, n in steps.items())
        raise AnomalyError(text)


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within this block, the first value or gradient that is not finite raises AnomalyError.

    It names the op, the module's path, the time step, the node's name, the line of your code that made it, and the norms of
    the same quantity at the time steps before it.
    """
    scope = current_scope.get()
    token = current_scope.set(scope._replace(watch=Watch()))
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        current_scope.reset(token)


def norm(x: Any) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(np.asarray(x, np.float64).ravel()))


def kind(x: Any) -> str:
    """What is wrong with an array, in a word or two."""
    count = int(np.size(x) - np.isfinite(x).sum())
    return f"{'NaN' if np.isnan(x).any() else 'infinity'} ({count} of {np.size(x)} elements)"


def caller() -> str:
    """The line that ran an op: the innermost one outside of this package, or inside it if a layer's own code did."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HOME):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
