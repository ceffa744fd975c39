"""C texts become functions: their values, the cache that two processes share, and what is missing or broken."""

import ctypes
import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.compiler.native import build
from tinygrad_rnn.compiler.native.call import functions

compiler = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")

TWICE = "double twice(double x) { return 2 * x; }"
REAL = {"float": np.float32, "double": np.float64}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test, and a place for temporary files that can be looked at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield tmp_path / "cache" / "tinygrad_rnn"
    build.loaded.clear()


def compiled(text):
    """What the text becomes."""

    def last():
        yield (yield from build.compiled(text))

    return list(last())[-1]


def twice(text=TWICE):
    """What the function says of 21, after a new start."""
    build.loaded.clear()
    function = compiled(text).twice
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    return function(21)


def kept(folder):
    return sorted(folder.rglob("*"))


def loops(real, names):
    """A C function for each math function, over a contiguous array."""
    suffix = "f" if real == "float" else ""
    return "".join(
        f"VECTOR {real} {name}{suffix}({real});\n"
        f"void all_{name}(long n, const {real} *restrict x, {real} *restrict y) {{\n"
        f"    for (long i = 0; i < n; i++) y[i] = {name}{suffix}(x[i]);\n"
        "}\n"
        for name in names
    )


def called(library, name, x):
    y = np.empty_like(x)
    getattr(library, f"all_{name}")(ctypes.c_long(x.size), ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data))
    return y


# -- values ------------------------------------------------------------------------------------------------------------------


@compiler
@pytest.mark.parametrize("real", ["float", "double"])
def test_values_are_those_of_numpy_in_a_wider_type(real):
    names = ["tanh", "exp", "log", "sin"]
    library = compiled(loops(real, names))
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 1e-40, 100.0, -100.0, 0.6, -20.0, 800.0, 1.0]
    x = np.array([*special, *np.linspace(-12, 12, 1003)], REAL[real])
    wider = x.astype(np.float64 if real == "float" else np.longdouble)
    for name in names:
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(wider).astype(x.dtype)
            found = called(library, name, x)
            near = np.abs(found - expected) <= 4 * np.spacing(np.abs(expected))  # libmvec's own bound
        same = (found == expected) & (np.signbit(found) == np.signbit(expected)) | np.isnan(found) & np.isnan(expected)
        assert np.all(np.where(np.isfinite(expected) & (expected != 0), near, same)), name


@compiler
def test_sums_are_made_in_their_order():
    text = "float sum(long n, const float *x) { float s = 0; for (long i = 0; i < n; i++) s += x[i]; return s; }"
    total = compiled(text).sum
    total.restype = ctypes.c_float
    for x in np.random.default_rng(0).normal(size=(20, 1000)).astype(np.float32):
        assert total(ctypes.c_long(x.size), ctypes.c_void_p(x.ctypes.data)) == np.cumsum(x)[-1]


@compiler
def test_loops_call_vector_versions_where_there_are_any(cache, monkeypatch):
    libmvec = build._libmvec()
    if not shutil.which("gcc") or build.NATIVE != build.X86 or not hasattr(libmvec, "_ZGVbN4v_tanhf"):
        pytest.skip("needs gcc and libmvec with tanh")
    monkeypatch.setenv("CC", "gcc")
    compiled(loops("float", ["tanh"]) + loops("double", ["exp"]))
    (made,) = kept(cache)
    assert b"v_tanhf\0" in made.read_bytes()
    assert b"v_exp\0" in made.read_bytes()


@compiler
@pytest.mark.parametrize("missing", ["in libmvec", "in libmvec, unnoticed", "libmvec"])
def test_what_has_no_vector_version_is_called_one_by_one(cache, tmp_path, monkeypatch, missing):
    fragile(tmp_path, monkeypatch)
    if missing == "libmvec":
        monkeypatch.setattr(build, "_libmvec", lambda: None)
    elif missing == "in libmvec, unnoticed":  # the library that is made first cannot be loaded
        monkeypatch.setattr(build, "_without_missing", lambda text: text)
    x = np.linspace(0.5, 4, 50)
    library = compiled(loops("double", ["tgamma"]))
    assert runs(tmp_path) == 1 or missing == "in libmvec, unnoticed"
    (made,) = kept(cache)
    assert b"v_tgamma" not in made.read_bytes()
    assert called(library, "tgamma", x) == pytest.approx([math.gamma(value) for value in x], rel=1e-14)


