"""Plots as SVG text, written here and needing nothing installed: a scale of powers of ten, its colours, and the Plot.

All is drawn on no background, in colours that can be read on white and on black.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..checkpoint.files import replacing
from ..ops import Array
from .drawing import path_of
from .styles import GREY, RED, cividis, clean

COLOURS = ["#{:02x}{:02x}{:02x}".format(*cividis(i / 255)) for i in range(256)]


class Scale(NamedTuple):
    """A logarithmic scale, between two powers of ten."""

    low: int
    high: int

    def share(self, exponent: float) -> float:
        """How far up the scale a power of ten is: 0 at its bottom, 1 at its top."""
        return (exponent - self.low) / (self.high - self.low)

    def ticks(self) -> list[int]:
        """The exponents to print, eight at most."""
        step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if (self.high - self.low) // s < 8)
        return [n for n in range(self.low, self.high + 1) if n % step == 0]


def scale_of(arrays: Iterable[Array]) -> Scale:
    """The scale on which all positive numbers among these have a place."""
    logs = [np.log10(a[(a > 0) & np.isfinite(a)]) for a in arrays]
    found = np.concatenate([*logs, [0.0]] if not any(map(len, logs)) else logs)
    low, high = math.floor(found.min()), math.ceil(found.max())
    return Scale(low - (low == high), high)


def fill_of(value: float, scale: Scale) -> str:
    """The colour of a number; "zero", "nan" or "inf" if it has no place on a logarithmic scale."""
    if math.isnan(value):
        return "nan"
    return "inf" if math.isinf(value) else "zero" if value == 0 else COLOURS[round(255 * scale.share(math.log10(value)))]


EDGES = {"zero": ("exactly 0", 0, "v"), "inf": ("infinite", 1, "^"), "nan": ("NaN", 1, "x")}


def edges(values: Array) -> list[tuple[Array, str, int, str]]:
    """Which numbers have no place on the scale; what they are, marked at its bottom or its top, and with which marker."""
    found = {"zero": values == 0, "inf": np.isposinf(values), "nan": np.isnan(values)}
    return [(where, *EDGES[kind]) for kind, where in found.items() if where.any()]


def on_scale(values: Array) -> tuple[Array, Array, Array]:
    """Which numbers have a place on a logarithmic scale, and for which the one before does, and the one after."""
    drawn = (values > 0) & np.isfinite(values)
    return drawn, np.append(False, drawn[:-1]), np.append(drawn[1:], False)


def counts(length: int, room: int = 10) -> range:
    """The steps to print below an axis of that many: every one, second, fifth, tenth ..., at most `room` of them."""
    steps = (digit * 10**power for power in range(20) for digit in (1, 2, 5))
    return range(0, length, next(step for step in steps if length <= step * room))


def cell_size(count: int, room: float) -> float:
    """How wide to draw each of so many cells: whole pixels, unless they are too many for that."""
    return max(1, round(room / count)) if count <= 2 * room else 2 * room / count


class Plot:
    """A picture of numbers, `svg` as text. It shows itself in a notebook, and saves itself."""

    def __init__(self, what: str, width: float, height: float, body: Sequence[str]) -> None:
        self.what = what
        size = f'width="{fixed(width)}" height="{fixed(height)}" viewBox="0 0 {fixed(width)} {fixed(height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="Arial" font-size="11" fill="{GREY}">'
        self.svg = "\n".join([head, f"<title>{clean(what)}</title>", *body, "</svg>\n"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file whose name ends in .svg. All or nothing."""
        path = path_of("save", path)
        if path.suffix.lower() != ".svg":
            raise ValueError(
                f"save: {path.name!r} should end in .svg. For other formats draw into matplotlib's axes, with ax="
            )
        with replacing(path) as file:
            file.write(self.svg.encode())

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f'<Plot of {self.what}: .save("plot.svg"), .svg>'


# -- the parts of a picture --------------------------------------------------------------------------------------------------


