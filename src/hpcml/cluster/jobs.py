"""The worker jobs of a run: submitted one after the other, each in the ledger, watched by one batched question."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hpcml import interrupt
from hpcml.batch.cost import cost_of, price
from hpcml.batch.directives import worker_script
from hpcml.batch.ledger import Ledger
from hpcml.batch.listing import JobStatus
from hpcml.batch.request import Request
from hpcml.batch.scheduler import RefusedError, Scheduler, spoken_to
from hpcml.batch.status import Explanation, explain_exit
from hpcml.batch.usage import read_kill
from hpcml.batch.waiting import explain_comment
from hpcml.files import write_text
from hpcml.runs import RunPaths

log = logging.getLogger(__name__)

# At most so many submissions a second, and jobs in the queue at a time: a PBS server has other users.
_SPACING, _BACKLOG = 0.2, 50

# How often a submission is tried again when the server does not answer, and how long is waited in between, in seconds.
_TRIES, _PAUSE = 20, 15

# How long after a submission a server may not know the job yet, in seconds: routing queues.
_UNSEEN = 30

# In how many listings in a row a job must be missing before it is taken for gone.
_SURE = 3

# How long deleted jobs have to leave the queue, and after how long they are deleted again, in seconds; and how long
# where the head's own job was told to end.
_GONE, _AGAIN, _HURRY = 90, 15, 5


@dataclass
class WorkerJob:
    """One worker job, as far as it is known. Times are of time.monotonic."""

    name: str
    id: str | None = None
    state: str = "not submitted"
    submitted: float | None = None
    running: float | None = None
    # when its first worker came, and what has been heard of its workers
    registered: float | None = None
    ended: float | None = None
    end: Explanation | None = None
    comment: str | None = None
    nodes: tuple[str, ...] = ()
    deleted: bool = False
    # before its walltime ends: another was submitted in its place; since when it gets no more tasks; it was let go
    renewed: bool = False
    draining: float | None = None
    retired: bool = False
    # how many listings in a row did not have it
    unseen: int = 0

    @property
    def alive(self) -> bool:
        return self.ended is None

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return 0.0 if self.running is None else (self.ended or time.monotonic()) - self.running

    def __str__(self) -> str:
        number = self.id or "not submitted"
        if self.end is not None:
            return f"{number}: {self.end.sentence}"
        comment = f": {explain_comment(self.comment).sentence}" if self.comment and self.state != "running" else ""
        return f"{number}: {self.state}{comment}"


def _end_of(job: WorkerJob) -> str:
    if job.alive:
        return "it could not be deleted" if job.deleted else job.state
    if job.retired:
        return "let go before its walltime ended"
    return "deleted by hpcml" if job.deleted else job.end.sentence if job.end else job.state


@dataclass
class Trouble:
    """Why no workload can run: the cause, and what to do about it."""

    cause: str
    hints: list[str] = field(default_factory=list)


class Jobs:
    """Submits, watches and deletes the worker jobs of a run.

    Parameters
    ----------
    batch : Scheduler
        Who has the jobs.
    ends : float or None
        When the job that the head is in ends, in seconds since the epoch.
    """

    def __init__(self, request: Request, paths: RunPaths, batch: Scheduler, ends: float | None = None) -> None:
        self.request, self.paths, self.batch, self.ends = request, paths, batch, ends
        self.all: dict[str, WorkerJob] = {}
        self.trouble: Trouble | None = None
        self.batch_name = f"{request.worker.name}-{paths.run_id}"
        self._ledger = Ledger(paths.ledger)
        self._one_at_a_time = asyncio.Semaphore(1)
        self._closed = threading.Event()
        self._in_flight = 0
        self._outage = False
        self._numbers = itertools.count()
        paths.jobs.mkdir(mode=0o700, exist_ok=True)

    def new_name(self) -> str:
        """Name a job; no other of the run has had the name."""
        return f"job-{next(self._numbers)}"

    @property
    def alive(self) -> list[WorkerJob]:
        return [job for job in list(self.all.values()) if job.alive]

    def affordable(self) -> int | None:
        """Count the jobs that may still be submitted for cluster.max_cost; None: any number.

        Those that are in the queue or run count with their whole walltime, and so does the head.
        """
        if self.request.max_cost is None:
            return None
        job = self.request.worker
        whole = cost_of(job, job.walltime)
        spent = sum(whole if other.alive else cost_of(job, other.seconds) for other in list(self.all.values()))
        left = self.request.max_cost - price(self.request).head - spent
        return max(0, int(left / whole + 1e-9)) if whole else None

    # Submission: in Dask's event loop

    async def submit(self, name: str) -> None:
        """Submit a job when its turn has come; what goes wrong is in :attr:`trouble`, nothing is raised."""
        self.all[name] = job = WorkerJob(name)
        async with self._one_at_a_time:
            while not self._closed.is_set() and self._backlog() >= _BACKLOG:
                await asyncio.sleep(1)
            if self._closed.is_set() or self.trouble is not None:
                self._end(job, Explanation("never ran", "it was not submitted"))
                return
            self._in_flight += 1
            try:
                await asyncio.to_thread(self._submit, job)
            except Exception as error:  # a full disk: Dask would only log it, and everybody would wait
                log.exception("worker job %s could not be submitted", job.name)
                self.trouble = Trouble(f"worker jobs cannot be submitted: {type(error).__name__}: {error}")
            finally:
                self._in_flight -= 1
            await asyncio.sleep(_SPACING)

    def _backlog(self) -> int:
        return sum(job.state in {"queued", "held", "waiting"} for job in self.alive if job.id)

    def _submit(self, job: WorkerJob) -> None:
        script = self.paths.job_script(job.name)
        write_text(script, worker_script(self.request, self.paths, job.name))
        for attempt in range(_TRIES):
            facts = {"name": self.batch_name, "scheduler": self.batch.name, "site": spoken_to(self.request.site)}
            self._ledger.note("submitting", job.name, **facts)
            try:
                job.id = self.batch.submit(script, self.paths.job_log(job.name))
            except RefusedError as refused:
                again = refused.refusal.action != "give up" and attempt + 1 < _TRIES
                log.warning("worker job %s was refused: %s", job.name, refused.message)
                if again and self._taken_all_the_same(job):
                    break
                self._ledger.note("refused", job.name, why=refused.message)
                if not again or self._closed.wait(_PAUSE):
                    self._end(job, Explanation("never ran", refused.message, "; ".join(refused.hints)))
                    if not again and not any(other.id for other in self.all.values()):
                        self.trouble = Trouble(f"the first worker job was refused: {refused.message}",
                                               [*refused.hints, f"the script is {script}"])  # fmt: skip
                    return
            else:
                break
        job.submitted, job.state = time.monotonic(), "queued"
        self._ledger.note("submitted", job.name, id=job.id)
        log.info("worker job %s is %s", job.name, job.id)

    def _taken_all_the_same(self, job: WorkerJob) -> bool:
        """Look for a job that a server has taken without being able to say so."""
        known = {other.id for other in self.all.values()}
        unknown = [number for number in self.batch.named(self.batch_name) or [] if number not in known]
        if unknown:
            job.id = unknown[0]
        return bool(unknown)

    # Watching: in the supervisor's thread

    def poll(self, present: Iterable[str]) -> None:
        """Ask for all jobs at once.

        Parameters
        ----------
        present : iterable of str
            Names of the jobs that have workers at this moment.
        """
        for name in present:
            job = self.all.get(name)
            if job is not None and job.registered is None:
                job.registered = time.monotonic()
                job.running = job.running or job.registered
        asked = [job for job in self.alive if job.id is not None]
        if not asked:
            return
        listing = self.batch.listing([str(job.id) for job in asked])
        self._tell_outage(listing.outage)
        for job in asked if listing.outage is None else []:
            status = listing.find(str(job.id))
            if status is not None:
                self._seen(job, status)
            elif listing.answer(str(job.id)) != "no answer":
                self._missed(job)

    def _tell_outage(self, outage: str | None) -> None:
        if outage is not None and not self._outage:
            log.warning("the scheduler does not answer; worker jobs go on without being watched: %s", outage)
        if outage is None and self._outage:
            log.warning("the scheduler answers again")
        self._outage = outage is not None

    def _missed(self, job: WorkerJob) -> None:
        """Note that a listing does not have a job; it is gone when it has long been submitted, and is missed again."""
        if time.monotonic() - (job.submitted or 0) > _UNSEEN:
            job.unseen += 1
        if job.unseen >= _SURE:
            self._end(job, Explanation("unknown", "it has left the queue, and the scheduler does not say how"))

    def _seen(self, job: WorkerJob, status: JobStatus) -> None:
        if status.state != job.state:
            log.info("worker job %s (%s) is %s%s", job.name, job.id, status.state,
                     f": {status.comment}" if status.comment else "")  # fmt: skip
        job.unseen = 0
        job.state, job.comment, job.nodes = status.state, status.comment, status.nodes or job.nodes
        if status.state == "running" and job.running is None:
            job.running = time.monotonic()
        if status.state == "finished":
            end = explain_exit(status)
            kill = read_kill(self.log_of(job))
            self._end(job, end if kill is None or job.deleted else Explanation(end.kind, kill, end.remedy))
        elif status.comment and explain_comment(status.comment).never:
            waiting = explain_comment(status.comment)
            self.trouble = self.trouble or Trouble(
                f"worker job {job.id} can never run: {waiting.sentence}",
                [*filter(None, [waiting.remedy]), f"the scheduler's own words: {status.comment}"],
            )

    def log_of(self, job: WorkerJob) -> str:
        """Give what a job wrote."""
        try:
            return self.paths.job_log(job.name).read_text(errors="replace")
        except OSError:
            return ""

    def _end(self, job: WorkerJob, end: Explanation) -> None:
        job.ended, job.end, job.state = time.monotonic(), end, "finished"
        if job.id is not None:
            self._ledger.note("ended", job.name, id=job.id, why=end.sentence)
        level = logging.INFO if job.deleted or self._closed.is_set() or end.kind == "done" else logging.WARNING
        log.log(level, "worker job %s (%s) has ended: %s", job.name, job.id, end.sentence)

    def give_up(self, job: WorkerJob, why: str) -> None:
        """Delete a job that does not do what it should."""
        if job.id is not None:
            self.batch.delete([job.id])
        self._end(job, Explanation("failed", why))

    # The end

    def close(self) -> list[str]:
        """Submit no more, delete all jobs, queued and running, and wait until the scheduler says that they are gone.

        Returns
        -------
        list of str
            Ids of the jobs that are still there.
        """
        self._closed.set()
        left = self._delete_alive()
        while self._in_flight:  # a qsub that has begun will be answered, or will time out
            time.sleep(0.05)
            left = self._delete_alive()
        deadline, again = time.monotonic() + self._patience(), time.monotonic() + _AGAIN
        pause = 0.2
        while self.alive and time.monotonic() < deadline:
            self.poll(())
            if time.monotonic() > again:
                again = time.monotonic() + _AGAIN
                self.batch.delete([str(job.id) for job in self.alive])
            if self.alive:
                time.sleep(pause)
                pause = min(2.0, pause * 1.5)
        left = [str(job.id) for job in self.alive]
        if left:
            log.error("these worker jobs could not be deleted: %s", " ".join(left))
        return left

    def _patience(self) -> float:
        """Settle how long to wait for jobs to be gone: a head in a job that is about to end has to write its record."""
        if self.ends is None:
            return _GONE
        return _HURRY if self._in_a_hurry() else max(_HURRY, min(_GONE, self.ends - time.time() - 10))

    def _in_a_hurry(self) -> bool:
        return self.ends is not None and interrupt.hurried()

    def _delete_alive(self) -> list[str]:
        fresh = [job for job in self.alive if job.id is not None and not job.deleted]
        for job in fresh:
            job.deleted = True
        for job in [job for job in self.alive if job.id is None and not self._in_flight]:
            self._end(job, Explanation("never ran", "it was not submitted"))
        if self._in_a_hurry():
            self.batch.delete([str(job.id) for job in fresh], timeout=_HURRY)
        else:
            self.batch.delete([str(job.id) for job in fresh])
        return [str(job.id) for job in fresh]

    @property
    def core_s(self) -> float:
        """Core-seconds that the jobs have had so far."""
        return sum(job.seconds for job in self.all.values()) * self.request.worker.ncpus

    def last_words(self) -> list[str]:
        """Say how those have ended that hpcml has not deleted."""
        return [f"worker job {job}" for job in self.all.values() if not job.alive and not job.deleted]

    def summary(self) -> list[dict[str, Any]]:
        """Say of each job what became of it, for the record."""
        return [
            {
                "job": job.name,
                "id": job.id,
                "nodes": list(job.nodes),
                "seconds": round(job.seconds, 1),
                "end": _end_of(job),
            }
            for job in self.all.values()
        ]
