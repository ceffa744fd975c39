"""A program that can be run: as an op of the graph, there and back."""

from __future__ import annotations

import builtins
import linecache
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from ..backward import gradients
from ..functions import stack
from ..nn.between_steps import Lengths, recurrent_mask
from ..nn.init import generator
from ..nn.record import Recorder
from ..nn.recurrent import Recurrent
from ..nn.state import members, output_of
from ..ops import Array, Op
from ..tensor import Tensor
from .emit import emit
from .join import joined_products
from .native.build import BuildError, NoCompilerError
from .native.emit import emit_c
from .native.lower import lowered
from .native.plan import NotInC
from .rewrite import improved
from .roll import roll
from .self_check import check
from .settings import Settings, trained
from .textbook import textbook
from .trace import CompileError, Wanted, advance, trace


def boxed(content: Any) -> Array:
    """Anything as an array without axes, which is what the value of a node has to be."""
    box = np.empty((), object)
    box[()] = content
    return box


class Shares(dict[int, Any]):
    """The gradient of a node with several outputs: that of each output that was used, by its index."""

    __slots__ = ()
    shape, dtype = (), np.dtype(object)  # those of the box that is the node's value

    def __add__(self, other: Shares) -> Shares:
        return Shares(self | other)  # an output is one node, which gives its share once


compiler_failed = False  # in this process
numbers = count()  # of programs, so that each has a file name of its own
OUTPUT = Op("output", lambda box, index: box[()][0][index], lambda g, out, box, index: Shares({index: g}))


def outputs(node: Tensor) -> list[Tensor]:
    """The outputs of a node that has several: what `apply(OUTPUT, node, index=i)` makes, for half the time."""
    made = []
    for i, data in enumerate(node._data[()][0]):
        result = Tensor.__new__(Tensor)._init_leaf(data)
        if node.op is not None or data.base is not None:
            result._requires_grad, result.op, result.inputs = node._requires_grad, OUTPUT, (node,)
            result.params = {"index": i}
        made.append(result)
    return made


