"""The functions that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any, overload

import numpy as np

from .. import ops
from ..ops import Array, Op
from ..tensor import Tensor, apply, lift
from .convert import constant, tensor


def unary(row: Op, doc: str, name: str = "") -> Callable[[Any], Tensor]:
    """The function of one argument that is a row of the table; it has the row's name, or another."""

    def function(x: Any) -> Tensor:
        return apply(row, x)

    function.__name__ = function.__qualname__ = name or row.name
    function.__doc__ = doc
    return function


def binary(row: Op, doc: str, name: str = "") -> Callable[[Any, Any], Tensor]:
    """The function of two arguments that is a row of the table; it has the row's name, or another."""

    def function(x: Any, y: Any) -> Tensor:
        return apply(row, x, y)

    function.__name__ = function.__qualname__ = name or row.name
    function.__doc__ = doc
    return function


# fmt: off
abs        = unary(ops.ABS,        "The absolute value; its gradient at 0 is 0.")
arccos     = unary(ops.ARCCOS,     "The angle in [0, pi] with this cosine.")
arccosh    = unary(ops.ARCCOSH,    "The inverse of cosh, for x >= 1.")
arcsin     = unary(ops.ARCSIN,     "The angle in [-pi/2, pi/2] with this sine.")
arcsinh    = unary(ops.ARCSINH,    "The inverse of sinh.")
arctan     = unary(ops.ARCTAN,     "The angle in [-pi/2, pi/2] with this tangent.")
arctanh    = unary(ops.ARCTANH,    "The inverse of tanh.")
cbrt       = unary(ops.CBRT,       "The cube root, of negative numbers too.")
cos        = unary(ops.COS,        "The cosine of x, in radians.")
cosh       = unary(ops.COSH,       "The hyperbolic cosine.")
exp        = unary(ops.EXP,        "e to the power of x.")
exp2       = unary(ops.EXP2,       "2 to the power of x.")
expm1      = unary(ops.EXPM1,      "exp(x) - 1, exact for small x.")
log        = unary(ops.LOG,        "The natural logarithm.")
log10      = unary(ops.LOG10,      "The logarithm to base 10.")
log1p      = unary(ops.LOG1P,      "log(1 + x), exact for small x.")
log2       = unary(ops.LOG2,       "The logarithm to base 2.")
negative   = unary(ops.NEG,        "-x.", "negative")
reciprocal = unary(ops.RECIPROCAL, "1 / x.")
relu       = unary(ops.RELU,       "max(x, 0); its gradient at 0 is 0.")
sin        = unary(ops.SIN,        "The sine of x, in radians.")
sinc       = unary(ops.SINC,       "sin(pi x) / (pi x), and 1 at 0.")
sinh       = unary(ops.SINH,       "The hyperbolic sine.")
sqrt       = unary(ops.SQRT,       "The square root.")
tan        = unary(ops.TAN,        "The tangent of x, in radians.")
tanh       = unary(ops.TANH,       "The hyperbolic tangent.")

add        = binary(ops.ADD,       "x + y.")
arctan2    = binary(ops.ARCTAN2,   "The angle whose sine and cosine are as x to y, with the signs of both.")
divide     = binary(ops.DIV,       "x / y.", "divide")
fmod       = binary(ops.FMOD,      "What remains of x / y, with the sign of x.")
hypot      = binary(ops.HYPOT,     "sqrt(x**2 + y**2), without overflow.")
logaddexp  = binary(ops.LOGADDEXP, "log(exp(x) + exp(y)), without overflow.")
logaddexp2 = binary(ops.LOGADDEXP2, "log2(2**x + 2**y), without overflow.")
maximum    = binary(ops.MAXIMUM,   "The larger of the two, elementwise; where they are equal each has half of the gradient.")
minimum    = binary(ops.MINIMUM,   "The smaller of the two, elementwise; where they are equal each has half of the gradient.")
mod        = binary(ops.MOD,       "What remains of x / y, with the sign of y: x - y * floor(x / y).")
multiply   = binary(ops.MUL,       "x * y, elementwise.", "multiply")
power      = binary(ops.POWER,     "x ** y.")
subtract   = binary(ops.SUB,       "x - y.", "subtract")
# fmt: on


def positive(x: Any) -> Tensor:
    """x itself."""
    return tensor(x)


def copy(x: Any) -> Tensor:
    """A copy of x, which later changes of x do not reach."""
    return tensor(x).copy()


def square(x: Any) -> Tensor:
    """x * x."""
    return apply(ops.MUL, x, x)


def float_power(x: Any, y: Any) -> Tensor:
    """x ** y in float64, also for integers."""
    return apply(ops.POWER, tensor(x).astype(np.float64), tensor(y).astype(np.float64))


def degrees(x: Any) -> Tensor:
    """Radians in degrees."""
    return apply(ops.MUL, x, 180 / pi)


def radians(x: Any) -> Tensor:
    """Degrees in radians."""
    return apply(ops.MUL, x, pi / 180)


rad2deg, deg2rad = degrees, radians


def copysign(x: Any, y: Any) -> Tensor:
    """x with the sign of y; no gradient leads to y."""
    t, dtype = tensor(x), constant(np.copysign, x, y).dtype
    size = abs(t if t.dtype == dtype else t.astype(dtype))
    return where(constant(np.signbit, y), -size, size)


def sigmoid(x: Any) -> Tensor:
    """The logistic function 1 / (1 + exp(-x)), without overflow at any x."""
    return apply(ops.SIGMOID, tensor(x))


def fmax(x: Any, y: Any) -> Tensor:
    """The larger of the two, or the one that is not NaN; where they are equal each has half of the gradient."""
    return apply(ops.MAXIMUM, where(constant(np.isnan, x), y, x), where(constant(np.isnan, y), x, y))


def fmin(x: Any, y: Any) -> Tensor:
    """The smaller of the two, or the one that is not NaN; where they are equal each has half of the gradient."""
    return apply(ops.MINIMUM, where(constant(np.isnan, x), y, x), where(constant(np.isnan, y), x, y))


def modf(x: Any) -> tuple[Tensor, Tensor]:
    """What follows the point, and what precedes it, each with the sign of x."""
    whole = constant(np.trunc, x)
    return subtract(x, whole), whole


def divmod(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """floor(x / y), a constant, and mod(x, y)."""
    return constant(np.floor_divide, x, y), mod(x, y)


@overload
def where(condition: Any) -> tuple[Array, ...]: ...
@overload
def where(condition: Any, x: Any, y: Any) -> Tensor: ...
def where(condition: Any, x: Any = None, y: Any = None) -> Tensor | tuple[Array, ...]:
    """x where the condition holds, else y. The condition alone gives the indices of where it holds, as in NumPy."""
    if x is None and y is None:
        return np.nonzero(condition)
    if x is None or y is None:
        raise ValueError("where: expected both x and y, or neither: where(condition, x, y)")
    return apply(ops.WHERE, condition, x, y)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    """Each element limited to [a_min, a_max], or [min, max]; the gradient passes where nothing is cut off, bounds included."""
    return lift(x).clip(a_min if min is None else min, a_max if max is None else max)


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN and the infinities replaced by numbers, by default 0 and the largest of the dtype; no gradient leads to them."""
    x = tensor(x)
    given = {"nan": nan, "posinf": posinf, "neginf": neginf}
    instead = {name: np.asarray(value) if isinstance(value, Tensor) else value for name, value in given.items()}
    return where(constant(np.isfinite, x), x, constant(np.nan_to_num, x, **instead))
