"""Weights of recurrent layers as ONNX and Keras keep them, to and from state dicts. Plain NumPy: neither has to be installed.

All three frameworks stack the gates' weights, each in an order of its own. ONNX: the operators RNN, LSTM and GRU,
github.com/onnx/onnx docs/Operators.md. Keras: `LSTMCell`, `GRUCell` and `SimpleRNNCell` in keras/src/layers/rnn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..nn.cells import GRUCell, LSTMCell, RNNCell
from ..ops import Array


class Order(NamedTuple):
    """The gates from the first row to the last, under the letters of this package."""

    ours: Sequence[str]
    onnx: Sequence[str]
    keras: Sequence[str]


ORDERS = {
    "RNN": Order(RNNCell.gate_names, onnx="h", keras="h"),
    "LSTM": Order(LSTMCell.gate_names, onnx="iofg", keras="ifgo"),  # both call the candidate g "c"
    "GRU": Order(GRUCell.gate_names, onnx="zrn", keras="zrn"),  # both call the candidate n "h"
}
PEEPHOLES = "iof"  # the order of ONNX


def order_of(kind: str) -> Order:
    """The orders for "RNN", "LSTM" or "GRU"."""
    if kind not in ORDERS:
        raise ValueError(f"expected one of {', '.join(ORDERS)}, got {kind!r}")
    return ORDERS[kind]


def reordered(array: Array, source: Sequence[str], target: Sequence[str]) -> Array:
    """Blocks of rows, brought from one order into another."""
    blocks = dict(zip(source, np.split(array, len(source)), strict=True))
    return np.concatenate([blocks[gate] for gate in target])


def checked(name: str, value: Any, shape: tuple[int | str, ...]) -> Array:
    """An array of this shape, in which a text stands for any size."""
    array: Array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    same = [isinstance(n, str) or n == m for n, m in zip(shape, array.shape, strict=False)]
    if array.ndim != len(shape) or not all(same):
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name}: expected shape ({expected}), got {array.shape}")
    return array


def part(state: Mapping[str, Any], suffix: str, gates: int) -> tuple[Array, Array, Array | None, Array | None]:
    """weight_ih, weight_hh, bias_ih and bias_hh of one layer and direction of a state dict, or of a cell's if suffix is ''."""
    end = f"_{suffix}" if suffix else ""
    missing = [name for name in ("weight_ih" + end, "weight_hh" + end) if name not in state]
    if missing:
        raise KeyError(f"expected {' and '.join(missing)} in the state dict, got {', '.join(state)}")
    if f"weight_hr{end}" in state:
        raise ValueError(f"weight_hr{end}: a projection (proj_size) has no place in the layouts of ONNX and Keras")
    weight_hh = checked("weight_hh" + end, state["weight_hh" + end], ("gates * hidden", "hidden"))
    rows = gates * weight_hh.shape[1]
    checked("weight_hh" + end, weight_hh, (rows, "hidden"))
    weight_ih = checked("weight_ih" + end, state["weight_ih" + end], (rows, "features"))
    biases = (state.get("bias_ih" + end), state.get("bias_hh" + end))
    bias_ih, bias_hh = (None if b is None else checked("bias" + end, b, (rows,)) for b in biases)
    if (bias_ih is None) is not (bias_hh is None):
        raise KeyError(f"expected both bias_ih{end} and bias_hh{end} in the state dict, or neither")
    return weight_ih, weight_hh, bias_ih, bias_hh


def directions(layer: int, count: int) -> tuple[str, ...]:
    """The suffixes of a layer's directions."""
    return (f"l{layer}", f"l{layer}_reverse")[:count]


# -- ONNX ------------------------------------------------------------------------------------------------------------------


