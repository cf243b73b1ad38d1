"""Sizes and times as text. PBS's notation: 1 GB is 1024**3 bytes, as in ``-l mem=190GB``."""

from __future__ import annotations

import re

from hpcml.errors import ConfigError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
# pbs_resources(7B): an integer with an optional k, m, g, t or p and an optional b; dask's KiB is accepted as well.
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?\s*", re.IGNORECASE)


def parse_size(text: str | int, key: str = "size") -> int:
    """Read a size in PBS's notation.

    Parameters
    ----------
    text : str or int
        For example ``4GB``, ``512mb``, ``1.5g``; a bare number is bytes.
    key : str
        The config key that the text came from, for the message.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ConfigError
        If the text is no size.

    Examples
    --------
    >>> parse_size("4GB"), parse_size("512mb"), parse_size("1.5g"), parse_size(4096)
    (4294967296, 536870912, 1610612736, 4096)
    """
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"{key}={text}: not a size", "write it as PBS does, for example 4GB or 512MB")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def format_size(size: float) -> str:
    """Show bytes in the largest unit that keeps three digits.

    >>> format_size(0), format_size(1536), format_size(190 * 1024**3)
    ('0B', '1.5KB', '190GB')
    """
    unit = "B"
    for unit in ("B", "KB", "MB", "GB", "TB", "PB"):
        if abs(size) < 1000 or unit == "PB":
            break
        size /= 1024
    return f"{size:.3g}{unit}"


def format_seconds(seconds: float) -> str:
    """Show a duration.

    >>> format_seconds(0.42), format_seconds(75), format_seconds(3 * 3600 + 62)
    ('0.4 s', '1:15', '3:01:02')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