def test_vector_stays_before_what_libmvec_has(monkeypatch):
    class Libmvec:
        _ZGVbN4v_expf = _ZGVbN2vv_pow = _ZGVnN2v_expf = _ZGVnN4v_expf = _ZGVnN2vv_pow = _ZGVnN4v_logf = None

    monkeypatch.setattr(build, "_libmvec", Libmvec)
    lines = ["VECTOR float expf(float);", "VECTOR double pow(double, double);", "VECTOR float logf(float);", "int VECTOR;"]
    expected = [*lines[:2], "float logf(float);", lines[3]]
    for native in build.X86, build.ARM:
        monkeypatch.setattr(build, "NATIVE", native)
        assert build._without_missing("\n".join(lines)).split("\n") == expected


# -- the cache ---------------------------------------------------------------------------------------------------------------


CALL = f"""
import ctypes
from tinygrad_rnn.compiler.native import build
for _ in build.compiled({TWICE!r}):
    pass
function = build.loaded[{TWICE!r}].twice
function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
print(function(21))
"""


def process():
    path = os.pathsep.join([str(Path(build.__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-c", CALL], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def fragile(tmp_path, monkeypatch):
    """CC is a compiler that fails as soon as a file named `fail` is there; each run adds a line to a file named `runs`."""
    script = tmp_path / "compiler.py"
    script.write_text(
        "import os, sys\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('run\\n')\n"
        f"if os.path.exists({str(tmp_path / 'fail')!r}): sys.exit('out of order')\n"
        "os.execvp('cc', ['cc', *sys.argv[1:]])\n"
    )
    monkeypatch.setenv("CC", f"{sys.executable} {script}")
    return script


def runs(tmp_path):
    return (tmp_path / "runs").read_text().count("run")


@compiler
@pytest.mark.skipif(build.NATIVE != build.X86, reason="flags for GCC on x86")
@pytest.mark.parametrize(("name", "tries"), [("other", 2), ("clang", 1)])
def test_flags_that_only_gcc_knows(tmp_path, monkeypatch, name, tries):
    script = fragile(tmp_path, monkeypatch)
    text = script.read_text().replace("os.execvp", "if '-fno-tree-ccp' in sys.argv: sys.exit('unknown')\nos.execvp")
    strange = script.with_name(f"{name}.py")
    strange.write_text(text.replace("*sys.argv[1:]", "*(a for a in sys.argv[1:] if a != '-fveclib=libmvec')"))
    monkeypatch.setenv("CC", f"{sys.executable} {strange}")
    assert twice() == 42
    assert runs(tmp_path) == tries


@compiler
def test_another_process_takes_what_was_compiled(tmp_path, monkeypatch):
    fragile(tmp_path, monkeypatch)
    assert twice() == 42
    (tmp_path / "fail").touch()
    assert process().communicate() == (b"42.0\n", b"")
    assert runs(tmp_path) == 1
    with pytest.raises(RuntimeError, match="out of order"):
        compiled(TWICE + "\n")  # for another text it would have been needed


@compiler
def test_a_text_is_looked_up_once(cache):
    library = compiled(TWICE)
    shutil.rmtree(cache)
    assert compiled(TWICE) is library


@compiler
@pytest.mark.parametrize("what", ["compiler", "processor", "text", "arguments"])
def test_what_changes_the_library_makes_another(cache, tmp_path, monkeypatch, what):
    script = fragile(tmp_path, monkeypatch)
    assert twice() == 42
    if what == "compiler":
        os.utime(script, (1, 1))
    elif what == "processor":
        monkeypatch.setattr(build, "_processor", lambda: "flags: abacus")
    elif what == "arguments":
        monkeypatch.setenv("CC", os.environ["CC"] + " -g")
    assert twice(TWICE.replace("2", "3") if what == "text" else TWICE) == (63 if what == "text" else 42)
    assert runs(tmp_path) == 2


@compiler
def test_processes_may_compile_at_once(cache):
    for started in [process() for _ in range(3)]:
        assert started.communicate() == (b"42.0\n", b"")
    assert [path.suffix for path in kept(cache)] == [".so"]  # one, and nothing left over


@compiler
@pytest.mark.parametrize("size", [0, 100, 0.5, 0.99])
def test_a_file_cut_short_is_compiled_again(cache, size):
    assert twice() == 42
    (made,) = kept(cache)
    content = made.read_bytes()
    made.unlink()
    made.write_bytes(content[: int(size if size > 1 else size * len(content))])
    assert twice() == 42
    assert [path.read_bytes() for path in kept(cache)] == [content]


@compiler
def test_a_file_that_cannot_be_loaded_is_compiled_again(cache):
    assert twice() == 42
    (made,) = kept(cache)
    made.unlink()
    name = f"{made.stem.split('-')[0]}-{build._digest(b'of another system')}.so"
    (cache / name).write_bytes(b"of another system")
    assert twice() == 42
    assert made in kept(cache)


@compiler
def test_the_cache_stays_small(cache, monkeypatch):
    monkeypatch.setattr(build, "FILES", 2)
    files = []
    for number in range(3):
        assert twice(TWICE + " " * number) == 42
        files += [path for path in kept(cache) if path not in files]
        os.utime(files[-1], (1000 - number, 0))  # the first is the one used last
    assert kept(cache) == sorted([files[0], files[2]])


@compiler
@pytest.mark.parametrize(
    "obstacle", ["a file", "no home", "all may write", "none may read", "another user's", "full or read-only"]
)
def test_without_a_safe_place_nothing_is_kept(cache, tmp_path, monkeypatch, obstacle):
    if obstacle == "a file":
        cache.parent.write_text("")
    elif obstacle == "no home":
        monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/do/not/count")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    else:
        cache.mkdir(parents=True)
        cache.chmod({"all may write": 0o777, "none may read": 0o300}.get(obstacle, 0o700))
    if obstacle == "another user's":
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    if obstacle == "full or read-only":
        make = tempfile.mkdtemp

        def mkdtemp(suffix=None, prefix=None, dir=None):
            if dir == cache:
                raise PermissionError(dir)
            return make(suffix, prefix, dir)

        def replace(source, target):
            raise PermissionError(target)

        monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
        monkeypatch.setattr(os, "replace", replace)
    assert twice() == 42
    assert not cache.is_dir() or not kept(cache)
    assert not kept(tmp_path / "temporary")


@compiler
def test_the_folder_is_the_users_alone(cache):
    assert twice() == 42
    assert cache.stat().st_mode & 0o777 == 0o700


@compiler
def test_without_the_variable_the_cache_is_in_the_home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert twice() == 42
    assert len(kept(tmp_path / "home" / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tinygrad_rnn")) == 1


# -- the compiler ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cc", "what"),
    [
        *[(cc, "no cc, gcc or clang on the PATH") for cc in ("", " ")],
        ("no_such_compiler -O2", "CC=no_such_compiler, which is not a program"),
        ("'no end -O2", "CC='no end -O2, which is not a program"),
    ],
)
def test_without_a_compiler_it_says_what_to_install(monkeypatch, tmp_path, cc, what):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", cc)
    with pytest.raises(
        RuntimeError, match=rf'no C compiler: {what}; install gcc .*apt install gcc.*, or write target="numpy"'
    ):
        compiled(TWICE)


def test_windows_is_told_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(RuntimeError, match=r'on Linux and macOS, not on Windows.*write target="numpy"'):
        compiled(TWICE)


@compiler
def test_cc_may_have_arguments(monkeypatch):
    monkeypatch.setenv("CC", "cc -DFACTOR=3")
    assert twice("double twice(double x) { return FACTOR * x; }") == 63


@compiler
def test_cc_may_have_quotes(tmp_path, monkeypatch):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "cc").symlink_to(shutil.which("cc"))
    monkeypatch.setenv("CC", f"'{tmp_path}/a folder/cc' \"-DFACTOR=1 + 2\"")
    assert twice("double twice(double x) { return (FACTOR) * x; }") == 63


@compiler
def test_the_c_that_python_calls_is_as_the_standard_has_it(monkeypatch):
    monkeypatch.setenv("CC", "cc -pedantic-errors -Wall -Werror")
    x = np.zeros(1)
    [steps] = functions("void steps(\n    long T, long N, double *restrict x\n) {\n    x[0] = T * N;\n}\n")
    steps(3, 2, x)
    assert x == 6


@compiler
def test_a_failing_compiler_is_quoted_and_the_text_kept(cache, tmp_path, capfd):
    text = "int main( { nonsense"
    with pytest.raises(
        RuntimeError, match=r'(?s)the C compiler failed:\n.*error.*The command was: .*write target="numpy"'
    ) as failure:
        compiled(text)
    (file,) = kept(tmp_path / "temporary")
    assert file.read_text() == text
    assert f"< {file}\n" in str(failure.value)
    assert not kept(cache)
    assert capfd.readouterr() == ("", "")


@compiler
def test_flags_that_a_compiler_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(build, "NATIVE", ["-march=abacus"])
    assert twice() == 42


def test_a_compiler_that_hangs_is_stopped(tmp_path, monkeypatch):
    script = tmp_path / "compiler.py"
    script.write_text("import time; time.sleep(20)")
    monkeypatch.setenv("CC", f"{sys.executable} {script}")
    monkeypatch.setattr(build, "SECONDS", 0.1)
    with pytest.raises(RuntimeError, match=r"it took more than 0\.1 s"):
        compiled(TWICE)


@compiler
def test_compilers_run_side_by_side(tmp_path, monkeypatch):
    script = fragile(tmp_path, monkeypatch)  # each waits for the other
    wait = f"while open({str(tmp_path / 'runs')!r}).read().count('run') < 2: pass\nos.execvp"
    script.write_text(script.read_text().replace("os.execvp", wait))
    monkeypatch.setattr(build, "SECONDS", 10)
    text = "void {name}(\n    long T, long N, double *restrict x\n) {{\n    x[0] = {sign} T;\n}}\n"
    x = np.zeros(1)
    for steps in functions(text.format(name="ahead", sign="+") + text.format(name="back", sign="-")):
        steps(3, 1, x)
        assert abs(x) == 3
    assert x == -3


@compiler
def test_a_text_that_nobody_waits_for(cache, tmp_path, monkeypatch):
    script = fragile(tmp_path, monkeypatch)
    script.write_text(f"import time; time.sleep(3); open({str(tmp_path / 'late')!r}, 'w')")
    begun = build.compiled(TWICE)
    assert next(begun) is None
    assert kept(cache)
    begun.close()
    assert not kept(cache)
    assert not (tmp_path / "late").exists()
    monkeypatch.delenv("CC")
    assert twice() == 42


@compiler
@pytest.mark.parametrize("way", ["nobody waits", "a time limit", "Ctrl-C"])
def test_what_a_compiler_has_started_is_stopped_with_it(cache, tmp_path, monkeypatch, way):
    script, started = tmp_path / "compiler.sh", tmp_path / "started"  # as gcc starts its passes, which write to files
    script.write_text(f"mktemp\nsleep 20 &\necho $! > {started}\nwait\n")
    monkeypatch.setenv("CC", f"sh {script}")
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    begun = build.compiled(TWICE)
    assert next(begun) is None
    while not started.exists() or not started.read_text():
        time.sleep(0.01)
    if way == "nobody waits":
        begun.close()
    elif way == "a time limit":
        monkeypatch.setattr(build, "SECONDS", 0.1)
        with pytest.raises(build.BuildError, match=r"it took more than 0\.1 s"):
            next(begun)
    else:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            next(begun)
        signal.signal(signal.SIGALRM, before)
    states = subprocess.run(["ps", "-o", "stat=", "-p", started.read_text().strip()], capture_output=True, text=True).stdout
    assert states.strip()[:1] in ("", "Z")  # ended; nor is there a compiler of which Python warns that it still runs
    assert [path.suffix for path in kept(tmp_path / "temporary")] == [".c"] * (way == "a time limit")
    assert not kept(cache)


@compiler
def test_a_text_longer_than_a_pipe_holds():
    assert twice(TWICE + "// and so on\n" * 10_000) == 42


def test_a_compiler_that_makes_nothing_is_noticed(monkeypatch):
    monkeypatch.setenv("CC", f"{sys.executable} -c pass")
    with pytest.raises(RuntimeError, match=r"library\.so"):
        compiled(TWICE)


# -- the matrix product ------------------------------------------------------------------------------------------------------


def product(found, dtype, *arguments):
    """Call a cblas gemm by its address."""
    address, integer = found
    real, size = (
        {"f": ctypes.c_float, "d": ctypes.c_double}[np.dtype(dtype).char],
        {"int": ctypes.c_int, "long": ctypes.c_long},
    )
    kinds = [ctypes.c_int] * 3 + [size[integer]] * 3 + [real] + [ctypes.c_void_p, size[integer]] * 2
    kinds += [real, ctypes.c_void_p, size[integer]]
    ctypes.CFUNCTYPE(None, *kinds)(address)(*arguments)


def assert_multiplies(found, dtype):
    """c = alpha a @ b.T + c, each a part of a wider array."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-9, 9, shape).astype(dtype) for shape in [(5, 9), (4, 8), (5, 7)])
    expected = c.copy()
    expected[:, :4] += 2 * np.einsum("ik,jk->ij", a[:, :3], b[:, :3])
    product(found, dtype, 101, 111, 112, 5, 4, 3, 2, a.ctypes.data, 9, b.ctypes.data, 8, 1, c.ctypes.data, 7)
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_the_product_is_numpys_own(dtype):
    assert_multiplies(build.blas(dtype), dtype)


def own_blas(real, integer, sign="+"):
    """A BLAS of two functions, for row-major arrays, whose integers are of this type."""
    letter = "s" if real == "float" else "d"
    return f"""
typedef {integer} I;
typedef {real} R;
R cblas_{letter}dot(I n, const R *x, I incx, const R *y, I incy) {{
    R sum = 0;
    for (I i = 0; i < n; i++) sum += x[i * incx] * y[i * incy];
    return sum;
}}
void cblas_{letter}gemm(int order, int at, int bt, I m, I n, I k, R alpha, const R *a, I lda,
                        const R *b, I ldb, R beta, R *c, I ldc) {{
    for (I i = 0; i < m; i++)
        for (I j = 0; j < n; j++) {{
            R sum = 0;
            for (I l = 0; l < k; l++) sum += a[i * lda + l] * (bt == 112 ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = alpha * sum {sign} beta * c[i * ldc + j];
        }}
}}
"""


@compiler
@pytest.mark.parametrize("integer", ["int", "long"])
@pytest.mark.parametrize("real", ["float", "double"])
def test_the_size_of_integers_is_found_out(real, integer):
    name = "cblas_sgemm" if real == "float" else "cblas_dgemm"
    found = build._product(compiled(own_blas(real, integer)), name, np.dtype(REAL[real]))
    assert found is not None
    assert found[1] == integer
    assert_multiplies(found, REAL[real])


@compiler
def test_a_product_that_is_wrong_or_missing_is_not_taken():
    library = compiled(own_blas("float", "int", sign="-"))
    assert build._product(library, "cblas_sgemm", np.dtype(np.float32)) is None
    assert build._product(library, "cblas_dgemm", np.dtype(np.float64)) is None


def test_no_product_is_an_error(monkeypatch):
    monkeypatch.setattr(build, "PRODUCTS", ["no_such_{}", "nor_this_{}"])
    build.blas.cache_clear()
    with pytest.raises(RuntimeError, match=r'tried no_such_dgemm, nor_this_dgemm; write target="numpy"'):
        build.blas(float)


@pytest.mark.parametrize("dtype", ["float16", "complex64", int])
def test_a_product_of_other_numbers_is_refused(dtype):
    with pytest.raises(TypeError, match=r"blas: expected float32 or float64, got (float16|complex64|int64)"):
        build.blas(dtype)


@compiler
def test_options_that_hide_names(monkeypatch):
    monkeypatch.setenv("CC", "cc -fvisibility=hidden")
    with pytest.raises(build.BuildError, match="a library without names"):
        functions("void steps(\n    long T, long N, double *restrict x\n) {\n    x[0] = T;\n}\n")


@compiler
def test_nowhere_to_compile(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    with pytest.raises(build.NoCompilerError, match="no folder to compile in can be written to: set TMPDIR"):
        twice()


@compiler
@pytest.mark.parametrize("full", ["the cache", "all"])
def test_a_full_disk(cache, tmp_path, monkeypatch, full):
    write = Path.write_bytes

    def write_bytes(path, data):
        if full == "all" or cache in path.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    if full == "all":
        with pytest.raises(build.NoCompilerError, match="no folder to compile in can be written to: set TMPDIR"):
            twice()
    else:
        assert twice() == 42
    assert not [path for path in kept(tmp_path / "temporary") + kept(cache) if path.suffix != ".so"]


def test_a_cache_that_is_removed_in_this_moment(tmp_path):
    assert build._kept(tmp_path / "gone", "key") is None


@compiler
def test_a_failure_that_cannot_be_written_down(cache, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    with pytest.raises(build.BuildError, match=r"(?s)error: .*< the C text\nMend"):
        compiled("no C")


@compiler
def test_a_long_argument_of_the_compiler(monkeypatch):
    monkeypatch.setenv("CC", f"cc -DNAME={'n' * 300}")
    assert twice() == 42
