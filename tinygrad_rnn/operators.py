"""What makes a Tensor feel like an array: Python's operators, and indexing, each one op of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import ops
from .methods import Methods, through
from .ops import Array, Op

if TYPE_CHECKING:
    from .tensor import Tensor


class Operators(Methods):
    """The half of Tensor that needs to know nothing about graphs."""

    __slots__ = ()

    if TYPE_CHECKING:
        _data: Array
        _requires_grad: bool
        name: str | None
        op: Op | None
        apply: Callable[..., Tensor]

        def describe(self) -> str: ...
        def detach(self) -> Tensor: ...
        def numpy(self) -> Array: ...

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
        kind = type(self).__name__
        text = np.array2string(np.asarray(self._data), separator=", ", prefix=f"{kind}(")
        facts = [
            f"shape={self.shape}" if "..." in text or (not self.size and self.ndim > 1) else "",
            f"dtype={self.dtype}" if self.dtype not in (np.float64, np.int64, np.bool_) else "",
            f"name={self.name!r}" if self.name else "",
            f"op={self.op.name}" if self.op else "",
            "requires_grad=True" if self._requires_grad else "",
        ]
        return f"{kind}({', '.join([text, *filter(None, facts)])})"

    def _repr_html_(self) -> str:
        from .viz.html import tensor_html

        return tensor_html(self)

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

    def __mod__(self, other: Any) -> Tensor:
        return self.apply(ops.MOD, self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return self.apply(ops.MOD, other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return through(np.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return through(np.floor_divide, other, self)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

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
        return through(np.greater, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return through(np.greater_equal, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return through(np.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return through(np.less_equal, self, other)

    def __and__(self, other: Any) -> Tensor:
        return through(np.bitwise_and, self, other)

    def __or__(self, other: Any) -> Tensor:
        return through(np.bitwise_or, self, other)

    def __xor__(self, other: Any) -> Tensor:
        return through(np.bitwise_xor, self, other)

    def __invert__(self) -> Tensor:
        return through(np.invert, self)

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


def plain_key(key: Any) -> Any:
    """An index as NumPy takes it: Tensors as their arrays, arrays and lists copied, so that nobody else can edit them."""
    if isinstance(key, tuple):
        return tuple([plain_key(part) for part in key])
    if isinstance(key, Operators):
        return key.numpy()
    if isinstance(key, np.ndarray | list):
        return np.array(key, dtype=np.intp if isinstance(key, list) and not key else None)
    return key
