"""What a row of the table is, and what the rows of all families share.

A derivative maps `(g, out, *inputs, **params)` to the gradient of one input, where `g` is the gradient of the output `out`.
It is written in plain NumPy. Run on arrays it is the backward pass; Tensors speak NumPy too (numpy_api.py), so run on Tensors
it makes a graph again, and that is all there is to second derivatives.
Nothing here knows about broadcasting: the walker in backward.py undoes it, once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Callable[..., Any]
Uses = list[tuple[Any, Sequence[Any], dict[str, Any]]]  # of one input: for each, (g, inputs, params) of the node that used it


class Op:
    """A row of the table.

    `rules` holds one derivative per input; None stands for an input without one, such as a condition. A variadic op, of any
    number of inputs, has a single rule that gives a function of the input's index: what all need is worked out once.
    `fresh`: what the rules give is new memory that nobody else holds.
    """

    __slots__ = ("forward", "fresh", "name", "rules", "variadic")

    def __init__(
        self, name: str, forward: Rule, *rules: Rule | Together | None, variadic: bool = False, fresh: bool = False
    ) -> None:
        self.name, self.forward, self.rules, self.variadic, self.fresh = name, forward, rules, variadic, fresh

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Together:
    """A derivative that sees all the uses of one input at once: `rule([(g, inputs, params), ...])` is their summed gradient.

    Some sums are far cheaper whole. A weight used at T steps needs one product of stacked rows instead of T products and T
    additions; T slices of one array fill one array of zeros instead of T. `enough(uses)` says when waiting for more uses would
    not pay any longer. `alone`, a derivative of one use, is for those that need not wait; for others it gives None.
    """

    __slots__ = ("alone", "enough", "rule")

    def __init__(
        self,
        rule: Callable[[Uses], Any],
        enough: Callable[[Uses], bool] | None = None,
        alone: Rule | None = None,
    ) -> None:
        self.rule, self.enough, self.alone = rule, enough, alone


TABLE: dict[str, Op] = {}


def op(name: str, forward: Rule, *rules: Rule | Together | None, variadic: bool = False) -> Op:
    """Add a row to the table."""
    TABLE[name] = Op(name, forward, *rules, variadic=variadic)
    return TABLE[name]


def call(name: str, *inputs: Any, **params: Any) -> Any:
    """Run a row that NumPy has no name for, on arrays or on Tensors."""
    join = next((x.apply for x in inputs if not isinstance(x, np.ndarray | np.generic)), None)
    return TABLE[name].forward(*inputs, **params) if join is None else join(TABLE[name], *inputs, **params)


# -- what the rules share ----------------------------------------------------------------------------------------------------


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
    if isinstance(g, np.ndarray) and g.size == prod(shape):  # a sum of one; a Tensor's is recorded as for any batch
        return g.reshape(shape)
    lead = g.ndim - len(shape)
    axes = [*range(lead), *[i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1]]
    return g.sum(axis=tuple(axes)).reshape(shape)


def normal(axis: int, ndim: int) -> int:
    """An axis counted from the front."""
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def axes_of(x: Any, axis: Any) -> tuple[int, ...]:
    """The axes of `x` that are meant, counted from the front: by None all, else by an int or a tuple of ints."""
    if axis is None:
        return tuple(range(x.ndim))
    return tuple([normal(a, x.ndim) for a in (axis if isinstance(axis, tuple) else (axis,))])


def along(axis: int, key: Any) -> tuple[Any, ...]:
    """The index that is `key` on an axis, counted from the front, and takes all of those before it."""
    return (*[slice(None)] * axis, key)


def keep(y: Any, x: Any, axis: Any) -> Any:
    """Give a reduction of `x` back the axes of length 1 that it lost; one number needs none, since it fits every shape."""
    if axis is None:
        return y
    gone = axes_of(x, axis)
    return y.reshape([1 if i in gone else n for i, n in enumerate(x.shape)])


def count(x: Any, axis: Any) -> int:
    """How many elements of `x` a reduction over `axis` puts into each result."""
    return prod(x.shape[a] for a in axes_of(x, axis))
