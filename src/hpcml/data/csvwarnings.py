"""Warn about cells of CSV files that may have been misread."""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcml.errors import printable

_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"


def text_sample(table: pa.Table) -> str:
    """Return an example of text that is not ASCII, by which a user can judge the encoding."""
    for name in table.column_names:
        if not name.isascii():
            return f", for example {printable(repr(name), 60)}"
    for column in table.columns:
        if pa.types.is_string(column.type):
            odd = column.filter(pc.invert(pc.string_is_ascii(column)))
            if len(odd):
                return f", for example {printable(repr(odd[0].as_py()), 60)}"
    return ""


def warn_decimal_commas(table: pa.Table, path: str) -> None:
    """Warn about columns of text in which every cell is a number with a decimal comma."""
    found = [
        (name, example)
        for name, column in zip(table.column_names, table.columns, strict=True)
        if (example := _decimal_comma(column)) is not None
    ]
    if found:
        names = ", ".join(f"'{printable(name)}'" for name, _ in found)
        noun = "column" if len(found) == 1 else "columns"
        warnings.warn(
            f"{path}: numbers with a decimal comma in {noun} {names} are read as text, for example "
            f"'{found[0][1]}'; to read numbers, type 'data.decimal=\",\"'",
            stacklevel=2,
        )


def _decimal_comma(column: Any) -> str | None:
    if not pa.types.is_string(column.type) or column.null_count == len(column):
        return None
    texts = column.drop_null()
    # The first cell is enough to rule out most columns of text.
    for part in (texts.slice(0, 1), texts):
        if not pc.all(pc.match_substring_regex(part, _DECIMAL_COMMA)).as_py():
            return None
    return str(texts[0].as_py())
