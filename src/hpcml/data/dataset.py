"""Dataset: samples, targets and names; and the one function that makes one out of whatever the user has."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.errors import DataError, HpcmlError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples in memory.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        A number each.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs), or None
        Targets.
    groups : ndarray of shape (n_samples,) or None
        Labels that keep samples together, for splitters such as GroupKFold.
    name : str
        Where it came from, for messages and the manifest.

    Raises
    ------
    DataError
        If the shapes do not fit, or X holds anything but numbers.
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
                    f"{self.name}: {key} has {missing} missing values among {len(value)}", "remove those samples"
                )

    @property
    def n_samples(self) -> int:
        return len(self.X)

    def describe(self) -> str:
        """One line: name, shape and kind of the target."""
        shape = f"{self.X.shape[0]} samples x {self.X.shape[1]} features"
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
    X = np.asarray(X)
    if X.ndim != 2:
        hint = "a single feature is X.reshape(-1, 1)" if X.ndim == 1 else "flatten each sample to one row"
        raise DataError(f"{name}: X has shape {X.shape}, but must be (n_samples, n_features)", hint)
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise DataError(f"{name}: there is nothing in it: X has shape {X.shape}")
    if X.dtype.kind == "b":
        return X.astype(np.float64)
    if X.dtype.kind not in "iuf":
        try:
            return X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: X is not numeric: {error}") from error
    return X


def _count_missing(values: Any) -> int:
    if values.dtype.kind == "f":
        return int(np.isnan(values).sum())
    if values.dtype.kind == "O":
        return sum(value is None or (isinstance(value, float) and math.isnan(value)) for value in values.ravel())
    return 0


def load(source: Any) -> Dataset:
    """Make a Dataset of what a config or a caller gave.

    Parameters
    ----------
    source : object
        A Dataset; a loader with a ``load`` method; an ``(X, y)`` or ``(X, y, groups)`` tuple; a scikit-learn Bunch or
        other mapping with ``data`` and ``target``; or a callable without arguments that returns one of these.

    Raises
    ------
    DataError
        If it is none of these, or fails.
    """
    name = _name(source)
    try:
        if callable(source):
            source = source()
        if hasattr(source, "load"):
            source = source.load()
    except HpcmlError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{name} failed: {type(error).__name__}: {error}") from error
    if isinstance(source, Dataset):
        return source if source.name != "data" else replace(source, name=name)
    if isinstance(source, Mapping) and "data" in source:
        features = source.get("feature_names")
        names = None if features is None else tuple(map(str, features))
        return Dataset(X=source["data"], y=source.get("target"), feature_names=names, name=name)
    if isinstance(source, tuple) and 2 <= len(source) <= 3:
        X, y, *groups = source
        return Dataset(X=X, y=y, groups=groups[0] if groups else None, name=name)
    raise DataError(
        f"{name} gave a {type(source).__name__}",
        "wanted: hpcml.Dataset, a tuple (X, y) or (X, y, groups), or a mapping with data and target",
    )


def paths(source: Any) -> list[str]:
    """List the files that a source names, by full paths: what jobs on other nodes must be able to see.

    >>> import functools
    >>> paths(functools.partial(load, path="/g/data/ab12/flights.csv", target="delay"))
    ['/g/data/ab12/flights.csv']
    """
    values = getattr(source, "keywords", None) or getattr(source, "__dict__", {})
    named = [value for value in values.values() if isinstance(value, (str, os.PathLike))]
    found = [Path(value).expanduser() for value in named]
    return [
        str(Path.cwd() / path) for path, text in zip(found, named, strict=True) if "/" in str(text) or path.exists()
    ]


def _name(source: Any) -> str:
    function = getattr(source, "func", source)  # a functools.partial is named after what it calls
    if isinstance(function, Dataset):
        return function.name
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
