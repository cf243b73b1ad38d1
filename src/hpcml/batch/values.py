"""Values as schedulers write them: texts, whole numbers, sizes and times; what cannot be read is None."""

from __future__ import annotations

import json
import re
import time

from hpcml.errors import ConfigError
from hpcml.units import parse_size, parse_walltime


def as_text(value: object) -> str:
    """Undo the types that ``-F json`` puts on values: it writes the string true as a boolean, 007 as a number.

    >>> as_text("1gb"), as_text(2), as_text(True), as_text(None)
    ('1gb', '2', 'true', '')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def as_integer(value: object) -> int | None:
    """Read a whole number; None if it is none.

    >>> as_integer(-29), as_integer("271"), as_integer("two"), as_integer(True)
    (-29, 271, None, None)
    """
    return int(text) if re.fullmatch(r"-?\d{1,18}", text := as_text(value).strip(), re.ASCII) else None


def as_time(text: str, form: str) -> float | None:
    """Read a local time; None if it is none.

    >>> as_time("N/A", "%Y-%m-%dT%H:%M:%S")
    """
    try:
        return time.mktime(time.strptime(text, form))
    except (ValueError, OverflowError):
        return None


def as_bytes(value: object) -> int | None:
    """Read a size in PBS's notation; None if it is none.

    >>> as_bytes("1953792kb"), as_bytes("4294967296b"), as_bytes("")
    (2000683008, 4294967296, None)
    """
    try:
        return parse_size(as_text(value))
    except ConfigError:
        return None


def as_seconds(value: object) -> int | None:
    """Read a time in PBS's notation; None if it is none.

    >>> as_seconds("00:05:00"), as_seconds("00:00:00"), as_seconds("")
    (300, 0, None)
    """
    text = as_text(value).strip()
    if re.fullmatch("[0:]+", text):  # what has not been used yet; as a request it would be an error
        return 0
    try:
        return parse_walltime(text)
    except ConfigError:
        return None
