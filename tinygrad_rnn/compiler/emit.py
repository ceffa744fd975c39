"""The program as NumPy code: a function for the way forward and one for the way back, each a loop over time.

This is the one file of the compiler that knows a language. Values at all steps are arrays with time first (`z`); within a loop
`z_t` is the row of one step.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..ops import TABLE
from .places import Buffer, Place, Places, View, parts, view_of
from .program import CONSTANT, Node, elementwise, forward
from .schedule import AFTER, BACKWARD, BEFORE, BETWEEN, FORWARD, LAST, LOOPS, ONCE, OUTPUT, WHY, Rolled, stages

TOOLS = {name: getattr(np, name) for name in ("copyto", "dot", "empty", "zeros")}
TAKEN = {*keyword.kwlist, *TOOLS, "T", "saved", "zip", "reversed", "forward", "backward", "range"}
BATCHED = (BEFORE, OUTPUT, BETWEEN, AFTER)


class Code(NamedTuple):
    """Source text, and the objects that its global names stand for."""

    source: str
    names: dict[str, Any]


def emit(rolled: Rolled, title: str) -> Code:
    """The two functions."""
    return Emitter(rolled).code(title)


class Emitter:
    """Turns a scheduled program into text."""

    def __init__(self, rolled: Rolled) -> None:
        self.rolled = rolled
        self.staged = stages(rolled)
        self.places = Places(rolled, self.staged)
        self.globals: dict[str, Any] = {}
        self.taken = set(TAKEN)
        self.name: dict[Any, str] = {}  # of nodes, buffers, and views of buffers
        self.lines: list[str] = []
        self.scope: dict[str, str] = {}  # the function that a name was made in
        self.function = "forward"
        self.saved: dict[str, None] = {}

    # -- the two functions -------------------------------------------------------------------------------------------------

    def code(self, title: str) -> Code:
        """All of the text."""
        rolled = self.rolled
        for node in (*rolled.given.values(), *rolled.externals, *rolled.seeds.values(), *rolled.carries):
            self.naming(node, f"{node.name}0" if node in rolled.states else f"{node.name}_T" if node in rolled.carries else None)
        ways = [self.forward_way()]
        if rolled.back:
            ways.append(self.backward_way())
        saved = "".join(f"{name}, " for name in self.saved)
        ways[0] = ways[0].replace("SAVED", f"({saved})")
        if rolled.back:
            ways[1] = ways[1].replace("SAVED", f"    {saved.rstrip(', ')}{',' if len(self.saved) == 1 else ''} = saved" if saved else "    # nothing is saved")
        imports = sorted({name for name in {**TOOLS, **self.globals} if re.search(rf"\b{name}\b", "\n".join(ways))})
        known = {**TOOLS, **self.globals}
        numpys = [n for n in imports if getattr(np, n, None) is known[n]]
        head = f'"""{title}"""\n\nfrom numpy import {", ".join(numpys)}\n'
        return Code("\n\n".join([head, *ways]), {n: known[n] for n in imports})

    def forward_way(self) -> str:
        """x and the initial states in; the outputs and the final states out, and what the way back needs."""
        rolled = self.rolled
        self.begin("forward", [*rolled.given.values(), *rolled.externals])
        self.lines.append(f"    T = len({self.name[rolled.given['x']]})")
        needed = self.needed(rolled.forward_roots())
        self.section(ONCE, needed)
        self.section(BEFORE, needed)
        self.loop(FORWARD, rolled.states, self.places.states)
        self.section(OUTPUT, needed)
        results = [self.whole(node) for node in rolled.outputs.values()]
        finals = [f"{self.buffer(b)}[-1]" for b in self.places.states]
        self.lines.append(f"    return [{', '.join(results)}], [{', '.join(finals)}], SAVED")
        return "\n".join(self.lines)

    def backward_way(self) -> str:
        """The gradients of the outputs and the final states in; those of x, the initial states and the parameters out."""
        rolled = self.rolled
        self.begin("backward", [*rolled.seeds.values(), *rolled.carries], "saved")
        self.lines += ["SAVED", f"    T = len({self.used_first()})"]
        done = self.needed(rolled.forward_roots())
        self.section(ONCE, set(self.staged) - done)
        self.section(BEFORE, set(self.staged) - done)
        self.section(BETWEEN, set(self.staged))
        self.loop(BACKWARD, rolled.carries, self.places.carries)
        self.section(AFTER, set(self.staged))
        self.section(LAST, set(self.staged))
        dx = "None" if rolled.dx is None else self.whole(rolled.dx)
        carries = ", ".join(self.buffer(b) for b in self.places.carries)
        totals = ", ".join("None" if g is None else self.total(g) for g in rolled.totals)
        self.lines.append(f"    return {dx}, [{carries}], [{totals}]")
        return "\n".join(self.lines)

    def used_first(self) -> str:
        """Something saved whose length is T."""
        name = self.name[self.rolled.given["x"]]
        self.saved[name] = None
        return name

    def begin(self, function: str, arguments: Iterable[Node], first: str = "") -> None:
        """The head of a function."""
        self.function = function
        names = [first] if first else []
        for node in arguments:
            names.append(self.name[node])
            self.scope[self.name[node]] = function
        self.lines = [f"def {function}({', '.join(names)}):"]

    def needed(self, roots: list[Node]) -> set[Node]:
        """What the forward pass has to compute: for its results, and in its loop."""
        seen: set[Node] = set()
        stack = [*roots, *self.places.body[FORWARD]]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += node.args
        return seen

    # -- names -------------------------------------------------------------------------------------------------------------

    def naming(self, key: Any, wish: str | None = None) -> str:
        """A name of its own for a node or a buffer."""
        if key not in self.name:
            hint = wish or (key.node.name if isinstance(key, Buffer) else key.name) or self.hint(key)
            base = re.sub(r"\W+", "_", hint, flags=re.ASCII)
            base = f"v{base}" if not base or base[0].isdigit() else base
            name, i = base, 2
            while name in self.taken:
                name, i = f"{base}{i}", i + 1
            self.taken.add(name)
            self.name[key] = name
        return self.name[key]

    def hint(self, node: Any) -> str:
        """A name for a value that nobody has named."""
        node = node.node if isinstance(node, Buffer) else node
        if node.op == "transpose" and node.args[0].name:
            return f"{node.args[0].name}_T"
        if node.rank == CONSTANT:
            return "w"
        return "z" if node.rank <= 2 else "k" if node.rank == 3 else "d"

    def use(self, name: str) -> str:
        """A name that is read; one made on the way forward has to be saved for the way back."""
        if self.function == "backward" and self.scope.get(name) == "forward":
            self.saved[name] = None
        return name

    def make(self, key: Any, text: str, wish: str | None = None) -> str:
        """Bind a name in the function that is being written."""
        name = self.naming(key, wish)
        self.scope[name] = self.function
        self.lines.append(f"    {name} = {text}")
        return name

    def buffer(self, buffer: Buffer) -> str:
        """The name of a buffer, made when it is first asked for."""
        if buffer not in self.name:
            lead = ("T + 1, " if buffer.state else "T, ") if buffer.stacked else ""
            shape = lead + ", ".join(map(str, buffer.shape))
            wish = f"{buffer.node.name or 's'}s" if buffer.state else None
            if buffer in self.places.carries:
                wish = buffer.node.name
            self.make(buffer, f"empty(({shape.strip(', ')}{',' if shape.count(',') == 0 else ''}), {str(buffer.dtype)!r})", wish)
        return self.use(self.name[buffer])

    def library(self, function: Any, name: str) -> str:
        """The name of a function that the program calls."""
        name = name if name not in self.taken or self.globals.get(name) is function else f"{name}_"
        self.taken.add(name)
        self.globals[name] = function
        return name

    # -- values ------------------------------------------------------------------------------------------------------------

    def literal(self, node: Node, beside: Node | None = None) -> str:
        """A constant: a number as it is, an array under a name."""
        if node.is_number:
            return repr(node.value)
        key = ("literal", node)
        if key not in self.name:
            self.name[key] = self.naming(node, "constant")
            self.globals[self.name[key]] = node.value
        return self.name[key]

    def number(self, node: Node, result: Any) -> str:
        """A number within a loop: as an array without axes it need not be converted at every step."""
        dtype = np.dtype(result)
        if dtype.kind != "f":
            return repr(node.value)
        key = ("number", node, dtype.str)
        if key not in self.name:
            text = re.sub(r"\W", "_", repr(node.value)).replace("__", "_minus_") if node.value is not None else "n"
            self.name[key] = self.unique(f"n{text}")
            self.globals[self.name[key]] = np.array(node.value, dtype)
        return self.name[key]

    def unique(self, base: str) -> str:
        """A name that is not taken."""
        name, i = base, 2
        while name in self.taken:
            name, i = f"{base}_{i}", i + 1
        self.taken.add(name)
        return name

    def whole(self, node: Node) -> str:
        """A value at all steps, or one that is the same at all of them."""
        if node.op == "constant":
            return self.literal(node)
        if self.staged[node] in LOOPS and node in self.places.of:
            return self.stack(self.places.of[node], node)
        if node not in self.name:
            raise AssertionError(f"{node} is not known here")
        return self.use(self.name[node])

    def stack(self, place: Place, node: Node) -> str:
        """The rows of a buffer, or a view of them."""
        buffer = self.buffer(place.buffer)
        if place.buffer.state:
            buffer += "[:-1]" if place.old else "[1:]"
        if not place.views:
            return buffer
        key = (self.function, place.buffer, place.old, repr(place.views))
        if key not in self.name:
            text = buffer
            for view in place.views:
                text += lifted(view)
            self.name[key] = self.unique(self.naming(("row", node), node.name or f"{self.name[place.buffer]}_part"))
            self.make_as(self.name[key], text)
        return self.name[key]

    def make_as(self, name: str, text: str) -> None:
        """Bind this very name."""
        self.scope[name] = self.function
        self.lines.append(f"    {name} = {text}")

    # -- outside of the loops ----------------------------------------------------------------------------------------------

    def section(self, stage: str, wanted: set[Node]) -> None:
        """All values of a stage that does not loop."""
        nodes = [n for n, s in self.staged.items() if s == stage and n.args and n in wanted and n not in self.name]
        if nodes:
            self.lines.append(f"    # {WHY[stage]}")
        for node in nodes:
            self.make(node, self.once(node) if stage == ONCE else self.last(node) if stage == LAST else self.at_once(node))

    def once(self, node: Node) -> str:
        """A value without time."""
        texts = [self.whole(x) for x in node.args]
        if node.op == "transpose":
            return f"{texts[0]}.transpose({tuple(node.params['axes'])}).copy()"
        return self.expression(node, texts)

    def total(self, node: Node) -> str:
        """A sum over time that is a result."""
        return self.whole(node)

    def last(self, node: Node) -> str:
        """A sum over time, or what is made of sums."""
        if node.op == "total":
            x = node.args[0]
            axes = (0, *(a + 1 for a in node.params["axes"]))
            if x.rank == CONSTANT:
                return f"T * {self.whole(x)}.sum({node.params['axes']})"
            return f"{self.whole(x)}.sum({axes})"
        if node.op == "product":
            a, b = (self.rows(x) for x in node.args)
            return f"dot({a}.T, {b})"
        return self.once(node)

    def rows(self, node: Node) -> str:
        """A value at all steps as a matrix: time and batch in one axis."""
        if node.rank == CONSTANT:
            text = f"broadcast_to({self.whole(node)}, (T, {', '.join(map(str, node.shape))}))"
            self.library(np.broadcast_to, "broadcast_to")
        else:
            text = self.whole(node)
        return f"{text}.reshape(-1, {node.shape[-1]})"

    def at_once(self, node: Node) -> str:
        """A value at all steps."""
        op, args = node.op, node.args
        if op == "matmul" and len(args[0].shape) == 2 and args[1].rank == CONSTANT and args[0].rank != CONSTANT:
            return f"dot({self.rows(args[0])}, {self.whole(args[1])}).reshape(T, {', '.join(map(str, node.shape))})"
        view = ("getitem", node.params["key"]) if op == "getitem" else ("transpose", node.params["axes"]) if op == "transpose" else None
        view = ("reshape", node.shape) if op == "reshape" else view
        if view is not None:
            return self.whole(args[0]) + lifted(view)
        if op == "broadcast_to":
            self.library(np.broadcast_to, "broadcast_to")
            return f"broadcast_to({self.aligned(args[0], len(node.shape))}, (T, {', '.join(map(str, node.shape))}))"
        if op in ("concatenate", "stack"):
            return self.expression(node, [self.over_time(x) for x in args], 1)
        texts = [self.aligned(x, len(node.shape)) for x in args]
        return self.expression(node, texts, 1)

    def aligned(self, node: Node, axes: int) -> str:
        """A value at all steps with enough axes after time to meet one of more axes."""
        text = self.whole(node)
        missing = axes - len(node.shape)
        if node.rank == CONSTANT or missing <= 0:
            return text
        return f"{text}[:{', None' * missing}]"

    def over_time(self, node: Node) -> str:
        """A value at all steps, also if it is the same at all of them."""
        if node.rank != CONSTANT:
            return self.whole(node)
        self.library(np.broadcast_to, "broadcast_to")
        return f"broadcast_to({self.whole(node)}, (T, {', '.join(map(str, node.shape))}))"

    def expression(self, node: Node, texts: list[str], lead: int = 0) -> str:
        """An op as Python writes it, with some axes of time before those of a step."""
        op = node.op
        if op in ("concatenate", "stack"):
            self.library(getattr(np, op), op)
            return f"{op}([{', '.join(texts)}], {node.params['axis'] + lead})"
        if op in ("sum", "mean", "max", "min", "prod"):
            axes = tuple(a + lead for a in node.params["axis"])
            return f"{texts[0]}.{op}({axes}, keepdims={node.params['keepdims']})"
        signs = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "power": "**"}
        if op in signs:
            return f"{texts[0]} {signs[op]} {texts[1]}"
        if op == "neg":
            return f"-{texts[0]}"
        if op == "getitem":
            return f"{texts[0]}[{key_text(node.params['key'])}]"
        if op == "reshape":
            return f"{texts[0]}.reshape({', '.join(map(str, node.shape))})"
        if op == "astype":
            return f"{texts[0]}.astype({str(node.dtype)!r})"
        return self.called(node, texts)

    def called(self, node: Node, texts: list[str]) -> str:
        """An op as a call of its function."""
        function = forward(node.op)
        name = getattr(function, "__name__", "")
        name = node.op.removeprefix("np.") if not name.isidentifier() else name
        params = {k: v for k, v in node.params.items()}
        words = [f"{k}={self.parameter(v)}" for k, v in params.items()]
        return f"{self.library(function, name)}({', '.join([*texts, *words])})"

    def parameter(self, value: Any) -> str:
        """A static parameter, as text if it has one."""
        if value is None or isinstance(value, bool | int | float | str) or (isinstance(value, tuple) and all(isinstance(v, int) for v in value)):
            return repr(value)
        name = self.unique("parameter")
        self.globals[name] = value
        return name

    # -- within a loop -----------------------------------------------------------------------------------------------------

    def loop(self, loop: str, given: tuple[Node, ...], buffers: list[Buffer]) -> None:
        """One step after the other: forward with states, or back with the gradients that they carry."""
        body = self.places.body[loop]
        start = len(self.lines)
        self.lines.append(f"    # {WHY[loop]}")
        for node, buffer in zip(given, buffers, strict=True):
            name = self.buffer(buffer)
            self.lines.append(f"    {name}[0] = {self.name[node]}" if loop == FORWARD else f"    {name}[...] = {self.name[node]}")
        rows: dict[str, str] = {}  # the name of a row, and what it is a row of
        inner: list[str] = []
        self.rows_of, self.loop_lines, self.now = rows, inner, loop
        for node in body:
            self.step(node)
        for value, place in self.places.copies[loop]:
            inner.append(f"copyto({self.spot(place, value)}, {self.value(value)})")
        if loop == FORWARD:
            for old, buffer in zip(self.rolled.states, self.places.states, strict=True):
                key = ("old", old)
                if key in self.name:
                    new = self.spot(Place(buffer), self.places.staged and buffer.node)
                    self.lines.append(f"    {self.name[key]} = {self.buffer(buffer)}[0]")
                    inner.append(f"{self.name[key]} = {new}")
        if not rows:
            rows[self.unique("_t")] = "range(T)"
        names, arrays = list(rows), list(rows.values())
        turn = "" if loop == FORWARD else "[::-1]"
        if len(names) == 1:
            self.lines.append(f"    for {names[0]} in {arrays[0]}{turn if arrays[0] != 'range(T)' else ''}:")
        else:
            self.lines.append(f"    for {', '.join(names)} in zip({', '.join(a + turn for a in arrays)}):")
        self.lines += [f"        {line}" for line in inner or ["pass"]]
        assert start >= 0

    def value(self, node: Node, beside: Any = None) -> str:
        """The text of a value within the loop."""
        if node.op == "constant":
            return self.number(node, beside) if node.is_number and beside is not None else self.literal(node)
        if node.rank == CONSTANT:
            return self.use(self.name[node])
        place = self.places.of.get(node)
        if place is None or self.staged[node] not in LOOPS:
            return self.row(("row", node), node.name or self.name[node], self.use(self.name[node]))
        if place.old and not place.views and self.now == FORWARD:
            key = ("old", node)
            if key not in self.name:
                self.name[key] = self.unique(node.name or "s")
            return self.name[key]
        return self.spot(place, node)

    def spot(self, place: Place, node: Node) -> str:
        """The text of a place within the loop: the row of a stack, or (a view of) a buffer."""
        if place.buffer.stacked:
            array = self.stack(place, node)
            name = node.name or self.name.get(place.buffer, "row")
            return self.row((place.buffer, place.old, repr(place.views)), f"{name}_old" if place.old else name, array)
        buffer = self.buffer(place.buffer)
        if not place.views:
            return buffer
        key = (self.function, place.buffer, repr(place.views))
        if key not in self.name:
            self.name[key] = self.unique(re.sub(r"\W", "_", node.name or f"{buffer}_part"))
            self.make_as(self.name[key], buffer + "".join(map(direct, place.views)))
        return self.name[key]

    def row(self, key: Any, hint: str, array: str) -> str:
        """The row of an array at this step."""
        key = (self.now, "row", key)
        if key not in self.name:
            self.name[key] = self.unique(re.sub(r"\W", "_", hint) + "_t")
        self.rows_of[self.name[key]] = array
        return self.name[key]

    def step(self, node: Node) -> None:
        """The lines that compute one value within the loop."""
        op, lines = node.op, self.loop_lines
        place = self.places.of[node]
        if view_of(node) is not None and node.args[0] in self.places.of and self.places.of[node.args[0]].buffer is place.buffer:
            return
        if op == "reshape" and node.args[0] in self.places.of and self.places.of[node.args[0]].buffer is place.buffer:
            return
        out = self.spot(place, node)
        if op == "concatenate":
            for key, part in parts(node):
                at = self.places.of.get(part)
                view = (*place.views, ("getitem", key))
                if at is None or at.buffer is not place.buffer or at.views[: len(view)] != view:
                    lines.append(f"copyto({self.spot(Place(place.buffer, view), part)}, {self.value(part)})")
            return
        floats = [x.dtype for x in node.args if not x.is_number]
        beside = np.result_type(*floats) if floats else node.dtype
        texts = [self.value(x, beside if elementwise(node) else None) for x in node.args]
        function = forward(op)
        if isinstance(function, np.ufunc):
            lines.append(f"{self.library(function, function.__name__)}({', '.join([*texts, out])})")
        elif op == "matmul" and len(node.args[0].shape) == len(node.args[1].shape) == 2 and not place.views:
            lines.append(f"dot({texts[0]}, {texts[1]}, {out})")
        elif op == "matmul":
            lines.append(f"{self.library(np.matmul, 'matmul')}({texts[0]}, {texts[1]}, {out})")
        elif op == "where":
            lines += [f"copyto({out}, {texts[2]})", f"copyto({out}, {texts[1]}, 'same_kind', {texts[0]})"]
        elif op in ("sum", "max", "min", "prod"):
            ufunc = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}[op]
            name = self.library(ufunc, ufunc.__name__)
            lines.append(f"{name}.reduce({texts[0]}, {node.params['axis']}, None, {out}, {node.params['keepdims']})")
        elif op in ("astype", "broadcast_to"):
            lines.append(f"copyto({out}, {texts[0]})")
        else:
            lines.append(f"{out}[...] = {self.expression(node, texts)}")


def key_text(key: Any) -> str:
    """An index as one writes it."""

    def part(k: Any) -> str:
        if isinstance(k, slice):
            ends = ["" if end is None else str(end) for end in (k.start, k.stop)]
            return ":".join(ends + ([str(k.step)] if k.step is not None else []))
        return str(k)

    return ", ".join(map(part, key)) if isinstance(key, tuple) else part(key)


def direct(view: View) -> str:
    """A view of the value of one step."""
    kind, what = view
    if kind == "getitem":
        return f"[{key_text(what)}]"
    return f".{kind}({', '.join(map(str, what))})"


def lifted(view: View) -> str:
    """The same view of the values of all steps."""
    kind, what = view
    if kind == "getitem":
        return f"[:, {key_text(what)}]"
    if kind == "transpose":
        return f".transpose(0, {', '.join(str(a + 1) for a in what)})"
    return f".reshape(T, {', '.join(map(str, what))})"


__all__ = ["TABLE", "Code", "emit"]
