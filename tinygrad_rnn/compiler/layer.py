"""tg.compile: a recurrent layer that runs programs instead of a graph of every step.

A program is made for each shape, dtype and use that a call has, once. In the graph a run of one is a single node, with an
output node for each result.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from threading import RLock
from typing import Any

import numpy as np

from ..functions import concatenate, swapaxes, where
from ..nn.between_steps import Lengths
from ..nn.functional import dropout
from ..nn.module import Module
from ..nn.record import asked
from ..nn.recurrent import Recurrent
from ..nn.state import members, sizes, state_dtype
from ..scope import Scope, current_scope
from ..tensor import Tensor, apply
from .native.plan import NotInC
from .run import Rolling, outputs
from .trace import CompileError, Wanted

PROGRAMS = 32  # so many are kept, for the latest shapes
OWN = {"layer", "fallback", "target", "training", "_programs", "_last", "_lock", "_unrolled", "_plain"}


def compile(layer: Recurrent, fallback: str | None = None, target: str | None = None) -> Compiled:
    """A recurrent layer made fast: the same call, the same results, the same parameters, and its program to read: `.source`,
    `.textbook` (the same, plainly) and `.schedule`.

    layer: `Recurrent(cell)` of any cell, so RNN, LSTM and GRU too. One step of the cell is traced, differentiated by the op
    table, and written as two functions with a loop over time each: forward, and backpropagation through time. What does not
    depend on the state leaves the loops.
    fallback: what to do with a step that cannot become a program, one that looks at values (`if h.sum() > 0:`): None raises
        CompileError at the first call, naming the line; "unrolled" warns once and runs the layer as it is.
    target: what the loops are written in. "numpy", or "c", which is several times as fast for small layers and needs a C
        compiler: $CC, cc, gcc or clang. None takes C where there is one and all operations of the step can be written in it.
    """
    return Compiled(layer, fallback, target)


class Compiled(Module):
    """What `tg.compile` returns; see there."""

    def __init__(self, layer: Recurrent, fallback: str | None = None, target: str | None = None) -> None:
        if not isinstance(layer, Recurrent):
            hint = "model.rnn = tg.compile(model.rnn)" if isinstance(layer, Module) else "tg.compile(tg.nn.LSTM(3, 5))"
            if isinstance(layer, Compiled):
                raise TypeError("compile: this layer is compiled already; use it as it is")
            if isinstance(layer, Module) and hasattr(layer, "state_size"):
                hint = f"tg.compile(tg.nn.Recurrent({type(layer).__name__}(...)))"
            raise TypeError(f"compile: expected a recurrent layer, got a {type(layer).__name__}; write {hint}")
        if fallback not in (None, "unrolled"):
            raise ValueError(f"compile: fallback is None or 'unrolled', got {fallback!r}")
        if target not in (None, "c", "numpy"):
            raise ValueError(f"compile: target is 'c', 'numpy', or None for the first of them that can be had, got {target!r}")
        self.layer, self.fallback, self.target = layer, fallback, target
        self._programs: dict[Any, Rolling] = {}
        self._last: dict[str, Rolling] = {}
        self._lock = RLock()
        self._unrolled = False
        learned = hasattr(layer, "initial_state0_l0")
        self._plain = len(layer.cells) == 1 and not learned  # a call without options is one run

    def named_children(self) -> Iterator[tuple[str, Tensor | Module]]:
        yield "layer", self.layer  # and no program

    def child_path(self, child: str, below: str = "") -> str:
        return below or child

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "layer" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.layer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN or "layer" not in vars(self):
            super().__setattr__(name, value)
        else:
            setattr(self.layer, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is copied and pickled: by its layer, and programs are made again."""
        return Compiled, (self.layer, self.fallback, self.target)

    @property
    def source(self) -> str:
        """The program that ran last, of each layer and direction; before the first call, that for a single sequence.

        Python code with a forward and a backward function; if their loops are C, it stands before them.
        """
        return self._shown("source")

    @property
    def textbook(self) -> str:
        """The same program as one would write it on a blackboard: a plain loop each way, an equation a line. It runs, too."""
        return self._shown("textbook")

    @property
    def schedule(self) -> str:
        """When each value is computed, and why then: once, before the loop, in it, after it."""
        return self._shown("schedule")

    def _shown(self, what: str) -> str:
        """A text on each program that ran last."""
        features = getattr(self.layer, "input_size", None) or getattr(self.layer.cells["l0"], "input_size", None)
        if not self._last and features is not None:
            token = current_scope.set(Scope())  # whoever watches, this is not for them
            try:
                self(Tensor(np.zeros((1, 1, features), state_dtype(self.layer.cells["l0"]))))
            finally:
                current_scope.reset(token)
        if not self._last:
            raise RuntimeError("compile: there is no program yet, since its shapes are those of the first call: call it once")
        texts: dict[str, str] = {name: getattr(program, what) for name, program in self._last.items()}
        if len(texts) == 1:
            return next(iter(texts.values()))
        return "\n\n".join(f"# -- {name} {'-' * 100}\n\n{text}" for name, text in texts.items())

    # -- a call --------------------------------------------------------------------------------------------------------------

    def forward(self, x: Any, hx: Any = None, lengths: Any = None, record: str | Sequence[str] = ()) -> Any:
        layer = self.layer
        if self._unrolled or current_scope.get().watch is not None:  # who watches wants to see every step
            return layer(x, hx, lengths, record)
        try:
            if (
                hx is None
                and lengths is None
                and record == ()
                and self._plain
                and not layer.batch_first
                and isinstance(x, Tensor)
                and len(shape := x._data.shape) == 3
                and 0 not in shape
            ):
                ys, *final = self._run("l0", x, (), None, ())
                return ys, tuple(final) if isinstance(layer.state_size, tuple) else final[0]
            return self._call(x, hx, lengths, record)
        except CompileError as error:
            if self.fallback is None:
                advice = '; or run this layer as it is, which tg.compile(layer, fallback="unrolled") does'
                raise CompileError(f"compile: {error}{'' if isinstance(error, NotInC) else advice}") from None
            warnings.warn(f"compile: {error}; it runs unrolled", stacklevel=3)
            self._unrolled = True
            return self.layer(x, hx, lengths, record)

    def _call(self, x: Any, hx: Any, lengths: Any, record: str | Sequence[str]) -> Any:
        """`Recurrent.forward`, with whole sequences in the place of steps."""
        layer = self.layer
        x, time, batched, ends = layer._enter(x, lengths)
        if time:
            x = swapaxes(x, 0, 1)
        batch = x.shape[1]
        states = None if hx is None and not hasattr(layer, "initial_state0_l0") else layer._initial_states(batch, hx, batched)
        names = asked(layer, record)

        finals: list[list[Tensor]] = []
        records: dict[str, dict[str, Tensor]] = {}
        for k in range(layer.num_layers):
            if k and layer.dropout:
                x = dropout(x, layer.dropout, layer.training)
            if ends is not None:
                x = where(ends.real, x, x[ends.shortest - 1])
            runs = []
            for suffix in layer._suffixes():
                name = f"l{k}{suffix}"
                initial = () if states is None else members(states[len(finals)])
                made = self._run(name, x, initial, ends, names)
                runs.append(made[0])
                finals.append(made[1 + len(names) :])
                if names:
                    records[name] = dict(zip(names, made[1:], strict=False))
            x = runs[0] if len(runs) == 1 else concatenate(runs, axis=-1)

        def finish(value: Tensor) -> Tensor:
            value = value if ends is None else ends.blank(value, 0)
            value = swapaxes(value, 0, 1) if time else value
            return value if batched else value.squeeze(1)

        last = finals[0] if len(finals) == 1 else [concatenate(each) for each in zip(*finals, strict=True)]
        if not batched:
            last = [h.squeeze(1) for h in last]
        state = tuple(last) if isinstance(layer.state_size, tuple) else last[0]
        if not names:
            return finish(x), state
        return finish(x), state, {name: {n: finish(v) for n, v in values.items()} for name, values in records.items()}

    def _run(
        self, name: str, x: Tensor, state: tuple[Tensor, ...], ends: Lengths | None, names: tuple[str, ...]
    ) -> list[Tensor]:
        """One layer in one direction: y, what is recorded, and the final state's members, as the outputs of one node."""
        layer, data = self.layer, x._data
        given = tuple([(h.shape, h.dtype, h._requires_grad) for h in state]) if state else ()
        key = (
            name, data.shape[1:], data.dtype, given, current_scope.get().recording, x._requires_grad,
            layer.training, layer.zoneout, layer.recurrent_dropout, ends is not None, names, self.target,
        )  # fmt: skip
        program = self._programs.get(key)
        if program is None or not program.current():
            program = self._made(key, self._wanted(name, x, state, ends is not None, names))
        self._last[name] = program
        extras = {"extras": program.extras(len(data), layer, ends)} if program.extra_names else {}
        return outputs(apply(program.op, x, *state, *program.externals, **extras))

    def _made(self, key: tuple[Any, ...], wanted: Wanted) -> Rolling:
        """The program for a use, which is made once: of the threads that want it, the others wait."""
        with self._lock:
            program = self._programs.get(key)
            if program is None or not program.current():
                program = self._programs[key] = Rolling(self.layer, key[0], wanted, self.target)
                for old in list(self._programs)[:-PROGRAMS]:
                    self._programs.pop(old).forget()
            return program

    def _wanted(self, name: str, x: Tensor, state: tuple[Tensor, ...], padded: bool, names: tuple[str, ...]) -> Wanted:
        """What a call asks of a program; raises if the layer itself would not take this x."""
        if name == "l0":
            self.layer._check_input(x, 0)
        layer, batch = self.layer, x.shape[1]
        dtype = state_dtype(layer.cells[name]).str
        states = [(h.shape, h.dtype.str) for h in state] or [((batch, n), dtype) for n in sizes(layer.state_size)]
        rates = layer.zoneout if isinstance(layer.zoneout, tuple) else (layer.zoneout,) * len(states)
        flags = (x._requires_grad, any(h._requires_grad for h in state)) if current_scope.get().recording else ()
        return Wanted(
            (x.shape[1:], x.dtype.str), tuple(states), rates if any(rates) else (), layer.training,
            bool(layer.recurrent_dropout and layer.training), padded, names, flags,
        )  # fmt: skip
