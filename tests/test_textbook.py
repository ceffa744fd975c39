"""The textbook's text of a program: it reads as BPTT written by hand does, and gives what the unrolled layer gives."""

import os
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compiler.textbook import textbook
from tinygrad_rnn.compiler.trace import Wanted, trace
from tinygrad_rnn.nn import zoo
from tinygrad_rnn.nn.state import members, sizes

E, H, N, T = 3, 4, 2, 5


def step_of(cell, masked=False, zones=(), padded=False, record=(), gradient=(True, True)):
    dtype = next(iter(cell.parameters())).dtype.str
    states = tuple(((N, n), dtype) for n in sizes(cell.state_size))
    wanted = Wanted(((N, E), dtype), states, zones, True, masked, padded, record, gradient)
    return trace(nn.Recurrent(cell), cell, wanted)


def run(cell, x, states, seeds, ends, extras=(), **options):
    """The textbook's outputs, final states and gradients of x, the states and the parameters, in the order of the step."""
    step = step_of(cell, **options)
    code = textbook(step, "a title")
    names = dict(code.names)
    exec(code.source, names)
    weights = [w.numpy() for w in step.externals]
    outputs, finals, saved = names["forward"](x, *states, *extras, *weights)
    dx, dstates, totals = names["backward"](saved, *seeds, *ends)
    return outputs, finals, [dx, *dstates], dict(zip(step.externals, totals, strict=True))


class Plain(nn.Module):
    """A cell without names, of which some subclasses are odd."""

    input_size, state_size = E, E

    def __init__(self):
        rng = np.random.default_rng(3)
        self.W, self.b = nn.Parameter(rng.normal(size=(E, E)) / 2), nn.Parameter(rng.normal(size=E))

    def forward(self, x, h):
        return np.tanh(x @ self.W + h * self.b)


class Integrator(Plain):
    def forward(self, x, h):
        return h + x * self.b


class Echo(Plain):
    def forward(self, x, h):
        return x


class Forgetful(Plain):
    def forward(self, x, h):
        return np.tanh(x @ self.W)


class Swap(Plain):
    state_size = (E, E)

    def forward(self, x, state):
        h, c = state
        return c, h + x


class Twins(Plain):
    state_size = (E, E)

    def forward(self, x, state):
        h, c = state
        h = np.tanh(x @ self.W + h * c)
        return h, h


class Crossed(Plain):
    """The gradient of each old state reads that of the other new one."""

    state_size = (E, E)

    def forward(self, x, state):
        h, c = state
        return (c * self.b).named("h"), (h * x).named("c")


class Renamed(Plain):
    """States that go by each other's names."""

    state_size = (E, E)

    def forward(self, x, state):
        h, c = state
        return np.tanh(x @ self.W + c).named("c"), (h * c).named("h")


class Awkward(Plain):
    """Names that the text has other uses for."""

    state_size = (E, E, E)

    def forward(self, x, state):
        h, c, d = state
        u = np.tanh(x @ self.W + h).named("tanh")
        u = (u * c + d).named("T")
        u = (u - (u * u).named("x")).named("lambda")
        q = tg.sigmoid(u).named("dh")
        u = (q * u).named("h0")
        v = (u + x).named("a.b c")
        return u.named("h"), (v * q).named("saved"), (v - q).named("h")


class Sliced(Plain):
    def forward(self, x, h):
        z = np.concatenate([x[:, 1:], h[:, :1]], axis=-1) @ self.W
        return np.where(z > 0, z, z * 0.1) + np.flip(h, -1)[:, [2, 0, 1]] * x[:, 0:1]


class Constants(Plain):
    def forward(self, x, h):
        return np.tanh(x @ self.W + (h @ np.eye(E) - np.arange(3.0)) * 0.5)


class Normed(Plain):
    def forward(self, x, h):
        W = self.W / np.sqrt((self.W * self.W).sum(axis=0))
        return np.tanh(x @ W + h @ W.T + self.b)


class Attends(Plain):
    def forward(self, x, h):
        a = nn.functional.softmax(x @ self.W + h).named("a")
        return a * np.maximum(h, self.b) / np.exp(h).sum(axis=1, keepdims=True) - np.abs(x) ** 1.5


