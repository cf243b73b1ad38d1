"""Fits whose own joblib calls go over the cluster: each finished call is a unit."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import joblib
from distributed import Future
from sklearn.base import MetaEstimatorMixin

from hpcml.errors import WorkloadError
from hpcml.workloads.backend import ReportingBackend
from hpcml.workloads.base import Units

if TYPE_CHECKING:
    from distributed import Client


# Into so many calls at most an ensemble cuts its fits.
_CALLS = 256


def has_n_jobs(model: Any) -> bool:
    """Tell whether it, or a part of it, may call joblib."""
    return any(name.rpartition("__")[2] == "n_jobs" for name in model.get_params(deep=True))


def is_made_of_fits(model: Any) -> bool:
    """Tell whether fitting it is fitting many: ensembles, one against the rest, those that cross-validate themselves.

    Others have ``n_jobs`` too, for threads that share memory or to predict only: over a cluster that gains nothing.
    """
    last = model.steps[-1][1] if getattr(model, "steps", None) else model
    many = isinstance(last, MetaEstimatorMixin) or type(last).__name__.endswith("CV")
    return many and hasattr(last, "n_jobs")


def expected(model: Any, n_classes: int) -> int:
    """Guess how many calls a fit makes, before it says so itself."""
    return max(getattr(model, "n_estimators", 0), len(getattr(model, "estimators", ())), n_classes, 1)


def fit(model: Any, X: Any, y: Any, client: Client, units: Units) -> Any:
    """Fit a model here, its joblib calls on the workers.

    Parameters
    ----------
    units : Units
        Its total grows with the calls: their number is not known before.

    Raises
    ------
    WorkloadError
        If a call fails, or kills every worker that tries it.
    """
    backend = _Calls(client, units)
    asked = getattr(model, "n_jobs", None)
    if asked is not None:  # unset is what joblib replaces by "the whole cluster"
        model.set_params(n_jobs=None)
    with joblib.parallel_config(backend=backend, n_jobs=-1):
        model.fit(X, y)
    return model if asked is None else model.set_params(n_jobs=asked)


class _Calls(ReportingBackend):
    """Numbers the calls in the order in which the estimator makes them, and reports each when it is done."""

    def __init__(self, client: Client, units: Units) -> None:
        # What calls share is sent when the first of them needs it: estimators copy what they are given.
        super().__init__(client, [], lambda *_: None, _died)
        self._units, self._made = units, 0
        self._uses: Counter[int] = Counter()

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Give always the same number, by which ensembles cut their fits into calls: whatever workers there are, and
        enough for those that come later.
        """
        super().effective_n_jobs(n_jobs)  # which waits for workers
        return _CALLS

    def _shared(self, arg: Any) -> Any:
        shared = super()._shared(arg)
        if isinstance(shared, Future):
            self._uses[id(arg)] += 1
            if self._uses[id(arg)] == 2:  # more will follow, and Dask gives tasks to those who have what they need
                self.client.loop.add_callback(self._replicate, shared)
        return shared

    async def _replicate(self, future: Future[Any]) -> None:
        with contextlib.suppress(Exception):  # what is wrong with it is raised by the calls that need it
            await future
            await self.client.replicate([future], asynchronous=True)

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        numbers = range(self._made, self._made + len(func.items))
        self._made = numbers.stop
        self._units.total += len(numbers)

        def finished(out: Any) -> None:
            try:
                results = self.retrieve_result_callback(out)
            except Exception:  # a call raised: joblib raises it again where the results are awaited
                results = []
            for number, result in zip(numbers, results, strict=False):
                self._units.finish(f"call {number}", result)
            if callback is not None:
                callback(out)

        return super().submit(func, finished)


def _died(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], reason: str) -> Any:  # noqa: ARG001
    name = getattr(function, "function", function)  # scikit-learn wraps what it calls
    raise WorkloadError(
        f"a call of {getattr(name, '__name__', name)} came to no end: {reason}",
        "give each worker more memory, or fewer threads",
    )
