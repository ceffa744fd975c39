"""The rows that work element by element."""

from __future__ import annotations

from math import factorial, log, pi
from typing import Any

import numpy as np

from .table import op

HALF64, HALF = np.array(0.5), {c: np.array(0.5, c) for c in "efdg"}  # by the character of the dtype; quicker than a number


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) as tanh(x/2)/2 + 1/2: nothing overflows, and one pass of tanh in place."""
    half = HALF.get(x.dtype.char, HALF64)
    y = np.asarray(x * half)
    np.tanh(y, out=y)
    y *= half
    y += half
    return y


SERIES = [(-1) ** k * 2 * k * pi ** (2 * k) / factorial(2 * k + 1) for k in range(1, 13)]


def sinc_slope(x: Any) -> Any:
    """d sinc(x)/dx = (cos(pi x) - sinc(x)) / x; near 0, where that loses its digits, its power series."""
    near = abs(x) < 0.3
    small, large = np.where(near, x, 0), np.where(near, 1, x)
    series = 0.0
    for term in reversed(SERIES):
        series = series * small * small + term
    return np.where(near, series * small, (np.cos(pi * large) - np.sinc(large)) / large)


def odds(d: Any) -> Any:
    """exp(x) / (exp(x) + exp(y)) where d = x - y. Nothing overflows, and what is small keeps its digits."""
    e = np.exp(np.where(d > 0, -d, d))
    return np.where(d > 0, 1, e) / (1 + e)


def nonzero(x: Any) -> Any:
    """x with 1 in the place of 0, so that one can divide by it where the quotient is not used."""
    return np.where(np.equal(x, 0), 1, x)


# fmt: off

# One input.
NEG      = op("neg",      np.negative,   lambda g, out, x: -g)
EXP      = op("exp",      np.exp,        lambda g, out, x: g * out)
EXP2     = op("exp2",     np.exp2,       lambda g, out, x: g * out * log(2))
EXPM1    = op("expm1",    np.expm1,      lambda g, out, x: g * (out + 1))
LOG      = op("log",      np.log,        lambda g, out, x: g / x)
LOG2     = op("log2",     np.log2,       lambda g, out, x: g / x / log(2))
LOG10    = op("log10",    np.log10,      lambda g, out, x: g / x / log(10))
LOG1P    = op("log1p",    np.log1p,      lambda g, out, x: g / (1 + x))
SQRT     = op("sqrt",     np.sqrt,       lambda g, out, x: g * 0.5 / out)
ROOT     = op("root",     np.sqrt,       lambda g, out, x: np.where(np.equal(out, 0), 0, g * 0.5 / nonzero(out)))  # of a norm
CBRT     = op("cbrt",     np.cbrt,       lambda g, out, x: g / (3 * out * out))
RECIPROCAL = op("reciprocal", np.reciprocal, lambda g, out, x: -g * out * out)
ABS      = op("abs",      np.absolute,   lambda g, out, x: g * np.sign(x))
SIN      = op("sin",      np.sin,        lambda g, out, x: g * np.cos(x))
COS      = op("cos",      np.cos,        lambda g, out, x: -g * np.sin(x))
TAN      = op("tan",      np.tan,        lambda g, out, x: g * (1 + out * out))
ARCSIN   = op("arcsin",   np.arcsin,     lambda g, out, x: g / np.sqrt((1 - x) * (1 + x)))
ARCCOS   = op("arccos",   np.arccos,     lambda g, out, x: -g / np.sqrt((1 - x) * (1 + x)))
ARCTAN   = op("arctan",   np.arctan,     lambda g, out, x: g / (1 + x * x))
SINH     = op("sinh",     np.sinh,       lambda g, out, x: g * np.cosh(x))
COSH     = op("cosh",     np.cosh,       lambda g, out, x: g * np.sinh(x))
TANH     = op("tanh",     np.tanh,       lambda g, out, x: g - g * out * out)
ARCSINH  = op("arcsinh",  np.arcsinh,    lambda g, out, x: g / np.hypot(x, 1))
ARCCOSH  = op("arccosh",  np.arccosh,    lambda g, out, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)))
ARCTANH  = op("arctanh",  np.arctanh,    lambda g, out, x: g / ((1 - x) * (1 + x)))
SINC     = op("sinc",     np.sinc,       lambda g, out, x: g * sinc_slope(x))
SIGMOID  = op("sigmoid",  sigmoid,       lambda g, out, x: g * (out - out * out))
RELU     = op("relu",     lambda x: np.maximum(x, 0), lambda g, out, x: g * (out > 0))
ASTYPE   = op("astype",   lambda x, dtype: x.astype(dtype), lambda g, out, x, dtype: g)

# Two inputs or three.
ADD      = op("add",      np.add,        lambda g, out, x, y: g,          lambda g, out, x, y: g)
SUB      = op("sub",      np.subtract,   lambda g, out, x, y: g,          lambda g, out, x, y: -g)
MUL      = op("mul",      np.multiply,   lambda g, out, x, y: g * y,      lambda g, out, x, y: g * x)
DIV      = op("div",      np.divide,     lambda g, out, x, y: g / y,      lambda g, out, x, y: -g * out / y)
MOD      = op("mod",      np.mod,        lambda g, out, x, y: g,          lambda g, out, x, y: -g * np.floor(x / y))
FMOD     = op("fmod",     np.fmod,       lambda g, out, x, y: g,          lambda g, out, x, y: -g * np.trunc(x / y))
POWER    = op("power",    lambda x, y: x ** y,
              lambda g, out, x, y: g * y * x ** (y - (abs(y) > 0)),
              lambda g, out, x, y: g * out * np.log(nonzero(x)))
HYPOT    = op("hypot",    np.hypot,      lambda g, out, x, y: g * (x / out), lambda g, out, x, y: g * (y / out))
ARCTAN2  = op("arctan2",  np.arctan2,
              lambda g, out, x, y: g * (y / np.hypot(x, y)) / np.hypot(x, y),
              lambda g, out, x, y: -g * (x / np.hypot(x, y)) / np.hypot(x, y))
MAXIMUM  = op("maximum",  np.maximum,
              lambda g, out, x, y: g * (x > y) + g / 2 * np.equal(x, y),
              lambda g, out, x, y: g * (y > x) + g / 2 * np.equal(x, y))
MINIMUM  = op("minimum",  np.minimum,
              lambda g, out, x, y: g * (x < y) + g / 2 * np.equal(x, y),
              lambda g, out, x, y: g * (y < x) + g / 2 * np.equal(x, y))
LOGADDEXP = op("logaddexp", np.logaddexp, lambda g, out, x, y: g * odds(x - y), lambda g, out, x, y: g * odds(y - x))
LOGADDEXP2 = op("logaddexp2", np.logaddexp2,
              lambda g, out, x, y: g * odds((x - y) * log(2)), lambda g, out, x, y: g * odds((y - x) * log(2)))
WHERE    = op("where",    np.where,      None, lambda g, out, c, x, y: np.where(c, g, 0),
                                               lambda g, out, c, x, y: np.where(c, 0, g))
CLIP     = op("clip",     lambda x, low, high: np.minimum(np.maximum(x, low), high),
                                         lambda g, out, x, low, high: g * (x >= low) * (x <= high),
                                         lambda g, out, x, low, high: g * (x < low) * (low <= high),
                                         lambda g, out, x, low, high: g * (np.maximum(x, low) > high))
# fmt: on
