"""Selections: rows of large samples, taken only where they are used, from memory or from a file.

A head that split its samples by copying them would need several times their memory, and a worker
that received them would hold a copy for each process. A selection holds the numbers of its rows.
Once laid out in a file, workers map it: the processes of a node share one copy, in the page cache.
"""

from __future__ import annotations

import functools
import mmap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Samples of fewer bytes are copied and sent, which is faster than a file.
LARGE = 32 * 1024**2

# Bytes of a file that are mapped at a time. Dask counts mapped pages as memory of the worker.
_CHUNK = 64 * 1024**2


@dataclass(frozen=True)
class ArrayInFile:
    """The place of an array in a file.

    Parameters
    ----------
    offset : int
        Bytes before its first element.
    order : {"C", "F"}
        Whether rows or columns are contiguous.
    """

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    order: str

    def open(self) -> Any:
        """Return the array, mapped read-only."""
        return _mapped(self)


@dataclass(frozen=True)
class FrameInFile:
    """A DataFrame of pandas in an Arrow file."""

    path: str
    shape: tuple[int, ...]

    def open(self) -> Any:
        """Return the frame; numbers without missing values are mapped, not copied."""
        return _read(self)


@functools.lru_cache(maxsize=2)
def _mapped(place: ArrayInFile) -> Any:
    order: Any = place.order
    return np.memmap(place.path, np.dtype(place.dtype), "r", place.offset, place.shape, order)


def _open_frame(place: FrameInFile) -> Any:
    import pyarrow as pa

    with pa.memory_map(place.path) as file:
        return pa.ipc.open_file(file).read_all().to_pandas(split_blocks=True)


_read = functools.lru_cache(maxsize=2)(_open_frame)


class Selection:
    """Rows of samples, in a given order.

    Parameters
    ----------
    source : ndarray, DataFrame of pandas, ArrayInFile or FrameInFile
        All samples.
    rows : ndarray of int of shape (n_selected,)
        Pickled with the selection; a source in memory would be too, so lay it out first.
    """

    def __init__(self, source: Any, rows: Any) -> None:
        self.source = source
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.source.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        """Copy some of the selected samples."""
        return gather(self._open(), self.rows[rows])

    def whole(self) -> Any:
        """Copy all selected samples."""
        return gather(self._open(), self.rows)

    def laid_out(self, directory: Path) -> Selection | None:
        """Return the same selection from a file, which is written unless the source is one.

        Returns
        -------
        Selection or None
            None if a frame has columns of Python objects, which no file keeps as they are.
        """
        place = _place(self.source) or _write(self.source, directory)
        return None if place is None else Selection(place, self.rows)

    def _open(self) -> Any:
        return self.source.open() if isinstance(self.source, (ArrayInFile, FrameInFile)) else self.source


def is_selectable(X: Any) -> bool:
    """Return whether samples have a form that can be laid out: an array of numbers or a frame of pandas."""
    return hasattr(X, "iloc") or (isinstance(X, np.ndarray) and X.ndim == 2)


def gather(source: Any, rows: Any) -> Any:
    """Copy rows of an array or a frame.

    Parameters
    ----------
    rows : ndarray of int
    """
    if hasattr(source, "iloc"):
        return source.iloc[rows]
    if not is_in_file(source) or not source.flags.c_contiguous:
        return np.asarray(source)[rows]
    # From front to back and chunk by chunk, so that few pages are mapped at a time.
    found = np.empty((len(rows), *source.shape[1:]), source.dtype)
    places = np.argsort(rows, kind="stable")
    step = max(1, _CHUNK // max(1, source[:1].nbytes))
    ends = np.searchsorted(rows[places], np.arange(step, len(source), step))
    for part in np.split(places, ends):
        found[part] = source[rows[part]]
        forget(source)
    return found


def forget(array: Any) -> None:
    """Unmap the pages of an array that is mapped read-only; they stay in the page cache."""
    owner = array
    while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
        owner = owner.base
    if is_in_file(owner):
        owner.base.madvise(mmap.MADV_DONTNEED)


def is_in_file(array: Any) -> bool:
    """Return whether an array is that of a file, mapped read-only: others may have changes of the user."""
    mapped = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
    return mapped and array.mode == "r" and array.filename is not None


def _place(source: Any) -> ArrayInFile | FrameInFile | None:
    """Return the place of a source that is mapped, or None."""
    if isinstance(source, (ArrayInFile, FrameInFile)):
        return source
    if not is_in_file(source):
        return None
    order = "C" if source.flags.c_contiguous else "F"
    return ArrayInFile(str(Path(source.filename).absolute()), source.offset, source.dtype.str, source.shape, order)


def _write(source: Any, directory: Path) -> ArrayInFile | FrameInFile | None:
    directory.mkdir(mode=0o700, exist_ok=True)
    if hasattr(source, "iloc"):
        return _write_frame(source, directory / "samples.arrow")
    path = directory / "samples.npy"
    if not path.exists():  # A run that is timed several times lays it out once.
        np.save(path, source)
    return _place(np.load(path, mmap_mode="r"))


def _write_frame(frame: Any, path: Path) -> FrameInFile | None:
    """Write a frame unless it is there already; return None if an Arrow file does not keep its types."""
    import pyarrow as pa

    place = FrameInFile(str(path.absolute()), frame.shape)
    if path.exists():
        return place
    if any(dtype.kind == "O" and isinstance(dtype, np.dtype) for dtype in frame.dtypes):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = pa.Table.from_pandas(frame)
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            kept = bool(_open_frame(place).dtypes.equals(frame.dtypes))
    except (TypeError, ValueError, NotImplementedError, pa.ArrowException):
        kept = False
    if not kept:
        path.unlink(missing_ok=True)
        return None
    return place
