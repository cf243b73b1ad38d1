"""Wrap private parts of distributed: its scheduler, workers, clients and clusters."""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from distributed import Client, Future, Scheduler, Status, as_completed
from distributed.deploy.spec import SpecCluster
from distributed.scheduler import WorkerState, heartbeat_interval
from distributed.system import MEMORY_LIMIT
from tornado import web

VERIFIED = "2026.8.0"

__all__ = [
    # Needed by cluster.local: the memory limit of this process in bytes, with cgroups.
    # Undocumented.
    "MEMORY_LIMIT",
    "CompletedFutures",
    "SharedConnection",
    "add_dashboard",
    "average_durations",
    "compute_seconds",
    "connection_to_scheduler",
    "drain",
    "forget_jobs",
    "futures_of",
    # Needed by cluster.rotation: seconds between two heartbeats of one of n workers. Undocumented.
    "heartbeat_interval",
    "hide_paths",
    "http_port",
    "identity",
    "memory_limit",
    "pause",
    "remote_compute_seconds",
    "requested_jobs",
    "run_on_workers",
    "unpause",
    "worker_restarts",
]


# Clients.


class CompletedFutures:
    """Futures in batches as they complete: the cost of one does not depend on how many are pending.

    Needed by ``TaskPool.each``. Public API missing: ``as_completed`` iterates, and ``next_batch``
    blocks, without a timeout for the next future; ``wait`` costs time for every pending future.
    This takes futures from ``as_completed.queue``.
    """

    def __init__(self, client: Client) -> None:
        self._completed = as_completed(loop=client.loop)

    def add(self, futures: Sequence[Future[Any]]) -> None:
        """Add more futures to wait for."""
        self._completed.update(futures)

    def take(self, timeout: float, collect: float) -> list[Future[Any]]:
        """Wait for a future to complete, and return all that have completed.

        Parameters
        ----------
        timeout : float
            Maximum time to wait, in seconds; then the list is empty.
        collect : float
            Time to wait for more futures after the first, in seconds.
        """
        try:
            found = [self._completed.queue.get(timeout=timeout)]
        except queue.Empty:
            return []
        if collect:
            time.sleep(collect)
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._completed.queue.get_nowait())
        return found


class SharedConnection:
    """Mixin for a client that shares all but the overridden methods with another client.

    Needed by ``scaling.paused_workers``, which limits a client to some workers. Public API missing:
    a second Client means a second connection, and futures of one are unknown to the other. So both
    share their ``__dict__``.

    Parameters
    ----------
    client : Client
        The client that owns the connection and closes it.
    """

    __slots__ = ()

    def __init__(self, client: Client) -> None:
        object.__setattr__(self, "__dict__", client.__dict__)

    def __del__(self) -> None:
        """Keep the connection open, which ``Client.__del__`` would close."""


def identity(client: Client, n_workers: int) -> Any:
    """Return the scheduler's information about itself and its workers.

    Needed by ``hpcml.client.Client``. Public API missing: ``Client.scheduler_info`` may return the
    answer to the client's own periodic request, which lists no workers.

    Parameters
    ----------
    n_workers : int
        Maximum number of workers in the answer; -1 for all.
    """
    return client.sync(client.scheduler.identity, n_workers=n_workers)


def run_on_workers(client: Client, function: Callable[[], Any], timeout: float) -> dict[str, Any]:
    """Run a function on all workers; return its results or exceptions by worker.

    Needed by ``cluster.attach``: a worker may be busy for others. Public API missing:
    ``Client.run`` has no timeout.

    Raises
    ------
    TimeoutError
        If not all workers have answered after ``timeout`` seconds.
    """
    answers: dict[str, Any] = client.sync(client._run, function, on_error="return", callback_timeout=timeout)
    return answers


def futures_of(client: Client) -> set[Any]:
    """Return the keys of all tasks that a client holds futures of.

    Needed by ``dask_fit.retry``, which cancels the tasks of a fit. Public API missing:
    ``Client.futures`` is not documented.
    """
    return set(client.futures)


