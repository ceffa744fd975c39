"""Adding two numbers that are far apart: the adding problem (Hochreiter & Schmidhuber 1997, experiment 4, in its usual form).

Each of T steps brings a number between 0 and 1 and a mark. Two numbers are marked, one in each half, and after the last step
their sum is asked for. The answer 1, whatever has been read, has a mean squared error of 1/6 = 0.167: every network stands
there until it finds that the marks matter. Four networks of about 1,250 weights each get the same 38,400 sequences:

- an Elman network, an LSTM and a GRU of one layer,
- two layers of an IndRNN (Li et al. 2018), whose units each remember themselves alone.

Expected mean squared errors on 1,000 other sequences of T = 50 (seeds 0 to 4):

    always 1      0.167
    Elman         0.162  to 0.195
    LSTM          0.0005 to 0.0024
    GRU           0.0001 to 0.0002
    IndRNN        0.0002 to 0.024

The GRUs fall below 0.16 after 150 to 200 updates, the LSTMs after 375 to 1,000, the Elman networks never. The error of the
IndRNNs jumps tenfold from one measurement to the next. With `--steps 100 --updates 3000`, in half a minute, seed 0 ends at
0.168 to 0.170, 0.0006, 0.0001 and 0.001 to 0.031, in this order.
"""

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

STEPS, UPDATES, BATCH, TEST, EVERY = 50, 1200, 32, 1000, 25
EXPECTED = {"Elman": "0.162 to 0.195", "LSTM": "0.0005 to 0.0024", "GRU": "0.0001 to 0.0002", "IndRNN": "0.0002 to 0.024"}


def make_data(rng: np.random.Generator, count: int, steps: int):
    """Sequences (count, steps, 2) of values and marks, and the sums of the two marked values (count, 1)."""
    values, marks, rows = rng.random((count, steps)), np.zeros((count, steps)), np.arange(count)
    marks[rows, rng.integers(0, steps // 2, count)] = 1
    marks[rows, rng.integers(steps // 2, steps, count)] = 1
    x = np.stack([values, marks], axis=-1)
    return x.astype(np.float32), (values * marks).sum(axis=1, keepdims=True).astype(np.float32)


class Adder(tg.nn.Module):
    """From sequences (N, T, 2), a number read off a layer's last output: (N, 1)."""

    def __init__(self, layer, width: int):
        self.layer = tg.compile(layer)
        self.linear = tg.nn.Linear(width, 1)

    def forward(self, x):
        return self.linear(self.layer(x)[0][:, -1])


def lstm():
    """Its forget gates begin open, at sigmoid(2) = 0.88, so that something of the first steps reaches the last."""
    layer = tg.nn.LSTM(2, 16, batch_first=True)
    layer.gates["f"].bias_ih = 2.0
    return layer


def indrnn(steps: int):
    """Its recurrent weights begin below 2^(1/T), as in the paper: over T steps a state at most doubles."""
    layer = tg.nn.Recurrent(lambda features: tg.nn.zoo.IndRNNCell(features, 32), 2, num_layers=2, batch_first=True)
    for weight in (layer.weight_hh_l0, layer.weight_hh_l1):
        tg.nn.init.uniform_(weight, 0, 2 ** (1 / steps))
    return layer


NETWORKS = {
    "Elman": lambda steps: Adder(tg.nn.RNN(2, 32, batch_first=True), 32),
    "LSTM": lambda steps: Adder(lstm(), 16),
    "GRU": lambda steps: Adder(tg.nn.GRU(2, 18, batch_first=True), 18),
    "IndRNN": lambda steps: Adder(indrnn(steps), 32),
}


@tg.no_grad()
def error(model, x, y):
    """The mean squared error."""
    return tg.nn.functional.mse_loss(model(x), y).item()


def train(model, rng: np.random.Generator, steps: int, updates: int, label: str):
    """Every update reads new sequences. Returns points of (updates, mean squared error on others)."""
    adam = tg.optim.Adam(model.parameters(), lr=0.01)
    test = make_data(rng, TEST, steps)
    points = [(0, error(model, *test))]
    for update in tg.data.progress(range(1, updates + 1), label):
        x, y = make_data(rng, BATCH, steps)
        loss = tg.nn.functional.mse_loss(model(x), y)
        adam.zero_grad()
        loss.backward()
        tg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        if update % EVERY == 0:
            points.append((update, error(model, *test)))
    return points


def run(seed: int = 0, steps: int = STEPS, updates: int = UPDATES):
    """The points of each network by name."""
    points = {}
    for name, model in NETWORKS.items():
        tg.manual_seed(seed)
        points[name] = train(model(steps), np.random.default_rng(seed), steps, updates, f"seed {seed}, {name}")
    return points


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Four networks learn to add two numbers that are far apart.")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, each with its own sequences and weights (default: 1)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"the length of a sequence (default: {STEPS})")
    parser.add_argument("--updates", type=int, default=UPDATES, help=f"of {BATCH} sequences each (default: {UPDATES})")
    parser.add_argument("--figure", type=Path, default=Path("adding.svg"), help="(default: adding.svg)")
    options = parser.parse_args(argv)
    if options.steps < 2:
        parser.error(f"--steps: two numbers are marked, so at least 2, got {options.steps}")
    import curves  # here, so that a missing matplotlib is noticed before the training

    runs = [run(seed, options.steps, options.updates) for seed in range(options.seed, options.seed + options.seeds)]
    print(f"mean squared error on {TEST:,} other sequences of {options.steps} steps, for each seed\n")
    print("  always 1    " + " ".join(["0.1667"] * len(runs)))
    for name in NETWORKS:
        print(f"  {name:10} ", *(f"{each[name][-1][1]:.4f}" for each in runs), f"  expected by default: {EXPECTED[name]}")
    curves.draw(
        options.figure,
        {name: [each[name] for each in runs] for name in NETWORKS},
        (1 / 6, "always 1"),
        xlabel=f"updates ({BATCH} sequences of {options.steps} steps each)",
        ylabel="mean squared error",
        yscale="log",
        ylim=(5e-5, 1),
    )
    print(f"\nHow it was learnt: {options.figure}")


if __name__ == "__main__":
    main()
