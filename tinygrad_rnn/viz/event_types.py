"""What events are made of: plain data that JSON can hold."""

from __future__ import annotations

import math
from typing import Any, NotRequired, TypedDict

import numpy as np

from ..anomaly import norm

MOST = 64  # elements of an array that is told in full


class Numbers(TypedDict):
    """An array: all of its numbers in C order, or, of more than 64, only what they are like.

    NaN and the infinities are the strings "NaN", "Infinity" and "-Infinity", which `float` reads.
    """

    shape: list[int]
    dtype: str
    values: NotRequired[list[Any]]
    norm: NotRequired[Any]
    least: NotRequired[Any]
    greatest: NotRequired[Any]


class Node(TypedDict):
    """A Tensor of the graph. Others name it by its place in `nodes`."""

    label: str
    op: str | None  # None: it was given, not computed
    inputs: list[int]
    names: list[str]  # what the op's rules call the inputs
    step: int | None
    module: str
    shape: list[int]
    dtype: str


class Value(TypedDict):
    """A node has this value: it was given, or has been computed."""

    node: int
    value: Numbers


class Share(TypedDict):
    """What a node gives to one of its inputs: before + share = after.

    Where the rule works out the shares of several uses together, a share is not added yet (`after` is None). `whole` is what
    is added in place of the share: that of all uses so far, or the share summed over axes along which the input was broadcast.
    """

    to: int
    input: int  # the position: a node can be an input twice
    rule: str
    share: Numbers
    whole: Numbers | None
    before: Numbers | None
    after: Numbers | None


class Backward(TypedDict):
    """A node's turn. Its gradient `g` is what has arrived (`summed` over the axes along which it was broadcast, if it was),
    plus `wholes`: each is worked out for several uses together.
    """

    node: int
    arrived: Numbers | None
    summed: Numbers | None
    wholes: list[Numbers]
    g: Numbers
    gives: list[Share]


class Term(TypedDict):
    """What one backward event contributes to a parameter's gradient, and the sum of the terms so far."""

    event: int
    step: int | None
    norm: Any
    term: Numbers
    total: Numbers


class Parameter(TypedDict):
    """A leaf's gradient as a sum over time. `grad` is `.grad`; the sum of terms may differ from it in the last digits."""

    node: int
    terms: list[Term]
    grad: Numbers


class Events(TypedDict):
    """A forward and a backward pass. Events are counted from 0 through both: those of `forward`, then those of `backward`."""

    nodes: list[Node]
    given: list[Value]
    forward: list[Value]
    seed: Numbers
    backward: list[Backward]
    parameters: list[Parameter]


def numbers(data: Any) -> Numbers:
    """An array as plain data."""
    array = np.asarray(data)
    told: Numbers = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size <= MOST:
        told["values"] = [number(v) for v in array.ravel().tolist()]
    else:
        told["norm"] = number(norm(array))
        told["least"], told["greatest"] = number(array.min().item()), number(array.max().item())
    return told


def number(v: Any) -> Any:
    """What JSON has no word for becomes a string."""
    if isinstance(v, bool | int):
        return v
    if math.isfinite(v):
        return float(v)
    return "NaN" if math.isnan(v) else "Infinity" if v > 0 else "-Infinity"
