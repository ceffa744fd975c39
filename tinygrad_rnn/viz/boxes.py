"""The modules view: one box for each call of a module in each step, and the names of the states on the edges between them."""

from __future__ import annotations

import math
from dataclasses import replace

from .parts import Edge, Graph, Node


def boxes(graph: Graph) -> Graph:
    """Draw each call as one box. Nodes that no call made stay; a step that no module made is one box as a whole."""
    bare = graph.steps and all(node.call is None for node in graph.nodes if node.step is not None)
    groups: dict[tuple[str, int], list[int]] = {}
    for i, node in enumerate(graph.nodes):
        if bare and node.step is not None and node.kind != "input":
            groups.setdefault(("step", node.step), []).append(i)
        elif node.call is not None:
            groups.setdefault(("call", node.call), []).append(i)
        else:
            groups["node", i] = [i]
    group = {i: key for key, members in groups.items() for i in members}
    leaving = [edge for edge in graph.edges if group[edge.source] != group[edge.target]]
    read = {edge.source for edge in leaving}

    nodes: list[Node] = []
    index: dict[tuple[str, int], int] = {}
    seen: dict[tuple[str, int | None], int] = {}
    rows: dict[tuple[str, int], int] = {}
    for (kind, number), members in sorted(groups.items(), key=lambda item: item[1][-1]):
        index[kind, number] = len(nodes)
        if len(members) == 1:
            nodes.append(graph.nodes[members[0]])
            continue
        last = graph.nodes[members[-1]]
        label = graph.calls[number] if kind == "call" else "step"
        k = seen[label, last.step] = seen.get((label, last.step), -1) + 1
        row = rows.setdefault((label, k), len(graph.nodes) + len(rows)) if last.step is not None else None
        results = [graph.nodes[i].norms for i in members if i in read or i == members[-1]]
        norms = (math.hypot(*(norm for norms in results for norm in norms)),) if any(results) else ()
        ops = f"{len(members)} op{'s' * (len(members) > 1)}"
        nodes.append(Node(label, (), "module", True, "", last.step, row=row, call=len(nodes), value=ops, norms=norms))

    names: dict[tuple[int, int, bool], dict[str, None]] = {}
    for edge in leaving:
        node = graph.nodes[edge.source]
        ends = index[group[edge.source]], index[group[edge.target]]
        found = names.setdefault((*ends, edge.state), {})
        if edge.state and node.named and " = " in node.label:
            found[node.label.split(" = ")[0]] = None
    edges = [Edge(*ends, label=", ".join(found)) for ends, found in names.items()]
    readers = [list(dict.fromkeys(index[group[i]] for i in table.readers)) for table in graph.tables]
    tables = [replace(table, readers=there) for table, there in zip(graph.tables, readers, strict=True)]
    return replace(graph, nodes=nodes, edges=edges, tables=tables, steps=dict.fromkeys(graph.steps, ""))
