"""tg.compile is right for any cell: a table of cells, each a trap, and random ones; values and all gradients are those of the
unrolled layer, which has its own oracles."""

import random
from functools import partial

import numpy as np
import pytest
from conftest import IN_C

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import functional as F
from tinygrad_rnn.nn import zoo

pytestmark = pytest.mark.parametrize("target", ["numpy", "chunks", IN_C], indirect=True)
T, N, E = 4, 3, 3


def flatten(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    return [x for item in value for x in flatten(item)] if isinstance(value, tuple) else [value]


def results(call, layer, x, hx=None, **options):
    """All that a call gives, and then the gradients of x, of the initial state and of the parameters."""
    tg.manual_seed(0)
    for p in layer.parameters():
        p.grad = None
    x = tg.Tensor(x, requires_grad=True)
    states = [] if hx is None else [tg.Tensor(h, requires_grad=True) for h in flatten(hx)]
    given = None if hx is None else tuple(states) if isinstance(hx, tuple) else states[0]
    outs = flatten(call(x, given, **options))
    rng = np.random.default_rng(1)
    sum((out * rng.normal(size=out.shape).astype(out.dtype)).sum() for out in outs).backward()
    leaves = [x, *states, *layer.parameters()]
    values, grads = [out.data for out in outs], [np.zeros(v.shape) if v.grad is None else v.grad.data for v in leaves]
    for i, grad in enumerate(grads):  # each may be edited in place
        assert grad.flags.c_contiguous
        assert not any(np.may_share_memory(grad, other) for other in values + grads[:i])
    return values + grads


def agree(layer, x, hx=None, compiled=None, tolerance=1e-11, **options):
    """The compiled layer gives what the layer gives."""
    expected = results(layer, layer, x, hx, **options)
    found = results(compiled or tg.compile(layer), layer, x, hx, **options)
    assert len(found) == len(expected)
    assert any(b.any() for b in expected) or not np.size(x)  # zeros would agree with anything that was left out
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)), err_msg=f"result {i}"
        )


class Written(nn.Module):
    """A cell whose step is a function of the cell, x and the state."""

    def __init__(self, step, size=2, features=E, dtype=np.float64):
        rng = np.random.default_rng(0)
        self.state_size, self.step = size, step
        h = size[0] if isinstance(size, tuple) else size
        self.linear = nn.Linear(features + h, 2 * h, dtype=dtype)
        self.own = nn.Linear(features, h, bias=False, dtype=dtype)
        self.norm = nn.LayerNorm(h, dtype=dtype)
        self.p = nn.Parameter(rng.normal(size=h).astype(dtype))
        self.square = nn.Parameter(rng.normal(size=(h, h)).astype(dtype))
        self.scalar = nn.Parameter(np.array(0.7, dtype))
        self.constant = rng.normal(size=h).astype(dtype)

    def z(self, x, h):
        return self.linear(np.concatenate([x, h], axis=-1))

    def n(self, x, h):
        return np.tanh(self.z(x, h)[:, : h.shape[1]])

    def forward(self, x, state):
        return self.step(self, x, state)


def states(layer, rng, n=N):
    widths = layer.state_size if isinstance(layer.state_size, tuple) else (layer.state_size,)
    made = tuple(rng.normal(size=(len(layer.cells), n, w)) for w in widths)
    return made if isinstance(layer.state_size, tuple) else made[0]


# -- a table of steps ---------------------------------------------------------------------------------------------------------


