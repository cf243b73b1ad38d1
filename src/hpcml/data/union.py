"""Combine the tables of several files to one, with types that fit all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcml.data.columns import check_unique
from hpcml.errors import DataError


@dataclass(frozen=True)
class Part:
    """The table of one file.

    Parameters
    ----------
    reread : callable or None
        Reads the file again, given the columns to read as text; None if its types are declared.
    """

    path: str
    table: pa.Table
    reread: Callable[[Sequence[str]], pa.Table] | None = None


def combine(parts: Sequence[Part]) -> pa.Table:
    """Concatenate tables with the same columns.

    Integers and floats become floats. A column that is text in one CSV file is text in all.

    Raises
    ------
    DataError
        If the columns differ, or the types of a column have nothing in common.
    """
    first, *others = parts
    if not others:
        return first.table
    check_unique(first.table.column_names, first.path)
    for part in others:
        check_same_names(first.table.schema, part.table.schema, part.path, first.path)
    types = _types(parts)
    texts = [name for name, kind in types.items() if kind is None]
    if texts:
        parts = [_as_text(part, texts, parts) for part in parts]
        types |= dict.fromkeys(texts, pa.string())
    schema = pa.schema(types.items(), metadata=first.table.schema.metadata)
    return pa.concat_tables(_cast(part.table, schema) for part in parts).unify_dictionaries()


def _types(parts: Sequence[Part]) -> dict[str, pa.DataType | None]:
    names = parts[0].table.column_names
    return {name: common_type([part.table[name] for part in parts]) for name in names}


def check_same_names(first: pa.Schema, found: pa.Schema, path: str, first_path: str) -> None:
    """Check that a file has the columns of the first file, in any order.

    Raises
    ------
    DataError
    """
    lacking, more = set(first.names) - set(found.names), set(found.names) - set(first.names)
    if lacking or more:
        texts = [f"no column '{name}'" for name in sorted(lacking)]
        texts += [f"an additional column '{name}'" for name in sorted(more)]
        raise DataError(f"{path}: has {', '.join(texts)}: its columns differ from those of {first_path}")
    check_unique(found.names, path)


def common_type(columns: Sequence[pa.ChunkedArray]) -> pa.DataType | None:
    """Return a type that can represent columns of several types; None if there is none."""
    types = list(dict.fromkeys(column.type for column in columns if not pa.types.is_null(column.type)))
    if not types:
        return pa.null()
    if pa.uint64() in types and all(map(pa.types.is_integer, types)):
        return pa.float64() if any(map(_has_negative, columns)) else pa.uint64()
    return merge_types(types)


def merge_types(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """Return a type that can represent values of several types; None if there is none.

    Dictionaries of different types become the type of their values; dates become timestamps if
    others are timestamps.
    """
    if len(set(types)) == 1:
        return types[0]
    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in types]
    if any(map(pa.types.is_timestamp, plain)):
        plain = [pa.timestamp("s") if pa.types.is_date(kind) else kind for kind in plain]
    try:
        schemas = [pa.schema([("column", kind)]) for kind in plain]
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except pa.ArrowException:
        return None


def _has_negative(column: Any) -> bool:
    least = pc.min(column).as_py()
    return least is not None and least < 0


def _as_text(part: Part, names: Sequence[str], parts: Sequence[Part]) -> Part:
    if part.reread is None:
        kind = part.table[names[0]].type
        other = next(other for other in parts if other.table[names[0]].type != kind)
        more = f"; so do {', '.join(map(repr, names[1:]))}" if len(names) > 1 else ""
        raise DataError(
            f"{other.path}: column '{names[0]}' is {other.table[names[0]].type}, and {kind} in {part.path}{more}",
            "write it alike in all files, or read other columns: 'data.columns=[NAME, ...]'",
        )
    # Casting would change how numbers are written, such as 007.
    return Part(part.path, part.reread(names))


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    # Integers beyond 2**53 are rounded if another file has fractions in the column.
    columns = [table[field.name].cast(field.type, safe=not pa.types.is_floating(field.type)) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
