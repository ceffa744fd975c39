"""What a terminal and a notebook show of Tensors and modules."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn


def read(html: str) -> ET.Element:
    """A notebook's fragment, which is well-formed."""
    return ET.fromstring(html)


# -- Tensor ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: tg.Tensor([1, 2.5]), "Tensor([1. , 2.5])"),
        (lambda: tg.Tensor([[1, 2], [3, 4]]), "Tensor([[1, 2],\n        [3, 4]])"),
        (lambda: tg.Tensor(0.5, dtype=np.float32, name="loss"), "Tensor(0.5, dtype=float32, name='loss')"),
        (lambda: (tg.Tensor([1.0], True, name="w") * 2).named("y"), "Tensor([2.], name='y', op=mul, requires_grad=True)"),
        (lambda: nn.Parameter([[1.0], [2.0]]), "Parameter([[1.],\n           [2.]], requires_grad=True)"),
        (lambda: tg.Tensor(np.zeros((0, 3))), "Tensor([], shape=(0, 3))"),
        (lambda: tg.Tensor([]), "Tensor([])"),
        (lambda: tg.Tensor([np.nan, -np.inf], name="it's"), 'Tensor([ nan, -inf], name="it\'s")'),
    ],
)
def test_tensors(make: Any, shown: str) -> None:
    assert repr(make()) == str(make()) == shown


def test_large_tensors_are_summarised() -> None:
    text = repr(tg.Tensor(np.arange(10_000.0).reshape(100, 100), name="x"))
    assert text.startswith("Tensor([[0.000e+00, 1.000e+00, 2.000e+00, ..., ")
    assert text.endswith("9.999e+03]], shape=(100, 100), name='x')")
    assert len(text) < 600
    with np.printoptions(threshold=3, edgeitems=1, precision=2):
        assert repr(tg.Tensor([1 / 3, 2, 3, 4])) == "Tensor([0.33, ..., 4.  ], shape=(4,))"


def test_tensors_in_a_notebook() -> None:
    w = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, name="w")
    shown = read((np.tanh(w) * 0).named('<script>alert("&")</script>')._repr_html_())
    assert [child.tag for child in shown] == ["b", "code", "pre"]
    assert shown[0].text == "Tensor"
    assert shown[1].text == '<script>alert("&")</script>'
    assert shown[1].tail == ": shape (2, 2), float64, made by mul, requires grad"
    assert shown[2].text == "[[0., 0.],\n [0., 0.]]"
    assert "".join(read(tg.Tensor(3)._repr_html_()).itertext()) == "Tensor: shape (), int64" + "3"
    assert len(tg.Tensor(np.zeros((1000, 1000)), name="n" * 20)._repr_html_()) < 600
    assert read(tg.Tensor(1.0, name="a\x00\ud800b")._repr_html_())[1].text == "a b"


# -- Module ------------------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        self.gru = nn.GRU(2, 3)
        self.head = nn.Linear(3, 2)
        self.tied = self.head.weight
        self.heads = {"a<b": nn.Linear(2, 1, bias=False)}
        self.scale = nn.Parameter(np.ones(()), name="scale")


COUNT = 9 * 2 + 9 * 3 + 9 + 9 + 6 + 2 + 2 + 1


def test_a_module_is_a_tree_with_shapes_and_the_number_of_parameters() -> None:
    """A parameter that is shared counts once."""
    lines = repr(Net()).splitlines()
    assert lines[0] == f"Net(tied[2, 3], scale[]  # {COUNT} parameters"
    assert lines[1].startswith("  (gru): GRU(input_size=2, hidden_size=3, ")
    assert lines[1].endswith("  # 63 parameters")
    cell = "GRUCell(input_size=2, hidden_size=3, state_size=3, weight_ih[9, 2], weight_hh[9, 3], bias_ih[9], bias_hh[9])"
    assert lines[2] == f"    (cells.l0): {cell}"
    assert lines[3] == "  )"
    assert lines[4] == "  (head): Linear(in_features=3, out_features=2, weight[2, 3], bias[2])"
    assert lines[5] == "  (heads.a<b): Linear(in_features=2, out_features=1, weight[1, 2])"
    assert lines[6:] == [")"]
    assert repr(nn.Module()) == "Module()"
    assert repr(nn.Sequential(nn.Linear(1000, 10))).splitlines()[0] == "Sequential(  # 10,010 parameters"


def test_a_module_in_a_notebook_is_a_table_of_its_parameters() -> None:
    net = Net()
    net.head.bias.requires_grad = False
    caption, head, *rows = read(net._repr_html_())
    assert caption.text == "Net"
    assert [cell.text for cell in head] == ["parameter", "shape", "dtype", "size"]
    shown = [tuple(cell.text for cell in row) for row in rows]
    assert shown == [
        ("gru.weight_ih_l0", "(9, 2)", "float32", "18"),
        ("gru.weight_hh_l0", "(9, 3)", "float32", "27"),
        ("gru.bias_ih_l0", "(9,)", "float32", "9"),
        ("gru.bias_hh_l0", "(9,)", "float32", "9"),
        ("head.weight", "(2, 3)", "float32", "6"),
        ("head.bias", "(2,)", "float32, frozen", "2"),
        ("heads.a<b.weight", "(1, 2)", "float32", "2"),
        ("scale", "()", "float64", "1"),
        ("total", None, None, str(COUNT)),
    ]
    assert [cell.text for cell in read(nn.Dropout()._repr_html_())[2]] == ["total", None, None, "0"]
    assert "10,010" in nn.Linear(1000, 10)._repr_html_()
