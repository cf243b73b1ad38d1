"""What is known of each worker of a job: what it is."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

import psutil
from distributed import Status, WorkerPlugin

from hpcml.spec import THREAD_VARIABLES

# The topic of Dask's events in which workers say what they are.
FACTS = "hpcml-worker"

# For how many seconds the head may be silent before its workers take it for dead. Dask's own limit is 30, and cannot be
# set below 11; so long they would compute for nobody.
_SILENCE = 5


def _age() -> float:
    """Tell for how many seconds this process's job has run: a batch job is a session of its own."""
    try:
        began = psutil.Process(os.getsid(0)).create_time()
    except (psutil.Error, OSError):  # where the job's processes are counted anew
        began = psutil.Process().create_time()
    return time.time() - began


def _expect_answers(connection: socket.socket) -> None:
    """Have the kernel close a connection on which nothing is acknowledged any more: a host that died says nothing."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _SILENCE)


class Fitness(WorkerPlugin):  # type: ignore[misc]  # likewise
    """Makes sure on each worker that it is what was asked for, and tells the head what it is."""

    def __init__(self, threads: int, memory_limit: int) -> None:
        self.threads, self.memory_limit = threads, memory_limit

    def setup(self, worker: Any) -> None:
        """Compare; called by Dask on each new worker, which ends if this raises."""
        pinned = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        facts = {
            "name": str(worker.name),
            "host": socket.gethostname(),
            "threads": worker.state.nthreads,
            "memory_limit": worker.memory_manager.memory_limit,
            "spill": worker.local_directory,
            "thread_variables": sorted(set(pinned.values()), key=str),
        }
        wrong = [f"{name}={value}" for name, value in pinned.items() if value != str(self.threads)]
        if facts["threads"] != self.threads or facts["memory_limit"] != self.memory_limit or wrong:
            raise RuntimeError(f"worker {worker.name} is not what was asked for: {facts} {' '.join(wrong)}")

        def registered() -> None:
            if worker.status is not Status.running:  # what a worker says before it is registered is lost
                worker.loop.call_later(0.05, registered)
                return
            worker.log_event(FACTS, {**facts, "age": round(_age(), 1)})
            with contextlib.suppress(AttributeError, OSError):  # not this kind of socket: then Dask's own limits hold
                _expect_answers(worker.batched_stream.comm.stream.socket)

        worker.loop.call_later(0.05, registered)
