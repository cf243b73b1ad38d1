"""Run a Dask cluster on this machine: start, monitor and close it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from typing import Any

import dask
import psutil
from dask.system import CPU_COUNT
from distributed import LocalCluster, Security, Status

from hpcml import interrupt
from hpcml.background import looking
from hpcml.batch.schedulers import current_job
from hpcml.client import Client
from hpcml.cluster import dashboard
from hpcml.cluster.dashboard import LOOPBACK
from hpcml.cluster.handle import Cluster, LogToFile, Size
from hpcml.cluster.spill import private_directory
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.runs import RunPaths
from hpcml.spec import MIN_WORKER_MEMORY, THREAD_VARIABLES, LocalSpec
from hpcml.units import format_size, parse_size
from hpcml.upstream.distributed import MEMORY_LIMIT

log = logging.getLogger(__name__)

# Seconds that each part of a cluster has to exit before it is killed.
_CLOSE_TIMEOUT = 5

# Seconds between checks of the workers, during the start and later.
_START_WATCH, _WATCH = 0.02, 1.0


# The fraction of the machine's memory for workers; the rest is for the head and the operating
# system.
WORKERS_SHARE = 0.9


def _cores() -> int:
    """Return the number of usable cores.

    This is the minimum of affinity, cgroup quota (both as in dask.system) and the job's cores.
    """
    job = current_job()
    given = None if job is None else job[0].cores()
    return int(min(CPU_COUNT, given or CPU_COUNT))


def _memory() -> int:
    """Return the usable memory in bytes: the minimum of the cgroup limit and the job's memory."""
    job = current_job()
    given = None if job is None else job[0].memory()
    return int(min(MEMORY_LIMIT, given or MEMORY_LIMIT))


