"""Operations that C does not have as they are, in those that it has: a rule for each, in a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from ...ops import basic
from ..norms import deviation
from ..program import CONSTANT, Node, Program, elementwise, promoted
from ..rebuild import everywhere
from ..roll import turned
from ..trace import plain_key
from .rows import column

Make = Callable[..., Node]  # of an op, on nodes and numbers
Rule = Callable[..., Node | None]  # of make, the node and its arguments; None if the node is to stay


@everywhere
def simpler(program: Program, node: Node, args: tuple[Node, ...]) -> Node | None:
    """A step by these rules."""
    if not args or node.rank == CONSTANT:
        return None
    result = made(program, node.op, *args, **node.params)
    for x in result.args:
        x.line = x.line or node.line
    return result


def made(program: Program, op: str, *args: Any, **params: Any) -> Node:
    """A node, or what stands for it by the rules."""
    node = program.make(op, *(x if isinstance(x, Node) else program.constant(x) for x in args), **params)
    if node.rank == CONSTANT or not node.args:
        return node
    make, rule = partial(made, program), RULES.get(node.op)
    simple = floats(make, node) or (rule and rule(make, node, *node.args, **node.params))
    return simple or node


def floats(make: Make, node: Node) -> Node | None:
    """Integers that meet floats become floats first."""
    args = node.args
    dtype = node.dtype if node.dtype.kind != "b" else promoted(args)
    if not elementwise(node) or dtype.kind != "f" or node.op == "astype":
        return None
    met = tuple(make("astype", x, dtype=dtype) if x.dtype.kind in "iu" and not x.is_number else x for x in args)
    if node.op == "where":
        met = args[0], *met[1:]
    return make(node.op, *met, **node.params) if met != args else None


# -- truth values and integers -----------------------------------------------------------------------------------------------


def logic(name: str) -> Rule:
    """An operation on truth values that has another name elsewhere."""
    return lambda make, node, *args: make(name, *args) if all(x.dtype.kind == "b" for x in args) else None


def where(make: Make, node: Node, condition: Node, *others: Node) -> Node | None:
    """A condition is a truth value."""
    return None if condition.dtype.kind == "b" else make("where", make("np.not_equal", condition, 0), *others)


def astype(make: Make, node: Node, x: Node, dtype: Any) -> Node | None:
    """Truth values become floats at once, and so they are counted in floats if these are wanted."""
    below = x.args[0] if x.args else x
    if x.op == "astype" and below.dtype.kind == "b":
        return make("astype", below, dtype=dtype)
    if x.op == "sum" and below.op == "astype" and below.args[0].dtype.kind == "b":
        return make("sum", make("astype", below, dtype=dtype), **x.params)
    return None


# -- arithmetic --------------------------------------------------------------------------------------------------------------


def div(make: Make, node: Node, x: Node, y: Node) -> Node | None:
    """In C a quotient of truth values is an integer, or the end of the process. And one division is enough for a row."""
    if x.dtype.kind == "b":
        return make("div", make("astype", x, dtype=node.dtype), y)
    if len(x.shape) == 2 and y.shape == (x.shape[0], 1) and deviation(y):
        return make("mul", x, make("div", 1, y))
    return None


def add(make: Make, node: Node, x: Node, y: Node) -> Node | None:
    """x + -y is x - y; of truth values, whether one of them holds."""
    if x.dtype.kind == y.dtype.kind == "b":
        return make("np.logical_or", x, y)
    return make("sub", x, y.args[0]) if y.op == "neg" else make("sub", y, x.args[0]) if x.op == "neg" else None


def sub(make: Make, node: Node, x: Node, y: Node) -> Node | None:
    """x - -y is x + y."""
    return make("add", x, y.args[0]) if y.op == "neg" else None


def power(make: Make, node: Node, x: Node, y: Node) -> Node | None:
    """x ** 2"""
    return make("mul", x, x) if y.is_number and y.value == 2 and x.dtype == node.dtype else None


def rounded(make: Make, node: Node, x: Node, *decimals: Node, **params: Any) -> Node | None:
    """To whole numbers."""
    return None if decimals or params else make("np.rint", x)


def nan_to_num(make: Make, node: Node, x: Node, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Node | None:
    """Choices, which NumPy makes in this order."""
    if x.dtype.kind != "f" or any(map(np.ndim, (nan, posinf, neginf))):
        return None
    most = float(np.finfo(x.dtype).max)
    high, low = most if posinf is None else posinf, -most if neginf is None else neginf
    if nan == high == low:
        return make("where", make("np.isfinite", x), x, nan)
    finite = make("where", make("np.equal", x, np.inf), high, make("where", make("np.equal", x, -np.inf), low, x))
    return make("where", make("np.isnan", x), nan, finite)


# -- of a row ----------------------------------------------------------------------------------------------------------------


def mean(make: Make, node: Node, x: Node, **params: Any) -> Node:
    """A sum, divided by how many there are."""
    return make("div", make("sum", make("astype", x, dtype=node.dtype), **params), prod(x.shape[a] for a in params["axis"]))


def counted(make: Make, node: Node, x: Node, **params: Any) -> Node | None:
    """A sum of truth values."""
    return make("sum", make("astype", x, dtype=node.dtype), **params) if x.dtype.kind == "b" else None


def extreme(op: str) -> Rule:
    """The largest or the smallest, without a gradient."""

    def rule(make: Make, node: Node, x: Node, axis: Any = None, keepdims: Any = False, **others: Any) -> Node | None:
        plain = isinstance(axis, int) and not others
        return make(op, x, axis=(axis % len(x.shape),), keepdims=bool(keepdims)) if plain else None

    return rule


# -- a number for each row, and a column of them -----------------------------------------------------------------------------


def as_column(make: Make, x: Node) -> Node:
    """Numbers (N,) as a column (N, 1)."""
    return make("reshape", x, shape=(x.size, 1))


def whole(key: Any, shape: tuple[int, ...]) -> bool:
    """Does an index take all there is, like [:, None]?"""
    return basic(key) and all(part in (None, slice(None)) for part in plain_key(key, shape))


def getitem(make: Make, node: Node, x: Node, key: Any) -> Node | None:
    """x[:, None] is a column."""
    return make("reshape", x, shape=node.shape) if whole(key, x.shape) else None


def stack(make: Make, node: Node, *args: Node, axis: int) -> Node | None:
    """Numbers side by side are columns side by side."""
    if axis != 1 or any(len(x.shape) > 1 for x in args):
        return None
    return make("concatenate", *(as_column(make, x) for x in args), axis=1)


def transpose(make: Make, node: Node, x: Node, axes: Any) -> Node | None:
    """Rows that were made of numbers, turned: columns."""
    if x.op != "reshape" or len(x.shape) != 2 or tuple(axes) != (1, 0):
        return None
    below = x.args[0]
    if x.shape[0] == 1 and below.shape in (x.shape[1:], node.shape):
        return as_column(make, below)
    if below.op == "concatenate" and all(y.shape == x.shape[1:] for y in below.args):
        return make("stack", *below.args, axis=1)
    return None


def matmul(make: Make, node: Node, a: Node, b: Node) -> Node | None:
    """Products with vectors, and of what is one element wide."""
    if a.dtype != b.dtype and not turned(a):
        return make("matmul", *(make("astype", x, dtype=node.dtype) for x in (a, b)))
    if len(a.shape) == 2 and len(b.shape) == 1 and node.dtype.kind != "b":
        return make("sum", make("mul", a, b), axis=(1,), keepdims=False)
    if len(a.shape) == 1 and len(b.shape) == 2 and a.rank > CONSTANT:  # a sum over the batch
        return make("reshape", make("matmul", make("transpose", as_column(make, a), axes=(1, 0)), b), shape=node.shape)
    if a.shape == (1, 1) and b.rank == CONSTANT and turned(a):  # a number for the only row
        a = a.args[0]
    if len(b.shape) == 2 and a.rank > CONSTANT and turned(a) and 1 in node.shape:  # a sum over the batch, too
        return make("reshape", make("sum", make("mul", a.args[0], b), axis=(0,), keepdims=False), shape=node.shape)
    if len(a.shape) == len(b.shape) == 2 and a.shape[1] == 1 and not turned(a):
        if b.rank == CONSTANT:  # slices of vectors are free
            b = make("reshape", b.args[0] if turned(b) else b, shape=b.shape[1:])
        return make("mul", a, b)
    return None


# -- pieces ------------------------------------------------------------------------------------------------------------------


def concatenate(make: Make, node: Node, *args: Node, axis: int) -> Node | None:
    """Of one dtype, and of what has elements."""
    parts = tuple(make("astype", x, dtype=node.dtype) for x in args if x.size or not node.size)
    return make("concatenate", *parts, axis=axis) if parts != args else None


def scatter(make: Make, node: Node, *args: Node, keys: Any, shape: Any) -> Node | None:
    """Slices of rows, or elements of them, among zeros: concatenations. But the gradient of a weight is summed over time."""
    if len(args) == 1 and whole(keys[0], shape):
        return make("reshape", args[0], shape=shape)
    if len(node.shape) != 2 or any(x.op == "matmul" and turned(x.args[0]) for x in args):
        return None
    found = list[tuple[int, Node]]()
    for g, key in zip(args, keys, strict=True):
        start = column(key, node.shape)
        if start is None:
            return None
        if g.size:
            found.append((start, g if len(g.shape) == 2 else as_column(make, g)))
    found.sort(key=lambda pair: pair[0])
    if all(a + x.shape[1] <= b for (a, x), (b, _) in pairwise(found)):
        return among_zeros(make, node, *found)
    return reduce(partial(make, "add"), (among_zeros(make, node, each) for each in found))


def among_zeros(make: Make, node: Node, *pieces: tuple[int, Node]) -> Node:
    """Pieces of rows, each from some column on, and zeros around them."""
    n, wide = node.shape
    joined, at, zero = list[Node](), 0, np.zeros((), node.dtype)
    for start, x in (*pieces, (wide, None)):
        joined += [make("broadcast_to", zero, shape=(n, start - at))] if start > at else []
        joined += [x] if x is not None else []
        at = start + (x.shape[1] if x is not None else 0)
    return make("concatenate", *joined, axis=1)


def full(value: int) -> Rule:
    """The same number everywhere."""
    return lambda make, node, x, **params: make("broadcast_to", np.array(value, node.dtype), shape=node.shape)


RULES: dict[str, Rule] = {
    "mul": logic("np.logical_and"), "np.bitwise_and": logic("np.logical_and"), "np.bitwise_or": logic("np.logical_or"),
    "np.bitwise_xor": logic("np.logical_xor"), "np.invert": logic("np.logical_not"), "where": where, "astype": astype,
    "add": add, "sub": sub, "div": div, "power": power, "np.nan_to_num": nan_to_num,
    "relu": lambda make, node, x: make("maximum", x, 0),
    "clip": lambda make, node, x, low, high: make("minimum", make("maximum", x, low), high),
    "np.fix": lambda make, node, x: make("np.trunc", x), "np.around": rounded, "np.round": rounded,
    "mean": mean, "sum": counted, "np.max": extreme("max"), "np.min": extreme("min"),
    "getitem": getitem, "stack": stack, "transpose": transpose, "matmul": matmul, "concatenate": concatenate,
    "scatter": scatter, "np.zeros_like": full(0), "np.ones_like": full(1),
}  # fmt: skip
