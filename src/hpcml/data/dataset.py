"""A dataset in memory: samples, targets and names."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcml.data import samples, selection
from hpcml.errors import DataError
from hpcml.units import count


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples in memory.

    Parameters
    ----------
    X : ndarray, DataFrame or sparse matrix of shape (n_samples, n_features), or texts
        Frames of pandas or Polars reach the estimator as they are, with their names and dtypes.
        Texts have shape (n_samples,).
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs), or None
        Targets. Samples without one can be predicted, not learned from: see :meth:`labelled`.
    groups : ndarray of shape (n_samples,) or None
        Labels that keep samples together, for splitters such as GroupKFold.
    weights : ndarray of shape (n_samples,) or None
        Weights of the samples in fits, 0 or more.
    ids : ndarray of shape (n_samples,) or None
        Names of the samples, for tables of predictions.
    feature_names : tuple of str or None
        None: those of the frame.
    name : str
        Origin of the samples, for messages and the manifest.
    of : int or None
        The number of samples of which these are a sample, for a plan; None if these are all.
    in_file : bool
        Whether X, or the samples of which it is a sample, are mapped from a file. Set by itself.

    Raises
    ------
    DataError
        If the shapes do not match, or X is empty.
    """

    X: Any
    y: Any = None
    groups: Any = None
    weights: Any = None
    ids: Any = None
    feature_names: tuple[str, ...] | None = None
    name: str = "data"
    of: int | None = None
    in_file: bool = False

    def __post_init__(self) -> None:
        X = _samples(self.X, self.name)
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "in_file", self.in_file or selection.is_in_file(X))
        if samples.is_frame(X):
            object.__setattr__(self, "feature_names", samples.names(X))
        for key in ("y", "groups", "weights", "ids"):
            value = getattr(self, key)
            if value is None:
                continue
            value = np.asarray(value)
            object.__setattr__(self, key, value)
            if value.ndim == 0 or len(value) != X.shape[0]:
                raise DataError(f"{self.name}: X has {X.shape[0]} samples, {key} has shape {value.shape}")
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, self.name))
        absent = 0 if self.groups is None else int(missing(self.groups).sum())
        if absent:
            raise DataError(
                f"{self.name}: groups has {count(absent, 'missing value')} among {self.n_samples}",
                "remove those samples",
            )

    def __sizeof__(self) -> int:
        # Dask uses the size to decide where tasks run and what to spill.
        return object.__sizeof__(self) + sum(samples.n_bytes(part) for part in (self.X, self.y, self.groups))

    @property
    def n_samples(self) -> int:
        return int(self.X.shape[0])

    @property
    def n_all(self) -> int:
        """The number of samples, including those of which these are a sample."""
        return self.of or self.n_samples

    @property
    def is_large(self) -> bool:
        """Whether workers map the samples from a file, as :mod:`hpcml.data.selection` describes."""
        size = samples.n_bytes(self.X) * self.n_all // self.n_samples
        return size >= selection.LARGE and selection.is_selectable(self.X)

    @property
    def n_features(self) -> int | None:
        """The number of features; None for texts."""
        return None if self.is_text else int(self.X.shape[1])

    @property
    def is_text(self) -> bool:
        """Whether each sample is a text."""
        return samples.is_texts(self.X)

    def dense(self, reader: str) -> Dataset:
        """Return the dataset with X as an array of numbers.

        Parameters
        ----------
        reader : str
            The estimator or algorithm that takes only numbers, for messages.

        Raises
        ------
        DataError
            If some features are not numbers.
        """
        X = samples.dense(self.X, self.name, reader)
        return self if X is self.X else replace(self, X=X)

    @property
    def targets(self) -> Any:
        """The targets that are not missing; there is a target."""
        return self.y[~missing(self.y)]

    def labelled(self) -> Dataset:
        """Return the samples that have a target, with a warning if others are left out.

        Raises
        ------
        DataError
            If none has.
        """
        if self.y is None:
            return self
        absent = missing(self.y)
        without = int(absent.sum())
        if not without:
            return self
        if without == self.n_samples:
            raise DataError(f"{self.name}: no sample has a target", "name another column: data.target=COLUMN")
        warnings.warn(
            f"{self.name}: {without} of {self.n_samples} samples have no target and are left out", stacklevel=2
        )
        return self.take(~absent)

    def take(self, rows: Any) -> Dataset:
        """Return some of the samples.

        Parameters
        ----------
        rows : slice, ndarray of int, or ndarray of bool
        """
        y = None if self.y is None else self.y[rows]
        groups = None if self.groups is None else self.groups[rows]
        if y is not None and y.dtype.kind == "O":
            y = _narrowed(y)
        weights = None if self.weights is None else self.weights[rows]
        ids = None if self.ids is None else self.ids[rows]
        X = samples.take(self.X, rows)
        return replace(self, X=X, y=y, groups=groups, weights=weights, ids=ids, in_file=False)

    def describe(self) -> str:
        """Return one line with name, shape and kind of target."""
        about = "" if self.of is None else "about "
        shape = f"{self.n_all} texts" if self.is_text else f"{about}{self.n_all} samples x {self.n_features} features"
        if self.y is None:
            return f"{self.name}: {shape}, no target"
        if self.y.ndim > 1:
            return f"{self.name}: {shape}, {self.y.shape[1]} targets"
        if self.y.dtype.kind in "OUSb" or self.y.dtype.kind in "iu":
            return f"{self.name}: {shape}, {len(np.unique(self.y[~missing(self.y)]))} distinct targets"
        return f"{self.name}: {shape}, continuous target"


