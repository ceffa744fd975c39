"""C functions over time as Python calls them: with the number of steps and arrays."""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from .rows import TYPES

DTYPES = {c: np.dtype(name) for name, c in TYPES.items()}


def functions(text: str) -> list[Callable[..., None]]:
    """The functions of a C text."""
    f = tempfile.mktemp()
    full = '#define VECTOR __attribute__((simd("notinbranch")))\ntypedef long I;\n' + text
    open(f + ".c", "w").write(full)
    subprocess.run(["gcc", "-O2", "-ftree-vectorize", "-fopenmp-simd", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC", f + ".c", "-o", f + ".so", "-lmvec", "-lm"], check=True)
    lib = ctypes.CDLL(f + ".so")
    blas = ctypes.CDLL(np._core._multiarray_umath.__file__)
    for g in ("sgemm", "dgemm"):
        if f"(*{g})" in text:
            ctypes.c_void_p.in_dll(lib, g).value = ctypes.cast(getattr(blas, f"scipy_cblas_{g}64_"), ctypes.c_void_p).value
    return [called(getattr(lib, name), [DTYPES[c] for c in (p.split(" *")[0] for p in arguments.split(", "))]) for name, arguments in re.findall(r"^void (\w+)\(long T(?:, )?(.*)\) {", text, re.M)]


def called(function: Any, dtypes: list[Any]) -> Callable[..., None]:
    """A function that takes arrays."""
    function.argtypes, function.restype = [ctypes.c_long] + [ctypes.c_void_p] * len(dtypes), None

    def call(steps: int, *arrays: Any) -> None:
        held = [np.ascontiguousarray(a, dtype) for a, dtype in zip(arrays, dtypes)]
        function(steps, *[a.__array_interface__["data"][0] for a in held])

    return call
