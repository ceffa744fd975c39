"""Recurrent cells: one step, forward only, written as the papers write it.

The job of a cell is to turn an input and the state it is in into the next state. Time is not its business: a loop
(recurrent.py, or your own) calls it once per step, and backpropagation through time is `backward()` through all the steps.
"""

from __future__ import annotations

from operator import index
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ..functions import relu, sigmoid, split, tanh
from ..tensor import Tensor
from .functional import linear
from .gates import gates_of
from .init import uniform
from .module import Module, Parameter, floating
from .state import check_state, fits, zero_state

S = TypeVar("S")  # Tensor, or a tuple of Tensors


class Cell(Module):
    """What the cells of this file share: their weights, and the check of what they are called with.

    A cell of your own needs none of this: a Module with a `state_size` and a `forward(x, state) -> state` is a cell.
    """

    def __init__(
        self, gates: int, input_size: int, hidden_size: int, bias: bool, dtype: DTypeLike, state_width: int | None = None
    ) -> None:
        input_size, hidden_size = index(input_size), index(hidden_size)
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"{type(self).__name__}: sizes must be positive, got input {input_size}, hidden {hidden_size}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.state_size: int | tuple[int, ...] = hidden_size
        rows, bound = gates * hidden_size, 1 / np.sqrt(hidden_size)
        self.weight_ih = Parameter(uniform((rows, input_size), bound, dtype))
        self.weight_hh = Parameter(uniform((rows, state_width or hidden_size), bound, dtype))
        self.bias_ih = Parameter(uniform((rows,), bound, dtype)) if bias else None
        self.bias_hh = Parameter(uniform((rows,), bound, dtype)) if bias else None

    gates = property(gates_of, doc='The gates by name: `cell.gates["f"].bias_ih`; see nn/gates.py.')

    def enter(self, x: Any, state: S | None) -> tuple[Tensor, S]:
        """The input as a Tensor, and the state: zeros if none is given; one that does not belong to the input is refused."""
        x = x if isinstance(x, Tensor) and x.dtype.kind == "f" else floating(self, x)
        shape = x.shape
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: expected input of shape ({self.input_size},) or (batch, {self.input_size}), "
                f"got {shape}"
            )
        lead = shape[:-1]
        if state is None:
            return x, zero_state(self.state_size, lead, self.weight_hh.dtype)  # type: ignore[return-value]
        if not fits(self.state_size, lead, state):
            check_state(self, self.state_size, lead, state)
        return x, state

    def bias(self) -> Tensor | None:
        """b_ih + b_hh. PyTorch keeps two; several gates wide, it is cheaper to add them to each other than both to a batch."""
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh


class RNNCell(Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu (Elman 1990).

    Call it with x (N, input_size) and h (N, hidden_size), both without N for a single sample; h is zero if left out. Returns
    the new h.
    """

    gate_names = ("h",)

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", dtype: DTypeLike = np.float32
    ) -> None:
        super().__init__(1, input_size, hidden_size, bias, dtype)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity is 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        return (tanh(z) if self.nonlinearity == "tanh" else relu(z)).named("h")


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four blocks of W_ih x + b_ih + W_hh h + b_hh
    c' = f * c + i * g
    h' = o * tanh(c'), and with proj_size P > 0: h' = W_hr (o * tanh(c')) (Sak et al. 2014)

    Call it with x (N, input_size) and the state (h, c), h (N, P or hidden_size) and c (N, hidden_size), all without N for a
    single sample; zeros if left out. Returns the new (h, c).
    """

    gate_names = ("i", "f", "g", "o")

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32, proj_size: int = 0
    ) -> None:
        proj_size = index(proj_size)
        if not 0 <= proj_size < max(hidden_size, 1):
            raise ValueError(f"LSTMCell: expected 0 <= proj_size < hidden_size = {hidden_size}, got {proj_size}")
        super().__init__(4, input_size, hidden_size, bias, dtype, state_width=proj_size)
        self.state_size = (proj_size or self.hidden_size, self.hidden_size)
        bound = 1 / np.sqrt(hidden_size)
        self.weight_hr = Parameter(uniform((proj_size, hidden_size), bound, dtype)) if proj_size else None

    def forward(self, x: Any, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        x, (h, c) = self.enter(x, state)
        i, f, g, o = split(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh), 4, axis=-1)
        i = sigmoid(i).named("i")  # input gate
        f = sigmoid(f).named("f")  # forget gate
        g = tanh(g).named("g")  # candidate
        o = sigmoid(o).named("o")  # output gate
        c = (f * c + i * g).named("c")
        h = o * tanh(c)
        if self.weight_hr is not None:
            h = linear(h, self.weight_hr)
        return h.named("h"), c


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after the product, as in cuDNN and PyTorch.

    r, z = sigmoid of the first two blocks of W_ih x + b_ih + W_hh h + b_hh
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h' = (1 - z) * n + z * h

    Call it with x (N, input_size) and h (N, hidden_size), both without N for a single sample; h is zero if left out. Returns
    the new h.
    """

    gate_names = ("r", "z", "n")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(3, input_size, hidden_size, bias, dtype)

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        x_r, x_z, x_n = split(linear(x, self.weight_ih, self.bias_ih), 3, axis=-1)
        h_r, h_z, h_n = split(linear(h, self.weight_hh, self.bias_hh), 3, axis=-1)
        r = sigmoid(x_r + h_r).named("r")  # reset gate
        z = sigmoid(x_z + h_z).named("z")  # update gate
        n = tanh(x_n + r * h_n).named("n")  # candidate
        return ((1 - z) * n + z * h).named("h")
