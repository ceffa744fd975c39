"""What a picture shows, as plain data: nodes in columns of time, edges, tables of parameters, frames of modules.

graph.py makes it of Tensors, a view makes a smaller one of it, and dot.py writes it as DOT.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Node:
    """One box: an op with its output, or an input. The views have more kinds: "module", "wire", "blank" and "before"."""

    label: str
    shape: tuple[int, ...]
    kind: str  # "input", "parameter", "op", "activation", "state" or "loss"
    named: bool
    path: str  # of the module that made it
    step: int | None
    frames: tuple[int, ...] = ()  # the calls around it, outermost first: keys of Graph.frames
    row: int | None = None  # nodes of different steps that do the same share one, and are all of one step in it
    call: int | None = None  # the call of a module that the modules view draws as one box
    value: str = ""
    norms: tuple[float, ...] = ()  # of dL/d(node); in the rolled view one for each step


@dataclass(slots=True)
class Edge:
    """`source` is an input of `target`, the one at `place`. A state goes from one step to another."""

    source: int
    target: int
    state: bool
    place: int = 0
    label: str = ""
    shown: bool = True


@dataclass(slots=True)
class Table:
    """The parameters of a module: their names and shapes, and the nodes that read them."""

    title: str
    rows: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)
    values: list[str] = field(default_factory=list)  # of each row, if asked for; and the norms of their gradients
    norms: list[tuple[float, ...]] = field(default_factory=list)


@dataclass(slots=True)
class Graph:
    """All that a picture shows. Nodes are known by their index; `build` has them in topological order."""

    nodes: list[Node]
    edges: list[Edge]
    tables: list[Table]
    frames: list[str]  # the label of each
    steps: dict[int, str]  # each time step, and the path of the module that makes all of it ("" for none)
    calls: list[str] = field(default_factory=list)  # the path of each
    titles: dict[int, str] = field(default_factory=dict)  # of columns that are not one step
    show: tuple[str, ...] = ("shape",)
