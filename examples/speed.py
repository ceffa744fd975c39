"""How long does one training pass take? A table of this package and of its peers, on your machine.

A pass is the forward run of one layer over a sequence, from x (T, B, E) to y (T, B, H), and `y.backward(dy)` for a fixed
random dy: the gradients of sum(y * dy) with respect to all parameters. Everything is float32; weights, x
and dy are the same for all.

    compiled         tg.compile(layer), which is what this package offers for speed: C, where there is a compiler
    compiled-numpy   tg.compile(layer, target="numpy"), which is what it is where there is none
    unrolled         the layer itself, with a graph node for each op of each step
    by-hand          NumPy, with backpropagation through time derived by hand and optimised: the functions of this file
    torch-loop       PyTorch, the equations in a Python loop over time, as one writes a cell that torch.nn does not have
    torch-nn         PyTorch, torch.nn.RNN, LSTM and GRU
    jax-scan         JAX, the equations in jax.lax.scan, with jax.vjp, jitted

What is not installed is left out: `python -m pip install torch==2.13.0 jax`. Loop, scan and the code by hand compute what
depends on x alone before the first step, as a careful person would.

How to read it: microseconds, and beside them a ratio to the fastest row that is not ours, so that below 1 nothing else is as
fast; `by-hand` is one of the others. For the peephole and the layer-norm LSTM, which torch.nn does not have, the ratio is to
the LSTM in the same row: what a change to a cell costs.

How it is measured: the first pass, in which programs are made and compiled, does not count; a table of its own has it, with
C that is compiled then and there (`compiled`), and with what an earlier process has compiled (`from the cache`). Each number
is the median of several rounds, and each of those the median of the passes in a tenth of a second, at least three. Thread
pools steal each other's cores, so each contestant runs in processes of its own, while no other does; they take turns, so that
a slow minute is slow for all. What this package does to memory (tinygrad_rnn/memory.py) would serve the others, too: they run
without it, as they do elsewhere. All of it takes three to five minutes, `--rounds 1` a third of that. A laptop on battery, a
browser or a second benchmark spoils it: run it twice, and believe what comes out twice.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.compiler.native.build import BuildError

SIZES = {"seed": (10, 1, 1, 8), "small": (10, 32, 1, 32), "mid": (50, 32, 64, 128), "large": (100, 64, 128, 256)}  # T, B, E, H
LAYERS = {
    "RNN": tg.nn.RNN,
    "LSTM": tg.nn.LSTM,
    "GRU": tg.nn.GRU,
    "peephole": lambda *sizes, **dtype: tg.nn.Recurrent(tg.nn.zoo.PeepholeLSTMCell(*sizes, **dtype)),
    "layernorm": lambda *sizes, **dtype: tg.nn.Recurrent(tg.nn.zoo.LayerNormLSTMCell(*sizes, **dtype)),
}
BUILT_IN, CUSTOM = ("RNN", "LSTM", "GRU"), ("peephole", "layernorm")
FIRST = {"compiled": "compiled", "from the cache": "compiled", "compiled-numpy": "compiled-numpy"}  # row: contestant
FIRST_SIZE = "small"
SECONDS = 0.1  # of passes in a round, for each number
THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC"  # the last is JAX's


def problem(kind: str, size: str, dtype=np.float32):
    """A layer with its weights, x (T, B, E) and dy (T, B, H): the same for every contestant."""
    T, B, E, H = SIZES[size]
    tg.manual_seed(0)
    rng = np.random.default_rng(0)
    layer = LAYERS[kind](E, H, dtype=dtype)
    return layer, rng.standard_normal((T, B, E)).astype(dtype), rng.standard_normal((T, B, H)).astype(dtype)


# -- backpropagation through time by hand ------------------------------------------------------------------------------------
#
# Forward: x (T, B, E) and the weights to the states (T + 1, B, H), which begin with zeros, and what the way back needs.
# Backward: dy (T, B, H) and that, to the gradients of W_ih, W_hh, b_ih, b_hh. dz is the gradient before the nonlinearities: it
# begins as their slopes, of all steps at once, and the loop multiplies the gradient of the state into it.


def input_product(x, W, b, out):
    """x W + b of all steps, in one product."""
    np.dot(x.reshape(-1, len(W)), W, out=out.reshape(-1, len(b)))
    out += b


def weight_gradients(dz, *inputs):
    """Of z = inputs W.T + b, the gradients of each input's W and of b, summed over all steps by one product each."""
    dz = dz.reshape(-1, dz.shape[-1])
    return *(dz.T @ each.reshape(len(dz), -1) for each in inputs), np.ones(len(dz), dz.dtype) @ dz


