"""What holds a picture together: rows aligned across steps, and invisible edges that keep columns and buses in order.

A bus is the line that leads from a table of parameters along the steps, with a point (`b0_3`) in each step that reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from .parts import Edge, Graph, Table
from .styles import POINT


def row_levels(graph: Graph) -> dict[int, int]:
    """How high each node is above the inputs, equal within a row. A row that would have to be above itself has no level."""
    nodes = graph.nodes
    unit = [("node", i) if node.row is None else ("row", node.row) for i, node in enumerate(nodes)]
    above: dict[tuple[str, int], list[tuple[str, int]]] = {u: [] for u in unit}
    waiting = dict.fromkeys(unit, 0)
    for edge in graph.edges:
        if not edge.state:
            above[unit[edge.source]].append(unit[edge.target])
            waiting[unit[edge.target]] += 1
    level = {u: 0 for u, count in waiting.items() if not count}
    ready = list(level)
    for u in ready:
        for v in above[u]:
            level[v] = max(level.get(v, 0), level[u] + 1)
            waiting[v] -= 1
            if not waiting[v]:
                ready.append(v)
    settled = set(ready)
    return {i: level[u] for i, u in enumerate(unit) if u in settled}


def storeys(graph: Graph) -> Graph:
    """Cells of a step that do not wait for each other, such as the two directions of a layer, set above each other.

    The edges that do so are not shown.
    """
    levels = row_levels(graph)
    cells: dict[tuple[int, int], list[int]] = {}
    for i, node in enumerate(graph.nodes):
        if node.step is not None and node.call is not None and i in levels:
            cells.setdefault((node.step, node.call), []).append(i)
    storey: dict[tuple[int, int], list[list[int]]] = {}
    for (t, _), cell in cells.items():
        if any(graph.nodes[i].kind in ("state", "module") for i in cell):
            storey.setdefault((t, min(levels[i] for i in cell)), []).append(cell)
    edges = []
    for group in storey.values():
        for lower, upper in pairwise(sorted(group, key=lambda cell: graph.nodes[cell[0]].row or 0)):
            top, bottom = max(levels[i] for i in lower), min(levels[i] for i in upper)
            ends = [i for i in lower if levels[i] == top], [i for i in upper if levels[i] == bottom]
            edges += [Edge(i, k, False, shown=False) for i in ends[0] for k in ends[1]]
    return replace(graph, edges=graph.edges + edges) if edges else graph


def rows(graph: Graph, levels: dict[int, int]) -> Iterator[str]:
    """One rank for each row. What reads nothing but the last step's result joins its row, and so stands to the right of it."""
    members: dict[int, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        if node.row is not None and i in levels:
            members.setdefault(node.row, []).append(i)
    feeding: dict[int, list[int]] = {}
    for edge in graph.edges:
        feeding.setdefault(edge.target, []).append(edge.source)
    last = max(graph.steps, default=None)
    for i, sources in feeding.items():
        node, source = graph.nodes[i], graph.nodes[sources[0]]
        if node.step is None and len(sources) == 1 and source.step == last is not None and source.row in members:
            members[source.row].append(i)
    for row in members.values():
        if len(row) > 1:
            yield "{rank=same; " + "; ".join(f"n{i}" for i in row) + "}"


def ground(graph: Graph) -> tuple[int, dict[tuple[int, int], int]]:
    """Which buses can run below all nodes, as bits; and between which nodes the others run: {(node below, bus): reader}."""
    nodes, below = graph.nodes, [0] * len(graph.nodes)  # a bit for each table that is read at or below a node
    for k, table in enumerate(graph.tables):
        for i in table.readers:
            below[i] |= 1 << k
    own = list(below)
    floor = (1 << len(graph.tables)) - 1
    under: dict[tuple[int, int], int] = {}
    for edge in graph.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        if source.step is None or source.step != target.step:
            continue
        below[edge.target] |= below[edge.source]
        new = own[edge.target] & ~below[edge.source] if source.kind != "input" else 0
        if new:
            floor &= ~new
            under.update(((edge.source, k), edge.target) for k in range(len(graph.tables)) if new >> k & 1)
    return floor, under


def rails(graph: Graph, buses: Sequence[Collection[int]], floor: int, under: Mapping[tuple[int, int], int]) -> Iterator[str]:
    """Invisible edges: an ordered point below each step holds the columns in their order; each bus gets a rank of its own."""
    nodes = graph.nodes
    highest: dict[int, int] = {}  # the bus that runs highest above a node
    for i, k in under:
        t, low = nodes[i].step, highest.get(i)
        yield f"n{i} -> b{k}_{t} [style=invis, weight=0]"
        if low is not None:
            yield f"b{low}_{t} -> b{k}_{t} -> n{under[i, low]} [style=invis, weight=0]"
        highest[i] = k
    high = {i: k for k, table in enumerate(graph.tables) if not floor >> k & 1 for i in table.readers}
    for edge in graph.edges:
        if nodes[edge.source].kind == "input" and edge.target in high and nodes[edge.source].step is not None:
            yield f"b{high[edge.target]}_{nodes[edge.target].step} -> n{edge.source} [style=invis, weight=0]"
    points = ["left", *(f"s{t}" for t in graph.steps)]
    yield "{rank=same; node [style=invis, " + POINT + "]; " + "; ".join(points) + "}"
    yield " -> ".join(points) + " [style=invis]"
    top: dict[int | None, str] = {}
    for t in graph.steps:
        chain = [f"s{t}", *(f"b{k}_{t}" for k, bus in enumerate(buses) if floor >> k & 1 and t in bus)]
        top[t] = chain[-1]
        if len(chain) > 1:
            yield " -> ".join(chain) + " [style=invis]"
    for i in anchors(graph):
        yield f"{top[nodes[i].step]} -> n{i} [style=invis, weight=0]"
    first = next(iter(graph.steps))
    initial = [edge.source for edge in graph.edges if edge.state and nodes[edge.source].step is None]
    first_read = {edge.source for edge in graph.edges if edge.state and nodes[edge.target].step == first}
    leftmost = [f"n{i}" for i in dict.fromkeys(initial) if i in first_read]
    leftmost += [f"P{k}" for k, bus in enumerate(buses) if bus]
    for name in leftmost:  # each edge counts when crossings are avoided, so several of them hold a box on the left
        yield from [f"left -> {name} [style=invis, weight=0]"] * 5


def anchors(graph: Graph) -> Iterator[int]:
    """The nodes that the rail below holds in place: the inputs of each step, or else the one that is lowest."""
    inner = {e.target for e in graph.edges if graph.nodes[e.source].step == graph.nodes[e.target].step}
    lowest: dict[int, tuple[int, int]] = {}
    held: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if node.step is None:
            continue
        if node.kind == "input":
            held.add(node.step)
            yield i
        elif i not in inner and node.row is not None:
            lowest[node.step] = min(lowest.get(node.step, (node.row, i)), (node.row, i))
    yield from (i for t, (_, i) in lowest.items() if t not in held)


def steps_read(graph: Graph, table: Table) -> dict[int, None]:
    """The steps that read any parameter of a table, in order. A bus leads through the hidden steps between them."""
    found = {t for i in table.readers if (t := graph.nodes[i].step) is not None}
    first, last = min(found, default=0), max(found, default=0)
    return dict.fromkeys(t for t in graph.steps if t in found or (t in graph.titles and first < t < last))
