"""Where an op runs: whether it is recorded, in which call of which module, at which time step. And the clock of all nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .nn.module import Module
    from .ops import Op
    from .tensor import Tensor

# Inputs are born before outputs, so order of birth is a topological order; and a leaf that was written to after the birth of a
# node that read it is stale.
tick = itertools.count(1).__next__


class Watch:
    """Whoever stands in a scope as its `watch` is told what happens there. A subclass does something about it."""

    def value(self, node: Tensor, op: Op, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> None:
        """An op has made a node."""

    def constant(self, node: Tensor, function: Any, inputs: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """A function of NumPy that has no derivative has made a Tensor without history."""

    def looked(self, function: Any) -> None:
        """A function of NumPy has looked at values, and made none."""

    def walking(self, order: Sequence[Tensor]) -> AbstractContextManager[None]:
        """The block in which a graph is walked back."""
        return nullcontext()

    def arrived(self, g: Any, node: Tensor) -> None:
        """All of a node's gradient has arrived, and its rules are next."""

    def gradient(self, share: Any, x: Tensor, node: Tensor) -> None:
        """The rule of a node has given one of its inputs its share."""


class Scope(NamedTuple):
    """What a node remembers of its place; `parent` is the scope in which the module was called."""

    recording: bool = True
    module: Module | None = None
    step: int | None = None
    parent: Scope | None = None
    watch: Watch | None = None  # where someone asked to be told of every value and gradient

    def calls(self) -> list[Scope]:
        """The calls of modules around this place, from the outermost to the innermost; each is the parent of the next."""
        return [] if self.module is None or self.parent is None else [*self.parent.calls(), self]


current_scope: ContextVar[Scope] = ContextVar("current_scope", default=Scope())  # noqa: B039 (a tuple); one per thread and task


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Whether a graph is recorded within this block."""
    token = current_scope.set(Scope(on, *current_scope.get()[1:]))
    try:
        yield
    finally:
        current_scope.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within `with no_grad():`, or a function decorated with `@no_grad()`, no graph is recorded."""
    with recording(False):
        yield
