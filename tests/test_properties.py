"""Thousands of random programs, first and second order, against finite differences, and against PyTorch where it is installed.

A program is a list of lines of NumPy, with the same lines for PyTorch beside them. Every line is chosen by what the values so
far are, so that all stays away from kinks and poles; a program that fails is shrunk by hypothesis and printed as code.
"""

import re
from collections import Counter
from itertools import combinations
from math import prod
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.ops import TABLE, Together
from tinygrad_rnn.tensor import Tensor

PLAIN = SimpleNamespace(  # what NumPy lacks, for arrays
    sigmoid=lambda x: 1 / (1 + np.exp(-x)),
    relu=lambda x: np.maximum(x, 0),
    logsumexp=lambda x, axis, keepdims: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims)),
)
QUICK = settings(
    max_examples=3000,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


# -- values and what is known of them ----------------------------------------------------------------------------------------


class Value:
    """A variable of a program, with its value; the facts decide what may be done with it."""

    def __init__(self, name, array):
        self.name, self.array = name, np.asarray(array)
        self.shape, self.ndim, self.size = self.array.shape, self.array.ndim, self.array.size
        flat = np.sort(self.array, axis=None)
        self.low, self.high = (flat[0], flat[-1]) if self.size else (0.0, 0.0)
        self.near, self.far = (abs(flat).min(), abs(flat).max()) if self.size else (0.0, 0.0)  # from 0
        self.gap = np.diff(flat).min(initial=9.0)  # between any two

    def __str__(self):
        return self.name


def apart(a, b):
    """Nowhere nearly equal."""
    return abs(a.array - b.array).min(initial=9.0) > 0.05


def off(a, *kinks):
    """Nowhere near one of these numbers."""
    return all(abs(a.array - kink).min(initial=9.0) > 0.05 for kink in kinks)


# -- the forms that a line may take ------------------------------------------------------------------------------------------

ANY = lambda a: True  # noqa: E731
UNARY = {
    "np.tanh({a})": ANY, "np.sin({a})": ANY, "np.cos({a})": ANY, "np.arctan({a})": ANY, "np.arcsinh({a})": ANY,
    "tg.sigmoid({a})": ANY, "-{a}": ANY, "{a} * 0.7": ANY, "1.3 - {a}": ANY, "{a} / 3": ANY, "{a} ** 2": ANY, "{a} + {a}": ANY,
    "np.square({a})": ANY, "{a} * {a}": ANY, "{a} - 0.5": ANY, "np.deg2rad({a})": ANY, "({a} * 2)[()]": ANY,
    "np.exp({a})": lambda a: a.far < 3, "np.expm1({a})": lambda a: a.far < 3, "np.exp2({a})": lambda a: a.far < 3,
    "np.sinh({a})": lambda a: a.far < 3, "np.cosh({a})": lambda a: a.far < 3, "{a} ** 3": lambda a: a.far < 3,
    "2.0 ** {a}": lambda a: a.far < 3, "np.tan({a})": lambda a: a.far < 1, "np.sinc({a})": lambda a: a.near > 0.2,
    "np.log({a})": lambda a: a.low > 0.2, "np.log2({a})": lambda a: a.low > 0.2, "np.log10({a})": lambda a: a.low > 0.2,
    "np.sqrt({a})": lambda a: a.low > 0.2, "{a} ** 0.5": lambda a: a.low > 0.2,
    "{a} ** {a}": lambda a: 0.2 < a.low < a.high < 3,
    "np.log1p({a})": lambda a: a.low > -0.6, "np.arccosh({a})": lambda a: a.low > 1.2,
    "np.reciprocal({a})": lambda a: a.near > 0.3, "1 / {a}": lambda a: a.near > 0.3, "{a} ** -1": lambda a: a.near > 0.3,
    "np.arcsin({a})": lambda a: a.far < 0.8, "np.arccos({a})": lambda a: a.far < 0.8,
    "np.arctanh({a})": lambda a: a.far < 0.8,
    "abs({a})": lambda a: a.near > 0.05, "tg.relu({a})": lambda a: a.near > 0.05, "np.abs({a})": lambda a: a.near > 0.05,
    "np.clip({a}, -0.4, 0.6)": lambda a: off(a, -0.4, 0.6), "np.where({a} > 0.3, {a} * {a}, 2 * {a})": lambda a: off(a, 0.3),
    "np.maximum({a}, 0.25)": lambda a: off(a, 0.25), "np.where({a} > 0, 1.5, {a})": lambda a: off(a, 0),
}  # fmt: skip
BINARY = {
    "{a} + {b}": None, "{a} - {b}": None, "{a} * {b}": None, "np.logaddexp({a}, {b})": None, "{a} * {b} + {a}": None,
    "np.logaddexp2({a}, {b})": None, "np.multiply({a}, {b} * 0.5)": None,
    "{a} / {b}": lambda a, b: b.near > 0.3, "{a} ** {b}": lambda a, b: a.low > 0.2 and b.far < 2 and a.high < 4,
    "np.hypot({a}, {b})": lambda a, b: a.near > 0.2 or b.near > 0.2, "np.arctan2({a}, {b})": lambda a, b: b.low > 0.2,
    "np.maximum({a}, {b})": apart, "np.minimum({a}, {b})": apart, "np.fmax({a}, {b})": apart, "np.fmin({a}, {b})": apart,
    "np.where({a} > {b}, {a} * 2, {b})": apart, "np.clip({a}, {b}, {b} + 0.5)": lambda a, b: off(a, b.array, b.array + 0.5),
}  # fmt: skip
REDUCTIONS = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin", "var": "var", "std": "std", "logsumexp": "logsumexp"}


def to_torch(code):
    """The same for PyTorch, where only the prefix differs."""
    for ours, theirs in (("np.", "torch."), ("tg.", "torch."), (".dot(", ".matmul("), (" 0.25)", " torch.tensor(0.25))")):
        code = code.replace(ours, theirs)
    return code


def elementwise(pick, a, values):
    code = pick([form for form, fits in UNARY.items() if fits(a)]).format(a=a)
    return code, to_torch(code)


def broadcast(pick, a, values):
    """Two operands whose shapes broadcast; often the same one twice, or views of each other."""
    mates = [b for b in values if fit_together(a.shape, b.shape) and prod(np.broadcast_shapes(a.shape, b.shape)) <= 80]
    b = pick(mates[::-1])
    code = pick([form for form, fits in BINARY.items() if fits is None or fits(a, b)]).format(a=a, b=b)
    return code, to_torch(code)


def fit_together(a, b):
    return all(1 in pair or pair[0] == pair[1] for pair in zip(a[::-1], b[::-1], strict=False))


def reduction(pick, a, values):
    names = [name for name in REDUCTIONS if name not in ("max", "min") or a.gap > 0.05]
    names += ["prod", "cumsum", "cumprod"] if a.ndim else []
    names += ["sort"] if a.ndim and a.gap > 0.05 else []
    name = pick(names)
    each = list(range(a.ndim))
    if name in ("prod", "cumsum", "cumprod", "sort"):
        axis = pick([*each, -1])
        code = f"np.{name}({a}, axis={axis})"
        return code, to_torch(code).replace("axis", "dim") + (".values" if name == "sort" else "")
    axis = pick([None, *each, *[-i - 1 for i in each], *combinations(each, 2), tuple(each)])
    if name == "std" and np.std(a.array, axis=axis).min() < 0.2:
        name = "var"
    keep = pick([False, True])
    dims = tuple(each) if axis is None else axis
    more = ", correction=0" if name in ("var", "std") else ""
    prefix = "tg" if name == "logsumexp" else "np"
    return (
        f"{prefix}.{name}({a}, axis={axis}, keepdims={keep})",
        f"torch.{REDUCTIONS[name]}({a}, dim={dims}, keepdim={keep}{more})",
    )


def reshaping(pick, a, values):
    axes = list(range(a.ndim))
    i = pick(axes or [0])
    order = tuple(axes[i:] + axes[:i])
    forms = [
        (f"{a}.reshape(-1)", f"{a}.reshape(-1)"),
        (f"{a}.reshape({(1, *a.shape[::-1])})", f"{a}.reshape({(1, *a.shape[::-1])})"),
        (f"np.ravel({a})[None]", f"torch.ravel({a})[None]"),
        (f"np.expand_dims({a}, {i})", f"torch.unsqueeze({a}, {i})"),
        (f"np.squeeze({a})", f"torch.squeeze({a})"),
        (f"np.broadcast_to({a}, {(2, *a.shape)})", f"torch.broadcast_to({a}, {(2, *a.shape)})"),
    ]
    if a.ndim:
        forms += [
            (f"{a}.transpose({order})", f"{a}.permute({order})"),
            (f"np.swapaxes({a}, {i}, -1)", f"torch.swapaxes({a}, {i}, -1)"),
            (f"np.moveaxis({a}, 0, {i})", f"torch.movedim({a}, 0, {i})"),
            (f"np.flip({a}, {i})", f"torch.flip({a}, [{i}])"),
            (f"np.roll({a}, 1, axis={i})", f"torch.roll({a}, 1, {i})"),
            (f"np.repeat({a}, 2, axis={i})", f"torch.repeat_interleave({a}, 2, dim={i})"),
            (f"np.tile({a}, {(2,) * a.ndim})", f"torch.tile({a}, {(2,) * a.ndim})"),
        ]
    if a.ndim == 2:
        forms += [(f"{a}.T", f"{a}.T"), (f"np.tril({a})", f"torch.tril({a})"), (f"np.diagonal({a})", f"torch.diagonal({a})")]
    return pick(forms)


LIST = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]")  # one that may hold lists


