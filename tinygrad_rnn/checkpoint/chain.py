"""Modules in a row, recurrent layers among them: what is exchanged with ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..compiler import Compiled
from ..nn.module import Module, ModuleList, Sequential
from ..nn.recurrent import Recurrent
from ..tensor import Tensor

Step = Module | Callable[[Any], Any]


class Chain(Sequential):
    """A Sequential in which a recurrent layer hands on its outputs, and its final state stays behind:

    Chain(embedding, lstm, linear)(x) is linear(lstm(embedding(x))[0]).
    """

    def forward(self, x: Any) -> Tensor:
        for module in self.modules:
            x = module(x)
            if isinstance(module, Recurrent | Compiled):
                x, _ = x
        return x  # type: ignore[no-any-return]


def in_order(modules: Step | Iterable[Step]) -> Iterator[Step]:
    """The steps of a chain, those of a Sequential, ModuleList or list within it at their place; a compiled layer as itself.

    A subclass of them may do something else in its forward, so it is a step itself.
    """
    if type(modules) in (Chain, Sequential, ModuleList, list, tuple):
        for module in modules:  # type: ignore[union-attr]
            yield from in_order(module)
    else:
        yield modules.layer if isinstance(modules, Compiled) else modules  # type: ignore[misc]
