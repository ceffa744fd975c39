"""What a program saves, as its text shows it: passes over short rows; and that it stays right.

The oracle for values is the unrolled layer, as in test_compile_cells.py.
"""

import numpy as np
import pytest
from test_compile_cells import E, N, in_every_call

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import zoo


def source(cell, batch):
    """The program of a cell for some sequences."""
    compiled = tg.compile(nn.Recurrent(cell))
    compiled(np.zeros((2, batch, E), np.float32))
    return compiled.source


# -- vectors that meet rows -------------------------------------------------------------------------------------------------


def test_a_vector_is_repeated_for_the_rows_that_it_meets():
    text = source(nn.LSTMCell(E, 2), N)
    assert "# scale: 0.5 x 4, 1.0 x 2, 0.5 x 2\n" in text  # of the weights
    assert f"# scale2: 0.5 x 4, 1.0 x 2, 0.5 x 2, in {N} rows\n" in text  # of all gates of a step
    assert f"# offset: 0.5 x 4, 0.0 x 2, 0.5 x 2, in {N} rows\n" in text
    assert f" = repeat(w, repeats={N}, axis=0)" in source(zoo.IndRNNCell(E, 2), N).replace("w2", "w")


@pytest.mark.parametrize("most", [0, 1 << 17])
@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, zoo.LayerNormLSTMCell, zoo.IndRNNCell, zoo.PeepholeLSTMCell])
def test_and_values_stay_as_they_were(cell, most, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.compiler.broadcast.MOST", most)
    in_every_call(nn.Recurrent(cell(E, 2, dtype=np.float64)))
