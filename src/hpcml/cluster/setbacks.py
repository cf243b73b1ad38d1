"""Delay submissions after jobs that fail as soon as they start.

A broken node fails every job at once and is therefore always free, so replacements are placed there
again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# A job that fails within this many seconds has failed at once.
AT_ONCE = 60.0

# The number of consecutive failures after which submissions are delayed, the first delay in
# seconds, which doubles each time, and its maximum.
_IN_A_ROW, _FIRST, _LONGEST = 2, 30.0, 300.0


class Setbacks:
    """Count consecutive failures, and failures per node.

    All times are seconds of the same clock.

    Attributes
    ----------
    last : float
        Time of the last failure; minus infinity if there was none.
    """

    def __init__(self) -> None:
        self.last = float("-inf")
        self._row = 0
        self._nodes: Counter[str] = Counter()

    def add(self, nodes: Sequence[str], now: float) -> None:
        """Count a job that failed at once."""
        self._row += 1
        self._nodes.update(nodes)
        self.last = now

    def end(self) -> None:
        """Reset the count, because a job that started later works."""
        self._row = 0

    @property
    def repeated(self) -> bool:
        """Whether the limit of consecutive failures is reached; then one job is tried at a time."""
        return self._row >= _IN_A_ROW

    def wait(self, now: float) -> float:
        """Return the seconds until the next job may be submitted."""
        if not self.repeated:
            return 0.0
        pause = min(_LONGEST, _FIRST * 2.0 ** min(20, self._row - _IN_A_ROW))
        return max(0.0, self.last + pause - now)

    def __str__(self) -> str:
        nodes = ", ".join(f"{count} on {node}" for node, count in self._nodes.most_common(3))
        return f"{self._row} jobs in a row failed at once" + (f" ({nodes} so far)" if nodes else "")
