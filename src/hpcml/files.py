"""Writing a file so that a reader, a crash or a full disk never leaves half of it: aside, fsync, rename."""

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
    """Give a path beside ``path`` to write to; when all went well, sync it and rename it to ``path``.

    Yields
    ------
    Path
        The file to write, in the same directory. It is removed when the block raises.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)  # the rename itself must survive a crash as well
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
    """Give the last lines of a log for a message, with a heading; nothing if there is none, or it is empty."""
    try:
        last = [line for line in path.read_text(errors="replace").splitlines() if line.strip()][-lines:]
    except OSError:
        return []
    return [f"the end of {path}:", *(f"  {line}" for line in last)] if last else []


def others(path: Path, *, root: bool = False) -> tuple[str, str] | None:
    """Say why a file may be another user's work, to ask before what it holds may run code.

    Parameters
    ----------
    root : bool
        Whether root's files are as good as one's own.

    Returns
    -------
    tuple of str, or None
        What is wrong, to follow the file's name in a message, and what to type; None: only this user can have written
        it, as far as the file and its directory tell.
    """
    path = path.resolve()
    file, directory = path.stat(), path.parent.stat()
    if file.st_uid != os.geteuid() and not (root and file.st_uid == 0):
        return "is another user's", f"if you trust who wrote it, make it yours: cp {path} DIR, and name the copy"
    hint = f"if you trust what it holds: chmod go-w {path.parent} {path}"
    for who, shift in (("its group", 3), ("all users", 0)):
        of_file, of_directory = file.st_mode >> shift, directory.st_mode >> shift
        if not of_directory & 1:  # they cannot enter: in a run directory, mode 0700, the umask does not matter
            continue
        if of_file & 2:
            return f"can be written by {who}", hint
        if of_directory & 2 and not directory.st_mode & stat.S_ISVTX:
            return f"lies in a directory that can be written by {who}", hint
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON whole or not at all; see :func:`plain` for what becomes of other objects."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Reduce a value to what JSON can hold.

    NumPy scalars and arrays become numbers and lists, NaN and infinities null (JSON has none), anything else its repr.

    >>> plain({"a": float("nan"), 1: (2, None), "f": print})
    {'a': None, '1': [2, None], 'f': '<built-in function print>'}
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)  # numpy.str_ is one, and shows as such
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None  # numpy.float64 likewise
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy, without importing it here
        return plain(value.tolist())
    return repr(value)
