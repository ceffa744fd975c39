"""What the loops of a C program compute, what they keep in memory, and what is computed again rather than kept.

The schedule differs from that of NumPy: an elementwise operation is free while its arguments are at hand, so it stays in the
loop where they are. Only products, and what C cannot write, leave it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..places import Buffer, Place, parts
from ..program import CARRY, CONSTANT, INPUT, RESULT, SEED, STATE, Node, ordered, users
from ..roll import Rolled
from ..schedule import AFTER, BACKWARD, BEFORE, BETWEEN, FORWARD, KNOWN, LAST, LOOPS, ONCE, OUTPUT, batchable
from ..trace import CompileError
from .c_text import CHEAP, REAL
from .rows import by_rows, view, width


class NotInC(CompileError):
    """A step that can become a program of NumPy, but not of C."""

    def __init__(self, what: str, node: Node) -> None:
        super().__init__(
            f"{node.line or 'the step'} needs {what} in every step, which cannot be written in C. "
            'Leave target out or write target="numpy", and NumPy runs it'
        )


GIVEN = {INPUT: BEFORE, STATE: FORWARD, SEED: BETWEEN, CARRY: BACKWARD}  # where what is given is known from


def fused_stages(rolled: Rolled) -> dict[Node, str]:
    """The stage of every node, in an order in which they can be computed."""
    ahead = set(ordered(rolled.forward_roots()))
    every = ordered(rolled.forward_roots() + rolled.backward_roots())
    feeds = set(ordered([*rolled.new, *rolled.back]))
    found: dict[Node, str] = {}
    for node in every:
        found[node] = fused_stage(node, found, node in ahead, node in feeds)
    reading = users(every)
    for node in reversed(every):  # a view of a vector that the loops alone read is an index there, and needs no memory
        if node.rank == CONSTANT and view(node).root is not node and all(found[y] in LOOPS for y in reading[node]):
            found[node] = FORWARD
    return found


def fused_stage(node: Node, found: dict[Node, str], ahead: bool, feeds: bool) -> str:
    """The stage of a node whose arguments have theirs. ahead: of the way forward; feeds: the next step depends on it."""
    read = {found[x] for x in node.args}
    if node.rank == CONSTANT:
        return ONCE
    if node.rank == RESULT:
        return LAST
    if not node.args:
        return GIVEN[node.rank]
    late = OUTPUT if ahead else AFTER
    if by_rows(node):
        return late if late in read else FORWARD if ahead else BACKWARD
    if node.rank == INPUT and ahead and batchable(node) and read <= set(KNOWN):
        return BEFORE
    if feeds or not batchable(node):
        return FORWARD if ahead else BACKWARD
    if not ahead and not read & {BACKWARD, AFTER}:
        return BETWEEN
    return late


class Plan:
    """What both loops compute (`body`), in which pass (`phase`), and where: in memory that is read in the loop alone
    (`temporary`), or elsewhere, too (`of`), or in none. `copies` are values, and places where they belong besides. Over time,
    `sums` are taken in the loop, and `products` after it. `public` is the memory that NumPy reads.
    """

    def __init__(self, rolled: Rolled, staged: dict[Node, str]) -> None:
        self.rolled, self.staged = rolled, staged
        self.of: dict[Node, Place] = {}
        self.temporary: dict[str, dict[Node, Place]] = {loop: {} for loop in LOOPS}
        self.copies: dict[str, list[tuple[Node, Place]]] = {loop: [] for loop in LOOPS}
        self.states = [Buffer(new, True, True) for new in rolled.new]
        self.carries = [Buffer(carry, False) for carry in rolled.carries]
        for buffer in self.carries:
            buffer.shape = (2, *buffer.shape)  # what a step is given and what it gives, in turn
        self.sums = {n: Place(Buffer(n, False)) for n, s in staged.items() if s == LAST and self.is_sum(n)}
        self.products = {n: Place(Buffer(n, False)) for n, s in staged.items() if s == LAST and self.is_product(n)}
        self.of |= self.sums | self.products
        self.place_states(FORWARD, rolled.states, rolled.new, self.states)
        outside = self.read_outside()
        for node in outside:
            self.keep(node)
        self.place_states(BACKWARD, rolled.carries, rolled.back, self.carries)  # last: a carry is there for a step only
        self.public = {self.of[n].buffer for n in (*outside, *self.sums, *self.products)} | {*self.states, *self.carries}
        back = [*rolled.back, *self.sums, *(n for n in self.of if n.args and staged[n] == BACKWARD)]
        self.body = {BACKWARD: self.closure(back, BACKWARD) if rolled.back else []}  # first: it says what to keep
        ahead = [*rolled.new, *(n for n in self.of if n.args and staged[n] == FORWARD)]
        self.body[FORWARD] = self.closure(ahead, FORWARD)
        self.spread_factors()
        for loop in LOOPS:
            self.check_rows(loop)
        self.phase: dict[str, dict[Node, int]] = {loop: self.phases(loop) for loop in LOOPS}

    def is_sum(self, node: Node) -> bool:
        """Is this a sum over time and batch that the loop can take as it goes?"""
        rows = node.op == "columns" or (node.op == "total" and node.params["axes"] == (0,) and len(node.args[0].shape) == 2)
        return rows and self.in_time(node)

    def is_product(self, node: Node) -> bool:
        """Is this a product of matrices over time and batch that C can take once the loop is through?"""
        batch = self.rolled.given["x"].shape[:1]

        def plain(x: Node) -> bool:
            rows = len(x.shape) == 2 and x.shape[:1] == batch and x.dtype == node.dtype
            return rows and (width(x) == 1 or not view(x).one)  # columns that are all the same are nowhere written out

        return node.op == "product" and node.dtype in REAL and all(map(plain, node.args)) and self.in_time(node)

    def in_time(self, node: Node) -> bool:
        """Are the arguments of a sum over time there when the way back goes through its loop?"""
        return all(x.rank != CONSTANT and self.staged[x] not in (AFTER, OUTPUT) for x in node.args)

    def place_states(self, loop: str, olds: Iterable[Node], news: Iterable[Node], buffers: Iterable[Buffer]) -> None:
        """States, or the gradients that are carried: what a step is given and what it gives."""
        for old, new, buffer in zip(olds, news, buffers, strict=True):
            (self.of if loop == FORWARD else self.temporary[loop])[old] = Place(buffer, old=True)
            self.settle(new, Place(buffer), loop)

    def settle(self, node: Node, place: Place, loop: str) -> None:
        """A value is to be at this place: computed there, or copied to it."""
        if self.staged.get(node) == loop and node.args and node not in self.of and view(node).root is node:
            self.put(node, place, self.of)
        else:
            self.copies[loop].append((node, place))

    def put(self, node: Node, place: Place, where: dict[Node, Place]) -> None:
        """A value lives there, and what it is joined of, in its part of it."""
        where[node] = place
        if node.op == "concatenate" and by_rows(node):
            for key, part in parts(node):
                mine = self.staged[part] == self.staged[node] and part.args and part not in self.of
                if mine and view(part).root is part and part not in where:
                    self.put(part, place._replace(views=(*place.views, ("getitem", key))), where)

    def read_outside(self) -> list[Node]:
        """The values of a loop that are read where NumPy computes, or are results."""
        found = [*self.rolled.outputs.values(), self.rolled.dx]
        for node, stage in self.staged.items():
            if stage not in LOOPS and node not in self.sums:
                found += node.args
        return [n for n in found if n is not None and self.staged[n] in LOOPS]

    def keep(self, node: Node) -> None:
        """A value of a loop is kept for all steps."""
        if node in self.of:
            return
        root, start, one = view(node)
        if root is node and node.args:
            self.put(node, Place(Buffer(node, True)), self.of)
        elif root is not node and len(node.shape) == 2 and not one and self.staged[root] in LOOPS:  # a slice
            self.keep(root)
            key = slice(None), slice(start, start + width(node))
            self.of[node] = self.of[root]._replace(views=(*self.of[root].views, ("getitem", key)))
        else:
            self.of[node] = Place(Buffer(node, True))
            self.copies[self.staged[node]].append((node, self.of[node]))

    def closure(self, roots: Iterable[Node], loop: str) -> list[Node]:
        """What a loop computes so that it has these values, in an order that works.

        What is cheap is computed again on the way back.
        """
        found: set[Node] = set()
        stack = [*roots, *(node for node, _ in self.copies[loop])]
        while stack:
            node = view(stack.pop()).root
            if node in found or not node.args or (self.staged[node] not in LOOPS and node not in self.sums):
                continue
            if loop == BACKWARD and self.staged[node] == FORWARD:
                if costly := self.costly(node):
                    one, *others = costly  # if it lacks one value alone, then that, which is there for others, too
                    self.keep(node if others or width(one) != width(node) else one)
                if node in self.of:
                    continue
            found.add(node)
            stack += node.args
        return [n for n in self.staged if n in found]

    def costly(self, node: Node) -> set[Node]:
        """What of the way forward the way back lacks to have a value cheaply: to be kept, if the value is not."""
        found, seen, stack = set[Node](), set[Node](), [node]
        while stack:
            root = view(stack.pop()).root
            if root in seen or not root.args or root in self.of or self.staged[root] not in LOOPS:
                continue
            seen.add(root)
            if root.op not in CHEAP | {"concatenate"} or width(root) == 1 or not by_rows(root):
                found.add(root)
            else:
                stack += [x for x in root.args if width(x) > 1]
        return found

    def spread_factors(self) -> None:
        """A column that is a factor of a matrix product as many equal columns is written out."""
        for loop in LOOPS:
            for node in self.body[loop]:
                x = node.args[0]
                if node.op == "matmul" and view(x).one and width(x) > 1 and self.place(x, loop) is None:
                    self.temporary[loop][x] = Place(Buffer(x, False))
                    self.copies[loop].append((x, self.temporary[loop][x]))

    def check_rows(self, loop: str) -> None:
        """Raise NotInC if a loop would have something that does not go by the rows of the batch."""

        def of_batch(node: Node) -> bool:
            return node.rank == CONSTANT or node.shape[:1] == self.rolled.given["x"].shape[:1]

        for node in self.body[loop]:
            rows = node.op == "matmul" or node in self.sums or (by_rows(node) and of_batch(node))
            if not rows or not all(of_batch(view(x).root) for x in node.args):
                raise NotInC(f"{node.op} of {', '.join(str(x.shape) for x in node.args)}", node)
        for node, _ in self.copies[loop]:
            if not of_batch(view(node).root):
                raise NotInC(f"{view(node).root.shape} as rows of {node.shape}", node)

    def phases(self, loop: str) -> dict[Node, int]:
        """In which pass each value is computed. Between passes are the products, which read what passes have written."""
        body, found = self.body[loop], dict[Node, int]()
        readers: dict[Node, list[Node]] = {node: [] for node in body}
        for node in body:
            read = {view(x).root for x in node.args} & found.keys()
            found[node] = max((found[r] + (r.op == "matmul") for r in read), default=0)
            for r in read:
                readers[r].append(node)
        for node in reversed(body):  # as late as its readers let it
            if readers[node] and node.op != "matmul":
                found[node] = min(found[y] for y in readers[node])
        for node in reversed(body):
            in_memory = node.op == "matmul" or any(y.op == "matmul" or found[y] > found[node] for y in readers[node])
            if in_memory and self.place(node, loop) is None:
                self.put(node, Place(Buffer(node, False)), self.temporary[loop])
        return found

    def ready(self, value: Node, loop: str) -> int:
        """The first pass that can read a value."""
        root = view(value).root
        return self.phase[loop][root] + (root.op == "matmul") if root in self.phase[loop] else 0

    def place(self, node: Node, loop: str) -> Place | None:
        """Where a value is, if it is in memory."""
        return self.temporary[loop].get(node) or self.of.get(node)