ONE = {  # of one state, two wide
    "elman": lambda c, x, h: c.n(x, h),
    "two halves": lambda c, x, h: tg.sigmoid(c.z(x, h)[:, :2]) * np.tanh(c.z(x, h)[:, 2:]),
    "split": lambda c, x, h: (lambda a, b: tg.sigmoid(a) * h + (1 - tg.sigmoid(a)) * np.tanh(b))(
        *np.split(c.z(x, h), 2, axis=-1)
    ),
    "twice in a step": lambda c, x, h: c.n(x, c.n(x, h)),
    "a loop in the step": lambda c, x, h: [h := c.n(x, h) for _ in range(3)][-1],
    "leaky": lambda c, x, h: 0.9 * h + 0.1 * c.n(x, h),
    "linear": lambda c, x, h: 0.5 * h + c.own(x),
    "norm": lambda c, x, h: np.tanh(c.norm(c.z(x, h)[:, :2] + h)),
    "norm of a product": lambda c, x, h: np.tanh(c.norm(h @ c.square) + c.norm(F.linear(x, c.own.weight))),
    "norm of a product that is read": lambda c, x, h: (lambda z: np.tanh(c.norm(z) + z))(h @ c.square.T),
    "norm of weights": lambda c, x, h: np.tanh(h @ c.norm(c.square.T @ c.square) + c.own(x)),
    "mean of a sum of squares": lambda c, x, h: c.n(x, h) / np.sqrt((h * h).mean(axis=-1, keepdims=True) + 1),
    "a number at each step": lambda c, x, h: c.n(x, h) * h.mean() + np.tanh(h).max(),
    "small divisors": lambda c, x, h: (h * 0 / (1e-310 + 0 * x[:, :1])).detach() + c.n(x, h),
    "softmax": lambda c, x, h: F.softmax(c.z(x, h)[:, 1:3] + h, axis=-1),
    "logsumexp": lambda c, x, h: c.n(x, h) - tg.logsumexp(h, axis=-1, keepdims=True),
    "reductions": lambda c, x, h: (
        c.n(x, h) * h.max(axis=-1, keepdims=True) + h.std(axis=-1)[:, None] - x.min(axis=1, keepdims=True)
    ),
    "the largest of a row": lambda c, x, h: c.n(x, h) * h.max(axis=-1, keepdims=True) - (h * h).min(axis=-1, keepdims=True),
    "prod": lambda c, x, h: c.n(x, h) + np.prod(h, axis=-1, keepdims=True),
    "where": lambda c, x, h: np.where(h > x[:, :2], c.n(x, h), 0.2 * h),
    "clip": lambda c, x, h: np.clip(2 * c.n(x, h), -0.5, 0.7),
    "relu": lambda c, x, h: tg.relu(c.z(x, h)[:, :2]),
    "relu at ties": lambda c, x, h: c.n(x, h) + tg.relu(h * 0),
    "maximum": lambda c, x, h: np.maximum(c.n(x, h), h),
    "with the sign of the other": lambda c, x, h: np.copysign(c.n(x, h), h),
    "quotients and remainders": lambda c, x, h: (lambda q, r: 0.1 * q + r)(*np.divmod(3 * c.n(x, h), 0.7)),
    "before and after the point": lambda c, x, h: (lambda r, q: 0.1 * q + r)(*np.modf(3 * c.n(x, h))),
    "powers": lambda c, x, h: c.n(x, h) ** 2 - np.tanh(h) ** 3 + 2.0 ** -(h * h),
    "transcendental": lambda c, x, h: np.sin(c.n(x, h)) * np.log1p(h * h) - np.arctan2(h, 2 + x[:, :2]) + np.expm1(-h * h),
    "scalar parameter": lambda c, x, h: c.scalar * c.n(x, h) + c.p * h,
    "row of parameters": lambda c, x, h: np.tanh(c.z(x, h)[:, :2] * c.p[None]),
    "constant": lambda c, x, h: c.constant * c.n(x, h) + np.arange(2.0),
    "infinity": lambda c, x, h: np.minimum(((h * h + 1) * np.inf).detach(), c.n(x, h)),
    "a flag as condition": lambda c, x, h: np.where(True, c.n(x, h), 0.5 * h),
    "a number as condition": lambda c, x, h: np.where(h, c.n(x, h), 0.5 * h),
    "whole numbers": lambda c, x, h: c.n(x, h) * (2 * h).astype(int) + (h > 0).astype(int),
    "truth values squared": lambda c, x, h: c.n(x, h) * ((h > 0) ** 2 + (h > -1) ** 2),
    "parameters that are no text": lambda c, x, h: np.nan_to_num(np.nan_to_num(c.n(x, h), nan=np.nan), nan=np.float64(0.5)),
    "detach": lambda c, x, h: c.n(x, h.detach()) + 0.1 * h,
    "straight through": lambda c, x, h: (lambda n: n + (np.sign(n) - n).detach())(c.n(x, h)),
    "no_grad inside": lambda c, x, h: c.n(x, h) * without_gradient(lambda: 2 * h),
    "gradient inside": lambda c, x, h: h - 0.1 * tg.grad(lambda q: (c.n(x, q) ** 2).sum())(h),
    "stack": lambda c, x, h: np.stack([c.n(x, h), h], axis=1).mean(axis=1),
    "slots": lambda c, x, h: attention(h, np.stack([h, c.n(x, h), h * h], axis=1)),
    "products of three axes": lambda c, x, h: (lambda m: np.tanh((m @ np.swapaxes(m, 1, 2)) @ m)[:, 0])(
        np.stack([h, c.n(x, h)], axis=1)
    ),
    "einsum": lambda c, x, h: np.einsum("ni,nj->nij", c.n(x, h), h).sum(axis=1),
    "transposed": lambda c, x, h: (c.n(x, h).T * c.constant[:, None]).T,
    "flat": lambda c, x, h: c.n(x, h).reshape(-1).reshape(-1, 2),
    "reversed": lambda c, x, h: c.n(x, h[:, ::-1]) + c.n(x, h)[:, ::-1],
    "rolled": lambda c, x, h: np.roll(h, 1, axis=-1) * 0.5 + c.own(x),
    "cumsum": lambda c, x, h: np.cumsum(c.n(x, h), axis=-1) - h,
    "pad and tile": lambda c, x, h: np.pad(c.n(x, h), ((0, 0), (1, 0)))[:, :2] + np.tile(h[:, 1:], (1, 2)),
    "over the batch": lambda c, x, h: c.n(x, h) - c.n(x, h).mean(axis=0),
    "unchanged": lambda c, x, h: h,
    "input alone": lambda c, x, h: np.tanh(c.own(x)),
    "input as it is": lambda c, x, h: x[:, :2],
    "sum of the input": lambda c, x, h: h + x[:, :2],
    "tanh of a sum": lambda c, x, h: np.tanh(h + c.own(x)),
    "parameters alone": lambda c, x, h: np.broadcast_to(np.tanh(c.p), h.shape),
    "reversed input": lambda c, x, h: c.n(x[:, ::-1], h),
    "a column of the mean": lambda c, x, h: c.n(x, h) * (0.5 + h.min(axis=1)[:, None]),
    "gates of one factor": lambda c, x, h: tg.sigmoid(c.z(x, h)[:, :1] * h) * tg.sigmoid(c.z(x, h)[:, 1:2] * h),
    "product with a vector": lambda c, x, h: c.n(x, h) * (h @ c.p).reshape(-1, 1),
    "sum of everything": lambda c, x, h: c.n(x, h) + 0.1 * h.sum(),
    "mean of everything": lambda c, x, h: (lambda n: n - n.mean())(c.n(x, h)),
    "a list as index": lambda c, x, h: c.n(x, h)[:, [1, 0]],
    "a mask as index": lambda c, x, h: h * 0.5 + c.n(x, h)[:, np.array([True, False])],
    "repeat": lambda c, x, h: np.repeat(c.n(x, h)[:, :1], 2, axis=1),
    "names that are taken": lambda c, x, h: sum(
        ((0.1 * h * i).named(name) for i, name in enumerate(["np", "T", "x y", "empty", "saved", "dot", "for", "é", "tanh"])),
        c.n(x, h),
    ),
}

