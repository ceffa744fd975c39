"""The same weights, inputs and options given to PyTorch and to us, in float64: every output, state, loss and gradient agrees.

Skipped where torch is not installed; what torch gave once is then checked by the golden numbers in the other files.
"""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
F, TF = nn.functional, torch.nn.functional
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(autouse=True, scope="module")
def _small_products_on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def both(array):
    """The same leaf, ours and theirs."""
    return tg.Tensor(array, requires_grad=True, dtype=np.float64), torch.tensor(array, requires_grad=True, dtype=torch.float64)


def same(ours, theirs, what=""):
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), **TOLERANCE, err_msg=what)


def loss_of(outs, rng, lift):
    """A sum that gives every element of every output a weight of its own."""
    total = 0
    for out in outs:
        total = total + (out * lift(rng.normal(size=tuple(out.shape)))).sum()
    return total


def compare(ours, theirs, args, torch_args):
    """Run both forward and backward; compare results, and the gradients of inputs and parameters."""
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    results, torch_results = ours(*args), theirs(*torch_args)
    flat, torch_flat = flatten(results), flatten(torch_results)
    for i, (a, b) in enumerate(zip(flat, torch_flat, strict=True)):
        assert a.shape == tuple(b.shape)
        same(a, b, f"result {i}")
    loss_of(flat, np.random.default_rng(1), lambda w: w).backward()
    loss_of(torch_flat, np.random.default_rng(1), torch.tensor).backward()
    for i, (a, b) in enumerate(zip(flatten(args), flatten(torch_args), strict=True)):
        same(a.grad, b.grad, f"gradient of input {i}")
    for (name, p), (torch_name, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == torch_name
        same(p.grad, q.grad, f"gradient of {name}")


def flatten(value):
    if isinstance(value, tuple):
        return [x for item in value for x in flatten(item)]
    return [] if value is None else [value]


# -- recurrent layers ---------------------------------------------------------------------------------------------------------

KINDS = [
    ("RNN", {"nonlinearity": "tanh"}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 2}),
    ("GRU", {}),
]
OPTIONS = list(itertools.product(KINDS, (1, 2, 3), (False, True), (False, True), (False, True), (False, True), (False, True)))


@pytest.mark.parametrize(
    ("kind", "layers", "bias", "batch_first", "bidirectional", "batched", "given"),
    OPTIONS,
    ids=lambda v: "-".join([v[0], *map(str, v[1].values())]) if isinstance(v, tuple) else str(v),
)
def test_recurrent_layers(kind, layers, bias, batch_first, bidirectional, batched, given):
    name, extra = kind
    T, N, E, H = 4, 3, 2, 5
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional, **extra}
    tg.manual_seed(layers)
    ours = getattr(nn, name)(E, H, layers, dtype=np.float64, **options)
    theirs = getattr(torch.nn, name)(E, H, layers, dtype=torch.float64, **options)
    rng = np.random.default_rng(0)
    x, tx = both(rng.normal(size=((N, T, E) if batch_first else (T, N, E)) if batched else (T, E)))
    if not given:
        compare(ours, theirs, (x,), (tx,))
        return
    sizes = (extra.get("proj_size", H), H) if name == "LSTM" else (H,)
    lead = (layers * (1 + bidirectional), N) if batched else (layers * (1 + bidirectional),)
    pairs = [both(rng.normal(size=(*lead, n))) for n in sizes]
    hx, thx = (tuple(side) if name == "LSTM" else side[0] for side in zip(*pairs, strict=True))
    compare(ours, theirs, (x, hx), (tx, thx))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_dropout_of_everything_or_in_eval(name, training):
    ours = getattr(nn, name)(2, 3, 3, dropout=1.0 if training else 0.5, bidirectional=True, dtype=np.float64).train(training)
    theirs = getattr(torch.nn, name)(2, 3, 3, dropout=1.0 if training else 0.5, bidirectional=True, dtype=torch.float64)
    x, tx = both(np.random.default_rng(0).normal(size=(4, 2, 2)))
    compare(ours, theirs.train(training), (x,), (tx,))


