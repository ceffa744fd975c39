"""The main job: train the networks of two NumPy tutorials, compare the numbers with theirs, check a third's, and draw.

Where the tutorials have a backward pass written by hand, here is a forward pass and nothing else. It takes a few seconds.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import seed_alignment
import seed_classifier
import seed_regression

import tinygrad_rnn as tg

try:
    from tqdm import tqdm
except ImportError:  # then there are no bars; python -m pip install -e ".[examples]" brings them

    def tqdm(iterable, **_):
        return iterable


# disable=None: no bars where nobody watches, as in a pipe.
bar = partial(tqdm, disable=None, leave=False, bar_format="  {l_bar}{bar:40}{r_bar}")


def regression():
    print("1. Learn y = 2x: eight hidden units, backpropagation through ten steps, 200 epochs\n")
    losses, predictions = seed_regression.train(partial(bar, desc="training", unit=" epochs"))
    shown = losses[19::20]
    print("  epoch     " + "".join(f"{epoch:8}" for epoch in range(20, 201, 20)))
    print("  loss      " + "".join(f"{loss:8.4f}" for loss in shown))
    print("  tutorial  " + "".join(f"{loss:8.4f}" for loss in seed_regression.TUTORIAL_LOSSES))
    gap = np.abs(predictions - seed_regression.TUTORIAL_PREDICTIONS).max()
    print(f"\n  The ten predictions differ from the tutorial's by at most {gap:.1g}; it printed eight decimals.\n")


def classification():
    print("2. Is the sum of ten numbers positive? 32 hidden units, 1,000 sequences one by one, 10 epochs\n")
    model, losses, share = seed_classifier.run(progress=partial(bar, desc="training", unit=" epochs"))
    print("  epoch     " + "".join(f"{epoch:8}" for epoch in range(1, 11)))
    print("  loss      " + "".join(f"{loss:8.4f}" for loss in losses))
    print("  tutorial  stops at the first sample: its backward pass has errors (docs/seed_classifier.md)")
    print(f"\n  Correct on {share:.1%} of 1,000 sequences never seen.\n")
    return model


def alignment():
    print("3. A sentence through an RNN and an LSTM: layers against equations written by hand, float64\n")
    for kind, gates in (("RNN", 1), ("LSTM", 4)):
        out, grad = seed_alignment.compare(tg.nn, tg.Tensor, gates, np.float64)
        print(f"  tg.nn.{kind:5} outputs differ by at most {out:.1g}, gradients by {grad:.1g}")
    print("\n  `python examples/seed_alignment.py` compares with PyTorch too, where that is installed.\n")


def picture(model, path: Path):
    """Draw the loss of one sequence."""
    xs, ys = seed_classifier.make_data(np.random.RandomState(0), samples=1)
    x, y = tg.Tensor(xs[0], name="x"), tg.Tensor(ys[0], name="y")
    drawing = tg.viz.draw(seed_classifier.loss_of(model, x, y).named("loss"), view="unrolled")
    drawing.save(path)
    print(f"4. The second network, unrolled over its ten steps: {path}\n   Open it in a browser; hover over a box for more.")


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Train the tutorials' networks, compare, and draw.")
    parser.add_argument("--out", type=Path, default=Path("rnn.svg"), help="the picture (default: rnn.svg)")
    path = parser.parse_args(argv).out
    start = time.perf_counter()
    regression()
    model = classification()
    alignment()
    picture(model, path)
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
