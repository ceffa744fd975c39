"""The package's random numbers, and initial values drawn from them.

The functions that end in an underscore write into a leaf and return it: `xavier_uniform_(layer.weight)`. Names and formulas
are PyTorch's; a weight is (out, in), as in `Linear`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..ops import Array
from ..tensor import Tensor

generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Make initialisation and dropout repeatable."""
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def uniform(shape: tuple[int, ...], bound: float, dtype: DTypeLike = np.float32) -> Array:
    """Draws from U(-bound, bound)."""
    return generator.uniform(-bound, bound, shape).astype(dtype)


# -- one distribution for all elements ----------------------------------------------------------------------------------------


def write(tensor: Tensor, values: ArrayLike) -> Tensor:
    """Give a leaf new numbers, in its own dtype."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"expected a leaf Tensor to write into, such as layer.weight, got a {type(tensor).__name__}")
    tensor.data = np.broadcast_to(values, tensor.shape)
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element is val."""
    return write(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element is 0."""
    return write(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element is 1."""
    return write(tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Draws from U(a, b)."""
    if not a <= b:
        raise ValueError(f"uniform_: expected a <= b, got a={a} and b={b}")
    return write(tensor, generator.uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draws from N(mean, std**2)."""
    if not std >= 0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return write(tensor, generator.normal(mean, std, tensor.shape))


# -- a scale that keeps signals alive from layer to layer ---------------------------------------------------------------------


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What makes up for the shrinking by a nonlinearity. param: the negative slope of "leaky_relu", 0.01 if left out."""
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "selu": 3 / 4,
        "relu": math.sqrt(2), "leaky_relu": math.sqrt(2 / (1 + slope**2)),
    }  # fmt: skip
    if nonlinearity not in gains:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}: expected one of {', '.join(gains)}")
    return gains[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output reads and how many outputs an input reaches: of a weight (out, in, ...)."""
    if tensor.ndim < 2:
        raise ValueError(
            f"Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, got {tensor.describe()}: "
            "for a bias use zeros_ or uniform_"
        )
    others = math.prod(tensor.shape[2:])
    return tensor.shape[1] * others, tensor.shape[0] * others


def xavier_std(tensor: Tensor, gain: float) -> float:
    """gain * sqrt(2 / (fan_in + fan_out)): a compromise of signals forward and gradients backward."""
    return gain * math.sqrt(2 / sum(fans(tensor)))


def kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    """gain / sqrt(fan): for signals forward (mode "fan_in") or gradients backward ("fan_out")."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of 'fan_in', 'fan_out'")
    fan_in, fan_out = fans(tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan_in if mode == "fan_in" else fan_out)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform with the standard deviation of Glorot & Bengio 2010: bound = gain * sqrt(6 / (fan_in + fan_out))."""
    bound = math.sqrt(3) * xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with the standard deviation of Glorot & Bengio 2010: gain * sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0, xavier_std(tensor, gain))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform with the standard deviation of He et al. 2015: bound = gain * sqrt(3 / fan). a: the slope of the leaky relu."""
    bound = math.sqrt(3) * kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with the standard deviation of He et al. 2015: gain / sqrt(fan). a: the slope of the leaky relu."""
    return normal_(tensor, 0, kaiming_std(tensor, a, mode, nonlinearity))


# -- for recurrent weights ----------------------------------------------------------------------------------------------------


def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    """A random orthogonal matrix, times gain (Saxe et al. 2014): powers of it neither grow nor shrink a state.

    If it is not square, its rows or its columns are orthonormal, whichever are fewer; axes after the first count as one.
    """
    if tensor.ndim < 2:
        raise ValueError(f"Only tensors with 2 or more dimensions are supported, got {tensor.describe()}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diagonal(r))  # qr fixes the signs; undone, all orthogonal matrices are equally likely (Mezzadri 2007)
    return write(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def forget_bias_(bias: Tensor, val: float = 1.0) -> Tensor:
    """Make an LSTM remember at first (Gers et al. 2000; Jozefowicz et al. 2015): its forget gate's quarter of `bias` is val.

    bias: (4 * hidden,), the gates in the order i, f, g, o. bias_ih and bias_hh add up: give val to one and 0 to the other.
    """
    if bias.ndim != 1 or bias.size % 4:
        raise ValueError(f"forget_bias_: expected the bias of an LSTM, of shape (4 * hidden,), got {bias.describe()}")
    values, hidden = bias.numpy(), bias.size // 4
    values[hidden : 2 * hidden] = val
    return write(bias, values)
