"""Find the files of a table from paths, patterns and directories."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from hpcml.errors import DataError, nearest, printable

PARQUET_SUFFIXES = frozenset({".parquet", ".parq", ".pq"})

# Suffixes of tables in a directory. Other files, such as README.txt, are ignored beside them.
TABLE_SUFFIXES = PARQUET_SUFFIXES | {
    ".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".feather", ".ftr", ".arrow", ".arrows", ".ipc",
}  # fmt: skip
_COMPRESSIONS = frozenset({".gz", ".bz2", ".zst", ".lz4", ".xz"})

SEPARATOR = "is the separator another one? 'data.delimiter=\";\"', or data.delimiter=tab"

# Number of paths to list in a message.
_SHOWN = 3


@dataclass(frozen=True)
class DataFile:
    """A file of a table.

    Parameters
    ----------
    base : Path
        Directory that was searched; names such as ``year=2024`` below it are Hive partitions.
    """

    path: Path
    base: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def partitioned(self) -> bool:
        """Whether a directory between base and file is a Hive partition."""
        return any("=" in part for part in self.path.relative_to(self.base).parts[:-1])


def check_paths(value: Any) -> tuple[str, ...]:
    """Return the value of ``data.path``, a path or a list of them, as texts.

    Raises
    ------
    DataError
    """
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or any(path is None or str(path) == "" for path in values):
        raise DataError("data.path is empty", "type data.path=FILE")
    for path in values:
        if not isinstance(path, (str, os.PathLike, int, float)):
            raise DataError(f"data.path={path}: must be a path, or a list of paths", "for example data.path=mine.csv")
    return tuple(str(path) for path in values)


def joined(paths: Sequence[str]) -> str:
    """Return paths as one text for messages.

    >>> joined(["a.csv"]), joined(["a.csv", "b.csv", "c.csv", "d.csv"])
    ('a.csv', 'a.csv, b.csv and 2 more')
    """
    if len(paths) <= _SHOWN:
        return ", ".join(paths)
    return f"{', '.join(paths[: _SHOWN - 1])} and {len(paths) - _SHOWN + 1} more"


def find_files(paths: Sequence[str], suffixes: Collection[str] = TABLE_SUFFIXES) -> list[DataFile]:
    """Find the files of a table, each once, in the order of the paths and sorted within each.

    Parameters
    ----------
    paths : sequence of str
        Files, patterns such as ``part-*.csv``, and directories. Names that start with a dot or an
        underscore are ignored in directories.
    suffixes : collection of str
        Suffixes of the files to read from a directory. If no file has one, all are read.

    Raises
    ------
    DataError
        If a file does not exist, a pattern matches nothing, or a directory contains no files.
    """
    found: dict[Path, DataFile] = {}
    for path in paths:
        for file in _matches(path, suffixes):
            if not file.path.is_file():
                raise DataError(f"{file}: is not a regular file", "write it to a file first")
            found.setdefault(file.path, file)
    return list(found.values())


def _matches(path: str, suffixes: Collection[str]) -> Iterator[DataFile]:
    root = Path(path).expanduser()
    if root.is_dir():
        yield from _below(root, path, suffixes)
    elif root.exists():
        yield DataFile(root, root.parent)
    elif not glob.has_magic(str(root)):
        raise DataError(f"{path}: cannot be read: No such file or directory", *_similar(root))
    else:
        yield from _matching(root, path, suffixes)


def _matching(pattern: Path, path: str, suffixes: Collection[str]) -> Iterator[DataFile]:
    # Path.glob does not accept absolute patterns.
    matches = sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207
    if not matches:
        raise DataError(f"{path}: no file matches this pattern", *_similar(pattern))
    base = pattern
    while glob.has_magic(str(base)):
        base = base.parent
    for match in matches:
        files = _below(match, str(match), suffixes) if match.is_dir() else [DataFile(match, base)]
        yield from (DataFile(file.path, base) for file in files)


def _similar(path: Path) -> list[str]:
    """Suggest files of the same directory with a similar name."""
    if not path.parent.is_dir() or not os.access(path.parent, os.R_OK | os.X_OK):
        return []
    close = nearest(path.name, (entry.name for entry in path.parent.iterdir()))
    return [close] if "did you mean" in close else []


def _below(root: Path, path: str, suffixes: Collection[str]) -> Iterator[DataFile]:
    files = [file for file in sorted(root.rglob("*")) if _is_shown(file.relative_to(root)) and file.is_file()]
    tables = [file for file in files if suffix_of(file) in suffixes] or files
    if not tables:
        raise DataError(f"{path}: contains no files")
    for file in tables:
        yield DataFile(file, root)


def suffix_of(file: Path) -> str:
    """Return the suffix of a file in lower case, without that of its compression.

    >>> suffix_of(Path("flights.CSV.gz"))
    '.csv'
    """
    path = file.with_suffix("") if file.suffix.lower() in _COMPRESSIONS else file
    return path.suffix.lower()


def _is_shown(path: Path) -> bool:
    # Dask and Spark write _metadata, _SUCCESS and .part-0.crc beside the parts.
    return not any(part.startswith((".", "_")) and "=" not in part for part in path.parts)


def check_room(files: Sequence[Path], path: str) -> None:
    """Check that files fit into free memory, before the system kills this process.

    Raises
    ------
    DataError
    """
    size, free = sum(file.stat().st_size for file in files), psutil.virtual_memory().available
    if size > free:
        raise DataError(
            f"{path}: has {size / 1024**3:.3g}GB, but only {free / 1024**3:.3g}GB of memory are free",
            "use a larger machine, or read it in parts: data=parquet_blocks, workload=incremental, kmeans or predict",
        )


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Convert exceptions while a file is read to an error that names the file.

    Raises
    ------
    DataError
    """
    from lzma import LZMAError

    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {printable(error.strerror or error)}") from error
    except (pa.ArrowException, ValueError, EOFError, LZMAError) as error:
        # A ragged line, a damaged footer or another encoding: the library gives the details.
        raise DataError(f"{path}: cannot be read: {printable(error)}", *_hints(str(error))) from error


def _hints(message: str) -> list[str]:
    if "columns, got" in message:
        return [SEPARATOR, 'put a cell that contains a separator or line break in "quotes"']
    if "decode" in message or "UTF" in message:
        return ["is the encoding another one? For example data.encoding=latin1"]
    return []
