"""joblib's Dask backend with a report of every finished call: the place where scikit-learn's units pass through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dask
import joblib
from distributed import CancelledError, KilledWorker, wait
from joblib._dask import Batch, DaskDistributedBackend

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

# Called in the client's event loop with one call's keyword arguments and its result.
Report = Callable[[Mapping[str, Any], Any], None]

# Called with a function, its arguments and keyword arguments, and what happened, when a call did not come to an end:
# every worker that tried it died, or it wanted to end the process. Gives the call's result instead, or raises.
Died = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any], str], Any]

# Arrays of so many bytes travel with each call.
_SMALL = 1000

# So often a call is sent whose data goes with the workers; then it is tried when nothing else is under way.
_SENDINGS = 5

_KILLED = "every worker that tried this fit died; most often for want of memory"


class ReportingBackend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
    """joblib on a Dask cluster; data is scattered once, each finished call is reported.

    Parameters
    ----------
    client : Client
    scatter : sequence of array
        Sent to every worker once, instead of with every call.
    report : callable
        See :data:`Report`.
    died : callable
        See :data:`Died`.
    """

    def __init__(self, client: Client, scatter: Sequence[Any], report: Report, died: Died) -> None:
        # The quorum of workers is there already. If all of them die later, their replacements need a moment.
        super().__init__(client=client, wait_for_workers_timeout=300)
        # As tasks and not by client.scatter, as joblib does: what is scattered is lost with the last worker that holds
        # it, and with it everything that waits for it; a task is done again.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            futures = [client.submit(_itself, array, pure=False) for array in scatter]
        with client.as_current():
            wait(futures)
        if futures:
            client.replicate(futures)
        self._scatter = list(scatter)  # keeps the ids the same
        self.data_futures = {id(array): future for array, future in zip(scatter, futures, strict=True)}
        self._report, self._died = report, died
        self._suspects: list[tuple[Any, _Finish]] = []

    def scattered(self, array: Any) -> Future[Any]:
        """Give the future of an array that is shared by all calls."""
        return self._shared(array)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Count the workers' threads, but never one: joblib takes that to mean "here", which is the head."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    async def _to_func_args(self, func: Any) -> tuple[Batch, Any]:
        tasks = [
            (function, [self._shared(arg) for arg in args], {name: self._shared(kwargs[name]) for name in kwargs})
            for function, args, kwargs in ((f, a, _without_context(k)) for f, a, k in func.items)
        ]
        return _SequentialBatch(tasks, self._died), tasks

    def _shared(self, arg: Any) -> Any:
        """Give the future of an array; a new one, such as a fold's indices, is sent now, once for all calls."""
        if id(arg) not in self.data_futures:
            if getattr(arg, "nbytes", 0) <= _SMALL:
                return arg
            self._scatter.append(arg)  # keeps the id the same
            self.data_futures[id(arg)] = self.client.submit(_itself, arg, pure=False)
        return self.data_futures[id(arg)]

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        return super().submit(func, _Finish(self, func.items, callback))

    async def _collect(self) -> None:
        # As joblib's own, but for batches whose workers died. What only lost its data with them is sent again, at once.
        # Of the rest Dask suspects all that the dead workers had been given: so each call is tried again when nothing
        # else is under way, and what kills a worker then is guilty. And an error is handed on, where joblib would wait
        # for ever.
        while self._continue:
            async for future, result in self.waiting_futures:
                waiting, finish = self._results.pop(future), self._callbacks.pop(future)
                if future.status == "finished":
                    waiting.set_result(result)
                    finish(result)
                    continue
                error = result[1] if isinstance(result, tuple) else result
                open_still = self.client.status == "running"  # closing it cancels all that is awaited: that is the end
                if open_still and _lost_its_data(error) and finish.sent < _SENDINGS:
                    await self._send_again(waiting, finish)
                elif isinstance(error, (KilledWorker, CancelledError)):
                    self._suspects.append((waiting, finish))
                else:
                    waiting.set_exception(error)
                    finish(error)
            if self._suspects:
                waiting, finish = self._suspects.pop(0)
                try:
                    out = [await self._alone(*call) for call in finish.calls]
                except Exception as error:
                    waiting.set_exception(error)
                    finish(error)
                else:
                    waiting.set_result(out)
                    finish(out)
            await asyncio.sleep(0.01)

    async def _send_again(self, waiting: Any, finish: _Finish) -> None:
        finish.sent += 1
        there = {"finished", "pending"}  # others are made anew when they are asked for
        self.data_futures = {key: data for key, data in self.data_futures.items() if data.status in there}
        try:
            batch, tasks = await self._to_func_args(SimpleNamespace(items=finish.calls))
            future = self.client.submit(batch, tasks=tasks, pure=False)
        except Exception as error:
            waiting.set_exception(error)
            finish(error)
            return
        self._callbacks[future], self._results[future] = finish, waiting
        self.waiting_futures.add(future)

    async def _alone(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        for last in (False, True):
            try:
                batch, tasks = await self._to_func_args(SimpleNamespace(items=[(function, args, kwargs)]))
                return (await self.client.submit(batch, tasks=tasks, pure=False))[0]
            except (KilledWorker, CancelledError) as error:
                if not _lost_its_data(error):
                    return self._died(function, args, kwargs, _KILLED)
                if last:
                    raise
                self.data_futures.clear()  # what it needs went with the workers: send it again
        raise AssertionError  # the loop has returned or raised


def _itself(array: Any) -> Any:
    return array


def _without_context(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what serves callbacks of the search since scikit-learn 1.9: there are none.

    Each call would take the search and the nodes of all others along: at 2400 fits that is 20 ms of pickling for each.
    """
    return {**kwargs, "callback_ctx": None, "caller": None} if "callback_ctx" in kwargs else kwargs


def _lost_its_data(error: Any) -> bool:
    """Tell whether a call did not run for want of an array that had been on workers that died."""
    if isinstance(error, KilledWorker):
        return str(error.task).startswith(_itself.__name__)
    return isinstance(error, CancelledError)


class _Finish:
    """What joblib does with a finished batch, after each of its calls was reported."""

    def __init__(self, backend: ReportingBackend, calls: Any, callback: Callable[[Any], None] | None) -> None:
        self.calls = calls
        # how often the calls were sent because what they need was lost
        self.sent = 1
        self._backend, self._callback = backend, callback

    def __call__(self, out: Any) -> None:
        try:
            results = self._backend.retrieve_result_callback(out)
        except Exception:  # a call raised: joblib raises it again where the results are awaited
            results = None
        if results is not None:
            for (_, _, kwargs), result in zip(self.calls, results, strict=True):
                try:
                    self._backend._report(kwargs, result)
                except Exception:  # it runs in Dask's event loop, where nobody else would hear of it
                    log.exception("a finished call could not be reported")
        if self._callback is not None:
            self._callback(out)


class _SequentialBatch(Batch):  # type: ignore[misc]
    """Calls on a worker, within which an estimator's own joblib calls run where they are.

    The calls alone fill the cluster. joblib's own batch sends every tree of a forest back through the scheduler, as a
    task from within a task, which takes several times as long (benchmarks/nested.py).
    """

    def __init__(self, tasks: Any, died: Died) -> None:
        super().__init__(tasks)
        self._died = died

    def __call__(self, tasks: Any = None) -> list[Any]:
        with joblib.parallel_config(backend="sequential"):
            return [self._call(*task) for task in tasks]

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        try:
            return function(*args, **kwargs)
        except (SystemExit, KeyboardInterrupt) as error:  # Dask would wait for ever for what its thread has left
            return self._died(function, args, kwargs, f"{type(error).__name__}: {error}")
