"""tg.compile: a recurrent layer that runs programs instead of a graph of every step.

A program is made for each shape, dtype and use that a call has, once, and is checked against the unrolled layer on random
numbers. In the graph a run of one is a single node, with an output node for each result.
"""

from __future__ import annotations

import builtins
import linecache
import warnings
from collections.abc import Callable, Sequence
from operator import is_
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from ..backward import gradients
from ..functions import concatenate, stack, swapaxes, where
from ..nn.between_steps import Lengths, recurrent_mask
from ..nn.functional import dropout
from ..nn.init import generator
from ..nn.module import Module
from ..nn.record import Recorder
from ..nn.recurrent import Recurrent
from ..nn.state import like, members, sizes, state_dtype
from ..ops import Array, Op, Together
from ..scope import Scope, current_scope
from ..tensor import Tensor, apply, lift
from .emit import emit
from .program import Program
from .rewrite import improved
from .roll import roll
from .trace import CompileError, Wanted, advance, trace


def compile(layer: Recurrent, fallback: str | None = None) -> Compiled:
    """A recurrent layer made fast: the same call, the same results, the same parameters, and `.source` to read.

    layer: `Recurrent(cell)` of any cell, so RNN, LSTM and GRU too. One step of the cell is traced, differentiated by the op
    table, and written as two NumPy functions with a loop over time each: forward, and backpropagation through time. What does
    not depend on the state leaves the loops.
    fallback: what to do with a step that cannot become a program, one that looks at values (`if h.sum() > 0:`): None raises
        CompileError at the first call, naming the line; "unrolled" warns once and runs the layer as it is.
    """
    return Compiled(layer, fallback)


