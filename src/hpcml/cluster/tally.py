"""Count the tasks of each worker."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, SchedulerPlugin


class Tally(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Count the tasks that each worker finished, and those that had to be repeated after a loss."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.tasks: dict[str, int] = {}
        self.redone: dict[str, int] = {}

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self.names[worker] = str(scheduler.workers[worker].name)

    def transition(self, key: str, start: str, finish: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if start == "processing" and finish in {"memory", "erred"} and kwargs.get("worker"):
            name = self.names.get(kwargs["worker"], kwargs["worker"])
            self.tasks[name] = self.tasks.get(name, 0) + 1

    def lost(self, name: str, count: int) -> None:
        """Count tasks that were running on a worker when its job ended."""
        self.redone[name] = self.redone.get(name, 0) + count
