"""Which nodes stand in one row: those that do the same in different steps."""

from __future__ import annotations

from typing import Any

from ..steps import Timing, repeated
from ..tensor import Tensor

Rows = dict[Tensor, int]


def rows_of(time: Timing) -> Rows:
    """A number for each row. Within a step no two nodes have the same."""
    numbers: dict[Any, int] = {}
    seen: dict[tuple[int, int], int] = {}
    rows: Rows = {}
    for x, t in time.step.items():
        k = seen[time.role[x], t] = seen.get((time.role[x], t), -1) + 1
        rows[x] = numbers.setdefault((time.role[x], k), len(numbers))
    match_odd(rows, time)
    return rows


def match_odd(rows: Rows, time: Timing) -> None:
    """Find places for nodes that no other step has, as when the first step meets constants for a state.

    They take what is empty of their step in rows of the same op, parameters and module.
    """
    step = time.step
    shared = repeated((row, step[x]) for x, row in rows.items())
    odd = {step[x] for x, row in rows.items() if row not in shared}
    present = {(row, step[x]) for x, row in rows.items() if step[x] in odd}
    alike: dict[Any, dict[int, tuple[int | None, ...]]] = {}
    for x, row in rows.items() if odd else ():
        if row in shared:
            alike.setdefault(looks(x, time), {})[row] = below(x, rows, time)
    for x in [x for x, row in rows.items() if row not in shared]:
        mine, t = below(x, rows, time), step[x]
        for row, theirs in alike.get(looks(x, time), {}).items():
            if (row, t) not in present and all(a is None or a == b for a, b in zip(mine, theirs, strict=True)):
                rows[x] = row
                present.add((row, t))
                break


def looks(x: Tensor, time: Timing) -> tuple[Any, ...]:
    """What nodes of one row have in common."""
    return x.op, id(x.scope.module), x.params.get("piece"), *(time.origin.get(y) for y in x.inputs)


def below(x: Tensor, rows: Rows, time: Timing) -> tuple[int | None, ...]:
    """The rows of a node's inputs in its own step."""
    return tuple(rows[y] if time.step.get(y) == time.step[x] else None for y in x.inputs)


def carried(rows: Rows, time: Timing) -> dict[tuple[int, int], Tensor]:
    """What comes from another step, by the row of its reader and its place among the reader's inputs: one source for each."""
    found: dict[tuple[int, int], Tensor] = {}
    for x in time.step:
        for i, y in enumerate(x.inputs):
            if y in time.step and time.step[y] != time.step[x]:
                found.setdefault((rows[x], i), y)
    return found
