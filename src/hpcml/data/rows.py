"""Read rows of CSV, Parquet and JSON Lines files as arguments of a user's function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpcml.data.index import find_row_numbers
from hpcml.data.table import TableFile, warn_excluded
from hpcml.errors import DataError

_JSON_LINES = (".jsonl", ".ndjson")


def read_rows(path: str) -> list[dict[str, Any]]:
    """Read the rows of a table in order; exclude row numbers and stored indices with a warning.

    Parameters
    ----------
    path : str
        A .jsonl or .ndjson file, or any file that :class:`hpcml.data.TableFile` reads. An empty
        cell becomes None.

    Raises
    ------
    DataError
        If the file is missing, empty or damaged, or a column has no name.
    """
    if Path(path).suffix in _JSON_LINES:
        rows = _json_lines(path)
    else:
        file = TableFile(path=path)
        try:
            table = file.read()
            file.check_unique(table.column_names)
            excluded = find_row_numbers(table, path)
        except DataError as error:
            raise DataError(error.message) from error  # The hints name keys that do not apply here.
        warn_excluded(path, excluded)
        rows = table.drop_columns(list(excluded)).to_pylist()
    if not rows:
        raise DataError(f"{path}: has no rows")
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
            raise DataError(f"{path}, line {number}: invalid JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not a JSON object", 'write lines such as {"name": value, ...}')
        rows.append(row)
    return rows
