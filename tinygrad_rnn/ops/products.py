"""The rows that multiply matrices, and Einstein's summation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .table import Together, Uses, call, fit, op, total

SMALL = 1 << 14  # elements of a matrix


def matmul(a: Any, b: Any) -> Any:
    """`a @ b`. For small matrices `dot` is quicker to call; for large ones it is slower, as it fills its result with zeros."""
    try:
        return a.dot(b) if 0 < a.ndim < 3 > b.ndim > 0 and b.size < SMALL else a @ b
    except AttributeError:
        raise ValueError("a number has no axes to sum over: write a * b") from None


def matmul_da(g: Any, out: Any, a: Any, b: Any) -> Any:
    """d(a @ b)/da: g @ b.T, and what that means for vectors. None if a is a matrix and b has fewer columns than rows: then
    this use of a waits for others (`matmul_das`). So W @ h waits, and h @ W if W is narrow."""
    if a.ndim == 2 and b.ndim < 3 and (b.ndim == 1 or b.shape[1] < a.shape[1]):
        return None
    if b.ndim == 1:
        return g[..., None] * b
    return matmul(b, g[..., None])[..., 0] if a.ndim == 1 else matmul(g, b.swapaxes(-1, -2))


def matmul_das(uses: Uses) -> Any:
    """d(a @ b)/da: g @ b.T. Every use of the matrix a adds columns to one product."""
    return matmul(columns([g for g, _, _ in uses]), columns([b for _, (_, b), _ in uses]).T)


def columns(xs: Sequence[Any]) -> Any:
    """Vectors and matrices side by side."""
    if all(x.ndim == 1 for x in xs):
        return np.concatenate(xs).reshape((len(xs), -1)).T
    wide = [x if x.ndim == 2 else x[:, None] for x in xs]
    return wide[0] if len(wide) == 1 else np.concatenate(wide, axis=1)


def matmul_db(uses: Uses) -> Any:
    """d(a @ b)/db: a.T @ g. For a matrix b every leading axis of a and g, and every use, only adds rows to one product."""
    b = uses[0][1][1]
    if b.ndim == 2:
        rows = [as_rows(a) for _, (a, _), _ in uses]
        grads = [as_rows(g) for g, _, _ in uses]
        if len(uses) == 1:
            return matmul(rows[0].T, grads[0])
        return matmul(np.concatenate(rows).T, np.concatenate(grads))
    return total(_matmul_db_one(g, a, b) for g, (a, _), _ in uses)


def enough(uses: Uses) -> bool:
    """Whether to wait for no more uses of b. For a small matrix that is before the product is so large that BLAS runs it in
    several threads, which cost more than they bring; for a large one it is later."""
    g, (_, b), _ = uses[-1]
    return bool(len(uses) * g.size * b.shape[0] >= (1 << 19 if b.size <= SMALL else 1 << 28))


def _matmul_db_one(g: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g * a if a.ndim == 1 else matmul(g.reshape(-1), as_rows(a))
    if a.ndim == 1:
        return a[:, None] * g[..., None, :]
    return fit(matmul(a.swapaxes(-1, -2), g), b.shape)


def as_rows(x: Any) -> Any:
    """A matrix with the last axis of `x`, and all that lead to it in one."""
    return x if x.ndim == 2 else x.reshape((prod(x.shape[:-1]), x.shape[-1]))


def einsum_dx(i: int, g: Any, xs: Sequence[Any], spec: str) -> Any:
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


# fmt: off

# Products.
MATMUL   = op("matmul",   matmul,        Together(matmul_das, alone=matmul_da), Together(matmul_db, enough))
EINSUM   = op("einsum",   lambda *xs, spec: np.einsum(spec, *xs),
              lambda g, out, *xs, spec: lambda i: einsum_dx(i, g, xs, spec), variadic=True)
# fmt: on
