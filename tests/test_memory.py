"""Memory that a pass has freed stays with the process, unless the user has said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, numpy as np, tinygrad_rnn
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(n, np.float32) for n in [1 << 14] * 1000 + [1 << 24]]  # 64 MB in small ones, and 64 MB in one
    del blocks
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize(("variables", "again"), [({}, False), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, True)])
def test_freed_memory_is_kept_for_the_next_pass(variables: dict[str, str], again: bool) -> None:
    """Pages that the system has to provide anew, in the third of three equal rounds."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))} | variables
    done = subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 5000) is again
