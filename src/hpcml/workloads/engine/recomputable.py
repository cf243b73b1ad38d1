"""Results of tasks that are arguments of other tasks and can be recomputed if their workers die."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

if TYPE_CHECKING:
    from distributed import Future

    from hpcml.workloads.engine.task_pool import TaskPool


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


def lacks_input(args: Iterable[Any]) -> bool:
    """Return whether Dask gave up on one of the arguments of a task."""
    return any(died(arg.future) for arg in args if isinstance(arg, Recomputable))


def futures_of(args: Iterable[Any]) -> list[Any]:
    """Return the arguments of a task with the futures of those that can be recomputed."""
    return [arg.future if isinstance(arg, Recomputable) else arg for arg in args]


def died(future: Future[Any]) -> bool:
    """Return whether Dask gave up on a task, or on one of its inputs, because workers died."""
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _item(item: Any, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)[item]
