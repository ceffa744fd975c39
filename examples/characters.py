"""Python's own standard library, character by character: an LSTM learns to say which one comes next.

The text is on every machine that runs this. The network reads some modules once, with gradients that go back 32 characters
and a state that is carried on, and is measured on modules that it has never read, in bits per character: the mean of
-log2 p(next character). Beside it stand the counts of single characters, of pairs and of triples.

Expected after one pass over 1.1 million characters (Python 3.11, seeds 0 to 4):

    counts of characters    4.67
    counts of pairs         3.77
    counts of triples       3.18
    LSTM                    2.59 to 2.67

The text differs a little between versions of Python, and so do the numbers. It takes 15 seconds; `--epochs 3` gets lower.
"""

import argparse
import sysconfig
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

try:
    from matplotlib.figure import Figure
except ImportError:
    raise ModuleNotFoundError('characters.py draws with matplotlib: python -m pip install -e ".[data]"') from None

TRAINING = (
    "argparse", "configparser", "dataclasses", "doctest", "functools", "inspect", "optparse", "pdb", "pickle", "shutil",
    "smtplib", "socket", "subprocess", "threading", "traceback", "typing",
)  # fmt: skip
HELD_OUT = ("fractions", "ipaddress", "statistics")
CHARACTERS = "\n" + "".join(map(chr, range(ord(" "), ord("~") + 1)))
ROWS, STEPS, CHECKS = 32, 32, 10  # rows of text side by side, steps back in time, measurements in an epoch
COUNTED = "characters", "pairs", "triples"
EXPECTED = "2.59 to 2.67"


def encode(text: str):
    """The places of its characters in CHARACTERS; what is not there is left out."""
    return np.array([place for place in map(CHARACTERS.find, text) if place >= 0])


def read(modules):
    """The source of some modules of the standard library, encoded."""
    folder = Path(sysconfig.get_path("stdlib"))
    return encode("".join((folder / f"{module}.py").read_text(encoding="utf-8") for module in modules))


def side_by_side(text, rows: int):
    """A text cut into rows, (time, rows), and the character that follows each, of the same shape."""
    time = (len(text) - 1) // rows
    x, y = (text[start : start + time * rows].reshape(rows, time).T for start in (0, 1))
    return x, y


