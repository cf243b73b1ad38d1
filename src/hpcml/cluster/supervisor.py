"""Supervise worker jobs: replace lost ones, scale with the work, and end a hopeless run."""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import AbstractContextManager

from distributed.deploy.spec import SpecCluster

from hpcml.background import looking
from hpcml.cluster.head import JobCluster, bringer
from hpcml.cluster.job_state import WorkerJob
from hpcml.cluster.jobs import Jobs
from hpcml.cluster.rotation import Rotation
from hpcml.cluster.setbacks import AT_ONCE, Setbacks
from hpcml.units import format_walltime
from hpcml.upstream import distributed as upstream

log = logging.getLogger(__name__)

# Seconds between queries to the batch scheduler: the minimum after a change, and the maximum
# otherwise.
_SOONEST, _LATEST = 1.0, 15.0

# Exit reasons that do not depend on the node.
_NOT_THE_NODES = {"done", "deleted", "walltime", "memory"}

# How many times each replacement at the end of a walltime may fail at once before a failure counts
# against cluster.max_restarts.
_GRACE = 2

# Seconds that Dask may take to create the jobs that it was scaled to.
_MADE = 60.0


def _failed_at_once(job: WorkerJob) -> bool:
    """Return whether a lost job failed so early that its node may be the cause."""
    if job.end is None or job.end.kind in _NOT_THE_NODES:
        return False
    return job.broken or job.seconds < AT_ONCE


