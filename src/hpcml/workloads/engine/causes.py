"""Causes of errors, in words for the user and without Dask's task names."""

from __future__ import annotations

from distributed import CancelledError, KilledWorker

from hpcml.errors import HpcmlError

DIED = "every worker that tried it died, probably out of memory"


def cause(error: BaseException) -> str:
    """Return the cause of an error in one line; errors of other libraries keep their type."""
    if isinstance(error, HpcmlError):
        return error.message
    if isinstance(error, KilledWorker):
        return DIED
    if isinstance(error, CancelledError):
        return "the workers that had it are gone"
    return f"{type(error).__name__}: {error}"
