"""The job of seed_classifier.py, by a training recipe of today: is the sum of ten random numbers positive?

The data and the network are the same: tanh, 32 units, one score after the last step, 1,000 sequences. What changes:

- a batch of 32 sequences for every update, in a new order in every epoch, instead of one sequence at a time,
- Adam (Kingma & Ba 2015) instead of SGD, with a learning rate that falls along a cosine (Loshchilov & Hutter 2017),
- recurrent weights that begin as an orthogonal matrix (Saxe et al. 2014).

Expected after 20 epochs (seeds 0 to 4): correct on 96.9 to 97.5 % of 1,000 sequences never seen, where the tutorial's recipe
gets 89.4 to 90.6 %. It is quicker, too: 640 updates on batches, in a quarter of a second, for 20,000 on single sequences.
"""

import argparse
from pathlib import Path

import numpy as np
import seed_classifier

import tinygrad_rnn as tg

EPOCHS = 20
EXPECTED = {"tutorial's recipe": "89.4 to 90.6", "today's recipe": "96.9 to 97.5"}


class Classifier(tg.nn.Module):
    """seed_classifier's network, for batches (N, T, 1): scores (N, 1)."""

    def __init__(self):
        self.rnn = tg.compile(tg.nn.RNN(seed_classifier.INPUT, seed_classifier.HIDDEN, batch_first=True))
        self.linear = tg.nn.Linear(seed_classifier.HIDDEN, seed_classifier.OUTPUT)
        tg.nn.init.orthogonal_(self.rnn.weight_hh_l0)

    def forward(self, x):
        return self.linear(self.rnn(x)[0][:, -1])


@tg.no_grad()
def accuracy(model, x, y):
    """The share of the sequences that are classified correctly."""
    return np.mean((model(x).numpy() > 0) == (y > 0))


def train(model, data, held_out, epochs: int = EPOCHS):
    """The held-out accuracy after each epoch."""
    adam = tg.optim.Adam(model.parameters(), lr=0.005)
    schedule = tg.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    batches = tg.data.Batches(*data, batch_size=32, shuffle=True)
    shares = []
    for _ in tg.data.progress(range(epochs), "today's recipe"):
        for x, y in batches:
            loss = tg.nn.functional.binary_cross_entropy_with_logits(model(x), y)
            adam.zero_grad()
            loss.backward()
            adam.step()
        schedule.step()
        shares.append(accuracy(model, *held_out))
    return shares


def run(seed: int = 0, epochs: int = EPOCHS):
    """The held-out accuracy after each epoch, with either recipe."""
    rng = np.random.RandomState(seed)
    data, model = seed_classifier.make_data(rng), seed_classifier.Classifier(rng)
    held_out = seed_classifier.make_data(rng)
    tutorial = []
    for _ in tg.data.progress(range(epochs), "tutorial's recipe"):
        seed_classifier.train(model, *data, epochs=1)
        tutorial.append(seed_classifier.accuracy(model, *held_out))

    tg.manual_seed(seed)
    data, held_out = ([part.astype(np.float32) for part in parts] for parts in (data, held_out))
    return {"tutorial's recipe": tutorial, "today's recipe": train(Classifier(), data, held_out, epochs)}


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Train the tutorial's classifier by its recipe and by one of today.")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, each with its own data and weights (default: 3)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the sequences (default: {EPOCHS})")
    parser.add_argument("--figure", type=Path, default=Path("seed_classifier_adam.svg"),
                        help="(default: seed_classifier_adam.svg)")  # fmt: skip
    options = parser.parse_args(argv)
    import curves  # here, so that a missing matplotlib is noticed before the training

    runs = [run(seed, options.epochs) for seed in range(options.seed, options.seed + options.seeds)]
    print(f"correct on {seed_classifier.SAMPLES:,} sequences never seen, in percent, for each seed\n")
    for name in EXPECTED:
        shares = " ".join(f"{100 * each[name][-1]:5.1f}" for each in runs)
        print(f"  {name:18} {shares}   expected by default: {EXPECTED[name]}")
    curves.draw(
        options.figure,
        {name: [[(n, 100 * (1 - share)) for n, share in enumerate(each[name], 1)] for each in runs] for name in EXPECTED},
        (50, "luck"),
        xlabel="epochs",
        ylabel="percent wrong, of sequences never seen",
        yscale="log",
        yticks=(2, 5, 10, 20, 50),
        yticklabels=("2", "5", "10", "20", "50"),
    )
    print(f"\nHow it was learnt: {options.figure}")


if __name__ == "__main__":
    main()
