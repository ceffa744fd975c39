"""The gates of a batch one after the other, (4, N, H), not side by side, (N, 4 * H), so that each of them lies together.

Where h @ W is cut into columns, W becomes a matrix for each piece, and what is done to all columns is done to all planes.
"""

from __future__ import annotations

from math import gcd

from .program import CONSTANT, STATE, Node, Program, elementwise, ordered, sliced
from .rebuild import rebuilt, roots
from .trace import Step


def planes(program: Program, step: Step) -> Step:
    """Products with the state as planes, where all that is read of them are columns."""
    results = roots(step)
    order = ordered(results)
    width: dict[Node, int] = {}  # of a plane, for all that becomes planes
    for node in order:
        if node.op == "matmul" and node.rank == STATE and node.args[1].rank == CONSTANT and len(node.shape) == 2:
            found = cut(node, order)
            if found.keys().isdisjoint(results):
                width |= found

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        count = node.shape[1] // width[node] if node in width else 1
        if node in width and node.op == "matmul":
            return program.make("matmul", args[0], matrices(program, args[1], count))
        if node in width and node.op != "getitem":
            return program.make(node.op, *(layered(program, x, count) for x in args), **node.params)
        if not node.args or node.args[0] not in width:
            return None
        first = (sliced(node) or (1, 0, 0))[1] // width[node.args[0]]
        return program.make("getitem", args[0], key=(slice(first, first + count) if node in width else first,))

    return rebuilt(program, step, rule)


def cut(product: Node, order: list[Node]) -> dict[Node, int]:
    """The product of a batch and what is made of it, if they can be planes: with the width of one."""
    reached, bounds = {product}, [0]
    for node in order:
        if not reached.isdisjoint(node.args) and node.shape[:1] == product.shape[:1]:
            reached.add(node)
            bounds += (sliced(node) or (1,))[1:]
    width = gcd(*bounds)
    if product.shape[0] < 2 or not 0 < width < product.shape[1]:
        return {}
    found = {product: width}
    for node in order:
        inside = [x for x in node.args if x in found]
        here = sliced(node)
        if inside and here is not None and here[0] == 1:
            if node.shape[1] > width:
                found[node] = width
        elif inside:
            others = [x for x in node.args if x not in found]
            fit = all(x.shape in ((), node.shape[1:], node.shape) for x in others)
            if not (fit and elementwise(node) and all(x.shape == node.shape for x in inside)):
                return {}
            found[node] = width
    return found


def matrices(program: Program, w: Node, count: int) -> Node:
    """Columns of a matrix as so many matrices."""
    make, (rows, columns) = program.make, w.shape
    if w.op == "mul" and w.args[0].shape == w.shape and len(w.args[1].shape) == 1:
        return make("mul", matrices(program, w.args[0], count), layered(program, w.args[1], count))
    if w.op == "transpose":
        return make("transpose", make("reshape", w.args[0], shape=(count, columns // count, rows)), axes=(0, 2, 1))
    return make("transpose", make("reshape", w, shape=(rows, count, columns // count)), axes=(1, 0, 2))


def layered(program: Program, x: Node, count: int) -> Node:
    """What meets planes, for each of them; a number and planes as they are."""
    if len(x.shape) == 1:
        made = program.make("reshape", x, shape=(count, 1, x.shape[0] // count))
        made.name = made.name or x.name
        return made
    if len(x.shape) != 2:
        return x
    if x.op == "concatenate" and len(x.args) == count and all(y.shape == x.args[0].shape for y in x.args):
        return program.make("stack", *x.args, axis=0)
    columns = program.make("reshape", x, shape=(x.shape[0], count, x.shape[1] // count))
    return program.make("transpose", columns, axes=(1, 0, 2))
