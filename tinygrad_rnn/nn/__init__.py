"""Modules, in the order in which to read them:

module.py                               what a module is
init.py, functional.py, layers.py       random numbers; layers without time, and losses
state.py, gates.py, cells.py, zoo.py    what a cell carries, the parts of its weights, and cells: one step
between_steps.py, record.py             what happens to a state from step to step; what is kept of it
recurrent.py, tbptt.py                  the loop over time; the same with a short memory for gradients
utils.py                                clipping
"""

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
