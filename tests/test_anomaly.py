"""detect_anomaly(): the first value or gradient that is not finite is found and named, and off it leaves nothing behind."""

import asyncio
import gc
import inspect
import threading
import weakref
from contextlib import nullcontext

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import AnomalyError
from tinygrad_rnn.backward import toposort
from tinygrad_rnn.scope import current_scope
from tinygrad_rnn.tensor import Tensor


def leaf(data, name=None):
    return Tensor(np.asarray(data, float), requires_grad=True, name=name)


def message(f, *args):
    """What f says when it is run with anomaly detection on."""
    with pytest.raises(AnomalyError) as caught, tg.detect_anomaly():
        f(*args)
    return str(caught.value)


def at(f, marker):
    """The place `file:line` of the line in f that ends with a comment."""
    lines, first = inspect.getsourcelines(f)
    (offset,) = (i for i, line in enumerate(lines) if line.rstrip().endswith(f"# {marker}"))
    return f"{__file__}:{first + offset}"


class Growing(tg.nn.Module):
    """A cell whose state explodes, and whose gate is an inner module."""

    def __init__(self, rate=3.0):
        self.state_size = 2
        self.gate = tg.nn.Linear(2, 2, bias=False, dtype=np.float64)
        self.gate.weight.data = np.eye(2) * rate

    def forward(self, x, h):
        z = self.gate(h)
        return np.exp(z + x).named("h")  # here


class Rooted(tg.nn.Module):
    """A cell with a root of its input, which has no finite slope at 0."""

    def __init__(self):
        self.state_size = 2
        self.weight = tg.nn.Parameter(np.eye(2) * 0.5)

    def forward(self, x, h):
        z = h @ self.weight.T + np.sqrt(x * 1.0)  # here
        return np.tanh(z).named("h")


# -- the forward pass --------------------------------------------------------------------------------------------------------


def test_a_nan_of_the_forward_pass():
    def f(x):
        y = x * 2
        return np.log(y)  # here

    text = message(f, leaf([1.0, -1.0, 0.5], "x"))
    assert text.startswith("the forward pass made NaN (1 of 3 elements): the result of log, made by " + at(f, "here"))
    assert text.endswith("Made of the result of mul (shape (3,), float64) from -2 to 2")


def test_an_infinity_of_the_forward_pass():
    def f(x, y):
        return x / y  # here

    text = message(f, leaf([1.0, 1.0], "speed"), leaf([2.0, 0.0], "time"))
    assert text.startswith(f"the forward pass made infinity (1 of 2 elements): the result of div, made by {at(f, 'here')}. ")
    assert text.endswith("Made of 'speed' (shape (2,), float64) from 1 to 1 and 'time' (shape (2,), float64) from 0 to 2")
    assert message(lambda: leaf([1e300]) * 1e10).endswith(
        "a Tensor (shape (1,), float64) from 1e+300 to 1e+300 and 10000000000.0"
    )


def test_infinity_minus_itself_and_overflow_in_float32():
    assert "infinity (1 of 1 elements): the result of astype" in message(lambda: leaf([1e300]).astype(np.float32))
    assert "infinity (1 of 1 elements): the result of exp" in message(lambda: np.exp(Tensor([89.0], dtype=np.float32)))


def test_what_is_not_finite_in_the_data_is_seen_where_it_enters():
    x = np.ones((4, 1, 2))
    x[2, 0, 1] = np.nan
    for given in (x, Tensor(x, name="data")):
        text = message(tg.nn.GRU(2, 3, dtype=np.float64), given)
        assert text.startswith("the forward pass made NaN (1 of 2 elements): the result of getitem at time step 2 in GRU")
        assert text.count("with NaN (1 of 8 elements) already") == 1
    assert "'bias' (shape (2,), float64) with NaN (2 of 2 elements) already" in message(
        lambda: leaf([1.0, 2.0]) + Tensor(np.full(2, np.nan), name="bias")
    )


def test_a_cell_in_recurrent():
    cell = Growing()
    text = message(tg.nn.Recurrent(cell), np.zeros((6, 1, 2)), np.ones((1, 1, 2)))
    assert text.startswith(
        "the forward pass made infinity (2 of 2 elements): 'h', the result of exp at time step 2 in Recurrent.cells.l0, "
        f"made by {at(Growing.forward, 'here')}. Made of the result of add (shape (1, 2), float64) from "
    )
    first = np.exp(3.0)
    norms = f"t=0: {np.sqrt(2) * first:.3g}, t=1: {np.sqrt(2) * np.exp(3 * first):.3g}, t=2: inf"
    assert text.endswith(f". Norms at the neighbouring steps: {norms}")