def indexing(pick, a, values):
    """Basic, advanced and boolean keys; since lines build on each other, nested ones as well."""
    if not a.ndim:
        return f"{a}[None]", f"{a}[None]"
    i = pick(range(a.ndim))
    n, lead = a.shape[i], ":, " * i
    positions = [k % n for k in (0, 1, 0, 2)]
    flags = [k % 2 == 0 for k in range(n)]
    mask = (a.array > np.mean(a.array)).tolist()
    keys = [f"{lead}{k}" for k in (pick(range(-n, n)), "1:", "::2", ":-1", "None", positions, flags, f"{positions[1:]}, ...")]
    keys += [f"{lead}[{positions[:3]}, {positions[1:]}]", f"..., {pick(range(a.shape[-1]))}"]
    if a.ndim > 1:
        keys += [f"[0, {a.shape[0] - 1}, 0], [0, 0, {a.shape[1] - 1}]", f"0, {[k % a.shape[1] for k in (1, 0, 1)]}"]
        keys += ["1:, None, ::2"]
    key = pick([*keys, "mask", "backwards"])
    if key == "backwards":
        return f"{a}[{lead}::-1]", f"torch.flip({a}, [{i}])"
    if key == "mask":
        return f"{a}[np.array({mask})]", f"{a}[torch.tensor({mask})]"
    return f"{a}[{key}]", f"{a}[" + LIST.sub(r"torch.tensor(\g<0>)", key) + "]"


