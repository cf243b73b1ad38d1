"""The ledger: which batch jobs a run has submitted, written before and after each submission.

One JSON object a line, appended and synced. What a head that was killed has left in the queue is read from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Ledger:
    """Appends to a ledger.

    Parameters
    ----------
    path : Path
        The file; made when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def note(self, event: str, job: str, **facts: Any) -> None:
        """Append a line and wait until it is on the disk.

        A line about a submission, and each about the head's job, also has what it takes to ask for it later: ``name``,
        ``scheduler`` and ``site``.

        Parameters
        ----------
        event : str
            ``submitting``, ``submitted`` with the ``id``, ``refused``, ``ended``.
        job : str
            The job's name in the run.
        """
        line = json.dumps({"time": time.time(), "event": event, "job": job, **facts}) + "\n"
        with self._lock:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


# The name of the head's job among those of a run; the others are worker jobs.
HEAD = "head"


@dataclass
class Left:
    """What a ledger says may still be in the queue."""

    # the id of the job in which the head is or was; None: it is in none, or not known to be
    head: str | None = None
    # ids by the jobs' names
    jobs: dict[str, str] = field(default_factory=dict)
    # submissions of which it is not known whether the scheduler took them
    unanswered: set[str] = field(default_factory=set)
    # the name that all batch jobs of the run have, and what scheduler() needs to speak to the one that has them
    batch_name: str = ""
    scheduler: str = ""
    site: dict[str, Any] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        return bool(self.jobs or self.unanswered)


def read(path: Path) -> Left:
    """Read a ledger; a line that was not finished is left out."""
    left = Left()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return left
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            _add(json.loads(line), left)
    return left


def _add(entry: dict[str, Any], left: Left) -> None:
    job, event = entry["job"], entry["event"]
    if job == HEAD:
        if event == "submitted":
            left.head = entry["id"]
        left.scheduler, left.site = entry["scheduler"], entry["site"]
        return
    if event == "submitting":
        left.batch_name, left.scheduler, left.site = entry["name"], entry["scheduler"], entry["site"]
        left.unanswered.add(job)
        return
    if event == "submitted":
        left.jobs[job] = entry["id"]
    elif event == "ended":
        left.jobs.pop(job, None)
    left.unanswered.discard(job)
