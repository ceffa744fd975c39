"""Truncated backpropagation through time: a sequence of any length, with the graph of a few steps alive at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import index
from typing import Any, NamedTuple

from ..functions import concatenate
from ..ops import along
from ..scope import no_grad
from ..tensor import Tensor, lift
from ..transforms import tree_map
from .module import Module
from .recurrent import Recurrent


class Window(NamedTuple):
    """What `tbptt` yields after each backward pass."""

    loss: float  # of the steps in `steps`
    steps: slice  # the steps whose loss this was, each step of the sequence being in one window
    state: Any  # after the last of them, without history: the hx of a sequence that continues this one


def tbptt(
    model: Callable[[Tensor, Any], Any],
    sequence: Any,
    k1: int,
    k2: int,
    loss: Callable[[Tensor, slice], Tensor],
    hx: Any = None,
    axis: int | None = None,
) -> Iterator[Window]:
    """Every k1 steps, a backward pass over the last k2 steps; a Window after each, which is the time to step the optimiser:

        for window in tbptt(model, x, k1=5, k2=20, loss=lambda y, at: mse_loss(y, target[at], "sum")):
            optimizer.step()
            optimizer.zero_grad()

    This is BPTT(k2; k1) of Williams & Peng (1990). At step b = k1, 2 k1, ... and at the end of the sequence, the loss of the
    steps since the last time goes back k2 steps: its gradient, with the state at step b - k2 held fixed, is added to `.grad`.
    The loss of a step counts once, so that with k2 >= T, and weights that stay the same, the gradients add up to those of full
    BPTT (if the loss is a sum over steps; means over windows are not the mean over all). k1 = k2 cuts a sequence into pieces,
    k1 = 1 slides the window by one step. With k1 > k2 only the last k2 of every k1 steps are learned from; the others carry
    the state on.

    model: a Recurrent layer, or any Module or function that is called as `model(x, hx)` and returns outputs, one for every
        step of x, and the state that the next call continues from. At step 0 it is given hx: None, unless you say otherwise.
    sequence: what the model takes, (T, ...), or (N, T, ...) if the model has `batch_first`; axis: where time is, if elsewhere.
    loss: given the outputs of some steps, time on the same axis, and which steps they are (a slice, to index targets with); a
        Tensor with one element.

    Sliding windows (k1 < k2) overlap, and between two of them the optimiser may have changed the weights: what the overlap
    computed belongs to the old ones. So every window runs again from a stored state, that at its first step, and its forward
    and backward pass agree on the weights. The stored state itself was reached with the weights of its time, as any state that
    is carried on. That costs max(k1, k2) / k1 forward passes over the sequence, at most; the graph is never longer than k2
    steps, whatever T. What is random (dropout) is drawn anew.
    """
    k1, k2 = whole("k1", k1), whole("k2", k2)
    check_model(model)
    if not callable(loss):
        raise TypeError(f"tbptt: expected loss, a function of outputs and their steps, got a {type(loss).__name__}")
    x = lift(sequence)
    if axis is None:
        axis = 1 if batch_first(model) and x.ndim > 2 else 0
    if not 0 <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"tbptt: expected a sequence with time on axis {axis} and at least one step, got shape {x.shape}")
    return windows(Run(model, x, axis), k1, k2, loss, hx)


class Run(NamedTuple):
    """The model over a part of the sequence."""

    model: Callable[[Tensor, Any], Any]
    x: Tensor
    axis: int

    def __call__(self, begin: int, end: int, state: Any) -> tuple[Tensor, Any]:
        """The outputs of steps begin ... end - 1, and the state after them."""
        result = self.model(self.part(self.x, begin, end), state)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
            got = f"({', '.join(type(r).__name__ for r in result)})" if isinstance(result, tuple) else type(result).__name__
            raise TypeError(f"tbptt: the model must return (outputs, state), as Recurrent layers do, got {got}")
        y, state = result
        if y.ndim <= self.axis or y.shape[self.axis] != end - begin:
            raise ValueError(
                f"tbptt: expected an output for each of {end - begin} steps on axis {self.axis}, got shape {y.shape}"
            )
        return y, state

    def part(self, x: Tensor, begin: int, end: int) -> Tensor:
        return x[along(self.axis, slice(begin, end))]

    def learn(
        self, span: tuple[int, int], cut: int, first: int, state: Any, loss: Callable[[Tensor, slice], Tensor]
    ) -> tuple[float, Any, Any]:
        """One window, forward and back: the loss of the steps from `first` on, and the states at the cut and at the end."""
        begin, end = span
        at_cut, outputs = state, []
        if begin < cut:
            y, state = self(begin, cut, state)
            at_cut = detached(state)
            outputs.append(y)
        if cut < end:
            y, state = self(cut, end, state)
            outputs.append(y)
        y = outputs[0] if len(outputs) == 1 else concatenate(outputs, axis=self.axis)
        value = loss(self.part(y, first - begin, end - begin), slice(first, end))
        if not isinstance(value, Tensor) or value.size != 1:
            got = value.describe() if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise TypeError(f"tbptt: loss must return one number as a Tensor, got {got}; reduce it by .sum()")
        value.backward()
        return value.item(), at_cut, detached(state)


def windows(run: Run, k1: int, k2: int, loss: Callable[[Tensor, slice], Tensor], state: Any) -> Iterator[Window]:
    length = run.x.shape[run.axis]
    at = 0  # the step whose beginning `state` is
    for done in range(0, length, k1):
        end = min(done + k1, length)
        begin = max(end - k2, 0)
        if at < begin:
            with no_grad():
                state = run(at, begin, state)[1]
        at = min(max(min(end + k1, length) - k2, 0), end)  # where the next window begins, or what it begins from
        first = max(begin, done)
        value, state, final = run.learn((begin, end), at, first, state, loss)
        yield Window(value, slice(first, end), final)


def detached(state: Any) -> Any:
    """The numbers of a state, without history."""
    return tree_map(lambda h: h.detach() if isinstance(h, Tensor) else h, state)


def whole(name: str, k: Any) -> int:
    try:
        number = index(k)
    except TypeError:
        raise TypeError(f"tbptt: {name} is a number of steps, an int, got {k!r}") from None
    if number < 1:
        raise ValueError(f"tbptt: {name} is a number of steps and must be at least 1, got {k}")
    return number


def check_model(model: Any) -> None:
    who = type(model).__name__
    if not callable(model):
        raise TypeError(f"tbptt: expected a model, called as model(x, hx), got a {who}")
    if isinstance(model, Module) and hasattr(model, "state_size") and not recurrent(model):
        raise TypeError(f"tbptt: {who} is a cell, a single step; write tbptt(tg.nn.Recurrent(cell), ...)")
    for path, layer in recurrent(model):
        if layer.bidirectional:
            raise ValueError(
                f"tbptt: {path or who} is bidirectional, and its reverse direction begins at the end of the sequence, which a "
                "window has not reached. Truncate it by hand, or use bidirectional=False"
            )


def recurrent(model: Any) -> list[tuple[str, Recurrent]]:
    """The recurrent layers of a model, with their paths."""
    every = model.named_modules() if isinstance(model, Module) else ()
    return [(path, module) for path, module in every if isinstance(module, Recurrent)]


def batch_first(model: Any) -> bool:
    """Whether a model takes (N, T, ...): what it says itself, or else its recurrent layers."""
    layers = [layer.batch_first for _, layer in recurrent(model)]
    return bool(getattr(model, "batch_first", bool(layers) and all(layers)))
