"""tg.compile as people use it: one node in the graph, what is noticed and what is refused, threads, memory, and its text.

That the numbers are right for any cell is the matter of test_compile_cells.py, and of test_parity_compile.py.
"""

import copy
import gc
import linecache
import pickle
import threading
import warnings
import weakref

import numpy as np
import pytest
from conftest import IN_C, in_threads
from test_compile_cells import E, N, T, Written, agree, results

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.compiler import self_check, trace
from tinygrad_rnn.nn.module import Module

pytestmark = [
    pytest.mark.usefixtures("target"),
    pytest.mark.parametrize("target", ["numpy", IN_C], indirect=True),
]


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(T, N, E))


@pytest.fixture(params=["RNN", "LSTM", "GRU"])
def layer(request):
    tg.manual_seed(0)
    return getattr(nn, request.param)(E, 2, dtype=np.float64)


def lstm(**options):
    tg.manual_seed(0)
    return nn.LSTM(E, 2, dtype=np.float64, **options)


# -- what may be compiled, and what the call takes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: nn.LSTMCell(3, 5), r"got a LSTMCell; write tg.compile\(tg.nn.Recurrent\(LSTMCell\(...\)\)\)"),
        (lambda: nn.Linear(3, 5), r"got a Linear; write model.rnn = tg.compile\(model.rnn\)"),
        (lambda: nn.LSTM, r"got a type; write tg.compile\(tg.nn.LSTM\(3, 5\)\)"),
        (lambda: len, "expected a recurrent layer, got a builtin"),
        (lambda: tg.compile(nn.LSTM(3, 5)), "is compiled already"),
    ],
)
def test_what_is_no_recurrent_layer(what, message):
    with pytest.raises(TypeError, match=message):
        tg.compile(what())


def test_an_unknown_fallback():
    with pytest.raises(ValueError, match="fallback is None or 'unrolled', got 'eager'"):
        tg.compile(lstm(), fallback="eager")


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f(np.zeros((4, 2, 5), np.float32)),
        lambda f: f(np.zeros((0, 2, 3), np.float32)),
        lambda f: f(np.zeros(4)),
        lambda f: f(None),
        lambda f: f(np.zeros((4, 2, 3), int)),
        lambda f: f(np.zeros((4, 2, 3)), np.zeros((1, 3, 2))),
        lambda f: f(np.zeros((4, 2, 3)), lengths=[1, 9]),
        lambda f: f(np.zeros((4, 3)), lengths=[2]),
        lambda f: f(np.zeros((4, 2, 3), np.float32), record="nope"),
    ],
    ids=["features", "no steps", "axes", "None", "integers", "state", "lengths", "no batch", "record"],
)
def test_a_wrong_call_says_what_the_layer_says(call):
    layer = nn.GRU(3, 2)
    with pytest.raises(Exception) as expected:  # noqa: PT011
        call(layer)
    with pytest.raises(expected.type) as found:
        call(tg.compile(layer))
    assert str(found.value) == str(expected.value)


def test_a_name_recorded_twice(x):
    agree(lstm(), x, record=("h", "h"))


@pytest.mark.parametrize("shape", [(T, N, E), (1, N, E), (T, 1, E), (1, 1, E), (T, 0, E), (T, E), (300, 2, E)], ids=str)
def test_sizes(layer, shape):
    agree(layer, np.random.default_rng(0).normal(size=shape), tolerance=1e-9)


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda x: x[::-1, :, ::-1], lambda x: x.swapaxes(0, 1), lambda x: x * 1e200]
)
def test_arrays_of_any_layout_and_size(layer, x, change):
    with np.errstate(all="ignore"):
        agree(layer, change(x))


@pytest.mark.parametrize(
    ("input_dtype", "dtype", "tolerance"),
    [
        (np.float32, np.float32, 1e-5),
        (np.float16, np.float16, 2e-2),
        (np.float32, np.float64, 1e-6),
        (np.float64, np.float32, 1e-5),
    ],
)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_dtypes(name, input_dtype, dtype, tolerance, x, target):
    tg.manual_seed(0)
    layer = getattr(nn, name)(E, 2, dtype=dtype)
    if target == "c" and np.float16 in (dtype, input_dtype):
        with pytest.raises(tg.CompileError, match="in every step, which cannot be written in C"):
            tg.compile(layer)(x.astype(input_dtype))
        return
    agree(layer, x.astype(input_dtype), tolerance=tolerance)
    for ours, theirs in zip(tg.compile(layer)(x.astype(input_dtype))[:1], layer(x.astype(input_dtype))[:1], strict=True):
        assert ours.dtype == theirs.dtype


