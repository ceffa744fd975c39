"""The picture of a graph: which step each node belongs to, what is drawn, the DOT text, and how it is rendered and saved."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.scope import current_scope
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.viz import Drawing, draw, drawing
from tinygrad_rnn.viz.dot import row_levels
from tinygrad_rnn.viz.graph import Graph, Node, build

T, N, E, H = 4, 2, 3, 5


def array(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def weights(*shape: int, name: str | None = None) -> Tensor:
    return Tensor(array(*shape), requires_grad=True, name=name)


class MinimalGatedCell(nn.Module):
    def __init__(self) -> None:
        self.state_size = H
        self.gate = nn.Linear(E + H, H, dtype=np.float64)
        self.candidate = nn.Linear(E + H, H, dtype=np.float64)

    def forward(self, x: Any, h: Any) -> Any:
        f = tg.sigmoid(self.gate(tg.concatenate([x, h], axis=-1))).named("f")
        n = tg.tanh(self.candidate(tg.concatenate([x, f * h], axis=-1))).named("n")
        return (1 - f) * h + f * n


def by_step(graph: Graph) -> dict[int | None, list[str]]:
    """The labels of the computed nodes of each step, sorted."""
    found: dict[int | None, list[str]] = {}
    for node in graph.nodes:
        if node.kind != "input":
            found.setdefault(node.step, []).append(node.label)
    return {t: sorted(labels) for t, labels in found.items()}


def find(graph: Graph, label: str) -> list[int]:
    return [i for i, node in enumerate(graph.nodes) if node.label == label]


def edges(graph: Graph) -> set[tuple[int, int]]:
    return {(edge.source, edge.target) for edge in graph.edges}


def crossings(graph: Graph) -> set[tuple[str, int | None, str, int | None]]:
    """The edges between steps, as (label, step, label, step)."""
    nodes = graph.nodes
    pairs = [(nodes[edge.source], nodes[edge.target]) for edge in graph.edges]
    return {(a.label, a.step, b.label, b.step) for a, b in pairs if None not in (a.step, b.step) and a.step != b.step}


# -- time --------------------------------------------------------------------------------------------------------------------


RNN_STEP = ["+", "@ weight_hh.T", "@ weight_ih.T", "h = tanh"]


def test_hand_written_loop_over_a_tensor() -> None:
    x, cell, head = Tensor(array(N, T, E), name="x"), nn.RNNCell(E, H, bias=False, dtype=np.float64), nn.Linear(H, 1)
    h: Any = None
    for t in range(T):
        h = cell(x[:, t], h)
    graph = build((head(h) ** 2).mean())
    steps = by_step(graph)
    assert all(steps[t] == RNN_STEP for t in range(T))
    assert steps[None] == sorted(["@ linear.weight.T", "+ linear.bias", "** 2", "mean"])
    assert [(node.label, node.step) for node in graph.nodes if node.label.startswith("x[")] == [
        (f"x[:, {t}]", t) for t in range(T)
    ]
    assert crossings(graph) == {("h = tanh", t, "@ weight_hh.T", t + 1) for t in range(T - 1)}
    assert not find(graph, "x")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("state_first", [False, True])
def test_numpy_loop(axis: int, state_first: bool) -> None:
    x = Tensor(array(T, N, E).swapaxes(0, axis), name="x")
    w, u, b = weights(E, H, name="W"), weights(H, H, name="U"), weights(H, name="b")
    h: Any = np.zeros((N, H))
    for t in range(T):
        x_t = x[:, t] if axis else x[t]
        h = np.tanh(h @ u + x_t @ w + b if state_first else x_t @ w + h @ u + b)
    graph = build(tg.functions.sum(h))
    steps = by_step(graph)
    assert all(steps[t] == ["+", "+ b", "@ U", "@ W", "tanh"] for t in range(T))
    assert steps[None] == ["sum"]
    assert crossings(graph) == {("tanh", t, "@ U", t + 1) for t in range(T - 1)}
    assert [(table.title, table.rows) for table in graph.tables] == [("", [("W", (E, H)), ("U", (H, H)), ("b", (H,))])]


def test_slices_of_length_one_mark_steps() -> None:
    x, w, u = Tensor(array(T, E)), weights(E, H), weights(H, H)
    h: Any = np.zeros((1, H))
    for t in range(T):
        h = np.tanh(x[t : t + 1] @ w + h @ u)
    assert list(build(h).steps) == list(range(T))


def test_raw_arrays_and_a_cell() -> None:
    cell = nn.RNNCell(E, H, bias=False, dtype=np.float64)
    h: Any = None
    for t in range(T):
        h = cell(array(T, N, E)[t], h)
    graph = build(h.sum())
    steps = by_step(graph)
    assert all(steps[t] == RNN_STEP for t in range(T))
    assert [node.step for node in graph.nodes if node.label == "input"] == list(range(T))
    assert [(node.label, node.step) for node in graph.nodes if "initial" in node.label] == [("initial h", None)]


def test_step_from_scope() -> None:
    w = weights(3, name="w")
    h: Any = w
    for t in range(3):
        token = current_scope.set(current_scope.get()._replace(step=t + 5))
        h = np.tanh(h * w)
        current_scope.reset(token)
    graph = build(h.sum())
    assert by_step(graph) == {5: ["tanh", "w * w"], 6: ["* w", "tanh"], 7: ["* w", "tanh"], None: ["sum"]}


def test_feed_forward_has_one_column() -> None:
    net = nn.Sequential(nn.Linear(E, H), nn.Linear(H, H), nn.Linear(H, 1))
    h = net(array(N, E).astype(np.float32))
    graph = build((h**2).mean())
    assert graph.steps == {}
    assert "cluster_t" not in draw(h).source
    assert [table.title for table in graph.tables] == ["0", "1", "2"]


def test_a_layer_used_twice_is_not_time() -> None:
    layer = nn.Linear(H, H)
    h = layer(tg.tanh(layer(tg.tanh(layer(array(N, H).astype(np.float32))))))
    graph = build(h.sum())
    assert graph.steps == {}
    assert [len(table.readers) for table in graph.tables] == [6]


def test_columns_of_features_are_not_time() -> None:
    x, w = Tensor(array(N, 2)), weights(2)
    assert build((x[:, 0] * w[0] + np.tanh(x[:, 1] * w[1])).sum()).steps == {}


def test_slices_of_a_weight_are_not_time() -> None:
    w, x = weights(4, E, H, name="W"), array(N, E)
    i, f = tg.sigmoid(x @ w[0]), tg.sigmoid(x @ w[1])
    graph = build((i * f + x @ w[2] - x @ w[0]).sum())
    assert graph.steps == {}


def test_losses_per_step_belong_to_their_steps() -> None:
    x, y, cell, head = (
        Tensor(array(T, N, E)),
        Tensor(array(T, N, 1), name="y"),
        nn.GRUCell(E, H, dtype=np.float64),
        nn.Linear(H, 1),
    )
    h: Any = None
    loss: Any = 0
    for t in range(T):
        h = cell(x[t], h)
        loss = loss + ((head(h) - y[t]) ** 2).mean()
    graph = build(loss / T)
    for t in range(T):
        here = [node.label for node in graph.nodes if node.step == t]
        assert {"@ linear.weight.T", "+ linear.bias", "-", "** 2", "mean", f"y[{t}]"} <= set(here)
    assert by_step(graph)[None] == [f"/ {T}"]


def test_arrays_into_a_cell_and_a_sequence_of_targets() -> None:
    y, cell = Tensor(array(T, N, H), name="y"), nn.RNNCell(E, H, dtype=np.float64)
    h: Any = None
    loss: Any = 0
    for t in range(T):
        h = cell(array(T, N, E)[t], h)
        loss = loss + ((h - y[t]) ** 2).mean()
    graph = build(loss)
    for t in range(T):
        assert {"h = tanh", "input", f"y[{t}]", "** 2"} <= {node.label for node in graph.nodes if node.step == t}


def test_losses_on_the_outputs_of_a_layer() -> None:
    layer, y = nn.RNN(E, H, batch_first=True, dtype=np.float64), Tensor(array(N, T, H), name="y")
    out, _ = layer(array(N, T, E))
    graph = build(sum(((out[:, t] - y[:, t]) ** 2).mean() for t in range(T)))
    for t in range(T):
        assert {f"[:, {t}]", f"y[:, {t}]", "-", "** 2", "mean"} <= {n.label for n in graph.nodes if n.step == t}
    assert by_step(graph)[None] == ["stack axis=1"]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers(kind: Callable[..., Any], layers: int, bidirectional: bool) -> None:
    layer = kind(E, H, num_layers=layers, bidirectional=bidirectional)
    out, _ = layer(array(T, N, E).astype(np.float32))
    graph = build(out[-1].sum())
    steps = by_step(graph)
    assert list(graph.steps) == list(range(T))
    assert steps[None] == sorted(["stack axis=0", "[-1]", "sum"])
    assert all(steps[t] == steps[0] for t in range(T))
    directions = {b - a for _, a, _, b in crossings(graph)}  # type: ignore[operator]
    assert directions == ({1, -1} if bidirectional else {1})
    names = [name for table in graph.tables for name, _ in table.rows]
    assert sorted(names) == sorted(layer.state_dict())


def test_initial_states_are_not_steps() -> None:
    layer = nn.GRU(E, H, num_layers=2, dtype=np.float64)
    out, _ = layer(array(T, N, E), Tensor(array(2, N, H), name="h0"))
    graph = build(out.sum())
    assert [node.step for node in graph.nodes if node.label.startswith("h0")] == [None, None]
    rows = {node.label: node.row for node in graph.nodes if node.label.startswith("h0")}
    states = [node.row for node in graph.nodes if node.label == "h = +"]
    assert set(rows.values()) == set(states)


def test_modules_that_share_parts() -> None:
    one, two = nn.Linear(E, H), nn.Sequential(nn.Linear(H, H), nn.Linear(H, E))
    two.modules.append(one)
    graph = build(two(np.ones((N, H), np.float32)).sum() + one(np.ones((N, E), np.float32)).sum())
    assert [(table.title, [name for name, _ in table.rows]) for table in graph.tables] == [
        (title, ["weight", "bias"]) for title in ("0", "1", "2")
    ]
    assert [len(table.readers) for table in graph.tables] == [2, 2, 4]


def test_reverse_loop_by_hand() -> None:
    x, w, u = Tensor(array(T, N, E)), weights(E, H), weights(H, H)
    h: Any = np.zeros((N, H))
    for t in reversed(range(T)):
        h = np.tanh(x[t] @ w + h @ u)
    graph = build(tg.functions.sum(h))
    assert {(a, b) for _, a, _, b in crossings(graph)} == {(t + 1, t) for t in range(T - 1)}


def test_stacked_cells_by_hand() -> None:
    x, one, two = Tensor(array(T, N, E)), nn.RNNCell(E, H, dtype=np.float64), nn.RNNCell(H, H, dtype=np.float64)
    a: Any = None
    b: Any = None
    for t in range(T):
        a = one(x[t], a)
        b = two(a, b)
    graph = build(b.sum())
    assert len({tuple(labels) for t, labels in by_step(graph).items() if t is not None}) == 1
    assert {(p, q) for _, p, _, q in crossings(graph)} == {(t, t + 1) for t in range(T - 1)}
    assert graph.frames.count("rnncell") == graph.frames.count("rnncell2") == T


def test_joined_states_stand_after_the_steps() -> None:
    x, w, u, v = Tensor(array(T, N, E)), weights(E, H), weights(H, H), weights(H, 1)
    h: Any = np.zeros((N, H))
    hs = []
    for t in range(T):
        h = np.tanh(x[t] @ w + h @ u)
        hs.append(h)
    graph = build((tg.functions.concatenate(hs, axis=0) @ v).sum())
    assert by_step(graph)[None] == sorted(["@ (5,1)", "concatenate axis=0", "sum"])


# -- what is shown -----------------------------------------------------------------------------------------------------------


def lstm_loss(steps: int = T) -> Any:
    tg.manual_seed(0)
    layer = nn.LSTM(E, H, dtype=np.float64)
    return layer(array(steps, N, E))[0].sum().named("loss")


def test_parameters_appear_once_and_are_words_in_labels() -> None:
    graph = build(lstm_loss())
    (table,) = graph.tables
    assert table.title == "cells.l0"
    assert table.rows == [
        ("weight_ih_l0", (4 * H, E)), ("weight_hh_l0", (4 * H, H)), ("bias_ih_l0", (4 * H,)), ("bias_hh_l0", (4 * H,)),
    ]  # fmt: skip
    readers = [graph.nodes[i].label for i in table.readers]
    assert readers.count("@ weight_hh_l0.T") == T
    assert all("_l0" in label for label in readers)
    assert not any(node.kind == "parameter" for node in graph.nodes)


def test_no_two_modules_have_one_name() -> None:
    class Linear2(nn.Linear):
        pass

    layers = [nn.Linear(H, H, bias=False), nn.Linear(H, H, bias=False), Linear2(H, H, bias=False)]
    x: Any = Tensor(array(N, H))
    for layer in layers:
        x = layer(x)
    assert [table.title for table in build(x).tables] == ["linear", "linear3", "linear2"]


def test_kinds_names_and_shapes() -> None:
    graph = build(lstm_loss())
    kinds = {node.label: node.kind for node in graph.nodes}
    assert kinds["f = sigmoid"] == kinds["g = tanh"] == "activation"
    assert kinds["h = *"] == kinds["c = +"] == "state"
    assert kinds["loss = sum"] == "loss"
    assert kinds["initial h"] == kinds["input[0]"] == "input"
    assert kinds["split 2"] == "op"
    assert {node.shape for node in graph.nodes if node.label == "split 1"} == {(N, H)}
    source = draw(lstm_loss()).source
    assert '<B>f = sigmoid</B><BR/><FONT POINT-SIZE="8">(2,5)</FONT>' in source
    assert source.count("weight_hh_l0</B>") == 1


def test_rows_are_aligned_across_steps() -> None:
    graph = build(lstm_loss())
    rows: dict[int | None, list[Node]] = {}
    for node in graph.nodes:
        rows.setdefault(node.row, []).append(node)
    del rows[None]
    for row in rows.values():
        labels = {re.sub(r"\d+", "", node.label) for node in row if node.kind != "input" or node.step is not None}
        assert len(labels) == 1
        assert sorted(n.step for n in row if n.step is not None) == list(range(T))
    levels = row_levels(graph)
    assert len(levels) == len(graph.nodes)
    assert all(levels[a] < levels[b] for a, b in edges(graph) if graph.nodes[a].step == graph.nodes[b].step)


def test_first_step_that_meets_constants_shares_the_rows() -> None:
    cell, h = MinimalGatedCell(), np.zeros((N, H))
    for t in range(T):
        h = cell(array(T, N, E)[t], h)
    graph = build(tg.functions.sum(h))
    by_label = {label: {graph.nodes[i].row for i in find(graph, label)} for label in ("f = sigmoid", "n = tanh", "1 -", "+")}
    assert all(len(rows) == 1 for rows in by_label.values())
    assert [table.title for table in graph.tables] == ["gate", "candidate"]
    assert set(graph.steps.values()) == {"minimalgatedcell"}


def test_frames_of_layers_and_labels_relative_to_them() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.lstm, self.head = nn.LSTM(E, H, num_layers=2), nn.Linear(H, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][-1])

    graph = build(Net()(array(T, N, E).astype(np.float32)).sum())
    assert sorted(graph.frames) == ["lstm.cells.l0"] * T + ["lstm.cells.l1"] * T
    assert set(graph.steps.values()) == {"lstm"}
    assert {graph.frames[graph.nodes[i].frames[-1]] for i in find(graph, "@ weight_ih_l1.T")} == {"lstm.cells.l1"}
    assert len(find(graph, "@ head.weight.T")) == 1
    assert [table.title for table in graph.tables] == ["lstm.cells.l0", "lstm.cells.l1", "head"]


def test_an_expression_of_leaves() -> None:
    a, b = Tensor(2.0, requires_grad=True, name="a"), Tensor(3.0, requires_grad=True, name="b")
    graph = build((a * b + a).named("y"))
    assert [(node.label, node.kind) for node in graph.nodes] == [
        ("a", "parameter"), ("b", "parameter"), ("*", "op"), ("y = +", "loss"),
    ]  # fmt: skip
    assert sorted((e.source, e.target) for e in graph.edges) == [(0, 2), (0, 3), (1, 2), (2, 3)]


def test_numbers_and_repeated_inputs() -> None:
    x = weights(3, name="x")
    graph = build(1 - (x * x) ** 0.5)
    assert [node.label for node in graph.nodes] == ["x", "*", "** 0.5", "1 -"]
    assert [(e.source, e.target) for e in graph.edges] == [(0, 1), (0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda x: x.sum(axis=0), "sum axis=0"),
        (lambda x: x.mean(axis=(0, 1)), "mean axis=(0,1)"),
        (lambda x: x[1:, 0], "[1:, 0]"),
        (lambda x: x[::2], "[::2]"),
        (lambda x: x[..., None, 1], "[..., None, 1]"),
        (lambda x: x[np.array([0, 1])], "[int64 (2)]"),
        (lambda x: x[np.array([True, False, True])], "[bool (3)]"),
        (lambda x: np.maximum(x, 0), "maximum(., 0)"),
        (lambda x: x / 2, "/ 2"),
        (lambda x: 2**x, "2 **"),
        (lambda x: -x, "neg"),
    ],
)
def test_labels_of_ops(make: Callable[[Tensor], Tensor], label: str) -> None:
    assert build(make(weights(3, 4, name="x"))).nodes[-1].label == label


def test_embedding_is_a_node_that_names_its_weight() -> None:
    graph = build(nn.Embedding(7, E)(np.array([1, 2])).sum())
    assert graph.nodes[0].label == "weight[int64 (2)]"
    assert [table.rows for table in graph.tables] == [[("weight", (7, E))]]


def test_a_leaf_is_one_box() -> None:
    graph = build(Tensor(array(2, 3), name="x"))
    assert [(node.label, node.shape, node.kind) for node in graph.nodes] == [("x", (2, 3), "input")]
    assert not graph.edges
    assert not graph.tables


def test_second_order_graph() -> None:
    w = weights(3, name="w")
    (np.tanh(w) ** 2).sum().backward(create_graph=True)
    assert w.grad is not None
    graph = build(w.grad.sum())
    assert graph.steps == {}
    assert len(find(graph, "w")) == 1


# -- DOT ---------------------------------------------------------------------------------------------------------------------


def test_state_edges_are_written_from_the_reader() -> None:
    graph = build(lstm_loss())
    source = draw(lstm_loss()).source
    states = [edge for edge in graph.edges if edge.state]
    assert len(states) == 2 * T
    for edge in states:
        assert re.search(rf'^n{edge.target} -> n{edge.source} \[color="#8E63C7", penwidth=2, dir=back\]$', source, re.M)


def test_one_bus_with_a_tap_for_each_reader() -> None:
    graph, source = build(lstm_loss()), draw(lstm_loss()).source
    assert "P0 -> b0_0 -> b0_1 -> b0_2 -> b0_3 [" in source
    taps = re.findall(r"^b0_(\d) -> n(\d+) \[color", source, re.M)
    assert [int(n) for _, n in taps] == graph.tables[0].readers
    assert all(graph.nodes[int(n)].step == int(t) for t, n in taps)


SCRIPT = """
import numpy as np, tinygrad_rnn as tg
from tinygrad_rnn.viz import draw
tg.manual_seed(0)
layer, head = tg.nn.LSTM(3, 4, num_layers=2, bidirectional=True), tg.nn.Linear(8, 1)
print(draw(head(layer(np.zeros((3, 2, 3), np.float32))[0]).sum()).source)
"""


def test_bytes_do_not_depend_on_the_process() -> None:
    root = str(Path(tg.__file__).parent.parent)
    texts = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True, check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }  # fmt: skip
    assert len(texts) == 1
    assert b"cluster_t2" in texts.pop()


def test_a_long_chain() -> None:
    h = weights(2, name="h")
    for _ in range(30_000):
        h = h * 0.5
    begin = time.perf_counter()
    source = draw(h).source
    assert time.perf_counter() - begin < 10
    assert len(re.findall(r"^n\d+ -> n\d+$", source, re.M)) == 30_000


def test_a_long_loop_and_a_long_chain_of_transposes() -> None:
    x, cell = Tensor(array(3_000, E)), nn.RNNCell(E, H, dtype=np.float64)
    h: Any = None
    for x_t in x:
        h = cell(x_t, h)
    assert len(draw(h, view="unrolled").graph.steps) == 3_000
    w = weights(2, 3, name="w")
    for _ in range(3_000):
        w = w.transpose()
    assert len(draw(w.sum()).source) < 3_000_000


NASTY = [
    'a"b',
    "back\\slash\\n",
    "<b>&amp;</b>",
    "two\nlines\r\n",
    "größe 状態 🙂",
    "x" * 5_000,
    "\x00\x1b\ud800",
    "]]>--",
    "",
    "%(n)s {|}",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_that_dot_or_xml_could_misread(name: str) -> None:
    class Box(nn.Module):
        def __init__(self) -> None:
            self.items = {name: nn.Linear(2, 2)}

        def forward(self, x: Any) -> Any:
            return np.tanh(self.items[name](x)).named(name)

    picture = draw((Box()(np.ones((1, 2), np.float32)) * weights(1, name=name)).sum())
    assert "\n".join(picture.source.splitlines()) + "\n" == picture.source
    assert all(len(line) < 11_000 for line in picture.source.splitlines())
    svg = need_renderer(picture)
    texts = "".join(ET.fromstring(svg).itertext())
    if name.isprintable() and 0 < len(name) < 30:
        assert name.split(" ")[0] in texts


# -- rendering and saving ----------------------------------------------------------------------------------------------------


def need_renderer(picture: Drawing) -> str:
    pytest.importorskip("graphviz")
    try:
        drawing.find_program("svg")
    except RuntimeError:
        pytest.skip("no program to render with")
    svg = picture._repr_svg_()
    assert svg is not None
    return svg


def without_programs(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name in names else which(name, path=path))


def test_only_tensors_can_be_drawn() -> None:
    with pytest.raises(TypeError, match=r"draw: expected a Tensor, got ndarray.*tg\.viz\.draw\(loss\)"):
        draw(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got Linear"):
        draw(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_a_drawing_keeps_no_tensors() -> None:
    loss = lstm_loss()
    node = weakref.ref(loss)
    picture = draw(loss)
    del loss
    assert node() is None
    assert picture.graph.nodes[-1].label == "loss = sum"


def test_repr() -> None:
    assert repr(draw(lstm_loss())) == '<Drawing of 80 nodes, 4 time steps: .save("graph.svg"), .source (DOT)>'
    assert repr(draw(weights(1))) == '<Drawing of 1 node: .save("graph.svg"), .source (DOT)>'


def test_embedded_svg() -> None:
    svg = need_renderer(draw(lstm_loss()))
    assert svg.startswith("<svg")
    other = need_renderer(draw(weights(2, name="w").sum()))
    ids, others = (set(re.findall(r'\bid="([^"]+)"', text)) for text in (svg, other))
    assert ids
    assert others
    assert not ids & others
    titles = re.findall("<title>(.*)</title>", svg)
    assert "f = sigmoid (2,5) | cells.l0 | t = 0" in titles
    assert not any(title.startswith(("n", "cluster", "P")) for title in titles)


@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
def test_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    pytest.importorskip("graphviz")
    without_programs(monkeypatch, *{"dot", "graphviz-pure"} - {program})
    try:
        drawing.find_program("svg")
    except RuntimeError:
        pytest.skip(f"{program} is not installed")
    picture = draw(lstm_loss())
    for name, start in (("g.svg", b"<?xml"), ("g.PNG", b"\x89PNG"), ("g.dot", b"digraph {")):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert (tmp_path / "g.dot").read_text("utf-8") == picture.source
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.PNG", "g.dot", "g.svg"]
    boxes = columns(tmp_path / "g.svg")
    assert boxes == sorted(boxes)
    assert len(boxes) == T


def columns(path: Path) -> list[float]:
    """The left edge of each step's box, in order of time, read off an SVG."""
    space = "{http://www.w3.org/2000/svg}"
    found = {}
    for group in ET.parse(path).getroot().iter(f"{space}g"):
        text = "".join(group.itertext())
        match = re.search(r"t = (\d+)", text) if group.get("class") == "cluster" else None
        if match:
            shape = next(group.iter(f"{space}path"))
            found[int(match[1])] = min(float(x) for x in re.findall(r"(-?[\d.]+),", shape.get("d", "")))
    return [found[t] for t in sorted(found)]


