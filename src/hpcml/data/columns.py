"""Check the names of columns, and select columns by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hpcml.data.files import SEPARATOR
from hpcml.errors import DataError, nearest


def check_column(key: str, name: Any) -> str | None:
    """Return the name of a column as text; a numeric name is parsed as a number before.

    Parameters
    ----------
    key : str
        The key of the name, such as ``target``, for the message.

    Raises
    ------
    DataError
    """
    if name is None or isinstance(name, str):
        return name
    if isinstance(name, (int, float)) and not isinstance(name, bool):
        return str(name)
    raise DataError(f"data.{key}={name}: must be the name of one column", f"quote it: 'data.{key}=\"NAME\"'")


def check_targets(names: Any) -> str | tuple[str, ...] | None:
    """Return the name of the target, or the names of several.

    Raises
    ------
    DataError
    """
    if not isinstance(names, (list, tuple)):
        return check_column("target", names)
    if len(names) < 2 or len(set(map(str, names))) < len(names):
        raise DataError(f"data.target={list(names)}: must be one column, or several different ones")
    return check_columns("target", names)


def check_columns(key: str, names: Any) -> tuple[str, ...]:
    """Return column names as texts, from a list or a single name.

    Raises
    ------
    DataError
    """
    if names is None:
        return ()
    if not isinstance(names, (list, tuple)):
        names = [names]
    return tuple(check_column(key, name) or "" for name in names)


def check_known(named: Mapping[str, str], names: Sequence[str], path: str) -> None:
    """Check that a file has the columns that a user has named.

    Parameters
    ----------
    named : mapping of str to str
        Column names by the keys that name them, such as ``drop[0]``.
    names : sequence of str
        The file's columns.

    Raises
    ------
    DataError
    """
    known = set(names)
    lacking = {key: name for key, name in named.items() if name not in known}
    if not lacking:
        return
    keys = ", ".join(f"data.{key}={name}" for key, name in lacking.items())
    hints = dict.fromkeys(nearest(name, names) for name in lacking.values())
    if len(names) == 1:
        hints[f"there is only one column: {SEPARATOR}"] = None
    raise DataError(f"{keys}: {path} has no such {'column' if len(lacking) == 1 else 'columns'}", *hints)


def select(names: Sequence[str], wanted: Collection[str], path: str) -> list[str]:
    """Return the wanted columns in the order of the file.

    Raises
    ------
    DataError
        If the name of a wanted column is not unique.
    """
    found = [name for name in names if name in wanted]
    check_unique(found, path)
    return found


def check_unique(names: Sequence[str], path: str) -> None:
    """Check that the names of columns are unique.

    Raises
    ------
    DataError
    """
    counts = Counter(names)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice == [""]:
        raise DataError(
            f"{path}: {counts['']} columns have no name",
            "name them in the first line, or exclude them: 'data.drop=[\"\"]'",
        )
    if twice:
        raise DataError(f"{path}: duplicate column names: {', '.join(twice)}", "give each column a name of its own")
