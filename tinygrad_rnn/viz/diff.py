"""diff: one picture of two cells, with what the second has more, has less and does otherwise than the first."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator

from ..compiler.lines import Lines
from ..nn.init import generator
from ..nn.module import Module
from .compare import Box, Boxes, matched
from .dot import HEAD
from .drawing import Drawing
from .equations import step_of
from .parts import Edge, Graph, Node
from .styles import SMALL, clean, quoted

STYLE = {  # fill, line, and how it is drawn; not by colour alone
    "same": ("#FFFFFF", "#9AA1AB", "penwidth=1"),
    "added": ("#CFEFE0", "#009E73", "penwidth=3"),
    "removed": ("#FFFFFF", "#D55E00", 'penwidth=1.5, style="rounded,dashed"'),
    "changed": ("#DDEEFF", "#0072B2", "penwidth=1.5, peripheries=2"),
}
EDGE = {
    "same": 'color="#9AA1AB"',
    "added": 'color="#009E73", penwidth=2.5',
    "removed": 'color="#D55E00", style=dashed',
}


def diff(a: Module | type[Module], b: Module | type[Module], input_size: int | None = None) -> Drawing:
    """One picture of two cells: the step of b, and in it what is added, removed and changed against a.

    a, b: cells, as `tg.viz.equations` takes them, or classes of them that take (input_size, hidden_size).
    input_size: the features of x, for cells that do not say them.

    A box is an op with the parameters that it reads. Boxes are matched by the names of their values (`.named("f")`), and by
    what they do to what is matched already, from the inputs up and from the results down.
    """
    names = [x.__name__ if isinstance(x, type) else type(x).__name__ for x in (a, b)]
    first, second = (boxes_of(x, input_size) for x in (a, b))
    return Picture(first, second, names).drawing()


def boxes_of(cell: Module | type[Module], input_size: int | None) -> Boxes:
    """The boxes of a cell, or of a small one of a class."""
    if isinstance(cell, type) and issubclass(cell, Module):
        cell = small(cell)
    step = step_of(cell, input_size, "diff")
    return Boxes(Lines(step, () if hasattr(cell, "output") else ("y",)))


def small(kind: type[Module]) -> Module:
    """A cell of a class, of small sizes; the random numbers that it draws are given back."""
    parameters = inspect.signature(kind).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(needed) != 2:
        raise TypeError(
            f"diff: {kind.__name__}{inspect.signature(kind)} does not take (input_size, hidden_size); pass a cell, as in "
            f"diff(tg.nn.LSTMCell(3, 4), {kind.__name__}(...))"
        )
    before = generator.bit_generator.state
    made: Module = kind(3, 4)  # type: ignore[call-arg]
    generator.bit_generator.state = before
    return made


class Picture:
    """What is shown: boxes of b, then those of a alone, with what has become of each."""

    def __init__(self, a: Boxes, b: Boxes, names: list[str]) -> None:
        self.names = names
        self.old = matched(a, b)
        kept = set(self.old.values())
        self.boxes = [*b.all, *(x for x in a.all if x not in kept)]
        self.index = {box: i for i, box in enumerate(self.boxes)}
        self.index |= {x: self.index[y] for y, x in self.old.items()}
        ends = [Counter((self.index[y], self.index[x], place) for x in each.all for y, place in x.reads) for each in (a, b)]
        self.edges = {"same": ends[0] & ends[1], "added": ends[1] - ends[0], "removed": ends[0] - ends[1]}
        added = {*b.all} - self.old.keys()
        self.status = ["added" if x in added else self.of_pair(x) if x in self.old else "removed" for x in self.boxes]

    def of_pair(self, box: Box) -> str:
        """What has become of a box that both have."""
        return "same" if (box.text, box.name) == (self.old[box].text, self.old[box].name) else "changed"

    def drawing(self) -> Drawing:
        """The picture."""
        nodes = [Node(said(x), (), status, bool(x.name), "", None) for x, status in zip(self.boxes, self.status, strict=True)]
        edges = [Edge(i, k, False, place) for found in self.edges.values() for i, k, place in found]
        return Drawing(HEAD + "\n".join(self.dot()) + "\n}\n", Graph(nodes, edges, [], [], {}))

    def dot(self) -> Iterator[str]:
        """The lines of DOT."""
        yield f"label={self.legend()}"
        inputs = [i for i, x in enumerate(self.boxes) if x.kind == "input"]
        yield "{rank=source; " + "; ".join(f"n{i}" for i in inputs) + "}"
        for i, (box, status) in enumerate(zip(self.boxes, self.status, strict=True)):
            fill, line, style = STYLE[status]
            label = f"<B>{clean(said(box))}</B>" if box.name else clean(said(box))
            if status == "changed":
                label += f"<BR/>{SMALL}was {clean(said(self.old[box]))}</FONT>"
            tip = quoted(f"{said(box)} | {status}")
            yield f'n{i} [id="n{i}", label=<{label}>, fillcolor="{fill}", color="{line}", {style}, tooltip={tip}]'
        for status, found in self.edges.items():
            for (i, k, _), count in found.items():
                yield from [f"n{i} -> n{k} [{EDGE[status]}]"] * count

    def legend(self) -> str:
        """What the styles mean, and how many boxes there are of each."""
        count = Counter(self.status)
        a, b = map(clean, self.names)
        words = {
            "added": f"thick: only in {b}", "removed": f"dashed: only in {a}", "changed": "double: changed",
            "same": "thin: the same",
        }  # fmt: skip
        cells = ""
        shown = [s for s in words if count[s] or self.edges.get(s)]
        for status in shown:
            fill, line, _ = STYLE[status]
            border = f'BORDER="{3 if status == "added" else 1}" STYLE="{"dashed" if status == "removed" else "rounded"}"'
            text = f'<FONT COLOR="#111111">{words[status]} ({count[status]})</FONT>'
            cells += f'<TD BGCOLOR="{fill}" COLOR="{line}" {border}>{text}</TD>'
        end = ": nothing differs" if self.nothing_differs() else ""
        title = f'<TR><TD COLSPAN="{len(shown)}"><B>{a} and {b}{end}</B></TD></TR>'
        return f'<<TABLE BORDER="0" CELLSPACING="4" CELLPADDING="4">{title}<TR>{cells}</TR></TABLE>>'

    def nothing_differs(self) -> bool:
        """Are all boxes and all edges the same?"""
        return set(self.status) <= {"same"} and not self.edges["added"] and not self.edges["removed"]


def said(box: Box) -> str:
    """The text of a box: `f = sigmoid`."""
    return f"{box.name} = {box.text}" if box.name else box.text
