"""Ten numbers in, twice each number out: eight hidden units learn y = 2x by full backpropagation through time.

The job, the order of its random draws and the results to meet come from a NumPy tutorial with a backward pass written by hand.
Here there is none. `forward` is plain NumPy, and its gradients follow from the weights being Tensors.
"""

from collections.abc import Callable, Iterable

import numpy as np

import tinygrad_rnn as tg

STEPS, HIDDEN, EPOCHS, LEARNING_RATE = 10, 8, 200, 0.01

# What the tutorial printed: the loss at epochs 20, 40, ..., 200, and the predictions at the end.
TUTORIAL_LOSSES = [9.2975, 5.6213, 0.3721, 0.0429, 0.0329, 0.0289, 0.0255, 0.0227, 0.0204, 0.0184]
TUTORIAL_PREDICTIONS = [
    1.04348767, -0.32104181, 1.36640077, 2.98100245, -0.51198748, -0.5150128, 3.06108598, 1.61297415, -0.94754366, 1.14039697,
]  # fmt: skip


def forward(x, W_xh, W_hh, W_hy, b_h, b_y):
    """The outputs (T, 1) for a sequence x (T, 1)."""
    h, ys = np.zeros(HIDDEN), []
    for x_t in x:
        h = np.tanh(x_t @ W_xh + h @ W_hh + b_h)
        ys.append(h @ W_hy + b_y)
    return np.stack(ys)


def loss_of(y, target):
    """Half the squared error, summed over time."""
    return 0.5 * np.sum((y - target) ** 2)


def train(progress: Callable[[Iterable[int]], Iterable[int]] = iter):
    """The loss before each epoch's update, and the predictions after the last."""
    draw = np.random.RandomState(42).randn
    x = draw(STEPS, 1)
    matrices = [draw(1, HIDDEN) * 0.01, draw(HIDDEN, HIDDEN) * 0.01, draw(HIDDEN, 1) * 0.01]
    weights = [tg.Tensor(w, requires_grad=True) for w in (*matrices, np.zeros(HIDDEN), np.zeros(1))]
    sgd = tg.optim.SGD(weights, lr=LEARNING_RATE)

    losses = []
    for _ in progress(range(EPOCHS)):
        loss = loss_of(forward(x, *weights), 2 * x)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    return losses, forward(x, *weights).numpy().ravel()


def main():
    losses, predictions = train()
    print("epoch     loss   tutorial")
    for epoch, expected in zip(range(20, EPOCHS + 1, 20), TUTORIAL_LOSSES, strict=True):
        print(f"{epoch:5}   {losses[epoch - 1]:.4f}   {expected:8.4f}")
    print("\n prediction    tutorial")
    for y, expected in zip(predictions, TUTORIAL_PREDICTIONS, strict=True):
        print(f"{y:11.8f} {expected:11.8f}")


if __name__ == "__main__":
    main()
