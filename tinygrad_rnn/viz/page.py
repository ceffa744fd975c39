"""`page(loss, "bptt.html")`: the forward and the backward pass to step through, in one file that needs no network.

Every event is a row of a table, complete without JavaScript; the script shows a copy of one row at a time, and marks its nodes
in the graph. All numbers are those of events.py, to four digits.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from ..checkpoint.files import replacing
from ..tensor import Tensor
from .drawing import path_of, picture, plural
from .event_types import Backward, Parameter, Share
from .events import checked, collect
from .graph import Builder
from .labels import SYMBOLS, shape_text
from .matrices import chart, matrix
from .parts import Graph
from .styles import clean
from .window import window

MOST_EVENTS, MOST_BYTES = 1_000, 2_000_000
MANY = 5  # inputs of a node, from which on those of steps that are not shown are left out


def page(loss: Tensor, path: str | os.PathLike[str], gradient: Any = None) -> None:
    """Write a page that steps through forward and `loss.backward(gradient)`: every value, every rule, every addition.

    Needs the renderer that `draw` needs. With more than 1,000 events or 2 MB a page has the first two time steps and the last
    one only, and says so. Runs the backward pass, and leaves every `.grad` as it is.
    """
    path = path_of("page", path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"page: {path.name!r} should end in .html")
    story = Story(loss, checked("page", loss, gradient))
    text = story.told(story.graph) if story.count <= MOST_EVENTS else ""
    if not text or len(text.encode()) > MOST_BYTES:
        text = story.told(window(story.graph))
    with replacing(path) as file:
        file.write(text.encode())


class Story:
    """A forward and a backward pass as the parts of a page."""

    def __init__(self, loss: Tensor, seed: Tensor) -> None:
        self.loss = loss
        self.builder = Builder([loss], ("shape",), {})
        self.graph = self.builder.graph()
        self.events = collect(self.builder, self.graph, seed)
        self.nodes = self.events["nodes"]
        self.count = len(self.events["forward"]) + len(self.events["backward"])
        self.values = {told["node"]: told["value"] for told in [*self.events["given"], *self.events["forward"]]}
        self.link = {told["node"]: f"v{told['node']}" for told in self.events["given"]}
        self.link |= {told["node"]: f"e{k}" for k, told in enumerate(self.events["forward"])}

    def told(self, view: Graph) -> str:
        """The page, with the events of those steps that this view of the graph has."""
        self.steps = {None, *view.steps} - set(view.titles)
        self.box = self.boxes(view)
        read_here = {j for i, node in enumerate(self.nodes) if self.shown(i) for j in node["inputs"]}
        rows, style, script = list(self.rows()), read("page.css"), read("page.js")
        return Template(read("page.html")).substitute(
            title=clean(self.loss.name or "Forward and backward"),
            summary=self.summary(len(rows), view),
            picture=picture(view),
            sums="\n".join(map(self.parameter, self.events["parameters"])),
            rows="\n".join(rows),
            given="\n".join(
                f'<tr id="v{told["node"]}"><th>{self.name(told["node"])}<td>{matrix(told["value"], "out")}'
                for told in self.events["given"]
                if told["node"] in read_here
            ),
            style=style,
            style_hash=digest(style),
            script=script,
            script_hash=digest(script),
        )

    def boxes(self, view: Graph) -> list[str]:
        """The element of the picture that shows each node, "" for none."""
        place = {id(node): f"n{i}" for i, node in enumerate(view.nodes)}
        box = {x: place.get(id(node), "") for x, node in zip(self.builder.drawn, self.graph.nodes, strict=True)}
        for k, table in enumerate(self.graph.tables):
            for reader in table.readers:
                for y in self.builder.drawn[reader].inputs:
                    leaf = self.builder.leaf.get(y)
                    if leaf is not None and self.builder.names.owners.get(leaf, ("",))[0] == table.title:
                        box[leaf] = box[y] = f"P{k}"
        return [box.get(x, "") for x in self.builder.order]

    def summary(self, shown: int, view: Graph) -> str:
        """What there is to see."""
        steps = f", {plural(len(self.graph.steps), 'time step')}" if self.graph.steps else ""
        forward, backward = len(self.events["forward"]), len(self.events["backward"])
        text = f"{len(self.nodes):,} nodes{steps}: {forward:,} forward and {backward:,} backward events."
        if shown < self.count:
            steps = ", ".join(str(t) for t in view.steps if t not in view.titles)
            text += f" The page would be too large: it has steps {steps} only, {shown:,} of {self.count:,} events."
        return text

    def name(self, i: int) -> str:
        """What a node is called, with its step."""
        step = self.nodes[i]["step"]
        return clean(self.label(i)) + (f" <small>t = {step}</small>" if step is not None else "")

    def label(self, i: int) -> str:
        """The label in the picture; where that is only `*`, what is multiplied, if it has names."""
        node = self.nodes[i]
        if node["label"] in SYMBOLS.values():
            words = [self.nodes[j]["label"].partition(" = ")[0] for j in node["inputs"]]
            if not any(" " in word or word in SYMBOLS.values() for word in words):
                return f" {node['label']} ".join(words)
        return node["label"]

    # -- events --------------------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[str]:
        """The events, a row of the table each."""
        for k, told in enumerate(self.events["forward"]):
            i = told["node"]
            others = [self.box[j] for j in self.nodes[i]["inputs"]]
            yield from self.row(k, "forward", i, others, self.call(i) + beside("out", matrix(told["value"], "out")))
        self.givers: dict[int, list[int]] = {}  # the events that gave a share to each node
        for k, event in enumerate(self.events["backward"], len(self.events["forward"])):
            for share in event["gives"]:
                self.givers.setdefault(share["to"], []).append(k)
            others = [self.box[share["to"]] for share in event["gives"]]
            yield from self.row(k, "backward", event["node"], others, self.backward(event))

    def row(self, k: int, way: str, i: int, others: list[str], what: str) -> Iterator[str]:
        """A row, if its step is shown."""
        node = self.nodes[i]
        if self.shown(i):
            touched = " ".join(dict.fromkeys(filter(None, others)))
            place = f' title="{clean(node["module"])}"' if node["module"] else ""
            step = "" if node["step"] is None else node["step"]
            yield (
                f'<tr id="e{k}" class="{way}" data-now="{self.box[i]}" data-with="{touched}"><th>{k}<td>{way}'
                f"<td{place}>{clean(self.label(i))}<td>{step}<td>{what}"
            )

    def call(self, i: int, out: str = "out") -> str:
        """`out = x + y` in the names that the op's rules use, and for each of them a link to where its numbers are."""
        node = self.nodes[i]
        op, names = node["op"] or "", node["names"]
        if op in SYMBOLS:
            formula = f"{names[0]} {SYMBOLS[op]} {names[1]}"
        else:
            formula = f"{op}({', '.join(names if len(names) < MANY else [names[0], '...', names[-1]])})"
        links = []
        for name, j in zip(names, node["inputs"], strict=True):
            if self.shown(j):
                links.append(f'{name} = <a class="in" href="#{self.link[j]}">{self.name(j)}</a>')
            elif len(names) < MANY:
                links.append(f"{name} = {self.name(j)} {matrix(self.values[j])}")
        return beside(f"<code>{out} = {clean(formula)}</code>", *links, *more(len(names) - len(links)), kind=" quiet")

    def shown(self, i: int) -> bool:
        """Is the step of a node on the page?"""
        return self.nodes[i]["step"] in self.steps

    def backward(self, event: Backward) -> str:
        """The gradient of a node, where it is from, and what the node's rules make of it."""
        i, arrived, wholes = event["node"], event["arrived"], event["wholes"]
        name = clean(self.label(i).partition(" = ")[0])
        head = (
            beside(f"g = dL/d({name})" if " " in name else f"g = dL/d {name}", matrix(event["g"]))
            + f'<p class="quiet">{self.origin(event)}</p>'
        )
        if event["summed"] is not None and arrived is not None:
            head += beside("It was broadcast, so what arrived is summed to its own shape:", matrix(arrived))
        if (arrived is not None) + len(wholes) > 1:
            parts = [event["summed"] or arrived, *wholes]
            head += beside("Parts:", " + ".join(matrix(part) for part in parts if part is not None))
        if self.nodes[i]["op"] is None:
            return head + "<p>Complete: <code>backward()</code> adds it to <b>.grad</b>.</p>"
        gives = [share for share in event["gives"] if self.shown(share["to"]) or len(event["gives"]) < MANY]
        tail = "".join(more(len(event["gives"]) - len(gives)))
        out = "out"
        if any(re.search(r"\bout\b", share["rule"]) for share in gives):
            out = f'<a class="in" href="#{self.link[i]}">out</a>'
        return head + self.call(i, out) + "".join(self.give(i, share) for share in gives) + tail

    def origin(self, event: Backward) -> str:
        """Who gave shares of a node's gradient, as links."""
        givers = self.givers.get(event["node"], [])
        nodes = {k: self.events["backward"][k - len(self.events["forward"])]["node"] for k in dict.fromkeys(givers)}
        links = [f'<a href="#e{k}">{self.name(i)}</a>' for k, i in nodes.items() if self.shown(i)]
        links += more(len(nodes) - len(links))
        if not givers:
            return "The gradient to begin with."
        if len(givers) == 1 or not event["wholes"]:
            return f"{'Given' if len(givers) == 1 else 'The sum of what was given'} by {', '.join(links)}."
        return f"Worked out in one go from what waited, of {', '.join(links)}."

    def give(self, i: int, share: Share) -> str:
        """What goes to one input."""
        name, rule = self.nodes[i]["names"][share["input"]], share["rule"]
        head = f"to {name}, <b>{self.name(share['to'])}</b>: <code>{html.escape(rule)}</code>"
        added = matrix(share["whole"] or share["share"])
        if share["after"] is None:
            line = beside(added, '<span class="quiet">waits until all its uses can be worked out in one go</span>')
        elif share["before"] is None:
            line = beside(added)
        else:
            line = beside(matrix(share["before"]), "+", added, "=", matrix(share["after"]))
        return f'<div class="give">{head}{line}</div>'

    # -- parameters ----------------------------------------------------------------------------------------------------------

    def parameter(self, parameter: Parameter) -> str:
        """A parameter's gradient: its terms as bars in the order of time, and for each the sum so far."""
        i, first = parameter["node"], len(self.events["forward"])
        terms = [term for term in parameter["terms"] if term["step"] in self.steps]
        done = next(k for k, event in enumerate(self.events["backward"], first) if event["node"] == i)
        sums = [(term["event"], f"<small>sum so far</small><br>{matrix(term['total'])}") for term in terms]
        sums.append((done, f"<b>.grad</b><br>{matrix(parameter['grad'])}"))
        title = f"<h3>{clean(self.nodes[i]['label'])} <small>{shape_text(tuple(self.nodes[i]['shape']))}</small></h3>"
        told = "".join(f'<div data-e="{k}">{text}</div>' for k, text in sums)
        return f'<div class="parameter">{title}<div>{chart(terms)}<div>{told}</div></div></div>'


# -- the parts of the file ---------------------------------------------------------------------------------------------------


def beside(*parts: str, kind: str = "") -> str:
    """Words and numbers side by side."""
    return f'<div class="row{kind}">{" ".join(f"<span>{part}</span>" for part in parts)}</div>'


def more(count: int) -> list[str]:
    """Says how many parts are left out, if any are."""
    return [f'<span class="quiet">{count:,} more</span>'] if count else []


def read(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What allows an inline style or script in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
