"""The task pool: runs units of work on a cluster's workers and yields each result when it is ready.

It keeps as many units in flight as the workers can use.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import cloudpickle
import dask
from dask.sizeof import sizeof
from distributed import CancelledError, KilledWorker, wait

from hpcml.errors import HpcmlError, WorkloadError
from hpcml.upstream.distributed import CompletedFutures
from hpcml.workloads.base import Outcome, Units
from hpcml.workloads.engine.causes import DIED, cause

if TYPE_CHECKING:
    from distributed import Client, Future

# A unit: its key, which is the same whenever the same run is started again, and the arguments of
# its function.
Unit = tuple[str, tuple[Any, ...]]

# Units in flight per worker thread: one computes and the others wait in the scheduler, so that
# workers do not wait for the head. Fewer if an argument is larger than _LARGE bytes, because the
# head holds the arguments. If units are short, as many as finish in _HORIZON seconds.
_AHEAD, _AHEAD_LARGE, _LARGE, _HORIZON = 6, 2, 100_000, 0.5

# The smallest share of those units to send together: one message to the scheduler takes as long as
# several units in it.
_TOGETHER = 1 / 8

# The most units in a message: workers start on the first while the head prepares the next.
_MESSAGE = 500

# Values of up to this many bytes are sent with each unit, which costs no more than a task for the
# value.
_SMALL = 4000

# Seconds to wait for finished units before polling for new ones to send.
_AGAIN = 0.02

# Seconds for which the count of threads and the measured rate stay valid.
_RECOUNT = 1.0

# Seconds to collect finished units where more than _MANY finish per second; each collection costs a
# message to the workers.
_COLLECT, _MANY = 0.02, 100


class Recomputable:
    """The result of a task, used as an argument of other tasks, that can be recomputed.

    Dask recomputes it if the workers that hold it die, but gives up when two workers died computing
    it, whatever the cause.

    Attributes
    ----------
    future : Future
    """

    def __init__(
        self, pool: TaskPool, function: Callable[..., Any], args: tuple[Any, ...], future: Future[Any] | None = None
    ) -> None:
        self._pool, self._function, self._args = pool, function, args
        self.future: Future[Any] = pool.submit(function, *args) if future is None else future

    def renew(self) -> bool:
        """Recompute the result if Dask gave up on it, and wait; return whether it is available."""
        if not died(self.future):
            return True
        if not renew(self._args):
            return False
        self.future = self._pool.submit(self._function, *self._args)
        self._pool.wait_for([self.future])
        return not died(self.future)

    def spread(self) -> None:
        """Copy the result to all current workers, because Dask prefers workers with the data."""
        client = self._pool.client
        self._pool.wait_for([self.future])
        if self.future.status == "finished" and len(client.nthreads()) > 1:
            with contextlib.suppress(Exception):  # a worker was lost: units fetch the value
                client.replicate([self.future])

    def item(self, item: Any) -> Recomputable:
        """Return an item of the result, or a slice of them, that can be recomputed alone."""
        args = (item, self._function, *self._args)
        return Recomputable(self._pool, _item, args, self._pool.submit(operator.getitem, self, item))


def renew(args: Iterable[Any]) -> bool:
    """Recompute arguments that Dask gave up on, one by one; return whether all are available."""
    return all(arg.renew() for arg in args if isinstance(arg, Recomputable))


class TaskPool:
    """The workers of a run, for workloads of independent units.

    Parameters
    ----------
    client : Client
    units : Units
        Every finished unit is reported to :meth:`Units.finish`.
    """

    def __init__(self, client: Client, units: Units) -> None:
        self.client, self.units = client, units
        self._threads, self._counted = 1, -_RECOUNT
        # units finished per second
        self._rate = 0.0
        self._large = False

    def share(self, value: Any) -> Recomputable:
        """Send a value once, for use by many units; the workers copy it among themselves.

        It is the result of a task, so that it is recomputed if the workers that hold it die.
        """
        return self.make(_itself, value)

    def spread(self, value: Any) -> Any:
        """Send a value to all workers, for units that any of them may run.

        Returns
        -------
        Recomputable or object
            The value itself if it is small: it is sent with each unit.
        """
        if sizeof(value) <= _SMALL and len(cloudpickle.dumps(value)) <= _SMALL:
            return value
        shared = self.share(value)
        shared.spread()
        return shared

    def make(self, function: Callable[..., Any], *args: Any) -> Recomputable:
        """Compute a value on a worker and keep it there, for use by units."""
        return Recomputable(self, function, args)

    def call(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run one unit on some worker and return its result."""
        ((_, result),) = self.each(function, [(key, args)])
        return result

    def each(
        self,
        function: Callable[..., Any],
        todo: Iterable[Unit | None],
        *,
        failed: Callable[[str, str], Any] | None = None,
        split: Callable[[Unit], Sequence[Unit]] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Run units; yield their keys and results as they finish, in any order.

        Parameters
        ----------
        function : callable
            Called on a worker with a unit's arguments; each :class:`Recomputable` is replaced by
            its value.
        todo : iterable of (Unit or None)
            Consumed only as fast as the workers can use it, so it may be long. None: no unit is
            available now; ask again later.
        failed : callable or None
            Called with a unit's key and the last line of the traceback if the unit raises or kills
            its workers; returns a result to use instead. None: the first failure ends the whole
            call.
        split : callable or None
            Called with a unit that raises an error other than hpcml's or kills its workers; returns
            smaller units to run and report instead, or none if the unit cannot be split.

        Raises
        ------
        WorkloadError
            If a unit fails.
        """
        waiting: Iterator[Unit | None] = iter(todo)
        sent: dict[Future[Any], Unit] = {}
        suspects: deque[Unit] = deque()
        orphans: list[Unit] = []
        lone: Future[Any] | None = None
        ended = CompletedFutures(self.client)
        meter = _Meter()
        try:
            while True:
                # All other units may need the same lost inputs as the orphans.
                room = 0 if orphans else self._room(len(sent))
                fresh, again = _next(waiting, min(room, _MESSAGE))
                futures = self._send(function, fresh)
                sent.update(zip(futures, fresh, strict=True))
                ended.add(futures)
                if not sent and orphans:
                    waiting, orphans = itertools.chain(_reunited(orphans, suspects), waiting), []
                    continue
                if not sent and suspects:  # alone in flight: if its worker dies, it is the cause
                    unit = suspects.popleft()
                    lone = self.submit(function, *unit[1])
                    sent[lone] = unit
                    ended.add([lone])
                if not sent and not again:
                    return
                # Wait briefly, so that new workers get units soon, and not at all if more units can
                # be sent.
                more = len(fresh) == _MESSAGE and room > _MESSAGE
                done = self._take(ended, len(sent), 0.0 if more else _AGAIN if again else _RECOUNT)
                self._rate = meter.count(len(done))
                good = self._gathered(done)  # successes first, so that a failure does not lose them
                for future, result in good.items():
                    yield self._finish(sent.pop(future)[0], result)
                for future in [future for future in done if future not in good]:
                    if future.status in {"pending", "lost"}:  # its result was lost with a worker
                        ended.add([future])
                        continue
                    unit = sent.pop(future)
                    if died(future) and future is not lone:
                        (orphans if _lacks(unit) else suspects).append(unit)
                    elif smaller := _smaller(unit, future, split):
                        waiting = itertools.chain(smaller, waiting)
                    else:
                        yield self._finish(unit[0], self.result(future, unit[0], failed))
        finally:
            self._cancel(list(sent))

    def ordered(
        self,
        function: Callable[..., Any],
        todo: Iterable[Unit],
        so_far: Callable[[dict[int, Any]], Outcome] | None = None,
    ) -> dict[int, Any]:
        """Run units and return their results by their numbers, in the order of the units.

        Parameters
        ----------
        function, todo
            See :meth:`each`.
        so_far : callable or None
            Returns the outcome of the results so far, which it gets in the same form; becomes
            ``units.so_far``.

        Raises
        ------
        WorkloadError
            If a unit fails.
        """
        numbers: dict[str, int] = {}
        done: dict[int, Any] = {}

        def numbered() -> Iterator[Unit]:
            for number, unit in enumerate(todo):
                numbers[unit[0]] = number
                yield unit

        if so_far is not None:
            self.units.so_far = lambda: so_far(dict(sorted(done.copy().items())))
        for key, result in self.each(function, numbered()):
            done[numbers[key]] = result
        return dict(sorted(done.items()))

    def alone(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run a task that is not a unit, alone, so that it is the cause if its worker dies."""
        renew(args)
        return self.result(self.submit(function, *args), key)

    def submit(self, function: Callable[..., Any], *args: Any, priority: int = 0) -> Future[Any]:
        """Submit a task that is not a unit; runnable tasks start by descending priority."""
        # Dask groups tasks by this prefix to estimate their duration.
        key = f"{function.__name__}-{uuid.uuid4().hex}"
        futures = [arg.future if isinstance(arg, Recomputable) else arg for arg in args]
        with _of_any_size():
            return self.client.submit(_guarded, function, *futures, key=key, priority=priority)

    def _send(self, function: Callable[..., Any], units: Sequence[Unit]) -> list[Future[Any]]:
        """Send units in one message; they can start in their order."""
        if not units:
            return []
        self._large = any(sizeof(arg) > _LARGE for arg in units[0][1] if not isinstance(arg, Recomputable))
        if len({len(args) for _, args in units}) > 1 or not units[0][1]:  # map needs equal columns
            return [self.submit(function, *args) for _, args in units]
        rows = ([arg.future if isinstance(arg, Recomputable) else arg for arg in args] for _, args in units)
        columns = map(list, zip(*rows, strict=True))
        keys = [f"{function.__name__}-{uuid.uuid4().hex}" for _ in units]
        with _of_any_size():
            futures: list[Future[Any]] = self.client.map(
                functools.partial(_guarded, function), *columns, key=keys, pure=False
            )
        return futures

    def wait_for(self, futures: Sequence[Future[Any]]) -> None:
        """Wait until all futures have finished or failed."""
        with self.client.as_current():
            wait(futures)

    def result(self, future: Future[Any], key: str, failed: Callable[[str, str], Any] | None = None) -> Any:
        """Wait for a future and return its result; ``failed`` is as in :meth:`each`.

        Raises
        ------
        WorkloadError
            If the task failed; the message begins with the key.
        """
        try:
            return future.result()
        except KilledWorker as error:
            reason: Exception = WorkloadError(
                f"{key}: {DIED}",
                "give each worker more memory, or make the units smaller",
            )
            origin: Exception = error
        except HpcmlError as error:  # a config error before a run is a workload error during it
            reason, origin = WorkloadError(error.message, *error.hints), error
        except CancelledError:
            raise
        except Exception as error:
            reason, origin = WorkloadError(f"{key}: {cause(error)}"), error
        if failed is None:
            raise reason from origin
        return failed(key, str(reason).removeprefix(f"{key}: "))

    def _cancel(self, futures: list[Future[Any]]) -> None:
        if futures:
            self.client.cancel(futures)

    def _finish(self, key: str, result: Any) -> tuple[str, Any]:
        self.units.finish(key, result)
        return key, result

    def _gathered(self, done: Sequence[Future[Any]]) -> dict[Future[Any], Any]:
        """Return the results of successful futures, in one gather: single requests are slow."""
        good = [future for future in done if future.status == "finished"]
        try:
            return dict(zip(good, self.client.gather(good), strict=True))
        except Exception:  # a result or the cluster is lost; each future reports its error
            return {}

    def _take(self, ended: CompletedFutures, under_way: int, patience: float) -> list[Future[Any]]:
        """Wait up to ``patience`` seconds until some futures have ended, and return those.

        Raises
        ------
        CancelledError
            If the client was closed, so that no future will end any more.
        """
        collect = _COLLECT if self._rate > _MANY and under_way > self._threads else 0.0
        found = ended.take(patience, collect)
        if not found and self.client.status != "running":
            raise CancelledError("the client was closed")
        return found

    def _room(self, under_way: int) -> int:
        """Count the units that may be sent now; 0 while there is room for only a few."""
        now = time.monotonic()
        if now - self._counted >= _RECOUNT:
            self._threads, self._counted = max(1, sum(self.client.nthreads().values())), now
        # One more, because Dask queues on the scheduler only if there are more than two tasks per
        # thread.
        most = max(_AHEAD * self._threads + 1, int(self._rate * _HORIZON))
        if self._large:
            most = _AHEAD_LARGE * self._threads + 1
        room = most - under_way
        return room if room >= most * _TOGETHER else 0


class _Meter:
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


def _of_any_size() -> Any:
    """Silence Dask's warning about large arguments: models and blocks may well be large."""
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})


