"""The table: every op with its NumPy forward and its derivatives, one for each of its inputs.

table.py says what a row is. The rows are grouped by family: elementwise.py, products.py, reductions.py, shapes.py.
"""

from .elementwise import (
    ABS,
    ADD,
    ASTYPE,
    CLIP,
    COS,
    DIV,
    EXP,
    LOG,
    LOG1P,
    LOGADDEXP,
    MAXIMUM,
    MINIMUM,
    MUL,
    NEG,
    POWER,
    RELU,
    SIGMOID,
    SIN,
    SQRT,
    SUB,
    TANH,
    WHERE,
)  # fmt: skip
from .products import EINSUM, MATMUL
from .reductions import MAX, MEAN, MIN, PROD, SUM
from .shapes import BROADCAST_TO, CONCATENATE, GETITEM, RESHAPE, SCATTER, SPLIT, STACK, TRANSPOSE, basic
from .table import TABLE, Array, Op, Together, count, fit, rows

__all__ = [
    "ABS", "ADD", "ASTYPE", "BROADCAST_TO", "CLIP", "CONCATENATE", "COS", "DIV", "EINSUM", "EXP", "GETITEM", "LOG", "LOG1P",
    "LOGADDEXP", "MATMUL", "MAX", "MAXIMUM", "MEAN", "MIN", "MINIMUM", "MUL", "NEG", "POWER", "PROD", "RELU", "RESHAPE",
    "SCATTER", "SIGMOID", "SIN", "SPLIT", "SQRT", "STACK", "SUB", "SUM", "TABLE", "TANH", "TRANSPOSE", "WHERE", "Array", "Op",
    "Together", "basic", "count", "fit", "rows",
]  # fmt: skip
