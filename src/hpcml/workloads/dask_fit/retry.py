"""Retries of a fit that runs on all workers at once and fails when some of them are lost."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

from distributed import KilledWorker

from hpcml.background import looking, wait_until
from hpcml.errors import WorkloadError
from hpcml.units import count
from hpcml.upstream.distributed import cancel_results, futures_of
from hpcml.workloads.dask_fit import dask_models
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.inputs.labels import estimator_name

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# Attempts per fit.
_TRIES = 3

# Seconds between checks of the workers, and seconds that a fit may go on after losing some. Then it
# is cancelled, because LightGBM waits indefinitely for a dead worker.
_LOOK, _GRACE = 0.5, 10.0

# Seconds for Dask to notice a death that ends a fit, and seconds to wait for replacements if some
# workers are left.
_NEWS, _REPLACED = 10.0, 60.0


class Arrays(Protocol):
    """The arrays to fit to, which can be recomputed."""

    def __call__(self) -> tuple[Any, Any]:
        """Return X and y as Dask arrays."""

    def renew(self) -> bool:
        """Recompute chunks that were lost with workers; return whether all are available."""


def fit(model: Any, arrays: Arrays, client: Client) -> tuple[Any, float, list[str]]:
    """Fit a model; retry after the death of a worker, which XGBoost and LightGBM do not survive.

    Returns
    -------
    estimator
    float
        Seconds of the last attempt.
    list of str
        Warnings for the user.

    Raises
    ------
    WorkloadError
    """
    name, number = estimator_name(model), 0
    while True:
        number += 1
        watch = Watch(client, dask_models.is_boosted(model))
        try:
            with watch:
                began = time.monotonic()
                fitted = dask_models.fit(model, *arrays(), client)
                seconds = time.monotonic() - began
        except Exception as error:
            if client.status != "running":  # the cluster was shut down
                raise
            lost = watch.lost_in_the_end() if watch.ends_with_a_worker else 0
            failure = _failure(name, error, number, lost)
            if number == _TRIES or not (lost or isinstance(error, KilledWorker)):
                raise failure from error
            log.warning(failure.message)
            if watch.ends_with_a_worker:
                watch.refresh()
            _await(watch.count, client)
            if client.status != "running":
                raise
            if not arrays.renew():
                raise WorkloadError(
                    f"{name}: every worker that tried to read one of the blocks died",
                    "give each worker more memory, or make the blocks smaller",
                ) from error
        else:
            return fitted, seconds, [f"{name} was fitted {number} times, as workers were lost"] if number > 1 else []


def _failure(name: str, error: Exception, number: int, lost: int) -> WorkloadError:
    """Return the error for a failed attempt, during which some workers were lost."""
    if not lost:
        return WorkloadError(f"{name}: the fit failed: {cause(error)}")
    return WorkloadError(
        f"{name}: the fit failed, try {number} of {_TRIES}, {count(lost, 'worker')} lost: {cause(error)}",
        "workers die when they run out of memory (give each more) or when their jobs end",
    )


class Watch:
    """Monitor the workers during a fit, and cancel a fit that would wait indefinitely.

    Parameters
    ----------
    ends_with_a_worker : bool
        Whether the fit cannot continue when a worker is lost.

    Attributes
    ----------
    count : int
        The number of workers at the beginning.
    """

    def __init__(self, client: Client, ends_with_a_worker: bool) -> None:
        self.ends_with_a_worker = ends_with_a_worker
        self._seen = running(client)
        self.count = len(self._seen)
        self._client, self._before = client, futures_of(client)
        self._since: float | None = None
        self._watcher = looking("fit", self._look, _LOOK)

    def __enter__(self) -> Watch:
        self._watcher.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.__exit__(None, None, None)

    def lost(self) -> int:
        """Count the lost workers."""
        there = running(self._client)
        self._seen |= there
        return len(self._seen - there)

    def lost_in_the_end(self) -> int:
        """Count the lost workers after a failure.

        The peers of a dead worker may notice its death before Dask does, so wait for Dask.
        """
        wait_until(lambda: self.lost() > 0, _NEWS, 0.1)
        return self.lost()

    def refresh(self) -> None:
        """Restart the remaining workers.

        LightGBM's workers keep their connections to dead ones and would reuse them
        (``lightgbm.dask._train_part`` frees the network only after a successful fit), and a
        cancelled fit may go on computing indefinitely.
        """
        left = sorted(self._seen & running(self._client))
        if left:
            with contextlib.suppress(ValueError):  # workers without a nanny cannot restart
                self._client.restart_workers(left, timeout=_REPLACED, raise_for_error=False)

    def _look(self) -> bool:
        """Cancel a fit that lost workers once its grace period is over; return whether it did."""
        with contextlib.suppress(Exception):  # the cluster may shut down meanwhile
            if not (self.lost() and self.ends_with_a_worker):
                return False
            self._since = self._since or time.monotonic()
            if time.monotonic() - self._since > _GRACE:
                log.warning("a fit goes on although it has lost workers: cancelled")
                cancel_results(self._client, futures_of(self._client) - self._before)
                return True
        return False


def running(client: Client) -> set[str]:
    """Return the addresses of the workers that accept tasks."""
    workers = client.scheduler_info(n_workers=-1).get("workers", {})
    return {address for address, worker in workers.items() if worker["status"] == "running"}


def _await(count: int, client: Client) -> None:
    """Wait for as many workers as before.

    If some are left, wait only for a limited time; otherwise as long as the client is running.
    """
    deadline = time.monotonic() + _REPLACED
    while client.status == "running":
        there = len(running(client))
        if there >= count or (there and time.monotonic() > deadline):
            return
        time.sleep(_LOOK)
