"""The crew: units of work on a cluster's workers, as many at a time as they can use, each reported when it is done."""

from __future__ import annotations

import itertools
import operator
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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


class Made:
    """What a task gives, for other tasks' arguments: it can be made anew.

    Dask makes it again if the workers that hold it die, but gives it up, guilty or not, when two died that made it.

    Attributes
    ----------
    future : Future
    """

    def __init__(
        self, crew: Crew, function: Callable[..., Any], args: tuple[Any, ...], future: Future[Any] | None = None
    ) -> None:
        self._crew, self._function, self._args = crew, function, args
        self.future: Future[Any] = crew.submit(function, *args) if future is None else future

    def renew(self) -> bool:
        """Make it anew if it was given up, and wait for it; say whether it was not given up again."""
        if not died(self.future):
            return True
        if not renew(self._args):
            return False
        self.future = self._crew.submit(self._function, *self._args)
        self._crew.wait_for([self.future])
        return not died(self.future)

    def item(self, item: Any) -> Made:
        """Give an item of it, or a slice of items, which can be made anew without the rest."""
        args = (item, self._function, *self._args)
        return Made(self._crew, _item, args, self._crew.submit(operator.getitem, self, item))


def renew(args: Iterable[Any]) -> bool:
    """Make anew, one after the other, what was given up of a task's arguments; say whether all are there."""
    return all(arg.renew() for arg in args if isinstance(arg, Made))


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

    def share(self, value: Any) -> Made:
        """Send a value once, for the arguments of many units: the workers hand it on among themselves.

        It is the result of a task, so that it is made again if the workers that hold it die.
        """
        return self.make(_itself, value)

    def make(self, function: Callable[..., Any], *args: Any) -> Made:
        """Have something made on a worker, and kept there for the arguments of units."""
        return Made(self, function, args)

    def call(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Do one unit on some worker, and give its result."""
        ((_, result),) = self.each(function, [(key, args)])
        return result

    def each(
        self,
        function: Callable[..., Any],
        todo: Iterable[Unit],
        *,
        failed: Callable[[str, str], Any] | None = None,
        split: Callable[[Unit], Sequence[Unit]] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Do units, and give their keys and results as they are done, in whatever order that is.

        Parameters
        ----------
        function : callable
            Called on a worker with a unit's arguments; those that are :class:`Made`, with what was made.
        todo : iterable of Unit
            Taken as the workers can use them, so that it may be long.
        failed : callable or None
            Called with a unit's key and the traceback's last line if it raises or kills its workers; gives its result
            instead. None: the first that fails ends all.
        split : callable or None
            Called with a unit that fails for no reason that is told, or kills its workers; gives smaller ones that are
            done instead, and reported, or none if it is small.

        Raises
        ------
        WorkloadError
            If a unit fails.
        """
        waiting = iter(todo)
        sent: dict[Future[Any], Unit] = {}
        suspects: deque[Unit] = deque()
        orphans: list[Unit] = []
        lone: Future[Any] | None = None
        try:
            while True:
                # what orphans lack may be what all others need
                room = 0 if orphans else self._most() - len(sent)
                for unit in itertools.islice(waiting, max(0, room)):
                    sent[self.submit(function, *unit[1])] = unit
                if not sent and orphans:
                    waiting, orphans = itertools.chain(_reunited(orphans, suspects), waiting), []
                elif not sent and suspects:  # now nothing else is under way: what kills its worker now is guilty
                    unit = suspects.popleft()
                    lone = self.submit(function, *unit[1])
                    sent[lone] = unit
                elif not sent:
                    return
                done = self._wait(list(sent)) if sent else set()
                good = self._gathered(done)  # first, so that what is done is not lost by what failed
                for future, result in good.items():
                    yield self._finish(sent.pop(future)[0], result)
                for future in done - good.keys():
                    unit = sent.pop(future)
                    if died(future) and future is not lone:
                        (orphans if _lacks(unit) else suspects).append(unit)
                    elif smaller := _smaller(unit, future, split):
                        waiting = itertools.chain(smaller, waiting)
                    else:
                        yield self._finish(unit[0], self.result(future, unit[0], failed))
        finally:
            self._cancel(list(sent))

    def alone(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Do what is no unit by itself while nothing else is under way: if it kills its worker now, it is guilty."""
        renew(args)
        return self.result(self.submit(function, *args), key)

    def submit(self, function: Callable[..., Any], *args: Any, priority: int = 0) -> Future[Any]:
        """Send what is no unit by itself; of what can begin, that of the highest priority does."""
        # the name tells Dask which tasks take about as long as each other
        key = f"{function.__name__}-{uuid.uuid4().hex}"
        futures = [arg.future if isinstance(arg, Made) else arg for arg in args]
        # models and blocks may well be large: no reason to warn of them
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            return self.client.submit(_guarded, function, *futures, key=key, priority=priority)

    def wait_for(self, futures: Sequence[Future[Any]]) -> None:
        """Wait until all have ended, well or not."""
        with self.client.as_current():
            wait(futures)

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

    def _cancel(self, futures: list[Future[Any]]) -> None:
        if futures:
            self.client.cancel(futures)

    def _finish(self, key: str, result: Any) -> tuple[str, Any]:
        self.units.finish(key, result)
        return key, result

    def _gathered(self, done: set[Future[Any]]) -> dict[Future[Any], Any]:
        """Give the results of those that went well: together, for one by one takes longer than a small unit does."""
        good = [future for future in done if future.status == "finished"]
        try:
            return dict(zip(good, self.client.gather(good), strict=True))
        except Exception:  # a result is lost with its worker, or the cluster with all: each tells for itself
            return {}

    def _wait(self, futures: list[Future[Any]]) -> set[Future[Any]]:
        """Wait until one is done; not for long, so that workers that come get something to do."""
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


def died(future: Future[Any]) -> bool:
    """Tell whether Dask gave it up, or what it needs, because workers died that tried it."""
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _lacks(unit: Unit) -> bool:
    return any(died(arg.future) for arg in unit[1] if isinstance(arg, Made))


def _reunited(orphans: Iterable[Unit], suspects: deque[Unit]) -> list[Unit]:
    """Make anew what units lack; what is given up again makes suspects of them."""
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
    except (SystemExit, KeyboardInterrupt) as error:  # Dask would wait for ever for what its thread has left
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
