"""Wrap undocumented parts of joblib: the methods of a backend, and the calls in a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from joblib.parallel import ParallelBackendBase

VERIFIED = "1.6.0"

# A function, its arguments and its keyword arguments.
Call = tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]


class CallbackBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Base of a backend that reports each batch of calls through a callback.

    Needed by ``TaskPoolBackend``, which runs joblib's calls on the workers of a run. Public API
    missing: ``joblib.register_parallel_backend`` is documented, the methods of a backend are not. A
    subclass implements ``effective_n_jobs``, ``start_call``, ``stop_call``, ``abort_everything``,
    ``submit`` and ``retrieve_result_callback``. joblib calls ``submit(batch, callback=...)``, and
    later expects ``callback(result)`` from any thread, with a result that
    ``retrieve_result_callback`` turns into the list of the calls' results.
    """

    supports_retrieve_callback = True


def calls_of(batch: Any) -> Sequence[Call]:
    """Return the calls in a batch that joblib submits.

    Needed by ``TaskPoolBackend.submit``, which sends an array that several calls share only once.
    Public API missing: ``joblib.parallel.BatchedCalls`` can be called, and its ``items`` are not
    documented.
    """
    calls: Sequence[Call] = batch.items
    return calls


def start_process(initializer: Callable[[], None], environment: Mapping[str, str]) -> Any:
    """Start a process that runs one call at a time, as ``concurrent.futures`` executors do.

    Needed by the trial fit. Public API missing: ``concurrent.futures`` imports the user's script
    again in its processes; loky, of which joblib contains a copy, does not, sends what cloudpickle
    can, raises ``BrokenExecutor`` if the process dies, and stops it with
    ``shutdown(kill_workers=True)``.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    return ProcessPoolExecutor(1, initializer=initializer, env=dict(environment))
