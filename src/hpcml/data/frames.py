"""Convert Arrow tables to pandas frames."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcml.errors import DataError, printable

# A float64 represents all integers up to this one exactly.
_EXACT = 2**53


def check_types(path: str, schema: pa.Schema, features: Collection[str]) -> None:
    """Check that estimators can take the columns, as numbers, text, categories or dates.

    Raises
    ------
    DataError
        The message names all columns that they cannot take.
    """
    wrong = [name for name in features if is_opaque(schema.field(name).type)]
    if wrong:
        listed = ", ".join(f"'{printable(name)}' ({printable(schema.field(name).type, 40)})" for name in wrong)
        raise DataError(
            f"{path}: no estimator takes the columns {listed}", f"exclude them: 'data.drop=[{','.join(wrong)}]'"
        )


def is_opaque(kind: pa.DataType) -> bool:
    """Return whether values of an Arrow type are nested, or bytes."""
    return bool(
        pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def to_frame(columns: dict[str, Any], path: str) -> Any:
    """Convert columns to a pandas DataFrame; missing numbers become NaN.

    Decimals become floating-point numbers, times of day and durations become seconds. Integers and
    booleans keep their type if none is missing.

    Parameters
    ----------
    columns : dict of str to pyarrow.ChunkedArray
        Emptied, so that each column is freed when it has been converted, unless the caller has
        another reference to it.
    path : str
        Origin of the columns, for warnings.
    """
    names = list(columns)
    rounded = [name for name in names if _is_rounded(columns[name])]
    for name in rounded:
        warnings.warn(
            f"{path}: column '{name}' contains integers beyond 2**53, which most estimators round", stacklevel=2
        )
    table = pa.table([plain(columns.pop(name)) for name in names], names=names)
    # Arrow keeps the memory that it needed to read a file, unless it is told that nothing else will.
    pa.default_memory_pool().release_unused()
    return table.to_pandas(date_as_object=False, self_destruct=True, ignore_metadata=True)


def _is_rounded(column: Any) -> bool:
    if not pa.types.is_integer(column.type) or column.type.bit_width < 64:
        return False
    ends = pc.min_max(column).as_py().values()
    return any(end is not None and abs(end) > _EXACT for end in ends)


def plain(column: Any) -> Any:
    """Return a column as a type that pandas has other than that of Python objects."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_decimal(kind) or (pa.types.is_boolean(kind) and column.null_count):
        return column.cast(pa.float64())
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.duration("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    if pa.types.is_time(kind):
        return pc.divide(column.cast(pa.time64("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    return column
