"""Read the values in the names of a Hive-partitioned directory, such as ``year=2024/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset

from hpcml.data.content import FEATHER, PARQUET
from hpcml.data.files import DataFile
from hpcml.errors import DataError

_FORMATS = {PARQUET: "parquet", FEATHER: "feather"}

# For each partition column, the value in a file.
Values = Mapping[str, pa.Scalar]


def partition_values(files: Sequence[DataFile], kind: str) -> list[Values]:
    """Return the partition columns of each file, with types inferred from all files.

    Parameters
    ----------
    kind : str
        Format of the files; see :mod:`hpcml.data.content`.

    Raises
    ------
    DataError
        If files of another format than Parquet or Feather are partitioned.
    """
    if not any(file.partitioned for file in files):
        return [{} for _ in files]
    _check_kind(files, kind)
    values: dict[str, Values] = {}
    for base in dict.fromkeys(file.base for file in files):
        values |= _values([str(file.path) for file in files if file.base == base], base, _FORMATS[kind])
    return [values[str(file.path)] for file in files]


def _check_kind(files: Sequence[DataFile], kind: str) -> None:
    if kind not in _FORMATS:
        first = next(file for file in files if file.partitioned)
        raise DataError(
            f"{first}: is in a partitioned directory, which hpcml reads from Parquet only, not {kind}",
            "write the partition as a column, or name the files: 'data.path=[FILE, ...]'",
        )


def _values(paths: Sequence[str], base: Path, kind: str) -> dict[str, Values]:
    found = pyarrow.dataset.dataset(paths, format=kind, partitioning="hive", partition_base_dir=str(base))
    values: dict[str, Values] = {}
    for fragment in found.get_fragments():
        keys = pyarrow.dataset.get_partition_keys(fragment.partition_expression)
        values[fragment.path] = {name: pa.scalar(key, found.schema.field(name).type) for name, key in keys.items()}
    return values


def with_partitions(table: pa.Table, values: Values) -> pa.Table:
    """Append partition columns to the table of a file; a column of the file takes precedence."""
    for name, value in values.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table