def test_an_initial_state_of_integers(layer, x):
    zero = np.zeros((1, N, 2), int)
    state = (zero, zero + 1) if isinstance(layer.state_size, tuple) else zero + 1
    both_gradients(layer, x, lambda call: (call(x, state)[0] ** 2).sum().backward())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_goes_where_it_went(layer, x, bad):
    x[1, 0, 1] = bad
    with np.errstate(all="ignore"):
        agree(layer, x)


def test_padding_is_not_read(layer, x):
    x[2:, 0] = np.nan
    agree(layer, x, lengths=[2, 4, 4])


def test_changing_batch_sizes_and_lengths(layer):
    compiled, rng = tg.compile(layer), np.random.default_rng(0)
    for t, n in [(4, 3), (2, 1), (7, 3), (1, 2), (4, 3)]:
        agree(layer, rng.normal(size=(t, n, E)), None, compiled)
        agree(layer, rng.normal(size=(t, n, E)), None, compiled, lengths=rng.integers(1, t + 1, n))


# -- one node in the graph ----------------------------------------------------------------------------------------------------


def test_one_node_and_its_outputs(layer, x):
    y, state = tg.compile(layer)(x)
    last = state if isinstance(state, tuple) else (state,)
    assert {out.inputs[0] for out in (y, *last)} == {y.inputs[0]}
    assert y.inputs[0].op.name == f"{type(layer.cells['l0']).__name__} over time"
    assert all(p in y.inputs[0].inputs for p in layer.parameters())


def test_training_goes_on_as_before(x):
    losses = []
    for wrap in (lambda layer: layer, tg.compile):
        model = wrap(lstm())
        adam = tg.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.1)
        for _ in range(10):
            adam.zero_grad()
            loss = (model(x)[0] ** 2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            adam.step()
        losses.append(loss.item())
    np.testing.assert_allclose(*losses, rtol=1e-12)


def both_gradients(layer, x, use):
    """The gradients after `use` of the layer, and of the compiled layer."""
    found = []
    for call in (layer, tg.compile(layer)):
        for p in layer.parameters():
            p.grad = None
        use(call)
        found.append(np.concatenate([p.grad.data.ravel() for p in layer.parameters()]))
    assert found[0].any()
    np.testing.assert_allclose(*found, rtol=1e-11, atol=1e-11)


def final(result):
    return result[1][1] if isinstance(result[1], tuple) else result[1]


def test_some_of_the_results_one_after_the_other(layer, x):
    def use(call):
        result = call(x)
        result[0][1].sum().backward()
        (final(result) ** 2).sum().backward()
        (final(result) * result[0][-1]).sum().backward()

    both_gradients(layer, x, use)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_what_the_loss_does_not_reach_has_no_gradient(given, used, x):
    """`trace` follows h, and nothing follows it: y and the final h do not depend on its weights."""

    class Followed(Module):
        state_size = 2, 3

        def __init__(self):
            rng = np.random.default_rng(1)
            self.W, self.U, self.V = (nn.Parameter(rng.normal(size=size)) for size in ((E, 2), (2, 2), (2, 3)))
            self.unseen = nn.Parameter(rng.normal(size=3))

        def forward(self, x, state):
            h, trace = state
            return np.tanh(x @ self.W + h @ self.U), trace / 2 + np.tanh(h @ self.V) + np.sign(self.unseen)

    layer = nn.Recurrent(Followed())
    start = [tg.Tensor(np.full((1, N, size), 0.1), requires_grad=True) for size in (2, 3)]
    every = [*layer.parameters(), *start, tg.Tensor(x, requires_grad=True)]

    def gradients(call):
        for leaf in every:
            leaf.grad = None
        y, (h, trace) = call(every[-1], tuple(start) if given else None)
        sum((y, h, trace)[i].sum() for i in used).backward()
        return [leaf.grad for leaf in every]

    for expected, g in zip(gradients(layer), gradients(tg.compile(layer)), strict=True):
        assert (expected is None) is (g is None)
        if g is not None:
            np.testing.assert_allclose(g.data, expected.data, atol=1e-14)


def test_backward_twice_and_two_forwards_before(layer, x):
    def use(call):
        first, second = call(x)[0].sum(), (call(2 * x)[0] ** 2).sum()
        first.backward()
        second.backward()
        first.backward()

    both_gradients(layer, x, use)


def test_second_derivatives_unroll(layer, x):
    def use(call):
        leaf = tg.Tensor(x, requires_grad=True)
        y, _ = call(leaf, lengths=[2, 4, 1])
        (y**2).sum().backward(create_graph=True)
        slope = (leaf.grad**2).sum()
        for p in layer.parameters():
            p.grad = None
        slope.backward()

    both_gradients(layer, x, use)


def test_second_derivatives_with_the_same_masks(x):
    layer = nn.Recurrent(
        lambda n: nn.LSTMCell(n, 2, dtype=np.float64),
        E,
        2,
        zoneout=0.3,
        recurrent_dropout=0.3,
        bidirectional=True,
        learn_initial_state=True,
    )

    def use(call):
        tg.manual_seed(0)
        leaf = tg.Tensor(x, requires_grad=True)
        y, _, records = call(leaf, lengths=[2, 4, 1], record="f")
        ((y**2).sum() + (records["l0"]["f"] ** 2).sum()).backward(create_graph=True)
        slope = (leaf.grad**2).sum()
        for p in layer.parameters():
            p.grad = None
        slope.backward()

    both_gradients(layer, x, use)


def test_the_transforms(layer, x):
    compiled, x = tg.compile(layer), x[:2, :1]
    for transform in (
        lambda f: tg.grad(f)(x),
        lambda f: tg.hessian(f)(x),
        lambda f: tg.jvp(f, (x,), (x,))[1],
        lambda f: tg.hvp(f, (x,), (x,)),
    ):
        ours, theirs = (transform(lambda v, call=call: (call(v)[0] ** 2).sum()) for call in (compiled, layer))
        ours, theirs = (v[0] if isinstance(v, tuple) else v for v in (ours, theirs))
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-10, atol=1e-12)


