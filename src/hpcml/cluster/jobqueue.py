"""Adapt the cluster and job classes of dask_jobqueue to the job scripts of hpcml."""

from __future__ import annotations

from typing import Any

from hpcml.batch.directives import worker_script
from hpcml.batch.request import Request
from hpcml.cluster.jobs import Jobs
from hpcml.upstream.jobqueue import (
    SECTION,
    OwnCluster,
    OwnJob,
    PBSCluster,
    PBSJob,
    SLURMCluster,
    SLURMJob,
    complete_section,
)

__all__ = ["SECTION", "PbsWorkerJob", "SlurmWorkerJob", "cluster", "section"]


def section(request: Request) -> dict[str, Any]:
    """Return the config section of a request, with every key that dask_jobqueue reads."""
    job = request.worker
    values = {
        "name": job.name,
        "cores": job.ncpus,
        "memory": f"{job.mem}B",
        "processes": request.workers_per_job,
        "python": request.environment.python,
        "interface": request.site.interface,
        "death-timeout": 60,
        "local-directory": request.local_directory,
        "queue": job.queue,
        "account": job.project,
        "walltime": str(job.walltime),
    }
    if request.scheduler == "slurm":
        values["job-cpu"] = job.ncpus
    return complete_section(request.scheduler, values)


class _WorkerJob(OwnJob):
    """A job that hpcml renders, and :class:`hpcml.cluster.jobs.Jobs` submits and deletes."""

    name: str

    def __init__(self, scheduler: str, name: str, *, jobs: Jobs, **kwargs: Any) -> None:
        self._jobs = jobs
        super().__init__(scheduler, name, **kwargs)

    def job_script(self) -> str:
        return worker_script(self._jobs.request, self._jobs.paths, str(self.name))

    async def submit(self) -> None:
        await self._jobs.submit(str(self.name))


class PbsWorkerJob(_WorkerJob, PBSJob):
    """A worker job on PBS."""


class SlurmWorkerJob(_WorkerJob, SLURMJob):
    """A worker job on Slurm."""


class _PbsCluster(OwnCluster, PBSCluster):
    job_cls = PbsWorkerJob  # type: ignore[assignment]  # dask_jobqueue has no types


class _SlurmCluster(OwnCluster, SLURMCluster):
    job_cls = SlurmWorkerJob  # type: ignore[assignment]  # dask_jobqueue has no types


def cluster(jobs: Jobs, **kwargs: Any) -> PBSCluster | SLURMCluster:
    """Start a scheduler that submits worker jobs when it is scaled.

    Parameters
    ----------
    **kwargs
        Passed to dask_jobqueue's cluster.
    """
    kind = _PbsCluster if jobs.request.scheduler == "pbs" else _SlurmCluster
    return kind(
        new_name=jobs.new_name,
        jobs=jobs,
        processes=jobs.request.workers_per_job,
        config_name=SECTION,
        silence_logs=False,
        **kwargs,
    )
