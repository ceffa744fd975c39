"""The gradient of a shared weight as the sum that it is: a term for every time step, and if asked for every step's loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backward import beside, gradients, walk
from ..ops import Array
from ..scope import recording
from ..tensor import Tensor
from ..transforms import fill, leaves
from .states import check_number, timed


def terms(loss: Tensor | Iterable[Tensor], wrt: Any) -> Any:
    """The terms of dL/dW by time step, for a weight W that all steps share: an array (T, *W.shape), row t for step t.

    dL/dW = sum_t dL/dW_t, where W_t is the W that step t reads (Werbos 1990; Pascanu et al. 2013, eq. 4). A path of the chain
    rule that goes through several steps belongs to the last one before W. Each term is computed by the rules that backward()
    uses, of the same numbers, so that terms(loss, W).sum(0) differs from W.grad by the order of the additions alone.

    loss: one number; or several, in a list or a Tensor of one axis, such as the losses of T' steps: (T', T, *W.shape), where
        [s, t] is what the loss of step s says to the W of step t. Each takes a walk of its own.
    wrt: W, or a tuple, list or dict of such, and so is the result. W is any Tensor that the loop reads and does not compute.

    Steps are those of `tg.viz`: marked by Recurrent, or read off the data flow (x[:, t]). If a loss has several loops, their
    steps t share row t. Raises ValueError if there are no steps, or if the loss reaches W by a path without any, such as a
    penalty on W: no row could hold that share.
    """
    single = isinstance(loss, Tensor) and loss.size == 1
    roots: list[Any] = [loss] if single else list(loss)
    for root in roots:
        check_number("terms", root)
    order, time = timed("terms", roots)
    weights = leaves(wrt)
    for weight in weights:
        check_weight(weight, order, time.step)
    reading = [readers(order, time.step, weight) for weight in weights]
    rows = [terms_of(root, reading, time.step) for root in roots]
    return fill(wrt, rows[0] if single else [np.stack(of_weight) for of_weight in zip(*rows, strict=True)])


class Readers(NamedTuple):
    """How the steps of a loop read a weight."""

    near: dict[Tensor, None]  # the weight, and then all that is made of it outside of time (W.T, b_ih + b_hh)
    by_step: dict[int, list[Tensor]]  # the nodes of each step that read one of those


def readers(order: Sequence[Tensor], step: dict[Tensor, int], weight: Tensor) -> Readers:
    near: dict[Tensor, None] = {weight: None}
    by_step: dict[int, list[Tensor]] = {}
    for x in order:
        if not near.keys().isdisjoint(x.inputs):
            if x in step:
                by_step.setdefault(step[x], []).append(x)
            else:
                near[x] = None
    return Readers(near, by_step)


def terms_of(root: Tensor, reading: Sequence[Readers], step: dict[Tensor, int]) -> list[Array]:
    """One long walk brings gradients to all readers; from those of each step a short one, outside of time, leads to W."""
    seed = np.ones(root.shape, root.dtype)
    every = {x for _, by_step in reading for some in by_step.values() for x in some}
    arrived = gradients([root], [Tensor(seed)], targets=every, through=True) if every else {}
    results = []
    for near, by_step in reading:
        weight = next(iter(near))
        outside = short_walk(near, weight, {root: seed} if root in near else {}, step)
        if outside is not None and outside.any():
            raise ValueError(
                f"terms: the loss reaches {weight.describe()} also outside of the time steps, and that share is no step's: "
                "leave penalties on weights out of the loss, and call an output layer that shares the weight at each step"
            )
        result = np.zeros((1 + max(step.values()), *weight.shape), weight.dtype)
        for t, some in by_step.items():
            share = short_walk(near, weight, {x: arrived[x] for x in some if x in arrived}, step)
            if share is not None:
                result[t] = share
        results.append(result)
    return results


def short_walk(near: Iterable[Tensor], weight: Tensor, received: dict[Tensor, Any], step: dict[Tensor, int]) -> Array | None:
    """What nodes with these gradients give to the weight without passing through a time step."""
    order = [*near, *(x for x in received if x in step)]
    with recording(False):
        return walk(order, received, False, {weight}, step).get(weight)


def check_weight(weight: Any, order: Sequence[Tensor], step: dict[Tensor, int]) -> None:
    if not isinstance(weight, Tensor):
        raise TypeError(f"terms: expected a weight, or a tuple, list or dict of weights, got a {type(weight).__name__}")
    if not weight.requires_grad:
        raise ValueError(f"terms: {weight.describe()} does not require grad")
    if weight in step:
        raise ValueError(
            f"terms: {weight.describe()} is computed at step {step[weight]}, so it has no terms by step: for a state's "
            "gradient use gradients_at"
        )
    if len(beside(order, {weight})) == len(order):
        raise ValueError(f"terms: the loss does not depend on {weight.describe()}")
