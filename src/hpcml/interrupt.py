"""Signals: SIGINT, SIGTERM and SIGHUP end a run in order, and never in the middle of a write."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from hpcml.errors import Cancelled

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """Process-wide, because signals are."""

    depth = 0
    pending: int | None = None
    cancelled = False


def _handle(signum: int, _frame: FrameType | None) -> None:
    if _State.cancelled:
        # The run is already closing down, and every step of that has a deadline: a second Ctrl-C must not cut it short
        # and leave workers behind.
        return
    if _State.depth:
        _State.pending = _State.pending or signum
        return
    _State.cancelled = True
    raise Cancelled(signum)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into :class:`Cancelled` in the main thread; put the old handlers back at the end.

    A signal that was ignored from the start stays so: ``nohup`` ignores SIGHUP for a reason.
    """
    old = {s: signal.getsignal(s) for s in _SIGNALS}
    _State.depth, _State.pending, _State.cancelled = 0, None, False
    for signum, handler in old.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, _handle)
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back while something is done that must not stop half-way; raise :class:`Cancelled` after it."""
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
    pending = _State.pending
    if pending is not None and not _State.depth and not _State.cancelled:
        _State.pending = None
        _State.cancelled = True
        raise Cancelled(pending)


def settle() -> None:
    """Say that the run has ended: from here on signals change nothing."""
    _State.cancelled = True


@contextlib.contextmanager
def children_ignore_sigint() -> Iterator[None]:
    """Block SIGINT in threads started inside, and so in the processes that those start.

    A terminal sends Ctrl-C to the whole process group. Workers that get it die and are restarted by their nannies while
    the head is closing them; the head alone has to decide. In the calling thread the signal stays pending meanwhile.
    """
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
