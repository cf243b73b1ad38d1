"""Find row numbers and stored indices, columns that other software adds to a table."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcml.errors import DataError

# Names that pandas and Dask give to an unnamed index when they write Parquet.
_STORED = re.compile(r"__index_level_\d+__|__null_dask_index__")

# Row numbers in the first column of a CSV file have no name, or this one after a round trip in
# pandas.
_UNNAMED = re.compile(r"(Unnamed: \d+(\.\d+)*)?")


def find_indices(schema: pa.Schema, named: Collection[str | None] = ()) -> dict[str, str]:
    """Return columns that are not features according to the schema, each with the reason.

    Parameters
    ----------
    named : collection of str
        Columns that the user has named, which are never excluded.
    """
    found = {}
    declared = _declared(schema)
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in named:
            continue
        if _STORED.fullmatch(name) or name in declared:
            found[name] = "it is the index of the table in pandas; to use it as a feature, save it with reset_index()"
        elif _UNNAMED.fullmatch(name) and pa.types.is_integer(kind):
            found[name] = "it has no name, and contains row numbers"
    return found


def find_row_numbers(table: pa.Table, path: str, named: Collection[str | None] = ()) -> dict[str, str]:
    """Return columns of a table that are not features, each with the reason.

    Raises
    ------
    DataError
        If an unnamed column is neither empty nor a row number.
    """
    found = find_indices(table.schema, named)
    declared = _declared(table.schema)
    for name in table.column_names:
        if name in named or name in declared or not _UNNAMED.fullmatch(name):
            continue
        column = table[name]
        if column.null_count == len(column):
            found[name] = "it has no name, and is empty"
        elif not _is_row_number(column):
            raise DataError(
                f"{path}: column {table.column_names.index(name) + 1} has no name, and does not contain row numbers: "
                f"for example {next(value for value in column.to_pylist() if value is not None)!r}",
                f"name it in the first line, or exclude it: 'data.drop=[\"{name}\"]'",
            )
    return found


def _declared(schema: pa.Schema) -> set[str]:
    """Return the index columns named by the pandas metadata of a Parquet file."""
    try:
        declared: Any = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        # A range index is described by a mapping and has no column.
        return {name for name in declared if isinstance(name, str)}
    except (KeyError, TypeError, ValueError):
        return set()


def _is_row_number(column: Any) -> bool:
    """Return whether a column contains distinct integers, as shuffled row numbers do."""
    if not pa.types.is_integer(column.type) or column.null_count:
        return False
    return bool(pc.count_distinct(column).as_py() == len(column))
