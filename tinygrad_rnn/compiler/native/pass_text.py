"""A pass over the rows of a batch, as C text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..places import Place
from ..program import Node, elementwise, promoted
from .c_text import ARGUMENTS, ELEMENT, END, FIRM, LANES, TYPES, firmness, number, single
from .passes import Item, Pass, Row
from .rows import first_column, same_number, view, width


class PassText(Pass):
    """The text of a pass.

    given: as for a Pass. pointer: the C name of what is in memory, at this step. name: that of a value, in a loop, or with
    an end to it, that of what goes with the value.
    """

    def __init__(self, *given: Any, pointer: Callable[[Node | Place], str], name: Callable[..., str]) -> None:
        super().__init__(*given)
        self.pointer, self.name = pointer, name

    def lines(self) -> list[str]:
        """The pass as C."""
        found = list[str]()
        for k, items in enumerate(self.loops):
            if k in self.starts:
                found += ["}", "for (long n = 0; n < N; n++) {"]
            if items:
                found += [f"    {line}" for line in self.one(k)]
        sums = {node: f"{self.pointer(self.rows[node])}[j]" for node in self.at if self.is_sum(node)}
        before = each_element({node: f"{here} = 0;" for node, here in sums.items()})
        after = each_element({node: f"{self.pointer(self.plan.of[node])}[j] += {here};" for node, here in sums.items()})
        return [*before, "for (long n = 0; n < N; n++) {", *found, "}", *after]

    def one(self, k: int) -> list[str]:
        """One loop over a row; of a single element, the lines alone."""
        ends, wide = self.ends(k), self.widths[k]
        body = [line for item in self.loops[k] for line in self.item(item, k)]
        tail = [f"{self.element(place, k, one=True)} = {self.name(e)};" for e in ends for place in self.to[e]]
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
            f, lanes, first = single(e.dtype), self.name(e, "_lanes"), END[e.op][0]
            before.append(f"lanes{f} {lanes} = {{0}};")
            if first != "0":
                before.append(f"for (long j = 0; j < {LANES}; j++) {lanes}[j] = {first};")
            after.append(f"const {TYPES[e.dtype]} {self.name(e)} = {e.op}{LANES}{f}({lanes});")
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
        start += first_column(where) if isinstance(where, Place) else 0
        column = str(start) if one or self.widths[k] == 1 else f"{start} + j" if start else "j"
        if isinstance(where, Place) and isinstance(where.buffer, Row):
            return f"{self.pointer(where)}[{column}]"
        if isinstance(where, Node) and where.rank == 0 and (len(node.shape) < 2 or node.shape[0] == 1):
            return f"{self.pointer(where)}[{column}]"
        wide = width(node)
        return f"{self.pointer(where)}[n{f' * {wide} + {column}' if wide > 1 else ''}]"


def each_element(lines: Mapping[Node, str]) -> list[str]:
    """What is done to the elements of each of these: one loop for those of one width."""
    found = list[str]()
    for wide in dict.fromkeys(node.shape[-1] for node in lines):
        head, body = f"for (long j = 0; j < {wide}; j++)", [line for node, line in lines.items() if node.shape[-1] == wide]
        found += [f"{head} {body[0]}"] if len(body) == 1 else [f"{head} {{", *(f"    {line}" for line in body), "}"]
    return found
