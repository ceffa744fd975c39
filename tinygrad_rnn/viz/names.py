"""What people call the parts of a graph: paths of modules and parameters, read off the modules in whose calls it was made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from ..nn.module import Module, ModuleList
from ..tensor import Tensor


class Names:
    """The paths of every module that a graph was made by, and of their parameters.

    Paths start below the outermost module, as in `cells.l0`. Only where there are several outermost ones, or for the
    outermost itself, the class name in lower case stands for it: `lstmcell`, `linear`, `linear2`.
    """

    def __init__(self, order: Sequence[Tensor]) -> None:
        self._paths: dict[int, str] = {}
        self.owners: dict[Tensor, tuple[str, str]] = {}  # a parameter's module and full path
        scopes = {id(x.scope): x.scope for x in order if x.op is not None}
        outermost = [call.module for scope in scopes.values() for call in scope.calls()[:1]]
        self._add_roots(list({id(module): module for module in outermost if module is not None}.values()))

    def _add_roots(self, roots: Sequence[Module]) -> None:
        """Name everything below the outermost modules, leaving out those that are part of another."""
        inner = {id(module) for root in roots for path, module in root.named_modules() if path}
        roots = [root for root in roots if id(root) not in inner] or roots
        kinds = [type(root).__name__.lower() for root in roots]
        taken = set(kinds)
        more: dict[str, count[int]] = {}
        for root, kind in zip(roots, kinds, strict=True):
            name = kind
            if kind in more:
                name = next(f"{kind}{k}" for k in more[kind] if f"{kind}{k}" not in taken)  # a class may be named Linear2
            taken.add(name)
            more.setdefault(kind, count(2))
            lead = "" if len(roots) == 1 else f"{name}."
            new = self._walk(root, name, lead)
            for path, parameter in root.named_parameters():
                if parameter in new:
                    self.owners[parameter] = self.owners[parameter][0], lead + path

    def _walk(self, root: Module, name: str, lead: str) -> set[Tensor]:
        """Name a module and all below it; returns the parameters that had no owner yet."""
        new: set[Tensor] = set()
        found, seen = [("", root)], {id(root)}
        for path, module in found:
            own = self._paths.setdefault(id(module), lead + path if path else name)
            for key, child in module.named_children():
                key = key.removeprefix("modules.") if isinstance(module, ModuleList) else key
                full = f"{path}.{key}" if path else key
                if isinstance(child, Tensor):
                    if child not in self.owners:
                        self.owners[child] = own, lead + full
                        new.add(child)
                elif id(child) not in seen:
                    seen.add(id(child))
                    found.append((full, child))
        return new

    def path(self, module: Module) -> str:
        """Where a module is found; its class name if it is nobody's attribute."""
        return self._paths.setdefault(id(module), type(module).__name__.lower())
