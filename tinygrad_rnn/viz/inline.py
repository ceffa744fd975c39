"""The picture of a graph as part of a page, whose boxes and edges a script can find."""

from __future__ import annotations

import html
import re

from .dot import dot_text
from .drawing import render, tooltips
from .parts import Graph


def picture(view: Graph) -> str:
    """The SVG of a graph, each box an element with its own id, each edge with those of its ends; one unit is one pixel."""
    svg = render(dot_text(view), "svg").decode()
    svg = re.sub(r"<!--.*?-->\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*" class="(node|edge)">\s*<title>([^<]*)</title>', element, svg)
    return re.sub(r'(<svg width="[\d.]+)pt(" height="[\d.]+)pt"', r'\1\2"', tooltips(svg), count=1)


def element(group: re.Match[str]) -> str:
    """The group of a node or an edge. A point of a bus stands for its table."""
    ends = re.sub(r"\bb(\d+)_\d+", r"P\1", html.unescape(group[2])).split("->")
    box = f' id="{group[2]}"' if re.fullmatch(r"[nP]\d+", group[2]) else ""
    what = box if group[1] == "node" else f' data-ends="{" ".join(ends)}"'
    return f'<g class="{group[1]}"{what}><title>{group[2]}</title>'