def to_onnx_weights(kind: str, state: Mapping[str, Any], layer: int = 0, linear_before_reset: int = 1) -> dict[str, Array]:
    """The inputs W (directions, G*H, in), R (directions, G*H, H), B (directions, 2*G*H) of an ONNX node, from a state dict.

    B is left out if there are no biases; P (directions, 3*H) is there if there are peepholes. kind: "RNN", "LSTM" or "GRU".
    GRU here and in PyTorch is ONNX's with linear_before_reset=1; with 0, ONNX's default, it is `ResetBeforeGRUCell`.
    """
    order = order_of(kind)
    found: dict[str, list[Array]] = {}
    for suffix in directions(layer, 1 + (f"weight_ih_l{layer}_reverse" in state)):
        if kind == "GRU" and not linear_before_reset:
            state = with_candidate_inside(state, suffix)
        weight_ih, weight_hh, *biases = (
            None if array is None else reordered(array, order.ours, order.onnx)
            for array in part(state, suffix, len(order.ours))
        )
        peepholes = [state[f"peephole_{gate}_{suffix}"] for gate in PEEPHOLES if f"peephole_{gate}_{suffix}" in state]
        for name, arrays in {"W": [weight_ih], "R": [weight_hh], "B": biases, "P": peepholes}.items():
            if arrays and arrays[0] is not None:
                found.setdefault(name, []).append(np.concatenate(arrays))
    return {name: np.stack(arrays) for name, arrays in found.items()}


def from_onnx_weights(
    kind: str,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    P: ArrayLike | None = None,
    *,
    layer: int = 0,
    linear_before_reset: int = 1,
) -> dict[str, Array]:
    """The state dict of one layer from the inputs of an ONNX node: the inverse of `to_onnx_weights`."""
    order = order_of(kind)
    R = checked("R", R, ("directions", "gates * hidden", "hidden"))
    count, hidden = R.shape[0], R.shape[2]
    if count not in (1, 2):
        raise ValueError(f"R: expected one direction or two on the first axis, got {count}")
    rows = len(order.ours) * hidden
    checked("R", R, (count, rows, "hidden"))
    W = checked("W", W, (count, rows, "features"))
    B = None if B is None else checked("B", B, (count, 2 * rows))
    P = None if P is None else checked("P", P, (count, len(PEEPHOLES) * hidden))
    state: dict[str, Array] = {}
    for i, suffix in enumerate(directions(layer, count)):
        arrays = {"weight_ih": W[i], "weight_hh": R[i]}
        if B is not None:
            arrays |= {"bias_ih": B[i, :rows], "bias_hh": B[i, rows:]}
        made = {f"{name}_{suffix}": reordered(array, order.onnx, order.ours) for name, array in arrays.items()}
        if P is not None:
            made |= {f"peephole_{gate}_{suffix}": p for gate, p in zip(PEEPHOLES, np.split(P[i], 3), strict=True)}
        state |= made if kind != "GRU" or linear_before_reset else with_candidate_apart(made, suffix)
    return state


# -- a GRU that resets before the product ----------------------------------------------------------------------------------


def with_candidate_apart(state: Mapping[str, Any], suffix: str) -> dict[str, Array]:
    """The state dict of a `ResetBeforeGRUCell`, which keeps the weights of its candidate apart, from three blocks r, z, n."""
    end = f"_{suffix}" if suffix else ""
    weight_ih, weight_hh, *biases = part(state, suffix, 3)
    H = weight_hh.shape[1]
    result = {"weight_ih": weight_ih[: 2 * H], "weight_hh": weight_hh[: 2 * H]}
    result |= {"weight_in": weight_ih[2 * H :], "weight_hn": weight_hh[2 * H :]}
    if biases[0] is not None and biases[1] is not None:
        result |= {"bias_ih": biases[0][: 2 * H], "bias_hh": biases[1][: 2 * H], "bias_n": (biases[0] + biases[1])[2 * H :]}
    return {name + end: array for name, array in result.items()}


