"""What record= returns: the named values and the states of every step, in the order of time, connected to the graph."""

import gc
import weakref
from contextlib import suppress

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.backward import toposort

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(p, suffix, x):
    """Every gate and state of one layer and direction, by name, each (T, N, H) in the order of time."""
    h = c = np.zeros((x.shape[1], p["weight_hh" + suffix].shape[1]))
    seen = {name: [] for name in ("i", "f", "g", "o", "c", "h")}
    for x_t in x[::-1] if "reverse" in suffix else x:
        z = x_t @ p["weight_ih" + suffix].T + h @ p["weight_hh" + suffix].T + p["bias_ih" + suffix] + p["bias_hh" + suffix]
        i, f, g, o = np.split(z, 4, -1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        for name, value in zip(seen, (i, f, g, o, c, h), strict=True):
            seen[name].append(value)
    return {name: np.stack(values[::-1] if "reverse" in suffix else values) for name, values in seen.items()}


@pytest.mark.parametrize("layout", ["time first", "batch first", "unbatched"])
def test_every_gate_of_every_layer_and_direction(layout):
    layer = nn.LSTM(2, 3, 2, bidirectional=True, batch_first=layout == "batch first", dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(5, 1 if layout == "unbatched" else 4, 2))
    names = ("f", "h", "i", "o", "c", "g", "state0", "state1")
    given = {"time first": x, "batch first": x.swapaxes(0, 1), "unbatched": x[:, 0]}[layout]
    out, last, records = layer(given, record=names)
    plain, plain_last = layer(given)
    np.testing.assert_array_equal(out.data, plain.data)
    np.testing.assert_array_equal(last[1].data, plain_last[1].data)
    assert list(records) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    p = layer.state_dict()
    for k in range(2):
        found = {suffix: numpy_lstm(p, f"_l{k}{suffix}", x) for suffix in ("", "_reverse")}
        for suffix, values in found.items():
            record = records[f"l{k}{suffix}"]
            assert tuple(record) == names
            values |= {"state0": values["h"], "state1": values["c"]}
            for name in names:
                ours = {
                    "time first": lambda a: a,
                    "batch first": lambda a: a.swapaxes(0, 1),
                    "unbatched": lambda a: a[:, None],
                }
                np.testing.assert_allclose(ours[layout](record[name].data), values[name], rtol=0, atol=1e-14)
        x = np.concatenate([found[""]["h"], found["_reverse"]["h"]], axis=-1)


@pytest.mark.parametrize(("kind", "names"), [("RNN", ["h"]), ("GRU", ["r", "z", "n", "h"])])
def test_names_of_the_other_cells(kind, names):
    out, _, records = KINDS[kind](2, 3)(np.ones((4, 2, 2), np.float32), record=names)
    assert {name: (r.shape, r.dtype) for name, r in records["l0"].items()} == dict.fromkeys(names, ((4, 2, 3), np.float32))
    np.testing.assert_array_equal(records["l0"]["h"].data, out.data)


def test_records_are_part_of_the_graph():
    layer = nn.LSTM(1, 2, dtype=np.float64)
    x = tg.Tensor(np.random.default_rng(0).normal(size=(3, 1, 1)), True)
    f = layer(x, record="f")[2]["l0"]["f"]
    f[2].sum().backward()
    assert all(x.grad.data[t] != 0 for t in range(3))
    cell, state = layer.cells["l0"], None
    expected, x.grad = x.grad.data.copy(), None
    for x_t in x:
        state, before = cell(x_t, state), state
    gate = [n for n in toposort(state[1]) if n.name == "f"][-1]
    np.testing.assert_allclose(gate.data, f.data[2], rtol=1e-15)
    gate.sum().backward()
    np.testing.assert_allclose(x.grad.data, expected, rtol=1e-12)
    assert before is not None


def test_without_a_graph():
    layer = nn.GRU(2, 3, 2, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(4, 2, 2))
    with tg.no_grad():
        _, _, records = layer(x, record=("z", "state0"))
    assert records["l1"]["z"].op is None
    np.testing.assert_allclose(records["l1"]["z"].data, layer(x, record="z")[2]["l1"]["z"].data, rtol=1e-14)
    np.testing.assert_array_equal(records["l1"]["state0"].data, layer(x)[0].data)


class Unnamed(nn.Module):
    """Leaves its states without names, has an output of its own with one, and passes one state on as it is."""

    def __init__(self):
        self.state_size = (2, 1)
        self.w = nn.Parameter(np.ones((2, 2)))

    def forward(self, x, state):
        h, constant = state
        size = ((x @ self.w) ** 2).sum(axis=-1).named("size")
        return tg.tanh(x @ self.w + h), constant * 1 if size.ndim == 0 else constant

    def output(self, state):
        return (state[0] * state[1]).named("product")


def test_states_without_names_outputs_and_values_of_other_shapes():
    layer = nn.Recurrent(Unnamed())
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    hx = tg.Tensor(np.zeros((1, 4, 2))), tg.Tensor(np.full((1, 4, 1), 7.0))
    out, (h, _), records = layer(x, hx, record=("state0", "state1", "size", "product"))
    records = records["l0"]
    np.testing.assert_array_equal(records["state0"].data[-1], h.data[0])
    assert (records["state1"].data == 7).all()
    np.testing.assert_allclose(records["size"].data, 2 * x.sum(axis=-1) ** 2, rtol=1e-14)
    np.testing.assert_array_equal(records["product"].data, out.data)


@pytest.mark.parametrize("option", [{"zoneout": 0.5}, {"recurrent_dropout": 0.5}], ids=str)
def test_a_recorded_state_is_the_one_carried_on(option):
    layer = nn.LSTM(2, 3, dtype=np.float64, **option)
    x = np.random.default_rng(0).normal(size=(5, 4, 2))
    out, (h, c), records = layer(x, record=("h", "c", "state0", "state1"))
    for a, b in (("h", "state0"), ("c", "state1")):
        np.testing.assert_array_equal(records["l0"][a].data, records["l0"][b].data)
    np.testing.assert_array_equal(records["l0"]["h"].data, out.data)
    np.testing.assert_array_equal(records["l0"]["c"].data[-1], c.data[0])
    np.testing.assert_array_equal(records["l0"]["h"].data[-1], h.data[0])


def test_records_of_a_padded_batch_are_zero_in_the_padding():
    layer = nn.LSTM(2, 3, 2, bidirectional=True, batch_first=True, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    x[0, 2:] = np.nan
    records = layer(x, lengths=[2, 4, 3], record=("i", "c"))[2]
    alone = layer(x[0, :2], record=("i", "c"))[2]
    for cell, values in records.items():
        for name, value in values.items():
            np.testing.assert_allclose(value.data[0, :2], alone[cell][name].data, rtol=0, atol=1e-14)
            assert not value.data[0, 2:].any()
            assert value.data[1].all()


@pytest.mark.parametrize("nothing", [(), []])
def test_nothing_recorded(nothing):
    out, last = nn.GRU(2, 3)(np.ones((4, 2, 2), np.float32), record=nothing)
    assert (out.shape, last.shape) == ((4, 2, 3), (1, 2, 3))
    assert {n.scope.watch for n in toposort(out)} == {None}


def test_dropping_what_was_returned_frees_the_graph_at_once():
    layer = nn.LSTM(2, 3, 2, bidirectional=True, zoneout=0.1)
    out, last, records = layer(np.ones((4, 2, 2), np.float32), lengths=[4, 2], record=("f", "state1"))
    nodes = [weakref.ref(n) for n in toposort(out, *last, records["l1"]["f"]) if n.op is not None]
    gc.disable()
    try:
        del out, last, records
        assert [n() for n in nodes] == [None] * len(nodes)
    finally:
        gc.enable()


def test_nothing_is_kept_of_a_step_that_fails():
    made = []

    class Fails(nn.Module):
        state_size = 1

        def forward(self, x, h):
            h = tg.tanh(x + h)
            made.append(weakref.ref(h))
            return h if len(made) < 2 else h @ np.ones((3, 3))

    gc.disable()
    try:
        with suppress(ValueError):
            nn.Recurrent(Fails())(np.ones((4, 2, 1)), record="state0")
        assert [node() for node in made] == [None, None]
    finally:
        gc.enable()


def test_beside_the_search_for_anomalies():
    layer = nn.LSTM(2, 3)
    x = np.ones((4, 2, 2), np.float32)
    with tg.detect_anomaly():
        records = layer(x, record="f")[2]
    np.testing.assert_array_equal(records["l0"]["f"].data, layer(x, record="f")[2]["l0"]["f"].data)
    x[2] = np.inf
    with tg.detect_anomaly(), pytest.raises(tg.AnomalyError, match=r"at time step 2"):
        layer(x, record="f")


class WalksBack(nn.Module):
    """Differentiates inside of its step."""

    state_size = 1

    def forward(self, x, h):
        slope = tg.grad(lambda v: np.sin(v).sum())(h + x).named("slope")
        return slope * 0.5


@pytest.mark.parametrize("watched", [False, True])
def test_a_cell_that_walks_a_graph_back(watched):
    x, h0 = np.linspace(0, 1, 3)[:, None, None], tg.Tensor(np.zeros((1, 1, 1)), True)
    if watched:
        with tg.detect_anomaly():
            records = nn.Recurrent(WalksBack())(x, h0, record="slope")[2]
    else:
        records = nn.Recurrent(WalksBack())(x, h0, record="slope")[2]
    h, expected = 0.0, []
    for x_t in x.ravel():
        expected.append(np.cos(h + x_t))
        h = 0.5 * expected[-1]
    np.testing.assert_allclose(records["l0"]["slope"].data.ravel(), expected, rtol=1e-14)


class Twice(nn.Module):
    state_size = 1

    def forward(self, x, h):
        a = tg.tanh(x).named("gate")
        return (a + tg.sigmoid(h).named("gate")).sum().named("total") * 0 + h


x = np.ones((3, 2, 1), np.float32)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: nn.LSTM(1, 4)(x, record=("f", "q")),
            r"LSTM: record='q' names nothing in a step of LSTMCell, which has 'i', 'f', 'g', 'o', 'c', 'h', 'state0', "
            r"'state1'. To record another value, name it in the cell: z.named\('q'\)",
        ),
        (lambda: nn.GRU(1, 4)(x, record="state1"), r"GRUCell, which has 'r', 'z', 'n', 'h', 'state0'\. "),
        (
            lambda: nn.Recurrent(Twice())(x, record="gate"),
            r"Recurrent: record='gate' is not clear, as a step of Twice has 2 values of that name; give each a name",
        ),
        (
            lambda: nn.Recurrent(Twice())(x, record="total"),
            r"record='total' has shape \(\) in a step of Twice; expected \(2, ...\), a value for each sample",
        ),
    ],
)
def test_bad_names(call, match):
    with pytest.raises(ValueError, match=match):
        call()
    assert tg.Tensor(1.0).scope.watch is None


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("record", [None, 3, True, {"h"}, ["h", 1]])
def test_names_are_asked_for_in_a_list(record, compiled):
    layer = nn.LSTM(2, 3)
    with pytest.raises(TypeError, match=r"LSTM: record is a name or a list of names, such as 'f' or \['f', 'c'\], got "):
        (tg.compile(layer) if compiled else layer)(np.ones((4, 2, 2), np.float32), record=record)