def _next(waiting: Iterator[Unit | None], count: int) -> tuple[list[Unit], bool]:
    """Take up to ``count`` units; return also whether there are none now but may be some later."""
    found: list[Unit] = []
    for unit in itertools.islice(waiting, count):
        if unit is None:
            return found, True
        found.append(unit)
    return found, False


def died(future: Future[Any]) -> bool:
    """Return whether Dask gave up on a task, or on one of its inputs, because workers died."""
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _lacks(unit: Unit) -> bool:
    return any(died(arg.future) for arg in unit[1] if isinstance(arg, Recomputable))


def _reunited(orphans: Iterable[Unit], suspects: deque[Unit]) -> list[Unit]:
    """Recompute the inputs that units lack; units with inputs that fail again become suspects."""
    found: list[Unit] = []
    for unit in orphans:
        (found if renew(unit[1]) else suspects).append(unit)
    return found


def _smaller(unit: Unit, future: Future[Any], split: Callable[[Unit], Sequence[Unit]] | None) -> Sequence[Unit]:
    if split is None or future.status != "error" or isinstance(future.exception(), HpcmlError):
        return ()
    return split(unit)


def _itself(value: Any) -> Any:
    return value


def _item(item: Any, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)[item]


def _guarded(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except (SystemExit, KeyboardInterrupt) as error:  # Dask would wait for the exited thread
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
