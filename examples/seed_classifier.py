"""Is the sum of ten random numbers positive? A recurrent network reads them one by one and says so after the last.

The job and every hyperparameter come from a NumPy tutorial whose hand-written backward pass stops at the first sample
(docs/seed_classifier.md tells why). Here only the forward pass is written. Run it with `--seed N` for other data and weights.
"""

import argparse
from collections.abc import Callable, Iterable

import numpy as np

import tinygrad_rnn as tg

INPUT, HIDDEN, OUTPUT, STEPS = 1, 32, 1, 10
SAMPLES, EPOCHS, LEARNING_RATE = 1000, 10, 0.01


class Classifier(tg.nn.Module):
    """h = tanh(W_xh x + W_hh h + b_h) at each step; the last h gives a score, positive for "yes"."""

    def __init__(self, rng: np.random.RandomState):
        self.W_xh = tg.nn.Parameter(rng.randn(HIDDEN, INPUT) * np.sqrt(1 / INPUT))
        self.W_hh = tg.nn.Parameter(rng.randn(HIDDEN, HIDDEN) * np.sqrt(1 / HIDDEN))
        self.W_hy = tg.nn.Parameter(rng.randn(OUTPUT, HIDDEN) * np.sqrt(1 / HIDDEN))
        self.b_h = tg.nn.Parameter(np.zeros(HIDDEN))
        self.b_y = tg.nn.Parameter(np.zeros(OUTPUT))

    def forward(self, x):
        h = np.zeros(HIDDEN)
        for x_t in x:
            h = np.tanh(self.W_xh @ x_t + self.W_hh @ h + self.b_h).named("h")
        return (self.W_hy @ h + self.b_y).named("score")


def make_data(rng: np.random.RandomState, samples: int = SAMPLES):
    """Sequences (samples, STEPS, 1) and their labels (samples, 1): 1.0 where the sum is positive."""
    x = rng.randn(samples, STEPS, INPUT)
    return x, (x.sum(axis=1) > 0).astype(float)


def loss_of(model, x, y):
    """The binary cross-entropy of one sequence, computed from the score, so that no logarithm of 0 can occur."""
    return tg.nn.functional.binary_cross_entropy_with_logits(model(x), y)


def train(model, xs, ys, epochs: int = EPOCHS, progress: Callable[[Iterable[int]], Iterable[int]] = iter):
    """One update per sequence, in their order. Returns the mean loss of each epoch."""
    sgd = tg.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    means = []
    for _ in progress(range(epochs)):
        total = 0.0
        for x, y in zip(xs, ys, strict=True):
            loss = loss_of(model, x, y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            total += loss.item()
        means.append(total / len(xs))
    return means


@tg.no_grad()
def accuracy(model, xs, ys):
    """The share of the sequences that are classified correctly."""
    return np.mean([(model(x).item() > 0) == (y.item() > 0) for x, y in zip(xs, ys, strict=True)])


def run(seed: int = 0, progress: Callable[[Iterable[int]], Iterable[int]] = iter):
    """Train on 1,000 sequences: the model, the mean loss of each epoch, and the accuracy on 1,000 other sequences."""
    rng = np.random.RandomState(seed)
    xs, ys = make_data(rng)
    model = Classifier(rng)
    losses = train(model, xs, ys, progress=progress)
    return model, losses, accuracy(model, *make_data(rng))


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Train the tutorial's classifier, forward pass only.")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the initial weights (default: 0)")
    _, losses, share = run(parser.parse_args(argv).seed)
    for epoch, loss in enumerate(losses, 1):
        print(f"epoch {epoch:2}   mean loss {loss:.4f}")
    print(f"correct on {SAMPLES:,} sequences never seen: {share:.1%}")


if __name__ == "__main__":
    main()
