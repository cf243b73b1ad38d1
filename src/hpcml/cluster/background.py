"""A look at something every now and then, in the background."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

# How long a look that is under way may take to end, in seconds.
_CLOSE_TIMEOUT = 5


@contextlib.contextmanager
def looking(name: str, look: Callable[[], bool], pause: float) -> Iterator[None]:
    """Look again and again, in a thread, while the block runs and until a look says that it was the last.

    Parameters
    ----------
    look : callable
        True: it was the last. An error is logged, and it is looked again.
    pause : float
        Between two looks, in seconds.
    """
    end = threading.Event()

    def run() -> None:
        last = False
        while not last and not end.wait(pause):
            try:
                last = look()
            except Exception:
                if not end.is_set():  # else it is being closed under our hands
                    log.exception("%s failed; it is tried again", name)

    thread = threading.Thread(target=run, name=f"hpcml-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(timeout=_CLOSE_TIMEOUT)
