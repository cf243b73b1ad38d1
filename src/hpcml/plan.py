"""Plans: what a run would do, after all its checks. Starts nothing and writes nothing."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcml import data, results, runs
from hpcml.batch import proposal
from hpcml.batch.complaint import Complaint
from hpcml.batch.ownjob import in_job
from hpcml.batch.proposal import Proposal
from hpcml.cluster import local_size
from hpcml.errors import ConfigError, DataError
from hpcml.spec import AllocationSpec, BatchSpec, LocalSpec, RunSpec, default_scratch
from hpcml.workloads.base import Inputs, Workload
from hpcml.workloads.scaling import Scaling


@dataclass(frozen=True)
class Checked:
    """A spec that passed all checks: what its workload computes on, in how many units, and what gave doubts."""

    workload: Workload
    inputs: Inputs
    units: int
    warnings: list[str]


def check(spec: RunSpec) -> Checked:
    """Load the data and refuse what cannot work; starts nothing and writes nothing.

    Raises
    ------
    ConfigError
    """
    if isinstance(spec.cluster, LocalSpec):
        runs.check_root(scratch(spec))
        _check_scaling(spec, local_size(spec.cluster).workers, "cluster.workers")
    results.check_model_format(spec.model, spec.model_format)
    lacking = [name for name in ("check", "describe", "run") if not hasattr(spec.workload, name)]
    if lacking:
        raise ConfigError(
            f"workload: a {type(spec.workload).__name__} is no workload: it has no {' and no '.join(lacking)}",
            "hpcml.workloads.base.Workload says what one is; hpcml.Search is one",
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        inputs = Inputs(None if spec.data is None else data.load(spec.data), spec.model, spec.seed)
        workload = spec.workload
        if spec.scaling is not None:
            workload = Scaling(workload=workload, workers=spec.scaling)
        units = workload.check(inputs)
    return Checked(workload, inputs, units, list(dict.fromkeys(str(warning.message) for warning in caught)))


def _check_scaling(spec: RunSpec, there: int, keys: str) -> None:
    if spec.scaling is not None and max(spec.scaling) > there:
        raise ConfigError(
            f"scaling={spec.scaling}: the cluster has {there} worker{'s' if there > 1 else ''}",
            f"ask for more with {keys}, or name numbers up to {there}",
        )


def describe_run(checked: Checked) -> list[str]:
    """Say in two lines what will be computed, on what."""
    inputs = checked.inputs
    return [checked.workload.describe(inputs), *([inputs.data.describe()] if inputs.data else [])]


def scratch(spec: RunSpec) -> Path:
    """Give the directory of a run's directory."""
    return runs.scratch_root(spec.scratch, default_scratch(spec.site, spec.cluster))


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Parameters
    ----------
    lines : dict of str to str
        Labels and texts.
    proposal : Proposal or None
        What it would ask of a scheduler; None: nothing.
    complaints : list of Complaint
        What is wrong or doubtful with that, and with the rest.
    """

    lines: dict[str, str]
    proposal: Proposal | None
    complaints: list[Complaint]

    @property
    def errors(self) -> list[Complaint]:
        return [complaint for complaint in self.complaints if complaint.severity == "error"]

    def scripts(self) -> dict[str, str]:
        """Give the job scripts by what they are for; none if there are errors."""
        return {} if self.proposal is None or self.errors else self.proposal.scripts()

    def command(self, overrides: Sequence[str]) -> str:
        """Give the command to type for it."""
        here = self.proposal is None or self.proposal.request.here
        return shlex.join(["hpcml", "run" if here else "submit", *overrides])

    def by_hand(self, overrides: Sequence[str]) -> str | None:
        """Give the command that submits it without hpcml; None if nothing is submitted."""
        if self.proposal is None or self.proposal.request.here:
            return None
        return self.proposal.command(overrides)

    def to_json(self, overrides: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {**self.lines, "complaints": [asdict(complaint) for complaint in self.complaints]}
        if self.proposal is not None:
            found["request"] = self.proposal.to_json()
        if not self.errors:
            found |= {"scripts": self.scripts(), "command": self.command(overrides)}
            found["by_hand"] = self.by_hand(overrides)
        return found


def propose(spec: RunSpec, here: bool) -> Proposal | None:
    """Settle and check what a run asks of a scheduler; None if it asks nothing.

    Parameters
    ----------
    here : bool
        The head lives in the process that is started.

    Raises
    ------
    ConfigError
        If there is no site.
    """
    if not isinstance(spec.cluster, BatchSpec):
        return None
    if here and isinstance(spec.cluster, AllocationSpec) and not in_job():
        raise ConfigError(
            "cluster=allocation: head and workers live in one batch job, and this process is in none",
            "submit it: hpcml submit instead of hpcml run",
        )
    proposed = proposal.propose(spec, scratch(spec), data.paths(spec.data), here)
    _check_scaling(spec, proposed.request.workers, "cluster.jobs, cluster.nodes or cluster.ncpus")
    return proposed


def plan(spec: RunSpec) -> Plan:
    """Say what a run would do, after all its checks; starts nothing and writes nothing.

    What is wrong with a request to a scheduler is in the plan, and then the rest is not looked at.

    Raises
    ------
    ConfigError
        For what else is wrong.
    """
    proposed = propose(spec, here=spec.head.where == "here")
    lines = proposed.show() if proposed else {}
    model = "" if spec.model is None else f", the model as {spec.model_format}"
    lines["results"] = f"{scratch(spec)}/{proposal.NO_RUN}{model}"
    if proposed is None:
        found = _computing(check(spec))
        if isinstance(spec.cluster, LocalSpec):
            found["cluster"] = str(local_size(spec.cluster))
        return Plan({**found, **lines}, None, [])
    complaints = list(proposed.complaints)
    if proposed.errors:
        return Plan(lines, proposed, complaints)
    elsewhere = not proposed.request.site.is_here(proposed.request.scheduler)
    if elsewhere:
        complaints.append(
            _warning("the scripts name this machine's paths: working directory and interpreter", proposed)
        )
    else:
        runs.check_root(scratch(spec))
    try:
        checked = check(spec)
    except DataError as error:
        if not elsewhere:
            raise
        complaints.append(_warning(f"the data is not checked: {error.message}", proposed))
    else:
        lines = {**_computing(checked), **lines}
        if checked.units < proposed.request.workers:
            text = f"{checked.units} units of work keep {checked.units} of {proposed.request.workers} workers busy"
            remedy = "ask for fewer: cluster.jobs, cluster.nodes or cluster.ncpus"
            complaints.append(Complaint(text, remedy, "a unit is computed by one worker", severity="warning"))
    return Plan(lines, proposed, complaints)


def _warning(text: str, proposed: Proposal) -> Complaint:
    remedy = f"plan it on {proposed.request.site.name}, for this machine is another"
    return Complaint(text, remedy, "hpcml plan", severity="warning")


def _computing(checked: Checked) -> dict[str, str]:
    computed, *on = describe_run(checked)
    return {
        "compute": computed,
        "data": " ".join(on) or "none",
        "units of work": str(checked.units),
        **({"warnings": "; ".join(checked.warnings)} if checked.warnings else {}),
    }
