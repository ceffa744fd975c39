"""The names in a program that is being written: what is known in which function, what is passed in, what is saved.

Arrays of all steps have time first (`z`); within a loop `z_t` is the row of one step.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from .places import Buffer, Place, Places
from .program import CONSTANT, Node
from .roll import Rolled
from .schedule import AFTER, BACKWARD, BEFORE, BETWEEN, FORWARD, LAST, ONCE, OUTPUT, WHY, stages
from .text import viewed

TOOLS = {
    name: getattr(np, name)
    for name in ("broadcast_to", "concatenate", "copyto", "dot", "einsum", "empty", "matmul", "ones", "stack")
}
WORDS = {"T", "saved", "t", "start", "stop", "zip", "range", "slice", "max", "len"}
FUNCTIONS = {"forward", "backward", "forward_steps", "backward_steps"}
SHORT, MANY = 256, 512  # elements of a row, and of a step: so short, and then so many, that a copy pays
HINTS = {ONCE: "w", BEFORE: "zx", FORWARD: "z", OUTPUT: "y", BETWEEN: "k", BACKWARD: "d", AFTER: "g", LAST: "total"}


def unused(wish: str, taken: set[str]) -> str:
    """A name that is not taken, which it is from now on."""
    base = re.sub(r"\W+", "_", wish, flags=re.ASCII)
    base = base if base[:1].isalpha() else f"v{base}"
    name, i = base, 2
    while name in taken:
        name, i = f"{base}{'_' * base[-1].isdigit()}{i}", i + 1
    taken.add(name)
    return name


class Code(NamedTuple):
    """Source text, the objects that its global names stand for, and what tells when each value is computed."""

    source: str
    names: dict[str, Any]
    schedule: Callable[[], str] = str


class Scope:
    """A function that is being written."""

    def __init__(self, name: str, parent: Scope | None = None) -> None:
        self.name, self.parent = name, parent
        self.lines: list[str] = []
        self.known: dict[Any, str] = {}  # what has a name here
        self.own: set[Node] = set()  # the arrays that were made here
        self.arguments: list[tuple[str, str, bool]] = []  # of a function for some steps: name, what is passed, a row per step?


class Writer:
    """What is known about a program while its text is written."""

    why = WHY  # each stage is where it is

    def __init__(self, rolled: Rolled) -> None:
        self.rolled = rolled
        self.staged, self.places = self.planned(rolled)
        self.from_products = {n.args[0] for n in self.staged if n.op == "product"}  # dz of z = x @ W
        self.globals: dict[str, Any] = dict(TOOLS)
        self.taken = {*keyword.kwlist, *TOOLS, *WORDS, *FUNCTIONS}
        self.names: dict[Any, str] = {}
        self.saved: dict[str, None] = {}  # what the way back needs
        self.ways = {"forward": Scope("forward"), "backward": Scope("backward")}
        self.scope = self.ways["forward"]

    def planned(self, rolled: Rolled) -> tuple[dict[Node, str], Any]:
        """When each value is computed, and where it lives."""
        staged = stages(rolled)
        return staged, Places(rolled, staged)

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
        return unused(wish, self.taken)

    def hint(self, key: Any) -> str:
        """A name for a value that nobody has named."""
        node = key.node if isinstance(key, Buffer) else key
        if node.name:
            return str(node.name)
        if node.op == "transpose" and node.args[0].name:
            return f"{node.args[0].name}_T"
        return "dz" if node in self.from_products else HINTS[self.staged[node]]

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
            return f"{key[1].name or 's'}_{key[0]}"
        return None

    def timed(self, key: Any) -> bool:
        """Has this a row for each step?"""
        if isinstance(key, Buffer):
            return key.stacked
        return isinstance(key, tuple) or (key.rank != CONSTANT and key not in self.rolled.carries)

    def allocate(self, buffer: Buffer) -> str:
        """Memory: for all steps where the function begins, for one within the function that loops."""
        lead = ["T + 1" if buffer.state else "T"] if buffer.stacked else []
        wish = f"{buffer.name or 's'}s" if buffer.state else None
        name = self.name(buffer, wish)
        shape = ", ".join([*lead, *map(str, buffer.shape)])
        self.line(f"{name} = empty(({shape}{',' if len(lead) + len(buffer.shape) == 1 else ''}), {self.dtype(buffer.dtype)})")
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

    def dtype(self, dtype: np.dtype[Any]) -> str:
        """The name of a dtype: of NumPy's class, which it understands sooner than a string."""
        return self.library(dtype.type, dtype.type.__name__)

    def parameter(self, value: Any) -> str:
        """A static parameter: as text where it has one, else under a name."""
        values = value if type(value) is tuple else (value,)
        if all(type(v) in (bool, int, str, type(None)) or (type(v) is float and isfinite(v)) for v in values):
            return repr(value)
        name = self.unique("parameter")
        self.globals[name] = value
        return name

    # -- values ------------------------------------------------------------------------------------------------------------

    def literal(self, node: Node) -> str:
        """A constant: a number as it is, an array under a name, and so infinity and NaN."""
        if node.is_number and np.isfinite(node.value):
            return f"({node.value!r})" if node.value < 0 else repr(node.value)
        if node not in self.names:
            self.globals[self.name(node, node.name or "constant")] = node.value
        return self.names[node]

    def number(self, node: Node, dtype: Any) -> str:
        """A number within a loop: as an array without axes it need not be converted at every step."""
        key = ("number", node, dtype.str)
        if dtype.kind != "f" or node.dtype.kind == "b":  # a bool may be a condition
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

    def stack(self, place: Place, node: Node, looped: bool = False) -> str:
        """The rows of a buffer, or a view of them; a state that shares its rows is copied, but for the loop that writes it."""
        kind = "old" if place.old else "new"
        base = self.use((kind, place.buffer) if place.buffer.state else place.buffer)
        if not place.views:
            return base
        key = ("view", place.buffer, place.old, repr(place.views))
        text = viewed(base, place.views)
        shared = place.buffer.state and not place.old  # with what stands beside the state
        if shared and looped:
            return text
        if shared and self.scope.name == "backward" and key in self.ways["forward"].known:
            return self.use(key)
        if key not in self.scope.known:
            self.scope.known[key] = self.name(key, node.name or f"{self.name(place.buffer)}_part")
            self.line(f"{self.scope.known[key]} = {text}{'.copy()' if shared or self.short_rows(place, node) else ''}")
        return self.scope.known[key]

    def short_rows(self, place: Place, node: Node) -> bool:
        """Is this a piece of a saved array that several operations read in many short rows? A copy is quicker then."""
        saved = self.scope.name.startswith("backward") and self.staged[place.buffer.node] == FORWARD
        often = sum(node in reader.args for reader in self.staged) > 1
        return saved and often and len(node.shape) > 1 and node.shape[-1] <= SHORT and node.size >= MANY
