"""Samples in blocks, for data larger than memory: each is read where it is needed, by the worker that works on it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import psutil

from hpcml.data.dataset import Dataset
from hpcml.errors import ConfigError, DataError

# Reads one block: X and y, or X and None. It travels to a worker, so it is small and can be pickled.
Read = Callable[[], tuple[Any, Any]]

# Rows of a block where nobody has said how many, and nothing else suggests it.
ROWS = 100_000

# What numpy makes of a number of unknown type, in bytes.
_NUMBER = 8


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Samples in blocks of rows.

    Parameters
    ----------
    rows : sequence of (int or None)
        How many samples each block has; None where that is known only when it has been read.
    recipe : callable
        Gives for a block's number what reads it, see :data:`Read`.
    n_features : int or None
        None if it is known only when a block has been read.
    has_target : bool
    feature_names : tuple of str or None
    name : str
        Where they came from, for messages and the manifest.

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
    name: str = "data"

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"{self.name}: there is nothing in it: it has no blocks")
        empty = [number for number, rows in enumerate(self.rows) if rows == 0]
        if empty:
            raise DataError(
                f"{self.name}: block {empty[0]} of {len(self.rows)} has no rows", "leave it out, or look at its source"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_samples(self) -> int | None:
        """How many samples there are; None if not all blocks know."""
        return None if None in self.rows else sum(rows for rows in self.rows if rows is not None)

    @property
    def n_bytes(self) -> int | None:
        """How much memory all of them would take, as far as that is known."""
        if self.n_samples is None or self.n_features is None:
            return None
        return self.n_samples * self.n_features * _NUMBER

    def describe(self) -> str:
        """One line: name, shape and number of blocks."""
        samples = "?" if self.n_samples is None else f"{self.n_samples}"
        features = "?" if self.n_features is None else f"{self.n_features}"
        target = "" if self.has_target else ", no target"
        return f"{self.name}: {samples} samples x {features} features in {len(self)} blocks{target}"

    def block(self, number: int) -> Block:
        """Give what reads one block; it may be sent to a worker."""
        return Block(number, self.name, self.feature_names, self.n_features, self.recipe(number))

    @functools.cached_property
    def whole(self) -> Dataset:
        """All blocks in one dataset, read here.

        Raises
        ------
        DataError
            If they would fill this machine's memory, or one cannot be read.
        """
        most = psutil.virtual_memory().available // 2
        if self.n_bytes is not None and self.n_bytes > most:
            raise DataError(
                f"{self.name}: {self.n_bytes / 1024**3:.1f}GB do not fit into the memory here",
                "workload=incremental, predict and kmeans take data in blocks; or take fewer samples",
            )
        parts = [self.block(number).load() for number in range(len(self))]
        return Dataset(
            X=np.concatenate([part.X for part in parts]),
            y=np.concatenate([part.y for part in parts]) if self.has_target else None,
            feature_names=self.feature_names,
            name=self.name,
        )


@dataclass(frozen=True)
class Block:
    """One block, not read yet."""

    number: int
    source: str
    feature_names: tuple[str, ...] | None
    n_features: int | None
    read: Read

    def load(self) -> Dataset:
        """Read it, where this is called.

        Raises
        ------
        DataError
            If it cannot be read, is empty, not numeric, or has another number of features than the others.
        """
        name = f"{self.source}, block {self.number}"
        try:
            X, y = self.read()
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{name}: cannot be read: {type(error).__name__}: {error}") from error
        data = Dataset(X=X, y=y, feature_names=self.feature_names, name=name)
        if self.n_features is not None and data.X.shape[1] != self.n_features:
            raise DataError(f"{name}: has {data.X.shape[1]} features, the others have {self.n_features}")
        return data


def in_blocks(data: Dataset | Blocks, rows: int | None = None) -> Blocks:
    """Cut a dataset into blocks; what is in blocks already stays as it is.

    Parameters
    ----------
    rows : int or None
        Of each block, the key ``workload.rows``; None: :data:`ROWS`.

    Raises
    ------
    ConfigError
        If rows are given for what is in blocks already.
    """
    if isinstance(data, Blocks):
        if rows is not None:
            raise ConfigError(
                f"workload.rows={rows}: {data.name} is in blocks of its own",
                "leave it out; or data.rows, if its loader has that: parquet_blocks and replicas do",
            )
        return data
    bounds = [*range(0, data.n_samples, rows or ROWS), data.n_samples]

    def recipe(number: int) -> Read:
        part = slice(bounds[number], bounds[number + 1])
        return _Slice(data.X[part], None if data.y is None else data.y[part])

    return Blocks(
        rows=[end - begin for begin, end in itertools.pairwise(bounds)],
        recipe=recipe,
        n_features=data.X.shape[1] if data.X.ndim > 1 else None,
        has_target=data.y is not None,
        feature_names=data.feature_names,
        name=data.name,
    )


def in_memory(data: Dataset | Blocks) -> Dataset:
    """Give a dataset in memory; blocks are read, if they fit.

    Raises
    ------
    DataError
    """
    return data.whole if isinstance(data, Blocks) else data


@dataclass(frozen=True)
class _Slice:
    X: Any
    y: Any

    def __call__(self) -> tuple[Any, Any]:
        return self.X, self.y


def is_lazy(value: Any) -> bool:
    """Tell whether it is a Dask array."""
    return hasattr(value, "dask") and hasattr(value, "blocks")


def of_arrays(X: Any, y: Any, name: str) -> Blocks:
    """Make blocks of Dask arrays: one for each chunk of rows.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
    y : dask.array.Array, array of shape (n_samples,), or None

    Raises
    ------
    DataError
        If the shapes do not fit.
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
        return _Lazy(tuple(dask.optimize(*parts)))  # so that not the graph of all blocks travels with each

    return Blocks(rows=rows, recipe=recipe, n_features=int(X.shape[1]), has_target=y is not None, name=name)


@dataclass(frozen=True)
class _Lazy:
    parts: tuple[Any, ...]

    def __call__(self) -> tuple[Any, Any]:
        X, *y = dask.compute(*self.parts, scheduler="sync")
        return X, y[0] if y else None