class Compiled(Module):
    """What `tg.compile` returns; see there. `.source` is the program that ran last, of each layer and direction."""

    def __init__(self, layer: Recurrent, fallback: str | None = None) -> None:
        if not isinstance(layer, Recurrent):
            hint = "model.rnn = tg.compile(model.rnn)" if isinstance(layer, Module) else "tg.compile(tg.nn.LSTM(3, 5))"
            if isinstance(layer, Module) and hasattr(layer, "state_size"):
                hint = f"tg.compile(tg.nn.Recurrent({type(layer).__name__}(...)))"
            raise TypeError(f"compile: expected a recurrent layer, got a {type(layer).__name__}; write {hint}")
        if fallback not in (None, "unrolled"):
            raise ValueError(f"compile: fallback is None or 'unrolled', got {fallback!r}")
        self.layer, self.fallback = layer, fallback
        self._programs: dict[Any, Rolling] = {}
        self._last: dict[str, Rolling] = {}
        self._lock = RLock()
        self._unrolled = False
        learned = hasattr(layer, "initial_state0_l0")
        self._plain = len(layer.cells) == 1 and not layer.batch_first and not learned  # a call without options is one run

    def child_path(self, child: str, below: str = "") -> str:
        return below or child

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "layer" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.layer, name)

    @property
    def source(self) -> str:
        """The program that ran last: NumPy code with a forward and a backward function for each layer and direction."""
        texts = {name: program.source for name, program in self._shown().items()}
        if len(texts) == 1:
            return next(iter(texts.values()))
        return "\n\n".join(f"# -- {name} " + "-" * 80 + f"\n\n{text}" for name, text in texts.items())

    def _shown(self) -> dict[str, Rolling]:
        features = getattr(self.layer, "input_size", None) or getattr(self.layer.cells["l0"], "input_size", None)
        if not self._last and features is not None:
            self(Tensor(np.zeros((1, 1, features), state_dtype(self.layer.cells["l0"]))))
        if not self._last:
            raise RuntimeError("compile: there is no program yet, since its shapes are those of the first call: call it once")
        return self._last

    # -- a call --------------------------------------------------------------------------------------------------------------

    def forward(self, x: Any, hx: Any = None, lengths: Any = None, record: str | Sequence[str] = ()) -> Any:
        if self._unrolled:
            return self.layer(x, hx, lengths, record)
        try:
            if hx is None and lengths is None and not record and self._plain and isinstance(x, Tensor) and x.size and x.ndim == 3:
                ys, final, _ = self._run("l0", x, (), None, ())
                return ys, tuple(final) if isinstance(self.layer.state_size, tuple) else final[0]
            return self._call(x, hx, lengths, record)
        except CompileError as error:
            if self.fallback is None:
                raise
            warnings.warn(f"{error}. It runs unrolled", stacklevel=3)
            self._unrolled = True
            return self.layer(x, hx, lengths, record)

    def _call(self, x: Any, hx: Any, lengths: Any, record: str | Sequence[str]) -> Any:
        """`Recurrent.forward`, with whole sequences in the place of steps."""
        layer, x = self.layer, lift(x)
        time = 1 if layer.batch_first and x.ndim == 3 else 0
        layer._check_input(x, time)
        batched, length = x.ndim == 3, x.shape[time]
        if not batched:
            if lengths is not None:
                raise ValueError(f"{type(layer).__name__}: lengths belong to a batch, and x {x.shape} is one sequence: cut it")
            x = x.reshape(length, 1, -1)
        if time:
            x = swapaxes(x, 0, 1)
        batch = x.shape[1]
        ends = None if lengths is None else Lengths(layer, lengths, length, batch)
        states = None if hx is None and not hasattr(layer, "initial_state0_l0") else layer._initial_states(batch, hx, batched)
        names = (record,) if isinstance(record, str) else tuple(record)

        finals, records = [], {}
        for k in range(layer.num_layers):
            if k and layer.dropout:
                x = dropout(x, layer.dropout, layer.training)
            if ends is not None:
                x = where(ends.real, x, x[0])
            runs = []
            for suffix in layer._suffixes():
                name = f"l{k}{suffix}"
                state = () if states is None else members(states[len(finals)])
                ys, final, recorded = self._run(name, x, state, ends, names)
                runs.append(ys)
                finals.append(final)
                if names:
                    records[name] = dict(zip(names, recorded, strict=True))
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
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """One layer in one direction: the outputs, the final state, and what is recorded, as the outputs of one node."""
        program = self._program(name, x, state, ends is not None, names)
        reverse = name.endswith("_reverse")
        extras = program.extras(len(x._data), self.layer, ends, reverse) if program.extra_names else ()
        node = apply(program.op, x, *(state or program.zeros), *program.externals, extras=extras, reverse=reverse)
        made = [apply(OUTPUT, node, index=i) for i in range(program.outputs + len(program.zeros))]
        return made[0], made[program.outputs :], made[1 : program.outputs]

    def _program(self, name: str, x: Tensor, state: tuple[Tensor, ...], padded: bool, names: tuple[str, ...]) -> Rolling:
        """The program for this use, made if there is none yet."""
        layer, data = self.layer, x._data
        given = tuple([(h.shape, h.dtype, h._requires_grad) for h in state])
        key = (
            name, data.shape[1:], data.dtype, given, current_scope.get().recording, x._requires_grad,
            layer.training, layer.zoneout, layer.recurrent_dropout, padded, names,
        )  # fmt: skip
        with self._lock:
            program = self._programs.get(key)
            if program is None or not program.current():
                if name == "l0":
                    layer._check_input(x, 0)
                program = self._programs[key] = Rolling(layer, name, self._wanted(name, x, state, padded, names))
            self._last[name] = program
        return program

    def _wanted(self, name: str, x: Tensor, state: tuple[Tensor, ...], padded: bool, names: tuple[str, ...]) -> Wanted:
        """What a call asks of a program."""
        layer, batch = self.layer, x.shape[1]
        dtype = state_dtype(layer.cells[name]).str
        states = [(h.shape, h.dtype.str) for h in state] or [((batch, n), dtype) for n in sizes(layer.state_size)]
        rates = layer.zoneout if isinstance(layer.zoneout, tuple) else (layer.zoneout,) * len(states)
        flags = (x._requires_grad, any(h._requires_grad for h in state)) if current_scope.get().recording else ()
        return Wanted(
            (x.shape[1:], x.dtype.str), tuple(states), rates if any(rates) else (), layer.training,
            bool(layer.recurrent_dropout and layer.training), padded, names, flags,
        )  # fmt: skip


class Results(NamedTuple):
    """What one run gave: the outputs (y first), then the final states; and what the way back needs."""

    values: list[Array]
    saved: Any


def boxed(content: Any) -> Array:
    """Anything as an array without axes, which is what the value of a node has to be."""
    box = np.empty((), object)
    box[()] = content
    return box


def gathered(uses: Any) -> Array:
    """The gradients of the outputs that were used, each at its place."""
    found: dict[int, Any] = {}
    for g, _, params in uses:
        i = params["index"]
        found[i] = found[i] + g if i in found else g
    return boxed(found)


OUTPUT = Op("output", lambda box, index: box[()].values[index], Together(gathered))


