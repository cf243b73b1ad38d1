"""Submit a run with its head in a batch job, and optionally follow it to its end."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hpcml import heads, interrupt, record, runs
from hpcml.batch import ledger
from hpcml.batch.directives import head_script
from hpcml.batch.job_plan import JobPlan, with_config_dir
from hpcml.batch.request import Request
from hpcml.batch.schedulers import scheduler_of, to_ledger
from hpcml.batch.schedulers.base import Directive, RefusedError, Scheduler
from hpcml.batch.schedulers.listing import JobStatus
from hpcml.batch.schedulers.status import explain_exit
from hpcml.batch.schedulers.waiting import explain_comment
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.files import tail, write_text
from hpcml.plan import check, plan_request, scratch
from hpcml.record import Origin
from hpcml.runs import RunPaths
from hpcml.spec import RunSpec

# Seconds between two polls of a run, and until a record written on another host must be visible.
_LOOK, _RECORD = 2.0, 30.0


@dataclass(frozen=True)
class Submitted:
    """A submitted run.

    Parameters
    ----------
    job : str
        Id of the head job.
    notes : sequence of str
        Notes for the user.
    """

    paths: RunPaths
    job: str
    batch: Scheduler
    notes: Sequence[str]


def submit(spec: RunSpec, origin: Origin, after: str | None = None) -> Submitted:
    """Write and submit a head job, or the allocation that contains the head.

    Parameters
    ----------
    after : str or None
        A run or job that must succeed first.

    Raises
    ------
    ConfigError
        If the request is invalid, or the job to wait for does not exist or has failed.
    ClusterStartError
        If the scheduler rejects the job, as the run's record then says.
    """
    job_plan = plan_request(spec, here=False)
    if job_plan is None:
        raise ConfigError(
            f"cluster={origin.choices.get('cluster') or 'local'}: no batch job to submit",
            "name the machine, for example site=gadi, or submit the run unchanged with scripts/pbs/submit.sh",
        )
    if spec.head.where == "here":
        raise ConfigError("head.where=here: `hpcml submit` runs the head in a job", "leave it out, or use hpcml run")
    job_plan.raise_errors()
    request = job_plan.request
    batch = scheduler_of(request.site, request.scheduler)
    dependency, notes = _dependency(after, batch)
    checked = check(spec, request, trial=True, sample=True)
    notes += [diagnostic.text for diagnostic in job_plan.diagnostics] + checked.warnings
    began, git = time.time(), record.git_state(Path.cwd())
    paths = runs.create(scratch(spec))
    job: str | None = None
    try:
        with interrupt.deferred():  # A job that is not in the ledger could not be found again.
            record.write_manifest(paths, began, origin, git, begun=False)
            write_text(paths.config, yaml.safe_dump(origin.config, sort_keys=False))
            job = _submit_head(replace(job_plan, paths=paths), origin, dependency, batch)
    except BaseException as error:
        if job is not None:
            batch.delete([job])
        with contextlib.suppress(OSError):
            record.not_started(paths, began, record.end_of(error)).write(paths)
        raise
    return Submitted(paths, job, batch, notes)


def _submit_head(job_plan: JobPlan, origin: Origin, dependency: Sequence[Directive], batch: Scheduler) -> str:
    """Submit the head job, recording it in the ledger before and after, and return its id."""
    request, paths = job_plan.request, job_plan.paths
    script = _write(job_plan, origin, dependency)
    book = ledger.Ledger(paths.ledger)
    name = f"{(request.head or request.worker).name}-{paths.run_id}"
    facts = {"name": name, "scheduler": batch.name, "site": to_ledger(request.site)}
    book.note("submitting", ledger.HEAD, **facts, host=socket.gethostname(), pid=os.getpid())
    try:
        job = batch.submit(script, paths.job_log(ledger.HEAD), name)
    except RefusedError as refused:
        # The server may have accepted the job without being able to answer.
        taken = [] if refused.refusal.action == "give up" else batch.named(name) or []
        if not taken:
            book.note("refused", ledger.HEAD, why=refused.message, **facts)
            raise ClusterStartError(
                f"the head job was rejected: {refused.message}", *refused.hints, f"the script is {script}"
            ) from refused
        job = taken[0]
    book.note("submitted", ledger.HEAD, id=job, **facts)
    return job


def _write(job_plan: JobPlan, origin: Origin, dependency: Sequence[Directive]) -> Path:
    """Write the script of the head job, its environment and its arguments."""
    request, paths = job_plan.request, job_plan.paths
    arguments = with_config_dir(origin.overrides)
    if request.worker.project and not any(text.startswith("cluster.project=") for text in arguments):
        arguments.append(f"cluster.project={request.worker.project}")
    paths.jobs.mkdir(mode=0o700, exist_ok=True)
    write_text(paths.environment, job_plan.environment() + _commands_path(request))
    write_text(paths.arguments, "".join(f"{text}\n" for text in arguments))
    body = (resources.files("hpcml.scripts") / "head.pbs").read_text(encoding="utf-8")
    script = paths.job_script(ledger.HEAD)
    write_text(script, head_script(request, paths, body, dependency))
    return script


def _commands_path(request: Request) -> str:
    """Return a line that adds the scheduler's commands to PATH, for a head without modules."""
    command = shlex.split(str(scheduler_of(request.site, request.scheduler).commands.submit))[0]
    directory = str(Path(shutil.which(command) or command).parent)
    if directory in {".", "/usr/bin", "/bin", "/usr/local/bin"}:
        return ""
    return f'export PATH={shlex.quote(directory)}:"$PATH"\n'


