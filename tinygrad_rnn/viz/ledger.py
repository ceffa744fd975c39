"""The books of a walk back: what each sum was before and after each addition, and what gradients consist of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..anomaly import norm
from ..backward import walk
from ..ops import Array, Op, Together, fit
from ..tensor import Tensor
from .event_types import Backward, Parameter, Share, Term, number, numbers
from .graph import Builder
from .rules import rule_text


class Ledger:
    """What each node has received, which uses wait for others, and what each parameter's sum consists of."""

    def __init__(self, builder: Builder, root: Tensor, seed: Tensor) -> None:
        self.builder = builder
        self.ids = {x: i for i, x in enumerate(builder.order)}
        self.number = sum(x.op is not None for x in builder.order)  # of the next event: those of forward came before
        self.sums: dict[Tensor, Array] = {root: seed._data}
        self.added: set[Tensor] = set()  # the nodes to whose sum the walk adds in place, so that its dtype stays
        self.waiting: dict[Tensor, dict[Together, list[Any]]] = {}
        self.leaves: dict[Tensor, list[Tensor]] = {}  # each leaf, and what only rearranges it
        for x, leaf in builder.origin.items():
            if leaf.requires_grad:
                self.leaves.setdefault(leaf, []).append(x)
        self.terms: dict[Tensor, list[Term]] = {leaf: [] for leaf in self.leaves}
        self.totals: dict[Tensor, Array] = {}
        self.grads: dict[Tensor, Array] = {}

    def event(self, x: Tensor, g: Array, shares: list[Array]) -> Backward:
        """A node's turn."""
        arrived = self.sums.pop(x, None)
        waiting = self.waiting.pop(x, {})
        alone = arrived is None and len(waiting) == 1
        wholes = [g if alone else rule.rule(uses) for rule, uses in waiting.items()]
        if x.op is None:
            self.grads[x] = g
        gives = list(self.gives(x, x.op, g, iter(shares))) if x.op is not None else []
        self.number += 1
        return {
            "node": self.ids[x],
            "arrived": None if arrived is None else numbers(arrived),
            "summed": None if arrived is None or arrived.shape == x.shape else numbers(fit(arrived, x.shape)),
            "wholes": [numbers(whole) for whole in wholes],
            "g": numbers(g),
            "gives": gives,
        }

    def gives(self, x: Tensor, op: Op, g: Array, shares: Iterator[Array]) -> Iterator[Share]:
        """What the rules of a node give to its inputs. The walk has told the shares that it added."""
        for i, y in enumerate(x.inputs):
            rule = op.rules[0 if op.variadic else i]
            if rule is None or not y.requires_grad:
                continue
            args = [z._data for z in x.inputs]
            if isinstance(rule, Together) and (rule.alone is None or rule.alone(g, x._data, *args, **x.params) is None):
                use = (g, args, x.params)
                uses = self.waiting.setdefault(y, {}).setdefault(rule, [])
                uses.append(use)
                share, whole = rule.rule([use]), None
                if rule.enough is not None and rule.enough(uses):
                    whole = next(shares)
                    del self.waiting[y][rule]
            else:
                share = whole = next(shares)
            before, whole, after = self.add(y, whole) if whole is not None else (None, None, None)
            self.term(x, y, share)
            yield {
                "to": self.ids[y],
                "input": i,
                "rule": rule_text(op, i),
                "share": numbers(share),
                "whole": None if whole is None or whole is share else numbers(whole),
                "before": None if before is None else numbers(before),
                "after": None if after is None else numbers(after),
            }

    def add(self, x: Tensor, share: Array) -> tuple[Array | None, Array, Array]:
        """The addition that the walk makes: before, what is added, after."""
        before = self.sums.get(x)
        if before is None:
            after = share
        elif before.shape != share.shape:
            before, share = fit(before, x.shape), fit(share, x.shape)
            after = before + share
        else:
            after = np.asarray(before + share, before.dtype if x in self.added else None)
            self.added.add(x)
        self.sums[x] = after
        return before, share, after

    def term(self, x: Tensor, y: Tensor, share: Array) -> None:
        """If `y` is a parameter, or one rearranged (W.T), and `x` is not: the share in the parameter's own shape."""
        leaf = self.builder.origin.get(y)
        if leaf not in self.terms or x in self.builder.origin:
            return
        share = fit(share, y.shape) if y is leaf else walk(self.leaves[leaf], {y: share}, False, {leaf}, ())[leaf]
        total = self.totals[leaf] = self.totals[leaf] + share if leaf in self.totals else share
        self.terms[leaf].append(
            {
                "event": self.number,
                "step": self.builder.step.get(x),
                "norm": number(norm(share)),
                "term": numbers(share),
                "total": numbers(total),
            }
        )

    def parameters(self) -> list[Parameter]:
        """The leaves that a gradient has reached."""
        return [
            {"node": self.ids[leaf], "terms": self.terms.get(leaf, []), "grad": numbers(self.grads[leaf])}
            for leaf in self.builder.order
            if leaf in self.grads
        ]
