"""Replicas: a small dataset many times over, to try out what is meant for data larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcml.data.blocks import ROWS, Blocks, Read
from hpcml.data.dataset import Dataset
from hpcml.data.load import load
from hpcml.errors import DataError, check_whole


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """A dataset, repeated.

    Parameters
    ----------
    source : object
        The dataset, as :func:`hpcml.data.load` takes it.
    times : int
        How often.
    rows : int or None
        Of a block, in whole replicas; None: about a hundred thousand.
    """

    source: Any
    times: int = 100
    rows: int | None = None

    def __post_init__(self) -> None:
        check_whole("data.times", self.times)
        check_whole("data.rows", self.rows, none=True)

    def load(self) -> Blocks:
        """Load the source once; the replicas are made on the workers.

        Raises
        ------
        DataError
            If the source cannot be loaded, or is in blocks itself.
        """
        data = load(self.source)
        if not isinstance(data, Dataset):
            raise DataError(f"{data.name}: is in blocks already, and is not repeated")
        together = max(1, (self.rows or ROWS) // data.n_samples)
        counts = [min(together, self.times - done) for done in range(0, self.times, together)]

        def recipe(number: int) -> Read:
            return _Repeat(data.X, data.y, counts[number])

        return Blocks(
            rows=[count * data.n_samples for count in counts],
            recipe=recipe,
            n_features=data.X.shape[1],
            has_target=data.y is not None,
            feature_names=data.feature_names,
            name=f"{data.name} x {self.times}",
        )


@dataclass(frozen=True)
class _Repeat:
    X: Any
    y: Any
    times: int

    def __call__(self) -> tuple[Any, Any]:
        return np.tile(self.X, (self.times, 1)), None if self.y is None else np.tile(self.y, self.times)
