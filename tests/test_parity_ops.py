"""The table against PyTorch's autograd in float64, where torch is installed: the corners where conventions could differ."""

import itertools

import numpy as np
import pytest

from tinygrad_rnn.tensor import Tensor

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

rng = np.random.default_rng(0)


def compare(ours, theirs, *arrays, second=True, rtol=1e-9):
    """Values, gradients and the gradients of a function of the gradients."""
    xs = [Tensor(array, requires_grad=True, dtype=float) for array in arrays]
    ts = [torch.tensor(np.asarray(array, float), requires_grad=True) for array in arrays]
    out, expected = ours(*xs), theirs(*ts)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=rtol, atol=1e-12)

    seed = np.asarray(rng.normal(size=out.shape))
    out.backward(seed, create_graph=second)
    grads = torch.autograd.grad(
        expected, ts, torch.tensor(seed), create_graph=second, allow_unused=True, materialize_grads=True
    )
    firsts = [Tensor(np.zeros(x.shape)) if x.grad is None else x.grad for x in xs]
    for first, grad in zip(firsts, grads, strict=True):
        np.testing.assert_allclose(first.numpy(), grad.detach().numpy(), rtol=rtol, atol=1e-12)
    if second:
        penalty, target = sum((g * g).sum() for g in firsts), sum((g * g).sum() for g in grads)
        if not (penalty.requires_grad and target.requires_grad):
            return
        for x in xs:
            x.grad = None
        penalty.backward()
        seconds = torch.autograd.grad(target, ts, allow_unused=True, materialize_grads=True)
        for x, grad in zip(xs, seconds, strict=True):
            np.testing.assert_allclose(0 if x.grad is None else x.grad.numpy(), grad.numpy(), rtol=rtol, atol=1e-12)


LEFT = [(3,), (2, 3), (4, 2, 3), (1, 2, 3), (5, 1, 2, 3)]
RIGHT = [(3,), (3, 2), (4, 3, 2), (1, 3, 2), (5, 4, 3, 1)]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(LEFT, RIGHT)))
def test_matmul(a, b):
    a, b = rng.normal(size=a), rng.normal(size=b)
    compare(lambda a, b: a @ b, lambda a, b: a @ b, a, b)
    compare(lambda a, b: np.tanh(a @ b) + (a * 2) @ b, lambda a, b: torch.tanh(a @ b) + (a * 2) @ b, a, b)


def same(f, *arrays, **kwargs):
    """A function that reads the same in both."""
    compare(f, f, *arrays, **kwargs)


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        slice(1, 3),
        (slice(None), 1),
        (..., None, 0),
        [0, 0, 2],
        ([0, 3, 0], [1, 1, 1]),
        (slice(None), [0, 0]),
        ([[0, 1], [1, 1]],),
    ],
)
def test_indexing(key):
    def as_torch(part):
        return torch.tensor(part) if isinstance(part, list) else part

    parts = tuple(map(as_torch, key)) if isinstance(key, tuple) else as_torch(key)
    compare(lambda x: x[key] ** 2, lambda x: x[parts] ** 2, rng.normal(size=(4, 3)))


def test_boolean_masks():
    x = rng.normal(size=(4, 3))
    compare(lambda t: t[x > 0] ** 3, lambda t: t[torch.tensor(x > 0)] ** 3, x)
    compare(lambda t: t[x[:, 0] > 0] ** 3, lambda t: t[torch.tensor(x[:, 0] > 0)] ** 3, x)


TIED = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-1.0, 0.0, -1.0]]


def test_ties_share_the_gradient():
    compare(lambda x: x.max(axis=1), lambda x: x.amax(dim=1), TIED, second=False)
    compare(lambda x: x.min(axis=0), lambda x: x.amin(dim=0), TIED, second=False)
    compare(lambda x: x.max(), lambda x: x.amax(), TIED, second=False)
    compare(np.maximum, torch.maximum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], second=False)
    compare(np.minimum, torch.minimum, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0], second=False)


def test_kinks():
    x = [-2.0, -1.0, 0.0, 1.0, 2.0]
    compare(lambda x: np.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1), x)
    compare(lambda x: np.clip(x, None, 1), lambda x: torch.clamp(x, max=1), x)
    compare(
        lambda x, low, high: np.clip(x, low, high),
        torch.clamp,
        [-2.0, 0.5, 3.0],
        [-1.0, -1.0, -1.0],
        [1.0, 1.0, 1.0],
        second=False,
    )
    compare(lambda x, low, high: np.clip(x, low, high), torch.clamp, [0.0, 2.0, 5.0], [3.0] * 3, [1.0] * 3, second=False)
    compare(abs, torch.abs, x)
    from tinygrad_rnn import relu, sigmoid

    compare(relu, torch.relu, x)
    compare(sigmoid, torch.sigmoid, [-1000.0, -20.0, 0.0, 1.0, 1000.0])
    compare(np.tanh, torch.tanh, [-100.0, 0.0, 3.0])


