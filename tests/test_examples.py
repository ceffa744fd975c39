"""The examples reach the results that they promise.

Their oracles: what the tutorials printed, BPTT derived by hand, and numbers from PyTorch 2.13.0.
"""

import numpy as np
import pytest
import quickstart
import seed_alignment
import seed_classifier
import seed_regression

import tinygrad_rnn as tg

# -- seed_regression ---------------------------------------------------------------------------------------------------------


def test_regression_prints_what_the_tutorial_printed():
    losses, predictions = seed_regression.train()
    assert [f"{loss:.4f}" for loss in losses[19::20]] == [f"{loss:.4f}" for loss in seed_regression.TUTORIAL_LOSSES]
    np.testing.assert_allclose(predictions, seed_regression.TUTORIAL_PREDICTIONS, rtol=0, atol=1e-7)


def test_regression_runs_as_a_script(capsys):
    seed_regression.main()
    out = capsys.readouterr().out
    assert "  200   0.0184     0.0184" in out
    assert " 1.14039697  1.14039697" in out


# -- seed_classifier ---------------------------------------------------------------------------------------------------------


def bptt(weights, x, y):
    """The gradients of the classifier's loss, derived by hand."""
    W_xh, W_hh, W_hy, b_h, b_y = weights
    hs = [np.zeros(len(W_hh))]
    for x_t in x:
        hs.append(np.tanh(W_xh @ x_t + W_hh @ hs[-1] + b_h))
    d_score = 1 / (1 + np.exp(-(W_hy @ hs[-1] + b_y))) - y
    d_xh, d_hh, d_h = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b_h)
    back = W_hy.T @ d_score
    for t in reversed(range(len(x))):
        inner = back * (1 - hs[t + 1] ** 2)
        d_xh += np.outer(inner, x[t])
        d_hh += np.outer(inner, hs[t])
        d_h += inner
        back = W_hh.T @ inner
    return d_xh, d_hh, np.outer(d_score, hs[-1]), d_h, d_score


def trained_by_hand(seed, samples, epochs):
    rng = np.random.RandomState(seed)
    xs, ys = seed_classifier.make_data(rng, samples)
    weights = [p.numpy() for p in seed_classifier.Classifier(rng).parameters()]
    for _ in range(epochs):
        for x, y in zip(xs, ys, strict=True):
            for w, g in zip(weights, bptt(weights, x, y), strict=True):
                w -= 0.01 * g
    return weights


def test_classifier_has_the_tutorials_settings():
    assert (seed_classifier.HIDDEN, seed_classifier.STEPS, seed_classifier.SAMPLES) == (32, 10, 1000)
    assert (seed_classifier.EPOCHS, seed_classifier.LEARNING_RATE) == (10, 0.01)
    model = seed_classifier.Classifier(np.random.RandomState(0))
    draw = np.random.RandomState(0).randn
    np.testing.assert_array_equal(model.W_xh.numpy(), draw(32, 1))
    np.testing.assert_array_equal(model.W_hh.numpy(), draw(32, 32) * np.sqrt(1 / 32))
    np.testing.assert_array_equal(model.W_hy.numpy(), draw(1, 32) * np.sqrt(1 / 32))
    assert not model.b_h.numpy().any()
    assert not model.b_y.numpy().any()


def test_classifier_trains_as_bptt_by_hand_does():
    rng = np.random.RandomState(7)
    xs, ys = seed_classifier.make_data(rng, 200)
    model = seed_classifier.Classifier(rng)
    seed_classifier.train(model, xs, ys, epochs=2)
    for ours, by_hand in zip(model.parameters(), trained_by_hand(7, 200, 2), strict=True):
        np.testing.assert_allclose(ours.numpy(), by_hand, rtol=0, atol=1e-9)


SLOW = [pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4)]


@pytest.mark.parametrize("seed", [0, *SLOW])
def test_classifier_learns(seed):
    model, losses, accuracy = seed_classifier.run(seed)
    assert accuracy >= 0.87
    assert losses[-1] < 0.5 * losses[0]
    if seed == 0:  # the whole run, 10,000 updates
        for ours, by_hand in zip(model.parameters(), trained_by_hand(0, 1000, 10), strict=True):
            np.testing.assert_allclose(ours.numpy(), by_hand, rtol=0, atol=1e-9)


def test_classifier_runs_as_a_script(capsys, monkeypatch):
    monkeypatch.setattr(seed_classifier, "SAMPLES", 30)
    monkeypatch.setattr(seed_classifier.make_data, "__defaults__", (30,))
    seed_classifier.main(["--seed", "3"])
    out = capsys.readouterr().out
    assert "epoch 10   mean loss 0." in out
    assert "correct on 30 sequences never seen: " in out


# -- seed_alignment ----------------------------------------------------------------------------------------------------------