def local_size(spec: LocalSpec) -> Size:
    """Compute the size of a local cluster from the request and the machine.

    A tenth of the memory is reserved for the head and the operating system.

    Raises
    ------
    ConfigError
        If a worker would get too little memory to start, or the spill directory is not writable.
    """
    _check_spill_directory(spec)
    cores, machine = _cores(), _memory()
    usable = int(machine * WORKERS_SHARE)
    limit = parse_size(spec.memory_limit, "cluster.memory_limit") if spec.memory_limit else None
    fitting = max(1, usable // (limit or 2 * MIN_WORKER_MEMORY))
    workers = spec.workers or min(max(1, cores // spec.threads), fitting)
    memory = limit or usable // workers
    if limit is not None and workers * limit > machine:
        raise ConfigError(
            f"cluster.memory_limit={spec.memory_limit}: {workers} workers of that ask for more than this machine's "
            f"{format_size(machine)}",
            f"use cluster.memory_limit={format_size(usable // workers)}"
            + (f", or cluster.workers={fitting}" if limit <= usable else ""),
        )
    if memory < MIN_WORKER_MEMORY:
        raise ConfigError(
            f"cluster.workers={workers}: of this machine's {format_size(machine)} each would get "
            f"{format_size(memory)}; a worker needs {format_size(MIN_WORKER_MEMORY)} at least",
            f"use cluster.workers={fitting} or fewer",
        )
    return Size(workers, spec.threads, memory)


def _check_spill_directory(spec: LocalSpec) -> None:
    if spec.local_directory is not None and not os.access(spec.local_directory, os.W_OK | os.X_OK):
        raise ConfigError(f"cluster.local_directory={spec.local_directory}: not a directory that you can write to")


@contextlib.contextmanager
def open_local(spec: LocalSpec, paths: RunPaths) -> Iterator[Cluster]:
    """Start a cluster on this machine and close it at the end.

    Every connection uses TLS with a certificate that is made for this run and kept in memory, and
    every server listens on loopback only.

    Raises
    ------
    ClusterStartError
        If the workers do not register within ``spec.start_timeout`` seconds.
    """
    size = local_size(spec)
    paths.worker_logs.mkdir(mode=0o700, exist_ok=True)
    if size.workers * size.threads > _cores():
        log.warning("%s share %d cores", size, _cores())
    with contextlib.ExitStack() as stack:
        # A private directory, because Dask adds it to the workers' sys.path and its default is a
        # directory in /tmp that all users share.
        spill = stack.enter_context(private_directory(spec.local_directory))
        settings = {
            "temporary-directory": spill,
            # Retry a task once only: on one machine a worker dies because of its own task and not
            # of a failing node. The workload determines which of the suspected tasks is
            # responsible.
            "distributed.scheduler.allowed-failures": 1,
            # Otherwise Dask closes the nanny of a worker that died 15 seconds ago if its latest
            # replacement is not registered yet. The watchdog detects nannies that have given up.
            "distributed.deploy.lost-worker-timeout": "1000 days",
        }
        stack.enter_context(dask.config.set(settings))
        # Reduce the output that a worker writes to the terminal before its log file is in place.
        variables = {"DASK_LOGGING__DISTRIBUTED": "warning", **dict.fromkeys(THREAD_VARIABLES, str(size.threads))}
        stack.enter_context(_environment(variables))
        # Start the tracker now and not with the first worker: starting it unblocks SIGINT in the
        # calling thread (CPython's multiprocessing.resource_tracker), and the workers would inherit
        # that.
        with interrupt.children_ignore_terminal():
            resource_tracker.ensure_running()
        prefix = dashboard.secret_prefix()
        with interrupt.deferred(), interrupt.children_ignore_terminal():
            # Start without workers, which takes a tenth of a second, so that there is a cluster to
            # close whatever fails later.
            dask_cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=size.threads,
                memory_limit=size.memory,
                local_directory=spill,
                host=LOOPBACK,
                security=Security.temporary(),
                dashboard_address=f"{LOOPBACK}:0",
                http_prefix=prefix,
                # Otherwise Dask changes the level of every handler, including the run log's.
                silence_logs=False,
            )
            where = dashboard.hide(dask_cluster.scheduler, prefix)
            parts: list[Cluster] = []

            def close(kind: Any, *_: Any) -> None:
                if kind is not None:
                    interrupt.closing()
                with interrupt.deferred():
                    _close(dask_cluster, parts, hurry=kind is not None)

            stack.push(close)
            client = Client(dask_cluster, set_as_default=False)
            cluster = Cluster(client, dask_cluster.scheduler, size, where, paths)
            cluster.count()
            parts.append(cluster)
        client.register_plugin(LogToFile(paths))
        dask_cluster.scale(size.workers)
        _await_workers(dask_cluster, cluster, spec.start_timeout)
        stack.enter_context(_watchdog(dask_cluster, cluster, spec.start_timeout))
        log.info("cluster: %s, scheduler %s, dashboard %s", size, dask_cluster.scheduler_address, cluster.dashboard)
        yield cluster


def _watchdog(dask_cluster: LocalCluster, cluster: Cluster, patience: int) -> AbstractContextManager[None]:
    """End the run if all workers are gone and none returns, where Dask would wait indefinitely.

    Nannies replace workers that die, but not those that exit by themselves, for example because a
    task cannot be imported. Closing the client cancels all pending futures, and the cancellation is
    raised where they are awaited.

    Parameters
    ----------
    patience : int
        Seconds to wait for a replacement.
    """
    alive, given_up = time.monotonic(), False

    def look() -> bool:
        nonlocal alive, given_up
        given_up, before = _given_up(dask_cluster), given_up
        if cluster.load().workers:
            alive = time.monotonic()
        # Require two checks in a row, so that the workers can write the reason to their logs.
        elif (given_up and before) or time.monotonic() - alive > patience:
            log.error("all workers are gone: giving up")
            cluster.client.close()
            return True
        return False

    return looking("watchdog", look, _WATCH)


def _given_up(dask_cluster: LocalCluster) -> bool:
    """Return whether all nannies have ended, so that no worker will start."""
    nannies = list(dask_cluster.workers.values())
    return bool(nannies) and all(nanny.status in {Status.closed, Status.failed} for nanny in nannies)


def _await_workers(dask_cluster: LocalCluster, cluster: Cluster, timeout: int) -> None:
    deadline = time.monotonic() + timeout
    while cluster.load().workers < cluster.size.workers:
        arrived = f"{cluster.load().workers} of {cluster.size.workers} workers"
        if _given_up(dask_cluster):
            raise ClusterStartError(
                f"{arrived} started; the others ended at once",
                'a script that runs hpcml must do so behind: if __name__ == "__main__":',
            )
        if time.monotonic() > deadline:
            raise ClusterStartError(
                f"{arrived} started within cluster.start_timeout={timeout} seconds",
                "on a busy machine give them longer, cluster.start_timeout=300, or ask for fewer, cluster.workers=2",
            )
        time.sleep(_START_WATCH)


def _close(dask_cluster: LocalCluster, parts: list[Cluster], hurry: bool) -> None:
    """Close the scheduler and workers, and kill processes that do not exit.

    Parameters
    ----------
    parts : list of Cluster
        The cluster that was opened; empty if starting it failed.
    hurry : bool
        The run was cancelled or failed, so do not wait for a worker in the middle of a fit.
    """
    processes = _worker_processes(dask_cluster)
    try:
        for cluster in parts:
            cluster.measure()
        if hurry:
            dask_cluster.sync(_close_nannies, dask_cluster, callback_timeout=_CLOSE_TIMEOUT)
        for cluster in parts:
            cluster.client.close(timeout=_CLOSE_TIMEOUT)
        dask_cluster.close(timeout=3 * _CLOSE_TIMEOUT)
    except Exception as error:
        log.warning("closing the cluster: %s: %s", type(error).__name__, error)
    _, alive = psutil.wait_procs(processes + _worker_processes(dask_cluster), timeout=1)
    for process in alive:
        log.warning("worker process %d did not end by itself and is killed", process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_CLOSE_TIMEOUT)


async def _close_nannies(cluster: LocalCluster) -> None:
    # A nanny gives its worker four fifths of the timeout, then kills it.
    await asyncio.gather(*(nanny.close(timeout=1) for nanny in cluster.workers.values()), return_exceptions=True)


def _worker_processes(cluster: LocalCluster) -> list[psutil.Process]:
    """Return the worker processes and their children."""
    processes = []
    for nanny in list(cluster.workers.values()):
        with contextlib.suppress(psutil.NoSuchProcess):
            if nanny.pid is not None:
                process = psutil.Process(nanny.pid)
                processes += [process, *process.children(recursive=True)]
    return processes


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that worker processes, including replacements, inherit."""
    old = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
