"""tg.flow against the definitions: a weight for every step of its own, a perturbation at every state, finite differences."""

import copy
import gc

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import flow, nn
from tinygrad_rnn.backward import gradients

LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
T, N, E, H = 5, 2, 3, 4


class Trace(nn.Module):
    """A cell of one's own: two members of different sizes, no names, a weight used twice in a step, another output."""

    def __init__(self, features, hidden):
        self.state_size, self.output_size = (hidden, 2), 2
        self.w = nn.Linear(features + hidden, hidden, dtype=np.float64)
        self.u = nn.Parameter(np.random.default_rng(3).normal(size=(hidden, hidden)) / hidden)
        self.v = nn.Linear(hidden, 2, dtype=np.float64)

    def forward(self, x, state):
        h, m = state
        h = np.tanh(self.w(np.concatenate([x, h], axis=-1)) @ self.u @ self.u)
        return h, 0.5 * m + np.tanh(self.v(h))

    def output(self, state):
        return state[1]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make(kind, **options):
    tg.manual_seed(1)
    if kind == "custom":
        return nn.Recurrent(lambda n: Trace(n, H), E, **options)
    return LAYERS[kind](E, H, dtype=np.float64, **options)


def close(got, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def zero_state(cell):
    sizes = cell.state_size
    return tuple(np.zeros((N, n)) for n in sizes) if isinstance(sizes, tuple) else np.zeros((N, sizes))


def output(cell, state):
    return getattr(cell, "output", lambda s: s[0] if isinstance(s, tuple) else s)(state)


# -- terms --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_a_term_is_the_gradient_of_a_weight_that_only_one_step_has(rng, kind):
    """The definition: give every step its own copy of the cell, and dL/dW_t is what backward() says of the t-th copy."""
    layer, x = make(kind), rng.normal(size=(T, N, E))
    cell = layer.cells["l0"]
    copies = [copy.deepcopy(cell) for _ in range(T)]
    state, ys = zero_state(cell), []
    state = tuple(map(tg.Tensor, state)) if isinstance(state, tuple) else tg.Tensor(state)
    for t in range(T):
        state = copies[t](tg.Tensor(x[t]), state)
        ys.append(output(cell, state))
    losses = [(y**3).sum() for y in ys]
    expected = {name: np.zeros((T, T, *p.shape)) for name, p in cell.named_parameters()}
    for s, loss in enumerate(losses):
        for one in copies:
            one.zero_grad()
        loss.backward()
        for t in range(s + 1):
            for name, p in copies[t].named_parameters():
                expected[name][s, t] = 0 if p.grad is None else p.grad.numpy()

    y, _ = layer(x)
    parameters = dict(cell.named_parameters())
    split = flow.terms([(y[t] ** 3).sum() for t in range(T)], parameters)
    summed = flow.terms((y**3).sum(), parameters)
    for name in parameters:
        close(split[name], expected[name])
        close(summed[name], expected[name].sum(0))
    assert list(split) == list(parameters)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_terms_sum_to_what_backward_gives(rng, kind, bidirectional):
    layer = make(kind, num_layers=2, bidirectional=bidirectional, batch_first=True)
    x = tg.Tensor(rng.normal(size=(N, T, E)), requires_grad=True, name="x")
    y, last = layer(x)
    last = last if isinstance(last, tuple) else (last,)
    loss = (y**2).mean() + sum((h**3).sum() for h in last)
    loss.backward()
    everything = {**dict(layer.named_parameters()), "x": x}
    for name, found in flow.terms(loss, everything).items():
        assert found.shape == (T, *everything[name].shape)
        close(found.sum(0), everything[name].grad.numpy())
    x_terms = flow.terms(loss, x)
    assert all((x_terms[t][:, s] == 0).all() for t in range(T) for s in range(T) if s != t)  # a step reads its own input


def test_float32_to_rounding(rng):
    layer = nn.LSTM(E, H)
    y, _ = layer(rng.normal(size=(200, N, E)).astype(np.float32))
    loss = (y * y).sum()
    loss.backward()
    found = flow.terms(loss, layer.weight_hh_l0)
    assert found.dtype == np.float32
    exact = found.astype(float).sum(0)
    assert np.abs(exact - layer.weight_hh_l0.grad.numpy()).max() < 1e-6 * np.abs(found).sum(0).max()


def test_the_losses_of_steps_as_one_tensor(rng):
    layer, x = make("GRU"), rng.normal(size=(T, N, E))
    y, _ = layer(x)
    per_step = (y**2).mean(axis=(1, 2))
    found = flow.terms(per_step, layer.weight_hh_l0)
    close(found, flow.terms([(y[t] ** 2).mean() for t in range(T)], layer.weight_hh_l0))
    per_step.sum().backward()
    close(found.sum(axis=(0, 1)), layer.weight_hh_l0.grad.numpy())


def test_a_loop_of_ones_own_with_all_ways_to_use_a_weight(rng):
    """W.T, parts of it, twice in a step, summed with another before the loop, projected before the loop."""
    leaf = {
        name: tg.Tensor(rng.normal(size=shape), requires_grad=True, name=name)
        for name, shape in {"W": (2 * H, H), "U": (E, H), "a": (H,), "b": (H,)}.items()
    }

    def run(w, u, a, b):
        """`w` and the others are asked for the weight of a step, -1 for what is computed before the loop."""
        h, x = np.zeros((N, H)), tg.Tensor(np.random.default_rng(5).normal(size=(N, T, E)))
        losses, inputs, bias = [], u(-1)(x), a(-1)(b)
        for t in range(T):
            h = np.tanh(inputs[:, t] + x[:, t, :1] + h @ w(t)[:H].T @ w(t)[H:] + w(t)[0] + bias(t))
            losses.append((h**2).sum())
        return losses

    W, U, a, b = leaf.values()
    together = a + b
    shared = run(lambda t: W, lambda t: lambda x: x @ U, lambda t: lambda b: lambda t: together, lambda t: None)
    copies = {name: [x.detach() for _ in range(T)] for name, x in leaf.items()}
    for each in copies.values():
        for x in each:
            x.requires_grad = True
    Ws, Us, As, Bs = copies.values()

    class Projected:
        def __init__(self, x):
            self.x = x

        def __getitem__(self, key):
            return self.x[key] @ Us[key[1]]

    own = run(Ws.__getitem__, lambda t: Projected, lambda t: lambda b: lambda t: As[t] + Bs[t], lambda t: None)
    total = sum(own)
    total.backward()
    loss = sum(shared)
    for (name, x), each in zip(leaf.items(), copies.values(), strict=True):
        close(flow.terms(loss, x), [c.grad.numpy() for c in each])
        split = flow.terms(shared, x)
        close(split.sum(0), [c.grad.numpy() for c in each])
        assert (split[np.triu_indices(T, 1)] == 0).all(), name  # no loss is due to what comes after it


def test_a_sum_of_losses_made_within_the_loop(rng):
    W = tg.Tensor(rng.normal(size=(H, H)), requires_grad=True)
    xs, h, loss = tg.Tensor(rng.normal(size=(T, H))), np.zeros(H), 0.0
    for x in xs:
        h = np.tanh(x + W @ h)
        loss = loss + (h**2).sum()
    loss.backward()
    found = flow.terms(loss, W)
    assert found.shape == (T, H, H)
    assert (found[0] == 0).all()  # the first state is zero
    close(found.sum(0), W.grad.numpy())
    assert list(flow.norms(loss)) == ["state"]


def test_nothing_is_left_behind(rng):
    layer = make("LSTM")
    y, _ = layer(rng.normal(size=(T, N, E)))
    loss = y.sum()
    flow.terms(loss, layer.parameters())
    flow.norms(loss)
    assert all(p.grad is None for p in layer.parameters())
    loss.backward()
    assert all(p.grad is not None for p in layer.parameters())  # the graph is as it was


def test_what_terms_refuses(rng):
    layer, other = make("RNN"), nn.Linear(H, H, dtype=np.float64)
    x = rng.normal(size=(T, N, E))
    y, _ = layer(x)
    loss, w = (y**2).sum(), layer.weight_hh_l0
    with pytest.raises(ValueError, match=r"expected a loss of one number, got .*shape \(2, 4\).*reduce it first"):
        flow.terms(y, w)
    with pytest.raises(TypeError, match=r"expected a loss, a Tensor with one element, got a float"):
        flow.terms([1.0], w)
    with pytest.raises(ValueError, match=r"does not require grad and has no graph"):
        flow.terms(loss.detach(), w)
    with pytest.raises(TypeError, match=r"expected a weight, or a tuple, list or dict of weights, got a ndarray"):
        flow.terms(loss, w.numpy())
    with pytest.raises(ValueError, match=r"the loss does not depend on 'weight' \(shape \(4, 4\)"):
        flow.terms(loss, other.weight)
    with pytest.raises(ValueError, match=r"'weight_hh' .* also outside of the time steps.*leave penalties on weights out"):
        flow.terms(loss + (w**2).sum(), w)
    with pytest.raises(ValueError, match=r"no time steps in the graph of .*Recurrent \(not compiled\), or in a loop of"):
        flow.terms(other(np.ones(H)).sum(), other.weight)
    h = flow.states(loss)["RNN.l0.h"][2]
    with pytest.raises(ValueError, match=r"'h' .* is computed at step 2, so it has no terms by step.*gradients_at"):
        flow.terms(loss, h)
    w.requires_grad = False
    with pytest.raises(ValueError, match=r"'weight_hh' .* does not require grad"):
        flow.terms(loss, w)
    w.requires_grad = True
    w.data -= 0.1
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        flow.terms(loss, w)


def test_an_output_layer_beside_the_loop_does_not_disturb(rng):
    layer, out = make("LSTM"), nn.Linear(H, 1, dtype=np.float64)
    y, _ = layer(rng.normal(size=(T, N, E)))
    loss = (out(y) ** 2).mean() + (out.weight**2).sum()
    loss.backward()
    close(flow.terms(loss, layer.weight_ih_l0).sum(0), layer.weight_ih_l0.grad.numpy())
    with pytest.raises(ValueError, match="outside of the time steps"):
        flow.terms(loss, out.weight)


# -- gradients of states ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_what_reaches_a_state_is_the_gradient_of_a_push_given_to_it(rng, kind):
    """dL/dh_t = dL/de_t for h_t + e_t with e_t = 0; two layers in two directions as loops written out."""
    layer = make(kind, num_layers=2, bidirectional=True)
    x = rng.normal(size=(T, N, E))
    y, _ = layer(x)
    found = flow.norms((y**2).sum())

    pushes, kept = {}, {}
    names = {"RNN": ["h"], "GRU": ["h"], "LSTM": ["h", "c"], "custom": ["state", "state[1]"]}[kind]

    def run(key, xs, order):
        cell, ys = layer.cells[key], {}
        state = zero_state(cell)
        state = tuple(map(tg.Tensor, state)) if isinstance(state, tuple) else tg.Tensor(state)
        for t in order:
            state = cell(xs[t], state)
            members = state if isinstance(state, tuple) else (state,)
            kept[key, t] = [h.numpy() for h in members]
            for i, h in enumerate(members):
                pushes[key, i, t] = tg.Tensor(np.zeros(h.shape), requires_grad=True)
            pushed = tuple(h + pushes[key, i, t] for i, h in enumerate(members))
            state = pushed if isinstance(state, tuple) else pushed[0]
            ys[t] = output(cell, state)
        return ys

    xs = [tg.Tensor(x_t) for x_t in x]
    for k in range(2):
        forward, back = run(f"l{k}", xs, range(T)), run(f"l{k}_reverse", xs, range(T)[::-1])
        xs = [np.concatenate([forward[t], back[t]], axis=-1) for t in range(T)]
    sum((y_t**2).sum() for y_t in xs).backward()

    def reaches(key, t):
        """What a push to the result of a cell cannot show: a member that another member of the same step is made of."""
        g = [0.0 if p.grad is None else p.grad.numpy() for p in (pushes[key, i, t] for i in range(len(names)))]
        values, cell = kept[key, t], layer.cells[key]
        if kind == "LSTM":
            h, c = values
            g[1] = g[1] + g[0] * h / np.tanh(c) * (1 - np.tanh(c) ** 2)
        if kind == "custom":
            g[0] = g[0] + (g[1] * (1 - np.tanh(cell.v(values[0]).numpy()) ** 2)) @ cell.v.weight.numpy()
        return g

    who = type(layer).__name__
    assert found.keys() == {f"{who}.{key}.{name}" for key in layer.cells for name in names}
    for key in layer.cells:
        for i, name in enumerate(names):
            close(found[f"{who}.{key}.{name}"], [np.linalg.norm(reaches(key, t)[i]) for t in range(T)])


def test_states_of_a_loop_of_ones_own(rng):
    cell, x = nn.LSTMCell(E, H, dtype=np.float64), tg.Tensor(rng.normal(size=(N, T, E)))
    state, kept = None, []
    for t in range(T):
        state = cell(x[:, t], state)
        kept.append(state)
    found = flow.states((state[0] ** 2).sum())
    assert found.keys() == {"LSTMCell.h", "LSTMCell.c"}
    for t in range(T):
        assert found["LSTMCell.h"][t] is kept[t][0]
        assert found["LSTMCell.c"][t] is kept[t][1]


def test_names_that_count_the_steps_are_one_name(rng):
    W, xs, h = tg.Tensor(rng.normal(size=(H, H)), requires_grad=True), tg.Tensor(rng.normal(size=(T, H))), np.zeros(H)
    for t in range(T):
        h = np.tanh(xs[t] + W @ h).named(f"h_{t}")
    assert [h.name for h in flow.states(h.sum())["h"].values()] == ["h_0", "h_1", "h_2", "h_3", "h_4"]


def test_layers_inside_a_model_have_paths(rng):
    class Model(nn.Module):
        def __init__(self):
            self.rnn, self.out = nn.GRU(E, H, num_layers=2, dtype=np.float64), nn.Linear(H, 1, dtype=np.float64)

        def forward(self, x):
            return self.out(self.rnn(x)[0][-1])

    assert list(flow.norms(Model()(rng.normal(size=(T, N, E))).sum())) == ["Model.rnn.l0.h", "Model.rnn.l1.h"]


def test_gradients_at_any_nodes():
    a, b = tg.Tensor(2.0, requires_grad=True), tg.Tensor(3.0)
    c = a * b
    d = c * c
    loss = d + c
    found = flow.gradients_at(loss, {"c": c, "rest": (d, a, b, loss)})
    assert found["c"] == 13  # through d, although d is asked for as well
    assert found["rest"] == (1, 39, 0, 1)
    assert a.grad is None
    with pytest.raises(TypeError, match=r"expected Tensors of the loss's graph, got a float"):
        flow.gradients_at(loss, [1.0])
    with pytest.raises(ValueError, match=r"expected a loss of one number"):
        flow.gradients_at(tg.Tensor([1.0, 2.0], requires_grad=True) * 2, [a])


def test_targets_end_the_walk_unless_it_is_to_go_through():
    a = tg.Tensor(2.0, requires_grad=True)
    b = a * 3
    c = b * b
    seeds = [tg.Tensor(1.0)]
    assert gradients([c], seeds, targets={a, b}).keys() == {b}
    through = gradients([c], seeds, targets={a, b}, through=True)
    assert (through[a], through[b]) == (36, 12)
    graph = gradients([c], seeds, create_graph=True, targets={a, b}, through=True)
    assert (graph[a].item(), graph[b].item()) == (36, 12)
    graph[b].backward()
    assert a.grad.item() == 6  # d(2 * 3a)/da


def test_every_option_of_a_layer(rng):
    """States have their names and all their steps, and terms their sum, whatever the layer does between steps."""
    options = [{}, {"zoneout": (0.3, 0.2)}, {"recurrent_dropout": 0.3}, {"learn_initial_state": True}, {"dropout": 0.2}]
    names = [f"LSTM.{key}.{name}" for key in ("l0", "l0_reverse", "l1", "l1_reverse") for name in "ch"]
    for option in options:
        for lengths in (None, [T, 3], [1, T], [T - 1, T]):
            layer = make("LSTM", num_layers=2, bidirectional=True, **option)
            y, last = layer(rng.normal(size=(T, N, E)), lengths=lengths)
            loss = (y**2).sum() + sum((h**3).sum() for h in last)
            loss.backward()
            parameters = dict(layer.named_parameters())
            for name, found in flow.terms(loss, parameters).items():
                close(found.sum(0), parameters[name].grad.numpy())
            found = flow.states(loss)
            assert sorted(found) == names
            assert all(list(series) == list(range(T)) for series in found.values())
            assert all((norms > 0).all() for norms in flow.norms(loss).values())


def test_padding_gets_no_gradient(rng):
    layer = make("GRU")
    y, _ = layer(rng.normal(size=(T, 1, E)), lengths=[3])
    found = flow.norms((y**2).sum())["GRU.l0.h"]
    assert (found[:3] > 0).all()
    assert (found[3:] == 0).all()


def test_where_the_loss_does_not_depend_on_a_state_its_norm_is_zero(rng):
    y, _ = make("RNN", bidirectional=True)(rng.normal(size=(T, N, E)))
    found = flow.norms(y[2].sum())
    assert list(found["RNN.l0.h"] > 0) == [True, True, True, False, False]
    assert list(found["RNN.l0_reverse.h"] > 0) == [False, False, True, True, True]


# -- state Jacobians ----------------------------------------------------------------------------------------------------------


def unroll(cell, xs, state, sizes):
    """The states after each step, members end to end, from one given so."""
    every = []
    with tg.no_grad():
        for x in xs:
            members = tuple(map(tg.Tensor, np.split(state, np.cumsum(sizes)[:-1], axis=-1)))
            state = cell(tg.Tensor(x), members if isinstance(cell.state_size, tuple) else members[0])
            state = np.concatenate([h.numpy() for h in (state if isinstance(state, tuple) else (state,))], axis=-1)
            every.append(state)
    return every


@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_state_jacobians_by_finite_differences(rng, kind):
    layer, x = make(kind), rng.normal(size=(T, N, E))
    found = flow.jacobians(layer, x)["l0"]
    sizes, n = found.sizes, sum(found.sizes)
    cell, full, eps = layer.cells["l0"], found.map("full"), 1e-6
    assert found.steps.shape == (T, N, n, n)
    path = [np.zeros((N, n)), *unroll(cell, x, np.zeros((N, n)), sizes)]
    for k in range(T + 1):
        close(full[k, k], np.broadcast_to(np.eye(n), (N, n, n)))
        for j in range(n):
            push = np.zeros(n)
            push[j] = eps
            up, down = unroll(cell, x[k:], path[k] + push, sizes), unroll(cell, x[k:], path[k] - push, sizes)
            for i, t in enumerate(range(k + 1, T + 1)):
                close(full[t, k, :, :, j], (up[i] - down[i]) / (2 * eps), rtol=1e-5, atol=1e-8)
        assert not full[:k, k].any()


def test_an_rnn_by_the_formula_of_the_paper(rng):
    """dh_t/dh_{t-1} = diag(1 - h_t^2) W, and a product of them is bounded by powers of W's largest singular value."""
    layer, x, h0 = make("RNN"), rng.normal(size=(T, E)), rng.normal(size=(1, H))
    y, _ = layer(x, h0)
    found = flow.jacobians(layer, x, h0)["l0"]
    W, h = layer.weight_hh_l0.numpy(), y.numpy()
    close(found.steps[:, 0], [np.diag(1 - h_t**2) @ W for h_t in h])
    norms, bound = found.map()[:, :, 0], np.linalg.norm(W, 2)
    assert all(norms[t, k] <= bound ** (t - k) + 1e-12 for t in range(T + 1) for k in range(t + 1))


def test_measures_and_members(rng):
    found = flow.jacobians(make("LSTM"), rng.normal(size=(T, N, E)))["l0"]
    full = found.map("full")
    assert found.sizes == (H, H)
    close(found.map("full", member=1), full[..., H:, H:])
    close(found.map("full", member=0), full[..., :H, :H])
    close(found.map("values"), np.linalg.svd(full, compute_uv=False))
    close(found.map("norm"), found.map("values")[..., 0])
    close(found.map("radius")[1:, 0], np.abs(np.linalg.eigvals(full[1:, 0])).max(-1))
    close(found.map("norm", member=1), np.linalg.svd(full[..., H:, H:], compute_uv=False)[..., 0])
    with pytest.raises(ValueError, match=r"measure is one of 'norm', 'radius', 'values', 'full', got 'max'"):
        found.map("max")
    with pytest.raises(ValueError, match=r"member=2, but the state has 2 member\(s\), counted from 0"):
        found.map(member=2)


def test_products_that_explode_beyond_their_dtype_are_infinite_and_then_nan():
    step = np.array([[0, 1e20], [1e20, 0]], np.float32)
    found = flow.StateJacobians(np.stack([step, step, step])[:, None], (2,))
    expected = [1, 1e20, np.inf, np.nan]  # 1e40 is no float32, and inf * 0 is no number
    for measure in ("norm", "radius"):
        np.testing.assert_allclose(found.map(measure)[:, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(found.map("values")[:, 0, 0], np.transpose([expected, expected]), rtol=1e-6)


@pytest.mark.parametrize("kind", [*LAYERS, "custom"])
def test_layers_and_directions_are_cells_with_inputs_of_their_own(rng, kind):
    layer, x = make(kind, num_layers=2, bidirectional=True, batch_first=True), rng.normal(size=(N, T, E))
    found = flow.jacobians(layer, x)
    assert list(found) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    xs = x.swapaxes(0, 1)
    for k in range(2):
        outs = []
        for suffix, turn in (("", 1), ("_reverse", -1)):
            alone = nn.Recurrent(layer.cells[f"l{k}{suffix}"])
            close(found[f"l{k}{suffix}"].steps, flow.jacobians(alone, xs[::turn])["l0"].steps)
            with tg.no_grad():
                outs.append(alone(xs[::turn])[0].numpy()[::turn])
        xs = np.concatenate(outs, axis=-1)


def test_a_bare_cell_and_one_sample(rng):
    cell, x = nn.GRUCell(E, H, dtype=np.float64), rng.normal(size=(T, E))
    h0 = rng.normal(size=(1, H))
    alone = flow.jacobians(cell, x, h0)["l0"]
    assert alone.steps.shape == (T, 1, H, H)
    close(alone.steps, flow.jacobians(nn.Recurrent(cell), x[:, None], h0[:, None])["l0"].steps)


def test_the_layer_stays_as_it_was(rng):
    layer, x = make("LSTM"), rng.normal(size=(T, N, E))
    cells, before = dict(layer.cells), layer.state_dict()
    with tg.no_grad():
        flow.jacobians(layer, x)
    assert layer.cells == cells
    assert all(p.grad is None for p in layer.parameters())
    assert all((before[name] == value).all() for name, value in layer.state_dict().items())


def test_a_state_that_passes_through_and_one_that_depends_on_nothing(rng):
    class Odd(nn.Module):
        state_size = (2, 2, 2)

        def forward(self, x, state):
            a, b, c = state
            return a * x, b, tg.Tensor(np.ones(c.shape))

    found = flow.jacobians(Odd(), np.full((3, 1, 2), 2.0))["l0"].map("full")[3, 0, 0]
    close(found, np.diag([8, 8, 1, 1, 0, 0]))


def test_what_has_no_state():
    with pytest.raises(TypeError, match=r"Linear is not a cell: it needs `state_size`"):
        flow.jacobians(nn.Linear(2, 3), np.ones((3, 2)))
    with pytest.raises(TypeError, match=r"Compiled is a layer, .*: pass its cell, layer.cells\['l0'\]"):
        flow.jacobians(tg.compile(nn.LSTM(2, 3)), np.ones((3, 2)))


def test_all_is_freed_by_reference_counts(rng):
    layer, x = make("LSTM"), rng.normal(size=(T, N, E))
    gc.collect()
    gc.disable()
    try:
        y, _ = layer(x)
        loss = y.sum()
        flow.terms(loss, layer.weight_hh_l0)
        flow.norms(loss)
        flow.jacobians(layer, x)
        del y, loss
        assert gc.collect() == 0
    finally:
        gc.enable()