def curve(pos: str) -> list[tuple[float, float]]:
    """Points along an edge, from graphviz's control points."""
    found: list[tuple[float, float]] = []
    points = [tuple(map(float, word.split(","))) for word in pos.split() if word[0] not in "es"]
    for i in range(0, len(points) - 3, 3):
        for u in np.linspace(0, 1, 21):
            weight = [(1 - u) ** 3, 3 * (1 - u) ** 2 * u, 3 * (1 - u) * u**2, u**3]
            x, y = np.array(weight) @ np.array(points[i : i + 4])
            found.append((float(x), float(y)))
    return found


def numpy_loss() -> Any:
    x, w, u, v = Tensor(array(T, N, E)), weights(E, H), weights(H, H), weights(H, 1)
    h: Any = np.zeros((N, H))
    loss: Any = 0
    for t in range(T):
        h = np.tanh(h @ u + x[t] @ w)
        loss = loss + ((h @ v) ** 2).mean()
    return loss / T


LAYOUTS = {
    "lstm": lambda: lstm_loss(12),
    "bidirectional": lambda: nn.LSTM(E, H, 2, bidirectional=True)(np.zeros((5, 1, E), np.float32))[0].sum(),
    "initial states": lambda: nn.GRU(E, H, 2)(np.zeros((3, 1, E), np.float32), np.zeros((2, 1, H), np.float32))[0].sum(),
    "numpy": numpy_loss,
}


