"""Every row of the table: its values are NumPy's, its derivatives those of finite differences, to first and second order.

A case is a function written in NumPy and its inputs. Run on arrays it is the oracle, run on Tensors it is the subject.
"""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.gradcheck import GradcheckError, gradcheck
from tinygrad_rnn.ops import TABLE, Together
from tinygrad_rnn.tensor import Tensor, apply

rng = np.random.default_rng(0)


def R(*shape):
    """Random numbers that keep away from 0, where some functions have a kink."""
    x = rng.normal(size=shape)
    return np.asarray(x + np.sign(x) * 0.2)


def P(*shape):
    """The same, positive."""
    return np.asarray(abs(R(*shape)))


def sigmoid(x):
    return tg.sigmoid(x) if isinstance(x, Tensor) else 1 / (1 + np.exp(-x))


def relu(x):
    return tg.relu(x) if isinstance(x, Tensor) else np.where(x > 0, x, 0)


def U(*shape):
    """Random numbers in (-0.9, 0.9)."""
    return np.asarray(rng.uniform(-0.9, 0.9, shape))


def S(*shape):
    """Random symmetric matrices, positive definite and with eigenvalues that are well apart."""
    x = rng.normal(size=shape) / 3
    return x @ x.swapaxes(-1, -2) + np.diag(np.arange(1.0, shape[-1] + 1))


def M(*shape):
    """Random square matrices that are well conditioned."""
    return rng.normal(size=shape) / 3 + np.diag(np.arange(1.0, shape[-1] + 1))


def symmetric(x):
    return (x + x.swapaxes(-1, -2)) / 2


def scatter(*gs, keys, shape):
    if isinstance(gs[0], Tensor):
        return apply(ops.SCATTER, *gs, keys=keys, shape=shape)
    out = np.zeros(shape)
    numbers = np.arange(out.size).reshape(shape)
    for g, key in zip(gs, keys, strict=True):
        for i, value in zip(np.ravel(numbers[key]), np.ravel(g), strict=True):
            out.flat[i] += value
    return out


def centre(x, axis):
    return apply(ops.CENTRE, x, axis=axis) if isinstance(x, Tensor) else x - np.mean(x, axis, keepdims=True)


def rms_norm(x, axis, eps):
    if isinstance(x, Tensor):
        return apply(ops.RMS_NORM, x, axis=axis, eps=eps)
    return x / np.sqrt(np.linalg.norm(x, axis=axis, keepdims=True) ** 2 / x.shape[axis] + eps)


def binary(f, draw=R):
    """Every way in which two operands broadcast, the same operand twice, and a number on either side."""
    return [
        (f, draw(2, 3), draw(2, 3)), (f, draw(2, 3), draw(3)), (f, draw(3), draw(2, 1)), (f, draw(), draw(2, 2)),
        (f, draw(1, 2), draw(2, 2, 2)), (f, draw(1, 2), draw(2, 0, 2)), (lambda x: f(x, x), draw(2, 2)),
        (lambda x: f(x, 1.7), draw(3)), (lambda x: f(1.7, x), draw(3)),
        (lambda x, y: f(x, y).sum() + f(x, y[0]).sum() * x.sum(), draw(1, 2), draw(2, 2)),
    ]  # fmt: skip


def reduction(name):
    """Every way to name the axes, by NumPy's function and by the method."""
    call = getattr(np, name)
    axes = [None, 0, -1, (0, 2), (-1, 1), ()]
    return [
        (lambda x: call(x), R(3)), (lambda x: call(x), R()), (lambda x: getattr(x, name)(), R(2, 1)),
        *((lambda x, a=a: call(x, axis=a), R(2, 3, 2)) for a in axes),
        *((lambda x, a=a: getattr(x, name)(axis=a, keepdims=True), R(2, 3, 2)) for a in axes),
    ]  # fmt: skip


MATMULS = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 2)), ((2, 2, 3), (3, 2)), ((2, 3), (2, 3, 2)),
    ((3,), (2, 3, 2)),
    ((2, 2, 3), (3,)), ((2, 2, 3), (2, 3, 2)), ((1, 2, 3), (2, 3, 1)), ((2, 2, 3), (1, 3, 2)), ((2, 1, 1, 2), (3, 2, 1)),
    ((0, 3), (3, 2)), ((2, 0), (0, 2)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 2)), ((2, 0), (0,)),
]  # fmt: skip

EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 2)), ("ij,jk", (2, 3), (3, 2)), ("ba", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("ij->", (2, 3)), ("ij->j", (2, 3)), ("i,j->ij", (2,), (3,)), ("tbe,eh->tbh", (2, 2, 3), (3, 2)),
    ("...ij,...jk->...ik", (2, 2, 3), (3, 2)),
    ("i,i,i->i", (3,), (3,), (3,)), ("iij,jk->k", (2, 2, 3), (3, 2)), ("iji->j", (2, 3, 2)), (",i->i", (), (3,)),
    ("i,i->", (1,), (3,)), ("ij,jk->ik", (2, 1), (3, 2)), ("...i,...i->...", (1, 3), (2, 3)), ("i...->...", (2, 3)),
    ("ij,kl->k", (2, 2), (2, 3)), ("ij,j->i", (2, 0), (0,)),
]  # fmt: skip

mask = np.array([True, False, True, True])
KEYS = [
    1, -1, slice(1, 3), slice(None, None, -2), slice(2, 2), ..., None, (), (slice(None), 1), (..., None, 0), (1, -1),
    [0, 0, 2], np.array([[0, 1], [0, 0]]), mask, (mask, 1), (slice(None), [0, 0]),
    ([0, 3, 0], [1, 1, 1]), np.ix_([0, 0], [2, 1]),
    (np.array([1, 1]), None, np.array([0, 0])), [], np.array(2), np.int64(-1), True, [True, False, True, False],
]  # fmt: skip

