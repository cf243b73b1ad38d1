"""Look up heads on other hosts, by asking the scheduler about their jobs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcml.batch import ledger
from hpcml.batch.schedulers import from_ledger
from hpcml.batch.schedulers.listing import JobStatus
from hpcml.batch.schedulers.status import DELETED, explain_exit
from hpcml.batch.schedulers.waiting import explain_comment
from hpcml.files import tail
from hpcml.record import End, RunSummary, State, not_started, summarise
from hpcml.runs import RunPaths

# Seconds that a submission may take, if its process cannot be checked. Scheduler commands are
# killed after a minute.
_MOMENT = 120


def look_up(found: Sequence[RunSummary]) -> list[RunSummary]:
    """Complete the summaries of runs that have no record but a head in a batch job.

    Each scheduler is queried once. If the head of a run never started, write the record of the run
    here, since nothing else can.

    Returns
    -------
    list of RunSummary
        In the same order. ``state`` becomes RUNNING, LOST, CANCELLED or FAILED, or stays SUBMITTED;
        ``head_job`` is the job id, ``note`` the scheduler's comment.
    """
    known = list(found)
    asked: dict[str, list[tuple[int, ledger.Left]]] = {}
    for place, run in enumerate(known):
        if run.state not in {"SUBMITTED", "UNKNOWN"}:
            continue
        left = adopted(RunPaths(Path(run.path)))
        if left is None:
            known[place] = replace(run, note="it is not yet known whether the scheduler has its head job")
        elif left.head is not None:
            known[place] = replace(run, head_job=left.head)
            asked.setdefault(json.dumps([left.scheduler, left.site]), []).append((place, left))
        elif run.state == "SUBMITTED" and (left.head_asked or time.time() - (run.started or 0) > _MOMENT):
            note = "its head job was never submitted: type hpcml submit again"
            known[place] = replace(run, state="LOST", note=note)
    for pairs in asked.values():
        listing = from_ledger(pairs[0][1]).listing([str(left.head) for _, left in pairs])
        for place, left in pairs:
            job = listing.find(str(left.head))
            if job is not None or listing.answer(str(left.head)) != "no answer":
                known[place] = _updated(known[place], job)
            else:
                note = f"the scheduler does not report its head job: {listing.outage}"
                known[place] = replace(known[place], note=note)
    return known


def adopted(paths: RunPaths) -> ledger.Left | None:
    """Read a ledger; look up the head job by its name if its submission was interrupted.

    Returns
    -------
    Left or None
        With ``head_asked`` set if the scheduler has no such job; None if that is not yet known.
    """
    left = ledger.read(paths.ledger)
    asked = left.head_asked
    if asked is None:
        return left
    if _is_under_way(asked):
        return None
    named = from_ledger(left).named(asked["name"])
    if named is None:
        return None
    if named:
        facts = {"name": asked["name"], "scheduler": left.scheduler, "site": left.site}
        with contextlib.suppress(OSError):
            ledger.Ledger(paths.ledger).note("submitted", ledger.HEAD, id=named[-1], **facts)
        left.head, left.head_asked = named[-1], None
    return left


def _is_under_way(asked: Mapping[str, Any]) -> bool:
    """Return whether the process that submits a head job may still be running."""
    if asked.get("host") != socket.gethostname():
        return bool(time.time() - asked["time"] < _MOMENT)
    try:
        os.kill(asked["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:  # Another user's process has this id now.
        pass
    return bool(time.time() - asked["time"] < _MOMENT)


def _updated(run: RunSummary, job: JobStatus | None) -> RunSummary:
    """Return the summary of a run with the state of its head job, None if the queue does not have it."""
    if job is not None and job.state.is_running:
        return replace(run, state="RUNNING")
    if job is not None and not job.state.is_final:
        note = explain_comment(job.comment).sentence if job.comment else str(job.state)
        return replace(run, state="SUBMITTED", note=note)
    return _ended(run, job)


def _ended(run: RunSummary, job: JobStatus | None) -> RunSummary:
    paths = RunPaths(Path(run.path))
    fresh = summarise(paths)
    if fresh.state not in {"SUBMITTED", "UNKNOWN"}:  # The record was written meanwhile.
        return fresh
    if job is None:
        return replace(run, state="LOST", note="it has left the queue; the scheduler does not report how it ended")
    how = explain_exit(job)
    if fresh.state == "SUBMITTED" and how.kind in {"deleted", "never ran"}:
        state: State = "CANCELLED" if job.substate == DELETED else "FAILED"
        end = End(state, 1, f"its head job {job.id} never started: {how.sentence}")
        try:
            not_started(paths, run.started or time.time(), end).write(paths)
        except OSError:
            return replace(run, state="LOST", note=end.text)
        return summarise(paths)
    last = [line.strip() for line in tail(paths.head_log, 1)[1:]]
    ends = f"; its log ends with: {last[0]}" if last else ""
    return replace(run, state="LOST", note=f"it ended without a record: {how.sentence}{ends}")
