"""Recurrent: the one loop over time. RNN, LSTM and GRU are this loop with their cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from numbers import Real
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import DTypeLike

from ..functions import broadcast_to, concatenate, stack
from ..scope import current_scope
from ..tensor import Tensor, lift
from .between_steps import Lengths, masked, recurrent_mask, zoneout
from .cells import GRUCell, LSTMCell, RNNCell
from .functional import dropout
from .gates import gates_of
from .module import Module, Parameter
from .record import Recorder, Records, asked
from .state import (
    State,
    check_returned,
    check_state,
    checked_state_size,
    like,
    members,
    output_of,
    output_size,
    sizes,
    state_dtype,
    zero_state,
)


class Recurrent(Module):
    """A cell, run over time: in layers, in one or both directions, over sequences of any length.

    What it means, for one layer and one direction:

        def recurrent(cell, x, state):          # x (T, N, features)
            ys = []
            for x_t in x:
                state = cell(x_t, state)
                ys.append(output(state))        # the state's first member, or cell.output(state)
            return stack(ys), state

    cell: a Module with `state_size` (an int, or a tuple of ints for a tuple of states) and a pure `forward(x_t, state)`; or,
        for several layers or directions, a function that makes one for a given number of input features. A cell whose
        `output(state)` is of another size than the state's first member says so as `output_size`.
    input_size: the features of x, needed only with such a function.
    dropout: the probability of dropping an output between layers, anew at every step.
    recurrent_dropout: that of dropping a unit of the state's first member, h, where a step reads it: one mask for all steps of
        a sequence (Gal & Ghahramani 2016). It is for cells that only multiply h, as an LSTM does; one that carries h on (GRU)
        carries on what is left of it, scaled up at every step: there, use zoneout.
    zoneout: that of a unit keeping its old value in a step (Krueger et al. 2017); a tuple has a rate for each state: (h, c).
    learn_initial_state: begin with trained states, the parameters initial_state0_l0, ... of shape (size,), zero at first.

    Dropout and zoneout act in training; in evaluation there is none, and zoneout's expected value.

    Called with x (T, N, features), or (N, T, features) if batch_first, or (T, features) without a batch, and
        hx: the initial state, (layers * directions, N, size) for each member; left out, zeros or what was learned.
        lengths: (N,) ints, the steps of each sample that are real. What is padding is not read; outputs are zero there; the
            final state is that of the sample's own end, and a reverse direction begins at it.
        record: names of values inside the cells, such as ("f", "c"), or "state0", "state1", ... for the states.
    Returns the outputs of the last layer, (T, N, directions * size), and the final state, shaped as hx. With record=, also
    {"l0": {"f": (T, N, ...)}, "l0_reverse": ...}, laid out as the outputs are and connected to the graph.

    A cell's parameters are named with a suffix for layer and direction: weight_ih_l0, weight_ih_l0_reverse, weight_ih_l1, ...
    """

    recurrent_dropout: float = 0.0  # set where it is used, and so shown there only; zoneout likewise
    zoneout: float | tuple[float, ...] = 0.0

    def __init__(
        self,
        cell: Module | Callable[[int], Module],
        input_size: int | None = None,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
        batch_first: bool = False,
        learn_initial_state: bool = False,
    ) -> None:
        who = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{who}: num_layers must be at least 1, got {num_layers}")
        for name, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout), ("zoneout", zoneout)):
            rates = p if name == "zoneout" and isinstance(p, tuple) else (p,)
            if not all(isinstance(rate, Real) and 0 <= rate <= 1 for rate in rates):
                more = " (or, for each state, in a tuple)" if name == "zoneout" else ""
                raise ValueError(f"{who}: {name} must be between 0 and 1{more}, got {p!r}")
        if dropout and num_layers == 1:
            warnings.warn(
                f"{who}: dropout acts between layers, so with num_layers=1 dropout={dropout} does nothing",
                stacklevel=2 if type(self) is Recurrent else 3,
            )
        self.num_layers, self.batch_first, self.dropout, self.bidirectional = num_layers, batch_first, dropout, bidirectional
        if recurrent_dropout:
            self.recurrent_dropout = recurrent_dropout
        if zoneout:
            self.zoneout = zoneout
        self.cells = self._make_cells(cell, input_size)
        self.state_size = self._common_state_size()
        widths = sizes(self.state_size)
        if isinstance(zoneout, tuple) and len(zoneout) != len(widths):
            raise ValueError(f"{who}: zoneout={zoneout} has {len(zoneout)} rates, and the state {len(widths)} members")
        if learn_initial_state:
            for name, made in self.cells.items():
                for i, n in enumerate(widths):
                    setattr(self, f"initial_state{i}_{name}", Parameter(np.zeros(n, state_dtype(made))))

    def _make_cells(self, cell: Module | Callable[[int], Module], features: int | None) -> dict[str, Module]:
        """A cell for each layer and direction: l0, l0_reverse, l1, ..."""
        who = type(self).__name__
        if not callable(cell):
            raise TypeError(f"{who}: expected a cell, or a function that makes one, got a {type(cell).__name__}")
        if isinstance(cell, Module):
            if self.num_layers > 1 or self.bidirectional:
                raise TypeError(
                    f"{who}: one cell cannot be several layers or directions. Pass a function that makes one "
                    f"for a number of input features, and input_size: Recurrent(lambda n: {type(cell).__name__}(n, ...), 3)"
                )
            return {"l0": cell}
        if features is None:
            raise TypeError(f"{who}: a function that makes cells needs input_size, the features of x")
        cells = {}
        for k in range(self.num_layers):
            for suffix in self._suffixes():
                cells[f"l{k}{suffix}"] = made = cell(features)
            features = len(self._suffixes()) * output_size(made)
        return cells

    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _common_state_size(self) -> int | tuple[int, ...]:
        found = {name: checked_state_size(made) for name, made in self.cells.items()}
        if len(set(found.values())) > 1:
            raise ValueError(
                f"{type(self).__name__}: every layer and direction needs states of the same size, got "
                + ", ".join(f"{name}: {size}" for name, size in found.items())
            )
        return found["l0"]

    gates = property(gates_of, doc='The gates of the cells by name: `lstm.gates["f"].bias_ih`; see nn/gates.py.')

    def forward(self, x: Any, hx: Any = None, lengths: Any = None, record: str | Sequence[str] = ()) -> Any:
        x, time, batched, ends = self._enter(x, lengths)
        length, batch = x.shape[time], x.shape[1 - time]
        states = self._initial_states(batch, hx, batched)
        names = asked(self, record)

        steps: list[Tensor] = []
        final: list[State] = []
        records: Records = {}
        for k in range(self.num_layers):
            below = steps
            if below and self.dropout:
                below = over_time(range(length), partial(self._thin, below))
            read = below.__getitem__ if below else (lambda t: x[:, t] if time else x[t])
            if ends is not None:
                read = ends.reader(read)
            runs = []
            for suffix in self._suffixes():
                cell, times = self.cells[f"l{k}{suffix}"], range(length)[:: -1 if suffix else 1]
                recorder = Recorder(self, cell, names) if names else None
                ys, state = self._run(cell, read, times, states[len(final)], ends, recorder)
                runs.append(ys[::-1] if suffix else ys)
                final.append(state)
                if recorder is not None:
                    records[f"l{k}{suffix}"] = recorder.stacked(batch, time)
            steps = runs[0] if len(runs) == 1 else over_time(range(length), partial(self._join, runs))

        def finish(value: Tensor) -> Tensor:
            """A result over all steps: blank where it is padding, and without a batch if x had none."""
            value = value if ends is None else ends.blank(value, time)
            return value if batched else value.squeeze(1)

        output = finish(stack(steps, axis=time))
        stacked = [stack(each) for each in zip(*map(members, final), strict=True)]
        last = like(final[0], stacked if batched else [h.squeeze(1) for h in stacked])
        if not names:
            return output, last
        return output, last, {name: {n: finish(v) for n, v in values.items()} for name, values in records.items()}

    def _enter(self, x: Any, lengths: Any) -> tuple[Tensor, int, bool, Lengths | None]:
        """x with a batch; which of its axes is time; whether it came with a batch; and where its sequences end."""
        x = lift(x)
        time = 1 if self.batch_first and x.ndim == 3 else 0
        self._check_input(x, time)
        batched, length = x.ndim == 3, x.shape[time]
        if not batched:
            if lengths is not None:
                raise ValueError(f"{type(self).__name__}: lengths belong to a batch, and x {x.shape} is one sequence: cut it")
            x = x.reshape(length, 1, -1)
        return x, time, batched, None if lengths is None else Lengths(self, lengths, length, x.shape[1 - time])

    def _check_input(self, x: Tensor, time: int) -> None:
        features = getattr(self.cells["l0"], "input_size", "features")
        if x.ndim not in (2, 3) or x.shape[time] == 0 or features not in ("features", x.shape[-1]):
            lead = "N, T" if self.batch_first else "T, N"
            raise ValueError(
                f"{type(self).__name__}: expected x of shape ({lead}, {features}) or (T, {features}) with T > 0, got {x.shape}"
            )

    def _thin(self, ys: Sequence[Tensor], t: int) -> Tensor:
        return dropout(ys[t], self.dropout, self.training)

    def _join(self, runs: Sequence[Sequence[Tensor]], t: int) -> Tensor:
        return concatenate([ys[t] for ys in runs], axis=-1)

    def _run(
        self, cell: Module, read: Callable[[int], Tensor], times: range, state: State,
        ends: Lengths | None, recorder: Recorder | None,
    ) -> tuple[list[Tensor], State]:  # fmt: skip
        """The loop: the outputs in the order of the times, and the last state."""
        batch = members(state)[0].shape[0]
        mask = recurrent_mask(state, self.recurrent_dropout) if self.recurrent_dropout and self.training else None
        rates = self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout,) * len(members(state))
        zones = any(rates)

        def step(t: int) -> Tensor:
            nonlocal state
            proposed = new = cell(read(t), state if mask is None else masked(state, mask))
            if zones:
                new = zoneout(state, new, rates, self.training)
            if ends is not None:
                new = ends.wait(t, state, new)
            state = new
            y = output_of(cell, state)
            if recorder is not None:
                recorder.step(t, proposed, state)
            return y

        with nullcontext() if recorder is None else recorder.on():
            ys = over_time(times, step)
        check_returned(cell, self.state_size, batch, state)
        return ys, state

    def _initial_states(self, batch: int, hx: Any, batched: bool) -> list[State]:
        """The initial state of every layer and direction, in that order."""
        if hx is None:
            return [self._initial_state(name, cell, batch) for name, cell in self.cells.items()]
        lead = (len(self.cells), batch) if batched else (len(self.cells),)
        check_state(self, self.state_size, lead, hx)
        given = [lift(h) if batched else lift(h).reshape(len(self.cells), 1, -1) for h in members(hx)]
        return [like(hx, [h[i] for h in given]) for i in range(len(self.cells))]

    def _initial_state(self, name: str, cell: Module, batch: int) -> State:
        """What was learned, or else zeros."""
        zero = zero_state(self.state_size, (batch,), state_dtype(cell))
        if f"initial_state0_{name}" not in vars(self):
            return zero
        learned = [vars(self)[f"initial_state{i}_{name}"] for i in range(len(members(zero)))]
        return like(zero, [broadcast_to(h, (batch, *h.shape)) for h in learned])

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


class Options(TypedDict, total=False):
    """What `RNN`, `LSTM` and `GRU` take beyond PyTorch's arguments, for `Recurrent`."""

    recurrent_dropout: float
    zoneout: float | tuple[float, ...]
    learn_initial_state: bool


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
        **options: Unpack[Options],
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.nonlinearity = nonlinearity
        super().__init__(
            lambda features: RNNCell(features, hidden_size, bias, nonlinearity, dtype),
            input_size, num_layers, batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, **options,
        )  # fmt: skip


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
        **options: Unpack[Options],
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.proj_size = proj_size
        super().__init__(
            lambda features: LSTMCell(features, hidden_size, bias, dtype, proj_size),
            input_size, num_layers, batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, **options,
        )  # fmt: skip


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
        **options: Unpack[Options],
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        super().__init__(
            lambda features: GRUCell(features, hidden_size, bias, dtype),
            input_size, num_layers, batch_first=batch_first, dropout=dropout, bidirectional=bidirectional, **options,
        )  # fmt: skip
