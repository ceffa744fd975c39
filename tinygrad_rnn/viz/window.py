"""The windowed view: the first two steps and the last; one tall box stands for those between, and states pass through it."""

from __future__ import annotations

from dataclasses import replace

from .parts import Edge, Graph, Node

FIRST, LAST = 2, 1  # how many steps are shown at each end


def window(graph: Graph) -> Graph:
    """Hide the steps in the middle. What reads or is read across the border of the hidden box goes to a point inside of it."""
    hidden = list(graph.steps)[FIRST:-LAST]
    if not hidden:
        return graph
    gap, away = hidden[0], set(hidden)
    kept = [i for i, node in enumerate(graph.nodes) if node.step not in away]
    place = {i: k for k, i in enumerate(kept)}
    nodes = [graph.nodes[i] for i in kept]

    points: dict[int, int] = {}  # for each row that passes through, or node outside of time that is read inside: its point

    def point(source: int) -> int:
        row = graph.nodes[source].row
        key = -1 - source if row is None else row
        if key not in points:
            points[key] = len(nodes)
            nodes.append(Node(graph.nodes[source].label, (), "wire", False, "", gap, row=row))
        return points[key]

    edges: dict[tuple[int, int, bool, int], None] = {}
    for edge in graph.edges:
        inside = [graph.nodes[i].step in away for i in (edge.source, edge.target)]
        if not all(inside):
            source = point(edge.source) if inside[0] else place[edge.source]
            target = point(edge.source) if inside[1] else place[edge.target]
            edges[source, target, edge.state, 0 if any(inside) else edge.place] = None

    # Empty places make the box as tall as a step; to one of them leads a table that only hidden steps read.
    rows = {node.row for node in graph.nodes if node.step == hidden[-1]}
    nodes += [Node("", (), "blank", False, "", gap, row=row) for row in sorted(rows - points.keys(), key=lambda row: row or 0)]
    readers = [[place[i] for i in table.readers if i in place] or [len(kept)] for table in graph.tables]
    tables = [replace(table, readers=there) for table, there in zip(graph.tables, readers, strict=True)]
    steps = {t: path for t, path in graph.steps.items() if t == gap or t not in away}
    title = f"t = {gap} ... {hidden[-1]}" if len(hidden) > 1 else f"t = {gap}"
    count = len(graph.nodes) - len(kept)
    title += f"\n{len(hidden)} {'steps' if len(hidden) > 1 else 'step'}\n{count:,} {'nodes' if count > 1 else 'node'} hidden"
    return replace(graph, nodes=nodes, edges=[Edge(*edge) for edge in edges], tables=tables, steps=steps, titles={gap: title})
