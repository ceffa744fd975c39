"""The benchmark: its contestants do the same work, its workers work, its table and its picture show what was measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import speed

from tinygrad_rnn import memory
from tinygrad_rnn.compiler.native.build import loaded

KINDS = [(name, kind) for name, each in speed.CONTESTANTS.items() for kind in each.kinds if name != "unrolled"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    """A size of its own, whose numbers differ from each other; and only as many passes as a median takes."""
    monkeypatch.setitem(speed.SIZES, "tiny", (4, 3, 2, 5))
    monkeypatch.setattr(speed.time_of, "__defaults__", (0.0,))


def numbers(value):
    """An array of ours, NumPy's, PyTorch's or JAX's, as NumPy's."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


# -- the same work -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param(*each, marks=[pytest.mark.parity] if "torch" in each[0] else []) for each in KINDS]
)
def test_contestants_have_the_unrolled_layers_outputs_and_gradients(name, kind):
    package = speed.CONTESTANTS[name].package
    pytest.importorskip(package)
    layer, x, dy = speed.problem(kind, "tiny", np.float32 if package == "jax" else np.float64)
    y, grads = speed.unrolled(kind, layer, x, dy)()
    run = speed.CONTESTANTS[name].prepare(kind, *speed.problem(kind, "tiny", x.dtype))
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if package == "jax" else {"rtol": 1e-9, "atol": 1e-12}
    for _ in range(2):  # the second pass begins as the first did
        their_y, theirs = run()
        np.testing.assert_allclose(numbers(their_y), y.numpy(), **tolerance)
        for (parameter, _), ours, its in zip(layer.named_parameters(), grads, theirs, strict=True):
            assert numbers(its).dtype == x.dtype
            np.testing.assert_allclose(numbers(its), ours.numpy(), **tolerance, err_msg=parameter)


def test_what_compiled_is_where_no_compiler_works(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    loaded.clear()
    assert speed.what_compiled_is() == "NumPy, since no C compiler works here"


@pytest.mark.parametrize("kind", speed.BY_HAND)
def test_by_hand_stays_in_float32_and_leaves_its_arguments_alone(kind):
    layer, x, dy = speed.problem(kind, "tiny")
    weights = [p.numpy().copy() for p in layer.parameters()]
    before = [a.copy() for a in (x, dy, *weights)]
    forward, backward = speed.BY_HAND[kind]
    hs, saved = forward(x, *weights)
    grads = backward(dy, *saved)
    assert {a.dtype for a in (hs, *grads)} == {np.dtype(np.float32)}
    assert [g.shape for g in grads] == [w.shape for w in weights]
    for now, then in zip((x, dy, *weights), before, strict=True):
        np.testing.assert_array_equal(now, then)


# -- measuring ---------------------------------------------------------------------------------------------------------------


def test_time_is_the_median_of_calls_after_the_first(monkeypatch):
    clock = iter([0.0, 1.0, 1.5, 2.0, 2.25, 3.0, 7.0, 8.0])  # calls of 0.5, 0.25 and 4 s
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    calls = []
    assert speed.time_of(lambda: calls.append(1), 7.5) == 0.5e6
    assert len(calls) == 4


def test_a_worker_measures_in_a_process_of_its_own():
    found = speed.ask_worker("by-hand", "seed", ["RNN", "GRU"], threads=1)
    assert list(found) == ["RNN", "GRU"]
    assert all(1 < microseconds < 1e6 for microseconds in found.values())


@pytest.mark.parametrize(
    ("name", "left_alone"), [("compiled", False), ("unrolled", False), ("by-hand", True), ("jax-scan", True)]
)
def test_memory_of_the_others_is_what_it_is_without_this_package(name, left_alone, monkeypatch):
    for variable in memory.USERS_OWN:
        monkeypatch.delenv(variable, raising=False)
    given = []

    def run(command, env, **options):
        given.append(env)
        return subprocess.CompletedProcess(command, 0, "{}", "")

    monkeypatch.setattr(speed.subprocess, "run", run)
    speed.ask_worker(name, "seed", ["RNN"])
    assert (not memory.USERS_OWN.isdisjoint(given[0])) is left_alone


def test_a_worker_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)by-hand failed at the size seed; its process said:.*KeyError: 'peephole'"):
        speed.ask_worker("by-hand", "seed", ["peephole"])


