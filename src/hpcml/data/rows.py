"""Rows of a table as mappings, for functions that are called with each: CSV, Parquet and JSON Lines files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpcml.data.table import TableFile
from hpcml.errors import DataError

_JSON_LINES = (".jsonl", ".ndjson")


def read_rows(path: str) -> list[dict[str, Any]]:
    """Read a table's rows, in its order.

    Parameters
    ----------
    path : str
        Ends in .jsonl or .ndjson for JSON Lines; anything else as :class:`hpcml.data.TableFile`. An empty cell is None.

    Raises
    ------
    DataError
        If it is missing, empty or damaged.
    """
    if Path(path).suffix in _JSON_LINES:
        rows = _json_lines(path)
    else:
        try:
            table = TableFile(path=path).read()
        except DataError as error:
            raise DataError(error.message) from error  # its hints name keys of the data
        rows = table.to_pylist()
        if len(set(table.column_names)) < len(table.column_names):
            raise DataError(f"{path}: column names stand twice: {', '.join(table.column_names)}")
    if not rows:
        raise DataError(f"{path}: there are no rows in it")
    return rows


def _json_lines(path: str) -> list[dict[str, Any]]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: is no JSON object", 'a line is {"name": value, ...}')
        rows.append(row)
    return rows
