"""From modules to ONNX: one RNN, LSTM or GRU node per layer, Gather for Embedding, MatMul and Add for Linear."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..functions import relu, sigmoid, tanh
from ..nn.cells import GRUCell, LSTMCell, RNNCell
from ..nn.layers import Dropout, Embedding, Linear
from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..nn.zoo import PeepholeLSTMCell, ResetBeforeGRUCell
from ..ops import Array
from ..tensor import Tensor
from .chain import Step, in_order
from .files import Path, replacing
from .layouts import to_onnx_weights

OPSET, IR_VERSION = 14, 7  # of ONNX 1.9 (2021): what reads ONNX today reads these
CELLS = (RNNCell, LSTMCell, GRUCell, PeepholeLSTMCell, ResetBeforeGRUCell)
KINDS: dict[Any, str] = dict(zip((cell.forward for cell in CELLS), ("RNN", "LSTM", "GRU", "LSTM", "GRU"), strict=True))
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # of LSTM; the others have the first of them
PARAMETERS = {
    "weight_ih", "weight_hh", "bias_ih", "bias_hh",
    "peephole_i", "peephole_f", "peephole_o",
    "weight_in", "weight_hn", "bias_n",
}  # fmt: skip
FUNCTIONS: dict[Any, str] = {tanh: "Tanh", sigmoid: "Sigmoid", relu: "Relu"}


def to_onnx(modules: Step | Iterable[Step], path: Path, example_input: ArrayLike | Tensor) -> None:
    """Write modules in a row, as `Chain` runs them in evaluation, to an ONNX file; all or nothing, as `save`.

    modules: a Chain, a Sequential or a list of Embedding, RNN, LSTM, GRU, Linear, Dropout, tg.tanh, tg.sigmoid and tg.relu;
        or a Recurrent of the cells of the zoo that ONNX has too, PeepholeLSTMCell and ResetBeforeGRUCell.
    example_input: an array as the first of them takes it, for its dtype and number of axes; batch and time stay free.

    The model has the input "input" and the output "output", and for the recurrent layer at place 1 of the row the outputs
    "1.h_n" and, for an LSTM, "1.c_n". Initial states are zero. Raises TypeError or ValueError for what ONNX cannot express.
    Needs the extra `onnx`.
    """
    onnx = need_onnx()
    example = np.asarray(example_input.detach() if isinstance(example_input, Tensor) else example_input)
    graph = Graph(onnx, example)
    for place, module in enumerate(in_order(modules)):
        graph.add(place, module)
    data = graph.model().SerializeToString(deterministic=True)
    with replacing(path) as file:
        file.write(data)


def need_onnx() -> Any:
    """The package onnx, without which nothing else here is missing anything."""
    try:
        return import_module("onnx")
    except ImportError:
        raise RuntimeError('ONNX files need the package onnx: pip install "tinygrad-rnn[onnx]"') from None


class Graph:
    """An ONNX graph that grows at its end: `stream` is the value there, of this dtype and shape (None: any size)."""

    def __init__(self, onnx: Any, example: Array) -> None:
        self.onnx = onnx
        self.stream, self.dtype = "input", example.dtype
        self.shape: list[int | None] = [None] * example.ndim
        if example.dtype.kind == "f" and example.ndim:
            self.shape[-1] = example.shape[-1]
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = [self.value("input", self.shape)]
        self.states: list[Any] = []

    # -- its parts -----------------------------------------------------------------------------------------------------------

    def value(self, name: str, shape: list[int | None]) -> Any:
        """What ONNX calls value info: a name with dtype and shape."""
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.helper.np_dtype_to_tensor_dtype(self.dtype), shape)

    def weight(self, name: str, array: Array) -> str:
        """A constant; returns its name."""
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, more: tuple[str, ...] = (), **attributes: Any) -> str:
        """A node, named after its first output; returns that name."""
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [output, *more], name=output, **attributes))
        return output

    def model(self) -> Any:
        """The whole model, checked by ONNX."""
        helper = self.onnx.helper
        self.node("Identity", [self.stream], "output")
        outputs = [self.value("output", self.shape), *self.states]
        graph = helper.make_graph(self.nodes, "tinygrad_rnn", self.inputs, outputs, self.weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tinygrad_rnn")
        self.onnx.checker.check_model(model, full_check=True)
        return model

    # -- modules -------------------------------------------------------------------------------------------------------------

    def add(self, place: int, module: Step) -> None:
        """Let one more module act on the stream."""
        writers: dict[type, Callable[[str, Any], None]] = {Embedding: self.embedding, Linear: self.linear}
        if isinstance(module, Recurrent):
            self.recurrent(str(place), module)
        elif type(module) in writers:
            writers[type(module)](str(place), module)
        elif module in FUNCTIONS:
            self.stream = self.node(FUNCTIONS[module], [self.stream], f"{place}")
        elif not isinstance(module, Dropout):
            what = getattr(module, "__name__", type(module).__name__)
            raise TypeError(
                f"to_onnx: {what} at place {place} has no counterpart: expected Embedding, RNN, LSTM, GRU, Linear, Dropout, "
                "tg.tanh, tg.sigmoid or tg.relu; pass the modules of your model as a list, in the order in which they act"
            )

    def embedding(self, name: str, module: Embedding) -> None:
        if self.dtype not in (np.int32, np.int64):
            raise TypeError(f"to_onnx: the Embedding at place {name} takes int64 or int32 in ONNX, got {self.dtype}")
        self.stream = self.node("Gather", [self.weight(f"{name}.weight", module.weight.numpy()), self.stream], name)
        self.dtype, self.shape = module.weight.dtype, [*self.shape, module.embedding_dim]

    def linear(self, name: str, module: Linear) -> None:
        self.expect(name, module, module.in_features, module.weight.dtype)
        weight = self.weight(f"{name}.weight", module.weight.numpy().T)
        self.stream = self.node("MatMul", [self.stream, weight], f"{name}.product" if module.bias is not None else name)
        if module.bias is not None:
            self.stream = self.node("Add", [self.stream, self.weight(f"{name}.bias", module.bias.numpy())], name)
        self.shape = [*self.shape[:-1], module.out_features]

    def recurrent(self, name: str, module: Recurrent) -> None:
        kind = checked_kind(name, module)
        if len(self.shape) != 3:
            who = f"{type(module).__name__} at place {name}"
            raise ValueError(f"to_onnx: {who} needs a batch in ONNX: expected 3 axes, got {len(self.shape)}")
        state = module.state_dict()
        cell: Any = module.cells["l0"]
        self.expect(name, module, cell.input_size, cell.weight_ih.dtype)
        if module.batch_first:
            self.stream = self.node("Transpose", [self.stream], f"{name}.x", perm=[1, 0, 2])
        finals = [self.layer(f"{name}.l{k}", kind, state, k, cell) for k in range(module.num_layers)]
        if module.batch_first:
            self.stream = self.node("Transpose", [self.stream], f"{name}", perm=[1, 0, 2])
        for names, member in zip(zip(*finals, strict=True), ("h_n", "c_n"), strict=False):
            self.node("Concat", list(names), f"{name}.{member}", axis=0)
            self.states.append(self.value(f"{name}.{member}", [len(module.cells), None, cell.hidden_size]))
        self.shape = [*self.shape[:-1], cell.hidden_size * (1 + module.bidirectional)]

    def layer(self, name: str, kind: str, state: dict[str, Array], k: int, cell: Any) -> tuple[str, ...]:
        """One layer, in one direction or both; returns the names of its final states."""
        after = int(isinstance(cell, GRUCell))  # the reset comes after the product
        arrays = to_onnx_weights(kind, state, k, after)
        count = len(arrays["W"])
        attributes = {"hidden_size": cell.hidden_size, "direction": "bidirectional" if count == 2 else "forward"}
        if kind == "RNN":
            attributes["activations"] = [cell.nonlinearity.capitalize()] * count
        if kind == "GRU":
            attributes["linear_before_reset"] = after
        weights = [self.weight(f"{name}.{key}", arrays[key]) if key in arrays else "" for key in INPUTS[1:]]
        while not weights[-1]:
            del weights[-1]
        finals = (f"{name}.h_n", f"{name}.c_n")[: 1 + (kind == "LSTM")]
        y = self.node(kind, [self.stream, *weights], f"{name}.Y", finals, **attributes)
        if count == 1:
            self.stream = self.node("Squeeze", [y, self.weight(f"{name}.axis", np.array([1]))], name)
        else:  # (T, directions, N, H) to (T, N, directions * H)
            y = self.node("Transpose", [y], f"{name}.joined", perm=[0, 2, 1, 3])
            self.stream = self.node("Reshape", [y, self.weight(f"{name}.shape", np.array([0, 0, -1]))], name)
        return finals

    def expect(self, name: str, module: Module, features: int, dtype: np.dtype[Any]) -> None:
        """What comes must be what the module takes: ONNX converts nothing by itself."""
        if self.dtype != dtype:
            what = f"{type(module).__name__} at place {name} has weights of {dtype}, and gets {self.dtype}"
            raise TypeError(f"to_onnx: {what}; write example_input.astype(np.{dtype})")
        if not self.shape or self.shape[-1] != features:
            got = self.shape[-1] if self.shape else "a single number"
            raise ValueError(f"to_onnx: {type(module).__name__} at place {name} takes {features} features, and gets {got}")


def checked_kind(place: str, module: Recurrent) -> str:
    """The operator of ONNX for a layer; anything that it cannot express is refused."""
    who = f"to_onnx: {type(module).__name__} at place {place}"
    forwards = {type(cell).forward for cell in module.cells.values()}
    if len(forwards) > 1 or not forwards <= set(KINDS):
        cells = ", ".join(dict.fromkeys(type(cell).__name__ for cell in module.cells.values()))
        raise TypeError(f"{who} runs {cells}: ONNX has operators for {', '.join(cell.__name__ for cell in CELLS)} alone")
    strange = [name for name in module.state_dict() if name.rpartition("_l")[0] not in PARAMETERS]
    if strange:
        raise ValueError(f"{who} has {', '.join(strange)}, for which ONNX has no place")
    if np.any(module.zoneout):
        raise ValueError(f"{who} has zoneout={module.zoneout}, which acts in evaluation too: ONNX has no place for it")
    return KINDS[forwards.pop()]