@pytest.mark.parametrize("program", ["dot", "graphviz-pure"])
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_layout(monkeypatch: pytest.MonkeyPatch, name: str, program: str) -> None:
    """Steps from left to right, tables left of their readers, and no edge through a box that it does not belong to."""
    without_programs(monkeypatch, *{"dot", "graphviz-pure"} - {program})
    try:
        found = drawing.find_program("svg")
    except RuntimeError:
        pytest.skip(f"{program} is not installed")
    picture = draw(LAYOUTS[name]())
    run = subprocess.run([found, "-Tjson"], input=picture.source.encode(), capture_output=True, check=True)
    assert run.stderr == b""
    laid_out = json.loads(run.stdout)
    boxes, lefts = {}, {}
    for item in laid_out["objects"]:
        if re.fullmatch(r"[nP]\d+|b\d+_0", item["name"]):
            x, y = map(float, item["pos"].split(","))
            boxes[item["_gvid"]] = item["name"], x, y, float(item["width"]) * 36 - 3, float(item["height"]) * 36 - 3
        elif re.fullmatch(r"cluster_t\d+", item["name"]):
            lefts[int(item["name"][9:])] = float(item["bb"].split(",")[0])
    starts = [lefts[t] for t in picture.graph.steps]
    assert starts == sorted(starts)
    where = {name: x for name, x, *_ in boxes.values()}
    assert all(where[f"P{k}"] < where[f"b{k}_0"] for k in range(len(picture.graph.tables)))
    for edge in laid_out["edges"]:
        others = (
            []
            if edge.get("style") == "invis"
            else [box for i, box in boxes.items() if i not in (edge["tail"], edge["head"]) and box[0][0] != "b"]
        )
        for px, py in curve(edge["pos"]) if others else ():
            assert not [box[0] for box in others if abs(px - box[1]) < box[3] and abs(py - box[2]) < box[4]]


