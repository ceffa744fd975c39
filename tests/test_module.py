"""Module: what it finds, how it names it, how it saves and loads it, and that copies are whole."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.backward import toposort


class Nested(nn.Module):
    """Parameters and modules in every kind of place."""

    def __init__(self):
        self.scale = nn.Parameter([2.0])
        self.layers = [nn.Linear(1, 1), {"a": nn.Linear(1, 1, bias=False), "b": (nn.Parameter([3.0]), 5)}]
        self.note = "not a parameter"
        self.plain = tg.Tensor([1.0])
        self.trained = tg.Tensor([1.0], requires_grad=True)
        self.computed = self.trained * 2
        self.stack = nn.ModuleList([nn.Sequential(nn.Linear(1, 1))])
        self.nothing = None


NAMES = [
    "scale", "layers.0.weight", "layers.0.bias", "layers.1.a.weight", "layers.1.b.0", "trained", "stack.0.0.weight",
    "stack.0.0.bias",
]  # fmt: skip


# -- finding and naming -------------------------------------------------------------------------------------------------------


def test_parameters_are_found_in_order_and_named_by_their_path():
    model = Nested()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert list(model.state_dict()) == NAMES
    assert [p is q for p, (_, q) in zip(model.parameters(), model.named_parameters(), strict=True)] == [True] * len(NAMES)
    assert model.layers[1]["b"][0] is model.parameters()[4]


def test_modules_are_named_by_their_path():
    paths = ["", "layers.0", "layers.1.a", "stack", "stack.0", "stack.0.0"]
    assert [path for path, _ in Nested().named_modules()] == paths


def test_what_is_changed_later_is_found():
    model = Nested()
    del model.layers
    model.stack.append(nn.Linear(2, 1, bias=False))
    model.trained.requires_grad = False
    assert [name for name, _ in model.named_parameters()] == [
        "scale", "stack.0.0.weight", "stack.0.0.bias", "stack.1.weight",
    ]  # fmt: skip


def test_a_frozen_parameter_stays_in_the_state_and_out_of_the_gradient():
    layer = nn.Linear(2, 1)
    layer.weight.requires_grad = False
    layer(np.ones((1, 2), np.float32)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad.data.tolist() == [1.0]
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_two_parameters_with_one_path_are_refused():
    model = nn.Module()
    model.table = {0: nn.Parameter([1.0]), "0": nn.Parameter([2.0])}
    for call in (model.state_dict, lambda: model.load_state_dict({"table.0": [3.0]})):
        with pytest.raises(ValueError, match=r"two parameters share the path table.0; rename an attribute or a key"):
            call()
    assert len(model.parameters()) == 2


def test_leaves_are_named_after_the_attribute_that_holds_them():
    model = Nested()
    assert [p.name for p in model.parameters()][:2] == ["scale", "weight"]
    assert model.layers[1]["b"][0].name == "layers.1.b.0"
    assert model.plain.name == "plain"
    assert model.computed.name is None
    named = nn.Parameter([1.0], name="w")
    model.other = named
    assert named.name == "w"


def test_an_attribute_called_modules_is_nothing_special():
    class Model(nn.Module):
        def __init__(self):
            self.modules = [nn.Linear(1, 1, bias=False)]

    assert [path for path, _ in Model().named_parameters()] == ["modules.0.weight"]
    assert [path for path, _ in Model().named_modules()] == ["", "modules.0"]


def test_a_shared_module_is_saved_under_each_path_and_trained_once():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert model.parameters() == [layer.weight, layer.bias]
    tg.optim.SGD(model.parameters())


def test_two_modules_share_a_parameter():
    embed, out = nn.Embedding(5, 3, dtype=np.float64), nn.Linear(3, 5, bias=False, dtype=np.float64)
    out.weight = embed.weight
    model = nn.Sequential(embed, out)
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    loss = model([1, 2]).sum()
    loss.backward()
    w = embed.weight.data
    expected = np.tile(w[[1, 2]].sum(0), (5, 1))  # as the output's weight
    expected[[1, 2]] += w.sum(0)  # as the table
    np.testing.assert_allclose(embed.weight.grad.data, expected, rtol=1e-14)
    before = w.copy()
    tg.optim.SGD(model.parameters(), lr=0.1).step()
    np.testing.assert_allclose(out.weight.data, before - 0.1 * expected, rtol=1e-14)
    state = model.state_dict()
    other = nn.Sequential(nn.Embedding(5, 3, dtype=np.float64), nn.Linear(3, 5, bias=False, dtype=np.float64))
    other.load_state_dict(state)
    np.testing.assert_array_equal(other[1].weight.data, embed.weight.data)


# -- assigning ----------------------------------------------------------------------------------------------------------------


def test_a_parameter_can_be_replaced_by_a_parameter_or_by_none():
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(np.eye(2, dtype=np.float32))
    np.testing.assert_allclose(layer(np.array([3, 4], np.float32)).data, layer.bias.data + np.array([3, 4]), rtol=1e-6)
    layer.weight = tg.Tensor(np.eye(2, dtype=np.float32), requires_grad=True)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]
    assert layer(np.array([3, 4], np.float32)).data.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (
            lambda w: w - 0.1 * w,
            r"Linear.weight is a Parameter, and the result of sub \(shape \(2, 2\), float32\) in its place",
        ),
        (lambda w: np.eye(2), r"a ndarray in its place would not be trained. For new numbers write module.weight.data = ..."),
        (lambda w: tg.Tensor(np.eye(2)), r"for another parameter, module.weight = Parameter\(...\)"),
    ],
)
def test_a_parameter_is_not_lost_by_assignment(value, match):
    layer = nn.Linear(2, 2)
    weight = layer.weight
    with pytest.raises(TypeError, match=match):
        layer.weight = value(weight)
    assert layer.weight is weight


# -- saving and loading -------------------------------------------------------------------------------------------------------


def test_a_state_dict_is_a_copy():
    layer = nn.Linear(2, 1)
    state = layer.state_dict()
    state["weight"][:] = 7
    assert not (layer.weight.data == 7).any()
    layer.load_state_dict(state)
    assert layer.weight.data.tolist() == [[7, 7]]
    state["weight"][:] = 8
    assert layer.weight.data.tolist() == [[7, 7]]


def test_loading_keeps_the_parameters_and_their_dtype():
    layer = nn.Linear(2, 1)
    weight = layer.weight
    layer.load_state_dict({"weight": [[1, 2]], "bias": tg.Tensor([0.5], requires_grad=True)})
    assert layer.weight is weight
    assert (weight.dtype, weight.data.tolist()) == (np.float32, [[1, 2]])
    assert (layer.bias.dtype, layer.bias.data.tolist()) == (np.float32, [0.5])
    layer.load_state_dict(dict(nn.Linear(2, 1).named_parameters()))


def test_loading_between_forward_and_backward_is_noticed():
    layer = nn.Linear(2, 1)
    loss = layer(np.ones((1, 2), np.float32)).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match=r"modified by an in-place operation: '(weight|bias)'"):
        loss.backward()


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ("net.safetensors", TypeError, r"expected a dict, as .* tg.load\(path\) give it, got a str. Nothing was changed"),
        (nn.Linear(2, 1), TypeError, r"expected a dict, .* got a Linear. Nothing was changed"),
        ({"weight": np.ones((1, 2))}, KeyError, r"load_state_dict into Linear: missing bias. Nothing was changed"),
        ({"weight": [[1, 2]], "bias": [0], "x": 1, "y": 2}, KeyError, r"unexpected x; unexpected y. Nothing was changed"),
        ({"bias": [0], "w": 1}, KeyError, r"missing weight; unexpected w. Nothing was changed"),
        ({"weight": [[1], [2]], "bias": [0]}, ValueError, r"weight has shape \(2, 1\), expected \(1, 2\). Nothing was"),
        ({"weight": [1, 1], "bias": 0}, ValueError, r"shape \(2,\), expected \(1, 2\); bias has shape \(\), expected \(1,\)"),
        ({"weight": [1, 1], "w": 0}, KeyError, r"missing bias; unexpected w; weight has shape \(2,\), expected \(1, 2\)"),
        ({"weight": np.ones((1, 2)), "bias": ["a"]}, TypeError, r"expected numbers; bias has dtype <U1. Nothing was changed"),
        ({"weight": [[1, 2]], "bias": [1j]}, TypeError, r"expected numbers; bias has dtype complex128. Nothing was changed"),
    ],
)
def test_loading_is_all_or_nothing(state, error, match):
    layer = nn.Linear(2, 1)
    before = layer.state_dict()
    with pytest.raises(error, match=match):
        layer.load_state_dict(state)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# -- modes, copies, and calls -------------------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(nn.LSTM(2, 2, 2, dropout=0.5), nn.ModuleList([nn.Dropout()]))
    model.held = {"deep": [nn.Dropout()]}
    assert model.eval() is model
    assert [m.training for _, m in model.named_modules()] == [False] * 7
    model[1].train()
    assert [m.training for _, m in model.named_modules()] == [False, False, False, False, True, True, False]
    assert model.train().training
    assert {m.training for _, m in model.named_modules()} == {True}
    assert nn.Module.training


def test_a_deep_copy_is_independent_and_keeps_what_is_shared():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.LSTM(2, 3, bidirectional=True), layer)
    x = np.ones((4, 1, 2), np.float32)
    model[1](x)[0].sum().backward()
    twin = copy.deepcopy(model)
    assert twin[0] is twin[2]
    assert twin[0] is not layer
    assert list(twin.state_dict()) == list(model.state_dict())
    assert [p.grad for p in twin.parameters()] == [None] * len(model.parameters())
    np.testing.assert_allclose(twin[1](x)[0].data, model[1](x)[0].data, rtol=1e-6)
    twin[1].weight_ih_l0.data[:] = 0
    assert model[1].weight_ih_l0.data.all()


@pytest.mark.parametrize("used", [False, True])
def test_a_module_survives_pickle(used):
    model = nn.Sequential(nn.LSTM(2, 3))
    x = np.ones((4, 1, 2), np.float32)
    out = model[0](x)[0] if used else None  # a graph that is alive while the model is pickled
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(twin[0](x)[0].data, model[0](x)[0].data, rtol=1e-6)
    assert twin[0].weight_ih_l0.requires_grad
    del out


def test_zero_grad_sets_none():
    layer = nn.Linear(2, 1)
    layer(np.ones((1, 2), np.float32)).sum().backward()
    layer.zero_grad()
    assert [p.grad for p in layer.parameters()] == [None, None]


def test_nodes_know_the_module_that_made_them():
    inner = nn.Linear(1, 1)

    class Outer(nn.Module):
        def __init__(self):
            self.inner = inner

        def forward(self, x):
            return tg.exp(self.inner(x))

    outer = Outer()
    y = outer(np.ones((1, 1), np.float32)) * 2
    made = {n.op.name: n.scope.module for n in toposort(y) if n.op}
    assert made == {"transpose": inner, "matmul": inner, "add": inner, "exp": outer, "mul": None}
    inside = next(n for n in toposort(y) if n.op and n.op.name == "add")
    assert inside.scope.parent.module is outer


def test_a_forward_may_stop_recording():
    class Frozen(nn.Module):
        def __init__(self):
            self.below, self.above = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x):
            with tg.no_grad():
                x = self.below(x)
            return self.above(x)

    model = Frozen()
    model(np.ones((1, 2), np.float32)).sum().backward()
    assert model.below.weight.grad is None
    assert model.above.bias.grad.data.tolist() == [1.0]


def test_keyword_arguments_reach_forward():
    class Scaled(nn.Module):
        def forward(self, x, *, by=1):
            return x * by

    assert Scaled()(tg.Tensor([2.0]), by=3).data.tolist() == [6.0]


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty has no forward: write `def forward\(self, x\): ...`"):
        Empty()(1)


# -- lists and sequences ------------------------------------------------------------------------------------------------------


def test_sequential_runs_modules_and_functions_in_order():
    model = nn.Sequential(nn.Linear(2, 2, dtype=np.float64), tg.tanh, nn.Linear(2, 1, dtype=np.float64))
    p, x = model.state_dict(), np.array([[0.3, -0.4]])
    assert list(p) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    expected = np.tanh(x @ p["0.weight"].T + p["0.bias"]) @ p["2.weight"].T + p["2.bias"]
    np.testing.assert_allclose(model(x).data, expected, rtol=1e-14)
    assert nn.Sequential()(3) == 3


def test_a_module_list_is_a_list():
    a, b = nn.Linear(1, 1), nn.Linear(1, 2)
    modules = nn.ModuleList([a])
    modules.append(b)
    assert (len(modules), list(modules), modules[-1], modules[0:1]) == (2, [a, b], b, [a])
    assert list(modules.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.Sequential([nn.Linear(1, 1)]), r"Sequential: expected a module, got a list; write Sequential\(a, b\)"),
        (lambda: nn.ModuleList([nn.Linear(1, 1), 3]), r"ModuleList: expected a module, got a int; .* ModuleList\(\[a, b\]\)"),
    ],
)
def test_what_is_not_a_module_is_refused(make, match):
    with pytest.raises(TypeError, match=match):
        make()


# -- repr ---------------------------------------------------------------------------------------------------------------------


def test_repr_shows_settings_shapes_and_structure():
    model = nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 4, 1), nn.ModuleList([nn.Dropout(0.25)]))
    assert repr(model) == (
        "Sequential(  # 117 parameters\n"
        "  (0): Linear(in_features=2, out_features=3, weight[3, 2], bias[3])\n"
        "  (1): GRU(input_size=3, hidden_size=4, num_layers=1, batch_first=False, dropout=0.0, bidirectional=False, "
        "state_size=4  # 108 parameters\n"
        "    (cells.l0): GRUCell(input_size=3, hidden_size=4, state_size=4, weight_ih[12, 3], weight_hh[12, 4], bias_ih[12], "
        "bias_hh[12])\n"
        "  )\n"
        "  (2): ModuleList(  # 0 parameters\n"
        "    (0): Dropout(p=0.25)\n"
        "  )\n"
        ")"
    )
    first, second = repr(Nested()).splitlines()[:2]
    assert first == "Nested(note='not a parameter', scale[1], layers.1.b.0[1], trained[1]  # 8 parameters"
    assert second == "  (layers.0): Linear(in_features=1, out_features=1, weight[1, 1], bias[1])"


def test_a_set_of_modules_is_refused():
    """It has no order, and a walk that passes it by would leave its modules untrained."""
    module = tg.nn.Module()
    with pytest.raises(TypeError, match=r"Module\.layers: a set has no order.*use a list or a dict"):
        module.layers = {tg.nn.Linear(1, 1)}
    module.names = {"a", "b"}
    assert not hasattr(module, "layers")