def cancel_results(client: Client, keys: Collection[Any]) -> None:
    """Cancel those tasks of some keys that no other task depends on.

    Needed by ``dask_fit.retry``, which ends a fit that waits for a dead worker. Public API missing:
    ``Client.cancel`` of a task with a dependent that no client wants breaks the connection of the
    client (an assertion in ``Scheduler.stimulus_cancel``).
    """

    # A local function is pickled by value, since another user's scheduler may not have hpcml.
    def results(dask_scheduler: Any) -> list[Any]:
        there = [key for key in keys if key in dask_scheduler.tasks]
        return [key for key in there if not dask_scheduler.tasks[key].dependents]

    found = client.run_on_scheduler(results)
    client.cancel([Future(key, client) for key in found])


# The scheduler.


def compute_seconds(scheduler: Scheduler) -> float:
    """Return how long the scheduler's tasks have computed, in core-seconds.

    Needed by ``cluster.handle`` for the record's busy time. Public API missing:
    ``TaskPrefix.all_durations`` is documented as an attribute, its keys are not.
    """
    prefixes = list(scheduler.task_prefixes.values())
    return float(sum(prefix.all_durations.get("compute", 0.0) for prefix in prefixes))


def remote_compute_seconds(client: Client, timeout: float | None = None) -> float:
    """Return how long the tasks of a scheduler in another process have computed, in core-seconds.

    Needed by ``cluster.attach`` and ``workloads.scaling``. Public API missing:
    ``Client.run_on_scheduler`` has no timeout.

    Parameters
    ----------
    timeout : float or None
        In seconds; None waits indefinitely.
    """

    # A local function is pickled by value, since another user's scheduler may not have hpcml.
    def seconds(dask_scheduler: Any) -> float:
        prefixes = list(dask_scheduler.task_prefixes.values())
        return float(sum(prefix.all_durations.get("compute", 0.0) for prefix in prefixes))

    return float(client.sync(client._run_on_scheduler, seconds, callback_timeout=timeout))


def average_durations(scheduler: Scheduler) -> list[float]:
    """Return the average duration of each kind of task that is on workers now, in seconds.

    Needed by ``cluster.rotation``, which estimates whether a task ends before a job's walltime.
    Public API missing: the keys of ``TaskPrefix.states`` are not documented.

    Raises
    ------
    RuntimeError
        If the scheduler's thread changes the dictionary during the call.
    """
    prefixes = list(scheduler.task_prefixes.values())
    return [p.duration_average for p in prefixes if p.duration_average and p.states.get("processing")]


def drain(scheduler: Scheduler, worker: WorkerState, stimulus: str) -> None:
    """Stop sending tasks to a worker; call this in the scheduler's event loop.

    Needed by ``cluster.rotation``, which waits for running tasks before it retires a worker. Public
    API missing: ``Scheduler.retire_workers`` does this first, but moves data without waiting for
    running tasks.

    Parameters
    ----------
    stimulus : str
        The cause, for Dask's own log of events.
    """
    scheduler.handle_worker_status_change(Status.closing_gracefully, worker, stimulus)
    scheduler.stream_comms[worker.address].send(
        {"op": "worker-status-change", "status": Status.closing_gracefully.name, "stimulus_id": stimulus}
    )


def add_dashboard(scheduler: Scheduler, prefix: str) -> None:
    """Add the dashboard to a scheduler that was started with ``dashboard=False``.

    Needed by ``cluster.dashboard``: importing the dashboard takes half a second, which would delay
    worker jobs. Public API missing: a scheduler can add its dashboard in its constructor only.
    """
    from distributed.dashboard.scheduler import connect

    scheduler.loop.add_callback(connect, scheduler.http_application, scheduler.http_server, scheduler, prefix)


