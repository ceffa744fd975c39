"""Recurrent: the one loop over time. RNN, LSTM and GRU are this loop with their cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..functions import concatenate, stack
from ..scope import current_scope
from ..tensor import Tensor, lift
from .cells import GRUCell, LSTMCell, RNNCell, State, check_state, state_dtype, zero_state
from .functional import dropout
from .module import Module


class Recurrent(Module):
    """A cell, run over time: in layers, in one or both directions, with dropout between layers.

    What it means, for one layer and one direction:

        def recurrent(cell, x, state):          # x (T, N, features)
            ys = []
            for x_t in x:
                state = cell(x_t, state)
                ys.append(output(state))        # the state's first member, or cell.output(state)
            return stack(ys), state

    cell: a Module with `state_size` (an int, or a tuple of ints for a tuple of states) and a pure `forward(x_t, state)`; or,
    for several layers or directions, a function that makes one for a given number of input features.
    input_size: the features of x, needed only with such a function.

    Called with x (T, N, features), or (N, T, features) if batch_first, or (T, features) without a batch, and hx, the initial
    state, zeros if left out: (layers * directions, N, size) for each member. Returns the outputs of the last layer,
    (T, N, directions * size), and the final state, shaped as hx. A cell's parameters are named with a suffix for layer and
    direction: weight_ih_l0, weight_ih_l0_reverse, weight_ih_l1, ... A cell whose `output(state)` is of another size than the
    state's first member says so as `output_size`.
    """

    def __init__(
        self,
        cell: Module | Callable[[int], Module],
        input_size: int | None = None,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"{type(self).__name__}: num_layers must be at least 1, got {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{type(self).__name__}: dropout must be between 0 and 1, got {dropout}")
        if dropout and num_layers == 1:
            warnings.warn(
                f"{type(self).__name__}: dropout acts between layers, so with num_layers=1 dropout={dropout} does nothing",
                stacklevel=2 if type(self) is Recurrent else 3,
            )
        self.num_layers, self.batch_first, self.dropout, self.bidirectional = num_layers, batch_first, dropout, bidirectional
        directions = ("", "_reverse") if bidirectional else ("",)
        if not callable(cell):
            what = type(cell).__name__
            raise TypeError(f"{type(self).__name__}: expected a cell, or a function that makes one, got a {what}")
        if isinstance(cell, Module):
            if num_layers > 1 or bidirectional:
                raise TypeError(
                    f"{type(self).__name__}: one cell cannot be several layers or directions. Pass a function that makes one "
                    f"for a number of input features, and input_size: Recurrent(lambda n: {type(cell).__name__}(n, ...), 3)"
                )
            self.cells = {"l0": cell}
        else:
            if input_size is None:
                raise TypeError(f"{type(self).__name__}: a function that makes cells needs input_size, the features of x")
            self.cells = {}
            for k in range(num_layers):
                for direction in directions:
                    self.cells[f"l{k}{direction}"] = made = cell(input_size)
                input_size = len(directions) * output_size(made)
        sizes = {name: checked_state_size(made) for name, made in self.cells.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"{type(self).__name__}: every layer and direction needs states of the same size, got "
                + ", ".join(f"{name}: {size}" for name, size in sizes.items())
            )
        self.state_size = sizes["l0"]

    def forward(self, x: Any, hx: Any = None) -> tuple[Tensor, Any]:
        x = lift(x)
        time = 1 if self.batch_first and x.ndim == 3 else 0
        features = getattr(self.cells["l0"], "input_size", "features")
        if x.ndim not in (2, 3) or x.shape[time] == 0 or features not in ("features", x.shape[-1]):
            lead = "N, T" if self.batch_first else "T, N"
            raise ValueError(
                f"{type(self).__name__}: expected x of shape ({lead}, {features}) or (T, {features}) with T > 0, got {x.shape}"
            )
        batched, length = x.ndim == 3, x.shape[time]
        if not batched:
            x = x.reshape(length, 1, -1)
        states = self._initial_states(x.shape[1 - time], hx, batched)

        steps: list[Tensor] = []
        final: list[State] = []
        for k in range(self.num_layers):
            below = steps
            if below and self.dropout:
                below = over_time(range(length), partial(self._thin, below))
            read = below.__getitem__ if below else (lambda t: x[:, t] if time else x[t])
            runs = []
            for suffix in ("", "_reverse") if self.bidirectional else ("",):
                ys, state = self._run(self.cells[f"l{k}{suffix}"], read, length, states[len(final)], bool(suffix))
                runs.append(ys)
                final.append(state)
            steps = runs[0] if len(runs) == 1 else over_time(range(length), partial(self._join, runs))

        output = stack(steps, axis=time)
        if isinstance(self.state_size, tuple):
            last: Any = tuple(stack(members) for members in zip(*final, strict=True))
        else:
            last = stack(final)
        if batched:
            return output, last
        without_batch = tuple(h.squeeze(1) for h in last) if isinstance(last, tuple) else last.squeeze(1)
        return output.squeeze(1), without_batch

    def _thin(self, ys: Sequence[Tensor], t: int) -> Tensor:
        return dropout(ys[t], self.dropout, self.training)

    def _join(self, runs: Sequence[Sequence[Tensor]], t: int) -> Tensor:
        return concatenate([ys[t] for ys in runs], axis=-1)

    def _run(
        self, cell: Module, read: Callable[[int], Tensor], length: int, state: State, reverse: bool
    ) -> tuple[list[Tensor], State]:
        """The loop: the outputs in the order of time, and the last state."""
        output = getattr(cell, "output", None) or (lambda state: state[0] if isinstance(state, tuple) else state)

        def step(t: int) -> Tensor:
            nonlocal state
            state = cell(read(t), state)
            return output(state)  # type: ignore[no-any-return]

        if reverse:
            return over_time(range(length)[::-1], step)[::-1], state
        return over_time(range(length), step), state

    def _initial_states(self, batch: int, hx: Any, batched: bool) -> list[State]:
        """The initial state of every layer and direction, in that order."""
        cells = list(self.cells.values())
        if hx is None:
            return [zero_state(self.state_size, (batch,), state_dtype(cell)) for cell in cells]
        lead = (len(cells), batch) if batched else (len(cells),)
        check_state(self, self.state_size, lead, hx)
        members = [lift(h) for h in (hx if isinstance(hx, tuple) else (hx,))]
        if not batched:
            members = [h.reshape(len(cells), 1, -1) for h in members]
        if isinstance(self.state_size, tuple):
            return [tuple(h[i] for h in members) for i in range(len(cells))]
        return [members[0][i] for i in range(len(cells))]

    # `lstm.weight_ih_l0` is the parameter weight_ih of the cell l0: read, assigned, and saved under that name.

    def child_path(self, child: str, below: str = "") -> str:
        key = child.removeprefix("cells.")
        return f"{below}_{key}" if below and key in self.cells else super().child_path(child, below)

    def __getattr__(self, name: str) -> Any:
        base, mark, key = name.rpartition("_l")
        cell = vars(self).get("cells", {}).get("l" + key)
        if mark and cell is not None and hasattr(cell, base):
            return getattr(cell, base)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        base, mark, key = name.rpartition("_l")
        cell = vars(self).get("cells", {}).get("l" + key)
        if mark and cell is not None and hasattr(cell, base):
            setattr(cell, base, value)
        else:
            super().__setattr__(name, value)


def over_time(times: Sequence[int], step: Callable[[int], Tensor]) -> list[Tensor]:
    """[step(t) for t in times], where each node that is made knows its time step."""
    scope = current_scope.get()
    token = current_scope.set(scope)
    try:
        results = []
        for t in times:
            current_scope.set(scope._replace(step=t))
            results.append(step(t))
        return results
    finally:
        current_scope.reset(token)


class RNN(Recurrent):
    """Elman's network (1990), `RNNCell` over time; arguments, parameters and results are those of PyTorch's nn.RNN."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.nonlinearity = nonlinearity
        super().__init__(
            lambda features: RNNCell(features, hidden_size, bias, nonlinearity, dtype),
            input_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
        )


