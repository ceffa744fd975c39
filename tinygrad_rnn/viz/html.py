"""What a notebook shows of a Tensor and of a Module, in place of their reprs."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .styles import printable

if TYPE_CHECKING:
    from ..nn.module import Module

MOST = 100  # elements of a Tensor that are printed; of more, the ends of each axis


def tensor_html(x: Any) -> str:
    """The kind and name of a Tensor, facts about it, and its numbers."""
    name = [f"<code>{words(x.name)}</code>"] if x.name else []
    facts = [f"shape {x.shape}", str(x.dtype), *([f"made by {x.op.name}"] if x.op else [])]
    facts += ["requires grad"] if x.requires_grad else []
    numbers = np.array2string(np.asarray(x._data), separator=", ", threshold=MOST)
    return f"<div>{' '.join([f'<b>{words(type(x).__name__)}</b>', *name])}: {', '.join(facts)}<pre>{numbers}</pre></div>"


def module_html(module: Module) -> str:
    """A row for each parameter of a module, with its path, shape, dtype and number of elements; below, their sum."""
    found = list(module.named_parameters())
    rows = [(words(path), str(p.shape), str(p.dtype) + (not p.requires_grad) * ", frozen", p.size) for path, p in found]
    rows.append(("total", "", "", sum(p.size for _, p in found)))
    body = "".join(f"<tr><td>{a}</td><td>{b}</td><td>{c}</td><td>{n:,}</td></tr>" for a, b, c, n in rows)
    head = "<tr><th>parameter</th><th>shape</th><th>dtype</th><th>size</th></tr>"
    return f"<table><caption>{words(type(module).__name__)}</caption>{head}{body}</table>"


def words(text: str) -> str:
    """A name as it may stand in a page."""
    return escape(printable(text))
