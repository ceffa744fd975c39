"""The functions of np.linalg, on matrices or stacks of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..methods import Axis
from ..tensor import Tensor, apply
from .convert import constant, tensor
from .elementwise import abs, where
from .products import matmul
from .reductions import max, min, sum
from .shapes import moveaxis

__all__ = [
    "cholesky", "det", "eigh", "eigvalsh", "inv", "matrix_power", "multi_dot", "norm", "pinv", "slogdet", "solve", "svd",
    "svdvals",
]  # fmt: skip


class SlogdetResult(NamedTuple):
    """The sign of a determinant, and the logarithm of its size."""

    sign: Tensor
    logabsdet: Tensor


class EighResult(NamedTuple):
    """The eigenvalues in ascending order, and the eigenvectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """U, the singular values in descending order, and the transpose of V: x = (U * S) @ Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def det(x: Any) -> Tensor:
    """The determinant."""
    return apply(ops.DET, tensor(x))


def slogdet(x: Any) -> SlogdetResult:
    """The sign of the determinant, a constant, and the logarithm of its absolute value."""
    t = tensor(x)
    return SlogdetResult(Tensor(np.linalg.slogdet(t.numpy())[0]), apply(ops.LOGABSDET, t))


def inv(x: Any) -> Tensor:
    """The inverse."""
    return apply(ops.INV, tensor(x))


def pinv(x: Any, rcond: float | None = None) -> Tensor:
    """The pseudo-inverse of Moore and Penrose; its gradient is that at constant rank."""
    return apply(ops.PINV, tensor(x), **({} if rcond is None else {"rcond": rcond}))


def solve(a: Any, b: Any) -> Tensor:
    """The x of a @ x = b, where b is a vector or a stack of matrices."""
    return apply(ops.SOLVE, tensor(a), tensor(b))


def cholesky(x: Any, *, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L.T = x, or with `upper` its transpose. Reads that triangle of x alone."""
    t = tensor(x)
    return apply(ops.CHOLESKY, t.swapaxes(-1, -2)).swapaxes(-1, -2) if upper else apply(ops.CHOLESKY, t)


def eigh(x: Any, UPLO: str = "L") -> EighResult:
    """The eigenvalues and eigenvectors of a symmetric matrix, of which one triangle is read: "L" or "U".

    Eigenvectors of equal eigenvalues have no derivative (it is NaN); for the eigenvalues alone, see `eigvalsh`.
    """
    packed = apply(ops.EIGH, tensor(x), lower=is_lower(UPLO))
    return EighResult(packed[..., 0, :], packed[..., 1:, :])


def eigvalsh(x: Any, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix; equal ones do its gradient no harm."""
    return apply(ops.EIGVALSH, tensor(x), lower=is_lower(UPLO))


def is_lower(UPLO: str) -> bool:
    """Which triangle?"""
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"eigh: UPLO is 'L' or 'U', got {UPLO!r}")
    return UPLO.upper() == "L"


def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """The singular value decomposition x = (U * S) @ Vh; without `compute_uv` the singular values alone."""
    t = tensor(x)
    if not compute_uv:
        return apply(ops.SVDVALS, t)
    m, n = t.shape[-2:]
    if full_matrices and m != n:
        raise ValueError(f"svd: the full matrices of {t.describe()} are not determined by it; write full_matrices=False")
    packed = apply(ops.SVD, t)
    return SVDResult(packed[..., :m, :], packed[..., m, :], packed[..., m + 1 :, :].swapaxes(-1, -2))


def svdvals(x: Any) -> Tensor:
    """The singular values in descending order; equal ones do their gradient no harm."""
    return apply(ops.SVDVALS, tensor(x))


def matrix_power(x: Any, n: int) -> Tensor:
    """x @ x @ ..., n times, in log2(n) products; a negative n is a power of the inverse."""
    t = tensor(x)
    if n < 0:
        return matrix_power(inv(t), -n)
    if n == 0:
        return Tensor(np.linalg.matrix_power(t._data, 0))
    if n == 1:
        return t
    half = matrix_power(t, n // 2)
    return half @ half @ t if n % 2 else half @ half


def multi_dot(arrays: Sequence[Any]) -> Tensor:
    """The product of several matrices, from left to right."""
    return tensor(reduce(matmul, arrays))


# -- norms -------------------------------------------------------------------------------------------------------------------


def norm(x: Any, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """NumPy's norms of vectors (one axis) and matrices (two). At 0 the gradient of a Euclidean norm is 0.

    ord: for vectors any number, inf or -inf; for matrices 1, -1, 2, -2, inf, -inf, "fro" or "nuc". None is the root of the sum
    of squares, over all axes unless some are named.
    """
    t = tensor(x)
    if ord is None or (ord == "fro" and t.ndim == 2):
        return euclidean(t, axis, keepdims)
    axes = ops.axes_of(t, axis)
    if len(axes) == 1 and not isinstance(ord, str):
        return vector_norm(t, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: ord={ord!r} over axes {axes} of {t.describe()}; expected one axis, or two for a matrix")
    result = matrix_norm(moveaxis(t, axes, (-2, -1)), ord)
    return ops.keep(result, t, axes) if keepdims else result


def euclidean(t: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """The root of the sum of squares."""
    return apply(ops.ROOT, (t * t).sum(axis, keepdims))


def vector_norm(t: Tensor, ord: float, axis: int, keepdims: bool) -> Tensor:
    """The norms of vectors."""
    if ord == 2:
        return euclidean(t, axis, keepdims)
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(abs(t), axis, keepdims)
    if ord == 0:
        return constant(np.not_equal, t, 0).astype(t.dtype).sum(axis, keepdims)
    if ord == 1:
        return sum(abs(t), axis, keepdims)
    total = sum(abs(t) ** ord, axis, keepdims)
    zero = constant(np.equal, total, 0)  # where 0 ** (1 / ord) has no slope
    return where(zero, 0, where(zero, 1, total) ** (1 / ord))


def matrix_norm(t: Tensor, ord: float | str) -> Tensor:
    """The norms of the matrices in the last two axes."""
    if ord == "fro":
        return euclidean(t, (-2, -1), False)
    if ord == "nuc":
        return svdvals(t).sum(axis=-1)
    extreme = max if not isinstance(ord, str) and ord > 0 else min
    if ord in (2, -2):
        return extreme(svdvals(t), -1)
    if ord in (1, -1, np.inf, -np.inf):
        along = -2 if ord in (1, -1) else -1
        return extreme(sum(abs(t), along), -1)
    raise ValueError(f"norm: a matrix has the orders 1, -1, 2, -2, inf, -inf, 'fro' and 'nuc', got {ord!r}")
