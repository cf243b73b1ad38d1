"""Read Parquet files in blocks: their footers before the run, their rows on the workers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from hpcml.data.blocks import ROWS, Blocks, Read
from hpcml.data.columns import check_column, check_columns, check_unique
from hpcml.data.content import PARQUET, detect
from hpcml.data.files import PARQUET_SUFFIXES, DataFile, check_paths, find_files, joined, readable
from hpcml.data.frames import to_frame
from hpcml.data.index import find_indices
from hpcml.data.partitions import Values, partition_values
from hpcml.data.reading import warn_skipped, without_empty
from hpcml.data.samples import not_numeric
from hpcml.data.table import TableFile, warn_excluded
from hpcml.data.union import check_same_names, merge_types
from hpcml.errors import DataError
from hpcml.keys import check_keys, config_key, documented, kind, whole

# Buffer size for reading a column, in bytes.
_BUFFER = 1024**2


@documented
@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """Parquet files, read in blocks of whole row groups. Files without rows are skipped with a warning."""

    path: str | Sequence[str] = config_key(
        MISSING,
        "Parquet file, pattern such as part-*.parquet, or directory of Parquet files; or a list of them",
        kind("path, or list of paths"),
        example="mine.parquet",
    )
    target: str | None = config_key(None, "Column to predict; it may hold text")
    id: str | None = config_key(None, "Column that names the samples in tables of predictions; it is no feature")
    drop: tuple[str, ...] = config_key((), "Columns to exclude", kind("list of columns"), example="[id, date]")
    columns: tuple[str, ...] = config_key(
        (), "Columns to read; target and id are read as well. []: all", kind("list of columns"), example="[age, income]"
    )
    block_size: int = config_key(
        ROWS, "Rows of a block: row groups are put together up to about this number; a larger one is a block", whole()
    )

    def __post_init__(self) -> None:
        check_keys(self, "data.")
        store = functools.partial(object.__setattr__, self)
        store("path", check_paths(self.path))
        store("target", check_column("target", self.target))
        store("id", check_column("id", self.id))
        store("drop", check_columns("drop", self.drop))
        store("columns", check_columns("columns", self.columns))

    @property
    def name(self) -> str:
        """The paths as one text, for messages."""
        return joined(check_paths(self.path))

    def load(self) -> Blocks:
        """Read the footers.

        Raises
        ------
        DataError
            If a file is missing, damaged or empty, its columns differ, or the type of a feature is
            one that no estimator takes.
        """
        schema, groups = self._footers()
        table = TableFile(path=self.path, target=self.target, id=self.id, drop=self.drop, columns=self.columns)
        chosen = table.choose(schema.names, self.name)
        excluded = find_indices(schema, table.named)
        warn_excluded(self.name, excluded)
        wanted = pa.schema([schema.field(name) for name in chosen if name not in excluded])
        features = table.features(wanted)
        chunks = _together(groups, self.block_size)
        read = TableFile(path=self.path, target=self.target, id=self.id)  # Reads the selected columns only.

        def recipe(number: int) -> Read:
            return _Rows(tuple(chunks[number]), wanted, read)

        return Blocks(
            rows=[sum(group.rows for group in chunk) for chunk in chunks],
            recipe=recipe,
            n_features=len(features),
            has_target=self.target is not None,
            feature_names=tuple(features),
            not_numeric=not_numeric(_empty_frame(wanted, features)),
            name=self.name,
        )

    def _footers(self) -> tuple[pa.Schema, list[_Group]]:
        """Return the schema of all files, and their row groups."""
        files = self._files()
        with readable(self.name):
            partitions = partition_values(files, PARQUET)
        schema, groups, empty = None, [], []
        for path, values in zip(map(str, files), partitions, strict=True):
            found = _footer(path)
            if found.num_rows == 0:
                empty.append(path)  # Its types may be wrong: Dask infers them from the values.
                continue
            its_schema = _with_partitions(found.schema.to_arrow_schema(), values)
            check_unique(its_schema.names, path)
            schema = its_schema if schema is None else _merged(schema, its_schema, path)
            sizes = [found.row_group(number).num_rows for number in range(found.num_row_groups)]
            groups += [_Group(path, number, rows, values) for number, rows in enumerate(sizes)]
        if schema is None:
            raise DataError(f"{self.name}: has no rows")
        warn_skipped(empty, self.name, "without rows")
        return schema, groups

    def _files(self) -> list[DataFile]:
        # Workers may run in another directory.
        paths = [str(Path(path).expanduser().absolute()) for path in check_paths(self.path)]
        with readable(self.name):
            return without_empty(find_files(paths, PARQUET_SUFFIXES), self.name)


@dataclass(frozen=True)
class _Group:
    """A row group of a file."""

    path: str
    number: int
    rows: int
    partitions: Values


def _with_partitions(schema: pa.Schema, values: Values) -> pa.Schema:
    for name, value in values.items():
        if name not in schema.names:
            schema = schema.append(pa.field(name, value.type))
    return schema


def _empty_frame(schema: pa.Schema, names: Sequence[str]) -> Any:
    table = schema.empty_table()
    return to_frame({name: table[name] for name in names}, "")


def _footer(path: str) -> Any:
    with readable(path):
        found = detect(Path(path), path).format
        if found != PARQUET:
            raise DataError(
                f"{path}: is {found}, and only Parquet is read in blocks",
                "write it as Parquet; or read it whole: data=csv",
            )
        return pyarrow.parquet.read_metadata(path)


def _merged(first: pa.Schema, found: pa.Schema, path: str) -> pa.Schema:
    """Return the schema of both files, with types that hold the values of both.

    Raises
    ------
    DataError
        If the files have other columns, or a column's types have nothing in common.
    """
    check_same_names(first, found, path, "the first file")
    fields = [_common(first.field(name), found.field(name), path) for name in first.names]
    return pa.schema(fields, first.metadata)


def _common(first: pa.Field, found: pa.Field, path: str) -> pa.Field:
    merged = merge_types([first.type, found.type])
    if merged is None:
        raise DataError(
            f"{path}: column '{first.name}' is {found.type}, and {first.type} in the first file",
            f"write it alike in all files, or exclude it: 'data.drop=[{first.name}]'",
        )
    return first.with_type(merged)


def _together(groups: list[_Group], rows: int) -> list[list[_Group]]:
    """Combine consecutive row groups into chunks of up to this many rows."""
    chunks: list[list[_Group]] = []
    for group in groups:
        if chunks and sum(other.rows for other in chunks[-1]) + group.rows <= rows:
            chunks[-1].append(group)
        else:
            chunks.append([group])
    return chunks


@dataclass(frozen=True)
class _Rows:
    groups: tuple[_Group, ...]
    schema: pa.Schema
    table: TableFile

    def __call__(self) -> tuple[Any, Any, Any]:
        data = self.table.dataset(pa.concat_tables(map(self._group, self.groups)))
        # Arrow keeps freed memory, up to the size of the block, which the worker needs.
        pa.default_memory_pool().release_unused()
        return data.X, data.y, data.ids

    def _group(self, group: _Group) -> pa.Table:
        # Read column by column, in pieces, to avoid loading the whole encoded row group.
        with pyarrow.parquet.ParquetFile(group.path, pre_buffer=False, buffer_size=_BUFFER) as file:
            stored = set(file.schema_arrow.names)
            columns = {
                field.name: self._column(file, group.number, field)
                if field.name in stored
                else pa.repeat(group.partitions[field.name], group.rows).cast(field.type)
                for field in self.schema
            }
        return pa.table(columns)

    def _column(self, file: Any, number: int, field: pa.Field) -> Any:
        column = file.read_row_group(number, columns=[field.name], use_threads=False)[field.name]
        return column if pa.types.is_dictionary(field.type) else column.cast(field.type)