def test_finite_differences(layer, x):
    compiled = tg.compile(layer)
    assert tg.gradcheck(lambda *_: compiled(x)[0], list(layer.parameters()))


def test_no_gradient_no_backward(layer, x):
    compiled = tg.compile(layer)
    with tg.no_grad():
        y, _ = compiled(x)
    assert not y.requires_grad
    assert "def forward" in compiled.source
    assert "def backward" not in compiled.source
    np.testing.assert_allclose(y.data, layer(x)[0].data, atol=1e-14)
    assert compiled(x)[0].requires_grad


def test_the_masks_are_those_of_the_unrolled_run_call_after_call(x):
    layer = nn.Recurrent(
        lambda n: nn.LSTMCell(n, 2, dtype=np.float64),
        E,
        3,
        dropout=0.4,
        zoneout=0.2,
        recurrent_dropout=0.3,
        bidirectional=True,
    )
    found = []
    for call in (layer, tg.compile(layer)):
        tg.manual_seed(1)
        call(x)
        found.append(call(x)[0].data)
    np.testing.assert_allclose(*found, atol=1e-14)


# -- results and memory -------------------------------------------------------------------------------------------------------


def test_results_outlive_the_next_call(layer, x):
    compiled, expected = tg.compile(layer), layer(x)
    result = compiled(x)
    compiled(2 * x)[0].sum().backward()
    np.testing.assert_allclose(result[0].data, expected[0].data, rtol=1e-12)
    np.testing.assert_allclose(final(result).data, final(expected).data, rtol=1e-12)


def test_two_gradients_are_two_arrays(layer, x):
    """Clipping scales in place: an array that is shared would be scaled twice."""
    tg.compile(layer)(x)[0].sum().backward()
    grads = [p.grad.data for p in layer.parameters()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(grads) for b in grads[:i])


def test_weights_that_change_before_backward(layer, x):
    loss = tg.compile(layer)(x)[0].sum()
    layer.weight_hh_l0.data *= 2
    with pytest.raises(RuntimeError, match=r"modified by an in-place operation: 'weight_hh' .* read by .*Cell over time"):
        loss.backward()


def test_an_edit_of_the_caller_s_arrays_changes_nothing(layer, x):
    def use(call):
        given = x.copy()
        loss = (call(given)[0] ** 2).sum()
        given[:] = 9
        loss.backward()

    both_gradients(layer, x, use)