def _checked_weights(weights: Any, name: str) -> Any:
    """Return weights as floating-point numbers."""
    if weights.ndim > 1:
        raise DataError(f"{name}: the weights have shape {weights.shape}", "give one number for each sample")
    try:
        numbers = weights.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: the weights are not numbers: {error}", "name another column: data.weight") from error
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(wrong):
        raise DataError(
            f"{name}: {count(len(wrong), 'weight')} of {len(numbers)} negative, infinite or missing, the first of "
            f"sample {wrong[0]}: {numbers[wrong[0]]:g}",
            "remove those samples, or give them a weight of 0",
        )
    if not numbers.any():
        raise DataError(f"{name}: all weights are 0", "name another column: data.weight")
    return numbers


def _samples(X: Any, name: str) -> Any:
    if samples.is_sparse(X):
        X = X.tocsr()
    elif not samples.is_frame(X):
        X = _array(X, name)
    if len(X.shape) > 1 and 0 in X.shape:
        raise DataError(f"{name}: is empty: X has shape {X.shape}")
    return X


def _array(X: Any, name: str) -> Any:
    if getattr(X, "ndim", 1) == 1:
        as_objects = np.asarray(X, dtype=object)
        if as_objects.ndim == 1 and len(as_objects) and isinstance(as_objects[0], str):
            return _texts(as_objects, name)
    if not isinstance(X, np.memmap):  # which would become an array without its file
        X = np.asarray(X)
    if X.ndim != 2:
        hint = "a single feature is X.reshape(-1, 1)" if X.ndim == 1 else "flatten each sample to one row"
        raise DataError(f"{name}: X has shape {X.shape}, but must be (n_samples, n_features)", hint)
    if X.dtype.kind in "iufb":
        return X
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError):
        return _frame(X)


def _frame(X: Any) -> Any:
    """Convert an array of objects, some of which are not numbers, to a frame with a dtype per column."""
    import pandas as pd

    return pd.DataFrame({f"x{number}": X[:, number] for number in range(X.shape[1])}).infer_objects()


def _texts(X: Any, name: str) -> Any:
    odd = [number for number, text in enumerate(X) if not isinstance(text, str)]
    if odd:
        raise DataError(
            f"{name}: {len(odd)} of {len(X)} samples are not text, the first is sample {odd[0]}: {X[odd[0]]!r}",
            "remove those samples, or replace them by empty texts",
        )
    return X


def missing(values: Any) -> Any:
    """Return the mask of samples for which a value is missing; shape (n_samples,)."""
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    elif values.dtype.kind == "M":
        missing = np.isnat(values)
    elif values.dtype.kind == "O":
        missing = np.frompyfunc(_is_missing, 1, 1)(values).astype(bool)
    else:
        missing = np.zeros(values.shape, dtype=bool)
    return missing.any(axis=1) if missing.ndim > 1 else missing


def _is_missing(value: Any) -> bool:
    # pandas' NA is neither None nor a float, and not equal to itself.
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and math.isnan(value))
    )


def _narrowed(y: Any) -> Any:
    """Return objects as numbers or booleans if all are: without missing values they fit such a dtype."""
    found = np.array(y.tolist())
    return found if found.dtype.kind in "iufb" and found.shape == y.shape else y
