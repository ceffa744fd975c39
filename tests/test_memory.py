"""Memory that a pass has freed stays with the process, unless the user has said otherwise."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tinygrad_rnn import memory

HELD = """
import resource, numpy as np, tinygrad_rnn

def held():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * resource.getpagesize()

before = held()
blocks = [np.ones(n, np.float32) for n in [1 << 14] * 1000 + [1 << 22]]  # 64 MB in small ones, and 16 MB in one
del blocks
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_freed_memory_is_kept_for_the_next_pass(variables: dict[str, str], kept: bool) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))} | variables
    done = subprocess.run([sys.executable, "-c", HELD], env=env, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 40 << 20) is kept


@pytest.mark.parametrize("most", [1 << 30, 1 << 26, 0])
def test_a_library_that_refuses_large_blocks_is_asked_for_smaller_ones(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc raises the limit of 128 KB by itself, but no more once it has been told another of its limits."""
    limits = {memory.M_MMAP_THRESHOLD: 1 << 17}

    def mallopt(what: int, size: int) -> int:
        if what == memory.M_MMAP_THRESHOLD and size > most:
            return 0
        limits[what] = size
        return 1

    for name in memory.USERS_OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    memory.keep_freed()
    kept = {memory.M_TRIM_THRESHOLD: 1 << 29} if most else {}
    assert limits == {memory.M_MMAP_THRESHOLD: {1 << 30: 1 << 27, 1 << 26: 1 << 25, 0: 1 << 17}[most], **kept}
