"""Checkpoints, and weights from and to other frameworks.

safetensors.py is the format, files.py replaces a file as a whole, and state.py (tg.save, tg.load) keeps nested states in it.
layouts.py knows in which order ONNX and Keras keep the weights of gates; onnx_writer.py and onnx_reader.py exchange
models, modules in a row as chain.py runs them.
"""

from .chain import Chain
from .layouts import from_keras, from_onnx_weights, to_keras, to_onnx_weights
from .onnx_reader import from_onnx
from .onnx_writer import to_onnx
from .safetensors import CheckpointError
from .state import load, save

__all__ = [
    "Chain", "CheckpointError", "from_keras", "from_onnx", "from_onnx_weights", "load", "save", "to_keras", "to_onnx",
    "to_onnx_weights",
]  # fmt: skip
