"""The crew: units of work on a cluster's workers, as many at a time as they can use, each reported when it is done."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED
from typing import TYPE_CHECKING, Any

import dask
from distributed import CancelledError, KilledWorker, wait

from hpcml.errors import HpcmlError, WorkloadError
from hpcml.workloads.base import Units

if TYPE_CHECKING:
    from distributed import Client, Future

# A unit: its key, which is the same whenever the same run is started again, and what its function gets.
Unit = tuple[str, tuple[Any, ...]]

# Units that are sent for each thread of a worker: one that computes, and one that waits.
_AHEAD = 2

# For how many seconds the count of threads is taken to be right; workers come and go.
_RECOUNT = 1.0


class Crew:
    """The workers of a run, for a workload made of independent units.

    Parameters
    ----------
    client : Client
    units : Units
        Every unit that is done passes through its :meth:`Units.finish`.
    """

    def __init__(self, client: Client, units: Units) -> None:
        self.client, self.units = client, units
        self._threads, self._counted = 1, -_RECOUNT

    def share(self, value: Any) -> Future[Any]:
        """Send a value once, for the arguments of many units: the workers hand it on among themselves.

        It is the result of a task, so that it is made again if the workers that hold it die.
        """
        return self._submit(_itself.__name__, _itself, value)

    def call(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Do one unit on some worker, and give its result."""
        ((_, result),) = self.each(function, [(key, args)])
        return result

    def each(
        self, function: Callable[..., Any], todo: Iterable[Unit], *, failed: Callable[[str, str], Any] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Do units, and give their keys and results as they are done, in whatever order that is.

        Parameters
        ----------
        function : callable
            Called on a worker with a unit's arguments; those that are futures, with what they hold.
        todo : iterable of Unit
            Taken as the workers can use them, so that it may be long.
        failed : callable or None
            Called with a unit's key and the traceback's last line if it raises or kills its workers; gives its result
            instead. None: the first that fails ends all.

        Raises
        ------
        WorkloadError
            If a unit fails.
        """
        waiting = iter(todo)
        sent: dict[Future[Any], Unit] = {}
        suspects: deque[Unit] = deque()
        exhausted = False
        try:
            while True:
                while not exhausted and len(sent) < self._most():
                    unit = next(waiting, None)
                    if unit is None:
                        exhausted = True
                    else:
                        sent[self.submit(function, *unit[1])] = unit
                if not sent and suspects:  # now nothing else is under way: what kills its worker now is guilty
                    unit = suspects.popleft()
                    yield self._finish(unit[0], self.result(self.submit(function, *unit[1]), unit[0], failed))
                elif not sent:
                    return
                else:
                    # not longer, so that workers that come get something to do
                    for future in self._wait(list(sent)):
                        unit = sent.pop(future)
                        if future.status in {"error", "cancelled"} and _died(future):
                            suspects.append(unit)
                        else:
                            yield self._finish(unit[0], self.result(future, unit[0], failed))
        finally:
            if sent:
                self.client.cancel(list(sent))

    def submit(self, function: Callable[..., Any], *args: Any, priority: int = 0) -> Future[Any]:
        """Send what is no unit by itself; of what can begin, that of the highest priority does."""
        # the name tells Dask which tasks take about as long as each other
        return self._submit(function.__name__, _guarded, function, *args, priority=priority)

    def _submit(self, name: str, function: Callable[..., Any], *args: Any, priority: int = 0) -> Future[Any]:
        # models and blocks may well be large: no reason to warn of them
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            return self.client.submit(function, *args, key=f"{name}-{uuid.uuid4().hex}", priority=priority)

    def result(self, future: Future[Any], key: str, failed: Callable[[str, str], Any] | None = None) -> Any:
        """Wait for what was sent and give its result; ``failed`` is as in :meth:`each`.

        Raises
        ------
        WorkloadError
            If it failed; the message begins with the key.
        """
        try:
            return future.result()
        except KilledWorker as error:
            reason: Exception = WorkloadError(
                f"{key}: every worker that tried it died; most often for want of memory",
                "give each worker more memory, or make the units smaller",
            )
            cause: Exception = error
        except HpcmlError as error:  # a bad request when it is found before a run; a failed run now
            reason, cause = WorkloadError(error.message, *error.hints), error
        except CancelledError:
            raise
        except Exception as error:
            reason, cause = WorkloadError(f"{key}: {type(error).__name__}: {error}"), error
        if failed is None:
            raise reason from cause
        return failed(key, str(reason).removeprefix(f"{key}: "))

    def _finish(self, key: str, result: Any) -> tuple[str, Any]:
        self.units.finish(key, result)
        return key, result

    def _wait(self, futures: list[Future[Any]]) -> set[Future[Any]]:
        try:
            with self.client.as_current():
                done: set[Future[Any]] = wait(futures, timeout=_RECOUNT, return_when=FIRST_COMPLETED).done
        except TimeoutError:
            return set()
        except CancelledError:
            cancelled = {future for future in futures if future.status == "cancelled"}
            if not cancelled:
                raise
            return cancelled
        return done

    def _most(self) -> int:
        now = time.monotonic()
        if now - self._counted >= _RECOUNT:
            self._threads, self._counted = max(1, sum(self.client.nthreads().values())), now
        return _AHEAD * self._threads


def _died(future: Future[Any]) -> bool:
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _itself(value: Any) -> Any:
    return value


def _guarded(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except (SystemExit, KeyboardInterrupt) as error:  # Dask would wait for ever for what its thread has left
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
