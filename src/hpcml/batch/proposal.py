"""Proposals: all that a run would ask of a scheduler, and what is to be said about it, before anything is submitted."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hpcml.batch.check import check
from hpcml.batch.complaint import Complaint, RequestError
from hpcml.batch.cost import Price, price
from hpcml.batch.directives import directives, head_script, options, prologue, worker_script
from hpcml.batch.ownjob import in_job
from hpcml.batch.request import Job, Places, Request
from hpcml.batch.settlement import settle
from hpcml.errors import ConfigError
from hpcml.runs import RunPaths
from hpcml.spec import BatchSpec, RunSpec
from hpcml.units import format_size, format_walltime, pbs_size

# What head.pbs says itself, or what only a run that has begun can say.
_IN_HEAD_PBS = {"-N", "-j", "-o", "-r", "-S", "--job-name", "--output"}

# What stands for the run's id while there is no run.
NO_RUN = "RUN"


@dataclass(frozen=True)
class Proposal:
    """A request, what is wrong with it, what it costs, and the texts that would be submitted."""

    request: Request
    complaints: list[Complaint]
    paths: RunPaths

    @property
    def errors(self) -> list[Complaint]:
        return [complaint for complaint in self.complaints if complaint.severity == "error"]

    @functools.cached_property
    def price(self) -> Price:
        return price(self.request)

    def scripts(self) -> dict[str, str]:
        """Write the job scripts.

        Raises
        ------
        RequestError
            If there are errors: then there is no script.
        """
        self.refuse()
        request = self.request
        found = {}
        if not request.here:
            body = (resources.files("hpcml.scripts") / "head.pbs").read_text(encoding="utf-8")
            found["env.sh"] = self.environment()
            found["head"] = head_script(request, self.paths, body)
        if request.head is not None or request.here:
            found["worker"] = worker_script(request, self.paths, "job-0")
        return found

    def environment(self) -> str:
        """Write what the head's job reads first."""
        lines = prologue(self.request.environment)
        if self.request.environment.venv is None:
            lines.append(f'export PATH={shlex.quote(str(Path(self.request.environment.python).parent))}:"$PATH"')
        return "\n".join([*lines, ""])

    def command(self, overrides: Sequence[str]) -> str:
        """Give the command that submits the run, by hand."""
        request = self.request
        overrides = with_config_dir(overrides)
        given = directives(request.head or request.worker, request, NO_RUN, "")
        kept = [directive for directive in given if directive[0] not in _IN_HEAD_PBS]
        submit = shlex.join([str(resources.files("hpcml.scripts") / "submit.sh"), *options(kept), "--", *overrides])
        return submit if request.scheduler == "pbs" else f"HPCML_SUBMIT=sbatch {submit}"

    def refuse(self) -> None:
        """Raise what is wrong.

        Raises
        ------
        RequestError
        """
        if self.errors:
            raise RequestError(self.errors)

    def show(self) -> dict[str, str]:
        """Say it in labels and texts."""
        request, cost = self.request, self.price
        worker, head = request.worker, request.head
        found = {"site": request.site.name}
        if worker.nodes > 1 or (head is None and not request.here):
            found["allocation"] = f"one job of {worker.nodes} nodes x {_amounts(worker)}"
        else:
            found["worker jobs"] = f"{request.jobs} x {_amounts(worker)}"
        found["workers"] = (
            f"{request.workers}: {request.workers_per_job} on each node, {request.threads} "
            f"thread{'' if request.threads == 1 else 's'} and {format_size(request.memory_limit)} each, spill to "
            f"{request.local_directory or '$TMPDIR'}"
        )
        if head is not None:
            found["head job"] = _amounts(head)
        elif request.here:
            found["head"] = "in the process that you start"
        if request.needs or worker.storage:
            found["storage"] = request.site.storage.separator.join(worker.storage)
        once = f"{cost.show(cost.maximum)} {'for one walltime of each job' if cost.renewing else 'at most'}"
        found["cost"] = f"{once}, {cost.show(cost.per_hour)} an hour" + (
            f"; {cost.show(cost.head)} of it for the head job" if cost.head else ""
        )
        if cost.renewing:
            found["renewals"] = self._renewals()
        return found

    def _renewals(self) -> str:
        cost, most = self.price, self.request.max_cost
        if most is not None:
            return f"{cost.show(most)} at most: jobs are renewed while work is left and cluster.max_cost pays for them"
        if cost.renewed is None:
            return "jobs are renewed while work is left; cluster.max_cost caps what that costs"
        return (
            f"{cost.show(cost.renewed)} at most: jobs are renewed while work is left and the head lives; "
            "cluster.max_cost caps it"
        )

    def to_json(self) -> dict[str, Any]:
        request, cost = self.request, self.price
        return {
            "site": request.site.name,
            "scheduler": request.scheduler,
            "jobs": request.jobs,
            "worker_job": _json(request.worker),
            "head_job": None if request.head is None else _json(request.head),
            "workers": request.workers,
            "workers_per_job": request.workers_per_job,
            "threads": request.threads,
            "memory_limit": request.memory_limit,
            "local_directory": request.local_directory,
            "interface": request.site.interface,
            "cost": {**dataclasses.asdict(cost), "maximum": cost.maximum},
        }


