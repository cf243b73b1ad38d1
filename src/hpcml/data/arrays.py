"""NumPy files: .npy and .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
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
        if Path(self.path).suffix == ".npz":
            named = {"X": self.features, "y": self.target, "groups": self.groups}
            return Dataset(name=self.path, **_read(self.path, _wanted(named)))
        files = {"X": self.path, "y": self.target, "groups": self.groups}
        return Dataset(name=self.path, **{key: _read(file) for key, file in _wanted(files).items()})


def _wanted(names: Mapping[str, str | None]) -> dict[str, str]:
    return {key: name for key, name in names.items() if name is not None}


def _read(path: str, members: Mapping[str, str] | None = None) -> Any:
    """Read the array of a .npy file, or some of a .npz archive's by name."""
    try:
        with Path(path).expanduser().open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if members is None:
                return content
            return {key: _member(content, path, name) for key, name in members.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        if "allow_pickle" in str(reason):  # NumPy says so of any file that is not its own
            reason = "it is not one, or it holds Python objects, which are not read because reading them runs code"
        raise DataError(f"{path}: cannot be read as a NumPy file: {reason}") from error


def _member(content: Any, path: str, name: str) -> Any:
    if name not in content.files:
        raise DataError(f"{path}: has no array '{name}'", nearest(name, content.files))
    return content[name]
