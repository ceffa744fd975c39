"""The names people call. They are NumPy's, with NumPy's meaning; sigmoid, relu and logsumexp are ours.

Each takes Tensors, arrays or numbers and returns a Tensor. `np.tanh(tensor)` and `tensor.sum()` end in the same ops.
In the order convert.py, elementwise.py, shapes.py, indexing.py, reductions.py, products.py, linalg.py each file uses those
before it alone.
"""

from .convert import array  # noqa: I001
from .elementwise import (
    abs, add, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, cbrt, clip, copy, copysign, cos, cosh, deg2rad,
    degrees, divide, divmod, exp, exp2, expm1, float_power, fmax, fmin, fmod, hypot, log, log1p, log2, log10, logaddexp,
    logaddexp2, maximum, minimum, mod, modf, multiply, nan_to_num, negative, positive, power, rad2deg, radians, reciprocal,
    relu, sigmoid, sin, sinc, sinh, sqrt, square, subtract, tan, tanh, where,
)  # fmt: skip
from .indexing import (
    delete, diag, diagflat, diagonal, flip, fliplr, flipud, pad, partition, repeat, rot90, select, sort, take, take_along_axis,
    tril, triu,
)  # fmt: skip
from .products import cross, dot, einsum, inner, kron, matmul, outer, tensordot, vdot, vecdot
from .reductions import (
    average, cumprod, cumsum, diff, gradient, linspace, logsumexp, max, mean, median, min, nancumprod, nancumsum, nanmax,
    nanmean, nanmedian, nanmin, nanprod, nanstd, nansum, nanvar, prod, ptp, std, sum, trace, trapezoid, var,
)  # fmt: skip
from .shapes import (
    append, array_split, atleast_1d, atleast_2d, atleast_3d, broadcast_arrays, broadcast_to, column_stack, concatenate, dsplit,
    dstack, expand_dims, full_like, hsplit, hstack, matrix_transpose, meshgrid, moveaxis, ravel, reshape, roll, rollaxis,
    split, squeeze, stack, swapaxes, tile, transpose, vsplit, vstack,
)  # fmt: skip

__all__ = [
    "abs", "add", "append", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "array", "array_split",
    "atleast_1d", "atleast_2d", "atleast_3d", "average", "broadcast_arrays", "broadcast_to", "cbrt", "clip", "column_stack",
    "concatenate", "copy", "copysign", "cos", "cosh", "cross", "cumprod", "cumsum", "deg2rad", "degrees", "delete", "diag",
    "diagflat", "diagonal", "diff", "divide", "divmod", "dot", "dsplit", "dstack", "einsum", "exp", "exp2", "expand_dims",
    "expm1", "flip", "fliplr", "flipud", "float_power", "fmax", "fmin", "fmod", "full_like", "gradient", "hsplit", "hstack",
    "hypot", "inner", "kron", "linspace", "log", "log1p", "log2", "log10", "logaddexp", "logaddexp2", "logsumexp", "matmul",
    "matrix_transpose", "max", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mod", "modf", "moveaxis",
    "multiply", "nan_to_num", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin", "nanprod", "nanstd",
    "nansum", "nanvar", "negative", "outer", "pad", "partition", "positive", "power", "prod", "ptp", "rad2deg", "radians",
    "ravel", "reciprocal", "relu", "repeat", "reshape", "roll", "rollaxis", "rot90", "select", "sigmoid", "sin", "sinc",
    "sinh", "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "subtract", "sum", "swapaxes", "take",
    "take_along_axis", "tan", "tanh", "tensordot", "tile", "trace", "transpose", "trapezoid", "tril", "triu", "var", "vdot",
    "vecdot", "vsplit", "vstack", "where",
]  # fmt: skip