def as_tanh(letters: str, H: int, dtype):
    """Vectors to write gates with one tanh: scale * tanh(scale * z) + shift, since sigmoid(z) = tanh(z / 2) / 2 + 1 / 2."""
    scale = np.repeat(np.array([1 if letter in "gn" else 0.5 for letter in letters], dtype), H)
    return scale, 1 - scale


def rnn_forward(x, W_ih, W_hh, b_ih, b_hh):
    W = W_hh.T.copy()
    hs = np.zeros((len(x) + 1, x.shape[1], len(W)), x.dtype)
    input_product(x, W_ih.T, b_ih + b_hh, hs[1:])
    z = np.empty_like(hs[0])
    for h, new in pairwise(hs):
        np.dot(h, W, out=z)
        new += z
        np.tanh(new, out=new)
    return hs, (x, hs, W_hh)


def rnn_backward(dy, x, hs, W_hh):
    dz = hs[1:] * hs[1:]
    np.subtract(1, dz, out=dz)
    dh = np.zeros_like(hs[0])
    for dy_t, dz_t in zip(dy[::-1], dz[::-1], strict=True):
        dh += dy_t
        dz_t *= dh
        np.dot(dz_t, W_hh, out=dh)
    dW_ih, dW_hh, db = weight_gradients(dz, x, hs[:-1])
    return dW_ih, dW_hh, db, db


def lstm_forward(x, W_ih, W_hh, b_ih, b_hh):
    T, B, H = len(x), x.shape[1], W_hh.shape[1]
    scale, shift = as_tanh("ifgo", H, x.dtype)
    W = np.multiply(W_hh.T, scale, order="C")
    gates = np.empty((T, B, 4 * H), x.dtype)
    input_product(x, W_ih.T * scale, (b_ih + b_hh) * scale, gates)
    hs, cs = np.zeros((2, T + 1, B, H), x.dtype)
    tanh_c = np.empty((T, B, H), x.dtype)
    z, ig = np.empty_like(gates[0]), np.empty_like(hs[0])
    steps = zip(gates, *np.split(gates, 4, axis=-1), tanh_c, hs, cs, hs[1:], cs[1:], strict=False)
    for gates_t, i, f, g, o, tanh_c_t, h, c, new_h, new_c in steps:
        np.dot(h, W, out=z)
        z += gates_t
        np.tanh(z, out=z)
        z *= scale
        np.add(z, shift, out=gates_t)
        np.multiply(f, c, out=new_c)
        np.multiply(i, g, out=ig)
        new_c += ig
        np.tanh(new_c, out=tanh_c_t)
        np.multiply(o, tanh_c_t, out=new_h)
    return hs, (x, hs, cs, gates, tanh_c, W_hh)


def lstm_backward(dy, x, hs, cs, gates, tanh_c, W_hh):
    T, B, H = dy.shape
    i, f, g, o = np.split(gates, 4, axis=-1)
    dz = gates * gates
    np.subtract(gates, dz, out=dz)  # sigmoid' = s - s^2; below, the rest of each gate's slope
    di, df, dg, do = np.split(dz, 4, axis=-1)
    di *= g
    df *= cs[:-1]
    np.multiply(g, g, out=dg)
    np.subtract(1, dg, out=dg)
    dg *= i
    do *= tanh_c
    c_slope = tanh_c * tanh_c
    np.subtract(1, c_slope, out=c_slope)
    c_slope *= o
    dh, dc = np.zeros((2, B, H), x.dtype)
    through_h = np.empty_like(dh)
    difg = dz.reshape(T, B, 4, H)[:, :, :3]
    steps = (each[::-1] for each in (dy, dz, difg, do, f, c_slope))
    for dy_t, dz_t, difg_t, do_t, f_t, c_slope_t in zip(*steps, strict=True):
        dh += dy_t
        np.multiply(dh, c_slope_t, out=through_h)
        dc += through_h
        difg_t *= dc[:, None]
        do_t *= dh
        np.dot(dz_t, W_hh, out=dh)
        dc *= f_t
    dW_ih, dW_hh, db = weight_gradients(dz, x, hs[:-1])
    return dW_ih, dW_hh, db, db


