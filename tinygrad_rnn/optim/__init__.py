"""Optimisers: optimizer.py holds what they share, then one file each."""

from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Optimizer"]
