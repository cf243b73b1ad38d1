"""A running cluster, of whatever kind: its client, its size, its load and what it has cost."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, WorkerPlugin

from hpcml.cluster.tally import Tally
from hpcml.runs import RunPaths
from hpcml.units import format_size


@dataclass(frozen=True)
class Size:
    """A local cluster's size: worker processes, threads of each, bytes of each."""

    workers: int
    threads: int
    memory: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''} x {threads}, {format_size(self.memory)} each"


@dataclass(frozen=True)
class Load:
    """What the workers hold at a moment, in bytes."""

    workers: int
    memory: int
    memory_limit: int


@dataclass
class Cluster:
    """A running cluster."""

    client: Client
    # in this process; None: it is in another
    scheduler: Any
    size: Size
    dashboard: str
    paths: RunPaths
    started: float = field(default_factory=time.monotonic)
    tally: Tally = field(default_factory=Tally)
    # Measured when the cluster closes.
    core_s_allocated: float = 0.0
    core_s_busy: float = 0.0
    # why no workers are left, and none will come
    gave_up: str | None = None
    # that is, because the head's own job ends soon
    out_of_time: bool = False

    def count(self) -> None:
        """Count from now on what each worker does."""
        self.scheduler.add_plugin(self.tally, name="hpcml-tally")

    def first_error(self) -> str:
        """Say what went wrong first: the first error in the workers' logs, for later ones mostly follow from it."""
        for path in sorted(self.paths.worker_logs.iterdir()):
            for line in path.read_text(errors="replace").splitlines():
                if re.match(r"[\w.]+(Error|Exception): ", line):
                    return f"the first error in their logs: {line}"
        return "there is no error in their logs"

    def last_words(self) -> list[str]:
        """Say how those have ended who brought workers, if nobody has ended them."""
        return []

    def load(self) -> Load:
        """Ask the scheduler for workers and their memory."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return Load(
            len(workers),
            sum(worker["metrics"].get("memory", 0) for worker in workers),
            sum(worker["memory_limit"] for worker in workers),
        )

    def job_summary(self) -> list[dict[str, Any]]:
        """Say of each batch job of the cluster what it did; a local cluster has none."""
        return []

    def measure(self) -> None:
        """Count the core time so far."""
        self.core_s_allocated = (time.monotonic() - self.started) * self.size.workers * self.size.threads
        prefixes = list(self.scheduler.task_prefixes.values())
        self.core_s_busy = float(sum(prefix.all_durations.get("compute", 0.0) for prefix in prefixes))


class LogToFile(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Send what a worker prints, its libraries' warnings included, to a file instead of the user's terminal."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths

    def setup(self, worker: Any) -> None:
        """Redirect the worker process's output; called by Dask on each new worker."""
        path = self.paths.worker_log(str(worker.name))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
