"""How gradients vanish, as plots of what `tg.flow` measures: SVG by themselves, or drawn into matplotlib's axes.

    plot_gradient_flow({"RNN": flow.norms(loss), "LSTM": flow.norms(other)})     the norm of dL/dh_t at each step t
    plot_jacobians({"RNN": flow.jacobians(rnn, x), "LSTM": ...})                 the norm of dh_t/dh_k for each t and k

All numbers of a plot are on one logarithmic scale. What has no place on it is shown as what it is: 0, infinite or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple, overload

import numpy as np

from .. import flow
from ..ops import Array
from ..tensor import Tensor
from . import svg
from .drawing import plural
from .styles import GREY, LONGEST, clean
from .svg import Plot, Scale

LINES = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # for each model (Okabe & Ito 2008)
DASHES = ["", "6 3", "2 2", "8 2 2 2"]  # for each state of a model; of more than four, the fifth begins another colour
NORM, PRODUCT = "norm of dL/dh[t]", "ds[t]/ds[k]"


class Series(NamedTuple):
    """The numbers of one state of one model."""

    label: str
    name: str  # in full
    color: int
    dash: int
    values: Array


# -- dL/dh_t -----------------------------------------------------------------------------------------------------------------


@overload
def plot_gradient_flow(norms: Any, ax: None = None) -> Plot: ...
@overload
def plot_gradient_flow(norms: Any, ax: Any) -> None: ...
def plot_gradient_flow(norms: Any, ax: Any = None) -> Plot | None:
    """The norm of dL/dh_t at every time step t, a line and a strip of colours for each state.

    norms: what `tg.flow.norms(loss)` returns, or the loss itself; or several to compare, {"RNN": ..., "LSTM": ...}, over
        equally many steps.
    ax: axes of matplotlib, to draw the lines into; without them the result is a Plot.
    """
    series = read("plot_gradient_flow", norms, Tensor, flow.norms, check_norms)
    lengths = {one.label: len(one.values) for one in series}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "plot_gradient_flow: expected equally many time steps, got "
            f"{', '.join(f'{k!r} {n}' for k, n in lengths.items())}. Compare models on sequences of one length"
        )
    if ax is None:
        return flow_plot(series)
    check_axes("plot_gradient_flow", ax)
    for one in series:
        t, (color, dash) = np.arange(len(one.values)), look(one)
        drawn, before, after = svg.on_scale(one.values)
        style = (0, tuple(map(int, dash.split()))) if dash else "-"
        ax.plot(t, np.where(drawn, one.values, np.nan), color=color, label=one.label, linestyle=style)
        alone = drawn & ~before & ~after
        ax.plot(t[alone], one.values[alone], ".", color=color)
        for where, _, height, marker in svg.edges(one.values):
            at = ax.get_xaxis_transform()  # x in steps, y as a share of the height
            ax.plot(t[where], np.full(where.sum(), height), marker, color=color, fillstyle="none", transform=at, clip_on=False)
    ax.set(yscale="log", xlabel="time step t", ylabel=NORM)
    if any(one.label for one in series):
        ax.legend()
    return None


def look(one: Series) -> tuple[str, str]:
    """The colour and the dashes of a line."""
    return LINES[one.color % len(LINES)], DASHES[(one.dash + one.color // len(LINES)) % len(DASHES)]


def flow_plot(series: Sequence[Series]) -> Plot:
    """The lines, below them the strips; both have the same time axis."""
    steps = len(series[0].values)
    scale = svg.scale_of(one.values for one in series)
    cell = svg.cell_size(steps, 520)
    left = 55 + 6.2 * max(9, *(min(len(one.label), LONGEST) for one in series))
    width, height, top, row = steps * cell, 180, 28, 14
    middle = left + (np.arange(steps) + 0.5) * cell

    body = [svg.text(left, 14, f"{NORM}, h the state"), *svg.colour_bar(left - 14, top, height, scale)]
    for power in scale.ticks():
        y = top + height * (1 - scale.share(power))
        body.append(svg.path(f"M{svg.fixed(left)} {svg.fixed(y)}h{svg.fixed(width)}", f'stroke="{GREY}" stroke-opacity="0.3"'))
    body.append(svg.frame(left, top, width, height))
    fills: list[str] = []
    for i, one in enumerate(series):
        colour, dash = look(one)
        plain = f'fill="none" stroke="{colour}" stroke-width="2"'
        dashed = f'{plain} stroke-dasharray="{dash}"' if dash else plain
        y = top + height + 12 + i * (row + 4)
        here = [svg.fill_of(value, scale) for value in one.values.tolist()]
        body += [
            f"<g><title>{clean(one.name)}</title>",
            svg.path(svg.line(one.values, middle, top, height, scale), dashed),
            svg.path(svg.marks(one.values, middle, top, height), plain),
            svg.path(f"M{svg.fixed(left - 34)} {svg.fixed(y + row / 2)}h26", dashed),
            svg.text(left - 40, y + 11, one.label, "end"),
            *svg.cells([(left + t * cell, y, fill) for t, fill in enumerate(here)], cell, row),
            svg.frame(left, y, width, row),
            "</g>",
        ]
        fills += here
    bottom = top + height + 12 + len(series) * (row + 4)
    body += [svg.text(middle[t], bottom + 10, str(t), "middle") for t in svg.counts(steps)]
    body += [svg.text(left + width / 2, bottom + 26, "time step t", "middle"), *svg.keys(left + width, 14, fills)]
    what = f"gradient norms of {plural(len(series), 'state')} over {plural(steps, 'time step')}"
    return Plot(what, left + width + 12, bottom + 34, body)


# -- dh_t/dh_k ---------------------------------------------------------------------------------------------------------------


@overload
def plot_jacobians(jacobians: Any, ax: None = None) -> Plot: ...
@overload
def plot_jacobians(jacobians: Any, ax: Any) -> None: ...
def plot_jacobians(jacobians: Any, ax: Any = None) -> Plot | None:
    """How strongly each state depends on each earlier one: dh_t/dh_k in row t and column k, the mean over the batch.

    jacobians: what `tg.flow.jacobians(layer, x)` returns, of which the norms are shown; or several to compare,
        {"RNN": ..., "LSTM": ...}. For another measure, or one member of the state, what `map` returns:
        {"dc/dc": flow.jacobians(lstm, x)["l0"].map("radius", member=1)}.
    ax: axes of matplotlib, one for each map, to draw into; without them the result is a Plot.
    """
    maps = read("plot_jacobians", jacobians, flow.StateJacobians, lambda given: given.map(), check_map)
    scale = svg.scale_of(one.values[np.tri(len(one.values), dtype=bool)] for one in maps)
    if ax is None:
        return jacobians_plot(maps, scale)
    axes = np.ravel(ax)
    if len(axes) != len(maps):
        raise ValueError(
            f"plot_jacobians: expected axes for {plural(len(maps), 'map')}, got {len(axes)}: plt.subplots(1, {len(maps)})"
        )
    for one, each in zip(maps, axes, strict=True):
        check_axes("plot_jacobians", each)
        past = np.tri(len(one.values), dtype=bool)
        shown = np.ma.masked_where(~past | ~(one.values > 0) | np.isinf(one.values), one.values)
        limits = {"vmin": 10.0 ** np.clip(scale.low, -280, 279), "vmax": 10.0 ** np.clip(scale.high, -279, 280)}
        image = each.imshow(shown, cmap="cividis", norm="log", **limits)
        for where, words, _, marker in svg.edges(np.where(past, one.values, 1)):
            t, k = np.nonzero(where)
            each.plot(k, t, marker, color=GREY, fillstyle="none", label=words)
            each.legend()
        each.figure.colorbar(image, ax=each, label=PRODUCT)
        each.set(title=one.label, xlabel="k", ylabel="t")
    return None


def jacobians_plot(maps: Sequence[Series], scale: Scale) -> Plot:
    """Lower triangles side by side, up to four in a row, and the colours on the left."""
    rows = -(-len(maps) // 4)
    columns = -(-len(maps) // rows)
    sizes = [svg.cell_size(len(one.values), 160) for one in maps]
    side = max(len(one.values) * size for one, size in zip(maps, sizes, strict=True))
    left, top, across, down = 90, 50, side + 46, side + 64
    body, fills = [svg.text(14, 14, f"{PRODUCT} of the state s, batch mean"), *svg.colour_bar(40, top, side, scale)], []
    for i, (one, size) in enumerate(zip(maps, sizes, strict=True)):
        n = len(one.values)
        x, y, width = left + i % columns * across, top + i // columns * down, n * size
        here = [(k, t, svg.fill_of(one.values[t, k].item(), scale)) for t in range(n) for k in range(t + 1)]
        body += [
            f"<g><title>{clean(one.name)}</title>",
            svg.text(x, y - 8, one.label),
            *svg.cells([(x + k * size, y + t * size, fill) for k, t, fill in here], size, size),
            svg.frame(x, y, width, width),
            "</g>",
            svg.text(x - 24, y + width / 2 + 4, "t", "end"),
            svg.text(x + width / 2, y + width + 27, "k", "middle"),
        ]
        for t in svg.counts(n, 8):
            at = (t + 0.5) * size
            body += [svg.text(x - 4, y + at + 4, str(t), "end"), svg.text(x + at, y + width + 13, str(t), "middle")]
        fills += [fill for _, _, fill in here]
    width, height = left + columns * across - 30, top + rows * down - 8
    body += svg.keys(width - 16, height - 10, fills)
    return Plot(f"state Jacobians, {plural(len(maps), 'map')}", width, height, body)


# -- what is given -----------------------------------------------------------------------------------------------------------


def read(who: str, given: Any, kind: type, measure: Callable[[Any], Any], check: Callable[[str, Any], Array]) -> list[Series]:
    """All that is to be plotted: given as one, or by name, or by model and name."""

    def measured(what: Any) -> Any:
        return measure(what) if isinstance(what, kind) else what

    def by_name(what: Any) -> Mapping[Any, Any]:
        what = measured(what)
        if isinstance(what, Mapping) and not what:
            told = "a graph where no state goes from a time step to another" if isinstance(given, kind) else repr(given)
            raise ValueError(f"{who}: nothing to plot in {told}")
        return what if isinstance(what, Mapping) else {"": what}

    found: list[Series] = []
    for model, states in by_name(given).items():
        states = by_name(states)
        color = found[-1].color + 1 if found else 0
        for i, (name, short) in enumerate(zip(states, shortened(states), strict=True)):
            label, full = (": ".join(filter(None, (str(model), words))) for words in (short, str(name)))
            values = check(f"{who}: {repr(label) if label else 'the argument'}", measured(states[name]))
            found.append(Series(label, full, color + i // len(DASHES), i, values))
    return found


def shortened(names: Mapping[Any, Any]) -> list[str]:
    """The names without the path that all of them share; nothing is left of a name that is alone."""
    paths = [str(name).split(".") for name in names]
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
    return [".".join(path[shared:]) for path in paths]


def check_norms(who: str, given: Any) -> Array:
    values = numbers(who, given)
    if values.ndim != 1 or not values.size or (values < 0).any():
        raise ValueError(
            f"{who} should be the norm at each time step, an array (T,) without negative numbers, got {described(values)}. "
            "Write plot_gradient_flow(tg.flow.norms(loss))"
        )
    return values


def check_map(who: str, given: Any) -> Array:
    values = numbers(who, given)
    if values.ndim not in (2, 3) or values.shape[0] != values.shape[1] or not values.size or (values < 0).any():
        raise ValueError(
            f"{who} should be norms or radii, an array (T+1, T+1) or (T+1, T+1, N) without negative numbers, got "
            f"{described(values)}. Write plot_jacobians(tg.flow.jacobians(layer, x))"
        )
    return values if values.ndim == 2 else values.mean(axis=2)


def numbers(who: str, given: Any) -> Array:
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{who} should be an array of numbers that tg.flow measured, got a {type(given).__name__}") from None


def described(values: Array) -> str:
    return f"shape {values.shape}, least {values.min():.3g}" if values.size else f"shape {values.shape}"


def check_axes(who: str, ax: Any) -> None:
    if not hasattr(ax, "get_xaxis_transform"):
        raise TypeError(f"{who}: ax should be axes of matplotlib (fig, ax = plt.subplots()), got a {type(ax).__name__}")