class Shows(Plain):
    state_size, output_size = (E, E), 2

    def forward(self, x, state):
        h, c = state
        return np.maximum(x @ self.W + c, h - 1), np.clip(h * c, -0.5, 0.5)

    def output(self, state):
        return state[0] @ self.W[:, :2]


class Contracts(Plain):
    def forward(self, x, h):
        return np.tanh(np.einsum("bi,ij,bj->bj", x, self.W, h) - np.cumsum(h, axis=1) * h.max(axis=1, keepdims=True))


SIZED = [nn.RNNCell, nn.LSTMCell, nn.GRUCell]
SIZED += [getattr(zoo, name) for name in sorted(vars(zoo)) if name.endswith("Cell") and name not in ("Cell", "LSTMCell")]
ODD = [Plain, *Plain.__subclasses__()]
CELLS = [lambda kind=kind: kind(E, H, dtype=np.float64) for kind in SIZED] + ODD
CELLS += [
    lambda: nn.RNNCell(E, H, nonlinearity="relu", dtype=np.float64),
    lambda: nn.LSTMCell(E, H, proj_size=2, dtype=np.float64),
]
NAMES = [kind.__name__ for kind in SIZED + ODD] + ["relu", "projected"]


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        b = np.zeros_like(a) if b is None else b.numpy()
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", CELLS, ids=NAMES)
def test_its_results_are_the_unrolled_layers(make):
    cell, rng = make(), np.random.default_rng(0)
    widths = sizes(cell.state_size)
    x = tg.Tensor(rng.normal(size=(T, N, E)), requires_grad=True)
    states = [tg.Tensor(rng.normal(size=(N, n)), requires_grad=True) for n in widths]
    hx = tuple(h.reshape(1, *h.shape) for h in states)
    y, final = nn.Recurrent(cell)(x, hx if isinstance(cell.state_size, tuple) else hx[0])
    final = [h[0] for h in members(final)]
    dy, ends = rng.normal(size=y.shape), [rng.normal(size=h.shape) for h in final]
    loss = (y * dy).sum() + sum((h * d).sum() for h, d in zip(final, ends, strict=True))
    loss.backward()

    outputs, finals, found, totals = run(cell, x.numpy(), [h.numpy() for h in states], [dy], ends)
    assert_close([*outputs, *finals], [y, *final])
    found = [np.zeros(leaf.shape) if g is None else g for g, leaf in zip(found, [x, *states], strict=True)]
    assert_close(found, [x.grad, *(h.grad for h in states)])
    assert_close([g for w, g in totals.items() if w.requires_grad], [w.grad for w in totals if w.requires_grad])
    assert {w for w, g in totals.items() if g is None} == {w for w in totals if not w.requires_grad}


def test_masks_zones_lengths_and_records():
    cell, rng = nn.LSTMCell(E, H, dtype=np.float64), np.random.default_rng(1)
    x, h, c = (tg.Tensor(rng.normal(size=s), requires_grad=True) for s in ((T, N, E), (N, H), (N, H)))
    mask, real = rng.integers(0, 2, (N, H)) * 2.0, np.arange(T)[:, None, None] < np.array([[5], [3]])
    zones = [rng.random((T, N, H)) < 0.5 for _ in range(2)]
    ys, fs, state = [], [], (h, c)
    W, U, b = cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh
    for t in range(T):
        new = cell(x[t], (state[0] * mask, state[1]))
        fs.append(tg.sigmoid((x[t] @ W.T + (state[0] * mask) @ U.T + b)[:, H : 2 * H]))
        new = [tg.where(zone[t], old, n) for zone, old, n in zip(zones, state, new, strict=True)]
        state = tuple(tg.where(real[t], n, old) for old, n in zip(state, new, strict=True))
        ys.append(state[0])
    y, f = tg.stack(ys), tg.stack(fs)
    seeds, ends = [rng.normal(size=(T, N, H)) for _ in range(2)], [rng.normal(size=(N, H)) for _ in range(2)]
    ((y * seeds[0]).sum() + (f * seeds[1]).sum() + (state[0] * ends[0]).sum() + (state[1] * ends[1]).sum()).backward()

    options = {"masked": True, "zones": (0.5, 0.5), "padded": True, "record": ("f",)}
    extras = (mask, *zones, real)
    outputs, finals, found, totals = run(cell, x.numpy(), [h.numpy(), c.numpy()], seeds, ends, extras, **options)
    assert_close([*outputs, *finals], [y, f, *state])
    assert_close(found, [x.grad, h.grad, c.grad])
    assert_close(totals.values(), [w.grad for w in totals])


