"""Pictures of computation graphs: `draw(loss)` shows the graph by time, unrolled, windowed, rolled or by modules.

How time is found in a graph is in steps.py of the package. Here:

    parts.py      what a picture shows, as plain data
    graph.py      how that is found in Tensors: names.py and labels.py (words), rows.py, frames.py, record.py (gradients)
    window.py     a view, which makes a smaller graph of a graph; so do roll.py and boxes.py
    dot.py        a graph as DOT: styles.py (how boxes look), rails.py and loops.py (what holds the layout together)
    drawing.py    how that is rendered and saved
    events.py     forward and backward, event by event: event_types.py (their form), ledger.py (sums), rules.py (derivatives)
    page.py       a page of events, with page.html, .css and .js: matrices.py (arrays as tables)
    equations.py  the equations of a cell, read back
    diff.py       what one cell has more or less than another: compare.py (which box is which)
    plots.py      what `tg.flow` measures, as SVG written in svg.py
    html.py       what a notebook shows of Tensors and modules
"""

from .diff import diff
from .drawing import Drawing, draw
from .equations import Equations, equations
from .events import events
from .page import page
from .plots import plot_gradient_flow, plot_jacobians
from .record import record
from .svg import Plot

__all__ = [
    "Drawing", "Equations", "Plot", "diff", "draw", "equations", "events", "page", "plot_gradient_flow", "plot_jacobians",
    "record",
]  # fmt: skip
