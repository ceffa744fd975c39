"""The Tensor: an array that remembers where it came from.

A Tensor is a node of the graph: its array, its op (a row of the table in ops), its inputs in order, and the op's static
parameters. `apply` runs an op's forward and makes its node. backward.py walks back; operators.py makes it feel like an array.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .backward import gradients
from .memory import keep_freed
from .operators import Operators
from .ops import Array, Op
from .scope import Scope, current_scope, tick

keep_freed()
ndarray, new = np.ndarray, object.__new__  # used once per op, so worth a shorter way to them
# A copy of a transpose in rows, for which BLAS is faster, pays at once up to so many elements, else at so many uses.
ROWS, OFTEN = 1 << 14, 4


class Transpose(weakref.ref["Tensor"]):
    """A leaf's `.T`, as long as a graph holds it, and how often it has been asked for."""

    asked = 0


def in_rows(transpose: Array) -> Array:
    """A copy of a matrix whose memory lies in columns: some columns at a time, which is up to eight times as fast as all."""
    copy = np.empty(transpose.shape, transpose.dtype)
    for i in range(0, len(copy.T), 64):
        copy[:, i : i + 64] = transpose[:, i : i + 64]
    return copy


def lift(x: Any) -> Tensor:
    """What an op takes as an input. A Python number stays one, so that NumPy's own rule for numbers holds: it never widens."""
    if isinstance(x, Tensor):
        return x
    if type(x) in (float, int, bool):
        return Tensor.__new__(Tensor)._init_leaf(x)
    return Tensor(x)


def apply(op: Op, *inputs: Any, **params: Any) -> Tensor:
    """Run one op and make its node."""
    arrays, requires_grad = [], False
    for x in inputs:
        if not isinstance(x, Tensor):
            return apply(op, *map(lift, inputs), **params)
        if x._lent is not None:
            x._settle()
        if x._requires_grad:
            requires_grad = True
        arrays.append(x._operand)
    try:
        data = op.forward(*arrays, **params) if params else op.forward(*arrays)
    except (ValueError, TypeError, IndexError) as error:
        what = ", ".join(x.describe() for x in inputs)
        raise type(error)(f"{op.name}: {error} (inputs: {what})") from None
    if type(data) is not ndarray:
        data = np.asarray(data)
    node: Tensor = new(Tensor)
    node.scope = scope = current_scope.get()
    requires_grad = requires_grad and scope.recording
    # Two kinds of constants are recorded too: a view, since edits of what it shows reach it and x[:, t] tells pictures the
    # time; and what a layer makes within a time step, so that the first step looks like all others.
    if requires_grad or data.base is not None or (scope.step is not None and scope.recording):
        node._data = node._operand = data
        node._requires_grad, node.op, node.inputs, node.params = requires_grad, op, inputs, params
        node._lent = node._transpose = node.grad = node.name = None
        node.birth = node.version = tick()
    else:
        node._init_leaf(data)
    if scope.watch is not None:
        scope.watch.value(node, op, inputs, params)
    return node


