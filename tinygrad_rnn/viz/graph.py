"""What a picture of a graph shows, as plain data: nodes in columns of time, edges, tables of parameters, frames of modules.

Nothing here knows how it will be drawn; dot.py writes it as DOT. Constants, parameters and their transposes are not nodes but
words in the label of the op that reads them, so that a picture shows the computation and no hairball.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .. import ops
from ..backward import toposort
from ..nn.module import Parameter
from ..steps import repeated, timing
from ..tensor import Tensor
from .frames import Frames
from .labels import below, op_text, rearranged, shape_text
from .names import Names

LONGEST = 80  # characters of a word that may still grow, as in W.T.reshape(3,4)
ACTIVATIONS = {"tanh", "sigmoid", "relu"}


@dataclass(slots=True)
class Node:
    """One box: an op with its output, or an input."""

    label: str
    shape: tuple[int, ...]
    kind: str  # "input", "parameter", "op", "activation", "state" or "loss"
    named: bool
    path: str  # of the module that made it
    step: int | None
    frames: tuple[int, ...] = ()  # the calls around it, outermost first: keys of Graph.frames
    row: int | None = None  # nodes of different steps that do the same share one


@dataclass(slots=True)
class Edge:
    """`source` is an input of `target`. A state goes from one step to another."""

    source: int
    target: int
    state: bool


@dataclass(slots=True)
class Table:
    """The parameters of a module: their names and shapes, and the nodes that read them."""

    title: str
    rows: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Graph:
    """All that a picture shows. Nodes are in topological order and known by their index."""

    nodes: list[Node]
    edges: list[Edge]
    tables: list[Table]
    frames: list[str]  # the label of each
    steps: dict[int, str]  # each time step, and the path of the module that makes all of it ("" for none)


def build(root: Tensor) -> Graph:
    """The graph that computed `root`, arranged by time."""
    builder = Builder(root)
    return builder.graph()


class Builder:
    """Collects a Graph: first what is known of each Tensor, then the nodes, edges, tables and frames."""

    def __init__(self, root: Tensor) -> None:
        self.root = root
        self.order = toposort(root)
        self.names = Names(self.order)
        self.step, self.role, self.picks, self.origin, self.consumers = timing(self.order)
        self.rows = self._rows()
        self.carried = self._carried()
        self.sequences = self._sequences()
        self.words: dict[Tensor, str] = {}  # what a Tensor without a box is called in the labels of its readers
        self.leaf: dict[Tensor, Tensor] = {}  # the leaf behind such a Tensor
        self.frames = Frames(self.step, self.names)
        for x in self.order:
            self._fold(x)
        self.drawn = [x for x in self.order if x not in self.words]

    def graph(self) -> Graph:
        """The whole of it."""
        self.frames.settle(x for x in self.drawn if not self.is_input(x))
        index = {x: i for i, x in enumerate(self.drawn)}
        self._place_inputs()
        states = {self.rows[x] for x in self.carried.values()}
        nodes = [self._node(x, self.rows.get(x), states) for x in self.drawn]
        edges = [Edge(index[y], index[x], self._is_state(y, x)) for x in self.drawn for y in x.inputs if y in index]
        steps = {t: self.frames.titles.get(t, "") for t in sorted({node.step for node in nodes if node.step is not None})}
        return Graph(nodes, edges, self._tables(index), self.frames.labels, steps)

    # -- what is known of each Tensor ----------------------------------------------------------------------------------------

    def _carried(self) -> dict[tuple[int, int], Tensor]:
        """The inputs that come from the step before: by the reader's role and the input's position, one such source."""
        found: dict[tuple[int, int], Tensor] = {}
        for x in self.step:
            for i, y in enumerate(x.inputs):
                if y in self.step and abs(self.step[y] - self.step[x]) == 1:
                    found.setdefault((self.rows[x], i), y)
        return found

    def begins(self, x: Tensor) -> Tensor | None:
        """If `x` is an initial state: a state that takes its place in another step."""
        for reader in self.consumers[x] if x not in self.step else ():
            for i, y in enumerate(reader.inputs if reader in self.step else ()):
                if y is x and (self.rows[reader], i) in self.carried:
                    return self.carried[self.rows[reader], i]
        return None

    def _sequences(self) -> set[Tensor]:
        """What is read only by picking positions of it, and so is shown by its members alone."""
        found: set[Tensor] = set()
        for x in reversed(self.order):
            readers = self.consumers[x] if x.op in (None, ops.TRANSPOSE) and x not in self.step else []
            if readers and all(y in self.picks or y in found or self._takes_place(y) for y in readers):
                found.add(x)
        return found

    def _takes_place(self, x: Tensor) -> bool:
        return x.op is ops.GETITEM and self.begins(x) is not None

    def _fold(self, x: Tensor) -> None:
        """Decide whether a Tensor is only a word in its readers' labels, and which."""
        if x is self.root:
            return
        if x.is_number:
            self.words[x] = f"{x._data:g}" if isinstance(x._data, float) else str(x._data)
        elif x.op is None and (x in self.sequences or self._is_shared(x)):
            known = self.names.owners.get(x)
            self.words[x] = known[1] if known else x.name or ("input" if x in self.sequences else shape_text(x.shape))
            self.leaf[x] = x
        elif self._only_rearranges(x):
            self.words[x] = self.words[x.inputs[0]] + rearranged(x)
            self.leaf[x] = self.leaf[x.inputs[0]]

    def _is_shared(self, x: Tensor) -> bool:
        """Does a table list this leaf? A module's parameters are listed, and what several steps read or is trained outside."""
        if x in self.names.owners or isinstance(x, Parameter):
            return True
        if not self.step or self.begins(x) is not None:
            return False
        steps, pending = set(), list(self.consumers[x])
        while pending:
            reader = pending.pop()
            if reader.op is ops.TRANSPOSE or reader in self.origin:
                pending.extend(self.consumers[reader])
            else:
                steps.add(self.step.get(reader))
        return len(steps) > 1 or (x.requires_grad and None in steps)

    def _only_rearranges(self, x: Tensor) -> bool:
        """Is this a word that has a leaf's behind it, like W.T? Not if the word would grow without end."""
        if x.op is None or x.inputs[0] not in self.leaf or len(self.words[x.inputs[0]]) > LONGEST:
            return False
        return x in self.sequences or (x in self.origin and x not in self.step) or x.op is ops.TRANSPOSE

    # -- nodes ---------------------------------------------------------------------------------------------------------------

    def column(self, x: Tensor) -> int | None:
        """The step in which a Tensor is drawn: its own, or for an input that of its only readers."""
        if x.op is not None or self.begins(x) is not None:
            return self.step.get(x)
        steps = {self.step.get(reader) for reader in self.consumers[x]}
        return steps.pop() if len(steps) == 1 else None

    def is_input(self, x: Tensor) -> bool:
        """Is this a leaf, or a piece of one that only takes its place?"""
        return x.op is None or (x.op is ops.GETITEM and x.inputs[0] in self.sequences)

    def _rows(self) -> dict[Tensor, int]:
        """A number for each row of nodes that do the same in different steps."""
        numbers: dict[Any, int] = {}
        seen: dict[tuple[int, int], int] = {}
        rows: dict[Tensor, int] = {}
        for x, t in self.step.items():
            k = seen[self.role[x], t] = seen.get((self.role[x], t), -1) + 1
            rows[x] = numbers.setdefault((self.role[x], k), len(numbers))
        self._match_odd(rows)
        return rows

    def _match_odd(self, rows: dict[Tensor, int]) -> None:
        """Find places for nodes that no other step has, as when the first step meets constants for a state.

        They take what is empty of their step in rows of the same op, parameters and module.
        """
        shared = repeated((row, self.step[x]) for x, row in rows.items())
        odd = {self.step[x] for x, row in rows.items() if row not in shared}
        present = {(row, self.step[x]) for x, row in rows.items() if self.step[x] in odd}
        alike: dict[Any, dict[int, tuple[int | None, ...]]] = {}
        for x, row in rows.items() if odd else ():
            if row in shared:
                alike.setdefault(self._looks(x), {})[row] = self._below(x, rows)
        for x in [x for x, row in rows.items() if row not in shared]:
            mine, t = self._below(x, rows), self.step[x]
            for row, theirs in alike.get(self._looks(x), {}).items():
                if (row, t) not in present and all(a is None or a == b for a, b in zip(mine, theirs, strict=True)):
                    rows[x] = row
                    present.add((row, t))
                    break

    def _looks(self, x: Tensor) -> tuple[Any, ...]:
        parameters = (self.origin.get(y) for y in x.inputs)
        return x.op, id(x.scope.module), x.params.get("piece"), *parameters

    def _below(self, x: Tensor, rows: dict[Tensor, int]) -> tuple[int | None, ...]:
        """The rows of a node's inputs in its own step."""
        return tuple(rows[y] if self.step.get(y) == self.step[x] else None for y in x.inputs)

    def _place_inputs(self) -> None:
        """Put initial states into the rows of the states that follow, and the inputs of steps into rows of their own."""
        numbers: dict[tuple[int, int], int] = {}
        for x in self.drawn:
            later = self.begins(x)
            if later is not None:
                self.rows[x] = self.rows[later]
            elif x.op is None and self.column(x) is not None:
                reader = self.consumers[x][0]
                place = self.rows[reader], reader.inputs.index(x)
                self.rows[x] = numbers.setdefault(place, -1 - len(numbers))

    def _node(self, x: Tensor, row: int | None, states: set[int]) -> Node:
        path = self.names.path(x.scope.module) if x.op is not None and x.scope.module is not None else ""
        later = self.begins(x)
        if x.op is None:
            text = x.name or ("input" if later is None else f"initial {later.name or 'state'}")
        else:
            text = op_text(x, [self._word(y, x) for y in x.inputs])
        label = f"{x.name} = {text}" if x.name and x.op is not None else text
        return Node(
            label,
            x.shape,
            self._kind(x, row, states),
            bool(x.name),
            path,
            self.column(x),
            () if self.is_input(x) else self.frames.of(x),
            row,
        )

    def _kind(self, x: Tensor, row: int | None, states: set[int]) -> str:
        if self.is_input(x):
            return "parameter" if x.requires_grad and row is None else "input"
        assert x.op is not None
        if x is self.root and x.size == 1:
            return "loss"
        if row in states:
            return "state"
        return "activation" if x.op.name in ACTIVATIONS else "op"

    def _word(self, y: Tensor, reader: Tensor) -> str | None:
        """What `y` is called in the label of its reader: a parameter's path is told from the frame on."""
        word = self.words.get(y)
        if word is None or self.leaf.get(y) not in self.names.owners:
            return word
        return below(word, self.frames.context(reader))

    def _is_state(self, y: Tensor, x: Tensor) -> bool:
        if x not in self.step:
            return False
        return self.begins(y) is not None if y not in self.step else abs(self.step[y] - self.step[x]) == 1

    # -- tables --------------------------------------------------------------------------------------------------------------

    def _tables(self, index: dict[Tensor, int]) -> list[Table]:
        """The parameters that are words, grouped by the module that owns them, with those who read them.

        What no step reads has a table of its own, so that an output layer can stand beside the last step.
        """
        tables: dict[tuple[str, bool], Table] = {}
        known = {leaf: i for i, leaf in enumerate(self.names.owners)}
        in_steps = {self.leaf.get(y) for x in self.drawn if x in self.step for y in x.inputs}
        listed: dict[tuple[str, bool], set[Tensor]] = {}
        for x in self.drawn:
            for y in x.inputs:
                leaf = self.leaf.get(y)
                if leaf is None or leaf in self.sequences:
                    continue
                owner = self.names.owners.get(leaf, ("", ""))[0]
                key = owner, leaf in in_steps
                table = tables.setdefault(key, Table(owner))
                listed.setdefault(key, set()).add(leaf)
                if index[x] not in table.readers[-1:]:
                    table.readers.append(index[x])
        for key, table in tables.items():
            leaves = sorted(listed[key], key=lambda leaf: (known.get(leaf, 0), leaf.birth))
            table.rows = [(below(self.words[leaf], table.title), leaf.shape) for leaf in leaves]
        return list(tables.values())
