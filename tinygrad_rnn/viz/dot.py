"""A Graph as DOT text: time from left to right, data upwards, parameters along the bottom.

Graphviz does the layout. A row of nodes that do the same in each step becomes one rank; a state edge is written from reader
to source with dir=back, so that it does not push the next step upwards; an invisible rail below keeps the steps in order.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from .graph import Edge, Graph, Node, Table
from .labels import shape_text

FILL = {
    "input": ("#DDEEFF", "#4477AA"),
    "op": ("#FFFFFF", "#6B7280"),
    "activation": ("#CFEFE0", "#009E73"),
    "state": ("#E5D9F2", "#8E63C7"),
    "parameter": ("#FCE7B2", "#B87800"),
    "loss": ("#F9D5C2", "#D55E00"),
}
AMBER, PURPLE, GREY = "#B87800", "#8E63C7", "#7A828E"
LONGEST = 48  # characters of a label; the rest of a long name is in the tooltip

HEAD = f"""digraph {{
graph [rankdir=BT, newrank=true, nodesep=0.18, ranksep=0.3, bgcolor=transparent]
graph [fontname=Arial, fontsize=11, fontcolor="{GREY}"]
node [shape=box, style="rounded,filled", fontname=Arial, fontsize=10, fontcolor="#111111", margin="0.08,0.03", height=0.42]
edge [color="{GREY}", arrowsize=0.6]
"""


def dot_text(graph: Graph) -> str:
    """The whole picture."""
    return HEAD + "\n".join(lines(graph)) + "\n}\n"


def lines(graph: Graph) -> Iterator[str]:
    """Tables, then the columns of time and what stands outside of them, then the rows, then the edges."""
    levels = row_levels(graph)
    buses = [steps_read(graph, table) for table in graph.tables]
    for i, table in enumerate(graph.tables):
        yield f"P{i} [{table_style(table)}]"
    floor, under = ground(graph)
    yield from (f"b{k}_{t} [{POINT}]" for k, bus in enumerate(buses) if floor >> k & 1 for t in bus)
    columns: dict[int | None, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        columns.setdefault(node.step, []).append(i)
    yield from framed(graph, columns.get(None, []), "")
    for t in graph.steps:
        yield f"subgraph cluster_t{t} {{ label=<{step_title(t, graph.steps[t])}>; {BOX}"
        yield from (f"b{k}_{t} [{POINT}]" for k, bus in enumerate(buses) if t in bus and not floor >> k & 1)
        yield from framed(graph, columns[t], f"t{t}_")
        yield "}"
    yield from rows(graph, levels)
    if graph.steps:
        yield from rails(graph, buses, floor, under)
    for k, table in enumerate(graph.tables):
        yield from taps(graph, table, k, buses[k])
    for edge in graph.edges:
        yield edge_line(graph, edge, levels)


BOX = f'labelloc=b; style="rounded,dashed"; color="{GREY}"'
POINT = f'shape=point, width=0.04, height=0.04, label="", color="{AMBER}"'


# -- nodes -------------------------------------------------------------------------------------------------------------------


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
        yield f"n{i} [{node_style(i, graph.nodes[i])}]"
    yield from "}" * len(opened)


def node_style(i: int, node: Node) -> str:
    """The attributes of a node; the tooltip has its full name and place."""
    fill, line = FILL[node.kind]
    title = clean(node.label)
    title = f"<B>{title}</B>" if node.named else title
    width = ", penwidth=2" if node.kind == "state" else ""
    place = [node.path] if node.path else []
    place += [f"t = {node.step}"] if node.step is not None else []
    tip = quoted(" | ".join([f"{node.label} {shape_text(node.shape)}", *place]))
    label = f'<{title}<BR/><FONT POINT-SIZE="8">{shape_text(node.shape)}</FONT>>'
    return f'id="n{i}", label={label}, fillcolor="{fill}", color="{line}"{width}, tooltip={tip}'


def table_style(table: Table) -> str:
    """The attributes of a table of parameters."""
    title = f"<TR><TD><I>{clean(table.title)}</I></TD></TR>" if table.title else ""
    body = "".join(
        f'<TR><TD><B>{clean(name)}</B> <FONT POINT-SIZE="8">{shape_text(shape)}</FONT></TD></TR>' for name, shape in table.rows
    )
    fill, line = FILL["parameter"]
    return (
        f'shape=plain, style="", label=<<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="3" '
        f'COLOR="{line}" BGCOLOR="{fill}">{title}{body}</TABLE>>'
    )


def step_title(t: int, path: str) -> str:
    """`t = 3`, and below it the module that makes all of the step, if there is one."""
    return f't = {t}<BR/><FONT POINT-SIZE="9">{clean(path)}</FONT>' if path else f"t = {t}"


def clean(text: str) -> str:
    """A text for an HTML-like label: one line, not too long, nothing that graphviz or XML would read as markup."""
    text = printable(text)
    return html.escape(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")


def quoted(text: str) -> str:
    """A text as a quoted string of DOT."""
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def printable(text: str) -> str:
    """A text without line breaks, control characters and lone surrogates, which no XML may hold."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+", " ", text)


# -- rows and columns --------------------------------------------------------------------------------------------------------


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


# -- parameters --------------------------------------------------------------------------------------------------------------


def ground(graph: Graph) -> tuple[int, dict[tuple[int, int], int]]:
    """Which buses can run below everything (a bit for each); for the others {(node, bus): reader}, what they run between."""
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
    points = ["left", *(f"s{t}" for t in graph.steps)]
    yield "{rank=same; node [style=invis, " + POINT + "]; " + "; ".join(points) + "}"
    yield " -> ".join(points) + " [style=invis]"
    top = {}
    for t in graph.steps:
        chain = [f"s{t}", *(f"b{k}_{t}" for k, bus in enumerate(buses) if floor >> k & 1 and t in bus)]
        top[t] = chain[-1]
        if len(chain) > 1:
            yield " -> ".join(chain) + " [style=invis]"
    for i, node in enumerate(nodes):
        if node.kind == "input" and node.step is not None:
            yield f"{top[node.step]} -> n{i} [style=invis, weight=0]"
    first = next(iter(graph.steps))
    initial = [edge.source for edge in graph.edges if edge.state and nodes[edge.source].step is None]
    first_read = {edge.source for edge in graph.edges if edge.state and nodes[edge.target].step == first}
    leftmost = [f"n{i}" for i in dict.fromkeys(initial) if i in first_read]
    leftmost += [f"P{k}" for k, bus in enumerate(buses) if bus]
    for name in leftmost:  # each edge counts when crossings are avoided, so several of them hold a box on the left
        yield from [f"left -> {name} [style=invis, weight=0]"] * 5


def steps_read(graph: Graph, table: Table) -> dict[int, None]:
    """The steps that read any parameter of a table, in order."""
    return dict.fromkeys(sorted({t for i in table.readers if (t := graph.nodes[i].step) is not None}))


def taps(graph: Graph, table: Table, k: int, bus: Collection[int]) -> Iterator[str]:
    """The bus of a table, with a point in each step that reads from it, and the edges from there to the readers."""
    if bus:
        points = [f"P{k}", *(f"b{k}_{t}" for t in bus)]
        yield "{rank=same; " + "; ".join(points) + "}"
        yield " -> ".join(points) + f' [color="{AMBER}", penwidth=3, arrowhead=none]'
    for i in table.readers:
        t = graph.nodes[i].step
        yield f'{f"P{k}" if t is None else f"b{k}_{t}"} -> n{i} [color="{AMBER}"]'


def edge_line(graph: Graph, edge: Edge, levels: dict[int, int]) -> str:
    """An edge. Between steps it goes up if its reader is higher, else it is written the other way round."""
    source, target = edge.source, edge.target
    if not edge.state:
        nodes = graph.nodes
        inside = nodes[source].step is not None and nodes[source].step == nodes[target].step
        return f"n{source} -> n{target} [weight=4]" if inside else f"n{source} -> n{target}"
    style = f'color="{PURPLE}", penwidth=2'
    low, high = levels.get(target), levels.get(source)
    if low is None or high is None:
        return f"n{source} -> n{target} [{style}, constraint=false]"
    if low == high:
        low, high = graph.nodes[target].step or 0, graph.nodes[source].step or 0
    return f"n{target} -> n{source} [{style}, dir=back]" if low < high else f"n{source} -> n{target} [{style}]"
