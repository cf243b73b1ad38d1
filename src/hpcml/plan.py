"""Validate and describe a run before it starts. Nothing is started or written here."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcml import data, results, room, runs
from hpcml.batch.current_job import in_job
from hpcml.batch.diagnostic import Diagnostic, RequestError
from hpcml.batch.job_plan import NO_RUN, JobPlan, plan_jobs
from hpcml.batch.request import Request
from hpcml.batch.schedulers import scheduler_of
from hpcml.cluster import local_size
from hpcml.data import Blocks, Dataset
from hpcml.data.sampling import load_sample
from hpcml.errors import ConfigError, DataError
from hpcml.spec import AllocationSpec, BatchSpec, LocalSpec, RunSpec, default_scratch
from hpcml.units import count
from hpcml.workloads.base import Inputs, Prepared
from hpcml.workloads.footprint import Footprint
from hpcml.workloads.scaling.scaling import Scaling
from hpcml.workloads.trial import trial as trials


@dataclass(frozen=True)
class Checked:
    """A spec that has passed all checks: its inputs, its workload ready to run, and warnings."""

    inputs: Inputs
    prepared: Prepared
    warnings: list[str]


def check(spec: RunSpec, request: Request | None = None, *, trial: bool = False, sample: bool = False) -> Checked:
    """Load the data and validate the whole run; starts and writes nothing of the run.

    Parameters
    ----------
    request : Request or None
        Request to a batch scheduler.
    trial : bool
        Whether to fit a few samples in a process, unless ``spec.trial`` is false.
    sample : bool
        Whether a sample of large data suffices, because this process will not run the workload.

    Raises
    ------
    ConfigError
    """
    if isinstance(spec.cluster, LocalSpec):
        runs.check_root(scratch(spec))
        _check_scaling(spec, local_size(spec.cluster).workers, "cluster.workers")
    results.check_model_format(spec.model, spec.model_format)
    if not hasattr(spec.workload, "prepare"):
        raise ConfigError(
            f"workload: {type(spec.workload).__name__} is not a workload: it lacks prepare",
            "see hpcml.workloads.base.Workload; hpcml.Search is an example",
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        results.warn_of_script(spec.model, spec.model_format)
        found = _on_a_sample(spec, caught) if sample else None
        inputs, prepared = found or _on_all(spec, caught)
    if prepared.footprint is not None:
        _check_room(spec, request, prepared.footprint)
    warned = _texts(caught)
    if trial and spec.trial and prepared.trial is not None:
        warned += trials.check(prepared.trial)
    return Checked(inputs, prepared, warned)


def _on_a_sample(spec: RunSpec, caught: list[warnings.WarningMessage]) -> tuple[Inputs, Prepared] | None:
    """Prepare the workload on a sample of large data.

    Returns
    -------
    tuple of (Inputs, Prepared), or None
        None if the workload needs all data, the data is small, or the sample does not suffice: it
        may lack a class, for example.
    """
    if not getattr(spec.workload, "plans_on_a_sample", False):
        return None
    try:
        few = load_sample(spec.data)
        return None if few is None else _prepare(spec, few)
    except DataError:
        caught.clear()
        return None


def _on_all(spec: RunSpec, caught: list[warnings.WarningMessage]) -> tuple[Inputs, Prepared]:
    loaded = None if spec.data is None else data.load(spec.data)
    at_loading = _texts(caught)
    try:
        return _prepare(spec, loaded)
    except DataError as error:
        # A warning, for example about words that are read as missing, often tells the cause.
        error.hints = (*error.hints, *at_loading)
        raise


def _prepare(spec: RunSpec, loaded: Dataset | Blocks | None) -> tuple[Inputs, Prepared]:
    inputs = Inputs(loaded, spec.model, spec.seed, spec.preprocess)
    workload = spec.workload
    if spec.scaling is not None:
        workload = Scaling(workload=workload, workers=spec.scaling)
    return inputs, workload.prepare(inputs)


def _texts(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Return the texts of warnings, each once."""
    return list(dict.fromkeys(str(warning.message) for warning in caught))


def _check_room(spec: RunSpec, request: Request | None, needed: Footprint) -> None:
    if isinstance(spec.cluster, LocalSpec):
        room.check_local(spec.cluster, needed)
    if isinstance(spec.cluster, BatchSpec) and request is not None:
        diagnostics = room.check_request(request, needed, spec.cluster.threads is not None)
        if diagnostics:
            raise RequestError(diagnostics)


def _check_scaling(spec: RunSpec, there: int, keys: str) -> None:
    if spec.scaling is not None and max(spec.scaling) > there:
        raise ConfigError(
            f"scaling={spec.scaling}: the cluster has only {count(there, 'worker')}",
            f"request more with {keys}, or use at most {there}",
        )


def describe_run(checked: Checked) -> list[str]:
    """Return two lines that describe the computation and its data."""
    inputs = checked.inputs
    return [checked.prepared.description, *([inputs.data.describe()] if inputs.data else [])]


def scratch(spec: RunSpec) -> Path:
    """Return the parent directory of the run directory."""
    return runs.scratch_root(spec.scratch, default_scratch(spec.site, spec.cluster))


