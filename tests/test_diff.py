"""diff: what one cell has more, less and otherwise than another, in one picture."""

import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import zoo


def found(drawing):
    """The labels of the boxes by what has become of them, without those that are the same."""
    kinds = {}
    for node in drawing.graph.nodes:
        kinds.setdefault(node.kind, []).append(node.label)
    kinds.pop("same", None)
    return kinds


def arrows(drawing, mark):
    """The edges with a mark in their style: (label, label)."""
    labels = [node.label for node in drawing.graph.nodes]
    lines = re.findall(rf"^n(\d+) -> n(\d+) \[.*{mark}", drawing.source, re.MULTILINE)
    return Counter((labels[int(i)], labels[int(k)]) for i, k in lines)


def test_peepholes_are_three_products_and_three_sums():
    drawing = tg.viz.diff(nn.LSTMCell, zoo.PeepholeLSTMCell)
    assert found(drawing) == {"added": ["* peephole_f", "+", "* peephole_i", "+", "* peephole_o", "+"]}
    assert "dashed: only in LSTMCell (0)" in drawing.source  # no box, but edges
    assert "double:" not in drawing.source
    total = "+ bias_ih + bias_hh"
    assert arrows(drawing, "style=dashed") == Counter((total, f"{gate} = sigmoid") for gate in "ifo")
    assert arrows(drawing, "penwidth=2.5") == Counter(
        [("c[t-1]", "* peephole_f"), ("c[t-1]", "* peephole_i"), ("c = +", "* peephole_o")]
        + [(f"* peephole_{gate}", "+") for gate in "ifo"]
        + [("+", f"{gate} = sigmoid") for gate in "ifo"]
        + [(total, "+")] * 3
    )


def test_the_other_way_round_what_was_added_is_removed():
    drawing = tg.viz.diff(zoo.PeepholeLSTMCell, nn.LSTMCell)
    assert {kind: sorted(labels) for kind, labels in found(drawing).items()} == {
        "removed": ["* peephole_f", "* peephole_i", "* peephole_o", "+", "+", "+"]
    }


def test_a_coupled_lstm_has_one_gate_less():
    drawing = tg.viz.diff(nn.LSTMCell, zoo.CoupledLSTMCell)
    assert found(drawing) == {"added": ["1 -"], "removed": ["i = sigmoid"]}
    assert arrows(drawing, "penwidth=2.5") == Counter([("f = sigmoid", "1 -"), ("1 -", "*")])
    assert arrows(drawing, "style=dashed") == Counter([("+ bias_ih + bias_hh", "i = sigmoid"), ("i = sigmoid", "*")])


def test_the_reset_gate_before_the_product():
    drawing = tg.viz.diff(nn.GRUCell, zoo.ResetBeforeGRUCell)
    kinds = found(drawing)
    assert kinds["added"] == ["@ weight_in.T", "*", "@ weight_hn.T"]
    assert kinds["removed"] == ["+ bias_ih", "+ bias_hh", "+", "*"]
    assert kinds["changed"] == ["+ bias_ih + bias_hh", "+ bias_n"]
    assert "<BR/><FONT POINT-SIZE" in drawing.source
    new = arrows(drawing, "penwidth=2.5")
    assert new["r = sigmoid", "*"] == new["h[t-1]", "*"] == new["*", "@ weight_hn.T"] == new["@ weight_hn.T", "+ bias_n"] == 1


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell, zoo.LayerNormLSTMCell, zoo.MinimalGatedCell])
def test_a_cell_does_not_differ_from_itself(kind):
    drawing = tg.viz.diff(kind(3, 4), kind(5, 6))
    assert found(drawing) == {}
    assert not arrows(drawing, "penwidth=2.5") + arrows(drawing, "style=dashed")
    assert f"{kind.__name__} and {kind.__name__}: nothing differs" in drawing.source


def test_another_activation_is_a_change():
    drawing = tg.viz.diff(nn.RNNCell(3, 4), nn.RNNCell(3, 4, nonlinearity="relu"))
    assert found(drawing) == {"changed": ["h = relu"]}
    assert "was h = tanh" in drawing.source
    assert "peripheries=2" in drawing.source


class Less(nn.Module):
    input_size = state_size = 3

    def forward(self, x, h):
        return np.tanh(x - h)


