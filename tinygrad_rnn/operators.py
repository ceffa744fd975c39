"""What makes a Tensor feel like an array: Python's operators, indexing, and NumPy's methods, each one op of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from . import ops
from .ops import Array, Op

if TYPE_CHECKING:
    from .tensor import Tensor

Axis = int | tuple[int, ...] | None


class Operators:
    """The half of Tensor that needs to know nothing about graphs."""

    __slots__ = ()

    if TYPE_CHECKING:
        _data: Array
        _requires_grad: bool
        op: Op | None
        apply: Callable[..., Tensor]

        def describe(self) -> str: ...
        def detach(self) -> Tensor: ...

    # -- shape and numbers ---------------------------------------------------------------------------------------------------

    @property
    def is_number(self) -> bool:
        """Whether this is a Python number that an expression brought in, kept as it was; all else is an array."""
        return type(self._data) is not np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape if type(self._data) is np.ndarray else ()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim if type(self._data) is np.ndarray else 0

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size if type(self._data) is np.ndarray else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self._data.dtype if type(self._data) is np.ndarray else np.asarray(self._data).dtype

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() takes a Tensor with one element, and this is {self.describe()}")
        return np.asarray(self._data).item()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d Tensor: it has no axes. Write .item() for its number")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth value of {self.describe()} is ambiguous: write (x > 0).data.all() or .any()")
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer can be an index, and this is {self.describe()}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        text = np.array2string(np.asarray(self._data), separator=", ", prefix="Tensor(")
        dtype = "" if self.dtype in (np.float64, np.int64, np.bool_) else f", dtype={self.dtype}"
        history = f", op={self.op.name}" if self.op else ""
        return f"Tensor({text}{dtype}{history}{', requires_grad=True' if self._requires_grad else ''})"

    # -- operators -----------------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return self.apply(ops.ADD, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return self.apply(ops.ADD, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return self.apply(ops.SUB, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return self.apply(ops.SUB, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return self.apply(ops.MUL, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return self.apply(ops.MUL, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return self.apply(ops.DIV, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self.apply(ops.DIV, other, self)

    def __pow__(self, other: Any) -> Tensor:
        return self.apply(ops.POWER, self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return self.apply(ops.POWER, other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return self.apply(ops.MATMUL, self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return self.apply(ops.MATMUL, other, self)

    def __neg__(self) -> Tensor:
        return self.apply(ops.NEG, self)

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self.apply(ops.ABS, self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, np.ndarray | np.generic | int | float):
            raise TypeError(f"`==` on Tensors compares identity, so that they can be dict keys: write np.equal(x, {other!r})")
        return self is other

    __hash__ = object.__hash__

    def __gt__(self, other: Any) -> Tensor:
        return constant(np.greater, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return constant(np.greater_equal, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return constant(np.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return constant(np.less_equal, self, other)

    def __and__(self, other: Any) -> Tensor:
        return constant(np.bitwise_and, self, other)

    def __or__(self, other: Any) -> Tensor:
        return constant(np.bitwise_or, self, other)

    def __invert__(self) -> Tensor:
        return constant(np.invert, self)

    # `h += x` makes a new node and rebinds the name h. For a parameter that would leave the parameter itself unchanged.

    def _in_place(self, symbol: str, result: Tensor) -> Tensor:
        if self._requires_grad and self.op is None:
            raise RuntimeError(
                f"`{symbol}` on {self.describe()}, a leaf that requires grad: it would bind the name to a new Tensor and "
                f"leave this one as it was. To update it, write `p.data {symbol} ...`; for a new Tensor, "
                f"`q = p {symbol[:-1]} ...`"
            )
        return result

    def __iadd__(self, other: Any) -> Tensor:
        return self._in_place("+=", self + other)

    def __isub__(self, other: Any) -> Tensor:
        return self._in_place("-=", self - other)

    def __imul__(self, other: Any) -> Tensor:
        return self._in_place("*=", self * other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._in_place("/=", self / other)

    def __ipow__(self, other: Any) -> Tensor:
        return self._in_place("**=", self**other)

    def __imatmul__(self, other: Any) -> Tensor:
        return self._in_place("@=", self @ other)

    # -- indexing ------------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        return self.apply(ops.GETITEM, self, key=key if type(key) in (int, slice) else plain_key(key))

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a Tensor cannot be assigned to in place: the graph holds its values. Build the result with np.where, "
            "np.concatenate or np.stack; for a leaf outside of any graph, write x.data[key] = value"
        )

    # -- NumPy's methods -----------------------------------------------------------------------------------------------------

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
        """The square root of the variance."""
        return self.apply(ops.SQRT, self.var(axis, ddof, keepdims))

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
        if not isinstance(other, Operators):
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
        kept = self if np.dtype(dtype).kind == "f" else self.detach()
        return self.apply(ops.ASTYPE, kept, dtype=np.dtype(dtype))


def unpacked(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers of f(2, 3), or of f((2, 3))."""
    return tuple(args[0]) if len(args) == 1 and hasattr(args[0], "__len__") else args


def constant(ufunc: Callable[..., Any], *inputs: Any) -> Tensor:
    """What a ufunc without a derivative makes of Tensors (numpy_api.py): a Tensor without history."""
    result: Tensor = ufunc(*inputs)
    return result


def normal(axis: int, ndim: int) -> int:
    """An axis counted from the front."""
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def limit(dtype: np.dtype[Any], which: str) -> Any:
    """The smallest or largest number of a dtype: a bound that cuts nothing off."""
    if dtype.kind == "f":
        return float("-inf" if which == "min" else "inf")
    return int(getattr(np.iinfo(dtype), which))


def plain_key(key: Any) -> Any:
    """An index as NumPy takes it: Tensors as their arrays, arrays and lists copied, so that nobody else can edit them."""
    if isinstance(key, tuple):
        return tuple([plain_key(part) for part in key])
    if isinstance(key, Operators):
        return key._data.copy()
    if isinstance(key, np.ndarray | list):
        return np.array(key, dtype=np.intp if isinstance(key, list) and not key else None)
    return key
