"""What may happen to a state between two steps: dropout that stays the same over time, zoneout, and waiting at the end.

Each function works on a whole state, one Tensor or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..functions import where
from ..tensor import Tensor
from .functional import dropout
from .init import generator
from .module import Module
from .state import State, like, members


def recurrent_mask(state: State, p: float) -> Tensor:
    """Variational dropout (Gal & Ghahramani 2016): one mask for all steps of each sequence, for the state's first member."""
    h = members(state)[0]
    return dropout(np.ones(h.shape, h.dtype), p)


def masked(state: State, mask: Tensor) -> State:
    """The state as the cell is shown it. What an LSTM keeps in c is left alone, as in the paper."""
    h, *rest = members(state)
    return like(state, [h * mask, *rest])


def zoneout(old: State, new: State, rates: tuple[float, ...], training: bool) -> State:
    """Zoneout (Krueger et al. 2017): each unit keeps its old value, at its member's rate; in evaluation, the mean of that."""

    def mix(h: Tensor, proposed: Tensor, rate: float) -> Tensor:
        if rate == 0:
            return proposed
        if training:
            return where(generator.random(h.shape) < rate, h, proposed)
        return rate * h + (1 - rate) * proposed

    return like(new, list(map(mix, members(old), members(new), rates)))


class Lengths:
    """How many steps of each sample of a padded batch are real.

    A padded step is computed like any other, but on an input of the sample's own instead of the padding, and then the state
    stays as it was. So nothing of the padding is read, and what is computed there gets a gradient of exactly zero. That input
    is from the last step which no sample pads: the nearest, so that edges are short in a picture.
    """

    def __init__(self, who: Module, lengths: Any, steps: int, batch: int) -> None:
        given = np.asarray(lengths.numpy() if isinstance(lengths, Tensor) else lengths)
        if given.shape != (batch,) or (batch and given.dtype.kind not in "iu"):
            raise ValueError(
                f"{type(who).__name__}: expected lengths of shape ({batch},), an int for each sample, "
                f"got shape {given.shape} of dtype {given.dtype}"
            )
        if batch and not 1 <= given.min() <= given.max() <= steps:
            raise ValueError(
                f"{type(who).__name__}: lengths must be from 1 to T = {steps}, got {given.min()} to {given.max()}; "
                "leave samples without steps out of the batch"
            )
        self.real = np.arange(steps)[:, None, None] < given[:, None].astype(int)  # (T, N, 1)
        self.shortest = int(given.min(initial=steps))

    def reader(self, read: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
        """`read` without the padding."""
        return lambda t: read(t) if t < self.shortest else where(self.real[t], read(t), read(self.shortest - 1))

    def wait(self, t: int, old: State, new: State) -> State:
        """The new state where step t is real, else the old one."""
        if t < self.shortest:
            return new
        return like(new, [where(self.real[t], b, a) for a, b in zip(members(old), members(new), strict=True)])

    def blank(self, x: Tensor, time: int) -> Tensor:
        """Zeros in the padding of x, whose first axes are time and batch, in the order that `time` tells."""
        real = self.real.swapaxes(0, time)
        return where(real.reshape(*real.shape[:2], *(1,) * (x.ndim - 2)), x, 0)
