"""Modules: module.py (what a module is), cells.py (one step), recurrent.py (the loop over time), layers.py, functional.py."""

from . import functional, init, utils, zoo
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Dropout,
    Embedding,
    L1Loss,
    LayerNorm,
    Linear,
    MSELoss,
    SmoothL1Loss,
)
from .module import Module, ModuleList, Parameter, Sequential
from .recurrent import GRU, LSTM, RNN, Recurrent
from .tbptt import Window, tbptt

__all__ = [
    "GRU", "LSTM", "RNN", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "Dropout", "Embedding", "GRUCell", "L1Loss",
    "LSTMCell", "LayerNorm", "Linear", "MSELoss", "Module", "ModuleList", "Parameter", "RNNCell", "Recurrent", "Sequential",
    "SmoothL1Loss", "Window", "functional", "init", "tbptt", "utils", "zoo",
]  # fmt: skip
