"""The examples from papers, in short forms: their data is right, and the networks learn what they should and no more.

`-m slow` trains them in full and compares with the results that they promise.
"""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import adding
import numpy as np
import pytest
import reber
import seed_classifier
import seed_classifier_adam

import tinygrad_rnn as tg

# -- reber -------------------------------------------------------------------------------------------------------------------

REBER = r"B(?:PT*VV|(?:TS*X|PT*VP)(?:XT*VP)*(?:S|XT*VV))E"  # read off the diagram of the grammar, loop by loop


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [reber.draw_string(rng) for _ in range(3000)]


def test_reber_strings_are_of_the_grammar(drawn):
    assert all(re.fullmatch(f"B([TP]){REBER}\\1E", string) for string, _ in drawn)
    assert all(count > 1350 for count in Counter(string[1] for string, _ in drawn).values())
    assert sum(string[3:] in ("TXSETE", "TXSEPE") for string, _ in drawn) == pytest.approx(3000 / 8, abs=60)  # sd 18


def test_reber_followers_are_those_that_occur(drawn):
    occurred, named, count = defaultdict(set), {}, Counter()
    for string, followers in drawn:
        assert len(followers) == len(string) - 1
        for n, may_follow in enumerate(followers, 1):
            occurred[string[:n]].add(string[n])
            assert set(may_follow) == named.setdefault(string[:n], set(may_follow))
            count[string[:n]] += 1
    often = [prefix for prefix, n in count.items() if n > 30]  # missing one of two branches: 1 in 2^30
    assert len(often) > 50
    assert all(named[prefix] == occurred[prefix] for prefix in often)


def test_reber_followers_of_one_string(drawn):
    assert dict(drawn)["BTBTXSETE"] == ["TP", "B", "TP", "SX", "XS", "E", "T", "E"]


def test_reber_codes():
    np.testing.assert_array_equal(reber.code(["TP", "E"]), [[0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]])
    assert reber.code("BTE").dtype == np.float32
    np.testing.assert_array_equal(reber.code("BTPSXVE"), np.eye(7))


def test_reber_tests_on_strings_that_it_has_not_seen():
    strings, test = reber.make_data(np.random.default_rng(0), 100)
    assert len(strings) == len(test) == 100
    assert len(set(strings)) < 80
    assert not set(strings) & set(test)
    assert all(re.fullmatch(f"B([TP]){REBER}\\1E", string) and len(test[string]) == len(string) - 1 for string in test)


def test_reber_counts_what_is_right():
    _, test = reber.make_data(np.random.default_rng(0), 8)
    scores = tg.data.pad_sequences([reber.code(followers) for followers in test.values()])[0]
    last_but_one = [len(string) - 3 for string in test]

    def right():
        return reber.right(lambda x: tg.Tensor(scores), test)

    assert right() == (1, 1)
    scores[0, last_but_one[0], [1, 2]] = 1  # T and P alike: no better than luck
    scores[3, last_but_one[3]] = np.roll(scores[3, last_but_one[3]], 1)
    assert right() == (6 / 8, 6 / 8)
    scores[5, 0, 1] = 0  # T may follow the first B
    assert right() == (5 / 8, 6 / 8)


def test_reber_elman_cell_has_elmans_gradient():
    tg.manual_seed(0)
    ours, through_time = reber.ElmanCell(7, 5), tg.nn.RNNCell(7, 5)
    through_time.load_state_dict(ours.state_dict())
    x = tg.Tensor(np.random.default_rng(0).normal(size=(4, 2, 7)).astype(np.float32), requires_grad=True)
    outputs = [tg.nn.Recurrent(cell)(x)[0] for cell in (ours, through_time)]
    np.testing.assert_array_equal(outputs[0].numpy(), outputs[1].numpy())
    outputs[0][-1].sum().backward()
    assert np.flatnonzero(np.abs(x.grad.numpy()).max(axis=(1, 2))) == [3]
    h_before, h = outputs[0].numpy()[2:]
    np.testing.assert_allclose(ours.weight_hh.grad.numpy(), (1 - h**2).T @ h_before, rtol=1e-5)


