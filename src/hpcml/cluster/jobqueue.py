"""dask_jobqueue's cluster and job classes with hpcml's own job scripts. The only module that imports dask_jobqueue."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hpcml.batch.directives import worker_command, worker_script
from hpcml.batch.request import Request

# When it is imported, dask_jobqueue copies its defaults to ~/.config/dask, where the user has not asked for them.
with mock.patch("dask.config.ensure_file"):
    from dask_jobqueue.pbs import PBSJob
    from dask_jobqueue.slurm import SLURMJob

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


class _OwnScript:
    """A job whose script is written by hpcml; what dask_jobqueue makes of its arguments is not in it."""

    scheduler: str
    name: str

    def __init__(self, scheduler: str, name: str, *, request: Request, run: str, log: str, **kwargs: Any) -> None:
        self.request, self.run, self.log = request, run, log
        super().__init__(scheduler, name, **{**kwargs, "config_name": SECTION})  # type: ignore[call-arg]  # of Job

    def job_script(self) -> str:
        command = worker_command(self.request, self.scheduler, str(self.name))
        return worker_script(self.request, self.run, self.log, command)


class PbsWorkerJob(_OwnScript, PBSJob):
    """A worker job of PBS."""


class SlurmWorkerJob(_OwnScript, SLURMJob):
    """A worker job of Slurm."""
