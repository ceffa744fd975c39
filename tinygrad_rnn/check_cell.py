"""Does a cell keep the contract that `Recurrent`, the pictures and the compiler rely on? `check_cell` tries, and explains.

The contract: forward(x, state) -> state is a pure step. It reads x, the state and the parameters, sample by sample; it returns
a state like the one it was given; it keeps nothing; and its gradients are those of what it computes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .backward import gradients, toposort
from .nn.module import Module
from .nn.recurrent import Recurrent
from .nn.state import State, checked_state_size, like, members, output_of, output_size, sizes, state_dtype, zero_state
from .ops import Array
from .scope import no_grad
from .tensor import Tensor

BATCH, STEPS, FEW = 3, 4, 30  # samples, time steps, and how many elements of each parameter are moved at most
KEEPS_NOTHING = (
    "a step keeps nothing. What it must remember belongs in the state: return it as one more member, and give its width in "
    "state_size"
)
CLOSE = {"rtol": 1e-7, "atol": 1e-9}  # what rounding may do in float64


class CellError(AssertionError):
    """A cell does not keep the contract. The message has a line for each check; `failed` names those that found something."""

    def __init__(self, message: str, failed: list[str]) -> None:
        super().__init__(message)
        self.failed = failed


class Report(dict[str, str]):
    """What each check saw, by its name; it prints as a line for each."""

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self.items())


def check_cell(cell: Module, input_size: int | None = None) -> Report:
    """Try a cell in every way that its contract speaks of; return what was seen, or raise a CellError that says what to mend.

    cell: a Module with `state_size` and `forward(x, state)`, as `Recurrent` takes it. It is not called itself: copies are, in
        evaluation mode, in its own dtype and in float64.
    input_size: the features of x, if the cell has no `input_size` of its own.

    state: comes back with the structure and shape it had, in every batch size; output: has the size it says; dtype: is kept;
    memory: nothing is left on the module, or written into the arguments; determinism: the same call gives the same numbers;
    batch: no sample changes another; causality: no step changes an earlier one; loop: a loop by hand is the layer;
    gradients: agree with finite differences, parameter by parameter (at up to 30 elements of each).
    """
    if not isinstance(cell, Module):
        raise TypeError(f"check_cell: expected a cell, a Module, got {cell!r}; of a class make an instance: SomeCell(3, 4)")
    features = getattr(cell, "input_size", None) if input_size is None else input_size
    if features is None:
        raise TypeError(
            f"check_cell: {type(cell).__name__} does not say how many features x has; write check_cell(cell, 3), or set "
            "self.input_size in the cell"
        )
    trial, report, failed = Trial(cell, features), Report(), list[str]()
    for name, (check, needs) in CHECKS.items():
        missing = [need for need in needs if need in failed or report.get(need, "").startswith("not checked")]
        try:
            report[name] = f"not checked, as that needs: {', '.join(missing)}" if missing else check(trial)
        except Broken as found:
            report[name] = f"WRONG: {found}"
            failed.append(name)
        except Exception as error:
            report[name] = f"WRONG: raised {type(error).__name__}: {error}"
            failed.append(name)
    if failed:
        lines = str(report).replace("\n", "\n  ")
        raise CellError(f"{type(cell).__name__} does not keep the contract of a cell\n  {lines}", failed)
    return report


class Broken(Exception):
    """What a check found."""


class Trial:
    """The cell under test, and what it is called with."""

    def __init__(self, cell: Module, features: int) -> None:
        self.given, self.features = cell, features

    def cell(self, dtype: DTypeLike = np.float64) -> Module:
        """A fresh copy in evaluation mode, its parameters cast."""
        try:
            copy = deepcopy(self.given).eval()
        except RuntimeError as error:
            raise Broken(f"the cell cannot be copied ({error}). If an earlier call left it there: {KEEPS_NOTHING}") from None
        for path, p in copy.named_parameters():
            trained = p.requires_grad
            p._init_leaf(p._data.astype(dtype), path)
            p.requires_grad = trained
        return copy

    def sequence(self, dtype: DTypeLike = np.float64) -> Array:
        """STEPS inputs for a batch."""
        return np.random.default_rng(0).normal(size=(STEPS, BATCH, self.features)).astype(dtype)

    def arguments(self, dtype: DTypeLike = np.float64) -> tuple[Tensor, State]:
        """An input, and a state such as the cell gets into: that after two steps, moved a little, off the kinks of a relu."""
        rng, cell, xs = np.random.default_rng(1), self.cell(dtype), self.sequence(dtype)
        state = self.zeros(cell)
        with no_grad():
            for x in xs[:2]:
                state = cell(Tensor(x), state)
        moved = [h.numpy() + 0.01 * rng.normal(size=h.shape) for h in members(state)]
        state = like(state, [Tensor(h, True, dtype, f"state{i}") for i, h in enumerate(moved)])
        return Tensor(xs[2], True, name="x"), state

    def zeros(self, cell: Module, batch: int = BATCH) -> State:
        """The state in which a layer begins."""
        return zero_state(checked_state_size(cell), (batch,), state_dtype(cell))


def difference(a: State, b: State) -> str | None:
    """Where two states differ by more than rounding, and by how much."""
    for i, (h, g) in enumerate(zip(members(a), members(b), strict=True)):
        if not np.allclose(h._data, g._data, **CLOSE, equal_nan=True):
            return f"state{i} differs by up to {np.nanmax(np.abs(h._data - g._data)):.3g}"
    return None


# -- the checks: each says what it saw, or raises Broken with what to mend ---------------------------------------------------


def check_state(trial: Trial) -> str:
    """The new state has the structure and shape of the old one."""
    size = checked_state_size(trial.given)
    for batch in (BATCH, 1):
        cell = trial.cell()
        state = cell(Tensor(trial.sequence()[0][:batch]), trial.zeros(cell, batch))
        kind = type(state).__name__
        if isinstance(size, tuple) and not (type(state) is tuple and len(state) == len(size)):
            got = f"{kind} of {len(state)}" if isinstance(state, tuple | list) else kind
            names = ", ".join(f"state{i}" for i in range(len(size)))
            names += "," * (len(size) == 1)
            raise Broken(
                f"state_size = {size} means {len(size)} Tensors in a tuple, and forward returned a {got}: return ({names})"
            )
        if isinstance(size, int) and isinstance(state, tuple | list):
            raise Broken(
                f"state_size = {size} means one Tensor, and forward returned a {kind} of {len(state)}: return the new state "
                "alone (for another output define output(state)), or give state_size as a tuple"
            )
        for i, (h, n) in enumerate(zip(members(state), sizes(size), strict=True)):
            if not isinstance(h, Tensor):
                raise Broken(f"state{i} came back as a {type(h).__name__}, cut off from the graph: return the Tensor itself")
            if h.shape != (batch, n):
                raise Broken(
                    f"state{i} has shape {h.shape} for a batch of {batch}, expected {(batch, n)}: give its width in "
                    "state_size, and let its first axis follow that of x"
                )
    return f"{size}, as given"


def check_output(trial: Trial) -> str:
    """The output of a step has the size that layers above are told."""
    cell, n = trial.cell(), output_size(trial.given)
    y = output_of(cell, cell(*trial.arguments()))
    if not isinstance(y, Tensor) or y.shape != (BATCH, n):
        shape = getattr(y, "shape", type(y).__name__)
        width = shape[-1] if isinstance(shape, tuple) and shape else "..."
        raise Broken(
            f"output(state) is {shape} for a batch of {BATCH}, expected {(BATCH, n)}: write self.output_size = {width}, the "
            "features that it returns"
        )
    return f"{n} features"


def check_dtype(trial: Trial) -> str:
    """States and outputs have the dtype of inputs and parameters."""
    own = state_dtype(trial.given)
    for dtype in dict.fromkeys([own, np.dtype(np.float64)]):
        cell = trial.cell(dtype)
        state = cell(*trial.arguments(dtype))
        results = [*members(state), output_of(cell, state)]
        if any(h.dtype != dtype for h in results):
            wrong = (h for h in toposort(*results) if h.op is not None and h.dtype.kind == "f" and h.dtype != dtype)
            for node in wrong:
                made = " and ".join(h.describe() for h in node.inputs)
                raise Broken(
                    f"given {dtype}, {node.describe()} is the first that is not, made of {made}. Make constants with x.dtype, "
                    "or as Python numbers, which never widen: 0.5, not np.float64(0.5)"
                )
            raise Broken(f"given {dtype}, the step returned {', '.join(str(h.dtype) for h in results)}")
    return f"{own} is kept"


def check_memory(trial: Trial) -> str:
    """A step leaves the module and its arguments as they were."""
    cell = trial.cell()
    x, state = trial.arguments()
    before, arguments = snapshot(cell), [h.numpy() for h in (x, *members(state))]
    cell(x, state)
    after = snapshot(cell)
    for name in dict.fromkeys([*before, *after]):
        if before.get(name, (None,))[0] != after.get(name, (None,))[0]:
            raise Broken(f"a call changed {type(cell).__name__}.{name}: {KEEPS_NOTHING}")
    for h, saved in zip((x, *members(state)), arguments, strict=True):
        if not np.array_equal(h._data, saved, equal_nan=True):
            raise Broken(f"a call wrote into its argument {h.name!r}: compute a new Tensor instead, such as h = h + ...")
    return "nothing is left on the module"


def snapshot(cell: Module) -> dict[str, tuple[Any, Any]]:
    """Every attribute of the cell and of the modules below it: its fingerprint, and itself, so that no other gets its id."""
    return {
        f"{path}.{name}" if path else name: (fingerprint(value), value)
        for path, module in cell.named_modules()
        for name, value in vars(module).items()
    }


def fingerprint(value: Any) -> Any:
    """Something that changes if the value does."""
    if isinstance(value, Tensor | np.ndarray):
        array = value.numpy() if isinstance(value, Tensor) else value
        return id(value), array.shape, array.dtype, array.tobytes()
    if isinstance(value, list | tuple):
        return type(value), [fingerprint(item) for item in value]
    if isinstance(value, dict):
        return type(value), [(key, fingerprint(item)) for key, item in value.items()]
    return value if isinstance(value, int | float | str | None) else id(value)


def check_determinism(trial: Trial) -> str:
    """In evaluation mode, the same call gives the same numbers."""
    cell, arguments = trial.cell(), trial.arguments()
    first, second = cell(*arguments), cell(*arguments)
    for i, (h, g) in enumerate(zip(members(first), members(second), strict=True)):
        if not np.array_equal(h._data, g._data, equal_nan=True):
            raise Broken(
                f"two equal calls after eval() differ in state{i}: let random numbers act in training only, such as "
                "dropout(x, p, self.training), and keep counters in the state"
            )
    return "the same to the bit"


def check_batch(trial: Trial) -> str:
    """A sample gives the same alone as among others."""
    cell, (x, state) = trial.cell(), trial.arguments()
    together = cell(x, state)
    for n in range(BATCH):
        rows = slice(n, n + 1)
        alone = cell(x[rows], like(state, [h[rows] for h in members(state)]))
        gap = difference(alone, like(state, [h[rows] for h in members(together)]))
        if gap:
            raise Broken(
                f"sample {n} alone gives another result than in a batch of {BATCH} ({gap}): something is computed across "
                "samples. Reduce over features, axis=-1, never over axis 0 or over all"
            )
    return "samples do not touch"


def check_causality(trial: Trial) -> str:
    """What comes later changes nothing before."""
    layer, xs, cut = Recurrent(trial.cell()), trial.sequence(), STEPS // 2
    before = layer(Tensor(xs))[0]
    xs[cut:] += 1
    after = layer(Tensor(xs))[0]
    for t in range(cut):
        if not np.allclose(before._data[t], after._data[t], **CLOSE, equal_nan=True):
            raise Broken(
                f"the output of step {t} changes with the inputs of steps {cut} to {STEPS - 1}: a step may read its x and its "
                "state, and nothing of the sequence behind x (x.inputs, or one kept elsewhere)"
            )
    return "no step changes an earlier one"


def check_loop(trial: Trial) -> str:
    """A loop by hand gives what the layer gives, with the state begun at zero or left out."""
    cell, x = trial.cell(), Tensor(trial.sequence())
    ys, last = Recurrent(cell)(x)
    last = like(last, [h[0] for h in members(last)])
    starts: list[State | None] = [trial.zeros(cell)]
    parameters = list(inspect.signature(cell.forward).parameters.values())
    if len(parameters) > 1 and parameters[1].default is None:
        starts.append(None)
    for state in starts:
        start = "left out" if state is None else "zero"
        for t, x_t in enumerate(x):
            state = cell(x_t, state)
            if not np.allclose(output_of(cell, state)._data, ys._data[t], **CLOSE, equal_nan=True):
                raise Broken(
                    f"with the first state {start}, step {t} of a loop by hand gives another output than Recurrent, which "
                    "begins with zeros: let state=None mean zeros (Recurrent trains another beginning if you ask for "
                    "learn_initial_state=True), and let a step depend on x and the state alone"
                )
        gap = difference(like(last, list(members(state))), last)  # type: ignore[arg-type]
        if gap:
            raise Broken(f"with the first state {start}, a loop by hand ends in another state than Recurrent: {gap}")
    return "a loop by hand is the layer"


def check_gradients(trial: Trial) -> str:
    """backward() agrees with finite differences, for x, the states and every parameter."""
    cell, (x, state), rng = trial.cell(), trial.arguments(), np.random.default_rng(2)
    leaves = {"x": x} | {f"state{i}": h for i, h in enumerate(members(state))}
    leaves |= {path: p for path, p in cell.named_parameters() if p.requires_grad}
    new = cell(x, state)
    weights = [rng.uniform(0.5, 1.5, h.shape) for h in (*members(new), output_of(cell, new))]

    def loss() -> Tensor:
        """All that a step returns, as one number."""
        new = cell(x, state)
        terms = [(h * w).sum() for h, w in zip((*members(new), output_of(cell, new)), weights, strict=True)]
        return sum(terms[1:], terms[0])

    whole = loss()
    found = gradients([whole], [Tensor(1.0)]) if whole.requires_grad else {}
    lines, wrong = [], False
    for name, leaf in leaves.items():
        g = found.get(leaf)
        at, ours, theirs = max(compared(leaf, g, loss, rng), key=lambda row: apart(*row[1:]), default=((), 0.0, 0.0))
        bad = not apart(ours, theirs) <= 1
        wrong |= bad
        text = f"worst at {list(at)}, backward {ours:.8g}, differences {theirs:.8g}"
        if bad and ours == 0:
            text += ". Part of the way to it is cut: by .detach(), .numpy(), .data, tg.Tensor(...) or no_grad()"
        lines.append(f"\n  {name}: {'WRONG, ' * bad}{text}")
    if wrong:
        raise Broken("backward() disagrees with finite differences" + "".join(lines))
    return "agree with finite differences" + "".join(lines)


def compared(leaf: Tensor, g: Any, loss: Callable[[], Tensor], rng: np.random.Generator) -> Iterator[Any]:
    """Some places of a leaf, each with what backward() says there and what moving the number shows."""
    saved = leaf.numpy()
    for flat in rng.permutation(leaf.size)[:FEW]:
        at, values = tuple(map(int, np.unravel_index(flat, leaf.shape))), []
        step = 1e-6 * max(1.0, abs(float(saved[at])))
        for sign in (1, -1):
            moved = saved.copy()
            moved[at] += sign * step
            leaf.data = moved
            with no_grad():
                values.append(loss().item())
        yield at, 0.0 if g is None else float(g[at]), (values[0] - values[1]) / (2 * step)
    leaf.data = saved


def apart(ours: float, theirs: float) -> float:
    """How far apart two derivatives are; up to 1 is the doing of finite differences."""
    gap = abs(ours - theirs) / (1e-6 + 1e-5 * abs(theirs))
    return gap if np.isfinite(gap) else np.inf


RUNS = ("state", "memory", "determinism")  # what two runs must have before they can be compared
CHECKS: dict[str, tuple[Callable[[Trial], str], tuple[str, ...]]] = {
    "state": (check_state, ()),
    "output": (check_output, ("state",)),
    "dtype": (check_dtype, ("state",)),
    "memory": (check_memory, ("state",)),
    "determinism": (check_determinism, ("state", "memory")),
    "batch": (check_batch, RUNS),
    "causality": (check_causality, (*RUNS, "output")),
    "loop": (check_loop, (*RUNS, "output")),
    "gradients": (check_gradients, (*RUNS, "dtype", "output")),
}
