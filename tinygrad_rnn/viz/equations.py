"""equations: what a cell computes, and its gradients, read back from one step of it as equations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..compiler.expressions import Latex, Python
from ..compiler.layer import Compiled
from ..compiler.lines import Lines
from ..compiler.program import Node
from ..compiler.trace import CompileError, Step, Wanted, trace
from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..nn.state import sizes, state_dtype


def equations(cell: Module, input_size: int | None = None) -> Equations:
    """The equations of a cell: of its step, as it computes it, and of its gradients, as the op table derives them.

    cell: a Module with `state_size` and `forward(x, state)`, as `Recurrent` takes it. It is run once, on a batch of two.
    input_size: the features of x, for a cell that does not say them.

    Names are those given by `.named("f")` and of the parameters; a is what an activation is taken of, df the gradient of f,
    and h_prev the state before the step. The gradients begin with dh, which the next step passes back, and end with dh_prev,
    which this one does. Printed, it is Python that computes what it shows; `.latex`, and a notebook, have the same as LaTeX.
    Raises CompileError for a cell that looks at values.
    """
    step = step_of(cell, input_size, "equations")
    return Bilingual(Lines(step, () if hasattr(cell, "output") else ("y",))).equations()


def step_of(cell: Module, input_size: int | None, who: str) -> Step:
    """One step of a cell and its gradient, for a batch of two."""
    if isinstance(cell, Recurrent | Compiled):
        raise TypeError(f"{who}: expected a cell, got a {type(cell).__name__}; write {who}(layer.cells['l0'])")
    if not isinstance(cell, Module):
        what = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise TypeError(f"{who}: expected a cell, a Module, got {what}; of a class make an instance: SomeCell(3, 4)")
    input_size = getattr(cell, "input_size", None) if input_size is None else input_size
    if input_size is None:
        raise TypeError(
            f"{who}: {type(cell).__name__} does not say how many features x has; write {who}(..., input_size=3), or "
            "set self.input_size in the cell"
        )
    if not isinstance(input_size, int | np.integer) or isinstance(input_size, bool) or input_size < 1:
        raise ValueError(f"{who}: input_size={input_size!r} should be how many features x has, such as input_size=3")
    layer, dtype = Recurrent(cell), state_dtype(cell).str
    states = tuple(((2, n), dtype) for n in sizes(layer.state_size))
    wanted = Wanted(((2, input_size), dtype), states, (), cell.training, False, False, (), (True, True))
    try:
        return trace(layer, cell, wanted)
    except CompileError as error:
        raise CompileError(f"{who}: {error}") from None


@dataclass(frozen=True)
class Equations:
    """What `equations` returns: Python text, and `names`, the functions and constant arrays that it calls by name."""

    forward: str
    adjoint: str
    latex: str
    names: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"# the step\n{self.forward}\n\n# its gradients\n{self.adjoint}"

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex}\n$$"


class Bilingual:
    """Writes the lines of a step in Python and in LaTeX."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.step = lines, lines.step
        self.python, self.latex = dict(lines.name), dict[Node, str]()
        for n, name in lines.name.items():
            self.latex[n] = symbol(name, "" if n in self.step.externals.values() else "t")
        for h, carry in zip(self.step.states, self.step.carries, strict=True):
            self.python[h] = lines.unique(f"{lines.name[h]}_prev")
            self.latex[h] = symbol(lines.name[h], "t-1")
            self.latex[carry] = barred(symbol(lines.name[h], "t"))
        for seed in self.step.seeds.values():
            self.latex[seed] = barred(symbol("y", "t"))
        for line in lines.adjoint:
            x = lines.gradient_of.get(line.value)
            if x in lines.name:
                self.latex[line.value] = barred(self.latex[x])

    def equations(self) -> Equations:
        """Both ways in both languages."""
        step, lines = self.step, self.lines
        python, latex = Python(self.python, lines.taken), Latex(self.latex)
        forward = [(python.equation(line), latex.equation(line)) for line in lines.forward]
        adjoint = [(python.equation(line), latex.equation(line)) for line in lines.adjoint]
        for old, new in zip(step.states, step.new, strict=True):
            name = lines.name[old]
            if lines.name.get(new) != name or not new.args:
                forward.append((f"{name} = {python.text(new)}", f"{symbol(name, 't')} &= {latex.text(new)}"))
        if step.seeds:
            y, out = lines.unique("y"), step.outputs["y"]
            forward.append((f"{y} = {python.text(out)}", f"{symbol('y', 't')} &= {latex.text(out)}"))
        for n in (step.given["x"], *step.externals.values(), *step.states):
            g = step.gradients.get(n)
            target = lines.unique(f"d{self.python[n]}")
            if g is not None:
                adjoint.append((f"{target} = {python.text(g)}", f"{barred(self.latex[n])} &= {latex.text(g)}"))
            elif n in step.states:
                adjoint.append((f"{target} = 0 * {self.python[n]}", f"{barred(self.latex[n])} &= 0"))
        both = [" \\\\\n".join(text for _, text in part) for part in (forward, adjoint)]
        return Equations(
            "\n".join(text for text, _ in forward),
            "\n".join(text for text, _ in adjoint),
            "\\begin{aligned}\n" + " \\\\[1ex]\n".join(both) + "\n\\end{aligned}",
            dict(sorted(python.library.items())),
        )


LETTERS = {"weight": "W", "bias": "b"}


def symbol(name: str, time: str) -> str:
    """A name in LaTeX: W_{ih} for a parameter, which has no time, and a^{(f)}_{t} for a value."""
    head, _, rest = name.partition("_")
    numbered = re.fullmatch(r"([A-Za-z])(\d+)", name)
    if numbered:
        head, rest = numbered.groups()
    elif not time and rest and head in LETTERS:
        head = LETTERS[head]
    elif len(head) > 1:
        head, rest = name, ""
    head, rest = (text.replace("_", r"\_") for text in (head if len(head) == 1 else rf"\mathrm{{{head}}}", rest))
    if not time:
        return f"{head}_{{{rest}}}" if rest else head
    return f"{head}^{{({rest})}}_{{{time}}}" if rest else f"{head}_{{{time}}}"


def barred(text: str) -> str:
    """The symbol for the gradient of what has this symbol."""
    match = re.match(r"\\mathrm\{.*?\}|.", text)
    assert match is not None
    wide = "overline" if len(match[0]) > 1 else "bar"
    return rf"\{wide}{{{match[0]}}}{text[match.end() :]}"