# From PyTorch 2.13.0 in float64: the outputs; the gradients of weight_ih, each row times (1, 2, ..., 128) / 128, three in a
# line; the gradient of weight_hh. An LSTM's gates are in the order i, f, g, o.
GOLDEN = {
    "RNN": (
        [
            [1.000000000000, -1.000000000000, 1.000000000000],
            [-1.000000000000, 9.999960882146e-01, 9.999988914939e-01],
            [9.999999983874e-01, -9.999940055139e-01, -9.999999999872e-01],
            [7.823648795789e-01, 9.999999553552e-01, -9.782570538290e-01],
        ],
        [
            [-1.763583843095, 9.374358606883e-05, -1.955432167733e-01],
        ],
        [
            [3.879051952169e-01, -3.879028705501e-01, -3.879051958374e-01],
            [-3.195658021018e-06, 3.195615101902e-06, 1.884282673067e-05],
            [4.301535356877e-02, -4.301509579648e-02, -4.301091957677e-02],
        ],
    ),
    "LSTM": (
        [
            [9.828844561249e-04, 2.391672586149e-03, -4.323771371645e-06],
            [2.402525661601e-03, 5.265255475388e-05, 2.221972858523e-03],
            [2.872850138655e-03, 6.389396315236e-10, 8.291814662385e-03],
            [2.829789242968e-03, 7.652828653316e-01, 3.375365753939e-09],
        ],
        [
            [4.767446440297e-02, 1.857061197274e-01, 7.983974575144e-09],
            [-1.923239659414e-04, -3.058069340547e-06, -1.324147210291e-03],
            [-4.681460952083e-08, 1.482628527117e-03, -3.294104497793e-03],
            [1.237521848653e-03, -4.059569607838e-01, 3.251059107859e-02],
        ],
        [
            [8.011666296707e-06, 1.942330416638e-05, -7.634987176877e-09],
            [1.377369524470e-04, 2.626347505744e-06, 1.624897272210e-04],
            [7.685109867707e-12, 2.999993208361e-12, 1.565032894632e-11],
            [1.396040786962e-07, 1.849387548305e-10, 3.863896090301e-07],
            [2.351583411651e-09, 5.784641440511e-11, 6.436725701925e-09],
            [-2.219414851743e-07, -5.400656754807e-07, 9.890084904632e-10],
            [3.140980338088e-11, 6.883616060671e-13, 2.904931744257e-11],
            [8.197072242119e-07, 1.796431756177e-08, 7.581051941588e-07],
            [5.735413394160e-07, 1.282227437306e-08, 5.303415629344e-07],
            [3.970818291318e-07, 9.466485345563e-07, 5.797967939700e-09],
            [2.567509676838e-04, 1.186634669031e-07, 7.409111321580e-04],
            [1.657333250533e-05, 1.830155695132e-06, 1.476255048368e-05],
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("LSTM", 4)])
def test_alignment_with_golden_numbers(kind, gates):
    x, weights = seed_alignment.sentence(np.float64), seed_alignment.matrices(gates, np.float64)
    out, grads = seed_alignment.by_hand(seed_alignment.lstm if gates == 4 else seed_alignment.rnn, x, weights)
    for y, (g_ih, g_hh) in [(out, seed_alignment.packed(grads)), seed_alignment.by_layer(tg.nn, tg.Tensor, x, weights)]:
        found = y[0], (g_ih @ (np.arange(1, 129) / 128)).reshape(-1, 3), g_hh
        for ours, golden in zip(found, GOLDEN[kind], strict=True):
            np.testing.assert_allclose(ours, golden, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("gates", [1, 4])
def test_alignment_in_float32_is_within_rounding(gates):
    forward = seed_alignment.lstm if gates == 4 else seed_alignment.rnn
    single = seed_alignment.by_hand(forward, seed_alignment.sentence(), seed_alignment.matrices(gates))
    double = seed_alignment.by_hand(forward, seed_alignment.sentence(np.float64), seed_alignment.matrices(gates, np.float64))
    assert single[0].dtype == np.float32
    np.testing.assert_allclose(single[0], double[0], rtol=0, atol=1e-6)
    for a, b in zip(single[1], double[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)  # sums over 128 features of size 25, through four steps


@pytest.mark.parity
@pytest.mark.parametrize("gates", [1, 4])
def test_alignment_with_torch(gates):
    torch = pytest.importorskip("torch")
    out, grad = seed_alignment.compare(torch.nn, torch.from_numpy, gates, np.float64)
    assert out < 1e-12
    assert grad < 1e-12
    out, grad = seed_alignment.compare(torch.nn, torch.from_numpy, gates, np.float32)
    assert out < 1e-6
    assert grad < 5e-6  # of which 1.2e-6 is PyTorch's own distance from float64 (the LSTM's), and 1.2e-7 ours


def test_alignment_runs_as_a_script(capsys):
    seed_alignment.main()
    assert "\ntg.nn.LSTM " in capsys.readouterr().out


# -- quickstart --------------------------------------------------------------------------------------------------------------


def test_quickstart_trains_compares_and_draws(capsys, tmp_path):
    quickstart.main(["--out", str(tmp_path / "net.svg")])
    out = capsys.readouterr().out
    ours, expected = (
        line.split()[1:] for line in out.splitlines() if line.startswith(("  loss  ", "  tutorial  ")) and "0.0184" in line
    )
    assert ours == expected
    assert "Correct on 90.8% of 1,000 sequences never seen." in out
    svg = (tmp_path / "net.svg").read_text()
    assert svg.startswith("<?xml")
    assert all(f"t = {t}<" in svg for t in range(10))
    assert "loss" in svg
