"""The events of forward and backward as data: replayed they give every `.grad` to the last bit; rules are told as they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.ops import Together, elementwise
from tinygrad_rnn.viz.event_types import MOST
from tinygrad_rnn.viz.rules import input_names, rows, rule_text

T, N, E, H = 4, 2, 2, 2


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- networks ----------------------------------------------------------------------------------------------------------------


def layer(make: Any, **options: Any) -> Any:
    def loss(dtype: Any) -> tg.Tensor:
        tg.manual_seed(1)
        x = tg.Tensor(rng().normal(size=(T, N, E)), dtype=dtype, name="x", requires_grad=True)
        outputs, _ = make(E, H, dtype=dtype, **options)(x)
        return (outputs * outputs).mean().named("loss")

    return loss


def hand_written(dtype: Any) -> tg.Tensor:
    xs = tg.Tensor(rng(1).normal(size=(T, N, E)), dtype=dtype, name="x")
    w = tg.Tensor(rng(2).normal(size=(E, H)), dtype=dtype, requires_grad=True, name="W")
    u = tg.Tensor(rng(3).normal(size=(H, H)), dtype=dtype, requires_grad=True, name="U")
    b = tg.Tensor(rng(4).normal(size=H), dtype=dtype, requires_grad=True, name="b")
    h: Any = np.zeros((N, H), dtype)
    for x in xs:
        h = np.tanh(x @ w + h @ u + b).named("h")
    return (h**2).sum()


def feed_forward(dtype: Any) -> tg.Tensor:
    tg.manual_seed(2)
    first, second = nn.Linear(E, 5, dtype=dtype), nn.Linear(5, 1, dtype=dtype)
    x = tg.Tensor(rng(5).normal(size=(3, E)), dtype=dtype)
    return nn.functional.mse_loss(second(tg.relu(first(x))), np.ones((3, 1), dtype))


def shared(dtype: Any) -> tg.Tensor:
    """A weight that a step reads twice, that is also read rearranged, in pieces, by number, and in two shapes."""
    w = tg.Tensor(rng(6).normal(size=(2, 2)), dtype=dtype, requires_grad=True, name="W")
    b = tg.Tensor(rng(7).normal(size=2), dtype=dtype, requires_grad=True, name="b")
    xs = tg.Tensor(rng(8).normal(size=(3, 9, 2)), dtype=dtype, name="x")
    h: Any = np.zeros((9, 2), dtype)
    for x in xs:
        h = np.tanh(x @ w + h @ w.T * w[0] + b) * w[1]
    return (h * h).sum() + (w * w).sum() + (w[[0, 0, 1]] * b).mean() + b @ b + (h.T * b[:, None]).sum()


def mixed_dtypes(_: Any) -> tg.Tensor:
    """Shares of two widths meet in one sum."""
    a = tg.Tensor(rng(9).normal(size=3), dtype=np.float32, requires_grad=True, name="a")
    wide = [rng(i).normal(size=3) for i in range(4)]
    return (a * a).sum() + sum((a * w).sum() for w in wide) + (a * a * a).sum()


NETWORKS = {
    "RNN": layer(nn.RNN),
    "LSTM": layer(nn.LSTM),
    "GRU, two layers, both directions": layer(nn.GRU, num_layers=2, bidirectional=True),
    "loop": hand_written,
    "feed-forward": feed_forward,
    "shared": shared,
    "mixed dtypes": mixed_dtypes,
}
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))


# -- replay ------------------------------------------------------------------------------------------------------------------


def array(told: Any) -> Any:
    return np.array([float(v) for v in told["values"]], told["dtype"]).reshape(told["shape"])


def same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def over_broadcast_axes(a: Any, shape: Any) -> Any:
    while a.ndim > len(shape):
        a = a.sum(axis=0)
    return a.sum(axis=tuple(i for i, n in enumerate(shape) if n != a.shape[i]), keepdims=True)


def replay(events: Any) -> dict[int, Any]:
    """The additions of the events in their order; the gradients of the leaves, by their place among the nodes."""
    nodes, grads = events["nodes"], {}
    sums = {events["backward"][0]["node"]: array(events["seed"])}
    for event in events["backward"]:
        i = event["node"]
        g = sums.pop(i, None)
        assert (g is None) == (event["arrived"] is None)
        if event["summed"]:
            np.testing.assert_allclose(array(event["summed"]), over_broadcast_axes(g, nodes[i]["shape"]), rtol=1e-5, atol=1e-6)
            g = array(event["summed"])
        for whole in event["wholes"]:
            g = array(whole) if g is None else g + array(whole)
        g = g.astype(nodes[i]["dtype"])
        assert same(g, array(event["g"]))
        for share in event["gives"]:
            if share["after"] is None:
                continue
            total, added = sums.get(share["to"]), array(share["whole"] or share["share"])
            assert (total is None) == (share["before"] is None)
            if total is not None:
                if total.shape != added.shape:
                    total = array(share["before"])
                assert same(total, array(share["before"]))
                added = (total + added).astype(share["after"]["dtype"])
            assert same(added, array(share["after"]))
            sums[share["to"]] = added
        if nodes[i]["op"] is None:
            grads[i] = g
    assert not sums
    return grads


@networks
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_replay_of_the_exported_events_gives_every_grad_bit_for_bit(network, dtype):
    loss = network(dtype)
    told = json.loads(json.dumps(tg.viz.events(loss), allow_nan=False))
    leaves = {i: x for i, x in enumerate(toposort(loss)) if x.op is None and x.requires_grad}
    assert all(x.grad is None for x in leaves.values())
    loss.backward()
    grads = replay(told)
    assert grads.keys() == leaves.keys()
    for i, x in leaves.items():
        assert same(grads[i], x.grad.numpy()), x.describe()
    for parameter in told["parameters"]:
        assert same(array(parameter["grad"]), grads[parameter["node"]])


def test_a_replay_notices_a_wrong_number():
    told = tg.viz.events(hand_written(np.float64))
    share = next(s for event in told["backward"][5:] for s in event["gives"] if s["after"])
    share["share"]["values"][0] += 1e-15
    with pytest.raises(AssertionError):
        replay(told)


def test_the_gradient_to_begin_with_can_be_given():
    w = tg.Tensor([1.0, 2.0], requires_grad=True)
    told = tg.viz.events(w * w, gradient=[10.0, 100.0])
    assert replay(told)[0].tolist() == [20.0, 400.0]


@networks
def test_values_are_those_of_the_forward_pass(network):
    loss = network(np.float64)
    told = tg.viz.events(loss)
    order = toposort(loss)
    assert [e["node"] for e in told["forward"]] == [i for i, x in enumerate(order) if x.op is not None]
    assert [e["node"] for e in told["given"]] == [i for i, x in enumerate(order) if x.op is None]
    for e in [*told["forward"], *told["given"]]:
        assert np.array_equal(array(e["value"]), order[e["node"]].numpy())
    for node, x in zip(told["nodes"], order, strict=True):
        assert [order[i] for i in node["inputs"]] == list(x.inputs)
        assert len(node["names"]) == len(x.inputs)


def test_the_terms_are_those_of_bptt_derived_by_hand():
    xs, u = rng(1).normal(size=(3, 2)), rng(2).normal(size=(2, 2))
    weight = tg.Tensor(u, requires_grad=True, name="U")
    h: Any = np.zeros(2)
    for x in tg.Tensor(xs, name="x"):
        h = np.tanh(x + weight @ h)
    told = tg.viz.events((h * h).sum())

    hs = [np.zeros(2)]
    for x in xs:
        hs.append(np.tanh(x + u @ hs[-1]))
    back, by_hand = 2 * hs[-1], []
    for t in reversed(range(3)):
        inner = back * (1 - hs[t + 1] ** 2)
        by_hand.append(np.outer(inner, hs[t]))
        back = u.T @ inner

    (parameter,) = told["parameters"]
    assert told["nodes"][parameter["node"]]["label"] == "U"
    assert [term["step"] for term in parameter["terms"]] == [2, 1, 0]
    for k, term in enumerate(parameter["terms"]):
        np.testing.assert_allclose(array(term["term"]), by_hand[k], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(array(term["total"]), sum(by_hand[: k + 1]), rtol=1e-12)
        assert term["norm"] == pytest.approx(np.linalg.norm(by_hand[k]))
        event = told["backward"][term["event"] - len(told["forward"])]
        assert told["nodes"][event["node"]]["op"] == "matmul"
        assert told["nodes"][event["node"]]["step"] == term["step"]


@networks
def test_the_terms_sum_to_the_gradient(network):
    for parameter in tg.viz.events(network(np.float64))["parameters"]:
        np.testing.assert_allclose(
            sum(array(term["term"]) for term in parameter["terms"]), array(parameter["grad"]), rtol=1e-6, atol=1e-12
        )


def test_the_terms_of_a_layer_are_those_of_flow():
    tg.manual_seed(3)
    lstm = nn.LSTM(E, H, dtype=np.float64)
    loss = (lstm(tg.Tensor(rng().normal(size=(T, N, E))))[0] ** 2).sum()
    told, order = tg.viz.events(loss), toposort(loss)
    assert len(told["parameters"]) == 4
    for parameter in told["parameters"]:
        rows = tg.flow.terms(loss, order[parameter["node"]])
        assert [term["step"] for term in parameter["terms"]] == [3, 2, 1, 0]
        for term in parameter["terms"]:
            np.testing.assert_allclose(array(term["term"]), rows[term["step"]], rtol=1e-9, atol=1e-15)


def test_what_waits_for_other_uses_is_added_once():
    told = tg.viz.events(hand_written(np.float64))
    u = next(i for i, node in enumerate(told["nodes"]) if node["label"] == "U")
    shares = [share for event in told["backward"] for share in event["gives"] if share["to"] == u]
    assert [share["after"] for share in shares] == [None] * T
    (event,) = [event for event in told["backward"] if event["node"] == u]
    assert event["arrived"] is None
    np.testing.assert_allclose(array(event["wholes"][0]), sum(array(share["share"]) for share in shares), rtol=1e-12)


def test_uses_that_suffice_are_added_before_the_others():
    w = tg.Tensor(rng().normal(size=(128, 128)), requires_grad=True)
    h = tg.Tensor(rng().normal(size=(40, 128)))
    for _ in range(3):
        h = h @ w * 0.1
    told = tg.viz.events(h.sum())
    shares = [share for event in told["backward"] for share in event["gives"] if share["to"] == 1 or share["to"] == 0]
    shares = [share for share in shares if share["rule"].startswith("d(a @ b)/db")]
    assert [share["after"] is not None for share in shares] == [True] * 3
    assert [share["before"] is not None for share in shares] == [False, True, True]


# -- plain data --------------------------------------------------------------------------------------------------------------


def test_large_arrays_are_told_by_what_they_are_like():
    x = tg.Tensor(np.arange(MOST + 1.0), requires_grad=True)
    told = tg.viz.events((x * 1.0).sum())
    value = told["forward"][0]["value"]
    assert value == {
        "shape": [65],
        "dtype": "float64",
        "norm": pytest.approx(np.linalg.norm(x.numpy())),
        "least": 0.0,
        "greatest": 64.0,
    }
    exactly = tg.viz.events((tg.Tensor(np.arange(float(MOST)), requires_grad=True) * 1.0).sum())["forward"][0]["value"]
    assert exactly["values"] == list(range(MOST))


def test_what_is_not_finite_is_json_all_the_same():
    x = tg.Tensor([0.0, 1.0, -1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        loss = (np.log(abs(x)) * np.array([1.0, np.inf, -np.inf])).sum()
    told = json.loads(json.dumps(tg.viz.events(loss), allow_nan=False))
    logarithm = next(e for e in told["forward"] if told["nodes"][e["node"]]["op"] == "log")
    assert logarithm["value"]["values"] == ["-Infinity", 0.0, 0.0]
    (parameter,) = told["parameters"]
    assert parameter["grad"]["values"] == ["NaN", "Infinity", "Infinity"]
    with np.errstate(all="ignore"):
        loss.backward()
    np.testing.assert_array_equal(array(parameter["grad"]), x.grad.numpy())


def test_a_watch_for_anomalies_does_not_stop_the_events():
    x = tg.Tensor([-1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        loss = np.sqrt(x).sum()
    with tg.detect_anomaly():
        told = tg.viz.events(loss)
    assert told["parameters"][0]["grad"]["values"] == ["NaN"]


def test_nothing_is_written():
    loss = hand_written(np.float64)
    loss.backward()
    leaves = [x for x in toposort(loss) if x.grad is not None]
    before = [x.grad.numpy() for x in leaves]
    tg.viz.events(loss)
    assert len(leaves) == 3
    assert all(np.array_equal(a, x.grad.numpy()) for a, x in zip(before, leaves, strict=True))


def test_inputs_that_are_wrong():
    w = tg.Tensor([1.0, 2.0], requires_grad=True, name="w")
    with pytest.raises(TypeError, match=r"events: expected a Tensor, got ndarray"):
        tg.viz.events(np.ones(2))
    with pytest.raises(RuntimeError, match=r"events: 'w' .* was given, not computed, .* write events\(loss\)"):
        tg.viz.events(w)
    with pytest.raises(RuntimeError, match=r"events: .* does not require grad, .* make a leaf"):
        tg.viz.events(tg.Tensor(np.ones((2, 2)))[0])
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        tg.viz.events(w * w)
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), expected"):
        tg.viz.events(w * w, gradient=np.ones(3))
    loss = (w * w).sum()
    w.data -= 1.0
    with pytest.raises(RuntimeError, match="modified by an in-place operation: 'w'"):
        tg.viz.events(loss)


# -- rules in words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ops.TABLE.values(), ids=list(ops.TABLE))
def test_every_derivative_has_words(op):
    assert all(rule_text(op, i) for i, rule in enumerate(op.rules) if rule is not None)


ELEMENTWISE = [op for op in ops.TABLE.values() if op.name in rows(elementwise.__name__) and op.name != "astype"]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=[op.name for op in ELEMENTWISE])
def test_the_words_compute_what_the_rule_computes(op):
    names = input_names(op, len(op.rules))
    inputs = [rng(i).uniform(0.2, 0.8, 5) + (op.name == "arccosh") for i in range(len(names))]
    inputs[0] = inputs[0] > 0.5 if op.name == "where" else inputs[0]
    g, out = rng(9).normal(size=5), op.forward(*inputs)
    for i, rule in enumerate(op.rules):
        if rule is not None:
            scope = dict(zip(names, inputs, strict=True), g=g, out=out)
            assert np.array_equal(eval(rule_text(op, i), vars(elementwise), scope), rule(g, out, *inputs))


def test_the_words_of_some_rules():
    def words(name: str) -> list[str]:
        op = ops.TABLE[name]
        return [rule_text(op, i) for i in range(len(op.rules))]

    assert words("tanh") == ["g - g * out * out"]
    assert words("mul") == ["g * y", "g * x"]
    assert words("matmul") == ["d(a @ b)/da: g @ b.T", "d(a @ b)/db: a.T @ g"]
    assert words("stack") == ["g[(slice(None),) * (axis % out.ndim) + (i,)]"]
    assert input_names(ops.TABLE["matmul"], 2) == ["a", "b"]
    assert input_names(ops.TABLE["getitem"], 1) == ["x"]
    assert input_names(ops.TABLE["concatenate"], 3) == ["x0", "x1", "x2"]
    assert input_names(ops.TABLE["where"], 3) == ["c", "x", "y"]
    assert sum(isinstance(rule, Together) for op in ops.TABLE.values() for rule in op.rules) == 4


def test_an_op_of_ones_own_needs_no_source():
    source = {"__name__": "nowhere"}
    exec("f = lambda g, *rest: g\ndef d(g, out, x):\n    'As it comes. And more.'\n    return g", source)
    own = ops.Op("own", np.multiply, source["f"], source["d"])
    assert [rule_text(own, 0), rule_text(own, 1)] == ["", "As it comes"]
    assert input_names(ops.Op("own", np.multiply, source["f"], source["f"]), 2) == ["x0", "x1"]


def test_a_compiled_layer_has_no_steps_to_show():
    compiled = tg.compile(tg.nn.RNN(2, 3))
    loss = compiled(np.zeros((4, 1, 2), np.float32))[0].sum()
    with pytest.raises(TypeError, match=r"RNNCell over time is one node, .* Call the layer itself: compiled.layer\(x\)"):
        tg.viz.events(loss)