CASES = {
    "neg": [(lambda x: -x, R(2, 3))],
    "exp": [(np.exp, R(2, 3)), (np.exp, R())],
    "log": [(np.log, P(2, 3))],
    "log1p": [(np.log1p, P(2, 3)), (np.log1p, np.array([-0.5, 1e-9]))],
    "sqrt": [(np.sqrt, P(2, 3))],
    "abs": [(abs, R(2, 3)), (np.abs, R(3))],
    "sin": [(np.sin, R(2, 3))],
    "cos": [(np.cos, R(2, 3))],
    "tan": [(np.tan, U(2, 3))],
    "arcsin": [(np.arcsin, U(2, 3))],
    "arccos": [(np.arccos, U(2, 3))],
    "arctan": [(np.arctan, R(2, 3))],
    "sinh": [(np.sinh, R(2, 3))],
    "cosh": [(np.cosh, R(2, 3))],
    "arcsinh": [(np.arcsinh, R(2, 3)), (np.arcsinh, np.zeros(1))],
    "arccosh": [(np.arccosh, 1 + P(2, 3))],
    "arctanh": [(np.arctanh, U(2, 3))],
    "exp2": [(np.exp2, R(2, 3))],
    "expm1": [(np.expm1, R(2, 3)), (np.expm1, np.array([1e-9]))],
    "log2": [(np.log2, P(2, 3))],
    "log10": [(np.log10, P(2, 3))],
    "root": [(np.linalg.norm, R(3)), (np.std, R(2, 3)), (lambda x: np.linalg.norm(x, axis=0, keepdims=True), R(2, 3))],
    "cbrt": [(np.cbrt, R(2, 3))],
    "reciprocal": [(np.reciprocal, R(2, 3))],
    "sinc": [(np.sinc, R(2, 3)), (np.sinc, np.array([0, 1e-5, -1e-3, 0.1, -0.29, 0.31, 1, 2]))],
    "tanh": [(np.tanh, R(2, 3)), (np.tanh, np.array([-50.0, 50.0]))],
    "sigmoid": [(sigmoid, R(2, 3)), (sigmoid, R()), (sigmoid, np.array([-30.0, 30.0, 0.0]))],
    "relu": [(relu, R(2, 3))],
    "astype": [(lambda x: x.astype(np.float64) * x, R(2, 3))],
    "add": binary(lambda x, y: x + y),
    "sub": binary(lambda x, y: x - y),
    "mul": binary(lambda x, y: x * y),
    "div": binary(lambda x, y: x / y),
    "power": [
        *binary(lambda x, y: x**y, P), *((lambda x, p=p: x**p, R(3)) for p in (0, 1, 2, 3, -1, -2, 2.0)),
        *((lambda x, p=p: x**p, np.zeros(2)) for p in (0, 1, 2, 3)), (lambda y: 0**y, P(2)), (lambda x: 2**x, R(3)),
        (lambda x: x ** np.array([2, 3, 0]), R(3)),
    ],
    "maximum": [
        (np.maximum, R(2, 3), R(2, 3)), (np.maximum, R(2, 3), R(3)), (np.maximum, R(), R(3)),
        (lambda x: np.maximum(x, 0), R(3)),
    ],
    "minimum": [
        (np.minimum, R(2, 3), R(2, 3)), (np.minimum, R(2, 3), R(3)), (np.minimum, R(), R(3)),
        (lambda x: np.minimum(x, 0), R(3)),
    ],
    "mod": [(np.mod, R(2, 3), P(3) + 3), (lambda x, y: x % y, R(3), -P(3) - 3), (lambda x: 7.5 % x, P(3) + 1)],
    "fmod": [(np.fmod, R(2, 3), P(3) + 3), (np.fmod, -3 * P(3), np.array([0.7, -0.7, 0.9]))],
    "hypot": [*binary(np.hypot)],
    "arctan2": [*binary(np.arctan2)],
    "logaddexp2": [*binary(np.logaddexp2), (np.logaddexp2, np.array([1000.0, -1000.0]), np.array([999.0, -1001.0]))],
    "logaddexp": [*binary(np.logaddexp), (np.logaddexp, np.array([1000.0, -1000.0]), np.array([999.0, -1001.0]))],
    "where": [
        (lambda x, y: np.where(np.array([[True], [False]]), x * x, y), R(2, 3), R(3)),
        (lambda x: np.where(x > 0, x * x, 0.1 * x), R(4)),
        (lambda x, y: np.where(x > y, x, y), R(), R(2, 2)), (lambda x: np.where(np.array([True, False]), x, x) * x, R(2)),
    ],
    "clip": [
        (lambda x: np.clip(x, -0.5, 0.5), R(5)), (lambda x: x.clip(None, 0.5), R(5)), (lambda x: np.clip(x, min=-0.5), R(5)),
        (lambda x, *b: np.clip(x * x, *b), np.array([0.3, 0.9, 1.7, 0.4]), np.array(0.5), np.array([2, 0.7, 2, 0.2])),
    ],
    "matmul": [
        *((lambda a, b: a @ b, R(*a), R(*b)) for a, b in MATMULS),
        *((lambda a, c, b: a @ b * (2 * c @ b), R(*a), R(*a), R(*b)) for a, b in MATMULS[:9]),
        (lambda a, c, b: (a @ b).sum() + (c @ b).sum() ** 2, R(3), R(2, 2, 3), R(3, 2)),
        (lambda a: a @ a @ a, R(2, 2)), (lambda a: a @ a, R(3)), (lambda a: a.T @ a, R(2, 3)),
        (lambda a: a @ a[0] + a[:, 0], R(3, 3)),
        (np.dot, R(2, 3), R(3)),
        (lambda a, b, c, d, e: (a @ b).sum() ** 2 + (a @ (a @ c) * (a @ d)).sum() + ((a @ e) ** 2).sum(),
         R(3, 3), R(3), R(3, 1), R(3, 4), R(2, 3, 2)),  # of which the first three wait
        (lambda a, b, c: (a @ b + (a @ c)[:, 0]) ** 2 / (a @ b), R(2, 3), P(3), P(3, 1)),
    ],
    "einsum": [
        *((lambda *xs, spec=spec: np.einsum(spec, *xs), *(R(*s) for s in shapes)) for spec, *shapes in EINSUMS),
        (lambda a: np.einsum("ij,jk->ik", a, a), R(2, 2)), (np.dot, R(2, 2, 3), R(2, 3, 2)), (np.dot, R(3), R(2, 3, 2)),
    ],
    "centre": [*((lambda x, a=a: centre(x, a), R(2, 3, 2)) for a in (0, -1, (1, 2))), (lambda x: centre(x, 0) ** 2, R(3))],
    "rms_norm": [
        *((lambda x, a=a: rms_norm(x, a, 0.1), R(2, 3, 2)) for a in (0, -1)),
        (lambda x: rms_norm(x, 0, 1e-5) ** 3 + x, R(3)), (lambda x: rms_norm(centre(x, 1), 1, 1e-3) * x, R(2, 4)),
    ],
    "sum": [*reduction("sum"), (lambda x: x.sum(axis=0), R(0, 3)), (lambda x: x.sum(axis=1), R(3, 0))],
    "mean": [*reduction("mean"), (lambda x: np.var(x, axis=1), R(2, 3)),
    (lambda x: x.std(axis=0, ddof=1, keepdims=True), R(3, 2))],
    "max": reduction("max"),
    "min": reduction("min"),
    "prod": [
        *reduction("prod"), (lambda x: x.prod(axis=1), np.array([[0.0, 2, 3], [0, 0, 3], [0, 0, 0]])),
        (lambda x: x.prod(), np.zeros(2)),
    ],
    "cumsum": [(np.cumsum, R(2, 3)), *((lambda x, a=a: x.cumsum(axis=a), R(2, 3, 2)) for a in (0, 1, -1)), (np.cumsum, R(0))],
    "cumprod": [
        (np.cumprod, R(2, 3)), *((lambda x, a=a: x.cumprod(axis=a), R(2, 3, 2)) for a in (0, 1, -1)), (np.cumprod, R(0)),
        (lambda x: np.cumprod(x, axis=1), np.array([[2.0, 0, 3, 4], [0, 2, 0, 3]])),
    ],
    "det": [
        (np.linalg.det, M(3, 3)), (np.linalg.det, M(2, 2, 2)), (np.linalg.det, np.array([[1.0, 2, 0], [2, 4, 0], [0, 1, 1]])),
        (np.linalg.det, np.eye(3)),
    ],
    "logabsdet": [(lambda x: np.linalg.slogdet(x)[1], M(3, 3)), (lambda x: np.linalg.slogdet(x).logabsdet, -M(2, 3, 3))],
    "inv": [(np.linalg.inv, M(3, 3)), (np.linalg.inv, M(2, 2, 2)), (lambda x: np.linalg.matrix_power(x, -2), M(2, 2))],
    "pinv": [(np.linalg.pinv, R(3, 2)), (np.linalg.pinv, R(2, 2, 3)), (np.linalg.pinv, M(2, 2))],
    "solve": [
        (np.linalg.solve, M(3, 3), R(3)), (np.linalg.solve, M(3, 3), R(3, 2)), (np.linalg.solve, M(2, 3, 3), R(3)),
        (np.linalg.solve, M(2, 3, 3), R(2, 3, 2)), (np.linalg.solve, M(2, 2), R(2, 2, 1)),
    ],
    "cholesky": [
        (np.linalg.cholesky, S(3, 3)), (lambda x: np.linalg.cholesky(symmetric(x)), S(2, 3, 3)),
    ],
    "eigh": [
        (lambda x: tuple(np.linalg.eigh(x)), S(3, 3)), (lambda x: tuple(np.linalg.eigh(x, "U")), S(2, 3, 3)),
        (lambda x: np.linalg.eigh(symmetric(x)).eigenvalues ** 2, S(3, 3)),
    ],
    "eigvalsh": [(np.linalg.eigvalsh, S(3, 3)), (lambda x: np.linalg.eigvalsh(x, "U"), S(2, 3, 3))],
    "svd": [
        *(
            (lambda x: tuple(np.linalg.svd(x, full_matrices=False)), R(*s) + 2 * np.eye(*s[-2:]))
            for s in ((3, 2), (2, 3), (2, 2, 2))
        ),
        (lambda x: np.linalg.svd(x).S, M(3, 3)),
    ],
    "svdvals": [
        (lambda x: np.linalg.svd(x, compute_uv=False), R(3, 2)), (lambda x: np.linalg.norm(x, "nuc", (0, 1)), R(2, 3, 2)),
        (lambda x: np.linalg.norm(x, 2), R(2, 3)), (lambda x: np.linalg.norm(x, -2), R(2, 3)),
    ],
    "reshape": [
        (lambda x: x.reshape(3, -1) ** 2, R(2, 3)), (lambda x: x.reshape((6,)), R(2, 3)),
        (lambda x: np.reshape(x, [1, 6, 1]), R(2, 3)),
        (lambda x: x.reshape(()), R(1, 1)), (lambda x: x.reshape(0, 7), R(0, 3)), (np.ravel, R(2, 2)),
        (lambda x: x.flatten(), R(2, 2)),
        (np.squeeze, R(1, 3, 1)), (lambda x: x.squeeze(-1), R(1, 3, 1)), (lambda x: np.expand_dims(x, (0, -1)), R(2)),
    ],
    "transpose": [
        (lambda x: x.T * x.T, R(2, 3)), (lambda x: np.transpose(x, (-1, 0, 1)), R(2, 3, 2)),
        (lambda x: x.transpose(1, 2, 0), R(2, 3, 2)),
        (lambda x: x.transpose([1, 0]), R(2, 3)), (lambda x: np.swapaxes(x, 0, -1), R(2, 3, 2)), (lambda x: x.T, R()),
        (lambda x: np.moveaxis(x, [0, 1], [-1, 0]), R(2, 3, 2)), (lambda x: np.moveaxis(x, 0, 1), R(0, 2)),
    ],
    "broadcast_to": [
        (lambda x: np.broadcast_to(x, (2, 2, 3)) ** 2, R(2, 1)[:, :, None][0]), (lambda x: np.broadcast_to(x, 3), R()),
        (lambda x: np.broadcast_to(x, [0, 3]), R(1, 3)),
    ],
    "concatenate": [
        (lambda x, y: np.concatenate([x, y, x * y]), R(2, 2), R(2, 2)),
        (lambda x, y: np.concatenate((x, y), axis=-1), R(2, 1), R(2, 3)),
        (lambda x, y: np.concatenate([x, y], axis=None), R(2), R(2, 2)), (lambda x: np.concatenate([np.ones(2), x]), R(2)),
        (lambda x, y: np.concatenate([x, y]), R(0, 2), R(1, 2)),
    ],
    "stack": [
        (lambda x, y: np.stack([x, y, x * y]), R(2, 2), R(2, 2)), (lambda x, y: np.stack((x, y), axis=1), R(2, 3), R(2, 3)),
        (lambda x, y: np.stack([x, y], axis=-1), R(2, 3), R(2, 3)), (lambda x: np.stack([x, np.ones(2), x], axis=-2), R(2)),
    ],
    "getitem": [
        *((lambda x, key=key: x[key] * 2.0, R(4, 3)) for key in KEYS),
        (lambda x: x[1:] * x[:-1] + x[0] * x[[1, 1, 2]], R(4, 3)),
        (lambda x: x[0] * x[..., 1:].sum() + x.sum(axis=0), R(1, 3)), (lambda x: x[:, None] * x[None], R(3)),
        (lambda x: x[1], R(3)),
        (lambda x: x[None] * x, R()),
    ],
    "split": [
        *((lambda x, s=s: tuple(np.split(x * x, s, axis=-1)), R(2, 4)) for s in (2, 4, [1], [1, 3], [0, 2], [-1], [9], [-9])),
        (lambda x: np.split(x, []), R(2)),
        (lambda x: np.split(x, 2)[1] * 2.0, R(4, 2)), (lambda x: np.split(x, 2)[0] * np.split(x, 2)[0], R(4)),
        (lambda x: np.split(x, 2)[0] * np.split(x, 2)[1] + x[1:3] * x[0], R(4)), (lambda x: np.split(x, 2)[1] * 2.0, R(0, 3)),
        (lambda x: np.split(x, 2)[0] * np.split(x, 2, axis=1)[0], R(2, 2)),
    ],
    "scatter": [
        (lambda x, y: scatter(x, y, keys=[slice(1, 3), 0], shape=(3, 2)), R(2, 2), R(2)),
        (lambda x, y: scatter(x * x, y, keys=[[0, 0, 1], (..., 1)], shape=(3, 2)), R(3, 2), R(3)),
        (lambda x: scatter(x, keys=[1], shape=(2,)), R()),
    ],
}  # fmt: skip