class LSTM(Recurrent):
    """Long short-term memory, `LSTMCell` over time; arguments, parameters and results are those of PyTorch's nn.LSTM.

    hx and the final state are pairs (h, c); with proj_size P > 0 the outputs and h have P features instead of hidden_size.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.proj_size = proj_size
        super().__init__(
            lambda features: LSTMCell(features, hidden_size, bias, dtype, proj_size),
            input_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
        )


class GRU(Recurrent):
    """Gated recurrent unit, `GRUCell` over time; arguments, parameters and results are those of PyTorch's nn.GRU."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        super().__init__(
            lambda features: GRUCell(features, hidden_size, bias, dtype),
            input_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
        )


def output_size(cell: Module) -> int:
    """How many features a cell gives to what is above it."""
    size = checked_state_size(cell)
    return int(getattr(cell, "output_size", size[0] if isinstance(size, tuple) else size))


def checked_state_size(cell: Module) -> int | tuple[int, ...]:
    """A cell's `state_size`; without one it is not a cell."""
    size = getattr(cell, "state_size", None)
    if isinstance(size, int) or (isinstance(size, tuple) and size and all(isinstance(n, int) for n in size)):
        return size
    raise TypeError(
        f"{type(cell).__name__} is not a cell: it needs `state_size`, an int or a tuple of ints (one for each member of its "
        f"state), got {size!r}"
    )
