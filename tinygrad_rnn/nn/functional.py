"""Functions of a network without state: the affine map, softmax, and the losses. None has a derivative of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..functions import abs, exp, log, logaddexp, maximum, minimum, moveaxis, where
from ..functions.convert import constant
from ..tensor import Tensor, lift
from .init import generator


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,); returns (..., out)."""
    y: Tensor = x @ weight.T
    return y if bias is None else y + bias


def softmax(x: Any, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis; x may be as large as it likes."""
    x = lift(x)
    e = exp(x - constant(np.max, x, axis=axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis, without taking the logarithm of a number that has vanished."""
    x = lift(x)
    below: Tensor = x - constant(np.max, x, axis=axis, keepdims=True)
    return below - log(exp(below).sum(axis, keepdims=True))


def check_reduction(who: str, reduction: str) -> None:
    """Raise unless this is a way to reduce."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{who}: reduction is 'mean', 'sum' or 'none', got {reduction!r}")


def reduce(loss: Tensor, reduction: str) -> Tensor:
    """The "mean" of the elements, their "sum", or all of them ("none")."""
    check_reduction("loss", reduction)
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def pair(who: str, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Both as Tensors; shapes that differ would broadcast to a loss over pairs that nobody meant."""
    prediction, target = lift(prediction), lift(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"{who}: prediction has shape {prediction.shape} and target {target.shape}; they must be equal, so reshape one"
        )
    return prediction, target


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)**2; shapes equal."""
    y, t = pair("mse_loss", input, target)
    return reduce((y - t) ** 2, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|; shapes equal."""
    y, t = pair("l1_loss", input, target)
    return reduce(abs(y - t), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d**2 / (2 beta) where d = |input - target| is below beta, else d - beta/2 (Girshick 2015); shapes equal."""
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    y, t = pair("smooth_l1_loss", input, target)
    d = abs(y - t)
    if beta == 0:
        return reduce(d, reduction)
    near = minimum(d, beta)  # d below beta, else beta: both branches in one formula, and no division by a vanished d
    return reduce(near * near / (2 * beta) + (d - near), reduction)


def binary_cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-(t log(p) + (1 - t) log(1 - p)) for probabilities p = input; shapes equal. Logarithms stop at -100, as in PyTorch, and
    where they do the gradient is 0.

    Where p comes from a sigmoid, `binary_cross_entropy_with_logits` is the exact way.
    """
    p, t = pair("binary_cross_entropy", input, target)
    if not ((p._data >= 0) & (p._data <= 1)).all():
        raise ValueError(
            "binary_cross_entropy: every input must be a probability between 0 and 1; "
            "for raw scores use binary_cross_entropy_with_logits"
        )
    return reduce(-(t * log_to_100(p) + (1 - t) * log_to_100(1 - p)), reduction)


def log_to_100(p: Tensor) -> Tensor:
    """log(p), but never below -100."""
    return where(p > 0, maximum(log(where(p > 0, p, 1)), -100), -100)


def binary_cross_entropy_with_logits(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """binary_cross_entropy(sigmoid(x), t) for scores x = input; shapes equal. As -log(sigmoid(x)) is log(1 + exp(-x)), it is
    exact at any x."""
    x, t = pair("binary_cross_entropy_with_logits", input, target)
    return reduce(t * logaddexp(0, -x) + (1 - t) * logaddexp(0, x), reduction)


def cross_entropy(
    input: Any, target: Any, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """-log softmax(input)[target]: scores of C classes against the index of the right one.

    input: (C,), (N, C) or (N, C, d1, ...), scores before softmax; target: integers of the same shape without C.
    Targets equal to ignore_index count for nothing. label_smoothing: the share of the target spread over all classes evenly.
    """
    x, t = lift(input), np.asarray(lift(target)._data)
    if x.ndim > 2:
        x = moveaxis(x, 1, -1)
    if x.ndim == 0 or t.shape != x.shape[:-1] or t.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy: expected input (C,), (N, C) or (N, C, d1, ...) and integer targets of the same shape without C, "
            f"got input {lift(input).shape} and target {t.shape} of dtype {t.dtype}"
        )
    classes, keep = x.shape[-1], t != ignore_index
    bad = t[keep & ((t < 0) | (t >= classes))]
    if bad.size:
        raise ValueError(f"cross_entropy: target {bad.flat[0]} is not one of the {classes} classes 0 ... {classes - 1}")
    if reduction == "mean" and not keep.any():
        raise ValueError(
            f"cross_entropy: no target but {ignore_index}, the ignore_index, so there is nothing to take the mean of; "
            "skip this batch, or write reduction='sum'"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
    logp = log_softmax(x).reshape(-1, classes)
    index = np.where(keep, t, 0).ravel()
    loss = -logp[np.arange(index.size), index]
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * logp.mean(axis=-1)
    loss = loss.reshape(t.shape) if keep.all() else where(keep, loss.reshape(t.shape), 0)
    return loss.sum() / int(keep.sum()) if reduction == "mean" else reduce(loss, reduction)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element is zeroed with probability p, the others divided by 1 - p (Srivastava et al. 2014); in training only."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be between 0 and 1, got {p}")
    whole = lift(x)
    if whole.dtype.kind != "f":
        raise TypeError(f"dropout: expected a floating dtype, got {whole.describe()}: write x.astype(np.float32)")
    if not training or p == 0:
        return whole
    kept = (generator.random(whole.shape) >= p).astype(whole.dtype)
    return whole * (kept if p == 1 else kept / whole.dtype.type(1 - p))