@pytest.mark.parametrize("data", ["tensor", "arrays"])
def test_a_cell_in_a_loop_of_ones_own(data):
    cell, x = Growing(), np.zeros((6, 1, 2))

    def f():
        h, xs = Tensor(np.ones((1, 2))), Tensor(x) if data == "tensor" else x
        for t in range(6):
            h = cell(xs[t], h)

    text = message(f)
    assert "'h', the result of exp at time step 2 in Growing, made by" in text
    assert ". Norms at the neighbouring steps: t=0: 28.4, t=1: 2.09e+26, t=2: inf" in text


def test_a_loop_without_modules():
    def f():
        w, h, x = leaf([[40.0]]), Tensor([[1.0]]), Tensor(np.zeros((9, 1, 1)))
        for t in range(9):
            h = (x[t] + h @ w) ** 5  # here

    text = message(f)
    assert "the result of power at time step 3, made by " + at(f, "here") in text
    assert "t=0: 1.02e+08, t=1: 1.15e+48, t=2: 2.09e+248, t=3: inf" in text


def test_a_line_of_our_own_layers_is_given_beside_yours():
    layer = tg.nn.RNN(2, 3, nonlinearity="relu", dtype=np.float64)
    layer.weight_hh_l0.data = np.eye(3) * 1e200
    layer.bias_hh_l0.data = np.ones(3)

    def f():
        return layer(np.zeros((5, 1, 2)))  # here

    text = message(f)
    assert f"at time step 2 in RNN.cells.l0, made by {at(f, 'here')} (in nn/" in text


@pytest.mark.parametrize(("reverse", "order"), [("", [0, 1, 2]), ("_reverse", [4, 3, 2])])
def test_layers_and_directions(reverse, order):
    net = tg.nn.RNN(2, 3, num_layers=2, nonlinearity="relu", bidirectional=True, dtype=np.float64)
    for name in net.cells:
        net.cells[name].weight_hh.data = np.zeros((3, 3))
    getattr(net, f"weight_hh_l1{reverse}").data = np.eye(3) * 1e200
    getattr(net, f"bias_hh_l1{reverse}").data = np.ones(3)
    text = message(net, np.zeros((5, 1, 2)))
    assert f"at time step 2 in RNN.cells.l1{reverse}, made by" in text
    assert "l0" not in text
    norms = dict(zip(order, ("0", "e+200", "inf"), strict=True))
    for t, ending in norms.items():
        assert f"{ending}" in text.split(f"t={t}: ")[1].split(",")[0]


def test_a_model_is_named_by_its_path():
    class Model(tg.nn.Module):
        def __init__(self):
            self.rnn = tg.nn.Recurrent(Growing())
            self.heads = [tg.nn.Linear(2, 2), tg.nn.Sequential(tg.nn.Linear(2, 1, dtype=np.float64), np.log)]

        def forward(self, x):
            y, _ = self.rnn(x, np.zeros((1, 1, 2)))
            return self.heads[1](y)

    model = Model()
    assert " at time step 3 in Model.rnn.cells.l0, made by" in message(model, np.zeros((6, 1, 2)))
    model.heads[1][0].weight.data[...] = -1.0
    model.heads[1][0].bias.data[...] = 0.0
    assert ": the result of log in Model.heads.1, made by" in message(model, np.zeros((1, 1, 2)))


def test_without_a_graph_as_well():
    with tg.no_grad():
        text = message(tg.nn.Recurrent(Growing()), np.zeros((6, 1, 2)), np.ones((1, 1, 2)))
    assert "the result of exp at time step 2 in Recurrent.cells.l0, made by" in text


def test_what_is_finite_passes():
    with tg.detect_anomaly():
        x = Tensor([1, 2, 3])
        assert ((x + 2) * x).data.tolist() == [3, 8, 15]
        assert (x > 1).data.tolist() == [False, True, True]
        assert x[x > 1].sum().item() == 5
        assert np.sign(leaf([0.0])).item() == 0
        assert leaf(np.zeros((0, 3))).sum().item() == 0
        with pytest.raises(ValueError, match="add: operands could not be broadcast"):
            leaf([1, 2]) + leaf([1, 2, 3])


# -- the backward pass -------------------------------------------------------------------------------------------------------


def test_the_slope_of_a_root_at_zero():
    def f(x):
        y = np.sqrt(x * x)  # here
        y.sum().backward()

    text = message(f, leaf([0.0, 3.0], "x"))
    assert text.startswith(
        "the backward pass made infinity (1 of 2 elements): the gradient for the result of mul (shape (2,), float64) from "
        f"the result of sqrt, made by {at(f, 'here')}. Its own gradient has norm 1.41."
    )
    assert text.endswith("Made of the result of mul (shape (2,), float64) from 0 to 9")


