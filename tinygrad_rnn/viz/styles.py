"""How boxes look: their colours, words and tooltips, the colours of gradients and their legend. All as DOT attributes."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from .labels import shape_text
from .parts import Graph, Table

FILL = {
    "input": ("#DDEEFF", "#4477AA"),
    "op": ("#FFFFFF", "#6B7280"),
    "activation": ("#CFEFE0", "#009E73"),
    "state": ("#E5D9F2", "#8E63C7"),
    "module": ("#E5D9F2", "#8E63C7"),
    "parameter": ("#FCE7B2", "#B87800"),
    "loss": ("#F9D5C2", "#D55E00"),
}
AMBER, PURPLE, GREY, RED = "#B87800", "#8E63C7", "#7A828E", "#D55E00"
LONGEST = 48  # characters of a label; the rest of a long name is in the tooltip
SMALL = '<FONT POINT-SIZE="8">'
TABLE = 'TABLE BORDER="0" CELLSPACING="0" CELLPADDING'

# The colour map cividis (Nunez, Anderson and Renslow 2018) at eleven places; colours between them are mixed.
CIVIDIS = ["00224E", "083370", "35456C", "4F576C", "666970", "7D7C78", "948E77", "AEA371", "C8B866", "E5CF52", "FEE838"]
SMALLEST = -6  # the exponent of ten at which the colours of gradients begin; they end at 0


def node_style(i: int, graph: Graph) -> str:
    """The attributes of a node; the tooltip has its full name and place."""
    node = graph.nodes[i]
    if node.kind == "blank":
        return "style=invis, " + POINT
    if node.kind == "wire":
        return POINT.replace(AMBER, PURPLE)
    if node.kind == "before":
        place = 'shape=none, style="", height=0.2, width=0, margin="0.05,0.02"'
        return f'{place}, label=<{clean(node.label)}>, fontcolor="{PURPLE}"'
    fill, line = FILL[node.kind]
    style, text = "", ""
    if "grad" in graph.show:
        fill, text = shade(node.norms[0]) if len(node.norms) == 1 else ("#FFFFFF", "")
        text = f', fontcolor="{text}"' if text else ""
        style = ', style="rounded,filled,dashed"' if node.norms == (0,) else ""
    title = clean(node.label)
    title = f"<B>{title}</B>" if node.named else title
    width = ", penwidth=2" if node.kind in ("state", "module") else ""
    notes = noted(graph, node.shape if node.kind != "module" else None, node.value, node.norms)
    label = "<BR/>".join([title, *(f"{SMALL}{line}</FONT>" for line in notes)])
    if len(node.norms) > 1:
        label = strip(label, node.norms)
    tip = [node.label if node.kind == "module" else f"{node.label} {shape_text(node.shape)}"]
    tip += [node.path] if node.path else []
    tip += [f"t = {node.step}"] if node.step is not None and node.step not in graph.titles else []
    looks = f'fillcolor="{fill}", color="{line}"{width}{style}{text}'
    return f'id="n{i}", label=<{label}>, {looks}, tooltip={quoted(" | ".join(tip))}'


def noted(graph: Graph, shape: tuple[int, ...] | None, value: str, norms: Sequence[float]) -> list[str]:
    """The small lines below a name."""
    first = [shape_text(shape)] if "shape" in graph.show and shape is not None else []
    if norms:
        first.append("|g| " + " ... ".join(f"{norm:.2g}" for norm in dict.fromkeys((min(norms), max(norms)))))
    return [text for text in (" ".join(first), html.escape(value)) if text]


def table_style(graph: Graph, table: Table) -> str:
    """The attributes of a table of parameters."""
    fill, line = FILL["parameter"]
    title = f"<TR><TD><I>{clean(table.title)}</I></TD></TR>" if table.title else ""
    body = ""
    for (name, shape), value, norms in zip(table.rows, table.values, table.norms, strict=True):
        back, text = shade(norms[0]) if norms else (fill, "#111111")
        words = " ".join([f"<B>{clean(name)}</B>", *(f"{SMALL}{note}</FONT>" for note in noted(graph, shape, value, norms))])
        body += f'<TR><TD BGCOLOR="{back}"><FONT COLOR="{text}">{words}</FONT></TD></TR>'
    return (
        f'shape=plain, style="", label=<<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="3" '
        f'COLOR="{line}" BGCOLOR="{fill}">{title}{body}</TABLE>>'
    )


POINT = f'shape=point, width=0.04, height=0.04, label="", color="{AMBER}"'


# -- the colours of gradients ------------------------------------------------------------------------------------------------


def shade(norm: float) -> tuple[str, str]:
    """The colour for a norm of a gradient, by its logarithm, and that of a text on it. Zero is white; NaN and infinity red."""
    if norm == 0:
        return "#FFFFFF", "#111111"
    if not math.isfinite(norm):
        return RED, "#FFFFFF"
    rgb = cividis(min(max(1 - math.log10(norm) / SMALLEST, 0), 1))
    linear = [(c / 255 / 12.92) if c < 11 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#{:02X}{:02X}{:02X}".format(*rgb), "#FFFFFF" if light < 0.22 else "#111111"


def cividis(share: float) -> list[int]:
    """Red, green and blue at a place of the colour map, from 0 to 1."""
    place = share * (len(CIVIDIS) - 1)
    low = min(int(place), len(CIVIDIS) - 2)
    ends = [[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in CIVIDIS[low : low + 2]]
    return [round(a + (b - a) * (place - low)) for a, b in zip(*ends, strict=True)]


def strip(label: str, norms: Sequence[float]) -> str:
    """A label with a row of colours below it, from the first step to the last; of many steps, sixteen."""
    count = min(len(norms), 16)
    chosen = [norms[i * (len(norms) - 1) // max(count - 1, 1)] for i in range(count)]
    cells = "".join(f'<TD BGCOLOR="{shade(norm)[0]}" WIDTH="{max(64 // count, 4)}" HEIGHT="6"></TD>' for norm in chosen)
    return f'<{TABLE}="0"><TR><TD COLSPAN="{count}">{label}</TD></TR><TR>{cells}</TR></TABLE>'


def legend() -> str:
    """What the colours of gradients mean, as a label of the whole picture."""
    ticks = range(SMALLEST, 1)
    cells = "".join('<TD BGCOLOR="{}" WIDTH="48"><FONT COLOR="{}">1e{}</FONT></TD>'.format(*shade(10.0**k), k) for k in ticks)
    words = "|g| is the norm of dL/d(node)"
    return f'<<{TABLE}="3"><TR><TD COLSPAN="{len(ticks)}">{words}</TD></TR><TR>{cells}</TR></TABLE>>'


# -- words -------------------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """A text for an HTML-like label: one line, not too long, nothing that graphviz or XML would read as markup."""
    text = printable(text)
    return html.escape(text if len(text) <= LONGEST else text[: LONGEST - 3] + "...")


def quoted(text: str) -> str:
    """A text as a quoted string of DOT."""
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def printable(text: str) -> str:
    """A text without line breaks, control characters and lone surrogates, which no XML may hold."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+", " ", text)