def with_candidate_inside(state: Mapping[str, Any], suffix: str) -> dict[str, Array]:
    """The inverse: three blocks r, z, n from the state dict of a `ResetBeforeGRUCell`."""
    end = f"_{suffix}" if suffix else ""
    missing = [name + end for name in ("weight_in", "weight_hn") if name + end not in state]
    if missing:
        raise KeyError(
            f"expected a ResetBeforeGRUCell, with {' and '.join(missing)} in its state dict, got {', '.join(state)}"
        )
    pairs = [("weight_ih", "weight_in"), ("weight_hh", "weight_hn"), ("bias_ih", "bias_n"), ("bias_hh", "bias_n")]
    result = {a + end: np.concatenate([state[a + end], state[b + end]]) for a, b in pairs if a + end in state}
    if f"bias_hh{end}" in result:
        result[f"bias_hh{end}"][-len(state[f"bias_n{end}"]) :] = 0
    return {**state, **result}


# -- Keras -----------------------------------------------------------------------------------------------------------------


def to_keras(kind: str, state: Mapping[str, Any], suffix: str = "l0", *, reset_after: bool = True) -> dict[str, Array]:
    """kernel (in, G*H), recurrent_kernel (H, G*H) and, if there are biases, bias, of one layer and direction.

    kind: "RNN" for Keras' SimpleRNN, "LSTM" or "GRU". GRU here is Keras' with reset_after=True, whose bias is (2, 3*H); with
    False it is `ResetBeforeGRUCell`. The others have one bias (G*H,), the sum of ours. suffix: "l0", "l1", "l0_reverse", ...,
    or "" for the state dict of a cell.
    """
    order = order_of(kind)
    if kind == "GRU" and not reset_after:
        state = with_candidate_inside(state, suffix)
    arrays = part(state, suffix, len(order.ours))
    weight_ih, weight_hh, *biases = (reordered(a, order.ours, order.keras) for a in arrays if a is not None)
    result = {"kernel": weight_ih.T, "recurrent_kernel": weight_hh.T}
    if biases:
        result["bias"] = np.stack(biases) if kind == "GRU" and reset_after else biases[0] + biases[1]
    return result


def from_keras(
    kind: str, weights: Mapping[str, ArrayLike], suffix: str = "l0", *, reset_after: bool = True
) -> dict[str, Array]:
    """The state dict of one layer and direction from Keras' kernel, recurrent_kernel and bias, which may be left out.

    Where Keras has one bias it becomes bias_ih, and bias_hh is zero. `layer.get_weights()` of Keras lists them in this order:
    dict(zip(["kernel", "recurrent_kernel", "bias"], layer.get_weights())).
    """
    order, end = order_of(kind), f"_{suffix}" if suffix else ""
    if not {"kernel", "recurrent_kernel"} <= set(weights) <= {"kernel", "recurrent_kernel", "bias"}:
        raise KeyError(f"expected kernel, recurrent_kernel and, if there is one, bias; got {', '.join(weights)}")
    recurrent = checked("recurrent_kernel", weights["recurrent_kernel"], ("hidden", "gates * hidden"))
    columns = len(order.ours) * recurrent.shape[0]
    checked("recurrent_kernel", recurrent, ("hidden", columns))
    kernel = checked("kernel", weights["kernel"], ("features", columns))
    arrays = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
    if weights.get("bias") is not None:
        arrays["bias_ih"], arrays["bias_hh"] = keras_biases(kind, weights["bias"], columns, reset_after)
    state = {name + end: reordered(array, order.keras, order.ours) for name, array in arrays.items()}
    return state if kind != "GRU" or reset_after else with_candidate_apart(state, suffix)


def keras_biases(kind: str, bias: ArrayLike, columns: int, reset_after: bool) -> Sequence[Array]:
    """The bias of the input's product and that of the state's."""
    if kind == "GRU" and reset_after:
        if np.ndim(bias) == 1:
            raise ValueError(
                "a GRU of Keras with one bias was made with reset_after=False, which resets the state before the product: "
                "another model than GRU here and in PyTorch. Pass reset_after=False, for a ResetBeforeGRUCell"
            )
        return list(checked("bias", bias, (2, columns)))
    single = checked("bias", bias, (columns,))
    return single, np.zeros_like(single)
