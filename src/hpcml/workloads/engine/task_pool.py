"""The task pool: runs units of work on a cluster's workers and yields each result when it is ready.

It keeps as many units in flight as the workers can use.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import cloudpickle
import dask
from dask.sizeof import sizeof
from distributed import CancelledError, KilledWorker, wait

from hpcml.errors import HpcmlError, WorkloadError
from hpcml.workloads.base import Outcome, Units
from hpcml.workloads.engine.causes import DIED, cause
from hpcml.workloads.engine.dispatch import Dispatch
from hpcml.workloads.engine.recomputable import Recomputable, futures_of, renew
from hpcml.workloads.engine.window import LARGE, Window

if TYPE_CHECKING:
    from distributed import Client, Future

# A unit: its key, which is the same whenever the same run is started again, and the arguments of
# its function.
Unit = tuple[str, tuple[Any, ...]]

# Values of up to this many bytes are sent with each unit, which costs no more than a task for the
# value.
_SMALL = 4000


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
        self.window = Window(client)

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
        dispatch = Dispatch(self, function, todo, split)
        try:
            while (patience := dispatch.send()) is not None:
                done = dispatch.take(patience)
                good = self._gathered(done)  # successes first, so that a failure does not lose them
                for future, result in good.items():
                    yield self._finish(dispatch.in_flight.pop(future)[0], result)
                for future in done:
                    unit = None if future in good else dispatch.repeat(future)
                    if unit is not None:
                        yield self._finish(unit[0], self.result(future, unit[0], failed))
        finally:
            self._cancel(list(dispatch.in_flight))

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
        with _of_any_size():
            return self.client.submit(_guarded, function, *futures_of(args), key=key, priority=priority)

    def send(self, function: Callable[..., Any], units: Sequence[Unit]) -> list[Future[Any]]:
        """Send units in one message; they can start in their order."""
        self.window.large = any(sizeof(arg) > LARGE for arg in units[0][1] if not isinstance(arg, Recomputable))
        if len({len(args) for _, args in units}) > 1 or not units[0][1]:  # map needs equal columns
            return [self.submit(function, *args) for _, args in units]
        columns = map(list, zip(*(futures_of(args) for _, args in units), strict=True))
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


def _of_any_size() -> Any:
    """Silence Dask's warning about large arguments: models and blocks may well be large."""
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})


def _itself(value: Any) -> Any:
    return value


def _guarded(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except (SystemExit, KeyboardInterrupt) as error:  # Dask would wait for the exited thread
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
