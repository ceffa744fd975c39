"""Truncated BPTT against three references that know nothing of it: unrolled sums in NumPy, single steps, and full BPTT."""

import gc
import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.functional import mse_loss
from tinygrad_rnn.nn.tbptt import tbptt
from tinygrad_rnn.tensor import Tensor

LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
WINDOWS = [(1, 1), (1, 4), (2, 3), (3, 3), (2, 7), (4, 2), (5, 1), (3, 11), (11, 11), (1, 100), (100, 100), (100, 3)]


class Leaky(nn.Module):
    """A cell of one's own, with two members of different sizes, one of which is its output."""

    def __init__(self, features, hidden):
        self.state_size, self.output_size = (hidden, 2), 2
        self.w = nn.Linear(features + 2, hidden, dtype=np.float64)
        self.v = nn.Linear(hidden, 2, dtype=np.float64)

    def forward(self, x, state):
        h, m = state
        h = 0.7 * h + 0.3 * np.tanh(self.w(np.concatenate([x, m], axis=-1)))
        return h, np.tanh(self.v(h))

    def output(self, state):
        return state[1]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def squares(target):
    return lambda y, at: ((y - target[at]) ** 2).sum()


def gradients(model):
    return {name: None if p.grad is None else p.grad.numpy() for name, p in model.named_parameters()}


def same(got, expected, rtol=1e-10):
    assert got.keys() == expected.keys()
    for name in got:
        np.testing.assert_allclose(got[name], expected[name], rtol=rtol, atol=1e-11, err_msg=name)


def brute_force(cell, x, target, k1, k2, step=None):
    """One step at a time, from the states at every position as they were last computed."""
    states = {0: tuple(np.zeros((x.shape[1], n)) for n in np.atleast_1d(cell.state_size))}
    single = isinstance(cell.state_size, int)
    output = getattr(cell, "output", lambda s: s if single else s[0])

    def advance(t, state):
        return cell(tg.Tensor(x[t]), state)

    def thaw(t):
        members = tuple(tg.Tensor(h) for h in states[t])
        return members[0] if single else members

    def freeze(t, state):
        states[t] = tuple(h.numpy() for h in ((state,) if single else state))

    losses = []
    ends = [*range(k1, len(x), k1), len(x)]
    for last, end in zip([0, *ends[:-1]], ends, strict=True):
        begin = max(0, end - k2)
        for t in range(max(states), begin):
            freeze(t + 1, advance(t, thaw(t)))
        state, loss = thaw(begin), 0.0
        for t in range(begin, end):
            state = advance(t, state)
            freeze(t + 1, state)
            if t >= last:
                loss = loss + ((output(state) - target[t]) ** 2).sum()
        loss.backward()
        losses.append(loss.item())
        if step is not None:
            step()
    return losses, thaw(len(x))


def make(kind):
    tg.manual_seed(1)
    return nn.Recurrent(Leaky(3, 4)) if kind == "custom" else LAYERS[kind](3, 2, dtype=np.float64)


