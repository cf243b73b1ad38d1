"""A joblib backend on a task pool: each call that an estimator makes is a unit of work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
from distributed import CancelledError, KilledWorker

from hpcml.errors import WorkloadError
from hpcml.upstream.joblib import Call, CallbackBackend, calls_of
from hpcml.upstream.sklearn import called_function, without_callbacks
from hpcml.workloads.engine.recomputable import Recomputable
from hpcml.workloads.engine.task_pool import TaskPool, Unit

# Arrays of up to this many bytes are sent with each call.
_SMALL = 1000

# Seconds to wait for the thread that serves the calls to end.
_END = 5


@dataclass(frozen=True)
class _Slot:
    """A placeholder for an array in a call: its index among the shared arrays."""

    number: int


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class TaskPoolBackend(CallbackBackend):
    """Run joblib's calls on the workers of a pool; arrays that several calls share are sent once.

    Parameters
    ----------
    pool : TaskPool
        Its units grow with the calls, because their number is not known beforehand.
    n_jobs : int
        The number of jobs reported to an estimator that asks into how many calls to divide its
        work.
    """

    def __init__(self, pool: TaskPool, n_jobs: int) -> None:
        super().__init__()
        self._pool, self._n_jobs = pool, n_jobs
        self._calls = 0
        self._waiting: queue.SimpleQueue[Unit] = queue.SimpleQueue()
        self._callbacks: dict[str, Callable[[Any], None]] = {}
        self._end = threading.Event()
        # By id: the array (a reference, so that the id is not reused) and its shared copy on the
        # workers; then the number of calls that use it.
        self._arrays: dict[int, tuple[Any, Recomputable]] = {}
        self._uses: dict[int, int] = {}

    def effective_n_jobs(self, n_jobs: int) -> int:  # noqa: ARG002
        """Return the same number whatever the workers, because results must not depend on them."""
        return self._n_jobs

    def start_call(self) -> None:
        """Start serving the calls of a ``joblib.Parallel``."""
        self._end.clear()
        self._thread = threading.Thread(target=self._serve, name="hpcml-joblib", daemon=True)
        self._thread.start()

    def stop_call(self) -> None:
        """Stop serving: all calls are done, or joblib has abandoned the rest."""
        self._end.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END)

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002
        """Drop the unfinished calls."""
        self._end.set()
        self._callbacks.clear()

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> str:
        """Queue a batch of calls as one unit.

        Parameters
        ----------
        func : joblib.parallel.BatchedCalls
        """
        batch = calls_of(func)
        key = f"call {self._calls} of {_name(batch)}"
        self._calls += 1
        self._pool.units.total += 1
        shared_arrays: list[Recomputable] = []
        calls = [
            (
                function,
                [self._placed(arg, shared_arrays) for arg in args],
                {name: self._placed(arg, shared_arrays) for name, arg in without_callbacks(kwargs).items()},
            )
            for function, args, kwargs in batch
        ]
        if callback is not None:
            self._callbacks[key] = callback
        self._waiting.put((key, (calls, *shared_arrays)))
        return key

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the results of a batch of calls, or raise the error that ended it."""
        if isinstance(out, _Failure):
            raise out.error
        return out

    def _placed(self, arg: Any, shared_arrays: list[Recomputable]) -> Any:
        if getattr(arg, "nbytes", 0) <= _SMALL:
            return arg
        if id(arg) not in self._arrays:
            self._arrays[id(arg)] = arg, self._pool.share(arg)
        _, shared = self._arrays[id(arg)]
        self._uses[id(arg)] = self._uses.get(id(arg), 0) + 1
        if self._uses[id(arg)] == 2:  # more will follow, and Dask prefers workers with the data
            shared.spread()
        shared_arrays.append(shared)
        return _Slot(len(shared_arrays) - 1)

    def _serve(self) -> None:
        try:
            for key, out in self._pool.each(run_calls, self._todo()):
                self._hand_over(key, out)
        except BaseException as error:  # without results joblib would wait indefinitely
            for key in list(self._callbacks):
                self._hand_over(key, _Failure(_told(error)))

    def _todo(self) -> Iterator[Unit | None]:
        while not self._end.is_set():
            try:
                yield self._waiting.get_nowait()
            except queue.Empty:
                yield None

    def _hand_over(self, key: str, out: Any) -> None:
        callback = self._callbacks.pop(key, None)
        if callback is not None:
            callback(out)


def run_calls(calls: Sequence[Call], *arrays: Any) -> list[Any]:
    """Run calls one after the other, on a worker.

    Nested joblib calls of an estimator run sequentially: the outer calls alone fill the cluster,
    and each inner call would travel through the scheduler as a task submitted from within a task,
    which takes several times as long (benchmarks/nested.py).
    """

    def filled(arg: Any) -> Any:
        return arrays[arg.number] if isinstance(arg, _Slot) else arg

    with joblib.parallel_config(backend="sequential"):
        return [
            function(*map(filled, args), **{name: filled(arg) for name, arg in kwargs.items()})
            for function, args, kwargs in calls
        ]


def _name(calls: Sequence[Call]) -> str:
    function = called_function(calls[0][0])
    return str(getattr(function, "__name__", type(function).__name__))


def _told(error: BaseException) -> BaseException:
    """Return the error to raise in the estimator: its call's own, or the death of its workers."""
    cause = error.__cause__
    if isinstance(error, WorkloadError) and isinstance(cause, Exception) and not isinstance(cause, KilledWorker):
        return cause
    return error if isinstance(error, Exception) else CancelledError(str(error))
