"""The calls of modules that made a graph, and what they tell about time; for steps.py."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import pairwise

from .scope import Scope
from .tensor import Tensor


class Calls:
    """The calls of modules that made a graph: what enters each, and the step it belongs to. A call is known by its Scope."""

    def __init__(self, order: Sequence[Tensor], constant: Container[Tensor]) -> None:
        self._constant = constant  # parameters and their transposes: no call waits for them
        self._chains: dict[int, tuple[int, ...]] = {}
        self.scopes: dict[int, Scope] = {}  # every call, in the order of its first node
        self.entering: dict[int, dict[Tensor, None]] = {}
        self.home: dict[Tensor, int] = {}  # the call that gave a node its step
        self.step: dict[int, int | None] = {}
        self.inside: dict[int, set[int]] = {}
        self.loops: set[tuple[int, int]] = set()
        self.born: dict[int, int] = {}
        for x in order:
            if x.op is not None and x.scope.module is not None and x not in constant:
                self._enter(x)

    def chain(self, scope: Scope) -> tuple[int, ...]:
        """The calls around a node, from the outermost to its own."""
        if id(scope) not in self._chains:
            around = {id(call): call for call in scope.calls()}
            self.scopes |= around
            self._chains[id(scope)] = tuple(around)
        return self._chains[id(scope)]

    def _enter(self, x: Tensor) -> None:
        chain = self.chain(x.scope)
        for call in chain:
            self.born.setdefault(call, x.birth)
        for y in x.inputs:
            if y.is_number or y in self._constant:
                continue
            around = self.chain(y.scope) if y.op is not None else ()
            for call in chain:
                if call not in around:
                    self.entering.setdefault(call, {})[y] = None

    def siblings(self, call: int) -> tuple[int, int]:
        """What the calls of one module from one place have in common."""
        return id(self.scopes[call].module), id(self.scopes[call].parent)

    def counted(self, order: Sequence[Tensor]) -> dict[Tensor, int]:
        """Steps by counting the calls of modules that feed their own result, and something else, into their next call."""
        groups: dict[tuple[int, int], list[int]] = {}
        for call in self.scopes:
            groups.setdefault(self.siblings(call), []).append(call)
        number: dict[int, int] = {}
        for members in groups.values():
            if len(members) > 1 and all(self._follows(later, call) for call, later in pairwise(members)):
                number.update((call, k) for k, call in enumerate(members))
        return {
            x: next(number[call] for call in self.chain(x.scope) if call in number)
            for x in order
            if x.op is not None and any(call in number for call in self.chain(x.scope))
        }

    def _follows(self, later: int, call: int) -> bool:
        """Does a call take the result of an earlier one, and at least one thing more?"""
        entering = list(self.entering.get(later, ()))
        stack, seen = entering, set(entering)
        while stack:
            x = stack.pop()
            if x.op is not None and call in self.chain(x.scope):
                return len(self.entering[later]) > 1
            new = [y for y in x.inputs if y not in seen and y.op is not None and y.birth > self.born[call]]
            seen.update(new)
            stack = stack + new
        return False

    def step_of(self, x: Tensor, step: dict[Tensor, int], latest: dict[Tensor, int], marked: dict[Tensor, int]) -> int | None:
        """The step of the outermost call around `x` that lies within one step; the rest is from `steps.spread`."""
        for call in self.chain(x.scope):
            if call not in self.step:
                self.step[call] = self._one_step(call, step, latest, marked)
            if self.step[call] is not None:
                self.home[x] = call
                return self.step[call]
        return None

    def _one_step(
        self, call: int, step: dict[Tensor, int], latest: dict[Tensor, int], marked: dict[Tensor, int]
    ) -> int | None:
        if self.siblings(call) in self.loops:
            return None
        entering = self.entering.get(call, {})
        fresh = self.inside.get(call, set()) | {marked[y] for y in entering if y in marked}
        if fresh:
            return next(iter(fresh)) if len(fresh) == 1 else None
        newest = max((y for y in entering if y in latest), key=lambda y: latest[y], default=None)
        return None if newest is None else step[newest]

    def mark(self, marked: dict[Tensor, int], told: dict[Tensor, int]) -> None:
        """Note for every call which steps are marked inside it, and the calls that tell steps themselves."""
        for x in told:
            self.loops.update(self.siblings(call) for call in self.chain(x.scope))
        for x, t in marked.items():
            for call in self.chain(x.scope):
                self.inside.setdefault(call, set()).add(t)
