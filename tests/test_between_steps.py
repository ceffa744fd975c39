"""What happens to a state between steps: variational dropout, zoneout, and the lengths of a padded batch.

The oracle for lengths is each sample run alone; for what is random, a loop by hand that draws the same numbers.
"""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.gradcheck import gradcheck
from tinygrad_rnn.nn.init import generator

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def leaf(array):
    return tg.Tensor(array, requires_grad=True, dtype=np.float64)


def members(state):
    return state if isinstance(state, tuple) else (state,)


def gradients(module):
    found = {name: p.grad.data.copy() for name, p in module.named_parameters()}
    module.zero_grad()
    return found


# -- lengths ------------------------------------------------------------------------------------------------------------------

LENGTHS = [3, 5, 1, 4]


def padded(rng, width, filler):
    """(T, N, width), with the filler in the padding."""
    x = rng.normal(size=(5, 4, width))
    for n, length in enumerate(LENGTHS):
        x[length:, n] = filler
    return x


def total(out, last, rng):
    """A number that gives every element a weight of its own."""
    return sum((value * rng.normal(size=value.shape)).sum() for value in (out, *members(last)))


@pytest.mark.parametrize("filler", [0.0, np.nan, np.inf, 1e300])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "LSTM proj", "GRU"])
def test_a_padded_batch_equals_its_samples_run_alone(kind, layers, directions, batch_first, filler):
    kind, *proj = kind.split()
    tg.manual_seed(0)
    options = {"bidirectional": directions == 2, "dtype": np.float64, **({"proj_size": 2} if proj else {})}
    batched = KINDS[kind](2, 3, layers, batch_first=batch_first, **options)
    alone = KINDS[kind](2, 3, layers, **options)
    alone.load_state_dict(batched.state_dict())
    rng = np.random.default_rng(0)
    widths = batched.state_size if kind == "LSTM" else (3,)
    x, hx = leaf(padded(rng, 2, filler)), [leaf(rng.normal(size=(layers * directions, 4, n))) for n in widths]

    def pack(states):
        return tuple(states) if kind == "LSTM" else states[0]

    out, last = batched(x.swapaxes(0, 1) if batch_first else x, pack(hx), lengths=LENGTHS)
    out = out.swapaxes(0, 1) if batch_first else out
    weights = [rng.normal(size=value.shape) for value in (out, *members(last))]
    sum((value * w).sum() for value, w in zip((out, *members(last)), weights, strict=True)).backward()
    together = gradients(batched)
    x_alone, hx_alone = leaf(x.data), [leaf(h.data) for h in hx]
    for n, length in enumerate(LENGTHS):
        ys, ends = alone(x_alone[:length, n], pack([h[:, n] for h in hx_alone]))
        np.testing.assert_allclose(out.data[:length, n], ys.data, rtol=0, atol=1e-14)
        assert not out.data[length:, n].any()
        for ours, theirs in zip(members(last), members(ends), strict=True):
            np.testing.assert_allclose(ours.data[:, n], theirs.data, rtol=0, atol=1e-14)
        parts = [weights[0][:length, n], *[w[:, n] for w in weights[1:]]]
        sum((value * w).sum() for value, w in zip((ys, *members(ends)), parts, strict=True)).backward()
        assert not x.grad.data[length:, n].any()
    for name, g in gradients(alone).items():
        np.testing.assert_allclose(together[name], g, rtol=1e-12, atol=1e-13, err_msg=name)
    for ours, theirs in zip((x, *hx), (x_alone, *hx_alone), strict=True):
        np.testing.assert_allclose(ours.grad.data, theirs.grad.data, rtol=1e-12, atol=1e-13)


class Direction(nn.Module):
    """Not defined where x is 0; two states, and an output of both."""

    def __init__(self, features):
        self.state_size, self.output_size = (features, 1), features + 1

    def forward(self, x, state):
        h, seen = state
        length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return 0.5 * h + x / length, seen + length

    def output(self, state):
        return tg.concatenate(state, axis=-1)


def test_padding_of_zeros_is_not_given_to_a_cell_that_cannot_take_it():
    x = leaf(padded(np.random.default_rng(0), 2, 0.0))
    h0 = tuple(tg.Tensor(np.ones((4, 4, n)) * 0.1) for n in (2, 1))
    layer = nn.Recurrent(Direction, 2, bidirectional=True)
    h0 = tuple(h[:2] for h in h0)
    out, (h, seen) = layer(x, h0, lengths=LENGTHS)
    total(out, (h, seen), np.random.default_rng(1)).backward()
    assert np.isfinite(out.data).all()
    assert np.isfinite(x.grad.data).all()
    for n, length in enumerate(LENGTHS):
        expected = 0.1 + np.linalg.norm(x.data[:length, n], axis=-1).sum()
        np.testing.assert_allclose(seen.data[:, n], expected, rtol=1e-14)
        assert not x.grad.data[length:, n].any()


