"""The package's random numbers, and initial values drawn from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..ops import Array

generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Make initialisation and dropout repeatable."""
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def uniform(shape: tuple[int, ...], bound: float, dtype: DTypeLike = np.float32) -> Array:
    """Draws from U(-bound, bound)."""
    return generator.uniform(-bound, bound, shape).astype(dtype)
