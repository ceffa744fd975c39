"""The loops of the rolled view: a state leaves its step on the right, goes over the top and comes back on the left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .parts import Graph
from .styles import POINT, PURPLE


def returns(graph: Graph) -> dict[int, int]:
    """For each node `h[t-1]` the state that returns to it, in the rolled view."""
    nodes = graph.nodes
    return {e.target: e.source for e in graph.edges if nodes[e.target].kind == "before" and nodes[e.source].step is not None}


def after(graph: Graph) -> list[int]:
    """The nodes outside of time that follow from the step."""
    nodes = graph.nodes
    found: dict[int, None] = {}
    for edge in sorted(graph.edges, key=lambda edge: edge.target):
        if nodes[edge.target].step is None and (nodes[edge.source].step is not None or edge.source in found):
            found[edge.target] = None
    return list(found)


def loops(graph: Graph, levels: Mapping[int, int]) -> Iterator[str]:
    """The corners of the states' ways back: to the right of the step, above it, and to its left; the lowest state inmost."""
    nodes, back = graph.nodes, returns(graph)
    order = sorted(back, key=lambda i: levels.get(back[i], 0))
    if not order:
        return
    initial = {i: [e.source for e in graph.edges if e.target == i and e.source != back[i]] for i in order}
    tables = [f"P{k}" for k, table in enumerate(graph.tables) if any(nodes[i].step is not None for i in table.readers)]
    bands = {
        "first": [*tables, *(f"n{k}" for i in order for k in initial[i])],
        **{f"left{i}": [f"l{i}; n{i}"] for i in reversed(order)},
        **{f"right{i}": [f"x{i}; r{i}"] for i in order},
        "last": [f"n{k}" for k in after(graph) if k not in back],
    }
    yield f'{", ".join(f"x{i}, l{i}, r{i}" for i in order)} [shape=point, width=0.01, height=0.01, label="", color="{PURPLE}"]'
    names = list(bands)
    rail = " -> ".join([*names[: 1 + len(order)], "left", f"s{next(iter(graph.steps))}", *names[1 + len(order) :]])
    yield f"{{rank=same; node [style=invis, {POINT}]; {rail} [style=invis]}}"
    for name, band in bands.items():
        if name == "last" or name.startswith("right"):
            yield f"subgraph cluster_{name} {{ peripheries=0; {'; '.join(band)} }}"
        yield f"{name} -> {{{'; '.join(band)}}} [style=invis, weight=0]"
    for i in order:
        yield "{rank=same; " + "; ".join(f"n{k}" for k in [*initial[i], i]) + "}"
        yield f"{{rank=same; n{back[i]}; x{i}}} {{rank=same; l{i}; r{i}}}"
    inside = {e.source for e in graph.edges if nodes[e.source].step is not None and nodes[e.target].step is not None}
    tops = [k for k, node in enumerate(nodes) if node.step is not None and k not in inside]
    yield from (f"n{k} -> r{order[0]} [style=invis, weight=0]" for k in (*tops, *order))
    if len(order) > 1:
        yield " -> ".join(f"r{i}" for i in order) + " [style=invis, weight=0]"


def way_back(source: int, target: int) -> str:
    """The way of a state back to its step: out to the right, up, over the top to the left, and down to where it enters."""
    style = f'color="{PURPLE}", penwidth=2, style=dashed, arrowhead=none'
    return (
        f"n{source} -> x{target} [{style}]\nx{target} -> r{target} [{style}, weight=20]\n"
        f"l{target} -> r{target} [{style}]\nn{target} -> l{target} [{style}, weight=20]"
    )