EACH = [pytest.param(name, case, id=f"{name}-{i}") for name, cases in CASES.items() for i, case in enumerate(cases)]


def tuple_of(result):
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def test_every_row_has_a_case():
    assert set(CASES) == set(TABLE)


@pytest.mark.parametrize(("name", "case"), EACH)
def test_values_are_numpys(name, case):
    f, *arrays = case
    outs = tuple_of(f(*[Tensor(x, requires_grad=True) for x in arrays]))
    assert name in {node.op.name for node in toposort(*outs) if node.op}
    for out, expected in zip(outs, tuple_of(f(*arrays)), strict=True):
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-14, atol=1e-15)
        assert (out.shape, out.dtype) == (np.shape(expected), np.float64)


@pytest.mark.parametrize(("name", "case"), EACH)
def test_derivatives_are_those_of_finite_differences(name, case):
    f, *arrays = case
    assert gradcheck(f, arrays, atol=1e-6, rtol=1e-6, second_order=True)


def scaled(rule):
    """A rule that is wrong by 0.05 %."""
    if isinstance(rule, Together):
        return Together(lambda uses: rule.rule(uses) * 1.0005, alone=scaled(rule.alone))

    def wrong(*args, **params):
        share = rule(*args, **params)
        return (lambda i: share(i) * 1.0005) if callable(share) else None if share is None else share * 1.0005

    return rule and wrong


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, row in TABLE.items() for i, rule in enumerate(row.rules) if rule])
def test_a_rule_that_is_slightly_wrong_is_caught(name, i, monkeypatch):
    row = TABLE[name]
    monkeypatch.setattr(row, "rules", tuple(scaled(rule) if i == j else rule for j, rule in enumerate(row.rules)))
    with pytest.raises(GradcheckError, match=r"WRONG in \d+ of \d+, worst at"):
        all(gradcheck(f, arrays, atol=1e-6, rtol=1e-6) for f, *arrays in CASES[name])


