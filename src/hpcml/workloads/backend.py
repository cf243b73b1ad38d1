"""joblib's Dask backend with a report of every finished call: the place where scikit-learn's units pass through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import joblib
from joblib._dask import Batch, DaskDistributedBackend

if TYPE_CHECKING:
    from distributed import Client, Future

# Called in the client's event loop with one call's keyword arguments and its result.
Report = Callable[[Mapping[str, Any], Any], None]


class ReportingBackend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
    """joblib on a Dask cluster; data is scattered once, each finished call is reported.

    Parameters
    ----------
    client : Client
    scatter : sequence of array
        Sent to every worker once, instead of with every call.
    report : callable
        See :data:`Report`.
    """

    def __init__(self, client: Client, scatter: Sequence[Any], report: Report) -> None:
        # The quorum of workers is there already. If all of them die later, their replacements need a moment.
        super().__init__(client=client, scatter=list(scatter), wait_for_workers_timeout=300)
        self._report = report

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
        def reported(out: Any) -> None:
            try:
                results = self.retrieve_result_callback(out)
            except Exception:  # a call raised: joblib raises it again where the results are awaited
                results = None
            if results is not None:
                for (_, _, kwargs), result in zip(func.items, results, strict=True):
                    self._report(kwargs, result)
            if callback is not None:
                callback(out)

        return super().submit(func, reported)


class _SequentialBatch(Batch):  # type: ignore[misc]
    """Calls on a worker, within which an estimator's own joblib calls run where they are.

    The calls alone fill the cluster. joblib's own batch sends every tree of a forest back through the scheduler, as a
    task from within a task, which takes several times as long (benchmarks/nested.py).
    """

    def __call__(self, tasks: Any = None) -> list[Any]:
        with joblib.parallel_config(backend="sequential"):
            return [function(*args, **kwargs) for function, args, kwargs in tasks]