def joining(pick, a, values):
    if not a.ndim:
        return f"np.stack([{a}, {a} * 2])", f"torch.stack([{a}, {a} * 2])"
    b, axis = pick([b for b in values if b.shape == a.shape]), pick([*range(a.ndim), -1])
    mates = [
        c for c in values if c.ndim == a.ndim and all(i == axis % a.ndim or c.shape[i] == n for i, n in enumerate(a.shape))
    ]
    c, n, parts = pick(mates), a.shape[axis], pick([1, 2])
    cut = f"[{n // 2}]"
    forms = [
        (f"np.concatenate([{a}, {c}, {a}], axis={axis})", f"torch.cat([{a}, {c}, {a}], dim={axis})"),
        (f"np.stack([{a}, {b}], axis={axis})", f"torch.stack([{a}, {b}], dim={axis})"),
        (f"np.vstack([{a}, {b}])", f"torch.vstack([{a}, {b}])"),
        (f"np.hstack([{a}, {b}])", f"torch.hstack([{a}, {b}])"),
        (f"np.split({a}, {cut}, axis={axis})[1]", f"torch.tensor_split({a}, {cut}, dim={axis})[1]"),
    ]
    if n % 2 == 0:
        whole = f"np.split({a}, 2, axis={axis})"
        both = f"np.subtract(*{whole})" if parts == 1 else f"{whole}[0]"
        forms.append((both, to_torch(both.replace("np.split", "torch.tensor_split").replace("axis", "dim"))))
    return pick(forms)


