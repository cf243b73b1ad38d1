"""The one function that makes a dataset out of whatever the user has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcml.data.blocks import Blocks, is_lazy, of_arrays
from hpcml.data.dataset import Dataset
from hpcml.errors import DataError, HpcmlError


def load(source: Any) -> Dataset | Blocks:
    """Make a dataset, in memory or in blocks, of what a config or a caller gave.

    Parameters
    ----------
    source : object
        A Dataset or Blocks; a loader with a ``load`` method; an ``(X, y)`` or ``(X, y, groups)`` tuple, of Dask arrays
        ``(X, y)``; a scikit-learn Bunch or other mapping with ``data`` and ``target``; or a callable without arguments
        that returns one of these.

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
    if isinstance(source, (Dataset, Blocks)):
        return source if source.name != "data" else replace(source, name=name)
    if isinstance(source, Mapping) and "data" in source:
        features = source.get("feature_names")
        names = None if features is None else tuple(map(str, features))
        return Dataset(X=source["data"], y=source.get("target"), feature_names=names, name=name)
    if isinstance(source, tuple) and 2 <= len(source) <= 3:
        X, y, *groups = source
        if is_lazy(X):
            return of_arrays(X, y, name)
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