def gru_forward(x, W_ih, W_hh, b_ih, b_hh):
    T, B, H = len(x), x.shape[1], W_hh.shape[1]
    scale, _ = as_tanh("rzn", H, x.dtype)
    W, b = np.multiply(W_hh.T, scale, order="C"), b_hh * scale
    zx, zh = np.empty((2, T, B, 3 * H), x.dtype)
    input_product(x, W_ih.T * scale, b_ih * scale, zx)
    rz, zx_n, zh_n = zx[..., : 2 * H], zx[..., 2 * H :], zh[..., 2 * H :]  # the gates and n replace their z
    hs = np.zeros((T + 1, B, H), x.dtype)
    z_rz, z_n = np.empty((B, 2 * H), x.dtype), np.empty((B, H), x.dtype)
    steps = zip(rz, rz[..., :H], rz[..., H:], zx_n, zh, zh[..., : 2 * H], zh_n, hs, hs[1:], strict=False)
    for rz_t, r, z, n, zh_t, zh_rz, zh_n_t, h, new in steps:
        np.dot(h, W, out=zh_t)
        zh_t += b
        np.add(rz_t, zh_rz, out=z_rz)
        np.tanh(z_rz, out=z_rz)
        z_rz *= 0.5
        np.add(z_rz, 0.5, out=rz_t)
        np.multiply(r, zh_n_t, out=z_n)
        z_n += n
        np.tanh(z_n, out=n)
        np.subtract(h, n, out=new)
        new *= z
        new += n
    return hs, (x, hs, rz, zx_n, zh_n, W_hh)


def gru_backward(dy, x, hs, rz, n, zh_n, W_hh):
    T, B, H = dy.shape
    r, z = rz[..., :H], rz[..., H:]
    dz = np.empty((T, B, 3 * H), x.dtype)  # of z = W_hh h + b_hh, whose part for n is multiplied by r
    dr, dzz, dn = np.split(dz, 3, axis=-1)
    dx_n = n * n  # of W_in x + b_in, which is not
    np.subtract(1, dx_n, out=dx_n)
    dx_n *= 1 - z
    np.multiply(dx_n, r, out=dn)
    np.multiply(rz, rz, out=dz[..., : 2 * H])
    np.subtract(rz, dz[..., : 2 * H], out=dz[..., : 2 * H])
    dr *= zh_n
    dr *= dx_n
    dzz *= hs[:-1] - n
    dh, through_dz = np.zeros((2, B, H), x.dtype)
    steps = (each[::-1] for each in (dy, dz, dz.reshape(T, B, 3, H), dx_n, z))
    for dy_t, dz_t, gates_t, dx_n_t, z_t in zip(*steps, strict=True):
        dh += dy_t
        gates_t *= dh[:, None]
        dx_n_t *= dh
        np.dot(dz_t, W_hh, out=through_dz)
        dh *= z_t
        dh += through_dz
    dW_hh, db_hh = weight_gradients(dz, hs[:-1])
    dn[...] = dx_n  # the rest is the same for x
    dW_ih, db_ih = weight_gradients(dz, x)
    return dW_ih, dW_hh, db_ih, db_hh


BY_HAND = {"RNN": (rnn_forward, rnn_backward), "LSTM": (lstm_forward, lstm_backward), "GRU": (gru_forward, gru_backward)}


# -- the equations for PyTorch's loop and JAX's scan -------------------------------------------------------------------------
#
# `lib` holds what both have under different names. addmm(z, h, V) is z + h V.