def test_gradients_of_a_padded_batch_are_those_of_finite_differences():
    layer = nn.GRU(2, 2, 2, bidirectional=True, zoneout=0.3, learn_initial_state=True, dtype=np.float64).eval()
    x = leaf(np.random.default_rng(0).normal(size=(3, 2, 2)))
    assert gradcheck(lambda *_: layer(x, lengths=[1, 3]), [x, *layer.parameters()])


def test_lengths_that_are_all_full_change_nothing():
    layer = nn.LSTM(2, 3, bidirectional=True)
    x = np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32)
    plain, full = layer(x), layer(x, lengths=np.array([4, 4]))
    np.testing.assert_array_equal(plain[0].data, full[0].data)
    assert full[0].dtype == np.float32
    assert sum(n.op.name == "where" for n in toposort(full[0]) if n.op) == 1  # the zeros of the output


@pytest.mark.parametrize("given", [tg.Tensor([2, 1]), np.array([2, 1], np.uint8), (2, 1)], ids=["Tensor", "uint8", "tuple"])
def test_lengths_may_come_in_any_form(given):
    layer = nn.RNN(2, 3, dtype=np.float64)
    x = np.ones((3, 2, 2))
    np.testing.assert_array_equal(layer(x, lengths=given)[0].data, layer(x, lengths=[2, 1])[0].data)


def test_no_samples_at_all():
    out, last = nn.LSTM(2, 3)(np.ones((4, 0, 2), np.float32), lengths=[])
    assert (out.shape, last[0].shape) == ((4, 0, 3), (1, 0, 3))


