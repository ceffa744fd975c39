"""How single operations and views are written in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..ops import basic
from .program import Node

if TYPE_CHECKING:
    from .places import View

SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "power": "**", "mod": "%"}


def written(node: Node, texts: list[str], lead: int = 0) -> str | None:
    """An op on values with these texts, with `lead` axes before those of the node; None if it is a function of its own."""
    op, params = node.op, node.params
    if op in SIGNS:
        return f"{texts[0]} {SIGNS[op]} {texts[1]}"
    if op == "neg":
        return f"-{texts[0]}"
    if op == "getitem" and basic(params["key"]):
        return texts[0] + (lifted if lead else direct)(("getitem", params["key"]))
    if op == "reshape":
        return f"{texts[0]}.reshape({', '.join(map(str, node.shape))})"
    if op == "astype":
        return f"{texts[0]}.astype({str(node.dtype)!r})"
    if op in ("concatenate", "stack"):
        return f"{op}([{', '.join(texts)}], {params['axis'] + lead})"
    if op in ("sum", "mean", "max", "min", "prod"):
        axes = tuple(a + lead for a in params["axis"])
        keep = ", keepdims=True" if params["keepdims"] else ""
        return f"{texts[0]}.{op}({axes[0] if len(axes) == 1 else axes}{keep})"
    return None


def key_text(key: Any, other: Callable[[Any], str] = str) -> str:
    """An index as one writes it: `:, 0:4`. `other` writes what is no slice."""
    if isinstance(key, tuple):
        return ", ".join(key_text(part, other) for part in key)
    if not isinstance(key, slice):
        return other(key)
    ends = [key.start, key.stop] if key.step is None else [key.start, key.stop, key.step]
    return ":".join("" if end is None else str(end) for end in ends)


def direct(view: View) -> str:
    """A view of the value of one step."""
    kind, what = view
    if kind == "getitem":
        return f"[{key_text(what)}]"
    return f".{kind}({', '.join(map(str, what))})"


def lifted(view: View) -> str:
    """The same view of the values of all steps."""
    kind, what = view
    if kind == "getitem":
        return f"[:, {key_text(what)}]"
    if kind == "transpose":
        return f".transpose(0, {', '.join(str(a + 1) for a in what)})"
    return f".reshape(T, {', '.join(map(str, what))})".replace(", )", ")")


def viewed(rows: str, views: Iterable[View]) -> str:
    """The same views of some rows: hs[1:] and then [:, :, 0:8] is hs[1:, :, 0:8]."""
    text = "".join(map(lifted, views))
    return rows[:-1] + text[2:] if rows.endswith("]") and text.startswith("[:, ") else rows + text
