"""A zoo of recurrent cells: each is the equations of its paper, and `Recurrent` gives it the rest.

    layer = tg.nn.Recurrent(lambda n: tg.nn.zoo.PeepholeLSTMCell(n, 32), input_size=3, num_layers=2, bidirectional=True)

They take (input_size, hidden_size, bias=True, dtype=np.float32), are called with x (N, input_size) and a state, zeros if left
out, and return the new state: (h, c) for an LSTM, else h, each (N, hidden_size). Weights are named as in `LSTMCell` and
`GRUCell`, their blocks as in `gate_names`. b stands for both of a cell's biases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..functions import relu, sigmoid, split, tanh
from ..tensor import Tensor
from .cells import Cell, LSTMCell
from .functional import linear
from .init import uniform
from .layers import LayerNorm
from .module import Parameter

Pair = tuple[Tensor, Tensor]


class PeepholeLSTMCell(Cell):
    """An LSTM whose gates see the cell state, element by element (Gers & Schmidhuber 2000; Gers et al. 2002).

    i, f = sigmoid(W x + U h + p * c + b); g = tanh(W x + U h + b); c' = f * c + i * g
    o = sigmoid(W x + U h + p * c' + b), which sees the new one; h' = o * tanh(c')
    """

    gate_names = ("i", "f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(4, input_size, hidden_size, bias, dtype)
        self.state_size = (hidden_size, hidden_size)
        bound = 1 / np.sqrt(hidden_size)
        self.peephole_i = Parameter(uniform((hidden_size,), bound, dtype))
        self.peephole_f = Parameter(uniform((hidden_size,), bound, dtype))
        self.peephole_o = Parameter(uniform((hidden_size,), bound, dtype))

    def forward(self, x: Any, state: Pair | None = None) -> Pair:
        x, (h, c) = self.enter(x, state)
        i, f, g, o = split(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh), 4, axis=-1)
        i = sigmoid(i + self.peephole_i * c).named("i")  # input gate
        f = sigmoid(f + self.peephole_f * c).named("f")  # forget gate
        g = tanh(g).named("g")  # candidate
        c = (f * c + i * g).named("c")
        o = sigmoid(o + self.peephole_o * c).named("o")  # output gate
        return (o * tanh(c)).named("h"), c


class CoupledLSTMCell(Cell):
    """CIFG, an LSTM that takes in as much as it forgets: i = 1 - f (Greff et al. 2017, their variant of LSTM's gates).

    f, o = sigmoid(W x + U h + b); g = tanh(W x + U h + b); c' = f * c + (1 - f) * g; h' = o * tanh(c')
    """

    gate_names = ("f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(3, input_size, hidden_size, bias, dtype)
        self.state_size = (hidden_size, hidden_size)

    def forward(self, x: Any, state: Pair | None = None) -> Pair:
        x, (h, c) = self.enter(x, state)
        f, g, o = split(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh), 3, axis=-1)
        f = sigmoid(f).named("f")  # forget gate
        g = tanh(g).named("g")  # candidate
        o = sigmoid(o).named("o")  # output gate
        c = (f * c + (1 - f) * g).named("c")
        return (o * tanh(c)).named("h"), c


class LayerNormLSTMCell(Cell):
    """An LSTM with layer normalisation (Ba, Kiros & Hinton 2016). The shifts of the first two norms are in b.

    i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four blocks of LN(W x) + LN(U h) + b
    c' = f * c + i * g; h' = o * tanh(LN(c'))
    """

    gate_names = ("i", "f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(4, input_size, hidden_size, bias, dtype)
        self.state_size = (hidden_size, hidden_size)
        self.norm_x = LayerNorm(4 * hidden_size, bias=False, dtype=dtype)
        self.norm_h = LayerNorm(4 * hidden_size, bias=False, dtype=dtype)
        self.norm_c = LayerNorm(hidden_size, bias=bias, dtype=dtype)

    def forward(self, x: Any, state: Pair | None = None) -> Pair:
        x, (h, c) = self.enter(x, state)
        z = self.norm_x(linear(x, self.weight_ih)) + self.norm_h(linear(h, self.weight_hh))
        b = self.bias()
        i, f, g, o = split(z if b is None else z + b, 4, axis=-1)
        i = sigmoid(i).named("i")  # input gate
        f = sigmoid(f).named("f")  # forget gate
        g = tanh(g).named("g")  # candidate
        o = sigmoid(o).named("o")  # output gate
        c = (f * c + i * g).named("c")
        return (o * tanh(self.norm_c(c))).named("h"), c


class ForgetBiasLSTMCell(LSTMCell):
    """An LSTM that begins by remembering: its forget gate's bias starts at 1 (Gers et al. 2000; Jozefowicz et al. 2015)."""

    def __init__(self, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32, *, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size, dtype=dtype)
        f = self.gates["f"]
        f.bias_ih, f.bias_hh = forget_bias, 0


class ResetBeforeGRUCell(Cell):
    """The gated recurrent unit as first written: the reset gate acts before the product (Cho et al. 2014).

    r, z = sigmoid(W x + U h + b); n = tanh(W_n x + U_n (r * h) + b_n); h' = (1 - z) * n + z * h
    """

    gate_names = ("r", "z")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(2, input_size, hidden_size, bias, dtype)
        bound = 1 / np.sqrt(hidden_size)
        self.weight_in = Parameter(uniform((hidden_size, input_size), bound, dtype))
        self.weight_hn = Parameter(uniform((hidden_size, hidden_size), bound, dtype))
        self.bias_n = Parameter(uniform((hidden_size,), bound, dtype)) if bias else None

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        r, z = split(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh), 2, axis=-1)
        r = sigmoid(r).named("r")  # reset gate
        z = sigmoid(z).named("z")  # update gate
        n = tanh(linear(x, self.weight_in, self.bias_n) + linear(r * h, self.weight_hn)).named("n")  # candidate
        return ((1 - z) * n + z * h).named("h")


class MinimalGatedCell(Cell):
    """The minimal gated unit: one gate resets and updates (Zhou et al. 2016).

    f = sigmoid(W x + U h + b); n = tanh(W_n x + U_n (f * h) + b_n); h' = (1 - f) * h + f * n
    """

    gate_names = ("f",)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(1, input_size, hidden_size, bias, dtype)
        bound = 1 / np.sqrt(hidden_size)
        self.weight_in = Parameter(uniform((hidden_size, input_size), bound, dtype))
        self.weight_hn = Parameter(uniform((hidden_size, hidden_size), bound, dtype))
        self.bias_n = Parameter(uniform((hidden_size,), bound, dtype)) if bias else None

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        f = sigmoid(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh)).named("f")  # its only gate
        n = tanh(linear(x, self.weight_in, self.bias_n) + linear(f * h, self.weight_hn)).named("n")  # candidate
        return ((1 - f) * h + f * n).named("h")


class IndRNNCell(Cell):
    """Independently recurrent: each unit sees only itself of the past (Li et al. 2018).

    h' = relu(W x + u * h + b); u, which is weight_hh (hidden_size,), begins between 0 and 1.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(1, input_size, hidden_size, bias, dtype)
        self.weight_hh = Parameter(np.abs(uniform((hidden_size,), 1.0, dtype)))

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        return relu(linear(x, self.weight_ih, self.bias()) + self.weight_hh * h).named("h")


class JANETCell(Cell):
    """Just another network: an LSTM with a forget gate and nothing else (van der Westhuizen & Lasenby 2018).

    s = W x + U h + b; g = tanh(W x + U h + b); h' = sigmoid(s) * h + (1 - sigmoid(s - 1)) * g
    """

    gate_names = ("f", "g")

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(2, input_size, hidden_size, bias, dtype)

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        s, g = split(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh), 2, axis=-1)
        f = sigmoid(s).named("f")  # forget gate
        i = (1 - sigmoid(s - 1)).named("i")  # what is taken in: a little more than is forgotten
        g = tanh(g).named("g")  # candidate
        return (f * h + i * g).named("h")


class LeakyCell(Cell):
    """A leaky integrator, the unit of echo state networks (Jaeger et al. 2007), here with weights that are trained.

    h' = (1 - leak) * h + leak * tanh(W x + U h + b); 0 < leak <= 1, and with 1 it is an `RNNCell`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = np.float32, *, leak: float = 0.3
    ) -> None:
        if not 0 < leak <= 1:
            raise ValueError(f"LeakyCell: leak must be above 0 and at most 1, got {leak}")
        super().__init__(1, input_size, hidden_size, bias, dtype)
        self.leak = leak

    def forward(self, x: Any, state: Tensor | None = None) -> Tensor:
        x, h = self.enter(x, state)
        n = tanh(linear(x, self.weight_ih, self.bias()) + linear(h, self.weight_hh)).named("n")  # where it is drawn to
        return ((1 - self.leak) * h + self.leak * n).named("h")
