"""A dataset in memory: samples, targets and names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcml.errors import DataError
from hpcml.units import count


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples in memory.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), or of shape (n_samples,)
        Numbers; or texts, one per sample.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs), or None
        Targets.
    groups : ndarray of shape (n_samples,) or None
        Labels that keep samples together, for splitters such as GroupKFold.
    name : str
        Origin of the samples, for messages and the manifest.

    Raises
    ------
    DataError
        If the shapes do not match, or X contains anything but numbers or texts.
    """

    X: Any
    y: Any = None
    groups: Any = None
    feature_names: tuple[str, ...] | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        X = _numbers(self.X, self.name)
        object.__setattr__(self, "X", X)
        for key in ("y", "groups"):
            value = getattr(self, key)
            if value is None:
                continue
            value = np.asarray(value)
            object.__setattr__(self, key, value)
            if value.ndim == 0 or len(value) != len(X):
                raise DataError(f"{self.name}: X has {len(X)} samples, {key} has shape {value.shape}")
            missing = _count_missing(value)
            if missing:
                raise DataError(
                    f"{self.name}: {key} has {count(missing, 'missing value')} among {len(value)}",
                    "remove those samples",
                )

    def __sizeof__(self) -> int:
        # Dask uses the size to decide where tasks run and what to spill.
        return object.__sizeof__(self) + sum(getattr(array, "nbytes", 0) for array in (self.X, self.y, self.groups))

    @property
    def n_samples(self) -> int:
        return len(self.X)

    @property
    def is_text(self) -> bool:
        """Whether each sample is a text."""
        return bool(self.X.ndim == 1)

    def describe(self) -> str:
        """Return one line with name, shape and kind of target."""
        shape = f"{len(self.X)} texts" if self.is_text else f"{self.X.shape[0]} samples x {self.X.shape[1]} features"
        if self.y is None:
            return f"{self.name}: {shape}, no target"
        if self.y.ndim > 1:
            return f"{self.name}: {shape}, {self.y.shape[1]} targets"
        if self.y.dtype.kind in "OUSb" or self.y.dtype.kind in "iu":
            return f"{self.name}: {shape}, {len(np.unique(self.y))} distinct targets"
        return f"{self.name}: {shape}, continuous target"


def _numbers(X: Any, name: str) -> Any:
    if hasattr(X, "toarray"):
        raise DataError(f"{name}: X is sparse, which is not supported", "make it dense if it fits: X.toarray()")
    if _are_texts(X):
        return _texts(np.asarray(X, dtype=object), name)
    X = np.asarray(X)
    if X.ndim != 2:
        hint = "a single feature is X.reshape(-1, 1)" if X.ndim == 1 else "flatten each sample to one row"
        raise DataError(f"{name}: X has shape {X.shape}, but must be (n_samples, n_features)", hint)
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise DataError(f"{name}: is empty: X has shape {X.shape}")
    if X.dtype.kind == "b":
        return X.astype(np.float64)
    if X.dtype.kind not in "iuf":
        try:
            return X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: X is not numeric: {error}") from error
    return X


def _are_texts(X: Any) -> bool:
    return getattr(X, "ndim", 1) == 1 and len(X) > 0 and isinstance(X[0], str)


def _texts(X: Any, name: str) -> Any:
    odd = [number for number, text in enumerate(X) if not isinstance(text, str)]
    if odd:
        raise DataError(
            f"{name}: {len(odd)} of {len(X)} samples are not text, the first is sample {odd[0]}: {X[odd[0]]!r}",
            "remove those samples, or replace them by empty texts",
        )
    return X


def _count_missing(values: Any) -> int:
    if values.dtype.kind == "f":
        return int(np.isnan(values).sum())
    if values.dtype.kind == "O":
        return sum(value is None or (isinstance(value, float) and math.isnan(value)) for value in values.ravel())
    return 0