def test_a_first_pass_is_timed_alone(monkeypatch):
    clock = iter([1.0, 1.5])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    calls = []
    assert speed.time_of_first(lambda: calls.append(1)) == 0.5e6
    assert len(calls) == 1


def test_a_worker_keeps_what_it_compiles_where_it_is_told_to(tmp_path):
    found = speed.ask_worker("compiled", "seed", ["RNN"], clock="first", cache=str(tmp_path))
    assert 100 < found["RNN"] < 1e8
    assert bool([*tmp_path.glob("tinygrad_rnn/*.so")]) == (speed.what_compiled_is() == "C")


def test_first_passes_have_an_empty_cache_and_then_the_same(monkeypatch):
    asked = []

    def ask(name, size, kinds, threads, clock, cache):
        assert (size, threads, clock) == ("small", 1, "first")
        assert Path(cache).is_dir()
        asked.append((name, *kinds, cache))
        return {kind: len(asked) for kind in kinds}

    monkeypatch.setattr(speed, "ask_worker", ask)
    found = speed.measure_first(["compiled", "by-hand"], ["LSTM", "peephole"], rounds=2, threads=1)
    assert found == {
        "LSTM": {"compiled": [1, 5], "from the cache": [2, 6]},
        "peephole": {"compiled": [3, 7], "from the cache": [4, 8]},
    }
    assert [each[:2] for each in asked[:4:2]] == [("compiled", "LSTM"), ("compiled", "peephole")]
    assert asked[::2] == asked[1::2]
    caches = [cache for *_, cache in asked]
    assert len(set(caches)) == 4
    assert not any(Path(cache).exists() for cache in caches)


def test_contestants_take_turns_at_what_they_can(monkeypatch):
    asked = []

    def ask(name, size, kinds, threads):
        asked.append((name, *kinds))
        return {kind: len(asked) for kind in kinds}

    monkeypatch.setattr(speed, "ask_worker", ask)
    found = speed.measure("seed", ["compiled", "by-hand", "torch-loop"], ["LSTM", "peephole"], rounds=3)
    both = ("LSTM", "peephole")
    first, second, third = ("compiled", *both), ("by-hand", "LSTM"), ("torch-loop", *both)
    assert asked == [first, second, third, second, third, first, third, first, second]
    assert found["LSTM"] == {"compiled": [1, 6, 8], "by-hand": [2, 4, 9], "torch-loop": [3, 5, 7]}
    assert found["peephole"] == {"compiled": [1, 6, 8], "torch-loop": [3, 5, 7]}


# -- showing -----------------------------------------------------------------------------------------------------------------

FOUND = {
    "RNN": {"compiled": [30.4], "unrolled": [900.0], "by-hand": [40.0], "jax-scan": [20.0]},
    "LSTM": {"compiled": [12_000.0, 8_000.0, 10_000.0], "by-hand": [16_000.0, 4_000.0]},
    "peephole": {"compiled": [12_500.0]},
}
TABLE = """\
seed: T = 10, B = 1, E = 1, H = 8
                            RNN             LSTM         peephole
compiled              30   1.52    10,000   1.00    12,500   1.25
unrolled             900  45.00
by-hand               40   2.00    10,000   1.00
jax-scan              20   1.00"""
FIRST = {
    "RNN": {"compiled": [70_400.0], "from the cache": [9_000.0]},
    "LSTM": {"compiled": [90_000.0, 2_000_000.0, 110_400.0], "from the cache": [16_000.0, 15_600.0]},
}
TABLE_OF_FIRST = """\
small: milliseconds of the first pass
                            RNN             LSTM
compiled              70              110
from the cache         9               16"""


def test_table():
    assert speed.table("seed", FOUND) == TABLE


