"""A cluster of worker jobs: start it, wait for a quorum, watch over it, always close it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dask
from distributed import Client, Scheduler, SchedulerPlugin, Security, WorkerPlugin
from distributed.deploy.spec import SpecCluster

from hpcml import interrupt
from hpcml.batch.request import Request
from hpcml.batch.scheduler import scheduler as batch_scheduler
from hpcml.cluster import dashboard, jobqueue, tls
from hpcml.cluster.handle import Cluster, LogToFile, Size
from hpcml.cluster.jobs import Jobs
from hpcml.cluster.supervisor import Supervisor
from hpcml.cluster.workerjob import Orders, UnfitError, address_of, versions
from hpcml.errors import ClusterStartError
from hpcml.runs import RunPaths
from hpcml.spec import THREAD_VARIABLES

log = logging.getLogger(__name__)

# Seconds between two words to the user while jobs wait in the queue.
_PATIENCE = 600

_CLOSE_TIMEOUT = 5

# The topic of Dask's events in which workers say what they are.
FACTS = "hpcml-worker"


class Tally(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Counts what each worker has computed."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.tasks: dict[str, int] = {}

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self.names[worker] = str(scheduler.workers[worker].name)

    def transition(self, key: str, start: str, finish: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if start == "processing" and finish in {"memory", "erred"} and kwargs.get("worker"):
            name = self.names.get(kwargs["worker"], kwargs["worker"])
            self.tasks[name] = self.tasks.get(name, 0) + 1


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
        # not now: what a worker says before it is registered is lost
        worker.loop.call_later(1, worker.log_event, FACTS, facts)


@dataclass
class BatchCluster(Cluster):
    """A running cluster of worker jobs."""

    jobs: Jobs | None = None
    tally: Tally = field(default_factory=Tally)
    # what the workers have said they are; collected when the cluster closes
    facts: list[dict[str, Any]] = field(default_factory=list)

    def first_error(self) -> str:
        """Say how the last worker jobs ended, or what the workers' logs say."""
        assert self.jobs is not None
        ended = [job for job in self.jobs.all.values() if not job.alive and not job.deleted]
        if not ended:
            return super().first_error()
        return "; ".join(f"worker job {job}" for job in ended[-3:])

    def measure(self) -> None:
        """Count the core time so far: from when a job ran until it ended."""
        assert self.jobs is not None
        super().measure()
        self.facts = [told for _, told in self.scheduler.get_events(FACTS)]
        cores = self.jobs.request.worker.ncpus
        self.core_s_allocated = sum(job.seconds for job in self.jobs.all.values()) * cores

    def job_summary(self) -> list[dict[str, Any]]:
        """Say of each worker job what it did, for the record."""
        assert self.jobs is not None
        found = self.jobs.summary()
        for entry in found:
            of_job = {name: count for name, count in self.tally.tasks.items() if name.startswith(f"{entry['job']}-")}
            entry["workers"] = len({n for n in self.tally.names.values() if n.startswith(f"{entry['job']}-")})
            entry["tasks"] = sum(of_job.values())
            told = [facts for facts in self.facts if facts["name"].startswith(f"{entry['job']}-")]
            entry["each_worker"] = told[-1] if told else None
        return found


