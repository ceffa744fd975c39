"""The program as NumPy code: a function for the way forward and one for the way back, each around a loop over time.

Arrays of all steps have time first (`z`); within a loop `z_t` is the row of one step. Where the arrays of a whole run would not
stay in the processor's cache, what is computed at once is computed for some steps at a time, in a function of its own.
This and text.py are the files of the compiler that know a language.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .places import Buffer, Place, Places, parts, view_of
from .program import CONSTANT, Node, elementwise, forward
from .schedule import AFTER, BACKWARD, BEFORE, BETWEEN, FORWARD, LAST, LOOPS, ONCE, OUTPUT, STAGES, WHY, Rolled, stages
from .text import direct, lifted, written

TOOLS = {name: getattr(np, name) for name in ("broadcast_to", "concatenate", "copyto", "dot", "empty", "matmul", "ones", "stack")}
TAKEN = {*keyword.kwlist, *TOOLS, "T", "saved", "zip", "range", "slice", "max", "forward", "backward", "forward_steps", "backward_steps"}
CACHE = 1 << 16  # elements of a state that some steps may have so that what is made of them stays in the cache
WHOLE = 64  # so many steps at once are as good as all
HINTS = {ONCE: "w", BEFORE: "zx", FORWARD: "z", OUTPUT: "y", BETWEEN: "k", BACKWARD: "d", AFTER: "g", LAST: "total"}


class Code(NamedTuple):
    """Source text, and the objects that its global names stand for."""

    source: str
    names: dict[str, Any]


class Scope:
    """A function that is being written."""

    def __init__(self, name: str, parent: Scope | None = None) -> None:
        self.name, self.parent = name, parent
        self.lines: list[str] = []
        self.known: dict[Any, str] = {}  # what has a name here
        self.own: set[Node] = set()  # the arrays that were made here
        self.arguments: list[tuple[str, str, bool]] = []  # of a function for some steps: name, what is passed, a row per step?


def emit(rolled: Rolled, title: str) -> Code:
    """The functions `forward` and `backward`, and those for some steps that they call."""
    return Emitter(rolled).code(title)


class Emitter:
    """Turns a scheduled program into text."""

    def __init__(self, rolled: Rolled) -> None:
        self.rolled = rolled
        self.staged = stages(rolled)
        self.places = Places(rolled, self.staged)
        self.globals: dict[str, Any] = dict(TOOLS)
        self.taken = set(TAKEN)
        self.names: dict[Any, str] = {}
        self.saved: dict[str, None] = {}
        self.reading = self.readers()
        self.later: set[Node] = set()  # what is left to a function for some steps
        self.position = {node: (STAGES.index(stage), i) for i, (node, stage) in enumerate(self.staged.items())}
        self.functions: list[str] = []
        elements = max(prod(b.shape) for b in self.places.states)
        self.chunk = max(1, CACHE // max(elements, 1))
        self.ways = {"forward": Scope("forward"), "backward": Scope("backward")}
        self.scope = self.ways["forward"]

    # -- the functions -----------------------------------------------------------------------------------------------------

    def code(self, title: str) -> Code:
        """All of the text."""
        rolled = self.rolled
        forward = self.forward_way()
        backward = self.backward_way() if rolled.back else ""
        saved = ", ".join(self.saved)
        forward = forward.replace("SAVED", f"({saved}{',' if len(self.saved) == 1 else ''})")
        backward = backward.replace("SAVED", f"{saved}{',' if len(self.saved) == 1 else ''} = saved" if saved else "pass")
        body = "\n\n\n".join([*self.functions, forward, backward]).rstrip()
        used = [name for name in sorted(self.globals) if re.search(rf"\b{name}\b", body)]
        numpys = [name for name in used if getattr(np, name, None) is self.globals[name]]
        others = [name for name in used if name not in numpys]
        head = [f'"""{title}"""', "", f"from numpy import {', '.join(numpys)}"] + [self.comment(name) for name in others]
        return Code("\n".join(head) + f"\n\n\n{body}\n", {name: self.globals[name] for name in used})

    def comment(self, name: str) -> str:
        """What a global name stands for."""
        value = self.globals[name]
        if isinstance(value, np.ndarray):
            return f"# {name}: {value}" if not value.shape else f"# {name}: an array {value.shape}"
        return f"# {name}: {getattr(value, '__module__', '')}.{getattr(value, '__qualname__', name)}"

    def forward_way(self) -> str:
        """x and the initial states in; the outputs and the final states out, and what the way back needs."""
        rolled = self.rolled
        states = {node: f"{node.name}0" for node in rolled.states}
        head = self.begin("forward", [*rolled.given.values(), *rolled.externals], states)
        needed = self.needed([*rolled.forward_roots(), *self.places.body[FORWARD]])
        x = self.use(rolled.given["x"])
        self.line(f"T = len({x})")
        self.section(ONCE, needed)
        self.steps("forward_steps", FORWARD, [(BEFORE, needed)])
        self.section(OUTPUT, needed)
        results = ", ".join(self.use_node(node) for node in rolled.outputs.values())
        finals = ", ".join(f"{self.use(buffer)}[-1]" for buffer in self.places.states)
        self.line(f"return [{results}], [{finals}], SAVED")
        return "\n".join([head, *self.scope.lines])

    def backward_way(self) -> str:
        """The gradients of the outputs and the final states in; those of x, the initial states and the parameters out."""
        rolled = self.rolled
        finals = {node: f"{node.name}_T" for node in rolled.carries}
        head = self.begin("backward", [*rolled.seeds.values(), *rolled.carries], finals, "saved")
        self.line("SAVED")
        self.line(f"T = len({self.use(rolled.given['x'])})")
        rest = set(self.staged) - self.needed([*rolled.forward_roots(), *self.places.body[FORWARD]])
        self.section(ONCE, rest)
        self.steps("backward_steps", BACKWARD, [(BEFORE, rest), (BETWEEN, rest)])
        self.section(AFTER, rest)
        self.section(LAST, rest)
        dx = "None" if rolled.dx is None else self.use_node(rolled.dx)
        carries = ", ".join(self.use(buffer) for buffer in self.places.carries)
        totals = ", ".join("None" if g is None else self.use_node(g) for g in rolled.totals)
        self.line(f"return {dx}, [{carries}], [{totals}]")
        return "\n".join([head, *self.scope.lines])

    def begin(self, name: str, arguments: Iterable[Node], called: dict[Node, str], first: str = "") -> str:
        """The head of a function, which becomes the one that is written."""
        self.scope = self.ways[name]
        names = [first] if first else []
        for node in arguments:
            names.append(self.name(node, called.get(node)))
            self.scope.known[node] = names[-1]
        return f"def {name}({', '.join(names)}):"

    def needed(self, roots: Iterable[Node]) -> set[Node]:
        """The roots and all that they are made of."""
        seen: set[Node] = set()
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += node.args
        return seen

    def line(self, text: str) -> None:
        """A line of the function that is being written."""
        self.scope.lines.append(f"    {text}")

    # -- names -------------------------------------------------------------------------------------------------------------

    def name(self, key: Any, wish: str | None = None) -> str:
        """The name of a node, a buffer or a view, the same in every function."""
        if key not in self.names:
            self.names[key] = self.unique(wish or self.hint(key))
        return self.names[key]

    def unique(self, wish: str) -> str:
        """A name that nothing else has."""
        base = re.sub(r"\W+", "_", wish, flags=re.ASCII)
        base = f"v{base}" if not base or not base[0].isalpha() else base
        name, i = base, 2
        while name in self.taken:
            name, i = f"{base}{i}" if not base[-1].isdigit() else f"{base}_{i}", i + 1
        self.taken.add(name)
        return name

    def hint(self, key: Any) -> str:
        """A name for a value that nobody has named."""
        node = key.node if isinstance(key, Buffer) else key
        if node.name:
            return str(node.name)
        if node.op == "transpose" and node.args[0].name:
            return f"{node.args[0].name}_T"
        return HINTS[self.staged[node]]

    def use(self, key: Any) -> str:
        """The text for something that has a name; what is known outside only is passed in, or saved for the way back."""
        scope = self.scope
        if key in scope.known:
            return scope.known[key]
        if scope.parent is not None:
            name = self.name(key, self.row_name(key))
            self.scope = scope.parent
            passed = self.use(key)
            self.scope = scope
            scope.arguments.append((name, passed, self.timed(key)))
            scope.known[key] = name
            return name
        if isinstance(key, tuple) and key[0] in ("old", "new"):
            return f"{self.use(key[1])}{'[:-1]' if key[0] == 'old' else '[1:]'}"
        if scope.name == "backward" and key in self.ways["forward"].known:
            name = self.ways["forward"].known[key]
            self.saved[name] = None
            scope.known[key] = name
            return name
        if isinstance(key, Buffer):
            return self.allocate(key)
        raise AssertionError(f"{key} is not known in {scope.name}")

    def row_name(self, key: Any) -> str | None:
        """The name of a state's rows in a function for some steps."""
        if isinstance(key, tuple) and key[0] in ("old", "new"):
            return f"{key[1].node.name or 's'}_{key[0]}"
        return None

    def timed(self, key: Any) -> bool:
        """Has this a row for each step?"""
        if isinstance(key, Buffer):
            return key.stacked
        return isinstance(key, tuple) or (key.rank != CONSTANT and key not in self.rolled.carries)

    def allocate(self, buffer: Buffer) -> str:
        """Memory: for all steps where the function begins, for one within the function that loops."""
        lead = [f"T + {1}" if buffer.state else "T"] if buffer.stacked else []
        wish = f"{buffer.node.name or 's'}s" if buffer.state else None
        name = self.name(buffer, wish)
        shape = ", ".join([*lead, *map(str, buffer.shape)])
        self.line(f"{name} = empty(({shape}{',' if len(lead) + len(buffer.shape) == 1 else ''}), {str(buffer.dtype)!r})")
        self.scope.known[buffer] = name
        return name

    def library(self, function: Any, wish: str) -> str:
        """The name of a function that the program calls."""
        for name, known in self.globals.items():
            if known is function:
                return name
        name = self.unique(wish)
        self.globals[name] = function
        return name

    def parameter(self, value: Any) -> str:
        """A static parameter: as text where it has one, else under a name."""
        plain = (bool, int, float, str, type(None))
        if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value)):
            return repr(value)
        name = self.unique("parameter")
        self.globals[name] = value
        return name

    # -- values ------------------------------------------------------------------------------------------------------------

    def literal(self, node: Node) -> str:
        """A constant: a number as it is, an array under a name."""
        if node.is_number:
            return f"({node.value!r})" if node.value < 0 else repr(node.value)
        if node not in self.names:
            self.globals[self.name(node, node.name or "constant")] = node.value
        return self.names[node]

    def number(self, node: Node, dtype: Any) -> str:
        """A number within a loop: as an array without axes it need not be converted at every step."""
        key = ("number", node, dtype.str)
        if dtype.kind != "f":
            return self.literal(node)
        if key not in self.names:
            words = {0.5: "half", 1: "one", 0: "zero", -1: "minus_one", 2: "two"}
            self.globals[self.name(key, words.get(node.value, "number"))] = np.array(node.value, dtype)
        return self.names[key]

    def use_node(self, node: Node) -> str:
        """A value at all steps, or one that is the same at all of them."""
        if node.op == "constant":
            return self.literal(node)
        place = self.places.of.get(node)
        return self.use(node) if place is None else self.stack(place, node)

    def stack(self, place: Place, node: Node) -> str:
        """The rows of a buffer, or a view of them."""
        kind = "old" if place.old else "new"
        base = self.use((kind, place.buffer) if place.buffer.state else place.buffer)
        if not place.views:
            return base
        key = ("view", place.buffer, place.old, repr(place.views))
        if key not in self.scope.known:
            self.scope.known[key] = self.name(key, node.name or f"{self.name(place.buffer)}_part")
            self.line(f"{self.scope.known[key]} = {base}{''.join(map(lifted, place.views))}")
        return self.scope.known[key]

    # -- all steps at once -------------------------------------------------------------------------------------------------

    def section(self, stage: str, wanted: set[Node]) -> None:
        """All values of a stage that does not loop and that are not there yet."""
        nodes = [n for n, s in self.staged.items() if s == stage and n.args and n in wanted and n not in self.scope.known]
        outer = self.scope.parent.known if self.scope.parent is not None else {}
        nodes = [n for n in nodes if n not in outer]
        if nodes:
            self.line(f"# {WHY[stage]}")
        joined: dict[Node, tuple[Node, Any]] = {}  # what is a part of a concatenation, computed where it belongs
        if stage in (BETWEEN, AFTER, BEFORE, OUTPUT):
            for whole in nodes:
                for key, part in parts(whole) if whole.op == "concatenate" else ():
                    if part in nodes and len(self.reading[part]) == 1 and isinstance(forward(part.op), np.ufunc):
                        joined[part] = whole, key
        for node in nodes:
            if stage == LAST:
                text = self.last(node)
            elif stage == ONCE:
                text = self.once(node)
            else:
                text = self.at_once(node, joined)
            if text:
                self.scope.known[node] = self.name(node)
                self.scope.own.add(node)
                self.line(f"{self.scope.known[node]} = {text}")

    def readers(self) -> dict[Node, list[Node]]:
        """For each node, those that read it, and itself if it is a result."""
        found: dict[Node, list[Node]] = {n: [] for n in self.staged}
        for node in self.staged:
            for x in node.args:
                found[x].append(node)
        for node in (*self.rolled.outputs.values(), self.rolled.dx, *self.rolled.new, *self.rolled.back):
            if node is not None:
                found[node].append(node)
        return found

    def once(self, node: Node) -> str:
        """A value without time."""
        texts = [self.use_node(x) for x in node.args]
        if node.op == "transpose":
            return f"{texts[0]}.T.copy()" if len(node.shape) == 2 else f"{texts[0]}.transpose{tuple(node.params['axes'])}.copy()"
        return self.expression(node, texts)

    def last(self, node: Node) -> str:
        """A sum over time, or what is made of sums."""
        if node.op == "total":
            x, axes = node.args[0], node.params["axes"]
            if x.rank == CONSTANT:
                return f"T * {self.use_node(x)}.sum({axes})"
            if axes == (0,) and len(x.shape) == 2:
                return f"dot(ones(T * {x.shape[0]}, {str(x.dtype)!r}), {self.rows(x)})"
            return f"{self.use_node(x)}.sum({(0, *(a + 1 for a in axes))})"
        if node.op == "product":
            a, b = node.args
            return f"dot({self.rows(a)}.T, {self.rows(b)})"
        return self.once(node)

    def rows(self, node: Node) -> str:
        """A value at all steps as a matrix: time and batch in one axis."""
        return f"{self.over_time(node)}.reshape(-1, {node.shape[-1]})"

    def over_time(self, node: Node) -> str:
        """A value at all steps, also if it is the same at all of them."""
        text = self.use_node(node)
        return text if node.rank != CONSTANT else f"broadcast_to({text}, (T, {', '.join(map(str, node.shape))}))"

    def at_once(self, node: Node, joined: dict[Node, tuple[Node, Any]]) -> str:
        """A value at all steps; an empty text if it was written into memory that has a name."""
        op, args = node.op, node.args
        shape = f"T, {', '.join(map(str, node.shape))}".rstrip(", ")
        if op == "matmul" and len(args[0].shape) == 2 and args[1].rank == CONSTANT and args[0].rank != CONSTANT:
            return f"dot({self.rows(args[0])}, {self.use_node(args[1])}).reshape({shape})"
        if op in ("getitem", "reshape", "transpose"):
            what = node.params["key"] if op == "getitem" else node.shape if op == "reshape" else node.params["axes"]
            return self.over_time(args[0]) + lifted((op, what))
        if op == "broadcast_to":
            return f"broadcast_to({self.aligned(args[0], len(node.shape))}, ({shape}))"
        if op == "concatenate" and any(joined.get(x, (None,))[0] is node for x in args):
            out = self.room(node)
            for key, part in parts(node):
                if joined.get(part, (None,))[0] is not node:
                    self.line(f"{out}{lifted(('getitem', key))} = {self.use_node(part)}")
            return ""
        if op in ("concatenate", "stack"):
            return self.expression(node, [self.over_time(x) for x in args], 1)
        texts = [self.aligned(x, len(node.shape)) for x in args]
        function = forward(op)
        if node in joined:
            whole, key = joined[node]
            out = f"{self.room(whole)}{lifted(('getitem', key))}"
            self.line(f"{self.library(function, function.__name__)}({', '.join([*texts, out])})")
            return ""
        spare = self.spare(node)
        if spare is not None and isinstance(function, np.ufunc):
            self.line(f"{self.library(function, function.__name__)}({', '.join([*texts, self.scope.known[spare]])})")
            self.scope.known[node] = self.scope.known[spare]
            self.scope.own.add(node)
            return ""
        return self.expression(node, texts, 1)

    def spare(self, node: Node) -> Node | None:
        """An argument that nothing reads any more, whose memory the result can take."""
        for x in node.args:
            fits = (x.shape, x.dtype) == (node.shape, node.dtype) and x in self.scope.own and x.rank != CONSTANT
            made = x.args and x not in self.places.of and x.op not in ("getitem", "reshape", "transpose", "broadcast_to")
            if fits and made and all(
                self.position[r] <= self.position[node] and r not in self.later and r is not x and r.op not in ("getitem", "reshape", "transpose")
                for r in self.reading[x]
            ):  # fmt: skip
                return x
        return None

    def room(self, node: Node) -> str:
        """Memory for a value at all steps that is written part by part."""
        if node not in self.scope.known:
            self.scope.known[node] = self.name(node)
            shape = ", ".join(map(str, node.shape))
            self.line(f"{self.scope.known[node]} = empty((T, {shape}), {str(node.dtype)!r})")
        return self.scope.known[node]

    def aligned(self, node: Node, axes: int) -> str:
        """A value at all steps with enough axes after time to meet one of more axes."""
        text, missing = self.use_node(node), axes - len(node.shape)
        return text if node.rank == CONSTANT or missing <= 0 else f"{text}[:{', None' * missing}]"

    def expression(self, node: Node, texts: list[str], lead: int = 0) -> str:
        """An op as Python writes it, with `lead` axes of time before those of a step."""
        found = written(node, texts, lead)
        if found is not None:
            return found
        function = forward(node.op)
        name = getattr(function, "__name__", "")
        words = [f"{key}={self.parameter(value)}" for key, value in node.params.items()]
        name = self.library(function, name if name.isidentifier() else node.op.removeprefix("np."))
        return f"{name}({', '.join([*texts, *words])})"

    # -- the loops ---------------------------------------------------------------------------------------------------------

    def steps(self, name: str, loop: str, before: list[tuple[str, set[Node]]]) -> None:
        """A loop, and what is done at once before it: for all steps, or again and again for some of them."""
        states = self.places.states if loop == FORWARD else self.places.carries
        given = self.rolled.states if loop == FORWARD else self.rolled.carries
        for node, buffer in zip(given, states, strict=True):
            self.line(f"{self.use(buffer)}{'[0]' if loop == FORWARD else '[...]'} = {self.scope.known[node]}")
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

    def inside(self, before: list[tuple[str, set[Node]]], loop: str) -> set[Node]:
        """What nobody but the loop reads."""
        stages, reading = {stage for stage, _ in before}, self.reading
        found: set[Node] = set()
        for node in reversed(list(self.staged)):
            if self.staged[node] in stages and node.args:
                if all(self.staged[r] == loop or r in found for r in reading[node] if r is not node) and node not in reading[node]:
                    found.add(node)
        return found

    def loop(self, loop: str) -> None:
        """One step after the other: forward with states, or back with the gradients that they carry."""
        self.now, self.row_of, self.inner = loop, dict[str, str](), list[str]()
        self.line(f"# {WHY[loop]}")
        for node in self.places.body[loop]:
            self.step(node)
        for value, place in self.places.copies[loop]:
            self.inner.append(f"copyto({self.spot(place, value)}, {self.value(value)})")
        if loop == FORWARD:
            for old, buffer in zip(self.rolled.states, self.places.states, strict=True):
                if ("running", old) in self.scope.known:
                    name = self.scope.known["running", old]
                    self.line(f"{name} = {self.use(('old', buffer))}[0]")
                    self.inner.append(f"{name} = {self.spot(Place(buffer), buffer.node)}")
        turn = "" if loop == FORWARD else "[::-1]"
        names, arrays = list(self.row_of), [array + turn for array in self.row_of.values()]
        if not names:
            self.line("for _ in range(T):")
        elif len(names) == 1:
            self.line(f"for {names[0]} in {arrays[0]}:")
        else:
            self.line(f"for {', '.join(names)} in zip({', '.join(arrays)}):")
        for text in self.inner or ["pass"]:
            self.line(f"    {text}")

    def value(self, node: Node, dtype: Any = None) -> str:
        """The text of a value within the loop."""
        if node.op == "constant":
            return self.number(node, dtype) if node.is_number and dtype is not None else self.literal(node)
        if node.rank == CONSTANT:
            return self.use(node)
        place = self.places.of.get(node)
        if place is None:
            return self.row(node, node.name or self.name(node), self.use(node))
        if place.old and not place.views and self.now == FORWARD:
            key = ("running", node)
            if key not in self.scope.known:
                self.scope.known[key] = self.name(key, node.name)
            return self.scope.known[key]
        return self.spot(place, node)

    def spot(self, place: Place, node: Node) -> str:
        """The text of a place within the loop: the row of a stack, or (a view of) a buffer."""
        if place.buffer.stacked:
            hint = node.name or self.name(place.buffer)
            key = (place.buffer, place.old, repr(place.views))
            return self.row(key, f"{hint}_old" if place.old else hint, self.stack(place, node))
        base = self.use(place.buffer) if place.buffer in self.places.carries else self.temporary(place.buffer)
        if not place.views:
            return base
        key = ("view", place.buffer, repr(place.views))
        if key not in self.scope.known:
            self.scope.known[key] = self.name(key, node.name or f"{base}_part")
            self.line(f"{self.scope.known[key]} = {base}{''.join(map(direct, place.views))}")
        return self.scope.known[key]

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
        if op == "concatenate":
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
            return [f"{self.library(function, function.__name__)}({', '.join([*texts, out])})"]
        if op == "matmul":
            plain = len(node.args[0].shape) == 2 >= len(node.args[1].shape) and not part
            return [f"{'dot' if plain else 'matmul'}({texts[0]}, {texts[1]}, {out})"]
        if op == "where":
            return [f"copyto({out}, {texts[2]})", f"copyto({out}, {texts[1]}, 'same_kind', {texts[0]})"]
        if op in ("sum", "max", "min", "prod"):
            ufunc = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}[op]
            name = self.library(ufunc, ufunc.__name__)
            return [f"{name}.reduce({texts[0]}, {node.params['axis']}, None, {out}, {node.params['keepdims']})"]
        if op in ("astype", "broadcast_to"):
            return [f"copyto({out}, {texts[0]})"]
        return [f"{out}[...] = {self.expression(node, texts)}"]


__all__ = ["LOOPS", "Code", "emit"]
