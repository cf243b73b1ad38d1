"""Check that each worker has the requested threads and memory, and report its properties."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

import psutil
from distributed import Status, WorkerPlugin

from hpcml.spec import THREAD_VARIABLES
from hpcml.upstream import distributed as upstream

# The topic of Dask's events under which workers report their properties.
FACTS = "hpcml-worker"

# Seconds without an acknowledgement after which a worker considers the head dead. Dask's own limit
# is 30 and cannot be set below 11; until then the worker would compute for nothing.
_SILENCE = 5


def _age() -> float:
    """Return how long this process's batch job has run, in seconds; a batch job is one session."""
    try:
        began = psutil.Process(os.getsid(0)).create_time()
    except (psutil.Error, OSError):
        # In a separate PID namespace, the session leader may not be visible.
        began = psutil.Process().create_time()
    return time.time() - began


def _expect_answers(connection: socket.socket) -> None:
    """Make the kernel close a connection without acknowledgements, as a dead host sends none."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _SILENCE)


class Fitness(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Check each worker against the request and report its properties to the head."""

    def __init__(self, threads: int, memory_limit: int) -> None:
        self.threads, self.memory_limit = threads, memory_limit

    def setup(self, worker: Any) -> None:
        """Check the worker; Dask calls this on each new worker, which closes if this raises."""
        pinned = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        facts = {
            "name": str(worker.name),
            "host": socket.gethostname(),
            "threads": worker.state.nthreads,
            "memory_limit": upstream.memory_limit(worker),
            "spill": worker.local_directory,
            "thread_variables": sorted(set(pinned.values()), key=str),
        }
        wrong = [f"{name}={value}" for name, value in pinned.items() if value != str(self.threads)]
        if facts["threads"] != self.threads or facts["memory_limit"] != self.memory_limit or wrong:
            raise RuntimeError(f"worker {worker.name} differs from the request: {facts} {' '.join(wrong)}")

        def registered() -> None:
            # Events that a worker logs before it is registered are lost.
            if worker.status is not Status.running:
                worker.loop.call_later(0.05, registered)
                return
            worker.log_event(FACTS, {**facts, "age": round(_age(), 1)})
            connection = upstream.connection_to_scheduler(worker)
            # Not every system has these options; Dask's own limits apply there.
            with contextlib.suppress(AttributeError, OSError):
                if connection is not None:
                    _expect_answers(connection)

        worker.loop.call_later(0.05, registered)