def fixed(x: float) -> str:
    """A coordinate, to a hundredth."""
    return f"{x:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """A line of text; x is where it starts, its "middle" or its "end"."""
    return f'<text x="{fixed(x)}" y="{fixed(y)}" text-anchor="{anchor}">{clean(words)}</text>'


def path(d: str, style: str) -> str:
    """A path, with its style."""
    return f'<path d="{d}" {style}/>'


def frame(x: float, y: float, width: float, height: float) -> str:
    """The thin border of a panel."""
    return path(f"M{fixed(x)} {fixed(y)}h{fixed(width)}v{fixed(height)}h{fixed(-width)}z", f'fill="none" stroke="{GREY}"')


def line(values: Array, x: Array, top: float, height: float, scale: Scale) -> str:
    """The path through the numbers, with gaps where they have no place; one that stands alone is a dot."""
    d = ""
    drawn, before, after = on_scale(values)
    for t in np.flatnonzero(drawn):
        y = top + height * (1 - scale.share(np.log10(values[t])))
        d += f"{'L' if before[t] else 'M'}{fixed(x[t])} {fixed(y)}"
        d += "" if before[t] or after[t] else "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0"
    return d


def marks(values: Array, x: Array, top: float, height: float) -> str:
    """A triangle on the bottom for an exact zero, one at the top for what is infinite, a cross for NaN."""
    shapes = {"v": "m-4 -7h8l-4 7z", "^": "m-4 7h8l-4 -7z", "x": "m-3 0l6 6m0 -6l-6 6"}
    found = [(t, top + height * (1 - share), shapes[mark]) for at, _, share, mark in edges(values) for t in np.flatnonzero(at)]
    return "".join(f"M{fixed(x[t])} {fixed(y)}{shape}" for t, y, shape in found)


def cells(boxes: Iterable[tuple[float, float, str]], width: float, height: float) -> list[str]:
    """Boxes of a heat map, given by their left upper corners and what `fill_of` says: a path for each colour."""
    of: dict[str, list[tuple[float, float]]] = {}
    for x, y, fill in boxes:
        of.setdefault(fill, []).append((x, y))
    lines = []
    for fill, corners in of.items():
        d = "".join(f"M{fixed(x)} {fixed(y)}h{fixed(width)}v{fixed(height)}h{fixed(-width)}z" for x, y in corners)
        colour = {"zero": "#ffffff", "nan": "#ffffff", "inf": RED}.get(fill, fill)
        lines.append(path(d, f'fill="{colour}" shape-rendering="crispEdges"'))
        if colour == "#ffffff":
            dx, dy = width / 4, height / 4
            d = "".join(stroke(fill, x + 2 * dx, y + 2 * dy, min(dx, dy)) for x, y in corners)
            lines.append(path(d, f'fill="none" stroke="{RED if fill == "nan" else GREY}"'))
    return lines


def stroke(fill: str, x: float, y: float, r: float) -> str:
    """What is written in a white box: / for an exact zero, x for NaN."""
    slash = f"M{fixed(x - r)} {fixed(y + r)}l{fixed(2 * r)} {fixed(-2 * r)}"
    return slash if fill == "zero" else f"{slash}M{fixed(x - r)} {fixed(y - r)}l{fixed(2 * r)} {fixed(2 * r)}"


def colour_bar(x: float, y: float, height: float, scale: Scale) -> list[str]:
    """The scale in its colours, with its powers of ten on the left."""
    n = 60
    lines = [
        f'<rect x="{fixed(x)}" y="{fixed(y + height * (n - 1 - i) / n)}" width="8" height="{fixed(height / n + 0.5)}" '
        f'fill="{COLOURS[255 * i // (n - 1)]}"/>'
        for i in range(n)
    ]
    return lines + [text(x - 5, y + height * (1 - scale.share(p)) + 4, f"1e{p}", "end") for p in scale.ticks()]


def keys(x: float, y: float, fills: Iterable[str]) -> list[str]:
    """What stands for numbers that have no place on the scale, where there are any; the line ends at x."""
    lines: list[str] = []
    for fill, width in (("inf", 38), ("nan", 23), ("zero", 48)):
        if fill in fills:
            x, words = x - width, EDGES[fill][0]
            lines += [*cells([(x - 18, y - 10, fill)], 14, 12), frame(x - 18, y - 10, 14, 12), text(x, y, words)]
            x -= 32
    return lines