def test_table_of_first_passes():
    assert speed.table_of_first(FIRST) == TABLE_OF_FIRST


def test_table_without_what_it_compares_with():
    found = {"RNN": {"compiled": [30.4], "unrolled": [900.0]}, "layernorm": {"compiled": [60.0], "torch-loop": [80.0]}}
    rows = speed.table("seed", found).splitlines()[2:]
    assert [row.split() for row in rows] == [["compiled", "30", "60"], ["unrolled", "900"], ["torch-loop", "80"]]


def test_script(capsys, tmp_path):
    path = tmp_path / "speed.json"
    speed.main(f"--sizes seed --kinds LSTM --peers compiled-numpy by-hand --rounds 1 --threads 1 --json {path}".split())
    out = capsys.readouterr().out
    kept = json.loads(path.read_text())
    assert kept["versions"] == {"numpy": np.__version__}
    by_name = kept["microseconds"]["seed"]["LSTM"]
    first = kept["first"]["LSTM"]
    assert list(first) == ["compiled-numpy"]
    ratio = by_name["compiled-numpy"][0] / by_name["by-hand"][0]
    assert f"numpy {np.__version__}\n" in out
    assert "1 threads; medians of 1 rounds" in out
    assert "compiled is" not in out
    assert re.search(rf"^compiled-numpy +{by_name['compiled-numpy'][0]:,.0f} +{ratio:.2f}$", out, re.MULTILINE)
    assert re.search(rf"^compiled-numpy +{first['compiled-numpy'][0] / 1e3:,.0f}$", out, re.MULTILINE)


def test_absent_peers_are_named_and_left_out(capsys, monkeypatch):
    monkeypatch.setattr(speed, "find_spec", lambda package: package != "torch")
    monkeypatch.setattr(speed, "ask_worker", lambda name, size, kinds, *_: dict.fromkeys(kinds, 7.0))
    speed.main(["--sizes", "seed", "small", "--kinds", "GRU", "--peers", "torch-loop", "compiled", "by-hand", "torch-nn"])
    out = capsys.readouterr().out
    assert "not installed, and left out: torch\n" in out
    assert "torch-" not in out
    assert re.search(r"^compiled is (C|NumPy, since no C compiler works here)$", out, re.MULTILINE)
    assert "compiled               0\nfrom the cache         0" in out
    assert out.count("compiled               7   1.00") == 2


def test_figure(tmp_path):
    pytest.importorskip("matplotlib", reason='needs python -m pip install -e ".[data]"')
    path = tmp_path / "speed.svg"
    speed.draw({"seed": FOUND, "small": FOUND}, path)
    svg = path.read_text()
    for text in ("RNN", "LSTM", "compiled", "jax-scan", "seed (10, 1, 1, 8)"):
        assert f"<!-- {text} -->" in svg
    assert "<!-- torch-nn -->" not in svg


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--rounds 0", "argument --rounds: expected 1 or more, got 0"),
        ("--figure no/such/speed.svg", "no/such/speed.svg: expected a file, in a directory that is there"),
        ("--figure speed.svg --peers compiled unrolled", "fastest that is not ours, and there is none: add by-hand"),
        ("--figure speed.svg --kinds peephole --peers compiled by-hand", "there is none"),
        ("--json .", ".: expected a file"),
        ("--kinds peephole --peers by-hand jax-scan", "none of by-hand, jax-scan is installed and knows peephole"),
        ("--peers numpy", "invalid choice: 'numpy'"),
    ],
)
def test_options_that_are_wrong(options, message, capsys, monkeypatch):
    monkeypatch.setattr(speed, "find_spec", lambda package: True)
    with pytest.raises(SystemExit):
        speed.main(options.split())
    assert message in capsys.readouterr().err


def test_without_matplotlib_it_says_so_before_it_measures(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(speed, "measure", lambda *_: pytest.fail("it measured"))
    with pytest.raises(ModuleNotFoundError, match=r'matplotlib: python -m pip install -e "\.\[data\]"'):
        speed.main(["--figure", "speed.svg"])
