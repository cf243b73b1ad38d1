"""Rotate worker jobs: drain each before its walltime ends, and submit its replacement in time.

A job that is killed at its walltime loses its running tasks and the data of its workers. So hpcml
first submits a replacement, then sends the workers no more tasks, waits for their running tasks,
moves their data to other workers, and closes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from distributed.deploy.spec import SpecCluster

from hpcml.cluster.fitness import FACTS
from hpcml.cluster.head import JobCluster, bringer
from hpcml.cluster.job_state import WorkerJob
from hpcml.cluster.jobs import Jobs
from hpcml.upstream import distributed as upstream

log = logging.getLogger(__name__)

# The fraction of the walltime that is reserved for moving results and for the delay of PBS, with a
# minimum and a maximum in seconds. PBS checks walltimes every few seconds, and kills a job 10
# seconds after SIGTERM.
_MARGIN, _LEAST, _MOST = 0.05, 15.0, 120.0

# The largest fraction of the walltime that any one step may take, so that jobs have time to
# compute.
_SHARE = 0.25

# Assumed seconds from a job's submission to its first worker until one has been measured.
_LEAD = 30.0

# Jobs that start together drain one after the other, spread over this fraction of their walltime,
# with a maximum in seconds.
_SPREAD, _SPREAD_MOST = 0.1, 300.0

# Seconds until a worker's heartbeat has reported its running tasks, on a small cluster.
_HEARTBEAT = 3.0


class Rotation:
    """Drain worker jobs before their walltime ends, and request replacements.

    Parameters
    ----------
    renew : callable
        Submits a replacement for a job; returns whether this needs no retry.
    """

    def __init__(
        self, dask_cluster: SpecCluster, cluster: JobCluster, jobs: Jobs, renew: Callable[[WorkerJob], bool]
    ) -> None:
        self._dask, self._cluster, self._jobs, self._renew = dask_cluster, cluster, jobs, renew
        # The head's own job ends too early for a replacement.
        self.too_late = False
        # The number of jobs that left without a replacement because no work was waiting.
        self.unmanned = 0
        self._told = 0.0
        walltime = jobs.request.worker.walltime
        self._walltime = walltime
        self._margin = min(max(_LEAST, _MARGIN * walltime), _MOST, _SHARE * walltime)

    def step(self, work: bool) -> bool:
        """Check all jobs and return whether one has left.

        Parameters
        ----------
        work : bool
            Whether tasks are running or waiting.
        """
        gone = False
        self._hear_ages()
        for job in [job for job in self._jobs.alive if job.registered is not None and not job.deleted]:
            left = self._left(job)
            if self._replacement_is_due(job, left, work):
                job.renewed = self._renew(job)
            if job.draining is None:
                self._drain_in_time(job, left)
            elif self._close_if_idle(job, left):
                gone = True
                self.unmanned += not (job.renewed or self.too_late)
        return gone

    def _replacement_is_due(self, job: WorkerJob, left: float, work: bool) -> bool:
        """Return whether to submit a replacement now, so that it starts before this job drains."""
        # Keep one job while there is no work, because more work may follow.
        if job.renewed or not (work or self._last(job)):
            return False
        return left < self._draining_time(job) + self._lead() and self._outlives(left)

    def _drain_in_time(self, job: WorkerJob, left: float) -> None:
        """Drain a job whose turn has come; without other workers, only just before it ends."""
        if left < self._margin or (left < self._draining_time(job) and self._others(job)):
            self._drain(job)

    def _draining_time(self, job: WorkerJob) -> float:
        """Return how long before the end of its walltime a job starts to drain, in seconds.

        A task that starts later would not finish.
        """
        return self._margin + self._length() + self._spread(job)

    def _left(self, job: WorkerJob) -> float:
        assert job.running is not None
        return job.running + self._walltime - time.monotonic()

    def _hear_ages(self) -> None:
        """Read from the workers how long their jobs have run, as the scheduler may lag."""
        # Dask drops the oldest events.
        for when, facts in self._cluster.scheduler.get_events(FACTS):
            if when <= self._told:
                continue
            self._told = when
            job = self._jobs.all.get(bringer(facts["name"]))
            if job is not None and job.running is not None:
                began = time.monotonic() - (time.time() - when) - facts["age"]
                job.running = min(job.running, began)

    def _length(self) -> float:
        """Estimate the duration of a task that starts now, in seconds."""
        # The scheduler's thread may change the dictionary meanwhile.
        with contextlib.suppress(RuntimeError):
            known = upstream.average_durations(self._cluster.scheduler)
            return min(1.5 * max(known, default=0.0), _SHARE * self._walltime)
        return 0.0

    def _lead(self) -> float:
        seen = [job.registered - job.submitted for job in self._jobs.all.values() if job.registered and job.submitted]
        return float(min(max(seen[-3:], default=_LEAD) + 5, _SHARE * self._walltime))

    def _spread(self, job: WorkerJob) -> float:
        number, jobs = int(job.name.rpartition("-")[2]), self._jobs.request.jobs
        return number % jobs / jobs * min(_SPREAD * self._walltime, _SPREAD_MOST)

    def _outlives(self, left: float) -> bool:
        """Return whether the head outlives this job long enough to justify a replacement."""
        ends = self._jobs.ends
        self.too_late = ends is not None and ends - time.time() < left + 2 * self._lead()
        return not self.too_late

    def _workers(self, job: WorkerJob) -> list[Any]:
        workers = list(self._cluster.scheduler.workers.values())
        return [worker for worker in workers if bringer(str(worker.name)) == job.name]

    def _last(self, job: WorkerJob) -> bool:
        """Return whether no other job that will stay is running or queued."""
        others = [other for other in self._jobs.alive if other.usable and other is not job and not other.deleted]
        return all(other.renewed or other.draining is not None for other in others)

    def _others(self, job: WorkerJob) -> bool:
        running = list(self._cluster.scheduler.running)
        return any(bringer(str(worker.name)) != job.name for worker in running)

    def _drain(self, job: WorkerJob) -> None:
        """Stop sending tasks to the workers of a job."""
        log.info("worker job %s (%s) gets no more tasks: %.0f s are left", job.name, job.id, self._left(job))
        job.draining = time.monotonic()

        def drain() -> None:
            scheduler = self._cluster.scheduler
            for worker in self._workers(job):
                upstream.drain(scheduler, worker, f"hpcml-drain-{job.name}")

        self._dask.loop.add_callback(drain)

    def _idle(self, job: WorkerJob) -> bool:
        assert job.draining is not None
        beat = 2 * upstream.heartbeat_interval(len(self._cluster.scheduler.workers))
        heard = time.monotonic() - job.draining > max(_HEARTBEAT, beat)
        return heard and not any(worker.executing for worker in self._workers(job))

    def _close_if_idle(self, job: WorkerJob, left: float) -> bool:
        """Close a draining job that is idle or about to end, and return whether it was closed.

        The data of its workers moves to others; tasks that still run are repeated.
        """
        if not self._idle(job) and left >= self._margin:
            return False
        if not self._others(job) and left > self._margin / 2:
            # No other worker can take the data yet, but one may register.
            return False
        lost = {str(worker.name): len(worker.executing) for worker in self._workers(job)}
        log.info("worker job %s (%s) goes: %.0f s of its walltime are left", job.name, job.id, left)
        job.retired = True
        self.dismiss(job, max(1.0, min(left, self._margin) - 5))
        for name, count in lost.items():
            if count:
                log.warning("worker %s ended with %d tasks under way, which run again", name, count)
                self._cluster.tally.lost(name, count)
        return True

    def dismiss(self, job: WorkerJob, limit: float | None = None) -> None:
        """Move the data of a job's workers to others, close the workers, and delete the job.

        Parameters
        ----------
        limit : float or None
            Maximum seconds for moving the data.
        """
        addresses = [worker.address for worker in self._workers(job)]

        async def retire() -> None:
            retiring = self._cluster.scheduler.retire_workers(workers=addresses, close_workers=True)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(retiring, limit)

        self._dask.sync(retire)
        job.deleted = True
        self._dask.loop.add_callback(upstream.forget_jobs, self._dask, [job.name])
        if job.id is not None:
            self._jobs.batch.delete([job.id])