def test_dropout_has_the_same_mean_and_spread():
    rng = np.random.default_rng(0)
    ours = nn.RNN(2, 4, 2, dropout=0.3, dtype=np.float64)
    theirs = torch.nn.RNN(2, 4, 2, dropout=0.3, dtype=torch.float64)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    x = np.repeat(rng.normal(size=(3, 1, 2)), 20_000, axis=1)
    tg.manual_seed(0)
    torch.manual_seed(0)
    with tg.no_grad(), torch.no_grad():
        a, b = ours(x)[0].data, theirs(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(a.mean(1), b.mean(1), atol=0.02)
    np.testing.assert_allclose(a.std(1), b.std(1), atol=0.02)


@pytest.mark.parametrize("size", [(4, 0, 2), (1, 1, 2)], ids=["no batch", "one step"])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_sizes_at_the_edge(name, size):
    x, tx = both(np.random.default_rng(0).normal(size=size))
    compare(getattr(nn, name)(2, 1, dtype=np.float64), getattr(torch.nn, name)(2, 1, dtype=torch.float64), (x,), (tx,))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_float32_over_many_steps(name):
    ours, theirs = getattr(nn, name)(8, 16, 2), getattr(torch.nn, name)(8, 16, 2)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(100, 4, 8)).astype(np.float32)
    out, torch_out = ours(x)[0], theirs(torch.tensor(x))[0]
    np.testing.assert_allclose(out.data, torch_out.detach().numpy(), atol=2e-6)
    (out * out).mean().backward()
    (torch_out * torch_out).mean().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-4, atol=1e-6)


class Packed(torch.nn.Module):
    """A layer of PyTorch that is given lengths by its own means."""

    def __init__(self, layer, lengths):
        super().__init__()
        self.layer, self.lengths = layer, lengths

    def load_state_dict(self, state):
        self.layer.load_state_dict(state)

    def named_parameters(self):
        return self.layer.named_parameters()

    def forward(self, x, hx=None):
        first, steps = self.layer.batch_first, x.shape[1 if self.layer.batch_first else 0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, self.lengths, batch_first=first, enforce_sorted=False)
        out, last = self.layer(packed, hx)
        return torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=first, total_length=steps)[0], last


@pytest.mark.parametrize("lengths", [[4, 1, 3], [2, 3, 1]], ids=str)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS, ids=lambda v: "-".join([v[0], *map(str, v[1].values())]))
def test_lengths(kind, layers, bidirectional, batch_first, given, lengths):
    name, extra = kind
    options = {"batch_first": batch_first, "bidirectional": bidirectional, **extra}
    ours = getattr(nn, name)(2, 5, layers, dtype=np.float64, **options)
    theirs = Packed(getattr(torch.nn, name)(2, 5, layers, dtype=torch.float64, **options), lengths)
    rng = np.random.default_rng(0)
    x, tx = both(rng.normal(size=(3, 4, 2) if batch_first else (4, 3, 2)))
    args, torch_args = (x,), (tx,)
    if given:
        sizes = (extra.get("proj_size", 5), 5) if name == "LSTM" else (5,)
        pairs = [both(rng.normal(size=(layers * (1 + bidirectional), 3, n))) for n in sizes]
        hx, thx = (tuple(side) if name == "LSTM" else side[0] for side in zip(*pairs, strict=True))
        args, torch_args = (x, hx), (tx, thx)
    compare(WithLengths(ours, lengths), theirs, args, torch_args)


class WithLengths:
    """Our layer, called with lengths."""

    def __init__(self, layer, lengths):
        self.layer, self.lengths = layer, lengths
        self.state_dict, self.named_parameters = layer.state_dict, layer.named_parameters

    def __call__(self, x, hx=None):
        return self.layer(x, hx, lengths=self.lengths)


