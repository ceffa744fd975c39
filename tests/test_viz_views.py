"""The views of a graph: what the window hides, that the rolled step unrolls to what it was, what a module's box stands for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_viz import curve

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.viz import draw, drawing
from tinygrad_rnn.viz.boxes import boxes
from tinygrad_rnn.viz.graph import Edge, Graph, build
from tinygrad_rnn.viz.roll import compare, roll, rolled, spell, timeless, unroll
from tinygrad_rnn.viz.window import window

N, E, H = 2, 3, 5


def array(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def layer_loss(kind: Callable[..., Any], steps: int, layers: int = 1, bidirectional: bool = False) -> Any:
    tg.manual_seed(0)
    layer, head = kind(E, H, layers, bidirectional=bidirectional, dtype=np.float64), nn.Linear(H * (1 + bidirectional), 1)
    return (head(layer(Tensor(array(steps, N, E), name="x"))[0][-1]) ** 2).mean().named("loss")


def numpy_loss(steps: int) -> Any:
    x, y = Tensor(array(steps, N, E), name="x"), Tensor(array(steps, N, 1), name="y")
    w, u, v = (Tensor(array(a, b), requires_grad=True, name=n) for n, a, b in (("W", E, H), ("U", H, H), ("V", H, 1)))
    h: Any = np.zeros((N, H))
    loss: Any = 0
    for t in range(steps):
        h = np.tanh(x[t] @ w + h @ u).named("h")
        loss = loss + ((h @ v - y[t]) ** 2).mean()
    return (loss / steps).named("loss")


def cells_by_hand(steps: int) -> Any:
    x, one, two = Tensor(array(N, steps, E), name="x"), nn.LSTMCell(E, H, dtype=np.float64), nn.GRUCell(H, H, dtype=np.float64)
    a: Any = None
    b: Any = None
    for t in range(steps):
        a = one(x[:, t], a)
        b = two(a[0], b)
    return (b**2).mean()


def embedded_loss(steps: int) -> Any:
    table, layer = nn.Embedding(7, E), nn.GRU(E, H)
    return (layer(table(np.arange(2 * steps).reshape(steps, 2) % 7))[0] ** 2).mean()


def part_of_a_sequence(steps: int) -> Any:
    return nn.LSTM(E, H, dtype=np.float64)(Tensor(array(40, N, E), name="x")[:steps])[0].sum()


def delayed(steps: int) -> Any:
    """A loop that reads the state of the step before, and the one before that."""
    x, w = Tensor(array(steps, N, H), name="x"), Tensor(array(H, H), requires_grad=True, name="W")
    states: list[Any] = [np.zeros((N, H))] * 2
    for t in range(steps):
        states.append(np.tanh(states[-2] @ w + x[t] + states[-1]).named("h"))
    return states[-1].sum()


LOOPS: dict[str, Callable[[int], Any]] = {
    "lstm": lambda steps: layer_loss(nn.LSTM, steps),
    "two layers": lambda steps: layer_loss(nn.GRU, steps, 2),
    "bidirectional": lambda steps: layer_loss(nn.LSTM, steps, 1, True),
    "two bidirectional layers": lambda steps: layer_loss(nn.RNN, steps, 2, True),
    "numpy": numpy_loss,
    "cells by hand": cells_by_hand,
    "embedding": embedded_loss,
    "part of a sequence": part_of_a_sequence,
    "delayed": delayed,
}


def second_order(steps: int = 3) -> Any:
    layer = nn.RNN(E, H, dtype=np.float64)
    layer(array(steps, N, E))[0].sum().backward(create_graph=True)
    assert layer.weight_hh_l0.grad is not None
    return (layer.weight_hh_l0.grad**2).sum()


# -- windowed ----------------------------------------------------------------------------------------------------------------


def test_the_window_says_exactly_what_it_hides() -> None:
    whole = build(layer_loss(nn.LSTM, 50))
    graph = window(whole)
    assert list(graph.steps) == [0, 1, 2, 49]
    hidden = sum(node.step in range(2, 49) for node in whole.nodes)
    assert hidden == 47 * sum(node.step == 1 for node in whole.nodes) == 893
    assert graph.titles == {2: "t = 2 ... 48\n47 steps\n893 nodes hidden"}
    kept = [node for node in whole.nodes if node.step not in range(2, 49)]
    assert [node for node in graph.nodes if node.kind not in ("wire", "blank")] == kept
    assert "t = 2 ... 48<BR/>" in draw(layer_loss(nn.LSTM, 50)).source


@pytest.mark.parametrize("name", list(LOOPS))
def test_edges_of_the_window_are_those_of_the_graph(name: str) -> None:
    """Every edge between nodes that are shown is there; every other one ends at a point, and none is made up."""
    whole = build(LOOPS[name](9))
    graph = window(whole)
    index = {id(node): i for i, node in enumerate(whole.nodes)}
    shown = {k: index[id(node)] for k, node in enumerate(graph.nodes) if id(node) in index}
    back = {(shown.get(e.source), shown.get(e.target)) for e in graph.edges}
    inside = {i for i, node in enumerate(whole.nodes) if node.step in range(2, 8)}
    expected = {(None if e.source in inside else e.source, None if e.target in inside else e.target) for e in whole.edges}
    assert back == expected - {(None, None)}


def test_states_pass_through_the_hidden_box() -> None:
    graph = window(build(layer_loss(nn.LSTM, 9)))
    points = {i: node.label for i, node in enumerate(graph.nodes) if node.kind == "wire"}
    assert sorted(points.values()) == ["c = +", "h = *"]
    for point, label in points.items():
        before = [graph.nodes[e.source] for e in graph.edges if e.target == point]
        after = [graph.nodes[e.target].step for e in graph.edges if e.source == point]
        assert [(node.label, node.step) for node in before] == [(label, 1)]
        assert after.count(8) == 1


def test_auto_shows_all_steps_while_they_can_be_read() -> None:
    assert len(draw(numpy_loss(8)).graph.steps) == 8
    assert list(draw(numpy_loss(9)).graph.steps) == [0, 1, 2, 8]
    assert len(draw(numpy_loss(9), view="unrolled").graph.steps) == 9
    assert list(draw(layer_loss(nn.LSTM, 6, 2)).graph.steps) == [0, 1, 2, 5]  # more than 200 nodes
    assert draw(numpy_loss(4), view="windowed").graph.titles == {2: "t = 2\n1 step\n11 nodes hidden"}
    assert draw(numpy_loss(3), view="windowed").source == draw(numpy_loss(3), view="unrolled").source


def test_a_table_that_only_hidden_steps_read_leads_to_their_box() -> None:
    x, w, odd = Tensor(array(9, E)), Tensor(array(E), requires_grad=True), nn.Linear(E, E, dtype=np.float64)
    h: Any = w
    for t in range(9):
        h = np.tanh(x[t] + w * (odd(h) if t == 4 else h))
    graph = draw(h.sum()).graph
    table = next(table for table in graph.tables if table.title == "linear")
    assert [graph.nodes[i].step for i in table.readers] == [2]


def test_repr_says_what_is_hidden_or_rolled() -> None:
    loss = layer_loss(nn.LSTM, 50)
    assert repr(draw(loss)).startswith("<Drawing of 65 nodes, 3 time steps (t = 2 ... 48: 47 steps, 893 nodes hidden): .save(")
    assert repr(draw(loss, view="rolled")).startswith("<Drawing of 29 nodes (step t, t = 0 ... 49: lstm.cells.l0): .save(")
    assert repr(draw(numpy_loss(4), view="rolled")).startswith("<Drawing of 16 nodes (step t, t = 0 ... 3): .save(")


# -- rolled ------------------------------------------------------------------------------------------------------------------


def fingerprints(graph: Graph) -> Counter[Any]:
    """What each node computes, from the inputs up: an oracle for isomorphism that knows nothing of steps and rows."""
    inputs: dict[int, list[Edge]] = {i: [] for i in range(len(graph.nodes))}
    for edge in graph.edges:
        inputs[edge.target].append(edge)
    read: dict[int, list[int]] = {}
    for k, table in enumerate(graph.tables):
        for i in table.readers:
            read.setdefault(i, []).append(k)
    found: dict[int, int] = {}
    while len(found) < len(graph.nodes):
        for i, edges in inputs.items():
            if i not in found and all(e.source in found for e in edges):
                below = sorted((e.place, found[e.source]) for e in edges)
                node = graph.nodes[i]
                found[i] = hash((node.label, node.shape, node.path, node.step, tuple(below), tuple(read.get(i, ()))))
    return Counter(found.values())


@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("name", list(LOOPS))
def test_unrolling_the_rolled_step_gives_the_graph_again(name: str, steps: int) -> None:
    graph = build(LOOPS[name](steps))
    again = unroll(roll(graph))
    assert fingerprints(again) == fingerprints(graph)
    assert len(again.edges) == len(graph.edges)


def test_one_step_and_one_that_stays_odd() -> None:
    graph = build(layer_loss(nn.LSTM, 1))
    assert fingerprints(unroll(roll(graph))) == fingerprints(graph)


def test_the_proof_notices_what_is_wrong() -> None:
    """Every single edge, reader and node that is left out or changed in the claim is noticed."""
    graph = build(layer_loss(nn.LSTM, 4))
    claim = roll(graph)
    assert compare(graph, unroll(claim), 2) == ""
    wrong = [replace(claim, inner=claim.inner[:i] + claim.inner[i + 1 :]) for i in range(len(claim.inner))]
    wrong += [replace(claim, carried=claim.carried[:i] + claim.carried[i + 1 :]) for i in range(len(claim.carried))]
    wrong += [replace(claim, outer=claim.outer[:i] + claim.outer[i + 1 :]) for i in range(len(claim.outer))]
    wrong += [replace(claim, inner=[(a, b, 1 - place) for a, b, place in claim.inner]), replace(claim, last=4)]
    table, inside, outside = claim.tables[0]
    wrong += [replace(claim, tables=[(table, inside[1:], outside), *claim.tables[1:]])]
    for row in claim.rows:
        rows = {**claim.rows, row: (replace(claim.rows[row][0], shape=(7,)), claim.rows[row][1])}
        wrong.append(replace(claim, rows=rows))
    assert all(compare(graph, unroll(each), 2) for each in wrong)


@pytest.mark.parametrize("name", list(LOOPS))
def test_the_rolled_picture_does_not_depend_on_the_length(name: str) -> None:
    short, long = (draw(LOOPS[name](steps), view="rolled").source for steps in (5, 40))
    assert re.sub(r"\d+", "#", short) == re.sub(r"\d+", "#", long)
    assert "step t, t = 0 ... 39" in long


def test_states_of_several_steps_before() -> None:
    graph = build(delayed(6))
    ends = [(graph.nodes[e.source].step, graph.nodes[e.target].step) for e in graph.edges if e.state]
    assert {(s, t) for s, t in ends if s is not None} == {(t - back, t) for back in (1, 2) for t in range(back, 6)}
    assert [node.label for node in graph.nodes if node.step is None] == ["initial h"] * 3 + ["sum"]
    assert {n.label for n in rolled(graph).nodes if n.kind == "before"} == {"h[t-1]", "h[t-2]"}


def test_states_return_as_themselves_of_the_step_before() -> None:
    graph = rolled(build(layer_loss(nn.LSTM, 6)))
    nodes = graph.nodes
    before = {i: node.label for i, node in enumerate(nodes) if node.kind == "before"}
    assert sorted(before.values()) == ["c[t-1]", "h[t-1]"]
    for i, label in before.items():
        sources = {nodes[e.source].label for e in graph.edges if e.target == i}
        assert sources == {f"initial {label[0]}", {"h": "h = *", "c": "c = +"}[label[0]]}
    assert {n.label for n in rolled(build(layer_loss(nn.RNN, 4, 1, True))).nodes if n.kind == "before"} == {"h[t-1]", "h[t+1]"}
    assert "x[t]" in {node.label for node in nodes}
    assert {edge.label for edge in graph.edges if nodes[edge.target].label == "stack axis=0"} == {"every t"}
    last = rolled(build(numpy_loss(6)))
    assert [edge.label for edge in last.edges if last.nodes[edge.target].label == "loss = / 6"] == ["t = 5"]


@pytest.mark.parametrize(
    ("here", "t", "there", "u", "at_9", "general"),
    [
        ("x[:, 3]", 3, "x[:, 2]", 2, "x[:, 9]", "x[:, t]"),
        ("y[4]", 3, "y[3]", 2, "y[10]", "y[t+1]"),
        ("y[2] ** 2", 3, "y[1] ** 2", 2, "y[8] ** 2", "y[t-1] ** 2"),
        ("x[6]", 3, "x[7]", 2, "x[0]", "x[9-t]"),
        ("* 0.9", 3, "* 0.81", 2, "* 0.9", "* 0.9"),
        ("tanh", 3, "sigmoid", 2, "tanh", "tanh"),
    ],
)
def test_labels_that_count(here: str, t: int, there: str, u: int, at_9: str, general: str) -> None:
    words = timeless(here, t, there, u)
    assert spell(words, t) == here
    assert spell(words, 9) == at_9
    assert spell(words, None) == general


def loop(step: Callable[..., Any]) -> Any:
    x, w = Tensor(array(5, N, H), name="x"), Tensor(array(H, H), requires_grad=True, name="W")
    hs: list[Any] = [np.zeros((N, H))]
    for t in range(5):
        hs.append(step(t, x[t], hs, w))
    return (hs[-1] ** 2).mean()


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (lambda t, x, hs, w: np.tanh(x + hs[-1] @ w) * 0.9**t, r"Step 0 has '\* 1' \(2,5\) where step 2 .*expect '\* 0.81'"),
        (lambda t, x, hs, w: (tg.relu if t == 3 else np.tanh)(x + hs[-1] @ w), r"Step 3 lacks the 'tanh' \(2,5\) of step 2"),
        (lambda t, x, hs, w: np.tanh(x + hs[-1] @ w) * (2 if t == 3 else w[0]), r"Step 3 lacks the '\* W\[0\]' \(2,5\)"),
        (lambda t, x, hs, w: np.tanh(x + (hs[-1] @ w if t != 3 else hs[-1])), r"Step 3 lacks the '@ W' \(2,5\) of step 2"),
        (
            lambda t, x, hs, w: np.tanh(x + hs[-1] @ w + (hs[-2] if t == 3 else hs[-1])),
            r"In step 2 '\+' does not read 'tanh' of step 0, unlike in another step",
        ),
        (lambda t, x, hs, w: np.tanh(x + sum(hs[:-1], hs[-1]) @ w), "Step 0 lacks the "),
    ],
)  # fmt: skip
def test_steps_that_differ_cannot_be_rolled(step: Callable[..., Any], match: str) -> None:
    with pytest.raises(
        ValueError, match=rf'^draw: view="rolled" needs steps that are alike\. {match}.*Write view="windowed"$'
    ):
        draw(loop(step), view="rolled")


def test_without_steps_there_is_nothing_to_roll() -> None:
    with pytest.raises(ValueError, match=r'shows one time step for all, and this graph has none\. Write view="unrolled"'):
        draw(nn.Linear(2, 2)(np.ones((1, 2), np.float32)), view="rolled")


# -- modules -----------------------------------------------------------------------------------------------------------------


def labels(graph: Graph, kind: str) -> list[str]:
    return [node.label for node in graph.nodes if node.kind == kind]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_box_for_each_cell_and_step(layers: int, bidirectional: bool) -> None:
    graph = boxes(build(layer_loss(nn.LSTM, 6, layers, bidirectional)))
    suffixes = ["", "_reverse"][: 1 + bidirectional]
    cells = {f"lstm.cells.l{k}{suffix}": 6 for k in range(layers) for suffix in suffixes}
    assert Counter(labels(graph, "module")) == cells | {"linear": 1}
    ids = {i: node for i, node in enumerate(graph.nodes) if node.kind == "module"}
    states = [e for e in graph.edges if e.state and e.source in ids]
    assert len(states) == 5 * len(cells)
    for edge in states:
        assert edge.label == "h, c"
        assert ids[edge.source].label == ids[edge.target].label
        assert abs((ids[edge.source].step or 0) - (ids[edge.target].step or 0)) == 1
    assert all(len(table.readers) == len(set(table.readers)) for table in graph.tables)


def test_a_box_says_how_many_nodes_it_stands_for() -> None:
    whole = build(layer_loss(nn.LSTM, 6))
    graph = boxes(whole)
    counted = sum(int(node.value.split()[0]) for node in graph.nodes if node.kind == "module")
    assert counted + sum(node.kind != "module" for node in graph.nodes) == len(whole.nodes)


def test_a_step_that_no_module_made_is_one_box() -> None:
    graph = boxes(build(numpy_loss(4)))
    assert labels(graph, "module") == ["step"] * 4
    assert {edge.label for edge in graph.edges if edge.state} == {"", "h"}
    assert [node.label for node in graph.nodes if node.kind == "loss"] == ["loss = / 4"]


def test_calls_outside_of_time_are_boxes_if_they_call_no_other() -> None:
    net = nn.Sequential(nn.Linear(E, H), nn.Sequential(nn.Linear(H, H), nn.Linear(H, 1)))
    graph = boxes(build(np.tanh(net(np.ones((N, E), np.float32))).sum()))
    assert labels(graph, "module") == ["0", "1.0", "1.1"]
    assert labels(graph, "activation") == ["tanh"]


# -- all views ---------------------------------------------------------------------------------------------------------------

VIEWS = ["auto", "unrolled", "windowed", "rolled", "modules"]


@pytest.mark.parametrize("view", ["auto", "unrolled", "windowed", "modules"])
def test_views_of_graphs_without_steps(view: str) -> None:
    net = nn.Sequential(nn.Linear(E, H), nn.Linear(H, 1))
    for x in (Tensor(1.0), Tensor(array(2), requires_grad=True), net(np.ones((N, E), np.float32)), np.ones(2) + Tensor(1.0)):
        source = draw(x, view=view).source
        assert "cluster_t" not in source
        assert source == draw(x, view="unrolled").source or view == "modules"


def test_several_roots() -> None:
    out, h = nn.GRU(E, H)(array(3, N, E).astype(np.float32))
    graph = draw([(out**2).mean().named("one"), (h**2).mean().named("two")]).graph
    assert labels(graph, "loss") == ["one = mean", "two = mean"]
    assert draw((out.sum(), out.sum())).graph.nodes != draw(out.sum()).graph.nodes
    same = out.sum()
    assert draw((same, same)).source == draw(same).source


def test_a_part_of_a_sequence_is_shown_by_its_members_alone() -> None:
    assert [node.label for node in build(part_of_a_sequence(3)).nodes if node.kind == "input" and node.step is not None] == [
        "x[:3][0]", "x[:3][1]", "x[:3][2]",
    ]  # fmt: skip


def test_names_for_one_picture() -> None:
    x, w = Tensor(array(3, N, E)), Tensor(array(E, E), requires_grad=True)
    h: Any = np.zeros((N, E))
    for x_t in x:
        h = np.tanh(x_t + h @ w)
    loss = h.sum()
    graph = draw(loss, names=locals()).graph
    assert [node.label for node in graph.nodes][-2:] == ["h = tanh", "loss = sum"]
    assert graph.tables[0].rows == [("w", (E, E))]
    assert "x[0]" in {node.label for node in graph.nodes}
    assert loss.name is h.name is w.name is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"view": "rolling"}, r"view='rolling' is none of 'auto', 'unrolled', 'windowed', 'rolled', 'modules'"),
        ({"show": "grad"}, r"show='grad' should be a tuple of 'shape', 'value', 'grad', as in \(\"shape\", \"grad\"\)"),
        ({"show": ("shape", "size")}, r"show=\('shape', 'size'\) should be a tuple"),
        ({"show": None}, "show=None should be a tuple"),
        ({"show": [["grad"]]}, r"show=\[\['grad'\]\] should be a tuple"),
        ({"view": None}, "view=None is none of"),
        ({"names": ["h"]}, r"names=\['h'\] should be a dict from names to Tensors, as in {\"h\": h}"),
        ({"names": {0: "h"}}, r"names={0: 'h'} should be a dict"),
    ],
)
def test_options_that_do_not_exist(options: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        draw(numpy_loss(3), **options)


@pytest.mark.parametrize(
    ("what", "match"), [([], "got a list of nothing"), ([Tensor(1.0), 1], "got a list of Tensor, int"), (None, "got NoneType")]
)
def test_what_cannot_be_drawn(what: Any, match: str) -> None:
    with pytest.raises(TypeError, match=f"draw: expected a Tensor, {match}. Draw what a computation returned"):
        draw(what)


SCRIPT = """
import numpy as np, tinygrad_rnn as tg
tg.manual_seed(0)
layer, head = tg.nn.LSTM(3, 4, num_layers=2, bidirectional=True), tg.nn.Linear(8, 1)
loss = head(layer(np.ones((9, 2, 3), np.float32))[0]).sum()
for view in ("auto", "unrolled", "rolled", "modules"):
    print(tg.viz.draw(loss, view=view, show=("shape", "value", "grad")).source)