def hide_paths(scheduler: Scheduler, allowed: Callable[[str], bool]) -> None:
    """Answer 404 to every HTTP request for a path that is not allowed.

    Needed by ``cluster.dashboard``, which serves it under a secret prefix. Public API missing: Dask
    redirects ``/`` to the dashboard's prefix, and so reveals it; its routes cannot be replaced,
    only added to.
    """
    application = scheduler.http_application
    find = application.find_handler

    def find_handler(request: Any, **kwargs: Any) -> Any:
        if allowed(request.path):
            return find(request, **kwargs)
        return application.get_handler_delegate(request, web.ErrorHandler, {"status_code": 404})

    application.find_handler = find_handler


def http_port(scheduler: Scheduler) -> int:
    """Return the port of a scheduler's HTTP server.

    Needed by ``cluster.dashboard``. Public API missing: ``Cluster.dashboard_link`` is empty if the
    scheduler was started without a dashboard.
    """
    return int(scheduler.http_server.port)


# Clusters.


def requested_jobs(cluster: SpecCluster) -> int:
    """Return the number of jobs that a cluster has been scaled to.

    Needed by ``cluster.supervisor``, which scales the cluster up. Public API missing: reading
    ``SpecCluster.worker_spec`` is not documented.
    """
    return len(cluster.worker_spec)


def forget_jobs(cluster: SpecCluster, names: Iterable[str]) -> None:
    """Remove jobs that have ended from a cluster, which would restart them otherwise.

    Call this in the cluster's event loop.

    Needed by ``cluster.supervisor`` and ``cluster.rotation``, which choose the replacements. Public
    API missing: ``SpecCluster.scale_down`` closes jobs, and waits for them.
    """
    for name in names:
        cluster.worker_spec.pop(name, None)
        cluster.workers.pop(name, None)


# Workers.


def memory_limit(worker: Any) -> int | None:
    """Return the memory limit of a worker in bytes.

    Needed by ``cluster.fitness``, which compares it with the request. Public API missing:
    ``Worker.memory_manager`` is not documented, and no other attribute has the limit.
    """
    limit: int | None = worker.memory_manager.memory_limit
    return limit


def connection_to_scheduler(worker: Any) -> socket.socket | None:
    """Return the socket of a worker's connection to its scheduler; None if it is not TCP.

    Needed by ``cluster.fitness``, which makes the kernel notice a dead head in seconds. Public API
    missing: Dask sets TCP_USER_TIMEOUT from ``distributed.comm.timeouts.tcp``, which cannot be set
    below 11 seconds.
    """
    try:
        found: socket.socket | None = worker.batched_stream.comm.stream.socket
    except AttributeError:
        return None
    return found


def pause(worker: Any) -> Any:
    """Pause a worker, as Dask pauses one that runs out of memory; call this in its event loop.

    Needed by ``scaling.paused_workers``, which times a workload on a part of a cluster. Public API
    missing: only Dask's memory manager pauses a worker, and it would unpause this one at once
    unless its own limit is switched off.

    Returns
    -------
    float or False
        The limit, for :func:`unpause`; False if it was off before.
    """
    manager = worker.memory_manager
    fraction, manager.memory_pause_fraction = manager.memory_pause_fraction, False
    if worker.status is Status.running:
        worker.status = Status.paused
    return fraction


def unpause(worker: Any, fraction: Any) -> None:
    """Undo :func:`pause`.

    Parameters
    ----------
    fraction : float or False
        The limit that :func:`pause` returned.
    """
    worker.memory_manager.memory_pause_fraction = fraction
    if worker.status is Status.paused:
        worker.status = Status.running


def worker_restarts(nanny: Any) -> bool:
    """Return whether a nanny is restarting its worker process because the last one died.

    Needed by ``cluster.workerjob``, which stops workers that look for a missing head. Public API
    missing: the status of the nanny itself stays ``running`` meanwhile.
    """
    return nanny.process is not None and nanny.process.status is Status.starting
