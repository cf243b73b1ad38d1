"""Workers that rest, so that a workload can be timed on some of a cluster alone.

A resting worker is paused, as Dask itself pauses one whose memory is full: it gets no task, whoever sends it. To name
workers with each task instead would change how Dask gives tasks out, and a task would wait for ever for a worker that
died. Here another takes its place.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from distributed import Status

from hpcml.client import Client

log = logging.getLogger(__name__)

# So often the workers are looked at, in seconds; and so long after the last look one rests, should the head have died.
_LOOK, _LEASE = 1.0, 30.0

# How long workers may take to say that they rest, or go on, in seconds.
_PATIENCE = 60.0


class Part(Client):
    """A client that knows only the workers which do not rest; in all else it is the client that it was made of."""

    __slots__ = ("_active",)  # not in __dict__, which the two share

    def __init__(self, client: Client, active: Sequence[str]) -> None:
        object.__setattr__(self, "__dict__", client.__dict__)
        self._active = active

    def __del__(self) -> None:
        """Leave the connection open: it is the other client's."""

    def nthreads(self, workers: Any = None, **kwargs: Any) -> Any:
        return super().nthreads(workers=list(self._active) if workers is None else workers, **kwargs)

    ncores = nthreads

    def scheduler_info(self, *args: Any, **kwargs: Any) -> Any:
        info = super().scheduler_info(*args, **kwargs)
        return {**info, "workers": {address: of for address, of in info["workers"].items() if address in self._active}}

    def replicate(self, futures: Any, n: int | None = None, workers: Any = None, **kwargs: Any) -> Any:
        return super().replicate(futures, n, list(self._active) if workers is None else workers, **kwargs)


class Resting:
    """Has all but some workers rest while a block runs.

    Parameters
    ----------
    client : Client
    count : int
        How many do not rest: the first, in the order of their names, and others for those that die.

    Attributes
    ----------
    active : list of str
        Their addresses.
    lost : int
        How many of them died in the meantime.
    """

    def __init__(self, client: Client, count: int) -> None:
        self.active: list[str] = []
        self.lost = 0
        self._client, self._count = client, count
        self._resting: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hpcml-resting", daemon=True)

    def __enter__(self) -> Part:
        try:
            self._settle()
            self._await(self._resting, "paused")
        except BaseException:
            self._wake(self._resting)
            raise
        self._thread.start()
        return Part(self._client, self.active)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._wake(self._resting)
        if self._client.status == "running":
            self._await(self._resting, "running")  # or the next to rest might be taken for resting already

    def _watch(self) -> None:
        while not self._end.wait(_LOOK):
            if self._client.status != "running":  # the cluster was given up
                return
            try:
                self._settle()
            except Exception:  # such as a worker that dies in the middle of it: the next look finds another
                log.debug("resting workers could not be looked at", exc_info=True)

    def _settle(self) -> None:
        """Let go those that died, take others for them, and have all others rest, those too that have just come."""
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
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            if all(workers[address]["status"] == status for address in addresses & set(workers)):
                return
            time.sleep(0.02)
        log.warning("not all of %d workers were seen %s after %.0f s", len(addresses), status, _PATIENCE)

    def _wake(self, addresses: set[str]) -> None:
        if addresses and self._client.status == "running":
            self._client.run(_wake, workers=sorted(addresses), on_error="ignore")


def _natural(name: str) -> list[Any]:
    """Have worker 10 come after worker 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


# On a worker: until when it rests, and from which share of its memory on Dask pauses it otherwise; by address, for a
# process may be several workers.
_at_rest: dict[str, tuple[float, Any]] = {}


def _rest(dask_worker: Any) -> None:
    manager = dask_worker.memory_manager
    _, fraction = _at_rest.get(dask_worker.address, (0.0, manager.memory_pause_fraction))
    _at_rest[dask_worker.address] = time.monotonic() + _LEASE, fraction
    manager.memory_pause_fraction = False  # or Dask, which sees memory enough, has it go on at once
    if dask_worker.status is Status.running:
        dask_worker.status = Status.paused
    dask_worker.loop.call_later(_LEASE + 1, _lapse, dask_worker)


def _lapse(worker: Any) -> None:
    until, _ = _at_rest.get(worker.address, (time.monotonic(), None))
    if until < time.monotonic():
        _wake(worker)


def _wake(dask_worker: Any) -> None:
    if dask_worker.address in _at_rest:
        _, dask_worker.memory_manager.memory_pause_fraction = _at_rest.pop(dask_worker.address)
        if dask_worker.status is Status.paused:
            dask_worker.status = Status.running