@pytest.mark.parametrize("x", [[[0.0, 2, 3], [0, 0, 3], [0, 0, 0]], [[1.0, -2, 3], [4, 5, 6], [1, 0, 1]]])
def test_prod_with_zeros(x):
    compare(lambda x: x.prod(axis=1), lambda x: x.prod(dim=1), x)
    compare(lambda x: x.prod(axis=0, keepdims=True), lambda x: x.prod(dim=0, keepdim=True), x)
    compare(lambda x: x.prod(), lambda x: x.prod(), x)


@pytest.mark.parametrize("p", [0, 1, 2, 3, 0.5, -1, 2.0])
def test_powers(p):
    same(lambda x: x**p, [1.0, 2.0, 0.25])
    if p in (0, 1, 2, 3):
        same(lambda x: x**p, [-1.0, 0.0, 2.0])


def test_powers_of_powers():
    same(lambda x, y: x**y, [0.5, 1.0, 2.0], [-1.0, 0.0, 2.5])
    same(lambda x, y: x**y, [0.0, 0.0], [1.0, 2.0], second=False)
    same(lambda x: 2**x, [-1.0, 0.0, 2.5])
    same(lambda x: 0**x, [1.0, 2.5], second=False)  # PyTorch has NaN there


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(2, 2, 3), (2, 3, 2)]),
        ("ii->i", [(3, 3)]),
        ("ij->", [(2, 3)]),
        ("...ij,...jk->...ik", [(2, 2, 3), (3, 2)]),
        ("i,j,k->ikj", [(2,), (3,), (2,)]),
        ("iij,jk->k", [(2, 2, 3), (3, 2)]),
        ("ij,ij->i", [(2, 3), (2, 3)]),
        ("tbe,eh->tbh", [(3, 2, 2), (2, 4)]),
        ("ij,kl->l", [(2, 2), (3, 2)]),
        ("ij->ji", [(2, 3)]),
    ],
)
def test_einsum(spec, shapes):
    arrays = [rng.normal(size=shape) for shape in shapes]
    compare(lambda *xs: np.einsum(spec, *xs), lambda *xs: torch.einsum(spec, *xs), *arrays)


def test_shapes():
    x, y = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))
    compare(lambda x: np.moveaxis(x, 0, -1) ** 2, lambda x: torch.movedim(x, 0, -1) ** 2, x)
    compare(lambda x: x.transpose(2, 0, 1) ** 2, lambda x: x.permute(2, 0, 1) ** 2, x)
    compare(lambda x: np.broadcast_to(x, (2, 2, 3, 4)) ** 2, lambda x: x.expand(2, 2, 3, 4) ** 2, x)
    compare(lambda x, y: np.concatenate([x * y, y], axis=1), lambda x, y: torch.cat([x * y, y], dim=1), x, y)
    compare(lambda x, y: np.stack([x * y, y], axis=-1), lambda x, y: torch.stack([x * y, y], dim=-1), x, y)
    compare(lambda x: np.split(x, 2, axis=-1)[0] ** 2, lambda x: torch.chunk(x, 2, dim=-1)[0] ** 2, x)
    compare(lambda x: x.var(axis=1, ddof=1), lambda x: x.var(dim=1), x)
    compare(lambda x: x.std(axis=(0, 2)), lambda x: x.std(dim=(0, 2), correction=0), x)
    compare(lambda x, y: np.where(x > y, x * y, y), lambda x, y: torch.where(x > y, x * y, y), x, y)
    compare(np.logaddexp, torch.logaddexp, x, y)


@pytest.mark.parametrize(
    "name",
    ["arctan", "arcsinh", "cosh", "exp2", "expm1", "log1p", "reciprocal", "sinc", "sinh", "square", "tan"],
)
def test_elementwise(name):
    compare(getattr(np, name), getattr(torch, name), [-0.9, -0.3, 0.1, 0.5, 0.9])


@pytest.mark.parametrize("name", ["arccos", "arcsin", "arctanh", "log", "log2", "log10", "sqrt"])
def test_elementwise_within_bounds(name):
    compare(getattr(np, name), getattr(torch, name), [0.1, 0.5, 0.9])


@pytest.mark.parametrize("name", ["arctan2", "fmax", "fmin", "hypot", "logaddexp2", "fmod", "remainder", "float_power"])
def test_pairs(name):
    compare(getattr(np, name), getattr(torch, name), [0.5, 3.7, 2.5], [1.5, 2.0, 0.7])


