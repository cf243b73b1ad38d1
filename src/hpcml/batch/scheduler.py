"""Schedulers: the only place that runs qsub, sbatch and the like."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcml.batch.ledger import Left
from hpcml.batch.listing import JobStatus, Listing, State, read_text
from hpcml.batch.refusal import Refusal, explain_refusal
from hpcml.batch.status import DELETED, ENDED, FAILED
from hpcml.batch.values import as_integer, as_seconds, as_time
from hpcml.errors import HpcmlError
from hpcml.site import Commands, Site

log = logging.getLogger(__name__)

# A command that takes longer is given up: PBS's own clients wait for a server that does not answer.
_TIMEOUT = 60

# So many jobs are deleted at the same time.
_AT_ONCE = 8

# What a shell says of a command that is not there.
_NO_COMMAND = 127


class RefusedError(HpcmlError):
    """Raised when the scheduler refuses a job.

    Parameters
    ----------
    refusal : Refusal
        Why, and whether to try again.
    """

    def __init__(self, refusal: Refusal, command: str) -> None:
        super().__init__(refusal.sentence, *filter(None, [refusal.remedy]), f"the command was: {command}")
        self.refusal = refusal


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    stdout: bytes
    stderr: bytes
    code: int


class Pbs:
    """PBS Pro and OpenPBS, and Slurm's PBS commands.

    Parameters
    ----------
    site : Site
        Whose commands and dialect.
    """

    name = "pbs"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._commands = site.commands_of(self.name)
        self._wrapper = site.dialect == "wrapper"

    def submit(self, script: Path, log_file: Path) -> str:
        """Submit a script.

        Parameters
        ----------
        log_file : Path
            Where the job's output goes, for a scheduler that is told so only on the command line.

        Returns
        -------
        str
            The job's id, whole.

        Raises
        ------
        RefusedError
        """
        # Slurm's qsub ignores these in a script
        options = ["-r", "n", "-j", "oe", "-o", str(log_file)] if self._wrapper else []
        command = [*shlex.split(str(self._commands.submit)), *options, str(script)]
        said = _run(command)
        # the last line: a site may print a banner before it, with numbers of its own
        ids = [line for line in _lines(said.stdout) if re.fullmatch(r"\d+(\[\])?(\.[\w.-]+)?", line)]
        if said.code == 0 and ids:
            return ids[-1]
        raise _refused(said, command)

    def listing(self, ids: Sequence[str]) -> Listing:
        """Ask for jobs, all at once.

        In text: of several ids OpenPBS 23.06 shows a single one as JSON, and says so to nobody.
        """
        said = _run([*shlex.split(str(self._commands.status)), *ids])
        found = read_text(said.stdout, said.stderr, said.code)
        jobs = {number: replace(job, queue=self._site.queue_named(job.queue)) for number, job in found.jobs.items()}
        if self._wrapper:  # its qstat does not say how a job ended
            jobs |= {number: slurm_end(job) for number, job in jobs.items() if job.state == "finished"}
        return replace(found, jobs=jobs)

    def delete(self, ids: Sequence[str], timeout: float = _TIMEOUT) -> None:
        """Delete jobs, queued or running. What became of it says the next listing.

        A command for each: a list of ids of which one is unknown has ended the server of OpenPBS 23.06.

        Parameters
        ----------
        timeout : float
            How long a command may take, in seconds.
        """
        commands = [[*shlex.split(str(self._commands.delete)), number] for number in ids]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda command: _run(command, timeout), commands))

    def named(self, name: str) -> list[str] | None:
        """Find this user's jobs of a name; None if there is no answer."""
        if self._wrapper:
            return _squeue_named(name)
        said = _run(["qselect", "-N", name])
        return _lines(said.stdout) if said.code == 0 else None

    def after(self, number: str) -> list[tuple[str, str]]:
        """Give the directives of a job that begins when another has ended well."""
        return [("-W", f"depend=afterok:{number}")]

    def node_lines(self) -> tuple[str, ...]:
        """List the nodes of the job that this process is in, the first one first; one may stand several times."""
        file = os.environ.get("PBS_NODEFILE")
        return () if file is None else tuple(Path(file).read_text(encoding="utf-8").split())

    def on_node(self, line: int, host: str, ncpus: int) -> list[str]:  # noqa: ARG002  # Slurm's want these
        """Give what to put before a command to run it on a node of the job that this process is in.

        Parameters
        ----------
        line : int
            The first of :meth:`node_lines` that names the node.
        """
        return [str(_pbsdsh()), "-n", str(line), "--"]


