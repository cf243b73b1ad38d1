"""Submissions: a run whose head lives in a job of its own, submitted and, if wanted, followed to its end."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hpcml import interrupt, record, runs
from hpcml.batch import ledger
from hpcml.batch.directives import Directive, head_script
from hpcml.batch.proposal import Proposal, with_config_dir
from hpcml.batch.request import Request
from hpcml.batch.scheduler import RefusedError, Scheduler, scheduler, spoken_to
from hpcml.batch.status import explain_exit
from hpcml.batch.waiting import explain_comment
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.files import tail, write_text
from hpcml.plan import check, propose, scratch
from hpcml.record import Origin
from hpcml.runs import RunPaths
from hpcml.spec import RunSpec

# Seconds between two looks at a run that is followed, and how long a record may take to be seen from another host.
_LOOK, _RECORD = 2.0, 30.0


@dataclass(frozen=True)
class Submitted:
    """A run that has been submitted.

    Parameters
    ----------
    job : str
        The id of its head job.
    notes : sequence of str
        What the user should know of it.
    """

    paths: RunPaths
    job: str
    batch: Scheduler
    notes: Sequence[str]


def submit(spec: RunSpec, origin: Origin, after: str | None = None) -> Submitted:
    """Write a head job, or the allocation in which the head lives, and submit it.

    Parameters
    ----------
    after : str or None
        A run or a job that has to succeed before.

    Raises
    ------
    ConfigError
        If the request is wrong, or what it is to follow is not there or has failed.
    ClusterStartError
        If the scheduler refuses the job; the run's record says so.
    """
    proposed = propose(spec, here=False)
    if proposed is None:
        raise ConfigError(
            f"cluster={origin.choices.get('cluster') or 'local'}: there is nothing to submit",
            "name the machine, site=gadi; or submit the run as it is: scripts/pbs/submit.sh",
        )
    if spec.head.where == "here":
        raise ConfigError("head.where=here: `hpcml submit` puts the head in a job", "leave it out, or use hpcml run")
    proposed.refuse()
    request = proposed.request
    batch = scheduler(request.site, request.scheduler)
    dependency, notes = _dependency(after, batch)
    checked = check(spec)
    notes += [complaint.text for complaint in proposed.complaints] + checked.warnings
    began, git = time.time(), record.git_state(Path.cwd())
    paths = runs.create(scratch(spec))
    job: str | None = None
    try:
        with interrupt.deferred():  # a job whose id nobody has noted could not be found again
            record.write_manifest(paths, began, origin, git, begun=False)
            write_text(paths.config, yaml.safe_dump(origin.config, sort_keys=False))
            job = _qsub(replace(proposed, paths=paths), origin, dependency, batch)
    except BaseException as error:
        if job is not None:
            batch.delete([job])
        ended = record.never_began(paths, began, str(error) or type(error).__name__)
        with contextlib.suppress(OSError):
            ended.write(paths)
        raise
    return Submitted(paths, job, batch, notes)


def _qsub(proposed: Proposal, origin: Origin, dependency: Sequence[Directive], batch: Scheduler) -> str:
    """Submit the head's job, noted before and after; give its id."""
    request, paths = proposed.request, proposed.paths
    script = _write(proposed, origin, dependency)
    book = ledger.Ledger(paths.ledger)
    name = f"{(request.head or request.worker).name}-{paths.run_id}"
    facts = {"name": name, "scheduler": batch.name, "site": spoken_to(request.site)}
    book.note("submitting", ledger.HEAD, **facts)
    try:
        job = batch.submit(script, paths.job_log(ledger.HEAD))
    except RefusedError as refused:
        # a server that could not answer may have taken it
        taken = [] if refused.refusal.action == "give up" else batch.named(name) or []
        if not taken:
            book.note("refused", ledger.HEAD, why=refused.message, **facts)
            raise ClusterStartError(
                f"the head job was refused: {refused.message}", *refused.hints, f"the script is {script}"
            ) from refused
        job = taken[0]
    book.note("submitted", ledger.HEAD, id=job, **facts)
    return job


