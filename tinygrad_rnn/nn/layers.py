"""Layers without time: Linear, Embedding, Dropout, LayerNorm, and the losses as modules."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import ops
from ..tensor import Tensor, apply
from . import functional as F
from .init import generator, uniform
from .module import Module, Parameter, floating


class Linear(Module):
    """x @ weight.T + bias. weight (out_features, in_features) and bias (out_features,) from U(+-1/sqrt(in_features))."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear: sizes must be positive, got in {in_features}, out {out_features}")
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / np.sqrt(in_features)
        self.weight = Parameter(uniform((out_features, in_features), bound, dtype))
        self.bias = Parameter(uniform((out_features,), bound, dtype)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x = floating(self, x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"Linear: expected input (..., {self.in_features}), got {x.shape}")
        return F.linear(x, self.weight, self.bias)


class Embedding(Module):
    """A table of vectors: integers of any shape (...) become rows (..., embedding_dim). weight from N(0, 1)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: DTypeLike = np.float32) -> None:
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(f"Embedding: sizes must be positive, got {num_embeddings} rows of {embedding_dim}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(generator.standard_normal((num_embeddings, embedding_dim)).astype(dtype))

    def forward(self, indices: Any) -> Tensor:
        indices = indices if isinstance(indices, Tensor) else Tensor(indices)
        if indices.dtype.kind not in "iu":
            raise TypeError(f"Embedding: expected integers, got dtype {indices.dtype}; write x.astype(np.int64)")
        found = indices._data
        if found.size and not 0 <= found.min() <= found.max() < self.num_embeddings:
            raise IndexError(
                f"Embedding: indices lie between {found.min()} and {found.max()}, "
                f"and the table has rows 0 ... {self.num_embeddings - 1}"
            )
        return self.weight[indices]


class Dropout(Module):
    """Each element is zeroed with probability p in training, the others scaled by 1 / (1 - p); nothing happens in `eval()`."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be between 0 and 1, got {p}")
        self.p = p

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes (Ba et al. 2016); weight begins at 1, bias at 0.

    normalized_shape: the shape of those axes, an int for the last one alone.
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, *, bias: bool = True, dtype: DTypeLike = np.float32
    ) -> None:
        self.normalized_shape = tuple(np.atleast_1d(normalized_shape).tolist())
        if not self.normalized_shape or min(self.normalized_shape) < 1:
            raise ValueError(f"LayerNorm: sizes must be positive, got {self.normalized_shape}")
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, dtype))
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if bias else None

    def forward(self, x: Any) -> Tensor:
        x, axes = floating(self, x), tuple(range(-len(self.normalized_shape), 0))
        if x.shape[-len(axes) :] != self.normalized_shape:
            raise ValueError(f"LayerNorm: expected the last axes to be {self.normalized_shape}, got {x.shape}")
        y = apply(ops.RMS_NORM, apply(ops.CENTRE, x, axis=axes), axis=axes, eps=self.eps) * self.weight
        return y if self.bias is None else y + self.bias


class _Loss(Module):
    """A loss as a module: it holds how to reduce."""

    def __init__(self, reduction: str = "mean") -> None:
        F.check_reduction(type(self).__name__, reduction)
        self.reduction = reduction


class MSELoss(_Loss):
    """`mse_loss` as a module."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """`l1_loss` as a module."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Loss):
    """`smooth_l1_loss` as a module."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class BCELoss(_Loss):
    """`binary_cross_entropy` as a module."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy(input, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits` as a module."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.reduction)


class CrossEntropyLoss(_Loss):
    """`cross_entropy` as a module."""

    def __init__(self, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.cross_entropy(input, target, self.ignore_index, self.reduction, self.label_smoothing)
