"""NumPy's protocols: np.tanh(tensor), np.stack([tensors]), array @ tensor join the graph, so that code written for arrays
differentiates as it is. What cannot join raises, naming what can; it never drops a gradient in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, KeysView
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import functions
from .functions import linalg
from .functions.convert import constant, plain
from .scope import current_scope
from .tensor import Tensor, numpy_handlers


def numpys(names: str, module: Any = np) -> list[Any]:
    """NumPy's functions of these names, where this version of NumPy has them."""
    return [getattr(module, name) for name in names.split() if hasattr(module, name)]


def stand_ins(names: Iterable[str], module: Any, ours: Any) -> dict[Any, Callable[..., Any]]:
    """Functions of ours for those of NumPy that have the same names."""
    return {getattr(module, name): getattr(ours, name) for name in names if hasattr(module, name)}


# A function of ours stands in for NumPy's of the same name (np.true_divide is np.divide).
JOINS: dict[Any, Callable[..., Any]] = (
    stand_ins(linalg.__all__, np.linalg, linalg)
    | stand_ins(["cross", "matmul", "matrix_transpose", "outer", "tensordot", "vecdot"], np.linalg, functions)
    | stand_ins(functions.__all__, np, functions)
    | {np.amax: functions.max, np.amin: functions.min, np.fabs: functions.abs}
    | dict.fromkeys(numpys("conjugate real real_if_close"), functions.positive)
)

# Piecewise constant: their derivative is zero wherever it exists, so the result is a Tensor without history.
CONSTANT = {
    *numpys("angle argmax argmin argpartition argsort around bitwise_and bitwise_or bitwise_xor ceil digitize empty_like"),
    *numpys("equal fix floor floor_divide greater greater_equal imag invert isfinite isin isinf isnan isneginf isposinf less"),
    *numpys("less_equal lexsort logical_and logical_not logical_or logical_xor nanargmax nanargmin not_equal ones_like"),
    *numpys("rint round searchsorted sign signbit trunc zeros_like"),
}

# About the array rather than made of it: the answer is what NumPy's is. Some need not look at its values.
ABOUT_SHAPES = {*numpys("can_cast common_type iscomplexobj isrealobj min_scalar_type ndim result_type shape size")}
PLAIN = {
    *ABOUT_SHAPES,
    *numpys("all allclose any argwhere array2string array_equal array_equiv array_repr array_str count_nonzero flatnonzero"),
    *numpys("iscomplex isclose isreal may_share_memory nonzero shares_memory"),
    *numpys("matrix_rank", np.linalg),
}

# What to use instead of functions whose names do not tell.
NEAREST = {
    "apply_along_axis": "stack", "apply_over_axes": "sum", "bincount": "einsum", "block": "concatenate", "choose": "select",
    "compress": "take", "convolve": "einsum", "copyto": "where", "corrcoef": "einsum", "correlate": "einsum",
    "cov": "einsum", "cumulative_prod": "cumprod", "cumulative_sum": "cumsum", "ediff1d": "diff", "extract": "where",
    "fill_diagonal": "where", "heaviside": "where", "histogram": "where", "insert": "concatenate", "interp": "where",
    "linalg.cond": "linalg.norm", "linalg.eig": "linalg.eigh", "linalg.eigvals": "linalg.eigvalsh",
    "linalg.lstsq": "linalg.pinv", "linalg.matrix_norm": "linalg.norm", "linalg.qr": "linalg.cholesky",
    "linalg.tensorinv": "linalg.inv", "linalg.tensorsolve": "linalg.solve", "linalg.vector_norm": "linalg.norm",
    "nanpercentile": "nanmedian", "nanquantile": "nanmedian", "percentile": "median", "piecewise": "select",
    "place": "where", "polyval": "power", "put": "where", "put_along_axis": "where", "putmask": "where",
    "quantile": "median", "resize": "tile", "unique": "sort", "unstack": "split", "vander": "power",
}  # fmt: skip

# Methods of ufuncs, and what does the same.
INSTEAD = {
    "add.reduce": "np.sum", "multiply.reduce": "np.prod", "maximum.reduce": "np.max", "minimum.reduce": "np.min",
    "multiply.outer": "np.outer", "add.accumulate": "np.cumsum", "multiply.accumulate": "np.cumprod",
}  # fmt: skip


# -- arguments ---------------------------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    """What NumPy's function and ours take."""

    names: tuple[str, ...]  # NumPy's, in order
    defaults: dict[str, Any]  # NumPy's
    ours: KeysView[str]
    shared: int  # how many arguments mean the same at the same place


