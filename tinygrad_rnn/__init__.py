"""tinygrad_rnn: write the forward equations of a recurrent cell; get everything else.

Read the source in this order: ops/ (every op and its derivative), scope.py (where an op runs), tensor.py (the graph),
backward.py (the way back through it), operators.py, methods.py and functions/ (what people call), numpy_api.py (how NumPy's
own functions join), transforms.py, nn/module.py, nn/cells.py, nn/zoo.py, nn/recurrent.py (the one loop over time),
optim/sgd.py, gradcheck.py and check_cell.py (how we know that it is right), steps.py (which time step a node belongs to),
flow/ (what flows back through time), viz/ (how it looks), compiler/ (from one step to a program that runs over time).
"""

from importlib import import_module as _import_module  # noqa: I001
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import checkpoint, data, flow, functions, nn, numpy_api, optim
from .anomaly import AnomalyError, detect_anomaly
from .check_cell import CellError, check_cell
from .checkpoint import load, save
from .compiler import CompileError, compile
from .functions import (
    abs, add, append, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, array, array_split, atleast_1d, atleast_2d,
    atleast_3d, average, broadcast_arrays, broadcast_to, cbrt, clip, column_stack, concatenate, copy, copysign, cos, cosh,
    cross, cumprod, cumsum, deg2rad, degrees, delete, diag, diagflat, diagonal, diff, divide, divmod, dot, dsplit, dstack,
    einsum, exp, exp2, expand_dims, expm1, flip, fliplr, flipud, float_power, fmax, fmin, fmod, full_like, gradient, hsplit,
    hstack, hypot, inner, kron, linalg, linspace, log, log1p, log2, log10, logaddexp, logaddexp2, logsumexp, matmul,
    matrix_transpose, max, maximum, mean, median, meshgrid, min, minimum, mod, modf, moveaxis, multiply, nan_to_num,
    nancumprod, nancumsum, nanmax, nanmean, nanmedian, nanmin, nanprod, nanstd, nansum, nanvar, negative, outer, pad,
    partition, positive, power, prod, ptp, rad2deg, radians, ravel, reciprocal, relu, repeat, reshape, roll, rollaxis, rot90,
    select, sigmoid, sin, sinc, sinh, sort, split, sqrt, square, squeeze, stack, std, subtract, sum, swapaxes, take,
    take_along_axis, tan, tanh, tensordot, tile, trace, transpose, trapezoid, tril, triu, var, vdot, vecdot, vsplit, vstack,
    where,
)  # fmt: skip
from .gradcheck import gradcheck
from .nn.init import manual_seed
from .scope import no_grad
from .tensor import Tensor
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

if _TYPE_CHECKING:
    from . import viz


def __getattr__(name: str) -> object:
    """`tg.viz` is imported when it is first used: what only trains need not wait for it."""
    if name == "viz":
        return _import_module(".viz", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AnomalyError", "CellError", "CompileError", "Tensor", "abs", "add", "append", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "array", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "average",
    "broadcast_arrays", "broadcast_to", "cbrt", "check_cell", "checkpoint", "clip", "column_stack", "compile", "concatenate",
    "copy", "copysign", "cos", "cosh", "cross", "cumprod", "cumsum", "data", "deg2rad", "degrees", "delete", "detect_anomaly",
    "diag", "diagflat", "diagonal", "diff", "divide", "divmod", "dot", "dsplit", "dstack", "einsum", "exp", "exp2",
    "expand_dims", "expm1", "flip", "fliplr", "flipud", "float_power", "flow", "fmax", "fmin", "fmod", "full_like",
    "functions", "grad", "gradcheck", "gradient", "hessian", "hsplit", "hstack", "hvp", "hypot", "inner", "jacobian", "jvp",
    "kron", "linalg", "linspace", "load", "log", "log1p", "log2", "log10", "logaddexp", "logaddexp2", "logsumexp",
    "manual_seed", "matmul", "matrix_transpose", "max", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mod",
    "modf", "moveaxis", "multiply", "nan_to_num", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin",
    "nanprod", "nanstd", "nansum", "nanvar", "negative", "nn", "no_grad", "numpy_api", "optim", "outer", "pad", "partition",
    "positive", "power", "prod", "ptp", "rad2deg", "radians", "ravel", "reciprocal", "relu", "repeat", "reshape", "roll",
    "rollaxis", "rot90", "save", "select", "sigmoid", "sin", "sinc", "sinh", "sort", "split", "sqrt", "square", "squeeze",
    "stack", "std", "subtract", "sum", "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensordot", "tile", "trace",
    "transpose", "trapezoid", "tril", "triu", "value_and_grad", "var", "vdot", "vecdot", "viz", "vjp", "vsplit", "vstack",
    "where",
]  # fmt: skip
