"""The derivatives of an op as text: what its row of the table says, read from the source of the table itself."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

from ..ops import Op, Together


def rule_text(op: Op, i: int) -> str:
    """The derivative for the i-th input: a line of the table, or what the function named there says of itself.

    Empty where the source of the table is not at hand.
    """
    function = function_of(op, i)
    if function.__name__ != "<lambda>":
        return first_sentence(function)
    cells = rows(function.__module__).get(op.name)
    return cells[0 if op.variadic else i] if cells else ""


def input_names(op: Op, count: int) -> list[str]:
    """What the row calls its inputs: x and y, a and b; x0, x1, ... where there can be any number."""
    if op.variadic:
        return [f"x{i}" for i in range(count)]
    for i, rule in enumerate(op.rules):
        arguments = inspect.getfullargspec(function_of(op, i)).args if rule is not None else []
        if len(arguments) >= 2 + count and arguments[:2] == ["g", "out"]:
            return arguments[2 : 2 + count]
    if inspect.isfunction(op.forward):
        return inspect.getfullargspec(op.forward).args[:count]
    return ["x"] if count == 1 else [f"x{i}" for i in range(count)]


def function_of(op: Op, i: int) -> Any:
    """The derivative itself."""
    rule = op.rules[0 if op.variadic else i]
    return rule.rule if isinstance(rule, Together) else rule


def first_sentence(function: Any) -> str:
    """How a function's docstring begins."""
    return " ".join((inspect.getdoc(function) or "").split()).partition(". ")[0].rstrip(".")


@cache
def rows(module: str) -> dict[str, list[str]]:
    """For each `op("name", forward, rule, ...)` in the source of a module: its rules, lambdas without their heads."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (OSError, TypeError, KeyError):
        return {}
    found: dict[str, list[str]] = {}
    for call in ast.walk(ast.parse(source)):
        match call:
            case ast.Call(func=ast.Name(id="op"), args=[ast.Constant(value=str(name)), _, *cells]):
                found[name] = [" ".join((ast.get_source_segment(source, body(cell)) or "").split()) for cell in cells]
    return found


def body(cell: ast.expr) -> ast.expr:
    """What a lambda computes; if that is a lambda again (of the input's index i), what that one computes."""
    return body(cell.body) if isinstance(cell, ast.Lambda) else cell
