"""The examples on real data, in short forms: what they count and compare with is right, and the networks learn.

`-m slow` trains them in full and compares with the results that they promise.
"""

from collections import Counter

import numpy as np
import pytest

import tinygrad_rnn as tg

characters, digits, sunspots = map(pytest.importorskip, ("characters", "digits", "sunspots"))  # each says what to install


@pytest.mark.parametrize("expected", [characters.EXPECTED, *sunspots.EXPECTED.values(), *digits.EXPECTED.values()])
def test_the_expected_results_are_documented(expected):
    assert expected in characters.__doc__ + sunspots.__doc__ + digits.__doc__


# -- characters --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    """A training text and a held-out text, short ones."""
    return characters.read(["argparse"])[:60_000], characters.read(["fractions"])[:5_000]


def test_characters_are_encoded_and_others_left_out():
    places = characters.encode("if\tx:\n    é = '~'")
    assert "".join(characters.CHARACTERS[place] for place in places) == "ifx:\n     = '~'"
    assert len(characters.CHARACTERS) == 96


def test_characters_hold_out_whole_modules():
    assert not set(characters.TRAINING) & set(characters.HELD_OUT)
    assert "".join(characters.CHARACTERS[i] for i in characters.read(["heapq"])[:12]) == '"""Heap queu'