def test_single_precision_stays_single():
    cell, rng = zoo.LayerNormLSTMCell(E, H), np.random.default_rng(2)
    x, h, c = (rng.normal(size=s).astype(np.float32) for s in ((T, N, E), (N, H), (N, H)))
    outputs, finals, found, totals = run(cell, x, [h, c], [np.ones((T, N, H), np.float32)], [h, c])
    assert {a.dtype for a in [*outputs, *finals, *found, *totals.values()]} == {np.dtype(np.float32)}


def test_elmans_network_reads_as_by_hand():
    assert (
        textbook(step_of(nn.RNNCell(E, H)), "An Elman network").source
        == '''"""An Elman network"""

from numpy import stack, tanh, zeros_like


def forward(x, h0, weight_ih, weight_hh, bias_ih, bias_hh):
    T = len(x)
    h = {-1: h0}  # h[-1] is before the first step
    for t in range(T):
        a = x[t] @ weight_ih.T + bias_ih + h[t - 1] @ weight_hh.T + bias_hh
        h[t] = tanh(a)
    y = stack([h[t] for t in range(T)])
    saved = (x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    return [y], [h[T - 1]], saved


def backward(saved, dy, dh):
    x, h, weight_ih, weight_hh, bias_ih, bias_hh = saved
    T = len(dy)
    dx = zeros_like(x)
    dweight_ih = zeros_like(weight_ih)
    dweight_hh = zeros_like(weight_hh)
    dbias_ih = zeros_like(bias_ih)
    dbias_hh = zeros_like(bias_hh)
    for t in reversed(range(T)):
        dh = dh + dy[t]
        da = dh * (1 - h[t] ** 2)
        dx[t] = da @ weight_ih
        dweight_ih += da.T @ x[t]
        dweight_hh += da.T @ h[t - 1]
        dbias_ih += da.sum(axis=0)
        dbias_hh += da.sum(axis=0)
        dh = da @ weight_hh
    return dx, [dh], [dweight_ih, dweight_hh, dbias_ih, dbias_hh]
'''
    )


@pytest.mark.parametrize("make", CELLS, ids=NAMES)
def test_each_way_is_one_plain_loop(make):
    source = textbook(step_of(make()), "").source
    loops = [line.strip() for line in source.splitlines() if line.strip().startswith("for ")]
    assert loops == ["for t in range(T):", "for t in reversed(range(T)):"]
    assert "out=" not in source


def test_without_gradients_there_is_no_way_back():
    code = textbook(step_of(nn.GRUCell(E, H), gradient=()), "")
    assert "def forward(" in code.source
    assert "backward" not in code.source
    assert "r = sigmoid(a_r)" in code.source  # nobody needs it later, so it is not kept


def test_constant_arrays_are_announced():
    code = textbook(step_of(Constants()), "")
    assert "# constant: an array (3, 3)" in code.source
    np.testing.assert_array_equal(code.names["constant"], np.eye(E))


def test_long_names_are_not_broken():
    class Verbose(Plain):
        def forward(self, x, h):
            return np.tanh(x @ self.W + h).named("n" * 200)

    exec(textbook(step_of(Verbose()), "").source, {})


def test_a_number_after_a_number_stands_apart():
    class Twice(Plain):
        def forward(self, x, h):
            u = np.tanh(x @ self.W + h).named("u1")
            return u * np.sin(u + x * self.b).named("u1!")

    source = textbook(step_of(Twice()), "").source
    assert "u1[t] = tanh(a)" in source
    assert "u1_2[t] = sin(" in source
    assert "du1_2 = dh * u1[t]" in source


def test_the_text_does_not_depend_on_the_process():
    program = (
        "import tinygrad_rnn as tg, test_textbook as here\n"
        "print(*(here.textbook(here.step_of(make()), '').source for make in here.CELLS))"
    )
    texts = []
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert texts[0].count("def backward(") == len(CELLS)
