"""Pictures of computation graphs: `draw(loss)` shows the graph by time, unrolled, windowed, rolled or by modules.

Read steps.py for how time is found in a graph, parts.py for what a picture shows, graph.py for how it is found in Tensors
(labels.py and names.py for its words, rows.py and frames.py for its rows and frames, record.py for its gradients), window.py,
roll.py and boxes.py for the views, which make a smaller graph of a graph, dot.py for how that is written as DOT (styles.py for
how boxes look, rails.py and loops.py for what holds the layout together), drawing.py for how it is rendered and saved.
events.py tells forward and backward event by event (rules.py has the derivatives in words), page.py makes a page of that.
equations.py reads the equations of a cell back, diff.py draws what one cell has more or less than another (compare.py).
plots.py plots what `tg.flow` measures, as SVG written in svg.py; html.py is what a notebook shows of Tensors and modules.
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
