"""Samples in blocks, for data larger than memory. Each block is read by the worker that uses it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dask
import numpy as np
import psutil

from hpcml.data import samples
from hpcml.data.dataset import Dataset
from hpcml.errors import ConfigError, DataError
from hpcml.units import count

# Reads one block and returns X and y, or X and None; and, as a third, the names of the samples, if
# they have any. It is sent to a worker, so it is small and picklable.
Read = Callable[[], tuple[Any, ...]]

# Default number of rows of a block.
ROWS = 100_000

# Bytes of a number of unknown type, as numpy converts it.
_NUMBER = 8


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Samples in blocks of rows.

    Parameters
    ----------
    rows : sequence of (int or None)
        Number of samples of each block; None if unknown before it is read.
    recipe : callable
        Returns the reader of a block, given its number; see :data:`Read`.
    n_features : int or None
        None if unknown before a block is read.
    has_target : bool
    feature_names : tuple of str or None
    not_numeric : mapping of str to str
        The features that are not numbers, each with its dtype, as far as they are known before a
        block is read.
    name : str
        Origin of the samples, for messages and the manifest.

    Raises
    ------
    DataError
        If there are no blocks, or one is known to be empty.
    """

    rows: Sequence[int | None]
    recipe: Callable[[int], Read]
    n_features: int | None
    has_target: bool
    feature_names: tuple[str, ...] | None = None
    not_numeric: Mapping[str, str] = field(default_factory=dict)
    name: str = "data"

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"{self.name}: is empty: it has no blocks")
        empty = [number for number, rows in enumerate(self.rows) if rows == 0]
        if empty:
            raise DataError(
                f"{self.name}: block {empty[0]} of {len(self.rows)} has no rows", "leave it out, or check its source"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_samples(self) -> int | None:
        """Number of samples; None if it is unknown for some block."""
        return None if None in self.rows else sum(rows for rows in self.rows if rows is not None)

    @property
    def n_bytes(self) -> int | None:
        """Memory of all blocks together, in bytes; None if unknown."""
        if self.n_samples is None or self.n_features is None:
            return None
        return self.n_samples * self.n_features * _NUMBER

    def describe(self) -> str:
        """Return one line with name, shape and number of blocks."""
        samples = "?" if self.n_samples is None else f"{self.n_samples}"
        features = "?" if self.n_features is None else f"{self.n_features}"
        target = "" if self.has_target else ", no target"
        blocks = count(len(self), "block")
        return f"{self.name}: {samples} samples x {features} features in {blocks}{target}"

    def check_numeric(self, reader: str) -> None:
        """Check that all features are numbers, as far as they are known.

        Parameters
        ----------
        reader : str
            The estimator or algorithm that takes only numbers, for the message.

        Raises
        ------
        DataError
        """
        if self.not_numeric:
            raise samples.reject(self.not_numeric, self.name, reader)

    def block(self, number: int) -> Block:
        """Return a block that can be sent to a worker, without reading it."""
        return Block(number, self.name, self.feature_names, self.n_features, self.recipe(number))

    @functools.cached_property
    def whole(self) -> Dataset:
        """All blocks in one dataset, read in this process.

        Raises
        ------
        DataError
            If they exceed half of the free memory, or a block cannot be read.
        """
        most = psutil.virtual_memory().available // 2
        if self.n_bytes is not None and self.n_bytes > most:
            raise DataError(
                f"{self.name}: {self.n_bytes / 1024**3:.1f}GB do not fit into memory",
                "use workload=incremental, predict or kmeans, which read data in blocks, or fewer samples",
            )
        parts = [self.block(number).load() for number in range(len(self))]
        return Dataset(
            X=samples.concatenate([part.X for part in parts]),
            y=np.concatenate([part.y for part in parts]) if self.has_target else None,
            feature_names=self.feature_names,
            name=self.name,
        )


@dataclass(frozen=True)
class Block:
    """A block that has not been read."""

    number: int
    source: str
    feature_names: tuple[str, ...] | None
    n_features: int | None
    read: Read

    def load(self) -> Dataset:
        """Read the block in this process.

        Raises
        ------
        DataError
            If it cannot be read, is empty, or has a different number of features.
        """
        name = f"{self.source}, block {self.number}"
        try:
            X, y, *ids = self.read()
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{name}: cannot be read: {type(error).__name__}: {error}") from error
        data = Dataset(X=X, y=y, ids=ids[0] if ids else None, feature_names=self.feature_names, name=name)
        if self.n_features is not None and data.X.shape[1] != self.n_features:
            raise DataError(f"{name}: has {data.X.shape[1]} features, the others have {self.n_features}")
        return data


def in_blocks(data: Dataset | Blocks, block_size: int | None = None) -> Blocks:
    """Split a dataset into blocks; return blocks unchanged.

    Parameters
    ----------
    block_size : int or None
        Rows of each block, the key ``workload.block_size``; None for :data:`ROWS`.

    Raises
    ------
    ConfigError
        If rows are given for data that is already in blocks.
    """
    if isinstance(data, Blocks):
        if block_size is not None:
            raise ConfigError(
                f"workload.block_size={block_size}: {data.name} is already in blocks",
                "leave it out; or set data.block_size, which parquet_blocks and replicas have",
            )
        return data
    bounds = [*range(0, data.n_samples, block_size or ROWS), data.n_samples]

    def recipe(number: int) -> Read:
        part = slice(bounds[number], bounds[number + 1])
        y, ids = (None if values is None else values[part] for values in (data.y, data.ids))
        return _Slice(samples.take(data.X, part), y, ids)

    return Blocks(
        rows=[end - begin for begin, end in itertools.pairwise(bounds)],
        recipe=recipe,
        n_features=data.n_features,
        has_target=data.y is not None,
        feature_names=data.feature_names,
        not_numeric=samples.not_numeric(data.X),
        name=data.name,
    )


def in_memory(data: Dataset | Blocks) -> Dataset:
    """Return a dataset in memory, reading blocks if they fit.

    Raises
    ------
    DataError
    """
    return data.whole if isinstance(data, Blocks) else data


@dataclass(frozen=True)
class _Slice:
    X: Any
    y: Any
    ids: Any

    def __call__(self) -> tuple[Any, Any, Any]:
        return self.X, self.y, self.ids


def is_lazy(value: Any) -> bool:
    """Return whether a value is a Dask array."""
    return hasattr(value, "dask") and hasattr(value, "blocks")


def of_arrays(X: Any, y: Any, name: str) -> Blocks:
    """Build blocks from Dask arrays, one for each chunk of rows.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
    y : dask.array.Array, array of shape (n_samples,), or None

    Raises
    ------
    DataError
        If the shapes do not match.
    """
    import dask.array as da

    if X.ndim != 2:
        raise DataError(f"{name}: X has {X.ndim} dimensions, but must be (n_samples, n_features)")
    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    rows = [None if np.isnan(length) else int(length) for length in X.chunks[0]]
    if y is not None:
        y = y if is_lazy(y) else da.from_array(np.asarray(y), chunks=X.chunks[0])
        known = None not in rows and not np.isnan(y.shape[0])
        if y.ndim != 1 or (len(y) != len(X) if known else y.numblocks != X.numblocks[:1]):
            raise DataError(f"{name}: X has shape {X.shape} in {len(rows)} blocks, y has {y.shape} in {y.numblocks}")
        y = y.rechunk((X.chunks[0],)) if known else y

    def recipe(number: int) -> Read:
        parts = [X.blocks[number]] if y is None else [X.blocks[number], y.blocks[number]]
        return _Lazy(tuple(dask.optimize(*parts)))  # Culls the graph to the tasks of this block.

    return Blocks(rows=rows, recipe=recipe, n_features=int(X.shape[1]), has_target=y is not None, name=name)


@dataclass(frozen=True)
class _Lazy:
    parts: tuple[Any, ...]

    def __call__(self) -> tuple[Any, Any]:
        X, *y = dask.compute(*self.parts, scheduler="sync")
        return X, y[0] if y else None
