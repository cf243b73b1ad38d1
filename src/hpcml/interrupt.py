"""Signals: SIGINT, SIGTERM and SIGHUP end a run in order, and never in the middle of a write.

So does SIGALRM, the alarm that a head sets for itself before its job's walltime ends.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from hpcml.errors import Cancelled, Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class _State:
    """Process-wide, because signals are."""

    installed = False
    holds = 0
    pending: int | None = None
    closing = False
    hurried = False


def _handle(signum: int, _frame: FrameType | None) -> None:
    _State.hurried = _State.hurried or signum == signal.SIGTERM
    if _State.closing:
        # Every step of closing down has a deadline: a second Ctrl-C must not cut it short and leave workers behind.
        return
    if _State.holds:
        _State.pending = _State.pending or signum
        return
    raise _error(signum)


def _error(signum: int) -> Cancelled:
    return Interrupted(signum) if signum == signal.SIGALRM else Cancelled(signum)


@contextlib.contextmanager
def installed() -> Iterator[bool]:
    """Turn SIGINT, SIGTERM and SIGHUP into :class:`Cancelled` in the main thread; put the old handlers back at the end.

    A signal that was ignored from the start stays so: ``nohup`` ignores SIGHUP for a reason.

    Yields
    ------
    bool
        False where nothing was done: they are installed already, or this is another thread, which gets no signals.
    """
    if _State.installed or threading.current_thread() is not threading.main_thread():
        yield False
        return
    old = {s: signal.getsignal(s) for s in _SIGNALS}
    _State.installed, _State.holds, _State.pending, _State.closing = True, 0, None, False
    for signum, handler in old.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, _handle)
    try:
        yield True
    finally:
        _State.installed = False
        for signum, handler in old.items():
            signal.signal(signum, handler)


def hold() -> None:
    """Hold signals back until :func:`release`."""
    _State.holds += 1


def release() -> None:
    """Raise :class:`Cancelled` if a signal came meanwhile, unless somebody else holds them back too."""
    _State.holds -= 1
    if _State.pending is not None and not _State.holds and not _State.closing:
        pending, _State.pending = _State.pending, None
        raise _error(pending)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back while something is done that must not stop half-way."""
    hold()
    try:
        yield
    except BaseException:
        _State.holds -= 1  # what went wrong matters more than the signal
        raise
    release()


def closing() -> None:
    """Say that the run is closing down or has ended: from here on signals change nothing."""
    _State.closing = True


def reopen() -> None:
    """Say that a run begins: signals count again."""
    _State.closing, _State.pending, _State.hurried = False, None, False


def hurried() -> bool:
    """Tell whether SIGTERM has come: a job that PBS has told to end is killed 10 seconds later."""
    return _State.hurried


@contextlib.contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Raise :class:`Interrupted` in the main thread if the block takes longer; None: never."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def children_ignore_terminal() -> Iterator[None]:
    """Block SIGINT and SIGHUP in threads and processes started inside, and in those that they start.

    A terminal sends Ctrl-C, and a hang-up, to the whole process group. Workers that get it die and are restarted by
    their nannies while the head is closing them; the head alone has to decide. In the calling thread the signals stay
    pending meanwhile.
    """
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
