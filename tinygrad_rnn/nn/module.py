"""Module: parameters, and a forward that uses them. There is no backward here or in any subclass.

Nothing is registered. Parameters and submodules are found by walking the attributes, in the order they were set, through
lists, tuples and dicts, and are named by the path that leads to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..ops import Array
from ..scope import Scope, current_scope
from ..tensor import Tensor


class Parameter(Tensor):
    """A leaf that a Module trains. It is a Tensor that requires a gradient; freeze it with `p.requires_grad = False`."""

    __slots__ = ()

    def __init__(self, data: ArrayLike | Tensor, dtype: DTypeLike | None = None, name: str | None = None) -> None:
        super().__init__(data, requires_grad=True, dtype=dtype, name=name)


def trainable(value: Any) -> bool:
    """Is this a parameter? A plain Tensor is one if it is a leaf that requires a gradient."""
    return isinstance(value, Parameter) or (isinstance(value, Tensor) and value.op is None and value.requires_grad)


def members(value: Any, path: str) -> Iterator[tuple[str, Tensor | Module]]:
    """The parameters and modules that an attribute holds, each with its path."""
    if isinstance(value, Module) or trainable(value):
        yield path, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from members(item, f"{path}.{i}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from members(item, f"{path}.{key}")


def floating(who: Module, x: Any) -> Tensor:
    """The input of a layer as a Tensor. Integers are refused: as a rule they are indices on their way to an Embedding."""
    result = x if isinstance(x, Tensor) else Tensor(x)
    if result.dtype.kind != "f":
        raise TypeError(
            f"{type(who).__name__}: expected input of a floating dtype, got {result.dtype}. "
            "Write x.astype(np.float32), or look indices up in an Embedding first"
        )
    return result


def module_path(scope: Scope) -> str:
    """Where a node was made: the class of the outermost module being called, and the path from it to the innermost."""
    names: list[str] = []
    while scope.module is not None and scope.parent is not None:
        outer = scope.parent.module
        paths = {id(module): path for path, module in outer.named_modules()} if outer is not None else {}
        names.append(paths.get(id(scope.module), type(scope.module).__name__))
        scope = scope.parent
    return ".".join(reversed(names))


def shown(name: str, value: Any) -> bool:
    """Does a repr name this attribute?"""
    return isinstance(value, int | float | str) and not name.startswith("_")


class Module:
    """Base of all layers, cells and models: set parameters and submodules as attributes, write `forward`, call the module.

    No `super().__init__()` is needed. Calling the module runs `forward` and marks each node that it makes with the module, so
    that pictures and errors can name the place.
    """

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation. A subclass writes it; the gradients follow."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: write `def forward(self, x): ...`")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope.get()
        token = current_scope.set(Scope(scope.recording, self, scope.step, scope, scope.watch))
        try:
            return self.forward(*args, **kwargs)
        finally:
            current_scope.reset(token)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(self).get(name), Parameter) and value is not None and not trainable(value):
            what = value.describe() if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter, and {what} in its place would not be trained. For new numbers "
                f"write module.{name}.data = ...; for another parameter, module.{name} = Parameter(...)"
            )
        if isinstance(value, set | frozenset) and any(isinstance(item, Module | Tensor) for item in value):
            raise TypeError(
                f"{type(self).__name__}.{name}: a set has no order, so its modules and parameters could not be named, and "
                "would not be trained: use a list or a dict"
            )
        for path, member in [(name, value), *members(value, name)]:
            if isinstance(member, Tensor) and member.op is None and member.name is None:
                member.name = path
        object.__setattr__(self, name, value)

    # -- what it holds -------------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Tensor | Module]]:
        """The parameters and modules held directly by this one, in the order they were set."""
        for name, value in vars(self).items():
            if isinstance(value, (Tensor, Module, list, tuple, dict)):  # members() takes longer to find nothing
                yield from members(value, name)

    def child_path(self, child: str, below: str = "") -> str:
        """The path from here to a child, or to something below it."""
        return f"{child}.{below}" if below else child

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (its path is empty) and every one below it."""
        yield "", self
        for name, child in self.named_children():
            if isinstance(child, Module):
                for path, module in child.named_modules():
                    yield self.child_path(name, path), module

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter with its path; one that is shared is listed once, under its first path."""
        seen: set[Tensor] = set()
        for path, parameter in self._all_parameters():
            if parameter not in seen:
                seen.add(parameter)
                yield path, parameter

    def _all_parameters(self) -> Iterator[tuple[str, Tensor]]:
        for name, child in self.named_children():
            if isinstance(child, Tensor):
                yield name, child
            else:
                yield from ((self.child_path(name, path), parameter) for path, parameter in child._all_parameters())

    def parameters(self) -> list[Tensor]:
        """Every parameter, in the order of `named_parameters`."""
        return list(self._parameters())

    def _parameters(self) -> dict[Tensor, None]:
        """Each once, without its path, which takes longest to find."""
        found: dict[Tensor, None] = {}
        for _, child in self.named_children():
            found.update({child: None} if isinstance(child, Tensor) else child._parameters())
        return found

    def _by_path(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for path, parameter in self._all_parameters():
            if found.setdefault(path, parameter) is not parameter:
                raise ValueError(f"{type(self).__name__}: two parameters share the path {path}; rename an attribute or a key")
        return found

    # -- its numbers ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter's array, by path."""
        return {path: parameter.numpy() for path, parameter in self._by_path().items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike | Tensor]) -> None:
        """Set every parameter from a state dict: of this class, or of PyTorch's where the names agree. All or nothing.

        Raises KeyError if names are missing or unexpected, ValueError if shapes differ, TypeError if something is not made of
        numbers; the message lists all of them.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"load_state_dict into {type(self).__name__}: expected a dict of arrays, got a {type(state).__name__}; "
                "write model.load_state_dict(other.state_dict()), or of a file, tg.load(path)"
            )
        own = self._by_path()
        new = {path: value.numpy() if isinstance(value, Tensor) else np.asarray(value) for path, value in state.items()}
        wrong = [f"missing {path}" for path in own if path not in new]
        wrong += [f"unexpected {path}" for path in new if path not in own]
        shapes = [
            f"{path} has shape {new[path].shape}, expected {own[path].shape}"
            for path in own
            if path in new and new[path].shape != own[path].shape
        ]
        if wrong or shapes:
            kind = KeyError if wrong else ValueError
            raise kind(f"load_state_dict into {type(self).__name__}: " + "; ".join(wrong + shapes) + ". Nothing was changed")
        strange = [f"{path} has dtype {new[path].dtype}" for path in own if new[path].dtype.kind not in "fiub"]
        if strange:
            what = f"expected numbers; {'; '.join(strange)}"
            raise TypeError(f"load_state_dict into {type(self).__name__}: {what}. Nothing was changed")
        for path, parameter in own.items():
            parameter.data = new[path]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters: sets them to None."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout acts) here and in every module below."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode (dropout does nothing)."""
        return self.train(False)

    def __repr__(self) -> str:
        settings = [f"{k}={v!r}" for k, v in vars(self).items() if k != "training" and shown(k, v)]
        settings += [f"{name}{list(child.shape)}" for name, child in self.named_children() if isinstance(child, Tensor)]
        lines = [
            f"  ({self.child_path(name)}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.named_children()
            if isinstance(child, Module)
        ]
        head = f"{type(self).__name__}({', '.join(settings)}"
        total = sum(parameter.size for parameter in self.parameters())
        return head + ")" if not lines else "\n".join([f"{head}  # {total:,} parameters", *lines, ")"])

    def _repr_html_(self) -> str:
        from ..viz.html import module_html

        return module_html(self)


class ModuleList(Module):
    """A list of modules that is itself one: index it, iterate over it, append to it. As an attribute a plain list does too."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.modules: list[Any] = []
        for module in modules:
            self.append(module)

    def child_path(self, child: str, below: str = "") -> str:
        return super().child_path(child.removeprefix("modules."), below)

    def append(self, module: Module) -> None:
        """Add one at the end."""
        if not callable(module):
            raise TypeError(
                f"{type(self).__name__}: expected a module, got a {type(module).__name__}; "
                "write Sequential(a, b) or ModuleList([a, b])"
            )
        self.modules.append(module)

    def __getitem__(self, index: int) -> Any:
        return self.modules[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)


class Sequential(ModuleList):
    """Modules one after the other: Sequential(a, b)(x) is b(a(x)). Some may be functions: Sequential(a, tg.tanh, b)."""

    def __init__(self, *modules: Module | Callable[[Any], Any]) -> None:
        super().__init__(modules)  # type: ignore[arg-type]

    def forward(self, x: Any) -> Any:
        for module in self.modules:
            x = module(x)
        return x
