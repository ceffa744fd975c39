"""For a single sequence, where calls cost more than their work: what is done to most pieces of an array is done to all of it.

The slopes of an LSTM's gates, a * (1 - a), are two calls, not two for each gate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .program import STATE, Node, Program, ordered, sliced
from .rebuild import rebuilt, roots
from .trace import Step


class Piece(NamedTuple):
    """A piece of an array, or of what would be an array."""

    of: Any  # a node, or an op with what its arguments are pieces of
    cut: tuple[int, int, int]  # axis, start, stop
    width: int  # of the whole


def widen(program: Program, step: Step) -> Step:
    """What the way back does to three quarters of an array, or more, done to all of it."""
    forward = set(ordered([*step.new, *step.outputs.values()]))
    pieces: dict[Node, Piece] = {}
    alike: dict[Any, list[Node]] = {}
    for node in ordered(roots(step)):
        if node.rank != STATE or len(node.shape) != 2 or node.shape[0] != 1:
            continue
        cut, known = sliced(node), [pieces[x] for x in node.args if x in pieces]
        if cut is not None and cut[0] == 1:
            pieces[node] = Piece(node.args[0], cut, node.args[0].shape[1])
        elif node in forward or node.op not in ("add", "sub", "mul"):  # others may warn of what nobody reads
            continue
        elif all(x in pieces or x.is_number for x in node.args) and len({p[1:] for p in known}) == 1:
            of = (node.op, *(pieces[x].of if x in pieces else x for x in node.args))
            pieces[node] = known[0]._replace(of=of)
            alike.setdefault(of, []).append(node)
    groups = (nodes for nodes in alike.values() if len(nodes) > 1)
    # For less than three quarters, the work on the rest costs what the calls save.
    wide = {n for nodes in groups if 4 * sum(n.shape[1] for n in nodes) >= 3 * pieces[nodes[0]].width for n in nodes}

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node not in wide:
            return None
        key = next(x.params["key"] for x in args if x.op == "getitem")
        whole = program.make(node.op, *(x.args[0] if x.op == "getitem" else x for x in args))
        return program.make("getitem", whole, key=key)

    return rebuilt(program, step, rule)
