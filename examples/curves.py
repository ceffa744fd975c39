"""The picture of the examples that compare ways to learn: a colour for each way, a thin line for each seed."""

from pathlib import Path

try:
    from matplotlib.figure import Figure
except ImportError:
    raise ModuleNotFoundError('this example draws with matplotlib: python -m pip install -e ".[data]"') from None

COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # told apart by everyone (Okabe & Ito 2008)


def draw(path: Path, curves, baseline: tuple[float, str], **labels):
    """curves: {name: [[(x, y), ...] for each seed]}; baseline: a height and its name; labels: for `Axes.set`."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (name, seeds) in zip(COLOURS, curves.items(), strict=False):
        for n, points in enumerate(seeds):
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, alpha=0.8, label=None if n else name)
    height, text = baseline
    axes.axhline(height, color="0.4", linewidth=1, linestyle="--", label=text)
    axes.set(**labels)
    axes.minorticks_off()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(curves) + 1, frameon=False, handlelength=1.5, columnspacing=1.5)
    figure.savefig(path)