class Tensor(Operators):
    """An array of numbers with its history.

    Tensor(array_like, requires_grad=False, dtype=None, name=None) copies its input, so that nobody else can edit it; the dtype
    is NumPy's for that input. Only floating dtypes can require gradients.

    `grad` is None, or a Tensor of the same shape and dtype: the sum of what every `backward()` has brought here.
    `==` compares identity, so that Tensors can be dict keys; `np.equal` compares elements.
    """

    __slots__ = (
        "__weakref__", "_data", "_lent", "_operand", "_requires_grad", "_transpose",
        "birth", "grad", "inputs", "name", "op", "params", "scope", "version",
    )  # fmt: skip
    birth: int
    version: int  # when a leaf was last written to

    apply = staticmethod(apply)

    def __init__(
        self, data: ArrayLike | Tensor, requires_grad: bool = False, dtype: DTypeLike | None = None, name: str | None = None
    ) -> None:
        if isinstance(data, Tensor) and data._requires_grad:
            raise TypeError(f"Tensor(...) makes a leaf, and {data.describe()} requires grad: use it as it is, or .detach() it")
        array = np.array(data._data if isinstance(data, Tensor) else data, dtype=dtype)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: expected real numbers or bools, got {type(data).__name__} of dtype {array.dtype}")
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        self._init_leaf(array, name)
        if requires_grad:
            self.requires_grad = True
            self.version = self.birth

    def _init_leaf(self, array: Array, name: str | None = None) -> Tensor:
        self._data: Array = array
        self._operand: Array = array  # what forwards read: `_data`, or for a leaf's transpose the same in rows
        self._lent: tuple[weakref.ref[Array], Array] | tuple[()] | None = None  # if not None, look before you read: _settle()
        self._requires_grad = False
        self._transpose: Transpose | None = None
        self.grad: Tensor | None = None
        self.name = name
        self.op: Op | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.params: dict[str, Any] = {}
        self.scope: Scope = current_scope.get()
        self.birth = self.version = tick()
        return self

    # -- the array ---------------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array itself. A leaf's may be edited or assigned (`w.data -= 0.1 * w.grad.data`); a computed one is read-only.

        A graph that has read a leaf notices if the leaf is edited before `backward()`, and refuses to use it.
        """
        if self.op is not None or self.is_number:
            view = np.asarray(self._data).view()
            view.flags.writeable = False
            return view
        if self._lent is not None:
            self._settle()
        if self._lent is None:
            buffer: Any = self._data
            lent = np.asarray(memoryview(buffer))  # every view of it keeps `lent` alive, so we see when all are gone
            self._lent = weakref.ref(lent), self._data.copy()
            return lent
        alias = self._lent[0]() if self._lent else None
        return self.data if alias is None else alias

    @data.setter
    def data(self, value: ArrayLike | Tensor) -> None:
        if self.op is not None:
            raise RuntimeError(
                f"cannot assign .data of {self.describe()}: it was computed by {self.op.name}. "
                "Only leaves can be changed; to cut the history off, use .detach()"
            )
        value = value._data if isinstance(value, Tensor) else np.asarray(value)
        if value.shape != self._data.shape:
            raise ValueError(f"cannot assign data of shape {value.shape} to {self.describe()}: the shapes must be equal")
        if not np.can_cast(value.dtype, self._data.dtype, "same_kind"):
            raise TypeError(f"cannot assign data of dtype {value.dtype} to {self.describe()}: use .astype({self.dtype})")
        if not self._lent or value is not self._lent[0]():  # `w.data -= step` has already written in place
            self._data = self._operand = value.astype(self._data.dtype)
            self._lent = None
        self._written()

    def subtract_(self, step: Array) -> None:
        """Subtract in place, as an optimiser does; a graph that has read the old values will refuse to be walked."""
        self._data -= step
        self._written()

    def _written(self) -> None:
        self.version = tick()

    def _settle(self) -> None:
        """Before this is read: has anyone written into the array that `.data` lent out? If so, it is a new version."""
        if self.op is not None:  # a transpose that is kept in rows: copy it again if the leaf is newer
            leaf = self.inputs[0]
            if leaf._lent is not None:
                leaf._settle()
            if leaf.version > self.version:
                self._operand = in_rows(self._data)
                self._written()
            return
        assert self._lent
        alias, before = self._lent
        if before.tobytes() != self._data.tobytes():
            self._written()
            before = self._data.copy()
        self._lent = None if alias() is None else (alias, before)

    @property
    def requires_grad(self) -> bool:
        """Whether `backward()` computes a gradient for this Tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.op is not None and value != self._requires_grad:
            raise RuntimeError(
                f"requires_grad can be set on leaves only, and {self.describe()} was computed by {self.op.name}"
            )
        if value and self.dtype.kind != "f":
            raise TypeError(
                f"Only Tensors of floating point dtype can require gradients, got {self.dtype}. "
                "Write tg.Tensor(data, dtype=np.float32, requires_grad=True)"
            )
        if value and not self._requires_grad:
            self.version = tick()  # a graph that has read it so far did not record it: its gradient would lack those uses
        self._requires_grad = bool(value)

    def named(self, name: str) -> Tensor:
        """Name this node, for pictures, records and errors. Returns the same Tensor, so it can end an expression."""
        self.name = name
        return self

    def detach(self) -> Tensor:
        """A copy without history."""
        return Tensor(self._data, name=self.name)

    def numpy(self) -> Array:
        """A copy of the array, yours to edit."""
        return np.array(self._data)

    def describe(self) -> str:
        """What errors call this Tensor: its name, or the op that made it, with shape and dtype."""
        what = repr(self.name) if self.name else f"the result of {self.op.name}" if self.op else "a Tensor"
        return f"{what} (shape {self.shape}, {self.dtype})"

    @property
    def T(self) -> Tensor:
        """The axes reversed. As long as a graph holds the `w.T` of a leaf, asking again gives the same node: so the uses of a
        weight at all time steps meet in one node, and their gradients in one product."""
        if self.op is not None:
            return self.transpose()
        if self._lent is not None:
            self._settle()
        kept = self._transpose
        shared = None if kept is None else kept()
        tracked = self._requires_grad and current_scope.get().recording
        if kept is None or shared is None or shared.birth < self.version or shared._requires_grad is not tracked:
            shared = self.transpose()
            self._transpose = kept = Transpose(shared)
        kept.asked += 1
        if shared._lent is None and (kept.asked == OFTEN or self._data.size <= ROWS) and self._data.ndim == 2:
            shared._operand, shared._lent = in_rows(shared._data), ()
        return shared

    # -- backward ------------------------------------------------------------------------------------------------------------

    def backward(self, gradient: ArrayLike | Tensor | None = None, create_graph: bool = False) -> None:
        """Add d(self)/d(leaf), weighted by `gradient`, to `.grad` of every leaf that requires it.

        gradient: dL/d(self), of self's shape; may be left out for a scalar. create_graph: make the gradients differentiable.
        """
        if not self._requires_grad:
            raise RuntimeError(
                f"{self.describe()} does not require grad and has no graph: make a leaf with requires_grad=True, "
                "and compute outside of no_grad()"
            )
        found = gradients([self], [self._seed(gradient, create_graph)], create_graph)
        for leaf in found:
            if leaf.grad is not None and getattr(leaf.grad, "shape", None) != leaf.shape:
                what = f"has shape {leaf.grad.shape}" if hasattr(leaf.grad, "shape") else f"is a {type(leaf.grad).__name__}"
                raise ValueError(
                    f"backward: the .grad of {leaf.describe()} {what}, so nothing can be added to it. "
                    "Set it to None, or to a gradient of the leaf's own shape"
                )
        with adding_up:
            for leaf, g in found.items():
                g = g if create_graph else new(Tensor)._init_leaf(g)
                leaf.grad = g if leaf.grad is None else leaf.grad + g

    def _seed(self, gradient: ArrayLike | Tensor | None, create_graph: bool = True) -> Tensor:
        if gradient is None:
            if self._data.size != 1:
                raise RuntimeError(
                    f"grad can be implicitly created only for scalar outputs, and this is {self.describe()}. "
                    f"Reduce it first (.sum(), .mean()), or pass gradient= of shape {self.shape}"
                )
            return new(Tensor)._init_leaf(np.ones(self._data.shape, self._data.dtype))
        seed = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
        if seed._data.shape != self._data.shape:
            raise ValueError(f"backward: gradient has shape {seed.shape}, expected that of {self.describe()}")
        if not create_graph and seed._data.dtype == self._data.dtype:
            return seed  # the walk copies what is left in a leaf
        # A copy, so that no gradient is the caller's own array.
        return seed.astype(self.dtype) if seed._requires_grad else Tensor(seed._data, dtype=self.dtype)

    # -- NumPy's protocols: what joins the graph is filled in by numpy_api.py ------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return numpy_handlers["ufunc"](ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        return numpy_handlers["function"](function, args, kwargs)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._requires_grad:
            raise TypeError(
                f"{self.describe()} requires grad, and a plain array would lose it. Write .numpy() for the numbers alone; "
                "a function of NumPy joins the graph if it is in the table (see tg.functions)"
            )
        return np.array(self._data, dtype=dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """How leaves are copied and pickled: by their numbers."""
        if self.op is not None:
            raise RuntimeError(f"only leaves can be copied, and {self.describe()} was computed: use .detach()")
        return copy_leaf, (type(self), self.numpy(), self._requires_grad, self.name)


def copy_leaf(kind: type[Tensor], array: Array, requires_grad: bool, name: str | None) -> Tensor:
    """A leaf with a copy of these numbers."""
    leaf = new(kind)._init_leaf(array.copy(), name)
    leaf._requires_grad = requires_grad
    return leaf


adding_up = Lock()  # two threads may bring gradients to one leaf
numpy_handlers: dict[str, Callable[..., Any]] = {}