class More(Less):
    def forward(self, x, h):
        return np.tanh(h - x)


class Shown(Less):
    def output(self, h):
        return np.exp(h)


class Sums(Less):
    def forward(self, x, h):
        return np.tanh(x + (h + 1) + x * h)


class Sums2(Less):
    def forward(self, x, h):
        return np.tanh(h * x + 1 + (h + x))


def test_the_order_matters_in_a_difference_and_not_in_a_sum():
    drawing = tg.viz.diff(Less(), More())
    assert found(drawing) == {}
    assert arrows(drawing, "penwidth=2.5") == arrows(drawing, "style=dashed") == Counter([("x", "-"), ("h[t-1]", "-")])
    assert "nothing differs" in tg.viz.diff(Sums(), Sums2()).source


class Scaled(Less):
    def __init__(self):
        self.w, self.v = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))

    def forward(self, x, h):
        return np.clip(h * (self.w + self.v), -1, 1) + x


class Chosen(Scaled):
    def forward(self, x, h):
        return np.where(x > h, h * (self.w - 2 * self.v), 1) + x


def test_words_that_are_sums_have_parentheses():
    assert found(tg.viz.diff(Scaled(), Chosen())) == {
        "added": [">", "where(., ., 1)"],
        "changed": ["* (w - 2 * v)"],
        "removed": ["clip(., -1, 1)"],
    }


def test_an_output_is_part_of_a_cell():
    assert found(tg.viz.diff(Less(), Shown())) == {"added": ["exp"]}


def test_what_differs_is_not_told_by_colour_alone():
    source = tg.viz.diff(nn.GRUCell, zoo.ResetBeforeGRUCell).source
    for words in (
        "thick: only in ResetBeforeGRUCell (3)",
        "dashed: only in GRUCell (4)",
        "double: changed (2)",
        "thin: the same (11)",
    ):
        assert words in source
    assert len(re.findall(r'^n\d+ \[.*style="rounded,dashed"', source, re.MULTILINE)) == 4
    assert len(re.findall(r"^n\d+ \[.*penwidth=3", source, re.MULTILINE)) == 3


def test_the_picture_can_be_drawn(tmp_path):
    pytest.importorskip("graphviz")
    drawing = tg.viz.diff(nn.LSTMCell, zoo.PeepholeLSTMCell)
    drawing.save(tmp_path / "diff.svg")
    text = (tmp_path / "diff.svg").read_text()
    assert "* peephole_o" in text
    assert "<title>* peephole_o | added</title>" in text


def test_the_same_bytes_in_every_process():
    program = (
        "import tinygrad_rnn as tg\nfor kind in (tg.nn.zoo.PeepholeLSTMCell, tg.nn.GRUCell, tg.nn.zoo.LayerNormLSTMCell):\n"
        "    print(tg.viz.diff(tg.nn.LSTMCell, kind).source)"
    )
    texts = []
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        texts.append(subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True).stdout)
    assert texts[0] == texts[1]
    assert texts[0].count(b"digraph") == 3


def test_random_numbers_go_on_as_if_nothing_had_been_made():
    tg.manual_seed(0)
    expected = nn.Linear(2, 2).weight.numpy()
    tg.manual_seed(0)
    tg.viz.diff(nn.LSTMCell, nn.GRUCell)
    assert np.array_equal(nn.Linear(2, 2).weight.numpy(), expected)


class Odd(nn.Module):
    def __init__(self, size):
        self.state_size = size


def test_what_it_refuses():
    with pytest.raises(TypeError, match=r"diff: Odd\(size\) does not take \(input_size, hidden_size\); pass a cell"):
        tg.viz.diff(nn.LSTMCell, Odd)
    with pytest.raises(TypeError, match="diff: expected a cell, a Module, got the class int;"):
        tg.viz.diff(nn.LSTMCell, int)
    with pytest.raises(TypeError, match=r"diff: expected a cell, got a LSTM; write diff\(layer.cells\['l0'\]\)"):
        tg.viz.diff(nn.LSTMCell, nn.LSTM(3, 4))
    with pytest.raises(TypeError, match=r"write diff\(\.\.\., input_size=3\), or set self.input_size"):
        tg.viz.diff(nn.LSTMCell, Odd(4))