TWO = {  # of states (2, 2)
    "lstm": lambda c, x, h, s: (lambda new: (tg.sigmoid(c.z(x, h)[:, :2]) * np.tanh(new), new))(0.8 * s + c.n(x, h)),
    "a state passed through": lambda c, x, h, s: (np.tanh(c.own(x) + h * s), s),
    "one new state twice": lambda c, x, h, s: (c.n(x, h * s),) * 2,
    "the first reads the second": lambda c, x, h, s: (np.tanh(s), np.tanh(c.own(x) + h * s)),
    "a counter": lambda c, x, h, s: (c.n(x, h) / (1 + s * s), s + 1),
    "swapped": lambda c, x, h, s: (s, h),
    "delayed": lambda c, x, h, s: (np.tanh(c.own(x) + s), h),
    "a leaky trace": lambda c, x, h, s: (c.n(x, h * s), 0.9 * s + 0.1 * c.own(x)),
    "the last two inputs": lambda c, x, h, s: (c.own(x), h),
    "a second state of parameters": lambda c, x, h, s: (np.tanh(c.own(x) + h * s), np.broadcast_to(np.tanh(c.p), h.shape)),
}


NOT_IN_C = {
    "a list as index", "a mask as index", "a number at each step", "cumsum", "einsum",
    "mean of everything", "over the batch", "pad and tile", "prod", "products of three axes",
    "repeat", "reversed", "reversed input", "slots", "stack", "sum of everything", "transposed",
    "truth values squared",
}  # fmt: skip


