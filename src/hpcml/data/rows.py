"""Read rows of tables as arguments of a user's function."""

from __future__ import annotations

from typing import Any

from hpcml.data.columns import check_unique
from hpcml.data.csvformat import CsvFormat
from hpcml.data.index import find_row_numbers
from hpcml.data.reading import open_json_lines, read_table
from hpcml.data.table import warn_excluded
from hpcml.errors import DataError


def read_rows(path: str) -> list[dict[str, Any]]:
    """Read the rows of a table in order; exclude row numbers and stored indices with a warning.

    Parameters
    ----------
    path : str
        A path, pattern or directory that :class:`hpcml.data.TableFile` reads. An empty cell becomes
        None. A key that a line of a JSON Lines file lacks is absent.

    Raises
    ------
    DataError
        If the file is missing, empty or damaged, or a column has no name.
    """
    lines = open_json_lines(path)
    rows = _table(path) if lines is None else [row for file in lines for row in file.objects()]
    if not rows:
        raise DataError(f"{path}: has no rows")
    return rows


def _table(path: str) -> list[dict[str, Any]]:
    try:
        table = read_table(path, CsvFormat())
        check_unique(table.column_names, path)
        excluded = find_row_numbers(table, path)
    except DataError as error:
        raise DataError(error.message) from error  # The hints name keys that do not apply here.
    warn_excluded(path, excluded)
    rows: list[dict[str, Any]] = table.drop_columns(list(excluded)).to_pylist()
    return rows
