"""The step-through page as a file: what is in it, that it needs nothing from outside, and that bad input leaves no mess."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.viz import drawing

VOID = {"meta", "input", "br"}
OPEN_ENDED = {"tr", "td", "th", "li"}  # HTML lets their end tags out


class Page(HTMLParser):
    """All elements of a page with their attributes, the text of each cell, and whether tags match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self.stack
        self.ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        self.rows = [a for tag, a in self.elements if tag == "tr" and "data-now" in a]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID | OPEN_ENDED:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPEN_ENDED:
            assert self.stack.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def lstm_loss(steps: int = 4, hidden: int = 3, batch: int = 2) -> tg.Tensor:
    tg.manual_seed(0)
    lstm = nn.LSTM(2, hidden)
    _, (h, _) = lstm(tg.Tensor(rng().normal(size=(steps, batch, 2)), dtype=np.float32, name="x"))
    return (h * h).mean().named("loss")


def elman_loss(name: str = "W") -> tg.Tensor:
    w = tg.Tensor(rng().normal(size=(2, 2)), requires_grad=True, name=name)
    h: Any = np.zeros(2)
    for x in tg.Tensor(rng(1).normal(size=(3, 2)), name="x"):
        h = np.tanh(x + w @ h).named("h")
    return (h * h).sum().named("loss")


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "bptt.html"
    tg.viz.page(lstm_loss(), path)
    return Page(path)


def test_every_event_is_a_row(lstm):
    told = tg.viz.events(lstm_loss())
    count = len(told["forward"]) + len(told["backward"])
    assert [row["id"] for row in lstm.rows] == [f"e{k}" for k in range(count)]
    assert [row["class"] for row in lstm.rows] == ["forward"] * len(told["forward"]) + ["backward"] * len(told["backward"])
    assert f"{len(told['nodes'])} nodes, 4 time steps: {len(told['forward'])} forward and" in lstm.source


def test_rows_name_the_boxes_of_the_picture(lstm):
    boxes = {a["id"] for tag, a in lstm.elements if tag == "g" and a.get("class") == "node" and "id" in a}
    graph = tg.viz.draw(lstm_loss()).graph
    assert boxes == {f"n{i}" for i in range(len(graph.nodes))} | {"P0"}
    named = {box for row in lstm.rows for box in [row["data-now"], *row["data-with"].split()]}
    assert named == boxes
    assert len(lstm.ids) == len(set(lstm.ids))
    by_label = {node.label: f"n{i}" for i, node in enumerate(graph.nodes) if node.step in (None, 3)}
    (mean,) = [row for row in lstm.rows if row["data-now"] == by_label["loss = mean"] and row["class"] == "backward"]
    assert mean["data-with"] == by_label["*" if "*" in by_label else "* "]
    ends = [a["data-ends"].split() for tag, a in lstm.elements if a.get("class") == "edge"]
    assert len(ends) > len(graph.edges)
    assert all(set(pair) <= boxes for pair in ends)


def test_links_lead_to_rows(lstm):
    links = [a["href"] for tag, a in lstm.elements if tag == "a" and "href" in a]
    assert len(links) > 100
    assert {link[1:] for link in links} <= set(lstm.ids)


def test_numbers_rules_and_sums_are_on_the_page(tmp_path):
    loss = elman_loss()
    tg.viz.page(loss, tmp_path / "p.html")
    source = (tmp_path / "p.html").read_text()
    told = tg.viz.events(loss)
    first = told["forward"][-1]["value"]["values"][0]
    assert f">{first:.4g}</table>" in source
    assert "<code>g - g * out * out</code>" in source
    assert "<code>out = a @ b</code>" in source
    (parameter,) = told["parameters"]
    for term in parameter["terms"]:
        assert f'<li data-e="{term["event"]}">{term["norm"]:.2g}<svg' in source
        assert f'<div data-e="{term["event"]}"><small>sum so far</small><br><table class="m"><tr><td' in source
    assert re.findall(r">t=(\d)</a>", source) == ["0", "1", "2"]
    assert f">{parameter['grad']['values'][3]:.4g}</table></div></div></div>" in source


