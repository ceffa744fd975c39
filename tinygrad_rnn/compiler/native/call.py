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


ARRAY = f"typedef struct {{ char head[{object.__basicsize__}]; void *data; }} Array;"  # as NumPy's C API has it


def functions(text: str) -> list[Callable[..., None]]:
    """The functions `void name(long T, float *a, ...)` of a C text, as functions of a number and arrays."""
    heads = [(name, rest.split(", ")) for name, rest in re.findall(r"^void (\w+)\(long T, (.*)\) {", text, re.M)]
    entries = [ARRAY]
    for name, rest in heads:
        arrays, data = (", ".join(form.format(i) for i in range(len(rest))) for form in ("const Array *a{}", "a{}->data"))
        entries.append(f"void {name}_on_arrays(long T, {arrays}) {{ {name}(T, {data}); }}")
    lib = library("\n".join([text, *entries, ""]))
    for gemm in ("sgemm", "dgemm"):
        if f"(*{gemm})" in text:
            blas = ctypes.CDLL(np._core._multiarray_umath.__file__)
            ctypes.c_void_p.in_dll(lib, gemm).value = ctypes.cast(getattr(blas, f"scipy_cblas_{gemm}64_"), ctypes.c_void_p).value
    return [called(lib[f"{name}_on_arrays"], [DTYPES[p.split(" *")[0]] for p in rest]) for name, rest in heads]


def library(text: str):
    f = tempfile.mktemp()
    full = '#define VECTOR __attribute__((simd("notinbranch")))\ntypedef long I;\n' + text
    with open(f + ".c", "w") as o:
        o.write(full)
    subprocess.run(["gcc", "-O2", "-ftree-vectorize", "-fopenmp-simd", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC", f + ".c", "-o", f + ".so", "-lmvec", "-lm"], check=True)
    return ctypes.CDLL(f + ".so")


def called(function: Any, dtypes: list[Any]) -> Callable[..., None]:
    """A function that takes arrays."""
    function.argtypes, function.restype = [ctypes.c_long] + [ctypes.py_object] * len(dtypes), None

    def call(steps: int, *arrays: Any) -> None:
        function(steps, *map(np.ascontiguousarray, arrays, dtypes))

    return call
