"""What hpcml raises.

::

    HpcmlError                  exit code 1
    |- ConfigError              exit code 2: the request is wrong; nothing ran
    |  |- DataError             the data cannot be read or does not suit the model
    |  `- ScratchError          the run directory cannot be made
    |- ClusterStartError        the workers did not arrive
    |- WorkloadError            the workload failed; may carry what it had computed
    `- ResultsError             results could not be written where they belong
    Cancelled (BaseException)   SIGINT, SIGTERM or SIGHUP; exit code 128 + signal
    `- Interrupted              the job that the head is in is about to end; exit code 75
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class HpcmlError(Exception):
    """Root of all errors that hpcml raises.

    Parameters
    ----------
    message : str
        What happened, with the values.
    *hints : str
        What to type or look at next, one line each.
    """

    exit_code = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints
        # The run's log file; set by the launcher once there is one.
        self.log: Path | None = None

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.hints])


class ConfigError(HpcmlError):
    """Raised when a request is wrong, before any cluster starts."""

    exit_code = 2


class DataError(ConfigError):
    """Raised when data cannot be read, or does not suit the model."""


class ScratchError(ConfigError):
    """Raised when the run directory cannot be made."""


class ClusterStartError(HpcmlError):
    """Raised when the workers do not arrive."""


class WorkloadError(HpcmlError):
    """Raised when a workload fails.

    Parameters
    ----------
    outcome : Outcome or None
        What was computed before the failure; the launcher writes it, so that it is not lost.
    """

    def __init__(self, message: str, *hints: str, outcome: Any = None) -> None:
        super().__init__(message, *hints)
        self.outcome = outcome


class ResultsError(HpcmlError):
    """Raised when results cannot be written where they belong."""


class Cancelled(BaseException):
    """Raised in the main thread by SIGINT, SIGTERM and SIGHUP; a BaseException, so that no ``except Exception`` of a
    library swallows it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        # As HpcmlError.log.
        self.log: Path | None = None

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class Interrupted(Cancelled):
    """Raised in the main thread by SIGALRM: the job that the head is in is about to reach its walltime."""

    @property
    def exit_code(self) -> int:
        return 75  # EX_TEMPFAIL of sysexits.h: try again


def nearest(word: str, choices: Iterable[str], most: int = 3) -> str:
    """Name the choices that look most like a word.

    >>> nearest("gama", ["gamma", "degree", "C"])
    'nearest: gamma'
    >>> nearest("zzz", ["gamma", "C"])
    'choices: C, gamma'
    >>> nearest("x", [])
    'there are no choices'
    """
    names = sorted({str(choice) for choice in choices})
    if not names:
        return "there are no choices"
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(word.casefold(), folded, n=most, cutoff=0.6)
    if close:
        return "nearest: " + ", ".join(folded[name] for name in close)
    return "choices: " + ", ".join(names)


def check_whole(key: str, value: Any, *, least: int = 1, none: bool = False) -> None:
    """Refuse what is no whole number, or too small a one.

    Parameters
    ----------
    key : str
        What the user would type, for the message.
    none : bool
        Whether None will do.

    Raises
    ------
    ConfigError
    """
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{key}={value}: must be a whole number, {least} or more")


def check_flag(key: str, value: Any) -> None:
    """Refuse what is neither true nor false.

    Raises
    ------
    ConfigError
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value}: must be true or false")


def check_share(key: str, value: Any) -> None:
    """Refuse what is no share of the samples that leaves some: None, or from 0 to below 1.

    Raises
    ------
    ConfigError
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigError(f"{key}={value}: must lie between 0 and 1, for example 0.25")
