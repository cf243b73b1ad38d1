"""Submit, query and cancel jobs with Slurm, with states and exit codes as in PBS."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from hpcml.batch.request import Job, Request
from hpcml.batch.schedulers.base import TIMEOUT, Directive, Scheduler, output_lines, run
from hpcml.batch.schedulers.listing import JobStatus, Listing, State
from hpcml.batch.schedulers.status import DELETED, ENDED, FAILED
from hpcml.batch.schedulers.values import as_integer, as_seconds, as_time
from hpcml.site import Commands
from hpcml.units import format_walltime, pbs_size

_STATES: dict[str, State] = {
    "PENDING": State.QUEUED, "CONFIGURING": State.QUEUED, "REQUEUED": State.QUEUED, "REQUEUE_HOLD": State.HELD,
    "RUNNING": State.RUNNING, "SIGNALING": State.RUNNING, "RESIZING": State.RUNNING, "SUSPENDED": State.SUSPENDED,
    "STOPPED": State.SUSPENDED, "COMPLETING": State.EXITING, "STAGE_OUT": State.EXITING,
    **dict.fromkeys(("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL",
                     "DEADLINE", "PREEMPTED", "REVOKED", "SPECIAL_EXIT"), State.FINISHED),
}  # fmt: skip


# squeue's fields, as _status() reads them: id, state, reason, partition, nodes, limit, start, name
_FIELDS = "%i|%T|%r|%P|%N|%l|%S|%j"


class Slurm(Scheduler):
    """Slurm's native commands."""

    name = "slurm"
    usual = Commands("sbatch", "scontrol show job", "scancel")
    directive_prefix = "#SBATCH"
    job_variable = "SLURM_JOB_ID"
    submit_prefix = "HPCML_SUBMIT=sbatch "
    own_directives: ClassVar[Mapping[str, str]] = {
        "-J": "cluster.name", "--job-name": "cluster.name", "-p": "cluster.queue", "--partition": "cluster.queue",
        "-A": "cluster.project", "--account": "cluster.project", "-t": "cluster.walltime", "--time": "cluster.walltime",
        "-c": "cluster.ncpus", "--cpus-per-task": "cluster.ncpus", "-n": "", "--ntasks": "", "-N": "cluster.nodes",
        "--nodes": "cluster.nodes", "--ntasks-per-node": "", "--mem": "cluster.mem", "--tmp": "cluster.jobfs",
        "--gpus-per-node": "cluster.ngpus", "--gpus": "cluster.ngpus", "--gres": "cluster.ngpus",
        "--mem-per-cpu": "cluster.mem", "-o": "", "--output": "", "-e": "", "--error": "", "--requeue": "",
        "--no-requeue": "",
    }  # fmt: skip
    rejected_directives: ClassVar[Mapping[str, str]] = {
        "-a": "an array", "-H": "a held job", "--hold": "a held job", "--array": "an array", "--wrap": "another script",
        "--parsable": "another answer",
    }  # fmt: skip

    @property
    def id_form(self) -> str:
        return r"(\d+)(?:;\S+)?"

    @classmethod
    def directives(cls, job: Job, request: Request, name: str, log: str) -> list[Directive]:  # noqa: ARG003
        """Return the directives that describe a job."""
        found = [("--job-name", name)]
        if job.queue is not None:
            found.append(("--partition", job.queue))
        if job.project is not None:
            found.append(("--account", job.project))
        # One task per node, in which hpcml starts the workers: Slurm would bind each task to its
        # own cores.
        found += [("--nodes", str(job.nodes)), ("--ntasks-per-node", "1"), ("--cpus-per-task", str(job.ncpus))]
        found.append(("--mem", _slurm_size(job.mem)))
        if job.ngpus:
            found.append(("--gpus-per-node", str(job.ngpus)))
        if job.jobfs:
            found.append(("--tmp", _slurm_size(job.jobfs)))
        found.append(("--time", format_walltime(job.walltime)))
        return [*found, ("--no-requeue", ""), ("--output", log)]

    def submit(self, script: Path, log_file: Path, name: str, known: Collection[str] = ()) -> str:  # noqa: ARG002
        """Submit a script, which names its output file itself.

        Raises
        ------
        RefusedError
        """
        command = [*shlex.split(str(self.commands.submit)), "--parsable", str(script)]
        return self.id_of(run(command), command, name, known)

    def listing(self, ids: Sequence[str]) -> Listing:
        """Query the status of several jobs; Slurm forgets finished jobs after MinJobAge."""
        answer = run(["squeue", "--noheader", "--states=all", f"--format={_FIELDS}", f"--jobs={','.join(ids)}"])
        if answer.code != 0:
            text = answer.stderr.decode(errors="replace")
            if "Invalid job id specified" in text:  # printed for a single forgotten job
                return Listing(unknown=frozenset(ids))
            return Listing(outage=" ".join(text.split()) or f"squeue ended with exit code {answer.code}")
        listed = map(_status, output_lines(answer.stdout))
        jobs = {job.id: slurm_end(job) if job.state.is_final else job for job in listed}
        return Listing(jobs, unknown=frozenset(ids) - set(jobs))

    def delete(self, ids: Sequence[str], timeout: float = TIMEOUT) -> None:
        """Cancel jobs, pending or running."""
        if ids:
            run([*shlex.split(str(self.commands.delete)), *ids], timeout)

    def named(self, name: str) -> list[str] | None:
        """Return the ids of this user's jobs with a name; None if the scheduler does not answer."""
        return squeue_named(name)

    def after(self, number: str) -> list[tuple[str, str]]:
        """Return the directives that start a job after another has succeeded."""
        return [("--dependency", f"afterok:{number}"), ("--kill-on-invalid-dep", "yes")]

    def node_lines(self) -> tuple[str, ...]:
        """Return the nodes of the current job, its first node first."""
        names = os.environ.get("SLURM_JOB_NODELIST")
        return () if names is None else tuple(output_lines(run(["scontrol", "show", "hostnames", names]).stdout))

    def on_node(self, line: int, host: str, ncpus: int) -> list[str]:  # noqa: ARG002  # used by PBS
        """Return the srun command that runs a command on a node beside the job's script."""
        where = [f"--nodelist={host}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={ncpus}"]
        return ["srun", "--overlap", *where]