def test_the_trap_of_where():
    """The branch that was not taken is finite in the forward pass, and 0 * inf on the way back."""

    def f(x):
        y = np.where(x > 0, np.sqrt(x).named("root"), 0)  # here
        y.sum().backward()

    text = message(f, leaf([0.0, 4.0], "x"))
    assert text.startswith(
        "the backward pass made NaN (1 of 2 elements): the gradient for 'x' (shape (2,), float64) from 'root', the result of "
        f"sqrt, made by {at(f, 'here')}."
    )


def test_zero_times_infinity():
    text = message(lambda: (leaf([0.0], "x") ** leaf([0.5], "y")).sum().backward())
    assert "infinity (1 of 1 elements): the gradient for 'x' (shape (1,), float64) from the result of power" in text
    assert "the forward pass made NaN (1 of 1 elements): the result of mul" in message(lambda: Tensor([np.inf]) * leaf([0.0]))


def test_a_step_of_a_cell_on_the_way_back():
    x, cell = np.ones((7, 1, 2)), Rooted()
    x[3] = 0
    net = tg.nn.Recurrent(cell)

    def f():
        y, _ = net(leaf(x, "x"))
        y.sum().backward()

    text = message(f)
    assert (
        "infinity (2 of 2 elements): the gradient for the result of mul (shape (1, 2), float64) from the result of sqrt at "
        f"time step 3 in Recurrent.cells.l0, made by {at(Rooted.forward, 'here')}." in text
    )
    norms, back = text.split("Norms at the neighbouring steps: ")[1].split(". Norms of their gradients: ")
    assert norms == "t=0: 1.41, t=1: 1.41, t=2: 1.41, t=3: 0, t=4: 1.41, t=5: 1.41, t=6: 1.41"
    assert [part.split(":")[0] for part in back.split(", ")] == ["t=3", "t=4", "t=5", "t=6"]


def explode(h, xs):
    for x in xs:
        h = (h @ np.eye(2) * 1e60).named("h") + x  # here
    return h


def test_the_growth_of_gradients_is_shown():
    def f():
        h, x = leaf(np.zeros((1, 2)), "h0"), Tensor(np.zeros((8, 1, 2)))
        explode(h, [x[t] for t in range(8)]).sum().backward()

    text = message(f)
    assert (
        f"from 'h', the result of mul at time step 2, made by {at(explode, 'here')}. Its own gradient has norm 1.41e+300"
        in text
    )
    assert "Norms of their gradients: t=2: 1.41e+300, t=3: 1.41e+240, t=4: 1.41e+180, t=5: 1.41e+120" in text
    assert "Norms at the neighbouring steps: t=1: 0, t=2: 0, t=3: 0, t=4: 0, t=5: 0" in text


def test_uses_that_only_their_sum_makes_infinite():
    def f(x):
        y = x * 1.0
        (y * 1.0 + y[::-1]).backward([1.2e308, 1.2e308])

    with np.errstate(over="ignore"):
        text = message(f, leaf([0.0, 0.0], "x"))
    assert "infinity (2 of 2 elements): the gradient for the result of mul" in text
    assert "(shape (2,), float64) summed over 2 uses of it: the result of " in text


def test_a_weight_whose_gradient_overflows_in_one_product():
    def f(x):
        y = x @ leaf(np.zeros((2, 2)), "W")  # here
        y.backward(np.full((3, 2), 1e308))

    text = message(f, np.ones((3, 2)))
    assert text.startswith(
        "the backward pass made infinity (4 of 4 elements): the gradient for 'W' (shape (2, 2), float64) from the"
    )
    assert text.endswith("from the result of matmul, made by " + at(f, "here"))


def test_a_weight_used_at_many_steps_whose_gradient_overflows():
    def f():
        w, h = leaf(np.eye(2), "W"), Tensor(np.ones((1, 2)))
        for _ in range(5):
            h = h @ w
        h.backward(np.full((1, 2), 0.5e308))

    text = message(f)
    assert (
        "infinity (4 of 4 elements): the gradient for 'W' (shape (2, 2), float64) summed over 5 uses of it: the result of"
        in text
    )


def test_a_gradient_that_was_given():
    text = message(lambda: (leaf([1.0, 2.0]) * 2).named("y").backward([np.nan, 1.0]))
    assert text == "backward() of 'y' (shape (2,), float64) was given NaN (1 of 2 elements) as its gradient"


def test_a_forward_pass_outside():
    x = leaf([0.0])
    y = np.sqrt(x)
    assert "from the result of sqrt, made by a line outside of detect_anomaly(). Its own" in message(y.backward)
    assert x.grad is None


