"""What a picture shows of a Tensor: how a graph of Tensors becomes the plain data of parts.py.

Constants, parameters and their transposes are not nodes but words in the label of the op that reads them, so that a picture
shows the computation and no hairball.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from .. import ops
from ..backward import toposort
from ..compiler.pairs import ACTIVATIONS
from ..nn.module import Parameter
from ..steps import timing
from ..tensor import Tensor
from .frames import Frames, boxed_calls
from .labels import below, is_run, op_text, rearranged, shape_text, value_text
from .names import Names
from .parts import Edge, Graph, Node, Table
from .record import recorded
from .rows import carried, rows_of

LONGEST = 80  # characters of a word that may still grow, as in W.T.reshape(3,4)


def build(
    root: Tensor | Sequence[Tensor], show: Collection[str] = ("shape",), names: Mapping[str, object] | None = None
) -> Graph:
    """The graph that computed one or several Tensors, arranged by time; `show` and `names` as `draw` takes them."""
    return Builder([root] if isinstance(root, Tensor) else root, tuple(show), names or {}).graph()


class Builder:
    """Collects a Graph: first what is known of each Tensor, then the nodes, edges, tables and frames."""

    def __init__(self, roots: Sequence[Tensor], show: tuple[str, ...], names: Mapping[str, object]) -> None:
        self.roots, self.show = dict.fromkeys(roots), show
        self.given = {x: name for name, x in names.items() if isinstance(x, Tensor)}
        self.gradients = recorded('draw with show=("grad",)', list(self.roots)) if "grad" in show else {}
        self.order = toposort(*self.roots)
        self.names = Names(self.order)
        time = timing(self.order)
        self.step, _, self.picks, self.origin, self.consumers = time
        self.rows = rows_of(time)
        self.carried = carried(self.rows, time)
        self.sequences = self._sequences()
        self.words: dict[Tensor, str] = {}  # what a Tensor without a box is called in the labels of its readers
        self.leaf: dict[Tensor, Tensor] = {}  # the leaf behind such a Tensor
        self.frames = Frames(self.step, self.names)
        for x in self.order:
            self._fold(x)
        self.drawn = [x for x in self.order if x not in self.words]

    def graph(self) -> Graph:
        """The whole of it."""
        computed = [x for x in self.drawn if not self.is_input(x)]
        self.frames.settle(computed)
        self.calls, modules = boxed_calls(computed, self.step)
        self.call_paths = [self.names.path(module) for module in modules]
        index = {x: i for i, x in enumerate(self.drawn)}
        self._place_inputs()
        states = {self.rows[x] for x in self.carried.values()}
        nodes = [self._node(x, self.rows.get(x), states) for x in self.drawn]
        edges = [
            Edge(index[y], index[x], self._is_state(y, x), i) for x in self.drawn for i, y in enumerate(x.inputs) if y in index
        ]
        steps = {t: self.frames.titles.get(t, "") for t in sorted({node.step for node in nodes if node.step is not None})}
        return Graph(nodes, edges, self._tables(index), self.frames.labels, steps, self.call_paths, show=self.show)

    # -- what is known of each Tensor ----------------------------------------------------------------------------------------

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
            readers = self.consumers[x] if x.op in (None, ops.TRANSPOSE, ops.GETITEM) and x not in self.step else []
            if readers and all(y in self.picks or y in found or self._takes_place(y) for y in readers):
                found.add(x)
        return found

    def _takes_place(self, x: Tensor) -> bool:
        """Is this a piece of a sequence that enters a step, or begins a state?"""
        return x.op is ops.GETITEM and (self.begins(x) is not None or (x in self.step and not x.requires_grad))

    def _fold(self, x: Tensor) -> None:
        """Decide whether a Tensor is only a word in its readers' labels, and which."""
        if x in self.roots:
            return
        if x.is_number and self.begins(x) is None:
            self.words[x] = value_text(x._data)
        elif x.op is None and (x in self.sequences or self._is_shared(x)):
            known = self.names.owners.get(x)
            path = known[1] if known and x not in self.given else self.name(x)
            self.words[x] = path or ("input" if x in self.sequences else shape_text(x.shape))
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

    def name(self, x: Tensor) -> str | None:
        """The name that the caller gave for this picture, else the node's own."""
        return self.given.get(x, x.name)

    def _notes(self, x: Tensor) -> tuple[str, tuple[float, ...]]:
        """The value of a node and the norm of its gradient, where they are to be shown."""
        value = value_text(x._data) if "value" in self.show and not is_run(x) else ""
        return value, (float(np.linalg.norm(self.gradients[x])),) if x in self.gradients else ()

    def _node(self, x: Tensor, row: int | None, states: set[int]) -> Node:
        path = self.names.path(x.scope.module) if x.op is not None and x.scope.module is not None else ""
        name = self.name(x)
        if x.op is not None:
            text = op_text(x, [self._word(y, x) for y in x.inputs])
        elif x.is_number:
            text = value_text(x._data)
        else:
            later = self.begins(x)
            text = name or ("input" if later is None else f"initial {self.name(later) or 'state'}")
        return Node(
            f"{name} = {text}" if name and x.op is not None else text,
            x.shape,
            self._kind(x, row, states),
            bool(name),
            path,
            self.column(x),
            () if self.is_input(x) else self.frames.of(x),
            row,
            self.calls.get(x),
            *self._notes(x),
        )

    def _kind(self, x: Tensor, row: int | None, states: set[int]) -> str:
        if self.is_input(x):
            return "parameter" if x.requires_grad and row is None else "input"
        assert x.op is not None
        if is_run(x):
            return "module"
        if x in self.roots and x.size == 1:
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
        return self.begins(y) is not None if y not in self.step else self.step[y] != self.step[x]

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
            notes = [self._notes(leaf) for leaf in leaves]
            table.values, table.norms = [value for value, _ in notes], [norms for _, norms in notes]
        return list(tables.values())
