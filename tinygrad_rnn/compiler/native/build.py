"""From C text to a library, and the matrix product that NumPy itself uses.

`compiled` runs the user's C compiler, and keeps what it made. `blas` finds the product, and says what integers it takes.
"""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from .c_text import LANES

# The order of additions stays, and so do NaN and infinity; what is given up are errno and floating-point traps.
# -std=c11 knows no macros `linux` and `unix`, and no keywords but those in c_text.py: a cell may use them. Without ivopts
# it compiles a tenth sooner what is as fast.
FLAGS = [
    "-pipe", "-std=c11", "-O2", "-ftree-vectorize", "-fno-ivopts", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=off",
]  # fmt: skip
# With these GCC on x86 needs two thirds of the time, and its loops are as fast, within 3 %. The -O1 replaces -O2: with it, the
# parts of a sum are kept in registers if they are a vector, but not if they are an array. Among what is "expensive" is
# vzeroupper: without it, single numbers wait for wide vectors, and took up to six times as long.
SOONER = [
    "-O1", "-fexpensive-optimizations", "-fno-tree-ccp", "-fno-aggressive-loop-optimizations", "-fno-tree-slp-vectorize",
    f"-DLANES(c)=__attribute__((vector_size({LANES} * sizeof(c))))",
]  # fmt: skip
ARRAY = f"-DLANES(c)=[{LANES}]"
X86, ARM = ["-march=native", "-mprefer-vector-width=512"], ["-mcpu=native"]
NATIVE = {"x86_64": X86, "aarch64": ARM, "arm64": ARM}.get(platform.machine(), [])  # this very processor
LOADED = ["-nostdlib"] if sys.platform == "linux" else []  # the C library and that of vectors are there already: 11 ms less
SECONDS = 60  # for the compiler
FILES = 200  # so many libraries are kept
DECLARED = re.compile(r"^VECTOR (float|double) (\w+)\(([^)]*)\)", re.M)
ADVICE = 'or write target="numpy"'


class BuildError(RuntimeError):
    """A C compiler failed."""


class NoCompilerError(BuildError):
    """There is nothing here to make C run with."""


loaded: dict[str, ctypes.CDLL] = {}  # by their texts


def compiled(text: str) -> Generator[None, None, ctypes.CDLL]:
    """The functions of a C text: compiled, or from the cache. While the compiler runs, this yields.

    text: may begin declarations of math functions with `VECTOR`, as in `VECTOR float tanhf(float);`. Loops then call their
    vector versions where GNU's libmvec has them. Elsewhere VECTOR is empty. `typedef float lanesf LANES(float);` makes
    lanesf the type of sixteen numbers, a vector or an array, whichever compiles to the faster loop.

    Raises NoCompilerError where there is none ($CC, else cc, gcc or clang), and BuildError when it fails.
    """
    if text not in loaded:
        command = _compiler()
        programs = [Path(found).resolve() for word in command if os.path.isfile(found := shutil.which(word) or word)]
        attempts = _attempts(any("clang" in path.name for path in programs))
        versions = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in programs]
        vectors = _without_missing(text)
        key = _digest(repr((vectors, command, FLAGS, attempts, versions, platform.machine(), _processor())).encode())
        folder = _folder()
        loaded[text] = _kept(folder, key) or (yield from _build(vectors, command, attempts, folder, key))
    return loaded[text]


def _build(
    text: str, command: list[str], attempts: Sequence[list[str]], folder: Path | None, key: str
) -> Generator[None, None, ctypes.CDLL]:
    """Compiled by the first attempt that gives a library that can be loaded, and kept in the folder, if there is one."""
    with _scratch(folder, text) as place:
        made = Path(place, "library.so")
        environment = {**os.environ, "TMPDIR": place}  # for what a compiler that is stopped leaves behind
        for flags in attempts:
            line = [*command, *FLAGS, "-shared", "-fPIC", "-x", "c", "-", *flags]
            try:
                with open(Path(place, "text.c"), "rb") as source, subprocess.Popen(
                    [*line, "-o", str(made)],
                    stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, process_group=0,
                ) as run:  # fmt: skip
                    try:
                        yield None
                        _, said = run.communicate(timeout=SECONDS)
                    finally:
                        _stop(run)
                if not run.returncode:
                    found = ctypes.CDLL(str(made))
                    break
                trouble = said.decode(errors="replace") or f"no message, exit code {run.returncode}"
            except OSError as error:
                trouble = str(error)
            except subprocess.TimeoutExpired:
                raise BuildError(_failure(text, line, f"it took more than {SECONDS} s")) from None
        else:
            raise BuildError(_failure(text, line, trouble))
        if folder:
            with suppress(OSError):  # the folder cannot be written to
                os.replace(made, folder / f"{key}-{_digest(made.read_bytes())}.so")  # whole, whoever else is at it
                if len(os.listdir(folder)) > FILES:
                    kept = sorted(folder.glob("*.so"), key=lambda path: path.stat().st_atime, reverse=True)
                    for path in kept[FILES:]:
                        path.unlink(missing_ok=True)
    return found