def test_reber_networks_are_of_one_size():
    sizes = {name: sum(p.size for p in reber.Predictor(cell()).parameters()) for name, cell in reber.NETWORKS.items()}
    assert sizes == {"Elman, as in 1990": 619, "LSTM": 607, "Elman, through time": 619}


def test_reber_one_gradient_remembers_and_the_other_does_not():
    strings, test = reber.make_data(np.random.default_rng(0))
    kept = {}
    for name in ("Elman, as in 1990", "Elman, through time"):
        tg.manual_seed(0)
        points = reber.train(reber.Predictor(reber.NETWORKS[name]()), strings, 40, test, name)
        assert [read for read, *_ in points] == list(range(0, 40 * 256 + 1, 5 * 256))
        kept[name] = points[-1][2]
    assert 0.4 < kept["Elman, as in 1990"] < 0.6
    assert kept["Elman, through time"] > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_reber_in_full(seed):
    points = reber.run(seed)
    assert 0.45 < points["Elman, as in 1990"][-1][1] < 0.55
    assert points["LSTM"][-1][1] > 0.95
    assert max(whole for _, whole, _ in points["LSTM"]) == 1
    assert points["Elman, through time"][-1][1] > 0.7


# -- adding ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 7, 50])
def test_adding_data(steps):
    x, y = adding.make_data(np.random.default_rng(0), 300, steps)
    assert x.dtype == y.dtype == np.float32
    assert x.shape == (300, steps, 2)
    for sequence, total in zip(x, y, strict=True):
        marked = [(t, value) for t, (value, mark) in enumerate(sequence) if mark == 1]
        (first, a), (second, b) = marked
        assert first < steps // 2 <= second
        assert set(sequence[:, 1]) <= {0, 1}
        assert total == pytest.approx(a + b, abs=1e-6)


def test_adding_baseline():
    _, y = adding.make_data(np.random.default_rng(0), 20_000, 10)
    assert ((y - 1) ** 2).mean() == pytest.approx(1 / 6, abs=0.005)


def test_adding_networks_as_described():
    models = {name: model(50) for name, model in adding.NETWORKS.items()}
    sizes = {name: sum(p.size for p in model.parameters()) for name, model in models.items()}
    assert sizes == {"Elman": 1185, "LSTM": 1297, "GRU": 1207, "IndRNN": 1313}
    assert set(models["LSTM"].layer.gates["f"].bias_ih) == {2}
    for weight in (models["IndRNN"].layer.weight_hh_l0, models["IndRNN"].layer.weight_hh_l1):
        assert 0 <= weight.numpy().min() < 0.2
        assert 0.8 < weight.numpy().max() <= 2 ** (1 / 50)


def test_adding_is_learnt_over_eight_steps():
    tg.manual_seed(0)
    points = adding.train(adding.NETWORKS["GRU"](8), np.random.default_rng(0), 8, 300, "GRU")
    assert [update for update, _ in points] == list(range(0, 301, 25))
    assert points[0][1] > 0.1
    assert points[-1][1] < 0.02


@pytest.mark.slow
def test_adding_in_full():
    errors = {name: points[-1][1] for name, points in adding.run(0).items()}
    assert errors.pop("Elman") > 0.15
    assert errors.pop("IndRNN") < 0.1  # it jumps about
    assert max(errors.values()) < 0.005, errors


# -- seed_classifier_adam ----------------------------------------------------------------------------------------------------


