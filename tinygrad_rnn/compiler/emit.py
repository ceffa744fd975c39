"""The program as NumPy code: a function for the way forward and one for the way back, each around a loop over time.

Where the arrays of a whole run would not stay in the processor's cache, what is computed at once is computed for some steps at
a time, in a function of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from math import prod
from textwrap import wrap
from typing import Any

import numpy as np

from .at_once import VIEWS, AtOnce
from .places import Buffer, Place, parts, view_of
from .program import CONSTANT, Node, elementwise, filled, forward, ordered
from .roll import Rolled
from .schedule import AFTER, BACKWARD, BEFORE, BETWEEN, FORWARD, LAST, ONCE, OUTPUT, table
from .text import direct, viewed
from .writer import Code, Scope

CACHE = 1 << 16  # elements of a state that some steps may have so that what is made of them stays in the cache
SAVED = "\0"  # stands for what the way back needs, until that is known
WHOLE = 16  # so many steps at once are as good as all


def emit(rolled: Rolled, title: str) -> Code:
    """The functions `forward` and `backward`, and those for some steps that they call."""
    return Emitter(rolled).code(title)


class Emitter(AtOnce):
    """Turns a scheduled program into text."""

    def __init__(self, rolled: Rolled) -> None:
        super().__init__(rolled)
        self.functions: list[str] = []
        self.chunk = max(1, CACHE // max(1, *(prod(b.shape) for b in self.places.states)))
        self.now = FORWARD  # the loop that is written, the arrays whose rows it reads, and its lines
        self.row_of: dict[str, str] = {}
        self.inner: list[str] = []

    # -- the functions -----------------------------------------------------------------------------------------------------

    def code(self, title: str) -> Code:
        """All of the text."""
        rolled = self.rolled
        forward = self.forward_way()
        backward = self.backward_way() if rolled.back else ""
        saved = ", ".join(self.saved)
        forward = forward.replace(SAVED, f"({saved}{',' if len(self.saved) == 1 else ''})")
        backward = backward.replace(SAVED, f"{saved}{',' if len(self.saved) == 1 else ''} = saved" if saved else "pass")
        body = "\n\n\n".join([*self.functions, forward, backward]).rstrip()
        preface = self.preface()
        used = sorted(self.globals.keys() & set(re.findall(r"\w+", body + preface)))
        numpys = [name for name in used if getattr(np, name, None) is self.globals[name]]
        others = sorted(self.comment(name) for name in used if name not in numpys)
        head = [f'"""{title}"""', "", *[f"from numpy import {', '.join(numpys)}"] * bool(numpys), *others]
        return Code(
            "\n".join(head) + f"\n{preface}\n\n{body}\n",
            {name: self.globals[name] for name in used},
            partial(table, self.staged, self.why),
        )

    def preface(self) -> str:
        """What stands before the functions."""
        return ""

    def comment(self, name: str) -> str:
        """What a global name stands for."""
        value = self.globals[name]
        if isinstance(value, np.ndarray):
            same = value.ndim == 2 and len(value) > 0 and bool((value == value[0]).all())
            row = value[0] if same else value.ravel()
            runs = np.split(row, np.flatnonzero(row[1:] != row[:-1]) + 1)
            text = ", ".join(f"{run[0]} x {len(run)}" for run in runs) if len(runs) < 9 else f"an array {value.shape}"
            rows = f", in {len(value)} row{'s' * (len(value) > 1)}" if same else ""
            return f"# {name}: {text}{rows}" if value.shape else f"# {name}: {value}"
        module, called = getattr(value, "__module__", ""), getattr(value, "__qualname__", name)
        return f"from {module} import {name}" if module and called == name else f"# {name}: {module}.{called}"

    def forward_way(self) -> str:
        """x and the initial states in; the outputs and the final states out, and what the way back needs."""
        rolled = self.rolled
        states = {node: f"{node.name}0" for node in rolled.states}
        head = self.begin("forward", [*rolled.given.values(), *rolled.externals], states)
        needed = set(ordered([*rolled.forward_roots(), *self.places.body[FORWARD]]))
        x = self.use(rolled.given["x"])
        self.line(f"T = len({x})")
        self.section(ONCE, needed)
        self.steps("forward_steps", FORWARD, [(BEFORE, needed)])
        self.section(OUTPUT, needed)
        results = ", ".join(self.over_time(node) for node in rolled.outputs.values())
        finals = ", ".join(self.state(old, "-1") for old in rolled.states)
        self.line(f"return [{results}], [{finals}], {SAVED}")
        return "\n".join([head, *self.scope.lines])

    def backward_way(self) -> str:
        """The gradients of the outputs and the final states in; those of x, the initial states and the parameters out."""
        rolled = self.rolled
        finals = {node: f"{node.name}_T" for node in rolled.carries}
        head = self.begin("backward", [*rolled.seeds.values(), *rolled.carries], finals, "saved")
        self.line(SAVED)
        self.line(f"T = len({self.use(rolled.given['x'])})")
        rest = set(self.staged) - set(ordered([*rolled.forward_roots(), *self.places.body[FORWARD]]))
        self.section(ONCE, rest)
        self.steps("backward_steps", BACKWARD, [(BEFORE, rest), (BETWEEN, rest)])
        self.section(AFTER, rest)
        self.section(LAST, rest)
        carries = ", ".join(map(self.end_carry, self.places.carries))
        dx, *totals = self.handed_out([rolled.dx, *rolled.totals])
        self.line(f"return {dx}, [{carries}], [{', '.join(totals)}]")
        return "\n".join([head, *self.scope.lines])

    def handed_out(self, results: Iterable[Node | None]) -> list[str]:
        """Results that nobody else holds: each in memory of its own, made in this call."""
        texts, given = list[str](), set[Any]()
        for node in results:
            if node is None:
                texts.append("None")
                continue
            text, root = self.use_node(node), node
            while root.op == "reshape" and root not in self.places.of:  # it shows the memory of what it is given
                root = root.args[0]
            place = self.places.of.get(root)
            memory = place.buffer if place else root
            own = root in self.scope.own and root.op not in VIEWS if place is None else place.buffer.node is root
            if node is self.rolled.dx and node.rank == CONSTANT:
                text, own = self.over_time(node), False
            texts.append(text if own and memory not in given else f"{text}.copy()")
            given.add(memory)
        return texts

    def begin(self, name: str, arguments: Iterable[Node], called: dict[Node, str], first: str = "") -> str:
        """The head of a function, which becomes the one that is written."""
        self.scope = self.ways[name]
        names = [first] if first else []
        for node in arguments:
            names.append(self.name(node, called.get(node)))
            self.scope.known[node] = names[-1]
        return f"def {name}({', '.join(names)}):"

    # -- the loops ---------------------------------------------------------------------------------------------------------

    def steps(self, name: str, loop: str, before: list[tuple[str, set[Node]]]) -> None:
        """A loop, and what is done at once before it: for all steps, or again and again for some of them."""
        self.begin_states(loop)
        if self.chunk >= WHOLE:
            for stage, wanted in before:
                self.section(stage, wanted)
            self.loop(loop)
            return
        outer, inner = self.scope, Scope(name, self.scope)
        self.later = inside = self.inside(before, loop)
        for stage, wanted in before:
            self.section(stage, wanted - inside)
        self.scope, self.later = inner, set()
        for stage, wanted in before:
            self.section(stage, wanted & inside)
        self.loop(loop)
        if not any(t for _, _, t in inner.arguments):  # it reads nothing that has time, but runs as often
            self.use(self.rolled.given["x"])
        self.scope = outer
        arguments = inner.arguments
        head = f"def {name}({', '.join(n for n, _, _ in arguments)}):"
        timed = next(n for n, _, t in arguments if t)
        self.functions.append("\n".join([head, f"    T = len({timed})", *inner.lines]))
        passed = ", ".join(f"{text}[t]" if t else text for _, text, t in arguments)
        size = self.chunk
        self.line(f"# {size} {'steps' if size > 1 else 'step'} at a time, so that what is made of them stays in the cache")
        if loop == FORWARD:
            self.line(f"for start in range(0, T, {size}):")
            self.line(f"    t = slice(start, start + {size})")
        else:
            self.line(f"for stop in range(T, 0, -{size}):")
            self.line(f"    t = slice(max(stop - {size}, 0), stop)")
        self.line(f"    {name}({passed})")

    def begin_states(self, loop: str) -> None:
        """The states, or the gradients that are carried, before the first step."""
        states = self.places.states if loop == FORWARD else self.places.carries
        given = self.rolled.states if loop == FORWARD else self.rolled.carries
        for node, buffer in zip(given, states, strict=True):
            begin = self.state(node) if loop == FORWARD else f"{self.use(buffer)}[...]"
            self.line(f"{begin} = {self.scope.known[node]}")

    def end_carry(self, buffer: Buffer) -> str:
        """Where the gradient of an initial state is at last."""
        return self.use(buffer)

    def state(self, node: Node, row: str = "0") -> str:
        """A state, or what it shares its rows with, in the first row of its buffer, or in another."""
        buffer, views, _ = self.places.of[node]
        base = self.use(buffer) if self.scope.parent is None else self.use(("old", buffer))
        return viewed(f"{base}[{row}]", views)

    def inside(self, before: list[tuple[str, set[Node]]], loop: str) -> set[Node]:
        """What nobody but the loop reads."""
        stages, reading = {stage for stage, _ in before}, self.reading
        found: set[Node] = set()
        for node in reversed(list(self.staged)):
            mine = self.staged[node] in stages and bool(node.args) and node not in reading[node]
            if mine and all(self.staged[r] == loop or r in found for r in reading[node]):
                found.add(node)
        return found

    def loop(self, loop: str) -> None:
        """One step after the other: forward with states, or back with the gradients that they carry."""
        self.now, self.row_of, self.inner = loop, dict[str, str](), list[str]()
        self.line(f"# {self.why[loop]}")
        for node in self.places.body[loop]:
            self.step(node)
        copies = [(self.spot(place, value), self.value(value), value) for value, place in self.places.copies[loop]]
        for i, (_, text, value) in enumerate(copies):
            if len(copies) > 1 and value in self.rolled.carries:  # which may be written to before it is read
                copies[i] = copies[i][0], self.unique("kept"), value
                self.inner.append(f"{copies[i][1]} = {text}.copy()")
        self.inner += [f"copyto({to}, {text})" for to, text, _ in copies]
        if loop == FORWARD:
            self.first_and_next()
        turn = "" if loop == FORWARD else "[::-1]"
        names, arrays = list(self.row_of), [array + turn for array in self.row_of.values()]
        if not names:
            self.line("for _ in range(T):")
        elif len(names) == 1:
            self.line(f"for {names[0]} in {arrays[0]}:")
        else:
            self.scope.lines += [f"    {text}" for text in zipped(names, arrays)]
        for text in self.inner or ["pass"]:
            self.line(f"    {text}")

    def first_and_next(self) -> None:
        """The first row of the states, what stands beside them, and the next row at the end of a step."""
        for old, buffer in zip(self.rolled.states, self.places.states, strict=True):
            beside = [(key, x) for key, x in parts(buffer.whole) if x is not old] if buffer.whole is not None else []
            if beside:
                self.line(f"# beside {old.name}, so that a product reads them together")
            for key, x in beside:
                text = "1" if filled(x, 1) else self.over_time(x)
                self.line(f"{viewed(self.use(('old', buffer)), [('getitem', key)])} = {text}")
            for node, new in ((buffer.whole, buffer.whole), (old, buffer.node)):
                if node is not None and new is not None and ("running", node) in self.scope.known:
                    self.line(f"{self.value(node)} = {self.state(node)}")
                    self.inner.append(f"{self.value(node)} = {self.spot(self.places.of[node]._replace(old=False), new)}")

    def value(self, node: Node, dtype: Any = None) -> str:
        """The text of a value within the loop."""
        if node.op == "constant":
            return self.number(node, dtype) if node.is_number and dtype is not None else self.literal(node)
        if node.rank == CONSTANT:
            return self.use(node)
        place = self.places.of.get(node)
        if place is None:
            array = self.use(node)
            return self.row(node, node.name or array, array)
        if place.old and self.now == FORWARD and (node in self.rolled.states or node is place.buffer.whole):
            key = ("running", node)
            if key not in self.scope.known:
                self.scope.known[key] = self.name(key, node.name or place.buffer.name)
            return self.scope.known[key]
        return self.spot(place, node)

    def spot(self, place: Place, node: Node) -> str:
        """The text of a place within the loop: the row of a stack, or (a view of) a buffer."""
        if place.buffer.stacked:
            hint = node.name or place.buffer.name or self.name(place.buffer)
            key = (place.buffer, place.old, repr(place.views))
            rows = self.stack(place, node, True)
            if not node.shape:
                rows = f"[{rows}[t, ...] for t in range(T)]"  # arrays, that can be written to
            return self.row(key, f"{hint}_old" if place.old else hint, rows)
        base = self.use(place.buffer) if place.buffer in self.places.carries else self.temporary(place.buffer)
        if not place.views:
            return base
        view = ("view", place.buffer, repr(place.views))
        if view not in self.scope.known:
            self.scope.known[view] = self.name(view, node.name or f"{base}_part")
            self.line(f"{self.scope.known[view]} = {base}{''.join(map(direct, place.views))}")
        return self.scope.known[view]

    def temporary(self, buffer: Buffer) -> str:
        """A buffer for one step."""
        return self.scope.known[buffer] if buffer in self.scope.known else self.allocate(buffer)

    def row(self, key: Any, hint: str, array: str) -> str:
        """The row of an array at this step."""
        name = self.name((self.now, "row", key), f"{hint}_t")
        self.row_of[name] = array
        return name

    def step(self, node: Node) -> None:
        """The lines that compute one value within the loop."""
        op, place, of = node.op, self.places.of[node], self.places.of
        if view_of(node) is not None or op == "reshape":
            source = of.get(node.args[0])
            if source is not None and source.buffer is place.buffer:
                return
        if op in ("concatenate", "stack"):
            if place.old:  # filled before the loop
                return
            for key, part in parts(node):
                at, view = of.get(part), (*place.views, ("getitem", key))
                if at is None or at.buffer is not place.buffer or at.views[: len(view)] != view:
                    self.inner.append(f"copyto({self.spot(Place(place.buffer, view), part)}, {self.value(part)})")
            return
        out = self.spot(place, node)
        floats = [x.dtype for x in node.args if not x.is_number]
        dtype = np.result_type(*floats) if floats and elementwise(node) else None
        texts = [self.value(x, dtype) for x in node.args]
        self.inner += self.statement(node, texts, out, bool(place.views))

    def statement(self, node: Node, texts: list[str], out: str, part: bool) -> list[str]:
        """An op that writes its result to a place, which may be part of a larger one."""
        op, function = node.op, forward(node.op)
        if isinstance(function, np.ufunc):
            out = f"out={out}" if function in (np.maximum, np.minimum) else out  # NumPy wants it so
            return [f"{self.library(function, function.__name__)}({', '.join([*texts, out])})"]
        if op == "matmul":
            plain = len(node.args[0].shape) == 2 >= len(node.args[1].shape) and not part
            return [f"{'dot' if plain else 'matmul'}({texts[0]}, {texts[1]}, {out})"]
        if op == "where":
            condition = texts[0] if node.args[0].dtype.kind == "b" else f"{texts[0]} != 0"
            return [f"copyto({out}, {texts[2]})", f"copyto({out}, {texts[1]}, 'same_kind', {condition})"]
        if op in ("sum", "max", "min", "prod"):
            ufunc = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}[op]
            name = self.library(ufunc, ufunc.__name__)
            return [f"{name}.reduce({texts[0]}, {node.params['axis']}, None, {out}, {node.params['keepdims']})"]
        if op in ("astype", "broadcast_to"):
            casting = "" if np.can_cast(node.args[0].dtype, node.dtype, "same_kind") else ", 'unsafe'"
            return [f"copyto({out}, {texts[0]}{casting})"]
        return [f"{out}[...] = {self.expression(node, texts)}"]


def zipped(names: list[str], arrays: list[str]) -> list[str]:
    """The head of a loop over the rows of several arrays."""
    short = f"for {', '.join(names)} in zip({', '.join(arrays)}):"
    if len(short) <= 100:
        return [short]
    left, right = (wrap(", ".join(each), 96) for each in (names, arrays))
    return ["for (", *(f"    {text}" for text in left), ") in zip(", *(f"    {text}" for text in right), "):"]
