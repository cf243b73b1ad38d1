"""Tries: a fit that is one piece of work for all workers, begun again when some of them are lost."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from distributed import Future, KilledWorker

from hpcml.errors import WorkloadError
from hpcml.workloads import dask_models, summary

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# How often a fit is tried.
_TRIES = 3

# How often the workers are looked at, in seconds; and for how long a fit may go on that has lost some: then it is
# broken off, for LightGBM waits for ever for what only a worker that is dead could do.
_LOOK, _GRACE = 0.5, 10.0

# How many seconds Dask may take to know of a death that ends a fit, and others to come if some workers are left.
_NEWS, _REPLACED = 10.0, 60.0


class Arrays(Protocol):
    """What is fitted on; it can be made anew."""

    def __call__(self) -> tuple[Any, Any]:
        """Give X and y as Dask arrays."""

    def renew(self) -> bool:
        """Make anew what was lost with workers; say whether all is there."""


def fit(model: Any, arrays: Arrays, client: Client) -> tuple[Any, float, list[str]]:
    """Fit, again if that failed for a worker's death, which XGBoost and LightGBM do not survive.

    Returns
    -------
    estimator
    float
        Seconds of the last try.
    list of str
        What the user should know.

    Raises
    ------
    WorkloadError
    """
    name, number = summary.name(model), 0
    while True:
        number += 1
        watch = Watch(client, dask_models.is_boosted(model))
        try:
            with watch:
                began = time.monotonic()
                fitted = dask_models.fit(model, *arrays(), client)
                seconds = time.monotonic() - began
        except Exception as error:
            if client.status != "running":  # the cluster was given up
                raise
            lost = watch.lost_in_the_end() if watch.ends_with_a_worker else 0
            why = f", try {number} of {_TRIES}, {lost} worker{'s' if lost > 1 else ''} lost" if lost else ""
            if number == _TRIES or not (lost or isinstance(error, KilledWorker)):
                raise WorkloadError(
                    f"{name}: the fit failed{why}: {type(error).__name__}: {error}",
                    *(["workers are lost for want of memory: give each more; or when their jobs end"] if lost else []),
                ) from error
            log.warning("%s: the fit failed%s: %s: %s", name, why, type(error).__name__, error)
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


class Watch:
    """Looks at the workers during a fit, and breaks off one that would wait for ever.

    Parameters
    ----------
    ends_with_a_worker : bool
        Whether the fit cannot go on when a worker is lost.

    Attributes
    ----------
    count : int
        How many workers there were when it began.
    """

    def __init__(self, client: Client, ends_with_a_worker: bool) -> None:
        self.ends_with_a_worker = ends_with_a_worker
        self._seen = running(client)
        self.count = len(self._seen)
        self._client, self._before = client, set(client.futures)
        self._end, self._broken_off = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="hpcml-tries", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def lost(self) -> int:
        """Count the workers that are gone."""
        there = running(self._client)
        self._seen |= there
        return len(self._seen - there)

    def lost_in_the_end(self) -> int:
        """Count them after a failure: those that a worker talked to may know that it died before Dask does."""
        deadline = time.monotonic() + _NEWS
        while not (lost := self.lost()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return lost

    def refresh(self) -> None:
        """Start the workers that are left anew.

        LightGBM's keep their connections to the dead and would use them again (``lightgbm.dask._train_part`` frees the
        network of a fit that went well only), and a fit that was broken off may compute for ever.
        """
        left = sorted(self._seen & running(self._client))
        if left:
            with contextlib.suppress(ValueError):  # workers of others, without what could start them again
                self._client.restart_workers(left, timeout=_REPLACED, raise_for_error=False)

    def _watch(self) -> None:
        since = None
        while not self._end.wait(_LOOK):
            with contextlib.suppress(Exception):  # the cluster may be given up meanwhile
                if not (self.lost() and self.ends_with_a_worker):
                    continue
                since = since or time.monotonic()
                if time.monotonic() - since > _GRACE and not self._broken_off:
                    log.warning("a fit goes on although it has lost workers: broken off")
                    self._broken_off = True
                    self._client.cancel([Future(key, self._client) for key in set(self._client.futures) - self._before])


def running(client: Client) -> set[str]:
    """Give the addresses of the workers that take tasks."""
    workers = client.scheduler_info(n_workers=-1).get("workers", {})
    return {address for address, worker in workers.items() if worker["status"] == "running"}


def _await(count: int, client: Client) -> None:
    """Wait until there are as many workers as before; not for long if there are some, else as long as there is hope."""
    deadline = time.monotonic() + _REPLACED
    while client.status == "running":
        there = len(running(client))
        if there >= count or (there and time.monotonic() > deadline):
            return
        time.sleep(_LOOK)
