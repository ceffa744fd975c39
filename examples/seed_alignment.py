"""One sentence through an RNN and an LSTM: equations written by hand, this package's layers, and PyTorch's.

Outputs and gradients must agree. The sentence of four words, its random vectors of 128 numbers, the hidden size of 3 and the
LSTM's eight matrices come from Datawhale's course base-llm, chapter 3. PyTorch is optional: `pip install torch==2.13.0`.
"""

import numpy as np

import tinygrad_rnn as tg

WORDS = ["播放", "周杰伦", "的", "《稻香》"]  # "play Jay Chou's Dao Xiang"
FEATURES, HIDDEN = 128, 3


def sentence(dtype=np.float32):
    """The vectors of the words, (1, 4, 128). The course's numbers are float32; in float64 they show more than rounding."""
    return np.random.RandomState(42).randn(1, len(WORDS), FEATURES).astype(np.float32).astype(dtype)


def matrices(gates, dtype=np.float32):
    """U (128, 3) and W (3, 3) for each gate, in the order U, W, U, W, ..."""
    draw = np.random.RandomState(7).randn
    return [draw(rows, HIDDEN).astype(np.float32).astype(dtype) for _ in range(gates) for rows in (FEATURES, HIDDEN)]


def rnn(x, U, W):
    """h = tanh(x U + h W); the h of every step, (batch, time, hidden)."""
    h, hs = np.zeros((len(x), HIDDEN), x.dtype), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ U + h @ W)
        hs.append(h)
    return np.stack(hs, axis=1)


def lstm(x, U_f, W_f, U_i, W_i, U_c, W_c, U_o, W_o):
    """Hochreiter & Schmidhuber's equations with a forget gate; the h of every step, (batch, time, hidden)."""
    h = c = np.zeros((len(x), HIDDEN), x.dtype)
    hs = []
    for t in range(x.shape[1]):
        x_t = x[:, t]
        f = tg.sigmoid(x_t @ U_f + h @ W_f)
        i = tg.sigmoid(x_t @ U_i + h @ W_i)
        c = f * c + i * np.tanh(x_t @ U_c + h @ W_c)
        h = tg.sigmoid(x_t @ U_o + h @ W_o) * np.tanh(c)
        hs.append(h)
    return np.stack(hs, axis=1)


def by_hand(forward, x, weights):
    """Outputs, and the gradients of their sum: forward is one of the functions above."""
    tensors = [tg.Tensor(w, requires_grad=True) for w in weights]
    out = forward(x, *tensors)
    out.sum().backward()
    return out.numpy(), [w.grad.numpy() for w in tensors]


def packed(weights):
    """The matrices as layers keep them: transposed, all U in one and all W in one, an LSTM's gates in the order i, f, g, o."""
    order = [1, 0, 2, 3] if len(weights) == 8 else [0]
    return [np.concatenate([weights[2 * gate + k].T for gate in order]) for k in (0, 1)]


def by_layer(nn, tensor, x, weights):
    """The same from a layer of a library: of tg.nn with tg.Tensor, or of torch.nn with torch.from_numpy."""
    x = tensor(x)
    layer = (nn.LSTM if len(weights) == 8 else nn.RNN)(FEATURES, HIDDEN, bias=False, batch_first=True, dtype=x.dtype)
    weight_ih, weight_hh = map(tensor, packed(weights))
    layer.load_state_dict({"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh})
    out, _ = layer(x)
    out.sum().backward()
    return out.detach().numpy(), [p.grad.numpy() for p in layer.parameters()]


def compare(nn, tensor, gates, dtype):
    """The largest difference between the equations and a layer: of the outputs, and of the gradients."""
    x, weights = sentence(dtype), matrices(gates, dtype)
    out, grads = by_hand(lstm if gates == 4 else rnn, x, weights)
    layer_out, layer_grads = by_layer(nn, tensor, x, weights)
    gaps = [np.abs(ours - its).max() for ours, its in zip(packed(grads), layer_grads, strict=True)]
    return np.abs(out - layer_out).max(), max(gaps)


def main():
    libraries = [("tg.nn", tg.nn, tg.Tensor)]
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed, so it is left out: pip install torch==2.13.0\n")
    else:
        libraries.append(("torch.nn", torch.nn, torch.from_numpy))
    print("Largest difference from the equations written by hand")
    print("                 float32                float64")
    print("                 outputs   gradients    outputs   gradients")
    for kind, gates in (("RNN", 1), ("LSTM", 4)):
        for name, nn, tensor in libraries:
            single, double = (compare(nn, tensor, gates, dtype) for dtype in (np.float32, np.float64))
            print(f"{name + '.' + kind:15}  {single[0]:<9.1e} {single[1]:<12.1e} {double[0]:<9.1e} {double[1]:.1e}")


if __name__ == "__main__":
    main()
