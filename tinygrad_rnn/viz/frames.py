"""Which calls of modules are drawn as frames around the nodes they made, or in place of them as one box."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..nn.module import Module
from ..scope import Scope
from ..tensor import Tensor
from .names import Names

Key = tuple[int | None, tuple[int, ...]]  # a call: its step, and what identifies it and those around it


class Frames:
    """The calls of modules that are drawn around their nodes, inside of a step or outside of all."""

    SMALLEST = 3  # a call with fewer nodes has no frame: the labels of its nodes name its parameters by path

    def __init__(self, step: Mapping[Tensor, int], names: Names) -> None:
        self.step, self.names = step, names
        self.labels: list[str] = []
        self.titles: dict[int, str] = {}  # the module that makes all of a step
        self._paths: dict[Key, str] = {}
        self._modules: dict[int, int] = {}
        self._drawn: dict[Key, int] = {}  # those that are drawn: their place in `labels`
        self._around: dict[tuple[int | None, int], list[Key]] = {}

    def _calls(self, x: Tensor) -> list[Key]:
        """The calls around a node, outermost first. Within a step all calls of one module are one."""
        step = self.step.get(x)
        key = step, id(x.scope)
        if key not in self._around:
            found: list[Key] = []
            calls: tuple[int, ...] = ()
            for scope in x.scope.calls():
                assert scope.module is not None
                calls = (*calls, id(scope) if step is None else id(scope.module))
                self._modules[id(scope)] = id(scope.module)
                self._paths.setdefault((step, calls), self.names.path(scope.module))
                found.append((step, calls))
            self._around[key] = found
        return self._around[key]

    def settle(self, computed: Iterable[Tensor]) -> None:
        """Choose the frames worth drawing: not one around all of every step, nor one around hardly anything."""
        sizes: dict[Key, int] = {}
        totals: dict[int | None, int] = {}
        for x in computed:
            step = self.step.get(x)
            totals[step] = totals.get(step, 0) + 1
            for key in self._calls(x):
                sizes[key] = sizes.get(key, 0) + 1
        through_time = {calls[-1] for (step, calls) in sizes if step is not None}
        partial = {calls for (step, calls), size in sizes.items() if step is not None and size < totals[step]}
        for (step, calls), size in sizes.items():
            path = self._paths[step, calls]
            if step is not None and calls not in partial:
                self.titles[step] = path
            elif self.SMALLEST <= size < totals[step] and (step is not None or self._modules[calls[-1]] not in through_time):
                self._drawn[step, calls] = len(self.labels)
                self.labels.append(path)

    def of(self, x: Tensor) -> tuple[int, ...]:
        """The frames around a node, outermost first."""
        return tuple(self._drawn[call] for call in self._calls(x) if call in self._drawn)

    def context(self, x: Tensor) -> str:
        """The path that a reader of the picture sees around a node."""
        frames = self.of(x)
        step = self.step.get(x)
        return self.labels[frames[-1]] if frames else self.titles.get(step, "") if step is not None else ""


def boxed_calls(computed: Iterable[Tensor], step: Mapping[Tensor, int]) -> tuple[dict[Tensor, int], list[Module]]:
    """The call that stands for a node where each call is one box, and the module of each call.

    In a time step that is the outermost call which begins and ends within it; outside of time, one that calls no other.
    """
    places = {x: (id(x.scope), step.get(x)) for x in computed}
    scopes = {places[x]: x.scope for x in places}
    steps: dict[int, set[int | None]] = {}
    calling: set[int] = set()
    for (_, t), scope in scopes.items():
        for call in calls_around(scope):
            steps.setdefault(id(call), set()).add(t)
            calling.add(id(call.parent))
    box: dict[tuple[int, int | None], int] = {}
    number: dict[int, int] = {}
    modules: list[Module] = []
    for place, scope in scopes.items():
        within = [call for call in calls_around(scope) if steps[id(call)] == {place[1]}]
        within = within[-1:] if place[1] is not None else [call for call in within[:1] if id(call) not in calling]
        for call in within:
            if id(call) not in number:
                assert call.module is not None
                number[id(call)] = len(modules)
                modules.append(call.module)
            box[place] = number[id(call)]
    return {x: box[place] for x, place in places.items() if place in box}, modules


def calls_around(scope: Scope) -> list[Scope]:
    """The calls that a scope lies in, innermost first. A scope that a layer made for one step of its loop is not a call."""
    return [call for call in scope.calls()[::-1] if call.parent is not None and call.step == call.parent.step]
