"""The table: every op with its NumPy forward and its derivatives, one for each of its inputs.

table.py says what a row is. The rows are grouped by family: elementwise.py, products.py, reductions.py, shapes.py, linalg.py.
"""

from .elementwise import (  # noqa: I001
    ABS, ADD, ARCCOS, ARCCOSH, ARCSIN, ARCSINH, ARCTAN, ARCTAN2, ARCTANH, ASTYPE, CBRT, CLIP, COS, COSH, DIV, EXP, EXP2, EXPM1,
    FMOD, HYPOT, LOG, LOG1P, LOG2, LOG10, LOGADDEXP, LOGADDEXP2, MAXIMUM, MINIMUM, MOD, MUL, NEG, POWER, RECIPROCAL, RELU,
    ROOT, SIGMOID, SIN, SINC, SINH, SQRT, SUB, TAN, TANH, WHERE,
)  # fmt: skip
from .linalg import CHOLESKY, DET, EIGH, EIGVALSH, INV, LOGABSDET, PINV, SOLVE, SVD, SVDVALS
from .products import EINSUM, MATMUL
from .reductions import CENTRE, CUMPROD, CUMSUM, MAX, MEAN, MIN, PROD, RMS_NORM, SUM
from .shapes import BROADCAST_TO, CONCATENATE, GETITEM, RESHAPE, SCATTER, SPLIT, STACK, TRANSPOSE, basic
from .table import TABLE, Array, Op, Together, along, axes_of, count, fit, keep, normal

__all__ = [
    "ABS", "ADD", "ARCCOS", "ARCCOSH", "ARCSIN", "ARCSINH", "ARCTAN", "ARCTAN2", "ARCTANH", "ASTYPE", "BROADCAST_TO", "CBRT",
    "CENTRE", "CHOLESKY", "CLIP", "CONCATENATE", "COS", "COSH", "CUMPROD", "CUMSUM", "DET", "DIV", "EIGH", "EIGVALSH",
    "EINSUM", "EXP", "EXP2", "EXPM1", "FMOD", "GETITEM", "HYPOT", "INV", "LOG", "LOG1P", "LOG2", "LOG10", "LOGABSDET",
    "LOGADDEXP", "LOGADDEXP2", "MATMUL", "MAX", "MAXIMUM", "MEAN", "MIN", "MINIMUM", "MOD", "MUL", "NEG", "PINV", "POWER",
    "PROD", "RECIPROCAL", "RELU", "RESHAPE", "RMS_NORM", "ROOT", "SCATTER", "SIGMOID", "SIN", "SINC", "SINH", "SOLVE",
    "SPLIT", "SQRT", "STACK", "SUB", "SUM", "SVD", "SVDVALS", "TABLE", "TAN", "TANH", "TRANSPOSE", "WHERE", "Array", "Op",
    "Together", "along", "axes_of", "basic", "count", "fit", "keep", "normal",
]  # fmt: skip
