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
from hpcml.batch.schedulers.listing import JobStatus, Listing
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
        if left is None or left.head is None:
            known[place] = _without_head(run, left)
        else:
            known[place] = replace(run, head_job=left.head)
            asked.setdefault(json.dumps([left.scheduler, left.site]), []).append((place, left))
    for pairs in asked.values():
        listing = from_ledger(pairs[0][1]).listing([str(left.head) for _, left in pairs])
        for place, left in pairs:
            known[place] = _updated(known[place], str(left.head), listing)
    return known


def _without_head(run: RunSummary, left: ledger.Left | None) -> RunSummary:
    """Return the summary of a run whose ledger has no head job."""
    if left is None:
        return replace(run, note="it is not yet known whether the scheduler has its head job")
    if run.state == "SUBMITTED" and (left.head_asked or time.time() - (run.started or 0) > _MOMENT):
        return replace(run, state="LOST", note="its head job was never submitted: type hpcml submit again")
    return run


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


def _updated(run: RunSummary, head: str, listing: Listing) -> RunSummary:
    """Return the summary of a run with the state of its head job."""
    job = listing.find(head)
    if job is None and listing.answer(head) == "no answer":
        return replace(run, note=f"the scheduler does not report its head job: {listing.outage}")
    if job is None or job.state.is_final:
        return _ended(run, job)
    if job.state.is_running:
        return replace(run, state="RUNNING")
    note = explain_comment(job.comment).sentence if job.comment else str(job.state)
    return replace(run, state="SUBMITTED", note=note)


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