def gradient(f, *inputs):
    leaves = [Tensor(x, requires_grad=True, dtype=float) for x in inputs]
    f(*leaves).sum().backward()
    return [leaf.grad.data.tolist() for leaf in leaves]


@pytest.mark.parametrize(
    ("f", "inputs", "expected"),
    [
        (tg.relu, [[-1, 0, 1]], [[0, 0, 1]]),
        (abs, [[-1, 0, 1]], [[-1, 0, 1]]),
        (np.maximum, [[1, 2, 3], [2, 2, 2]], [[0, 0.5, 1], [1, 0.5, 0]]),
        (np.minimum, [[1, 2, 3], [2, 2, 2]], [[1, 0.5, 0], [0, 0.5, 1]]),
        (lambda x: np.maximum(x, x), [[1, 2]], [[1, 1]]),
        (lambda x, low, high: np.clip(x, low, high), [[-2, -1, 0, 1, 2], -1, 1], [[0, 1, 1, 1, 0], 1, 1]),
        (lambda x: x.max(), [[3, 1, 3]], [[0.5, 0, 0.5]]),
        (lambda x: x.min(axis=1), [[[1, 1], [2, 1]]], [[[0.5, 0.5], [0, 1]]]),
        (lambda x: x.max(axis=(0, 1)), [[[1, 1], [1, 1]]], [[[0.25, 0.25], [0.25, 0.25]]]),
        (lambda x, y: x**y, [[0, 0], [0, 2]], [[0, 0], [0, 0]]),
        (lambda x: np.where(x > 0, x, 0), [[-1, 2]], [[0, 1]]),
        (lambda x: np.sign(x) * x, [[-2, 3]], [[-1, 1]]),
    ],
)
def test_the_convention_at_a_kink(f, inputs, expected):
    assert gradient(f, *inputs) == expected


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (np.std, [2, 2, 2], [0, 0, 0]),
        (lambda x: np.std(x, axis=0), [[1]], [[0]]),
        (np.linalg.norm, [0, 0], [0, 0]),
        (lambda x: np.linalg.norm(x, 3), [0, 0], [0, 0]),
        (lambda x: np.linalg.norm(x, np.inf), [2, -2], [0.5, -0.5]),
        (np.sinc, [0], [0]),
        (np.nanmax, [1, np.nan, 1], [0.5, 0, 0.5]),
        (np.nanmean, [1, np.nan, 3], [0.5, 0, 0.5]),
        (np.nanstd, [1, np.nan, 1], [0, 0, 0]),
        (np.median, [3, 1, 2, 9], [0.5, 0, 0.5, 0]),
        (np.median, [2, 2, 2], [0, 1, 0]),
        (np.sort, [2, 1], [1, 1]),
        (np.ptp, [1, 1], [0, 0]),
        (np.cumprod, [0, 0, 2], [1, 0, 0]),
        (lambda x: np.fmax(x, 1), [0, 1, np.nan], [0, 0.5, 0]),
        (lambda x: np.nan_to_num(x) / 2, [1, np.nan, np.inf], [0.5, 0, 0]),
        (lambda x: np.mod(x, 2) + np.floor(x), [0, 3.5], [1, 1]),
        (lambda x: np.copysign(x, -1), [-2, 3], [1, -1]),
        (lambda x: np.triu(x), [[1, 2], [np.inf, 4]], [[1, 1], [0, 1]]),
        (np.linalg.det, [[0, 0], [0, 2]], [[2, 0], [0, 0]]),
        (np.linalg.det, [[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        (lambda x: np.linalg.norm(x, "nuc"), [[1, 0], [0, 1]], [[1, 0], [0, 1]]),
        (np.linalg.eigvalsh, [[1, 0], [0, 1]], [[1, 0], [0, 1]]),
        (lambda x: np.linalg.eigh(x)[0], [[1, 0], [0, 1]], [[1, 0], [0, 1]]),
    ],
)
def test_the_convention_at_zeros_ties_and_nans(f, x, expected):
    np.testing.assert_allclose(gradient(f, x)[0], expected, atol=1e-15)


def test_sinc_is_exact_near_zero_to_the_second_order():
    x = np.array([1e-12, 1e-6, 1e-3])
    leaf = Tensor(x, requires_grad=True)
    np.sinc(leaf).sum().backward(create_graph=True)
    slope, leaf.grad = leaf.grad, None
    np.testing.assert_allclose(slope.numpy(), -(np.pi**2) * x / 3 + np.pi**4 * x**3 / 30, rtol=1e-10)
    slope.sum().backward()
    np.testing.assert_allclose(leaf.grad.numpy(), -(np.pi**2) / 3 + np.pi**4 * x**2 / 10, rtol=1e-10)


def test_a_long_product_and_its_gradient_take_linear_memory():
    x = np.full(20_000, 1.0)
    assert gradient(np.prod, x)[0] == x.tolist()


def test_sigmoid_is_stable_and_exact():
    x = np.array([-1000.0, -700.0, -1.0, 0.0, 1.0, 700.0, 1000.0])
    out = tg.sigmoid(Tensor(x)).data
    assert out.tolist() == [0.0, 0.0, *out[2:5], 1.0, 1.0]
    np.testing.assert_allclose(out[2:5], [0.2689414213699951, 0.5, 0.7310585786300049], rtol=1e-15)
    assert gradient(tg.sigmoid, x[[0, -1]]) == [[0.0, 0.0]]


def test_where_does_not_spoil_the_branch_that_was_taken():
    x = Tensor([-1.0, 4.0], requires_grad=True)
    np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0).sum().backward()
    assert x.grad.data.tolist() == [0.0, 0.25]


def test_nothing_but_a_float_carries_a_gradient():
    x = Tensor([1.7, -2.3], requires_grad=True)
    assert not x.astype(np.int64).requires_grad
    (x.astype(int) * x).sum().backward()
    assert x.grad.data.tolist() == [1.0, -2.0]


def test_the_shares_of_logaddexp_are_right_for_large_numbers_and_keep_small_ones():
    for f, unit in [(np.logaddexp, 1), (np.logaddexp2, np.log(2))]:
        x, y = (Tensor(np.array(v, "f4"), requires_grad=True) for v in ([1e7, -3e7, 40, np.inf], [1e7, -3e7, 0, 1]))
        f(x, y).sum().backward()
        np.testing.assert_allclose(x.grad.data, [0.5, 0.5, 1, 1], rtol=1e-6)
        np.testing.assert_allclose(y.grad.data, [0.5, 0.5, np.exp(-40 * unit), 0], rtol=1e-5)
