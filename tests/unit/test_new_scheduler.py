"""A scheduler that hpcml does not have, LSF 10.1, added by its class, its entry in the registry and its spec alone.

From IBM's documentation of bsub, bjobs and bkill; it has never spoken to a real LSF.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from tests.unit.requests import places

from hpcml.batch.check import check
from hpcml.batch.cost import price
from hpcml.batch.job_plan import JobPlan
from hpcml.batch.request import Job, Request
from hpcml.batch.resolution import resolve
from hpcml.batch.schedulers import SCHEDULERS
from hpcml.batch.schedulers.base import TIMEOUT, Directive, Scheduler, output_lines, run
from hpcml.batch.schedulers.listing import JobStatus, Listing, State
from hpcml.runs import RunPaths
from hpcml.site import Commands, Queue, Site
from hpcml.spec import HeadSpec, JobsSpec

STATES = {
    "PEND": State.QUEUED, "PSUSP": State.HELD, "RUN": State.RUNNING, "USUSP": State.SUSPENDED, "SSUSP": State.SUSPENDED,
    "DONE": State.FINISHED, "EXIT": State.FINISHED,
}  # fmt: skip


class Lsf(Scheduler):
    """IBM Spectrum LSF."""

    name = "lsf"
    usual = Commands("bsub", "bjobs", "bkill")
    directive_prefix = "#BSUB"
    job_variable = "LSB_JOBID"
    own_directives: ClassVar[Mapping[str, str]] = {"-J": "cluster.name", "-q": "cluster.queue", "-P": "cluster.project"}
    rejected_directives: ClassVar[Mapping[str, str]] = {"-I": "an interactive job", "-K": "a command that waits"}

    @property
    def id_form(self) -> str:
        return r"Job <(\d+)> is submitted to (?:default )?queue <.*>\."

    @classmethod
    def directives(cls, job: Job, request: Request, name: str, log: str) -> list[Directive]:
        found = [("-J", name), ("-n", str(job.total_ncpus)), ("-R", f"span[ptile={job.ncpus}]")]
        found += [("-M", f"{job.mem // 1024**2}MB"), ("-W", f"{job.walltime // 60}"), ("-o", log)]
        named = {"-q": job.queue, "-P": job.project}
        return [*found, *((flag, value) for flag, value in named.items() if value is not None)]

    def after(self, number: str) -> list[Directive]:
        return [("-w", f"done({number})")]

    def submit(self, script: Path, log_file: Path, name: str, known: Collection[str] = ()) -> str:
        command = [str(self.commands.submit), str(script)]
        return self.id_of(run(command), command, name, known)

    def listing(self, ids: Sequence[str]) -> Listing:
        said = run([str(self.commands.status), "-noheader", "-o", "jobid stat queue", *ids])
        rows = [line.split() for line in output_lines(said.stdout)]
        jobs = {number: JobStatus(number, "", STATES.get(state, State.UNKNOWN), queue) for number, state, queue in rows}
        return Listing(jobs, unknown=frozenset(ids) - set(jobs))

    def delete(self, ids: Sequence[str], timeout: float = TIMEOUT) -> None:
        run([str(self.commands.delete), *ids], timeout)

    def named(self, name: str) -> list[str] | None:
        return output_lines(run([str(self.commands.status), "-noheader", "-o", "jobid", "-J", name]).stdout)

    def node_lines(self) -> tuple[str, ...]:
        return ()

    def on_node(self, line: int, host: str, ncpus: int) -> list[str]:
        return ["blaunch", host]


@dataclass
class LsfSpec(JobsSpec):
    """Worker jobs of LSF."""

    scheduler = "lsf"


SITE = Site(
    name="a machine with LSF",
    source="nowhere",
    schedulers=["lsf"],
    default_queue="normal",
    queues={"normal": Queue(ncpus=32, mem="128GB")},
)


@pytest.fixture
def job_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPlan:
    monkeypatch.setitem(SCHEDULERS, "lsf", Lsf)
    spec = LsfSpec(jobs=2, ncpus=4, mem="16GB", walltime="02:00:00", project="ab12")
    request, diagnostics = resolve(spec, HeadSpec(), SITE, places("x"), here=False)
    return JobPlan(request, [*diagnostics, *check(request)], RunPaths(tmp_path / "RUN"))


def test_its_plan(job_plan: JobPlan) -> None:
    assert job_plan.errors == []
    shown = job_plan.show()
    assert shown["worker jobs"] == "2 x 4 cores, 16GB, 02:00:00 in normal, project ab12"
    assert price(job_plan.request).maximum > 0


def test_its_job_scripts(job_plan: JobPlan) -> None:
    for script in (job_plan.scripts()["worker"], job_plan.scripts()["head"]):
        assert re.search(r"^#BSUB -J hpcml(-head)?-RUN$", script, re.MULTILINE)
        assert "#BSUB -q normal\n#BSUB -P ab12\n" in script
        assert "#PBS" not in script
        assert "#SBATCH" not in script
    worker = job_plan.scripts()["worker"]
    assert "#BSUB -n 4\n#BSUB -R span[ptile=4]\n#BSUB -M 16384MB\n#BSUB -W 120\n" in worker


def test_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "bsub": "echo 'Job <12> is submitted to queue <normal>.'",
        "bjobs": "echo '12 RUN normal'",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    lsf = Lsf(SITE)
    assert lsf.is_here()
    assert lsf.submit(tmp_path / "script", tmp_path / "log", "hpcml-RUN") == "12"
    found = lsf.listing(["12", "13"])
    assert found.jobs["12"].state.is_running
    assert found.unknown == {"13"}


def test_a_process_in_one_of_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcml.batch.current_job import find_current_job

    monkeypatch.setitem(SCHEDULERS, "lsf", Lsf)
    monkeypatch.setenv("LSB_JOBID", "12")
    job = find_current_job(SITE)
    assert job is not None
    assert (job.id, job.batch.name) == ("12", "lsf")
