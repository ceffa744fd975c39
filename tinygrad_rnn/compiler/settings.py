"""What a cell was when it was traced, so far as its program depends on that: each call asks whether it is so still."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, is_
from typing import Any

import numpy as np

from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..tensor import Tensor

trained = attrgetter("_requires_grad")


class Settings:
    """The attributes of a layer's cell, of its modules and of their classes; and which of the tensors it reads are trained."""

    def __init__(self, layer: Recurrent, name: str, cell: Module, tensors: Sequence[Tensor], flags: list[bool]) -> None:
        self.layer, self.name, self.cell, self.tensors, self.flags = layer, name, cell, tensors, flags
        modules = [m for _, m in cell.named_modules()]
        self.now = [vars(m) for m in modules]
        self.before = [[*settings.values()] for settings in self.now]
        own = [cls for cls in dict.fromkeys(map(type, modules)) if cls.__module__ != Module.__module__]
        self.of_class = [(vars(cls), k, v) for cls in own for k, v in vars(cls).items() if k[0] != "_" and not callable(v)]
        self.deep = [(v, contents(v)) for values in self.before for v in values if contents(v) is not v]

    def current(self) -> bool:
        """Is all as it was?"""
        for now, before in zip(self.now, self.before):  # noqa: B905 (strict is slow)
            if len(now) != len(before) or not all(map(is_, now.values(), before)):
                return False
        if self.layer.cells[self.name] is not self.cell or list(map(trained, self.tensors)) != self.flags:
            return False
        if self.of_class and any(now.get(k) is not v for now, k, v in self.of_class):
            return False
        return not self.deep or all(contents(now) == before for now, before in self.deep)


def contents(value: Any) -> Any:
    """What a setting holds that can change while it stays the same object; the value itself if nothing."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, list | tuple):
        inside = [contents(v) for v in value]
        return value if isinstance(value, tuple) and all(map(is_, inside, value)) else inside
    if isinstance(value, dict):
        return [(key, contents(v)) for key, v in value.items()]
    if isinstance(value, Module | Tensor | type) or callable(value) or not hasattr(value, "__dict__"):
        return value
    return [(key, contents(v)) for key, v in vars(value).items()]