"""


def test_bytes_do_not_depend_on_the_process() -> None:
    root = str(Path(tg.__file__).parent.parent)
    texts = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True, check=True,
        ).stdout
        for seed in ("0", "4242")
    }  # fmt: skip
    assert len(texts) == 1
    assert texts.pop().count(b"digraph {") == 4


NASTY = ['a"b\\', "<b>&amp;</b>", "größe 状態 🙂", "x" * 5_000, "\x00\n\ud800", "]]>--", " = ", "%s {|}"]


def laid_out(source: str, program: str) -> Any:
    """Graphviz's own JSON of a layout. Nothing but that a letter is not in its font may be written on its stderr."""
    which = drawing.shutil.which(program) or drawing.shutil.which(program, path=str(Path(sys.executable).parent))
    if which is None:
        pytest.skip(f"{program} is not installed")
    run = subprocess.run([which, "-Tjson"], input=source.encode(), capture_output=True, check=True)
    assert [line for line in run.stderr.splitlines() if b"width of non-ASCII character" not in line] == []
    return json.loads(run.stdout)


@pytest.mark.parametrize("view", VIEWS)
def test_names_that_dot_or_xml_could_misread(view: str) -> None:
    x, w = Tensor(array(10, N, len(NASTY), E), name=NASTY[0]), Tensor(array(E, E), requires_grad=True, name=NASTY[1])
    hs: list[Any] = [np.zeros((N, E)) for _ in NASTY]
    for t in range(10):
        hs = [np.tanh(x[t, :, k] + h @ w).named(name) for k, (h, name) in enumerate(zip(hs, NASTY, strict=True))]
    source = draw(sum(h.sum() for h in hs), view=view, show=("shape", "value", "grad")).source
    laid_out(source, "dot")
    laid_out(source, "graphviz-pure")


