"""A loop over time as a C function, and the memory that only C knows.

A step is a pass over the rows of the batch, a matrix product, a pass, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ..places import Buffer, Place
from ..program import CONSTANT, Node
from ..schedule import BACKWARD, FORWARD
from .c_text import REAL, SMALL, TYPES, single
from .pass_text import PassText, each_element
from .passes import Row
from .plan import NotInC
from .rows import first_column, view, width

if TYPE_CHECKING:
    from .emit import NativeEmitter

WIDEST = 100  # characters of a list
LONGEST = 127  # of a line
STACK = 1 << 11  # elements that C may have there: 16 KB, where Python lets threads have 32
SIGN = re.compile(r" ([-+?:]|&&|\|\|) ")


class Memory:
    """What only C reads and writes: in one array, first what is kept for all steps, then what belongs to one; or, if little
    belongs to one and nothing is kept, on C's stack.
    """

    def __init__(self, name: str, loop: str, dtype: Any) -> None:
        self.name, self.loop, self.dtype = name, loop, dtype
        self.at: dict[Buffer, int] = {}
        self.kept = self.once = 0  # elements for each sequence: of every step, and of one
        self.rows = 0  # elements of rows

    def add(self, buffer: Buffer) -> None:
        """Room for a buffer."""
        if isinstance(buffer, Row):
            self.at[buffer], self.rows = self.rows, self.rows + buffer.node.shape[-1]
        elif buffer.stacked:
            self.at[buffer], self.kept = self.kept, self.kept + width(buffer.node)
        else:
            self.at[buffer], self.once = self.once, self.once + width(buffer.node)

    def on_stack(self, batch: int) -> bool:
        """Is it there?"""
        return not self.kept and batch * self.once + self.rows <= STACK

    def declared(self, name: str, buffer: Buffer, base: str, batch: int) -> str:
        """A buffer, as C declares it."""
        if self.on_stack(batch):
            size = buffer.node.shape[-1] if isinstance(buffer, Row) else elements(buffer.node)
            return f"{TYPES[self.dtype]} {name}[{size}];"
        return f"{TYPES[self.dtype]} *restrict {name} = {added(base, self.start(buffer))};"

    def size(self, batch: int) -> str:
        """How many elements there are."""
        return added(times(str(batch), self.kept, self.once), str(self.rows))

    def order(self, buffer: Buffer) -> tuple[str, bool, bool, int]:
        """Buffers in the order in which they lie in memory."""
        return self.name, isinstance(buffer, Row), not buffer.stacked, self.at[buffer]

    def start(self, buffer: Buffer) -> str:
        """Where a buffer begins."""
        at = self.at[buffer]
        if isinstance(buffer, Row):
            return added(times("N", self.kept, self.once), str(at))
        return times("N", at, 0) if buffer.stacked else times("N", self.kept, at)


def wrapped(head: str, parts: list[str], tail: str) -> list[str]:
    """A list on one line, or on several if it is long."""
    line = f"{head}{', '.join(parts)}{tail}"
    if len(line) <= WIDEST:
        return [line]
    rows = wrap(", ".join(part.replace(" ", "\0") for part in parts), WIDEST - 4, break_long_words=False)
    return [head, *("    " + row.replace("\0", " ") for row in rows), tail]


def folded(line: str) -> list[str]:
    """A line of the program, or several if it is long: broken before signs in as few parentheses as can be, not in indices."""
    rows, indent = list[str](), line.removesuffix(line.lstrip()) + "    "

    def inside(i: int, left: str, right: str) -> int:
        return line.count(left, 0, i) - line.count(right, 0, i)

    while len(line) > LONGEST:
        signs = [m.start() for m in SIGN.finditer(line, len(indent), LONGEST + 3) if not inside(m.start(), "[", "]")]
        if not signs:
            break
        end = min(reversed(signs), key=lambda i: inside(i, "(", ")"))
        rows.append(line[:end])
        line = indent + line[end + 1 :]
    return [*rows, line]


def added(*terms: str) -> str:
    """a + b, without zeros"""
    return " + ".join(term for term in terms if term != "0") or "0"


def times(batch: str, kept: int, once: int) -> str:
    """batch * (T * kept + once), without what is 0 or 1"""
    each = added(f"T * {kept}" if kept > 1 else "T" if kept else "0", str(once))
    if "1" in (batch, each):
        return each if batch == "1" else batch
    return "0" if each == "0" else f"{batch} * ({each})" if "+" in each else f"{batch} * {each}"


def elements(node: Node) -> str:
    """How many a matrix has that is given the rows of the batch."""
    return times("N", 0, width(node))


class Loop:
    """A loop over time as a C function. Its arguments are arrays: those that are given, and those that it fills."""

    def __init__(self, emitter: NativeEmitter, loop: str, name: str) -> None:
        self.emitter, self.plan, self.loop, self.name = emitter, emitter.places, loop, name
        self.arguments: dict[str, tuple[str, str]] = {}  # by name: as C declares them, and as Python calls them
        self.parts: dict[str, tuple[Buffer, str, Memory]] = {}  # what lies in memory that only C knows, and in which
        self.tops: dict[str, str] = {}  # pointers to what belongs to a step
        self.before = self.begin_states()
        self.body = self.steps()
        self.after = [self.product_over_time(n) for n in self.plan.products] if loop == BACKWARD else []
        for _, base, memory in self.parts.values():
            if memory.on_stack(emitter.batch):
                self.arguments.pop(base, None)
        given_first = sorted(self.arguments.values(), key=lambda each: not each[0].startswith("const"))
        self.declared, self.called = zip(*given_first, strict=True)

    def steps(self) -> list[str]:
        """The lines of one step."""
        plan, loop = self.plan, self.loop
        phase, nodes = plan.phase[loop], plan.body[loop]
        when = {value: plan.ready(value, loop) for value, _ in plan.copies[loop]}
        lines: list[str] = []
        for p in range(max([-1, *phase.values(), *when.values()]) + 1):
            now = [n for n in nodes if phase[n] == p]
            rows = [n for n in now if n.op != "matmul"]
            copies = [(value, place) for value, place in plan.copies[loop] if when[value] == p]
            if rows or copies:
                lines += PassText(plan, loop, rows, copies, pointer=self.pointer, name=self.emitter.c_value).lines()
            lines += [self.product(n) for n in now if n.op == "matmul"]
        return lines

    def begin_states(self) -> list[str]:
        """The lines that put the states, or the gradients that are carried, where the first step reads them."""
        rolled, plan, lines = self.emitter.rolled, self.plan, list[str]()
        forward = self.loop == FORWARD
        given, buffers = (rolled.states, plan.states) if forward else (rolled.carries, plan.carries)
        for node, buffer in zip(given, buffers, strict=True):
            start = self.argument(("start", node), self.emitter.scope.known[node], buffer.dtype, "const ")
            lines.append(f"__builtin_memcpy({self.base(buffer)}, {start}, {elements(node)} * sizeof *{start});")
        return lines

    def text(self) -> str:
        """The function."""
        parts = sorted(
            (memory.order(buffer), f"    {memory.declared(name, buffer, base, self.emitter.batch)}")
            for name, (buffer, base, memory) in self.parts.items()
        )
        sums = self.plan.sums if self.loop == BACKWARD else {}
        order = "long t = 0; t < T; t++" if self.loop == FORWARD else "long t = T; t-- > 0;"
        return "\n".join(
            [
                *wrapped(f"void {self.name}(", ["long T", "long N", *self.declared], ") {"),
                *(line for _, line in parts),
                *(f"    {line}" for line in each_element({n: f"{self.pointer(p)}[j] = 0;" for n, p in sums.items()})),
                *(row for line in self.before for row in folded(f"    {line}")),
                f"    for ({order}) {{",
                *(row for line in [*self.tops.values(), *self.body] for row in folded(f"        {line}")),
                "    }",
                *(row for line in self.after for row in folded(f"    {line}")),
                "}",
            ]
        )

    def argument(self, key: Any, text: str, dtype: Any, const: str = "") -> str:
        """The name of an array that the function is given; `const` if it is not written to."""
        end = ("_all" if key.stacked else "_both" if key in self.plan.carries else "") if isinstance(key, Buffer) else ""
        name = self.emitter.c_name(("array", key), text + end)
        self.arguments[name] = f"{const}{TYPES[dtype]} *restrict {name}", text
        return name

    def at_step(self, key: Any, wish: str, dtype: Any, where: str, const: str = "") -> str:
        """A pointer that moves with time."""
        name = self.emitter.c_name(key, wish)
        self.tops[name] = f"{const}{TYPES[dtype]} *{name} = {where};"
        return name

    def pointer(self, what: Node | Place) -> str:
        """The pointer to a value at this step, or to what is the same at all steps."""
        if isinstance(what, Place):
            return self.buffer(what)
        node, base = what, self.base(what)
        if node.rank == CONSTANT:
            return base
        return self.at_step((node, "t"), f"{base}_t", node.dtype, f"{base} + t * {elements(node)}", "const ")

    def base(self, what: Node | Buffer) -> str:
        """The pointer to where an array begins."""
        if isinstance(what, Buffer) and what not in self.plan.public:
            return self.part(what)
        text = self.emitter.literal(what) if isinstance(what, Node) and what.op == "constant" else self.emitter.use(what)
        return self.argument(what, text, what.dtype, "const " if isinstance(what, Node) else "")

    def buffer(self, place: Place) -> str:
        """The pointer to a buffer, or to its rows at this step."""
        buffer, old = place.buffer, place.old
        base = self.base(buffer)
        size, name = elements(buffer.node), buffer.name or "s"
        if buffer.state:
            where = f"{base} + t * {size}" if old else f"{base} + (t + 1) * {size}"
            return self.at_step((buffer, old), f"{name}_old" if old else f"{name}_new", buffer.dtype, where)
        if buffer in self.plan.carries:
            where = f"{base} + {'(T - 1 - t)' if old else '(T - t)'} % 2 * {size}"
            return self.at_step((buffer, old), f"{name}_now" if old else f"{name}_next", buffer.dtype, where)
        if not buffer.stacked:
            return base
        return self.at_step((buffer, "t"), f"{base.removesuffix('_all')}_t", buffer.dtype, f"{base} + t * {size}")

    def part(self, buffer: Buffer) -> str:
        """The pointer to a buffer in memory that only C knows: `_all` steps, the `_rows` of one, or a `_row`."""
        node, emitter = buffer.node, self.emitter
        end = "_row" if isinstance(buffer, Row) else "_all" if buffer.stacked else "_rows" if node.op != "matmul" else ""
        sums = self.plan.sums
        name = emitter.c_name((node, end), self.pointer(sums[node]) + end) if node in sums else emitter.c_value(node, end)
        if name not in self.parts:
            memory = emitter.private(buffer, self.loop)
            key = memory.loop, memory.dtype
            base = self.argument(key, emitter.use(key), buffer.dtype)
            self.parts[name] = buffer, base, memory
        return name

    def product(self, node: Node) -> str:
        """A matrix product."""
        a, b = node.args
        plain = len(a.shape) == len(b.shape) == 2 and a.rank != CONSTANT == b.rank and a.dtype == b.dtype == node.dtype
        if not plain or node.dtype not in REAL:
            raise NotInC(f"a product of {a.shape} and {b.shape}", node)
        left, left_apart = self.matrix(a, self.pointer)
        out, out_apart = self.matrix(node, self.pointer)
        (k, m), batch, f = b.shape, self.emitter.batch, single(node.dtype)
        name, n = f"small_product{f}" if batch * k * m <= SMALL else f"product{f}", "N" if batch > 1 else "1"
        return f"{name}({n}, {k}, {m}, {left}, {left_apart}, {self.pointer(b)}, {out}, {out_apart});"

    def product_over_time(self, node: Node) -> str:
        """A product of two matrices that have a row for each sequence at each step."""
        (a, a_apart), (b, b_apart) = (self.matrix(x, self.at_first) for x in node.args)
        f, (n, m), out = single(node.dtype), node.shape, self.base(self.plan.products[node].buffer)
        return f"product_over_time{f}(T * N, {n}, {m}, {a}, {a_apart}, {b}, {b_apart}, {out});"

    def matrix(self, node: Node, pointer: Callable[[Node | Place], str]) -> tuple[str, int]:
        """Where a matrix begins, from a pointer to what it is part of, and how far apart its rows do."""
        start = 0
        if self.plan.place(node, self.loop) is None:
            node, start, _ = view(node)
        place = self.plan.place(node, self.loop)
        if place is None:
            return added(pointer(node), str(start)), width(node)
        return added(pointer(place), str(start + first_column(place))), width(place.buffer.node)

    def at_first(self, what: Node | Place) -> str:
        """The pointer to a value at the first step, before which a state has another row."""
        if isinstance(what, Node):
            return self.base(what)
        buffer = what.buffer
        return added(self.base(buffer), elements(buffer.node) if buffer.state and not what.old else "0")