class Slurm:
    """Slurm's own commands; states and exit codes are translated to PBS's.

    Parameters
    ----------
    site : Site
        Whose commands.
    """

    name = "slurm"

    def __init__(self, site: Site) -> None:
        self._commands = site.commands_of(self.name)

    def submit(self, script: Path, log_file: Path) -> str:  # noqa: ARG002  # the script says it
        """Submit a script.

        Raises
        ------
        RefusedError
        """
        command = [*shlex.split(str(self._commands.submit)), "--parsable", str(script)]
        said = _run(command)
        ids = [line.partition(";")[0] for line in _lines(said.stdout) if re.fullmatch(r"\d+(;\S+)?", line)]
        if said.code == 0 and ids:
            return ids[-1]
        raise _refused(said, command)

    def listing(self, ids: Sequence[str]) -> Listing:
        """Ask for jobs, all at once; of finished ones Slurm tells for some minutes (MinJobAge)."""
        fields = "%i|%T|%r|%P|%N|%l|%S|%j"
        said = _run(["squeue", "--noheader", "--states=all", f"--format={fields}", f"--jobs={','.join(ids)}"])
        if said.code != 0:
            text = said.stderr.decode(errors="replace")
            if "Invalid job id specified" in text:  # of a single job that it has forgotten
                return Listing(unknown=frozenset(ids))
            return Listing(outage=" ".join(text.split()) or f"squeue ended with exit code {said.code}")
        jobs = {}
        for line in _lines(said.stdout):
            number, state, reason, partition, nodes, limit, began, name = line.split("|", 7)
            days, _, clock = limit.rpartition("-")  # 1-02:00:00
            walltime = (as_seconds(clock) or 0) + 86400 * (as_integer(days) or 0)
            status = JobStatus(number, name, _SLURM_STATES.get(state, "unknown"), partition,
                               comment=None if reason == "None" else reason,
                               resources={"walltime": str(walltime)} if walltime else {},
                               started=as_time(began, "%Y-%m-%dT%H:%M:%S"),
                               nodes=(nodes,) if nodes else ())  # fmt: skip
            jobs[number] = slurm_end(status) if status.state == "finished" else status
        return Listing(jobs, unknown=frozenset(ids) - set(jobs))

    def delete(self, ids: Sequence[str], timeout: float = _TIMEOUT) -> None:
        """Cancel jobs, pending or running."""
        if ids:
            _run([*shlex.split(str(self._commands.delete)), *ids], timeout)

    def named(self, name: str) -> list[str] | None:
        """Find this user's jobs of a name; None if there is no answer."""
        return _squeue_named(name)

    def after(self, number: str) -> list[tuple[str, str]]:
        """Give the directives of a job that begins when another has ended well."""
        return [("--dependency", f"afterok:{number}"), ("--kill-on-invalid-dep", "yes")]

    def node_lines(self) -> tuple[str, ...]:
        """List the nodes of the job that this process is in, the first one first."""
        names = os.environ.get("SLURM_JOB_NODELIST")
        return () if names is None else tuple(_lines(_run(["scontrol", "show", "hostnames", names]).stdout))

    def on_node(self, line: int, host: str, ncpus: int) -> list[str]:  # noqa: ARG002  # PBS's want it
        """Give what to put before a command to run it on a node of the job that this process is in."""
        where = [f"--nodelist={host}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={ncpus}"]
        return ["srun", "--overlap", *where]  # beside the job's own script