def test_recipe_is_for_the_same_network():
    tutorial, batched = seed_classifier.Classifier(np.random.RandomState(0)), seed_classifier_adam.Classifier()
    W_xh, W_hh, W_hy, b_h, b_y = (p.numpy() for p in tutorial.parameters())
    batched.rnn.weight_ih_l0.data, batched.rnn.weight_hh_l0.data = W_xh, W_hh
    batched.rnn.bias_ih_l0.data, batched.rnn.bias_hh_l0.data = b_h, 0 * b_h
    batched.linear.weight.data, batched.linear.bias.data = W_hy, b_y
    x, y = seed_classifier.make_data(np.random.RandomState(1), 50)
    scores = batched(x.astype(np.float32)).numpy()
    np.testing.assert_allclose(scores, [tutorial(each).numpy() for each in x], rtol=1e-4, atol=1e-5)
    share = seed_classifier_adam.accuracy(batched, x.astype(np.float32), y)
    assert share == seed_classifier.accuracy(tutorial, x, y) == np.mean((scores > 0) == (y > 0))


def test_recipe_begins_orthogonal():
    weight = seed_classifier_adam.Classifier().rnn.weight_hh_l0.numpy()
    np.testing.assert_allclose(weight @ weight.T, np.eye(32), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_recipe_reaches_94_percent_in_20_epochs(seed, monkeypatch):
    monkeypatch.setattr(seed_classifier, "train", lambda *_, **__: None)  # the tutorial's recipe is tested elsewhere
    monkeypatch.setattr(seed_classifier, "accuracy", lambda *_: np.nan)
    shares = seed_classifier_adam.run(seed)["today's recipe"]
    assert len(shares) == 20
    assert shares[-1] >= 0.94


@pytest.mark.slow
def test_recipe_beats_the_tutorials():
    shares = seed_classifier_adam.run(0)
    assert shares["tutorial's recipe"][9] == seed_classifier.run(0)[2]  # after its own 10 epochs
    assert shares["today's recipe"][-1] > shares["tutorial's recipe"][-1] + 0.04


# -- as scripts --------------------------------------------------------------------------------------------------------------

SHORT = {
    reber: ["--epochs", "5"],
    adding: ["--updates", "25", "--steps", "4"],
    seed_classifier_adam: ["--epochs", "2"],
}


@pytest.mark.parametrize("example", SHORT, ids=lambda example: example.__name__)
def test_script(example, capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason='needs python -m pip install -e ".[data]"')
    monkeypatch.setattr(seed_classifier.make_data, "__defaults__", (100,))
    path = tmp_path / "curves.svg"
    example.main(["--seed", "1", "--seeds", "2", *SHORT[example], "--figure", str(path)])
    out, svg = capsys.readouterr().out, path.read_text()
    for name in example.EXPECTED:
        assert re.search(f"^  {name} +[\\d.]+ +[\\d.]+ +expected by default: ", out, re.MULTILINE), name
        assert f"<!-- {name} -->" in svg
    assert str(path) in out
    assert svg.count('clip-path="url(') == 2 * len(example.EXPECTED) + 1  # a line for each seed, and the baseline


@pytest.mark.parametrize("example", SHORT, ids=lambda example: example.__name__)
def test_without_matplotlib_it_says_so_before_it_trains(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "curves", raising=False)
    monkeypatch.setattr(example, "run", lambda *_: pytest.fail("it trained"))
    with pytest.raises(ModuleNotFoundError, match=r'matplotlib: python -m pip install -e "\.\[data\]"'):
        example.main([])


@pytest.mark.parametrize("example", SHORT, ids=lambda example: example.__name__)
def test_one_result_is_promised_everywhere(example):
    page = (Path(__file__).parent.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    ranges = re.findall(r"[\d.,]+\d to \d[\d.,]*\d", str(example.EXPECTED))
    assert len(ranges) >= 2
    for each in ranges:
        assert each in re.sub(" +", " ", example.__doc__), each
        assert each in page, each


def test_adding_needs_two_steps(capsys):
    with pytest.raises(SystemExit):
        adding.main(["--steps", "1"])
    assert "--steps: two numbers are marked, so at least 2, got 1" in capsys.readouterr().err