def _write(proposed: Proposal, origin: Origin, dependency: Sequence[Directive]) -> Path:
    """Write the head's script, and the environment and the arguments that it reads."""
    request, paths = proposed.request, proposed.paths
    arguments = with_config_dir(origin.overrides)
    if request.worker.project and not any(text.startswith("cluster.project=") for text in arguments):
        arguments.append(f"cluster.project={request.worker.project}")
    paths.jobs.mkdir(mode=0o700, exist_ok=True)
    write_text(paths.environment, proposed.environment() + _commands_path(request))
    write_text(paths.arguments, "".join(f"{text}\n" for text in arguments))
    body = (resources.files("hpcml.scripts") / "head.pbs").read_text(encoding="utf-8")
    script = paths.job_script(ledger.HEAD)
    write_text(script, head_script(request, paths, body, dependency))
    return script


def _commands_path(request: Request) -> str:
    """Let the head find the scheduler's commands where they are found here: a module may have put them there."""
    command = shlex.split(str(request.site.commands_of(request.scheduler).submit))[0]
    directory = str(Path(shutil.which(command) or command).parent)
    if directory in {".", "/usr/bin", "/bin", "/usr/local/bin"}:
        return ""
    return f'export PATH={shlex.quote(directory)}:"$PATH"\n'


def _dependency(after: str | None, batch: Scheduler) -> tuple[list[Directive], list[str]]:
    """Check what a run is to follow: PBS accepts an id that it does not know, and drops the job in silence."""
    if after is None:
        return [], []
    job = after
    # a run's id begins with a date, and has a T in it
    if re.fullmatch(r"20\d{6}", after) or not re.match(r"\d+(\[\d*\])?(\.|$)", after):
        paths = runs.find(after)
        ended = runs.read_json(paths.record)
        if ended.get("state") == "DONE":
            return [], [f"run {paths.run_id} is DONE already: nothing to wait for"]
        job = _head_of(paths, after, ended)
    listing = batch.listing([job])
    status = listing.find(job)
    if listing.outage is not None and status is None:
        raise ConfigError(f"--after {after}: the scheduler does not say whether it is there: {listing.outage}")
    if status is None:
        raise ConfigError(
            f"--after {after}: the scheduler has no job {job}", "name a run of `hpcml list`, or a job of qstat"
        )
    if status.state == "finished":
        if status.exit_status == 0:
            return [], [f"job {job} has ended well already: nothing to wait for"]
        raise ConfigError(
            f"--after {after}: job {job} has ended: {explain_exit(status).sentence}",
            "a follower of it would never start",
        )
    return batch.after(status.id), []


def _head_of(paths: RunPaths, after: str, ended: Mapping[str, Any]) -> str:
    if ended:
        raise ConfigError(f"--after {after}: that run is {ended['state']}", "a follower of it would never start")
    found = ledger.read(paths.ledger).head
    if found is None:
        raise ConfigError(f"--after {after}: its head is in no job that can be waited for", "submit it: hpcml submit")
    return found


def follow(submitted: Submitted, say: Callable[[str], None]) -> dict[str, Any]:
    """Wait for the end of a run, and give its record.

    Parameters
    ----------
    say : callable
        Told when the head job's state changes, and how far the run is.

    Raises
    ------
    ClusterStartError
        If the head job ends without a record; says how it ended.
    """
    paths, told, ended = submitted.paths, "", None
    pause = _LOOK
    while True:
        found = runs.read_json(paths.record)
        if found:
            return found
        if ended is not None and time.monotonic() > ended:
            break
        listing = submitted.batch.listing([submitted.job])
        status = listing.find(submitted.job)
        gone = status is None and listing.answer(submitted.job) != "no answer"
        if gone or (status is not None and status.state == "finished"):
            ended, pause = ended or time.monotonic() + _RECORD, 0.5
        elif status is not None:
            now = f"head job {submitted.job}: {status.state}"
            if status.comment and status.state in {"queued", "held", "waiting"}:
                now += f": {explain_comment(status.comment).sentence}"
            if now != told:
                say(now)
                told, pause = now, _LOOK
        time.sleep(pause)
        pause = min(15.0, pause * 1.2) if ended is None else pause
    how = explain_exit(status).sentence if status is not None else "it has left the queue"
    raise ClusterStartError(
        f"head job {submitted.job} ended without a record: {how}",
        *tail(paths.head_log),
        *tail(paths.job_log(ledger.HEAD)),
        f"the script is {paths.job_script(ledger.HEAD)}",
    )
