"""tg.save and tg.load: nested states, files replaced as a whole, runs that go on where they stopped."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.checkpoint import CheckpointError, load, safetensors, save
from tinygrad_rnn.nn.init import generator


def assert_same(found, expected):
    """Equal in structure, types and bits."""
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray | np.generic):
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    else:
        assert found == expected or (found != found and expected != expected)


# -- nested states -----------------------------------------------------------------------------------------------------------

NESTED = {
    "model": {"layers.0.weight": np.ones((2, 3), np.float32), "empty": {}},
    "optimizer": {
        "state": {0: {"step": 3, "momentum_buffer": np.zeros((2, 3), np.float32)}, 10: {}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "nesterov": False, "foreach": None, "params": [0, 10]}],
    },
    "rng": np.random.default_rng(3).bit_generator.state,
    "mersenne": np.random.RandomState(1).get_state(legacy=False),
    "odd": {
        "$array": "a text", "": np.arange(3), "nan": float("nan"), "inf": (float("-inf"), []), "text": 'é"\\\n', "big": 2**200,
        1: {"1": np.arange(2)}, "1": {1: np.arange(1)}, "x.y": np.arange(4), "x": {"y": np.arange(5)}, "float": 0.1 + 0.2,
        "scalars": [np.float32(0.1), np.float64(0.1), np.bool_(True), np.int16(-3)], "tuple": ((), ((1,),)),
    },
}  # fmt: skip


def test_nested_states_come_back_as_they_were(tmp_path):
    save(tmp_path / "x", NESTED)
    assert_same(load(tmp_path / "x"), NESTED)


def test_any_reader_of_the_format_finds_the_arrays_of_a_nested_state(tmp_path):
    save(tmp_path / "x", NESTED)
    arrays, metadata = safetensors.read(tmp_path / "x")
    assert {"model.layers.0.weight", "optimizer.state.0.momentum_buffer", "odd.x.y", "odd.x.y'"} <= set(arrays)
    assert list(metadata) == ["tinygrad_rnn"]


def test_a_flat_dict_of_arrays_is_a_plain_file(tmp_path):
    save(tmp_path / "x", nn.LSTM(2, 3).state_dict())
    assert safetensors.read(tmp_path / "x")[1] == {}
    save(tmp_path / "x", {})
    assert load(tmp_path / "x") == {}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text("$ar.", max_size=3) | st.integers(0, 3), inner, max_size=3)
            | st.builds(np.array, st.lists(st.floats(width=32), max_size=3))
        ),
        max_leaves=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_can_be_saved_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("any") / "x"
    save(path, {"value": value})
    assert_same(load(path), {"value": value})


def test_the_same_state_gives_the_same_bytes_in_every_process(tmp_path):
    program = (
        "import numpy as np, tinygrad_rnn as tg; from tinygrad_rnn.checkpoint import save; tg.manual_seed(0); import sys;"
        "m = tg.nn.LSTM(2, 3); save(sys.argv[1], {'m': m.state_dict(), 'o': tg.optim.SGD(m.parameters()).state_dict()})"
    )
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", program, str(tmp_path / seed)], check=True, env=environment)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (nn.Linear(1, 1), TypeError, r"save: expected a dict, got a Linear; write model.state_dict\(\)"),
        ([np.ones(1)], TypeError, "save: expected a dict, got a list"),
        ({"z": np.ones(1, complex)}, TypeError, "cannot save 'z' of dtype complex128: expected one of uint64, int64"),
        ({"a": {"z": np.array([None])}}, TypeError, "cannot save 'a.z' of dtype object"),
        ({"z": np.array(["text"])}, TypeError, "cannot save 'z' of dtype <U4"),
        ({"t": np.array("2020", "M8[D]")}, TypeError, "cannot save 't' of dtype datetime64"),
        ({"z": np.zeros(1, [("x", "f4")])}, TypeError, r"cannot save 'z' of dtype \[\('x', '<f4'\)\]"),
        ({"model": nn.Linear(1, 1)}, TypeError, "cannot save model, a Linear: .*save its state_dict"),
        ({"a": [1, {2, 3}]}, TypeError, "cannot save a.1, a set"),
        ({"a": {(1, 2): 3}}, TypeError, r"cannot save the key \(1, 2\) of a: expected a text or a whole number"),
        ({"a": {True: 3}}, TypeError, "cannot save the key True of a"),
        ({"__metadata__": np.ones(1)}, ValueError, "the format keeps that name; choose another"),
        ({"\ud800": np.ones(1)}, ValueError, r"cannot save: '\\ud800' in a name or text is half of a surrogate pair"),
        ({"a": "\udcff"}, ValueError, r"cannot save: '\\udcff' in a name or text"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path, state, error, message):
    save(tmp_path / "x", {"old": np.ones(1)})
    with pytest.raises(error, match=message):
        save(tmp_path / "x", state)
    assert os.listdir(tmp_path) == ["x"]
    assert_same(load(tmp_path / "x"), {"old": np.ones(1)})


def test_a_state_that_contains_itself_is_refused(tmp_path):
    state = {}
    state["self"] = state
    with pytest.raises(ValueError, match="nested too deeply; does it contain itself"):
        save(tmp_path / "x", state)


def test_metadata_and_the_length_of_the_header_are_checked_when_writing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="metadata: expected strings for strings"):
        safetensors.write(tmp_path / "x", {}, {"a": 1})
    monkeypatch.setattr(safetensors, "LONGEST_HEADER", 100)
    with pytest.raises(ValueError, match="names and metadata take 160 bytes, and the format allows 100"):
        save(tmp_path / "x", {"n" * 100: np.ones(1)})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ("{", "not valid JSON"),
        ('{"a": 1, "a": 2}', "has the name 'a' twice"),
        ("[1]", "leaves out 'x'"),
        ('[{"$array": "x"}]', "is not a dict"),
        ('{"a": {"$array": "y"}}', r"at \{'\$array': 'y'\}"),
        ('{"a": {"$array": ["x"]}}', r"at \{'\$array': \['x'\]\}"),
        ('{"a": {"$array": "x"}, "b": {"$array": "x"}}', "is damaged, or of a newer version"),
        ('{"a": {"$array": "x", "b": 1}}', "is damaged, or of a newer version"),
        ('{"a": {"$scalar": "x"}}', "is damaged, or of a newer version"),
        ('{"a": {"$object": "x"}}', r"or of a newer version, at \{'\$object': 'x'\}"),
        ('{"a": {"$float": "1"}}', "is damaged"),
        ('{"a": {"$tuple": {}}}', "is damaged"),
        ('{"a": {"$dict": [[1, 2], [1, 3]]}}', "is damaged"),
        ('{"a": {"$dict": [[[], 2]]}}', "is damaged"),
        ('{"a": {"$dict": [[1, 2, 3]]}}', "is damaged"),
        ('{"a":' + "[" * 480 + "]" * 480 + "}", "nested too deeply|leaves out"),
        ('{"a":' + "[" * 90_000 + "]" * 90_000 + "}", "not valid JSON|nested too deeply"),
    ],
)
def test_a_structure_that_does_not_fit_its_arrays_is_refused(tmp_path, structure, message):
    safetensors.write(tmp_path / "x", {"x": np.ones(1)}, {"tinygrad_rnn": structure})
    with pytest.raises(CheckpointError, match=r"cannot load '.*x': .*" + message):
        load(tmp_path / "x")


# -- atomic replacement ------------------------------------------------------------------------------------------------------


def failing(*args):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where):
    path = tmp_path / "x"
    save(path, {"old": np.ones(1)})
    monkeypatch.setattr(os, where, failing)
    with pytest.raises(OSError, match="No space left"):
        save(path, {"new": np.ones(1000)})
    assert os.listdir(tmp_path) == ["x"]
    assert_same(load(path), {"old": np.ones(1)})


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    save(path, {"old": np.ones(1)})
    program = (
        "import numpy as np, resource, sys; from tinygrad_rnn.checkpoint import save;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); save(sys.argv[1], {'new': np.ones(100_000)})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, env=environment)
    assert "File too large" in result.stderr
    assert os.listdir(tmp_path) == ["x"]
    assert_same(load(path), {"old": np.ones(1)})


def test_an_interrupt_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    save(tmp_path / "x", {"old": np.ones(1)})
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "x", {"new": np.ones(1)})
    assert os.listdir(tmp_path) == ["x"]


def test_the_old_file_is_replaced_only_after_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    events, calls = [], {"fsync": os.fsync, "replace": os.replace}
    for name, call in calls.items():
        monkeypatch.setattr(os, name, lambda *args, name=name, call=call: (events.append(name), call(*args)))
    save(tmp_path / "x", {"a": np.ones(1)})
    assert events == ["fsync", "replace"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path):
    (tmp_path / "plain").write_text("")
    save(tmp_path / "new", {})
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "new").chmod(0o640)
    save(tmp_path / "new", {"a": np.ones(1)})
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and devices")
def test_links_stay_links_and_devices_are_left_alone(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "x")
    save(tmp_path / "link", {"a": np.ones(1)})
    assert (tmp_path / "link").is_symlink()
    assert list(load(tmp_path / "real" / "x")) == ["a"]
    for place in ("/dev/null", tmp_path / "real"):
        with pytest.raises(OSError, match="expected the name of a file, got a folder or a device"):
            save(place, {"a": np.ones(1)})
    assert not Path("/dev/null").is_file()


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"cannot save .*x.st': make its folder first.*nowhere'"):
        save(tmp_path / "nowhere" / "x.st", {})
    monkeypatch.chdir(tmp_path)
    save("x" * 250, {"a": np.ones(1)})
    assert os.listdir(tmp_path) == ["x" * 250]


# -- a run, saved and resumed ------------------------------------------------------------------------------------------------


OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"betas": (0.8, 0.99), "amsgrad": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
}


class Run:
    """A training run with everything that has a state: weights, an optimiser's averages, dropout's random numbers."""

    def __init__(self, optimizer):
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), tg.tanh, nn.Linear(8, 1))
        self.lstm = nn.LSTM(2, 3, num_layers=2, dropout=0.3)
        parameters = [*self.lstm.parameters(), *self.model.parameters()]
        self.optimizer = getattr(tg.optim, optimizer)(parameters, lr=0.05, **OPTIMIZERS[optimizer])

    def steps(self, count):
        losses = []
        for _ in range(count):
            x = generator.standard_normal((5, 4, 2)).astype(np.float32)
            loss = (self.model(self.lstm(x)[0]) ** 2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def state(self):
        modules = {"model": self.model.state_dict(), "lstm": self.lstm.state_dict()}
        return {**modules, "optimizer": self.optimizer.state_dict(), "rng": generator.bit_generator.state}

    def resume(self, state):
        self.model.load_state_dict(state["model"])
        self.lstm.load_state_dict(state["lstm"])
        self.optimizer.load_state_dict(state["optimizer"])
        generator.bit_generator.state = state["rng"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(tmp_path, optimizer):
    tg.manual_seed(5)
    whole = Run(optimizer)
    whole.steps(3)
    save(tmp_path / "run.safetensors", whole.state())
    expected = whole.steps(4)
    tg.manual_seed(99)
    resumed = Run(optimizer)
    resumed.resume(load(tmp_path / "run.safetensors"))
    assert resumed.steps(4) == expected
    assert_same(resumed.state(), whole.state())