@lru_cache
def signature(function: Any) -> Signature:
    """Compare the signatures; the first argument is the same, whatever it is called."""
    known = inspect.signature(JOINS[function]).parameters
    ours = tuple(known)
    try:
        theirs = {} if isinstance(function, np.ufunc) else inspect.signature(function).parameters
    except ValueError:  # written in C, in some versions of NumPy
        theirs = {}
    names = tuple(theirs)
    if not names or any(p.kind is p.VAR_POSITIONAL for p in known.values()):
        shared = len(ours) + 99
    else:
        same = [
            i == 0 or p.kind is p.POSITIONAL_ONLY or names[i : i + 1] == ours[i : i + 1] for i, p in enumerate(theirs.values())
        ]
        shared = [*same, False].index(False)
    return Signature(names, {name: p.default for name, p in theirs.items()}, dict.fromkeys(ours).keys(), shared)


def translated(function: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """NumPy's arguments as ours: those at another place here go by name, and those that are NumPy's defaults are left out."""
    names, defaults, ours, shared = signature(function)
    kwargs = dict(zip(names[shared:], args[shared:], strict=False)) | kwargs
    args = args[:shared]
    if not args and names and names[0] in kwargs:
        args = (kwargs.pop(names[0]),)
    kwargs = {name: value for name, value in kwargs.items() if name not in defaults or value is not defaults[name]}
    unknown = [name for name in kwargs if name not in ours]
    if unknown:
        raise TypeError(f"{called(function)}: {', '.join(unknown)}= is not supported on Tensors, which take {', '.join(ours)}")
    return args, kwargs


def called(function: Any) -> str:
    """What people call a function: np.tanh, np.linalg.norm. A ufunc does not know its module: it may be SciPy's."""
    name = function.__name__
    module = getattr(function, "__module__", "numpy" if getattr(np, name, None) is function else "")
    return f"{module}.{name}".removeprefix(".").replace("numpy.", "np.", 1)


def nearest(function: Any) -> str:
    """The function in the table that comes nearest: the one told, or else the longest that is part of the name. Or nothing."""
    name = called(function).removeprefix("np.")
    here = [f"linalg.{other}" for other in linalg.__all__] + [other for other in functions.__all__ if hasattr(np, other)]
    return NEAREST.get(name) or max((other for other in here if other in name), key=len, default="")


# -- the two protocols -------------------------------------------------------------------------------------------------------


def call(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run a NumPy function that was given a Tensor."""
    if function in JOINS:
        known = signature(function)
        if len(args) <= known.shared and kwargs.keys() <= known.ours:
            return JOINS[function](*args, **kwargs)
    if kwargs.get("out") is not None:
        name = called(function)
        raise TypeError(f"{name}: out= would write where the graph cannot follow. Leave it out: x = {name}(...)")
    kwargs = {key: value for key, value in kwargs.items() if key != "out"}
    if function in JOINS:
        args, kwargs = translated(function, args, kwargs)
        return JOINS[function](*args, **kwargs)
    if function in CONSTANT:
        return constant(function, *args, **kwargs)
    if function in PLAIN:
        watch = current_scope.get().watch
        if watch is not None and function not in ABOUT_SHAPES:
            watch.looked(function)
        return function(*plain(args), **{key: plain(value) for key, value in kwargs.items()})
    near = nearest(function)
    raise TypeError(
        f"{called(function)} is not differentiable here{near and f'; np.{near} is'}. "
        "Functions that join the graph are listed in tg.functions; for the numbers alone, call it on tensor.numpy()"
    )


def call_ufunc(ufunc: np.ufunc, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """Run a ufunc, or one of its methods, that was given a Tensor."""
    if method == "__call__" and not kwargs and ufunc in JOINS:
        return JOINS[ufunc](*inputs)
    if method != "__call__":
        instead = INSTEAD.get(f"{ufunc.__name__}.{method}", "a function listed in tg.functions")
        raise TypeError(f"np.{ufunc.__name__}.{method} is not differentiable here: use {instead}")
    if isinstance(kwargs.get("out"), tuple) and not isinstance(inputs[0], Tensor) and kwargs["out"][0] is inputs[0]:
        raise TypeError(
            f"an in-place {ufunc.__name__} of a Tensor into an array would lose the gradient: write a = a + b, not a += b"
        )
    return call(ufunc, inputs, kwargs)


numpy_handlers["ufunc"] = call_ufunc
numpy_handlers["function"] = call
