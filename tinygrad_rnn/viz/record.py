"""The gradient of every node: what `backward()` computes on its way and lets go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backward import gradients, toposort
from ..ops import Array
from ..tensor import Tensor


def record(root: Tensor | Sequence[Tensor]) -> dict[Tensor, Array]:
    """d(root)/d(node), an array of the node's shape and dtype, for every node of root's graph that requires a gradient.

    In the order in which the nodes were computed, so `reversed(...)` is the way back. Several roots: of their sum. Nothing is
    written: `.grad` stays as it is. Zeros where no gradient arrives. Raises as `backward()` does: RuntimeError if a root is
    not one number or has no graph, or if a leaf was changed since the graph read it.
    """
    roots = [root] if isinstance(root, Tensor) else root
    if not isinstance(roots, list | tuple) or not roots or not all(isinstance(x, Tensor) for x in roots):
        raise TypeError(f"record: expected a Tensor, got {described(root)}. Record what a computation returned: record(loss)")
    return recorded("record", roots)


def recorded(who: str, roots: Sequence[Tensor]) -> dict[Tensor, Array]:
    """The same for Tensors; errors are those of `who`. A run of a compiled layer is no array and has no gradient."""
    for x in roots:
        if not x.requires_grad:
            raise RuntimeError(f"{who}: {x.describe()} does not require grad and has no graph, so there are no gradients")
        if x.size != 1:
            raise RuntimeError(f"{who}: expected one number, got {x.describe()}. Reduce it first: .sum(), .mean()")
    nodes = [x for x in toposort(*roots) if x.requires_grad and x.dtype.kind == "f"]
    found = gradients(roots, [Tensor(np.ones_like(x.data)) for x in roots], targets=set(nodes), through=True)
    return {x: found[x] if x in found else np.zeros(x.shape, x.dtype) for x in nodes}


def described(value: object) -> str:
    """The type of what is no Tensor; for a list, of what is in it."""
    if not isinstance(value, list | tuple):
        return type(value).__name__
    return f"a {type(value).__name__} of {', '.join(dict.fromkeys(type(x).__name__ for x in value)) or 'nothing'}"
