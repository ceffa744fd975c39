"""C functions over time as Python calls them: with the number of steps, that of sequences, and arrays."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from .build import BuildError, blas, compiled
from .c_text import TYPES

DTYPES = {c: dtype for dtype, c in TYPES.items()}
HEAD = re.compile(r"^void (\w+)\(\s*long T, long N,\s+([^)]*?)\s*\) {", re.M)
GIVEN = re.compile(r"const ([^*]+) \*")
ARRAY = f"""
typedef struct {{  // as NumPy's C API has it
    char head[{object.__basicsize__} - sizeof(void *)];
    void *type, *data; int axes; void *shape, *strides, *base, *dtype; int flags;
}} Array;
struct {{  // those of PYTHON
    long (*number)(void *);
    void *(*call)(void *, void *, unsigned long, void *), *(*truth)(long), *(*release)(void), (*acquire)(void *);
}} python;
"""
ENTRY = """
void *types[{given} + 1];  // of an array, and of the elements of those that are given
static void *on_arrays(void *converting, Array **all, unsigned long count) {{
    Array **a = all + 2;
    for (int i = 0; i < {given}; i++) {{
        if (a[i]->type != types[0] || a[i]->dtype != types[i + 1] || ~a[i]->flags & 0x101)  // lies in rows, aligned
            return python.call(converting, all, count, 0);
    }}
    long T = python.number(all[0]), N = python.number(all[1]);
    void *thread = python.release();  // others run meanwhile
    {name}(T, N, {data});
    python.acquire(thread);
    return python.truth(1);
}}
struct {{
    const char *name; void *(*called)(void *, Array **, unsigned long); int how; const char *help;
}} method = {{"{name}", on_arrays, 0x80, 0}};
"""
PYTHON = "PyLong_AsLong", "PyObject_Vectorcall", "PyBool_FromLong", "PyEval_SaveThread", "PyEval_RestoreThread"
# A function that Python calls as one of its own, in a seventh of the time that ctypes takes for three numbers.
METHOD = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
builtin = METHOD(("PyCFunction_NewEx", ctypes.pythonapi))
GEMM = {"gemmf": np.float32, "gemm": np.float64}


def functions(text: str) -> list[Callable[..., None]]:
    """The functions `void name(long T, long N, float *a, ...)` of a C text, as functions of two numbers and arrays."""
    starts = [m.start() for m in HEAD.finditer(text)]
    shared, parts = text[: starts[0]], [text[i:j] for i, j in zip(starts, [*starts[1:], len(text)], strict=True)]
    works = [function(shared + part) for part in reversed(parts)]  # the way back takes longer
    made: list[Any] = [None] * len(works)
    try:
        while None in made:  # in turns: so the compilers run side by side
            made = [one or next(work) for one, work in zip(made, works, strict=True)]
    finally:
        for work in works:
            work.close()  # if another has failed
    return made[::-1]


def function(text: str) -> Generator[Any, None, None]:
    """None while the compiler runs, then the only function of a C text.

    What it is given, `const`, is converted if need be; the others it fills.
    """
    name, arguments = HEAD.findall(text)[0]
    given = [DTYPES[kind] for kind in GIVEN.findall(arguments)]  # they come first
    data = ", ".join(f"a[{i}]->data" for i in range(arguments.count("*")))
    entry = ENTRY.format(name=name, data=data, given=len(given))
    found = {gemm: blas(dtype) for gemm, dtype in GEMM.items() if f"(*{gemm})" in text}
    integers = "".join(f"typedef {kind} I;\n" for kind in {kind for _, kind in found.values()})
    made = yield from compiled("\n".join([integers + HEAD.sub(r"static \g<0>", text), ARRAY + entry]))

    def converting(steps: int, batch: int, *arrays: Any) -> None:
        fitting = (np.asarray(x).astype(dtype, order="C") for x, dtype in zip(arrays, given, strict=False))
        call(steps, batch, *fitting, *arrays[len(given) :])

    addresses: dict[str, list[Any]] = {gemm: [address] for gemm, (address, _) in found.items()}
    addresses["types"] = [id(np.ndarray), *map(id, given)]  # in CPython an id is an address
    addresses["python"] = [ctypes.cast(ctypes.pythonapi[name], ctypes.c_void_p).value for name in PYTHON]
    try:
        for name, values in addresses.items():
            (ctypes.c_void_p * len(values)).in_dll(made, name)[:] = values
        method = ctypes.c_void_p.in_dll(made, "method")
    except (AttributeError, ValueError) as error:  # some of $CC's options hide what has a name
        raise BuildError(f"the C compiler made a library without names: {error}") from None
    call = builtin(ctypes.addressof(method), converting, None)
    yield call