def _pbsdsh() -> Path:
    """Find pbsdsh: in a job's PATH, else where PBS says that it is."""
    if found := shutil.which("pbsdsh"):
        return Path(found)
    with contextlib.suppress(OSError):
        for line in Path(os.environ.get("PBS_CONF_FILE", "/etc/pbs.conf")).read_text(encoding="utf-8").splitlines():
            if line.startswith("PBS_EXEC="):
                return Path(line.partition("=")[2].strip()) / "bin" / "pbsdsh"
    return Path("pbsdsh")


def slurm_end(job: JobStatus) -> JobStatus:
    """Ask Slurm how a job ended, and say it as PBS does: in its exit status and substate."""
    shown = _run(["scontrol", "show", "job", "--oneliner", job.id]).stdout.decode(errors="replace")
    facts = dict(re.findall(r"\b(JobState|ExitCode|Reason)=(\S+)", shown))
    state, reason = facts.get("JobState", ""), facts.get("Reason", "None")
    code, _, signal = facts.get("ExitCode", "1:0").partition(":")
    own = 256 + int(signal) if int(signal or 0) else int(code)
    exit_status = {"TIMEOUT": -29, "OUT_OF_MEMORY": -27, "NODE_FAIL": -14, "BOOT_FAIL": -1}.get(state, own)
    substate = DELETED if state in {"CANCELLED", "PREEMPTED"} else ENDED if exit_status == 0 else FAILED
    comment = f"Slurm says {state}" + ("" if reason == "None" else f", {reason}")
    return replace(job, substate=substate, exit_status=exit_status, comment=comment)


Scheduler = Pbs | Slurm


def scheduler(site: Site, name: str) -> Scheduler:
    """Give the scheduler of a site by name."""
    return Slurm(site) if name == "slurm" else Pbs(site)


def spoken_to(site: Site) -> dict[str, Any]:
    """Give what must be known of a site to speak to its scheduler later."""
    return {"dialect": site.dialect, "commands": {name: vars(commands) for name, commands in site.commands.items()}}


def again(left: Left) -> Scheduler:
    """Give the scheduler that a ledger speaks of."""
    commands = {name: Commands(**facts) for name, facts in left.site.get("commands", {}).items()}
    site = Site(name="", source="", dialect=left.site.get("dialect", "select"), commands=commands)
    return scheduler(site, left.scheduler)


_SLURM_STATES: dict[str, State] = {
    "PENDING": "queued", "CONFIGURING": "queued", "REQUEUED": "queued", "REQUEUE_HOLD": "held", "RUNNING": "running",
    "SUSPENDED": "suspended", "STOPPED": "suspended", "COMPLETING": "exiting", "STAGE_OUT": "exiting",
    "SIGNALING": "running", "RESIZING": "running",
    **dict.fromkeys(("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL",
                     "DEADLINE", "PREEMPTED", "REVOKED", "SPECIAL_EXIT"), "finished"),
}  # fmt: skip


def _squeue_named(name: str) -> list[str] | None:
    said = _run(["squeue", "--me", "--noheader", "--format=%i", f"--name={name}"])
    return _lines(said.stdout) if said.code == 0 else None


def _run(command: Sequence[str], timeout: float = _TIMEOUT) -> Answer:
    log.debug("%s", shlex.join(command))
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return Answer(b"", f"{command[0]} did not answer within {timeout:g} seconds".encode(), 255)
    except OSError as error:
        return Answer(b"", f"{command[0]}: {error.strerror}".encode(), _NO_COMMAND)
    if done.returncode:
        log.debug("exit code %d: %s", done.returncode, done.stderr.decode(errors="replace").strip())
    return Answer(done.stdout, done.stderr, done.returncode)


def _refused(said: Answer, command: Sequence[str]) -> RefusedError:
    # Slurm's qsub says on stdout why it refuses
    return RefusedError(explain_refusal(said.stderr + said.stdout, said.code), shlex.join(command))


def _lines(text: bytes) -> list[str]:
    return [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