def rnn(lib, x, W_ih, W_hh, b_ih, b_hh):
    V = W_hh.T
    return lib.over_time(lambda z, h: (lib.tanh(lib.addmm(z, h, V)),), lib.linear(x, W_ih, b_ih + b_hh), 1, len(V))


def lstm(lib, x, W_ih, W_hh, b_ih, b_hh):
    V = W_hh.T

    def step(z, h, c):
        i, f, g, o = lib.split(lib.addmm(z, h, V), 4)
        c = lib.sigmoid(f) * c + lib.sigmoid(i) * lib.tanh(g)
        return lib.sigmoid(o) * lib.tanh(c), c

    return lib.over_time(step, lib.linear(x, W_ih, b_ih + b_hh), 2, len(V))


def gru(lib, x, W_ih, W_hh, b_ih, b_hh):
    V = W_hh.T

    def step(zx, h):
        x_r, x_z, x_n = lib.split(zx, 3)
        h_r, h_z, h_n = lib.split(lib.addmm(b_hh, h, V), 3)
        z = lib.sigmoid(x_z + h_z)
        n = lib.tanh(x_n + lib.sigmoid(x_r + h_r) * h_n)
        return ((1 - z) * n + z * h,)

    return lib.over_time(step, lib.linear(x, W_ih, b_ih), 1, len(V))


def peephole(lib, x, W_ih, W_hh, b_ih, b_hh, p_i, p_f, p_o):
    V = W_hh.T

    def step(z, h, c):
        i, f, g, o = lib.split(lib.addmm(z, h, V), 4)
        c = lib.sigmoid(f + p_f * c) * c + lib.sigmoid(i + p_i * c) * lib.tanh(g)
        return lib.sigmoid(o + p_o * c) * lib.tanh(c), c

    return lib.over_time(step, lib.linear(x, W_ih, b_ih + b_hh), 2, len(V))


def layernorm(lib, x, W_ih, W_hh, b_ih, b_hh, norm_x, norm_h, norm_c, shift_c):
    V = W_hh.T

    def step(z, h, c):
        i, f, g, o = lib.split(z + lib.layer_norm(h @ V, norm_h), 4)
        c = lib.sigmoid(f) * c + lib.sigmoid(i) * lib.tanh(g)
        return lib.sigmoid(o) * lib.tanh(lib.layer_norm(c, norm_c, shift_c)), c

    return lib.over_time(step, lib.layer_norm(lib.linear(x, W_ih), norm_x, b_ih + b_hh), 2, len(V))


EQUATIONS = {"RNN": rnn, "LSTM": lstm, "GRU": gru, "peephole": peephole, "layernorm": layernorm}


# -- the contestants ---------------------------------------------------------------------------------------------------------
#
# Each turns a problem into the pass to be timed: a function that returns y and the gradients of the parameters in their order.


def autograd_pass(forward, parameters, dy):
    """For this package and for PyTorch, which are called alike."""

    def run():
        for p in parameters:
            p.grad = None
        y = forward()
        y.backward(dy)
        return y, [p.grad for p in parameters]

    return run


def unrolled(kind, layer, x, dy):
    x = tg.Tensor(x)
    return autograd_pass(lambda: layer(x)[0], list(layer.parameters()), tg.Tensor(dy))


def compiled(kind, layer, x, dy):
    return unrolled(kind, tg.compile(layer), x, dy)


def compiled_numpy(kind, layer, x, dy):
    return unrolled(kind, tg.compile(layer, target="numpy"), x, dy)


def by_hand(kind, layer, x, dy):
    weights = [p.numpy() for p in layer.parameters()]
    forward, backward = BY_HAND[kind]

    def run():
        hs, saved = forward(x, *weights)
        return hs[1:], backward(dy, *saved)

    return run


