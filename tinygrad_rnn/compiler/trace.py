"""One step of a cell as a program: run it once on Tensors that tell a tape what is done to them, and then run its gradient.

The way back is `backward.gradients` with create_graph, under the same tape: its rules are the table's, and there are no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..anomaly import caller
from ..backward import gradients
from ..functions import where
from ..nn.between_steps import masked, zoneout
from ..nn.init import generator
from ..nn.module import Module
from ..nn.record import Recorder
from ..nn.state import State, check_returned, like, members, output_of
from ..ops import TRANSPOSE, Op, axes_of, basic
from ..scope import Scope, Watch, current_scope
from ..tensor import Tensor, lift
from .program import CARRY, CONSTANT, INPUT, NORMS, SEED, STATE, Node, Program, ordered


class CompileError(TypeError):
    """A step that cannot become a program."""


LOOKS = {np.argwhere, np.array2string, np.array_repr, np.array_str, np.count_nonzero, np.flatnonzero, np.nonzero}
TRIES = 10  # to run a step in which no random numbers are drawn


def depends(what: str) -> NoReturn:
    """Raise: the step looks at a value, which one run of it does not tell about the others."""
    raise CompileError(
        f"{caller()} {what} of a value that depends on the input or the state. A program is made from one run of the step, "
        "before the values are known. Write the choice as an op, such as np.where(x > 0, a, b)"
    )


class Traced(Tensor):
    """A Tensor during a trace. Its numbers mean nothing, so nobody may look at them."""

    __slots__ = ()

    def __bool__(self) -> bool:
        depends("takes the truth")

    def item(self) -> Any:
        """Not during a trace."""
        depends("takes the number")

    def numpy(self) -> Any:
        """Not during a trace."""
        depends("takes the array")

    def tolist(self) -> Any:
        """Not during a trace."""
        depends("takes a list")

    def all(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Not during a trace."""
        depends("takes the truth")

    any = all

    def nonzero(self) -> Any:
        """Not during a trace."""
        depends("takes the places")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        depends("takes the array")

    @property  # type: ignore[misc]
    def data(self) -> Any:
        """Not during a trace."""
        depends("takes the array")

    def detach(self) -> Tensor:
        """The same value, as a constant, which a truth value is in any case."""
        if self._data.dtype.kind == "b":
            return self
        copy = Traced._init_leaf(Tensor.__new__(Traced), self._data)
        watch: Any = current_scope.get().watch
        watch.constant(copy, np.positive, (self,), {})
        return copy


class Tape(Watch):
    """The `watch` of a trace: told of every op, it writes it down."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: dict[Tensor, Node] = {}
        self.externals: dict[Tensor, Node] = {}  # what the step reads and did not make: parameters, above all
        self.start = Tensor(0).birth
        self.line: str | None = None  # that which a gradient belongs to, on the way back

    def given(self, name: str, array: Any, rank: int, requires_grad: bool = False) -> Tensor:
        """A Tensor for what will be given at run time."""
        tensor = Tensor(array, requires_grad=requires_grad)
        tensor.__class__ = Traced
        self.nodes[tensor] = self.program.given(name, tensor.shape, tensor.dtype, rank)
        return tensor

    def of(self, x: Tensor) -> Node:
        """The node of a Tensor."""
        if x in self.nodes:
            return self.nodes[x]
        if x.op is TRANSPOSE:  # the w.T that some other graph holds
            return self.program.make("transpose", self.of(x.inputs[0]), axes=tuple(x.params["axes"]))
        if x.is_number:
            return self.program.constant(x._data)
        if x.birth > self.start and not x._requires_grad:
            return self.program.constant(x._data)
        if x not in self.externals:
            self.externals[x] = self.program.given(x.name or "constant", x.shape, x.dtype, CONSTANT)
        return self.externals[x]

    def over(self) -> None:
        """The trace is over: what outlives it, such as the w.T that a parameter keeps, is a Tensor like any other."""
        for tensor in self.nodes:
            tensor.__class__ = Tensor
        self.nodes.clear()  # each knows its scope, the scope this tape, and the tape would hold them all

    # What a watch is told; see scope.py.

    def value(self, node: Tensor, op: Op, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> None:
        """An op has made a node."""
        node.__class__ = Traced
        name, args = op.name, [self.of(x) for x in inputs]
        if name == "split":
            name, params = "getitem", {"key": params["key"]}
        if name == "getitem" and basic(params["key"]):
            params = {"key": plain_key(params["key"], args[0].shape)}
        if name == "reshape":
            params = {"shape": node.shape}
        if name in ("sum", "mean", "max", "min", "prod", *NORMS):
            params = params | {"axis": tuple(sorted(axes_of(inputs[0], params["axis"])))}
        if name in ("concatenate", "stack"):
            params = {"axis": params["axis"] % node.ndim}
        self.make(node, name, *args, **params)

    def make(self, tensor: Tensor, op: str, *args: Node, **params: Any) -> None:
        """The node of a Tensor that was just made."""
        made = self.nodes[tensor] = self.program.make(op, *args, **params)
        made.line = made.line or self.line or caller()

    def constant(self, node: Tensor, function: Any, inputs: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """A function of NumPy that has no derivative has made a Tensor without history."""
        node.__class__ = Traced
        args = [self.of(x if isinstance(x, Tensor) else Tensor(x)) for x in inputs]
        self.make(node, f"np.{function.__name__}", *args, **kwargs)

    def looked(self, function: Any) -> None:
        """A function of NumPy has looked at values."""
        depends(f"{'looks at' if function in LOOKS else 'takes the truth'} (np.{function.__name__})")

    @contextmanager
    def walking(self, order: Sequence[Tensor]) -> Iterator[None]:
        """A graph is walked back."""
        before = self.line
        try:
            yield
        finally:
            self.line = before

    def arrived(self, g: Any, node: Tensor) -> None:
        """The gradient of a node: it goes by the node's name, and what follows belongs to the node's line."""
        of, made = self.of(node), self.of(g)
        if node.op is not None:
            self.line = f"{of.line}, for the gradient of {node.op.name},"
        name = node.name or of.name
        if name:
            made.named(f"d{name}")


def plain_key(key: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A basic index with a part for every axis, and slices from a number to a number."""
    parts = list(key) if isinstance(key, tuple) else [key]
    missing = len(shape) - sum(part is not None and part is not Ellipsis for part in parts)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[at : at + 1] = [slice(None)] * missing
    lengths = iter(shape)
    for i, part in enumerate(parts):
        if part is None:
            continue
        n = next(lengths)
        if isinstance(part, slice):
            start, stop, step = part.indices(n)
            full = (start, stop, step) == (0, n, 1)
            parts[i] = slice(None) if full else slice(start, stop) if step == 1 else part
    return tuple(parts)


