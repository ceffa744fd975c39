"""How each state of a cell depends on earlier ones: dh_t/dh_k, whose norms make gradients vanish or explode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backward import gradients
from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..nn.state import sizes
from ..ops import Array
from ..scope import recording
from ..tensor import Tensor
from ..transforms import leaves, tree_map

MEASURES: dict[str, Callable[[Any], Any]] = {
    "norm": lambda j: np.linalg.norm(j, 2, axis=(-2, -1)),
    "radius": lambda j: np.abs(np.linalg.eigvals(j)).max(axis=-1),
    "values": lambda j: np.linalg.svd(j, compute_uv=False),
    "full": lambda j: j,
}


class StateJacobians(NamedTuple):
    """The Jacobians of a cell's step, ds_t/ds_{t-1} for t = 1 ... T, where s is the whole state: its members end to end.

    s_0 is the initial state and s_t the state after t steps, in the direction in which the cell runs.
    """

    steps: Array  # (T, N, n, n), row i of a matrix for the i-th number of s_t
    sizes: tuple[int, ...]  # of the members of the state: (n,), or for an LSTM (hidden_size, hidden_size)

    def map(self, measure: str = "norm", member: int | None = None) -> Array:
        """ds_t/ds_k = J_t J_{t-1} ... J_{k+1}, measured, at [t, k] of an array (T+1, T+1, N, ...); zero where t < k.

        measure: "norm" (the largest singular value), "radius" (the largest absolute eigenvalue), "values" (all singular
            values), or "full", the matrices themselves, for small sizes. Of a product that has exploded beyond its dtype
            they are infinite, and then NaN.
        member: one member of the state alone, 1 for dc_t/dc_k of an LSTM; paths through all members count.
        """
        if measure not in MEASURES:
            raise ValueError(f"map: measure is one of {', '.join(map(repr, MEASURES))}, got {measure!r}")
        if member is not None and not 0 <= member < len(self.sizes):
            raise ValueError(f"map: member={member}, but the state has {len(self.sizes)} member(s), counted from 0")
        start = 0 if member is None else sum(self.sizes[:member])
        block = slice(start, None if member is None else start + self.sizes[member])
        length, n = len(self.steps), self.steps.shape[-1]
        columns = []
        for k in range(length + 1):
            products = [np.broadcast_to(np.eye(n, dtype=self.steps.dtype), self.steps.shape[1:])]
            with np.errstate(over="ignore", invalid="ignore"):  # the result says so
                for step in self.steps[k:]:
                    products.append(step @ products[-1])
            column = measured(np.stack(products)[..., block, block], measure)
            columns.append(np.concatenate([np.zeros((k, *column.shape[1:]), column.dtype), column]))
        return np.stack(columns, axis=1)


def measured(matrices: Array, measure: str) -> Array:
    """A measure of each matrix: infinite or NaN where numbers of it are, which NumPy's decompositions refuse."""
    if measure == "full":
        return matrices
    largest = np.abs(matrices).max(axis=(-2, -1), keepdims=True)
    found = MEASURES[measure](np.where(np.isfinite(largest), matrices, 0))
    largest = largest[..., 0] if measure == "values" else largest[..., 0, 0]
    return np.asarray(np.where(np.isfinite(largest), found, largest))


class Probe(Module):
    """A cell that remembers the states it is called with, and in which each step's graph begins anew."""

    def __init__(self, cell: Module) -> None:
        self.cell = cell
        self.entered: list[Any] = []
        self.begun: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cell, name) if name != "cell" else super().__getattribute__(name)

    def forward(self, x: Any, state: Any) -> Any:
        self.entered.append(state)
        self.begun.append(tree_map(lambda h: Tensor(h.numpy(), requires_grad=True, name=h.name), state))
        return self.cell(x, self.begun[-1])


def jacobians(layer: Module, x: Any, hx: Any = None) -> dict[str, StateJacobians]:
    """The state Jacobians of every cell of a Recurrent layer, or of a cell alone, as it runs over x (from hx, if given).

    {"l0": ..., "l0_reverse": ..., "l1": ...}, as a layer names its parameters; a cell alone is "l0". x and hx are what the
    layer is called with. What comes from the layer below is held fixed, as x is: these are the paths through a cell's own
    state. Without a batch there is one sample, N = 1.

    ds_t/ds_k is the product of the steps between (Pascanu et al. 2013, eq. 5), see `StateJacobians.map`. For the h of an RNN
    with tanh the norm of a step is at most the largest singular value of weight_hh, so that of t - k steps is at most its
    (t - k)-th power. Each number of the state takes a walk per step, which the samples of a batch share: a cell must not mix
    them (`tg.check_cell`).
    """
    if not isinstance(layer, Recurrent):
        layer = Recurrent(layer)
    probes = {key: Probe(cell) for key, cell in layer.cells.items()}
    probed = copy.copy(layer)
    vars(probed)["cells"] = probes
    with recording(True):
        _, last = probed(x, hx)
    result = {}
    for i, (key, probe) in enumerate(probes.items()):
        ends = [*probe.entered[1:], tree_map(lambda h, i=i: h[i], last)]
        steps = [step_jacobian(leaves(end), leaves(begin)) for begin, end in zip(probe.begun, ends, strict=True)]
        result[key] = StateJacobians(np.stack(steps), sizes(layer.state_size))
    for probe in probes.values():  # the nodes that it holds hold it, as the module that made them
        vars(probe).clear()
    return result


def step_jacobian(ends: Sequence[Tensor], begins: Sequence[Tensor]) -> Array:
    """d(ends)/d(begins) for each sample, (N, n, n): a walk for each number of the end state."""
    rows = []
    for end in ends:
        for i in range(end.shape[-1]):
            seed = np.zeros(end.shape, end.dtype)
            seed[..., i] = 1
            found = gradients([end], [Tensor(seed)], targets=set(begins))
            rows.append(np.concatenate([found[h] if h in found else np.zeros(h.shape, h.dtype) for h in begins], axis=-1))
    return np.stack(rows, axis=1)
