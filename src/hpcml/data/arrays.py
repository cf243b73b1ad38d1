"""Load NumPy files, .npy and .npz."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcml.data import selection
from hpcml.data.dataset import Dataset
from hpcml.data.files import check_room
from hpcml.errors import DataError, nearest
from hpcml.keys import config_key, documented


@documented
@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """Arrays in a ``.npz`` archive, or in ``.npy`` files; mapped into memory, unless compressed.

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

    weight: str | None = config_key(
        None, "Name, or .npy file, of the array with the weights of the samples in fits; scores do not use them"
    )

    def load(self) -> Dataset:
        """Read the arrays.

        Raises
        ------
        DataError
            If a file or array is missing, damaged or contains objects.
        """
        if Path(self.path).suffix == ".npz":
            named = {"X": self.features, "y": self.target, "groups": self.groups, "weights": self.weight}
            return Dataset(name=self.path, **_read(self.path, _wanted(named)))
        files = {"X": self.path, "y": self.target, "groups": self.groups, "weights": self.weight}
        return Dataset(name=self.path, **{key: _read(file) for key, file in _wanted(files).items()})


def _wanted(names: Mapping[str, str | None]) -> dict[str, str]:
    return {key: name for key, name in names.items() if name is not None}


def _stored(path: Path, member: str) -> Any:
    """Map a large array of an archive that is not compressed; None if that cannot be done.

    Smaller ones are read, which checks their checksum too.

    An archive is a ZIP file of .npy files, each behind a local header of 30 bytes, which ends with
    the lengths of the name and of an extra field that follow (PKWARE, APPNOTE 4.3.7).
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        try:
            entry = archive.getinfo(f"{member}.npy")
        except KeyError:
            return None
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < selection.LARGE:
            return None
        file.seek(entry.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(int(lengths.sum()), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file)
        if dtype.hasobject or 0 in shape:
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if columns_first else "C")


def _read(path: str, members: Mapping[str, str] | None = None) -> Any:
    """Read the array of a .npy file, or several of a .npz archive by name."""
    place = Path(path).expanduser()
    try:
        if members is None:
            return np.lib.format.open_memmap(place, mode="r")
        with place.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise DataError(f"{path}: is a single array", "use data=npy")
            return {key: _member(content, place, path, name) for key, name in members.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        if re.search("allow_pickle|magic string|Python objects", str(reason)):  # NumPy's errors
            reason = "another format, or an array of Python objects, which is not read because it can run code"
        raise DataError(f"{path}: cannot be read as a NumPy file: {reason}") from error


def _member(content: Any, place: Path, path: str, name: str) -> Any:
    if name not in content.files:
        raise DataError(f"{path}: has no array '{name}'", nearest(name, content.files))
    mapped = _stored(place, name)
    if mapped is not None:
        return mapped
    check_room([place], path)
    return content[name]
