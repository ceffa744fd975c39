"""The names people call. They are NumPy's, with NumPy's meaning; sigmoid and relu are the only ones that NumPy lacks.

Each takes Tensors, arrays or numbers and returns a Tensor. `np.tanh(tensor)` and `tensor.sum()` end in the same ops.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from . import ops
from .operators import Axis, normal, unpacked
from .tensor import Tensor, apply, lift

__all__ = [
    "abs", "add", "broadcast_to", "clip", "concatenate", "cos", "divide", "dot", "einsum", "exp", "expand_dims", "log",
    "log1p", "logaddexp", "matmul", "max", "maximum", "mean", "min", "minimum", "moveaxis", "multiply", "negative", "outer",
    "power", "prod", "ravel", "relu", "reshape", "sigmoid", "sin", "split", "sqrt", "square", "squeeze", "stack", "std",
    "subtract", "sum", "swapaxes", "tanh", "transpose", "var", "where",
]  # fmt: skip


def tensor(x: Any) -> Tensor:
    """x as a Tensor with axes to speak of, which the Python numbers in an expression have not."""
    return x if isinstance(x, Tensor) else Tensor(x)


# -- elementwise -------------------------------------------------------------------------------------------------------------


def negative(x: Any) -> Tensor:
    """-x."""
    return apply(ops.NEG, x)


def exp(x: Any) -> Tensor:
    """e to the power of x."""
    return apply(ops.EXP, x)


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    return apply(ops.LOG, x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), exact for small x."""
    return apply(ops.LOG1P, x)


def sqrt(x: Any) -> Tensor:
    """The square root."""
    return apply(ops.SQRT, x)


def square(x: Any) -> Tensor:
    """x * x."""
    return apply(ops.MUL, x, x)


def abs(x: Any) -> Tensor:
    """The absolute value; its gradient at 0 is 0."""
    return apply(ops.ABS, x)


def sin(x: Any) -> Tensor:
    """The sine of x, in radians."""
    return apply(ops.SIN, x)


def cos(x: Any) -> Tensor:
    """The cosine of x, in radians."""
    return apply(ops.COS, x)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return apply(ops.TANH, x)


def sigmoid(x: Any) -> Tensor:
    """The logistic function 1 / (1 + exp(-x)), without overflow at any x."""
    return apply(ops.SIGMOID, tensor(x))


def relu(x: Any) -> Tensor:
    """max(x, 0); its gradient at 0 is 0."""
    return apply(ops.RELU, x)


