"""Exceptions raised by hpcml.

::

    HpcmlError                  exit code 1
    |- ConfigError              exit code 2: invalid request; nothing ran
    |  |- DataError             data is unreadable or does not suit the model
    |  `- ScratchError          the run directory cannot be created
    |- ClusterStartError        workers did not start
    |- WorkloadError            the workload failed; may carry partial results
    `- ResultsError             results could not be written to the run directory
    Cancelled (BaseException)   SIGINT, SIGTERM or SIGHUP; exit code 128 + signal
    `- Interrupted              the head's batch job reaches its walltime; exit code 75
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class HpcmlError(Exception):
    """Base class of hpcml's exceptions.

    Parameters
    ----------
    message : str
        What happened, with the values.
    *hints : str
        What to type or look at next, one line per hint.
    """

    exit_code = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints: tuple[str, ...] = hints
        # Log file of the run, set by the launcher.
        self.log: Path | None = None

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.hints])


class ConfigError(HpcmlError):
    """Raised for an invalid request, before a cluster starts."""

    exit_code = 2


class DataError(ConfigError):
    """Raised when data is unreadable or does not suit the model."""


class ScratchError(ConfigError):
    """Raised when the run directory cannot be created."""


class ClusterStartError(HpcmlError):
    """Raised when the workers of a cluster do not start."""


class WorkloadError(HpcmlError):
    """Raised when a workload fails.

    Parameters
    ----------
    outcome : Outcome or None
        Partial results, which the launcher saves.
    """

    def __init__(self, message: str, *hints: str, outcome: Any = None) -> None:
        super().__init__(message, *hints)
        self.outcome = outcome


class ResultsError(HpcmlError):
    """Raised when results cannot be written to the run directory."""


class Cancelled(BaseException):
    """Raised in the main thread by SIGINT, SIGTERM and SIGHUP.

    A BaseException, so that ``except Exception`` in a library cannot swallow it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        # Log file of the run, as in HpcmlError.
        self.log: Path | None = None
        # Ids of worker jobs that could not be deleted.
        self.left: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class Interrupted(Cancelled):
    """Raised in the main thread by SIGALRM, before the head's batch job is killed."""

    @property
    def exit_code(self) -> int:
        return 75  # EX_TEMPFAIL of sysexits.h: try again


# The most choices that a message lists.
_MOST_CHOICES = 60


def nearest(word: str, choices: Iterable[str], most: int = 3) -> str:
    """Suggest the choices closest to a word.

    >>> nearest("gama", ["gamma", "degree", "C"])
    "did you mean 'gamma'?"
    >>> nearest("norm", ["normal", "normalsr"])
    "did you mean 'normal' or 'normalsr'?"
    >>> nearest("zzz", ["gamma", "C"])
    'choices: C, gamma'
    >>> nearest("C", ["svc__C", "svc__gamma"])
    "did you mean 'svc__C'?"
    >>> nearest("x", [])
    'there are no choices'
    """
    names = sorted({str(choice) for choice in choices})
    if not names:
        return "there are no choices"
    folded = {name.casefold(): name for name in names}
    parts = [name for name in folded if name.endswith(f"__{word.casefold()}")]  # a parameter of a pipeline's step
    close = parts[:most] or difflib.get_close_matches(word.casefold(), folded, n=most, cutoff=0.6)
    if close:
        *others, last = [f"'{folded[name]}'" for name in close]
        return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
    more = f" and {len(names) - _MOST_CHOICES} more" if len(names) > _MOST_CHOICES else ""
    return "choices: " + ", ".join(names[:_MOST_CHOICES]) + more


def printable(text: Any, most: int = 300) -> str:
    r"""Return a library's message in one line without control characters, truncated if long.

    >>> printable("a\x1b[31m\nb")
    'a?[31m b'
    """
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= most else f"{line[:most]}..."
