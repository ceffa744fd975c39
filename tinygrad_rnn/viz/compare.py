"""Two cells as boxes, and which box of the one is which of the other: by name, and by what they do to what.

A box is an op with its operands; parameters are words in it. A sum is one box however long, and the parts of what is split go
by what is split, so that neither the order of a sum nor the number of gates makes a difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..compiler.expressions import PRODUCT, SIGNS, Python, holds
from ..compiler.lines import Lines
from ..compiler.program import CONSTANT, Node, ordered

COMMUTATIVE = {"add", "mul", "maximum", "minimum"}
WORDY = 6  # nodes in a word


@dataclass(eq=False, slots=True)
class Box:
    """An op: its text with the parameters that it reads, and the name of its value."""

    op: str
    text: str
    name: str
    kind: str  # "input", "op" or "state"
    reads: list[tuple[Box, int]] = field(default_factory=list)  # the other operands, and their places if these matter


class Boxes:
    """The boxes of a step, each after those that it reads; and those of the new states."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.step = lines, lines.step
        parameters = {n: n.name or "constant" for n in lines.step.externals.values()}
        self.words = Python(parameters)
        self.box: dict[Node, Box] = {}
        self.results = dict.fromkeys([*lines.step.new, *lines.step.outputs.values()])
        self.size: dict[Node, int] = {}
        for n in ordered(self.results):
            self.size[n] = 1 + sum(self.size[x] for x in n.args)
            if not self.is_word(n) and n not in lines.whole and not self.within_sum(n):
                self.box[n] = self.made(n)
        self.all = list(self.box.values())
        self.new = [self.box[n] for n in lines.step.new if n in self.box and n.args]

    def is_word(self, node: Node) -> bool:
        """Is this a parameter, a number, or a little that is made of these, to be written in the label of what reads it?"""
        return node.rank == CONSTANT and self.size[node] <= WORDY

    def word(self, node: Node, reader: Node) -> str:
        """A word in the label of what reads it."""
        loose = reader.op in SIGNS and reader.op != "add" and holds(node, self.words.names) <= PRODUCT
        return f"({self.words.text(node)})" if loose else self.words.text(node)

    def within_sum(self, node: Node) -> bool:
        """Is this a sum that only another sum reads?"""
        readers = self.lines.reading.get(node, [])
        return node.op == "add" and not node.name and node not in self.results and [y.op for y in readers] == ["add"]

    def operands(self, node: Node) -> list[Node]:
        """What a node is computed from; for a sum all of its terms."""
        terms, stack = [], list(node.args[::-1])
        while stack:
            x = stack.pop()
            if node.op == "add" and self.within_sum(x):
                stack += x.args[::-1]
            else:
                terms.append(x)
        return terms

    def made(self, node: Node) -> Box:
        """The box of a node."""
        if not node.args:
            state = node in self.step.states
            return Box("given", f"{self.lines.name[node]}{'[t-1]' if state else ''}", "", "input")
        operands = self.operands(node)
        words = [self.word(x, node) if self.is_word(x) else None for x in operands]
        state = node in self.step.new
        name = self.lines.name[node] if state else node.name or ""
        box = Box(node.op, self.text(node, words), name, "state" if state else "op")
        for i, x in enumerate(operands):
            if not self.is_word(x):
                box.reads.append((self.box[self.lines.whole.get(x, x)], 0 if node.op in COMMUTATIVE else i))
        return box

    def text(self, node: Node, words: list[str | None]) -> str:
        """What an op does, with the operands that have no box: `@ W.T`, `1 -`, `mean axis=1`."""
        known = [word for word in words if word is not None]
        if node.op in ("add", "mul"):
            sign = SIGNS[node.op][0]
            return " ".join(f"{sign} {word}" for word in known) or sign
        if node.op in SIGNS or node.op == "power":
            sign = SIGNS[node.op][0] if node.op in SIGNS else "**"
            return " ".join(word for word in (words[0], sign, words[1]) if word is not None)
        shown = Python(dict.fromkeys(node.args, ".")).spelled(node) if node.op in ("getitem", "transpose") else ""
        axis = node.params.get("axis")
        axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
        text = shown.removeprefix(".") or node.op.removeprefix("np.") + (f" axis={axis}" if axis is not None else "")
        return f"{text}({', '.join(word or '.' for word in words)})" if known else text


def matched(a: Boxes, b: Boxes) -> dict[Box, Box]:
    """For boxes of b the box of a that they stand for."""
    found: dict[Box, Box] = {}
    taken: set[Box] = set()

    def pair(x: Box, y: Box) -> None:
        """Note that y, of b, is x, of a, unless either is taken."""
        if x not in taken and y not in found:
            found[y] = x
            taken.add(x)

    for x, y in zip(a.new, b.new, strict=False):
        pair(x, y)
    for kind in ("input", "op"):
        known = {x.name or x.text: x for x in a.all if x.kind == kind and (x.name or kind == "input")}
        for y in b.all:
            if y.kind == kind and (y.name or y.text) in known:
                pair(known[y.name or y.text], y)
    for alike in ("text", "op"):
        count = -1
        while len(found) > count:
            count = len(found)
            doing: dict[object, list[Box]] = {}
            for x in a.all:
                doing.setdefault((getattr(x, alike), *sorted((place, id(z)) for z, place in x.reads)), []).append(x)
            for y in b.all:  # from the inputs: the same op on the same operands
                for x in doing.get((getattr(y, alike), *sorted((place, id(found.get(z))) for z, place in y.reads)), ()):
                    pair(x, y)
            for y in reversed(b.all):  # from the results: the same op, read by the same
                for z, _ in y.reads if y in found else ():
                    for x, _ in found[y].reads:
                        if getattr(x, alike) == getattr(z, alike) and not (x.name and z.name):
                            pair(x, z)
    return found
