"""Start the Dask scheduler and client for workers on other hosts, over TLS, and close them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import dask
from distributed import Security
from distributed.deploy.spec import SpecCluster

from hpcml import interrupt
from hpcml.batch.request import Request
from hpcml.client import Client
from hpcml.cluster import dashboard, tls
from hpcml.cluster.fitness import FACTS, Fitness
from hpcml.cluster.handle import Cluster, LogToFile, Size
from hpcml.cluster.workerjob import Orders, UnfitError, address_of, versions
from hpcml.errors import ClusterStartError
from hpcml.runs import RunPaths

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT = 5


def bringer(worker: str) -> str:
    """Return the worker job or node of a worker, by the worker's name.

    >>> bringer("job-3-0")
    'job-3'
    """
    return worker.rpartition("-")[0]


class Crew(Protocol):
    """The worker jobs of a run, or the nodes of an allocation."""

    @property
    def core_s(self) -> float:
        """Core-seconds used so far."""
        ...

    def last_words(self) -> list[str]:
        """Return the exit reasons of jobs or nodes that hpcml did not stop."""
        ...

    def summary(self) -> list[dict[str, Any]]:
        """Return one entry per job or node for the record, with its name as ``job``."""
        ...

    def close(self) -> list[str]:
        """Stop all jobs or nodes and return the ids of those that are still there."""
        ...


@dataclass
class JobCluster(Cluster):
    """A running cluster with workers in batch jobs; worker ``job-3-0`` belongs to ``job-3``."""

    crew: Crew | None = None
    # Properties that the workers reported; collected when the cluster closes.
    facts: list[dict[str, Any]] = field(default_factory=list)

    def first_error(self) -> str:
        """Return the exit reasons of the last worker jobs, or the first error in worker logs."""
        return "; ".join(self.last_words()) or super().first_error()

    def last_words(self) -> list[str]:
        """Return the exit reasons of the last worker jobs."""
        assert self.crew is not None
        return self.crew.last_words()[-3:]

    def measure(self) -> None:
        """Update the core-seconds; a job counts from its start to its end."""
        assert self.crew is not None
        super().measure()
        self.facts = [facts for _, facts in self.scheduler.get_events(FACTS)]
        self.core_s_allocated = self.crew.core_s

    def job_summary(self) -> list[dict[str, Any]]:
        """Return one entry per worker job for the record."""
        assert self.crew is not None
        return [entry | self._work_of(entry["job"]) for entry in self.crew.summary()]

    def _work_of(self, job: str) -> dict[str, Any]:
        """Return what the workers of a job have done, and the properties that one reported."""
        prefix = f"{job}-"

        def total(counts: Mapping[str, int]) -> int:
            return sum(count for name, count in counts.items() if name.startswith(prefix))

        reported = [facts for facts in self.facts if facts["name"].startswith(prefix)]
        return {
            "workers": len({name for name in self.tally.names.values() if name.startswith(prefix)}),
            "tasks": total(self.tally.tasks),
            "redone": total(self.tally.redone),
            "each_worker": reported[-1] if reported else None,
        }


@contextlib.contextmanager
def opened(
    request: Request,
    paths: RunPaths,
    crew: Crew,
    start: Callable[..., SpecCluster],
    say: Callable[[str], None],
) -> Iterator[tuple[SpecCluster, JobCluster, Callable[[], None]]]:
    """Start the scheduler and client, write the workers' settings, and close everything at the end.

    Every connection uses TLS with certificates made for this run, and the scheduler listens on the
    site's interface only.

    Parameters
    ----------
    start : callable
        Builds Dask's cluster from name, security and scheduler_options.

    Yields
    ------
    SpecCluster
        Dask's cluster.
    JobCluster
        The handle of hpcml.
    callable
        Serves the dashboard; call it once the worker jobs are requested.

    Raises
    ------
    ClusterStartError
        If the network interface does not exist.
    """
    try:
        host = address_of(request.site.interface)
    except UnfitError as error:
        raise ClusterStartError(
            str(error), "site.interface names the network that scheduler and workers talk over"
        ) from error
    paths.worker_logs.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        encrypted = request.encrypted
        if encrypted:
            stack.enter_context(tls.authority(paths.tls))
        else:
            log.warning("cluster.security=none: anybody who reaches the scheduler's port runs code as you")
            say("WARNING: cluster.security=none: anybody who reaches the scheduler's port runs code as you")
        settings = {
            "distributed.scheduler.allowed-failures": 1,  # as in local.py
            "distributed.scheduler.http.routes": ["distributed.http.statics"],
        }
        stack.enter_context(dask.config.set(settings))
        security = tls.security(paths.tls, "head") if encrypted else Security()
        with interrupt.deferred(), interrupt.children_ignore_terminal():
            prefix = dashboard.secret_prefix()
            dask_cluster = start(
                name=paths.run_id,
                security=security if encrypted else None,
                scheduler_options={
                    "protocol": "tls://" if encrypted else "tcp://",
                    "security": security,
                    "port": 0,
                    "dashboard": False,  # served after worker jobs are requested
                    "dashboard_address": f"{dashboard.LOOPBACK}:0",
                    "http_prefix": prefix,
                    "host": host,
                },
            )
            parts: list[JobCluster] = []

            def close(kind: Any, *_: Any) -> None:
                if kind is not None:
                    interrupt.closing()
                with interrupt.deferred():
                    left = _close(dask_cluster, crew, parts)
                for cluster in parts:
                    cluster.left = left
                if left:
                    say(f"WARNING: these worker jobs are still in the queue: {' '.join(left)}; try again: hpcml clean")

            stack.push(close)
            where = dashboard.hide(dask_cluster.scheduler, prefix)
            client = Client(dask_cluster, set_as_default=False)
            size = Size(request.workers, request.threads, request.memory_limit)
            cluster = JobCluster(client, dask_cluster.scheduler, size, where, paths, crew=crew)
            parts.append(cluster)
            cluster.count()
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
        log.info("scheduler %s, dashboard %s", dask_cluster.scheduler_address, where)
        yield dask_cluster, cluster, lambda: dashboard.serve(cluster.scheduler, prefix)


def _close(dask_cluster: SpecCluster, crew: Crew, parts: list[JobCluster]) -> list[str]:
    """Stop the workers, then the scheduler; return the ids of jobs that are still in the queue."""
    left = []
    try:
        for cluster in parts:
            cluster.measure()
        left = crew.close()
    finally:
        try:
            for cluster in parts:
                cluster.client.close(timeout=_CLOSE_TIMEOUT)
            dask_cluster.close(timeout=2 * _CLOSE_TIMEOUT)
        except Exception as error:
            log.warning("closing the cluster: %s: %s", type(error).__name__, error)
    return left
