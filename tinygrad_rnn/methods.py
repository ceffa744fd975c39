"""NumPy's methods of arrays, for Tensors: each is an op of the table, or NumPy's function of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from . import ops
from .ops import Array, normal

if TYPE_CHECKING:
    from .tensor import Tensor

Axis = int | tuple[int, ...] | None


class Methods:
    """The methods; operators.py adds Python's operators, tensor.py the graph."""

    __slots__ = ()

    if TYPE_CHECKING:
        _data: Array
        apply: Callable[..., Tensor]

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def ndim(self) -> int: ...
        @property
        def dtype(self) -> np.dtype[Any]: ...
        def describe(self) -> str: ...
        def detach(self) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over `axis`: None for all of them, an int, or a tuple of ints."""
        return self.apply(ops.SUM, self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over `axis`."""
        return self.apply(ops.MEAN, self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest element over `axis`; ties share the gradient evenly."""
        return self.apply(ops.MAX, self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest element over `axis`; ties share the gradient evenly."""
        return self.apply(ops.MIN, self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The product over `axis`."""
        return self.apply(ops.PROD, self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """The variance over `axis`: mean((x - mean(x))**2), or with ddof the sum divided by n - ddof."""
        centred = self - self.mean(axis, keepdims=True)
        n = ops.count(self, axis)
        return (centred * centred).sum(axis, keepdims) / (n - ddof)

    def std(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """The square root of the variance; where that is 0, so is the gradient."""
        return self.apply(ops.ROOT, self.var(axis, ddof, keepdims))

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """Each element limited to [min, max]; the gradient passes where nothing was cut off."""
        if min is None and max is None:
            raise ValueError("clip: expected min, max, or both")
        low = limit(self.dtype, "min") if min is None else min
        high = limit(self.dtype, "max") if max is None else max
        return self.apply(ops.CLIP, self, low, high)

    def dot(self, other: Any) -> Tensor:
        """NumPy's dot: a matrix product; for higher ranks the sum over self's last axis and other's last but one."""
        if self.ndim == 0 or np.ndim(other) == 0:
            return self.apply(ops.MUL, self, other)
        if not isinstance(other, Methods):
            other = self.apply(ops.ASTYPE, other, dtype=np.asarray(other).dtype)
        if self.ndim <= 2 and other.ndim <= 2:
            return self.apply(ops.MATMUL, self, other)
        letters = "abcdefghijklmnopqrstuvwxyz"
        a, rest = letters[: self.ndim], letters[self.ndim : self.ndim + other.ndim]
        b = a[-1] if other.ndim == 1 else rest[: other.ndim - 2] + a[-1] + rest[-1]
        result = a[:-1] + b.replace(a[-1], "")
        return self.apply(ops.EINSUM, self, other, spec=f"{a},{b}->{result}")

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape: reshape(2, 3) or reshape((2, 3)); -1 for what remains."""
        return self.apply(ops.RESHAPE, self, shape=unpacked(shape))

    def ravel(self) -> Tensor:
        """The elements in one axis."""
        return self.reshape(-1)

    def flatten(self) -> Tensor:
        """The elements in one axis."""
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order; without arguments, reversed."""
        order = unpacked(axes)
        order = tuple(range(self.ndim))[::-1] if order in ((), (None,)) else tuple([normal(a, self.ndim) for a in order])
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"transpose: axes {axes} are not a permutation of the {self.ndim} axes of {self.describe()}")
        return self.apply(ops.TRANSPOSE, self, axes=order)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        order = list(range(self.ndim))
        i, j = normal(axis1, self.ndim), normal(axis2, self.ndim)
        order[i], order[j] = j, i
        return self.apply(ops.TRANSPOSE, self, axes=tuple(order))

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Without the axes of length 1, or without those named."""
        return self.reshape(np.squeeze(np.empty(self.shape, bool), axis=axis).shape)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """In another dtype; the gradient comes back in this one. Integers and bools are constants."""
        dtype = np.dtype(dtype)
        if dtype.kind not in "fiub":
            raise TypeError(f"astype: expected a dtype of real numbers or bools for {self.describe()}, got {dtype}")
        return self.apply(ops.ASTYPE, self if dtype.kind == "f" else self.detach(), dtype=dtype)

    def copy(self) -> Tensor:
        """A copy, which later changes of this do not reach; it is part of the graph."""
        return self.astype(self.dtype)

    # -- by NumPy's function of the same name --------------------------------------------------------------------------------

    def cumsum(self, axis: int | None = None) -> Tensor:
        """The sums so far, along an axis; without one, of the elements in one axis."""
        return through(np.cumsum, self, axis=axis)

    def cumprod(self, axis: int | None = None) -> Tensor:
        """The products so far, along an axis; without one, of the elements in one axis."""
        return through(np.cumprod, self, axis=axis)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The sum of the diagonal of the matrices in two axes."""
        return through(np.trace, self, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The diagonal of the matrices in two axes, as the last axis."""
        return through(np.diagonal, self, offset, axis1, axis2)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """Each element `repeats` times in a row along an axis; without one, of the elements in one axis."""
        return through(np.repeat, self, repeats, axis)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        """The elements at these indices along an axis; without one, of the elements in one axis."""
        return through(np.take, self, indices, axis)

    def round(self, decimals: int = 0) -> Tensor:
        """Rounded to so many decimals; a constant."""
        return through(np.round, self, decimals)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """Where the largest element is; a constant."""
        return through(np.argmax, self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """Where the smallest element is; a constant."""
        return through(np.argmin, self, axis=axis, keepdims=keepdims)

    def argsort(self, axis: int | None = -1) -> Tensor:
        """The indices that would sort along an axis; a constant."""
        return through(np.argsort, self, axis=axis)

    def nonzero(self) -> tuple[Array, ...]:
        """The indices of what is not zero."""
        return self._data.nonzero()

    def all(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether no element is zero."""
        return np.all(self._data, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether an element is not zero."""
        return np.any(self._data, axis=axis, keepdims=keepdims)

    def tolist(self) -> Any:
        """The numbers, in lists of lists."""
        return np.asarray(self._data).tolist()


def through(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    """What NumPy's function makes of Tensors (numpy_api.py)."""
    result: Tensor = function(*args, **kwargs)
    return result


def unpacked(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers of f(2, 3), or of f((2, 3))."""
    return tuple(args[0]) if len(args) == 1 and hasattr(args[0], "__len__") else args


def limit(dtype: np.dtype[Any], which: str) -> Any:
    """The smallest or largest number of a dtype: a bound that cuts nothing off."""
    if dtype.kind == "f":
        return float("-inf" if which == "min" else "inf")
    return int(getattr(np.iinfo(dtype), which))
