"""The gradient of every node, and the colours and numbers that pictures give it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import flow, nn
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.viz import draw, record
from tinygrad_rnn.viz.graph import build
from tinygrad_rnn.viz.labels import value_text
from tinygrad_rnn.viz.styles import shade

T, N, E, H = 6, 2, 3, 4


def array(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def lstm_loss(steps: int = T) -> tuple[Any, Any]:
    tg.manual_seed(0)
    layer = nn.LSTM(E, H, dtype=np.float64)
    return (layer(Tensor(array(steps, N, E), name="x"))[0][-1] ** 2).mean().named("loss"), layer


# -- record ------------------------------------------------------------------------------------------------------------------


def test_gradients_of_an_elman_network_derived_by_hand() -> None:
    w, u, x = Tensor(array(E, H), requires_grad=True), Tensor(array(H, H), requires_grad=True), array(T, N, E)
    h: Any = np.zeros((N, H))
    hs = []
    for x_t in x:
        h = np.tanh(x_t @ w + h @ u)
        hs.append(h)
    found = record((h**2).sum())
    back = 2 * h.numpy()
    for t in reversed(range(T)):
        np.testing.assert_allclose(found[hs[t]], back, rtol=1e-12)
        inner = back * (1 - hs[t].numpy() ** 2)
        np.testing.assert_allclose(found[hs[t].inputs[0]], inner, rtol=1e-12)
        back = inner @ u.numpy().T


def test_leaves_receive_what_backward_brings_and_nothing_is_written() -> None:
    loss, layer = lstm_loss()
    found = record(loss)
    assert all(p.grad is None for p in layer.parameters())
    loss.backward()
    for p in layer.parameters():
        assert p.grad is not None
        assert np.array_equal(found[p], p.grad.numpy())


def test_every_node_that_requires_a_gradient_in_order() -> None:
    loss, _ = lstm_loss()
    found = record(loss)
    births = [x.birth for x in found]
    assert births == sorted(births)
    assert all(x.requires_grad and g.shape == x.shape and g.dtype == x.dtype for x, g in found.items())
    states = flow.states(loss)
    for name, series in flow.gradients_at(loss, states).items():
        assert all(np.array_equal(found[states[name][t]], g) for t, g in series.items())
    assert found[loss] == 1


def test_several_roots_are_summed_and_ways_that_pass_nothing_give_zeros() -> None:
    w = Tensor([1.0, 2.0], requires_grad=True)
    a, b = (w * w).sum(), (3 * w).sum()
    np.testing.assert_allclose(record([a, b])[w], [5, 7])
    condition = w - 1
    found = record(tg.where(condition, w * w, w).sum())
    assert found[condition].tolist() == [0, 0]
    assert found[w].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("root", "error", "match"),
    [
        (lambda: np.ones(2), TypeError, r"record: expected a Tensor, got ndarray.*record\(loss\)"),
        (list, TypeError, "record: expected a Tensor, got a list of nothing"),
        (lambda: Tensor(1.0), RuntimeError, "does not require grad and has no graph, so there are no gradients"),
        (lambda: lstm_loss()[1](array(2, 1, E))[0], RuntimeError, r"expected one number, got .*shape \(2, 1, 4\).*\.mean\(\)"),
    ],
)
def test_what_has_no_gradients(root: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        record(root())


def test_a_picture_with_gradients_says_who_wants_them() -> None:
    with pytest.raises(RuntimeError, match=r"draw with show=\(\"grad\",\): expected one number, got .*shape \(2, 1, 4\)"):
        draw(lstm_loss()[1](array(2, 1, E))[0], show=("grad",))


def test_a_parameter_that_was_changed_since() -> None:
    loss, layer = lstm_loss()
    loss.backward()
    before = draw(loss).source
    tg.optim.SGD(layer.parameters(), lr=0.1).step()
    assert draw(loss).source == before
    with pytest.raises(RuntimeError, match="modified by an in-place operation: 'bias_ih'"):
        draw(loss, show=("grad",))


def test_a_picture_without_gradients_computes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_rnn.viz.graph.recorded", None)
    assert draw(lstm_loss()[0], show=("shape", "value")).graph.nodes[-1].norms == ()


# -- the picture -------------------------------------------------------------------------------------------------------------


def test_norms_in_the_picture_are_those_of_the_gradients() -> None:
    loss, layer = lstm_loss()
    norms = flow.norms(loss)
    graph = build(loss, ("grad",))
    for name, label in (("h", "h = *"), ("c", "c = +")):
        shown = {node.step: node.norms[0] for node in graph.nodes if node.label == label}
        np.testing.assert_allclose([shown[t] for t in range(T)], next(v for k, v in norms.items() if k.endswith(name)))
    loss.backward()
    shown = {name: norms[0] for (name, _), norms in zip(graph.tables[0].rows, graph.tables[0].norms, strict=True)}
    assert shown == {name: np.linalg.norm(p.grad.numpy()) for name, p in layer.named_parameters()}  # type: ignore[union-attr]
    assert all(node.norms == () for node in graph.nodes if node.label.startswith("x["))


def test_the_forget_gate_of_the_first_step_receives_exactly_nothing() -> None:
    picture = draw(lstm_loss()[0], view="unrolled", show=("shape", "grad"))
    (gate,) = [i for i, n in enumerate(picture.graph.nodes) if n.label == "f = sigmoid" and n.step == 0]
    (line,) = re.findall(rf"^n{gate} \[.*$", picture.source, re.M)
    assert (
        '(2,4) |g| 0</FONT>>, fillcolor="#FFFFFF", color="#009E73", style="rounded,filled,dashed", fontcolor="#111111"' in line
    )
    assert picture.source.count("dashed") == T + 2  # the columns, f and its part of the split


def test_a_rolled_node_has_the_norms_of_all_steps() -> None:
    loss, _ = lstm_loss(20)
    whole, picture = build(loss, ("grad",)), draw(loss, view="rolled", show=("grad",))
    expected = tuple(node.norms[0] for node in whole.nodes if node.label == "h = *")
    ((i, node),) = [(i, node) for i, node in enumerate(picture.graph.nodes) if node.label == "h = *"]
    assert node.norms == expected
    (line,) = re.findall(rf"^n{i} \[.*$", picture.source, re.M)
    assert f"|g| {min(expected):.2g} ... {max(expected):.2g}<" in line
    colours = re.findall(r'BGCOLOR="(#\w+)" WIDTH', line)
    assert len(colours) == 16
    assert colours[0] == shade(expected[0])[0]
    assert colours[-1] == shade(expected[-1])[0]


def test_a_box_has_the_norm_of_what_leaves_it() -> None:
    loss, _ = lstm_loss()
    norms = flow.norms(loss)
    graph = draw(loss, view="modules", show=("grad",)).graph
    shown = [node.norms[0] for node in graph.nodes if node.kind == "module"]
    np.testing.assert_allclose(shown[:-1], np.hypot(*norms.values())[:-1])  # h and c leave it; of the last step h alone
    np.testing.assert_allclose(shown[-1], next(v for k, v in norms.items() if k.endswith("h"))[-1])


def test_values() -> None:
    x, w = Tensor([1.0, -0.5], name="x"), Tensor(array(5), requires_grad=True, name="w")
    graph = draw((x * Tensor([1.0, 2.0], requires_grad=True)).sum() * w, show=("value",)).graph
    assert [(node.label, node.value) for node in graph.nodes if node.label in ("x", "sum")] == [
        ("x", "[1 -0.5]"),
        ("sum", "0"),
    ]
    assert [node.value for node in graph.nodes if node.label == "w"] == [f"{w.data.min():.3g} ... {w.data.max():.3g}"]
    source = draw(x * 2, show=("value",)).source
    assert "[2 -1]" in source
    assert "(2)</FONT>" not in source


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"), (True, "True"), (3, "3"), (1e-9, "1e-09"), ([1, -0.5], "[1 -0.5]"), (np.zeros((2, 3)), "0"),
        ([True, False], "[True False]"), (np.arange(6.0), "0 ... 5"), ([float("nan")] * 5, "nan"), ([], "[]"),
        (np.float32(0.1), "0.1"),
    ],
)  # fmt: skip
def test_value_text(value: Any, text: str) -> None:
    assert value_text(value) == text


# The colours of matplotlib 3.10's cividis at tenths.
@pytest.mark.parametrize(
    ("norm", "colour", "text"),
    [
        (1e-6, "#00224E", "#FFFFFF"), (1e-9, "#00224E", "#FFFFFF"), (10**-4.8, "#35456C", "#FFFFFF"),
        (1e-3, "#7D7C78", "#FFFFFF"), (10**-1.8, "#AEA371", "#111111"), (1.0, "#FEE838", "#111111"),
        (50.0, "#FEE838", "#111111"), (0.0, "#FFFFFF", "#111111"), (math.nan, "#D55E00", "#FFFFFF"),
        (math.inf, "#D55E00", "#FFFFFF"),
    ],
)  # fmt: skip
def test_colours(norm: float, colour: str, text: str) -> None:
    assert shade(norm) == (colour, text)


def test_a_legend_belongs_to_the_colours() -> None:
    loss, _ = lstm_loss()
    with_grad, without = draw(loss, show=("grad",)).source, draw(loss).source
    assert re.search(r"^label=<<TABLE .*\|g\| is the norm of dL/d\(node\).*1e-6.*1e0.*>$", with_grad, re.M)
    assert "|g|" not in without


def test_gradients_that_are_not_finite_stand_out() -> None:
    w = Tensor([0.0, 1.0], requires_grad=True, name="w")
    with np.errstate(divide="ignore", invalid="ignore"):
        source = draw(np.sqrt(w * 0).sum(), show=("grad",)).source
    assert '|g| inf</FONT>>, fillcolor="#D55E00"' in source or '|g| nan</FONT>>, fillcolor="#D55E00"' in source


def test_a_run_of_a_compiled_layer_is_a_box_without_numbers() -> None:
    loss, layer = lstm_loss()
    compiled = tg.compile(layer)
    x = array(4, 1, E)
    loss = compiled(x)[0].sum()
    loss.backward()
    found = record(loss)
    assert all(g.dtype == x.dtype and np.array_equal(g, x.grad.numpy()) for x, g in found.items() if x.grad is not None)
    graph = draw(loss, show=("shape", "value", "grad")).graph
    (run,) = [node for node in graph.nodes if node.label == "LSTMCell over time"]
    assert (run.kind, run.value, run.norms) == ("module", "", ())
    (table,) = graph.tables
    assert [norm for (norm,) in table.norms] == [
        np.linalg.norm(p.grad.numpy()) for p in layer.parameters() if p.grad is not None
    ]
