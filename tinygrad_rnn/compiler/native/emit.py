"""The program with its loops in C: each way a function that runs over time, called once; NumPy does what surrounds it."""

from __future__ import annotations

from typing import Any

from ..emit import Emitter
from ..places import Buffer
from ..program import Node
from ..roll import Rolled
from ..schedule import BACKWARD, FORWARD, WHY
from ..writer import Code, unused
from .c_text import KEYWORDS, TAKEN, c_file
from .call import functions
from .loops import Loop, Memory, wrapped
from .plan import Plan, fused_stages


def emit_c(rolled: Rolled, title: str) -> Code:
    """The functions `forward` and `backward`, and the C that they call."""
    return NativeEmitter(rolled).code(title)


class NativeEmitter(Emitter):
    """Turns a program into text: C for the loops, NumPy for the rest."""

    places: Plan
    why = WHY | {
        FORWARD: "the next state depends on it, or its arguments are at hand there: in the forward loop",
        BACKWARD: "the gradient that is carried depends on it, or its arguments are at hand there: in the backward loop",
    }

    def __init__(self, rolled: Rolled) -> None:
        super().__init__(rolled)
        self.batch = rolled.given["x"].shape[0]
        self.loops: list[Loop] = []
        self.memory: dict[Any, Memory] = {}
        self.c_names: dict[Any, str] = {}  # the same in both loops
        self.c_taken = {*TAKEN}
        for node in self.places.body[FORWARD]:  # a gate z keeps its name beside a product that has none
            if node.name:
                self.c_value(node)

    def planned(self, rolled: Rolled) -> tuple[dict[Node, str], Any]:
        staged = fused_stages(rolled)
        return staged, Plan(rolled, staged)

    def code(self, title: str) -> Code:
        """All of the text."""
        self.globals["functions"] = functions
        return super().code(title)

    def preface(self) -> str:
        """The C, and what makes functions of it."""
        text, names = c_file([loop.text() for loop in self.loops]), ", ".join(loop.name for loop in self.loops)
        return f'\nC = r"""\n{text}"""\n[{names}] = functions(C)\n'

    def steps(self, name: str, loop: str, before: list[tuple[str, set[Node]]]) -> None:
        """A loop: a function in C, and its call."""
        for stage, wanted in before:
            self.section(stage, wanted)
        function = Loop(self, loop, name)
        self.loops.append(function)
        for node, place in (self.places.sums | self.places.products).items() if loop == BACKWARD else ():
            self.scope.known[node] = self.use(place.buffer)
        for memory in self.memory.values():
            if memory.loop == loop and not memory.on_stack(self.batch):
                self.line(f"{memory.name} = empty({memory.size(self.batch)}, {self.dtype(memory.dtype)})")
        for line in wrapped(f"{name}(", ["T", str(self.batch), *function.called], ")"):
            self.line(line)

    def c_name(self, key: Any, wish: str) -> str:
        """The name of something in C."""
        if key not in self.c_names:
            self.c_names[key] = unused(f"{wish[0]}_{wish[1:]}" if wish in KEYWORDS else wish, self.c_taken)
        return self.c_names[key]

    def c_value(self, node: Node, end: str = "") -> str:
        """The name of a value that C computes, or of what goes with it."""
        name = self.c_names.get(node) or self.c_name(node, self.hint(node))
        return self.c_name((node, end), name + end) if end else name

    def private(self, buffer: Buffer, loop: str) -> Memory:
        """The memory that has a buffer which only C knows."""
        made = next((m for m in self.memory.values() if buffer in m.at), None)
        if made is None:
            key = loop, buffer.dtype
            if key not in self.memory:
                self.memory[key] = Memory(self.name(key, "kept" if loop == FORWARD else "work"), loop, buffer.dtype)
                self.scope.known[key] = self.memory[key].name
            made = self.memory[key]
            made.add(buffer)
        return made

    def end_carry(self, buffer: Buffer) -> str:
        return f"{self.use(buffer)}[T % 2]"