def add(x: Any, y: Any) -> Tensor:
    """x + y."""
    return apply(ops.ADD, x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """x - y."""
    return apply(ops.SUB, x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """x * y, elementwise."""
    return apply(ops.MUL, x, y)


def divide(x: Any, y: Any) -> Tensor:
    """x / y."""
    return apply(ops.DIV, x, y)


def power(x: Any, y: Any) -> Tensor:
    """x ** y."""
    return apply(ops.POWER, x, y)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of the two, elementwise; where they are equal each has half of the gradient."""
    return apply(ops.MAXIMUM, x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of the two, elementwise; where they are equal each has half of the gradient."""
    return apply(ops.MINIMUM, x, y)


def logaddexp(x: Any, y: Any) -> Tensor:
    """log(exp(x) + exp(y)), without overflow."""
    return apply(ops.LOGADDEXP, x, y)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, else y."""
    return apply(ops.WHERE, condition, x, y)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    """Each element limited to [a_min, a_max], or [min, max]; the gradient passes where nothing is cut off, bounds included."""
    return lift(x).clip(a_min if min is None else min, a_max if max is None else max)


# -- products ----------------------------------------------------------------------------------------------------------------


def matmul(a: Any, b: Any) -> Tensor:
    """`a @ b`: vectors, matrices, or stacks of matrices, as in NumPy."""
    return apply(ops.MATMUL, a, b)


def dot(a: Any, b: Any) -> Tensor:
    """NumPy's dot: for vectors and matrices the same as `a @ b`."""
    return lift(a).dot(b)


def outer(a: Any, b: Any) -> Tensor:
    """a_i * b_j for all i and j; both are flattened first."""
    return tensor(a).reshape(-1, 1) * tensor(b).reshape(1, -1)


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Einstein's summation, for example einsum("tbe,eh->tbh", x, w). Letters that repeat and "..." are as in NumPy."""
    if not isinstance(subscripts, str):
        raise TypeError(f'einsum: expected subscripts such as "ij,jk->ik" first, got a {type(subscripts).__name__}')
    tensors = [tensor(x) for x in operands]
    spec = explicit(subscripts, [x.ndim for x in tensors])
    return apply(ops.EINSUM, *tensors, spec=spec)


def explicit(subscripts: str, ranks: Sequence[int]) -> str:
    """Spell a subscript string out: no spaces, no "...", the result named."""
    spec = subscripts.replace(" ", "")
    inputs, arrow, result = spec.partition("->")
    names = inputs.split(",")
    if len(names) != len(ranks):
        raise ValueError(f"einsum: {subscripts!r} has {len(names)} operands, got {len(ranks)}")
    unused = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in spec]
    hidden = [rank - len(name.replace("...", "")) if "..." in name else 0 for name, rank in zip(names, ranks, strict=True)]
    if any(h < 0 for h in hidden):
        raise ValueError(f"einsum: {subscripts!r} names more axes than the operands have ({list(ranks)})")
    dots = "".join(unused[: builtins.max(hidden, default=0)])
    names = [name.replace("...", dots[len(dots) - h :]) for name, h in zip(names, hidden, strict=True)]
    if arrow:
        result = result.replace("...", dots)
    else:
        letters = "".join(names)
        result = dots + "".join(c for c in sorted(set(letters) - set(dots)) if letters.count(c) == 1)
    return ",".join(names) + "->" + result


# -- reductions --------------------------------------------------------------------------------------------------------------


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`: None for all of them, an int, or a tuple of ints."""
    return tensor(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`."""
    return tensor(x).mean(axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`; ties share the gradient evenly."""
    return tensor(x).max(axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`; ties share the gradient evenly."""
    return tensor(x).min(axis, keepdims)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`."""
    return tensor(x).prod(axis, keepdims)


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The variance over `axis`."""
    return tensor(x).var(axis, ddof, keepdims)


def std(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation over `axis`."""
    return tensor(x).std(axis, ddof, keepdims)


# -- shapes ------------------------------------------------------------------------------------------------------------------


def reshape(x: Any, shape: int | Sequence[int]) -> Tensor:
    """The same elements in another shape; -1 for what remains."""
    return tensor(x).reshape(shape)


def ravel(x: Any) -> Tensor:
    """The elements in one axis."""
    return tensor(x).ravel()


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; by default reversed."""
    return tensor(x).transpose(*(() if axes is None else (tuple(axes),)))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    return tensor(x).swapaxes(axis1, axis2)


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other places; the rest keep their order."""
    t = tensor(x)
    return t.transpose(np.moveaxis(np.empty(tuple(range(t.ndim)), bool), source, destination).shape)


def squeeze(x: Any, axis: Axis = None) -> Tensor:
    """Without the axes of length 1, or without those named."""
    return tensor(x).squeeze(axis)


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> Tensor:
    """With a new axis of length 1 at each place named."""
    t = tensor(x)
    return t.reshape(np.expand_dims(np.empty(t.shape, bool), axis).shape)


def broadcast_to(x: Any, shape: int | Sequence[int]) -> Tensor:
    """Repeated to a shape; the gradient is summed over the repeats."""
    return apply(ops.BROADCAST_TO, x, shape=unpacked((shape,)))


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Joined along an axis they have; axis=None flattens them first."""
    if axis is None:
        arrays, axis = [tensor(x).ravel() for x in arrays], 0
    return apply(ops.CONCATENATE, *arrays, axis=axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Joined along a new axis."""
    return apply(ops.STACK, *arrays, axis=axis)


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut into equal sections (an int), or at the given indices: the gates of a cell are split(z, 4, axis=-1)."""
    x, where = tensor(x), indices_or_sections
    where = int(where) if isinstance(where, int | np.integer) else tuple(map(int, where))
    axis = normal(axis, x.ndim)
    return [apply(ops.SPLIT, x, **piece) for piece in pieces(x.shape[axis], where, axis)]


@lru_cache
def pieces(length: int, where: int | tuple[int, ...], axis: int) -> list[dict[str, Any]]:
    """The parameters of each piece of an axis that is split."""
    if isinstance(where, int):
        if where < 1 or length % where:
            raise ValueError(f"split: an axis of length {length} cannot be cut into {where} equal sections")
        bounds = tuple(range(0, length + 1, length // where)) if length else (0,) * (where + 1)
    else:
        bounds = (0, *(slice(i).indices(length)[1] for i in where), length)
        if list(bounds) != sorted(bounds):
            raise ValueError(f"split: expected indices in ascending order, got {list(where)}")
    lead = (slice(None),) * axis
    return [
        {"key": (*lead, slice(start, stop)), "piece": i, "bounds": bounds, "axis": axis}
        for i, (start, stop) in enumerate(pairwise(bounds))
    ]
