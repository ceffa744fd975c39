"""The words in a picture: what an op does, how an array was rearranged, where a parameter is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..compiler.text import key_text
from ..tensor import Tensor

SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "power": "**"}


def shape_text(shape: tuple[int, ...]) -> str:
    """(2,3), without spaces."""
    return str(shape).replace(" ", "").replace(",)", ")")


def value_text(value: Any) -> str:
    """Up to four numbers, else their range: `0.25`, `[1 -0.5]`, `-0.93 ... 0.88`."""
    numbers = [str(x) if isinstance(x, bool | int) else f"{x:.4g}" for x in np.ravel(value).tolist()[:5]]
    if len(numbers) == 5:
        return " ... ".join(dict.fromkeys((f"{np.min(value):.3g}", f"{np.max(value):.3g}")))
    return numbers[0] if np.ndim(value) == 0 else f"[{' '.join(numbers)}]"


def below(path: str, context: str) -> str:
    """A path without the leading parts that it shares with its context."""
    parts, around = path.split("."), context.split(".")
    while len(parts) > 1 and around and parts[0] == around[0]:
        parts, around = parts[1:], around[1:]
    return ".".join(parts)


def is_run(x: Tensor) -> bool:
    """Is this a run of a compiled layer? Its value is no array of numbers but a box with all results."""
    return x.dtype.kind == "O"


def op_text(x: Tensor, words: Sequence[str | None]) -> str:
    """What an op does, with the inputs that have no box of their own: `@ W.T`, `1 -`, `sum axis=0`."""
    assert x.op is not None
    name = x.op.name
    known = any(word is not None for word in words) and not is_run(x)
    if name in SYMBOLS:
        return " ".join(word for word in (words[0], SYMBOLS[name], words[1]) if word is not None)
    if name == "getitem" or (name == "transpose" and known):
        return (words[0] or "") + rearranged(x)
    if name == "split":
        return f"split {x.params['piece']}"
    axis = x.params.get("axis")
    text = name if axis is None else f"{name} axis={shape_text(axis) if isinstance(axis, tuple) else axis}"
    return f"{text}({', '.join(word or '.' for word in words)})" if known else text


def rearranged(x: Tensor) -> str:
    """What is done to an array without computing: `.T`, `[:, 0]`, `.reshape(3,4)`."""
    assert x.op is not None
    if x.op is ops.GETITEM or x.op is ops.SPLIT:
        return f"[{key_text(x.params['key'], part_text)}]"
    if x.op is ops.TRANSPOSE:
        axes = x.params["axes"]
        return ".T" if axes == tuple(reversed(range(len(axes)))) else f".transpose{shape_text(axes)}"
    return f".{x.op.name}{shape_text(x.shape) if x.op is not ops.ASTYPE else f'({x.dtype})'}"


def part_text(part: Any) -> str:
    """A part of an index that is no slice."""
    if part is Ellipsis:
        return "..."
    return str(part) if part is None or np.ndim(part) == 0 else f"{part.dtype} {shape_text(part.shape)}"
