"""A step made anew, with some nodes replaced by others that have the same value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .program import Node, Program, ordered
from .trace import Step

Rule = Callable[[Node, tuple[Node, ...]], Node | None]


def roots(step: Step) -> list[Node]:
    """All that a step is for."""
    return [*step.new, *step.outputs.values(), *step.gradients.values()]


def rebuilt(program: Program, step: Step, rule: Rule) -> Step:
    """The step with every node made anew: as the rule says, or as it was."""
    new: dict[Node, Node] = {}
    for node in ordered(roots(step)):
        args = tuple(new[x] for x in node.args)
        made = rule(node, args)
        if made is None:
            made = node if args == node.args else program.make(node.op, *args, **node.params)
        made.line = made.line or node.line
        new[node] = made.named(node.name)
    return step._replace(
        new=tuple(new[n] for n in step.new),
        outputs={name: new[n] for name, n in step.outputs.items()},
        gradients={of: new[n] for of, n in step.gradients.items()},
    )


def everywhere(rule: Callable[[Program, Node, tuple[Node, ...]], Node | None]) -> Callable[[Program, Step], Step]:
    """A pass that follows a rule at every node."""
    return lambda program, step: rebuilt(program, step, partial(rule, program))


def replaced(program: Program, step: Step, swap: dict[Node, Node]) -> Step:
    """The step with some nodes replaced by others."""
    return rebuilt(program, step, lambda node, args: swap.get(node)) if swap else step
