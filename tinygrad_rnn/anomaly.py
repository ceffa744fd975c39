"""Finding the first number that is not finite, in the forward pass or on the way back, and saying where it was made.

Every value and every gradient is looked at while `detect_anomaly()` is on; off, there is nothing to pay. What stood at the
other time steps is read off the graph once something is found, so that nothing is kept alive until then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from . import nn
from .backward import toposort
from .nn.module import module_path
from .ops import Op
from .scope import Watch, current_scope
from .steps import timing
from .tensor import Tensor

PACKAGE, LAYERS, NUMPY = (os.path.join(os.path.dirname(f), "") for f in (__file__, nn.__file__, np.__file__))
RECORD = nn.record.__file__  # a layer's file that only passes on what it is told
NEAR = 3  # how many time steps are shown on each side


class AnomalyError(FloatingPointError):
    """A value or a gradient is not finite."""


class Detector(Watch):
    """What is told of every value and gradient while `detect_anomaly()` is on."""

    def __init__(self) -> None:
        self.lines: WeakKeyDictionary[Tensor, str] = WeakKeyDictionary()  # the line that made each node
        self.order: Sequence[Tensor] = ()  # the graph that is being walked back,
        self.node: Tensor | None = None  # the node in it whose rules are running,
        self.norms: dict[Tensor, float] = {}  # and how large the gradients are that have arrived

    def value(self, node: Tensor, op: Op, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> None:
        """An op has made a node."""
        if self.node is not None:  # in a walk that makes a graph; `gradient` looks at what comes out of it
            self.lines[node] = f"{self.line(self.node)}, for the gradient of {self.node.op and self.node.op.name}"
            return
        self.lines[node] = caller()
        if not finite(node):
            place, near = self.place(node, op, toposort(node))
            raise AnomalyError(f"the forward pass made {wrong(node)}: {place}. {origins(inputs)}{near}")

    @contextmanager
    def walking(self, order: Sequence[Tensor]) -> Iterator[None]:
        """Within this block a graph is walked back."""
        self.order = order
        try:
            yield
        finally:
            self.order, self.node, self.norms = (), None, {}

    def arrived(self, g: Any, node: Tensor) -> None:
        """All of a node's gradient has arrived, and its rules are next."""
        if not finite(g):
            uses = [x for x in self.order if x in self.norms and any(y is node for y in x.inputs)]
            what = node.describe()
            if not uses:
                raise AnomalyError(f"backward() of {what} was given {wrong(g)} as its gradient")
            made = "; ".join(self.place(x, x.op, self.order)[0] for x in uses[:3] if x.op is not None)
            share = f"from {made}" if len(uses) == 1 else f"summed over {len(uses)} uses of it: {made}"
            raise AnomalyError(f"the backward pass made {wrong(g)}: the gradient for {what} {share}")
        self.node, self.norms[node] = node, norm(g)

    def gradient(self, share: Any, x: Tensor, node: Tensor) -> None:
        """The rule of a node has given one of its inputs its share."""
        if not finite(share) and node.op is not None:
            place, near = self.place(node, node.op, self.order)
            text = f"the backward pass made {wrong(share)}: the gradient for {x.describe()} from {place}"
            raise AnomalyError(f"{text}. Its own gradient has norm {self.norms[node]:.3g}. {origins(node.inputs)}{near}")

    def place(self, node: Tensor, op: Op, order: Sequence[Tensor]) -> tuple[str, str]:
        """Where a node was made, and what its like were at the time steps around it; `order` is the graph it is part of."""
        time = timing(order)
        step = time.step.get(node, node.scope.step)
        alike = {time.step[x]: x for x in order if x in time.role and time.role[x] == time.role.get(node)}
        name = node.name or next((x.name for x in alike.values() if x.name), None)
        path = module_path(node.scope)
        place = f"{f'{name!r}, ' if name else ''}the result of {op.name}{'' if step is None else f' at time step {step}'}"
        place += f"{f' in {path}' if path else ''}, made by {self.line(node)}"
        if step is None or len(alike) < 2:
            return place, ""
        around = {t: alike[t] for t in sorted(alike) if abs(t - step) <= NEAR}
        near = by_step("Norms at the neighbouring steps", {t: norm(x) for t, x in around.items()})
        back = by_step("Norms of their gradients", {t: self.norms[x] for t, x in around.items() if x in self.norms})
        return place, near + back

    def line(self, node: Tensor) -> str:
        """The line that made a node."""
        return self.lines.get(node, "a line outside of detect_anomaly()")


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within this block, the first value or gradient that is not finite raises AnomalyError.

    It names the op, the module's path, the time step, the node's name, the line of your code that made it, its inputs, and
    the norms of the same quantity at the time steps around it. To know the lines of a backward pass, have the forward pass
    in the block as well.
    """
    scope = current_scope.get()
    token = current_scope.set(scope._replace(watch=scope.watch or Detector()))
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        current_scope.reset(token)


# -- words for arrays and places ---------------------------------------------------------------------------------------------


def array(x: Any) -> Any:
    """The numbers of a Tensor or an array."""
    return np.asarray(x._data if isinstance(x, Tensor) else x)


def finite(x: Any) -> bool:
    """Whether all numbers are finite; integers are."""
    return array(x).dtype.kind != "f" or bool(np.isfinite(array(x)).all())


def norm(x: Any) -> float:
    """The Euclidean norm; of large numbers too, whose squares would overflow."""
    if array(x).dtype.kind == "O":  # the gradients of all outputs of a compiled layer, each of which has been looked at
        return 0.0
    numbers = np.abs(array(x).astype(np.float64).ravel())
    largest = float(numbers.max(initial=0))
    return largest * float(np.linalg.norm(numbers / largest)) if 0 < largest < np.inf else largest


def wrong(x: Any) -> str:
    """What is wrong with an array, in a word or two."""
    bad = ~np.isfinite(array(x))
    return f"{'NaN' if np.isnan(array(x)).any() else 'infinity'} ({np.count_nonzero(bad)} of {bad.size} elements)"


def origins(inputs: Sequence[Tensor]) -> str:
    """What an op was given."""
    return "Made of " + " and ".join(str(x._data) if x.is_number else f"{x.describe()} {extent(x)}" for x in inputs)


def extent(x: Tensor) -> str:
    """The least and the greatest number, or what is wrong."""
    if not finite(x):
        return f"with {wrong(x)} already"
    return f"from {array(x).min():.3g} to {array(x).max():.3g}" if x.size else "without elements"


def by_step(title: str, norms: Mapping[int, float]) -> str:
    """Norms in the order of time."""
    return f". {title}: " + ", ".join(f"t={t}: {n:.3g}" for t, n in norms.items()) if norms else ""


def caller() -> str:
    """The line that ran an op: the innermost one of the user's, and the line of our layer if it called one."""
    frame, layer = sys._getframe(1), ""
    while frame.f_back is not None and frame.f_code.co_filename.startswith((PACKAGE, NUMPY)):
        if not layer and frame.f_code.co_filename.startswith(LAYERS) and frame.f_code.co_filename != RECORD:
            layer = f" (in nn/{frame.f_code.co_filename[len(LAYERS) :]}:{frame.f_lineno})"
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}{layer}"
