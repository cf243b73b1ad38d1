"""Wrap private parts of dask_jobqueue; no other module imports it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any
from unittest import mock

from distributed.deploy.spec import ProcessInterface

VERIFIED = "0.9.0"

# Importing dask_jobqueue copies its defaults to ~/.config/dask without asking the user, and
# replaces the handler of SIGINT (runner.py) by one that ends the process without deleting its jobs.
# Public API missing: neither can be avoided. Restoring the old handler after the import would lose
# a signal that arrives in between, and works in the main thread only; in another thread the import
# itself fails. So both functions are disabled during the import.
with mock.patch("dask.config.ensure_file"), mock.patch("signal.signal"):
    from dask_jobqueue.pbs import PBSCluster, PBSJob
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

__all__ = ["SECTION", "OwnCluster", "OwnJob", "PBSCluster", "PBSJob", "SLURMCluster", "SLURMJob", "complete_section"]

# The section of Dask's config that replaces those of dask_jobqueue; see complete_section.
SECTION = "hpcml"


def complete_section(scheduler: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return a config section that has every key of dask_jobqueue, for ``config_name``.

    Needed by ``cluster.jobqueue``: dask_jobqueue reads each argument that is None from a section of
    Dask's config, so the user's ~/.config/dask would change the submitted jobs. Public API missing:
    an argument None does not mean "none", and the list of keys is in a YAML file of the package
    only.

    Parameters
    ----------
    scheduler : str
        ``pbs`` or ``slurm``.
    values : dict of str to object
        Keys that have a value; all others are empty.
    """
    empty: dict[str, Any] = {
        "shared-temp-directory": None,
        "extra": None,
        "worker-command": "distributed.cli.dask_worker",
        "worker-extra-args": [],
        "shebang": "#!/bin/bash",
        "env-extra": None,
        "job-script-prologue": [],
        "job-extra": None,
        "job-extra-directives": [],
        "job-directives-skip": [],
        "log-directory": None,
        "scheduler-options": {},
    }
    own = {"resource-spec": ""} if scheduler == "pbs" else {"job-cpu": None, "job-mem": None}
    return {**empty, **own, **values}


class OwnJob(abc.ABC):
    """Mixin for a job class of dask_jobqueue: hpcml writes, submits and deletes the job.

    Needed by ``cluster.jobqueue``: dask_jobqueue would write another header, take the first digits
    of any banner for the job's id, raise errors of a submission where nothing reports them, and
    delete jobs one by one. Public API missing: ``job_script``, ``start`` and ``close`` of a job
    are not documented. ``start`` and ``close`` skip those of dask_jobqueue and call distributed's,
    which only set a status.
    """

    def __init__(self, scheduler: str, name: str, **kwargs: Any) -> None:
        super().__init__(scheduler, name, **{**kwargs, "config_name": SECTION})  # type: ignore[call-arg]

    @abc.abstractmethod
    def job_script(self) -> str:
        """Return the text of the job script."""

    @abc.abstractmethod
    async def submit(self) -> None:
        """Submit the job."""

    async def start(self) -> None:
        await self.submit()
        await ProcessInterface.start(self)

    async def close(self) -> None:
        await ProcessInterface.close(self)


class OwnCluster:
    """Mixin for a cluster class of dask_jobqueue: every job gets a new name.

    Needed by ``cluster.jobqueue``: distributed gives the name of a job that has ended to the next
    one, which would overwrite its files. Public API missing: only the private method
    ``SpecCluster._new_worker_name`` chooses a name.

    Parameters
    ----------
    new_name : callable
        Returns the name of the next job.
    **kwargs
        Passed to dask_jobqueue's cluster.
    """

    def __init__(self, *, new_name: Callable[[], str], **kwargs: Any) -> None:
        self.new_name = new_name
        super().__init__(**kwargs)

    def _new_worker_name(self, worker_number: int) -> str:  # noqa: ARG002
        return self.new_name()
