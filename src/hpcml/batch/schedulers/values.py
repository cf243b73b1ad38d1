"""Parse values in the output of schedulers: text, integers, sizes and times; None if invalid."""

from __future__ import annotations

import json
import re
import time

from hpcml.errors import ConfigError
from hpcml.units import parse_size, parse_walltime


def as_text(value: object) -> str:
    """Convert a JSON value to text: ``-F json`` writes the string 007 as a number.

    >>> as_text("1gb"), as_text(2), as_text(True), as_text(None)
    ('1gb', '2', 'true', '')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def as_integer(value: object) -> int | None:
    """Parse an integer; return None if it is invalid.

    >>> as_integer(-29), as_integer("271"), as_integer("two"), as_integer(True)
    (-29, 271, None, None)
    """
    return int(text) if re.fullmatch(r"-?\d{1,18}", text := as_text(value).strip(), re.ASCII) else None


def as_time(text: str, form: str) -> float | None:
    """Parse a local time; return None if it is invalid.

    >>> as_time("N/A", "%Y-%m-%dT%H:%M:%S")
    """
    try:
        return time.mktime(time.strptime(text, form))
    except (ValueError, OverflowError):
        return None


def as_bytes(value: object) -> int | None:
    """Parse a size in PBS's notation; return None if it is invalid.

    >>> as_bytes("1953792kb"), as_bytes("4294967296b"), as_bytes("")
    (2000683008, 4294967296, None)
    """
    try:
        return parse_size(as_text(value))
    except ConfigError:
        return None


def as_seconds(value: object) -> int | None:
    """Parse a duration in PBS's notation; return None if it is invalid.

    >>> as_seconds("00:05:00"), as_seconds("00:00:00"), as_seconds("")
    (300, 0, None)
    """
    text = as_text(value).strip()
    if re.fullmatch("[0:]+", text):  # Zero is valid here, for a resource that has not been used yet.
        return 0
    try:
        return parse_walltime(text)
    except ConfigError:
        return None
