"""Run workers in batch jobs: submit the jobs, wait for a quorum, monitor and delete them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask
from distributed.deploy.spec import SpecCluster

from hpcml.batch.request import Request
from hpcml.batch.schedulers import scheduler_of
from hpcml.cluster import jobqueue
from hpcml.cluster.handle import Cluster
from hpcml.cluster.head import JobCluster, opened
from hpcml.cluster.jobs import Jobs
from hpcml.cluster.supervisor import Supervisor
from hpcml.errors import ClusterStartError
from hpcml.runs import RunPaths

# Seconds between progress messages while jobs wait in the queue.
_PATIENCE = 600


@contextlib.contextmanager
def open_batch(request: Request, paths: RunPaths, ends: float | None, say: Callable[[str], None]) -> Iterator[Cluster]:
    """Submit worker jobs, wait for a quorum of workers, and delete the jobs at the end.

    Parameters
    ----------
    ends : float or None
        When the head's job ends, in seconds since the epoch.
    say : callable
        Reports progress to the user.

    Raises
    ------
    ClusterStartError
        If no worker can start; the message includes the reason.
    """
    jobs = Jobs(request, paths, scheduler_of(request.site, request.scheduler), ends)

    def start(**kwargs: Any) -> SpecCluster:
        return jobqueue.cluster(jobs, **kwargs)

    with (
        dask.config.set({f"jobqueue.{jobqueue.SECTION}": jobqueue.section(request)}),
        opened(request, paths, jobs, start, say) as (dask_cluster, cluster, serve_dashboard),
    ):
        dask_cluster.scale(jobs=request.first_jobs)
        serve_dashboard()
        supervisor = Supervisor(dask_cluster, cluster, jobs)
        _await_quorum(cluster, jobs, supervisor, say)
        with supervisor.watching():
            yield cluster


def _await_quorum(cluster: JobCluster, jobs: Jobs, supervisor: Supervisor, say: Callable[[str], None]) -> None:
    quorum, shown = jobs.request.min_workers, ""
    word = time.monotonic() + _PATIENCE
    while len(cluster.scheduler.workers) < quorum:
        supervisor.step()
        if jobs.trouble is not None:
            raise ClusterStartError(jobs.trouble.cause, *jobs.trouble.hints, *_states(jobs))
        if supervisor.hopeless():
            raise _nobody_came(jobs)
        states = _count(jobs)
        if states != shown or time.monotonic() > word:
            say(f"worker jobs: {states}")
            shown, word = states, time.monotonic() + _PATIENCE
        time.sleep(0.05)
    say(f"worker jobs: {_count(jobs)}; {len(cluster.scheduler.workers)} of {cluster.size.workers} workers are there")


def _count(jobs: Jobs) -> str:
    counts: dict[str, int] = {}
    for job in jobs.all.values():
        counts[job.state] = counts.get(job.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"


def _states(jobs: Jobs) -> list[str]:
    return [f"worker job {jobs.describe(job)}" for job in list(jobs.all.values())[:10] if job.id]


def _nobody_came(jobs: Jobs) -> ClusterStartError:
    """Build the error for a missed quorum from the output of the scheduler and the last job."""
    hints = _states(jobs)
    for last in list(jobs.all.values())[-1:]:
        hints += jobs.output(last)
        if last.end is not None and last.end.remedy:
            hints.append(last.end.remedy)
    if not jobs.all:
        return ClusterStartError("no worker job was submitted: Dask created none; the log says why")
    return ClusterStartError("no worker registered, and no more worker jobs are submitted", *hints)