def without_gradient(f):
    with tg.no_grad():
        return f()


def attention(query, slots):
    weights = F.softmax((slots * query[:, None]).sum(axis=-1), axis=-1)
    return (weights[:, :, None] * slots).sum(axis=1)


@pytest.fixture(autouse=True)
def target(request, monkeypatch):
    """Programs of C; or of NumPy, where what is computed at once is computed for all steps, or in chunks, as where a cache is
    too small."""
    if request.param == "chunks":
        monkeypatch.setattr("tinygrad_rnn.compiler.emit.CACHE", 2 * 2 * N)
    name = "c" if request.param == "c" else "numpy"
    monkeypatch.setattr(tg, "compile", partial(tg.compile, target=name))
    return name


def in_every_call(layer):
    """Zeros or a state to begin with, lengths, a state at every step, a single step, a single sample."""
    rng, compiled = np.random.default_rng(0), tg.compile(layer)
    x, hx = rng.normal(size=(T, N, E)), states(layer, rng)
    lengths, record = {"lengths": [2, 4, 1]}, {"record": ("state0",)}
    for x_, hx_, options in [
        (x, hx, {}),
        *((x, hx, options) for options in ([lengths | record] if compiled.target == "c" else [lengths, record])),
        (x[:1], hx, {}),
        (x[:, :1], states(layer, rng, 1), {}),
    ]:
        agree(layer, x_, hx_, compiled, **options)


@pytest.mark.parametrize("name", ONE)
def test_one_state(name, target):
    layer = nn.Recurrent(Written(ONE[name]))
    if target == "c" and name in NOT_IN_C:
        with pytest.raises(tg.CompileError, match=r"py:\d+.* needs .* in every step, which cannot be written in C"):
            in_every_call(layer)
    else:
        in_every_call(layer)


@pytest.mark.parametrize(
    "read", [lambda a, c: a @ c.square, lambda a, c: a.mean(axis=1, keepdims=True)], ids=["product", "mean"]
)
def test_what_is_joined_with_double_precision_is_read_in_single(read):
    def step(c, x, h):
        a = np.tanh(c.own(x) + h)
        both = np.concatenate([a, 0.3 * np.ones(h.shape) * h], axis=1).astype(np.float32)
        return np.tanh(h * read(a, c) + both[:, :2] + both[:, 2:])

    layer, rng = nn.Recurrent(Written(step, dtype=np.float32)), np.random.default_rng(0)
    x, h = (rng.normal(size=size).astype(np.float32) for size in [(T, N, E), (1, N, 2)])
    agree(layer, x, h, tolerance=1e-5)


