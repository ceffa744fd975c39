"""NumPy's protocols: np.tanh(tensor), np.stack([tensors]), array @ tensor join the graph, so that code written for arrays
differentiates as it is. What cannot join raises, naming what can; it never drops a gradient in silence.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import functions
from .tensor import Array, Tensor, numpy_handlers

# A function of ours stands in for NumPy's of the same name (np.amax is np.max, np.true_divide is np.divide).
JOINS: dict[Any, Callable[..., Any]] = {
    getattr(np, name): getattr(functions, name) for name in functions.__all__ if hasattr(np, name)
}

# Piecewise constant: their derivative is zero wherever it exists, so the result is a Tensor without history.
CONSTANT = {
    getattr(np, name)
    for name in (
        "argmax argmin argsort ceil equal floor floor_divide full_like greater greater_equal isfinite isinf isnan less "
        "less_equal logical_and logical_not logical_or not_equal ones_like rint round sign trunc zeros_like"
    ).split()
}

# About the array rather than made of it: the answer is what NumPy's is.
PLAIN = {getattr(np, name) for name in "all allclose any array_equal isclose may_share_memory ndim shape shares_memory size".split()}


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
        raise TypeError(
            f"np.{name}: out= would write into memory that the graph still needs. Leave it out: x = np.{name}(...)"
        )
    kwargs = {key: value for key, value in kwargs.items() if key != "out"}
    if function in JOINS:
        known = inspect.signature(JOINS[function]).parameters
        unknown = [key for key in kwargs if key not in known]
        if unknown:
            raise TypeError(f"np.{name}: {', '.join(unknown)}= is not supported on Tensors, which take {', '.join(known)}")
        return JOINS[function](*args, **kwargs)
    result = None
    if function in CONSTANT or function in PLAIN:
        result = function(*plain(args), **{key: plain(value) for key, value in kwargs.items()})
        return result if function in PLAIN else Tensor(result)
    near = difflib.get_close_matches(name, functions.__all__, n=3, cutoff=0.5)
    raise TypeError(
        f"np.{name} is not differentiable here{': use ' + ', '.join('np.' + n if hasattr(np, n) else 'tg.' + n for n in near) if near else ''}. "
        "Functions that join the graph are listed in tg.functions; for the numbers alone, call it on tensor.numpy()"
    )


def call_ufunc(ufunc: np.ufunc, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """Run a ufunc, or one of its methods, that was given a Tensor."""
    if method != "__call__":
        instead = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}.get(ufunc.__name__, "sum")
        raise TypeError(f"np.{ufunc.__name__}.{method} is not differentiable here: use np.{instead}")
    if isinstance(kwargs.get("out"), tuple) and not isinstance(inputs[0], Tensor) and kwargs["out"][0] is inputs[0]:
        raise TypeError(
            f"an in-place {ufunc.__name__} of a Tensor into an array would lose the gradient: write a = a + b, not a += b"
        )
    return call(ufunc, inputs, kwargs)


numpy_handlers["ufunc"] = call_ufunc
numpy_handlers["function"] = call
