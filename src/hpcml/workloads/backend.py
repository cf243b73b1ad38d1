"""joblib's Dask backend with a report of every finished call: the place where scikit-learn's units pass through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask
import joblib
from distributed import KilledWorker, wait
from joblib._dask import Batch, DaskDistributedBackend

if TYPE_CHECKING:
    from distributed import Client, Future

# Called in the client's event loop with one call's keyword arguments and its result.
Report = Callable[[Mapping[str, Any], Any], None]

# Called there with a function, its arguments and keyword arguments, when every worker that tried the call died. Gives
# the call's result instead, or raises.
Died = Callable[[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]


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
        client.replicate(futures)
        self._scatter = list(scatter)  # keeps the ids the same
        self.data_futures = {id(array): future for array, future in zip(scatter, futures, strict=True)}
        self._report, self._died = report, died

    def scattered(self, array: Any) -> Future[Any]:
        """Give the future of an array that was scattered."""
        return self.data_futures[id(array)]

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Count the workers' threads, but never one: joblib takes that to mean "here", which is the head."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    async def _to_func_args(self, func: Any) -> tuple[Batch, Any]:
        _, tasks = await super()._to_func_args(func)
        return _SequentialBatch(tasks), tasks

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        return super().submit(func, _Finish(self, func.items, callback))

    async def _collect(self) -> None:
        # As joblib's own, but that a batch whose workers died is finished with what `died` makes of it.
        while self._continue:
            async for future, result in self.waiting_futures:
                waiting, finish = self._results.pop(future), self._callbacks.pop(future)
                if future.status == "error":
                    try:
                        if not isinstance(result[1], KilledWorker):
                            raise result[1]
                        out: Any = [self._died(*call) for call in finish.calls]
                    except Exception as error:
                        waiting.set_exception(error)
                        continue
                else:
                    out = result
                waiting.set_result(out)
                finish(out)
            await asyncio.sleep(0.01)


def _itself(array: Any) -> Any:
    return array


class _Finish:
    """What joblib does with a finished batch, after each of its calls was reported."""

    def __init__(self, backend: ReportingBackend, calls: Any, callback: Callable[[Any], None] | None) -> None:
        self.calls = calls
        self._backend, self._callback = backend, callback

    def __call__(self, out: Any) -> None:
        try:
            results = self._backend.retrieve_result_callback(out)
        except Exception:  # a call raised: joblib raises it again where the results are awaited
            results = None
        if results is not None:
            for (_, _, kwargs), result in zip(self.calls, results, strict=True):
                self._backend._report(kwargs, result)
        if self._callback is not None:
            self._callback(out)


class _SequentialBatch(Batch):  # type: ignore[misc]
    """Calls on a worker, within which an estimator's own joblib calls run where they are.

    The calls alone fill the cluster. joblib's own batch sends every tree of a forest back through the scheduler, as a
    task from within a task, which takes several times as long (benchmarks/nested.py).
    """

    def __call__(self, tasks: Any = None) -> list[Any]:
        with joblib.parallel_config(backend="sequential"):
            return [function(*args, **kwargs) for function, args, kwargs in tasks]