@pytest.mark.parametrize("name", ["graph", "graph.jpeg", "graph.", ".svg"])
def test_unknown_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"should end in one of \.svg, \.png, \.pdf, \.dot"):
        draw(weights(1)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_unwritable_path_keeps_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot save .*g\.dot': make its folder first: .*missing'"):
        draw(weights(1)).save(tmp_path / "missing" / "g.dot")
    (tmp_path / "g.dot").mkdir()
    with pytest.raises(OSError, match=r"expected the name of a file, got a folder or a device: .*g\.dot'"):
        draw(weights(1)).save(tmp_path / "g.dot")
    assert [path.name for path in tmp_path.iterdir()] == ["g.dot"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.dot").symlink_to(tmp_path / "g.dot")
    picture = draw(weights(1))
    picture.save(tmp_path / "link.dot")
    assert (tmp_path / "link.dot").is_symlink()
    assert (tmp_path / "g.dot").read_text() == picture.source


def test_what_cannot_be_the_name_of_a_file(tmp_path: Path) -> None:
    picture, loss = draw(weights(1)), (weights(2) ** 2).sum()
    (tmp_path / "file").touch()
    for path in (None, 1, b"g.svg"):
        with pytest.raises(TypeError, match=f"save: expected the name of a file, a str or a Path, got {type(path).__name__}"):
            picture.save(path)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="page: expected the name of a file"):
            tg.viz.page(loss, path)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="save: expected the name of a file"):
            tg.viz.plot_gradient_flow([1.0]).save(path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"save: .*x00\.dot' cannot be the name of a file: expected one without"):
        picture.save(tmp_path / "g\0.dot")
    with pytest.raises(FileNotFoundError, match=r"cannot save .*file/g\.dot': make its folder first"):
        picture.save(tmp_path / "file" / "g.dot")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_rendering_keeps_the_old_file(tmp_path: Path) -> None:
    picture = draw(weights(1))
    need_renderer(picture)
    picture.save(tmp_path / "g.svg")
    old = (tmp_path / "g.svg").read_bytes()
    picture.source = "digraph {"
    with pytest.raises(RuntimeError, match=r"could not render the picture: .*syntax error"):
        picture.save(tmp_path / "g.svg")
    assert (tmp_path / "g.svg").read_bytes() == old
    assert picture._repr_svg_() is None


