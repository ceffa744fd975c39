"""Every case of recurrent layers in test_parity_nn.py, through tg.compile: PyTorch's results and gradients, float64, 1e-9."""

import numpy as np
import pytest
from conftest import IN_C

import tinygrad_rnn as tg
from tinygrad_rnn import nn

torch = pytest.importorskip("torch")
import test_parity_nn as parity  # noqa: E402  (it skips itself where there is no torch)

pytestmark = [pytest.mark.parity, pytest.mark.parametrize("target", ["numpy", IN_C], indirect=True)]
_small_products_on_one_thread = parity._small_products_on_one_thread


@pytest.fixture(autouse=True)
def _compiled(monkeypatch, target):
    """The layers that the cases make are compiled; what was made is asked for."""
    for name in ("RNN", "LSTM", "GRU"):
        plain = getattr(nn, name)
        monkeypatch.setattr(nn, name, lambda *args, plain=plain, **kwargs: tg.compile(plain(*args, **kwargs)))


@pytest.mark.parametrize(
    ("kind", "layers", "bias", "batch_first", "bidirectional", "batched", "given"),
    parity.OPTIONS,
    ids=lambda v: "-".join([v[0], *map(str, v[1].values())]) if isinstance(v, tuple) else str(v),
)
def test_recurrent_layers(kind, layers, bias, batch_first, bidirectional, batched, given):
    parity.test_recurrent_layers(kind, layers, bias, batch_first, bidirectional, batched, given)


@pytest.mark.parametrize("lengths", [[4, 1, 3], [2, 3, 1]], ids=str)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", parity.KINDS)
def test_lengths(kind, layers, bidirectional, batch_first, given, lengths):
    parity.test_lengths(kind, layers, bidirectional, batch_first, given, lengths)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_the_rest(name):
    for training in (False, True):
        parity.test_dropout_of_everything_or_in_eval(name, training)
    for size in ((4, 0, 2), (1, 1, 2)):
        parity.test_sizes_at_the_edge(name, size)
    parity.test_float32_over_many_steps(name)


def test_one_compiled_layer_with_new_weights_and_other_sizes():
    compiled = nn.LSTM(2, 3, 2, bidirectional=True, dtype=np.float64)
    rng = np.random.default_rng(0)
    for t, n in ((4, 3), (6, 1), (4, 3), (1, 2)):
        theirs = torch.nn.LSTM(2, 3, 2, bidirectional=True, dtype=torch.float64)
        compiled.load_state_dict(theirs.state_dict())
        compiled.zero_grad()
        x, tx = parity.both(rng.normal(size=(t, n, 2)))
        parity.compare(compiled, theirs, (x,), (tx,))


def test_a_whole_model_trains_alike():
    parity.test_a_whole_model_trains_alike()