def test_accumulations():
    x = [[0.5, 0.0, 2.0], [1.5, 3.0, 0.0]]
    compare(lambda x: np.cumsum(x, 1) ** 2, lambda x: torch.cumsum(x, 1) ** 2, x)
    compare(lambda x: np.cumprod(x, 1), lambda x: torch.cumprod(x, 1), x)
    compare(lambda x: np.diff(x, axis=0) ** 2, lambda x: torch.diff(x, dim=0) ** 2, x)
    compare(lambda x: np.gradient(x, axis=1) ** 2, lambda x: torch.gradient(x, dim=1)[0] ** 2, x)
    compare(np.trapezoid, torch.trapezoid, x)


def test_statistics_where_they_have_a_kink():
    compare(lambda x: x.std(axis=1), lambda x: x.std(dim=1, correction=0), [[2.0, 2.0, 2.0], [1.0, 2.0, 4.0]])
    compare(np.linalg.norm, torch.linalg.norm, [0.0, 0.0], second=False)
    compare(lambda x: np.nansum(x, 1), lambda x: torch.nansum(x, 1), [[1.0, np.nan], [2.0, 3.0]], second=False)
    compare(lambda x: np.sort(x, axis=0), lambda x: torch.sort(x, dim=0).values, [[2.0, 1.0], [0.5, 3.0]])


def test_places():
    x = rng.normal(size=(3, 4))
    compare(lambda x: np.roll(x, (1, -2), (0, 1)) ** 2, lambda x: torch.roll(x, (1, -2), (0, 1)) ** 2, x)
    compare(lambda x: np.rot90(x, 3) ** 2, lambda x: torch.rot90(x, 3) ** 2, x)
    compare(lambda x: np.tile(x, (2, 2)) ** 2, lambda x: torch.tile(x, (2, 2)) ** 2, x)
    compare(lambda x: np.repeat(x, 2, 1) ** 2, lambda x: torch.repeat_interleave(x, 2, 1) ** 2, x)
    compare(lambda x: np.tril(x, 1) ** 2, lambda x: torch.tril(x, 1) ** 2, x)
    compare(lambda x: np.diagonal(x, 1) ** 2, lambda x: torch.diagonal(x, 1) ** 2, x)
    compare(lambda x: np.pad(x, 2, "wrap") ** 2, lambda x: torch.nn.functional.pad(x[None], (2,) * 4, "circular")[0] ** 2, x)
    compare(np.kron, torch.kron, x, rng.normal(size=(2, 2)))
    compare(lambda x: np.tensordot(x, x, 2), lambda x: torch.tensordot(x, x, 2), x)


def test_linear_algebra():
    x = rng.normal(size=(2, 3, 3)) + 3 * np.eye(3)
    s = x @ x.swapaxes(1, 2)
    b = rng.normal(size=(2, 3, 2))
    for name in ("det", "inv", "pinv", "svdvals"):
        compare(getattr(np.linalg, name), getattr(torch.linalg, name), x)
    compare(lambda x: np.linalg.slogdet(x)[1], lambda x: torch.linalg.slogdet(x)[1], x)
    compare(np.linalg.solve, torch.linalg.solve, x, b)
    compare(lambda x: np.linalg.cholesky(x @ x.swapaxes(1, 2)), lambda x: torch.linalg.cholesky(x @ x.mT), x)
    compare(lambda x: np.linalg.eigvalsh(x + x.swapaxes(1, 2)), lambda x: torch.linalg.eigvalsh(x + x.mT), s)
    compare(lambda x: np.linalg.eigh(x @ x.swapaxes(1, 2))[1] ** 2, lambda x: torch.linalg.eigh(x @ x.mT)[1] ** 2, x)
    compare(
        lambda x: np.linalg.svd(x[:, :2], full_matrices=False)[2] ** 2,
        lambda x: torch.linalg.svd(x[:, :2], full_matrices=False)[2] ** 2,
        x,
        rtol=1e-8,
    )
    for ord in (1, 2, np.inf, "fro", "nuc"):
        compare(lambda x, o=ord: np.linalg.norm(x, o, (1, 2)), lambda x, o=ord: torch.linalg.norm(x, o, (1, 2)), x)
    for ord in (1, 2, 3, 0.5, np.inf):
        compare(lambda x, o=ord: np.linalg.norm(x, o, 1), lambda x, o=ord: torch.linalg.norm(x, o, 1), x)


def test_a_graph_that_uses_everything_twice():
    def ours(x, w):
        h = np.tanh(x @ w.T) + x[:, :1]
        a, b = np.split(h * h, 2, axis=1)
        return (a @ w[:2] * np.exp(-abs(b)).sum(axis=1, keepdims=True)).mean(axis=0) + w.max(axis=0)

    def theirs(x, w):
        h = torch.tanh(x @ w.T) + x[:, :1]
        a, b = torch.chunk(h * h, 2, dim=1)
        return (a @ w[:2] * torch.exp(-abs(b)).sum(dim=1, keepdim=True)).mean(dim=0) + w.amax(dim=0)

    compare(ours, theirs, rng.normal(size=(3, 5)), rng.normal(size=(4, 5)))