def ngram_bits(text, held_out, order: int, prior: float = 5.0):
    """Bits per character of counts: of characters (order 1), pairs (2), triples (3).

    Each context's counts are added to `prior` times the probabilities of the context without its first character (MacKay &
    Peto 1995), which gives what was never counted a chance.
    """
    size = len(CHARACTERS)
    p = np.full((1, size), 1 / size)
    for n in range(1, order + 1):
        place, held_out_place = (np.ravel_multi_index(tg.data.windows(t, n).T, (size,) * n) for t in (text, held_out))
        counts = np.bincount(place, minlength=size**n).reshape(-1, size)
        shorter = np.tile(p, (len(counts) // len(p), 1))
        p = (counts + prior * shorter) / (counts.sum(axis=1, keepdims=True) + prior)
    return -np.log2(p.ravel()[held_out_place]).mean()


class Characters(tg.nn.Module):
    """Scores of the next character after each one, and the LSTM's state."""

    def __init__(self, hidden: int):
        self.embedding = tg.nn.Embedding(len(CHARACTERS), 32)
        self.lstm = tg.compile(tg.nn.LSTM(32, hidden))
        self.linear = tg.nn.Linear(hidden, len(CHARACTERS))

    def forward(self, x, hx=None):
        y, hx = self.lstm(self.embedding(x), hx)
        return self.linear(y), hx


def loss_of(scores, targets, reduction: str = "mean"):
    return tg.nn.functional.cross_entropy(scores.reshape(-1, len(CHARACTERS)), targets.ravel(), reduction=reduction)


@tg.no_grad()
def bits(model, text):
    """The model's bits per character on a text."""
    xs, ys = side_by_side(text, 64)
    total, state = 0.0, None
    for x, y in zip(np.array_split(xs, 10), np.array_split(ys, 10), strict=True):
        scores, state = model(x, state)
        total += loss_of(scores, y, "sum").item()
    return total / ys.size / np.log(2)


def train(model, text, held_out, epochs: int = 1):
    """Truncated backpropagation through time. Returns pairs: characters read so far, and the bits on the held-out text."""
    xs, ys = side_by_side(text, ROWS)
    pieces = list(zip(np.array_split(xs, CHECKS), np.array_split(ys, CHECKS), strict=True))
    adam = tg.optim.Adam(model.parameters(), lr=0.01)
    schedule = tg.optim.lr_scheduler.CosineAnnealingLR(adam, epochs * CHECKS)
    state, curve = None, [(0, bits(model, held_out))]
    for i in tg.data.progress(range(epochs * CHECKS), "training"):
        x, y = pieces[i % CHECKS]
        if i % CHECKS == 0:
            state = None  # the text begins again
        for window in tg.nn.tbptt(model, x, STEPS, STEPS, lambda scores, at, y=y: loss_of(scores, y[at]), hx=state):
            tg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad()
            state = window.state
        schedule.step()
        curve.append((curve[-1][0] + x.size, bits(model, held_out)))
    return curve


@tg.no_grad()
def write(model, beginning: str = "def ", length: int = 400, temperature: float = 0.8, seed: int = 0):
    """A text that goes on from its beginning, drawn character by character; a low temperature prefers what is likely."""
    rng = np.random.default_rng(seed)
    text, (scores, state) = beginning, model(encode(beginning))
    for _ in range(length):
        p = tg.nn.functional.softmax(scores[-1] / temperature).numpy().astype(float)
        place = rng.choice(len(p), p=p / p.sum())
        text += CHARACTERS[place]
        scores, state = model(np.array([place]), state)
    return text


def run(seed: int = 0, epochs: int = 1, hidden: int = 128):
    """The model, its curve of held-out bits, and those of what is counted, by name."""
    tg.manual_seed(seed)
    text, held_out = read(TRAINING), read(HELD_OUT)
    model = Characters(hidden)
    curve = train(model, text, held_out, epochs)
    return model, curve, {name: ngram_bits(text, held_out, n) for n, name in enumerate(COUNTED, 1)}


def draw(curve, counted, path: Path):
    """The held-out bits as the network reads, with those of the counts as lines."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    read_so_far, values = zip(*curve, strict=True)
    millions = np.array(read_so_far) / 1e6
    for name, value in counted.items():
        axes.axhline(value, color="0.6", linewidth=1, linestyle="--")
        axes.text(millions[-1], value + 0.08, f"counts of {name}: {value:.2f}", ha="right", color="0.35")
    axes.plot(millions, values, "o-")
    axes.text(millions[-1], values[-1] - 0.2, f"LSTM: {values[-1]:.2f}", ha="right", va="top", color="C0")
    axes.set(xlabel="characters read (millions)", ylabel="bits per character", ylim=(0, None))
    axes.set_title("The next character of modules never read")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Train an LSTM on the standard library's source, and let it write.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the sample (default: 0)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the text (default: 1)")
    parser.add_argument("--hidden", type=int, default=128, help="units of the LSTM (default: 128)")
    parser.add_argument("--figure", type=Path, default=Path("characters.svg"), help="(default: characters.svg)")
    options = parser.parse_args(argv)
    model, curve, counted = run(options.seed, options.epochs, options.hidden)
    print("bits per character on modules never read: " + ", ".join(HELD_OUT))
    for name, value in counted.items():
        print(f"  counts of {name:12}{value:.2f}")
    print(f"  {'LSTM':22}{curve[-1][1]:.2f}   expected by default: {EXPECTED}")
    print("\nWhat it writes after 'def ':\n\n" + write(model, seed=options.seed).rstrip())
    draw(curve, counted, options.figure)
    print(f"\nThe curve of its training: {options.figure}")


if __name__ == "__main__":
    main()
