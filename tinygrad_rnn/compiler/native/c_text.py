"""How C writes operations on single numbers, and the functions of ours that the loops call."""

from __future__ import annotations

import re
import string
from typing import Any

import numpy as np

TYPES = {np.dtype(name): c for name, c in {"f4": "float", "f8": "double", "i8": "long", "?": "unsigned char"}.items()}
REAL = {dtype for dtype in TYPES if dtype.kind == "f"}  # matrix products are of these
# Of an element each; {f} is f for single precision and nothing for double.
ARITHMETIC = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}", "np.positive": "{0}",
    "abs": "fabs{f}({0})", "reciprocal": "1 / {0}", "root": "sqrt{f}({0})", "sigmoid": "sigmoid{f}({0})",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}", "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "np.sign": "{0} != {0} ? {0} : ({0} > 0) - ({0} < 0)", "where": "{0} ? {1} : {2}", "astype": "({c}) {0}",
    "power": "pow{f}({0}, {1})", "arctan2": "atan2{f}({0}, {1})", "hypot": "hypot{f}({0}, {1})",
    "arccos": "acos{f}({0})", "arcsin": "asin{f}({0})", "arctan": "atan{f}({0})", "arccosh": "acosh{f}({0})",
    "arcsinh": "asinh{f}({0})", "arctanh": "atanh{f}({0})",
} | {name: f"{name.removeprefix('np.')}{{f}}({{0}})" for name in (
    "cbrt", "cos", "cosh", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "sin", "sinc", "sinh", "sqrt", "tan",
    "tanh", "np.ceil", "np.floor", "np.rint", "np.trunc",
)} | {name: f"{name.removeprefix('np.')}{{f}}({{0}}, {{1}})" for name in (
    "fmod", "logaddexp", "logaddexp2", "mod", "np.floor_divide",
)}  # fmt: skip
INTEGER = {"add", "sub", "mul", "neg", "np.positive", "maximum", "minimum", "np.sign", "where", "astype"}
LOGIC = {
    "np.greater": "{0} > {1}", "np.greater_equal": "{0} >= {1}", "np.less": "{0} < {1}", "np.less_equal": "{0} <= {1}",
    "np.equal": "{0} == {1}", "np.not_equal": "{0} != {1}", "np.logical_not": "!{0}", "np.logical_and": "{0} && {1}",
    "np.logical_or": "{0} || {1}", "np.logical_xor": "!{0} != !{1}", "np.isnan": "{0} != {0}",
    "np.isfinite": "-__builtin_inf() < {0} && {0} < __builtin_inf()", "np.isinf": "fabs{f}({0}) == __builtin_inf()",
    "np.signbit": "__builtin_signbit({0}) != 0",
}  # fmt: skip
ELEMENT = ARITHMETIC | LOGIC
KINDS = {"f": {*ARITHMETIC}, "i": INTEGER, "b": {*LOGIC, "where", "np.positive"}}  # what may give a value of which kind
END = {
    "sum": ("0", "{1} += {0}"),
    "max": ("-__builtin_inf()", "{1} = {0} > {1} || {0} != {0} ? {0} : {1}"),
    "min": ("__builtin_inf()", "{1} = {0} < {1} || {0} != {0} ? {0} : {1}"),
}  # of a row: the value at first, and with the element {0} more
LANES = 16  # so many parts of a sum or the like are taken side by side, if that divides the length of the row
SMALL = 1024  # so many multiplications of a matrix product are sooner done here than by a call of BLAS
FIRM = {"add": 1, "sub": 1, "mul": 2, "div": 2}  # how firmly an expression holds together; names and calls: 3, others: 0
ARGUMENTS = ((3, 3, 3), (1, 2), (2, 3), (0, 0))  # for each of these, how firmly its arguments have to: a - (b - c), a - b * c
CHEAP = {*INTEGER, *LOGIC, "abs", "np.ceil", "np.floor", "np.rint", "np.trunc"}  # rather computed again than kept
KEYWORDS = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float", "for",
    "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct",
    "switch", "typedef", "union", "unsigned", "void", "volatile", "while",
    # of C23, and of GNU
    "alignas", "alignof", "asm", "bool", "constexpr", "false", "linux", "nullptr", "static_assert", "thread_local", "true",
    "typeof", "typeof_unqual", "unix",
}  # fmt: skip
TAKEN = {"I", "LANES", "N", "T", "VECTOR", "block", "j", "lanes", "lanesf", "main", "n", "t"}
FUNCTIONS = {  # of ours
    "sigmoid": "static inline {c} sigmoid{f}({c} x) {{ return 1 / (1 + exp{f}(-x)); }}\n",
    "logaddexp": """static inline {c} logaddexp{f}({c} x, {c} y) {{
    const {c} more = log1p{f}(exp{f}(-fabs{f}(x - y)));  // NaN where both are infinite
    return x == y ? x + ({c}) 0.69314718055994531 : (x > y ? x : y) + more;
}}
""",
    "logaddexp2": """static inline {c} logaddexp2{f}({c} x, {c} y) {{
    const {c} more = log1p{f}(exp2{f}(-fabs{f}(x - y)));
    return x == y ? x + 1 : (x > y ? x : y) + ({c}) 1.4426950408889634 * more;
}}
""",
    "sinc": """static inline {c} sinc{f}({c} x) {{
    const {c} angle = ({c}) 3.1415926535897932 * x;
    return x == 0 ? 1 : sin{f}(angle) / angle;
}}
""",
    "mod": """static inline {c} mod{f}({c} x, {c} y) {{
    const {c} rest = fmod{f}(x, y);  // has the sign of x
    return rest == 0 ? copysign{f}(rest, y) : (rest < 0) != (y < 0) ? rest + y : rest;
}}
""",
    "floor_divide": """static inline {c} floor_divide{f}({c} x, {c} y) {{
    const {c} rest = fmod{f}(x, y), whole = rint{f}((x - rest) / y) - (rest != 0 && (rest < 0) != (y < 0));
    return y == 0 ? x / y : whole == 0 ? copysign{f}(whole, x / y) : whole;
}}
""",
    "gemm": "void (*gemm{f})(int, int, int, I, I, I, {c}, const {c} *, I, const {c} *, I, {c}, {c} *, I);  // cblas_{s}gemm\n",
    "product": """// out = a @ b, for a (n, k) and b (k, m); the rows of a and of out begin so far apart
static inline void product{f}(long n, long k, long m, const {c} *a, long apart, const {c} *b, {c} *out, long out_apart) {{
    gemm{f}(101, 111, 111, n, m, k, 1, a, apart, b, m, 0, out, out_apart);  // rows first, none turned
}}
""",
    "small_product": """// out = a @ b, for small a (n, k) and b (k, m); the rows of a and of out begin so far apart
static inline void small_product{f}(
    long n, long k, long m, const {c} *a, long apart, const {c} *b, {c} *out, long out_apart
) {{
    for (long i = 0; i < n; i++) {{
        for (long j = 0; j < m; j++) out[i * out_apart + j] = 0;
        for (long l = 0; l < k; l++) {{
            #pragma omp simd
            for (long j = 0; j < m; j++) out[i * out_apart + j] += a[i * apart + l] * b[l * m + j];
        }}
    }}
}}
""",
    "product_over_time": """// out = a.T @ b, for a (k, n) and b (k, m), rows of all steps, which begin so far apart
static inline void product_over_time{f}(
    long k, long n, long m, const {c} *a, long a_apart, const {c} *b, long b_apart, {c} *out
) {{
    gemm{f}(101, 112, 111, n, m, k, 1, a, a_apart, b, b_apart, 0, out, m);  // rows first, a turned
}}
""",
}
LETTERS = f"{string.ascii_letters}{string.digits}_"  # of a name
LIBRARY = {*re.findall(r"\b(\w+)\{f\}\(", " ".join([*ELEMENT.values(), *FUNCTIONS.values()]))} - {*FUNCTIONS}
OF_TWO = {"atan2", "copysign", "fmod", "hypot", "pow"}
TAKEN |= {name + f for name in (*(f"{op}{LANES}" for op in END), *LIBRARY, *FUNCTIONS) for f in ("f", "")}