def torch_loop(kind, layer, x, dy):
    import torch

    def over_time(step, zs, states, hidden):
        state, ys = (zs.new_zeros(zs.shape[1], hidden),) * states, []
        for z in zs.unbind():
            state = step(z, *state)
            ys.append(state[0])
        return torch.stack(ys)

    lib = SimpleNamespace(
        tanh=torch.tanh, sigmoid=torch.sigmoid, addmm=torch.addmm, linear=torch.nn.functional.linear, over_time=over_time,
        split=lambda z, parts: z.chunk(parts, -1),
        layer_norm=lambda z, weight, bias=None: torch.nn.functional.layer_norm(z, weight.shape, weight, bias),
    )  # fmt: skip
    weights = [torch.tensor(p.numpy(), requires_grad=True) for p in layer.parameters()]
    x = torch.tensor(x)
    return autograd_pass(lambda: EQUATIONS[kind](lib, x, *weights), weights, torch.tensor(dy))


def torch_nn(kind, layer, x, dy):
    import torch

    x = torch.tensor(x)
    theirs = getattr(torch.nn, kind)(x.shape[-1], dy.shape[-1], dtype=x.dtype)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in layer.state_dict().items()})
    return autograd_pass(lambda: theirs(x)[0], list(theirs.parameters()), torch.tensor(dy))


def jax_scan(kind, layer, x, dy):
    import jax

    def over_time(step, zs, states, hidden):
        def body(state, z):
            state = step(z, *state)
            return state, state[0]

        return jax.lax.scan(body, (jax.numpy.zeros((zs.shape[1], hidden), zs.dtype),) * states, zs)[1]

    lib = SimpleNamespace(
        tanh=jax.numpy.tanh, sigmoid=jax.nn.sigmoid, over_time=over_time,
        split=lambda z, parts: jax.numpy.split(z, parts, -1),
        addmm=lambda z, h, V: z + h @ V,
        linear=lambda x, W, b: x @ W.T + b,
    )  # fmt: skip

    @jax.jit
    def gradients(x, dy, weights):
        y, pull = jax.vjp(lambda weights: EQUATIONS[kind](lib, x, *weights), weights)
        return y, pull(dy)[0]

    arguments = jax.device_put((x, dy, [p.numpy() for p in layer.parameters()]))
    return lambda: jax.block_until_ready(gradients(*arguments))


class Contestant(NamedTuple):
    prepare: Callable
    kinds: tuple[str, ...]
    package: str = "numpy"


CONTESTANTS = {
    "compiled": Contestant(compiled, BUILT_IN + CUSTOM),
    "compiled-numpy": Contestant(compiled_numpy, BUILT_IN + CUSTOM),
    "unrolled": Contestant(unrolled, BUILT_IN),
    "by-hand": Contestant(by_hand, BUILT_IN),
    "torch-loop": Contestant(torch_loop, BUILT_IN + CUSTOM, "torch"),
    "torch-nn": Contestant(torch_nn, BUILT_IN, "torch"),
    "jax-scan": Contestant(jax_scan, BUILT_IN, "jax"),
}
OURS = ("compiled", "compiled-numpy", "unrolled")
COLOURS = "#B83200", "#EE8433", "#F6CDA4", "#999999", "#0072B2", "#56B4E9", "#009E73"  # ours are warm, the others cold


# -- measuring ---------------------------------------------------------------------------------------------------------------


