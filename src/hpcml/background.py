"""Waiting for a condition, and looking at something now and then in a thread."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

# How long a call that is under way may take to end, in seconds.
_CLOSE_TIMEOUT = 5


@contextlib.contextmanager
def looking(name: str, look: Callable[[], bool], pause: float) -> Iterator[None]:
    """Call a function repeatedly in a thread while the block runs.

    Parameters
    ----------
    name : str
        Of the thread, and for the log.
    look : callable
        Returns True to end the thread. An error is logged, and the function called again.
    pause : float
        Between two calls, in seconds.
    """
    end = threading.Event()

    def run() -> None:
        last = False
        while not last and not end.wait(pause):
            try:
                last = look()
            except Exception:
                if not end.is_set():  # else it is being closed under our hands
                    log.exception("%s failed; it is called again", name)

    thread = threading.Thread(target=run, name=f"hpcml-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(timeout=_CLOSE_TIMEOUT)


def wait_until(condition: Callable[[], bool], timeout: float, pause: float) -> bool:
    """Wait until a condition holds; return whether it does.

    Parameters
    ----------
    timeout, pause : float
        The longest wait, and the time between two looks, in seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
