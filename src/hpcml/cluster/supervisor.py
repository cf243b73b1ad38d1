"""The supervisor of worker jobs: replaces lost ones, follows the work if asked to, and knows when there is no hope."""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import AbstractContextManager

from distributed.deploy.spec import SpecCluster

from hpcml.cluster.background import looking
from hpcml.cluster.handle import Cluster
from hpcml.cluster.jobs import Jobs, WorkerJob

log = logging.getLogger(__name__)

# Seconds between two questions to the batch scheduler: soon after something has changed, seldom when nothing does.
_SOONEST, _LATEST = 1.0, 15.0


class Supervisor:
    """Looks after the worker jobs: replaces those that are lost, and ends the run when no workers can come any more."""

    def __init__(self, dask_cluster: SpecCluster, cluster: Cluster, jobs: Jobs) -> None:
        self._dask, self._cluster, self._jobs = dask_cluster, cluster, jobs
        self._replacements = jobs.request.replacements
        # jobs that have ended and been replaced, or not; and how many have been asked for altogether
        self._settled: set[str] = set()
        self._asked = jobs.request.first_jobs
        self._latest = min(_LATEST, jobs.request.hold / 2) if jobs.request.hold else _LATEST
        # by job, since when its workers have had nothing to do
        self._idle: dict[str, float] = {}
        self._next, self._pause, self._seen = 0.0, _SOONEST, ""
        self._present: list[str] = []

    def present(self) -> list[str]:
        """Name the jobs that have workers."""
        with contextlib.suppress(RuntimeError):  # the dictionary has changed under our hands
            return sorted({str(worker.name).rpartition("-")[0] for worker in self._cluster.scheduler.workers.values()})
        return []

    def step(self) -> None:
        """Look at the jobs if it is time to: at once when workers have come or gone."""
        present = self.present()
        if present == self._present and time.monotonic() < self._next:
            return
        self._present = present
        self._jobs.poll(present)
        for job in self._jobs.alive:
            self._give_up_if_deaf(job)
        self._replace()
        if self._jobs.request.hold is not None:
            self._adapt(self._jobs.request.hold)
        seen = str([(job.name, job.state, job.registered is None) for job in self._jobs.all.values()])
        self._pause = _SOONEST if seen != self._seen else min(self._latest, self._pause * 1.5)
        self._seen = seen
        self._next = time.monotonic() + self._pause

    def _give_up_if_deaf(self, job: WorkerJob) -> None:
        timeout = self._jobs.request.start_timeout
        if job.running is not None and job.registered is None and time.monotonic() - job.running > timeout:
            self._jobs.give_up(
                job, f"it ran for cluster.start_timeout={timeout} seconds, and none of its workers reached the head"
            )

    def _lost(self) -> list[WorkerJob]:
        ended = [job for job in self._jobs.all.values() if not job.alive and not job.deleted]
        return [job for job in ended if job.name not in self._settled]

    def _replace(self) -> None:
        """Submit a job for each that was lost, while the budget lasts; none before it is known that jobs do start."""
        lost = self._lost()
        if not lost or not any(job.registered is not None for job in self._jobs.all.values()):
            return
        self._settled |= {job.name for job in lost}
        wanted = min(len(lost), self._replacements)
        self._replacements -= wanted
        if wanted < len(lost):
            log.warning("%d lost worker jobs are not replaced: cluster.replacements are used up", len(lost) - wanted)

        def change() -> None:
            for job in lost:
                self._dask.worker_spec.pop(job.name, None)
                self._dask.workers.pop(job.name, None)
            if wanted:
                self._dask.scale(jobs=len(self._dask.worker_spec) + wanted)

        self._asked += wanted
        self._dask.loop.add_callback(change)

    def _adapt(self, hold: int) -> None:
        """Submit more jobs while there is work for them, and let those go that have long been idle.

        Jobs are added at once and taken away late, and what an idle worker holds is moved before it goes: so jobs do
        not flap, and no result is computed twice for it.
        """
        busy, waiting = self._load()
        alive = [job for job in self._jobs.alive if not job.deleted]
        slots = self._jobs.request.workers_per_job * self._jobs.request.threads
        wanted = min(self._jobs.request.jobs, -(-waiting // slots))
        more = wanted - len(alive) - (self._asked - len(self._jobs.all))  # some may be about to be submitted
        if more > 0 and self._jobs.trouble is None:
            log.info("%d tasks wait: %d more worker jobs", waiting, more)
            self._asked += more
            self._dask.loop.add_callback(lambda: self._dask.scale(jobs=len(self._dask.worker_spec) + more))
        now = time.monotonic()
        for job in alive:
            if job.name in busy or job.registered is None:
                self._idle.pop(job.name, None)
            elif now - self._idle.setdefault(job.name, now) > hold and len(alive) > max(1, wanted):
                alive.remove(job)
                self._retire(job)
                break  # one at a time: what it held is now on others

    def _load(self) -> tuple[set[str], int]:
        """Name the jobs that compute, and count the tasks that are under way or wait."""
        scheduler = self._cluster.scheduler
        with contextlib.suppress(RuntimeError):  # the dictionaries have changed under our hands
            processing = {str(worker.name): len(worker.processing) for worker in scheduler.workers.values()}
            busy = {name.rpartition("-")[0] for name, count in processing.items() if count}
            return busy, sum(processing.values()) + len(scheduler.queued) + len(scheduler.unrunnable)
        return set(self._jobs.all), 0

    def _retire(self, job: WorkerJob) -> None:
        log.info("worker job %s (%s) has been idle, and goes", job.name, job.id)
        workers = [
            address
            for address, worker in list(self._cluster.scheduler.workers.items())
            if str(worker.name).rpartition("-")[0] == job.name
        ]
        self._dask.sync(self._cluster.scheduler.retire_workers, workers=workers, close_workers=True, remove=True)
        job.deleted = True
        self._dask.loop.add_callback(self._dask.worker_spec.pop, job.name, None)
        self._dask.loop.add_callback(self._dask.workers.pop, job.name, None)
        if job.id is not None:
            self._jobs.batch.delete([job.id])

    def hopeless(self) -> bool:
        """Tell whether no worker can come any more: all jobs that were asked for were submitted, and have ended."""
        return len(self._jobs.all) >= self._asked and not self._jobs.alive

    def watching(self) -> AbstractContextManager[None]:
        """Go on looking, in a thread of its own."""

        def look() -> bool:
            self.step()
            if self.hopeless():
                log.error("all worker jobs have ended, and none will come: giving up")
                self._cluster.client.close()
                return True
            return False

        return looking("supervisor", look, 0.5)
