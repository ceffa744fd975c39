"""The program as a teacher writes it: a plain loop over time, a plain loop back, and in them one equation a line.

It computes what the fast program of emit.py computes, takes the same and returns the same, so that either can be run. Its
values lie in dicts by time: `h[t]` is the state after step t, and `h[-1]` the initial one.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

import numpy as np

from .expressions import Python
from .lines import Line, Lines
from .program import CONSTANT, Node
from .trace import Step
from .writer import Code

OURS = {"TABLE": "tinygrad_rnn.ops", "scatter": "tinygrad_rnn.ops.shapes"}
WIDEST = 100  # characters of a line with names
SIGMOID = """def sigmoid(x):
    return 0.5 * tanh(0.5 * x) + 0.5  # 1 / (1 + exp(-x)) without overflow


"""


def textbook(step: Step, title: str) -> Code:
    """`forward(x, states, masks, parameters)` -> [outputs], [final states], saved; and, of a step that has gradients,
    `backward(saved, gradients of the outputs, of the final states)` -> dx, [of the initial states], [of the parameters].
    """
    return Textbook(step).code(title)


class Textbook:
    """Writes the two functions of a step."""

    def __init__(self, step: Step) -> None:
        self.lines = lines = Lines(step)
        self.step = step = lines.step
        asked = [lines.refs[g] for g in step.gradients.values()]
        self.read_back = set[Node]().union(*map(lines.reads, lines.adjoint), *asked)
        results = {*step.new, *step.outputs.values()}
        self.kept = [
            n for line in lines.forward for n in line.targets if n in results or (n in self.read_back and n.rank != CONSTANT)
        ]
        self.python = Python(self.timed(), lines.taken)
        self.saved: list[str] = []

    def timed(self) -> dict[Node, str]:
        """What every name is within a loop: h[t - 1] before the step, h[t] after it, x[t]."""
        step, names = self.step, dict(self.lines.name)
        for n in (*step.given.values(), *step.seeds.values()):
            names[n] += "[t - 1]" if n in step.states else "[t]" if n.rank != CONSTANT else ""
        return names | {n: names[n] + "[t]" for n in self.kept}

    def code(self, title: str) -> Code:
        """All of the text."""
        ways = [self.forward()]
        if self.step.carries:
            ways.append(self.backward())
        text, known = "\n\n\n".join(ways), self.python.library
        text = (SIGMOID if "sigmoid" in known else "") + text + "\n"
        known |= {n: getattr(np, n) for n in ("stack", "tanh", "zeros_like") if f"{n}(" in text}
        imports = sorted(n for n, value in known.items() if getattr(np, n, None) is value)
        head = [f'"""{title}"""', "", f"from numpy import {', '.join(imports)}"]
        head += [f"from {module} import {n}" for n, module in OURS.items() if n in known]
        head += [f"# {n}: an array {value.shape}" for n, value in sorted(known.items()) if isinstance(value, np.ndarray)]
        return Code("\n".join([*head, "", "", text]), {n: v for n, v in sorted(known.items()) if n != "sigmoid"})

    def forward(self) -> str:
        """x, the initial states and the parameters in; the outputs and the final states out, and what the way back needs."""
        step, name, unique = self.step, self.lines.name, self.lines.unique
        x, *others = (name[n] for n in (*step.given.values(), *step.externals.values()) if n not in step.states)
        states = [name[h] for h in step.states]
        initial = [unique(f"{h}0") for h in states]
        once, each = self.parted(self.lines.forward)
        for h, new in zip(states, step.new, strict=True):
            if not new.args or name.get(new) != h:  # it is given, or it is another state too
                each.append(f"{h}[t] = {self.python.text(new)}")
        made = list(dict.fromkeys(name[n] for n in self.kept if name[n] not in states))
        outputs = {}
        for key, out in step.outputs.items():
            y = unique("y" if key == "y" else f"y_{key}")
            outputs[y] = name[out] if out in self.kept else unique(f"{y}_t")
            if out not in self.kept:
                made.append(outputs[y])
                each.append(f"{outputs[y]}[t] = {self.python.text(out)}")
        needed = {name[n] for n in name if n in self.targets() or (n in self.read_back and n in self.lines.way)}
        self.saved = [n for n in dict.fromkeys([x, *states, *made, *others, *name.values()]) if n in needed]
        dicts = ", ".join(["{}"] * len(made)) if len(made) < 6 else f"({{}} for _ in range({len(made)}))"
        body = [
            f"T = len({x})",
            f"{', '.join(states)} = {', '.join(f'{{-1: {h}}}' for h in initial)}  # {states[0]}[-1] is before the first step",
            *named(made, dicts),
            *once,
            "for t in range(T):",
            *(f"    {line}" for line in each),
            *(f"{y} = stack([{kept}[t] for t in range(T)])" for y, kept in outputs.items()),
            *listed("saved = (", self.saved, ",)" if len(self.saved) == 1 else ")"),
            f"return [{', '.join(outputs)}], [{', '.join(f'{h}[T - 1]' for h in states)}], saved",
        ]
        return function("forward", [x, *initial, *others], body)

    def targets(self) -> list[Node]:
        """What gradients are summed up for: x, at every step, and the parameters."""
        return [n for n in (self.step.given["x"], *self.step.externals.values()) if n in self.step.gradients]

    def backward(self) -> str:
        """What was saved and the gradients of the results in; those of x, the initial states and the parameters out."""
        step, name, text = self.step, self.lines.name, self.python.text
        x = step.given["x"]
        targets = {n: self.lines.unique(f"d{name[n]}") for n in self.targets()}
        once, each = self.parted(self.lines.adjoint)
        if x in targets:
            each.append(f"{targets[x]}[t] = {text(step.gradients[x])}")
        each += [f"{dw} += {text(step.gradients[w])}" for w, dw in targets.items() if w is not x]
        each += self.carried()
        carries, seeds = [name[c] for c in step.carries], [name[d] for d in step.seeds.values()]
        totals = [targets.get(w, "None") for w in step.externals.values()]
        body = [
            *named(self.saved, "saved" if len(self.saved) > 1 else "saved[0]"),
            f"T = len({seeds[0]})",
            *(f"{dw} = zeros_like({name[w]})" for w, dw in targets.items()),
            *once,
            "for t in reversed(range(T)):",
            *(f"    {line}" for line in each or ["pass"]),
            *listed(f"return {targets.get(x)}, [{', '.join(carries)}], [", totals, "]"),
        ]
        return function("backward", ["saved", *seeds, *carries], body)

    def carried(self) -> list[str]:
        """The gradients of the states before the step, under the names that the next turn of the loop reads."""
        name, found = self.lines.name, self.step.gradients
        pairs = []
        for h, carry in zip(self.step.states, self.step.carries, strict=True):
            text = self.python.text(found[h]) if h in found else f"zeros_like({name[carry]})"
            if text != name[carry]:
                pairs.append((name[carry], text, {name[n] for n in self.lines.refs[found[h]]} if h in found else set()))
        if any(pairs[i][0] in reads for k, (_, _, reads) in enumerate(pairs) for i in range(k)):
            return [f"{', '.join(p[0] for p in pairs)} = {', '.join(p[1] for p in pairs)}"]
        return [f"{target} = {text}" for target, text, _ in pairs]

    def parted(self, lines: Iterable[Line]) -> tuple[list[str], list[str]]:
        """The text of lines: of those that are the same at every step, and of the others."""
        once: dict[Node, str] = {}
        each = []
        for line in lines:
            fixed = all(n.rank == CONSTANT and n not in self.kept for n in line.targets)
            if fixed and all(n in once or not n.args for n in self.lines.reads(line)):
                once |= dict.fromkeys(line.targets, self.python.equation(line))
            else:
                each.append(self.python.equation(line))
        return list(dict.fromkeys(once.values())), each


def function(name: str, arguments: list[str], body: list[str]) -> str:
    """The text of a function."""
    return "\n".join([*listed(f"def {name}(", arguments, "):"), *(f"    {line}" for line in body)])


def named(names: list[str], value: str) -> list[str]:
    """The line that gives a value its names, or each of its items one."""
    line = f"{', '.join(names)} = {value}"
    return [] if not names else [line] if len(line) <= WIDEST else listed("(", names, f") = {value}")


def listed(start: str, names: list[str], end: str) -> list[str]:
    """A list of names on a line, or on several if it is long."""
    line = f"{start}{', '.join(names)}{end}"
    if len(line) <= WIDEST:
        return [line]
    return [start, *("    " + part for part in wrap(", ".join(names) + ",", WIDEST, break_long_words=False)), end]
