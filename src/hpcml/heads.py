"""Heads of runs that this host cannot see: what the scheduler says of the jobs that they are in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcml.batch import ledger
from hpcml.batch.listing import JobStatus
from hpcml.batch.scheduler import again
from hpcml.batch.status import explain_exit
from hpcml.batch.waiting import explain_comment
from hpcml.record import summarise
from hpcml.runs import RunPaths


def look_up(found: Sequence[dict[str, Any]]) -> None:
    """Complete summaries of runs that have no record, and whose head is in a job: one question to each scheduler.

    Parameters
    ----------
    found : sequence of dict
        Of :func:`hpcml.record.summarise`; changed in place. ``state`` becomes RUNNING, LOST or stays SUBMITTED;
        ``head_job`` is the job's id, ``note`` what the scheduler says of it.
    """
    open_ones = [run for run in found if run["state"] in {"SUBMITTED", "UNKNOWN"}]
    asked: dict[str, list[tuple[dict[str, Any], ledger.Left]]] = {}
    for run in open_ones:
        left = ledger.read(RunPaths(Path(run["path"])).ledger)
        if left.head is not None:
            run["head_job"] = left.head
            asked.setdefault(json.dumps([left.scheduler, left.site]), []).append((run, left))
    for pairs in asked.values():
        listing = again(pairs[0][1]).listing([str(left.head) for _, left in pairs])
        for run, left in pairs:
            job = listing.find(str(left.head))
            if job is not None or listing.answer(str(left.head)) != "no answer":
                _settle(run, job)
            else:
                run["note"] = f"the scheduler does not say where it is: {listing.outage}"


def _settle(run: dict[str, Any], job: JobStatus | None) -> None:
    if job is not None and job.state in {"running", "exiting", "suspended"}:
        run["state"] = "RUNNING"
    elif job is not None and job.state != "finished":
        run["state"] = "SUBMITTED"
        run["note"] = explain_comment(job.comment).sentence if job.comment else job.state
    else:
        fresh = summarise(RunPaths(Path(run["path"])))
        if fresh["state"] not in {"SUBMITTED", "UNKNOWN"}:  # it has ended meanwhile
            run.update(fresh)
            return
        run["state"] = "LOST"
        run["note"] = "it has left the queue, and the scheduler does not say how"
        if job is not None:
            run["note"] = f"it has ended without a record: {explain_exit(job).sentence}"