class Wanted(NamedTuple):
    """What a program is for: it is the key under which it is kept."""

    x: tuple[tuple[int, ...], str]  # the shape and dtype of the input of one step
    states: tuple[tuple[tuple[int, ...], str], ...]
    zones: tuple[float, ...]  # the rates of zoneout, none if there is none
    training: bool
    masked: bool  # recurrent dropout
    padded: bool  # lengths
    record: tuple[str, ...]
    gradient: tuple[bool, ...]  # whether the input and the initial state require one; () for no way back at all


class Step(NamedTuple):
    """The program of one step, forward and backward: what is given and what is made."""

    program: Program
    given: dict[str, Node]  # x, h (or h0, h1, ...), mask, real, zone0, ...
    states: tuple[Node, ...]
    externals: dict[Tensor, Node]
    new: tuple[Node, ...]
    outputs: dict[str, Node]  # y, and what is recorded
    seeds: dict[str, Node]  # for the outputs: their gradients
    carries: tuple[Node, ...]  # the gradients of the new states, from the next step
    gradients: dict[Node, Node]  # of the input, the states and the externals, by what they are the gradient of

    def reached(self) -> list[list[bool]]:
        """For each output and each final state: does its gradient come to x, to each initial state, to each parameter?

        It may on the way through steps before: what comes to a state of a step is the gradient of the last step's.
        """
        inputs = (self.given["x"], *self.states, *self.externals.values())
        sources, made_of = {*self.seeds.values(), *self.carries}, dict[Node | None, set[Node]]()
        for node in ordered(self.gradients.values()):
            made_of[node] = set().union({node} & sources, *(made_of[x] for x in node.args))
        needs = [made_of.get(self.gradients.get(n), set()) for n in inputs]
        passed_on = list(zip(self.carries, needs[1:], strict=False))
        result = []
        for source in (*self.seeds.values(), *self.carries):
            come, more = set[Node](), {source}
            while more:
                come |= more
                more = {carry for carry, need in passed_on if come & need} - come
            result.append([bool(come & need) for need in needs])
        return result


def trace(layer: Any, cell: Module, wanted: Wanted) -> Step:
    """Run one step and its gradient under a tape. If random numbers are drawn meanwhile, it may be another thread that draws
    them: then it runs again."""
    first = now = generator.bit_generator.state
    try:
        for _ in range(TRIES):
            before, step, now = now, trace_once(layer, cell, wanted), generator.bit_generator.state
            if now == before:
                return step
        raise CompileError(
            f"a step of {type(cell).__name__} draws random numbers, and a program would use the same ones at every step. "
            "Use dropout=, recurrent_dropout= or zoneout= of the layer"
        )
    except Exception:
        generator.bit_generator.state = first
        raise