def test_whether_a_value_is_a_number_is_asked_of_every_input():
    layer = nn.Recurrent(Written(lambda c, x, h: np.concatenate([np.fmax(x, 0 * h), np.fmin(0 * h, x)], axis=1)[:, 1:4], 3))
    y, _ = tg.compile(layer)(np.array([[[5.0, np.nan, -1]], [[np.nan, 5, np.nan]]]))
    np.testing.assert_array_equal(y.data[:, 0], [[0, 0, 0], [5, 0, 0]])


@pytest.mark.parametrize("step", TWO.values(), ids=TWO)
def test_two_states(step):
    in_every_call(nn.Recurrent(Written(lambda c, x, state: step(c, x, *state), (2, 2))))


ZONED = [
    ("a state that the past does not reach", lambda c, x, h, s: (np.tanh(c.own(x) + h), np.tanh(h))),
    ("both states", lambda c, x, h, s: (np.tanh(c.own(x) + h * s), np.tanh(s + h))),
]


@pytest.mark.parametrize(
    ("step", "rates"),
    [
        pytest.param(
            ZONED[0][1],
            (0.0, 0.5),
            id=ZONED[0][0],
        ),
        pytest.param(ZONED[1][1], (0.3, 0.5), id=ZONED[1][0]),
    ],
)
def test_zoneout_of_states(step, rates):
    layer = nn.Recurrent(Written(lambda c, x, state: step(c, x, *state), (2, 2)), zoneout=rates)
    in_every_call(layer)
    in_every_call(layer.eval())


def test_outputs_of_another_size():
    class Doubled(Written):
        output_size = 4

        def output(self, state):
            return np.concatenate([state[1], 2 * state[0]], axis=-1)

    cell = Doubled(lambda c, x, state: (np.tanh(c.own(x) + state[0] * state[1]), np.tanh(state[0])), (2, 2))
    in_every_call(nn.Recurrent(cell))


def test_states_of_three_widths():
    def step(c, x, state):
        h, s, k = state
        new = c.n(x, h)
        return new, np.tanh(s * x + new.sum(axis=-1, keepdims=True)), k * new.mean(axis=-1, keepdims=True)

    in_every_call(nn.Recurrent(Written(step, (2, 3, 1))))


# -- the zoo, with every option -----------------------------------------------------------------------------------------------

CELLS = [
    nn.RNNCell,
    nn.LSTMCell,
    nn.GRUCell,
    zoo.PeepholeLSTMCell,
    zoo.CoupledLSTMCell,
    zoo.LayerNormLSTMCell,
    zoo.ForgetBiasLSTMCell,
    zoo.ResetBeforeGRUCell,
    zoo.MinimalGatedCell,
    zoo.IndRNNCell,
    zoo.JANETCell,
    zoo.LeakyCell,
]
OPTIONS = {
    "plain": {},
    "deep": {"num_layers": 3, "bidirectional": True, "dropout": 0.3},
    "batch first": {"batch_first": True, "bidirectional": True},
    "masks": {"recurrent_dropout": 0.3, "zoneout": 0.3, "num_layers": 2},
    "learned": {"learn_initial_state": True, "bidirectional": True, "zoneout": 0.2},
}


def test_the_table_has_the_whole_zoo():
    assert {v for v in vars(zoo).values() if isinstance(v, type) and v.__module__ == zoo.__name__} <= set(CELLS)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)
