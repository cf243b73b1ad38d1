"""Write files atomically: write a temporary file, fsync it, and rename it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on success, sync it and rename it to ``path``.

    Yields
    ------
    Path
        The file to write, in the same directory. It is removed if the block raises.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)  # The rename must survive a crash as well.
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tail(path: Path, lines: int = 8) -> list[str]:
    """Return the last lines of a log with a heading, for a message; empty if there are none."""
    try:
        last = [line for line in path.read_text(errors="replace").splitlines() if line.strip()][-lines:]
    except OSError:
        return []
    return [f"the end of {path}:", *(f"  {line}" for line in last)] if last else []


def writable_by_others(path: Path, *, root: bool = False) -> tuple[str, str] | None:
    """Return why another user may have written a file that can run code, or None.

    Parameters
    ----------
    root : bool
        Whether to trust files owned by root.

    Returns
    -------
    tuple of str, or None
        The problem, to follow the file's name in a message, and the remedy. None if only this user
        can have written the file, judging by its permissions and those of its directory.
    """
    path = path.resolve()
    file, directory = path.stat(), path.parent.stat()
    if file.st_uid != os.geteuid() and not (root and file.st_uid == 0):
        return "belongs to another user", f"if you trust its author, copy it: cp {path} DIR, and use the copy"
    hint = f"if you trust its content: chmod go-w {path.parent} {path}"
    for who, shift in (("its group", 3), ("all users", 0)):
        of_file, of_directory = file.st_mode >> shift, directory.st_mode >> shift
        if not of_directory & 1:  # They cannot enter, as in run directories, which have mode 0700.
            continue
        if of_file & 2:
            return f"is writable by {who}", hint
        if of_directory & 2 and not directory.st_mode & stat.S_ISVTX:
            return f"is in a directory that is writable by {who}", hint
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON atomically; :func:`plain` converts other objects."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Convert a value to types that JSON supports.

    NumPy scalars and arrays become numbers and lists, NaN and infinities null, anything else its
    repr.

    >>> plain({"a": float("nan"), 1: (2, None), "f": print, "dtype": float})
    {'a': None, '1': [2, None], 'f': '<built-in function print>', 'dtype': "<class 'float'>"}
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)  # numpy.str_ is a subclass and would show its type.
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # numpy.float64 likewise.
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, type):  # Recognises NumPy without importing it.
        return plain(value.tolist())
    return repr(value)
