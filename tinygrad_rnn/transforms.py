"""Functions in, functions out: grad, vjp, jvp, jacobian, hessian. All are the one walk of backward.py, asked differently.

They nest to any depth and take functions of numbers, arrays and Tensors, and of tuples, lists and dicts of them. A result
stays connected to whatever else requires a gradient (an outer transform, a module's parameters), to be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from .backward import gradients, toposort
from .functions import stack
from .scope import current_scope, recording
from .tensor import Tensor, lift

Function = Callable[..., Any]


# -- trees: values in tuples, lists and dicts --------------------------------------------------------------------------------


def leaves(tree: Any) -> list[Any]:
    """The values in a tree, in order."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [leaf for item in tree for leaf in leaves(item)] if isinstance(tree, list | tuple) else [tree]


def tree_map(f: Function, *trees: Any) -> Any:
    """A tree of the first one's shape, each value made of the values at the same place."""
    first = trees[0]
    if isinstance(first, list | tuple | dict) and any(type(t) is not type(first) or len(t) != len(first) for t in trees):
        raise ValueError(f"expected trees of one structure, got {' and '.join(repr(tree) for tree in trees)}")
    if isinstance(first, dict):
        return {key: tree_map(f, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, list | tuple):
        items = [tree_map(f, *group) for group in zip(*trees, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    return f(*trees)


def track(x: Any) -> Tensor:
    """A fresh variable with the value of x; if x is part of a graph, so is the variable."""
    x = lift(x)
    if x.dtype.kind != "f":
        raise TypeError(f"only floating dtypes have gradients, got {x.describe()}: write 2.0 for 2, or x.astype(np.float64)")
    return x.reshape(x.shape) if x.requires_grad else Tensor(x, requires_grad=True)


def pull(
    outs: Sequence[Tensor],
    seeds: Sequence[Tensor],
    variables: Sequence[Tensor],
    private: Sequence[Tensor] = (),
    keep: bool = False,
) -> list[Tensor]:
    """The gradient of sum(seed * out) for each variable.

    It has a graph of its own if `keep`, or if the outs depend on anything else that requires a gradient, `private` variables
    aside: then someone may want to differentiate it again.
    """
    live = [(out, seed) for out, seed in zip(outs, seeds, strict=True) if out.requires_grad]
    roots, own = [out for out, _ in live], {*variables, *private}
    shared = any(x.op is None and x.requires_grad and x not in own for x in toposort(*roots))
    create_graph = keep or (current_scope.get().recording and (shared or any(seed.requires_grad for _, seed in live)))
    found = gradients(roots, [seed for _, seed in live], create_graph, set(variables))
    zeros = (np.zeros(x.shape, x.dtype) for x in variables)
    return [lift(found[x]) if x in found else Tensor(zero) for x, zero in zip(variables, zeros, strict=True)]


def run(f: Function, args: Sequence[Any], argnums: Sequence[int], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """f's value, each leaf a Tensor, and the arguments that were tracked."""
    for i in argnums:
        if not -len(args) <= i < len(args):
            raise TypeError(f"argnums={i}, but the function was called with {len(args)} positional arguments")
    tracked = list(args)
    for i in argnums:
        tracked[i] = tree_map(track, args[i])
    with recording(True):
        out = tree_map(lift, f(*tracked, **kwargs))
    return out, [tracked[i] for i in argnums]


def fill(trees: Any, values: Sequence[Any]) -> Any:
    """The same trees with other values."""
    rest = iter(values)
    return tree_map(lambda _: next(rest), trees)


# -- the transforms ----------------------------------------------------------------------------------------------------------


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns f's value and its gradient: f must return one number, argnums says for which arguments.

    The gradient has the structure of the argument; for several argnums it is a tuple of them.
    """

    @wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        out, inputs = run(f, args, numbers(argnums), kwargs)
        if not isinstance(out, Tensor) or out.size != 1:
            what = f"shape {out.shape}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise TypeError(f"grad: the function must return one number, got {what}. Reduce it (.sum()), or use tg.jacobian")
        grads = tuple(fill(inputs, pull([out], [Tensor(np.ones_like(out._data))], leaves(inputs))))
        return out, grads[0] if isinstance(argnums, int) else grads

    return wrapped


def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the gradient of f, as `value_and_grad` does."""
    both = value_and_grad(f, argnums)
    return wraps(f)(lambda *args, **kwargs: both(*args, **kwargs)[1])


def vjp(f: Function, *args: Any) -> tuple[Any, Function]:
    """f(*args), and the function that takes a cotangent v, shaped as the value, to (v^T df/darg for each argument)."""
    out, inputs = run(f, args, range(len(args)), {})

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        seeds = leaves(tree_map(matching, out, cotangent))
        return tuple(fill(inputs, pull(leaves(out), seeds, leaves(inputs))))

    return out, pullback


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals), and its derivative in the direction of the tangents: forward mode.

    There are no second rules for it: v^T J is linear in v, so its own vjp is J times a tangent (the double-vjp trick).
    """
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: {len(primals)} primals and {len(tangents)} tangents; each argument needs one of both")
    out, inputs = run(f, primals, range(len(primals)), {})
    outs, variables = leaves(out), leaves(inputs)
    directions = leaves(tree_map(matching, inputs, list(tangents)))
    dummies = [Tensor(np.zeros(o.shape, o.dtype), requires_grad=True) for o in outs]
    with recording(True):
        rows = pull(outs, dummies, variables, keep=True)
        along = [(row * direction).sum() for row, direction in zip(rows, directions, strict=True)]
    ones = [Tensor(np.ones_like(a._data)) for a in along]
    return out, fill(out, pull(along, ones, dummies, private=variables))


def jacobian(f: Function, argnums: int = 0) -> Function:
    """A function that returns df/darg, of shape (*out.shape, *arg.shape); for trees, a tree of outputs of trees of inputs."""

    @wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        out, (argument,) = run(f, args, [argnums], kwargs)
        variables = leaves(argument)

        def rows(y: Tensor) -> Any:
            eye = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
            pulled = [pull([y], [Tensor(one)], variables) for one in eye]
            blocks = (stack(block) for block in zip(*pulled, strict=True))
            return fill(argument, [block.reshape(y.shape + x.shape) for x, block in zip(variables, blocks, strict=True)])

        return tree_map(rows, out)

    return wrapped


def hessian(f: Function, argnums: int = 0) -> Function:
    """A function that returns the second derivatives of f, which returns one number: shape (*arg.shape, *arg.shape)."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of f, which returns one number, times the tangents, without ever forming it (Pearlmutter 1994)."""
    return tuple(jvp(grad(f, range(len(primals))), primals, tangents)[1])


def numbers(argnums: int | Sequence[int]) -> Sequence[int]:
    """argnums as a sequence."""
    return [argnums] if isinstance(argnums, int) else argnums


def matching(y: Tensor, v: Any) -> Tensor:
    """A tangent or cotangent of y: of its shape, in its dtype."""
    v = lift(v)
    if v.shape != y.shape:
        raise ValueError(f"expected a tangent of shape {y.shape}, like the value it belongs to, got {v.shape}")
    same: Tensor = v if v.dtype == y.dtype and not v.is_number else v.astype(y.dtype)
    return same
