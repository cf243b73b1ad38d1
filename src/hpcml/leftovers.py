"""Worker jobs that a run has left behind, most often because its head was killed: found by the ledgers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from hpcml import heads, runs
from hpcml.batch import ledger
from hpcml.batch.scheduler import again
from hpcml.record import summarise
from hpcml.runs import RunPaths


@dataclass(frozen=True)
class Leftover:
    """A run that has ended, and the batch jobs that its ledger has no end of.

    Parameters
    ----------
    elsewhere : str or None
        The host that may still have the run's head: then it is not to be touched from here.
    """

    paths: RunPaths
    left: ledger.Left
    elsewhere: str | None = None

    def __str__(self) -> str:
        jobs = " ".join(self.left.jobs.values()) or "none that is known by its id"
        return f"run {self.paths.run_id} ended before it saw its worker jobs gone; those that may be left: {jobs}"


def find(scratch: str | None = None, ask: bool = False) -> Iterator[Leftover]:
    """List the runs of this user that have ended with jobs in their ledgers.

    Parameters
    ----------
    ask : bool
        Ask the scheduler about the jobs of heads on other hosts; else only what this host knows counts.
    """
    for paths in runs.find_all(runs.roots(scratch)):
        if not paths.ledger.exists():
            continue
        left = ledger.read(paths.ledger)
        if not left.anything:
            continue
        found = summarise(paths)
        if ask:
            heads.look_up([found])
        if found["state"] == "UNKNOWN" and found["host"] != socket.gethostname():
            if ask:
                yield Leftover(paths, left, found["host"] or "another host")
        elif found["state"] not in {"RUNNING", "SUBMITTED"}:
            yield Leftover(paths, left)


def clean(leftover: Leftover) -> list[str]:
    """Delete what is left, and note in the ledger what is gone.

    Returns
    -------
    list of str
        Ids of jobs that are still there, or of which the scheduler says nothing.
    """
    batch, book = again(leftover.left), ledger.Ledger(leftover.paths.ledger)
    jobs = dict(leftover.left.jobs)
    if leftover.left.unanswered:
        known = set(jobs.values())
        jobs |= {
            f"found-{number}": number for number in batch.named(leftover.left.batch_name) or [] if number not in known
        }
    listing = batch.listing(list(jobs.values()))
    there = {name: job for name, job in jobs.items() if (found := listing.find(job)) and found.state != "finished"}
    batch.delete(list(there.values()))
    if listing.outage is not None:
        return list(jobs.values())
    for name, job in jobs.items():
        book.note("ended", name, id=job, why="deleted by hpcml clean" if name in there else "it had left the queue")
    for name in leftover.left.unanswered - set(jobs):
        book.note("ended", name, why="the scheduler has no such job")
    return []
