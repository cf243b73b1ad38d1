"""The units of one call of a task pool: waiting, in flight, or set aside because workers died."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from distributed import CancelledError

from hpcml.errors import HpcmlError
from hpcml.upstream.distributed import CompletedFutures
from hpcml.workloads.engine.recomputable import died, lacks_input, renew
from hpcml.workloads.engine.window import RECOUNT, Meter

if TYPE_CHECKING:
    from distributed import Future

    from hpcml.workloads.engine.task_pool import TaskPool, Unit

# The most units in a message: workers start on the first while the head prepares the next.
_MESSAGE = 500

# Seconds to wait for finished units before polling for new ones to send.
_AGAIN = 0.02


class Dispatch:
    """Send units as fast as the workers can use them, and again if their workers died.

    Parameters
    ----------
    pool : TaskPool
    function, todo, split
        See :meth:`TaskPool.each`.

    Attributes
    ----------
    in_flight : dict of Future to Unit
    """

    def __init__(
        self,
        pool: TaskPool,
        function: Callable[..., Any],
        todo: Iterable[Unit | None],
        split: Callable[[Unit], Sequence[Unit]] | None,
    ) -> None:
        self._pool, self._function, self._split = pool, function, split
        self._waiting: Iterator[Unit | None] = iter(todo)
        self.in_flight: dict[Future[Any], Unit] = {}
        # Units that Dask gave up on: the inputs of some are lost; others may have killed their
        # workers, and run alone.
        self._without_inputs: list[Unit] = []
        self._suspects: deque[Unit] = deque()
        self._alone: Future[Any] | None = None
        self._completed = CompletedFutures(pool.client)
        self._meter = Meter()

    def send(self) -> float | None:
        """Send units, and return how many seconds to wait for results; None if all are finished."""
        if self._without_inputs and not self.in_flight:
            self._recompute_inputs()
        # All other units may need the same lost inputs.
        room = 0 if self._without_inputs else self._pool.window.room(len(self.in_flight))
        fresh, later = _next(self._waiting, min(room, _MESSAGE))
        if fresh:
            self._add(self._pool.send(self._function, fresh), fresh)
        if self._suspects and not self.in_flight:  # If its worker dies now, it is the cause.
            unit = self._suspects.popleft()
            self._alone = self._pool.submit(self._function, *unit[1])
            self._add([self._alone], [unit])
        if not self.in_flight and not later:
            return None
        # Wait briefly, so that new workers get units soon, and not at all if more units can be
        # sent.
        if len(fresh) == _MESSAGE and room > _MESSAGE:
            return 0.0
        return _AGAIN if later else RECOUNT

    def _add(self, futures: Sequence[Future[Any]], units: Sequence[Unit]) -> None:
        self.in_flight.update(zip(futures, units, strict=True))
        self._completed.add(futures)

    def _recompute_inputs(self) -> None:
        """Recompute lost inputs and queue their units; those with inputs that fail again become suspects."""
        ready: list[Unit] = []
        for unit in self._without_inputs:
            (ready if renew(unit[1]) else self._suspects).append(unit)
        self._waiting, self._without_inputs = itertools.chain(ready, self._waiting), []

    def take(self, patience: float) -> list[Future[Any]]:
        """Wait up to ``patience`` seconds until some futures have ended, and return those.

        Raises
        ------
        CancelledError
            If the client was closed, so that no future will end any more.
        """
        window = self._pool.window
        found = self._completed.take(patience, window.collection_time(len(self.in_flight)))
        if not found and self._pool.client.status != "running":
            raise CancelledError("the client was closed")
        window.rate = self._meter.count(len(found))
        return found

    def repeat(self, future: Future[Any]) -> Unit | None:
        """Queue a unit that has no result again, or its parts; return it if it has failed for good."""
        if future.status in {"pending", "lost"}:  # Its result was lost with a worker.
            self._completed.add([future])
            return None
        unit = self.in_flight.pop(future)
        if died(future) and future is not self._alone:
            (self._without_inputs if lacks_input(unit[1]) else self._suspects).append(unit)
        elif parts := self._parts(unit, future):
            self._waiting = itertools.chain(parts, self._waiting)
        else:
            return unit
        return None

    def _parts(self, unit: Unit, future: Future[Any]) -> Sequence[Unit]:
        if self._split is None or future.status != "error" or isinstance(future.exception(), HpcmlError):
            return ()
        return self._split(unit)


def _next(waiting: Iterator[Unit | None], count: int) -> tuple[list[Unit], bool]:
    """Take up to ``count`` units; return also whether there are none now but may be some later."""
    found: list[Unit] = []
    for unit in itertools.islice(waiting, count):
        if unit is None:
            return found, True
        found.append(unit)
    return found, False