class Supervisor:
    """Replace lost worker jobs, and end the run when no more workers can start."""

    def __init__(self, dask_cluster: SpecCluster, cluster: JobCluster, jobs: Jobs) -> None:
        self._dask, self._cluster, self._jobs = dask_cluster, cluster, jobs
        self._replacements = jobs.request.max_restarts
        self._setbacks = Setbacks()
        # Jobs to submit when the delay after failures is over; failures that do not count against
        # cluster.max_restarts; jobs without a replacement.
        self._owed = self._free = self._gone = 0
        # Since when requested jobs are missing.
        self._missing: float | None = None
        # Ended jobs that have been handled, replaced or not, and the number of jobs requested in
        # total.
        self._settled: set[str] = set()
        self._asked = jobs.request.first_jobs
        self._latest = min(_LATEST, jobs.request.idle_timeout / 2) if jobs.request.idle_timeout else _LATEST
        # Since when the workers of each job have been idle.
        self._idle: dict[str, float] = {}
        self._rotation = Rotation(dask_cluster, cluster, jobs, self._renew)
        # The budget is used up; no job would finish a task.
        self._broke = self._fruitless = False
        self._next, self._pause, self._seen = 0.0, _SOONEST, ""
        self._present: list[str] = []

    def present(self) -> list[str]:
        """Return the names of the jobs that have workers."""
        # The scheduler's thread may change the dictionary meanwhile.
        with contextlib.suppress(RuntimeError):
            return sorted({bringer(str(worker.name)) for worker in self._cluster.scheduler.workers.values()})
        return []

    def step(self) -> None:
        """Check the jobs if a check is due; workers that joined or left make it due at once."""
        present = self.present()
        busy, waiting = self._load()
        work = bool(busy) or waiting > 0
        if self._rotation.step(work):
            self._next = 0.0
        if work and self._jobs.request.idle_timeout is None:
            self._rotation.unmanned -= self._submit(self._rotation.unmanned)
        if present == self._present and time.monotonic() < self._next:
            return
        self._present = present
        self._jobs.poll(present)
        for job in self._jobs.alive:
            self._give_up_if_deaf(job)
        self._replace()
        self._pay_owed()
        self._release()
        if self._jobs.request.idle_timeout is not None:
            self._adapt(self._jobs.request.idle_timeout, busy, waiting)
        self._schedule_next_check()

    def _schedule_next_check(self) -> None:
        """Check again soon after a change, and ever less often without one."""
        seen = str([(job.name, job.state, job.registered is None) for job in self._jobs.all.values()])
        # A job is charged until it has left the queue.
        leaving = any(job.deleted for job in self._jobs.alive)
        self._pause = _SOONEST if leaving or seen != self._seen else min(self._latest, self._pause * 1.5)
        self._seen = seen
        self._next = time.monotonic() + self._pause

    def _give_up_if_deaf(self, job: WorkerJob) -> None:
        timeout = self._jobs.request.start_timeout
        if job.broken:
            return
        if job.running is not None and job.registered is None and time.monotonic() - job.running > timeout:
            self._jobs.give_up(
                job, f"it ran for cluster.start_timeout={timeout} seconds, and none of its workers reached the head"
            )

    def _lost(self) -> list[WorkerJob]:
        ended = [job for job in self._jobs.all.values() if not job.usable and not job.deleted]
        return [job for job in ended if job.name not in self._settled]

    def _replace(self) -> None:
        """Request replacements for lost jobs, up to the limit, once any job has had workers."""
        lost = self._lost()
        if not lost or not any(job.registered is not None for job in self._jobs.all.values()):
            return
        names = [job.name for job in lost]
        self._settled.update(names)
        for job in lost:
            self._owed += not job.renewed and self._pays(job)
        if self._owed and self._setbacks.repeated and any(map(_failed_at_once, lost)):
            pause = self._setbacks.wait(time.monotonic())
            log.warning("%s: the next worker job is submitted in %.0f s", self._setbacks, pause)
            log.warning("the last of them: worker job %s", self._jobs.describe(lost[-1]))
        self._dask.loop.add_callback(upstream.forget_jobs, self._dask, names)

    def _pays(self, job: WorkerJob) -> bool:
        """Count a lost job and return whether a replacement may be submitted."""
        at_once = _failed_at_once(job)
        if at_once:
            self._setbacks.add(job.nodes, time.monotonic())
        if at_once and self._free:
            self._free -= 1
            return True
        if self._replacements:
            self._replacements -= 1
            return True
        self._gone += 1
        log.warning("cluster.max_restarts are used up: nothing replaces worker job %s", self._jobs.describe(job))
        return False

    def _pay_owed(self) -> None:
        """Submit pending replacements, one at a time with growing delays while jobs fail."""
        after = self._submitted_after_setbacks()
        if any(map(self._works, after)):
            self._setbacks.end()
        if not self._owed or self._setbacks.wait(time.monotonic()):
            return
        if self._setbacks.repeated and after:
            return
        count = 1 if self._setbacks.repeated else self._owed
        submitted = self._submit(count)
        # Replacements that cannot be submitted now, because of the budget or an error, never can
        # be.
        self._owed = self._owed - submitted if submitted == count else 0

    def _release(self) -> None:
        """Delete failed jobs that block their node once no other job still has to be placed."""
        coming = self._owed or self._asked > len(self._jobs.all)
        if coming or any(job.usable and job.registered is None for job in self._jobs.alive):
            return
        for job in [job for job in self._jobs.alive if job.broken and not job.deleted]:
            log.info("worker job %s (%s) stops holding its node", job.name, job.id)
            self._jobs.release(job)

    def _submitted_after_setbacks(self) -> list[WorkerJob]:
        """Return the jobs that were submitted after the last failure, and have not failed."""
        return [job for job in self._jobs.alive if job.usable and (job.submitted or 0.0) > self._setbacks.last]

    def _works(self, job: WorkerJob) -> bool:
        """Return whether a job has proved that it does not fail at once."""
        return job.registered is not None and (job.seconds > AT_ONCE or self._fruitful(job))

    def _fruitful(self, job: WorkerJob) -> bool:
        return any(count for name, count in self._cluster.tally.tasks.items() if name.startswith(f"{job.name}-"))

    def _submit(self, count: int) -> int:
        """Submit up to ``count`` jobs within ``cluster.max_cost``; return the number submitted."""
        # Requested jobs that Dask is about to submit.
        pending = self._asked - len(self._jobs.all)
        affordable = self._jobs.affordable()
        if affordable is not None and affordable - pending < count:
            if not self._broke:
                log.warning("no more worker jobs: cluster.max_cost=%g pays for no more", self._jobs.request.max_cost)
            self._broke, count = True, max(0, affordable - pending)
        if count > 0 and self._jobs.trouble is None:
            self._asked += count
            self._dask.loop.add_callback(lambda: self._dask.scale(jobs=upstream.requested_jobs(self._dask) + count))
            return count
        return 0

    def _renew(self, job: WorkerJob) -> bool:
        """Submit a replacement for a job near its walltime.

        It counts against ``cluster.max_restarts`` if the job has finished no task.
        """
        if self._jobs.trouble is not None or self._fruitless:
            return True
        fruitful = self._fruitful(job)
        if not fruitful and not self._replacements:
            log.warning("worker job %s has finished no task, and cluster.max_restarts are used up", job.name)
            self._fruitless = True
            return True
        # An adaptive cluster submits jobs for waiting tasks anyway; without waiting tasks this is
        # the last job.
        followed = self._jobs.request.idle_timeout is not None and self._load()[1] > 0
        if not followed and not self._submit(1):
            return self._broke
        self._replacements -= not fruitful
        if fruitful:
            self._free = min(self._free + _GRACE, _GRACE * self._jobs.request.jobs)
        return True

    def _adapt(self, idle_timeout: int, busy: set[str], waiting: int) -> None:
        """Submit jobs while tasks wait for them, and close jobs that have been idle for long.

        Jobs are added at once and removed late, and data of an idle worker is moved before it
        closes. So jobs do not flap, and no result has to be recomputed.
        """
        alive = [job for job in self._jobs.alive if job.stays]
        slots = self._jobs.request.workers_per_job * self._jobs.request.threads
        wanted = min(self._jobs.request.jobs - self._gone, -(-waiting // slots))
        # Subtract requested jobs that Dask is about to submit.
        more = wanted - len(alive) - (self._asked - len(self._jobs.all)) - self._owed
        if more > 0 and not self._fruitless and not self._setbacks.repeated and (submitted := self._submit(more)):
            log.info("%d tasks wait: %d more worker jobs", waiting, submitted)
        idle = self._idle_jobs(alive, busy, idle_timeout)
        if idle and len(alive) > max(1, wanted):
            # Close one job at a time, because its data moves to the others.
            job = idle[0]
            log.info("worker job %s (%s) has been idle, and goes", job.name, job.id)
            self._rotation.dismiss(job)

    def _idle_jobs(self, alive: list[WorkerJob], busy: set[str], idle_timeout: int) -> list[WorkerJob]:
        """Note which jobs are idle, and return those that have been idle for long."""
        now = time.monotonic()
        for job in alive:
            if job.name in busy or job.registered is None:
                self._idle.pop(job.name, None)
            else:
                self._idle.setdefault(job.name, now)
        return [job for job in alive if now - self._idle.get(job.name, now) > idle_timeout]

    def _load(self) -> tuple[set[str], int]:
        """Return the names of busy jobs and the number of tasks that are running or waiting."""
        scheduler = self._cluster.scheduler
        # The scheduler's thread may change the dictionaries meanwhile.
        with contextlib.suppress(RuntimeError):
            processing = {str(worker.name): len(worker.processing) for worker in scheduler.workers.values()}
            busy = {bringer(name) for name, count in processing.items() if count}
            return busy, sum(processing.values()) + len(scheduler.queued) + len(scheduler.unrunnable)
        return set(self._jobs.all), 0

    def hopeless(self) -> bool:
        """Return whether all requested jobs have ended, so that no worker can start."""
        if self._owed or any(job.usable for job in self._jobs.alive):
            self._missing = None
            return False
        if len(self._jobs.all) >= self._asked:
            return True
        # Dask may still be about to create the jobs that it was scaled to.
        self._missing = self._missing or time.monotonic()
        return time.monotonic() - self._missing > _MADE

    def _out_of_time(self) -> bool:
        """Return whether the last job drained and the head's job ends too soon for another."""
        last = max(self._jobs.all.values(), key=lambda job: job.ended or 0.0, default=None)
        return self._rotation.too_late and last is not None and last.retired

    def _why(self) -> str:
        request = self._jobs.request
        if self._jobs.trouble is not None:
            return self._jobs.trouble.cause
        if len(self._jobs.all) < self._asked:
            return "worker jobs were requested, but Dask created none"
        if self._out_of_time():
            return "all worker jobs have ended, and the head's own job ends too soon for others"
        if self._broke:
            return f"all worker jobs have ended, and cluster.max_cost={request.max_cost:g} pays for no more"
        if self._fruitless:
            walltime = format_walltime(request.worker.walltime)
            return f"no task was finished within a job's cluster.walltime={walltime}, time and again: ask for more"
        return "all worker jobs have ended, and cluster.max_restarts are used up"

    def watching(self) -> AbstractContextManager[None]:
        """Monitor the jobs in a thread."""

        def look() -> bool:
            self.step()
            if self.hopeless():
                self._cluster.gave_up, self._cluster.out_of_time = self._why(), self._out_of_time()
                log.error("%s", self._cluster.gave_up)
                self._cluster.client.close()
                return True
            return False

        return looking("supervisor", look, 0.5)
