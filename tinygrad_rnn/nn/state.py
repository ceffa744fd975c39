"""The state of a cell: one Tensor, or a tuple of them, with the widths that `cell.state_size` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import Tensor
from .module import Module

State = Tensor | tuple[Tensor, ...]


def members(state: State) -> tuple[Tensor, ...]:
    """The Tensors of a state."""
    return state if isinstance(state, tuple) else (state,)


def like(state: State, new: list[Tensor]) -> State:
    """New members in the structure of a state."""
    return tuple(new) if isinstance(state, tuple) else new[0]


def sizes(size: int | tuple[int, ...]) -> tuple[int, ...]:
    """The widths of the members."""
    return size if isinstance(size, tuple) else (size,)


def zero_state(size: int | tuple[int, ...], lead: tuple[int, ...], dtype: np.dtype[Any]) -> State:
    """Zeros for a state of this size, with these axes before the features."""
    if isinstance(size, tuple):
        return tuple(Tensor(np.zeros((*lead, n), dtype)) for n in size)
    return Tensor(np.zeros((*lead, size), dtype))


def state_dtype(cell: Module) -> np.dtype[Any]:
    """The dtype of a cell's states: that of its first parameter."""
    return next((p.dtype for p in cell.parameters()), np.dtype(np.float32))


def fits(size: int | tuple[int, ...], lead: tuple[int, ...], state: Any) -> bool:
    """Whether a state of Tensors has the sizes it should have: a quick test. If not, `check_state` says what is wrong."""
    if not isinstance(size, tuple):
        return isinstance(state, Tensor) and state.shape == (*lead, size)
    if type(state) is not tuple or len(state) != len(size):
        return False
    for h, n in zip(state, size):  # noqa: B905, SIM110 (the lengths are equal; a generator is slow)
        if not isinstance(h, Tensor) or h.shape != (*lead, n):
            return False
    return True


def check_state(who: Module, size: int | tuple[int, ...], lead: tuple[int, ...], state: Any) -> None:
    """Raise unless a state has the structure of `size` and the leading shape of the input."""
    sizes, members = (size, state) if isinstance(size, tuple) else ((size,), (state,))
    if type(members) is not tuple or len(members) != len(sizes) or not all(hasattr(h, "shape") for h in members):
        expected = f"{len(sizes)} Tensors in a tuple" if isinstance(size, tuple) else "one Tensor"
        kinds = " and ".join(type(h).__name__ for h in state) if isinstance(state, tuple | list) else ""
        got = f"a {type(state).__name__}" + (f" of {kinds}" if kinds else "")
        hint = "tg.Tensor(h)" if not isinstance(size, tuple) else "(h, c)" if len(sizes) == 2 else "tuple(state)"
        raise TypeError(f"{type(who).__name__}: expected a state of {expected}, got {got}; write {hint}")
    for i, (h, n) in enumerate(zip(members, sizes, strict=True)):
        if h.shape != (*lead, n):
            index = f"[{i}]" if len(sizes) > 1 else ""
            raise ValueError(f"{type(who).__name__}: Expected hidden{index} size {(*lead, n)}, got {list(h.shape)}")


def output_of(cell: Module, state: State) -> Tensor:
    """What a step gives to what is above it: `cell.output(state)`, or the first member."""
    output: Callable[[State], Tensor] | None = getattr(cell, "output", None)
    return members(state)[0] if output is None else output(state)


def output_size(cell: Module) -> int:
    """How many features a cell gives to what is above it."""
    size = checked_state_size(cell)
    return int(getattr(cell, "output_size", size[0] if isinstance(size, tuple) else size))


def check_returned(cell: Module, size: int | tuple[int, ...], batch: int, state: Any) -> None:
    """Raise unless what a cell has returned is a state as it says."""
    found = [getattr(h, "shape", type(h).__name__) for h in (state if isinstance(state, tuple | list) else (state,))]
    if isinstance(state, tuple) is isinstance(size, tuple) and found == [(batch, n) for n in sizes(size)]:
        return
    expected = " and ".join(str((batch, n)) for n in sizes(size))
    raise ValueError(
        f"{type(cell).__name__}: state_size={size} means a state of shape {expected}, and forward returned a "
        f"{type(state).__name__}, {' and '.join(map(str, found))}; tg.check_cell(cell) says what to mend"
    )


def checked_state_size(cell: Module) -> int | tuple[int, ...]:
    """A cell's `state_size`; without one it is not a cell, and a layer, which has one, is none either."""
    cells = getattr(cell, "cells", None)
    if isinstance(cells, dict) and "l0" in cells:
        raise TypeError(f"{type(cell).__name__} is a layer, which runs a cell over time: pass its cell, layer.cells['l0']")
    size = getattr(cell, "state_size", None)
    if isinstance(size, int) or (isinstance(size, tuple) and size and all(isinstance(n, int) for n in size)):
        return size
    raise TypeError(
        f"{type(cell).__name__} is not a cell: it needs `state_size`, an int or a tuple of ints (one for each member of its "
        f"state), got {size!r}"
    )
