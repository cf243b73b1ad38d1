"""dask_jobqueue's cluster and job classes with hpcml's own job scripts. The only module that imports dask_jobqueue."""

from __future__ import annotations

from typing import Any
from unittest import mock

from distributed.deploy.spec import ProcessInterface

from hpcml.batch.directives import worker_script
from hpcml.batch.request import Request
from hpcml.cluster.jobs import Jobs

# When it is imported, dask_jobqueue copies its defaults to ~/.config/dask, where the user has not asked for them, and
# makes SIGINT and SIGTERM end the process at once (runner.py), which would leave the jobs behind.
with mock.patch("dask.config.ensure_file"), mock.patch("signal.signal"):
    from dask_jobqueue.pbs import PBSCluster, PBSJob
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

# dask_jobqueue takes each argument that is left None from the section of Dask's config that has this name. In its own
# sections the user's ~/.config/dask would have a say in what is submitted; this one is complete and nobody else's.
SECTION = "hpcml"


def section(request: Request) -> dict[str, Any]:
    """Give the config section of a request: every key that dask_jobqueue reads."""
    job = request.worker
    found = {
        "name": job.name,
        "cores": job.ncpus,
        "memory": f"{job.mem}B",
        "processes": request.workers_per_job,
        "python": request.environment.python,
        "interface": request.site.interface,
        "death-timeout": 60,
        "local-directory": request.local_directory,
        "shared-temp-directory": None,
        "extra": None,
        "worker-command": "distributed.cli.dask_worker",
        "worker-extra-args": [],
        "shebang": "#!/bin/bash",
        "queue": job.queue,
        "account": job.project,
        "walltime": str(job.walltime),
        "env-extra": None,
        "job-script-prologue": [],
        "job-extra": None,
        "job-extra-directives": [],
        "job-directives-skip": [],
        "log-directory": None,
        "scheduler-options": {},
    }
    if request.scheduler == "pbs":
        return {**found, "resource-spec": ""}
    return {**found, "job-cpu": job.ncpus, "job-mem": None}


class _OwnJob:
    """A job that is submitted, watched and deleted by :class:`hpcml.cluster.jobs.Jobs`, with hpcml's script.

    dask_jobqueue's own would write another header, take the first digits of any banner for the job's id, raise what
    goes wrong where nobody hears it, and ask for each job's deletion by itself.
    """

    def __init__(self, scheduler: str, name: str, *, jobs: Jobs, **kwargs: Any) -> None:
        self._jobs = jobs
        super().__init__(scheduler, name, **{**kwargs, "config_name": SECTION})  # type: ignore[call-arg]

    def job_script(self) -> str:
        return worker_script(self._jobs.request, self._jobs.paths, str(self.name))  # type: ignore[attr-defined]

    async def start(self) -> None:
        await self._jobs.submit(str(self.name))  # type: ignore[attr-defined]
        await ProcessInterface.start(self)

    async def close(self) -> None:
        await ProcessInterface.close(self)  # the jobs are deleted all at once


class PbsWorkerJob(_OwnJob, PBSJob):
    """A worker job of PBS."""


class SlurmWorkerJob(_OwnJob, SLURMJob):
    """A worker job of Slurm."""


class _OwnNames:
    """Each job has a name of its own; distributed would give that of a job that has ended to the next one."""

    def _new_worker_name(self, worker_number: int) -> str:  # noqa: ARG002
        return self._job_kwargs["jobs"].new_name()  # type: ignore[attr-defined,no-any-return]


class _PbsCluster(_OwnNames, PBSCluster):
    job_cls = PbsWorkerJob  # type: ignore[assignment]  # dask_jobqueue has no types


class _SlurmCluster(_OwnNames, SLURMCluster):
    job_cls = SlurmWorkerJob  # type: ignore[assignment]  # likewise


def cluster(jobs: Jobs, **kwargs: Any) -> PBSCluster | SLURMCluster:
    """Start a scheduler, which submits worker jobs when it is scaled.

    Parameters
    ----------
    **kwargs
        Of dask_jobqueue's cluster.
    """
    kind = _PbsCluster if jobs.request.scheduler == "pbs" else _SlurmCluster
    processes = jobs.request.workers_per_job
    return kind(jobs=jobs, processes=processes, config_name=SECTION, silence_logs=False, **kwargs)