def test_cells_in_every_option(kind, options, target):
    if target == "c" and options not in (OPTIONS["deep"], OPTIONS["masks"]):
        pytest.skip("the others have the same C, and more")
    tg.manual_seed(0)
    layer = nn.Recurrent(lambda n: kind(n, 2, dtype=np.float64), E, **options)
    rng = np.random.default_rng(0)
    for p in layer.parameters():
        p.data = rng.normal(0.5, size=p.shape)  # so that no relu is dead throughout
    compiled = tg.compile(layer)
    x = rng.normal(size=(N, T, E) if layer.batch_first else (T, N, E))
    for hx in (None, states(layer, rng)):
        agree(layer, x, hx, compiled)
        agree(layer, x, hx, compiled, lengths=[2, 4, 1], record=("state0",))
    agree(layer, x[0], None, compiled)
    layer.eval()
    agree(layer, x, None, compiled)


# -- random cells -------------------------------------------------------------------------------------------------------------

UNARY = [
    np.tanh,
    tg.sigmoid,
    np.sin,
    np.abs,
    np.square,
    np.arctan,
    np.negative,
    lambda v: 1 - v,
    lambda v: v / 3 + 1,
    lambda v: np.sqrt(v * v + 1),
    lambda v: np.clip(v, -0.5, 0.7),
    lambda v: F.softmax(v, axis=-1),
    lambda v: v - v.mean(axis=-1, keepdims=True),
    lambda v: v * v.max(axis=-1, keepdims=True),
    lambda v: np.where(v > 0, v, 0.2 * v),
    lambda v: v.detach() + 0.1 * v,
]
BINARY = [
    np.add,
    np.subtract,
    np.multiply,
    np.maximum,
    np.minimum,
    lambda a, b: a / (1.5 + b * b),
    lambda a, b: np.where(a > b, a, b),
    lambda a, b: tg.sigmoid(a) * b,
    lambda a, b: b + tg.sigmoid(a) * (np.tanh(a) - b),
    lambda a, b: (a * b).sum(axis=-1, keepdims=True) * a,
]
UNARY_IN_NUMPY = [
    lambda v: np.cumsum(v, axis=-1),
    lambda v: v[:, ::-1],
    lambda v: np.roll(v, 1, axis=-1),
    lambda v: np.stack([v, 2 * v], axis=1).mean(axis=1),
    lambda v: v + np.arange(v.shape[-1]),
]
BINARY_IN_NUMPY = [np.logaddexp]


class RandomCell(nn.Module):
    """A step that a seed draws: ops on input, states, parameters and constants; then new states made of some of them."""

    def __init__(self, seed, features, in_c):
        self.seed, rng = seed, random.Random(seed)
        self.unary, self.binary = (UNARY, BINARY) if in_c else (UNARY + UNARY_IN_NUMPY, BINARY + BINARY_IN_NUMPY)
        widths = tuple(rng.randint(1, 4) for _ in range(rng.randint(1, 3)))
        self.state_size = widths if len(widths) > 1 else widths[0]
        self.made = nn.ModuleList()
        self.building = True
        zeros = tuple(tg.Tensor(np.zeros((1, n))) for n in widths)
        self(tg.Tensor(np.zeros((1, features))), zeros if len(zeros) > 1 else zeros[0])
        self.building = False

    def forward(self, x, state):
        rng, used = random.Random(self.seed + 1), iter(range(1000))
        old = state if isinstance(state, tuple) else (state,)

        def module(make):
            i = next(used)
            if self.building:
                self.made.append(make())
            return self.made[i]

        def wide(v, n):
            w, kind = v.shape[-1], rng.random()
            if w == n and kind < 0.8:
                return v
            if w > n and kind < 0.5:
                start = rng.randint(0, w - n)
                return v[:, start : start + n]
            return module(lambda: nn.Linear(w, n, bias=kind < 0.7, dtype=np.float64))(v)

        values = [x, *old]
        for _ in range(rng.randint(2, 8)):
            a, b, kind = rng.choice(values), rng.choice(values[-3:]), rng.random()
            if kind < 0.3:
                v = rng.choice(self.unary)(b)
            elif kind < 0.6:
                v = rng.choice(self.binary)(b, wide(a, b.shape[-1]))
            elif kind < 0.8:
                v = wide(np.concatenate([a, b], axis=-1), 4)
                left, v = np.split(v, 2, axis=-1)
                values.append(tg.sigmoid(left))
            elif kind < 0.9:
                v = module(lambda b=b: nn.LayerNorm(b.shape[-1], eps=0.1, dtype=np.float64))(b)
            else:
                v = b * np.linspace(-1, 1, b.shape[-1])
            values.append(np.tanh(v) if rng.random() < 0.6 else v)
        new = []
        for h in old:
            kind = rng.random()
            like = [v for v in old if v.shape == h.shape]
            fresh = np.tanh(wide(x if kind > 0.9 else rng.choice(values[-2:]), h.shape[-1]))
            new.append(rng.choice(like) if kind < 0.2 else 0.9 * h + 0.1 * fresh if kind < 0.3 else fresh)
        return tuple(new) if len(new) > 1 else new[0]