# -- fixed weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2"), WINDOWS)
def test_an_elman_network_by_the_double_sum_of_the_papers(rng, k1, k2):
    """dL_s/dW = sum over t of (dL_s/dh_s) (dh_s/dh_t) (dh_t/dW), where t goes back to the beginning of the window."""
    T, H = 11, 2
    layer = make("RNN")
    x, target = rng.normal(size=(T, 1, 3)), rng.normal(size=(T, 1, H))
    p = {name: q.numpy() for name, q in layer.named_parameters()}
    h = [np.zeros(H)]
    for t in range(T):
        h.append(np.tanh(p["weight_ih_l0"] @ x[t, 0] + p["weight_hh_l0"] @ h[-1] + p["bias_ih_l0"] + p["bias_hh_l0"]))
    expected = np.zeros((H, H))
    for s in range(T):
        end = min((s // k1 + 1) * k1, T)
        if s < end - k2:
            continue
        back = 2 * (h[s + 1] - target[s, 0])
        for t in range(s, max(end - k2, 0) - 1, -1):
            back = back * (1 - h[t + 1] ** 2)
            expected += np.outer(back, h[t])
            back = p["weight_hh_l0"].T @ back
    for _ in tbptt(layer, x, k1, k2, squares(target)):
        pass
    np.testing.assert_allclose(layer.weight_hh_l0.grad.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("k1", "k2"), WINDOWS)
@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_every_window_equals_brute_force(rng, kind, k1, k2):
    x, target = rng.normal(size=(11, 2, 3)), rng.normal(size=(11, 2, 2))
    layer, other = make(kind), make(kind)
    seen = list(tbptt(layer, x, k1, k2, squares(target)))
    losses, _ = brute_force(other.cells["l0"], x, target, k1, k2)
    np.testing.assert_allclose([window.loss for window in seen], losses, rtol=1e-12)
    same(gradients(layer), gradients(other))
    covered = [t for window in seen for t in range(11)[window.steps]]
    assert covered == [t for t in range(11) if t >= min((t // k1 + 1) * k1, 11) - k2]


@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_a_compiled_layer(rng, kind):
    x, target = rng.normal(size=(11, 2, 3)), rng.normal(size=(11, 2, 2))
    layer, other = make(kind), make(kind)
    losses = [[w.loss for w in tbptt(model, x, 2, 7, squares(target))] for model in (layer, tg.compile(other))]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    same(gradients(layer), gradients(other))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("k1", [1, 4, 9, 20])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_window_as_long_as_the_sequence_is_full_bptt(rng, kind, k1, batch_first):
    layer = LAYERS[kind](3, 4, num_layers=2, batch_first=batch_first, dtype=np.float64)
    x, target = rng.normal(size=(9, 2, 3)), rng.normal(size=(9, 2, 4))
    shape = (2, 2, 4)
    hx = tuple(tg.Tensor(rng.normal(size=shape), requires_grad=True) for _ in range(2 if kind == "LSTM" else 1))
    given = hx if kind == "LSTM" else hx[0]
    if batch_first:
        x, target = x.swapaxes(0, 1), target.swapaxes(0, 1)
    y, last = layer(x, given)
    loss = ((y - target) ** 2).sum()
    loss.backward()
    expected, expected_hx = gradients(layer), [h.grad.numpy() for h in hx]
    layer.zero_grad()
    for h in hx:
        h.grad = None

    pick = (lambda at: (slice(None), at)) if batch_first else lambda at: at
    windows = list(tbptt(layer, x, k1, 9, lambda y, at: ((y - target[pick(at)]) ** 2).sum(), given))
    same(gradients(layer), expected)
    for h, g in zip(hx, expected_hx, strict=True):
        np.testing.assert_allclose(h.grad.numpy(), g, rtol=1e-10)
    assert sum(window.loss for window in windows) == pytest.approx(loss.item(), rel=1e-12)
    finals = (windows[-1].state, last) if kind == "LSTM" else ((windows[-1].state,), (last,))
    for a, b in zip(*finals, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
        assert not a.requires_grad


def test_without_a_batch(rng):
    layer = nn.GRU(3, 2, dtype=np.float64, batch_first=True)
    x, target = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    for _ in tbptt(layer, x, 2, 5, squares(target)):
        pass
    expected = gradients(layer)
    layer.zero_grad()
    for _ in tbptt(layer, x[None], 2, 5, lambda y, at: ((y - target[None, at]) ** 2).sum()):
        pass
    same(gradients(layer), expected)


class Reader(nn.Module):
    """A model of one's own: token ids in, logits out, two layers whose states it carries in a dict."""

    def __init__(self):
        self.embedding = nn.Embedding(5, 3, dtype=np.float64)
        self.first, self.second = nn.LSTM(3, 4, dtype=np.float64), nn.GRU(4, 4, dtype=np.float64)
        self.out = nn.Linear(4, 5, dtype=np.float64)

    def forward(self, tokens, hx):
        hx = hx or {"first": None, "second": None}
        y, first = self.first(self.embedding(tokens), hx["first"])
        y, second = self.second(y, hx["second"])
        return self.out(y), {"first": first, "second": second}


def test_a_model_around_layers_with_integers_and_a_state_of_its_own(rng):
    model = Reader()
    tokens = rng.integers(5, size=(10, 2))

    def loss(y, at):
        return (y * y).sum()

    full, _ = model(tokens, None)
    loss(full, None).backward()
    expected = gradients(model)
    model.zero_grad()
    for window in tbptt(model, tokens, 3, 10, loss):
        assert set(window.state) == {"first", "second"}
    same(gradients(model), expected)


def test_time_on_an_axis_of_the_callers_choice(rng):
    embedding, layer = nn.Embedding(5, 3, dtype=np.float64), nn.RNN(3, 2, batch_first=True, dtype=np.float64)
    tokens, shapes = rng.integers(5, size=(2, 6)), []

    def loss(y, at):
        shapes.append(y.shape)
        return y.sum()

    for _ in tbptt(lambda x, hx: layer(embedding(x), hx), tokens, 2, 4, loss, axis=1):
        pass
    assert shapes == [(2, 2, 2)] * 3


# -- an optimiser between the windows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2"), [(1, 4), (2, 3), (3, 3), (4, 2), (2, 7), (3, 100)])
@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_the_weights_may_change_after_every_window(rng, kind, k1, k2):
    x, target = rng.normal(size=(11, 2, 3)), rng.normal(size=(11, 2, 2))
    layer, other = make(kind), make(kind)
    mine, theirs = (tg.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (layer, other))

    def step():
        theirs.step()
        theirs.zero_grad()

    seen = []
    for window in tbptt(layer, x, k1, k2, squares(target)):
        seen.append(window.loss)
        mine.step()
        mine.zero_grad()
    losses, last = brute_force(other.cells["l0"], x, target, k1, k2, step)
    np.testing.assert_allclose(seen, losses, rtol=1e-9)
    same(layer.state_dict(), other.state_dict())
    finals = last if isinstance(last, tuple) else (last,)
    got = window.state if isinstance(window.state, tuple) else (window.state,)
    for a, b in zip(got, finals, strict=True):
        np.testing.assert_allclose(a.numpy()[0], b.numpy(), rtol=1e-9)


def test_the_state_continues_on_the_next_sequence(rng):
    layer, x = nn.LSTM(3, 2, dtype=np.float64), rng.normal(size=(8, 1, 3))
    *_, window = tbptt(layer, x[:4], 2, 2, lambda y, at: y.sum())
    windows = list(tbptt(layer, x[4:], 2, 2, lambda y, at: y.sum(), hx=window.state))
    whole = list(tbptt(layer, x, 2, 2, lambda y, at: y.sum()))
    assert [w.loss for w in windows] == [w.loss for w in whole[2:]]


def test_it_learns_what_lies_within_the_window():
    """The sum of the last three inputs, from a sequence that is never unrolled as a whole."""
    tg.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(600, 8, 1)).astype(np.float32)
    target = x + np.roll(x, 1, axis=0) + np.roll(x, 2, axis=0)
    layer, out = nn.GRU(1, 16), nn.Linear(16, 1)
    optimizer = tg.optim.SGD([*layer.parameters(), *out.parameters()], lr=0.1, momentum=0.9)

    def model(x, hx):
        y, hx = layer(x, hx)
        return out(y), hx

    losses = []
    for window in tbptt(model, x, 4, 8, lambda y, at: mse_loss(y, target[at])):
        losses.append(window.loss)
        optimizer.step()
        optimizer.zero_grad()
    assert np.mean(losses[:5]) > 2  # 3 is the variance of the target
    assert np.mean(losses[-20:]) < 0.25


# -- bounded ------------------------------------------------------------------------------------------------------------------


def live():
    return sum(isinstance(x, Tensor) for x in gc.get_objects())


@pytest.mark.parametrize(("k1", "k2"), [(2, 2), (2, 6), (6, 2)])
def test_the_number_of_live_nodes_does_not_grow_with_the_sequence(k1, k2):
    layer = nn.LSTM(3, 4)

    def most(length):
        counts, after = [], []

        def loss(y, at):
            counts.append(live())
            return (y * y).sum()

        for _ in tbptt(layer, np.ones((length, 1, 3), np.float32), k1, k2, loss):
            after.append(live())
        return max(counts) - before, max(after) - before

    gc.collect()
    gc.disable()
    try:
        before = live()
        short = most(4 * max(k1, k2))
        assert most(60) == most(300) == short
        assert short[0] < 40 * k2 + 40  # the graph of the window
        assert short[1] < 30  # and between windows none of it: the gradients, a state, the sequence
    finally:
        gc.enable()


def test_memory_does_not_grow_with_the_sequence():
    layer, x = nn.GRU(2, 64), tg.Tensor(np.ones((400, 16, 2), np.float32))

    def peak(length):
        tracemalloc.reset_peak()
        for _ in tbptt(layer, x[:length], 2, 4, lambda y, at: y.sum()):
            pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(20)  # the first gradients
        assert peak(400) < 1.15 * peak(20)
    finally:
        tracemalloc.stop()


# -- what it refuses ----------------------------------------------------------------------------------------------------------


def run(model=None, x=None, k1=2, k2=2, loss=lambda y, at: y.sum(), **options):
    model = nn.RNN(3, 2) if model is None else model
    return list(tbptt(model, np.ones((4, 1, 3), np.float32) if x is None else x, k1, k2, loss, **options))


@pytest.mark.parametrize("name", ["k1", "k2"])
def test_windows_of_no_length(name):
    with pytest.raises(ValueError, match=rf"{name} is a number of steps and must be at least 1, got 0"):
        run(**{name: 0})
    with pytest.raises(TypeError, match=rf"{name} is a number of steps, an int, got 2\.0"):
        run(**{name: 2.0})


def test_arguments_are_checked_at_once_not_at_the_first_window():
    with pytest.raises(ValueError, match="k1"):
        tbptt(nn.RNN(3, 2), np.ones((4, 1, 3)), -1, 2, lambda y, at: y.sum())


def test_models_that_cannot_be_truncated():
    with pytest.raises(ValueError, match=r"GRU is bidirectional, and its reverse direction begins at the end of the sequence"):
        run(nn.GRU(3, 2, bidirectional=True))
    with pytest.raises(ValueError, match=r"tbptt: 1 is bidirectional"):
        run(nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 2, bidirectional=True)))
    with pytest.raises(TypeError, match=r"RNNCell is a cell, a single step; write tbptt\(tg.nn.Recurrent\(cell\)"):
        run(nn.RNNCell(3, 2))
    with pytest.raises(TypeError, match=r"expected a model, called as model\(x, hx\), got a int"):
        run(3)


def test_models_that_break_the_contract():
    layer = nn.RNN(3, 2)
    with pytest.raises(TypeError, match=r"must return \(outputs, state\), as Recurrent layers do, got Tensor"):
        run(lambda x, hx: layer(x, hx)[0])
    with pytest.raises(TypeError, match=r"must return \(outputs, state\).*got \(Tensor, Tensor, int\)"):
        run(lambda x, hx: (*layer(x, hx), 1))
    with pytest.raises(ValueError, match=r"expected an output for each of 2 steps on axis 0, got shape \(1, 2\)"):
        run(lambda x, hx: (layer(x, hx)[0][-1], None))


def test_sequences_without_steps():
    with pytest.raises(ValueError, match=r"time on axis 0 and at least one step, got shape \(0, 1, 3\)"):
        run(x=np.ones((0, 1, 3)))
    with pytest.raises(ValueError, match=r"time on axis 1 and at least one step, got shape \(2, 0, 3\)"):
        run(nn.RNN(3, 2, batch_first=True), np.ones((2, 0, 3)))
    with pytest.raises(ValueError, match=r"time on axis 0 and at least one step, got shape \(\)"):
        run(x=1.0)
    with pytest.raises(ValueError, match=r"time on axis 3"):
        run(axis=3)


def test_losses_that_are_none():
    with pytest.raises(TypeError, match=r"expected loss, a function of outputs and their steps, got a ndarray"):
        run(loss=np.ones(3))
    with pytest.raises(
        TypeError, match=r"loss must return one number as a Tensor, got .*shape \(2, 1, 2\).*reduce it by .sum"
    ):
        run(loss=lambda y, at: y * 2)
    with pytest.raises(TypeError, match=r"loss must return one number as a Tensor, got a float"):
        run(loss=lambda y, at: y.sum().item())


def test_within_no_grad_it_says_so():
    with tg.no_grad(), pytest.raises(RuntimeError, match="does not require grad"):
        run()
