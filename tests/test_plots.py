"""Plots of gradient flow: what is drawn is read back from the SVG by its own axes, and compared with the numbers given."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import flow
from tinygrad_rnn.viz import Plot, plot_gradient_flow, plot_jacobians
from tinygrad_rnn.viz.svg import COLOURS

SVG = "{http://www.w3.org/2000/svg}"
ODD = np.array([0, 0, 1e-5, np.nan, 1e-3, 1e-2, 0, 2e-1, np.inf, 1])


class Picture:
    """A plot, read by someone who has only the SVG."""

    def __init__(self, plot: Plot) -> None:
        self.root = ET.fromstring(plot.svg)
        self.groups = {g[0].text: g for g in self.root.iter(f"{SVG}g")}
        self.texts = [(t.text, float(t.get("x", "")), float(t.get("y", ""))) for t in self.root.iter(f"{SVG}text")]

    def words(self) -> list[str | None]:
        return [words for words, _, _ in self.texts]

    def tens(self) -> tuple[Any, Any]:
        """The printed powers of ten, and the heights that they stand at."""
        found = [(float(words[2:]), y - 4) for words, _, y in self.texts if words and re.fullmatch(r"1e-?\d+", words)]
        powers, heights = zip(*sorted(found), strict=True)
        return powers, heights

    def value_at(self, y: float) -> float:
        powers, heights = self.tens()
        slope = (powers[-1] - powers[0]) / (heights[-1] - heights[0])
        return float(10 ** (powers[0] + (y - heights[0]) * slope))

    def step_at(self, x: float) -> float:
        found = [(float(words), at) for words, at, _ in self.texts if words and words.isdigit()]
        (a, left), (b, right) = found[0], found[-1]
        return a + (x - left) * (b - a) / (right - left)

    def points(self, name: str) -> list[tuple[float, float]]:
        """The (step, number) of each point on a line."""
        path = self.groups[name].findall(f"{SVG}path")[0].get("d", "")
        pairs = re.findall(r"[ML]([\d.]+) ([\d.]+)", path)
        return [(self.step_at(float(x)), self.value_at(float(y))) for x, y in pairs]

    def fills(self, name: str) -> dict[tuple[float, float], str]:
        """The colour of each box, by its left upper corner."""
        found = {}
        for path in self.groups[name].findall(f"{SVG}path"):
            if path.get("shape-rendering"):
                for x, y in re.findall(r"M([\d.]+) ([\d.]+)", path.get("d", "")):
                    found[float(x), float(y)] = path.get("fill", "")
        return found


def test_lines_go_through_the_numbers() -> None:
    values = {"a": np.logspace(-7, -1, 12), "b": np.linspace(0.3, 0.004, 12)}
    picture = Picture(plot_gradient_flow(values))
    for name, numbers in values.items():
        steps, shown = zip(*picture.points(name), strict=True)
        np.testing.assert_allclose(steps, range(12), atol=0.01)
        np.testing.assert_allclose(shown, numbers, rtol=0.01)
        path = picture.groups[name].findall(f"{SVG}path")[0].get("d", "")
        assert re.sub("[^ML]", "", path) == "M" + 11 * "L"
        left, right = (box for box, _ in sorted(picture.fills(name))[:2])
        assert picture.step_at((left + right) / 2) == pytest.approx(0)  # a point is above the middle of its box
    assert "time step t" in picture.words()
    assert "norm of dL/dh[t], h the state" in picture.words()


def test_strips_have_the_colours_of_the_numbers() -> None:
    """From the lowest power of ten to the highest: the darkest colour, that in the middle, the brightest."""
    fills = Picture(plot_gradient_flow({"a": np.array([1e-6, 1e-3, 1.0, 1e-4])})).fills("a")
    shown = [fills[corner] for corner in sorted(fills)]
    assert [shown[0], shown[2]] == ["#00224e", "#fee838"]
    assert shown[1] == COLOURS[128]
    assert shown[3] == COLOURS[85]


def test_the_colours_are_those_of_cividis() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    true = np.array(matplotlib.colormaps["cividis"].colors) * 255
    ours = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS])
    assert np.abs(ours - true).max() < 11


def test_several_models_are_on_one_scale() -> None:
    one, two = np.array([1e-8, 1e-6, 1e-4]), np.array([1e-2, 1e-1, 1.0])
    both = Picture(plot_gradient_flow({"RNN": {"RNN.l0.h": one}, "LSTM": {"LSTM.l0.c": two, "LSTM.l0.h": one}}))
    assert list(both.groups) == ["RNN: RNN.l0.h", "LSTM: LSTM.l0.c", "LSTM: LSTM.l0.h"]
    assert {"RNN", "LSTM: c", "LSTM: h"} <= set(both.words())
    np.testing.assert_allclose([v for _, v in both.points("RNN: RNN.l0.h")], one, rtol=0.01)
    assert [fill for _, fill in sorted(both.fills("LSTM: LSTM.l0.h").items())] == [
        fill for _, fill in sorted(both.fills("RNN: RNN.l0.h").items())
    ]
    lines = [both.groups[name].findall(f"{SVG}path")[0] for name in both.groups]
    assert lines[1].get("stroke") == lines[2].get("stroke") != lines[0].get("stroke")
    assert lines[1].get("stroke-dasharray") != lines[2].get("stroke-dasharray")


def test_many_models_look_different() -> None:
    picture = Picture(plot_gradient_flow({str(i): np.ones(3) for i in range(20)}))
    lines = [g.findall(f"{SVG}path")[0] for g in picture.groups.values()]
    assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}) == 20


def test_many_states_of_one_model_look_different() -> None:
    states = {"deep": {f"l{i}.{h}": np.ones(3) for i in range(4) for h in "ch"}, "flat": {"h": np.ones(3)}}
    lines = [g.findall(f"{SVG}path")[0] for g in Picture(plot_gradient_flow(states)).groups.values()]
    assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}) == 9
    assert lines[8].get("stroke") not in {line.get("stroke") for line in lines[:8]}


def test_a_loss_stands_for_its_norms() -> None:
    layer = tg.nn.LSTM(2, 3, dtype=np.float64)
    loss = (layer(np.random.default_rng(0).normal(size=(5, 2, 2)))[0] ** 2).sum()
    assert plot_gradient_flow(loss).svg == plot_gradient_flow(flow.norms(loss)).svg
    assert plot_gradient_flow({"A": loss}).svg == plot_gradient_flow({"A": flow.norms(loss)}).svg


def test_numbers_off_the_scale_are_shown_as_what_they_are() -> None:
    picture = Picture(plot_gradient_flow({"odd": ODD}))
    path, marks = (path.get("d", "") for path in picture.groups["odd"].findall(f"{SVG}path")[:2])
    assert [(round(step), pytest.approx(value, rel=0.01)) for step, value in picture.points("odd")] == [
        (2, 1e-5), (4, 1e-3), (5, 1e-2), (7, 2e-1), (9, 1),
    ]  # fmt: skip
    assert re.sub(r"[^MLa]", "", path) == "MaaMLMaaMaa"  # alone, two in a row, alone, alone
    kinds = {"m-4 -7h8l-4 7z": "zero", "m-4 7h8l-4 -7z": "inf", "m-3 0l6 6m0 -6l-6 6": "nan"}
    found = {round(picture.step_at(float(x))): kinds[shape] for x, shape in re.findall(r"M([\d.]+) [\d.]+(m[^M]*)", marks)}
    assert found == {0: "zero", 1: "zero", 6: "zero", 3: "nan", 8: "inf"}
    fills = [fill for _, fill in sorted(picture.fills("odd").items())]
    assert [t for t in range(10) if fills[t] == "#ffffff"] == [0, 1, 3, 6]
    assert fills[8] == "#D55E00"
    assert {"exactly 0", "NaN", "infinite"} <= set(picture.words())
    assert not {"exactly 0", "NaN", "infinite"} & set(Picture(plot_gradient_flow(np.ones(3))).words())


@pytest.mark.parametrize(
    "values",
    [np.zeros(4), np.full(3, np.nan), np.ones(1), [1, 2], np.full(3, 5e-324), np.array([1e-300, 1e300]), [np.inf, -0.0]],
)
def test_odd_scales(values: Any) -> None:
    picture = Picture(plot_gradient_flow(values))
    powers, heights = picture.tens()
    assert 1 <= len(powers) <= 9
    assert len(picture.fills(None)) == len(values)  # type: ignore[arg-type]
    assert all(25 < y < 215 for y in heights)


def test_float32_and_long_sequences() -> None:
    values = np.geomspace(1e-30, 1, 3000).astype(np.float32)
    picture = Picture(plot_gradient_flow({"a": values}))
    np.testing.assert_allclose(np.log10([v for _, v in picture.points("a")]), np.log10(values), atol=0.01)
    assert float(picture.root.get("width", "")) < 1300


def test_names_are_escaped_and_shortened() -> None:
    name = 'A<b>&"' + "x" * 100 + "\x00"
    picture = Picture(plot_gradient_flow({name: np.ones(2)}))
    words = [w for w in picture.words() if w and w.startswith('A<b>&"')]
    assert [len(w) for w in words] == [48]
    assert float(picture.root.get("width", "")) < 1000


@pytest.mark.parametrize(
    ("norms", "error", "match"),
    [
        ({}, ValueError, r"plot_gradient_flow: nothing to plot in \{\}"),
        ({"RNN": np.ones(2), "LSTM": {}}, ValueError, "nothing to plot in .*'LSTM': {}"),
        ({"a": np.ones(2), "b": np.ones(3)}, ValueError, "equally many time steps, got 'a' 2, 'b' 3. Compare models on"),
        (
            {"a": np.ones((2, 2))},
            ValueError,
            r"'a' should be the norm at each time step, an array \(T,\).*\(2, 2\).*flow\.norms",
        ),
        ([], ValueError, r"plot_gradient_flow: the argument should be .* got shape \(0,\)\."),
        ({"a": np.ones(0)}, ValueError, r"'a' should be .* got shape \(0,\)\."),
        ({"a": np.array([1, -2.5])}, ValueError, r"without negative numbers, got shape \(2,\), least -2\.5"),
        ({"a": "b"}, TypeError, "'a' should be an array of numbers that tg.flow measured, got a str"),
        ({"a": flow.StateJacobians(np.ones((1, 1, 1, 1)), (1,))}, TypeError, "'a' should be an array .*got a StateJacobians"),
        (tg.Tensor(1.0, requires_grad=True), ValueError, "no time steps in the graph"),
    ],
)
def test_what_cannot_be_plotted(norms: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        plot_gradient_flow(norms)


# -- Jacobians ---------------------------------------------------------------------------------------------------------------


def test_maps_have_the_colours_of_the_numbers() -> None:
    """Row t counts from above and column k from the left; above the diagonal there is nothing."""
    length = 7
    t, k = np.indices((length, length))
    values = np.where(t >= k, 10.0 ** -(t - k), 0)
    picture = Picture(plot_jacobians({"powers": values}))
    fills = picture.fills("powers")
    assert len(fills) == length * (length + 1) // 2
    xs, ys = (sorted({corner[axis] for corner in fills}) for axis in (0, 1))
    for (x, y), fill in fills.items():
        lag = ys.index(y) - xs.index(x)
        assert fill == COLOURS[round(255 * (1 - lag / 6))]
    assert picture.tens()[0] == (-6, -5, -4, -3, -2, -1, 0)
    assert "exactly 0" not in picture.words()


def test_jacobians_of_layers_are_their_norms_over_the_batch() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    tg.manual_seed(0)
    found = flow.jacobians(tg.nn.GRU(2, 3, num_layers=2, dtype=np.float64), x)
    maps = {f"GRU.{name}": np.mean([found[name].map()[..., i] for i in range(3)], axis=0) for name in found}
    picture, plain = Picture(plot_jacobians({"GRU": found})), Picture(plot_jacobians(maps))
    assert list(picture.groups) == ["GRU: l0", "GRU: l1"]
    for one, other in zip(picture.groups, plain.groups, strict=True):
        assert picture.fills(str(one)) == plain.fills(str(other))
    alone = plot_jacobians(found["l0"])
    assert list(Picture(alone).groups) == [None]
    assert len(Picture(plot_jacobians(found)).groups) == 2
    other = plot_jacobians({"l0": found["l0"].map("radius")})
    assert Picture(other).fills("l0") != Picture(plot_jacobians({"l0": found["l0"]})).fills("l0")


def test_maps_show_zeros_nan_and_infinity_below_the_diagonal_alone() -> None:
    values = np.eye(3)
    values[2, 1], values[2, 0] = np.nan, np.inf
    values[0, 2] = 1e9  # above: not read
    picture = Picture(plot_jacobians({"a": values}))
    assert sorted(picture.fills("a").values()) == sorted(["#fee838"] * 3 + ["#ffffff"] * 2 + ["#D55E00"])
    assert {"exactly 0", "NaN", "infinite"} <= set(picture.words())
    assert max(picture.tens()[0]) == 0


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_maps_do_not_overlap(count: int) -> None:
    picture = Picture(plot_jacobians({f"map {i}": np.ones((3 + i, 3 + i)) for i in range(count)}))
    boxes = []
    for name in picture.groups:
        xs, ys = zip(*picture.fills(str(name)), strict=True)
        boxes.append((min(xs), max(xs), min(ys), max(ys)))
    for i, (left, right, top, bottom) in enumerate(boxes):
        assert right < float(picture.root.get("width", ""))
        assert bottom < float(picture.root.get("height", ""))
        assert all(right < a or b < left or bottom < c or d < top for a, b, c, d in boxes[:i])


@pytest.mark.parametrize(
    ("maps", "error", "match"),
    [
        ({}, ValueError, r"plot_jacobians: nothing to plot in \{\}"),
        ({"a": np.ones((2, 3))}, ValueError, r"'a' should be norms or radii, an array \(T\+1, T\+1\).*got shape \(2, 3\)"),
        ({"a": np.ones((2, 2, 1, 4))}, ValueError, r"got shape \(2, 2, 1, 4\), least 1\. Write plot_jacobians"),
        ({"a": -np.eye(2)}, ValueError, "without negative numbers, got .*least -1"),
        ({"a": np.ones((0, 0))}, ValueError, r"got shape \(0, 0\)"),
        ({"a": "b"}, TypeError, "'a' should be an array of numbers that tg.flow measured, got a str"),
    ],
)
def test_what_cannot_be_a_map(maps: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        plot_jacobians(maps)


# -- the Plot ----------------------------------------------------------------------------------------------------------------


def test_saving(tmp_path: Any) -> None:
    plot = plot_gradient_flow({"a": ODD})
    plot.save(tmp_path / "a.SVG")
    plot.save(str(tmp_path / "b.svg"))
    assert (tmp_path / "a.SVG").read_text() == (tmp_path / "b.svg").read_text() == plot.svg == plot._repr_svg_()
    assert repr(plot) == '<Plot of gradient norms of 1 state over 10 time steps: .save("plot.svg"), .svg>'
    assert repr(plot_jacobians(np.eye(2))) == '<Plot of state Jacobians, 1 map: .save("plot.svg"), .svg>'
    with pytest.raises(ValueError, match=r"save: 'a\.png' should end in \.svg.*with ax="):
        plot.save(tmp_path / "a.png")
    with pytest.raises(OSError, match="make its folder first"):
        plot.save(tmp_path / "missing" / "a.svg")


def test_a_failed_save_leaves_the_old_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.svg"
    path.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        plot_gradient_flow(np.ones(2)).save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_bytes_in_every_process() -> None:
    code = (
        "import numpy as np, tinygrad_rnn as tg\n"
        "values = {name: np.geomspace(10.0**-i, 1, 9) for i, name in enumerate('abcdefg', 1)}\n"
        "print(tg.viz.plot_gradient_flow(values).svg)\n"
        "print(tg.viz.plot_jacobians({name: np.outer(v, v) for name, v in values.items()}).svg)\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert b"<svg" in texts.pop()


# -- matplotlib --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def axes() -> Any:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots(1, 2)
    yield axes
    figure.canvas.draw()
    plt.close(figure)


def test_lines_in_matplotlib(axes: Any) -> None:
    assert plot_gradient_flow({"odd": ODD, "A": {"h": np.ones(10), "c": np.ones(10)}}, ax=axes[0]) is None
    (ax, _), (first, *_) = axes, axes[0].lines
    shown = np.array(first.get_ydata(), float)
    np.testing.assert_array_equal(shown, np.where((ODD > 0) & np.isfinite(ODD), ODD, np.nan))
    marked = {line.get_marker(): [int(t) for t in line.get_xdata()] for line in ax.lines if len(line.get_xdata())}
    assert {"v": [0, 1, 6], "^": [8], "x": [3], ".": [2, 7, 9]}.items() <= marked.items()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["odd", "A: h", "A: c"]
    assert (ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "time step t", "norm of dL/dh[t]")


def test_maps_in_matplotlib(axes: Any) -> None:
    values = np.tril(np.full((3, 3), 0.1))
    values[2, 0] = 0
    plot_jacobians({"a": values, "b": np.eye(3) * 1e-3}, ax=axes)
    shown = axes[0].images[0].get_array()
    assert shown.mask.tolist() == [[False, True, True], [False, False, True], [True, False, False]]
    assert [ax.images[0].get_clim() for ax in axes] == [(1e-3, 0.1)] * 2
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes[0].lines] == [(0, 2)]
    assert math.isclose(shown[1, 0], 0.1)


def test_what_are_not_axes(axes: Any) -> None:
    with pytest.raises(TypeError, match=r"plot_gradient_flow: ax should be axes of matplotlib .*got a str"):
        plot_gradient_flow(np.ones(2), ax="left")
    with pytest.raises(TypeError, match="got a ndarray"):
        plot_gradient_flow(np.ones(2), ax=axes)
    with pytest.raises(ValueError, match=r"plot_jacobians: expected axes for 1 map, got 2: plt\.subplots\(1, 1\)"):
        plot_jacobians(np.eye(2), ax=axes)
    with pytest.raises(TypeError, match="plot_jacobians: ax should be axes"):
        plot_jacobians(np.eye(2), ax=3)


@pytest.mark.parametrize("number", [5e-324, 1.7e308])
def test_the_smallest_and_the_largest_numbers_in_matplotlib(axes: Any, number: float) -> None:
    plot_jacobians([[number]], ax=axes[0])
    low, high = axes[0].images[0].get_clim()
    assert 0 < low < high < np.inf


def test_one_time_step_has_no_flow() -> None:
    layer = tg.nn.RNN(2, 3)
    with pytest.raises(ValueError, match="nothing to plot in a graph where no state goes from a time step to another"):
        plot_gradient_flow(layer(np.ones((1, 1, 2), np.float32))[0].sum())
