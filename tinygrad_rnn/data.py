"""Sequences in batches: shuffled, padded to one length, or cut as windows from a long series. Samples come first everywhere.

For a recurrent layer with batch_first=True, which takes the lengths too:

    for x, lengths, y in Batches(sequences, labels, batch_size=32, shuffle=True, seed=0):
        output, state = layer(x, lengths=lengths)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from .nn.init import generator
from .ops import Array

T = TypeVar("T")


def pad_sequences(sequences: Sequence[ArrayLike], padding_value: float = 0) -> tuple[Array, Array]:
    """Sequences (T_i, ...) as one array (N, max T_i, ...), filled up at their ends, and their lengths (N,)."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    kinds = list(dict.fromkeys(array.shape[1:] if array.ndim else "a number" for array in arrays))
    if len(kinds) != 1 or kinds[0] == "a number":
        raise ValueError(f"pad_sequences: expected sequences whose steps all have the same shape, got steps of {kinds}")
    lengths = np.array([len(array) for array in arrays])
    padded = np.full((len(arrays), lengths.max(), *arrays[0].shape[1:]), padding_value, np.result_type(*arrays, padding_value))
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded, lengths


def windows(series: ArrayLike, length: int, stride: int = 1) -> Array:
    """Every window of a series (T, ...), a stride apart: (windows, length, ...), a read-only view.

    To forecast a step ahead: `w = windows(series, 21); x, y = w[:, :-1], w[:, 1:]`.
    """
    array = np.asarray(series)
    if array.ndim == 0 or not 1 <= length <= len(array):
        raise ValueError(f"windows: length must be between 1 and that of the series, of shape {array.shape}, got {length}")
    if stride < 1:
        raise ValueError(f"windows: stride must be at least 1, got {stride}")
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(array, length, axis=0), -1, 1)[::stride]


class Batches:
    """What to iterate over, once per epoch: tuples of batch_size samples of each part of the data, the last ones maybe fewer.

    data: arrays whose first axis counts the samples, each giving an array; or lists of sequences of several lengths, each
    giving two: those of the batch padded, and their lengths. shuffle: every epoch in a new order, drawn from `seed`, or if it
    is None from the generator of `tg.manual_seed`.
    """

    def __init__(self, *data: Any, batch_size: int = 1, shuffle: bool = False, seed: int | None = None) -> None:
        self.parts = [part if is_ragged(part) else np.asarray(part) for part in data]
        if not data or any(np.ndim(part) == 0 for part in self.parts if not isinstance(part, list)):
            raise ValueError("Batches: expected arrays or lists with one entry for each sample")
        sizes = [len(part) for part in self.parts]
        if len(set(sizes)) > 1:
            raise ValueError(f"Batches: every part of the data needs the same number of samples, got {sizes}")
        if batch_size < 1:
            raise ValueError(f"Batches: batch_size must be at least 1, got {batch_size}")
        self.samples, self.batch_size, self.shuffle = sizes[0], batch_size, shuffle
        self.generator = generator if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Array, ...]]:
        order = self.generator.permutation(self.samples) if self.shuffle else np.arange(self.samples)
        for start in range(0, self.samples, self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch: list[Array] = []
            for part in self.parts:
                batch += [part[chosen]] if isinstance(part, np.ndarray) else pad_sequences([part[i] for i in chosen])
            yield tuple(batch)


def is_ragged(part: Any) -> bool:
    """Whether this is a list of sequences, to be padded."""
    return isinstance(part, list) and any(np.ndim(item) > 0 for item in part)


def progress(items: Iterable[T], label: str = "") -> Iterable[T]:
    """The items, with a tqdm bar in a terminal if tqdm is installed."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return items
    bar: Iterable[T] = tqdm(items, desc=label, leave=False, disable=None)
    return bar
