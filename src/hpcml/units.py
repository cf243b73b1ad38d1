"""Parse and format sizes, durations and counts. 1 GB is 1024**3 bytes, as in PBS."""

from __future__ import annotations

import re

from hpcml.errors import ConfigError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
# pbs_resources(7B): an integer with an optional k, m, g, t or p and an optional b. Dask's KiB is
# accepted as well.
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([kmgtp]?)i?b?\s*", re.IGNORECASE | re.ASCII)

# Nine digits of hours are more than any scheduler allows.
_WALLTIME = re.compile(r"\s*(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9})\s*", re.ASCII)


def parse_size(text: str | int, key: str = "size") -> int:
    """Parse a size in PBS's notation.

    Parameters
    ----------
    text : str or int
        For example ``4GB``, ``512mb``, ``1.5g``; a bare number is bytes.
    key : str
        Config key to name in the error message.

    Returns
    -------
    int
        Number of bytes.

    Raises
    ------
    ConfigError
        If the text is not a size.

    Examples
    --------
    >>> parse_size("4GB"), parse_size("512mb"), parse_size("1.5g"), parse_size(4096)
    (4294967296, 536870912, 1610612736, 4096)
    """
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"{key}={text}: not a size", "write it as PBS does, for example 4GB or 512MB")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def pbs_size(size: int) -> str:
    """Render a size for PBS, in the largest unit that needs no fraction, rounded up to whole KB.

    >>> pbs_size(190 * 1024**3), pbs_size(1536 * 1024**2), pbs_size(1000)
    ('190GB', '1536MB', '1KB')
    """
    kilobytes = -(-size // 1024)
    for power, unit in ((3, "TB"), (2, "GB"), (1, "MB")):
        if kilobytes and kilobytes % 1024**power == 0:
            return f"{kilobytes // 1024**power}{unit}"
    return f"{kilobytes}KB"


def parse_walltime(text: str | int, key: str = "walltime") -> int:
    """Parse a duration in PBS's notation, ``[[HH:]MM:]SS``.

    Parameters
    ----------
    text : str or int
        For example ``02:00:00`` or ``90:00``; a bare number is seconds. YAML reads an unquoted
        24:00:00 as the number 86400, which therefore gives the intended result.
    key : str
        Config key to name in the error message.

    Returns
    -------
    int
        Seconds.

    Raises
    ------
    ConfigError
        If the text is not a duration, or the duration is zero.

    Examples
    --------
    >>> parse_walltime("02:00:00"), parse_walltime("90:00"), parse_walltime("100:00:00"), parse_walltime(86400)
    (7200, 5400, 360000, 86400)
    """
    match = _WALLTIME.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"{key}={text}: not a time", "write it as PBS does: 02:00:00 is two hours, 600 ten minutes")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total == 0:
        raise ConfigError(f"{key}={text}: a job needs more than zero seconds", f"for example {key}=01:00:00")
    return total


def format_walltime(seconds: int) -> str:
    """Render a duration as PBS does.

    >>> format_walltime(7200), format_walltime(360062)
    ('02:00:00', '100:01:02')
    """
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def format_size(size: float) -> str:
    """Render a number of bytes with three significant digits.

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
    """Render a duration for people.

    >>> format_seconds(0.42), format_seconds(75), format_seconds(3 * 3600 + 62)
    ('0.4 s', '1:15', '3:01:02')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(number: float, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun in the singular or plural.

    Parameters
    ----------
    plural : str or None
        The plural, unless it is the noun with an ``s``.

    Examples
    --------
    >>> count(1, "worker"), count(0, "worker"), count(2, "batch", "batches")
    ('1 worker', '0 workers', '2 batches')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
