"""The rotation of worker jobs: each leaves before its walltime kills it, and another comes before it goes.

A job that reaches its walltime takes with it what its workers compute and hold. So, in this order: another job is
submitted; the workers get no more tasks, and finish those that they have; what they hold is moved to others; they go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from distributed import Status
from distributed.deploy.spec import SpecCluster
from distributed.scheduler import heartbeat_interval

from hpcml.cluster.fitness import FACTS
from hpcml.cluster.head import JobCluster, bringer
from hpcml.cluster.jobs import Jobs, WorkerJob

log = logging.getLogger(__name__)

# So much of a walltime is kept for moving results, and for what PBS takes to see that it has ended: a part of it, at
# least and at most so many seconds. PBS looks at walltimes every few seconds, and kills 10 seconds after it has told.
_MARGIN, _LEAST, _MOST = 0.05, 15.0, 120.0

# Nothing takes more than this part of a walltime: jobs have to compute as well.
_SHARE = 0.25

# How long a job may take from its submission to its first worker while no other has shown it, in seconds.
_LEAD = 30.0

# Jobs that have begun together leave one after the other, within this part of their walltime, at most so many seconds.
_SPREAD, _SPREAD_MOST = 0.1, 300.0

# After so many seconds a worker's heartbeat has told what it still computes, on a small cluster.
_HEARTBEAT = 3.0


class Rotation:
    """Renews worker jobs.

    Parameters
    ----------
    renew : callable
        Submits another job in place of one; tells whether that is settled.
    """

    def __init__(
        self, dask_cluster: SpecCluster, cluster: JobCluster, jobs: Jobs, renew: Callable[[WorkerJob], bool]
    ) -> None:
        self._dask, self._cluster, self._jobs, self._renew = dask_cluster, cluster, jobs, renew
        # the head ends too soon for another job
        self.too_late = False
        # how many jobs have gone without another, for want of work
        self.unmanned = 0
        self._told = 0.0
        walltime = jobs.request.worker.walltime
        self._walltime = walltime
        self._margin = min(max(_LEAST, _MARGIN * walltime), _MOST, _SHARE * walltime)

    def step(self, work: bool) -> bool:
        """Look at all jobs, and tell whether one has gone.

        Parameters
        ----------
        work : bool
            Some tasks are under way or wait.
        """
        gone = False
        self._hear_ages()
        for job in [job for job in self._jobs.alive if job.registered is not None and not job.deleted]:
            left = self._left(job)
            last = self._margin + self._length()  # from when on no task would come to its end
            spread = last + self._spread(job)
            # while nothing is to be done one job stays, for more may be to be done later
            needed = work or self._last(job)
            if needed and not job.renewed and left < spread + self._lead() and self._outlives(left):
                job.renewed = self._renew(job)
            if job.draining is None and (left < self._margin or (left < spread and self._others(job))):
                self._drain(job)
            elif job.draining is not None and (self._idle(job) or left < self._margin) and self._let_go(job, left):
                gone = True
                self.unmanned += not (job.renewed or self.too_late)
        return gone

    def _left(self, job: WorkerJob) -> float:
        assert job.running is not None
        return job.running + self._walltime - time.monotonic()

    def _hear_ages(self) -> None:
        """Take from the workers how long their jobs have run: the scheduler may have said so late."""
        for when, facts in self._cluster.scheduler.get_events(FACTS):  # of which Dask forgets the oldest
            if when <= self._told:
                continue
            self._told = when
            job = self._jobs.all.get(bringer(facts["name"]))
            if job is not None and job.running is not None:
                began = time.monotonic() - (time.time() - when) - facts["age"]
                job.running = min(job.running, began)

    def _length(self) -> float:
        """Estimate how long a task takes that is given out now, in seconds."""
        with contextlib.suppress(RuntimeError):  # the dictionary has changed under our hands
            prefixes = list(self._cluster.scheduler.task_prefixes.values())
            known = [p.duration_average for p in prefixes if p.duration_average and p.states.get("processing")]
            return min(1.5 * max(known, default=0.0), _SHARE * self._walltime)
        return 0.0

    def _lead(self) -> float:
        seen = [job.registered - job.submitted for job in self._jobs.all.values() if job.registered and job.submitted]
        return float(min(max(seen[-3:], default=_LEAD) + 5, _SHARE * self._walltime))

    def _spread(self, job: WorkerJob) -> float:
        number, jobs = int(job.name.rpartition("-")[2]), self._jobs.request.jobs
        return number % jobs / jobs * min(_SPREAD * self._walltime, _SPREAD_MOST)

    def _outlives(self, left: float) -> bool:
        """Tell whether the head lives on so long after this job that another is worth its start."""
        ends = self._jobs.ends
        self.too_late = ends is not None and ends - time.time() < left + 2 * self._lead()
        return not self.too_late

    def _workers(self, job: WorkerJob) -> list[Any]:
        workers = list(self._cluster.scheduler.workers.values())
        return [worker for worker in workers if bringer(str(worker.name)) == job.name]

    def _last(self, job: WorkerJob) -> bool:
        """Tell whether no other job is there, or on its way, that will stay."""
        others = [other for other in self._jobs.alive if other is not job and not other.deleted]
        return all(other.renewed or other.draining is not None for other in others)

    def _others(self, job: WorkerJob) -> bool:
        running = list(self._cluster.scheduler.running)
        return any(bringer(str(worker.name)) != job.name for worker in running)

    def _drain(self, job: WorkerJob) -> None:
        """Give a job's workers no more tasks; as the first step of Dask's retire_workers does."""
        log.info("worker job %s (%s) gets no more tasks: %.0f s are left", job.name, job.id, self._left(job))
        job.draining = time.monotonic()

        def drain() -> None:
            scheduler = self._cluster.scheduler
            for worker in self._workers(job):
                stimulus = f"hpcml-drain-{job.name}"
                scheduler.handle_worker_status_change(Status.closing_gracefully, worker, stimulus)
                scheduler.stream_comms[worker.address].send(
                    {"op": "worker-status-change", "status": "closing_gracefully", "stimulus_id": stimulus}
                )

        self._dask.loop.add_callback(drain)

    def _idle(self, job: WorkerJob) -> bool:
        assert job.draining is not None
        beat = 2 * heartbeat_interval(len(self._cluster.scheduler.workers))
        heard = time.monotonic() - job.draining > max(_HEARTBEAT, beat)
        return heard and not any(worker.executing for worker in self._workers(job))

    def _let_go(self, job: WorkerJob, left: float) -> bool:
        """Move what the workers hold, and end them; what they still compute is computed again."""
        if not self._others(job) and left > self._margin / 2:
            return False  # nobody to take what they hold: another may come yet
        lost = {str(worker.name): len(worker.executing) for worker in self._workers(job)}
        log.info("worker job %s (%s) goes: %.0f s of its walltime are left", job.name, job.id, left)
        job.retired = True
        self.dismiss(job, max(1.0, min(left, self._margin) - 5))
        for name, count in lost.items():
            if count:
                log.warning("worker %s was let go with %d tasks under way, which are done again", name, count)
                self._cluster.tally.lost(name, count)
        return True

    def dismiss(self, job: WorkerJob, limit: float | None = None) -> None:
        """Move what a job's workers hold to others, end them, and delete the job.

        Parameters
        ----------
        limit : float or None
            How long moving may take, in seconds.
        """
        addresses = [worker.address for worker in self._workers(job)]

        async def retire() -> None:
            retiring = self._cluster.scheduler.retire_workers(workers=addresses, close_workers=True)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(retiring, limit)

        self._dask.sync(retire)
        job.deleted = True
        self._dask.loop.add_callback(self._dask.worker_spec.pop, job.name, None)
        self._dask.loop.add_callback(self._dask.workers.pop, job.name, None)
        if job.id is not None:
            self._jobs.batch.delete([job.id])
