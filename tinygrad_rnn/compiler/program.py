"""A program as data: the nodes of one step of a cell, forward and backward, and the rules of arithmetic that join them.

A node is an op of the table on other nodes. Equal nodes are one node: `Program.make` looks before it makes. Nothing here knows
what language the program will be printed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from ..ops import TABLE, along, basic

# Ranks, the highest of what a value depends on: parameters alone, the input, the state; in the way back the gradients of the
# outputs (seeds) and of the state, from the next step (carries); and for sums over time, all steps.
CONSTANT, INPUT, STATE, SEED, CARRY, RESULT = range(6)

UFUNCS = {name for name, op in TABLE.items() if isinstance(op.forward, np.ufunc)}
ARITHMETIC = {"add", "sub", "mul", "neg", "maximum", "minimum"}
ELEMENTWISE = UFUNCS | {"exp2", "sigmoid", "relu", "root", "where", "clip", "power", "sinc", "astype"}
NORMS = {"centre", "rms_norm"}  # what layer normalisation is made of; see norms.py
FLOATING = UFUNCS | NORMS | {"sigmoid"}  # of floats these give floats
SUMS = {"total", "product", "columns"}  # over time: of x, and over its axes; of a.T @ b; of the columns of a * b


class Node:
    """An op on other nodes; without an op, something that is given.

    params: the op's static parameters. name: what people call it, or None. line: that of the cell which needs it, if one does.
    rank: what it depends on.
    """

    __slots__ = ("args", "dtype", "line", "name", "op", "params", "rank", "shape")

    def __init__(
        self, op: str, args: tuple[Node, ...], params: dict[str, Any], shape: tuple[int, ...], dtype: Any, rank: int
    ) -> None:
        self.op, self.args, self.params, self.shape, self.dtype, self.rank = op, args, params, shape, np.dtype(dtype), rank
        self.name: str | None = None
        self.line: str | None = None

    @property
    def value(self) -> Any:
        """The number or the array of a constant; None if it is not one."""
        return self.params.get("value") if self.op == "constant" else None

    @property
    def is_number(self) -> bool:
        """Whether this is a Python number, which never widens a dtype."""
        return self.op == "constant" and not isinstance(self.value, np.ndarray)

    @property
    def size(self) -> int:
        """The number of elements at one step."""
        return prod(self.shape)

    def named(self, name: str | None) -> Node:
        """The node, under this name if it was made and has none."""
        if self.args and self.name is None:
            self.name = name
        return self

    def __repr__(self) -> str:
        return f"<{self.name or ''}:{self.op} {self.shape}>"


def elementwise(node: Node) -> bool:
    """Does each element of the result depend on the same element of each argument alone?"""
    if node.op.startswith("np."):
        function = getattr(np, node.op[3:])
        return isinstance(function, np.ufunc) and function.signature is None
    return node.op in ELEMENTWISE


def ordered(roots: Iterable[Node]) -> list[Node]:
    """The roots and all that they are made of, every node after its arguments, in an order that depends on the roots alone."""
    done: dict[Node, None] = {}
    stack = list(roots)[::-1]
    while stack:
        node = stack[-1]
        below = [x for x in node.args if x not in done] if node not in done else ()
        if below:
            stack += below[::-1]
        else:
            done[stack.pop()] = None
    return list(done)


def users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each node, those that read it, once for each time."""
    found: dict[Node, list[Node]] = {}
    for node in nodes:
        for x in node.args:
            found.setdefault(x, []).append(node)
    return found


