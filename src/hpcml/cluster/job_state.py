"""The state of one worker job: what the scheduler, its workers and its output report."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hpcml.batch.schedulers.listing import JobStatus, State
from hpcml.batch.schedulers.status import Explanation
from hpcml.batch.schedulers.waiting import explain_comment


@dataclass
class WorkerJob:
    """The state of one worker job as far as hpcml knows it; times are from ``time.monotonic``."""

    name: str
    id: str | None = None
    state: State = State.NOT_SUBMITTED
    submitted: float | None = None
    running: float | None = None
    # When its first worker registered.
    registered: float | None = None
    ended: float | None = None
    end: Explanation | None = None
    # It failed at once and still occupies its node, so that no other job is placed there.
    broken: bool = False
    # The last line of its output.
    said: str = ""
    comment: str | None = None
    nodes: tuple[str, ...] = ()
    deleted: bool = False
    # Before its walltime ends: its replacement was submitted; when it began to drain; it was closed
    # after draining.
    renewed: bool = False
    draining: float | None = None
    retired: bool = False
    # The number of consecutive listings without it.
    unseen: int = 0

    @property
    def alive(self) -> bool:
        return self.ended is None

    @property
    def usable(self) -> bool:
        """Whether it has workers or may still start some."""
        return self.alive and not self.broken

    @property
    def stays(self) -> bool:
        """Whether it is usable and neither draining nor deleted."""
        return self.usable and not self.deleted and self.draining is None

    @property
    def seconds(self) -> float:
        """Seconds from its start to its end, or until now."""
        return 0.0 if self.running is None else (self.ended or time.monotonic()) - self.running

    @property
    def where(self) -> str:
        """Its nodes, for messages; empty if they are unknown."""
        return f" on {', '.join(self.nodes)}" if self.nodes else ""

    @property
    def outcome(self) -> str:
        """Its exit reason, or its state if it has not ended."""
        if self.broken and self.end:
            return self.end.sentence
        if self.alive:
            return "it could not be deleted" if self.deleted else self.state
        if self.retired:
            return "drained before its walltime ended"
        return "deleted by hpcml" if self.deleted else self.end.sentence if self.end else self.state

    def __str__(self) -> str:
        number = self.id or "not submitted"
        if self.end is not None:
            return f"{number}{self.where}: {self.end.sentence}"
        if self.comment and self.state is not State.RUNNING:
            return f"{number}: {self.state}: {explain_comment(self.comment).sentence}"
        return f"{number}: {self.state}"

    def update(self, status: JobStatus) -> None:
        """Store a status that the scheduler reports."""
        self.unseen = 0
        self.state, self.comment, self.nodes = status.state, status.comment, status.nodes or self.nodes
        if status.state is State.RUNNING and self.running is None:
            self.running = time.monotonic()


def last_line(output: str) -> str:
    """Return the last line of a job's output, without the summary that Gadi's PBS appends."""
    own = output.partition("\n=====")[0] if "Resource Usage on " in output else output
    return next((line.strip() for line in reversed(own.splitlines()) if line.strip()), "")