def _stop(run: subprocess.Popen[bytes]) -> None:
    """End a compiler, and what it has started, if it still runs."""
    if run.returncode is None:
        with suppress(OSError):  # all have ended
            os.killpg(run.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            run.communicate(timeout=1)  # until none of them can write any more


def _failure(text: str, line: list[str], trouble: str) -> str:
    name = "the C text"
    with suppress(OSError), tempfile.NamedTemporaryFile(prefix="tinygrad_rnn_", suffix=".c", delete=False) as file:
        file.write(text.encode())
        name = file.name
    first = "\n".join(trouble.splitlines()[:10])
    return f"the C compiler failed:\n{first}\nThe command was: {shlex.join(line)} < {name}\nMend what it says, {ADVICE}"


# -- the compiler ------------------------------------------------------------------------------------------------------------


def _compiler() -> list[str]:
    """The compiler as a command: $CC, which may have arguments and quotes as in a shell, else the first that is there."""
    if sys.platform == "win32":
        raise NoCompilerError(f"C programs are compiled on Linux and macOS, not on Windows: take one of these, {ADVICE}")
    given = os.environ.get("CC", "")
    try:
        command = shlex.split(given)
    except ValueError:  # a quotation has no end
        command = [given]
    if not command:
        command = [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not command or not shutil.which(command[0]):
        looked_for = f"CC={command[0]}, which is not a program" if command else "no cc, gcc or clang on the PATH"
        raise NoCompilerError(f"no C compiler: {looked_for}; install gcc or clang (Debian: apt install gcc), {ADVICE}")
    return command


def _attempts(clang: bool) -> list[list[str]]:
    """What to add to FLAGS, best first: some compilers, linkers and C libraries do not know all of it."""
    vectors = ['-DVECTOR=__attribute__((simd("notinbranch")))']
    if clang:  # it goes by a list of its own, where LLVM 22 has no tanh
        vectors = ["-DVECTOR=", *["-fveclib=libmvec"] * (NATIVE == X86 and _libmvec() is not None)]
    sooner = SOONER if NATIVE == X86 and not clang else [ARRAY]
    return [sooner + NATIVE + vectors + LOADED, [ARRAY, *NATIVE, "-DVECTOR=", "-lm"], [ARRAY, "-DVECTOR=", "-lm"]]


def _without_missing(text: str) -> str:
    """The text, with VECTOR only before functions that libmvec has: tanh came in glibc 2.35, on ARM in 2.40."""
    x86 = {"float": ["bN4"], "double": ["bN2"]}  # with these come those of wider vectors
    versions = x86 if NATIVE == X86 else {"float": ["nN2", "nN4"], "double": ["nN2"]}

    def vector(declaration: re.Match[str]) -> str:
        real, name, inputs = declaration.groups()
        names = [f"_ZGV{version}{'v' * (inputs.count(',') + 1)}_{name}" for version in versions[real]]
        return declaration[0] if all(hasattr(_libmvec(), name) for name in names) else declaration[0].removeprefix("VECTOR ")

    return DECLARED.sub(vector, text)


@functools.cache
def _libmvec() -> ctypes.CDLL | None:
    with suppress(OSError):
        return ctypes.CDLL("libmvec.so.1", ctypes.RTLD_GLOBAL)  # for libraries that are linked without it
    return None


# -- the cache ---------------------------------------------------------------------------------------------------------------


def _folder() -> Path | None:
    """Where libraries are kept, if there is a place that this user alone can write to."""
    with suppress(OSError, RuntimeError):  # it cannot be made; there is no home
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):
            base = str(Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache"))
        folder = Path(base, "tinygrad_rnn")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid == os.getuid() and about.st_mode & 0o722 == 0o700:
            return folder
    return None


def _scratch(folder: Path | None, text: str) -> tempfile.TemporaryDirectory[str]:
    """A folder to compile in, with the text in it."""
    for place in (folder, None):
        with suppress(OSError):
            made = tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True)
            try:
                Path(made.name, "text.c").write_bytes(text.encode())
                return made
            except OSError:  # the disk is full
                made.cleanup()
    raise NoCompilerError(f"no folder to compile in can be written to: set TMPDIR to one that can, {ADVICE}")


def _kept(folder: Path | None, key: str) -> ctypes.CDLL | None:
    """The library that goes by this key, if there is one."""
    paths = list[Path]()
    with suppress(OSError):  # the folder is gone already
        paths = [folder / name for name in os.listdir(folder) if name.startswith(key)] if folder else []
    for path in paths:
        with suppress(OSError):  # removed in this moment, or made for another C library
            if path.stem == f"{key}-{_digest(path.read_bytes())}":  # a file cut short can be loaded, and kills the process
                return ctypes.CDLL(str(path))
    return None


@functools.cache
def _processor() -> str:
    """What the processor can do: two machines that share a home may differ."""
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


# -- the matrix product ------------------------------------------------------------------------------------------------------


PRODUCTS = ["scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}$NEWLAPACK$ILP64", "cblas_{}$NEWLAPACK", "scipy_cblas_{}", "cblas_{}"]


@functools.cache
def blas(dtype: DTypeLike) -> tuple[int, str]:
    """The address of cblas_sgemm (float32) or cblas_dgemm (float64) in NumPy's own BLAS, and its integers: "long" or "int".

    Raises NoCompilerError if there is none that multiplies as it should.
    """
    real = np.dtype(dtype)
    if real not in (np.float32, np.float64):
        raise TypeError(f"blas: expected float32 or float64, got {real}")
    file = str(import_module("numpy._core._multiarray_umath").__file__)
    names = [name.format("sgemm" if real == np.float32 else "dgemm") for name in PRODUCTS]
    for name in names:
        if found := _product(ctypes.CDLL(file), name, real):
            return found
    raise NoCompilerError(
        f'no matrix product that works in the BLAS of {file}: tried {", ".join(names)}; write target="numpy"'
    )


def _product(symbols: ctypes.CDLL, name: str, dtype: np.dtype) -> tuple[int, str] | None:
    """A product by its name, tried on one of known result: a wrong size of its integers often goes well, but not always.

    The size is told by a dot product of 2 - 2**32 elements. That is 2 in the lower 32 bits; 64 of them are negative, which is
    no elements, without an error, by BLAS's own rules (Lawson et al. 1979).
    """
    try:
        gemm, dot = symbols[name], symbols[name.replace("gemm", "dot")]
    except AttributeError:
        return None
    real, pointer = ctypes.c_float if dtype == np.float32 else ctypes.c_double, ctypes.c_void_p
    ones = np.ones(2, dtype)
    dot.restype, dot.argtypes = real, [ctypes.c_long, pointer, ctypes.c_long, pointer, ctypes.c_long]
    integer = "int" if dot(2 - 2**32, ones.ctypes.data, 1, ones.ctypes.data, 1) else "long"

    a, b, c = (np.array(rows, dtype) for rows in ([[1, 2], [3, 4]], [[5, 6], [7, 8]], [[1, 2], [3, 4]]))
    size = ctypes.c_int if integer == "int" else ctypes.c_long
    gemm.restype = None
    gemm.argtypes = [*[ctypes.c_int] * 3, *[size] * 3, real, pointer, size, pointer, size, real, pointer, size]
    gemm(101, 111, 111, 2, 2, 2, 1, a.ctypes.data, 2, b.ctypes.data, 2, 1, c.ctypes.data, 2)  # row-major; c = a @ b + c
    address = ctypes.cast(gemm, pointer).value
    return (address, integer) if address and c.tolist() == [[20, 24], [46, 54]] else None
