"""What the tests of the optimisers share: a parameter, and its way down given gradients."""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn


def parameter(value=1.0, dtype=np.float64, name="w"):
    return nn.Parameter(value, dtype=dtype, name=name)


def descend(optimizer, p, gradients):
    """The value of p after each step."""
    values = []
    for g in gradients:
        p.grad = tg.Tensor(np.full(p.shape, g), dtype=p.dtype)
        optimizer.step()
        values.append(p.data.tolist())
    return values
