"""Is a gradient right? Move each number of each input a little, run the forward pass again, and see how the output moves.

`gradcheck(f, inputs)` holds what `backward()` says against that, and with `gradient=[...]` what you derived by hand.
Each number of the output is followed by itself (the full Jacobian), so that errors cannot cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .backward import gradients
from .ops import Array
from .scope import tick
from .tensor import Tensor


class GradcheckError(AssertionError):
    """A gradient is wrong. The message has a line for every input: it agrees, or where and by how much it does not."""


def gradcheck(
    f: Callable[..., Any], inputs: Any, eps: float = 1e-6, atol: float = 1e-8, rtol: float = 1e-5, *,
    gradient: Any = None, second_order: bool = False,
) -> bool:  # fmt: skip
    """Compare the gradients of f(*inputs) with central differences; True, or a GradcheckError that names what is wrong.

    f: returns a float64 Tensor of any shape, or a tuple of them.
    inputs: a Tensor, array or float, or a list of them. A leaf that requires grad must be float64; it is given to f itself and
        moved in place, so f may also ignore its arguments and close over it (`[*module.parameters()]`). Whatever else has a
        floating dtype becomes a new float64 leaf; integers and bools are passed on unchecked.
    eps: the step, relative to numbers beyond 1. atol, rtol: a gradient may differ by atol + rtol * |the difference quotient|,
        and by what rounding does to that quotient.
    gradient: your own gradient of a scalar f, an array (or None: not compared) per input; it is compared with backward()'s.
    second_order: check the derivatives of the gradients (create_graph=True) as well.

    The inputs are left as they were, to the bit, and no `.grad` is touched, also if the check fails.
    """
    args = [prepare(i, x) for i, x in enumerate(listed(inputs))]
    leaves = {f"input {i}" + (f" {x.name!r}" if x.name else ""): x for i, x in enumerate(args) if is_leaf(x)}
    if not leaves:
        raise ValueError("gradcheck: nothing to check, as no input has a floating dtype")
    outs = evaluate(f, args)
    if not np.array_equal(flat(outs), flat(evaluate(f, args)), equal_nan=True):
        raise ValueError("gradcheck: f gave two results for the same inputs; switch what is random off (module.eval())")

    numeric = [differences(f, args, leaf, eps) for leaf in leaves.values()]
    noise = 16 * np.finfo(np.float64).eps * np.abs(flat(outs)) / eps
    slack = [
        atol + rtol * np.abs(n) + np.divide.outer(noise, np.maximum(1, np.abs(x._data)))
        for n, x in zip(numeric, leaves.values(), strict=True)
    ]
    places = [f"{k or ''}{list(at)}" for k, out in enumerate(outs) for at in np.ndindex(out.shape)]
    for create_graph in (False, True) if second_order else (False,):
        ours = jacobians(outs, leaves.values(), create_graph)
        who = f"backward({'create_graph=True' if create_graph else ''})", "finite differences"
        compare(who, zip(leaves, ours, numeric, slack, strict=True), places)
    if gradient is not None:
        given = own_gradient(listed(gradient), args, outs)
        compare(("the given gradient", "backward()"), zip(leaves, given, ours, slack, strict=True), places)
    if second_order:
        draw = np.random.default_rng(0).uniform
        weights = [Tensor(draw(0.5, 1.5, out.shape), True, name=f"gradient of output {k}") for k, out in enumerate(outs)]

        def gradient_of_f(*xs: Any) -> list[Tensor]:
            found = gradients(evaluate(f, xs[: len(args)]), weights, create_graph=True)
            return [found[leaf] if leaf in found else Tensor(np.zeros(leaf.shape)) for leaf in leaves.values()]

        try:
            gradcheck(gradient_of_f, [*args, *weights], eps, atol, rtol)
        except GradcheckError as error:
            raise GradcheckError(f"second order (output k: the gradient of the k-th input checked): {error}") from None
    return True


def listed(x: Any) -> list[Any]:
    return [x] if isinstance(x, Tensor | np.ndarray | np.generic | float | int) else list(x)


def is_leaf(x: Any) -> bool:
    return isinstance(x, Tensor) and x.op is None and x.requires_grad


def prepare(i: int, x: Any) -> Any:
    """What f is given as its i-th argument."""
    if is_leaf(x) and x.dtype != np.float64:
        raise TypeError(f"gradcheck: expected float64, and input {i} is {x.describe()}; make it with dtype=np.float64")
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    return x if is_leaf(x) or array.dtype.kind != "f" else Tensor(array, True, np.float64, getattr(x, "name", None))


def evaluate(f: Callable[..., Any], args: Sequence[Any]) -> list[Tensor]:
    result = f(*args)
    outs = list(result) if isinstance(result, tuple | list) else [result]
    for out in outs:
        if not isinstance(out, Tensor) or out.dtype != np.float64:
            what = out.describe() if isinstance(out, Tensor) else type(out).__name__
            raise TypeError(f"gradcheck: f must return float64 Tensors, got {what}")
    return outs


def flat(outs: Sequence[Tensor]) -> Array:
    return np.concatenate([np.ravel(out._data) for out in outs])


def jacobians(outs: Sequence[Tensor], leaves: Iterable[Tensor], create_graph: bool) -> list[Array]:
    """For each leaf an array of shape (numbers in the outputs, *leaf.shape): one backward walk per number."""
    result = {leaf: np.zeros((len(flat(outs)), *leaf.shape)) for leaf in leaves}
    row = 0
    for out in outs:
        for at in np.ndindex(out.shape):
            seed = np.zeros(out.shape)
            seed[at] = 1
            for leaf, g in gradients([out], [Tensor(seed)], create_graph).items():
                if leaf in result:
                    result[leaf][row] = g._data if isinstance(g, Tensor) else g
            row += 1
    return [result[leaf] for leaf in leaves]


def differences(f: Callable[..., Any], args: Sequence[Any], leaf: Tensor, eps: float) -> Array:
    """The same for one leaf, by central differences."""
    array, saved = leaf._data, leaf._data.copy()
    kept, leaf._lent = (leaf.version, leaf._lent, leaf._transpose), None  # put back, so that graphs made before stay good
    slopes = np.empty((len(flat(evaluate(f, args))), *leaf.shape))
    try:
        for at in np.ndindex(leaf.shape):
            step = eps * max(1.0, float(abs(saved[at])))
            high, low = saved[at] + step, saved[at] - step
            array[at], leaf.version = high, tick()
            above = flat(evaluate(f, args))
            array[at], leaf.version = low, tick()
            below = flat(evaluate(f, args))
            with np.errstate(all="ignore"):
                slopes[:, *at] = (above - below) / (high - low)
            array[at] = saved[at]
    finally:
        array[...] = saved
        leaf.version, leaf._lent, leaf._transpose = kept
    return slopes


def own_gradient(given: Sequence[Any], args: Sequence[Any], outs: Sequence[Tensor]) -> list[Any]:
    """What the caller derived for each leaf, as a Jacobian of one row."""
    if len(outs) != 1 or outs[0].size != 1:
        raise ValueError(f"gradcheck: gradient= belongs to one number, and f returned shapes {[out.shape for out in outs]}")
    if len(given) != len(args):
        raise ValueError(f"gradcheck: gradient= has {len(given)} entries for {len(args)} inputs; write None for one to skip")
    arrays = [g._data if isinstance(g, Tensor) else g for g, x in zip(given, args, strict=True) if is_leaf(x)]
    return [None if g is None else np.asarray(g)[None] for g in arrays]


def compare(who: tuple[str, str], each: Iterable[tuple[str, Any, Array, Array]], places: Sequence[str]) -> None:
    """Raise unless each (input, Jacobian claimed, Jacobian known, slack) agrees."""
    verdicts = {name: verdict(who, claim, known, slack, places) for name, claim, known, slack in each}
    if any(text.startswith("WRONG") for text in verdicts.values()):
        lines = [f"\n  {name}: {text}" for name, text in verdicts.items()]
        raise GradcheckError(f"{who[0]} disagrees with {who[1]}" + "".join(lines))


def verdict(who: tuple[str, str], claim: Any, known: Array, slack: Array, places: Sequence[str]) -> str:
    if claim is None:
        return "not compared"
    if claim.shape != known.shape:
        return f"WRONG, {who[0]} has shape {claim.shape[1:]}, expected {known.shape[1:]}"
    with np.errstate(all="ignore"):
        gap = np.abs(claim - known)
    excess = np.where(np.isfinite(gap), gap - slack, np.inf)
    if not (excess > 0).any():
        return "agrees"
    row, *at = map(int, np.unravel_index(np.argmax(excess), excess.shape))
    values = f"{who[0]} {claim[row, *at]:.8g}, {who[1]} {known[row, *at]:.8g}, difference {gap[row, *at]:.3g}"
    of = f" (for output {places[row]})" if len(places) > 1 else ""
    return f"WRONG in {np.count_nonzero(excess > 0)} of {gap.size}, worst at {at}{of}: {values}"
