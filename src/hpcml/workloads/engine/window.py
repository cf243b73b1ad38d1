"""The window of a task pool: how many units may be in flight."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

# Units in flight per worker thread: one computes and the others wait in the scheduler, so that
# workers do not wait for the head. Fewer if an argument is larger than LARGE bytes, because the
# head holds the arguments. If units are short, as many as finish in _HORIZON seconds.
_AHEAD, _AHEAD_LARGE, LARGE, _HORIZON = 6, 2, 100_000, 0.5

# The smallest share of those units to send together: one message to the scheduler takes as long as
# several units in it.
_TOGETHER = 1 / 8

# Seconds for which the count of threads and the measured rate stay valid.
RECOUNT = 1.0

# Seconds to collect finished units where more than _MANY finish per second; each collection costs a
# message to the workers.
_COLLECT, _MANY = 0.02, 100


class Window:
    """The number of units that may be in flight.

    Attributes
    ----------
    rate : float
        Units finished per second.
    large : bool
        Whether the arguments of a unit are large.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads, self._counted = 1, -RECOUNT
        self.rate, self.large = 0.0, False

    def room(self, in_flight: int) -> int:
        """Count the units that may be sent now; 0 while there is room for only a few."""
        now = time.monotonic()
        if now - self._counted >= RECOUNT:
            self._threads, self._counted = max(1, sum(self._client.nthreads().values())), now
        # One more, because Dask queues on the scheduler only if there are more than two tasks per
        # thread.
        most = max(_AHEAD * self._threads + 1, int(self.rate * _HORIZON))
        if self.large:
            most = _AHEAD_LARGE * self._threads + 1
        room = most - in_flight
        return room if room >= most * _TOGETHER else 0

    def collection_time(self, in_flight: int) -> float:
        """Return how long to collect finished units after the first, in seconds."""
        return _COLLECT if self.rate > _MANY and in_flight > self._threads else 0.0


class Meter:
    """Measure the number of units finished per second."""

    # Seconds before a rate counts, and before its measurement starts again.
    _LEAST, _MOST = 0.2, 2.0

    def __init__(self) -> None:
        self._since, self._counted, self._rate = time.monotonic(), 0, 0.0

    def count(self, done: int) -> float:
        """Count finished units; return the recent rate."""
        self._counted += done
        seconds = time.monotonic() - self._since
        if seconds >= self._LEAST:
            self._rate = self._counted / seconds
        if seconds >= self._MOST:
            self._since, self._counted = time.monotonic(), 0
        return self._rate
