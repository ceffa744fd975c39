"""Arrays as small tables of numbers whose colours show sign and size, and terms of a sum as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .event_types import Numbers, Term
from .labels import shape_text


def matrix(numbers: Numbers, kind: str = "") -> str:
    """An array to four digits, the last axis from left to right; of a large one only what it is like."""
    shape, kind = numbers["shape"], f" {kind}" if kind else ""
    if "values" not in numbers:
        facts = ", ".join(f"{word} {digits(numbers[key])}" for word, key in FACTS)  # type: ignore[literal-required]
        return f'<span class="m{kind}">{shape_text(tuple(shape))}: {facts}</span>'
    values = numbers["values"]
    if not values:
        return f'<span class="m{kind}">{shape_text(tuple(shape))}, empty</span>'
    largest = max((abs(v) for v in values if not isinstance(v, str)), default=0)
    columns = shape[-1] if shape else 1
    rows = [values[i : i + columns] for i in range(0, len(values), columns)]
    body = "".join("<tr>" + "".join(f"<td{colour(v, largest)}>{digits(v)}" for v in row) for row in rows)
    return f'<table class="m{kind}">{body}</table>'


FACTS = (("norm", "norm"), ("from", "least"), ("to", "greatest"))


def digits(v: Any) -> str:
    """A number to four digits; NaN and the infinities are strings already."""
    return f"{v:.4g}" if isinstance(v, float) else str(v).replace("Infinity", "inf")


def colour(v: Any, largest: float) -> str:
    """One of four shades for each sign, by the size relative to the largest number of the array."""
    if isinstance(v, str):
        return " class=bad"
    level = math.ceil(4 * (abs(v) / largest)) if v else 0
    return f" class={'n' if v < 0 else 'p'}{level}" if level else ""


def chart(terms: Sequence[Term]) -> str:
    """A bar for each term in the order of time, as high as its norm; those of no step are the last."""
    finite = [term["norm"] for term in terms if not isinstance(term["norm"], str)]
    largest = max(finite, default=0) or 1
    bars = []
    for term in sorted(terms, key=lambda term: math.inf if term["step"] is None else term["step"]):
        norm = term["norm"]
        height = 40 if isinstance(norm, str) else 40 * norm / largest
        size = str(norm) if isinstance(norm, str) else f"{norm:.2g}"
        when = f"e{term['event']}" if term["step"] is None else f"t={term['step']}"
        bars.append(
            f'<li data-e="{term["event"]}">{size}<svg viewBox="0 0 1 40" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect y="{40 - height:.4g}" width="1" height="{height:.4g}"/></svg><a href="#e{term["event"]}">{when}</a>'
        )
    return f"<ol>{''.join(bars)}</ol>" if bars else ""
