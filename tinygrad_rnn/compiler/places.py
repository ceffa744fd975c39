"""Where the values of a loop live: in a stack with a row per step, if another stage reads them, or in a buffer used again.

A value may be part of a larger one: a piece of a split is a view of the whole, and what is concatenated is written where it
belongs in the first place.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

from ..ops import along, basic
from .program import Node, elementwise
from .roll import Rolled
from .schedule import BACKWARD, FORWARD, KNOWN, LOOPS

View = tuple[str, Any]  # ("getitem", key), ("reshape", shape), ("transpose", axes)


class Buffer:
    """Memory of one shape: for one step, or with `stacked` for all of them (a state's has one more, the first).

    A state may have company, in rows that are read as a whole.
    """

    def __init__(self, node: Node, stacked: bool, state: bool = False, whole: Node | None = None) -> None:
        self.node, self.stacked, self.state, self.whole = node, stacked, state, whole
        self.shape, self.dtype = (whole or node).shape, node.dtype
        self.name = node.name if whole is None else whole.name or "".join(x.name or "" for x in whole.args)


class Place(NamedTuple):
    """A buffer, and the way from it to the value."""

    buffer: Buffer
    views: tuple[View, ...] = ()
    old: bool = False  # the state before the step


def view_of(node: Node) -> View | None:
    """The view that a node is of its argument, if it is one."""
    if node.op == "getitem" and basic(node.params["key"]):
        return "getitem", node.params["key"]
    if node.op == "transpose":
        return "transpose", tuple(node.params["axes"])
    if node.op == "reshape" and splits_last(node.args[0].shape, node.shape):
        return "reshape", node.shape
    return None


def unjoined(node: Node) -> tuple[Node | None, tuple[View, ...]]:
    """Of a reshape that joins the last axes: the value that it shows, and the views from the result back to it.

    x (N, 3, H) can be written as (N, 3 * H) in the first place; and so can x (3, N, H) that is transposed in between.
    """
    if node.op != "reshape" or not splits_last(node.shape, node.args[0].shape):
        return None, ()
    inner = node.args[0]
    back: tuple[View, ...] = (("reshape", inner.shape),)
    if inner.op == "transpose":
        axes = inner.params["axes"]
        return inner.args[0], (*back, ("transpose", tuple(axes.index(i) for i in range(len(axes)))))
    return inner, back


def in_place(node: Node) -> bool:
    """Can the result be written over an argument?"""
    return elementwise(node) and node.op != "where"


def splits_last(shape: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Does a reshape cut the last axis, or join what was cut from it? The first can be done to any view."""
    k = len(shape) - 1
    return k >= 0 and new[:k] == shape[:k] and prod(new[k:]) == shape[k]


def within(buffer: Buffer, old: Node) -> tuple[View, ...]:
    """The way from a state's buffer to the state."""
    return () if buffer.whole is None else tuple(("getitem", key) for key, x in parts(buffer.whole) if x is old)


class Places:
    """The places of all values of both loops."""

    def __init__(self, rolled: Rolled, staged: dict[Node, str]) -> None:
        self.staged = staged
        self.of: dict[Node, Place] = {}
        self.copies: dict[str, list[tuple[Node, Place]]] = {FORWARD: [], BACKWARD: []}  # at the end of a step
        self.body = {loop: [n for n, s in staged.items() if s == loop and n.args] for loop in LOOPS}
        self.base = {n: self._base(n) for loop in LOOPS for n in self.body[loop]}
        self.stored = self._stored(rolled)
        whole = {old: self._whole(old) for old in rolled.states}
        self.states = [Buffer(new, True, True, whole[old]) for old, new in zip(rolled.states, rolled.new, strict=True)]
        self.carries = [Buffer(carry, False) for carry in rolled.carries]
        for buffer, old in zip(self.states, rolled.states, strict=True):
            self.of[old] = Place(buffer, within(buffer, old), True)
            if buffer.whole is not None:
                self.of[buffer.whole] = Place(buffer, old=True)
        for buffer, carry in zip(self.carries, rolled.carries, strict=True):
            self.of[carry] = Place(buffer)
        for buffer, old, new in zip(self.states, rolled.states, rolled.new, strict=True):
            self._settle(new, Place(buffer, within(buffer, old)), FORWARD)
        for loop in LOOPS:
            if loop == BACKWARD:
                self._carry_back(rolled)
            self._join(loop)
            self._rest(loop)

    def _base(self, node: Node) -> Node:
        while view_of(node) is not None and self.staged.get(node.args[0]) == self.staged[node]:
            node = node.args[0]
        return node

    def _whole(self, old: Node) -> Node | None:
        """The first concatenation of a state with what is known before the loop."""

        def fits(node: Node) -> bool:
            rows = node.op == "concatenate" and node.params["axis"] == 1 == len(node.shape) - 1 and node.dtype == old.dtype
            return rows and node.args.count(old) == 1 and all(x is old or self.staged[x] in KNOWN for x in node.args)

        return next(filter(fits, self.body[FORWARD]), None)

    def _stored(self, rolled: Rolled) -> set[Node]:
        """The values of a loop that are read outside of it."""
        wanted = set(rolled.outputs.values()) | ({rolled.dx} if rolled.dx is not None else set())
        for node, where in self.staged.items():
            for x in node.args:
                if self.staged[x] in LOOPS and self.staged[x] != where:
                    wanted.add(x)
        wanted |= {node for node in rolled.totals if node is not None}
        return {self.base.get(n, n) for n in wanted if self.staged.get(n) in LOOPS}

    def _settle(self, node: Node, place: Place, loop: str) -> None:
        """A value is to be at this place: computed there, or copied to it."""
        if self.staged[node] == loop and node.args and node not in self.of and view_of(node) is None:
            self.of[node] = place
        else:
            self.copies[loop].append((node, place))

    def _carry_back(self, rolled: Rolled) -> None:
        """A new carry is written over the old one, if nothing reads that any more."""
        body = self.body[BACKWARD]
        last = last_use(body, self.base)
        at = {n: i for i, n in enumerate(body)}
        for buffer, carry, new in zip(self.carries, rolled.carries, rolled.back, strict=True):
            if new is carry:
                continue
            read, made = last.get(carry, -1), at.get(new, -1)
            free = new in at and carry not in rolled.back and self.base[new] not in self.stored
            if free and (read < made or (read == made and in_place(new) and new.shape == carry.shape)):
                self._settle(new, Place(buffer), BACKWARD)
            else:
                self.copies[BACKWARD].append((new, Place(buffer)))

    def _join(self, loop: str) -> None:
        """What is concatenated is computed in its part of the whole."""
        for whole in reversed(self.body[loop]):
            inner, back = unjoined(whole)
            if inner is not None and view_of(whole) is None:
                if whole not in self.of and self._free(inner, loop):
                    stored = any(map(self._holds_stored, (whole, inner, *whole.args)))
                    self.of[whole] = Place(Buffer(whole, stored))
                    self.of[inner] = Place(self.of[whole].buffer, back)
                continue
            if whole.op not in ("concatenate", "stack") or (whole in self.of and self.of[whole].old):
                continue
            if whole not in self.of:
                self.of[whole] = Place(Buffer(whole, self._holds_stored(whole)))
            for key, part in parts(whole):
                self._settle_part(part, self.of[whole], key, loop)

    def _holds_stored(self, whole: Node) -> bool:
        """Is a concatenation, or anything that it is made of and that lives in it, read outside of its loop?"""
        inside = whole.args if whole.op in ("concatenate", "stack") else ()
        return self.base.get(whole, whole) in self.stored or any(map(self._holds_stored, inside))

    def _settle_part(self, part: Node, whole: Place, key: Any, loop: str) -> None:
        if part.dtype != whole.buffer.dtype:  # it is copied, since what reads it alone may not take it widened
            return
        place = Place(whole.buffer, (*whole.views, ("getitem", key)))
        inner, back = unjoined(part)
        if inner is not None:
            if self._free(inner, loop):
                self.of[inner] = Place(whole.buffer, (*place.views, *back))
                self.of[part] = place
        elif self._free(part, loop) and view_of(part) is None:
            self.of[part] = place

    def _free(self, node: Node, loop: str) -> bool:
        return self.staged.get(node) == loop and bool(node.args) and node not in self.of

    def _rest(self, loop: str) -> None:
        """Everything else, in the order in which it is computed; memory is used again when its last reader is through."""
        body = self.body[loop]
        last = last_use(body, self.base)
        last |= {self.base.get(n, n): len(body) for n, _ in self.copies[loop]}
        spare: list[tuple[int, Buffer]] = []  # from when on a buffer may be used
        for i, node in enumerate(body):
            if node in self.of:
                continue
            view = view_of(node)
            if view is not None and node.args[0] in self.of:
                of = self.of[node.args[0]]
                self.of[node] = Place(of.buffer, (*of.views, view), of.old)
                continue
            if self.base[node] in self.stored:
                self.of[node] = Place(Buffer(node, True))
                continue
            buffer = next(
                (
                    b
                    for free, b in spare
                    if (b.shape, b.dtype) == (node.shape, node.dtype) and (free < i or (free == i and in_place(node)))
                ),
                None,
            )
            if buffer is None:
                buffer = Buffer(node, False)
            spare = [(free, b) for free, b in spare if b is not buffer]
            spare.append((last.get(node, i), buffer))
            self.of[node] = Place(buffer)


def last_use(body: Iterable[Node], base: dict[Node, Node]) -> dict[Node, int]:
    """For every value, the place in the body where it, or a view of it, is read last."""
    found: dict[Node, int] = {}
    for i, node in enumerate(body):
        for x in node.args:
            found[base.get(x, x)] = i
    return found


def parts(whole: Node) -> list[tuple[Any, Node]]:
    """The arguments of a concatenation or a stack, each with its index in the whole."""
    if whole.op == "stack":
        return [(along(whole.params["axis"], i), x) for i, x in enumerate(whole.args)]
    axis, start, found = whole.params["axis"], 0, []
    for x in whole.args:
        found.append((along(axis, slice(start, start + x.shape[axis])), x))
        start += x.shape[axis]
    return found
