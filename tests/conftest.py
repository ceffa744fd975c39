"""What tests share: a folder for what is compiled, the target that tg.compile has, and a run without the garbage collector."""

import gc
import threading
from contextlib import suppress
from functools import partial

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.compiler.native import build


@pytest.fixture(scope="session", autouse=True)
def _compiled_code(tmp_path_factory):
    """C that is compiled is kept for the session, and not among the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def has_compiler():
    with suppress(build.NoCompilerError):
        return bool(build._compiler())
    return False


def in_threads(work, arguments):
    """Run `work(*each)` for all of the arguments at once, and wait."""
    threads = [threading.Thread(target=work, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")
IN_C = pytest.param("c", marks=needs_compiler)


@pytest.fixture
def target(request, monkeypatch):
    """The target of programs: NumPy, or what a test is parametrised with."""
    name = getattr(request, "param", "numpy")
    monkeypatch.setattr(tg, "compile", partial(tg.compile, target=name))
    return name


@pytest.fixture
def no_gc():
    """What is freed is freed by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
