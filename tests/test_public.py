"""What is public: every name is there, documented, and cheap to import."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_rnn as tg

PACKAGE = Path(tg.__file__).parent
MODULES = sorted(info.name for info in pkgutil.walk_packages([str(PACKAGE)], "tinygrad_rnn."))
HEAVY = {"torch", "jax", "matplotlib", "graphviz", "graphviz_pure", "tqdm", "onnx", "scipy", "pandas", "IPython", "hypothesis"}


def public_modules():
    """The package, and every module in it that says what it offers."""
    found = [tg, *map(importlib.import_module, MODULES)]
    return [module for module in found if hasattr(module, "__all__")]


def ours(thing):
    return (getattr(thing, "__module__", None) or "").startswith("tinygrad_rnn")


def public_things():
    """Each public function and class, by the path that people write."""
    for module in public_modules():
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and ours(thing):
                yield f"{module.__name__}.{name}", thing


def public_methods():
    """Each public method and property of a public class, where the class itself, or one of ours, defines it."""
    for path, thing in public_things():
        for name, member in inspect.getmembers(thing) if inspect.isclass(thing) else ():
            plain = inspect.isfunction(member) or isinstance(member, property)
            if not name.startswith("_") and plain and ours(member.fget if isinstance(member, property) else member):
                yield f"{path}.{name}", thing, name, member


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_all_names_are_there_once(module):
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
    assert len(set(module.__all__)) == len(module.__all__)
    names = {}
    exec(f"from {module.__name__} import *", names)
    assert set(module.__all__) <= set(names)


@pytest.mark.parametrize("module", [m for m in public_modules() if hasattr(m, "__path__")], ids=lambda module: module.__name__)
def test_all_is_complete(module):
    """What a package imports under a public name is meant for its users."""
    public = [name for name, thing in vars(module).items() if callable(thing) and ours(thing) and not name.startswith("_")]
    assert set(public) <= set(module.__all__)


def test_the_names_of_the_design_are_there():
    names = "Tensor no_grad grad value_and_grad vjp jvp jacobian hessian hvp gradcheck manual_seed detect_anomaly AnomalyError"
    assert set(names.split()) <= set(tg.__all__)
    layers = "Module Parameter ModuleList Sequential Linear Embedding Dropout LayerNorm RNNCell LSTMCell GRUCell RNN LSTM GRU"
    assert {*layers.split(), "Recurrent"} <= set(tg.nn.__all__)
    assert {"SGD", "Optimizer"} <= set(tg.optim.__all__)
    assert {"draw"} <= set(tg.viz.__all__)


def test_every_module_says_what_it_is_for():
    short = {name: importlib.import_module(name).__doc__ for name in MODULES}
    assert not [name for name, text in short.items() if not text]


def test_every_public_thing_has_a_docstring():
    bare = [path for path, thing in public_things() if not (inspect.getdoc(thing) or "").strip()]
    assert not bare


def test_every_public_method_has_a_docstring():
    bare = {path for path, _, _, member in public_methods() if not (inspect.getdoc(member) or "").strip()}
    inherited = {
        path
        for path, owner, name, _ in public_methods()
        if any((inspect.getdoc(vars(base).get(name)) or "").strip() for base in owner.__mro__ if name in vars(base))
    }
    assert not bare - inherited


def test_docstrings_are_sentences():
    """They begin with a word or an equation, and end the first paragraph like a sentence."""
    odd = [
        path
        for path, thing in public_things()
        if (text := inspect.getdoc(thing)) and not text.split("\n\n")[0].rstrip().endswith((".", "?", ":", ")", "]", "```"))
    ]
    assert not odd


def test_public_functions_are_annotated():
    def lacks(function):
        parameters = inspect.signature(function).parameters
        bare = [p for p in parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        return bool(bare)

    lacking = [path for path, thing in public_things() if inspect.isfunction(thing) and lacks(inspect.unwrap(thing))]
    assert not lacking


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").read_text() == ""


def run(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, check=False, cwd=PACKAGE.parent, timeout=60
    )


def test_importing_is_light_and_quiet():
    """Nothing but NumPy is loaded, and nothing is said: no warning, no line."""
    done = run("import sys, tinygrad_rnn; print(*sorted({name.partition('.')[0] for name in sys.modules}))", "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    assert {"numpy", "tinygrad_rnn"} <= loaded
    assert not loaded & HEAVY


def test_importing_changes_nothing_of_numpy():
    code = """
import numpy as np

def look():
    return np.geterr(), np.get_printoptions(), np.random.get_state()[1].tolist()

names, state = dict(vars(np)), look()
import tinygrad_rnn
assert state == look()
assert all(vars(np)[name] is thing for name, thing in names.items())
"""
    done = run(code, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
