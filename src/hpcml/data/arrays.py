"""Load NumPy files, .npy and .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.data.dataset import Dataset
from hpcml.data.files import check_room
from hpcml.errors import DataError, nearest
from hpcml.keys import config_key, documented


@documented
@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """Arrays in a ``.npz`` archive, or in ``.npy`` files.

    Notes
    -----
    Arrays of Python objects are rejected: reading them can run code (numpy.load, allow_pickle).
    """

    path: str = config_key(MISSING, ".npz file with all arrays, or .npy file with X", example="mine.npz")
    target: str | None = config_key(None, "Name of the target's array in the .npz file, or its .npy file", example="y")
    features: str = config_key("X", "Name of the array of features in the .npz file")
    groups: str | None = config_key(
        None, "Name, or .npy file, of the array that keeps samples of one group together in every split"
    )

    def load(self) -> Dataset:
        """Read the arrays.

        Raises
        ------
        DataError
            If a file or array is missing, damaged or contains objects.
        """
        if Path(self.path).suffix == ".npz":
            named = {"X": self.features, "y": self.target, "groups": self.groups}
            return Dataset(name=self.path, **_read(self.path, _wanted(named)))
        files = {"X": self.path, "y": self.target, "groups": self.groups}
        return Dataset(name=self.path, **{key: _read(file) for key, file in _wanted(files).items()})


def _wanted(names: Mapping[str, str | None]) -> dict[str, str]:
    return {key: name for key, name in names.items() if name is not None}


def _read(path: str, members: Mapping[str, str] | None = None) -> Any:
    """Read the array of a .npy file, or several of a .npz archive by name."""
    try:
        check_room([Path(path).expanduser()], path)
        with Path(path).expanduser().open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if members is None:
                return content
            return {key: _member(content, path, name) for key, name in members.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        if "allow_pickle" in str(reason):  # NumPy's error for any file in another format
            reason = "another format, or an array of Python objects, which is not read because it can run code"
        raise DataError(f"{path}: cannot be read as a NumPy file: {reason}") from error


def _member(content: Any, path: str, name: str) -> Any:
    if name not in content.files:
        raise DataError(f"{path}: has no array '{name}'", nearest(name, content.files))
    return content[name]
