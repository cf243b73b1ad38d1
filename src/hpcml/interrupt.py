"""Turn SIGINT, SIGTERM and SIGHUP into exceptions, but never during a write.

SIGALRM is handled as well: a head sets an alarm before the walltime of its job ends.
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
    """State of the process, since signals are process-wide."""

    installed = False
    holds = 0
    pending: int | None = None
    # The last signal raised in the main thread.
    raised: int | None = None
    closing = False
    hurried = False


def _handle(signum: int, _frame: FrameType | None) -> None:
    _State.hurried = _State.hurried or signum == signal.SIGTERM
    if _State.closing:
        # All steps of closing have deadlines. A second Ctrl-C must not leave workers behind.
        return
    if _State.holds:
        _State.pending = _State.pending or signum
        return
    raise _error(signum)


def _error(signum: int) -> Cancelled:
    _State.raised = signum
    return Interrupted(signum) if signum == signal.SIGALRM else Cancelled(signum)


def behind(error: BaseException) -> BaseException:
    """Return the cancellation behind an error: an import in C turns it into an ImportError."""
    if _State.raised is None or not isinstance(error, Exception):
        return error
    return _error(_State.raised)


@contextlib.contextmanager
def installed() -> Iterator[bool]:
    """Raise :class:`Cancelled` in the main thread for SIGINT, SIGTERM and SIGHUP.

    Signals that were ignored from the start stay ignored: ``nohup`` ignores SIGHUP on purpose.

    Yields
    ------
    bool
        False if nothing was installed: the handlers exist already, or this is not the main thread.
    """
    if _State.installed or threading.current_thread() is not threading.main_thread():
        yield False
        return
    old = {s: signal.getsignal(s) for s in _SIGNALS}
    _State.installed, _State.holds, _State.pending, _State.raised, _State.closing = True, 0, None, None, False
    for signum, handler in old.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, _handle)
    try:
        yield True
    except Exception as error:
        cancelled = behind(error)
        if cancelled is error:
            raise
        raise cancelled from error
    finally:
        _State.installed = False
        for signum, handler in old.items():
            signal.signal(signum, handler)


def hold() -> None:
    """Defer signals until :func:`release`."""
    _State.holds += 1


def release() -> None:
    """Raise :class:`Cancelled` for a deferred signal, unless others still defer it."""
    _State.holds -= 1
    if _State.pending is not None and not _State.holds and not _State.closing:
        pending, _State.pending = _State.pending, None
        raise _error(pending)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defer signals during an operation that must not stop half-way."""
    hold()
    try:
        yield
    except BaseException:
        _State.holds -= 1  # The error is more important than the signal.
        raise
    release()


def closing() -> None:
    """Ignore signals from now on, because the run is closing down or has ended."""
    _State.closing = True


def reopen() -> None:
    """Handle signals again, because a run starts."""
    _State.closing, _State.pending, _State.raised, _State.hurried = False, None, None, False


def hurried() -> bool:
    """Return whether SIGTERM has arrived: PBS kills the job 10 seconds after it."""
    return _State.hurried


@contextlib.contextmanager
def alarm(seconds: float | None) -> Iterator[None]:
    """Raise :class:`Interrupted` if the block takes longer; None for no limit."""
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
    """Block SIGINT and SIGHUP in threads and processes started inside, and in their children.

    A terminal sends Ctrl-C and a hang-up to the whole process group. Workers would die and be
    restarted by their nannies while the head closes them, so only the head may react. In the
    calling thread the signals stay pending meanwhile.
    """
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