def product(pick, a, values):
    if not a.ndim:
        return f"{a} * {a}", f"{a} * {a}"
    flipped = f"np.swapaxes({a}, -1, -2)" if a.ndim > 1 else str(a)
    forms = [f"{a} @ {flipped}", f"{flipped} @ {a}"]
    for b in values:
        if b.ndim and a.shape[-1] == b.shape[-2 if b.ndim > 1 else 0] and fit_together(a.shape[:-2], b.shape[:-2]):
            forms += [f"{a} @ {b}", f"np.matmul({a}, {b})"] + [f"{a}.dot({b})"] * (a.ndim <= 2 and a.ndim == b.ndim)
        if b.ndim and a.shape[-1] == b.shape[-1] and a.ndim + b.ndim < 5:
            forms.append(f"np.inner({a}, {b})")
        if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1]:
            forms += [f'np.einsum("ij,kj->ik", {a}, {b})', f"{a} @ {b}.T"]
        if a.shape == b.shape:
            forms.append(f'np.einsum("...i,...i->...", {a}, {b})')
    forms += [f"np.outer({a}.ravel(), {a}.ravel())"] if a.size < 7 else []
    code = pick(forms)
    return code, to_torch(code)


FAMILIES = [elementwise, broadcast, reduction, reshaping, indexing, joining, product]


# -- programs ----------------------------------------------------------------------------------------------------------------


class Program:
    """Leaves, lines, and the values that the loss is made of: loss = sum of (weight * value).sum()."""

    def __init__(self, leaves, lines, results):
        self.leaves, self.lines, self.results = leaves, lines, results

    def __repr__(self):
        head = [f"{a} = {np.array2string(a.array, precision=17, separator=', ')}" for a in self.leaves]
        body = [f"{name} = {ours}" for name, ours, _ in self.lines]
        return "\n" + "\n".join([*head, *body, f"return {', '.join(self.results)}"])

    def function(self, which, **names):
        """The lines as a function of the leaves: those of NumPy (0) or of PyTorch (1)."""
        body = "".join(f"    {name} = {codes[which]}\n" for name, *codes in self.lines)
        source = f"def f({', '.join(map(str, self.leaves))}):\n{body}    return {', '.join(self.results)},\n"
        exec(source, names)
        return names["f"]


@st.composite
def programs(draw):
    """A program of up to nine lines."""

    def pick(options):
        return options[draw(st.integers(0, len(options) - 1))]

    base = pick([(2, 3), (3,), (2, 2), (2, 1, 3), (3, 3), (), (4,), (1, 4), (2, 2, 2)])
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    values = []
    for i in range(pick([2, 1, 3])):
        shape = tuple(pick([n, 1]) for n in base[pick([0, 0, 1]) :]) if i else base
        values.append(Value(f"x{i}", random.uniform(0.4 if i % 2 else -1.5, 1.6, shape)))
    leaves, lines = list(values), []
    for k in range(pick(range(2, 10))):
        a = values[-1 - min(pick([0, 0, 1, 2, 3]), len(values) - 1)]
        name, (ours, theirs) = f"y{k}", pick(FAMILIES)(pick, a, values)
        array = evaluate(ours, values)
        if not np.isfinite(array).all() or abs(array).max(initial=0) > 9:
            ours, theirs = f"np.tanh({ours})", f"torch.tanh({theirs})"
            array = np.tanh(array)
        if array.size == 0 or array.size > 80 or array.ndim > 4:
            continue
        lines.append((name, ours, theirs))
        values.append(Value(name, array))
    results = [str(values[-1])] + ([str(pick(values))] if pick([True, False]) else [])
    return Program(leaves, lines, results)