def test_freed_by_reference_counts(layer, x):
    compiled = tg.compile(layer)
    compiled(x)[0].sum().backward()
    gc.collect()
    gc.disable()
    try:
        y = compiled(x)[0]
        y.sum().backward()
        node = weakref.ref(y.inputs[0])
        del y
        assert node() is None
    finally:
        gc.enable()


def test_programs_of_many_batch_sizes_are_not_all_kept():
    compiled = tg.compile(nn.RNN(1, 1), target="numpy")  # which takes less time
    for n in range(1, 40):
        compiled(np.zeros((1, n, 1), np.float32))
    assert len(compiled._programs) <= 32


def test_threads():
    layer = lstm()
    compiled, rng = tg.compile(layer), np.random.default_rng(0)
    inputs = [rng.normal(size=(20, n, E)) for n in (1, 2, 3, 3)]
    expected = [tg.grad(lambda v: (layer(v)[0] ** 2).sum())(v).data for v in inputs]
    wrong = []

    def work(v, slope):
        for _ in range(20):
            found = tg.grad(lambda v: (compiled(v)[0] ** 2).sum())(v).data
            if not np.allclose(found, slope, atol=1e-12):
                wrong.append(found)

    in_threads(work, zip(inputs, expected, strict=True))
    assert not wrong


def test_a_program_that_several_threads_want_is_made_once(x):
    compiled, start, before = tg.compile(lstm()), threading.Barrier(4), set(linecache.cache)

    def work():
        start.wait()
        compiled(x)

    in_threads(work, [()] * 4)
    assert len([file for file in set(linecache.cache) - before if "tg.compile" in file]) == 1


# -- a module -----------------------------------------------------------------------------------------------------------------


def test_names_and_state_dicts_are_those_of_the_layer(x):
    layer, other = lstm(num_layers=2, bidirectional=True), nn.LSTM(E, 2, 2, bidirectional=True, dtype=np.float64)
    compiled = tg.compile(layer)
    assert [n for n, _ in compiled.named_parameters()] == [n for n, _ in layer.named_parameters()]
    assert list(compiled.state_dict()) == list(layer.state_dict())
    assert next(n for n, _ in nn.ModuleList([compiled]).named_parameters()) == "0.weight_ih_l0"
    agree(layer, x, None, compiled)
    compiled.load_state_dict(other.state_dict())
    np.testing.assert_allclose(compiled(x)[0].data, other(x)[0].data, atol=1e-14)
    assert compiled.gates["f"].bias_ih is not None
    assert (compiled.hidden_size, compiled.num_layers) == (2, 2)


def test_eval_and_train_reach_the_layer(x):
    layer = lstm(num_layers=2, dropout=0.5)
    compiled = tg.compile(layer)
    for mode in (True, False, True):
        compiled.train(mode)
        assert layer.training is mode
        agree(layer, x, None, compiled)


@pytest.mark.parametrize(("name", "value"), [("weight_ih_l0", nn.Parameter(np.ones((8, E)))), ("zoneout", 0.0)])
def test_what_is_set_reaches_the_layer(name, value):
    compiled = tg.compile(lstm(zoneout=0.5))
    setattr(compiled, name, value)
    assert getattr(compiled.layer, name) is value
    assert len(list(compiled.parameters())) == 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_independent(copied, x):
    compiled = tg.compile(lstm())
    before = compiled(x)[0].data.copy()
    other = copied(compiled)
    for p in other.parameters():
        p.data = p.data * 2
    agree(other.layer, x, None, other)
    np.testing.assert_array_equal(compiled(x)[0].data, before)


# -- what changes after a program was made ------------------------------------------------------------------------------------


class Settings:
    rate = 0.5


class Tuned(Written):
    """A cell with settings of every kind."""

    shared = 0.5

    def __init__(self):
        super().__init__(None)
        self.rate, self.array, self.act, self.other = 0.3, np.array([1.0, 2.0]), np.tanh, tg.Tensor(np.array([0.5, 1.0]))
        self.number, self.tensor = np.float64(0.3), tg.Tensor(2.0)
        self.list, self.dict, self.arrays, self.settings = [0.5], {"rate": 0.5}, (np.ones(2),), Settings()

    def forward(self, x, h):
        many = self.rate * self.array * self.other * self.number * self.tensor * self.shared
        return self.act(self.n(x, h) * many * self.list[0] * self.dict["rate"] * self.arrays[0] * self.settings.rate + h)


