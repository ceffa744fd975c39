"""What happens inside a layer: the named values of every step, kept while the loop runs.

A name is given after its node is made (`sigmoid(z).named("f")`), so the nodes of a step are collected, by the scope in which
they are made, and looked through when the step is over. Where nothing is recorded, there is nothing to pay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..functions import stack
from ..ops import Op
from ..scope import Watch, current_scope
from ..tensor import Tensor
from .module import Module
from .state import State, members

Records = dict[str, dict[str, Tensor]]


def asked(who: Module, record: str | Sequence[str]) -> tuple[str, ...]:
    """The names of what is to be recorded, each once."""
    names = (record,) if isinstance(record, str) else record
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"{type(who).__name__}: record is a name or a list of names, such as 'f' or ['f', 'c'], got {record!r}"
        )
    return tuple(dict.fromkeys(names))


class Collector(Watch):
    """The nodes made since it was last emptied. All that it is told it passes on to the watch that stood there before."""

    def __init__(self, behind: Watch | None) -> None:
        self.nodes: list[Tensor] = []
        behind = behind or Watch()
        self.pass_on, self.constant, self.looked = behind.value, behind.constant, behind.looked  # type: ignore[method-assign]
        self.walking, self.arrived, self.gradient = behind.walking, behind.arrived, behind.gradient  # type: ignore[method-assign]

    def value(self, node: Tensor, op: Op, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> None:
        self.nodes.append(node)
        self.pass_on(node, op, inputs, params)


class Recorder:
    """The values of one layer and direction that were asked for, by name and step."""

    def __init__(self, who: Module, cell: Module, names: Sequence[str]) -> None:
        self.who, self.cell = who, cell
        self.values: dict[str, dict[int, Tensor]] = {name: {} for name in names}
        self.collector = Collector(current_scope.get().watch)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within this block, nodes are collected."""
        token = current_scope.set(current_scope.get()._replace(watch=self.collector))
        try:
            yield
        finally:
            current_scope.reset(token)
            self.collector.nodes.clear()  # each node knows its scope, so what the collector held would hold itself

    def step(self, t: int, proposed: State, state: State) -> None:
        """A step is over. A state goes by the name that the cell gave it, and as "state0", "state1", ...; its value is the
        one carried on, after zoneout and at the end of a sample."""
        named: dict[str, list[Tensor]] = {}
        for node in self.collector.nodes:
            if node.name is not None:
                named.setdefault(node.name, []).append(node)
        self.collector.nodes.clear()
        for i, (was, now) in enumerate(zip(members(proposed), members(state), strict=True)):
            name = getattr(was, "name", None)  # which an array has not
            if name is not None:
                named[name] = [now if node is was else node for node in named.get(name, [was])]
            named[f"state{i}"] = [now]
        for name, values in self.values.items():
            values[t] = self.only(name, named)

    def only(self, name: str, named: dict[str, list[Tensor]]) -> Tensor:
        """The one value of this name."""
        found, kind = named.get(name, []), type(self.cell).__name__
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{type(self.who).__name__}: record={name!r} is not clear, as a step of {kind} has {len(found)} values of "
                "that name; give each a name of its own, .named(...)"
            )
        raise ValueError(
            f"{type(self.who).__name__}: record={name!r} names nothing in a step of {kind}, which has "
            f"{', '.join(map(repr, named))}. To record another value, name it in the cell: z.named({name!r})"
        )

    def stacked(self, batch: int, time: int) -> dict[str, Tensor]:
        """Each name's values over all steps: (T, N, ...), or (N, T, ...) if time is 1."""
        for name, values in self.values.items():
            shape = values[0].shape
            if shape[:1] != (batch,):
                raise ValueError(
                    f"{type(self.who).__name__}: record={name!r} has shape {shape} in a step of {type(self.cell).__name__}; "
                    f"expected ({batch}, ...), a value for each sample"
                )
        return {name: stack([values[t] for t in sorted(values)], axis=time) for name, values in self.values.items()}
