"""Handwritten digits, read row by row: what does a GRU believe after each row, and when should it be asked?

The 1,797 digits of 8 x 8 pixels come with scikit-learn; a quarter is held out. A digit is a sequence of eight rows. One
network is asked for the digit at the end alone, as is usual; another after every row, with the mean of eight losses. Beside
them stand eight logistic regressions, on the pixels of the first row, of the first two, and so on.

Expected shares of held-out digits that are read correctly (seeds 0 to 4, each with its own quarter held out), in percent:

    rows read                     4               8
    logistic regression     80.4 to 85.1    96.2 to 97.1
    GRU, asked at the end    5.8 to 14.4    97.8 to 98.9
    GRU, asked every row    86.4 to 88.7    92.4 to 96.7

The network that is asked at the end is the best reader of whole digits, and has nothing to say before. The one that is asked
every row is the best reader of half a digit, and pays for it in the end.
"""

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
except ImportError:
    raise ModuleNotFoundError(
        'digits.py needs scikit-learn (the data) and matplotlib: python -m pip install -e ".[data]"'
    ) from None

ROWS, CLASSES = 8, 10
SHOWN = 2, 3, 8  # the digits of the picture, the first of each that is held out
EXPECTED = {
    "logistic regression": "96.2 to 97.1",
    "GRU, asked at the end": "97.8 to 98.9",
    "GRU, asked every row": "92.4 to 96.7",
}


def load(seed: int = 0):
    """Digits (N, 8, 8) with pixels from 0 to 1 and their classes (N,): those to learn from, then those held out."""
    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)
    x, x_held, y, y_held = train_test_split(pixels, digits.target, test_size=0.25, random_state=seed, stratify=digits.target)
    return x, y, x_held, y_held


class Reader(tg.nn.Module):
    """Scores of the ten digits after each row, (N, 8, 10)."""

    def __init__(self, hidden: int):
        self.gru = tg.compile(tg.nn.GRU(ROWS, hidden, batch_first=True))
        self.linear = tg.nn.Linear(hidden, CLASSES)

    def forward(self, x):
        return self.linear(self.gru(x)[0])


def train(x, y, every_row: bool, seed: int = 0, epochs: int = 20, hidden: int = 64):
    """A Reader that is asked after every row, or at the end alone."""
    tg.manual_seed(seed)
    model = Reader(hidden)
    adam = tg.optim.Adam(model.parameters(), lr=0.01)
    schedule = tg.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for _ in tg.data.progress(range(epochs), "asked every row" if every_row else "asked at the end"):
        for rows, digit in tg.data.Batches(x, y, batch_size=32, shuffle=True):
            asked = model(rows)[:, 0 if every_row else -1 :].reshape(-1, CLASSES)
            loss = tg.nn.functional.cross_entropy(asked, digit.repeat(len(asked) // len(digit)))
            adam.zero_grad()
            loss.backward()
            tg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
        schedule.step()
    return model


@tg.no_grad()
def beliefs(model, x):
    """The probabilities of the ten digits after each row, (N, 8, 10)."""
    return tg.nn.functional.softmax(model(x)).numpy()


def accuracy(model, x, y):
    """The share of digits that are right, if the most probable one is named after each row: (8,)."""
    return (beliefs(model, x).argmax(axis=-1) == y[:, None]).mean(axis=0)


def regressions(x, y, x_held, y_held):
    """The same of logistic regressions on the pixels of the first row, of the first two, ...: (8,)."""
    shares = []
    for k in range(1, ROWS + 1):
        known, new = (digits[:, :k].reshape(len(digits), -1) for digits in (x, x_held))
        shares.append(LogisticRegression(max_iter=1000).fit(known, y).score(new, y_held))
    return np.array(shares)


def run(seed: int = 0, epochs: int = 20, hidden: int = 64):
    """The network that is asked every row, the held-out digits, and the shares of them read correctly after each row."""
    x, y, x_held, y_held = load(seed)
    at_end, every_row = (train(x, y, every, seed, epochs, hidden) for every in (False, True))
    shares = {
        "logistic regression": regressions(x, y, x_held, y_held),
        "GRU, asked at the end": accuracy(at_end, x_held, y_held),
        "GRU, asked every row": accuracy(every_row, x_held, y_held),
    }
    return every_row, x_held, y_held, shares


def draw(model, x, y, shares, path: Path):
    """Three digits, row by row, beside what the network believes after each row; and the shares read correctly."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    top, bottom = figure.subfigures(2, height_ratios=[1, 2])
    axes = top.subplots(1, 6, width_ratios=[ROWS, CLASSES] * 3)
    for pixels, believed, digit in zip(axes[::2], axes[1::2], SHOWN, strict=True):
        image = x[np.flatnonzero(y == digit)[0]]
        pixels.imshow(image, cmap="gray_r")
        pixels.set(xticks=[], yticks=range(ROWS), yticklabels=range(1, ROWS + 1), title=f"a {digit}")
        believed.imshow(beliefs(model, image[None])[0], cmap="Blues", vmin=0, vmax=1)
        believed.set(xticks=range(CLASSES), yticks=[], title="believed to be")
    axes[0].set_ylabel("row")
    below = bottom.subplots()
    for (name, share), style in zip(shares.items(), ("s--", "o-", "o-"), strict=True):
        below.plot(range(1, ROWS + 1), share, style, label=f"{name}: {share[-1]:.1%} after the last", markersize=5)
    below.set(xlabel="rows read", ylabel="held-out digits read correctly", ylim=(0, 1.02))
    below.legend(frameon=False, loc="center", bbox_to_anchor=(0.48, 0.58))
    below.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Read handwritten digits row by row.")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the initial weights (default: 0)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the digits (default: 20)")
    parser.add_argument("--hidden", type=int, default=64, help="units of each network (default: 64)")
    parser.add_argument("--figure", type=Path, default=Path("digits.svg"), help="(default: digits.svg)")
    options = parser.parse_args(argv)
    model, x, y, shares = run(options.seed, options.epochs, options.hidden)
    print(f"{len(y)} held-out digits read correctly, in percent\n")
    print(f"  {'rows read':22}" + "".join(f"{k:6}" for k in range(1, ROWS + 1)) + "   expected after the last")
    for name, share in shares.items():
        print(f"  {name:22}" + "".join(f"{100 * s:6.1f}" for s in share) + f"   {EXPECTED[name]}")
    draw(model, x, y, shares, options.figure)
    print(f"\nWhat the network believes after each row: {options.figure}")


if __name__ == "__main__":
    main()
