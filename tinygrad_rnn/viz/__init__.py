"""Pictures of computation graphs: `draw(loss)` shows the graph by time, as it was unrolled.

Read steps.py for how time is found in a graph, graph.py for what a picture shows (labels.py and names.py for its words,
frames.py for its frames), dot.py for how that is written as DOT, drawing.py for how it is rendered and saved.
"""

from .drawing import Drawing, draw

__all__ = ["Drawing", "draw"]