@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
@pytest.mark.parametrize("view", ["unrolled", "windowed", "modules"])
@pytest.mark.parametrize("name", list(LOOPS))
def test_columns_are_in_order(name: str, view: str, program: str) -> None:
    ordered(draw(LOOPS[name](7), view=view), program)


@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
@pytest.mark.parametrize("view", ["windowed", "modules"])
@pytest.mark.parametrize(("kind", "layers"), [(nn.RNN, 1), (nn.RNN, 2), (nn.GRU, 1), (nn.GRU, 2), (nn.LSTM, 1)])
def test_columns_are_in_order_where_samples_end_early(kind: Callable[..., Any], layers: int, view: str, program: str) -> None:
    tg.manual_seed(0)
    y, _ = kind(E, H, layers)(Tensor(array(12, N, E), name="x"), lengths=[12, 10])
    ordered(draw((y**2).mean(), view=view), program)


def ordered(graph: Any, program: str) -> None:
    """Assert that a column ends before the next one begins."""
    columns = clusters(laid_out(graph.source, program))
    assert len(columns) == len(graph.graph.steps)
    for (_, end), (begin, _) in pairwise(columns):
        assert end <= begin + 1


def clusters(layout: Any) -> Sequence[tuple[float, float]]:
    """The left and right end of each column, in the order of time."""
    boxes = {int(o["name"][9:]): o["bb"].split(",") for o in layout["objects"] if re.fullmatch(r"cluster_t\d+", o["name"])}
    return [(float(box[0]), float(box[2])) for _, box in sorted(boxes.items())]