def test_second_order():
    def first(x):
        y = np.sqrt(x) * x  # here
        y.sum().backward(create_graph=True)

    assert f"from the result of sqrt, made by {at(first, 'here')}." in message(first, leaf([0.0, 1.0], "x"))

    def second(x):
        y = (x**1.5).sum()  # here
        y.backward(create_graph=True)
        slope, x.grad = x.grad, None
        slope.sum().backward()

    text = message(second, leaf([0.0, 1.0], "x"))
    assert text.startswith(
        "the backward pass made infinity (1 of 2 elements): the gradient for 'x' (shape (2,), float64) from the"
    )
    assert f"from the result of power, made by {at(second, 'here')}, for the gradient of power. Its own gradient" in text


def test_transforms():
    def f(x):
        return np.sqrt(x * x * x)  # here

    for transform in (tg.grad, tg.jacobian, tg.hessian):
        assert f"the result of sqrt, made by {at(f, 'here')}." in message(transform(f), 0.0)
    with tg.detect_anomaly():
        assert tg.grad(f)(1.0).item() == 1.5


# -- on and off --------------------------------------------------------------------------------------------------------------


def test_off_it_leaves_no_trace():
    x = leaf([0.0, 1.0])

    def f():
        return (np.sqrt(x) * x).sum()

    with np.errstate(all="ignore"):
        with tg.detect_anomaly():
            inside = f()
        outside = f()
        outside.backward()
    assert current_scope.get().watch is None
    assert [y.op for y in toposort(inside)] == [y.op for y in toposort(outside)]
    assert all(y.scope.watch is None for y in toposort(outside))
    assert np.isnan(x.grad.data[0])


def test_the_same_numbers_as_without():
    tg.manual_seed(0)
    net, x = tg.nn.LSTM(2, 3, 2, bidirectional=True), np.random.default_rng(0).normal(size=(5, 2, 2)).astype(np.float32)
    grads = []
    for on in (False, True):
        net.zero_grad()
        with tg.detect_anomaly() if on else nullcontext():
            net(x)[0].sum().backward()
        grads.append([p.grad.numpy() for p in net.parameters()])
    for one, other in zip(*grads, strict=True):
        np.testing.assert_array_equal(one, other)


def test_exceptions_switch_it_off():
    x = leaf([0.0])
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), tg.detect_anomaly():
            raise error
    message(lambda: np.log(x * -1))
    message(lambda: np.sqrt(x).backward())
    assert current_scope.get().watch is None
    with np.errstate(all="ignore"):
        assert np.isinf(np.log(x).item())
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.log(x)


def test_one_inside_another_and_after_an_error():
    x = leaf([0.0])
    with tg.detect_anomaly():
        y = np.sqrt(x)
        with tg.detect_anomaly():
            assert (x + 1).item() == 1
            with pytest.raises(AnomalyError, match=r"from the result of sqrt, made by .*test_anomaly.py:\d+"):
                y.backward()
        with pytest.raises(AnomalyError, match="the result of log"):
            np.log(x)
        with pytest.raises(AnomalyError, match=r"the gradient for .* from the result of sqrt, made by .*test_anomaly.py:\d+"):
            y.backward()
        (x + 1).backward()  # the walk that failed is over
        with pytest.raises(AnomalyError, match="the forward pass made infinity"):
            np.log(x)
    assert x.grad.item() == 1


def test_as_a_decorator():
    @tg.detect_anomaly()
    def f(x):
        return np.log(x)

    for _ in range(2):
        with pytest.raises(AnomalyError, match="the result of log"):
            f(leaf([-1.0]))
    assert current_scope.get().watch is None


def test_per_thread_and_per_task():
    seen = {}

    def work():
        seen["thread"] = current_scope.get().watch

    async def task(on):
        if not on:
            await asyncio.sleep(0)
            return current_scope.get().watch
        with tg.detect_anomaly():
            await asyncio.sleep(0)
            return current_scope.get().watch

    async def main():
        return await asyncio.gather(task(True), task(False), task(True))

    with tg.detect_anomaly():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == {"thread": None}
    first, none, second = asyncio.run(main())
    assert none is None
    assert first is not second


def test_it_keeps_nothing_alive():
    gc.collect()
    gc.disable()
    try:
        with tg.detect_anomaly():
            x = leaf(np.ones((3, 3)))
            for _ in range(3):
                loss = np.tanh(x @ x.T).sum()
                loss.backward(create_graph=True)
                nodes = [weakref.ref(node) for node in toposort(loss, x.grad) if node is not x]
                del loss
                x.grad = None
                assert len(nodes) > 5
                assert not any(node() for node in nodes)
            assert len(current_scope.get().watch.lines) == 0
    finally:
        gc.enable()
