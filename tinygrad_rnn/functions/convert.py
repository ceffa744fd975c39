"""What the functions take: Tensors, arrays, numbers, and lists of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..scope import current_scope
from ..tensor import Tensor, apply


def tensor(x: Any) -> Tensor:
    """x as a Tensor. A number becomes an array without axes, unlike in `lift`; a list may hold Tensors."""
    if isinstance(x, Tensor):
        return x
    return array(x) if holds_tensors(x) else Tensor(x)


def array(object: Any, dtype: Any = None) -> Tensor:
    """An array of what a list, or a list of lists, holds: Tensors and numbers, joined in one graph.

    (`np.array([tensor, tensor])` asks nobody before it converts each element, so it raises; np.stack and this do not.)
    """
    if holds_tensors(object):
        result = apply(ops.STACK, *[array(x) for x in object], axis=0)
    else:
        result = object if isinstance(object, Tensor) and not object.is_number else Tensor(plain(object), dtype=dtype)
    return result if dtype is None or result.dtype == np.dtype(dtype) else result.astype(dtype)


def holds_tensors(x: Any) -> bool:
    """Is there a Tensor in this list, or in a list in it?"""
    return isinstance(x, list | tuple) and any(isinstance(item, Tensor) or holds_tensors(item) for item in x)


def plain(x: Any) -> Any:
    """x with every Tensor in it replaced by its array."""
    if isinstance(x, Tensor):
        return x._data
    return type(x)(map(plain, x)) if isinstance(x, list | tuple) else x


def constant(function: Any, *inputs: Any, **kwargs: Any) -> Tensor:
    """What a function of NumPy makes of the numbers, as a Tensor without history: for a derivative that is zero."""
    result = Tensor(function(*plain(inputs), **{key: plain(value) for key, value in kwargs.items()}))
    watch = current_scope.get().watch
    if watch is not None:
        watch.constant(result, function, inputs, kwargs)
    return result