def set_item(name, key, value):
    return lambda cell: getattr(cell, name).__setitem__(key, value)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda c: setattr(c, "rate", 0.9), id="number"),
        pytest.param(lambda c: setattr(c, "number", np.float64(0.9)), id="NumPy number"),
        pytest.param(lambda c: setattr(c, "act", np.sin), id="function"),
        pytest.param(set_item("array", 0, 9.0), id="array in place"),
        pytest.param(lambda c: setattr(c, "array", np.ones(2)), id="another array"),
        pytest.param(lambda c: setattr(c.other, "data", np.array([3.0, 4.0])), id="Tensor in place"),
        pytest.param(lambda c: setattr(c.other, "requires_grad", True), id="Tensor that is trained"),
        pytest.param(lambda c: setattr(c.tensor, "data", np.array(5.0)), id="Tensor of one number"),
        pytest.param(lambda c: setattr(c.scalar, "data", np.array(5.0)), id="parameter of one number"),
        pytest.param(lambda c: setattr(c.linear.weight, "requires_grad", False), id="frozen parameter"),
        pytest.param(lambda c: setattr(c.linear, "bias", None), id="parameter taken away"),
        pytest.param(set_item("list", 0, 9.0), id="list"),
        pytest.param(set_item("dict", "rate", 9.0), id="dict"),
        pytest.param(lambda c: c.arrays[0].fill(9.0), id="array in a tuple"),
        pytest.param(lambda c: setattr(c.settings, "rate", 9.0), id="object"),
        pytest.param(lambda c: setattr(type(c), "shared", type(c).shared + 1), id="class attribute"),
    ],
)
def test_a_setting_that_changes_is_noticed(edit, x):
    layer = nn.Recurrent(Tuned())
    compiled = tg.compile(layer)
    agree(layer, x, None, compiled)
    edit(layer.cells["l0"])
    agree(layer, x, None, compiled)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda layer: layer.eval(), id="eval"),
        pytest.param(lambda layer: setattr(layer, "zoneout", 0.9), id="zoneout"),
        pytest.param(lambda layer: setattr(layer, "recurrent_dropout", 0.5), id="recurrent dropout"),
        pytest.param(
            lambda layer: layer.cells.update(l0=nn.LSTMCell(E, 2, dtype=np.float64)),
            id="another cell",
        ),
        pytest.param(lambda layer: setattr(layer, "weight_hh_l0", nn.Parameter(np.ones((8, 2)))), id="another parameter"),
    ],
)
def test_a_layer_that_changes_is_noticed(edit, x):
    layer = lstm(zoneout=0.3)
    compiled = tg.compile(layer)
    agree(layer, x, None, compiled)
    edit(layer)
    agree(layer, x, None, compiled)


def test_a_frozen_layer_has_no_gradient(x):
    layer = lstm()
    compiled = tg.compile(layer)
    compiled(x)
    for p in layer.parameters():
        p.requires_grad = False
    assert not compiled(x)[0].requires_grad


@pytest.mark.parametrize(
    "keeps", [lambda c, h: setattr(c, "count", getattr(c, "count", 0) + 1), lambda c, h: setattr(c, "last", h)]
)
def test_a_step_that_leaves_something_is_not_compiled_at_every_call(keeps, x, monkeypatch):
    compiled = tg.compile(nn.Recurrent(Written(lambda c, x, h: (keeps(c, h), c.n(x, h))[1])))
    compiled(x)
    made = []
    monkeypatch.setattr("tinygrad_rnn.compiler.run.trace", lambda *args: made.append(args))
    try:
        compiled(x)
    finally:
        assert not made


# -- what cannot be rolled ----------------------------------------------------------------------------------------------------

