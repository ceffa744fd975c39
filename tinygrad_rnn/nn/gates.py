"""The gates of a cell by name: `lstm.gates["f"].bias_ih = 1.0` instead of `lstm.bias_ih_l0.data[H:2 * H] = 1.0`.

A cell keeps the weights of its gates in blocks of rows, one under the other. `gate_names` in its class says which block is
whose; the conversions to other frameworks (checkpoint/layouts.py) go by it too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..ops import Array
from ..tensor import Tensor
from .module import Module

CUT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # the parameters that are cut into gates


class Gate:
    """The rows of one gate, under the names that the parameters have: weight_ih, weight_hh, bias_ih, bias_hh.

    Of a layer these are those of l0; the others are weight_hh_l1, weight_hh_l0_reverse, ... Reading gives a view of the
    parameter's array, so that `gate.bias_ih += 1` and `gate.weight_hh[:] = 0` change it; assigning takes an array of the same
    shape, or a number.
    """

    __slots__ = ("_name", "_names", "_owner")

    _name: str
    _names: tuple[str, ...]
    _owner: Module

    def __init__(self, owner: Module, name: str, names: tuple[str, ...]) -> None:
        for slot, value in zip(self.__slots__, (name, names, owner), strict=True):
            object.__setattr__(self, slot, value)

    def __getattr__(self, parameter: str) -> Array:
        if parameter.startswith("_"):
            raise AttributeError(parameter)
        found = getattr(self._owner, parameter, None)
        if found is None:
            found = getattr(self._owner, f"{parameter}_l0", None)
        if not parameter.startswith(CUT) or not isinstance(found, Tensor) or len(found) % len(self._names):
            raise AttributeError(
                f"{type(self._owner).__name__} has no parameter {parameter!r} with rows for each of its gates "
                f"{', '.join(self._names)}: expected {', '.join(CUT)}, of another layer or direction with its suffix, as "
                "weight_hh_l1_reverse"
            )
        rows, at = len(found) // len(self._names), self._names.index(self._name)
        return found.data[at * rows : (at + 1) * rows]

    def __setattr__(self, parameter: str, value: ArrayLike | Tensor) -> None:
        block = self.__getattr__(parameter)
        new = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        if new.ndim and new.shape != block.shape:
            raise ValueError(f"gate {self._name!r}: {parameter} has shape {block.shape}, got {new.shape}")
        block[...] = new

    def __repr__(self) -> str:
        return f"<gate {self._name!r} of {type(self._owner).__name__}>"


def gates_of(module: Module) -> dict[str, Gate]:
    """The gates of a cell, or of a recurrent layer, in the order of their rows."""
    cells = vars(module).get("cells")
    cell = cells["l0"] if isinstance(cells, dict) and "l0" in cells else module
    names = getattr(cell, "gate_names", ())
    if not names:
        raise TypeError(
            f"{type(cell).__name__} does not say which rows of its weights belong to which gate: "
            'write gate_names = ("f", "n"), in the order of the rows, in its class'
        )
    return {name: Gate(module, name, tuple(names)) for name in names}
