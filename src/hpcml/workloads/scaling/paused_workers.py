"""Paused workers, so that a workload can be timed on part of a cluster.

An idle worker is paused just as Dask pauses a worker with full memory: it gets no tasks, whoever
sends them. The alternative, to name the workers of each task, would change Dask's scheduling, and a
task would wait indefinitely for a worker that died. Here another worker takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

from hpcml.background import looking, wait_until
from hpcml.client import Client
from hpcml.upstream import distributed as upstream

log = logging.getLogger(__name__)

# Seconds between checks of the workers, and seconds after the last check until a paused worker
# resumes by itself, in case the head has died.
_LOOK, _LEASE = 1.0, 30.0

# Seconds for workers to report that they are paused or running.
_PATIENCE = 60.0


class Part(upstream.SharedConnection, Client):
    """A client that sees only the active workers and otherwise shares the state of the original."""

    __slots__ = ("_active",)  # not in __dict__, which both clients share

    def __init__(self, client: Client, active: Sequence[str]) -> None:
        super().__init__(client)
        self._active = active

    def nthreads(self, workers: Any = None, **kwargs: Any) -> Any:
        return super().nthreads(workers=list(self._active) if workers is None else workers, **kwargs)

    ncores = nthreads

    def scheduler_info(self, *args: Any, **kwargs: Any) -> Any:
        info = super().scheduler_info(*args, **kwargs)
        return {**info, "workers": {address: of for address, of in info["workers"].items() if address in self._active}}

    def replicate(self, futures: Any, n: int | None = None, workers: Any = None, **kwargs: Any) -> Any:
        return super().replicate(futures, n, list(self._active) if workers is None else workers, **kwargs)


class Resting:
    """Pause all but some workers inside a ``with`` block.

    Parameters
    ----------
    client : Client
    count : int
        The number of active workers: the first in the order of their names, and others in place of
        those that die.

    Attributes
    ----------
    active : list of str
        The addresses of the active workers.
    lost : int
        Active workers that have died in the meantime.
    """

    def __init__(self, client: Client, count: int) -> None:
        self.active: list[str] = []
        self.lost = 0
        self._client, self._count = client, count
        self._resting: set[str] = set()
        self._watcher = looking("paused workers", self._look, _LOOK)

    def __enter__(self) -> Part:
        try:
            self._settle()
            self._await(self._resting, "paused")
        except BaseException:
            self._wake(self._resting)
            raise
        self._watcher.__enter__()
        return Part(self._client, self.active)

    def __exit__(self, *_: object) -> None:
        self._watcher.__exit__(None, None, None)
        self._wake(self._resting)
        if self._client.status == "running":
            self._await(self._resting, "running")  # else the next pause may see an old status

    def _look(self) -> bool:
        if self._client.status != "running":  # the cluster was shut down
            return True
        with contextlib.suppress(Exception):  # a worker may die meanwhile; checked again
            self._settle()
        return False

    def _settle(self) -> None:
        """Replace dead active workers, and pause all others, including those that just joined."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        there = sorted(workers, key=lambda address: _natural(str(workers[address]["name"])))
        stayed = [address for address in self.active if address in workers]
        self.lost += len(self.active) - len(stayed)
        others = [address for address in there if address not in stayed]
        chosen = stayed + others[: self._count - len(stayed)]
        self._wake(self._resting & set(chosen))
        self.active[:] = chosen
        self._resting = set(there) - set(chosen)
        if self._resting:
            self._client.run(_rest, workers=sorted(self._resting), on_error="ignore")

    def _await(self, addresses: set[str], status: str) -> None:
        def there() -> bool:
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            return all(workers[address]["status"] == status for address in addresses & set(workers))

        if not wait_until(there, _PATIENCE, 0.02):
            log.warning("not all of %d workers were seen %s after %.0f s", len(addresses), status, _PATIENCE)

    def _wake(self, addresses: set[str]) -> None:
        if addresses and self._client.status == "running":
            self._client.run(_wake, workers=sorted(addresses), on_error="ignore")


def _natural(name: str) -> list[Any]:
    """Return a natural sort key, so that worker 10 comes after worker 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


# On a worker, by address because a process may contain several: when its pause ends, and the share
# of memory above which Dask would pause it.
_at_rest: dict[str, tuple[float, Any]] = {}


def _rest(dask_worker: Any) -> None:
    _, fraction = _at_rest.get(dask_worker.address, (0.0, None))
    before = upstream.pause(dask_worker)
    _at_rest[dask_worker.address] = time.monotonic() + _LEASE, before if fraction is None else fraction
    dask_worker.loop.call_later(_LEASE + 1, _lapse, dask_worker)


def _lapse(worker: Any) -> None:
    until, _ = _at_rest.get(worker.address, (time.monotonic(), None))
    if until < time.monotonic():
        _wake(worker)


def _wake(dask_worker: Any) -> None:
    if dask_worker.address in _at_rest:
        _, fraction = _at_rest.pop(dask_worker.address)
        upstream.unpause(dask_worker, fraction)
