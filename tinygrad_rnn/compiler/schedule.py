"""When each value is computed. What does not depend on the state leaves the loop; so does what the loop does not need."""

from __future__ import annotations

from ..ops import basic
from .program import CARRY, CONSTANT, INPUT, RESULT, SEED, STATE, Node, elementwise, ordered
from .roll import Rolled
from .text import key_text

ONCE, BEFORE, FORWARD, OUTPUT, BETWEEN, BACKWARD, AFTER, LAST = STAGES = (
    "once", "before", "forward", "output", "between", "backward", "after", "result",
)  # fmt: skip
LOOPS, KNOWN = (FORWARD, BACKWARD), (ONCE, BEFORE)  # known: before the loops
WHY = {
    ONCE: "depends on the parameters alone: computed once",
    BEFORE: "depends on the input alone: all steps at once, before the loop",
    FORWARD: "the next state depends on it: in the forward loop",
    OUTPUT: "depends on the states, and no state on it: all steps at once, after the forward loop",
    BETWEEN: "depends on no gradient that is carried: all steps at once, before the backward loop",
    BACKWARD: "the gradient that is carried depends on it: in the backward loop",
    AFTER: "depends on the gradient carried, which does not depend on it: all steps at once, after the backward loop",
    LAST: "summed over all steps, at the end",
}


def batchable(node: Node) -> bool:
    """Can this be computed for all time steps at once, with time as a new first axis?"""
    if elementwise(node) or node.op in ("sum", "mean", "max", "min", "prod", "reshape", "transpose", "broadcast_to"):
        return True
    if node.op == "getitem":
        return basic(node.params["key"])
    if node.op in ("concatenate", "stack", "np.vecdot"):
        return True
    if node.op in ("np.max", "np.min"):
        return isinstance(node.params.get("axis"), int) and node.params["axis"] < 0 and node.params.get("keepdims", False)
    return (
        node.op == "matmul"
        and len(node.args[0].shape) >= 2
        and (len(node.args[1].shape) >= 2 or node.args[1].rank == CONSTANT)
    )


def stages(rolled: Rolled) -> dict[Node, str]:
    """The stage of every node, in an order in which they can be computed."""
    every = ordered(rolled.forward_roots() + rolled.backward_roots())
    alone = [n for n in every if n.args and not batchable(n)]  # what has to be in a loop, and so all that it is made of
    direct = [n for n in every if any(x in rolled.carries for x in n.args)]  # a carry is there during its step only
    feeds_state = set(ordered([*rolled.new, *(n for n in alone if n.rank == STATE)]))
    feeds_carry = set(ordered([*rolled.back, *(n for n in alone + direct if n.rank == CARRY)]))
    shown = set(ordered(rolled.outputs.values()))
    found: dict[Node, str] = {}
    for node in every:
        found[node] = stage(node, found, feeds_state, feeds_carry, shown)
    return found


def stage(node: Node, found: dict[Node, str], feeds_state: set[Node], feeds_carry: set[Node], shown: set[Node]) -> str:
    """The stage of a node whose arguments have theirs."""
    if node.rank == CONSTANT:
        return ONCE
    if node.rank == RESULT:
        return LAST
    at_once = not node.args or batchable(node)
    if node.rank == INPUT:
        return BEFORE if at_once and all(found[x] in (ONCE, BEFORE) for x in node.args) else FORWARD
    if node.rank == STATE:
        if node in feeds_state or not at_once or not node.args:
            return FORWARD
        return OUTPUT if node in shown else BETWEEN
    if node.rank == SEED:
        return BETWEEN if at_once and all(found[x] != BACKWARD for x in node.args) else BACKWARD
    assert node.rank == CARRY
    return BACKWARD if node in feeds_carry or not at_once or not node.args else AFTER


def table(staged: dict[Node, str], why: dict[str, str]) -> str:
    """The schedule as text: the values of each stage, and why they belong to it."""
    name: dict[Node, str] = {}
    for node in staged:
        wish = node.name or (written(node, name) if node.op == "constant" else f"v{len(name)}")
        name[node] = wish if wish not in name.values() or node.op == "constant" else f"{wish}_{len(name)}"
    width = max((len(text) for node, text in name.items() if node.args), default=0)
    lines: list[str] = []
    for each in STAGES:
        nodes = [n for n, where in staged.items() if where == each and n.args]
        if nodes:
            lines += ["", f"{each}: {why[each]}"] if lines else [f"{each}: {why[each]}"]
            lines += [f"    {name[n]:<{width}} = {written(n, name)}" for n in nodes]
    return "\n".join(lines)


def written(node: Node, name: dict[Node, str]) -> str:
    """An op on named values."""
    if node.op == "constant":
        return repr(node.value) if node.is_number or not node.shape else f"constant{list(node.shape)}"
    if node.op == "getitem":
        return f"{name[node.args[0]]}[{key_text(node.params['key'])}]"
    return f"{node.op}({', '.join([*(name[x] for x in node.args), *(f'{k}={v}' for k, v in node.params.items())])})"