@contextlib.contextmanager
def open_batch(request: Request, paths: RunPaths, say: Callable[[str], None]) -> Iterator[Cluster]:
    """Submit worker jobs, wait for a quorum of workers, and delete the jobs whatever happens.

    Every connection is TLS with certificates made for this run, and the scheduler listens on the site's interface only.

    Parameters
    ----------
    say : callable
        Tells the user what is being waited for.

    Raises
    ------
    ClusterStartError
        If no workers can come; says why.
    """
    try:
        host = address_of(request.site.interface)
    except UnfitError as error:
        raise ClusterStartError(
            str(error), "site.interface names the network that scheduler and workers talk over"
        ) from error
    paths.worker_logs.mkdir(mode=0o700, exist_ok=True)
    jobs = Jobs(request, paths, batch_scheduler(request.site, request.scheduler))
    with contextlib.ExitStack() as stack:
        encrypted = request.encrypted
        if encrypted:
            stack.enter_context(tls.authority(paths.tls))
        else:
            log.warning("cluster.security=none: anybody who reaches the scheduler's port runs code as you")
            say("WARNING: cluster.security=none: anybody who reaches the scheduler's port runs code as you")
        settings = {
            f"jobqueue.{jobqueue.SECTION}": jobqueue.section(request),
            "distributed.scheduler.allowed-failures": 1,  # as in local.py
            "distributed.scheduler.http.routes": ["distributed.http.statics"],
        }
        stack.enter_context(dask.config.set(settings))
        security = tls.security(paths.tls, "head") if encrypted else Security()
        with interrupt.deferred(), interrupt.children_ignore_terminal():
            prefix = dashboard.secret_prefix()
            dask_cluster = jobqueue.cluster(
                jobs,
                name=paths.run_id,
                security=security if encrypted else None,
                scheduler_options={
                    "protocol": "tls://" if encrypted else "tcp://",
                    "security": security,
                    "port": 0,
                    "dashboard_address": f"{dashboard.LOOPBACK}:0",
                    "http_prefix": prefix,
                    "host": host,
                },
            )
            parts: list[BatchCluster] = []

            def close(kind: Any, *_: Any) -> None:
                if kind is not None:
                    interrupt.closing()
                with interrupt.deferred():
                    left = _close(dask_cluster, jobs, parts)
                if left:
                    say(f"WARNING: these worker jobs are still in the queue: {' '.join(left)}; try again: hpcml clean")

            stack.push(close)
            where = dashboard.hide(dask_cluster.scheduler, prefix)
            client = Client(dask_cluster, set_as_default=False)
            size = Size(request.workers, request.threads, request.memory_limit)
            cluster = BatchCluster(client, dask_cluster.scheduler, size, where, paths, jobs=jobs)
            parts.append(cluster)
            cluster.scheduler.add_plugin(cluster.tally, name="hpcml-tally")
        Orders(
            scheduler=dask_cluster.scheduler_address,
            encrypted=encrypted,
            workers=request.workers_per_job,
            threads=request.threads,
            memory_limit=request.memory_limit,
            local_directory=request.local_directory,
            interface=request.site.interface,
            work=request.places.work,
            patience=request.start_timeout,
            versions=versions(),
        ).write(paths.orders)
        client.register_plugin(LogToFile(paths))
        client.register_plugin(Fitness(request.threads, request.memory_limit))
        dask_cluster.scale(jobs=request.first_jobs)  # type: ignore[no-untyped-call]
        supervisor = Supervisor(dask_cluster, cluster, jobs)
        _await_quorum(cluster, jobs, supervisor, say)
        stack.enter_context(supervisor.watching())
        log.info("cluster: %s, scheduler %s, dashboard %s", size, dask_cluster.scheduler_address, where)
        yield cluster


def _await_quorum(cluster: BatchCluster, jobs: Jobs, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    quorum, told = jobs.request.min_workers, ""
    word = time.monotonic() + _PATIENCE
    while len(cluster.scheduler.workers) < quorum:
        supervisor.step()
        if jobs.trouble is not None:
            raise ClusterStartError(jobs.trouble.cause, *jobs.trouble.hints, *_states(jobs))
        if supervisor.hopeless():
            raise _nobody_came(jobs)
        states = _count(jobs)
        if states != told or time.monotonic() > word:
            say(f"worker jobs: {states}")
            told, word = states, time.monotonic() + _PATIENCE
        time.sleep(0.05)
    say(f"worker jobs: {_count(jobs)}; {len(cluster.scheduler.workers)} of {cluster.size.workers} workers are there")


def _count(jobs: Jobs) -> str:
    counts: dict[str, int] = {}
    for job in jobs.all.values():
        counts[job.state] = counts.get(job.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"


def _states(jobs: Jobs) -> list[str]:
    return [f"worker job {job}" for job in list(jobs.all.values())[:10] if job.id]


def _nobody_came(jobs: Jobs) -> ClusterStartError:
    """Explain with the scheduler's and the job's own words why no worker came."""
    last = list(jobs.all.values())[-1]
    hints = _states(jobs)
    tail = jobs.log_of(last, 8)
    if tail:
        hints.append(f"the end of {jobs.paths.job_log(last.name)}:")
        hints += [f"  {line}" for line in tail.splitlines()]
    if last.end is not None and last.end.remedy:
        hints.append(last.end.remedy)
    return ClusterStartError("no worker job has brought a worker, and no more are submitted", *hints)


def _close(dask_cluster: SpecCluster, jobs: Jobs, parts: list[BatchCluster]) -> list[str]:
    """Delete the jobs, then end the scheduler; give the ids of those that are still in the queue."""
    left = []
    try:
        for cluster in parts:
            cluster.measure()
        left = jobs.close()
    finally:
        try:
            for cluster in parts:
                cluster.client.close(timeout=_CLOSE_TIMEOUT)
            dask_cluster.close(timeout=2 * _CLOSE_TIMEOUT)
        except Exception as error:
            log.warning("closing the cluster: %s: %s", type(error).__name__, error)
    return left
