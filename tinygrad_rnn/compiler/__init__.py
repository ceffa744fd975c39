"""tg.compile: from one step of a cell to a program in NumPy, or in C, that runs over time, forward and back.

Read it in the order of its work:

    trace.py     one step, written down, and its gradient by the table's rules
    program.py   what is written down
    rewrite.py   the same in fewer operations; its passes, over rebuild.py, are norms.py, pack.py, regroup.py, linear.py,
                 join.py, widen.py, planes.py, broadcast.py and aligned.py
    roll.py      from one step to all of them; join.py has a word to say on that, too
    schedule.py  what has to be in the loop
    places.py    where values live
    emit.py      the text of the loops; at_once.py: of all around them, over writer.py (names) and text.py (single operations)
    native/      loops in C; from rewrite.py on, in place of NumPy's
    run.py       a program as an op, and which of the two; self_check.py: is it right? settings.py: is it up to date?
    layer.py     a layer that runs programs

textbook.py writes the same program plainly, to be read: readable.py (familiar algebra), pairs.py (the gradient of what),
lines.py (which values get a line, and a name), expressions.py (how an expression is written).
"""

from .layer import Compiled, compile
from .trace import CompileError

__all__ = ["CompileError", "Compiled", "compile"]
