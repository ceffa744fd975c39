"""tg.save and tg.load: arrays in nested dicts, lists and tuples, with the numbers and texts between them.

A flat dict of arrays is a plain safetensors file. Anything else is one too: its arrays are stored under their dotted paths
("optimizer.state.0.momentum_buffer"), so that every reader of the format can open them, and the structure is kept as JSON in
the metadata. There an object of one member whose name starts with $ stands for what JSON lacks:

    {"$array": name}    {"$scalar": name}, a number with NumPy's dtype    {"$tuple": [...]}
    {"$dict": [[key, value], ...]}, a dict whose keys are not all plain strings    {"$float": "nan"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ops import Array
from ..tensor import Tensor
from . import safetensors
from .files import Path
from .safetensors import CheckpointError, brief, parse_json

STRUCTURE = "tinygrad_rnn"


def save(path: Path, state: Mapping[Any, Any]) -> None:
    """Write a state in safetensors format, all or nothing: after a crash or on a full disk the previous file is still whole.

    state: a dict of arrays or Tensors; or of dicts, lists and tuples of them, with numbers, texts, bools and None among them:

        tg.save("run.safetensors", {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                                    "rng": tg.nn.init.generator.bit_generator.state, "epoch": 3})

    Raises TypeError for what cannot be stored (nothing is pickled, ever), before anything is written.
    """
    if not isinstance(state, Mapping):
        what = f"expected a dict, got a {type(state).__name__}"
        raise TypeError(f"save: {what}; write model.state_dict(), or {{'state': ...}}")
    if all(isinstance(name, str) and is_array(value) for name, value in state.items()):
        safetensors.write(path, {name: as_array(value) for name, value in state.items()})
        return
    arrays: dict[str, Array] = {}
    try:
        structure = json.dumps(pack(state, (), arrays), ensure_ascii=False)
    except RecursionError:
        raise ValueError("save: the state is nested too deeply; does it contain itself?") from None
    safetensors.write(path, arrays, {STRUCTURE: structure})


def load(path: Path) -> dict[Any, Any]:
    """What `save` was given: the same structure, with arrays in place of Tensors. Any other safetensors file is a flat dict.

    Raises CheckpointError (a ValueError) that says what is wrong with a file that is damaged or not in this format.
    """
    arrays, metadata = safetensors.read(path)
    if STRUCTURE not in metadata:
        return arrays
    with safetensors.naming(path):
        try:
            state = unpack(parse_json(metadata[STRUCTURE]), arrays)
        except RecursionError:
            raise CheckpointError("the structure in its metadata is nested too deeply") from None
        if arrays or not isinstance(state, dict):
            what = f"leaves out {', '.join(map(repr, arrays))}" if arrays else "is not a dict"
            raise CheckpointError(f"the structure in its metadata {what}")
    return state


def is_array(value: Any) -> bool:
    """Is this an array of NumPy, of this package, or of another that offers it as NumPy's?"""
    return hasattr(value, "__array__") and not isinstance(value, np.generic)


def as_array(value: Any) -> Array:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def pack(value: Any, path: tuple[Any, ...], arrays: dict[str, Array]) -> Any:
    """The JSON for a value; its arrays are added to `arrays`."""
    if hasattr(value, "__array__"):
        name = free_name(path, arrays)
        arrays[name] = as_array(value)
        return {"$scalar" if isinstance(value, np.generic) else "$array": name}
    if isinstance(value, Mapping):
        check_keys(value, path)
        pairs = [(key, pack(item, (*path, key), arrays)) for key, item in value.items()]
        plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
        return dict(pairs) if plain else {"$dict": pairs}
    if type(value) in (list, tuple):
        items = [pack(item, (*path, i), arrays) for i, item in enumerate(value)]
        return items if type(value) is list else {"$tuple": items}
    if type(value) is float and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        f"cannot save {dotted(path)}, a {type(value).__name__}: expected arrays, Tensors, numbers, texts, bools, None, and "
        "dicts, lists and tuples of them; save its state_dict() or its numbers"
    )


def unpack(node: Any, arrays: dict[str, Array]) -> Any:
    """The value for some JSON; the arrays that it names are taken out of `arrays`."""
    if isinstance(node, list):
        return [unpack(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    if not any(key.startswith("$") for key in node):
        return {key: unpack(item, arrays) for key, item in node.items()}
    match list(node.items()):
        case [("$array", str(name))] if name in arrays:
            return arrays.pop(name)
        case [("$scalar", str(name))] if name in arrays and arrays[name].ndim == 0:
            return arrays.pop(name)[()]
        case [("$tuple", list(items))]:
            return tuple(unpack(item, arrays) for item in items)
        case [("$float", "nan" | "inf" | "-inf" as text)]:
            return float(text)
        case [("$dict", list(pairs))] if all(is_pair(pair) for pair in pairs):
            result = {key: unpack(item, arrays) for key, item in pairs}
            if len(result) == len(pairs):
                return result
    raise CheckpointError(f"the structure in its metadata is damaged, or of a newer version, at {brief(node)}")


def is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and type(pair[0]) in (str, int)


def check_keys(value: Mapping[Any, Any], path: tuple[Any, ...]) -> None:
    """Keys are texts or whole numbers."""
    for key in value:
        if type(key) not in (str, int):
            raise TypeError(f"cannot save the key {key!r} of {dotted(path)}: expected a text or a whole number")


def free_name(path: tuple[Any, ...], arrays: dict[str, Array]) -> str:
    """The dotted path, marked where another array has it already: {"a.b": x, "a": {"b": y}} has two."""
    name = dotted(path)
    while name in arrays or name == safetensors.METADATA:
        name += "'"
    return name


def dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path)) or "the state"