@dataclass(frozen=True)
class Plan:
    """Description of a run that has not started.

    Parameters
    ----------
    lines : dict of str to str
        Labels and texts for the screen.
    job_plan : JobPlan or None
        Batch jobs to submit; None if there are none.
    diagnostics : list of Diagnostic
        Errors and warnings.
    """

    lines: dict[str, str]
    job_plan: JobPlan | None
    diagnostics: list[Diagnostic]

    @property
    def errors(self) -> list[Diagnostic]:
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]

    def scripts(self) -> dict[str, str]:
        """Return the job scripts by purpose; empty if there are errors."""
        return {} if self.job_plan is None or self.errors else self.job_plan.scripts()

    def command(self, overrides: Sequence[str]) -> str:
        """Return the hpcml command that starts the run."""
        here = self.job_plan is None or self.job_plan.request.here
        return shlex.join(["hpcml", "run" if here else "submit", *overrides])

    def by_hand(self, overrides: Sequence[str]) -> str | None:
        """Return the command that submits the run without hpcml; None if nothing is submitted."""
        if self.job_plan is None or self.job_plan.request.here:
            return None
        return self.job_plan.command(overrides)

    def to_json(self, overrides: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {**self.lines, "diagnostics": [asdict(diagnostic) for diagnostic in self.diagnostics]}
        if self.job_plan is not None:
            found["request"] = self.job_plan.to_json()
        if not self.errors:
            found |= {"scripts": self.scripts(), "command": self.command(overrides)}
            found["by_hand"] = self.by_hand(overrides)
        return found


def plan_request(spec: RunSpec, here: bool) -> JobPlan | None:
    """Resolve and check the batch jobs of a run; return None for a cluster without batch jobs.

    Parameters
    ----------
    here : bool
        Whether the head runs in this process.

    Raises
    ------
    ConfigError
        If no site is set.
    """
    if not isinstance(spec.cluster, BatchSpec):
        return None
    if here and isinstance(spec.cluster, AllocationSpec) and not in_job():
        raise ConfigError(
            "cluster=allocation: head and workers run in one batch job, and this process is not in a job",
            "use hpcml submit instead of hpcml run",
        )
    job_plan = plan_jobs(spec, scratch(spec), data.paths(spec.data), here)
    _check_scaling(spec, job_plan.request.workers, "cluster.jobs, cluster.nodes or cluster.ncpus")
    return job_plan


def plan(spec: RunSpec) -> Plan:
    """Validate a run and describe it; starts nothing and writes nothing.

    Errors of a request to a scheduler become diagnostics of the plan, which then has no more
    checks.

    Raises
    ------
    ConfigError
        For all other errors.
    """
    job_plan = plan_request(spec, here=spec.head.where == "here")
    lines = job_plan.show() if job_plan else {}
    model = "" if spec.model is None else f", the model as {spec.model_format}"
    lines["results"] = f"{scratch(spec)}/{NO_RUN}{model}"
    if job_plan is None:
        found = _computing(check(spec))
        if isinstance(spec.cluster, LocalSpec):
            found["cluster"] = str(local_size(spec.cluster))
        return Plan({**found, **lines}, None, [])
    diagnostics = list(job_plan.diagnostics)
    if job_plan.errors:
        return Plan(lines, job_plan, diagnostics)
    elsewhere = not scheduler_of(job_plan.request.site, job_plan.request.scheduler).is_here()
    if elsewhere:
        diagnostics.append(
            _warning("the scripts contain paths of this machine: working directory and interpreter", job_plan)
        )
    else:
        runs.check_root(scratch(spec))
    try:
        checked = check(spec, job_plan.request, sample=True)
    except DataError as error:
        if not elsewhere:
            raise
        diagnostics.append(_warning(f"the data was not checked: {error.message}", job_plan))
    except RequestError as error:
        diagnostics += error.diagnostics
    else:
        lines = {**_computing(checked), **lines}
        diagnostics += _idle_workers(checked.prepared.n_units, job_plan.request.workers)
    return Plan(lines, job_plan, diagnostics)


def _idle_workers(n_units: int, workers: int) -> list[Diagnostic]:
    """Return a warning if there are more workers than units of work."""
    if n_units >= workers:
        return []
    text = f"{count(n_units, 'unit')} of work can keep only {n_units} of {count(workers, 'worker')} busy"
    remedy = "request fewer: cluster.jobs, cluster.nodes or cluster.ncpus"
    return [Diagnostic(text, remedy, "one worker computes a unit", severity="warning")]


def _warning(text: str, job_plan: JobPlan) -> Diagnostic:
    remedy = f"run hpcml plan on {job_plan.request.site.name}; this is another machine"
    return Diagnostic(text, remedy, "hpcml plan", severity="warning")


def _computing(checked: Checked) -> dict[str, str]:
    computed, *on = describe_run(checked)
    return {
        "compute": computed,
        "data": " ".join(on) or "none",
        **checked.prepared.notes,
        "units of work": str(checked.prepared.n_units),
        **({"warnings": "; ".join(checked.warnings)} if checked.warnings else {}),
    }