CELLS = [("RNNCell", {"nonlinearity": "tanh"}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}), ("GRUCell", {})]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("lead", [(), (3,)], ids=["single", "batch"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("name", "extra"), CELLS)
def test_cells(name, extra, bias, lead, given):
    ours = getattr(nn, name)(2, 4, bias=bias, dtype=np.float64, **extra)
    theirs = getattr(torch.nn, name)(2, 4, bias=bias, dtype=torch.float64, **extra)
    rng = np.random.default_rng(0)
    (x, tx), (h, th), (c, tc) = (both(rng.normal(size=(*lead, n))) for n in (2, 4, 4))
    if not given:
        compare(ours, theirs, (x,), (tx,))
    elif name == "LSTMCell":
        compare(ours, theirs, (x, (h, c)), (tx, (th, tc)))
    else:
        compare(ours, theirs, (x, h), (tx, th))


# -- weights ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_names_and_order_of_parameters_and_initial_range(name):
    options = {"num_layers": 3, "bidirectional": True, **({"proj_size": 2} if name == "LSTM" else {})}
    ours, theirs = getattr(nn, name)(3, 4, **options), getattr(torch.nn, name)(3, 4, **options)
    expected = [(n, tuple(p.shape)) for n, p in theirs.named_parameters()]
    assert [(n, p.shape) for n, p in ours.named_parameters()] == expected
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(abs(p.data).max() <= 0.5 for p in ours.parameters())


class Tagger(nn.Module):
    def __init__(self):
        self.embed = nn.Embedding(7, 3, dtype=np.float64)
        self.body = nn.Sequential(nn.Linear(3, 3, dtype=np.float64), nn.LayerNorm(3, dtype=np.float64))
        self.rnns = nn.ModuleList([nn.LSTM(3, 4, bidirectional=True, dtype=np.float64), nn.GRU(8, 2, dtype=np.float64)])

    def forward(self, indices):
        x = self.body(self.embed(indices))
        for rnn in self.rnns:
            x, _ = rnn(x)
        return x


class TorchTagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 3, dtype=torch.float64)
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 3, dtype=torch.float64), torch.nn.LayerNorm(3, dtype=torch.float64))
        self.rnns = torch.nn.ModuleList(
            [torch.nn.LSTM(3, 4, bidirectional=True, dtype=torch.float64), torch.nn.GRU(8, 2, dtype=torch.float64)]
        )

    forward = Tagger.forward


def test_a_state_dict_of_torch_is_loaded_as_it_is():
    ours, theirs = Tagger(), TorchTagger()
    ours.load_state_dict(theirs.state_dict())  # torch's tensors as values
    indices = np.array([[1, 2, 2], [0, 6, 1]])
    out, torch_out = ours(indices), theirs(torch.tensor(indices))
    same(out, torch_out)
    with torch.no_grad():
        theirs.embed.weight.zero_()
    assert ours.embed.weight.data.any()
    (out**2).sum().backward()
    ours.load_state_dict({name: p.detach() for name, p in theirs.named_parameters()})
    assert not ours.embed.weight.data.any()
    theirs.load_state_dict(theirs.state_dict())


def test_a_whole_model_trains_alike():
    ours, theirs = Tagger(), TorchTagger()
    ours.load_state_dict(theirs.state_dict())
    optimizer = tg.optim.SGD(ours.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3, nesterov=True)
    torch_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3, nesterov=True)
    rng = np.random.default_rng(0)
    for _ in range(10):
        indices, classes = rng.integers(0, 7, (5, 3)), rng.integers(0, 2, (5, 3))
        optimizer.zero_grad()
        loss = F.cross_entropy(ours(indices).reshape(-1, 2), classes.ravel())
        loss.backward()
        norm = nn.utils.clip_grad_norm_(ours.parameters(), 0.05)
        optimizer.step()
        torch_optimizer.zero_grad()
        torch_loss = TF.cross_entropy(theirs(torch.tensor(indices)).reshape(-1, 2), torch.tensor(classes).ravel())
        torch_loss.backward()
        torch_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.05)
        torch_optimizer.step()
        np.testing.assert_allclose([loss.item(), norm], [torch_loss.item(), torch_norm.item()], **TOLERANCE)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        same(p, q, name)


# -- layers without time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3), (0, 3), (0,)], ids=repr)
def test_linear(lead, bias):
    x, tx = both(np.random.default_rng(0).normal(size=(*lead, 4)))
    compare(nn.Linear(4, 2, bias=bias, dtype=np.float64), torch.nn.Linear(4, 2, bias=bias, dtype=torch.float64), (x,), (tx,))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [4, (4,), (3, 4), (2, 3, 4)], ids=repr)