@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
@pytest.mark.parametrize("name", list(LOOPS))
def test_states_go_around_the_rolled_step(name: str, program: str) -> None:
    layout = laid_out(draw(LOOPS[name](5), view="rolled").source, program)
    ((left, right),) = clusters(layout)
    place = {o["name"]: [float(v) for v in o["pos"].split(",")] for o in layout["objects"] if "pos" in o}
    (box,) = (o["bb"].split(",") for o in layout["objects"] if re.fullmatch(r"cluster_t\d+", o["name"]))
    corners = {kind: [at for name, at in place.items() if re.fullmatch(rf"{kind}\d+", name)] for kind in "xrl"}
    assert len(corners["x"]) == len(corners["l"]) > 0
    assert min(x for x, _ in corners["x"] + corners["r"]) >= right
    assert min(y for _, y in corners["r"] + corners["l"]) >= float(box[3])
    for i in [name[1:] for name in place if re.fullmatch(r"l\d+", name)]:  # h[t-1] is on the left of the step, or above it
        assert place[f"n{i}"][0] < left or place[f"n{i}"][1] > float(box[3])
    tables = [name[1:] for name in place if name[0] == "P" and f"b{name[1:]}_0" in place]
    assert tables
    assert all(place[f"P{k}"][0] < place[f"b{k}_0"][0] for k in tables)


