"""The supervisor of worker jobs: replaces lost ones, follows the work if asked to, and knows when there is no hope."""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import AbstractContextManager

from distributed.deploy.spec import SpecCluster

from hpcml.cluster.background import looking
from hpcml.cluster.head import JobCluster, bringer
from hpcml.cluster.jobs import Jobs, WorkerJob
from hpcml.cluster.rotation import Rotation
from hpcml.units import format_walltime

log = logging.getLogger(__name__)

# Seconds between two questions to the batch scheduler: soon after something has changed, seldom when nothing does.
_SOONEST, _LATEST = 1.0, 15.0


class Supervisor:
    """Looks after the worker jobs: replaces those that are lost, and ends the run when no workers can come any more."""

    def __init__(self, dask_cluster: SpecCluster, cluster: JobCluster, jobs: Jobs) -> None:
        self._dask, self._cluster, self._jobs = dask_cluster, cluster, jobs
        self._replacements = jobs.request.replacements
        # jobs that have ended and been replaced, or not; and how many have been asked for altogether
        self._settled: set[str] = set()
        self._asked = jobs.request.first_jobs
        self._latest = min(_LATEST, jobs.request.hold / 2) if jobs.request.hold else _LATEST
        # by job, since when its workers have had nothing to do
        self._idle: dict[str, float] = {}
        self._rotation = Rotation(dask_cluster, cluster, jobs, self._renew)
        # no more can be paid, or would finish a task
        self._broke = self._fruitless = False
        self._next, self._pause, self._seen = 0.0, _SOONEST, ""
        self._present: list[str] = []

    def present(self) -> list[str]:
        """Name the jobs that have workers."""
        with contextlib.suppress(RuntimeError):  # the dictionary has changed under our hands
            return sorted({bringer(str(worker.name)) for worker in self._cluster.scheduler.workers.values()})
        return []

    def step(self) -> None:
        """Look at the jobs if it is time to: at once when workers have come or gone."""
        present = self.present()
        busy, waiting = self._load()
        work = bool(busy) or waiting > 0
        if self._rotation.step(work):
            self._next = 0.0
        if work and self._jobs.request.hold is None:
            self._rotation.unmanned -= self._submit(self._rotation.unmanned)
        if present == self._present and time.monotonic() < self._next:
            return
        self._present = present
        self._jobs.poll(present)
        for job in self._jobs.alive:
            self._give_up_if_deaf(job)
        self._replace()
        if self._jobs.request.hold is not None:
            self._adapt(self._jobs.request.hold, busy, waiting)
        seen = str([(job.name, job.state, job.registered is None) for job in self._jobs.all.values()])
        leaving = any(job.deleted for job in self._jobs.alive)  # until it has left, it is paid for
        self._pause = _SOONEST if leaving or seen != self._seen else min(self._latest, self._pause * 1.5)
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
        alone = [job for job in lost if not job.renewed]
        wanted = min(len(alone), self._replacements)
        self._replacements -= wanted
        if wanted < len(alone):
            log.warning("%d lost worker jobs are not replaced: cluster.replacements are used up", len(alone) - wanted)

        def forget() -> None:
            for job in lost:
                self._dask.worker_spec.pop(job.name, None)
                self._dask.workers.pop(job.name, None)

        self._dask.loop.add_callback(forget)
        self._submit(wanted)

    def _submit(self, count: int) -> int:
        """Submit more jobs, as many as cluster.max_cost pays for; give how many."""
        pending = self._asked - len(self._jobs.all)  # some may be about to be submitted
        affordable = self._jobs.affordable()
        if affordable is not None and affordable - pending < count:
            if not self._broke:
                log.warning("no more worker jobs: cluster.max_cost=%g pays for no more", self._jobs.request.max_cost)
            self._broke, count = True, max(0, affordable - pending)
        if count > 0 and self._jobs.trouble is None:
            self._asked += count
            self._dask.loop.add_callback(lambda: self._dask.scale(jobs=len(self._dask.worker_spec) + count))
            return count
        return 0

    def _renew(self, job: WorkerJob) -> bool:
        """Submit a job in place of one whose walltime ends; one that has computed nothing costs a replacement."""
        if self._jobs.trouble is not None or self._fruitless:
            return True
        fruitful = any(count for name, count in self._cluster.tally.tasks.items() if name.startswith(f"{job.name}-"))
        if not fruitful and not self._replacements:
            log.warning("worker job %s has finished no task, and cluster.replacements are used up", job.name)
            self._fruitless = True
            return True
        # an adaptive cluster submits as many as there is work for anyway; where there is none, this is the last job
        followed = self._jobs.request.hold is not None and self._load()[1] > 0
        if not followed and not self._submit(1):
            return self._broke
        self._replacements -= not fruitful
        return True

    def _adapt(self, hold: int, busy: set[str], waiting: int) -> None:
        """Submit more jobs while there is work for them, and let those go that have long been idle.

        Jobs are added at once and taken away late, and what an idle worker holds is moved before it goes: so jobs do
        not flap, and no result is computed twice for it.
        """
        alive = [job for job in self._jobs.alive if not job.deleted and job.draining is None]
        slots = self._jobs.request.workers_per_job * self._jobs.request.threads
        wanted = min(self._jobs.request.jobs, -(-waiting // slots))
        more = wanted - len(alive) - (self._asked - len(self._jobs.all))  # some may be about to be submitted
        if more > 0 and not self._fruitless and (submitted := self._submit(more)):
            log.info("%d tasks wait: %d more worker jobs", waiting, submitted)
        now = time.monotonic()
        for job in alive:
            if job.name in busy or job.registered is None:
                self._idle.pop(job.name, None)
            elif now - self._idle.setdefault(job.name, now) > hold and len(alive) > max(1, wanted):
                alive.remove(job)
                log.info("worker job %s (%s) has been idle, and goes", job.name, job.id)
                self._rotation.dismiss(job)
                break  # one at a time: what it held is now on others

    def _load(self) -> tuple[set[str], int]:
        """Name the jobs that compute, and count the tasks that are under way or wait."""
        scheduler = self._cluster.scheduler
        with contextlib.suppress(RuntimeError):  # the dictionaries have changed under our hands
            processing = {str(worker.name): len(worker.processing) for worker in scheduler.workers.values()}
            busy = {bringer(name) for name, count in processing.items() if count}
            return busy, sum(processing.values()) + len(scheduler.queued) + len(scheduler.unrunnable)
        return set(self._jobs.all), 0

    def hopeless(self) -> bool:
        """Tell whether no worker can come any more: all jobs that were asked for were submitted, and have ended."""
        return len(self._jobs.all) >= self._asked and not self._jobs.alive

    def _out_of_time(self) -> bool:
        """Tell whether the last job has left in good order, and the head's own job ends too soon for another."""
        last = max(self._jobs.all.values(), key=lambda job: job.ended or 0.0)
        return self._rotation.too_late and last.retired

    def _why(self) -> str:
        request = self._jobs.request
        if self._jobs.trouble is not None:
            return self._jobs.trouble.cause
        if self._out_of_time():
            return "all worker jobs have ended, and the head's own job ends too soon for others"
        if self._broke:
            return f"all worker jobs have ended, and cluster.max_cost={request.max_cost:g} pays for no more"
        if self._fruitless:
            walltime = format_walltime(request.worker.walltime)
            return f"no task was finished within a job's cluster.walltime={walltime}, time and again: ask for more"
        return "all worker jobs have ended, and cluster.replacements are used up"

    def watching(self) -> AbstractContextManager[None]:
        """Go on looking, in a thread of its own."""

        def look() -> bool:
            self.step()
            if self.hopeless():
                self._cluster.gave_up, self._cluster.out_of_time = self._why(), self._out_of_time()
                log.error("%s", self._cluster.gave_up)
                self._cluster.client.close()
                return True
            return False

        return looking("supervisor", look, 0.5)