def test_characters_side_by_side():
    x, y = characters.side_by_side(np.arange(12), rows=3)
    np.testing.assert_array_equal(x.T, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_characters_counted_one_by_one(order, source):
    text, held_out = (list(part[:2000]) for part in source)
    counts = [Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for n in range(order + 1)]
    contexts = [Counter(tuple(text[i : i + n]) for i in range(len(text) - n)) for n in range(order)]

    def p(context, character):
        shorter = p(context[1:], character) if context else 1 / 96
        n = len(context)
        return (counts[n + 1][(*context, character)] + 5 * shorter) / (contexts[n][context] + 5)

    expected = [p(tuple(held_out[i - order + 1 : i]), held_out[i]) for i in range(order - 1, len(held_out))]
    np.testing.assert_allclose(characters.ngram_bits(*map(np.array, (text, held_out)), order), -np.log2(expected).mean())


def test_characters_bits_of_each_row_alone(source):
    tg.manual_seed(0)
    model, (x, y) = characters.Characters(8), characters.side_by_side(source[1], 64)
    with tg.no_grad():
        scores = [model(x[:, row])[0].numpy().astype(float) for row in range(64)]
    wanted = [np.take_along_axis(s, y[:, [row]], axis=1)[:, 0] for row, s in enumerate(scores)]
    expected = np.mean([np.log(np.exp(s).sum(axis=1)) - w for s, w in zip(scores, wanted, strict=True)]) / np.log(2)
    assert characters.bits(model, source[1]) == pytest.approx(expected, rel=1e-5)


def test_characters_are_learnt_and_written(source):
    tg.manual_seed(0)
    model = characters.Characters(32)
    curve = characters.train(model, *source)
    assert [read for read, _ in curve] == sorted(read for read, _ in curve)
    assert curve[-1][0] == pytest.approx(60_000, abs=32)
    assert curve[-1][1] < characters.ngram_bits(*source, 1) < curve[0][1]

    written = characters.write(model, "class ", length=20, temperature=1e-3)
    assert written.startswith("class ")
    for end in range(6, 26):  # so cold that each character is the most probable one
        with tg.no_grad():
            best = model(characters.encode(written[:end]))[0].numpy()[-1].argmax()
        assert written[end] == characters.CHARACTERS[best]


def test_characters_runs_as_a_script(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(characters, "TRAINING", ("heapq",))
    monkeypatch.setattr(characters, "HELD_OUT", ("bisect",))
    characters.main(["--hidden", "8", "--epochs", "2", "--figure", str(tmp_path / "curve.svg")])
    out = capsys.readouterr().out
    assert "bits per character on modules never read: bisect" in out
    assert "\ndef " in out
    assert "<!-- characters read (millions) -->" in (tmp_path / "curve.svg").read_text()


@pytest.mark.slow
def test_characters_beat_the_counts():
    _, curve, counted = characters.run()
    assert curve[-1][1] < counted["triples"] - 0.3
    assert counted["triples"] < counted["pairs"] - 0.3 < counted["characters"] - 0.6


# -- sunspots ----------------------------------------------------------------------------------------------------------------


def test_sunspots_of_known_years():
    series = sunspots.load()
    assert len(series) == 309
    assert [series[year - sunspots.FIRST] for year in (1700, 1816, 1957, 2008)] == [5.0, 45.8, 190.2, 2.9]
    assert {name: (1700 + at.start, 1699 + at.stop) for name, at in sunspots.SPANS.items()} == {
        "1921-1955": (1921, 1955),
        "1956-2008": (1956, 2008),
    }


def test_sunspots_simple_methods():
    series = sunspots.load()
    errors = sunspots.rmse(series, sunspots.persistence(series))
    assert errors["1921-1955"] ** 2 * 35 == pytest.approx(sum((series[t] - series[t - 1]) ** 2 for t in range(221, 256)))
    fitted = pytest.importorskip("statsmodels.tsa.ar_model").AutoReg(series[:221], lags=9).fit()
    expected = [fitted.params[0] + fitted.params[1:] @ series[t - 9 : t][::-1] for t in range(9, 309)]
    np.testing.assert_allclose(sunspots.autoregression(series)[9:], expected, rtol=1e-8)


def test_sunspots_network_does_not_look_ahead():
    series = sunspots.load()
    changed = np.where(np.arange(309) >= 260, 500.0, series)
    forecasts, others = (sunspots.network(s, epochs=1, hidden=4) for s in (series, changed))
    np.testing.assert_array_equal(forecasts[:261], others[:261])
    assert not np.isclose(forecasts[261:], others[261:]).any()


def test_sunspots_network_learns():
    series = sunspots.load()
    error, other = (sunspots.rmse(series, f) for f in (sunspots.network(series, epochs=20), sunspots.persistence(series)))
    assert error["1921-1955"] < 0.6 * other["1921-1955"]
    assert error["1956-2008"] < 0.7 * other["1956-2008"]


def test_sunspots_runs_as_a_script(capsys, tmp_path):
    sunspots.main(["--epochs", "1", "--hidden", "4", "--seeds", "2", "--figure", str(tmp_path / "forecast.svg")])
    out = capsys.readouterr().out
    assert "  persistence                                     25.3           33.4\n" in out
    assert "  autoregression AR(9)                            13.8           19.5\n" in out
    assert "  mean of 2 GRUs " in out
    assert "<!-- root mean squared error, 1956-2008 -->" in (tmp_path / "forecast.svg").read_text()


@pytest.mark.slow
def test_sunspots_expected_errors():
    series, forecasts, networks = sunspots.run()
    for span, expected in sunspots.EXPECTED.items():
        low, high = map(float, expected.split(" to "))
        errors = [sunspots.rmse(series, forecast)[span] for forecast in networks]
        assert low - 0.5 < min(errors) <= max(errors) < high + 0.5
    linear, mean = (sunspots.rmse(series, forecasts[name])["1921-1955"] for name in ("autoregression AR(9)", "mean of 5 GRUs"))
    assert mean < linear - 1


# -- digits ------------------------------------------------------------------------------------------------------------------


def test_digits_are_split():
    x, y, x_held, y_held = digits.load(seed=3)
    assert (x.shape, y.shape, x_held.shape, y_held.shape) == ((1347, 8, 8), (1347,), (450, 8, 8), (450,))
    assert x.min() == 0 < x.max() == 1
    assert np.bincount(y_held).min() >= 43  # of each class a quarter


def test_digits_regressions_see_the_first_rows_alone():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y, x_held, y_held = (part[:300] for part in digits.load())
    shares = digits.regressions(x, y, x_held, y_held)
    for k in (1, 4, 8):
        model = linear.LogisticRegression(max_iter=1000).fit(x[:, :k].reshape(300, -1), y)
        assert shares[k - 1] == (model.predict(x_held[:, :k].reshape(300, -1)) == y_held).mean()
    assert shares[0] < shares[3] < shares[7]


def test_digits_beliefs_come_from_the_rows_read():
    tg.manual_seed(0)
    model, x = digits.Reader(4), digits.load()[0][:5]
    believed, other = digits.beliefs(model, x), digits.beliefs(model, np.where(np.arange(8)[:, None] < 5, x, 1 - x))
    np.testing.assert_allclose(believed.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(believed[:, :5], other[:, :5])
    assert not np.isclose(believed[:, 5:], other[:, 5:]).all(axis=-1).any()
    y = believed[:, 2].argmax(axis=-1)
    assert digits.accuracy(model, x, y).tolist() == [(believed[:, t].argmax(axis=-1) == y).mean() for t in range(8)]


def test_digits_are_learnt():
    x, y, x_held, y_held = digits.load()
    at_end, every_row = (digits.train(x, y, every, epochs=3) for every in (False, True))
    assert digits.accuracy(at_end, x_held, y_held)[-1] > 0.9
    assert digits.accuracy(every_row, x_held, y_held)[3] > 0.6 > digits.accuracy(at_end, x_held, y_held)[3]


def test_digits_runs_as_a_script(capsys, tmp_path):
    digits.main(["--epochs", "1", "--hidden", "8", "--figure", str(tmp_path / "beliefs.svg")])
    out = capsys.readouterr().out
    assert "450 held-out digits read correctly" in out
    assert "  logistic regression     43.3  57.8" in out
    assert "<!-- believed to be -->" in (tmp_path / "beliefs.svg").read_text()


@pytest.mark.slow
def test_digits_expected_shares():
    *_, shares = digits.run()
    assert shares["GRU, asked at the end"][-1] > 0.97
    assert shares["logistic regression"][-1] == pytest.approx(0.969, abs=0.003)
    assert shares["GRU, asked every row"][3] > 0.84
