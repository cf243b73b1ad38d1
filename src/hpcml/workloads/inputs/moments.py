"""Moments (count, mean, and sum of squared distances from the mean), computed in parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Moments of a set of rows, in float64.

    Parameters
    ----------
    n : int
        The number of rows.
    mean : float or ndarray
        The mean of each column.
    squares : float or ndarray
        The sum of the squared distances from the mean, for each column.
    """

    n: int
    mean: Any
    squares: Any

    @classmethod
    def of(cls, values: Any) -> Moments:
        """Compute the moments of an array of shape (n_rows, ...)."""
        if not len(values):
            return cls(0, np.zeros(values.shape[1:]), np.zeros(values.shape[1:]))
        with np.errstate(over="ignore", invalid="ignore"):  # callers report overflow
            mean = values.mean(axis=0, dtype=np.float64)
            return cls(len(values), mean, ((values - mean) ** 2).sum(axis=0, dtype=np.float64))

    @staticmethod
    def total(parts: Sequence[Moments]) -> Moments:
        """Combine parts pairwise, as a binary tree: in the given order, with little rounding."""
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            parts = [*(first + second for first, second in pairs), *(parts[-1:] if len(parts) % 2 else ())]
        return parts[0]

    def __add__(self, other: Moments) -> Moments:
        # The pairwise update of Chan, Golub and LeVeque (1979).
        n = self.n + other.n
        share = other.n / max(n, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = other.mean - self.mean
            squares = self.squares + other.squares + apart**2 * (self.n * share)
            return Moments(n, self.mean + apart * share, squares)

    @property
    def variance(self) -> Any:
        """The population variance of each column (ddof=0)."""
        return self.squares / max(self.n, 1)

    @property
    def deviation(self) -> Any:
        """The standard deviation, the square root of the variance."""
        return np.sqrt(self.variance)

    @property
    def standard_error(self) -> float:
        """The standard error of a scalar mean; infinite for a single row."""
        return math.sqrt(self.squares / (self.n - 1) / self.n) if self.n > 1 else math.inf