UNROLLABLE = {
    "if": (lambda c, x, h: c.n(x, h) if h.sum() > 0 else h, "takes the truth"),
    "max of Python": (lambda c, x, h: c.n(x, h) * max(h[0, 0], h[0, 1]), "takes the truth"),
    "float": (lambda c, x, h: c.n(x, h) * float(h[0, 0].detach()), "takes the number"),
    "item": (lambda c, x, h: c.n(x, h) * h[0, 0].item(), "takes the number"),
    "data": (lambda c, x, h: c.n(x, h) * h.data.sum(), "takes the array"),
    "numpy": (lambda c, x, h: c.n(x, h) * h.detach().numpy(), "takes the array"),
    "sort": (lambda c, x, h: np.sort(c.n(x, h), axis=-1), "takes the array"),
    "median": (lambda c, x, h: c.n(x, h) - np.median(h, axis=-1, keepdims=True), "takes the array"),
    "argmax as index": (lambda c, x, h: c.n(x, h) * h[np.arange(N), np.argmax(h, axis=-1)][:, None], "takes the array"),
    "mask as index": (lambda c, x, h: c.n(x, h) * h[h > 0].sum(), "takes the array"),
    "random numbers": (lambda c, x, h: nn.functional.dropout(c.n(x, h), 0.5, True), "draws random numbers"),
    "NumPy's random numbers": (
        lambda c, x, h: c.n(x, h) + np.random.default_rng().normal(),
        "differs from the unrolled layer's",
    ),
    "a counter": (
        lambda c, x, h: (setattr(c, "count", getattr(c, "count", 0) + 1), c.n(x, h) * c.count)[1],
        "differs from the unrolled layer's",
    ),
    "np.any": (lambda c, x, h: c.n(x, h) if np.any(np.abs(h) > 2) else h, "takes the truth"),
    "np.allclose": (lambda c, x, h: c.n(x, h) if np.allclose(h, 0) else h, "takes the truth"),
}


@pytest.mark.parametrize(
    "name",
    UNROLLABLE,
)
def test_what_cannot_be_rolled_says_so(name, x):
    step, message = UNROLLABLE[name]
    with pytest.raises(tg.CompileError, match=message) as error:
        tg.compile(nn.Recurrent(Written(step)))(x)
    if "takes" in message:
        assert f"{__file__}:" in str(error.value)


@pytest.mark.parametrize(
    "step", [lambda c, x, h: c.n(x, h) * (1 if h.sum() > 0 else 2), UNROLLABLE["sort"][0], UNROLLABLE["random numbers"][0]]
)
def test_the_fallback_warns_once_and_runs_unrolled(step, x):
    layer = nn.Recurrent(Written(step))
    compiled = tg.compile(layer, fallback="unrolled")
    tg.manual_seed(0)
    with pytest.warns(UserWarning, match="compile: .*; it runs unrolled"):
        compiled(x)
    agree(layer, x, None, compiled)


def test_a_state_that_changes_its_shape(x):
    layer = nn.Recurrent(Written(lambda c, x, h: np.concatenate([h, h], axis=-1)))
    with pytest.raises(ValueError, match=r"state_size=2 means a state of shape \(3, 2\), and forward returned .*\(3, 4\)"):
        tg.compile(layer)(x)


def test_a_refusal_leaves_nothing_behind(x):
    """After an error the next program and the next random number are as if there had been none."""
    layers = [nn.Recurrent(Written(step)) for step, _ in UNROLLABLE.values()]
    tg.manual_seed(0)
    expected = nn.init.generator.random()
    tg.manual_seed(0)
    for layer in layers:
        with pytest.raises((tg.CompileError, AttributeError)):
            tg.compile(layer)(x)
    assert nn.init.generator.random() == expected
    agree(lstm(), x)


@pytest.mark.parametrize("once", ["traced", "compared"])
def test_numbers_that_another_thread_draws_meanwhile(x, once, monkeypatch):
    """They stay drawn, and are no reason to refuse the step."""
    module = {"traced": trace, "compared": self_check}[once]
    original, drawn = getattr(module, once), []

    def meanwhile(*args):
        drawn[:] = drawn or [nn.init.generator.random()]
        return original(*args)

    layer = lstm()
    tg.manual_seed(0)
    expected = nn.init.generator.random(2)
    tg.manual_seed(0)
    monkeypatch.setattr(module, once, meanwhile)
    tg.compile(layer)(x)
    assert [*drawn, nn.init.generator.random()] == [*expected]


# -- anomalies, pictures, text ------------------------------------------------------------------------------------------------


def test_an_anomaly_is_found(x):
    compiled = tg.compile(nn.Recurrent(Written(lambda c, x, h: np.log(c.n(x, h)))))
    with np.errstate(all="ignore"), pytest.raises(tg.AnomalyError, match="made NaN"), tg.detect_anomaly():
        compiled(x)


def test_no_anomaly_where_there_is_none(layer, x):
    with tg.detect_anomaly():
        tg.compile(layer)(x)[0].sum().backward()


def test_a_picture(layer, x):
    loss = tg.compile(layer)(x)[0].sum().named("loss")
    assert "over time" in tg.viz.draw(loss).source


