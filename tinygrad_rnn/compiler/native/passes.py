"""A pass over the rows of a batch: for each sequence a few loops over the elements of its row, and which of them has what.

Operations of one width share a loop, unless one needs a whole row of what the other computes: a sum, a slice. Where rows
would wait for sums, each row for its own, all of them take the loops up to there first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..places import Buffer, Place, parts
from ..program import Node, elementwise
from .c_text import CHEAP, END, read_times
from .plan import Plan
from .rows import View, view, width

Item = Node | tuple[Node, Place]  # a value to compute, or one to copy to a place


class Row(Buffer):
    """Memory for one row, or for what is summed over the rows of a step."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, False)


class Pass:
    """One pass over all rows. loop: that over time, in which it is; `loops`: those over a row."""

    def __init__(self, plan: Plan, loop: str, nodes: Iterable[Node], copies: Iterable[tuple[Node, Place]]) -> None:
        self.plan, self.loop = plan, loop
        self.loops: list[list[Item]] = []
        self.widths: list[int] = []
        self.at: dict[Node, int] = {}  # the loop in which a value is computed
        self.begun: dict[Node, int] = {}  # of what is joined: that of its first part
        self.to: dict[Node, list[Place]] = {}  # where it is written
        self.rows: dict[Node, Place] = {}  # for what a later loop reads of a row, and for sums over time: those of one step
        self.uses: dict[tuple[Node, int], int] = {}  # how often a loop reads a value by its name, or as it computes it
        for node in nodes:
            if node.op == "concatenate":
                self.join(node)
            else:
                self.compute(node)
        for value, place in copies:
            self.copy(value, place)
        self.light = self.computed_as_read()
        self.repeat()
        read = [{view(x).root for item in items for x in reads(item)} - self.light for items in self.loops]
        # the loops that begin a new loop over n
        self.starts = [k for k in range(1, len(read)) if self.divides(k, set[Node]().union(*read[k:]))]
        for k, items in enumerate(self.loops):
            for item in items:
                for i, x in enumerate(reads(item)):
                    self.read(x, k, read_times(item.op, i) if isinstance(item, Node) else 1)

    def is_end(self, node: Node) -> bool:
        """Is this a sum or the like, of a row or over time, which is there after the loop only?"""
        return node.op in END or self.is_sum(node)

    def is_sum(self, node: Node) -> bool:
        """Is this a sum over time?"""
        return node in self.plan.sums

    def compute(self, node: Node) -> None:
        """A value enters a loop: a sum or the like, that over what it is of."""
        self.at[node] = self.enter(node, node.args, width(node.args[0] if self.is_end(node) else node))
        place = self.plan.place(node, self.loop)
        self.to[node] = [place] if place is not None and not self.is_sum(node) else []
        if self.is_sum(node):
            self.rows[node] = Place(Row(node))

    def enter(self, item: Item, reads: Iterable[Node], wide: int) -> int:
        """The first loop that can have an item, or a new one."""
        k = 0
        for seen in map(view, reads):
            if seen.root in self.at:
                k = max(k, self.at[seen.root] + (not same_element(seen, wide)))
        while k < len(self.loops) and self.widths[k] != wide:
            k += 1
        if k == len(self.loops):
            self.loops.append([])
            self.widths.append(wide)
        self.loops[k].append(item)
        return k

    def join(self, node: Node) -> None:
        """A concatenation: each part is written to its place in it."""
        place = self.plan.place(node, self.loop)
        if place is None:
            place = self.rows[node] = Place(Row(node))
        ends = [self.copy(part, place._replace(views=(*place.views, ("getitem", key)))) for key, part in parts(node)]
        self.begun[node], self.at[node] = min(ends), max(ends)

    def copy(self, value: Node, place: Place) -> int:
        """A value is written to a place: where it is computed, or in a line of its own."""
        if place in self.to.get(value, ()):
            return self.at[value]
        if value in self.at and elementwise(value):
            self.to[value].append(place)
            return self.at[value]
        return self.enter((value, place), (value,), width(value))

    def computed_as_read(self) -> set[Node]:
        """What is as fast to compute as to read: cheap, made of two arrays at most, and not written to memory in any case."""
        made_of: dict[Node, set[Node]] = {}
        for node in self.at:
            if node.op in CHEAP and width(node) > 1 and not self.to[node]:
                roots = (view(x).root for x in node.args)
                made_of[node] = set().union(*(made_of.get(root, {root}) for root in roots if width(root) > 1))
        return {node for node, arrays in made_of.items() if len(arrays) <= 2}

    def repeat(self) -> None:
        """What is light is computed in every loop that reads it, unless one reads it as part of a row."""
        for k, items in enumerate(self.loops):
            for seen in (view(x) for item in items for x in reads(item)):
                if not same_element(seen, self.widths[k]):
                    self.light.discard(seen.root)
        for k, items in enumerate(self.loops if self.light else ()):
            self.loops[k] = []
            for item in items:
                if isinstance(item, tuple) or item not in self.light:
                    self.append(item, k)

    def append(self, item: Item, k: int) -> None:
        """An item at the end of a loop, after what it reads that is not there yet."""
        for root in (view(x).root for x in reads(item)):
            if root in self.light and root not in self.loops[k]:
                self.append(root, k)
        self.loops[k].append(item)

    def divides(self, k: int, read: Iterable[Node]) -> bool:
        """Are all rows to come as far as this loop before the first goes on, so that their sums need not wait for each other?

        That is free if what is read from here on is in memory in any case.
        """
        earlier = [root for root in read if self.at.get(root, k) < k]
        waits = bool(self.loops[k]) and self.widths[k] > 1 and any(width(root) == 1 for root in earlier)
        free = all(root not in self.rows and self.plan.place(root, self.loop) for root in earlier)
        joined = any(self.begun[n] < k <= self.at[n] for n in self.begun if n in self.rows)  # a row, on both sides of it
        return waits and free and not joined

    def read(self, x: Node, k: int, times: int) -> None:
        """Something is read in a loop: what an earlier loop computes has to be in memory."""
        seen = view(x)
        root = seen.root
        if root not in self.at:
            return
        if self.here(seen, k):
            self.uses[root, k] = self.uses.get((root, k), 0) + times
        elif width(root) > 1 and root not in self.rows and self.plan.place(root, self.loop) is None:
            self.rows[root] = Place(Row(root))
            self.to[root].append(self.rows[root])
        elif width(root) == 1:
            self.uses[root, self.at[root]] = 2  # a later loop knows it by its name

    def together(self, root: Node, k: int) -> bool:
        """Is a value computed in the same loop over n as a loop that reads it?"""
        return not any(self.at[root] < start <= k for start in self.starts)

    def here(self, seen: View, k: int) -> bool:
        """Does a loop compute the very element that it reads?"""
        root = seen.root
        return (self.at.get(root) == k or root in self.light) and same_element(seen, self.widths[k])


def reads(item: Item) -> Sequence[Node]:
    """What an item is computed of, or a copy of."""
    return item.args if isinstance(item, Node) else item[:1]


def same_element(seen: View, wide: int) -> bool:
    """Does a loop of this width read of a value, as it computes it, the very element?"""
    return width(seen.root) == wide and elementwise(seen.root) and (wide == 1 or not seen.one)
