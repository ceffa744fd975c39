"""The sunspot number of the next year, from all years before it: a GRU against persistence and linear autoregression.

The yearly series of 1700 to 2008 comes with statsmodels. Every method learns from 1700 to 1920 and forecasts one year ahead,
as Weigend, Huberman & Rumelhart (1990) did. What follows to 1955 is like what was learnt; of the five maxima after it, three
are higher than any before. Networks that differ only in their seeds differ in their forecasts: there are five, and a mean.

Expected root mean squared errors (seeds 0 to 4):

                          1921-1955      1956-2008
    persistence             25.3           33.4
    autoregression AR(9)    13.8           19.5
    each GRU            11.3 to 12.4   18.8 to 20.4
    mean of 5 GRUs          11.7           19.6

The network beats AR(9) on the first span. On the second it is no better.

Its size and its epochs, and the order 9, did best on 1816-1850, 1851-1885 and 1886-1920, each span forecast after learning
from the years before it.
"""

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

try:
    import statsmodels.api as sm
    from matplotlib.figure import Figure
except ImportError:
    raise ModuleNotFoundError(
        'sunspots.py needs statsmodels (the data) and matplotlib: python -m pip install -e ".[data]"'
    ) from None

FIRST, TRAIN = 1700, 221  # the first year, and how many are learnt from: to 1920
SPANS = {"1921-1955": slice(221, 256), "1956-2008": slice(256, 309)}
ORDER, WINDOW, WARM_UP = 9, 36, 12  # in its first years a network has seen too little: they have no loss
SEEDS = 5
EXPECTED = {"1921-1955": "11.3 to 12.4", "1956-2008": "18.8 to 20.4"}


def load():
    """The sunspot numbers of 1700, 1701, ..., 2008, (309,)."""
    return sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()


def persistence(series):
    """Next year is as this year. All forecasts are for the year at their place; those that cannot be made are NaN."""
    return np.concatenate([[np.nan], series[:-1]])


def autoregression(series, order: int = ORDER, train: int = TRAIN):
    """x_t = c + a_1 x_(t-1) + ... + a_order x_(t-order) by least squares over the first years (Yule 1927)."""
    years = tg.data.windows(series, order + 1)
    past = np.column_stack([np.ones(len(years)), years[:, :-1]])
    weights = np.linalg.lstsq(past[: train - order], years[: train - order, -1])[0]
    return np.concatenate([np.full(order, np.nan), past @ weights])


class Forecaster(tg.nn.Module):
    """From the years so far, (N, T, 1), the year after each of them."""

    def __init__(self, hidden: int):
        self.gru = tg.compile(tg.nn.GRU(1, hidden, batch_first=True))
        self.linear = tg.nn.Linear(hidden, 1)

    def forward(self, x):
        return self.linear(self.gru(x)[0])


def network(series, seed: int = 0, epochs: int = 50, hidden: int = 16, train: int = TRAIN):
    """The forecasts of a GRU that learns from windows of 37 years, and then reads the whole series."""
    mean, std = series[:train].mean(), series[:train].std()
    x = ((series - mean) / std).astype(np.float32)[:, None]
    tg.manual_seed(seed)
    model = Forecaster(hidden)
    adam = tg.optim.Adam(model.parameters(), lr=0.01)
    schedule = tg.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    batches = tg.data.Batches(tg.data.windows(x[:train], WINDOW + 1), batch_size=32, shuffle=True)
    for _ in tg.data.progress(range(epochs), f"seed {seed}"):
        for (years,) in batches:
            loss = tg.nn.functional.mse_loss(model(years[:, :-1])[:, WARM_UP:], years[:, WARM_UP + 1 :])
            adam.zero_grad()
            loss.backward()
            tg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
        schedule.step()
    with tg.no_grad():
        forecasts = model(x[None, :-1]).numpy().ravel()
    return np.concatenate([[np.nan], forecasts * std + mean])