def frozen(value: Any) -> Any:
    """A parameter as something that can be looked up."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, slice):
        return "slice", value.start, value.stop, value.step
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(frozen, value))
    return type(value).__name__, value


class Program:
    """All nodes that were made, for a step or from it. `make` makes each only once; what a step consists of is in a Step."""

    def __init__(self) -> None:
        self.known: dict[Any, Node] = {}

    def given(self, name: str, shape: tuple[int, ...], dtype: Any, rank: int) -> Node:
        """A node for what will be given when the program runs."""
        node = Node("given", (), {}, shape, dtype, rank)
        node.name = name
        return node

    def constant(self, value: Any) -> Node:
        """A node for a number or an array that never changes."""
        key = ("constant", frozen(value))
        if key not in self.known:
            array = np.asarray(value)
            self.known[key] = Node("constant", (), {"value": value}, array.shape, array.dtype, CONSTANT)
        return self.known[key]

    def make(self, op: str, *args: Node, **params: Any) -> Node:
        """The node of an op on these arguments, in the simplest form that we know."""
        simple = self.simplified(op, args, params)
        if simple is not None:
            return simple
        key = (op, args, frozen(sorted(params.items())) if params else ())
        node = self.known.get(key)
        if node is None:
            shape, dtype = infer(op, args, params)
            rank = RESULT if op in SUMS else max(x.rank for x in args)
            node = self.known[key] = Node(op, args, params, shape, dtype, rank)
            if op not in SUMS and all(x.op == "constant" for x in args):
                plain = all(type(x.value) in (int, float) for x in args)  # which never widen a dtype
                result = np.asarray(forward(op)(*(x.value for x in args), **params))
                self.known[key] = node = self.constant(result.item() if plain and not result.shape else result)
        return node

    def simplified(self, op: str, args: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
        """A node that there is already and that equals this one, or one made of simpler parts."""
        x = args[0]
        if op == "astype" and np.dtype(params["dtype"]) == x.dtype and not x.is_number:
            return x
        if op == "neg" and x.op == "neg":
            return x.args[0]
        if op == "reshape":
            if tuple(params["shape"]) == x.shape:
                return x
            if x.op == "reshape":
                return self.make("reshape", x.args[0], shape=params["shape"])
        if op == "transpose":
            axes = tuple(params["axes"])
            if axes == tuple(range(len(axes))):
                return x
            if x.op == "transpose":
                return self.make("transpose", x.args[0], axes=tuple(x.params["axes"][i] for i in axes))
        if op == "broadcast_to" and tuple(params["shape"]) == x.shape:
            return x
        if op == "getitem" and x.op == "concatenate" and basic(params["key"]):
            return self.piece_of(x, params["key"])
        if op == "concatenate":
            return self.joined(args, params["axis"] % len(x.shape))
        if op in ("add", "sub", "mul", "div"):
            return self.arithmetic(op, *args)
        return None

    def arithmetic(self, op: str, x: Node, y: Node) -> Node | None:
        """0 and 1 do nothing, and what is repeated along an axis need not be if the other side has the axis."""
        shape = x.shape if x.shape == y.shape else np.broadcast_shapes(x.shape, y.shape)
        dtype = promoted((x, y))
        if op in ("add", "mul"):
            neutral = 0 if op == "add" else 1
            for this, other in ((x, y), (y, x)):
                if filled(this, neutral) and other.dtype == dtype and not other.is_number:
                    return self.make("broadcast_to", other, shape=shape)
            if op == "mul" and y.op == "constant" and x.op == "mul" and x.args[1].op == "constant":
                return self.make("mul", x.args[0], self.make("mul", x.args[1], y))
        elif filled(y, 0 if op == "sub" else 1) and x.dtype == dtype and not x.is_number:
            return self.make("broadcast_to", x, shape=shape)
        for i, (this, other) in enumerate(((x, y), (y, x))):
            if this.op == "broadcast_to" and np.broadcast_shapes(this.args[0].shape, other.shape) == shape:
                return self.make(op, *((this.args[0], other) if i == 0 else (other, this.args[0])))
        return None

    def piece_of(self, whole: Node, key: Any) -> Node | None:
        """A slice of a concatenation that is one of the parts."""
        axis = whole.params["axis"] % len(whole.shape)
        part = key[axis] if isinstance(key, tuple) and len(key) == axis + 1 else key if axis == 0 else None
        if not isinstance(part, slice) or part.step not in (None, 1):
            return None
        if isinstance(key, tuple) and any(k != slice(None) for k in key[:axis]):
            return None
        start = 0
        for x in whole.args:
            if (part.start or 0, part.stop) == (start, start + x.shape[axis]):
                return x
            start += x.shape[axis]
        return None

    def joined(self, args: tuple[Node, ...], axis: int) -> Node | None:
        """Slices that lie side by side in one node, as one slice."""
        found: list[Node] = []
        for x in args:
            here, before = sliced(x), sliced(found[-1]) if found else None
            if here and before and here[0] == before[0] == axis and x.args[0] is found[-1].args[0] and before[2] == here[1]:
                whole, bounds = x.args[0], (before[1], here[2])
                key = (*along(axis, slice(*bounds)), *(slice(None),) * (len(whole.shape) - axis - 1))
                found[-1] = whole if bounds == (0, whole.shape[axis]) else self.make("getitem", whole, key=key)
            else:
                found.append(x)
        if len(found) == len(args):
            return args[0] if len(args) == 1 else None
        return self.make("concatenate", *found, axis=axis)


def sliced(x: Node) -> tuple[int, int, int] | None:
    """(axis, start, stop) if a node is a slice of another along one axis."""
    if x.op != "getitem" or not basic(x.params["key"]):
        return None
    key, of = x.params["key"], x.args[0].shape
    key = key if isinstance(key, tuple) else (key,)
    cut = [i for i, k in enumerate(key) if k != slice(None)]
    if len(cut) != 1 or not isinstance(key[cut[0]], slice) or key[cut[0]].step not in (None, 1):
        return None
    start, stop, _ = key[cut[0]].indices(of[cut[0]])
    return cut[0], start, stop


def filled(x: Node, number: int) -> bool:
    """Is this a constant, all of whose elements are one number?"""
    if x.op != "constant":
        return False
    array = np.asarray(x.value)
    return bool((array.size == 0 or array.flat[0] == number) and np.all(array == number))


def forward(op: str) -> Callable[..., Any]:
    """The function that an op runs."""
    return getattr(np, op[3:]) if op.startswith("np.") else TABLE[op].forward


def promoted(args: Sequence[Node]) -> Any:
    """The dtype of an elementwise result; a Python number never widens it."""
    first = args[0].dtype
    if all(x.dtype is first and not isinstance(x.value, int | float) for x in args):
        return first
    return np.result_type(*(type(x.value)(x.value) if x.is_number else x.dtype for x in args))


def sample(x: Node) -> Any:
    """A value of a node's shape and dtype; a matrix has an inverse."""
    if x.op == "constant":
        return x.value
    ones = np.ones(x.shape, x.dtype)
    return ones + np.eye(*x.shape[-2:], dtype=x.dtype) if len(x.shape) > 1 and x.dtype.kind == "f" else ones


