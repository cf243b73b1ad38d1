"""Read Parquet files in blocks: their footers before the run, their rows on the workers."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from hpcml.data.blocks import ROWS, Blocks, Read
from hpcml.data.index import find_indices
from hpcml.data.reading import check_column, check_columns, readable
from hpcml.data.samples import not_numeric
from hpcml.data.table import TableFile, check_types, to_frame, warn_excluded
from hpcml.errors import DataError
from hpcml.keys import check_keys, config_key, documented, kind, whole

# Buffer size for reading a column, in bytes.
_BUFFER = 1024**2


@documented
@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """A Parquet file, or a directory of them, read in blocks of whole row groups."""

    path: str = config_key(MISSING, "Parquet file, or directory of Parquet files", example="mine.parquet")
    target: str | None = config_key(None, "Column to predict; it may hold text")
    drop: tuple[str, ...] = config_key((), "Columns to exclude", kind("list of columns"), example="[id, date]")
    block_size: int = config_key(
        ROWS, "Rows of a block: row groups are put together up to about this number; a larger one is a block", whole()
    )

    def __post_init__(self) -> None:
        check_keys(self, "data.")
        object.__setattr__(self, "drop", check_columns("drop", self.drop))
        object.__setattr__(self, "target", check_column("target", self.target))

    def load(self) -> Blocks:
        """Read the footers.

        Raises
        ------
        DataError
            If a file is missing, damaged or empty, its columns differ, or the type of a feature is
            one that no estimator takes.
        """
        table = TableFile(path=self.path, target=self.target, drop=self.drop)
        schema, groups = None, []
        for path in self._files():
            found = _footer(path)
            its_schema = found.schema.to_arrow_schema()
            table.check_unique(its_schema.names)
            schema = its_schema if schema is None else _merged(schema, its_schema, path)
            if found.num_rows == 0:
                raise DataError(f"{path}: has no rows", "remove it")
            groups += [(path, number, found.row_group(number).num_rows) for number in range(found.num_row_groups)]
        assert schema is not None  # _files raises unless there is a file.
        excluded = find_indices(schema, table.named)
        features = table.features(schema, excluded)
        warn_excluded(self.path, excluded)
        check_types(self.path, schema, features)
        columns = [*features, *([self.target] if self.target else [])]
        wanted = pa.schema([schema.field(name) for name in columns])
        chunks = _together(groups, self.block_size)

        read = TableFile(path=self.path, target=self.target)  # Reads the selected columns only.

        def recipe(number: int) -> Read:
            return _Rows(tuple((path, group) for path, group, _ in chunks[number]), wanted, read)

        return Blocks(
            rows=[sum(rows for _, _, rows in chunk) for chunk in chunks],
            recipe=recipe,
            n_features=len(features),
            has_target=self.target is not None,
            feature_names=tuple(features),
            not_numeric=not_numeric(to_frame(wanted.empty_table().select(features), self.path)),
            name=self.path,
        )

    def _files(self) -> list[str]:
        root = Path(str(self.path)).expanduser().absolute()
        files = sorted(root.glob("**/*.parquet")) if root.is_dir() else [root]
        files = [file for file in files if not file.name.startswith((".", "_"))]
        if not files:
            raise DataError(f"{self.path}: contains no file *.parquet")
        return [str(file) for file in files]


def _footer(path: str) -> Any:
    with readable(path):
        return pyarrow.parquet.read_metadata(path)


def _merged(first: pa.Schema, found: pa.Schema, path: str) -> pa.Schema:
    """Return the schema of both files, with types that hold the values of both.

    Raises
    ------
    DataError
        If the files have other columns, or a column's types have nothing in common.
    """
    lacking, more = set(first.names) - set(found.names), set(found.names) - set(first.names)
    if lacking or more:
        texts = [f"no column '{name}'" for name in sorted(lacking)]
        texts += [f"an additional column '{name}'" for name in sorted(more)]
        raise DataError(f"{path}: has {', '.join(texts)}: its columns differ from those of the first file")
    fields = [_common(first.field(name), found.field(name), path) for name in first.names]
    return pa.schema(fields, first.metadata)


def _common(first: pa.Field, found: pa.Field, path: str) -> pa.Field:
    if first.type == found.type:
        return first
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (first.type, found.type)]
    try:
        schemas = [pa.schema([(first.name, kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: column '{first.name}' is {found.type}, and {first.type} in the first file",
            f"write it alike in all files, or exclude it: 'data.drop=[{first.name}]'",
        ) from error


def _together(groups: list[tuple[str, int, int]], rows: int) -> list[list[tuple[str, int, int]]]:
    """Combine consecutive row groups into chunks of up to this many rows."""
    chunks: list[list[tuple[str, int, int]]] = []
    for group in groups:
        if chunks and sum(count for _, _, count in chunks[-1]) + group[2] <= rows:
            chunks[-1].append(group)
        else:
            chunks.append([group])
    return chunks


@dataclass(frozen=True)
class _Rows:
    groups: tuple[tuple[str, int], ...]
    schema: pa.Schema
    table: TableFile

    def __call__(self) -> tuple[Any, Any]:
        data = self.table.dataset(pa.concat_tables(map(self._group, self.groups)))
        # Arrow keeps freed memory, up to the size of the block, which the worker needs.
        pa.default_memory_pool().release_unused()
        return data.X, data.y

    def _group(self, group: tuple[str, int]) -> pa.Table:
        path, number = group
        # Read column by column, in pieces, to avoid loading the whole encoded row group.
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            columns = {field.name: self._column(file, number, field) for field in self.schema}
        return pa.table(columns)

    def _column(self, file: Any, number: int, field: pa.Field) -> Any:
        column = file.read_row_group(number, columns=[field.name], use_threads=False)[field.name]
        return column if pa.types.is_dictionary(field.type) else column.cast(field.type)
