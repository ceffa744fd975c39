"""The rolled view: one step stands for all. `roll` proves that it may: unrolled again, it is the graph that it came from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .labels import shape_text
from .parts import Edge, Graph, Node, Table

Words = list[str | tuple[int, int]]  # a label: texts, and (sign, constant) for a number that is sign * t + constant
Key = tuple[int | None, int]  # a node: its step and row; outside of time None and its place among the nodes there


@dataclass(slots=True)
class Rolled:
    """One step for all those from `first` to `last`, and what stands outside of time."""

    first: int
    last: int
    rows: dict[int, tuple[Node, Words]]  # the nodes of a step
    outside: list[Node]
    inner: list[tuple[int, int, int]]  # edges within a step: source row, target row, place among the target's inputs
    carried: list[tuple[int, int, int, int]]  # edges from the step that is `back` steps before: the same, and back
    outer: list[tuple[Key, Key, Edge]]  # edges that begin or end outside, each once
    tables: list[tuple[Table, list[int], list[int]]]  # with the rows of the readers in each step, and the readers outside
    graph: Graph


def roll(graph: Graph) -> Rolled:
    """Fold all steps into one. Raises ValueError if they differ in more than in t, saying which does, and where."""
    steps = list(graph.steps)
    if not steps:
        raise ValueError('draw: view="rolled" shows one time step for all, and this graph has none. Write view="unrolled"')
    model, other = steps[len(steps) // 2], steps[max(len(steps) // 2 - 1, 0)]
    keys = node_keys(graph)
    labels = {key: node.label for key, node in zip(keys, graph.nodes, strict=True)}
    rows: dict[int, tuple[Node, Words]] = {}
    for (t, row), node in zip(keys, graph.nodes, strict=True):
        if t == model:
            rows[row] = node, timeless(node.label, model, labels.get((other, row), node.label), other)
    inner, outer = [], []
    carried: dict[tuple[int, int, int, int], None] = {}
    for edge in graph.edges:
        (s, source), (t, target) = keys[edge.source], keys[edge.target]
        if s is None or t is None:
            outer.append(((s, source), (t, target), edge))
        elif s != t:
            carried[source, target, edge.place, t - s] = None
        elif t == model:
            inner.append((source, target, edge.place))
    tables = [
        (
            table,
            [keys[i][1] for i in table.readers if keys[i][0] == model],
            [keys[i][1] for i in table.readers if keys[i][0] is None],
        )
        for table in graph.tables
    ]
    outside = [node for node in graph.nodes if node.step is None]
    result = Rolled(steps[0], steps[-1], rows, outside, inner, list(carried), outer, tables, graph)
    difference = compare(graph, unroll(result), model)
    if difference:
        raise ValueError(f'draw: view="rolled" needs steps that are alike. {difference}. Write view="windowed"')
    return result


def unroll(rolled: Rolled) -> Graph:
    """All steps again, made from the one."""
    nodes = list(rolled.outside)
    index: dict[Key, int] = {(None, i): i for i in range(len(nodes))}
    steps = range(rolled.first, rolled.last + 1)
    for t in steps:
        for row, (node, words) in rolled.rows.items():
            index[t, row] = len(nodes)
            nodes.append(replace(node, label=spell(words, t), step=t))
    found: list[tuple[Key, Key, bool, int]] = []
    found += [((t, source), (t, target), False, place) for t in steps for source, target, place in rolled.inner]
    found += [
        ((t - back, source), (t, target), True, place)
        for t in steps
        for source, target, place, back in rolled.carried
        if t - back in steps
    ]
    found += [(source, target, edge.state, edge.place) for source, target, edge in rolled.outer]
    edges = [Edge(index[s], index[t], state, place) for s, t, state, place in found if s in index and t in index]
    tables = [
        replace(table, readers=[*(index[t, row] for t in steps for row in inside), *outside])
        for table, inside, outside in rolled.tables
    ]
    return replace(rolled.graph, nodes=nodes, edges=edges, tables=tables, steps=dict.fromkeys(steps, ""))


# -- the proof ---------------------------------------------------------------------------------------------------------------


def compare(graph: Graph, again: Graph, model: int) -> str:
    """What is different in two graphs, in words; "" if they are isomorphic.

    Nodes correspond by step and row. They must be the same op with the same words, shape and modules (a name may differ),
    read the same nodes in the same places, and the same tables.
    """
    (found, reads), (expected, claims) = facts(graph), facts(again)
    for key in sorted(found.keys() | expected.keys(), key=lambda key: (key[0] is None, key)):
        mine, theirs = found.get(key), expected.get(key)
        what = [f"{look[0]!r} {shape_text(look[1])}" for look in (mine, theirs) if look is not None]
        if mine is None:
            return f"Step {key[0]} lacks the {what[0]} of step {model}"
        if theirs is None:
            return f"Step {key[0]} has {what[0]}, which step {model} has not"
        if mine != theirs:
            return f"Step {key[0]} has {what[0]} where step {model} lets us expect {what[1]}"
    for more, fewer, verb in ((reads, claims, "reads"), (claims, reads, "does not read")):
        for source, target, *_ in more - fewer:
            name = f"{found[source][0]!r} of step {source[0]}" if isinstance(source, tuple) else "parameters"
            return f"In step {target[0]} {found[target][0]!r} {verb} {name}, unlike in another step"
    return ""


def facts(graph: Graph) -> tuple[dict[Any, tuple[Any, ...]], Counter[Any]]:
    """What each node is, and who reads whom; nodes known by their keys, so that two graphs can be compared."""
    keys = node_keys(graph)
    looks = {
        key: (node.label.rpartition(" = ")[2], node.shape, node.path, [graph.frames[frame] for frame in node.frames])
        for key, node in zip(keys, graph.nodes, strict=True)
    }
    assert len(looks) == len(keys), "two nodes of a step in one row"
    reads: Counter[Any] = Counter((keys[e.source], keys[e.target], e.state, e.place) for e in graph.edges)
    reads.update((k, keys[i], False, 0) for k, table in enumerate(graph.tables) for i in table.readers)
    return looks, reads


def node_keys(graph: Graph) -> list[Key]:
    """What a node is known by in any unrolling."""
    count = iter(range(len(graph.nodes)))
    return [(None, next(count)) if node.step is None else (node.step, node.row or 0) for node in graph.nodes]


# -- labels ------------------------------------------------------------------------------------------------------------------


def timeless(here: str, t: int, there: str, u: int) -> Words:
    """What a label at step t says at any step, to judge by what it says at step u: `x[:, 3]` and `x[:, 2]` are `x[:, t]`."""
    mine, other = (re.split(r"(\d+)", text) for text in (here, there))
    if mine[::2] != other[::2]:
        return [here]
    words: Words = []
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        if i % 2 == 0 or a == b:
            words.append(a)
        elif int(a) - int(b) == t - u:
            words.append((1, int(a) - t))
        elif int(a) - int(b) == u - t:
            words.append((-1, int(a) + t))
        else:
            return [here]
    return words


def spell(words: Words, t: int | None) -> str:
    """A label at step t; or in general, with `t`, `t+1` or `9-t` in it."""
    if t is not None:
        return "".join(w if isinstance(w, str) else str(w[0] * t + w[1]) for w in words)
    return "".join(w if isinstance(w, str) else f"t{w[1]:+d}" * (w[0] > 0) or f"{w[1]}-t" for w in words).replace("t+0", "t")


# -- the picture -------------------------------------------------------------------------------------------------------------


def rolled(graph: Graph) -> Graph:
    """One column, with a node `h[t-1]` for each state, to which the state returns."""
    proven = roll(graph)
    first, last = proven.first, proven.last
    norms: dict[int, list[float]] = {}
    for node in graph.nodes:
        if node.step is not None and node.row is not None:
            norms.setdefault(node.row, []).extend(node.norms)
    nodes = [replace(node, row=None) for node in proven.outside]
    index: dict[int, int] = {}
    for row, (node, words) in proven.rows.items():
        index[row] = len(nodes)
        nodes.append(replace(node, label=spell(words, None), step=first, value="", norms=tuple(norms[row])))
    edges = [Edge(index[source], index[target], False, place) for source, target, place in proven.inner]

    before: dict[tuple[int, int], int] = {}
    entrance: dict[tuple[int, int], int] = {}  # the node that a reader's input returns to
    found: dict[tuple[int, int, bool], list[int]] = {}
    for source, target, place, back in proven.carried:
        if (source, back) not in before:
            before[source, back] = len(nodes)
            node = nodes[index[source]]
            name = node.label.split(" = ")[0] if node.named else "state"
            nodes.append(Node(f"{name}[t{-back:+d}]", node.shape, "before", False, "", None))
            edges.append(Edge(index[source], before[source, back], True))
        entrance[target, place] = before[source, back]
        edges.append(Edge(before[source, back], index[target], True, place))
    for (s, source), (t, target), edge in proven.outer:
        into = index[target] if t is not None else target
        into = entrance.get((target, edge.place), into) if t is not None else into
        ends = index[source] if s is not None else source, into, edge.state
        found.setdefault(ends, []).extend(step for step in (s, t) if step is not None)
    for (source, target, state), times in found.items():
        label = at_steps(times, first, last) if nodes[target].kind != "before" else ""
        edges.append(Edge(source, target, state, label=label))
    tables = [replace(table, readers=[*(index[row] for row in inside), *outside]) for table, inside, outside in proven.tables]
    title = f"step t, t = {first} ... {last}\n{graph.steps[first]}"
    return replace(graph, nodes=nodes, edges=edges, tables=tables, steps={first: ""}, titles={first: title})


def at_steps(times: Iterable[int], first: int, last: int) -> str:
    """At which steps an edge is there."""
    times = sorted(set(times))
    if len(times) == last + 1 - first or not times:
        return "" if first == last or not times else "every t"
    return f"t = {times[0]}" if len(times) == 1 else f"t = {', '.join(map(str, times[:3]))}{', ...' * (len(times) > 3)}"
