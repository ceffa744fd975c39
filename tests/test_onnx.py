"""Models to ONNX and back: against its reference evaluator, its own node tests, and what PyTorch exports."""

import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.checkpoint import Chain, CheckpointError, from_onnx, to_onnx, to_onnx_weights
from tinygrad_rnn.checkpoint.onnx_reader import recurrent_layer
from tinygrad_rnn.nn import zoo

LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


@pytest.fixture(autouse=True)
def _seed():
    tg.manual_seed(11)


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


# -- against its reference evaluator -----------------------------------------------------------------------------------------


@pytest.fixture
def onnx():
    pytest.importorskip("onnx.reference")
    return pytest.importorskip("onnx")


def run_onnx(onnx, path, x):
    """What ONNX's own evaluator computes, by the names of the outputs."""
    model = onnx.load(path)
    results = onnx.reference.ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
    return dict(zip([value.name for value in model.graph.output], results, strict=True))


OPTIONS = [
    {}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False}, {"batch_first": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5},
]  # fmt: skip


@pytest.mark.parity
def test_a_compiled_layer_goes_as_itself(onnx, tmp_path):
    layer, path, x = nn.LSTM(3, 4), tmp_path / "m.onnx", draw(6, 2, 3)
    model = Chain(tg.compile(layer), nn.Linear(4, 2))
    to_onnx(model, path, x)
    np.testing.assert_allclose(run_onnx(onnx, path, x)["output"], model(x).numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(model(x).numpy(), model[1](layer(x)[0]).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_onnx_computes_what_a_layer_computes(onnx, tmp_path, kind, options):
    layer, path, x = LAYERS[kind](3, 4, **options).eval(), tmp_path / "m.onnx", draw(6, 2, 3)
    to_onnx(layer, path, x)
    assert [n.op_type for n in onnx.load(path).graph.node].count(kind) == layer.num_layers
    found, (output, final) = run_onnx(onnx, path, x), layer(x)
    np.testing.assert_allclose(found["output"], output.numpy(), rtol=0, atol=1e-6)
    for name, member in zip(["0.h_n", "0.c_n"], final if isinstance(final, tuple) else [final], strict=False):
        np.testing.assert_allclose(found[name], member.numpy(), rtol=0, atol=1e-6)
    longer = draw(9, 5, 3)  # batch and time are free
    np.testing.assert_allclose(run_onnx(onnx, path, longer)["output"], layer(longer)[0].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("cell", [zoo.PeepholeLSTMCell, zoo.ResetBeforeGRUCell, zoo.ForgetBiasLSTMCell])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_cells_of_the_zoo_that_onnx_has_too(onnx, tmp_path, cell, bidirectional):
    settings, x = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": True}, draw(2, 6, 3)
    layer = nn.Recurrent(lambda n: cell(n, 4), 3, **settings)
    to_onnx(layer, tmp_path / "m.onnx", x)
    found, (output, final) = run_onnx(onnx, tmp_path / "m.onnx", x), layer(x)
    np.testing.assert_allclose(found["output"], output.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["0.h_n"], (final[0] if isinstance(final, tuple) else final).numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(from_onnx(tmp_path / "m.onnx")(x).numpy(), output.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parity
def test_float64_keeps_its_digits(onnx, tmp_path):
    layer, x = nn.GRU(3, 4, bidirectional=True, dtype=np.float64), draw(6, 2, 3, dtype=np.float64)
    to_onnx(layer, tmp_path / "m.onnx", x)
    np.testing.assert_allclose(run_onnx(onnx, tmp_path / "m.onnx", x)["output"], layer(x)[0].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parity
def test_relu_networks_come_back(onnx, tmp_path):
    """The reference evaluator has no Relu within RNN; PyTorch's export, below, has one, and onnxruntime agreed when asked."""
    layer, x = nn.RNN(3, 4, nonlinearity="relu", bidirectional=True), draw(6, 2, 3)
    to_onnx(layer, tmp_path / "m.onnx", x)
    assert list(onnx.load(tmp_path / "m.onnx").graph.node[0].attribute[0].strings) == [b"Relu", b"Relu"]
    np.testing.assert_array_equal(from_onnx(tmp_path / "m.onnx")(x).numpy(), layer(x)[0].numpy())


def whole_model():
    return Chain(
        nn.Embedding(9, 3),
        nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
        nn.Sequential(nn.Linear(8, 5), tg.tanh, nn.Dropout(0.5)),
        nn.GRU(5, 4, batch_first=True),
        nn.Linear(4, 2, bias=False),
        tg.sigmoid,
    ).eval()


@pytest.mark.parity
def test_a_whole_model_goes_to_onnx_and_comes_back(onnx, tmp_path):
    model, path, x = whole_model(), tmp_path / "m.onnx", np.random.default_rng(1).integers(0, 9, (2, 6))
    to_onnx(model, path, x)
    np.testing.assert_allclose(run_onnx(onnx, path, x)["output"], model(x).numpy(), rtol=0, atol=1e-6)
    back = from_onnx(path)
    np.testing.assert_array_equal(back(x).numpy(), model(x).numpy())
    names = [getattr(step, "__name__", type(step).__name__) for step in back]
    assert names == ["Embedding", "LSTM", "LSTM", "Linear", "tanh", "GRU", "Linear", "sigmoid"]
    assert back[1].batch_first
    assert back[1].bidirectional
    to_onnx(back, tmp_path / "again.onnx", x)
    np.testing.assert_array_equal(from_onnx(tmp_path / "again.onnx")(x).numpy(), model(x).numpy())


@pytest.mark.parity
def test_the_same_model_gives_the_same_bytes_and_a_failure_leaves_the_old_file(onnx, tmp_path, monkeypatch):
    model, x = whole_model(), np.zeros((2, 6), int)
    to_onnx(model, tmp_path / "a", x)
    to_onnx(list(model), tmp_path / "b", x)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    monkeypatch.setattr("os.fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_onnx(nn.Linear(1, 1), tmp_path / "a", draw(2, 1))
    assert (tmp_path / "a").read_bytes() == content


@pytest.mark.parity
def test_what_onnx_cannot_express_is_refused(onnx, tmp_path):
    x = draw(6, 2, 3)

    class Backwards(nn.Sequential):
        def forward(self, x):
            return super().forward(x[::-1])

    fixed = nn.LSTM(3, 4)
    fixed.cells["l0"].peephole = nn.Parameter(np.ones(4, np.float32))
    zoned = nn.Recurrent(nn.LSTMCell(3, 4), zoneout=(0.1, 0))
    learned = nn.Recurrent(nn.GRUCell(3, 4), learn_initial_state=True)
    cases = [
        (nn.LSTM(3, 4, proj_size=2), x, ValueError, "LSTM at place 0 has weight_hr_l0, for which ONNX has no place"),
        (fixed, x, ValueError, "LSTM at place 0 has peephole_l0, for which"),
        (zoned, x, ValueError, r"Recurrent at place 0 has zoneout=\(0.1, 0\), which acts in evaluation too"),
        (learned, x, ValueError, "Recurrent at place 0 has initial_state0_l0, for which ONNX has no place"),
        (nn.Recurrent(zoo.JANETCell(3, 4)), x, TypeError, "at place 0 runs JANETCell: ONNX has operators for RNNCell"),
        ([nn.LSTM(3, 4), nn.LayerNorm(4)], x, TypeError, "LayerNorm at place 1 has no counterpart: expected Embedding"),
        (Backwards(nn.Linear(3, 3)), x, TypeError, "Backwards at place 0 has no counterpart"),
        ([tg.exp], x, TypeError, "exp at place 0 has no counterpart"),
        (nn.LSTM(3, 4), x[0], ValueError, "LSTM at place 0 needs a batch in ONNX: expected 3 axes, got 2"),
        (nn.LSTM(3, 4), x.astype(float), TypeError, r"gets float64; write example_input.astype\(np.float32\)"),
        (nn.LSTM(2, 4), x, ValueError, "LSTM at place 0 takes 2 features, and gets 3"),
        ([nn.LSTM(3, 4), nn.Linear(5, 1)], x, ValueError, "Linear at place 1 takes 5 features, and gets 4"),
        (nn.Embedding(3, 2), x, TypeError, "the Embedding at place 0 takes int64 or int32 in ONNX, got float32"),
    ]
    for modules, example, error, message in cases:
        with pytest.raises(error, match=message):
            to_onnx(modules, tmp_path / "m.onnx", example)
    assert not list(tmp_path.iterdir())


@pytest.mark.parity
def test_files_that_are_no_onnx_are_refused(onnx, tmp_path):
    node, path = onnx.helper.make_node, tmp_path / "m.onnx"
    circle = model_of(onnx, [node("Tanh", ["b"], ["a"]), node("Tanh", ["a"], ["b"])], draw(1), {}, ["b"])
    for content in (b"", b"no protobuf", circle.SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"from_onnx: '.*m.onnx' is not a valid ONNX file: "):
            from_onnx(path)


def test_without_onnx_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: to_onnx(nn.Linear(1, 1), tmp_path / "x", draw(1)), lambda: from_onnx(tmp_path / "x")):
        with pytest.raises(RuntimeError, match=r'ONNX files need the package onnx: pip install "tinygrad-rnn\[onnx\]"'):
            call()


# -- models made by others ---------------------------------------------------------------------------------------------------


def model_of(onnx, nodes, x, weights, outputs=("y",)):
    """A model of these nodes; its outputs have any shape."""
    helper = onnx.helper
    values = [helper.make_tensor_value_info(name, 1, [None]) for name in outputs]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(nodes, "test", [helper.make_tensor_value_info("x", kind, x.shape)], values, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)


@pytest.mark.parity
def test_linear_is_read_in_all_its_spellings(onnx, tmp_path):
    node, x, W, b = onnx.helper.make_node, draw(4, 3), draw(3, 2), draw(2)
    spellings = [
        [node("MatMul", ["x", "W"], ["p"]), node("Add", ["b", "p"], ["y"])],
        [node("Gemm", ["x", "W", "b"], ["y"])],
        [node("Gemm", ["x", "WT", "b"], ["y"], transB=1)],
        [node("Identity", ["x"], ["i"]), node("Gemm", ["i", "W"], ["p"]), node("Add", ["p", "b"], ["y"])],
        [node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(W)), node("Gemm", ["x", "c", "b"], ["y"])],
    ]
    for nodes in spellings:
        onnx.save(model_of(onnx, nodes, x, {"W": W, "WT": W.T.copy(), "b": b}), tmp_path / "m.onnx")
        back = from_onnx(tmp_path / "m.onnx")
        assert len(back) == 1
        np.testing.assert_allclose(back(x).numpy(), x @ W + b, rtol=0, atol=1e-6)


def refused_nodes(onnx):
    """Nodes after an input x (6, 2, 3) and weights of an LSTM and a GRU of 4 units, each with why it is refused."""
    node = onnx.helper.make_node

    def lstm(*more, output="y", **settings):
        y = [node("LSTM", ["x", "W", "R", "B", *more], ["Y", "Y_h"], **{"hidden_size": 4, **settings})]
        return [*y, node("Squeeze", ["Y", "one"], [output])]

    return [
        (lstm(direction="reverse"), "it has direction=reverse, and LSTM here does what ONNX means by direction=forward"),
        (lstm(layout=1), "it has layout=1"),
        (lstm(input_forget=1), "it has input_forget=1"),
        (lstm(clip=3.0), "it has clip, which LSTM here has not"),
        (lstm(activations=["HardSigmoid", "Tanh", "Tanh"]), "it has activations=.'HardSigmoid'"),
        (lstm("lengths"), "it has sequence_lens; leave it out and pass lengths"),
        (lstm("", "h0"), "it has initial_h other than zero; pass hx to the layer instead"),
        (lstm("", "", "h0"), "it has initial_c other than zero"),
        ([node("LSTM", ["x", "W", "R"], ["Y", "h"]), node("Squeeze", ["h", "one"], ["y"])], "its output 1 is used, and only"),
        ([node("LSTM", ["x", "x", "R"], ["Y"])], "expected constant weights, and W is an input"),
        ([node("Squeeze", ["x", "one"], ["y"])], "expected the axis of a single direction to be dropped"),
        ([node("Reshape", ["x", "three"], ["y"])], "expected the axes of directions to be joined"),
        (lstm()[:1], "the output has an axis for directions, expected it to be dropped or joined"),
        ([*lstm()[:1], node("Tanh", ["Y"], ["y"])], "Tanh 'y': it gets an axis for directions, expected a Squeeze"),
        ([*lstm()[:1], node("Transpose", ["Y"], ["y"], perm=[1, 0, 2])], "change places, got perm"),
        ([*lstm()[:1], node("Reshape", ["Y", "three"], ["y"])], "expected the axes of directions to be joined"),
        ([node("Transpose", ["x"], ["y"], perm=[2, 1, 0])], r"change places, got perm=\[2, 1, 0\]"),
        ([node("Transpose", ["x"], ["y"], perm=[1, 0, 2])], "batch and time change places between input and output"),
        ([node("Softmax", ["x"], ["y"])], "cannot read the node Softmax 'y': expected one of Gather"),
        ([node("Add", ["x", "x"], ["y"])], "2 of its inputs are computed .x, x., expected one"),
        ([node("Add", ["x", "b"], ["y"])], "expected a bias that is added to the product before"),
        ([node("MatMul", ["W2", "x"], ["y"])], "expected a product with a constant matrix on the right"),
        ([node("Gemm", ["x", "W2"], ["y"], alpha=2.0)], r"expected x @ W \+ b with constant W"),
        ([node("Gemm", ["W2", "W2", "x"], ["y"])], r"expected x @ W \+ b with constant W"),
        ([node("Transpose", ["x"], ["y"], perm=[1, 0])], r"change places, got perm=\[1, 0\]"),
        ([node("Gather", ["x", "one"], ["y"])], "expected rows of a constant table"),
    ]  # fmt: skip


@pytest.mark.parity
def test_nodes_that_mean_something_else_are_refused_by_name(onnx, tmp_path):
    weights = to_onnx_weights("LSTM", nn.LSTM(3, 4).state_dict())
    weights |= {"b": draw(3), "W2": draw(3, 2), "h0": draw(1, 2, 4)}
    weights |= {"one": np.array([1]), "three": np.array([0, 0, -1]), "lengths": np.array([6, 6], np.int32)}
    for nodes, message in refused_nodes(onnx):
        output = nodes[-1].output[0]
        onnx.save(model_of(onnx, nodes, draw(6, 2, 3), weights, (output,)), tmp_path / "m.onnx")
        with pytest.raises(ValueError, match=message):
            from_onnx(tmp_path / "m.onnx")


@pytest.mark.parity
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.filterwarnings("ignore")  # PyTorch's old exporter, the one that needs no other package, says that it is old
def test_a_model_exported_by_pytorch_is_read(onnx, tmp_path, batch_first, bidirectional):
    torch, width = pytest.importorskip("torch"), 1 + bidirectional

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            settings = {"batch_first": batch_first, "bidirectional": bidirectional}
            self.embedding = torch.nn.Embedding(9, 3)
            self.lstm = torch.nn.LSTM(3, 4, 2, **settings)
            self.gru = torch.nn.GRU(4 * width, 5, **settings)
            self.rnn = torch.nn.RNN(5 * width, 4, nonlinearity="relu", bias=False, **settings)
            self.linear = torch.nn.Linear(4 * width, 2)

        def forward(self, x):
            return self.linear(torch.tanh(self.rnn(self.gru(self.lstm(self.embedding(x))[0])[0])[0]))

    model, x, axes = Model().eval(), torch.randint(0, 9, (2, 6)), {"x": {0: "a", 1: "b"}}
    torch.onnx.export(model, (x,), tmp_path / "m.onnx", dynamo=False, input_names=["x"], dynamic_axes=axes)
    back = from_onnx(tmp_path / "m.onnx")
    for indices in (x, torch.randint(0, 9, (5, 3))):
        np.testing.assert_allclose(back(indices.numpy()).numpy(), model(indices).detach().numpy(), rtol=0, atol=1e-6)


BACKEND = [
    f"test_{kind}_{name}"
    for kind in ("simple_rnn", "lstm", "gru")
    for name in ("defaults", "with_initial_bias", "batchwise", "reverse", "bidirectional")
] + ["test_rnn_seq_length", "test_gru_seq_length", "test_lstm_with_peepholes"]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # ONNX's test data of other operators overflows on purpose
def test_onnx_backend_node_tests(onnx):
    """ONNX's own test data, through the layers that `from_onnx` makes. What it refuses as attributes is done by hand here."""
    loader = pytest.importorskip("onnx.backend.test.loader")
    cases = {case.name: case for case in loader.load_model_tests(kind="node")}
    for name in BACKEND:
        (inputs, outputs), node = cases[name].data_sets[0], cases[name].model.graph.node[0]
        given = dict(zip([n for n in node.input if n], map(np.asarray, inputs), strict=True))
        expected = dict(zip([n for n in node.output if n], map(np.asarray, outputs), strict=True))
        batch_first, reverse = name.endswith("batchwise"), name.endswith("reverse")
        arrays, both = {key: given[key] for key in "WRBP" if key in given}, {"direction": "bidirectional"}
        layer = recurrent_layer(node, both if len(given["W"]) == 2 else {}, arrays, batch_first=batch_first)
        _, final = layer(given["X"][::-1] if reverse else given["X"])
        for member, state in zip(("Y_h", "Y_c"), final if isinstance(final, tuple) else (final,), strict=False):
            found = state.numpy().swapaxes(0, 1) if batch_first else state.numpy()
            np.testing.assert_allclose(found, expected.get(member, found), rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("after", [0, 1])
def test_both_grus_of_onnx(onnx, after):
    """ONNX's tests of GRU are of single steps or equal weights, where both agree; the helper behind them tells them apart."""
    helper = pytest.importorskip("onnx.backend.test.case.node.gru").GRUHelper
    layer, x = nn.GRU(3, 4) if after else nn.Recurrent(zoo.ResetBeforeGRUCell(3, 4)), draw(6, 2, 3)
    weights = to_onnx_weights("GRU", layer.state_dict(), linear_before_reset=after)
    same, other = (helper(X=x, **weights, linear_before_reset=i).step()[1] for i in (after, 1 - after))
    np.testing.assert_allclose(same, layer(x)[1].numpy(), rtol=0, atol=1e-6)
    assert np.abs(other - same).max() > 0.01