def time_of(run, seconds: float = SECONDS) -> float:
    """Microseconds of a call: the median of those that begin within some seconds, at least three."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e6 * median(times)


def time_of_first(run) -> float:
    """Microseconds of a first call."""
    start = time.perf_counter()
    run()
    return 1e6 * (time.perf_counter() - start)


CLOCKS = {"passes": time_of, "first": time_of_first}


def work(name: str, size: str, kinds, clock: str = "passes") -> dict[str, float]:
    """Microseconds of one contestant for each kind: what a worker does."""
    return {kind: CLOCKS[clock](CONTESTANTS[name].prepare(kind, *problem(kind, size))) for kind in kinds}


def ask_worker(name: str, size: str, kinds, threads: int | None = None, clock: str = "passes", cache: str = ""):
    """`work` in a process of its own; cache: the folder in which it keeps compiled code, if not the user's."""
    limits = dict.fromkeys(THREADS, str(threads)) if threads else {}
    folder = {"XDG_CACHE_HOME": cache} if cache else {}
    malloc = {} if name in OURS else {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "")}  # then memory.py changes nothing
    command = [sys.executable, __file__, "--worker", clock, "--peers", name, "--sizes", size, "--kinds", *kinds]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits | folder | malloc)
    if done.returncode:
        raise RuntimeError(f"speed.py: {name} failed at the size {size}; its process said:\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def measure(size: str, names, kinds, rounds: int, threads: int | None = None) -> dict[str, dict[str, list[float]]]:
    """{kind: {contestant: microseconds of each round}}. The contestants take turns, and every round another one begins."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    turns = [names[(n + r) % len(names)] for r in range(rounds) for n in range(len(names))]
    for name in tg.data.progress(turns, size):
        able = [kind for kind in kinds if kind in CONTESTANTS[name].kinds]
        for kind, microseconds in ask_worker(name, size, able, threads).items():
            found[kind].setdefault(name, []).append(microseconds)
    return found


def measure_first(names, kinds, rounds: int, threads: int | None = None) -> dict[str, dict[str, list[float]]]:
    """{kind: {row: microseconds of the first pass, in each round}}: a process for each, and an empty cache for each kind."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    rows = [(row, name) for row, name in FIRST.items() if name in names]
    for kind in tg.data.progress([*kinds] * rounds, "programs"):
        with TemporaryDirectory() as cache:
            for row, name in rows:
                microseconds = ask_worker(name, FIRST_SIZE, [kind], threads, "first", cache)[kind]
                found[kind].setdefault(row, []).append(microseconds)
    return found


def what_compiled_is() -> str:
    """What programs are written in here."""
    try:
        return tg.compile(tg.nn.RNN(1, 1), target="c").source and "C"
    except BuildError:
        return "NumPy, since no C compiler works here"


# -- showing -----------------------------------------------------------------------------------------------------------------


def ratios(by_name: dict[str, list[float]]) -> dict[str, float]:
    """{contestant: ratio of its median to that of the fastest that is not ours}; nothing if all are ours."""
    medians = {name: median(rounds) for name, rounds in by_name.items()}
    others = [microseconds for name, microseconds in medians.items() if name not in OURS]
    return {name: microseconds / min(others) for name, microseconds in medians.items()} if others else {}


def table(size: str, found) -> str:
    """The medians of `measure` for one size: a row for each contestant, and for each kind microseconds and a ratio."""
    beside = {kind: ratios(by_name) for kind, by_name in found.items()}
    lstm = found.get("LSTM", {})
    for kind in set(found) & set(CUSTOM):
        beside[kind] = {name: median(rounds) / median(lstm[name]) for name, rounds in found[kind].items() if name in lstm}
    T, B, E, H = SIZES[size]
    lines = [f"{size}: T = {T}, B = {B}, E = {E}, H = {H}", f"{'':14}" + "".join(f"{kind:>17}" for kind in found)]
    for name in CONTESTANTS:
        row = f"{name:14}"
        for kind, by_name in found.items():
            microseconds = f"{median(by_name[name]):,.0f}" if name in by_name else ""
            ratio = f"{beside[kind][name]:.2f}" if name in beside[kind] else ""
            row += f"{microseconds:>10}{ratio:>7}"
        if row.split() != [name]:
            lines.append(row.rstrip())
    return "\n".join(lines)


def table_of_first(found) -> str:
    """The medians of `measure_first`, in milliseconds."""
    lines = [f"{FIRST_SIZE}: milliseconds of the first pass", f"{'':14}" + "".join(f"{kind:>17}" for kind in found)]
    for row in next(iter(found.values())):
        lines.append(f"{row:14}" + "".join(f"{median(by_row[row]) / 1e3:>10,.0f}{'':7}" for by_row in found.values()).rstrip())
    return "\n".join(lines)


def draw(found, path: Path):
    """Bars of `ratios`: a panel for each kind that has them, a group for each size. found: {size: what `measure` returns}."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    kinds = {kind: ratios(by_name) for kind, by_name in next(iter(found.values())).items() if ratios(by_name)}
    most = max(map(len, kinds.values()))
    figure = Figure(figsize=(8, 1 + 1.7 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), sharex=True, sharey=True, squeeze=False)[:, 0]
    bars = {}
    for axes, kind in zip(panels, kinds, strict=True):
        names = [name for name in CONTESTANTS if name in kinds[kind]]
        for n, name in enumerate(names):
            places = np.arange(len(found)) + (n - (len(names) - 1) / 2) * 0.8 / most
            heights = [ratios(by_kind[kind])[name] - 1 for by_kind in found.values()]
            colour = COLOURS[list(CONTESTANTS).index(name)]
            bars[name] = axes.bar(places, heights, 0.7 / most, bottom=1, color=colour)
        axes.axhline(1, color="0.4", linewidth=1)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_title(kind, loc="left")
        axes.set_xticks(range(len(found)), [f"{size} {SIZES[size]}" for size in found])
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("ratio to the fastest that is not ours, which has no bar")
    figure.legend(
        bars.values(), bars, loc="outside upper center", ncols=len(bars), frameon=False, handlelength=0.8, columnspacing=1
    )
    figure.savefig(path)


def positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return int(text)


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description="Time a training pass of this package and of its peers.")
    for option, known in (("--sizes", SIZES), ("--kinds", LAYERS), ("--peers", CONTESTANTS)):
        some = f"some of {', '.join(known)} (default: all)"
        parser.add_argument(option, nargs="+", choices=known, default=list(known), metavar="NAME", help=some)
    parser.add_argument("--rounds", type=positive, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--threads", type=positive, help="of each library (default: as many as it takes by itself)")
    parser.add_argument("--figure", type=Path, help="where to draw the ratios, such as speed.svg (default: nowhere)")
    parser.add_argument("--json", type=Path, help="where to keep the microseconds of every round (default: nowhere)")
    parser.add_argument("--worker", choices=CLOCKS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        print(json.dumps(work(options.peers[0], options.sizes[0], options.kinds, options.worker)))
        return
    for path in (options.figure, options.json):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            parser.error(f"{path}: expected a file, in a directory that is there")
    if options.figure is not None and not find_spec("matplotlib"):
        raise ModuleNotFoundError('speed.py --figure draws with matplotlib: python -m pip install -e ".[data]"')

    packages = dict.fromkeys(CONTESTANTS[name].package for name in options.peers)
    absent = [package for package in packages if not find_spec(package)]
    names = [name for name in options.peers if CONTESTANTS[name].package not in absent]
    able = [name for name in names if set(options.kinds) & set(CONTESTANTS[name].kinds)]
    if not able:
        parser.error(
            f"nothing to measure: none of {', '.join(options.peers)} is installed and knows {', '.join(options.kinds)}"
        )
    if options.figure is not None and not set(able) - set(OURS):
        parser.error("--figure shows ratios to the fastest that is not ours, and there is none: add by-hand to --peers")
    versions = {package: version(package) for package in packages if package not in absent}
    threads = f"{options.threads} threads" if options.threads else "as many threads as each library takes"
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    print(f"{os.cpu_count()} cores, {threads}; medians of {options.rounds} rounds")
    if absent:
        print(f"not installed, and left out: {', '.join(absent)}")
    if "compiled" in able:
        print(f"compiled is {what_compiled_is()}")
    print("microseconds, and the ratio to the fastest that is not ours; of peephole and layernorm, that to the row's LSTM")
    found = {}
    for size in options.sizes:
        found[size] = measure(size, able, options.kinds, options.rounds, options.threads)
        print("\n" + table(size, found[size]), flush=True)
    first = {}
    if set(able) & set(FIRST.values()):
        first = measure_first(able, options.kinds, options.rounds, options.threads)
        print("\n" + table_of_first(first), flush=True)
    if options.json is not None:
        kept = {"versions": versions, "threads": options.threads, "microseconds": found, "first": first}
        options.json.write_text(json.dumps(kept, indent=1))
    if options.figure is not None:
        draw(found, options.figure)
        print(f"\nThe ratios as bars: {options.figure}")


if __name__ == "__main__":
    main()
