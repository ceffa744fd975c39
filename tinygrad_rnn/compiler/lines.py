"""Which values of a step get a line of their own when it is written down, in which order, and under which names.

A value that has a name gets a line, and so does its gradient; so does the sum that an activation is taken of, what is split
into parts, and what is read more than once, unless it is short. All else is written inside the expression that reads it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..ops import TABLE, basic
from .pairs import ACTIVATIONS, Pairs
from .program import Node, ordered, sliced, users
from .readable import readable
from .trace import Step
from .writer import unused

LONGEST, SHORT = 10, 4  # ops in one expression
TAKEN = {
    *keyword.kwlist, *TABLE, "T", "TABLE", "backward", "forward", "inf", "len", "linalg", "nan", "range", "reversed", "s_",
    "saved", "split", "t", "zeros_like",
}  # fmt: skip
BULKY = {"matmul", "sum", "mean", "max", "min", "prod", "concatenate", "stack", "np.max", "np.min"}
LETTERS = {"matmul": "p", "sub": "e", "sqrt": "s", "div": "q", "mean": "m", "sum": "s"}  # for what has no name


class Line(NamedTuple):
    """An equation: the value of one node, or of several, which are a node's equal parts."""

    targets: tuple[Node, ...]
    value: Node

    @property
    def axis(self) -> int:
        """The axis along which the parts lie."""
        return next(i for i, (n, m) in enumerate(zip(self.value.shape, self.targets[0].shape, strict=True)) if n != m)


