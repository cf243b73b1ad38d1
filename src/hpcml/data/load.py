"""Convert any supported source of data to a dataset."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcml.data.blocks import Blocks, is_lazy, of_arrays
from hpcml.data.dataset import Dataset
from hpcml.errors import DataError, HpcmlError


def load(source: Any) -> Dataset | Blocks:
    """Load a dataset, in memory or in blocks, from any supported source.

    Parameters
    ----------
    source : object
        A Dataset or Blocks; a loader with a ``load`` method; a tuple ``(X, y)`` or ``(X, y,
        groups)``, where X and y may be Dask arrays without groups; a scikit-learn Bunch or other
        mapping with ``data`` and ``target``; or a callable without arguments that returns one of
        these.

    Raises
    ------
    DataError
        If the source is none of these, or loading fails.
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
        f"{name} returned a {type(source).__name__}",
        "expected hpcml.Dataset, a tuple (X, y) or (X, y, groups), or a mapping with data and target",
    )


def paths(source: Any) -> list[str]:
    """Return absolute paths of a source's files, which jobs on other nodes must read.

    >>> import functools
    >>> paths(functools.partial(load, path="/g/data/ab12/flights.csv", target="delay"))
    ['/g/data/ab12/flights.csv']
    """
    values = getattr(source, "keywords", None) or getattr(source, "__dict__", {})
    found = []
    for key, value in values.items():
        listed = value if isinstance(value, (list, tuple)) else [value]
        found += [text for text in listed if isinstance(text, (str, os.PathLike)) and _is_path(text, key)]
    return [str(Path.cwd() / Path(path).expanduser()) for path in found]


def _is_path(text: str | os.PathLike[str], key: str) -> bool:
    if "/" in str(text) or (key == "path" and glob.has_magic(str(text))):
        return True
    path = Path(text)
    # A column may be called like a directory, and a decimal point is one.
    return path.is_file() or (key == "path" and path.name != "" and path.exists())


def _name(source: Any) -> str:
    function = getattr(source, "func", source)  # Name a functools.partial after its function.
    if isinstance(function, Dataset):
        return function.name
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
