"""NumPy's protocols: np.tanh(tensor), np.stack([tensors]), array @ tensor join the graph, so that code written for arrays
differentiates as it is. What cannot join raises, naming what can; it never drops a gradient in silence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import functions
from .tensor import Tensor, numpy_handlers

# A function of ours stands in for NumPy's of the same name (np.true_divide is np.divide).
JOINS: dict[Any, Callable[..., Any]] = {
    getattr(np, name): getattr(functions, name) for name in functions.__all__ if hasattr(np, name)
} | {np.amax: functions.max, np.amin: functions.min}

PARAMETERS = {function: inspect.signature(ours).parameters for function, ours in JOINS.items()}

# These take fewer arguments than NumPy's, so that the same place may mean something else: np.sum(x, axis, dtype, ...).
BY_KEYWORD = {np.max, np.amax, np.mean, np.min, np.amin, np.prod, np.std, np.sum, np.var}

# Piecewise constant: their derivative is zero wherever it exists, so the result is a Tensor without history.
CONSTANT = {
    np.argmax, np.argmin, np.argsort, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.ceil, np.equal, np.floor,
    np.floor_divide, np.greater, np.greater_equal, np.invert, np.isfinite, np.isinf, np.isnan, np.less, np.less_equal,
    np.logical_and, np.logical_not, np.logical_or, np.not_equal, np.ones_like, np.rint, np.round, np.sign, np.trunc,
    np.zeros_like,
}  # fmt: skip

# About the array rather than made of it: the answer is what NumPy's is.
PLAIN = {
    np.all, np.allclose, np.any, np.array2string, np.array_equal, np.array_repr, np.array_str, np.count_nonzero,
    np.flatnonzero, np.iscomplexobj, np.isclose, np.may_share_memory, np.ndim, np.nonzero, np.result_type, np.shape,
    np.shares_memory, np.size,
}  # fmt: skip

# Methods of ufuncs, and what does the same.
INSTEAD = {
    "add.reduce": "np.sum", "multiply.reduce": "np.prod", "maximum.reduce": "np.max", "minimum.reduce": "np.min",
    "multiply.outer": "np.outer",
}  # fmt: skip


def plain(x: Any) -> Any:
    """An argument with every Tensor in it replaced by its array."""
    if isinstance(x, Tensor):
        return x._data
    if isinstance(x, list | tuple):
        return type(x)(map(plain, x))
    return x


def call(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run a NumPy function that was given a Tensor."""
    name = function.__name__
    if kwargs.get("out") is not None:
        raise TypeError(f"np.{name}: out= would write where the graph cannot follow. Leave it out: x = np.{name}(...)")
    kwargs = {key: value for key, value in kwargs.items() if key != "out"}
    if function in JOINS:
        unknown = [key for key in kwargs if key not in PARAMETERS[function]]
        if unknown:
            known = ", ".join(PARAMETERS[function])
            raise TypeError(f"np.{name}: {', '.join(unknown)}= is not supported on Tensors, which take {known}")
        if len(args) > 2 and function in BY_KEYWORD:
            raise TypeError(f"np.{name}: what follows the axis must be given by keyword, np.{name}(x, axis, keepdims=True)")
        return JOINS[function](*args, **kwargs)
    if function in CONSTANT or function in PLAIN:
        result = function(*plain(args), **{key: plain(value) for key, value in kwargs.items()})
        return result if function in PLAIN else Tensor(result)
    near = max((other for other in functions.__all__ if other in name and hasattr(np, other)), key=len, default="")
    raise TypeError(
        f"np.{name} is not differentiable here{near and f'; np.{near} is'}. "
        "Functions that join the graph are listed in tg.functions; for the numbers alone, call it on tensor.numpy()"
    )


def call_ufunc(ufunc: np.ufunc, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """Run a ufunc, or one of its methods, that was given a Tensor."""
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