def test_layer_norm(shape, bias):
    ours = nn.LayerNorm(shape, eps=1e-4, bias=bias, dtype=np.float64)
    rng = np.random.default_rng(0)
    for p in ours.parameters():
        p.data = rng.normal(size=p.shape)
    x, tx = both(rng.normal(size=(2, 3, 4)))
    compare(ours, torch.nn.LayerNorm(shape, eps=1e-4, bias=bias, dtype=torch.float64), (x,), (tx,))


@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3), (2, 1, 4)], ids=repr)
def test_embedding(shape):
    indices = np.random.default_rng(0).integers(0, 5, shape)
    ours, theirs = nn.Embedding(5, 3, dtype=np.float64), torch.nn.Embedding(5, 3, dtype=torch.float64)
    theirs.load_state_dict({"weight": torch.tensor(ours.state_dict()["weight"])})
    out, torch_out = ours(indices), theirs(torch.tensor(indices))
    same(out, torch_out)
    (out * out).sum().backward()
    (torch_out * torch_out).sum().backward()
    same(ours.weight.grad, theirs.weight.grad)


# -- losses -------------------------------------------------------------------------------------------------------------------


def compare_losses(f, torch_f, x, t, trained_target=True, **options):
    (a, ta), (b, tb) = both(x), both(t) if trained_target else (t, torch.tensor(t))
    loss, torch_loss = f(a, b, **options), torch_f(ta, tb, **options)
    assert loss.shape == tuple(torch_loss.shape)
    same(loss, torch_loss)
    loss_of([loss], np.random.default_rng(1), lambda w: w).backward()
    loss_of([torch_loss], np.random.default_rng(1), torch.tensor).backward()
    same(a.grad, ta.grad)
    if trained_target:
        same(b.grad, tb.grad)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 2)], ids=repr)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("smooth_l1_loss", {}),
        ("smooth_l1_loss", {"beta": 0.3}),
        ("smooth_l1_loss", {"beta": 0.0}),
    ],
)
def test_losses_of_a_difference(name, options, shape, reduction):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=shape) * 2, rng.normal(size=shape)
    compare_losses(getattr(F, name), getattr(TF, name), x, t, reduction=reduction, **options)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 2)], ids=repr)
def test_binary_cross_entropy(shape, reduction):
    rng = np.random.default_rng(0)
    p, x, t = rng.uniform(0.001, 0.999, shape), rng.normal(size=shape) * 5, rng.uniform(0, 1, shape)
    compare_losses(F.binary_cross_entropy, TF.binary_cross_entropy, p, t, reduction=reduction)
    ours, theirs = F.binary_cross_entropy_with_logits, TF.binary_cross_entropy_with_logits
    compare_losses(ours, theirs, x, t, reduction=reduction)


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_binary_cross_entropy_at_extremes(target):
    logits = np.array([-1e4, -1000, -100, -30, -1, 0, 1, 30, 100, 1000, 1e4])
    t = np.full(logits.shape, target)
    compare_losses(F.binary_cross_entropy_with_logits, TF.binary_cross_entropy_with_logits, logits, t, False, reduction="none")
    p = np.array([0, 1e-50, 1e-30, 1e-10, 1 - 1e-10, 1])
    ours = F.binary_cross_entropy(p, np.full(p.shape, target), reduction="none")
    same(ours, TF.binary_cross_entropy(torch.tensor(p), torch.full(p.shape, target, dtype=torch.float64), reduction="none"))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignore", [-100, 1])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 4, 3), (2, 4, 3, 2)], ids=repr)