def _dependency(after: str | None, batch: Scheduler) -> tuple[list[Directive], list[str]]:
    """Check the job to wait for: PBS accepts unknown ids, then drops the job silently."""
    if after is None:
        return [], []
    job = after
    # A run id starts with a date followed by T.
    if re.fullmatch(r"20\d{6}", after) or not re.match(r"\d+(\[\d*\])?(\.|$)", after):
        paths = runs.find(after)
        ended = runs.read_json(paths.record)
        if ended.get("state") == "DONE":
            return [], [f"run {paths.run_id} is already DONE: nothing to wait for"]
        job = _head_of(paths, after, ended)
    listing = batch.listing([job])
    status = listing.find(job)
    if listing.outage is not None and status is None:
        raise ConfigError(f"--after {after}: the scheduler does not report whether the job exists: {listing.outage}")
    if status is None:
        raise ConfigError(
            f"--after {after}: the scheduler has no job {job}",
            "use a run of `hpcml list`, or a queued job",
        )
    if status.state.is_final:
        if status.exit_status == 0:
            return [], [f"job {job} has already succeeded: nothing to wait for"]
        raise ConfigError(
            f"--after {after}: job {job} has ended: {explain_exit(status).sentence}",
            "a job after it would never start",
        )
    return batch.after(status.id), []


def _head_of(paths: RunPaths, after: str, ended: Mapping[str, Any]) -> str:
    if ended:
        raise ConfigError(f"--after {after}: that run is {ended['state']}", "a run after it would never start")
    left = heads.adopted(paths)
    if left is None or left.head is None:
        raise ConfigError(f"--after {after}: the head of that run is not in a batch job", "submit it: hpcml submit")
    return left.head


def follow(submitted: Submitted, say: Callable[[str], None]) -> dict[str, Any]:
    """Wait for the end of a run, and return its record.

    Parameters
    ----------
    say : callable
        Called with a message when the state of the head job changes.

    Raises
    ------
    ClusterStartError
        If the head job ends without a record.
    """
    paths = submitted.paths
    head = _Head(submitted.batch, submitted.job)
    pause, shown = _LOOK, ""
    while not (found := runs.read_json(paths.record)):
        if head.ended is not None and time.monotonic() > head.ended + _RECORD:
            raise _no_record(submitted, head)
        head.poll()
        if head.ended is not None:
            pause = 0.5
        elif head.text != shown:
            say(head.text)
            shown, pause = head.text, _LOOK
        time.sleep(pause)
        pause = min(15.0, pause * 1.2)
    return found


class _Head:
    """State of a head job that is followed.

    Attributes
    ----------
    text : str
        The latest state, for the user; empty before the scheduler has answered.
    ended : float or None
        When the job was first seen to have ended, as ``time.monotonic`` counts.
    """

    def __init__(self, batch: Scheduler, job: str) -> None:
        self._batch, self._job = batch, job
        self._status: JobStatus | None = None
        self.text = ""
        self.ended: float | None = None

    def poll(self) -> None:
        """Ask the scheduler about the job."""
        listing = self._batch.listing([self._job])
        self._status = status = listing.find(self._job)
        if status is None:
            gone = listing.answer(self._job) != "no answer"
        else:
            gone = status.state.is_final
            self.text = f"head job {self._job}: {status.state}"
            if status.comment and status.state.is_waiting:
                self.text += f": {explain_comment(status.comment).sentence}"
        if gone and self.ended is None:
            self.ended = time.monotonic()

    @property
    def end(self) -> str:
        """How the job has ended."""
        return "it has left the queue" if self._status is None else explain_exit(self._status).sentence


def _no_record(submitted: Submitted, head: _Head) -> ClusterStartError:
    paths = submitted.paths
    return ClusterStartError(
        f"head job {submitted.job} ended without a record: {head.end}",
        *tail(paths.head_log),
        *tail(paths.job_log(ledger.HEAD)),
        f"the script is {paths.job_script(ledger.HEAD)}",
    )
