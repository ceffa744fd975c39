"""Batches: every sample once, orders that repeat with the seed, padding with lengths, windows, and what is refused."""

import builtins
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.data import Batches, pad_sequences, progress, windows

# -- padding ------------------------------------------------------------------------------------------------------------------


def test_padding():
    padded, lengths = pad_sequences([[1, 2, 3], [4], [], [5, 6]])
    assert padded.tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0], [5, 6, 0]]
    assert lengths.tolist() == [3, 1, 0, 2]


def test_padding_of_vectors():
    sequences = [np.ones((2, 3), np.float32), np.full((4, 3), 2, np.float32)]
    padded, lengths = pad_sequences(sequences, padding_value=-1)
    assert (padded.shape, padded.dtype, lengths.tolist()) == ((2, 4, 3), np.float32, [2, 4])
    for row, sequence, length in zip(padded, sequences, lengths, strict=True):
        assert (row[:length] == sequence).all()
        assert (row[length:] == -1).all()


@pytest.mark.parametrize(
    ("sequences", "value", "dtype"),
    [
        ([np.array([1], np.int8)], 0, np.int8),
        ([np.array([1], np.int8)], np.nan, np.float64),
        ([np.array([1], np.float32)], np.nan, np.float32),
        ([np.array([1], np.float32), np.array([1.0])], 0, np.float64),
    ],
)
def test_the_dtype_of_padding(sequences, value, dtype):
    assert pad_sequences(sequences, value)[0].dtype == dtype


@pytest.mark.parametrize(
    ("sequences", "match"),
    [
        ([np.ones((2, 3)), np.ones((2, 4))], r"all have the same shape, got steps of \[\(3,\), \(4,\)\]"),
        ([np.ones(2), 1.0], r"all have the same shape, got steps of \[\(\), 'a number'\]"),
        ([1, 2], r"pad_sequences: expected sequences .* got steps of \['a number'\]"),
        ([], r"got steps of \[\]"),
    ],
)
def test_padding_of_what_does_not_fit(sequences, match):
    with pytest.raises(ValueError, match=match):
        pad_sequences(sequences)


# -- windows ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (3, 1), (3, 2), (4, 3), (10, 1), (10, 5)])
@pytest.mark.parametrize("shape", [(10,), (10, 2), (10, 2, 3)])
def test_windows(shape, length, stride):
    series = np.arange(np.prod(shape)).reshape(shape)
    found = windows(series, length, stride)
    expected = [series[start : start + length] for start in range(0, 10 - length + 1, stride)]
    assert found.shape == (len(expected), length, *shape[1:])
    assert (found == np.array(expected)).all()
    assert np.shares_memory(found, series)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


@pytest.mark.parametrize(
    ("series", "length", "stride", "match"),
    [
        (np.ones(3), 4, 1, r"length must be between 1 and that of the series, of shape \(3,\), got 4"),
        (np.ones(3), 0, 1, r"windows: length must be between 1 and that of the series"),
        (1.0, 1, 1, r"of shape \(\), got 1"),
        (np.ones(3), 2, 0, r"windows: stride must be at least 1, got 0"),
    ],
)
def test_windows_that_do_not_fit(series, length, stride, match):
    with pytest.raises(ValueError, match=match):
        windows(series, length, stride)


# -- batches ------------------------------------------------------------------------------------------------------------------


def test_batches_in_order():
    x, y = np.arange(14).reshape(7, 2), list("abcdefg")
    batches = Batches(x, y, batch_size=3)
    found = list(batches)
    assert len(batches) == len(found) == 3
    assert [(a.tolist(), "".join(b)) for a, b in found] == [
        ([[0, 1], [2, 3], [4, 5]], "abc"), ([[6, 7], [8, 9], [10, 11]], "def"), ([[12, 13]], "g"),
    ]  # fmt: skip
    found[0][0][:] = 100
    assert x.max() == 13


def orders(batches, epochs=3):
    return [[i for (batch,) in batches for i in batch.tolist()] for _ in range(epochs)]


def test_shuffling_takes_every_sample_once_and_repeats_with_the_seed():
    numbers = np.arange(50)
    found = orders(Batches(numbers, batch_size=7, shuffle=True, seed=3))
    assert all(sorted(order) == list(range(50)) for order in found)
    assert len({tuple(order) for order in found} | {tuple(range(50))}) == 4
    assert orders(Batches(numbers, batch_size=11, shuffle=True, seed=3)) == found
    assert orders(Batches(numbers, batch_size=7, shuffle=True, seed=4)) != found


def test_without_a_seed_the_order_is_that_of_manual_seed():
    found = []
    for seed in (5, 5, 6):
        tg.manual_seed(seed)
        found.append(orders(Batches(np.arange(20), shuffle=True)))
    assert found[0] == found[1] != found[2]


def test_an_epoch_left_early_does_not_change_the_next():
    whole, left = (Batches(np.arange(20), shuffle=True, seed=0) for _ in range(2))
    orders(whole, 1)
    next(iter(left))
    assert orders(left, 2) == orders(whole, 2)


def test_parts_stay_together():
    x = np.arange(20)
    sequences = [np.full(i % 4 + 1, i) for i in range(20)]
    for a, padded, lengths, b in Batches(x, sequences, x * 2, batch_size=6, shuffle=True, seed=0):
        assert (b == 2 * a).all()
        assert (lengths == a % 4 + 1).all()
        assert (padded[:, 0] == a).all()
        assert (padded == np.where(np.arange(padded.shape[1]) < lengths[:, None], a[:, None], 0)).all()


def test_sequences_are_padded_to_the_longest_of_their_batch():
    batches = Batches([[1.0], [2.0, 3.0], [4.0, 5.0, 6.0], [7.0]], batch_size=2)
    assert [(x.tolist(), n.tolist()) for x, n in batches] == [
        ([[1, 0], [2, 3]], [1, 2]), ([[4, 5, 6], [7, 0, 0]], [3, 1]),
    ]  # fmt: skip


def test_windows_in_batches_train_a_forecast():
    tg.manual_seed(0)
    w = windows(np.sin(np.arange(120) / 3).astype(np.float32)[:, None], 12, stride=2)
    rnn, head = tg.nn.RNN(1, 8, batch_first=True), tg.nn.Linear(8, 1)
    optimizer = tg.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for _ in range(12):
        for (batch,) in Batches(w, batch_size=16, shuffle=True, seed=0):
            loss = tg.nn.functional.mse_loss(head(rnn(batch[:, :-1])[0]), batch[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.02 < np.mean(losses[:4])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Batches(np.ones(3), np.ones(4)), r"every part of the data needs the same number of samples, got \[3, 4\]"),
        (lambda: Batches([[1], [1, 2]], np.ones(3)), r"got \[2, 3\]"),
        (lambda: Batches(np.ones(3), batch_size=0), r"Batches: batch_size must be at least 1, got 0"),
        (lambda: Batches(), r"Batches: expected arrays or lists with one entry for each sample"),
        (lambda: Batches(np.ones(3), 1.0), r"expected arrays or lists with one entry"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# -- progress -----------------------------------------------------------------------------------------------------------------


def test_progress_goes_through_all_items_in_silence_where_there_is_no_terminal(capsys):
    pytest.importorskip("tqdm")
    assert list(progress(range(5), "epochs")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_progress_shows_a_bar_in_a_terminal(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress(range(5), "epochs")) == [0, 1, 2, 3, 4]
    assert "epochs" in capsys.readouterr().err


def test_progress_without_tqdm(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tqdm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    items = [1, 2]
    assert progress(items) is items
