"""Plan the batch jobs of a run before anything is submitted: diagnostics, cost and job scripts."""

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
from hpcml.batch.cost import Price, price
from hpcml.batch.current_job import in_job
from hpcml.batch.diagnostic import Diagnostic, RequestError
from hpcml.batch.directives import directives, head_script, options, prologue, worker_script
from hpcml.batch.request import Job, Places, Request
from hpcml.batch.resolution import resolve
from hpcml.batch.schedulers import SCHEDULERS
from hpcml.errors import ConfigError
from hpcml.runs import RunPaths
from hpcml.spec import BatchSpec, RunSpec
from hpcml.units import count, format_size, format_walltime, pbs_size

# Directives that head.pbs has itself, or that depend on the run's id.
_IN_HEAD_PBS = {"-N", "-j", "-o", "-r", "-S", "--job-name", "--output"}

# Placeholder for the run id before a run exists.
NO_RUN = "RUN"


@dataclass(frozen=True)
class JobPlan:
    """A resolved request, its diagnostics and cost, and the job scripts it would submit."""

    request: Request
    diagnostics: list[Diagnostic]
    paths: RunPaths

    @property
    def errors(self) -> list[Diagnostic]:
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]

    @functools.cached_property
    def price(self) -> Price:
        return price(self.request)

    def scripts(self) -> dict[str, str]:
        """Render the job scripts.

        Raises
        ------
        RequestError
            If the request has errors.
        """
        self.raise_errors()
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
        """Render the shell commands that the head job runs first."""
        lines = prologue(self.request.environment)
        if self.request.environment.venv is None:
            lines.append(f'export PATH={shlex.quote(str(Path(self.request.environment.python).parent))}:"$PATH"')
        return "\n".join([*lines, ""])

    def command(self, overrides: Sequence[str]) -> str:
        """Return the command that submits the run by hand."""
        request = self.request
        overrides = with_config_dir(overrides)
        given = directives(request.head or request.worker, request, NO_RUN, "")
        relevant = [directive for directive in given if directive[0] not in _IN_HEAD_PBS]
        submit = shlex.join([str(resources.files("hpcml.scripts") / "submit.sh"), *options(relevant), "--", *overrides])
        return f"{SCHEDULERS[request.scheduler].submit_prefix}{submit}"

    def raise_errors(self) -> None:
        """Raise the errors of the request, if it has any.

        Raises
        ------
        RequestError
            With all errors.
        """
        if self.errors:
            raise RequestError(self.errors)

    def show(self) -> dict[str, str]:
        """Return the plan as labels and texts for the screen."""
        request = self.request
        worker, head = request.worker, request.head
        found = {"site": request.site.name}
        if worker.nodes > 1 or (head is None and not request.here):
            found["allocation"] = f"one job of {count(worker.nodes, 'node')} x {_amounts(worker)}"
        else:
            found["worker jobs"] = f"{request.jobs} x {_amounts(worker)}"
        found["workers"] = (
            f"{request.workers}: {request.workers_per_job} on each node, {count(request.threads, 'thread')} and "
            f"{format_size(request.memory_limit)} each, spill to {request.local_directory or '$TMPDIR'}"
        )
        if head is not None:
            found["head job"] = _amounts(head)
        elif request.here:
            found["head"] = "in this process"
        if request.needs or worker.storage:
            found["storage"] = request.site.storage.separator.join(worker.storage)
        found["cost"] = self._cost()
        if self.price.renewing:
            found["renewals"] = self._renewals()
        return found

    def _cost(self) -> str:
        cost = self.price
        once = f"{cost.show(cost.maximum)} {'for one walltime of each job' if cost.renewing else 'at most'}"
        of_head = f", including {cost.show(cost.head)} for the head job" if cost.head else ""
        return f"{once}{of_head}; {cost.show(cost.per_hour)} per hour"

    def _renewals(self) -> str:
        cost, most = self.price, self.request.max_cost
        if most is not None:
            return f"at most {cost.show(most)}: jobs are renewed while work remains, within cluster.max_cost"
        if cost.renewed is None:
            return "jobs are renewed while work remains; cluster.max_cost limits the cost"
        return (
            f"at most {cost.show(cost.renewed)}: jobs are renewed while work remains and the head runs; "
            "cluster.max_cost limits the cost"
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
    """Add ``$HPCML_CONFIG_DIR`` to the arguments for a job, which does not inherit the variable."""
    own = os.environ.get("HPCML_CONFIG_DIR")
    if not own or "--config-dir" in overrides:
        return list(overrides)
    return ["--config-dir", str(Path(own).absolute()), *overrides]


def _amounts(job: Job) -> str:
    amounts = [count(job.ncpus, "core"), pbs_size(job.mem)]
    if job.ngpus:
        amounts.append(count(job.ngpus, "GPU"))
    if job.jobfs:
        amounts.append(f"{pbs_size(job.jobfs)} jobfs")
    where = f" in {job.queue}" if job.queue else ""
    project = f", project {job.project}" if job.project else ""
    return f"{', '.join(amounts)}, {format_walltime(job.walltime)}{where}{project}"


def _json(job: Job) -> dict[str, Any]:
    fields = ("queue", "project", "nodes", "ncpus", "mem", "ngpus", "jobfs", "walltime", "storage")
    return {name: getattr(job, name) for name in fields}


def plan_jobs(spec: RunSpec, scratch: Path, data_paths: Sequence[str], here: bool) -> JobPlan:
    """Resolve and check the batch jobs of a run.

    Parameters
    ----------
    scratch : Path
        Parent of the run directories.
    data_paths : sequence of str
        Files that the run reads.
    here : bool
        Whether this process becomes the head, whatever the request says.

    Raises
    ------
    ConfigError
        If no site is set. All other problems become diagnostics of the plan.
    """
    assert isinstance(spec.cluster, BatchSpec)
    if here and spec.head.where == "job" and not in_job():
        raise ConfigError(
            "head.where=job: `hpcml run` runs the head in this process", "leave it out, or use hpcml submit"
        )
    if spec.site is None:
        raise ConfigError(
            "batch jobs need a site, which describes the machine",
            "type site=gadi or another from hpcml run --help; for any other machine: site=generic_pbs",
        )
    places = Places(str(Path.cwd()), sys.executable, sys.prefix, str(scratch), tuple(data_paths))
    request, diagnostics = resolve(spec.cluster, spec.head, spec.site, places, here)
    found = sorted([*diagnostics, *check(request)], key=lambda diagnostic: diagnostic.severity)  # errors first
    return JobPlan(request, found, RunPaths(scratch / NO_RUN))