x = np.ones((5, 2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: nn.GRU(3, 4)(x, lengths=[5]),
            r"GRU: expected lengths of shape \(2,\), an int for each sample, got shape \(1,\)",
        ),
        (lambda: nn.GRU(3, 4)(x, lengths=5), r"expected lengths of shape \(2,\), .* got shape \(\)"),
        (lambda: nn.GRU(3, 4)(x, lengths=[5.0, 2.0]), r"an int for each sample, got shape \(2,\) of dtype float64"),
        (lambda: nn.GRU(3, 4)(x, lengths=[5, 0]), r"lengths must be from 1 to T = 5, got 0 to 5; leave samples without steps"),
        (lambda: nn.GRU(3, 4)(x, lengths=[6, 2]), r"lengths must be from 1 to T = 5, got 2 to 6"),
        (lambda: nn.GRU(3, 4, batch_first=True)(x, lengths=[3] * 5), r"lengths must be from 1 to T = 2, got 3 to 3"),
        (lambda: nn.GRU(3, 4)(x[:, 0], lengths=[5]), r"lengths belong to a batch, and x \(5, 3\) is one sequence: cut it"),
        (lambda: nn.GRU(3, 4, recurrent_dropout=1.5), r"GRU: recurrent_dropout must be between 0 and 1, got 1.5"),
        (lambda: nn.LSTM(3, 4, zoneout=(0.1, -1.0)), r"LSTM: zoneout must be between 0 and 1 .*, got \(0.1, -1.0\)"),
        (lambda: nn.GRU(3, 4, zoneout=(0.1, 0.1)), r"GRU: zoneout=\(0.1, 0.1\) has 2 rates, and the state 1 members"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# -- variational dropout ------------------------------------------------------------------------------------------------------


class Shown(nn.Module):
    """Notes what it is shown of a state that is 1 after the first step."""

    def __init__(self):
        self.state_size = (50, 50)

    def forward(self, x, state):
        h, c = state
        h, c = (h * 1).named("h shown"), (c * 1).named("c shown")
        return h * 0 + 1, c * 0 + 1


def test_one_mask_for_all_steps_of_a_sequence():
    layer = nn.Recurrent(lambda n: Shown(), 1, bidirectional=True, recurrent_dropout=0.2)
    x, ones = np.ones((4, 20, 1), np.float32), tuple(np.ones((2, 20, 50), np.float32) for _ in range(2))
    ones = tuple(map(tg.Tensor, ones))
    tg.manual_seed(0)
    masks = []
    for _ in range(2):
        records = layer(x, ones, record=("h shown", "c shown"))[2]
        for shown in records.values():
            mask = shown["h shown"].data[0]
            np.testing.assert_array_equal(shown["h shown"].data, np.broadcast_to(mask, (4, 20, 50)))
            assert (shown["c shown"].data == 1).all()
            assert set(np.unique(mask)) == {0, np.float32(1.25)}
            assert 0.75 < (mask > 0).mean() < 0.85
            masks.append(mask)
    assert len({mask.tobytes() for mask in masks}) == 4  # a mask for each direction and each call,
    assert len({row.tobytes() for row in masks[0]}) == 20  # and each sample
    tg.manual_seed(0)
    np.testing.assert_array_equal(layer(x, ones, record="h shown")[2]["l0"]["h shown"].data[0], masks[0])
    assert (layer.eval()(x, ones, record="h shown")[2]["l0"]["h shown"].data == 1).all()


def test_recurrent_dropout_in_a_loop_by_hand():
    layer = nn.LSTM(2, 3, recurrent_dropout=0.5, dtype=np.float64)
    cell, x = layer.cells["l0"], np.random.default_rng(0).normal(size=(6, 4, 2))
    tg.manual_seed(3)
    out, _ = layer(x)
    (out**2).sum().backward()
    ours = gradients(layer)
    tg.manual_seed(3)
    mask = (generator.random((4, 3)) >= 0.5) / 0.5
    h = c = tg.Tensor(np.zeros((4, 3)))
    ys = []
    for x_t in x:
        h, c = cell(x_t, (h * mask, c))
        ys.append(h)
    np.testing.assert_allclose(out.data, np.stack(ys).data, rtol=1e-14)
    (np.stack(ys) ** 2).sum().backward()
    for name, g in gradients(layer).items():
        np.testing.assert_allclose(ours[name], g, rtol=1e-12, atol=1e-14)


def test_all_of_the_state_dropped():
    layer = nn.RNN(2, 3, recurrent_dropout=1.0, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(4, 2, 2))
    out, _ = layer(x)
    for t in range(4):
        np.testing.assert_allclose(out.data[t], layer(x[t : t + 1])[0].data[0], rtol=1e-14)


# -- zoneout ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rates", [0.3, (0.05, 0.5), (0.0, 1.0)], ids=str)
def test_zoneout_in_a_loop_by_hand(rates, training):
    layer = nn.LSTM(2, 3, zoneout=rates, dtype=np.float64).train(training)
    cell, x = layer.cells["l0"], np.random.default_rng(0).normal(size=(6, 4, 2))
    tg.manual_seed(3)
    out, last = layer(x)
    total(out, last, np.random.default_rng(1)).backward()
    ours = gradients(layer)
    tg.manual_seed(3)
    state, ys = (tg.Tensor(np.zeros((4, 3))),) * 2, []
    for x_t in x:
        mixed = []
        for old, new, z in zip(state, cell(x_t, state), rates if isinstance(rates, tuple) else (rates,) * 2, strict=True):
            d = (generator.random((4, 3)) < z).astype(float) if training and z else z
            mixed.append(d * old + (1 - d) * new)  # the paper's equation, and its expectation
        state = tuple(mixed)
        ys.append(state[0])
    np.testing.assert_allclose(out.data, np.stack(ys).data, rtol=1e-13)
    for a, b in zip(last, state, strict=True):
        np.testing.assert_allclose(a.data[0], b.data, rtol=1e-13)
    total(np.stack(ys), tuple(h[None] for h in state), np.random.default_rng(1)).backward()
    for name, g in gradients(layer).items():
        np.testing.assert_allclose(ours[name], g, rtol=1e-11, atol=1e-14)


def test_zoneout_keeps_units_at_its_rate_anew_in_each_step():
    layer = nn.LSTM(2, 50, zoneout=(0.1, 0.6))
    x = np.random.default_rng(0).normal(size=(20, 10, 2)).astype(np.float32)
    tg.manual_seed(0)
    records = layer(x, record=("h", "c"))[2]["l0"]
    for name, rate in (("h", 0.1), ("c", 0.6)):
        kept = np.diff(records[name].data, axis=0) == 0
        assert abs(kept.mean() - rate) < 0.02
        assert kept.mean(axis=(1, 2)).std() < 0.03
    assert records["c"].dtype == np.float32


def test_zoneout_in_evaluation_is_the_mean_of_training_for_a_linear_cell():
    class Linear(nn.Module):
        state_size = 1

        def forward(self, x, h):
            return 0.5 * h + x

    layer = nn.Recurrent(Linear(), zoneout=0.4)
    x = np.repeat(np.random.default_rng(0).normal(size=(3, 1, 1)), 40_000, axis=1)
    tg.manual_seed(0)
    trained = layer(x, tg.Tensor(np.zeros((1, 40_000, 1))))[0].data.mean(axis=1)
    expected = layer.eval()(x[:, :1], tg.Tensor(np.zeros((1, 1, 1))))[0].data[:, 0]
    np.testing.assert_allclose(trained, expected, atol=0.02)


@pytest.mark.parametrize("option", [{"recurrent_dropout": 0.3}, {"zoneout": 0.3}], ids=str)
def test_nodes_between_steps_belong_to_their_step(option):
    layer = nn.GRU(2, 3, **option)
    nodes = toposort(layer(np.ones((4, 2, 2), np.float32))[0])
    op = "mul" if "recurrent_dropout" in option else "where"
    steps = [n.scope.step for n in nodes if n.op is not None and n.op.name == op and n.scope.module is layer]
    assert sorted(steps) == [0, 1, 2, 3]
