"""Nodes as expressions, in Python or in LaTeX. `names` holds the nodes that are written as a name."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from itertools import chain, count
from typing import Any

import numpy as np

from ..ops import TABLE
from .lines import Line
from .program import Node, forward
from .text import key_text

COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(6)  # how tightly an expression holds together
SIGNS = {
    "add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT), "matmul": ("@", PRODUCT),
    "np.greater": (">", COMPARISON), "np.greater_equal": (">=", COMPARISON), "np.equal": ("==", COMPARISON),
    "np.less": ("<", COMPARISON), "np.less_equal": ("<=", COMPARISON), "np.not_equal": ("!=", COMPARISON),
}  # fmt: skip
REDUCTIONS = {"sum", "mean", "max", "min", "prod"}
SAME_CALL = {"broadcast_to", "clip", "concatenate", "cumprod", "cumsum", "stack"}  # NumPy's function takes the same arguments


def holds(node: Node, names: Mapping[Node, str]) -> int:
    """How tightly the text of a node holds together."""
    if node in names:
        return ATOM
    if node.is_number:
        return SIGN if node.value < 0 else ATOM
    if node.op == "neg":
        return min(SIGN, holds(node.args[0], names)) if holds(node.args[0], names) >= PRODUCT else SIGN
    return POWER if node.op == "power" else SIGNS.get(node.op, ("", ATOM))[1]


def apart(node: Node, i: int, names: Mapping[Node, str]) -> bool:
    """Does an argument need parentheses? Beside other products a matrix product gets them, though Python needs none."""
    x = node.args[i]
    inner, outer = holds(x, names), SIGNS[node.op][1]
    if inner != outer:
        return inner < outer
    if outer == PRODUCT and x.op != node.op and "matmul" in (node.op, x.op):
        return True
    return outer == COMPARISON or (i > 0 and not node.op == x.op in ("add", "mul"))


class Python:
    """Writes expressions of NumPy. `library`: what they call by a name, functions and constant arrays, not by one `taken`."""

    def __init__(self, names: Mapping[Node, str], taken: Collection[str] = ()) -> None:
        self.names, self.taken = names, taken
        self.library: dict[str, Any] = {}

    def text(self, node: Node) -> str:
        """A node as it is written in an expression: by its name if it has one."""
        return self.names[node] if node in self.names else self.spelled(node)

    def spelled(self, node: Node) -> str:
        """The expression that computes a node."""
        if node.op == "constant":
            return self.constant(node.value)
        op, params, x = node.op, node.params, node.args[0]
        if op in SIGNS:
            a, b = (f"({self.text(y)})" if apart(node, i, self.names) else self.text(y) for i, y in enumerate(node.args))
            return f"{a} {SIGNS[op][0]} {b}"
        if op == "neg":
            return f"-{self.text(x)}" if holds(x, self.names) >= PRODUCT else f"-({self.text(x)})"
        if op == "power":
            return f"{self.held(x)} ** {self.held(node.args[1])}"
        if op == "transpose":
            turned = params["axes"] == tuple(range(len(node.shape)))[::-1]
            return self.held(x) + (".T" if turned else f".transpose{params['axes']}")
        if op.removeprefix("np.") in REDUCTIONS:
            axis = params.get("axis")
            axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
            words = [f"axis={axis}", *(f"{k}={v}" for k, v in params.items() if k != "axis" and v is not False)]
            return f"{self.held(x)}.{op.removeprefix('np.')}({', '.join(words)})"
        if op == "getitem":
            return f"{self.held(x)}[{self.index(params['key'])}]"
        if op == "reshape":
            return f"{self.held(x)}.reshape({', '.join(map(str, node.shape))})"
        if op == "astype":
            return f"{self.held(x)}.astype({str(node.dtype)!r})"
        if op == "relu":
            return f"{self.known('maximum', np.maximum)}({self.text(x)}, 0)"
        texts = [self.text(y) for y in node.args]
        if op == "einsum":
            return f"{self.known(op, np.einsum)}({', '.join([repr(params['spec']), *texts])})"
        if op in ("concatenate", "stack"):
            texts = [f"[{', '.join(texts)}]"]
        return f"{self.function(op)}({', '.join([*texts, *(f'{k}={self.parameter(v)}' for k, v in params.items())])})"

    def equation(self, line: Line) -> str:
        """A line: `f = sigmoid(a_f)`, or `a_f, a_g = split(a, 2, axis=1)`."""
        targets = ", ".join(self.names[n] for n in line.targets)
        if line.value in line.targets:
            return f"{targets} = {self.spelled(line.value)}"
        self.known("split", np.split)
        return f"{targets} = split({self.text(line.value)}, {len(line.targets)}, axis={line.axis})"

    def held(self, node: Node) -> str:
        """The expression, as something that a dot, an index or a power can follow."""
        return self.text(node) if holds(node, self.names) == ATOM else f"({self.text(node)})"

    def index(self, key: Any) -> str:
        """What stands between the brackets of an index: `:, :4`."""
        if isinstance(key, tuple):
            return ", ".join(map(self.index, key))
        return key_text(slice(key.start or None, key.stop, key.step) if isinstance(key, slice) else key, self.parameter)

    def function(self, op: str) -> str:
        """The name by which an op is called: NumPy's, else the table's."""
        function = getattr(np, op) if op in SAME_CALL else forward(op)
        name = getattr(function, "__name__", "")
        if op in ("scatter", "sigmoid") or getattr(np, name, None) is function:
            return self.known(name, function)
        if getattr(np.linalg, name, None) is function:
            return f"{self.known('linalg', np.linalg)}.{name}"
        return f"{self.known('TABLE', TABLE)}[{op!r}].forward"

    def known(self, name: str, value: Any) -> str:
        """A name of the library."""
        self.library[name] = value
        return name

    def constant(self, value: Any) -> str:
        """A number as it is, an array under a name."""
        if isinstance(value, np.ndarray):
            names = chain(["constant"], (f"constant{i}" for i in count(2)))
            free = (name for name in names if name not in self.taken and self.library.get(name, value) is value)
            return self.known(next(free), value)
        if isinstance(value, np.generic):
            return f"{self.known(value.dtype.name, value.dtype.type)}({value.item()!r})"
        if isinstance(value, float) and not math.isfinite(value):
            name = self.known("nan", np.nan) if math.isnan(value) else self.known("inf", np.inf)
            return f"-{name}" if value < 0 else name
        return repr(value)

    def parameter(self, value: Any) -> str:
        """A static parameter of an op."""
        if isinstance(value, slice) or (isinstance(value, tuple) and any(isinstance(v, slice) for v in value)):
            return f"{self.known('s_', np.s_)}[{self.index(value)}]"
        if isinstance(value, list | tuple):
            inner = "".join(f"{self.parameter(v)}, " for v in value)
            return f"[{inner[:-2]}]" if isinstance(value, list) else f"({inner[: -1 if len(value) == 1 else -2]})"
        return self.constant(value)


LATEX = {name: f"\\{name}" for name in ("arctan", "cos", "cosh", "exp", "log", "max", "min", "sin", "sinh", "tan", "tanh")} | {
    "sigmoid": r"\sigma", "maximum": r"\max", "minimum": r"\min",
}  # fmt: skip
LATEX_SIGNS = {"*": r"\odot", "@": "", ">=": r"\geq", "<=": r"\leq", "==": "=", "!=": r"\neq"}


class Latex:
    """Writes expressions of LaTeX: products element by element with a circled dot, those of matrices without a sign."""

    def __init__(self, names: Mapping[Node, str]) -> None:
        self.names = names

    def text(self, node: Node) -> str:
        """A node as it is written in an expression: by its name if it has one."""
        return self.names[node] if node in self.names else self.spelled(node)

    def spelled(self, node: Node) -> str:
        """The expression that computes a node."""
        if node.is_number:
            return latex_number(node.value)
        if node.op == "constant":
            return latex_number(node.value.flat[0]) if len(np.unique(node.value)) == 1 else r"\mathrm{constant}"
        op, x = node.op, node.args[0]
        if op == "div":
            return rf"\frac{{{self.text(x)}}}{{{self.text(node.args[1])}}}"
        if op in SIGNS:
            a, b = (around(self.text(y)) if apart(node, i, self.names) else self.text(y) for i, y in enumerate(node.args))
            scaled = op == "mul" and any(math.prod(y.shape) == 1 for y in node.args)
            sign = r"\," if scaled else LATEX_SIGNS.get(SIGNS[op][0], SIGNS[op][0])
            return f"{a} {sign} {b}" if sign else f"{a} {b}"
        if op == "neg":
            return f"-{self.text(x) if holds(x, self.names) >= PRODUCT else around(self.text(x))}"
        if op == "power":
            return f"{self.held(x)}^{{{self.text(node.args[1])}}}"
        if op == "transpose":
            return rf"{self.held(x)}^\top"
        if op in ("sqrt", "root"):
            return rf"\sqrt{{{self.text(x)}}}"
        if op in ("reshape", "astype", "broadcast_to"):
            return self.text(x)
        if op == "concatenate":
            return around("; ".join(map(self.text, node.args)), "[]")
        if op == "getitem":
            key = Python({}).index(node.params["key"])
            return rf"{self.held(x)}[{key}]"
        word = op.removeprefix("np.")
        name = LATEX.get(word, rf"\mathrm{{{word}}}".replace("_", r"\_"))
        if word in REDUCTIONS:
            axis = node.params["axis"]
            name += f"_{{{', '.join(map(str, axis)) if isinstance(axis, tuple) else axis}}}"
        return name + around(", ".join(map(self.text, node.args)))

    def equation(self, line: Line) -> str:
        """A line; a value that is computed from what had its name before, with an arrow."""
        targets = [self.names[n] for n in line.targets]
        if line.value not in line.targets:
            return f"{around('; '.join(targets), '[]')} &= {self.text(line.value)}"
        text = self.spelled(line.value)
        return rf"{targets[0]} &{'=' if targets[0] not in text else chr(92) + 'leftarrow'} {text}"

    def held(self, node: Node) -> str:
        """The expression, as something that an exponent can follow."""
        bare = holds(node, self.names) == ATOM and "^" not in self.names.get(node, "")
        return self.text(node) if bare else around(self.text(node))


def around(text: str, signs: str = "()") -> str:
    """In parentheses, as high as what is in them."""
    return rf"\left{signs[0]}{text}\right{signs[1]}" if r"\frac" in text else signs[0] + text + signs[1]


def latex_number(value: Any) -> str:
    """A number in LaTeX: 1e-05 as a power of ten."""
    text = re.sub(r"e([+-]?)0*(\d+)$", lambda m: rf" \cdot 10^{{{m[1].strip('+')}{m[2]}}}", repr(np.asarray(value).item()))
    return re.sub(r"^(-?)1 \\cdot ", r"\1", text).replace("inf", r"\infty")