class Rolling:
    """A program that can be run: for one layer and direction, and one use."""

    def __init__(self, layer: Recurrent, name: str, wanted: Wanted, target: str | None) -> None:
        self.layer, self.name, self.wanted, self.target = layer, name, wanted, target
        cell = layer.cells[name]
        step = trace(layer, cell, wanted)
        while [h.dtype.str for h in step.new] != [dtype for _, dtype in wanted.states]:
            promoted = tuple(
                (shape, np.result_type(n.dtype, dtype).str) for n, (shape, dtype) in zip(step.new, wanted.states, strict=True)
            )
            if promoted == wanted.states:
                break
            wanted = wanted._replace(states=promoted)
            step = trace(layer, cell, wanted)
        self.externals = tuple(step.externals)
        flags = list(map(trained, self.externals))
        self.zeros = tuple(np.zeros(shape, dtype) for shape, dtype in wanted.states)
        self.outputs, self.reverse = len(step.outputs), name.endswith("_reverse")
        self.extra_names = [n for n in step.given if n == "mask" or n == "real" or n.startswith("zone")]
        kind = re.sub(r"\W", "_", type(cell).__name__)
        self.step, self.title = step, f"{kind} over time, for inputs {wanted.x[0]} a step"
        self.reached = step.reached()
        asked = [wanted.gradient[0], *[wanted.gradient[1]] * len(step.states), *flags] if wanted.gradient else []
        self.whole = all(there or not one for row in self.reached for there, one in zip(row, asked, strict=False))
        self.dtypes = [wanted.x[1], *(n.dtype for n in step.new), *(x.dtype for x in self.externals)]
        self.op = Op(f"{kind} over time", self.run, self.run_back, variadic=True, fresh=True)
        if 0 in wanted.x[0]:  # nothing to compute
            target = "numpy"
        if target is not None or compiler_failed:
            self.make(target or "numpy")
        else:
            self.make_best()
        self.current = Settings(layer, name, cell, self.externals, flags).current  # after a trace, which may leave something

    def make_best(self) -> None:
        """The program in C where there is a compiler and the step can be written so, else in NumPy."""
        global compiler_failed
        try:
            self.make("c")
            return
        except (NotInC, NoCompilerError):
            trouble = ""
        except BuildError as error:
            compiler_failed, trouble = True, f"{error}; NumPy runs all programs"
        except CompileError as error:  # of the check, which may refuse NumPy's as well
            trouble = f"C was refused, since {error}; NumPy's program was not, and runs"
            self.forget()
        self.make("numpy")
        if trouble:
            warnings.warn(f"compile: {trouble}", RuntimeWarning, stacklevel=2)

    def make(self, target: str) -> None:
        """The text, the functions, and a check of them."""
        self.target, step = target, self.step
        passes, emitter = (lowered, emit_c) if target == "c" else (improved, emit)
        code = emitter(joined_products(step.program, roll(step.program, passes(step.program, step))), self.title)
        self.source, self.scheduled, self.file = code.source, code.schedule, f"<tg.compile {self.op.name} {next(numbers)}>"
        namespace = dict(code.names)
        exec(builtins.compile(self.source, self.file, "exec"), namespace)
        linecache.cache[self.file] = (len(self.source), None, self.source.splitlines(keepends=True), self.file)
        self.forward: Callable[..., Any] = namespace["forward"]
        self.backward: Callable[..., Any] | None = namespace.get("backward")
        check(self)

    @property
    def schedule(self) -> str:
        """When each value is computed, and why then."""
        return self.scheduled()

    @property
    def textbook(self) -> str:
        """The program before it was made fast."""
        return textbook(self.step, self.title).source

    def forget(self) -> None:
        """Give up what the program keeps outside of itself."""
        linecache.cache.pop(self.file, None)

    # -- the op --------------------------------------------------------------------------------------------------------------

    def extras(self, steps: int, layer: Recurrent, ends: Lengths | None) -> tuple[Array, ...]:
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
            made["real"] = ends.real[::-1] if self.reverse else ends.real
        return tuple(made[name] for name in self.extra_names)

    def run(self, x: Array, *rest: Array, extras: tuple[Array, ...] = ()) -> Array:
        """The way forward, from x, the initial states (zeros if none are given) and the parameters.

        In a box: the outputs over all steps, y first, with the final states; and what the way back needs.
        """
        given = len(rest) - len(self.externals)
        values, finals, saved = self.forward(
            x[::-1] if self.reverse else x, *(rest[:given] or self.zeros), *extras, *rest[given:]
        )
        if self.reverse:
            values = [v[::-1] for v in values]
        for h in finals:
            values.append(h[None])
        return boxed((values, saved))

    def run_back(self, g: dict[int, Any], out: Any, *inputs: Any, extras: tuple[Array, ...] = ()) -> Callable[[int], Any]:
        """The way back: the gradient of each input."""
        if isinstance(out, Tensor):
            return self.unrolled(g, inputs, extras)
        values, saved = out[()]
        n = self.outputs
        ys = [g[i] if i in g else np.zeros(v.shape, v.dtype) for i, v in enumerate(values[:n])]
        finals = [g[i][0] if i in g else zero for i, zero in enumerate(self.zeros, n)]
        assert self.backward is not None
        dx, carries, totals = self.backward(saved, *([y[::-1] for y in ys] if self.reverse else ys), *finals)
        if dx is not None and self.reverse:
            dx = dx[::-1]
        found = [dx, *carries, *totals]
        if not self.whole:
            found = [share if any(self.reached[i][k] for i in g) else None for k, share in enumerate(found)]
        if len(inputs) == 1 + len(totals):  # no initial states are given
            del found[1 : 1 + len(carries)]
        return found.__getitem__

    def unrolled(self, grads: dict[int, Any], inputs: Sequence[Any], extras: Sequence[Array]) -> Callable[[int], Any]:
        """The way back as a graph, for second derivatives: through the steps, unrolled."""
        x, *rest = inputs
        reverse, state = self.reverse, rest[: len(rest) - len(self.externals)] or list(map(Tensor, self.zeros))
        masks = dict(zip(self.extra_names, extras, strict=True))
        values: list[list[Tensor]] = []
        cell = self.layer.cells[self.name]
        for t in range(len(x))[:: -1 if reverse else 1]:
            now = {n: m if n == "mask" else m[len(x) - 1 - t if reverse else t] for n, m in masks.items()}
            recorder = Recorder(self.layer, cell, self.wanted.record)
            with recorder.on():
                whole = tuple(state) if isinstance(self.layer.state_size, tuple) else state[0]
                proposed, new = advance(self.layer, cell, self.wanted, x[t], whole, now)
                recorder.step(0, proposed, new)
            state = list(members(new))
            values.append([output_of(cell, new), *(v[0] for v in recorder.values.values())])
        roots = [stack(each[::-1] if reverse else each) for each in zip(*values, strict=True)] + [
            h.reshape(1, *h.shape) for h in state
        ]
        targets = [i for i in inputs if isinstance(i, Tensor) and i._requires_grad]
        found = gradients([roots[i] for i in grads], list(grads.values()), create_graph=True, targets=targets)
        return lambda i: found.get(inputs[i])
