"""Samples of large data, for a plan or a submission on a login node, where memory is short."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpcml.data.arrays import ArrayFile
from hpcml.data.blocks import Blocks
from hpcml.data.content import FEATHER, PARQUET, detect, open_bytes
from hpcml.data.dataset import Dataset
from hpcml.data.files import check_paths, find_files
from hpcml.data.load import load
from hpcml.data.table import TableFile

# Samples to take from large data, and the size of files, in bytes, from which they are taken.
_ROWS, _LARGE = 20_000, 64 * 1024**2

# Beginning of a text file whose lines are counted, in bytes.
_COUNTED = 4 * 1024**2

# Times by which compressed text is assumed to grow.
_RATIO = 4

# Targets among which classes are looked for.
_SORTED = 1_000_000

# More distinct targets are taken for numbers, which need not all be in a sample.
_MOST_CLASSES = 1000


def load_sample(source: Any) -> Dataset | None:
    """Load a sample of a large array or table; return None if the source is another, or small.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    if getattr(source, "func", None) in (ArrayFile, TableFile):  # as configs build them, when they are needed
        source = source()
    if isinstance(source, ArrayFile):
        return _of_array(load(source))
    if isinstance(source, TableFile) and source.rows is None:
        return _of_table(source)
    return None


def _of_array(whole: Dataset | Blocks) -> Dataset | None:
    """Take evenly spaced samples, of each class if there are any."""
    if not isinstance(whole, Dataset) or not whole.is_large:
        return None
    some = np.linspace(0, whole.n_samples - 1, min(whole.n_samples, _SORTED)).astype(np.intp)
    y = None if whole.y is None else whole.y[some]
    if y is not None and y.ndim == 1 and len(np.unique(y)) <= _MOST_CLASSES:
        rows = some[of_each_class(y, _ROWS)]
    else:
        rows = evenly(some, _ROWS)
    return replace(whole.take(rows), of=whole.n_samples, in_file=whole.in_file)


def _of_table(source: TableFile) -> Dataset | None:
    """Read the first rows."""
    paths = [file.path for file in find_files(check_paths(source.path))]
    if sum(path.stat().st_size for path in paths) < _LARGE:
        return None
    few = load(replace(source, rows=_ROWS))
    assert isinstance(few, Dataset)
    return replace(few, of=max(few.n_samples, sum(map(count_rows, paths))))


def count_rows(path: Path) -> int:
    """Count the rows of a table, or estimate them from the length of the first lines of a text.

    Raises
    ------
    DataError
        If the format is unknown.
    """
    content = detect(path, str(path))
    if content.format == PARQUET:
        return int(pq.ParquetFile(path).metadata.num_rows)
    if content.format == FEATHER:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            return sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
    begin = open_bytes(path, content.compression).read(_COUNTED)
    size = path.stat().st_size * (_RATIO if content.compression else 1)
    lines: int = begin.count(b"\n")
    return round(lines * max(1.0, size / max(1, len(begin))))


def evenly(rows: Any, size: int) -> Any:
    """Return at most ``size`` of the rows, evenly spaced."""
    if len(rows) <= size:
        return rows
    return rows[np.linspace(0, len(rows) - 1, size).astype(int)]


def of_each_class(y: Any, size: int) -> Any:
    """Return the rows of a stratified sample of about ``size``, with two of each class if there are as many."""
    _, numbers = np.unique(y, return_inverse=True)
    share = min(1.0, size / len(y))
    by_class = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    taken = (evenly(rows, max(2, round(share * len(rows)))) for rows in by_class)
    return np.sort(np.fromiter(itertools.chain.from_iterable(taken), dtype=np.intp))
