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
ARRAYS = f"""
typedef struct {{  // as NumPy's C API has it
    char head[{object.__basicsize__} - sizeof(void *)];
    void *type, *data; int axes; void *shape, *strides, *base, *dtype; int flags;
}} Array;
typedef struct {{ char head[{tuple.__basicsize__}]; const Array *items[]; }} Arrays;  // a tuple of them
"""
ENTRY = """
void *types[{given} + 1];  // of an array, and of the elements of those that are given
int on_arrays(long T, long N, const Arrays *a) {{  // 0, and nothing is done, if what is given has to be converted first
    for (int i = 0; i < {given}; i++) {{
        const Array *x = a->items[i];
        if (x->type != types[0] || x->dtype != types[i + 1] || ~x->flags & 0x101) return 0;  // lies in rows, aligned
    }}
    {name}(T, N, {data});
    return 1;
}}
"""
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
    data = ", ".join(f"a->items[{i}]->data" for i in range(arguments.count("*")))
    entry = ENTRY.format(name=name, data=data, given=len(given))
    found = {gemm: blas(dtype) for gemm, dtype in GEMM.items() if f"(*{gemm})" in text}
    integers = "".join(f"typedef {kind} I;\n" for kind in {kind for _, kind in found.values()})
    made = yield from compiled("\n".join([integers + HEAD.sub(r"static \g<0>", text), ARRAYS + entry]))
    try:
        for gemm, (address, _) in found.items():
            ctypes.c_void_p.in_dll(made, gemm).value = address
        types = (ctypes.c_void_p * (1 + len(given))).in_dll(made, "types")
        types[:] = [id(np.ndarray), *map(id, given)]  # in CPython an id is an address
        call = made.on_arrays
    except (AttributeError, ValueError) as error:  # some of $CC's options hide what has a name
        raise BuildError(f"the C compiler made a library without names: {error}") from None
    call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.py_object]

    def called(steps: int, batch: int, *arrays: Any) -> None:
        if not call(steps, batch, arrays):
            fitting = (np.asarray(x).astype(dtype, order="C") for x, dtype in zip(arrays, given, strict=False))
            call(steps, batch, (*fitting, *arrays[len(given) :]))

    yield called