def test_cross_entropy(shape, ignore, smoothing, reduction):
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=shape) * 3, rng.integers(0, 4, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    if ignore == -100 and t.ndim:
        t.flat[0] = -100
    options = {"ignore_index": ignore, "label_smoothing": smoothing, "reduction": reduction}
    compare_losses(F.cross_entropy, TF.cross_entropy, x, t, False, **options)


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_cross_entropy_of_extreme_scores(scale):
    x = np.random.default_rng(0).normal(size=(6, 5)) * scale
    a, ta = both(x)
    t = np.arange(6) % 5
    loss, torch_loss = F.cross_entropy(a, t), TF.cross_entropy(ta, torch.tensor(t))
    np.testing.assert_allclose(loss.item(), torch_loss.item(), rtol=1e-12)
    loss.backward()
    torch_loss.backward()
    same(a.grad, ta.grad)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, axis, scale):
    a, ta = both(np.random.default_rng(0).normal(size=(2, 3, 4)) * scale)
    y, ty = getattr(F, name)(a, axis=axis), getattr(TF, name)(ta, dim=axis)
    same(y, ty)
    loss_of([y], np.random.default_rng(1), lambda w: w).backward()
    loss_of([ty], np.random.default_rng(1), torch.tensor).backward()
    same(a.grad, ta.grad)


# -- SGD and clipping ---------------------------------------------------------------------------------------------------------


def random_settings(rng):
    momentum = rng.choice([0.0, 0.5, 0.9])
    dampening = rng.choice([0.0, 0.3])
    settings = {
        "lr": rng.uniform(0.01, 0.3), "momentum": momentum, "dampening": dampening, "weight_decay": rng.choice([0.0, 0.1]),
        "nesterov": bool(momentum and not dampening and rng.integers(2)), "maximize": bool(rng.integers(2)),
    }  # fmt: skip
    return {name: value if isinstance(value, bool) else float(value) for name, value in settings.items()}


def as_torch(state):
    return {
        "state": {i: {k: torch.tensor(v) for k, v in s.items()} for i, s in state["state"].items()},
        "param_groups": state["param_groups"],
    }


@pytest.mark.parametrize("seed", range(40))
def test_sgd_with_random_settings_and_groups(seed):
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=shape) for shape in [(3, 2), (2,), (), (4,)]]
    ours = [nn.Parameter(v) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    groups = [({"params": slice(0, 2)}), ({"params": slice(2, 4), **(random_settings(rng) if seed % 2 else {})})]
    settings = random_settings(rng)
    optimizer, torch_optimizer = (
        make([{**group, "params": ps[group["params"]]} for group in groups], **settings)
        for make, ps in ((tg.optim.SGD, ours), (torch.optim.SGD, theirs))
    )
    for step in range(10):
        for p, q in zip(ours, theirs, strict=True):
            g = rng.normal(size=p.shape)
            p.grad, q.grad = (None, None) if rng.random() < 0.2 else (tg.Tensor(g), torch.tensor(g))
        optimizer.step()
        torch_optimizer.step()
        if step == 3:  # each goes on from the other's state
            state, torch_state = optimizer.state_dict(), torch_optimizer.state_dict()
            optimizer = tg.optim.SGD([{"params": ours[:2]}, {"params": ours[2:]}], lr=9.0)
            optimizer.load_state_dict(torch_state)
            torch_optimizer = torch.optim.SGD([{"params": theirs[:2]}, {"params": theirs[2:]}], lr=9.0)
            torch_optimizer.load_state_dict(as_torch(state))
        for p, q in zip(ours, theirs, strict=True):
            same(p, q)
    state, torch_state = optimizer.state_dict(), torch_optimizer.state_dict()
    for group, torch_group in zip(state["param_groups"], torch_state["param_groups"], strict=True):
        assert group.items() <= torch_group.items()
    assert state["state"].keys() == torch_state["state"].keys()


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("limit", [0.0, 0.1, 1.0, 100.0])
def test_clipping(limit, norm_type):
    rng = np.random.default_rng(0)
    pairs = [both(rng.normal(size=shape)) for shape in [(3, 2), (4,), ()]]
    for p, q in pairs:
        g = rng.normal(size=p.shape)
        p.grad, q.grad = tg.Tensor(g), torch.tensor(g)
    ours, theirs = zip(*pairs, strict=True)
    norm = nn.utils.clip_grad_norm_(ours, limit, norm_type)
    np.testing.assert_allclose(norm, torch.nn.utils.clip_grad_norm_(theirs, limit, norm_type).item(), rtol=1e-12)
    for p, q in pairs:
        same(p.grad, q.grad)
    nn.utils.clip_grad_value_(ours, limit / 20)
    torch.nn.utils.clip_grad_value_(theirs, limit / 20)
    for p, q in pairs:
        same(p.grad, q.grad)
