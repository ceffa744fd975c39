"""Write docs/numpy_coverage.md, what of NumPy joins the graph, from the tables: `python docs/make_coverage.py`."""

import inspect
from pathlib import Path

from tinygrad_rnn import functions, numpy_api, ops
from tinygrad_rnn.functions import elementwise, indexing, linalg, products, reductions, shapes

PAGE = Path(__file__).parent / "numpy_coverage.md"
FAMILIES = [elementwise, products, reductions, shapes, indexing, linalg]

START = """# What of NumPy joins the graph

<!-- Written by `python docs/make_coverage.py`. -->

NumPy's own functions take Tensors, and what they return is part of the graph: `np.tanh(tensor)` and `tg.tanh(tensor)` are the
same. Arguments have NumPy's names and, but for the first, NumPy's places; one that is not listed here raises, unless it has
NumPy's default. All that is listed can be differentiated any number of times.
"""

REFUSED = """## What does not join

All else raises, naming the nearest function that joins. Among them:

| NumPy | nearest |
|---|---|"""

UNSEEN = """
`out=`, `where=`, `dtype=` and `order=` raise as well, and so do the methods of ufuncs (`np.add.reduce`).

`np.array([tensor, tensor])`, `np.r_` and `np.mean([tensor, tensor])` ask nobody before they convert each element: they cannot
join, and a Tensor that requires a gradient refuses the conversion. Write `np.stack` or `tg.array`.
"""


def names_of(function):
    """What NumPy calls a function of ours."""
    return ", ".join(f"`{numpy_api.called(theirs)}`" for theirs, ours in numpy_api.JOINS.items() if ours is function)


def row(name, function):
    """A line of the table of a family."""
    inside = ", ".join(map(parameter, inspect.signature(function).parameters.values()))
    place = "tg.linalg." if function.__module__ == linalg.__name__ else "tg."
    told = inspect.getdoc(function).splitlines()[0].replace("*", r"\*")  # two would be bold
    return f"| {names_of(function) or '(ours)'} | `{place}{name}({inside})` | {told} |"


def parameter(p):
    """A parameter without its type."""
    return str(p.replace(annotation=p.empty))


def section(family):
    """A family of functions."""
    here = {name: getattr(family, name) for name in sorted({*functions.__all__, *linalg.__all__}) if hasattr(family, name)}
    lines = [row(name, f) for name, f in here.items() if f.__module__ == family.__name__]
    title = family.__doc__.splitlines()[0].removesuffix(".")
    return "\n".join([f"\n## {title}\n", "| NumPy | here | |", "|---|---|---|", *lines, ""])


def listed(table):
    """Names in a row."""
    return ", ".join(sorted(f"`{numpy_api.called(function)}`" for function in table))


def page():
    """The text of the page."""
    instead = [f"| `np.{name}` | `np.{other}` |" for name, other in sorted(numpy_api.NEAREST.items())]
    return "\n".join(
        [
            START,
            *map(section, FAMILIES),
            "## Constants\n",
            "Their derivative is zero wherever they have one. The result is a Tensor without history:",
            f"{listed(numpy_api.CONSTANT)}.\n",
            "Questions about an array are answered as NumPy answers them:",
            f"{listed(numpy_api.PLAIN)}.\n",
            REFUSED,
            *instead,
            UNSEEN,
            "## The rows of the table\n",
            "Each has one derivative for each input; every function above is one of them, or made of them:",
            ", ".join(f"`{row.name}`" for row in ops.TABLE.values()) + ".\n",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