def random_case(seed, in_c=False):
    """A layer of a random cell with random options, and a call of it."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    tg.manual_seed(seed)
    options = {
        name: rng.random() < 0.2 and value
        for name, value in [
            ("zoneout", 0.3),
            ("recurrent_dropout", 0.3),
            ("bidirectional", True),
            ("learn_initial_state", True),
        ]
    }
    t, n = rng.choice([1, 2, 5]), rng.randint(1, 3)
    layer = nn.Recurrent(lambda features: RandomCell(seed, features, in_c), E, **options)
    layer.train(rng.random() < 0.8)
    hx = states(layer, numbers, n)
    call = {"lengths": numbers.integers(1, t + 1, n)} if rng.random() < 0.3 else {}
    return layer, numbers.normal(size=(t, n, E)), hx, call


def test_random_cells(target):
    wrong = {}
    for seed in range(15 if target == "c" else 60):
        layer, x, hx, call = random_case(seed, target == "c")
        try:
            agree(layer, x, hx, tolerance=1e-8, **call)
        except Exception as error:  # all that are wrong, not only the first
            wrong[seed] = f"{type(error).__name__}: {str(error)[:100]}"
    assert not wrong


@pytest.mark.parametrize(
    ("reduce", "special"),
    [(np.nansum, np.nan), (np.nanmean, np.nan), (np.nanmax, np.nan), (np.nanvar, np.nan), (partial(np.linalg.norm, ord=3), 0)],
)
def test_what_is_special_about_a_number_is_asked_at_every_step(reduce, special):
    """The run that the program is made from has seen no such number."""
    layer = nn.Recurrent(Written(lambda cell, x, h: np.tanh(cell.p * reduce(x, axis=-1, keepdims=True) + h)))
    x = np.random.default_rng(0).normal(size=(T, N, E))
    x[1, 0] = [special, special if special == 0 else 0.5, special]
    agree(layer, x)


@pytest.mark.parametrize(
    ("factor", "match"),
    [
        (lambda x: len(np.where(x > 9)[0]), r"looks at \(np.nonzero\) of a value that depends on the input"),
        (lambda x: np.linalg.slogdet(x[..., None] + 9 * np.eye(E)).sign[:, None], "takes the array of a value that depends"),
    ],
)
def test_what_only_a_run_can_tell_is_refused(factor, match):
    compiled = tg.compile(nn.Recurrent(Written(lambda cell, x, h: np.tanh(cell.p * x[:, :2] * factor(x) + h))))
    with pytest.raises(tg.CompileError, match=match):
        compiled(np.ones((T, N, E)))


@pytest.mark.parametrize("kind", CELLS, ids=lambda kind: kind.__name__)
def test_cells_of_some_size(kind):
    """Pieces of what is saved are copied where their rows are short and many."""
    layer = nn.Recurrent(kind(E, 16, dtype=np.float64))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, 40, E))
    agree(layer, x, None)
