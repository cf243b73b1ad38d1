"""A handle for a running cluster of any kind: its client, size, load and cost."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, WorkerPlugin

from hpcml.batch.current_job import in_job
from hpcml.cluster.tally import Tally
from hpcml.runs import RunPaths
from hpcml.units import format_size
from hpcml.upstream.distributed import compute_seconds


@dataclass(frozen=True)
class Size:
    """The size of a cluster: worker processes, and the threads and bytes of each."""

    workers: int
    threads: int
    memory: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''} x {threads}, {format_size(self.memory)} each"


@dataclass(frozen=True)
class Load:
    """The number of workers at a moment, the memory that they use, and their limit, in bytes."""

    workers: int
    memory: int
    memory_limit: int


@dataclass
class Cluster:
    """A running cluster."""

    client: Client
    # The scheduler if it runs in this process, otherwise None.
    scheduler: Any
    size: Size
    dashboard: str
    paths: RunPaths
    started: float = field(default_factory=time.monotonic)
    tally: Tally = field(default_factory=Tally)
    # Measured when the cluster closes.
    core_s_allocated: float = 0.0
    core_s_busy: float = 0.0
    # Why no workers are left and none will start.
    gave_up: str | None = None
    # Whether the reason is that the head's own job ends soon.
    out_of_time: bool = False
    # Whether the head is in a batch job.
    in_job: bool = field(default_factory=in_job)
    # Ids of worker jobs that were still in the queue when the cluster was closed.
    left: Sequence[str] = ()

    def count(self) -> None:
        """Start counting the tasks of each worker."""
        self.scheduler.add_plugin(self.tally, name="hpcml-tally")

    def first_error(self) -> str:
        """Return the first error in the workers' logs; later errors mostly follow from it."""
        for path in sorted(self.paths.worker_logs.iterdir()):
            for line in path.read_text(errors="replace").splitlines():
                if re.match(r"[\w.]+(Error|Exception): ", line):
                    return f"the first error in their logs: {line}"
        return "there is no error in their logs"

    def last_words(self) -> list[str]:
        """Return the exit reasons of worker jobs or nodes that hpcml did not stop."""
        return []

    def load(self) -> Load:
        """Return the number of workers and their memory, as the scheduler reports them."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return Load(
            len(workers),
            sum(worker["metrics"].get("memory", 0) for worker in workers),
            sum(worker["memory_limit"] for worker in workers),
        )

    def job_summary(self) -> list[dict[str, Any]]:
        """Return one entry per batch job of the cluster; a local cluster has none."""
        return []

    def measure(self) -> None:
        """Update the allocated and the busy core-seconds."""
        self.core_s_allocated = (time.monotonic() - self.started) * self.size.workers * self.size.threads
        self.core_s_busy = compute_seconds(self.scheduler)


class LogToFile(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Redirect a worker's output, including warnings of libraries, from the terminal to a file."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths

    def setup(self, worker: Any) -> None:
        """Redirect the output of the worker process; Dask calls this on each new worker."""
        path = self.paths.worker_log(str(worker.name))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
