"""Repeat a small dataset, to try workloads for data larger than memory."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np

from hpcml.data.blocks import ROWS, Blocks, Read
from hpcml.data.dataset import Dataset
from hpcml.data.load import load
from hpcml.errors import DataError
from hpcml.keys import check_keys, config_key, documented, kind, whole


@documented
@dataclass(frozen=True, kw_only=True)
class Replicas:
    """A dataset, repeated."""

    source: Any = config_key(
        MISSING, "Dataset to repeat: any of sklearn.datasets, or a loader of your own", kind("loader of data")
    )
    times: int = config_key(100, "Number of repetitions", whole())
    block_size: int | None = config_key(None, "Rows of a block, in whole replicas. null: about 100,000", whole())

    def __post_init__(self) -> None:
        check_keys(self, "data.")

    def load(self) -> Blocks:
        """Load the source once; the workers repeat it.

        Raises
        ------
        DataError
            If the source cannot be loaded, or is already in blocks.
        """
        data = load(self.source)
        if not isinstance(data, Dataset):
            raise DataError(f"{data.name}: is already in blocks and cannot be repeated")
        together = max(1, (self.block_size or ROWS) // data.n_samples)
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