def trace_once(layer: Any, cell: Module, wanted: Wanted) -> Step:
    """A step that is run once."""
    tape = Tape(Program())
    token = current_scope.set(Scope(step=0, watch=tape))
    try:
        with np.errstate(all="ignore"):
            return traced(layer, cell, wanted, tape, np.random.default_rng(0))
    finally:
        current_scope.reset(token)
        tape.over()


def traced(layer: Any, cell: Module, wanted: Wanted, tape: Tape, rng: np.random.Generator) -> Step:
    """`trace_once`, where the tape is running."""

    def given(name: str, shape: tuple[int, ...], dtype: Any, rank: int, requires_grad: bool = False) -> Tensor:
        array = rng.standard_normal(shape).astype(dtype) if np.dtype(dtype).kind == "f" else np.ones(shape, dtype)
        return tape.given(name, array, rank, requires_grad and array.dtype.kind == "f")

    differentiable = bool(wanted.gradient)
    x = given("x", *wanted.x, INPUT, differentiable and wanted.gradient[0])
    names = state_names(len(wanted.states))
    states = [given(n, *s, STATE, differentiable) for n, s in zip(names, wanted.states, strict=True)]
    state = tuple(states) if isinstance(layer.state_size, tuple) else states[0]
    batch = wanted.x[0][0]
    extras: dict[str, Tensor] = {}
    if wanted.masked:
        extras["mask"] = given("mask", *wanted.states[0], CONSTANT)
    if wanted.training:
        extras |= {
            f"zone{i}": given(f"zone{i}", h.shape, bool, INPUT)
            for i, h in enumerate(states)
            if wanted.zones and wanted.zones[i]
        }
    if wanted.padded:
        extras["real"] = given("real", (batch, 1), bool, INPUT)

    recorder = Recorder(layer, cell, wanted.record)
    with recorder.on():
        proposed, new = advance(layer, cell, wanted, x, state, extras)
        recorder.step(0, proposed, new)
    outputs = {"y": output_of(cell, new)} | {name: values[0] for name, values in recorder.values.items()}
    for tensor, node in tape.nodes.items():
        if tensor.name and node.name is None:
            node.name = tensor.name
    paths = {p: path for path, p in cell.named_parameters()}
    for tensor, node in tape.externals.items():
        node.name = paths.get(tensor, node.name)
    externals = {p: tape.externals[p] for p in (*paths, *tape.externals) if p in tape.externals}  # in the cell's own order

    seeds, carries, found = {}, [], {}
    if differentiable:
        seeds = {name: given(f"d{name}", out.shape, out.dtype, SEED) for name, out in outputs.items()}
        carries = [given(f"d{n}", h.shape, h.dtype, CARRY) for n, h in zip(names, members(new), strict=True)]
        targets = {t for t in (x, *states, *externals) if t._requires_grad}
        roots = [*members(new), *outputs.values()]
        found = gradients(roots, [*carries, *seeds.values()], create_graph=True, targets=targets)
    return Step(
        tape.program,
        {node.name or "": node for node in map(tape.of, (x, *states, *extras.values()))},
        tuple(map(tape.of, states)),
        externals,
        tuple(map(tape.of, members(new))),
        {name: tape.of(out) for name, out in outputs.items()},
        {name: tape.of(seed) for name, seed in seeds.items()},
        tuple(map(tape.of, carries)),
        {tape.of(t): tape.of(g) for t, g in found.items()},
    )


def advance(
    layer: Any, cell: Module, wanted: Wanted, x: Tensor, state: State, extras: Mapping[str, Any]
) -> tuple[State, State]:
    """One step as `Recurrent` takes it, with the masks given: what the cell proposes, and the new state."""
    proposed = cell(x, masked(state, extras["mask"]) if wanted.masked else state)
    check_returned(cell, layer.state_size, wanted.x[0][0], proposed)
    proposed = new = like(proposed, list(map(lift, members(proposed))))
    if wanted.zones and wanted.training:
        pairs = enumerate(zip(members(state), members(new), strict=True))
        new = like(new, [where(extras[f"zone{i}"], h, n) if wanted.zones[i] else n for i, (h, n) in pairs])
    elif wanted.zones:
        new = zoneout(state, new, wanted.zones, training=False)
    if wanted.padded:
        new = like(new, [where(extras["real"], n, h) for h, n in zip(members(state), members(new), strict=True)])
    return proposed, new


def state_names(count: int) -> list[str]:
    """h, or h and c, or h, s1, s2, ..."""
    return ["h", "c"][:count] if count <= 2 else ["h", *(f"s{i}" for i in range(1, count))]
