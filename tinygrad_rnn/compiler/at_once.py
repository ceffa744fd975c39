"""The values that are computed for all steps at once, before and after the loops, and those without time."""

from __future__ import annotations

from typing import Any

import numpy as np

from .aligned import aligned
from .places import parts
from .program import CONSTANT, Node, forward, users
from .roll import Rolled
from .schedule import AFTER, BEFORE, BETWEEN, LAST, LOOPS, ONCE, OUTPUT, STAGES
from .text import lifted, written
from .writer import Writer

VIEWS = ("getitem", "reshape", "transpose", "broadcast_to")  # of an argument's memory


class AtOnce(Writer):
    """The writer of what does not loop."""

    def __init__(self, rolled: Rolled) -> None:
        super().__init__(rolled)
        self.reading = self.readers()
        self.position = {node: (STAGES.index(stage), i) for i, (node, stage) in enumerate(self.staged.items())}
        self.later: set[Node] = set()  # what is left to a function for some steps

    def readers(self) -> dict[Node, list[Node]]:
        """For each node, those that read it, and itself if it is a result."""
        rolled, found = self.rolled, {n: list[Node]() for n in self.staged} | users(self.staged)
        for result in (*rolled.forward_roots(), rolled.dx, *rolled.back):
            if result is not None:
                found[result].append(result)
        return found

    def section(self, stage: str, wanted: set[Node]) -> None:
        """All values of a stage that does not loop and that are not there yet."""
        nodes = [n for n, s in self.staged.items() if s == stage and n.args and n in wanted and n not in self.scope.known]
        outer = self.scope.parent.known if self.scope.parent is not None else {}
        nodes = [n for n in nodes if n not in outer]
        if nodes:
            self.line(f"# {self.why[stage]}")
        joined: dict[Node, tuple[Node, Any]] = {}  # what is a part of a concatenation, computed where it belongs
        if stage in (BETWEEN, AFTER, BEFORE, OUTPUT):
            for whole in nodes:
                for key, part in parts(whole) if whole.op in ("concatenate", "stack") else ():
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

    def once(self, node: Node) -> str:
        """A value without time."""
        texts = [self.use_node(x) for x in node.args]
        if node.op == "aligned":
            return f"{self.library(aligned, 'aligned')}({texts[0]})"
        if node.op == "transpose":
            turned = ".T" if len(node.shape) == 2 else f".transpose{tuple(node.params['axes'])}"
            once = all(r.op == "aligned" or (r.op == "matmul" and self.staged[r] not in LOOPS) for r in self.reading[node])
            return f"{texts[0]}{turned}{'' if once else '.copy()'}"  # a copy is quicker to read, which pays if all steps do
        copy = ".copy()" if node.op == "getitem" and node.rank == CONSTANT else ""
        return self.expression(node, texts) + copy

    def last(self, node: Node) -> str:
        """A sum over time, or what is made of sums."""
        if node.op == "total":
            x, axes = node.args[0], node.params["axes"]
            if x.rank == CONSTANT:
                return f"T * {self.use_node(x)}.sum({axes})"
            if axes == (0,) and len(x.shape) == 2:
                return f"dot(ones(T * {x.shape[0]}, {self.dtype(x.dtype)}), {self.rows(x)})"
            return f"{self.use_node(x)}.sum({(0, *(a + 1 for a in axes))})"
        if node.op == "columns":  # each step's sum first, which is more exact than one long sum
            return f"einsum('tni,tni->ti', {', '.join(map(self.over_time, node.args))}).sum(0)"
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
            a, b = self.rows(args[0]), self.use_node(args[1])
            wide = args[0].shape[0] > 1 and min(args[1].shape) > 1  # dot is slower there: it fills its result with zeros first
            return f"{f'({a} @ {b})' if wide else f'dot({a}, {b})'}.reshape({shape})"
        if op in ("getitem", "reshape", "transpose"):
            what = node.params["key"] if op == "getitem" else node.shape if op == "reshape" else node.params["axes"]
            return self.over_time(args[0]) + lifted((op, what))
        if op == "broadcast_to":
            return f"broadcast_to({self.with_axes(args[0], len(node.shape))}, ({shape}))"
        if op in ("concatenate", "stack") and any(joined.get(x, (None,))[0] is node for x in args):
            out = self.room(node)
            for key, part in parts(node):
                if joined.get(part, (None,))[0] is not node:
                    self.line(f"{out}{lifted(('getitem', key))} = {self.use_node(part)}")
            return ""
        if op in ("concatenate", "stack"):
            return self.expression(node, [self.over_time(x) for x in args], 1)
        texts = [self.with_axes(x, len(node.shape)) for x in args]
        function = forward(op)
        if node in joined:
            whole, key = joined[node]
            out = f"{self.room(whole)}{lifted(('getitem', key))}"
            self.line(f"{self.library(function, function.__name__)}({', '.join([*texts, f'out={out}'])})")
            return ""
        spare = self.spare(node)
        if spare is not None and isinstance(function, np.ufunc):
            self.line(f"{self.library(function, function.__name__)}({', '.join([*texts, f'out={self.scope.known[spare]}'])})")
            self.scope.known[node] = self.scope.known[spare]
            self.scope.own.add(node)
            return ""
        return self.expression(node, texts, 1)

    def spare(self, node: Node) -> Node | None:
        """An argument that nothing reads any more, whose memory the result can take."""

        def done(reader: Node, x: Node) -> bool:
            now = self.position[reader] <= self.position[node] and reader not in self.later
            return now and reader is not x and reader.op not in VIEWS

        for x in node.args:
            fits = (x.shape, x.dtype) == (node.shape, node.dtype) and x.rank != CONSTANT and x.op not in VIEWS
            if fits and x in self.scope.own and x not in self.places.of and all(done(r, x) for r in self.reading[x]):
                return x
        return None

    def room(self, node: Node) -> str:
        """Memory for a value at all steps that is written part by part."""
        if node not in self.scope.known:
            self.scope.known[node] = self.name(node)
            shape = ", ".join(map(str, node.shape))
            self.line(f"{self.scope.known[node]} = empty((T, {shape}), {self.dtype(node.dtype)})")
        return self.scope.known[node]

    def with_axes(self, node: Node, axes: int) -> str:
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