def evaluate(code, values):
    with np.errstate(all="ignore"):
        return np.asarray(eval(code, {"np": np, "tg": PLAIN, **{str(v): v.array for v in values}}))


# -- what is checked ---------------------------------------------------------------------------------------------------------


def weights_for(outs):
    random = np.random.default_rng(1)
    return [random.uniform(0.5, 1.5, np.shape(out)) for out in outs]


def total(outs, weights):
    """The loss."""
    return sum((w * out).sum() for w, out in zip(weights, outs, strict=True))


def gradient(f, arrays, create_graph=False):
    """The loss, the leaves and their gradients, by backward()."""
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    outs = f(*leaves)
    loss = total(outs, weights_for(outs))
    if loss.requires_grad:
        loss.backward(create_graph=create_graph)
    return loss, leaves, [Tensor(np.zeros(x.shape)) if x.grad is None else x.grad for x in leaves]


def second_order(leaves):
    """What a second backward() has brought."""
    return [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]


def along(grads, directions):
    """The derivative in a direction."""
    return sum((g * v).sum() for g, v in zip(grads, directions, strict=True))


def agree(claim, slope, scale, tolerance):
    """Whether a claim agrees with the central difference of a function, with a smaller step if a larger one does not do."""
    errors = []
    for eps in (1e-5, 1e-6):
        numeric = (slope(eps) - slope(-eps)) / (2 * eps)
        errors.append(abs(claim - numeric))
        if errors[-1] <= tolerance * (1 + scale + abs(numeric)):
            return True
    return False


def check(program, used=None):
    """First and second order in random directions; raises AssertionError."""
    ours, plain = program.function(0, np=np, tg=tg), program.function(0, np=np, tg=PLAIN)
    arrays = [x.array for x in program.leaves]
    random = np.random.default_rng(2)
    v, u = ([random.normal(size=a.shape) for a in arrays] for _ in range(2))

    def moved(directions, eps):
        return [a + eps * d for a, d in zip(arrays, directions, strict=True)]

    def loss_at(eps):
        outs = plain(*moved(v, eps))
        return total(outs, weights_for(outs))

    def slope_at(eps):
        return along(gradient(ours, moved(u, eps))[2], v).item()

    loss, leaves, grads = gradient(ours, arrays)
    if used is not None:
        used.update({x.op.name for x in toposort(loss) if x.op is not None})
    assert [g.shape for g in grads] == [a.shape for a in arrays]
    assert np.isclose(loss.item(), loss_at(0), rtol=1e-12, atol=1e-12), "the forward pass"
    scale = float(sum(abs(g.data).sum() for g in grads))
    assert agree(along(grads, v).item(), loss_at, scale, 1e-6), "first order"

    loss, leaves, graph = gradient(ours, arrays, create_graph=True)
    for g, h in zip(grads, graph, strict=True):
        np.testing.assert_allclose(h.numpy(), g.data, rtol=1e-9, atol=1e-11 * (1 + scale), err_msg="with create_graph")
    slope = along(graph, v)
    for x in leaves:
        x.grad = None
    if slope.requires_grad:
        slope.backward()
    second = second_order(leaves)
    scale += float(sum(abs(g).sum() for g in second))
    claim = sum(float((g * d).sum()) for g, d in zip(second, u, strict=True))
    assert agree(claim, slope_at, scale, 1e-5), "second order"


