"""NumPy files: .npy and .npz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.data.dataset import Dataset
from hpcml.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """Arrays in a ``.npz`` archive, or in ``.npy`` files.

    Parameters
    ----------
    path : str
        ``.npz`` with all arrays, or ``.npy`` with X.
    features, target, groups : str or None
        Of a ``.npz`` the names of the arrays in it; of a ``.npy`` target and groups are files of their own.

    Notes
    -----
    Arrays of Python objects are refused: reading them runs whatever code the file holds (numpy.load, allow_pickle).
    """

    path: str
    target: str | None = None
    features: str = "X"
    groups: str | None = None

    def load(self) -> Dataset:
        """Read the arrays.

        Raises
        ------
        DataError
            If a file or an array is missing, damaged or holds objects.
        """
        content = _read(self.path)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                parts = {key: _member(content, self.path, name) for key, name in self._parts("features").items()}
        else:
            files = self._parts(None)
            parts = {"X": content, **{key: _read(name) for key, name in files.items()}}
        return Dataset(name=self.path, **parts)

    def _parts(self, features: str | None) -> dict[str, str]:
        names = {"X": self.features if features else None, "y": self.target, "groups": self.groups}
        return {key: name for key, name in names.items() if name is not None}


def _read(path: str) -> Any:
    try:
        return np.load(Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a NumPy file: {reason}") from error


def _member(content: Any, path: str, name: str) -> Any:
    if name not in content.files:
        raise DataError(f"{path}: has no array '{name}'", nearest(name, content.files))
    try:
        return content[name]
    except ValueError as error:
        raise DataError(f"{path}: array '{name}' cannot be read: {error}") from error
