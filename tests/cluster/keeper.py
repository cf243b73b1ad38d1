"""Start a daemon under a keeper: a parent process that can stop everything the daemon starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

# Daemons leave their parent and become children of init, unless another process is a subreaper, as
# the keeper is. It kills them all on SIGTERM, and also when the process that runs the tests dies.
_KEEPER = """
import contextlib, ctypes, os, psutil, signal, sys

def end(*_):
    while found := psutil.Process().children(recursive=True):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            os.wait()
    os._exit(0)

parent, *command = sys.argv[1:]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
signal.signal(signal.SIGTERM, end)
assert ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) == 0
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
if os.getppid() == int(parent):
    os.spawnvp(os.P_NOWAIT, command[0], command)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
"""


class Keeper:
    """Start a command under a keeper process.

    Parameters
    ----------
    command : sequence of str
    prefix : sequence of str
        Precedes the keeper itself, to start it as another user.
    log : Path
        Receives the command's output.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        prefix: Sequence[str] = (),
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-c", _KEEPER, str(os.getpid()), *command],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the keeper
            )

    @property
    def ended(self) -> bool:
        """Whether the command and all its descendants have ended."""
        return self._process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """Return the keeper and all its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def children(self) -> list[psutil.Process]:
        """Return the child processes of the keeper."""
        return psutil.Process(self._process.pid).children()

    def terminate(self) -> None:
        """Kill all descendants of the keeper; :meth:`wait` returns when they are gone."""
        self._process.terminate()

    def wait(self, timeout: float) -> None:
        """Wait until all processes have ended."""
        self._process.wait(timeout)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 400) -> None:
    """Wait until a condition holds.

    Raises
    ------
    AssertionError
        If it does not hold in time; the message names the condition.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.1)
