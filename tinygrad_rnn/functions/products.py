"""The functions that multiply vectors, matrices and arrays of any rank."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np

from .. import ops
from ..ops import normal
from ..tensor import Tensor, apply, lift
from .convert import tensor
from .shapes import moveaxis, stack


def matmul(a: Any, b: Any) -> Tensor:
    """`a @ b`: vectors, matrices, or stacks of matrices, as in NumPy."""
    return apply(ops.MATMUL, a, b)


def dot(a: Any, b: Any) -> Tensor:
    """NumPy's dot: for vectors and matrices the same as `a @ b`."""
    return lift(a).dot(b)


def outer(a: Any, b: Any) -> Tensor:
    """a_i * b_j for all i and j; both are flattened first."""
    return tensor(a).reshape(-1, 1) * tensor(b).reshape(1, -1)


def inner(a: Any, b: Any) -> Tensor:
    """The sum over the last axes of both."""
    a, b = tensor(a), tensor(b)
    return a * b if 0 in (a.ndim, b.ndim) else tensordot(a, b, axes=(-1, -1))


def vdot(a: Any, b: Any) -> Tensor:
    """The sum of the products of all elements."""
    return tensor(a).ravel().dot(tensor(b).ravel())


def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """The inner product of the vectors along an axis."""
    return (moveaxis(a, axis, -1) * moveaxis(b, axis, -1)).sum(axis=-1)


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """The sum over `axes`: the last n of a with the first n of b, or the lists (axes of a, axes of b)."""
    a, b = tensor(a), tensor(b)
    if isinstance(axes, int | np.integer):
        axes = range(a.ndim - axes, a.ndim), range(axes)
    over_a, over_b = ([normal(int(i), x.ndim) for i in np.ravel(each)] for x, each in zip((a, b), axes, strict=True))
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ValueError(f"tensordot: axes {over_a} of {a.describe()} and {over_b} of {b.describe()} differ in length")
    free_a, free_b = ([i for i in range(x.ndim) if i not in over] for x, over in ((a, over_a), (b, over_b)))
    n = prod(a.shape[i] for i in over_a)
    left = a.transpose((*free_a, *over_a)).reshape((prod(a.shape[i] for i in free_a), n))
    right = b.transpose((*over_b, *free_b)).reshape((n, prod(b.shape[i] for i in free_b)))
    product: Tensor = left @ right
    return product.reshape([*(a.shape[i] for i in free_a), *(b.shape[i] for i in free_b)])


def kron(a: Any, b: Any) -> Tensor:
    """Kronecker's product: each element of a times the whole of b."""
    a, b = tensor(a), tensor(b)
    rank = builtins.max(a.ndim, b.ndim)
    tall, wide = (1,) * (rank - a.ndim) + a.shape, (1,) * (rank - b.ndim) + b.shape
    blocks: Tensor = a.reshape([k for n in tall for k in (n, 1)]) * b.reshape([k for n in wide for k in (1, n)])
    return blocks.reshape([n * m for n, m in zip(tall, wide, strict=True)])


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """The vector product in three dimensions; `axis` names the axis of the vectors in a, b and the result at once."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if a.shape[-1:] != (3,) or b.shape[-1:] != (3,):
        raise ValueError(f"cross: expected vectors of length 3, got {a.describe()} and {b.describe()}")
    x, y, z = (a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in ((1, 2), (2, 0), (0, 1)))
    return moveaxis(stack([x, y, z], axis=-1), -1, axisc)


def einsum(*operands: Any) -> Tensor:
    """Einstein's summation, for example einsum("tbe,eh->tbh", x, w). Letters that repeat and "..." are as in NumPy.

    Also in NumPy's other form: einsum(x, [0, 1, 2], w, [2, 3], [0, 1, 3]).
    """
    subscripts, arrays = (operands[0], operands[1:]) if isinstance(operands[0], str) else spelled(operands)
    tensors = [tensor(x) for x in arrays]
    spec = explicit(subscripts, [x.ndim for x in tensors])
    return apply(ops.EINSUM, *tensors, spec=spec)


def spelled(operands: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Operands with a list of axes each, and perhaps one for the result, as subscripts and the operands alone."""

    def letters(axes: Any) -> str:
        if not isinstance(axes, list | tuple):
            raise TypeError(f'einsum: expected subscripts such as "ij,jk->ik", or a list of axes, got a {type(axes).__name__}')
        return "".join("..." if i is Ellipsis else sorted(ascii_letters)[i] for i in axes)

    pairs = operands[: len(operands) // 2 * 2]
    result = "->" + letters(operands[-1]) if len(operands) % 2 else ""
    return ",".join(letters(axes) for axes in pairs[1::2]) + result, pairs[::2]


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
