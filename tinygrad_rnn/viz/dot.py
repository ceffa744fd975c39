"""A Graph as DOT text: time from left to right, data upwards, parameters along the bottom.

Graphviz does the layout. A row of nodes that do the same in each step becomes one rank; a state edge is written from reader
to source with dir=back, so that it does not push the next step upwards; an invisible rail below keeps the steps in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from .loops import loops, returns, way_back
from .parts import Edge, Graph, Table
from .rails import ground, rails, row_levels, rows, steps_read, storeys
from .styles import AMBER, GREY, POINT, PURPLE, clean, legend, node_style, table_style

HEAD = f"""digraph {{
graph [rankdir=BT, newrank=true, nodesep=0.18, ranksep=0.3, bgcolor=transparent]
graph [fontname=Arial, fontsize=11, fontcolor="{GREY}"]
node [shape=box, style="rounded,filled", fontname=Arial, fontsize=10, fontcolor="#111111", margin="0.08,0.03", height=0.42]
edge [color="{GREY}", arrowsize=0.6, fontname=Arial, fontsize=9]
"""


def dot_text(graph: Graph) -> str:
    """The whole picture."""
    return HEAD + "\n".join(lines(graph)) + "\n}\n"


def lines(graph: Graph) -> Iterator[str]:
    """Tables, then the columns of time and what stands outside of them, then the rows, then the edges."""
    graph = storeys(graph)
    if any(edge.label and edge.state for edge in graph.edges):
        yield "graph [nodesep=0.45]"  # room for the names of states
    levels = row_levels(graph)
    buses = [steps_read(graph, table) for table in graph.tables]
    for i, table in enumerate(graph.tables):
        yield f"P{i} [{table_style(graph, table)}]"
    floor, under = ground(graph)
    yield from (f"b{k}_{t} [{POINT}]" for k, bus in enumerate(buses) if floor >> k & 1 for t in bus)
    columns: dict[int | None, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        columns.setdefault(node.step, []).append(i)
    yield from framed(graph, columns.get(None, []), "")
    for t in graph.steps:
        yield f"subgraph cluster_t{t} {{ label=<{title(graph, t)}>; {BOX}"
        yield from (f"b{k}_{t} [{POINT}]" for k, bus in enumerate(buses) if t in bus and not floor >> k & 1)
        yield from framed(graph, columns[t], f"t{t}_")
        yield "}"
    yield from rows(graph, levels)
    if graph.steps:
        yield from rails(graph, buses, floor, under)
        yield from loops(graph, levels)
    for k, table in enumerate(graph.tables):
        yield from taps(graph, table, k, buses[k])
    corner = {state: f"x{i}" for i, state in returns(graph).items()}
    for edge in graph.edges:
        yield edge_line(graph, edge, levels, corner)
    if "grad" in graph.show:
        yield f"label={legend()}"


BOX = f'labelloc=b; style="rounded,dashed"; color="{GREY}"'


def framed(graph: Graph, members: Sequence[int], prefix: str) -> Iterator[str]:
    """Some nodes, each within the frames of its modules."""
    opened: tuple[int, ...] = ()
    for i in sorted(members, key=lambda i: graph.nodes[i].frames):
        frames = graph.nodes[i].frames
        while opened != frames[: len(opened)]:
            opened = opened[:-1]
            yield "}"
        for frame in frames[len(opened) :]:
            yield (
                f"subgraph cluster_{prefix}f{frame} {{ label=<{clean(graph.frames[frame])}>; "
                f'labelloc=b; style=rounded; color="#C4C9D1"; fontsize=9'
            )
        opened = frames
        yield f"n{i} [{node_style(i, graph)}]"
    yield from "}" * len(opened)


def title(graph: Graph, t: int) -> str:
    """`t = 3`, and below it the module that makes all of the step, if there is one."""
    first, *more = graph.titles.get(t, f"t = {t}\n{graph.steps[t]}").split("\n")
    return "<BR/>".join([first, *(f'<FONT POINT-SIZE="9">{clean(line)}</FONT>' for line in more if line)])


def taps(graph: Graph, table: Table, k: int, bus: Collection[int]) -> Iterator[str]:
    """The bus of a table, with a point in each step that reads from it, and the edges from there to the readers."""
    if bus:
        points = [f"P{k}", *(f"b{k}_{t}" for t in bus)]
        yield "{rank=same; " + "; ".join(points) + "}"
        yield " -> ".join(points) + f' [color="{AMBER}", penwidth=3, arrowhead=none]'
    for i in table.readers:
        t = graph.nodes[i].step
        yield f'{f"P{k}" if t is None else f"b{k}_{t}"} -> n{i} [color="{AMBER}"]'


def edge_line(graph: Graph, edge: Edge, levels: Mapping[int, int], corner: Mapping[int, str]) -> str:
    """An edge. Between steps it goes up if its reader is higher, else it is written the other way round."""
    source, target = edge.source, edge.target
    if not edge.shown:
        return f"n{source} -> n{target} [style=invis]"
    a, b = graph.nodes[source], graph.nodes[target]
    label = f', xlabel=<{clean(edge.label)}>, fontcolor="{PURPLE if edge.state else GREY}"' if edge.label else ""
    if not edge.state:
        inside = a.step is not None and a.step == b.step
        start = corner.get(source, f"n{source}") if b.step is None else f"n{source}"
        return f"{start} -> n{target}" + bracketed(f"weight=4{label}" if inside else label[2:])
    style = f'color="{PURPLE}", penwidth=2{label}{", arrowhead=none" if b.kind == "wire" else ""}'
    if a.kind == "before":
        return f"n{target} -> n{source} [{style}, style=dashed, dir=back, weight=30]"
    if b.kind == "before":
        return way_back(source, target) if a.step is not None else f"n{source} -> n{target} [{style}]"
    low, high = levels.get(target), levels.get(source)
    if low is None or high is None:
        return f"n{source} -> n{target} [{style}, constraint=false]"
    if low == high:
        low, high = b.step or 0, a.step or 0
    return f"n{target} -> n{source} [{style}, dir=back]" if low < high else f"n{source} -> n{target} [{style}]"


def bracketed(attributes: str) -> str:
    """Attributes, if there are any."""
    return f" [{attributes}]" if attributes else ""
