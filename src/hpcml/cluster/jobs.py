"""Submit the worker jobs of a run one by one, write each to the ledger, and poll all at once.

:mod:`hpcml.cluster.job_state` has the state of one job.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcml import interrupt
from hpcml.batch.cost import cost_of, price
from hpcml.batch.directives import worker_script
from hpcml.batch.ledger import Ledger
from hpcml.batch.request import Request
from hpcml.batch.schedulers import to_ledger
from hpcml.batch.schedulers.base import RefusedError, Scheduler
from hpcml.batch.schedulers.listing import JobStatus, State
from hpcml.batch.schedulers.status import Explanation, explain_exit
from hpcml.batch.schedulers.usage import read_kill
from hpcml.batch.schedulers.waiting import explain_comment
from hpcml.cluster.job_state import WorkerJob, last_line
from hpcml.files import tail, write_text
from hpcml.runs import RunPaths

log = logging.getLogger(__name__)

# Seconds between submissions, and the maximum of jobs that wait in the queue: other users share the
# PBS server.
_SPACING, _BACKLOG = 0.2, 50

# How often a submission is retried if the server does not answer, and the seconds in between.
_TRIES, _PAUSE = 20, 15

# Seconds after submission in which a server may not list the job yet, because of routing queues.
_UNSEEN = 30

# Number of consecutive listings without a job before it is considered gone.
_SURE = 3

# Seconds for deleted jobs to leave the queue, the interval at which they are deleted again, and the
# limit if the head's own job is being terminated.
_GONE, _AGAIN, _HURRY = 90, 15, 5


@dataclass
class Trouble:
    """Why no worker job can run, and hints on how to fix it."""

    cause: str
    hints: list[str] = field(default_factory=list)


class Jobs:
    """Submit, monitor and delete the worker jobs of a run.

    Parameters
    ----------
    batch : Scheduler
        The batch scheduler that runs the jobs.
    ends : float or None
        When the head's job ends, in seconds since the epoch.
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
        """Return a job name that is unique in the run."""
        return f"job-{next(self._numbers)}"

    @property
    def alive(self) -> list[WorkerJob]:
        return [job for job in list(self.all.values()) if job.alive]

    @property
    def _ids(self) -> list[str]:
        """Ids of all jobs that the scheduler has accepted."""
        return [job.id for job in list(self.all.values()) if job.id is not None]

    def affordable(self) -> int | None:
        """Return how many more jobs ``cluster.max_cost`` pays for; None if there is no limit.

        Queued and running jobs count with their whole walltime, and so does the head.
        """
        if self.request.max_cost is None:
            return None
        job = self.request.worker
        whole = cost_of(job, job.walltime)
        spent = sum(whole if other.alive else cost_of(job, other.seconds) for other in list(self.all.values()))
        left = self.request.max_cost - price(self.request).head - spent
        return max(0, int(left / whole + 1e-9)) if whole else None

    # Submission, in Dask's event loop.

    async def submit(self, name: str) -> None:
        """Submit a job in its turn; errors are stored in :attr:`trouble` instead of raised."""
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
            except Exception as error:
                # Dask would only log an error such as a full disk, and the run would hang.
                log.exception("worker job %s could not be submitted", job.name)
                self.trouble = Trouble(f"worker jobs cannot be submitted: {type(error).__name__}: {error}")
            finally:
                self._in_flight -= 1
            await asyncio.sleep(_SPACING)

    def _backlog(self) -> int:
        return sum(job.state.is_waiting for job in self.alive if job.id)

    def _submit(self, job: WorkerJob) -> None:
        script = self.paths.job_script(job.name)
        write_text(script, worker_script(self.request, self.paths, job.name))
        for attempt in range(_TRIES):
            facts = {"name": self.batch_name, "scheduler": self.batch.name, "site": to_ledger(self.request.site)}
            self._ledger.note("submitting", job.name, **facts)
            try:
                job.id = self.batch.submit(script, self.paths.job_log(job.name), self.batch_name, self._ids)
            except RefusedError as refused:
                again = refused.refusal.action != "give up" and attempt + 1 < _TRIES
                log.warning("worker job %s was rejected: %s", job.name, refused.message)
                if again and self._taken_all_the_same(job):
                    break
                self._ledger.note("refused", job.name, why=refused.message)
                if not again or self._closed.wait(_PAUSE):
                    self._end(job, Explanation("never ran", refused.message, "; ".join(refused.hints)))
                    if not again:
                        self._note_first_rejection(refused, script)
                    return
            else:
                break
        job.submitted, job.state = time.monotonic(), State.QUEUED
        self._ledger.note("submitted", job.name, id=job.id)
        log.info("worker job %s is %s", job.name, job.id)

    def _note_first_rejection(self, refused: RefusedError, script: Path) -> None:
        """Store why no worker job can run, if the scheduler has not accepted one before."""
        if not self._ids:
            cause = f"the first worker job was rejected: {refused.message}"
            self.trouble = Trouble(cause, [*refused.hints, f"the script is {script}"])

    def _taken_all_the_same(self, job: WorkerJob) -> bool:
        """Look for a job that the server accepted although the submission failed."""
        known = self._ids
        unknown = [number for number in self.batch.named(self.batch_name) or [] if number not in known]
        if unknown:
            job.id = unknown[0]
        return bool(unknown)

    # Monitoring, in the supervisor's thread.

    def poll(self, present: Iterable[str]) -> None:
        """Query the state of all jobs in one call.

        Parameters
        ----------
        present : iterable of str
            Names of the jobs that have workers now.
        """
        self._register(present)
        for job in self.alive:
            if job.registered is None and not job.broken:
                self._read_failure(job)
        submitted = {job.id: job for job in self.alive if job.id is not None}
        if submitted:
            self._query(submitted)

    def _register(self, present: Iterable[str]) -> None:
        """Note when the first worker of each job has registered."""
        for name in present:
            job = self.all.get(name)
            if job is not None and job.registered is None:
                job.registered = time.monotonic()
                job.running = job.running or job.registered

    def _query(self, submitted: Mapping[str, WorkerJob]) -> None:
        """Ask the scheduler about jobs, given by their ids."""
        listing = self.batch.listing(list(submitted))
        self._log_outage(listing.outage)
        if listing.outage is not None:
            return
        for number, job in submitted.items():
            status = listing.find(number)
            if status is not None:
                self._seen(job, status)
            elif listing.answer(number) != "no answer":
                self._missed(job)

    def _log_outage(self, outage: str | None) -> None:
        if outage is not None and not self._outage:
            log.warning("the scheduler does not answer; worker jobs go on without being watched: %s", outage)
        if outage is None and self._outage:
            log.warning("the scheduler answers again")
        self._outage = outage is not None

    def _read_failure(self, job: WorkerJob) -> None:
        """Read the exit code and output of a job that failed at once and still occupies its node.

        The script that :mod:`hpcml.batch.directives` renders writes them to a file.
        """
        try:
            text = self.paths.job_failure(job.name).read_text(errors="replace")
            host, code, *said = text.splitlines()
            status = JobStatus(str(job.id), self.batch_name, State.FINISHED, "normal", exit_status=int(code))
        except (OSError, ValueError):
            # The file does not exist or is incomplete.
            return
        job.broken, job.nodes = True, job.nodes or (host,)
        job.running = job.running or time.monotonic()
        job.said = last_line("\n".join(said))
        job.end = explain_exit(status)
        log.warning("worker job %s has failed at once, and keeps its place", self.describe(job))

    def _missed(self, job: WorkerJob) -> None:
        """Count listings that lack a job; after several of them the job has ended."""
        if time.monotonic() - (job.submitted or 0) > _UNSEEN:
            job.unseen += 1
        if job.unseen >= _SURE:
            self._end(job, Explanation("unknown", "it has left the queue, and the scheduler does not say how"))

    def _seen(self, job: WorkerJob, status: JobStatus) -> None:
        if status.state != job.state:
            log.info("worker job %s (%s) is %s%s", job.name, job.id, status.state,
                     f": {status.comment}" if status.comment else "")  # fmt: skip
        job.update(status)
        if status.state.is_final:
            self._end(job, job.end if job.broken and job.end is not None else self._explain_end(job, status))
        elif status.comment and self.trouble is None:
            self._note_impossible(job, status.comment)

    def _explain_end(self, job: WorkerJob, status: JobStatus) -> Explanation:
        """Return why a job has ended, by its output if PBS wrote there why it killed the job."""
        end = explain_exit(status)
        output = self.log_of(job)
        job.said = last_line(output)
        kill = read_kill(output)
        return end if kill is None or job.deleted else Explanation(end.kind, kill, end.remedy)

    def _note_impossible(self, job: WorkerJob, comment: str) -> None:
        """Store why no worker job can run, if the scheduler says so in a comment on one."""
        waiting = explain_comment(comment)
        if waiting.never:
            hints = [*filter(None, [waiting.remedy]), f"the scheduler's own words: {comment}"]
            self.trouble = Trouble(f"worker job {job.id} can never run: {waiting.sentence}", hints)

    def log_of(self, job: WorkerJob) -> str:
        """Return the output of a job."""
        try:
            return self.paths.job_log(job.name).read_text(errors="replace")
        except OSError:
            return ""

    def _end(self, job: WorkerJob, end: Explanation) -> None:
        job.ended, job.end, job.state = time.monotonic(), end, State.FINISHED
        if job.id is not None:
            self._ledger.note("ended", job.name, id=job.id, why=end.sentence)
        level = logging.INFO if job.deleted or self._closed.is_set() or end.kind == "done" else logging.WARNING
        log.log(level, "worker job %s (%s) has ended%s: %s", job.name, job.id, job.where, end.sentence)

    def give_up(self, job: WorkerJob, why: str) -> None:
        """Delete a job that does not work as expected."""
        if job.id is not None:
            self.batch.delete([job.id])
        self._end(job, Explanation("failed", why))

    def release(self, job: WorkerJob) -> None:
        """Delete a job that failed at once and still occupies its node."""
        job.deleted = True
        if job.id is not None:
            self.batch.delete([job.id])

    # Shutdown.

    def close(self) -> list[str]:
        """Stop submitting, delete queued and running jobs, and wait until they are gone.

        Returns
        -------
        list of str
            Ids of the jobs that are still there.
        """
        self._closed.set()
        self._delete_alive()
        # A command that has started will return or time out; it may have submitted a job.
        while self._in_flight:
            time.sleep(0.05)
        self._delete_alive()
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
        """Return how many seconds to wait for deleted jobs.

        A head near its walltime waits less, because it still has to write its record.
        """
        if self.ends is None:
            return _GONE
        return _HURRY if self._in_a_hurry() else max(_HURRY, min(_GONE, self.ends - time.time() - 10))

    def _in_a_hurry(self) -> bool:
        return self.ends is not None and interrupt.hurried()

    def _delete_alive(self) -> None:
        """Delete the jobs that are not deleted yet; end those that were never submitted."""
        if not self._in_flight:
            for job in self.alive:
                if job.id is None:
                    self._end(job, Explanation("never ran", "it was not submitted"))
        fresh = {job.id: job for job in self.alive if job.id is not None and not job.deleted}
        for job in fresh.values():
            job.deleted = True
        if self._in_a_hurry():
            self.batch.delete(list(fresh), timeout=_HURRY)
        else:
            self.batch.delete(list(fresh))

    @property
    def core_s(self) -> float:
        """Core-seconds used by the jobs so far."""
        return sum(job.seconds for job in self.all.values()) * self.request.worker.ncpus

    def last_words(self) -> list[str]:
        """Return the exit reasons of jobs that hpcml did not delete."""
        ended = [job for job in self.all.values() if job.broken or not (job.alive or job.deleted)]
        return [f"worker job {self.describe(job)}" for job in ended]

    def describe(self, job: WorkerJob) -> str:
        """Describe a job's state or exit reason; include the last line of output if it failed."""
        if not job.said or job.end is None or job.end.kind == "done":
            return str(job)
        return f"{job}; the last line of its output ({self.paths.job_log(job.name)}): {job.said}"

    def output(self, job: WorkerJob) -> list[str]:
        """Return the last lines of a job's output, or of its failure file, for a message."""
        return tail(self.paths.job_log(job.name)) or tail(self.paths.job_failure(job.name))

    def summary(self) -> list[dict[str, Any]]:
        """Return one entry per job for the record: nodes, seconds and exit reason."""
        return [
            {
                "job": job.name,
                "id": job.id,
                "nodes": list(job.nodes),
                "seconds": round(job.seconds, 1),
                "end": job.outcome,
            }
            for job in self.all.values()
        ]
