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
    if len(trees) > 1 and len(set(map(level, trees))) > 1:
        raise ValueError("expected trees of one structure, got " + " and ".join(map(outline, trees)))
    if isinstance(first, dict):
        return {key: tree_map(f, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, list | tuple):
        items = [tree_map(f, *group) for group in zip(*trees, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    return f(*trees)


def level(tree: Any) -> Any:
    """What the roots of two trees of one structure have in common."""
    if isinstance(tree, dict):
        return dict, frozenset(tree)
    return (type(tree), len(tree)) if isinstance(tree, list | tuple) else None


def outline(tree: Any) -> str:
    """A tree as errors show it, with a * for each value."""
    return str(tree_map(lambda _: ..., tree)).replace("Ellipsis", "*")


def fill(trees: Any, values: Sequence[Any]) -> Any:
    """The same trees with other values."""
    rest = iter(values)
    return tree_map(lambda _: next(rest), trees)


# -- what the transforms share -----------------------------------------------------------------------------------------------


def track(x: Any) -> Tensor:
    """A fresh variable with the value of x; if x is part of a graph that is being recorded, so is the variable."""
    t = lift(x)
    if t.dtype.kind != "f":
        raise TypeError(
            f"only floating dtypes have gradients, got {t.describe()}: write 2.0 for 2, or x.astype(np.float64). "
            "What is no variable can be left out by argnums=, or come from a closure"
        )
    if t.requires_grad and current_scope.get().recording:
        variable = t.reshape(t.shape)
        variable.name = t.name
        return variable
    return Tensor(t.numpy(), requires_grad=True, name=t.name)


def run(f: Function, args: Sequence[Any], argnums: Sequence[int], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """f's value, each leaf a Tensor, and the arguments that were tracked."""
    for i in argnums:
        if not -len(args) <= i < len(args):
            raise TypeError(f"argnums={i}, but the function was called with {len(args)} positional arguments")
    tracked = list(args)
    for i in argnums:
        tracked[i] = tree_map(track, args[i])
    with recording(True):
        out = f(*tracked, **kwargs)
    if out is None:
        raise TypeError(f"{getattr(f, '__name__', 'the function')} returned None: does it end with `return`?")
    return tree_map(lift, out), [tracked[i] for i in argnums]


def connected(outs: Sequence[Tensor], own: Sequence[Tensor]) -> bool:
    """Whether anything but our own variables requires a gradient of the outs: then someone may differentiate them again."""
    inner = set(own)
    order = toposort(*[out for out in outs if out.requires_grad]) if current_scope.get().recording else []
    return any(x.op is None and x.requires_grad and x not in inner for x in order)


def pull(outs: Sequence[Tensor], seeds: Sequence[Tensor], variables: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """The gradient of sum(seed * out) for each variable."""
    live = [(out, seed) for out, seed in zip(outs, seeds, strict=True) if out.requires_grad]
    found = gradients([out for out, _ in live], [seed for _, seed in live], create_graph, set(variables))
    return [lift(found[x]) if x in found else Tensor(np.zeros(x.shape, x.dtype)) for x in variables]


def release(results: Any, outer: bool, own: Sequence[Tensor] = ()) -> Any:
    """The results for the caller. If `outer`, they keep their graph, in which our own variables are constants from now on."""
    for x in own:
        if x.op is None:
            x.requires_grad = False
    return results if outer else tree_map(Tensor.detach, results)


def matching(y: Tensor, v: Any) -> Tensor:
    """A tangent or cotangent of y, of its shape."""
    tangent = v if isinstance(v, Tensor) else Tensor(v)
    if tangent.shape != y.shape:
        raise ValueError(f"expected a tangent of shape {y.shape}, like the value it belongs to, got {tangent.shape}")
    return tangent


def check_pairs(who: str, primals: Any, tangents: Any) -> None:
    """Raise unless there is a tangent for each primal."""
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        got = f"{type(primals).__name__} and {type(tangents).__name__}"
        raise TypeError(f"{who}: expected primals and tangents in a tuple each, such as (x,) and (v,), got {got}")
    if len(primals) != len(tangents):
        raise ValueError(f"{who}: {len(primals)} primals and {len(tangents)} tangents; each argument needs one of both")


def numbers(argnums: int | Sequence[int]) -> Sequence[int]:
    """argnums as a sequence."""
    return [int(argnums)] if isinstance(argnums, int | np.integer) else argnums


def one_or_all(argnums: int | Sequence[int], results: Sequence[Any]) -> Any:
    """The only result for an int, a tuple of them for several argnums."""
    return results[0] if isinstance(argnums, int | np.integer) else tuple(results)


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
        variables = leaves(inputs)
        outer = connected([out], variables)
        found = pull([out], [Tensor(np.ones(out.shape, out.dtype))], variables, outer)
        return release(out, outer, variables), one_or_all(argnums, fill(inputs, found))

    return wrapped


def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the gradient of f, as `value_and_grad` does."""
    both = value_and_grad(f, argnums)
    return wraps(f)(lambda *args, **kwargs: both(*args, **kwargs)[1])


def vjp(f: Function, *args: Any) -> tuple[Any, Function]:
    """f(*args), and the function that takes a cotangent v, shaped as the value, to (v^T df/darg for each argument)."""
    out, inputs = run(f, args, range(len(args)), {})
    variables = leaves(inputs)
    outer = connected(leaves(out), variables)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        seeds = leaves(tree_map(matching, out, cotangent))
        create_graph = current_scope.get().recording and (outer or any(seed.requires_grad for seed in seeds))
        return tuple(fill(inputs, pull(leaves(out), seeds, variables, create_graph)))

    return release(out, outer), pullback


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals), and its derivative in the direction of the tangents: forward mode.

    There are no second rules for it: v^T J is linear in v, so its own vjp is J times a tangent (the double-vjp trick).
    """
    check_pairs("jvp", primals, tangents)
    out, inputs = run(f, primals, range(len(primals)), {})
    outs, variables = leaves(out), leaves(inputs)
    directions = leaves(tree_map(matching, inputs, list(tangents)))
    dummies = [Tensor(np.zeros(o.shape, o.dtype), requires_grad=o.requires_grad) for o in outs]
    with recording(True):
        rows = pull(outs, dummies, variables, create_graph=True)
        along = [(row * direction).sum() for row, direction in zip(rows, directions, strict=True)]
    own = [*variables, *dummies]
    outer = connected([*outs, *along], own)
    derivatives = pull(along, [Tensor(np.ones((), a.dtype)) for a in along], dummies, outer)
    return release(out, outer, own), fill(out, derivatives)


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns df/darg, of shape (*out.shape, *arg.shape); for trees, a tree of outputs of trees of inputs.

    For several argnums there is a tuple of them in the place of each output.
    """

    @wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        out, inputs = run(f, args, numbers(argnums), kwargs)
        variables = leaves(inputs)
        outer = connected(leaves(out), variables)

        def rows(y: Tensor) -> Any:
            eye = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
            pulled = [pull([y], [Tensor(one)], variables, outer) for one in eye]
            blocks = [stack(block) for block in zip(*pulled, strict=True)] or [Tensor(np.zeros(0, x.dtype)) for x in variables]
            shaped = [block.reshape(y.shape + x.shape) for x, block in zip(variables, blocks, strict=True)]
            return one_or_all(argnums, fill(inputs, shaped))

        return release(tree_map(rows, out), outer, variables)

    return wrapped


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the second derivatives of f, which returns one number: shape (*arg.shape, *arg.shape)."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of f, which returns one number, times the tangents, without ever forming it (Pearlmutter 1994).

    The Hessian is symmetric, so that H v is v^T H: one more walk, back through the graph of the gradient.
    """
    check_pairs("hvp", primals, tangents)
    _, pullback = vjp(grad(f, range(len(primals))), *primals)
    product: tuple[Any, ...] = pullback(tuple(tangents))
    return product
