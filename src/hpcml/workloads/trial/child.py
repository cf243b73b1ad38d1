"""A process that fits one candidate at a time, with limits on memory and time."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from types import TracebackType
from typing import Any, Self

import cloudpickle

from hpcml.errors import ConfigError, printable
from hpcml.units import format_size
from hpcml.upstream.joblib import start_process

# Limits of the process, of its start with all imports, and of one fit.
_MEMORY, _START_S, _LONGEST_S = 4 * 1024**3, 60, 60

# Texts of errors that the limit on memory may cause: C++ libraries throw bad_alloc, or abort.
_OUT_OF_MEMORY = re.compile(r"memory|bad[ _]alloc", re.I)
_KILLED = re.compile(r"SIGABRT|SIGKILL")

# Seconds between two looks at whether the parent lives.
_LOOK_S = 1.0

# The fit and its samples, in the child.
_loaded: Any = None


class Stopped(Exception):  # noqa: N818  # not an error of the model
    """Raised if a fit exceeds a limit, or no process can be started."""


class Child:
    """A process with the samples of a trial; a process that dies is replaced.

    Parameters
    ----------
    fit : callable
        See :class:`hpcml.workloads.trial.trial.Trial`.
    X, y : samples and array
    """

    def __init__(self, fit: Callable[[Any, Any, Mapping[str, Any]], None], X: Any, y: Any) -> None:
        try:
            self._payload = cloudpickle.dumps((fit, X, y))
        except Exception as error:
            raise ConfigError(
                f"the model cannot be sent to another process: {printable(f'{type(error).__name__}: {error}')}",
                "a class or function that it uses is better defined in a file than in another function",
            ) from error
        self._process: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stop()

    def fit(self, candidate: Mapping[str, Any]) -> str | None:
        """Fit a candidate; return the error, or None if there is none.

        Raises
        ------
        Stopped
            If it takes too long or too much memory.
        """
        try:
            payload = cloudpickle.dumps(candidate)
        except Exception as error:
            return printable(f"it cannot be sent to another process: {type(error).__name__}: {error}")
        try:
            self._start()
            found: str | None = self._process.submit(_fit, payload).result(timeout=_LONGEST_S)
        except TimeoutError:
            raise Stopped(f"a fit took more than {_LONGEST_S} seconds") from None
        except MemoryError:
            raise Stopped(f"a fit needs more than {format_size(_MEMORY)}") from None
        except BrokenExecutor as error:
            self._stop()
            if _KILLED.search(str(error)):
                raise Stopped(f"a fit was killed, probably beyond {format_size(_MEMORY)}") from None
            return "its process died"
        if found is not None and _OUT_OF_MEMORY.search(found):
            raise Stopped(f"a fit needs more than {format_size(_MEMORY)}: {found}")
        return found

    def _start(self) -> None:
        if self._process is not None:
            return
        try:
            self._process = start_process(_limit, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
            self._process.submit(_load, self._payload).result(timeout=_START_S)
        except (OSError, BrokenExecutor) as error:  # for example without shared memory in /dev/shm
            self._stop()
            raise Stopped(f"its process did not start: {printable(repr(error))}") from error

    def _stop(self) -> None:
        if self._process is not None:
            self._process.shutdown(kill_workers=True)
            self._process = None


def _limit() -> None:
    """Limit the memory of this process, and hide the output of fits."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _load(payload: bytes) -> None:
    global _loaded  # noqa: PLW0603  # A process has no other place for what later calls need.
    try:
        _loaded = cloudpickle.loads(payload)
    except Exception as error:
        _loaded = error


def _fit(candidate: bytes) -> str | None:
    try:
        if isinstance(_loaded, Exception):
            raise _loaded
        fit, X, y = _loaded
        fit(X, y, cloudpickle.loads(candidate))
    except MemoryError:
        raise
    except BaseException as error:
        return printable(f"{type(error).__name__}: {error}")
    return None