def test_printing_shows_no_machinery():
    assert "_unrolled" not in repr(tg.compile(lstm()))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_no_warning_when_a_program_runs(nonlinearity, x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tg.compile(nn.RNN(E, 2, nonlinearity=nonlinearity, dtype=np.float64))(x)[0].sum().backward()
    assert not caught


def test_the_source(layer, x):
    compiled = tg.compile(layer)
    with tg.detect_anomaly():
        assert "def forward(" in compiled.source  # before any call: an example's
    compiled(x)
    first = compiled.source
    again = tg.compile(layer)
    again(x)
    assert first == again.source
    compile(first, "source", "exec")
    deep = tg.compile(lstm(num_layers=2, bidirectional=True))
    deep(x)
    assert [deep.source.count(f"# -- {name} -") for name in ("l0", "l0_reverse", "l1", "l1_reverse")] == [1, 1, 1, 1]


def test_a_constant_row_is_normalised_to_zeros():
    """Whatever else is left of it by rounding becomes large."""
    cell = Written(lambda c, x, h: c.norm(np.tanh(h) + x), size=5, features=5, dtype=np.float32)
    x = np.full((6, 2, 5), 0.7, np.float32)
    x[:, 1, 0] = 0
    layer = nn.Recurrent(cell)
    y = tg.compile(layer)(x)[0].numpy()
    assert not y[:, 0].any()
    assert y[:, 1].all()
    np.testing.assert_allclose(y, layer(x)[0].numpy(), rtol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_gradients_that_amplify_rounding_are_no_reason_to_refuse(seed):
    tg.manual_seed(seed)
    x = np.random.default_rng(seed).normal(size=(4, 64, 3)).astype(np.float32)
    layer = nn.Recurrent(nn.zoo.LayerNormLSTMCell(3, 2))
    np.testing.assert_allclose(tg.compile(layer)(x)[0].data, layer(x)[0].data, atol=1e-3)


def test_what_is_wrong_in_single_precision_alone_is_refused():
    def step(c, x, h):
        twice, c.traced = not hasattr(c, "traced") and x.dtype == np.float32, True
        return np.tanh((2 if twice else 1) * h + c.own(x))

    with pytest.raises(tg.CompileError, match="differs from the unrolled layer's on random numbers"):
        tg.compile(nn.Recurrent(Written(step, dtype=np.float32)))(np.ones((T, N, E), np.float32))


def test_a_backward_loop_that_reads_nothing_over_time():
    layer = nn.Recurrent(Written(lambda c, x, h: np.tanh(c.own(x)), size=128, dtype=np.float32))
    for p in layer.parameters():
        p.requires_grad = False
    agree(layer, np.ones((3, 64, E), np.float32), np.ones((1, 64, 128), np.float32), tolerance=1e-6)


def test_a_member_of_a_state_that_is_an_array():
    step = lambda c, x, state: (np.tanh(c.own(x) + state[0]), np.full((len(x), 3), 0.5))  # noqa: E731
    agree(nn.Recurrent(Written(step, size=(2, 3))), np.ones((T, N, E)), record=("state0", "state1"))


def test_a_layer_that_becomes_batch_first(x):
    layer = lstm()
    compiled = tg.compile(layer)
    compiled.batch_first = True
    agree(layer, x, compiled=compiled)


def test_a_parameter_of_any_name(x):
    cell = Written(lambda c, x, h: np.tanh(c.own(x) + c.SAVED * h))
    cell.SAVED = nn.Parameter(np.ones(2))
    agree(nn.Recurrent(cell), x)


def test_the_source_of_a_cell_without_sizes():
    with pytest.raises(RuntimeError, match=r"there is no program yet.*call it once"):
        _ = tg.compile(nn.Recurrent(Written(lambda c, x, h: h))).source


def test_the_compiled_layer_is_a_module(x):
    compiled = tg.compile(lstm())
    assert isinstance(compiled, Module)
    assert results(compiled, compiled.layer, x)[0].shape == (T, N, 2)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = compiled.nothing


def test_a_trace_leaves_nothing_behind():
    layer = lstm()
    w = layer.cells["l0"].weight_hh
    gc.disable()
    try:
        tg.compile(layer)(np.zeros((T, N, E)))
        assert [x for x in gc.get_objects() if type(x).__name__ == "Traced"] == []
        assert w._transpose is None or w._transpose() is None
    finally:
        gc.enable()
    assert w.T.numpy().shape == (2, 8)