@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
@pytest.mark.parametrize("view", ["windowed", "rolled", "modules"])
@pytest.mark.parametrize("name", list(LOOPS))
def test_no_edge_goes_through_a_box_that_it_does_not_belong_to(name: str, view: str, program: str) -> None:
    layout = laid_out(draw(LOOPS[name](5), view=view).source, program)
    boxes = {}
    for item in layout["objects"]:
        if re.fullmatch(r"[nP]\d+", item["name"]) and item.get("style") != "invis" and item.get("shape") != "point":
            x, y = map(float, item["pos"].split(","))
            boxes[item["_gvid"]] = item["name"], x, y, float(item["width"]) * 36 - 3, float(item["height"]) * 36 - 3
    for edge in layout["edges"]:
        for px, py in curve(edge["pos"]) if edge.get("style") != "invis" else ():
            for i, (box, x, y, width, height) in boxes.items():
                assert i in (edge["tail"], edge["head"]) or abs(px - x) >= width or abs(py - y) >= height, box


@pytest.mark.parametrize("view", ["unrolled", "windowed", "modules"])
@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
def test_second_order_graphs(view: str, program: str) -> None:
    loss = second_order(9)
    graph = draw(loss, view=view, show=("shape", "grad"))
    laid_out(graph.source, program)
    assert labels(graph.graph, "loss") == ["sum"]