class Lines:
    """A step as equations: those of its results, `forward`, and those of their gradients, `adjoint`.

    `name` has no time in it: a state has one name before the step (`states`) and after it, and the gradient of a state may be
    computed under the name of the carry. A gradient that is asked for, and nothing else, has no line: `step.gradients` has it.
    """

    def __init__(self, step: Step, without: Collection[str] = ()) -> None:
        self.step = step = readable(step, without)
        way = ordered([*step.new, *step.outputs.values()])
        self.way = set(way)
        self.reading = users(way)
        self.parts = {whole: parts for whole in way if (parts := equal_parts(whole, self.reading.get(whole, [])))}
        self.whole = {part: whole for whole, parts in self.parts.items() for part in parts}
        pairs = Pairs(step, way, self.reading, self.parts)
        self.gradient_of = {g: x for x, g in reversed(pairs.of.items())}
        self.own: set[Node] = set()
        self.refs: dict[Node, set[Node]] = {}  # the names in the expression of a node
        nodes = way + [n for n in ordered(step.gradients.values()) if n not in self.way]
        self.choose(nodes)
        self.place: dict[Node, int] = {}
        self.forward = self.arranged([n for n in way if n in self.own])
        self.adjoint = self.arranged([n for n in nodes if n in self.own and n not in self.way])
        self.name: dict[Node, str] = {}
        self.taken = TAKEN | {n.op.removeprefix("np.") for n in nodes if n.args}
        self.name_all()

    # -- which -------------------------------------------------------------------------------------------------------------

    def choose(self, nodes: list[Node]) -> None:
        """The nodes that have a line of their own."""
        step = self.step
        results, asked = {*step.new, *step.outputs.values()}, list(step.gradients.values())
        count = {n: len(readers) for n, readers in users(nodes).items()}
        for n in asked:
            count[n] = count.get(n, 0) + 1
        summed = {n.args[0] for n in nodes if n.op in ACTIVATIONS}
        size: dict[Node, int] = {}
        bulky: dict[Node, bool] = {}
        for n in nodes:
            inside = set[Node]().union(*(self.refs[x] for x in n.args))
            size[n] = 1 + sum(size[x] for x in n.args)
            bulky[n] = n.op in BULKY or any(bulky[x] for x in n.args if x not in self.own)
            short = len(inside) == 1 and size[n] <= (1 if bulky[n] else SHORT)
            wanted = n in results or n in self.whole or n in self.parts or (n in summed and not short)
            wanted |= n not in asked and (bool(n.name) or size[n] > LONGEST or self.gradient_of.get(n) in self.own)
            wanted |= count.get(n, 0) > 1 and not short
            if n.args and wanted:
                self.own.add(n)
            named = n in self.own or (not n.args and n.op != "constant")
            self.refs[n] = {n} if named else inside
            size[n] = 0 if named or not n.args else size[n]

    def reads(self, line: Line) -> set[Node]:
        """The names in the expression of a line."""
        if line.value not in line.targets:
            return {line.value}
        return set[Node]().union(*(self.refs[x] for x in line.value.args))

    # -- in which order ----------------------------------------------------------------------------------------------------

    def arranged(self, nodes: list[Node]) -> list[Line]:
        """The lines of these nodes: what can be computed first comes first, and what continues the line before follows it."""
        lines = list(dict.fromkeys(self.line(n) for n in nodes))
        maker = {n: line for line in lines for n in line.targets}
        needs = {line: {maker[n] for n in self.reads(line) if n in maker} for line in lines}
        depth: dict[Line, int] = {}
        rank: dict[Line, tuple[int, int, int]] = {}
        for i, line in enumerate(lines):
            depth[line] = 1 + max((depth[x] for x in needs[line]), default=0)
            rank[line] = (depth[line], self.lane(line, rank, needs[line]), i)
        done: dict[Line, None] = {}
        run: list[Line] = []
        while len(done) < len(lines):
            ready = [x for x in lines if x not in done and needs[x] <= done.keys()]
            onward = [x for x in ready if run and run[-1] in needs[x] and needs[x].issubset(run)]
            line = min(onward or ready, key=rank.__getitem__)
            run = [*run, line] if onward else [line]
            done[line] = None
            for n in line.targets:
                self.place[n] = len(self.place)
        return list(done)

    def line(self, node: Node) -> Line:
        """The line that has this value."""
        whole = self.whole.get(node)
        return Line((node,), node) if whole is None else Line(self.parts[whole], whole)

    def lane(self, line: Line, rank: dict[Line, tuple[int, int, int]], needs: Iterable[Line]) -> int:
        """Where a line stands among others that can be computed at once: as the parts that it reads, or as what it is of."""
        x = self.gradient_of.get(line.targets[0])
        if x in self.place:
            return self.place[x]
        parts = [self.parts[self.whole[n]].index(n) for n in self.reads(line) if n in self.whole]
        return min(parts or [rank[x][1] for x in needs], default=0)

    # -- under which names -------------------------------------------------------------------------------------------------

    def unique(self, wish: str) -> str:
        """A name that is not taken."""
        return unused(re.sub(r"\W+", "_", wish, flags=re.ASCII).strip("_"), self.taken)

    def name_all(self) -> None:
        """Names for all that is given and all that has a line."""
        step = self.step
        for n in (*step.given.values(), *step.externals.values()):
            if n not in step.states:
                self.name[n] = self.unique(n.name or "constant")
        wishes = [new.name if new.args and new.name else old.name for old, new in zip(step.states, step.new, strict=True)]
        if len(set(wishes)) < len(wishes):
            wishes = [old.name for old in step.states]
        for old, new, wish in zip(step.states, step.new, wishes, strict=True):
            self.name[old] = self.unique(wish or "h")
            if new.args and new not in self.name:
                self.name[new] = self.name[old]
        values = [n for line in self.forward for n in line.targets if n not in self.name]
        self.name_sums(values)
        for n in values:
            if n.name and n not in self.name:
                self.name[n] = self.unique(n.name if n.name not in self.taken else f"{n.name}_new")
        unnamed = [n for n in values if n not in self.name]
        letters = [self.letter(n) for n in unnamed]
        for n, letter in zip(unnamed, letters, strict=True):
            origin = self.origin(n) if letters.count(letter) > 1 or letter in self.taken else set()
            self.name[n] = self.unique("_".join([letter, *origin] if len(origin) == 1 else [letter]))
        self.name_gradients()

    def name_sums(self, values: list[Node]) -> None:
        """a for what an activation is taken of, a_f if there are several; x_r, h_r for the parts of x's and of h's share."""
        sums = {y.args[0]: y for y in reversed(values) if y.op in ACTIVATIONS and y.args[0] in values}
        sums |= {y.args[0]: y for y in self.step.new if y.op in ACTIVATIONS and y.args[0] in values}
        wholes = [n for n in values if n in self.parts and not n.name]
        alone = [n for n in values if n in sums and n not in self.whole and not n.name]
        for n in alone:
            self.name[n] = self.unique("a" if len(alone) + len(wholes) == 1 else f"a_{self.called(sums[n])}")
        for n in wholes:
            apart = all(part in sums for part in self.parts[n])
            origin = sorted(self.origin(n)) if len(wholes) > 1 else []
            self.name[n] = self.unique("_".join(["a" if apart or len(origin) == 1 else "u", *origin[: len(origin) == 1]]))
        for whole, parts in self.parts.items():
            letter, ends = self.name[whole].removeprefix("a_"), [self.led_to(part) for part in parts]
            for i, (part, end) in enumerate(zip(parts, ends, strict=True)):
                self.name[part] = self.unique(part.name or f"{letter}_{end if len(set(ends)) == len(ends) else i}")

    def letter(self, node: Node) -> str:
        """What a value without a name is called."""
        return "a" if any(y.op in ACTIVATIONS for y in self.reading.get(node, ())) else LETTERS.get(node.op, "u")

    def origin(self, node: Node) -> set[str]:
        """The names of the values, other than parameters, that a value is computed from."""
        found, seen, stack = set(), {node}, list(node.args)
        while stack:
            x = stack.pop()
            if (x.name and x.args) or x in self.step.given.values():
                found.add(self.called(x))
            elif x not in seen:
                seen.add(x)
                stack += x.args
        return found

    def led_to(self, part: Node) -> str:
        """The name of the nearest value with a name that is computed from a part."""
        seen, queue = {part}, [part]
        for n in queue:
            if n is not part and (n.name or n in self.step.new):
                return self.called(n)
            for y in self.reading.get(n, ()):
                if y not in seen:
                    seen.add(y)
                    queue.append(y)
        return str(self.parts[self.whole[part]].index(part))

    def called(self, node: Node) -> str:
        """The name of a value, or that by which it will go."""
        return self.name.get(node) or node.name or "u"

    def name_gradients(self) -> None:
        """d and what a gradient is of, v if that is not known. The name of a carry is used again once it has been read."""
        step = self.step
        for name, seed in step.seeds.items():
            self.name[seed] = self.unique("dy" if name == "y" else f"dy_{name}")
        again: dict[Node, str] = {}
        for old, new, carry in zip(step.states, step.new, step.carries, strict=False):
            self.name[carry] = self.unique(f"d{self.name[old]}")
            read_by = [line for line in self.adjoint if carry in self.reads(line)]
            read_later = any(carry in self.refs[g] for g in step.gradients.values())
            if len(read_by) == 1 and not read_later and self.gradient_of.get(read_by[0].value) is new:
                again[read_by[0].value] = self.name[carry]
        for line in self.adjoint:
            n = line.value
            x = self.gradient_of.get(n)
            self.name[n] = again[n] if n in again else self.unique(f"d{self.name[x]}" if x in self.name else "v")


def equal_parts(whole: Node, readers: Iterable[Node]) -> tuple[Node, ...]:
    """The slices of a node, if they are all of it, in equal parts."""
    slices = [n for n in readers if n.op == "getitem" and basic(n.params["key"])]
    cuts = {cut: n for n in slices if (cut := sliced(n)) is not None}
    bounds = sorted(cuts)
    if len(bounds) < 2:
        return ()
    axis, _, width = bounds[0]
    equal = [(axis, i, i + width) for i in range(0, whole.shape[axis], max(width, 1))]
    return tuple(cuts[b] for b in bounds) if bounds == equal else ()