def with_config_dir(overrides: Sequence[str]) -> list[str]:
    """Name ``$HPCML_CONFIG_DIR`` among the arguments, for a job that does not have this shell's variables."""
    own = os.environ.get("HPCML_CONFIG_DIR")
    if not own or "--config-dir" in overrides:
        return list(overrides)
    return ["--config-dir", str(Path(own).absolute()), *overrides]


def _amounts(job: Job) -> str:
    amounts = [f"{job.ncpus} core{'' if job.ncpus == 1 else 's'}", pbs_size(job.mem)]
    if job.ngpus:
        amounts.append(f"{job.ngpus} GPU{'' if job.ngpus == 1 else 's'}")
    if job.jobfs:
        amounts.append(f"{pbs_size(job.jobfs)} jobfs")
    where = f" in {job.queue}" if job.queue else ""
    project = f", project {job.project}" if job.project else ""
    return f"{', '.join(amounts)}, {format_walltime(job.walltime)}{where}{project}"


def _json(job: Job) -> dict[str, Any]:
    fields = ("queue", "project", "nodes", "ncpus", "mem", "ngpus", "jobfs", "walltime", "storage")
    return {name: getattr(job, name) for name in fields}


def propose(spec: RunSpec, scratch: Path, data_paths: Sequence[str], here: bool) -> Proposal:
    """Settle and check what a run would ask of a scheduler.

    Parameters
    ----------
    scratch : Path
        Where run directories go.
    data_paths : sequence of str
        Files that the run reads.
    here : bool
        The head lives in the process that is started, whatever the request says.

    Raises
    ------
    ConfigError
        If there is no site. What else is wrong is told by the proposal.
    """
    assert isinstance(spec.cluster, BatchSpec)
    if here and spec.head.where == "job" and not in_job():
        raise ConfigError("head.where=job: `hpcml run` is the head itself", "leave it out, or submit it: hpcml submit")
    if spec.site is None:
        raise ConfigError(
            "a cluster of batch jobs needs a site: what the machine allows",
            "type site=gadi, or another: hpcml run --help lists them; of a machine that is not there: site=generic_pbs",
        )
    places = Places(str(Path.cwd()), sys.executable, sys.prefix, str(scratch), tuple(data_paths))
    request, complaints = settle(spec.cluster, spec.head, spec.site, places, here)
    found = sorted([*complaints, *check(request)], key=lambda complaint: complaint.severity)  # errors first
    return Proposal(request, found, RunPaths(scratch / NO_RUN))