def check_against_torch(program, torch):
    """Values, gradients and Hessian times vector, to 1e-9."""
    ours, theirs = program.function(0, np=np, tg=tg), program.function(1, torch=torch)
    arrays = [x.array for x in program.leaves]
    random = np.random.default_rng(2)
    v = [random.normal(size=a.shape) for a in arrays]
    loss, leaves, grads = gradient(ours, arrays, create_graph=True)

    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    outs = theirs(*tensors)
    expected = total(outs, [torch.tensor(w) for w in weights_for(outs)])
    firsts = torch.autograd.grad(expected, tensors, create_graph=True, allow_unused=True, materialize_grads=True)
    slope, target = along(grads, v), along(firsts, [torch.tensor(d) for d in v])
    for x in leaves:
        x.grad = None
    if slope.requires_grad:
        slope.backward()
    seconds = [torch.zeros_like(t) for t in tensors]
    if target.requires_grad:
        seconds = torch.autograd.grad(target, tensors, allow_unused=True, materialize_grads=True)

    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-12, atol=1e-12, err_msg="the forward pass")
    for order, mine, other in (
        ("first order", [g.numpy() for g in grads], [g.numpy(force=True) for g in firsts]),
        ("second order", second_order(leaves), [g.numpy(force=True) for g in seconds]),
    ):
        scale = 1 + max(abs(g).max(initial=0) for g in other)
        for one, two in zip(mine, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9 * scale, err_msg=order)


# -- the tests ---------------------------------------------------------------------------------------------------------------


def test_random_programs():
    used = Counter()

    @QUICK
    @given(programs())
    def every(program):
        check(program, used)

    every()
    missing = [name for name in RANDOM_ROWS if not used[name]]  # how often each is tried is up to Hypothesis
    assert not missing, f"never tried: {missing}"


# The rows that programs are made of; what is not here is in test_ops.py, row by row.
RANDOM_ROWS = [
    "neg", "exp", "log", "log1p", "sqrt", "abs", "sin", "cos", "tanh", "sigmoid", "relu", "add", "sub", "mul", "div", "power",
    "maximum", "minimum", "logaddexp", "where", "clip", "matmul", "einsum", "sum", "mean", "max", "min", "prod", "reshape",
    "transpose", "broadcast_to", "concatenate", "stack", "getitem", "split", "cumsum", "cumprod", "hypot", "arctan2",
]  # fmt: skip


@pytest.mark.parity
def test_random_programs_against_torch():
    torch = pytest.importorskip("torch")

    @QUICK
    @given(programs())
    def every(program):
        check_against_torch(program, torch)

    every()


def scaled(rule, factor):
    """A rule that is wrong by a factor."""
    if isinstance(rule, Together):
        return Together(lambda uses: rule.rule(uses) * factor, alone=scaled(rule.alone, factor))

    def wrong(*args, **params):
        share = rule(*args, **params)
        return None if share is None else share * factor

    return rule and wrong


@pytest.mark.parametrize("name", ["tanh", "mul", "matmul", "getitem", "where", "sum"])
def test_a_wrong_rule_is_found(name, monkeypatch):
    """The test of the tester: 0.1 % is enough."""
    monkeypatch.setattr(TABLE[name], "rules", tuple(scaled(rule, 1.001) for rule in TABLE[name].rules))

    def wrong(program):
        try:
            check(program)
        except AssertionError as error:
            return "first order" in str(error) or "second order" in str(error)
        return False

    program = find(programs(), wrong, settings=settings(QUICK, max_examples=300))
    assert len(program.lines) <= 3, program


def test_a_rule_that_is_wrong_in_second_order_alone_is_found(monkeypatch):
    """Here the rule of tanh forgets that `out` depends on x."""
    rule = TABLE["tanh"].rules[0]

    def forgetful(g, out, x):
        return rule(g, out.detach() if isinstance(out, Tensor) else out, x)

    monkeypatch.setattr(TABLE["tanh"], "rules", (forgetful,))

    def wrong(program):
        try:
            check(program)
        except AssertionError as error:
            return str(error).startswith("second order")
        return False

    program = find(programs(), wrong, settings=settings(QUICK, max_examples=300))
    assert "tanh" in repr(program)