def infer(op: str, args: Sequence[Node], params: dict[str, Any]) -> tuple[tuple[int, ...], Any]:
    """The shape and dtype of a result: known for the common ops, and for all others that of a sample."""
    shapes = [x.shape for x in args]
    floats = op in ARITHMETIC or all(x.dtype.kind == "f" or x.is_number for x in args)
    if op in ARITHMETIC or (op in FLOATING and floats):
        same = all(shape == shapes[0] for shape in shapes)
        return shapes[0] if same else np.broadcast_shapes(*shapes), promoted(args)
    if op == "matmul" and len(shapes[0]) == 2 <= len(shapes[1]):
        return (*shapes[1][:-2], shapes[0][0], shapes[1][-1]), promoted(args)
    if op == "reshape" and -1 not in params["shape"]:
        return tuple(params["shape"]), args[0].dtype
    if op == "product":
        return (shapes[0][1], shapes[1][1]), promoted(args)
    if op == "columns":
        return shapes[0][1:], promoted(args)
    if op in ("total", "sum", "mean"):
        axes = params["axes"] if op == "total" else params["axis"]
        kept = [1 if i in axes else n for i, n in enumerate(shapes[0]) if i not in axes or params.get("keepdims")]
        if floats:
            return tuple(kept), args[0].dtype
    if op == "aligned":
        return shapes[0], args[0].dtype
    if op == "getitem" and basic(params["key"]):
        return np.empty(shapes[0], bool)[params["key"]].shape, args[0].dtype
    if op == "transpose":
        return tuple(shapes[0][a] for a in params["axes"]), args[0].dtype
    with np.errstate(all="ignore"):
        result = forward(op)(*map(sample, args), **params)
    return result.shape, result.dtype