def test_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("graphviz")
    without_programs(monkeypatch, "dot", "graphviz-pure")
    picture = draw(lstm_loss())
    with pytest.raises(RuntimeError, match=r'pip install "tinygrad-rnn\[viz\]".*\.save\("graph\.dot"\)'):
        picture.save(tmp_path / "g.svg")
    assert picture._repr_svg_() is None
    picture.save(tmp_path / "g.dot")
    assert [path.name for path in tmp_path.iterdir()] == ["g.dot"]


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    picture = draw(lstm_loss())
    with pytest.raises(RuntimeError, match=r'the library graphviz: pip install "tinygrad-rnn\[viz\]".*\.source'):
        picture.save("never.svg")
    assert picture._repr_svg_() is None


def test_pdf_needs_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("graphviz")
    if shutil.which("dot"):
        draw(weights(1)).save(tmp_path / "g.pdf")
        assert (tmp_path / "g.pdf").read_bytes().startswith(b"%PDF")
    without_programs(monkeypatch, "dot")
    with pytest.raises(RuntimeError, match="A pdf needs the program dot"):
        draw(weights(1)).save(tmp_path / "h.pdf")


def test_a_png_that_would_be_too_large(tmp_path: Path) -> None:
    h = weights(2)
    for _ in range(500):
        h = h * 0.5
    picture = draw(h)
    need_renderer(picture)
    with pytest.raises(ValueError, match=r"pixels long, and 32,767 are possible.*graph\.svg"):
        picture.save(tmp_path / "g.png")
    assert not list(tmp_path.iterdir())


def test_the_library_is_left_as_it_was(tmp_path: Path) -> None:
    dot_command = pytest.importorskip("graphviz.backend.dot_command")
    need_renderer(draw(weights(1)))
    assert str(dot_command.DOT_BINARY) == "dot"
