"""Find worker jobs in the ledgers of runs that have ended, and delete them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from hpcml import heads, runs
from hpcml.batch import ledger
from hpcml.batch.schedulers import from_ledger
from hpcml.batch.schedulers.base import Scheduler
from hpcml.record import summarise
from hpcml.runs import RunPaths


@dataclass(frozen=True)
class Orphan:
    """A run that has ended, with batch jobs that may still be queued or running.

    Parameters
    ----------
    elsewhere : str or None
        Another host that may still run the head; the jobs must then be cleaned up there.
    """

    paths: RunPaths
    left: ledger.Left
    elsewhere: str | None = None

    def __str__(self) -> str:
        jobs = " ".join(self.left.jobs.values()) or "ids unknown"
        return f"run {self.paths.run_id} left worker jobs behind: {jobs}"


def find(scratch: str | None = None, ask: bool = False) -> Iterator[Orphan]:
    """Yield this user's ended runs that have open jobs in their ledgers.

    Parameters
    ----------
    ask : bool
        Whether to ask the scheduler about heads on other hosts.
    """
    for paths in runs.find_all(runs.roots(scratch)):
        if not paths.ledger.exists():
            continue
        left = ledger.read(paths.ledger)
        if not left.anything:
            continue
        found = summarise(paths)
        if ask:
            (found,) = heads.look_up([found])
        if found.state == "UNKNOWN" and found.host != socket.gethostname():
            if ask:
                yield Orphan(paths, left, found.host or "another host")
        elif found.state not in {"RUNNING", "SUBMITTED"}:
            yield Orphan(paths, left)


def _unrecorded(left: ledger.Left, batch: Scheduler) -> dict[str, str]:
    """Return jobs that the scheduler has accepted although their submission was interrupted."""
    if not left.unanswered:
        return {}
    known = set(left.jobs.values())
    return {f"found-{number}": number for number in batch.named(left.batch_name) or [] if number not in known}


def clean(orphan: Orphan) -> list[str]:
    """Delete the jobs of a run that are left, and record the result in its ledger.

    Returns
    -------
    list of str
        Ids of jobs that may still be queued or running.
    """
    batch, book = from_ledger(orphan.left), ledger.Ledger(orphan.paths.ledger)
    jobs = orphan.left.jobs | _unrecorded(orphan.left, batch)
    listing = batch.listing(list(jobs.values()))
    there = {name: job for name, job in jobs.items() if (found := listing.find(job)) and not found.state.is_final}
    batch.delete(list(there.values()))
    if listing.outage is not None:
        return list(jobs.values())
    for name, job in jobs.items():
        book.note("ended", name, id=job, why="deleted by hpcml clean" if name in there else "it had left the queue")
    for name in orphan.left.unanswered - set(jobs):
        book.note("ended", name, why="the scheduler has no such job")
    return []
