"""The rows that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from .table import op

HALF = {np.dtype(t): np.array(0.5, t) for t in (np.float16, np.float32, np.float64, np.longdouble)}  # quicker than a number


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) as tanh(x/2)/2 + 1/2: nothing overflows, and one pass of tanh in place."""
    half = HALF.get(x.dtype, HALF[np.dtype(np.float64)])
    y = np.asarray(x * half)
    np.tanh(y, out=y)
    y *= half
    y += half
    return y


# fmt: off

# Elementwise, one input.
NEG      = op("neg",      np.negative,   lambda g, out, x: -g)
EXP      = op("exp",      np.exp,        lambda g, out, x: g * out)
LOG      = op("log",      np.log,        lambda g, out, x: g / x)
LOG1P    = op("log1p",    np.log1p,      lambda g, out, x: g / (1 + x))
SQRT     = op("sqrt",     np.sqrt,       lambda g, out, x: g * 0.5 / out)
ABS      = op("abs",      np.absolute,   lambda g, out, x: g * np.sign(x))
SIN      = op("sin",      np.sin,        lambda g, out, x: g * np.cos(x))
COS      = op("cos",      np.cos,        lambda g, out, x: -g * np.sin(x))
TANH     = op("tanh",     np.tanh,       lambda g, out, x: g - g * out * out)
SIGMOID  = op("sigmoid",  sigmoid,       lambda g, out, x: g * (out - out * out))
RELU     = op("relu",     lambda x: np.maximum(x, 0), lambda g, out, x: g * (out > 0))
ASTYPE   = op("astype",   lambda x, dtype: x.astype(dtype), lambda g, out, x, dtype: g)

# Elementwise, two inputs or three.
ADD      = op("add",      np.add,        lambda g, out, x, y: g,          lambda g, out, x, y: g)
SUB      = op("sub",      np.subtract,   lambda g, out, x, y: g,          lambda g, out, x, y: -g)
MUL      = op("mul",      np.multiply,   lambda g, out, x, y: g * y,      lambda g, out, x, y: g * x)
DIV      = op("div",      np.divide,     lambda g, out, x, y: g / y,      lambda g, out, x, y: -g * out / y)
POWER    = op("power",    lambda x, y: x ** y,
              lambda g, out, x, y: g * y * x ** (y - (abs(y) > 0)),
              lambda g, out, x, y: g * out * np.log(np.where(np.equal(x, 0), 1, x)))
MAXIMUM  = op("maximum",  np.maximum,
              lambda g, out, x, y: g * (x > y) + g / 2 * np.equal(x, y),
              lambda g, out, x, y: g * (y > x) + g / 2 * np.equal(x, y))
MINIMUM  = op("minimum",  np.minimum,
              lambda g, out, x, y: g * (x < y) + g / 2 * np.equal(x, y),
              lambda g, out, x, y: g * (y < x) + g / 2 * np.equal(x, y))
LOGADDEXP = op("logaddexp", np.logaddexp, lambda g, out, x, y: g * np.exp(x - out), lambda g, out, x, y: g * np.exp(y - out))
WHERE    = op("where",    np.where,      None, lambda g, out, c, x, y: np.where(c, g, 0),
                                               lambda g, out, c, x, y: np.where(c, 0, g))
CLIP     = op("clip",     lambda x, low, high: np.minimum(np.maximum(x, low), high),
                                         lambda g, out, x, low, high: g * (x >= low) * (x <= high),
                                         lambda g, out, x, low, high: g * (x < low) * (low <= high),
                                         lambda g, out, x, low, high: g * (np.maximum(x, low) > high))
# fmt: on
