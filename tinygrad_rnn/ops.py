"""Every op: its name, its NumPy forward, and one derivative for each of its inputs.

A derivative maps `(g, out, *inputs, **params)` to the gradient of one input, where `g` is the gradient of the output `out`.
It is written in plain NumPy. Run on arrays it is the backward pass; Tensors speak NumPy too (numpy_api.py), so run on Tensors
it makes a graph again, and that is all there is to second derivatives.
Nothing here knows about broadcasting: the walker in tensor.py undoes it, once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Callable[..., Any]


class Op:
    """A row of the table.

    `rules` holds one derivative per input. An op of any number of inputs has a single one, which also takes the index of the
    input: `rule(i, g, out, *inputs, **params)`. None stands for an input without a derivative, such as a condition.
    """

    __slots__ = ("forward", "name", "rules", "variadic")

    def __init__(self, name: str, forward: Rule, *rules: Rule | Together | None, variadic: bool = False) -> None:
        self.name, self.forward, self.rules, self.variadic = name, forward, rules, variadic

    def rules_for(self, count: int) -> Sequence[Rule | Together | None]:
        """The derivatives for `count` inputs, in their order."""
        return [partial(self.rules[0], i) for i in range(count)] if self.variadic else self.rules  # type: ignore[arg-type, operator, misc]

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Together:
    """A derivative that sees all the uses of one input at once: `rule([(g, inputs, params), ...])` is their summed gradient.

    Some sums are far cheaper whole. A weight used at T steps needs one product of stacked rows instead of T products and T
    additions; T slices of one array fill one array of zeros instead of T.
    """

    __slots__ = ("rule",)

    def __init__(self, rule: Callable[[list[tuple[Any, Sequence[Any], dict[str, Any]]]], Any]) -> None:
        self.rule = rule


TABLE: dict[str, Op] = {}


def op(name: str, forward: Rule, *rules: Rule | Together | None, variadic: bool = False) -> Op:
    """Add a row to the table."""
    TABLE[name] = Op(name, forward, *rules, variadic=variadic)
    return TABLE[name]


# -- what the rows share -----------------------------------------------------------------------------------------------------


HALF = {np.dtype(t): np.array(0.5, t) for t in (np.float16, np.float32, np.float64, np.longdouble)}  # quicker than a number


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) as tanh(x/2)/2 + 1/2: nothing overflows, and one pass of tanh in place."""
    half = HALF.get(x.dtype, HALF[np.dtype(np.float64)])
    y = np.asarray(x * half)
    np.tanh(y, out=y)
    y *= half
    y += half
    return y


def matmul(a: Any, b: Any) -> Any:
    """`a @ b`; for two matrices `dot` says the same with less ceremony."""
    return a.dot(b) if a.ndim == b.ndim == 2 else a @ b


def matmul_da(g: Any, out: Any, a: Any, b: Any) -> Any:
    """d(a @ b)/da: g @ b.T, and what that means for vectors."""
    if b.ndim == 1:
        return g[..., None] * b
    if a.ndim == 1:
        return matmul(b, g[..., None])[..., 0]
    return matmul(g, b.swapaxes(-1, -2))


def matmul_db(uses: list[tuple[Any, Sequence[Any], dict[str, Any]]]) -> Any:
    """d(a @ b)/db: a.T @ g. For a matrix b every leading axis of a and g, and every use, only adds rows to one product."""
    b = uses[0][1][1]
    if b.ndim == 2:
        rows = [as_rows(a) for _, (a, _), _ in uses]
        grads = [as_rows(g) for g, _, _ in uses]
        if len(uses) == 1:
            return matmul(rows[0].T, grads[0])
        return matmul(np.concatenate(rows).T, np.concatenate(grads))
    return total(_matmul_db_one(g, a, b) for g, (a, _), _ in uses)


def _matmul_db_one(g: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return g * a if b.ndim == 1 else a[:, None] * g[..., None, :]
    return fit(g[..., None] * a if b.ndim == 1 else matmul(a.swapaxes(-1, -2), g), b.shape)


def as_rows(x: Any) -> Any:
    """A matrix with the last axis of `x`, and all that lead to it in one."""
    return x if x.ndim == 2 else x.reshape((prod(x.shape[:-1]), x.shape[-1]))


def total(terms: Iterable[Any]) -> Any:
    """The sum of a few arrays or Tensors (`sum` would begin with the number 0)."""
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def fit(g: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum `g` over every axis along which an input of this shape was repeated."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = [*range(lead), *[i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1]]
    return g.sum(axis=tuple(axes)).reshape(shape)


def keep(y: Any, x: Any, axis: Any) -> Any:
    """Give a reduction of `x` back the axes of length 1 that it lost."""
    gone = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    return y.reshape([1 if i in gone else n for i, n in enumerate(x.shape)])


def count(x: Any, axis: Any) -> int:
    """How many elements of `x` a reduction over `axis` puts into each result."""
    if axis is None:
        return int(x.size)
    return prod(x.shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)))


