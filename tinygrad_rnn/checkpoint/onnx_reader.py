"""From ONNX to modules: the way back from the output of a graph to its input, node by node."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

from ..nn.layers import Embedding, Linear
from ..nn.recurrent import GRU, LSTM, RNN, Recurrent
from ..nn.zoo import PeepholeLSTMCell, ResetBeforeGRUCell
from ..ops import Array
from .chain import Chain, Step
from .files import Path
from .layouts import from_onnx_weights
from .onnx_writer import FUNCTIONS, INPUTS, need_onnx
from .safetensors import CheckpointError

ACTIVATIONS = {name: function for function, name in FUNCTIONS.items()}
LAYERS: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
GATED = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def from_onnx(path: Path) -> Chain:
    """The modules of an ONNX file, as `to_onnx` writes it and as PyTorch exports Embedding, RNN, LSTM, GRU and Linear in rows.

    Each RNN, LSTM or GRU node becomes a layer of its own; with peepholes, or with linear_before_reset=0, a Recurrent of
    `PeepholeLSTMCell` or `ResetBeforeGRUCell`. What leads from the first output back to an input is read; final states and
    what computes shapes are not. Raises ValueError, naming the node, for anything else that would change the results: a
    reverse direction alone, layout=1, initial states other than zero, lengths, clipping, other activations.
    Needs the extra `onnx`.
    """
    onnx = need_onnx()
    unreadable = import_module("google.protobuf.message").DecodeError
    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(model)
    except (unreadable, onnx.checker.ValidationError) as error:
        raise CheckpointError(f"from_onnx: {os.fspath(path)!r} is not a valid ONNX file: {error}") from None
    return Reader(model.graph).chain()


class Reader:
    """A graph that is read along its stream, the one value in each node that is no constant."""

    def __init__(self, graph: Any) -> None:
        self.onnx = need_onnx()
        self.graph = graph
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.constants: dict[str, Array] = {w.name: self.onnx.numpy_helper.to_array(w) for w in graph.initializer}
        self.steps: list[Step] = []
        self.swapped = False  # are batch and time the other way round in the graph than in our chain?
        self.directions = ""  # "second" or "third": the axis that a recurrent node made for them, until it is gone
        self.both, self.width = False, 0  # of the last recurrent node: has it both directions, and how many outputs

    def chain(self) -> Chain:
        """Read everything."""
        for node in self.along_the_stream():
            self.read(node)
        if self.directions:
            raise ValueError("from_onnx: the output has an axis for directions, expected it to be dropped or joined")
        if self.swapped:
            raise ValueError("from_onnx: batch and time change places between input and output, which no layer does")
        return Chain(*self.steps)

    def along_the_stream(self) -> list[Any]:
        """The nodes from the input to the first output."""
        name, nodes = self.graph.output[0].name, []
        inputs = {value.name for value in self.graph.input} - set(self.constants)
        while name not in inputs:
            node = self.producers.get(name)
            if node is None:
                raise ValueError(f"from_onnx: {name!r} is neither an input nor the result of a node")
            if name != node.output[0]:
                raise refusal(node, f"its output {list(node.output).index(name)} is used, and only the first can be followed")
            nodes.append(node)
            name = self.stream_of(node)
        return nodes[::-1]

    def stream_of(self, node: Any) -> str:
        """The input of a node that is no constant."""
        if node.op_type in LAYERS:
            return str(node.input[0])
        moving = [name for name in node.input if name and self.constant(name) is None]
        if len(moving) != 1:
            raise refusal(node, f"{len(moving)} of its inputs are computed ({', '.join(moving)}), expected one")
        return str(moving[0])

    def constant(self, name: str) -> Array | None:
        """The array behind a name, if it is one in every run."""
        node = self.producers.get(name)
        if node is not None and node.op_type == "Constant" and name not in self.constants:
            for value in self.attributes(node).values():
                is_tensor = isinstance(value, self.onnx.TensorProto)
                self.constants[name] = self.onnx.numpy_helper.to_array(value) if is_tensor else np.asarray(value)
        return self.constants.get(name)

    def attributes(self, node: Any) -> dict[str, Any]:
        found = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}

    # -- nodes ---------------------------------------------------------------------------------------------------------------

    def read(self, node: Any) -> None:
        """One node becomes a step of the chain, or part of the step before."""
        readers = {
            "Gather": self.gather, "MatMul": self.matmul, "Gemm": self.gemm, "Add": self.add, "Transpose": self.transpose,
            "Squeeze": self.squeeze, "Reshape": self.reshape, **dict.fromkeys(LAYERS, self.recurrent),
        }  # fmt: skip
        if self.directions and node.op_type not in ("Squeeze", "Transpose", "Reshape", "Identity"):
            raise refusal(node, "it gets an axis for directions, expected a Squeeze, or a Transpose and a Reshape, before it")
        if node.op_type in ACTIVATIONS:
            self.steps.append(ACTIVATIONS[node.op_type])
        elif node.op_type in readers:
            readers[node.op_type](node)
        elif node.op_type not in ("Identity", "Dropout"):
            raise refusal(node, f"expected one of {', '.join([*readers, *ACTIVATIONS, 'Identity', 'Dropout'])}")

    def gather(self, node: Any) -> None:
        table = self.constant(node.input[0])
        if table is None or table.ndim != 2 or self.attributes(node).get("axis", 0) != 0:
            raise refusal(node, "expected rows of a constant table, as Embedding takes them")
        rows, width = table.shape
        layer = Embedding(rows, width, table.dtype)
        layer.load_state_dict({"weight": table})
        self.steps.append(layer)

    def matmul(self, node: Any) -> None:
        weight = self.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            raise refusal(node, "expected a product with a constant matrix on the right, as in Linear")
        self.linear(weight.T, None)

    def gemm(self, node: Any) -> None:
        settings = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **self.attributes(node)}
        weight = self.constant(node.input[1])
        plain = (settings["alpha"], settings["beta"], settings["transA"]) == (1.0, 1.0, 0)
        if weight is None or self.constant(node.input[0]) is not None or not plain:
            raise refusal(node, "expected x @ W + b with constant W, as in Linear")
        bias = self.constant(node.input[2]) if len(node.input) > 2 else None
        self.linear(weight if settings["transB"] else weight.T, bias)

    def add(self, node: Any) -> None:
        bias = next(array for array in map(self.constant, node.input) if array is not None)
        last = self.steps[-1] if self.steps else None
        if not isinstance(last, Linear) or last.bias is not None:
            raise refusal(node, "expected a bias that is added to the product before, as in Linear")
        del self.steps[-1]
        self.linear(last.weight.numpy(), np.broadcast_to(bias, (last.out_features,)))

    def linear(self, weight: Array, bias: Array | None) -> None:
        layer = Linear(weight.shape[1], weight.shape[0], bias is not None, weight.dtype)
        layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
        self.steps.append(layer)

    # -- recurrent layers, and what carries their outputs on -----------------------------------------------------------------

    def recurrent(self, node: Any) -> None:
        given = dict(zip(INPUTS, node.input, strict=False))
        if given.get("sequence_lens"):
            raise refusal(node, "it has sequence_lens; leave it out and pass lengths to the layer instead")
        for name in ("initial_h", "initial_c"):
            if given.get(name) and not self.is_zero(given[name]):
                raise refusal(node, f"it has {name} other than zero; pass hx to the layer instead")
        arrays: dict[str, Any] = {name: self.constant(given[name]) for name in "WRBP" if given.get(name)}
        missing = [name for name, array in arrays.items() if array is None]
        if missing:
            raise refusal(node, f"expected constant weights, and {', '.join(missing)} is an input or computed")
        self.steps.append(recurrent_layer(node, self.attributes(node), arrays, batch_first=self.swapped))
        self.directions = "second"
        count, _, hidden = arrays["R"].shape
        self.both, self.width = count == 2, count * hidden

    def is_zero(self, name: str) -> bool:
        """Is this zero in every run? PyTorch cuts the zeros for several layers out of one tensor."""
        array = self.constant(name)
        node = self.producers.get(name)
        if array is not None:
            return not np.any(array)
        if node is not None and node.op_type in ("Expand", "Slice"):
            return self.is_zero(node.input[0])
        if node is not None and node.op_type == "ConstantOfShape":
            return not any(np.any(self.onnx.numpy_helper.to_array(value)) for value in self.attributes(node).values())
        return False

    def transpose(self, node: Any) -> None:
        perm = self.attributes(node).get("perm")
        if perm == [0, 2, 1, 3] and self.directions == "second":
            self.directions = "third"
            return
        if self.directions or perm != [1, 0, 2]:
            raise refusal(node, f"expected batch and time to change places, got perm={perm}")
        self.swapped = not self.swapped

    def squeeze(self, node: Any) -> None:
        """(T, 1, N, H) to (T, N, H)."""
        axes = self.attributes(node).get("axes") or (self.constant(node.input[1]) if len(node.input) > 1 else None)
        if axes is None or list(axes) != [1] or self.directions != "second" or self.both:
            raise refusal(node, "expected the axis of a single direction to be dropped after a recurrent layer")
        self.directions = ""

    def reshape(self, node: Any) -> None:
        """(T, N, directions, H) to (T, N, directions * H)."""
        shape = self.constant(node.input[1])
        if shape is None or len(shape) != 3 or self.directions != "third" or shape[2] not in (-1, self.width):
            raise refusal(node, "expected the axes of directions to be joined after a recurrent layer")
        self.directions = ""


def recurrent_layer(node: Any, settings: dict[str, Any], arrays: dict[str, Any], *, batch_first: bool = False) -> Recurrent:
    """The layer that does what an RNN, LSTM or GRU node with these attributes and arrays W, R, B, P does."""
    kind, features, hidden = node.op_type, arrays["W"].shape[2], arrays["R"].shape[2]
    both, bias, dtype = len(arrays["W"]) == 2, "B" in arrays, arrays["W"].dtype
    activations = checked_settings(node, settings, both)
    after = settings.get("linear_before_reset", 0)
    ways = {"batch_first": batch_first, "bidirectional": both}
    layer: Recurrent
    if "P" in arrays:
        layer = Recurrent(lambda n: PeepholeLSTMCell(n, hidden, bias, dtype), features, **ways)
    elif kind == "GRU" and not after:
        layer = Recurrent(lambda n: ResetBeforeGRUCell(n, hidden, bias, dtype), features, **ways)
    else:
        extra = {"nonlinearity": activations[0].lower()} if kind == "RNN" else {}
        layer = LAYERS[kind](features, hidden, bias=bias, dtype=dtype, **ways, **extra)
    layer.load_state_dict(from_onnx_weights(kind, **arrays, linear_before_reset=after))
    return layer


def checked_settings(node: Any, settings: dict[str, Any], both: bool) -> list[str]:
    """The activations of a node, whose other attributes must be those of the layers here."""
    kind = node.op_type
    expected = {"direction": "bidirectional" if both else "forward", "layout": 0, "input_forget": 0}
    for name, value in expected.items():
        got = settings.get(name, "forward" if name == "direction" else 0)
        if got != value:
            raise refusal(node, f"it has {name}={got}, and {kind} here does what ONNX means by {name}={value}")
    plain = [names * (1 + both) for names in ([GATED[kind]] if kind in GATED else [["Tanh"], ["Relu"]])]
    activations = [text.decode() for text in settings.get("activations", [])] or plain[0]
    if activations not in plain:
        raise refusal(node, f"it has activations={activations}, expected {' or '.join(map(str, plain))}")
    strange = set(settings) - set(expected) - {"activations", "hidden_size", "linear_before_reset"}
    if strange:
        raise refusal(node, f"it has {', '.join(sorted(strange))}, which {kind} here has not")
    return activations


def refusal(node: Any, why: str) -> ValueError:
    """An error about a node."""
    return ValueError(f"from_onnx: cannot read the node {node.op_type} {node.name or node.output[0]!r}: {why}")