def fold(op: str, c: str, f: str) -> str:
    """The function that makes one of LANES: in halves, for which a processor has instructions."""
    update, half = END[op][1], LANES
    text = f"static inline {c} {op}{LANES}{f}(lanes{f} z) {{  // one of {LANES}, by halves\n"
    while half := half // 2:
        text += "    #pragma omp simd\n" * (half > 1)
        text += f"    for (int j = 0; j < {half}; j++) {update.format(f'z[{half} + j]', 'z[j]')};\n"
    return f"{text}    return z[0];\n}}\n"


def firmness(op: str) -> int:
    """How firmly the expression of an operation holds together."""
    return FIRM.get(op, 3 if ELEMENT[op][0].isalpha() else 0)


def read_times(op: str, i: int) -> int:
    """How often an operation, as C writes it, reads an argument."""
    return END[op][1].count("{0}") if op in END else ELEMENT[op].count(f"{{{i}}}") if op in ELEMENT else 1


def single(dtype: Any) -> str:
    """What the names of C's functions for single precision end in."""
    return "f" if dtype == np.float32 else ""


def number(value: Any, dtype: Any) -> str:
    """A number in C."""
    if dtype.kind != "f":
        return repr(int(value))
    text = repr(float(value))
    special = {"nan": '__builtin_nan("")', "inf": "__builtin_inf()", "-inf": "(-__builtin_inf())"}
    return special.get(text) or (f"({text}{single(dtype)})" if text[0] == "-" else text + single(dtype))


def calls(text: str) -> set[str]:
    """The names before an opening parenthesis, ten times as fast as by a regular expression."""
    return {part[len(part.rstrip(LETTERS)) :] for part in text.split("(")[:-1]}


def c_file(functions: list[str]) -> str:
    """The functions, after all that they call."""
    body = "\n\n".join(functions) + "\n"
    called = calls(body)
    head = ""
    for f, c, s in (("f", "float", "s"), ("", "double", "d")):
        ours = ""
        for name, text in reversed(FUNCTIONS.items()):  # each calls those before it
            if name + f in called:
                ours = text.format(c=c, f=f, s=s) + ours
                called |= calls(ours)
        for name in sorted(LIBRARY):
            if name + f in called:
                head += f"VECTOR {c} {name}{f}({c}{f', {c}' * (name in OF_TWO)});\n"
        folds = "".join(fold(op, c, f) for op in END if f"{op}{LANES}{f}" in called)
        head += f"typedef {c} lanes{f} LANES({c});  // {LANES} numbers\n" * bool(folds) + folds + ours
    return f"{head}\n{body}"
