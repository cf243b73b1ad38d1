"""Parquet files as blocks: before the run only their footers are read, the rows by the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from hpcml.data.blocks import ROWS, Blocks, Read
from hpcml.data.table import TableFile, is_number
from hpcml.errors import DataError, check_whole

# Bytes that are read from a column at a time.
_BUFFER = 1024**2


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """A Parquet file, or a directory of them, read in blocks of whole row groups.

    Parameters
    ----------
    path : str
    target : str or None
        The column to predict; it may hold text.
    drop : sequence of str
        Columns to leave out.
    rows : int
        Row groups are put together to blocks of about so many rows; a larger row group is a block of its own.
    """

    path: str
    target: str | None = None
    drop: tuple[str, ...] = ()
    rows: int = ROWS

    def __post_init__(self) -> None:
        check_whole("data.rows", self.rows)

    def load(self) -> Blocks:
        """Read the footers.

        Raises
        ------
        DataError
            If a file is missing, damaged or empty, has other columns than the first, or a feature is not numeric.
        """
        schema, groups = None, []
        for path in self._files():
            found = _footer(path)
            schema = schema or found.schema.to_arrow_schema()
            _compare(schema, found.schema.to_arrow_schema(), path)
            if found.num_rows == 0:
                raise DataError(f"{path}: has no rows", "remove it")
            groups += [(path, number, found.row_group(number).num_rows) for number in range(found.num_row_groups)]
        assert schema is not None  # there is a file, or _files has raised
        table = TableFile(path=self.path, target=self.target, drop=self.drop)
        features = table.features(schema)
        for name in features:
            if not is_number(schema.field(name).type):
                raise DataError(
                    f"{self.path}: column '{name}' is not numeric: its type is {schema.field(name).type}",
                    f"leave it out: 'data.drop=[{name}]'; or encode it as numbers first",
                )
        columns = [*features, *([self.target] if self.target else [])]
        chunks = _together(groups, self.rows)

        read = TableFile(path=self.path, target=self.target)  # of the columns that are left

        def recipe(number: int) -> Read:
            return _Rows(tuple((path, group) for path, group, _ in chunks[number]), tuple(columns), read)

        return Blocks(
            rows=[sum(rows for _, _, rows in chunk) for chunk in chunks],
            recipe=recipe,
            n_features=len(features),
            has_target=self.target is not None,
            feature_names=tuple(features),
            name=self.path,
        )

    def _files(self) -> list[str]:
        root = Path(str(self.path)).expanduser().absolute()
        files = sorted(root.glob("**/*.parquet")) if root.is_dir() else [root]
        files = [file for file in files if not file.name.startswith((".", "_"))]
        if not files:
            raise DataError(f"{self.path}: there is no file *.parquet in it")
        return [str(file) for file in files]


def _footer(path: str) -> Any:
    try:
        return pyarrow.parquet.read_metadata(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error


def _compare(first: pa.Schema, found: pa.Schema, path: str) -> None:
    lacking, more = set(first.names) - set(found.names), set(found.names) - set(first.names)
    if lacking or more:
        texts = [f"no column '{name}'" for name in sorted(lacking)] + [f"also '{name}'" for name in sorted(more)]
        raise DataError(f"{path}: has {', '.join(texts)}: other columns than the first file")
    for name in first.names:
        if is_number(first.field(name).type) != is_number(found.field(name).type):
            kinds = f"{found.field(name).type}, and {first.field(name).type} in the first file"
            raise DataError(f"{path}: column '{name}' is {kinds}")


def _together(groups: list[tuple[str, int, int]], rows: int) -> list[list[tuple[str, int, int]]]:
    """Put row groups together, in order, until another would be more than enough."""
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
    columns: tuple[str, ...]
    table: TableFile

    def __call__(self) -> tuple[Any, Any]:
        data = self.table.dataset(pa.concat_tables(map(self._group, self.groups), promote_options="permissive"))
        # Arrow keeps what it has freed, as much as the block again, and the worker needs it for other things
        pa.default_memory_pool().release_unused()
        return data.X, data.y

    def _group(self, group: tuple[str, int]) -> pa.Table:
        path, number = group
        # column after column, in pieces: else all of the row group is read before the first of it is decoded
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            return pa.table(
                {name: file.read_row_group(number, columns=[name], use_threads=False)[name] for name in self.columns}
            )
