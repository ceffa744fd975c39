"""Gates by name: which rows they are, how they are read and set, and what is refused."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import zoo
from tinygrad_rnn.nn.gates import gates_of

LAYERS = {nn.RNN: "h", nn.LSTM: "ifgo", nn.GRU: "rzn"}
CELLS = {nn.RNNCell: "h", nn.LSTMCell: "ifgo", nn.GRUCell: "rzn"}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_blocks_of_a_layer_make_up_its_parameters(kind):
    layer = kind(2, 3, num_layers=2, bidirectional=True)
    gates = gates_of(layer)
    assert "".join(gates) == LAYERS[kind]
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(np.concatenate([getattr(gate, name) for gate in gates.values()]), array)
    for gate in gates.values():
        np.testing.assert_array_equal(gate.weight_hh, gate.weight_hh_l0)


@pytest.mark.parametrize("kind", CELLS)
def test_the_blocks_of_a_cell_make_up_its_parameters(kind):
    cell = kind(2, 3)
    gates = gates_of(cell)
    assert "".join(gates) == CELLS[kind]
    for name, array in cell.state_dict().items():
        np.testing.assert_array_equal(np.concatenate([getattr(gate, name) for gate in gates.values()]), array)


def test_the_letters_are_those_of_the_equations():
    """A gate that is held shut or open by its bias has the value that its letter in the cell then has."""
    lstm = nn.LSTM(2, 3, dtype=np.float64)
    x, state = np.ones((1, 1, 2)), (tg.Tensor(np.full((1, 1, 3), 0.5)), tg.Tensor(np.full((1, 1, 3), 0.25)))
    for letter, bias in {"i": -1e3, "f": 1e3, "o": 1e3}.items():
        gates_of(lstm)[letter].bias_ih = bias
    _, (h, c) = lstm(x, state)
    np.testing.assert_allclose(c.numpy(), 0.25)  # all is kept, nothing enters
    np.testing.assert_allclose(h.numpy(), np.tanh(0.25))
    gru = nn.GRU(2, 3, dtype=np.float64)
    gates_of(gru)["z"].bias_ih = 1e3
    np.testing.assert_allclose(gru(x, state[0])[1].numpy(), 0.5)


def test_setting_changes_these_rows_alone():
    lstm = nn.LSTM(2, 3, num_layers=2)
    before, forget = lstm.state_dict(), gates_of(lstm)["f"]
    forget.bias_ih = 1.0
    forget.weight_hh_l1 = tg.Tensor(np.eye(3))
    forget.weight_ih *= 2
    forget.bias_hh[:] = [1, 2, 3]
    before["bias_ih_l0"][3:6] = 1
    before["weight_hh_l1"][3:6] = np.eye(3)
    before["weight_ih_l0"][3:6] *= 2
    before["bias_hh_l0"][3:6] = [1, 2, 3]
    for name, array in lstm.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert array.dtype == np.float32


def test_a_graph_that_has_read_a_gate_notices_that_it_was_set():
    lstm = nn.LSTM(2, 3)
    loss = lstm(np.ones((4, 1, 2), np.float32))[0].sum()
    gates_of(lstm)["f"].weight_hh = 0
    with pytest.raises(RuntimeError, match="weight_hh"):
        loss.backward()


def test_wrong_names_and_shapes_are_refused():
    forget = gates_of(nn.LSTM(2, 4, proj_size=3, bias=False))["f"]
    for name in ("bias_ih", "weight_hr", "weight_hr_l0", "weight_hh_l1", "weights", "num_layers"):
        with pytest.raises(AttributeError, match=f"LSTM has no parameter '{name}' with rows for each of its gates i, f, g, o"):
            getattr(forget, name)
        with pytest.raises(AttributeError, match=f"no parameter '{name}'"):
            setattr(forget, name, 1)
    with pytest.raises(ValueError, match=r"gate 'f': weight_hh has shape \(4, 3\), got \(4, 4\)"):
        forget.weight_hh = np.eye(4)
    with pytest.raises(KeyError, match="'q'"):
        gates_of(nn.GRU(2, 3))["q"]
    assert repr(forget) == "<gate 'f' of LSTM>"


def test_a_cell_of_ones_own_names_its_gates():
    class Own(nn.Module):
        state_size = 3

        def __init__(self):
            self.weight_hh = nn.Parameter(np.arange(12.0).reshape(6, 2))

    with pytest.raises(TypeError, match=r'Own does not say which rows .* write gate_names = \("f", "n"\)'):
        gates_of(nn.Recurrent(Own()))
    Own.gate_names = ("f", "n")
    np.testing.assert_array_equal(gates_of(nn.Recurrent(Own()))["n"].weight_hh, np.arange(6.0, 12).reshape(3, 2))


def test_weights_outside_the_blocks_are_no_gates():
    """The candidate of a minimal gated unit has as many rows as its only gate, and is not its."""
    gates = gates_of(nn.Recurrent(zoo.MinimalGatedCell(2, 3)))
    assert list(gates) == ["f"]
    for name in ("weight_in", "bias_n"):
        with pytest.raises(AttributeError, match=f"no parameter '{name}'"):
            getattr(gates["f"], name)


def test_a_cell_that_adds_to_another_has_its_gates():
    class Own(nn.LSTMCell):
        pass

    assert list(gates_of(Own(2, 3))) == list("ifgo")
