"""Record the batch jobs of a run in a ledger, before and after each submission.

The file has one JSON object per line, appended and synced. After a crash of the head it shows which
jobs may still be queued.
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
    """Append-only writer of a ledger.

    Parameters
    ----------
    path : Path
        The file, created when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def note(self, event: str, job: str, **facts: Any) -> None:
        """Append a line and sync it to disk.

        A line about a submission, and each line about the head job, also has the fields needed to
        query the job later: ``name``, ``scheduler`` and ``site``.

        Parameters
        ----------
        event : str
            ``submitting``, ``submitted`` with the ``id``, ``refused`` or ``ended``. Before the head
            job is submitted, ``host`` and ``pid`` identify the process that submits it.
        job : str
            Name of the job in the run.
        """
        line = json.dumps({"time": time.time(), "event": event, "job": job, **facts}) + "\n"
        with self._lock:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


# Name of the head job among the jobs of a run; all others are worker jobs.
HEAD = "head"


@dataclass
class Left:
    """Jobs that may still be in the queue, according to a ledger."""

    # Id of the job that contains the head; None if the head is not known to be in a job.
    head: str | None = None
    # Last line about a submission of the head job, if its result is unknown.
    head_asked: dict[str, Any] | None = None
    # Job ids by the names of the jobs.
    jobs: dict[str, str] = field(default_factory=dict)
    # Names of jobs that may or may not have been submitted.
    unanswered: set[str] = field(default_factory=set)
    # Name that all batch jobs of the run share, and the arguments to build their scheduler.
    batch_name: str = ""
    scheduler: str = ""
    site: dict[str, Any] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        return bool(self.jobs or self.unanswered)


def read(path: Path) -> Left:
    """Read a ledger, skipping incomplete lines."""
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
        left.scheduler, left.site = entry["scheduler"], entry["site"]
        left.head_asked = entry if event == "submitting" else None
        if event == "submitted":
            left.head = entry["id"]
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
