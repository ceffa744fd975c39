"""draw, and the Drawing that it returns: a picture that shows itself in a notebook, and saves itself as svg, png, pdf or dot.

Graphviz does the layout: the program `dot` where it is installed, else `graphviz-pure`, which the extra `viz` installs.
Without either there is still the DOT text.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint.files import replacing
from ..tensor import Tensor
from .boxes import boxes
from .dot import dot_text
from .graph import build
from .parts import Graph
from .record import described
from .roll import rolled
from .window import window

FORMATS = ("svg", "png", "pdf", "dot")
WIDEST = 32_767  # pixels: beyond, graphviz shrinks a bitmap until nothing can be read
WITHOUT = 'The DOT text needs nothing installed: .source, or .save("graph.dot")'

_binary_lock = threading.Lock()  # the graphviz library keeps the name of its program in a global


def draw(
    tensor: Tensor | Sequence[Tensor],
    view: str = "auto",
    show: Collection[str] = ("shape",),
    names: Mapping[str, object] | None = None,
) -> Drawing:
    """A picture of all that a Tensor, or several, were computed from: a column for each time step, parameters once, below.

    view: "unrolled" has every step; "windowed" the first two and the last, and one box for those between; "rolled" one step,
    whose states return to it; "modules" one box for each call of a module. "auto" is windowed beyond 8 steps or 200 nodes.
    show: what a box says: "shape", "value" (of a leaf: the one that it has now; in no rolled step) and "grad", the norm of
    d(tensor)/d(node), which also colours it; `backward()` need not have run, and `.grad` stays as it is.
    names: {"h": h} gives a Tensor a name in this picture alone; locals() will do.

    Time steps are those of recurrent layers; in a loop of your own they follow from the data: x[:, t] begins step t.
    Names come from `.named("f")` and from the attributes of modules. A Tensor that was not computed is drawn as one box.
    """
    roots = [tensor] if isinstance(tensor, Tensor) else tensor
    if not isinstance(roots, list | tuple) or not roots or not all(isinstance(x, Tensor) for x in roots):
        raise TypeError(
            f"draw: expected a Tensor, got {described(tensor)}. Draw what a computation returned, as in tg.viz.draw(loss)"
        )
    if not isinstance(view, str) or view not in VIEWS:
        raise ValueError(f"draw: view={view!r} is none of {', '.join(map(repr, VIEWS))}")
    if not isinstance(show, list | tuple | set) or not all(what in ("shape", "value", "grad") for what in show):
        raise ValueError(f"draw: show={show!r} should be a tuple of 'shape', 'value', 'grad', as in (\"shape\", \"grad\")")
    if names is not None and not (isinstance(names, Mapping) and all(isinstance(name, str) for name in names)):
        raise TypeError(f'draw: names={names!r} should be a dict from names to Tensors, as in {{"h": h}}')
    graph = VIEWS[view](build(roots, show, names))
    return Drawing(dot_text(graph), graph)


def auto(graph: Graph) -> Graph:
    """All steps if they can be read, else a window on them."""
    return window(graph) if len(graph.steps) > MANY_STEPS or len(graph.nodes) > MANY_NODES else graph


MANY_STEPS, MANY_NODES = 8, 200
VIEWS: dict[str, Callable[[Graph], Graph]] = {
    "auto": auto, "unrolled": lambda graph: graph, "windowed": window, "rolled": rolled, "modules": boxes,
}  # fmt: skip


class Drawing:
    """A picture of a graph. `source` is its DOT text, `graph` what it shows, as plain data; it holds no Tensors."""

    def __init__(self, source: str, graph: Graph) -> None:
        self.source, self.graph = source, graph

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture, in the format that the name ends in: .svg, .png, .pdf or .dot. All or nothing."""
        path = path_of("save", path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            raise ValueError(f"save: {path.name!r} should end in one of {', '.join('.' + kind for kind in FORMATS)}")
        with replacing(path) as file:
            file.write(self.source.encode() if kind == "dot" else self._render(kind))

    def _render(self, kind: str) -> bytes:
        if kind == "png":
            self._check_size()
        data = render(self.source, kind)
        return tooltips(data.decode()).encode() if kind == "svg" else data

    def _check_size(self) -> None:
        """Refuse a bitmap that would be too large. Only a large graph is worth the layout that this takes."""
        if sum(90 + 8 * len(node.label) for node in self.graph.nodes) < WIDEST:
            return
        size = re.search(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', render(self.source, "svg").decode())
        pixels = max(float(side) * 96 / 72 for side in size.groups()) if size else 0
        if pixels > WIDEST:
            raise ValueError(
                f"save: as a png this picture would be {pixels:,.0f} pixels long, and {WIDEST:,} are possible. "
                'Save it as "graph.svg", which has no limit, or draw it with view="windowed"'
            )

    def _repr_svg_(self) -> str | None:
        """The picture for a notebook; without a program to render it, the notebook shows the repr."""
        try:
            return embedded(self._render("svg").decode())
        except RuntimeError:
            return None

    def __repr__(self) -> str:
        boxes = sum(node.kind not in ("wire", "blank") for node in self.graph.nodes)
        steps = len(self.graph.steps.keys() - self.graph.titles.keys())
        text = plural(boxes, "node") + (f", {plural(steps, 'time step')}" if steps else "")
        for title in self.graph.titles.values():
            first, *more = filter(None, title.split("\n"))
            text += f" ({first}{': ' if more else ''}{', '.join(more)})"
        return f'<Drawing of {text}: .save("graph.svg"), .source (DOT)>'


def plural(count: int, what: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- rendering ---------------------------------------------------------------------------------------------------------------


def render(source: str, kind: str) -> bytes:
    """DOT text as svg, png or pdf. Raises RuntimeError, saying what to install, where that is not possible."""
    try:
        import graphviz  # type: ignore[import-untyped]
        from graphviz.backend import dot_command  # type: ignore[import-untyped]
    except ImportError:
        raise RuntimeError(f'Drawing needs the library graphviz: pip install "tinygrad-rnn[viz]". {WITHOUT}') from None
    program = find_program(kind)
    with _binary_lock:
        usual: Any = dot_command.DOT_BINARY
        dot_command.DOT_BINARY = program
        try:
            picture: bytes = graphviz.Source(source).pipe(format=kind, quiet=True)
            return picture
        except (subprocess.CalledProcessError, OSError, graphviz.ExecutableNotFound) as error:
            said = getattr(error, "stderr", None) or str(error)
            said = said.decode(errors="replace") if isinstance(said, bytes) else said
            raise RuntimeError(f"{program.name} could not render the picture: {said.strip()[:500]}. {WITHOUT}") from None
        finally:
            dot_command.DOT_BINARY = usual


def find_program(kind: str) -> Path:
    """The program that renders: dot, else graphviz-pure, which is also looked for beside Python itself."""
    dot = shutil.which("dot")
    if dot is not None:
        return Path(dot)
    if kind == "pdf":
        raise RuntimeError(
            "A pdf needs the program dot, which was not found: install the system's graphviz (apt install graphviz, "
            f'brew install graphviz), or save as "graph.svg". {WITHOUT}'
        )
    pure = shutil.which("graphviz-pure") or shutil.which("graphviz-pure", path=str(Path(sys.executable).parent))
    if pure is None:
        raise RuntimeError(
            'Drawing needs the program dot or graphviz-pure, and neither was found: pip install "tinygrad-rnn[viz]", or '
            f"install the system's graphviz. {WITHOUT}"
        )
    return Path(pure)


def path_of(who: str, path: Any) -> Path:
    """The path of a file to write. Raises TypeError or ValueError if it is none."""
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"{who}: expected the name of a file, a str or a Path, got {type(path).__name__}")
    if "\0" in name:
        raise ValueError(f"{who}: {name!r} cannot be the name of a file: expected one without a null byte")
    return Path(name)


# -- SVG ---------------------------------------------------------------------------------------------------------------------


def tooltips(svg: str) -> str:
    """Give each node its tooltip as `<title>`, which browsers show; graphviz writes its own names of nodes and edges there."""
    return re.sub(
        r'<title>[^<]*</title>(\s*<g id="a_n\d+"><a xlink:title="([^"]*)")?',
        lambda match: f"<title>{match[2]}</title>{match[1]}" if match[1] else "",
        svg,
    )


def embedded(svg: str) -> str:
    """An SVG that can stand in a page beside others: without prolog, and with ids that no other picture has."""
    mark = "g" + hashlib.sha256(svg.encode()).hexdigest()[:10] + "_"
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{mark}', svg)
    return re.sub(r'(url\(|href=")#', rf"\g<1>#{mark}", svg)


def picture(view: Graph) -> str:
    """The SVG of a graph for a page whose script looks its parts up: each box has its own id, each edge those of its ends."""
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