def _status(line: str) -> JobStatus:
    """Parse a line of squeue."""
    number, state, reason, partition, nodes, limit, began, name = line.split("|", 7)
    days, _, clock = limit.rpartition("-")  # 1-02:00:00
    walltime = (as_seconds(clock) or 0) + 86400 * (as_integer(days) or 0)
    return JobStatus(
        number,
        name,
        _STATES.get(state, State.UNKNOWN),
        partition,
        comment=None if reason == "None" else reason,
        resources={"walltime": str(walltime)} if walltime else {},
        started=as_time(began, "%Y-%m-%dT%H:%M:%S"),
        nodes=(nodes,) if nodes else (),
    )


def slurm_end(job: JobStatus) -> JobStatus:
    """Query how a Slurm job ended, and return its exit status and substate as those of PBS."""
    shown = run(["scontrol", "show", "job", "--oneliner", job.id]).stdout.decode(errors="replace")
    facts = dict(re.findall(r"\b(JobState|ExitCode|Reason)=(\S+)", shown))
    state, reason = facts.get("JobState", ""), facts.get("Reason", "None")
    code, _, signal = facts.get("ExitCode", "1:0").partition(":")
    own = 256 + int(signal) if int(signal or 0) else int(code)
    exit_status = {"TIMEOUT": -29, "OUT_OF_MEMORY": -27, "NODE_FAIL": -14, "BOOT_FAIL": -1}.get(state, own)
    substate = DELETED if state in {"CANCELLED", "PREEMPTED"} else ENDED if exit_status == 0 else FAILED
    comment = f"Slurm says {state}" + ("" if reason == "None" else f", {reason}")
    return replace(job, substate=substate, exit_status=exit_status, comment=comment)


def squeue_named(name: str) -> list[str] | None:
    """Return the ids of this user's jobs with a name; None if the scheduler does not answer."""
    answer = run(["squeue", "--me", "--noheader", "--format=%i", f"--name={name}"])
    return output_lines(answer.stdout) if answer.code == 0 else None


def _slurm_size(size: int) -> str:
    return pbs_size(size).removesuffix("B")
