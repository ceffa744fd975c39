"""A pass over the rows of a batch, as C: for each sequence a few loops over the elements of its row.

Operations of one width share a loop, unless one needs a whole row of what the other computes: a sum, a slice. Where rows
would wait for sums, each row for its own, all of them take the loops up to there first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..places import Buffer, Place, parts
from ..program import Node, elementwise, promoted
from .c_text import ARGUMENTS, CHEAP, ELEMENT, END, FIRM, LANES, TYPES, firmness, number, read_times, single
from .plan import Plan
from .rows import View, same_number, view, width

Item = Node | tuple[Node, Place]  # a value to compute, or one to copy to a place


class Row(Buffer):
    """Memory for one row, or for what is summed over the rows of a step."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, False)


class Pass:
    """One pass over all rows.

    pointer: the C name of what is in memory, at this step. name: that of a value, in a loop that computes it.
    """

    def __init__(
        self,
        plan: Plan,
        loop: str,
        nodes: Iterable[Node],
        copies: Iterable[tuple[Node, Place]],
        pointer: Callable[[Node | Place], str],
        name: Callable[..., str],
    ) -> None:
        self.plan, self.loop, self.pointer, self.name = plan, loop, pointer, name
        self.widths: list[int] = []
        self.loops: list[list[Item]] = []
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
        self.light = {node for node in self.at if self.is_light(node)}  # what each loop computes that reads it
        self.repeat()
        self.starts = [k for k in range(1, len(self.loops)) if self.divides(k)]  # the loops that begin a new loop over n
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

    # -- which loop --------------------------------------------------------------------------------------------------------

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
        if value in self.at and elementwise(value):
            if place not in self.to[value]:
                self.to[value].append(place)
            return self.at[value]
        return self.enter((value, place), (value,), width(value))

    def repeat(self) -> None:
        """What is light is computed in every loop that reads it, unless one reads it as part of a row."""
        for k, items in enumerate(self.loops):
            for seen in (view(x) for item in items for x in reads(item)):
                if not same_element(seen, self.widths[k]):
                    self.light.discard(seen.root)
        for k, items in enumerate(self.loops):
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

    def is_light(self, node: Node) -> bool:
        """Is a value computed as fast as read: cheap, made of two arrays at most, and not written to memory in any case?"""
        cheap = elementwise(node) and node.op in CHEAP and width(node) > 1
        return cheap and not self.to[node] and len(self.sources(node)) <= 2

    def sources(self, node: Node) -> set[Node]:
        """The arrays that an element is made of by cheap operations."""
        found = set[Node]()
        for root in (view(x).root for x in node.args):
            if width(root) > 1:
                computed = root.op in CHEAP and root in self.at and not self.to[root]
                found |= self.sources(root) if computed else {root}
        return found

    def divides(self, k: int) -> bool:
        """Are all rows to come as far as this loop before the first goes on, so that their sums need not wait for each other?

        That is free if what is read from here on is in memory in any case.
        """
        read = {view(x).root for items in self.loops[k:] for item in items for x in reads(item)} - self.light
        earlier = [root for root in read if self.at.get(root, k) < k]
        waits = bool(self.loops[k]) and self.widths[k] > 1 and any(width(root) == 1 for root in earlier)
        free = all(root not in self.rows and self.plan.place(root, self.loop) for root in earlier)
        return waits and free and not any(self.begun[n] < k <= self.at[n] for n in self.begun if n in self.rows)

    def read(self, x: Node, k: int, times: int) -> None:
        """Something is read in a loop: what an earlier loop computes has to be in memory."""
        seen, root = view(x), view(x).root
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

    # -- text --------------------------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """The pass as C."""
        before, after, found = list[str](), list[str](), list[str]()
        for k, items in enumerate(self.loops):
            if k in self.starts:
                found += ["}", "for (long n = 0; n < N; n++) {"]
            if items:
                found += [f"    {line}" for line in self.one(k)]
        for node in self.at:
            if self.is_sum(node):
                head, here = f"for (long j = 0; j < {node.shape[-1]}; j++)", self.pointer(self.rows[node])
                before.append(f"{head} {here}[j] = 0;")
                after.append(f"{head} {self.pointer(self.plan.of[node])}[j] += {here}[j];")
        return [*before, "for (long n = 0; n < N; n++) {", *found, "}", *after]

    def one(self, k: int) -> list[str]:
        """One loop over a row; of a single element, the lines alone."""
        ends, wide = self.ends(k), self.widths[k]
        body = [line for item in self.loops[k] for line in self.item(item, k)]
        tail = [f"{self.element(place, k)} = {self.name(e)};" for e in ends for place in self.to[e]]
        if self.in_lanes(k):
            return [*self.side_by_side(ends, body, wide), *tail]
        head = [f"{TYPES[e.dtype]} {self.name(e)} = {END[e.op][0]};" for e in ends]
        if wide == 1:
            return head + [line.replace("[j]", "[0]") for line in body] + tail  # [j]: of sums over time
        sums = ", ".join(self.name(e) for e in ends)
        if all(e.op == "sum" for e in ends):
            head.append("#pragma omp simd" + (f" reduction(+:{sums})" if sums else ""))
        return [*head, f"for (long j = 0; j < {wide}; j++) {{", *(f"    {line}" for line in body), "}", *tail]

    def side_by_side(self, ends: list[Node], body: list[str], wide: int) -> list[str]:
        """A loop over a row that takes its sums and the like in LANES parts."""
        before, after = list[str](), list[str]()
        for e in ends:
            kind, lanes = TYPES[e.dtype], self.name(e, "_lanes")
            first = "0" if e.op == "sum" else f"[0 ... {LANES - 1}] = {END[e.op][0]}"
            before.append(f"{kind} {lanes}[{LANES}] = {{{first}}};")
            after.append(f"const {kind} {self.name(e)} = {e.op}{LANES}{single(e.dtype)}({lanes});")
        return [
            *before,
            f"for (long block = 0; block < {wide}; block += {LANES}) {{",
            "    #pragma omp simd",
            f"    for (long j = block; j < block + {LANES}; j++) {{",
            *(f"        {line}" for line in body),
            "    }",
            "}",
            *after,
        ]

    def ends(self, k: int) -> list[Node]:
        """The sums and the like, of a row, that a loop takes."""
        return [i for i in self.loops[k] if isinstance(i, Node) and i.op in END]

    def in_lanes(self, k: int) -> bool:
        """Does it take them in LANES parts?"""
        ends = self.ends(k)
        return bool(ends) and self.widths[k] % LANES == 0 and all(e.dtype.kind == "f" for e in ends)

    def item(self, item: Item, k: int) -> list[str]:
        """The lines of an item."""
        if isinstance(item, tuple):
            return [f"{self.element(item[1], k)} = {self.text(item[0], k)};"]
        if item.op in END:
            into = f"{self.name(item, '_lanes')}[j - block]" if self.in_lanes(k) else self.name(item)
            return [END[item.op][1].format(self.text(item.args[0], k), into) + ";"]
        if self.is_sum(item):
            factors = [self.text(x, k, least) for x, least in zip(item.args, ARGUMENTS[FIRM["mul"]], strict=False)]
            return [f"{self.pointer(self.rows[item])}[j] += {' * '.join(factors)};"]
        if self.inlined(item, k):
            return []
        text, to = self.spelled(item, k), [self.element(place, k) for place in self.to[item]]
        if len(to) == 1 and not item.name and (item, k) not in self.uses:
            return [f"{to[0]} = {text};"]
        kind = TYPES[item.dtype].replace("unsigned char", "int")
        return [f"const {kind} {self.name(item)} = {text};", *(f"{place} = {self.name(item)};" for place in to)]

    def inlined(self, node: Node, k: int) -> bool:
        """Is a value written inside the expression that reads it?"""
        return not node.name and not self.to[node] and self.uses.get((node, k), 0) <= 1

    def spelled(self, node: Node, k: int) -> str:
        """The expression of an element."""
        dtype = node.dtype if node.dtype.kind == "f" else promoted(node.args)  # of a comparison
        texts = [self.text(x, k, least, dtype) for x, least in zip(node.args, ARGUMENTS[firmness(node.op)], strict=False)]
        return ELEMENT[node.op].format(*texts, f=single(dtype), c=TYPES[node.dtype])

    def text(self, node: Node, k: int, least: int = 0, dtype: Any = None) -> str:
        """The text of a value, in parentheses if it holds together less firmly than asked."""
        if same_number(node):
            return number(np.asarray(node.value).flat[0], node.dtype if dtype is None else dtype)
        root, start, one = seen = view(node)
        if root in self.at and ((width(root) == 1 and self.together(root, k)) or self.here(seen, k)):
            if not (elementwise(root) and self.here(seen, k) and self.inlined(root, k)):
                return self.name(root)
            text = self.spelled(root, k)
            return text if firmness(root.op) >= least else f"({text})"
        return self.element(self.rows.get(root) or self.plan.place(root, self.loop) or root, k, start, one)

    def element(self, where: Node | Place, k: int, start: int = 0, one: bool = False) -> str:
        """An element of an array, in the row and at the column of the loop, or at one column."""
        node = where.buffer.node if isinstance(where, Place) else where
        for _, key in where.views if isinstance(where, Place) else ():
            start += key[1].start or 0
        column = str(start) if one or self.widths[k] == 1 else f"{start} + j" if start else "j"
        if isinstance(where, Place) and isinstance(where.buffer, Row):
            return f"{self.pointer(where)}[{column}]"
        if isinstance(where, Node) and where.rank == 0 and (len(node.shape) < 2 or node.shape[0] == 1):
            return f"{self.pointer(where)}[{column}]"
        wide = width(node)
        return f"{self.pointer(where)}[n{f' * {wide} + {column}' if wide > 1 else ''}]"


def reads(item: Item) -> Sequence[Node]:
    """What an item is computed of, or a copy of."""
    return item.args if isinstance(item, Node) else item[:1]


def same_element(seen: View, wide: int) -> bool:
    """Does a loop of this width read of a value, as it computes it, the very element?"""
    return width(seen.root) == wide and elementwise(seen.root) and (wide == 1 or not seen.one)