def rmse(series, forecasts):
    """The root mean squared error in each span."""
    return {span: np.sqrt(np.mean((series[at] - forecasts[at]) ** 2)) for span, at in SPANS.items()}


def run(seed: int = 0, epochs: int = 50, hidden: int = 16, seeds: int = SEEDS):
    """The series; the forecasts of the two simple methods and of the mean of the networks, by name; and each network's."""
    series = load()
    networks = [network(series, s, epochs, hidden) for s in range(seed, seed + seeds)]
    forecasts = {
        "persistence": persistence(series),
        f"autoregression AR({ORDER})": autoregression(series),
        f"mean of {seeds} GRUs": np.mean(networks, axis=0),
    }
    return series, forecasts, networks


def draw(series, forecasts, networks, path: Path):
    """The series with the networks' mean forecast, and the errors of all methods."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    top, *bottom = figure.subplot_mosaic([["series", "series"], list(SPANS)], height_ratios=[3, 1.3]).values()
    years = FIRST + np.arange(len(series))
    top.plot(years, series, color="0.25", linewidth=1, label="observed")
    *_, (name, mean) = forecasts.items()
    for n, (span, at) in enumerate(SPANS.items()):
        top.plot(years[at], mean[at], color=f"C{n}", linewidth=1.6, label=f"{name}, {span}")
    top.axvspan(FIRST, FIRST + TRAIN - 0.5, color="0.93", zorder=0)
    top.text(1851, 190, f"learnt from, since {FIRST}", color="0.4", va="top")
    top.set(xlim=(1850, years[-1] + 1), ylim=(0, 200), ylabel="sunspot number")
    top.legend(frameon=False, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.14))
    rows = [*forecasts, "each GRU"]
    for n, (axes, span) in enumerate(zip(bottom, SPANS, strict=True)):
        errors = [rmse(series, forecast)[span] for forecast in forecasts.values()]
        axes.barh(rows[:-1], errors, color=["0.8", "0.6", f"C{n}"], height=0.6)
        axes.plot([rmse(series, forecast)[span] for forecast in networks], [rows[-1]] * len(networks), "o", color=f"C{n}",
                  markersize=4)  # fmt: skip
        for row, error in enumerate(errors):
            axes.annotate(f"{error:.1f}", (error, row), (3, 0), textcoords="offset points", va="center")
        axes.margins(x=0.12)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"root mean squared error, {span}")
    for axes in (top, *bottom):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Forecast the yearly sunspot numbers, one year ahead.")
    parser.add_argument("--seed", type=int, default=0, help="of the first network (default: 0)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many networks (default: {SEEDS})")
    parser.add_argument("--epochs", type=int, default=50, help="passes over the years to 1920 (default: 50)")
    parser.add_argument("--hidden", type=int, default=16, help="units of each network (default: 16)")
    parser.add_argument("--figure", type=Path, default=Path("sunspots.svg"), help="(default: sunspots.svg)")
    options = parser.parse_args(argv)
    series, forecasts, networks = run(options.seed, options.epochs, options.hidden, options.seeds)
    print("root mean squared error, one year ahead" + "".join(f"{span:>15}" for span in SPANS))
    for name, forecast in forecasts.items():
        print(f"  {name:37}" + "".join(f"{error:15.1f}" for error in rmse(series, forecast).values()))
    errors = [rmse(series, forecast) for forecast in networks]
    ranges = {span: sorted(e[span] for e in errors) for span in SPANS}
    print(f"  {'each GRU':37}" + "".join(f"{f'{r[0]:.1f} to {r[-1]:.1f}':>15}" for r in ranges.values()))
    print(f"  {'  expected by default':37}" + "".join(f"{EXPECTED[span]:>15}" for span in SPANS))
    draw(series, forecasts, networks, options.figure)
    print(f"\nThe series with the forecasts: {options.figure}")


if __name__ == "__main__":
    main()