class Rolling:
    """A program that can be run: for one layer and direction, and one use."""

    def __init__(self, layer: Recurrent, name: str, wanted: Wanted) -> None:
        self.layer, self.name, self.wanted = layer, name, wanted
        cell = layer.cells[name]
        self.settings = [vars(m) for _, m in cell.named_modules()]
        self.as_traced = [[*settings.values()] for settings in self.settings]
        self.arrays = [(v, v.copy()) for values in self.as_traced for v in values if isinstance(v, np.ndarray)]
        step = trace(layer, cell, wanted)
        while [h.dtype.str for h in step.new] != [dtype for _, dtype in wanted.states]:
            promoted = tuple((shape, np.result_type(n.dtype, dtype).str) for n, (shape, dtype) in zip(step.new, wanted.states, strict=True))
            if promoted == wanted.states:
                break
            wanted = wanted._replace(states=promoted)
            step = trace(layer, cell, wanted)
        self.externals = tuple(step.externals)
        self.flags = [x._requires_grad for x in self.externals]
        self.zeros = tuple(Tensor(np.zeros(shape, dtype)) for shape, dtype in wanted.states)
        self.outputs = len(step.outputs)
        self.extra_names = [n for n in step.given if n == "mask" or n == "real" or n.startswith("zone")]
        program = Program()
        rolled = roll(program, improved(program, step))
        kind = type(cell).__name__
        code = emit(rolled, f"{kind} over time, for inputs {wanted.x[0]} a step")
        self.source = code.source
        file = f"<tg.compile {kind} {id(self):x}>"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(keepends=True), file)
        namespace = dict(code.names)
        exec(builtins.compile(self.source, file, "exec"), namespace)
        self.forward: Callable[..., Any] = namespace["forward"]
        self.backward: Callable[..., Any] | None = namespace.get("backward")
        self.op = Op(f"{kind} over time", self.run, self.run_back, variadic=True)
        self.checked()

    def current(self) -> bool:
        """Is the cell as it was when it was traced: its settings, and which parameters are trained?"""
        for now, before in zip(self.settings, self.as_traced, strict=True):
            if len(now) != len(before) or not all(map(is_, now.values(), before)):
                return False
        if self.arrays and not all(np.array_equal(now, before) for now, before in self.arrays):
            return False
        return [x._requires_grad for x in self.externals] == self.flags

    # -- the op --------------------------------------------------------------------------------------------------------------

    def extras(self, steps: int, layer: Recurrent, ends: Lengths | None, reverse: bool) -> tuple[Array, ...]:
        """The masks of a call, drawn in the order in which the unrolled layer draws them."""
        if not self.extra_names:
            return ()
        made: dict[str, Any] = {}
        if "mask" in self.extra_names:
            shape, dtype = self.wanted.states[0]
            made["mask"] = recurrent_mask(Tensor(np.empty(shape, dtype)), layer.recurrent_dropout)._data
        zones = [(i, rate) for i, rate in enumerate(self.wanted.zones) if rate] if self.wanted.training else []
        if zones:
            shapes = [self.wanted.states[i][0] for i, _ in zones]
            bounds = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
            drawn = generator.random((steps, bounds[-1]))
            for (i, rate), shape, start, stop in zip(zones, shapes, bounds, bounds[1:], strict=False):
                made[f"zone{i}"] = drawn[:, start:stop].reshape(steps, *shape) < rate
        if ends is not None:
            made["real"] = ends.real[::-1] if reverse else ends.real
        return tuple(made[name] for name in self.extra_names)

    def run(self, x: Array, *rest: Array, extras: tuple[Array, ...], reverse: bool) -> Array:
        """The way forward."""
        k = len(self.zeros)
        values, finals, saved = self.forward(x[::-1] if reverse else x, *rest[:k], *extras, *rest[k:])
        if reverse:
            values = [v[::-1] for v in values]
        return boxed(Results([*values, *(h[None] for h in finals)], saved))

    def run_back(self, g: Any, out: Any, *inputs: Any, extras: tuple[Array, ...], reverse: bool) -> Callable[[int], Any]:
        """The way back: the gradient of each input."""
        grads: dict[int, Any] = g[()]
        if isinstance(out, Tensor):
            return self.unrolled(grads, inputs, extras, reverse)
        values, saved = out[()]
        n, seeds = self.outputs, [grads.get(i) for i in range(len(values))]
        for i, value in enumerate(values):
            if seeds[i] is None:
                seeds[i] = np.zeros(value.shape, value.dtype)
        ys = [s[::-1] for s in seeds[:n]] if reverse else seeds[:n]
        assert self.backward is not None
        dx, carries, totals = self.backward(saved, *ys, *[s[0] for s in seeds[n:]])
        if dx is not None and reverse:
            dx = dx[::-1]
        return [dx, *carries, *totals].__getitem__

    def unrolled(
        self, grads: dict[int, Any], inputs: Sequence[Any], extras: Sequence[Array], reverse: bool
    ) -> Callable[[int], Any]:
        """The way back as a graph, for second derivatives: through the steps, unrolled."""
        x, *rest = inputs
        state = rest[: len(self.zeros)]
        masks = dict(zip(self.extra_names, extras, strict=True))
        values: list[list[Tensor]] = []
        cell, k = self.layer.cells[self.name], len(self.zeros)
        for t in range(len(x))[:: -1 if reverse else 1]:
            now = {n: m if n == "mask" else m[len(x) - 1 - t if reverse else t] for n, m in masks.items()}
            recorder = Recorder(self.layer, cell, self.wanted.record)
            with recorder.on():
                whole = tuple(state) if isinstance(self.layer.state_size, tuple) else state[0]
                proposed, new = advance(self.layer, cell, self.wanted, x[t], whole, now)
                recorder.step(0, proposed, new)
            state = list(members(new))
            y = cell.output(new) if hasattr(cell, "output") else state[0]
            values.append([y, *(v[0] for v in recorder.values.values())])
        roots = [stack(each[::-1] if reverse else each) for each in zip(*values, strict=True)] + [h.reshape(1, *h.shape) for h in state]
        targets = [i for i in inputs if isinstance(i, Tensor) and i._requires_grad]
        found = gradients([roots[i] for i in grads], list(grads.values()), create_graph=True, targets=targets)
        assert len(state) == k
        return lambda i: found.get(inputs[i], Tensor(np.zeros(inputs[i].shape, inputs[i].dtype)))

    def checked(self) -> None:
        """Compare a run of a few steps on random numbers, forward and back, with the unrolled layer."""
        layer, cell, wanted, steps = self.layer, self.layer.cells[self.name], self.wanted, 3
        rng, before = np.random.default_rng(1), generator.bit_generator.state
        (batch, _), dtype = wanted.x[0][:2], wanted.x[1]
        token = current_scope.set(Scope())
        try:
            with np.errstate(all="ignore"):
                leaf = lambda shape, dtype: Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=bool(wanted.gradient))
                x = leaf((steps, *wanted.x[0]), dtype)
                state = [leaf(shape, d) for shape, d in wanted.states]
                lengths = rng.integers(1, steps + 1, batch) if wanted.padded else None
                ends = None if lengths is None else Lengths(layer, lengths, steps, batch)
                recorder = Recorder(layer, cell, wanted.record) if wanted.record else None
                whole = tuple(state) if isinstance(layer.state_size, tuple) else state[0]
                ys, final = layer._run(cell, x.__getitem__, range(steps), whole, ends, recorder)
                recorded = recorder.stacked(batch, 0).values() if recorder else ()
                generator.bit_generator.state = before
                extras = self.extras(steps, layer, ends, False)
                values = [stack(ys), *recorded, *(h.reshape(1, *h.shape) for h in members(final))]
                box = self.run(x._data, *(h._data for h in state), *(e._data for e in self.externals), extras=extras, reverse=False)
                pairs = [("the values", a._data, b) for a, b in zip(values, box[()].values, strict=True)]
                if self.backward is not None:
                    seeds = [Tensor(rng.standard_normal(v.shape).astype(v.dtype)) for v in values]
                    inputs = [x, *state, *self.externals]
                    found = gradients(values, seeds, targets=[i for i in inputs if i._requires_grad])
                    back = self.run_back(boxed({i: s._data for i, s in enumerate(seeds)}), box, *inputs, extras=extras, reverse=False)
                    pairs += [
                        (f"the gradient of {i.name or 'the input'}", found[i], back(j))
                        for j, i in enumerate(inputs) if i in found and (j or wanted.gradient[0])
                    ]  # fmt: skip
        finally:
            current_scope.reset(token)
            generator.bit_generator.state = before
        for what, a, b in pairs:
            if not close(a, b):
                raise CompileError(
                    f"compile: {what} of a step of {type(cell).__name__} differs from the unrolled layer's on random numbers, "
                    f"by up to {np.abs(a - b).max():.2g}. The step does something that one run of it does not show: it keeps "
                    "something from call to call, or takes numbers out of Tensors. tg.check_cell(cell) may say what"
                )


def close(a: Array, b: Array | None) -> bool:
    """Equal but for rounding, or both not finite."""
    if b is None:
        return not a.any()
    if a.shape != b.shape:
        return False
    finite = np.isfinite(a)
    if not finite.all() or not a.size:
        return True  # parameters that have diverged say nothing about the program
    slack = np.finfo(a.dtype).eps ** 0.6 if a.dtype.kind == "f" else 0
    return bool(np.abs(a - b).max() <= slack * max(1.0, np.abs(a).max()))


__all__ = ["CompileError", "Compiled", "compile"]
