"""The rows of linear algebra, on matrices or stacks of them.

A factorization has several results and yet is one op: they are packed into one array, which functions/linalg.py takes apart.
Where NumPy reads only one triangle of a symmetric matrix (Cholesky, eigh), the gradient lies in that triangle.
The formulas are those of Giles, "Collected matrix derivative results" (2008), but where another source is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .reductions import others
from .table import op


def mT(x: Any) -> Any:
    """Each matrix transposed."""
    return x.swapaxes(-1, -2)


def is_zero(g: Any) -> bool:
    """Did no gradient arrive? Asked of arrays only: a Tensor that is zero may still be differentiated."""
    return isinstance(g, np.ndarray) and not g.any()


def triangle(g: Any, lower: bool) -> Any:
    """The gradient of the one triangle that is read, given that of the whole symmetric matrix."""
    both = g + mT(g)
    return (np.tril(both) if lower else np.triu(both)) - both * np.eye(g.shape[-1], dtype=g.dtype) / 2


def gaps(w: Any) -> Any:
    """1 / (w_j - w_i), and 0 on the diagonal."""
    eye = np.eye(w.shape[-1], dtype=w.dtype)
    return (1 - eye) / (w[..., None, :] - w[..., :, None] + eye)


def unpack(packed: Any, heights: Sequence[int]) -> list[Any]:
    """The results again."""
    ends = np.cumsum(heights)
    return [packed[..., end - height : end, :] for end, height in zip(ends.tolist(), heights, strict=True)]


# -- determinants, inverses and solutions ------------------------------------------------------------------------------------


def cofactors(x: Any) -> Any:
    """d det(x)/dx. Where a matrix has no inverse: U and V times the products of the singular values but one."""
    det = np.linalg.det(x)
    if np.all(np.not_equal(det, 0)):
        return det[..., None, None] * mT(np.linalg.inv(x))
    u, s, vh = np.linalg.svd(x)
    sign = np.sign(np.linalg.det(u @ vh))
    return sign[..., None, None] * ((u * others(s, -1)[..., None, :]) @ vh)


def solve_db(g: Any, out: Any, a: Any, b: Any) -> Any:
    """Back through the transposed system."""
    return np.linalg.solve(mT(a), g[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(mT(a), g)


def solve_da(g: Any, out: Any, a: Any, b: Any) -> Any:
    """A change of `a` acts like one of b: -da @ out."""
    db = solve_db(g, out, a, b)
    return -(db[..., :, None] * out[..., None, :]) if b.ndim == 1 else -(db @ mT(out))


def pinv_dx(g: Any, out: Any, x: Any, **rcond: Any) -> Any:
    """Golub and Pereyra (1973), for matrices that keep their rank: through the inverse, the null space, and the rest."""
    left = (mT(g) - x @ (out @ mT(g))) @ (out @ mT(out))
    right = (mT(out) @ out) @ (mT(g) - (mT(g) @ out) @ x)
    return left + right - mT(out) @ g @ mT(out)


# -- factorizations ----------------------------------------------------------------------------------------------------------


def cholesky_dx(g: Any, out: Any, x: Any) -> Any:
    """Murray, "Differentiation of the Cholesky decomposition" (2016)."""
    eye = np.eye(x.shape[-1], dtype=x.dtype)
    inner = np.tril(mT(out) @ g) * (1 - eye / 2)
    return triangle(np.linalg.solve(mT(out), mT(np.linalg.solve(mT(out), mT(inner)))), lower=True)


def eigh_dx(g: Any, out: Any, x: Any, lower: bool) -> Any:
    """The eigenvectors turn into one another, the faster the closer their eigenvalues are."""
    n = x.shape[-1]
    (w, v), (gw, gv) = unpack(out, (1, n)), unpack(g, (1, n))
    inner = np.eye(n, dtype=x.dtype) * gw
    if not is_zero(gv):
        inner = inner + gaps(w[..., 0, :]) * (mT(v) @ gv)
    return triangle(v @ inner @ mT(v), lower)


def eigvalsh_dx(g: Any, out: Any, x: Any, lower: bool) -> Any:
    """Each eigenvalue moves with its own eigenvector alone, so equal ones do no harm."""
    v = np.linalg.eigh(x, "L" if lower else "U")[1]
    return triangle((v * g[..., None, :]) @ mT(v), lower)


def svd_dx(g: Any, out: Any, x: Any) -> Any:
    """Townsend, "Differentiating the singular value decomposition" (2016), for the thin form u @ diag(s) @ v.T."""
    m, n = x.shape[-2:]
    (u, s, v), (gu, gs, gv) = unpack(out, (m, 1, n)), unpack(g, (m, 1, n))
    eye = np.eye(min(m, n), dtype=x.dtype)
    inner = eye * gs
    if is_zero(gu) and is_zero(gv):
        return u @ inner @ mT(v)
    by_u, by_v, f = mT(u) @ gu, mT(v) @ gv, gaps(s[..., 0, :]) / (s + mT(s) + eye)
    inner = inner + f * (by_u - mT(by_u)) * s + mT(s) * f * (by_v - mT(by_v))
    result = u @ inner @ mT(v)
    if m > n:
        result = result + (gu - u @ by_u) / s @ mT(v)
    if n > m:
        result = result + u / s @ mT(gv - v @ by_v)
    return result


def svdvals_dx(g: Any, out: Any, x: Any) -> Any:
    """Each singular value moves with its own pair of vectors alone, so equal ones do no harm."""
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    return (u * g[..., None, :]) @ vh


def eigh(x: Any, lower: bool) -> Any:
    """Rows: the eigenvalues, then the eigenvectors as columns."""
    w, v = np.linalg.eigh(x, "L" if lower else "U")
    return np.concatenate([w[..., None, :], v], axis=-2)


def svd(x: Any) -> Any:
    """Rows: u, the singular values, and v, whose columns belong together."""
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([u, s[..., None, :], mT(vh)], axis=-2)


# fmt: off

DET       = op("det",       np.linalg.det,        lambda g, out, x: g[..., None, None] * cofactors(x))
LOGABSDET = op("logabsdet", lambda x: np.linalg.slogdet(x)[1], lambda g, out, x: g[..., None, None] * mT(np.linalg.inv(x)))
INV       = op("inv",       np.linalg.inv,        lambda g, out, x: -(mT(out) @ g @ mT(out)))
PINV      = op("pinv",      lambda x, **rcond: np.linalg.pinv(x, **rcond), pinv_dx)
SOLVE     = op("solve",     np.linalg.solve,      solve_da, solve_db)
CHOLESKY  = op("cholesky",  np.linalg.cholesky,   cholesky_dx)
EIGH      = op("eigh",      eigh,                 eigh_dx)
EIGVALSH  = op("eigvalsh",  lambda x, lower: np.linalg.eigvalsh(x, "L" if lower else "U"), eigvalsh_dx)
SVD       = op("svd",       svd,                  svd_dx)
SVDVALS   = op("svdvals",   lambda x: np.linalg.svd(x, compute_uv=False), svdvals_dx)
# fmt: on