def test_nothing_comes_from_outside(lstm):
    (policy,) = [a["content"] for tag, a in lstm.elements if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    for what in ("style", "script"):
        (text,) = re.findall(rf"<{what}>(.*?)</{what}>", lstm.source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{what}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not [a for _, a in lstm.elements if {"src", "style", "onclick"} & a.keys()]
    addresses = set(re.findall(r"https?://[^\"'\s<>]*", lstm.source))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<!--" not in lstm.source
    assert "<?xml" not in lstm.source


def test_an_lstm_of_twenty_steps_is_shown_whole(tmp_path):
    tg.viz.page(lstm_loss(20, 32, 1), tmp_path / "p.html")
    page = Page(tmp_path / "p.html")
    assert len(page.source.encode()) < 2_000_000
    assert [row["id"] for row in page.rows] == [f"e{k}" for k in range(len(page.rows))]
    assert re.findall(r">t=(\d+)</a>", page.source) == [str(t) for t in range(20)] * 4


def test_a_small_lstm_is_a_small_file(lstm):
    assert len(lstm.source.encode()) < 300_000


def test_a_long_sequence_shows_its_ends_and_says_so(tmp_path):
    loss = lstm_loss(100, 2, 1)
    tg.viz.page(loss, tmp_path / "p.html")
    page = Page(tmp_path / "p.html")
    told = tg.viz.events(loss)
    steps = [told["nodes"][e["node"]]["step"] for e in [*told["forward"], *told["backward"]]]
    assert [row["id"] for row in page.rows] == [f"e{k}" for k, t in enumerate(steps) if t in (None, 0, 1, 99)]
    said = f"The page would be too large: it has steps 0, 1, 99 only, {len(page.rows)} of {len(steps):,} events."
    assert said in page.source
    assert "98 steps" not in page.source
    assert "97 steps" in page.source
    assert re.findall(r">t=(\d+)</a>", page.source)[:3] == ["0", "1", "99"]
    assert {a["href"][1:] for tag, a in page.elements if tag == "a" and "href" in a} <= set(page.ids)
    assert "97 more" in page.source


def test_a_graph_without_time(tmp_path):
    w = tg.Tensor([[1.0, 2.0]], requires_grad=True, name="w")
    tg.viz.page((w * w).sum(), tmp_path / "p.HTM")
    page = Page(tmp_path / "p.HTM")
    assert len(page.rows) == 5
    assert "3 nodes: 2 forward and 3 backward events." in page.source
    assert "<h1>Forward and backward, step by step</h1>" in page.source
    assert re.findall(r">(e\d)</a>", page.source) == ["e3", "e3"]  # each use of w is a term, of no step


def test_a_gradient_can_be_given(tmp_path):
    w = tg.Tensor([1.0, 2.0], requires_grad=True, name="w")
    tg.viz.page(w * w, tmp_path / "p.html", gradient=[5.0, 7.0])
    assert re.search(r"\.grad</b><br><table[^>]*><tr><td[^>]*>10<td[^>]*>28</table>", (tmp_path / "p.html").read_text())


def test_the_same_bytes_in_every_process(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_page; import tinygrad_rnn as tg;"
        "tg.viz.page(test_page.lstm_loss(), sys.argv[1])"
    )
    for seed in ("0", "1"):
        command = [sys.executable, "-c", program, str(tmp_path / f"{seed}.html"), str(Path(__file__).parent)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    assert (tmp_path / "0.html").read_bytes() == (tmp_path / "1.html").read_bytes()


# -- bad input ---------------------------------------------------------------------------------------------------------------

NAMES = [
    "</script><script>alert(1)</script>", "<!-- ", "]]>", 'a"b', "a'b", "a\\b\\", "$title ${x}", "&amp; &lt;", "Größe 大きさ",
    "line\nbreak\t\x00", "\ud800", "x" * 5000, "%s {0}",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_is_only_text(name, tmp_path):
    tg.viz.page(elman_loss(name), tmp_path / "plain.html")
    page = Page(tmp_path / "plain.html")
    tg.viz.page(elman_loss("W"), tmp_path / "other.html")
    other = Page(tmp_path / "other.html")
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in other.elements]
    shown = re.sub(r"[\x00-\x1f\ud800]+", " ", name)
    shown = shown if len(shown) <= 48 else shown[:45] + "..."
    assert any(text.startswith(shown) for text in page.text)


def test_the_name_of_the_loss_is_only_text(tmp_path):
    loss = elman_loss().named("</title><script>")
    tg.viz.page(loss, tmp_path / "p.html")
    assert sum(tag == "script" for tag, _ in Page(tmp_path / "p.html").elements) == 1


def test_what_is_not_finite(tmp_path):
    x = tg.Tensor([0.0, -1.0, 1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        loss = np.log(x).sum()
    tg.viz.page(loss, tmp_path / "p.html")
    source = (tmp_path / "p.html").read_text()
    assert "<td class=bad>-inf<td class=bad>NaN<td>0" in source
    assert "<td class=bad>inf<td class=n4>-1<td class=p4>1" in source


def test_the_largest_and_the_smallest_numbers(tmp_path):
    w = tg.Tensor([1.5e308, -5e-324, 0.0], requires_grad=True)
    tg.viz.page((w * 1).sum(), tmp_path / "p.html")
    assert "<td class=p4>1.5e+308<td>-4.941e-324<td>0" in (tmp_path / "p.html").read_text()


def test_what_is_no_computation():
    with pytest.raises(TypeError, match=r"page: expected a Tensor, got float"):
        tg.viz.page(1.0, "p.html")
    with pytest.raises(RuntimeError, match=r"page: 'w' \(shape \(2,\), float64\) was given, not computed"):
        tg.viz.page(tg.Tensor([1.0, 2.0], requires_grad=True, name="w"), "p.html")
    with tg.no_grad(), pytest.raises(RuntimeError, match=r"page: .* does not require grad, .* outside of no_grad"):
        tg.viz.page(tg.Tensor([1.0, 2.0], requires_grad=True) * 2, "p.html")
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        tg.viz.page(tg.Tensor([1.0, 2.0], requires_grad=True) * 2, "p.html")


def test_the_name_of_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"page: 'bptt\.svg' should end in \.html"):
        tg.viz.page(elman_loss(), tmp_path / "bptt.svg")


def test_without_a_renderer_the_old_file_stays(tmp_path, monkeypatch):
    (tmp_path / "p.html").write_text("old")
    monkeypatch.setattr(drawing.shutil, "which", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match=r'neither was found: pip install "tinygrad-rnn\[viz\]"'):
        tg.viz.page(elman_loss(), tmp_path / "p.html")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("p.html", "old")]


def test_where_nothing_can_be_written_nothing_is_left(tmp_path):
    with pytest.raises(FileNotFoundError, match="make its folder first"):
        tg.viz.page(elman_loss(), tmp_path / "missing" / "p.html")
    (tmp_path / "p.html").mkdir()
    with pytest.raises(OSError, match="expected the name of a file, got a folder"):
        tg.viz.page(elman_loss(), tmp_path / "p.html")
    assert [f.name for f in tmp_path.iterdir()] == ["p.html"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "p.html").write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        tg.viz.page(elman_loss(), tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text() == "old"