def ties(g: Any, out: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Where `x` attains its extremum; several that tie share the gradient evenly."""
    hit = np.equal(x, keep(out, x, axis))
    return keep(g, x, axis) * hit / hit.sum(axis=axis, keepdims=True)


def others(x: Any, axis: Any) -> Any:
    """For each element of `x`, the product of the other ones along `axis`. No division, so zeros are as good as any number."""
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    flat = x.transpose(order)
    moved = flat.shape
    flat = flat.reshape(*moved[: x.ndim - len(axes)], 1, count(x, axis))
    rest = np.where(np.eye(count(x, axis), dtype=bool), 1, flat).prod(axis=-1)
    return rest.reshape(moved).transpose(tuple(order.index(i) for i in range(x.ndim)))


def basic(key: Any) -> bool:
    """Is this NumPy's basic indexing (a view, no element twice), as opposed to an index by arrays?"""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is Ellipsis or type(part) in (int, slice) for part in parts)


def scatter(*gs: Any, keys: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Zeros of this shape with each `g` added at its key: what indexing is, read backwards."""
    out = np.zeros(shape, np.result_type(*gs))
    for g, key in zip(gs, keys, strict=True):
        if basic(key):
            view = out[key]
            out[key] = view + g if view.ndim == 0 else np.add(view, g, out=view)
        else:
            np.add.at(out, key, g)
    return out


def index_dx(uses: list[tuple[Any, Sequence[Any], dict[str, Any]]]) -> Any:
    """The gradient of what was indexed: every use adds at its own place."""
    gs, keys, x = [g for g, _, _ in uses], [params["key"] for _, _, params in uses], uses[0][1][0]
    return call("scatter", *gs, keys=keys, shape=x.shape)


def split_dx(uses: list[tuple[Any, Sequence[Any], dict[str, Any]]]) -> Any:
    """The gradient of what was split: its pieces' gradients joined again, if each piece was used."""
    bounds, axis = uses[0][2]["bounds"], uses[0][2]["axis"]
    pieces = {params["piece"]: g for g, _, params in uses if params["bounds"] is bounds}
    if len(pieces) == len(uses) == len(bounds) - 1:
        return np.concatenate([pieces[i] for i in range(len(pieces))], axis=axis)
    return index_dx(uses)


def call(name: str, *inputs: Any, **params: Any) -> Any:
    """Run a row that NumPy has no name for, on arrays or on Tensors."""
    join = next((x.apply for x in inputs if not isinstance(x, np.ndarray | np.generic)), None)
    return TABLE[name].forward(*inputs, **params) if join is None else join(TABLE[name], *inputs, **params)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes a permutation."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def piece_of(i: int, arrays: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """The key of the i-th of some concatenated arrays in the whole."""
    start: int = sum(a.shape[axis] for a in arrays[:i])
    return (*[slice(None)] * (axis % arrays[i].ndim), slice(start, start + arrays[i].shape[axis]))


def einsum_dx(i: int, g: Any, out: Any, *xs: Any, spec: str) -> Any:
    """The gradient of the i-th operand: the output's letters swap places with the operand's."""
    inputs, result = spec.split("->")
    names = inputs.split(",")
    mine, rest = names[i], [name for j, name in enumerate(names) if j != i]
    known = set(result).union(*rest)
    letters = "".join(c for j, c in enumerate(mine) if c in known and c not in mine[:j])
    grad = np.einsum(",".join([result, *rest]) + "->" + letters, g, *(x for j, x in enumerate(xs) if j != i))
    sizes, there = dict(zip(mine, xs[i].shape, strict=True)), dict(zip(letters, grad.shape, strict=True))
    grad = grad.reshape(tuple(there.get(c, 1) for c in sizes))
    grad = np.broadcast_to(grad, tuple(there.get(c, 1) if n == 1 else n for c, n in sizes.items()))
    if len(sizes) == len(mine):
        return grad
    return call("scatter", grad, keys=[diagonal(mine, sizes)], shape=xs[i].shape)


def diagonal(letters: str, sizes: dict[str, int]) -> tuple[Any, ...]:
    """The index arrays that read the diagonal of an operand whose letters repeat, as in "ii->i"."""
    distinct = list(dict.fromkeys(letters))
    grids = np.meshgrid(*(np.arange(sizes[c]) for c in distinct), indexing="ij")
    return tuple(grids[distinct.index(c)] for c in letters)


# -- the table ----------------------------------------------------------------------------------------------------------------
# fmt: off

# Elementwise, one input.
NEG      = op("neg",      np.negative,   lambda g, out, x: -g)
EXP      = op("exp",      np.exp,        lambda g, out, x: g * out)
LOG      = op("log",      np.log,        lambda g, out, x: g / x)
LOG1P    = op("log1p",    np.log1p,      lambda g, out, x: g / (1 + x))
SQRT     = op("sqrt",     np.sqrt,       lambda g, out, x: g * 0.5 / out)
ABS      = op("abs",      np.absolute,   lambda g, out, x: g * np.sign(x))
SIN      = op("sin",      np.sin,        lambda g, out, x: g * np.cos(x))
COS      = op("cos",      np.cos,        lambda g, out, x: -g * np.sin(x))
TANH     = op("tanh",     np.tanh,       lambda g, out, x: g - g * out * out)
SIGMOID  = op("sigmoid",  sigmoid,       lambda g, out, x: g * (out - out * out))
RELU     = op("relu",     lambda x: np.maximum(x, 0), lambda g, out, x: g * (out > 0))
ASTYPE   = op("astype",   lambda x, dtype: x.astype(dtype), lambda g, out, x, dtype: g)

# Elementwise, two inputs or three.
ADD      = op("add",      np.add,        lambda g, out, x, y: g,          lambda g, out, x, y: g)
SUB      = op("sub",      np.subtract,   lambda g, out, x, y: g,          lambda g, out, x, y: -g)
MUL      = op("mul",      np.multiply,   lambda g, out, x, y: g * y,      lambda g, out, x, y: g * x)
DIV      = op("div",      np.divide,     lambda g, out, x, y: g / y,      lambda g, out, x, y: -g * out / y)
POWER    = op("power",    lambda x, y: x ** y,
              lambda g, out, x, y: g * y * x ** (y - (abs(y) > 0)),
              lambda g, out, x, y: g * out * np.log(np.where(np.equal(x, 0), 1, x)))
MAXIMUM  = op("maximum",  np.maximum,
              lambda g, out, x, y: g * (x > y) + g / 2 * np.equal(x, y),
              lambda g, out, x, y: g * (y > x) + g / 2 * np.equal(x, y))
MINIMUM  = op("minimum",  np.minimum,
              lambda g, out, x, y: g * (x < y) + g / 2 * np.equal(x, y),
              lambda g, out, x, y: g * (y < x) + g / 2 * np.equal(x, y))
LOGADDEXP = op("logaddexp", np.logaddexp, lambda g, out, x, y: g * np.exp(x - out), lambda g, out, x, y: g * np.exp(y - out))
WHERE    = op("where",    np.where,      None, lambda g, out, c, x, y: np.where(c, g, 0),
                                               lambda g, out, c, x, y: np.where(c, 0, g))
CLIP     = op("clip",     lambda x, low, high: np.minimum(np.maximum(x, low), high),
                                         lambda g, out, x, low, high: g * (x >= low) * (x <= high),
                                         lambda g, out, x, low, high: g * (x < low) * (low <= high),
                                         lambda g, out, x, low, high: g * (np.maximum(x, low) > high))

# Products.
MATMUL   = op("matmul",   matmul,        matmul_da, Together(matmul_db))
EINSUM   = op("einsum",   lambda *xs, spec: np.einsum(spec, *xs), einsum_dx, variadic=True)

# Reductions.
SUM      = op("sum",      lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: np.broadcast_to(keep(g, x, axis), x.shape))
MEAN     = op("mean",     lambda x, axis, keepdims: x.mean(axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: np.broadcast_to(keep(g, x, axis) / count(x, axis), x.shape))
MAX      = op("max",      lambda x, axis, keepdims: np.maximum.reduce(x, axis=axis, keepdims=keepdims), ties)
MIN      = op("min",      lambda x, axis, keepdims: np.minimum.reduce(x, axis=axis, keepdims=keepdims), ties)
PROD     = op("prod",     lambda x, axis, keepdims: np.multiply.reduce(x, axis=axis, keepdims=keepdims),
                          lambda g, out, x, axis, keepdims: keep(g, x, axis) * others(x, axis))

# Shapes.
RESHAPE  = op("reshape",  lambda x, shape: x.reshape(shape),      lambda g, out, x, shape: g.reshape(x.shape))
TRANSPOSE = op("transpose", lambda x, axes: x.transpose(axes),    lambda g, out, x, axes: g.transpose(inverse(axes)))
BROADCAST_TO = op("broadcast_to", lambda x, shape: np.broadcast_to(x, shape), lambda g, out, x, shape: g)
CONCATENATE = op("concatenate", lambda *xs, axis: np.concatenate(xs, axis=axis),
                 lambda i, g, out, *xs, axis: g[piece_of(i, xs, axis)], variadic=True)
STACK    = op("stack",    lambda *xs, axis: np.stack(xs, axis=axis),
                          lambda i, g, out, *xs, axis: g[(slice(None),) * (axis % out.ndim) + (i,)], variadic=True)

# Indexing and its adjoint.
GETITEM  = op("getitem",  lambda x, key: x[key],                          Together(index_dx))
SPLIT    = op("split",    lambda x, key, piece, bounds, axis: x[key],     Together(split_dx))
SCATTER  = op("scatter",  scatter, lambda i, g, out, *gs, keys, shape: g[keys[i]], variadic=True)
# fmt: on


def rows() -> Iterator[Op]:
    """The rows of the table, in its order."""
    yield from TABLE.values()
