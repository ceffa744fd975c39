"""Does a new program do what the unrolled layer does? A few steps of both, there and back, on random numbers."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from ..backward import gradients
from ..functions import stack
from ..nn.between_steps import Lengths
from ..nn.init import generator
from ..nn.record import Recorder
from ..nn.state import members
from ..ops import Array
from ..scope import Scope, current_scope
from ..tensor import Tensor
from .trace import CompileError

if TYPE_CHECKING:
    from .run import Rolling

STEPS = 3

Pairs = list[tuple[str, Array, Array | None]]


def check(program: Rolling) -> None:
    """Raise CompileError if the program's values or gradients are not those of the unrolled layer."""
    pairs = compared_aside(program)
    given = [dtype for _, dtype in program.wanted.states]
    eps = max(np.finfo(dtype).eps for dtype in map(np.dtype, [*program.dtypes, *given]) if dtype.kind == "f")
    for what, expected, found in pairs:
        if not close(expected, found, float(eps)):
            if eps > np.finfo(float).eps and no_less_exact(program, pairs, float(eps)):
                return
            kind = type(program.layer.cells[program.name]).__name__
            raise CompileError(
                f"{what} of a step of {kind} differs from the unrolled layer's on random numbers, by up to "
                f"{np.abs(expected - (0 if found is None else found)).max():.2g}. The step does something that one run of it "
                "does not show: it keeps something from call to call, or takes numbers out of Tensors. tg.check_cell(cell) "
                "may say what"
            )


def no_less_exact(program: Rolling, pairs: Pairs, eps: float) -> bool:
    """Is the program about as near to what double precision gives as the unrolled layer? Some gradients amplify rounding."""
    wanted, double = program.wanted, np.dtype(float).str
    try:
        layer = deepcopy(program.layer)
        for p in layer.parameters():
            trained = p.requires_grad
            p._init_leaf(p._data.astype(double), p.name).requires_grad = trained
        states = tuple((shape, double) for shape, _ in wanted.states)
        copy = type(program)(layer, program.name, wanted._replace(x=(wanted.x[0], double), states=states), program.target)
    except (CompileError, RuntimeError):
        return False
    copy.forget()
    for (_, expected, found), (_, truth, _) in zip(pairs, compared_aside(copy), strict=True):
        if not close(truth, found, eps):
            allowed = 10 * distance(expected, truth) + 1e-3 * max(1.0, np.abs(truth).max(initial=0))
            if found is None or distance(found, truth) > allowed:
                return False
    return True


def compared_aside(program: Rolling) -> Pairs:
    """What `compared` gives; whoever watches is not told, and random numbers are drawn as if it had not been."""
    before = generator.bit_generator.state if set(program.extra_names) - {"real"} else None  # it has masks to draw
    token = current_scope.set(Scope())
    try:
        with np.errstate(all="ignore"):
            return compared(program, before)
    finally:
        current_scope.reset(token)
        if before is not None:  # else only other threads have drawn
            generator.bit_generator.state = before


def compared(program: Rolling, random_state: Any) -> Pairs:
    """(what it is, the unrolled layer's, the program's), for every value and gradient."""
    layer, cell, wanted, rng = program.layer, program.layer.cells[program.name], program.wanted, np.random.default_rng(1)
    batch = wanted.x[0][0]

    def leaf(shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        differentiable = bool(wanted.gradient) and np.dtype(dtype).kind == "f"
        return Tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=differentiable)

    x = leaf((STEPS, *wanted.x[0]), wanted.x[1])
    state = [leaf(shape, dtype) for shape, dtype in wanted.states]
    ends = Lengths(layer, rng.integers(1, STEPS + 1, batch), STEPS, batch) if wanted.padded else None
    recorder = Recorder(layer, cell, wanted.record) if wanted.record else None
    whole = tuple(state) if isinstance(layer.state_size, tuple) else state[0]
    turn = -1 if program.reverse else 1
    ys, final = layer._run(cell, x.__getitem__, range(STEPS)[::turn], whole, ends, recorder)
    recorded = recorder.stacked(batch, 0).values() if recorder else ()
    values = [stack(ys[::turn]), *recorded, *(stack([h]) for h in members(final))]

    if random_state is not None:
        generator.bit_generator.state = random_state  # the same masks
    inputs, extras = [x, *state, *program.externals], program.extras(STEPS, layer, ends)
    box: Any = program.run(*(i._data for i in inputs), extras=extras)
    pairs = [("the values", v._data, found) for v, found in zip(values, box[()][0], strict=True)]
    if program.backward is None:
        return pairs
    seeds = [Tensor(rng.standard_normal(v.shape), dtype=v.dtype) for v in values]
    expected = gradients(values, seeds, targets={i for i in inputs if i._requires_grad})
    back = program.run_back({i: s._data for i, s in enumerate(seeds)}, box, *inputs, extras=extras)
    pairs += [
        (f"the gradient of {i.name or 'the input'}", expected[i], back(j))
        for j, i in enumerate(inputs)
        if i in expected and (j or wanted.gradient[0])
    ]
    return pairs


def close(a: Array, b: Array | None, eps: float) -> bool:
    """Equal but for rounding, where both are finite (parameters that have diverged say nothing)."""
    if b is None:
        return not a.any()
    if a.shape != b.shape:
        return False
    return bool(distance(a, b) <= eps**0.6 * max(1.0, np.abs(a[np.isfinite(a)]).max(initial=0)))


def distance(a: Array, b: Array) -> float:
    """How far apart the farthest finite elements are."""
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[both] - b[both]).max(initial=0))
