"""Submit, query and delete jobs with PBS Pro and OpenPBS."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from hpcml.batch.request import Job, Request
from hpcml.batch.schedulers.base import TIMEOUT, Directive, Scheduler, directive_names, output_lines, run
from hpcml.batch.schedulers.listing import Listing, read_text
from hpcml.batch.schedulers.slurm import slurm_end, squeue_named
from hpcml.site import Commands, Site
from hpcml.units import format_walltime, pbs_size

# Number of jobs to delete concurrently.
_AT_ONCE = 8


class Pbs(Scheduler):
    """PBS Pro and OpenPBS, and Slurm's PBS commands."""

    name = "pbs"
    usual = Commands("qsub", "qstat -x -f", "qdel")
    directive_prefix = "#PBS"
    job_variable = "PBS_JOBID"
    disk_variable = "PBS_JOBFS"
    node_variables = ("TMPDIR", "PBS_JOBFS", "PBS_JOBID", "PBS_NODEFILE", "PBS_NCPUS")
    own_directives: ClassVar[Mapping[str, str]] = {
        "-N": "cluster.name", "-q": "cluster.queue", "-P": "cluster.project", "-A": "cluster.project",
        "-r": "", "-j": "", "-o": "", "-e": "", "-S": "", "-k": "",
        "-l select": "cluster.ncpus and cluster.mem", "-l ncpus": "cluster.ncpus", "-l mem": "cluster.mem",
        "-l walltime": "cluster.walltime", "-l jobfs": "cluster.jobfs", "-l ngpus": "cluster.ngpus",
        "-l nodes": "cluster.nodes", "-l storage": "cluster.storage", "-l filesystems": "cluster.storage",
    }  # fmt: skip
    rejected_directives: ClassVar[Mapping[str, str]] = {
        "-I": "an interactive job", "-J": "an array", "-C": "another mark of directives", "-z": "a job without id",
        "-h": "a held job", "-W block": "a command that waits",
    }  # fmt: skip

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._wrapper = site.dialect == "wrapper"

    @property
    def id_form(self) -> str:
        # The whole line must be a job id. Only Slurm's commands omit the server's name.
        return r"\d+" if self._wrapper else r"\d+(?:\[\])?\.[\w.-]+"

    @classmethod
    def directives(cls, job: Job, request: Request, name: str, log: str) -> list[Directive]:
        """Return the directives that describe a job, in the site's dialect."""
        site = request.site
        wrapper = site.dialect == "wrapper"
        found = [("-N", name)]
        if job.queue is not None:
            found.append(("-q", job.queue))
        if job.project is not None and site.project is not None:
            found.append((site.project, job.project))
        found += [("-l", text) for text in _resources(job, site)]
        if job.storage and not wrapper:
            found.append(("-l", f"{site.storage.directive}={site.storage.separator.join(job.storage)}"))
        # A restarted worker job would look for a head that has gone, and a restarted head would
        # repeat a run that has its record.
        found.append(("-r", "n"))
        # Slurm's qsub ignores these in scripts; submit() passes them on the command line.
        return found if wrapper else [*found, ("-j", "oe"), ("-o", log), ("-S", "/bin/bash")]

    @classmethod
    def taken_directives(cls, site: Site) -> dict[str, str]:
        """Return the directives that hpcml writes at a site, including those of the site file."""
        return {**{name: "" for text in site.directives for name in directive_names(text)}, **cls.own_directives}

    @classmethod
    def ignored_keys(cls, site: Site) -> tuple[str, ...]:
        """Return the cluster keys that the qsub of slurm-wlm-torque 22.05 ignores (measured)."""
        return ("ngpus", "jobfs") if site.dialect == "wrapper" else ()

    @classmethod
    def cores(cls) -> int | None:
        """Return the cores of the job, to which PBS binds it only at sites with cgroups.

        OpenPBS sets ``NCPUS`` for the node; Gadi sets ``PBS_NCPUS`` for the job.
        """
        return _number("NCPUS") or _number("PBS_NCPUS")

    @classmethod
    def memory(cls) -> int | None:
        """Return the memory of the job in bytes, which Gadi sets in ``PBS_VMEM``."""
        return _number("PBS_VMEM")

    def submit(self, script: Path, log_file: Path, name: str, known: Collection[str] = ()) -> str:
        """Submit a script; Slurm's qsub gets some options on the command line."""
        # Slurm's qsub ignores these options in a script.
        options = ["-r", "n", "-j", "oe", "-o", str(log_file)] if self._wrapper else []
        command = [*shlex.split(str(self.commands.submit)), *options, str(script)]
        return self.id_of(run(command), command, name, known)

    def listing(self, ids: Sequence[str]) -> Listing:
        """Query the status of several jobs in one call.

        Uses text output, because OpenPBS 23.06 shows only one of several ids as JSON, without an
        error.
        """
        answer = run([*shlex.split(str(self.commands.status)), *ids])
        found = read_text(answer.stdout, answer.stderr, answer.code)
        jobs = {number: replace(job, queue=self.site.queue_named(job.queue)) for number, job in found.jobs.items()}
        if self._wrapper:  # Its qstat does not report how a job ended.
            jobs |= {number: slurm_end(job) for number, job in jobs.items() if job.state.is_final}
        return replace(found, jobs=jobs)

    def delete(self, ids: Sequence[str], timeout: float = TIMEOUT) -> None:
        """Delete jobs with one command each: a list with an unknown id can crash OpenPBS 23.06."""
        commands = [[*shlex.split(str(self.commands.delete)), number] for number in ids]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda command: run(command, timeout), commands))

    def named(self, name: str) -> list[str] | None:
        """Return the ids of this user's jobs with a name; None if the scheduler does not answer."""
        if self._wrapper:
            return squeue_named(name)
        answer = run(["qselect", "-N", name])
        return output_lines(answer.stdout) if answer.code == 0 else None

    def after(self, number: str) -> list[tuple[str, str]]:
        """Return the directive that starts a job after another has succeeded."""
        return [("-W", f"depend=afterok:{number}")]

    def node_lines(self) -> tuple[str, ...]:
        """Return the nodes of the current job, its first node first; a node may repeat."""
        file = os.environ.get("PBS_NODEFILE")
        return () if file is None else tuple(Path(file).read_text(encoding="utf-8").split())

    def on_node(self, line: int, host: str, ncpus: int) -> list[str]:  # noqa: ARG002  # used by Slurm
        """Return the pbsdsh command that runs a command on a node."""
        return [str(_pbsdsh()), "-n", str(line), "--"]


def _resources(job: Job, site: Site) -> list[str]:
    """Return the values of ``-l``: amounts, walltime and placement of a job."""
    walltime = f"walltime={format_walltime(job.walltime)}"
    if site.dialect == "flat":  # As on Gadi, amounts are for the whole job, and PBS divides them among the nodes.
        return [*_amounts(job, job.nodes), walltime]
    found = [f"select={job.nodes}:{':'.join(_amounts(job, 1))}", walltime]
    placed = any("place=" in text for text in (*site.directives, *job.extra))
    if job.nodes > 1 and not placed:
        found.append("place=scatter")  # PBS may otherwise put all chunks on one node.
    return found


def _amounts(job: Job, nodes: int) -> list[str]:
    """Return the resources of a number of nodes of a job."""
    found = [f"ncpus={nodes * job.ncpus}", f"mem={pbs_size(nodes * job.mem)}"]
    if job.ngpus:
        found.append(f"ngpus={nodes * job.ngpus}")
    if job.jobfs:
        found.append(f"jobfs={pbs_size(nodes * job.jobfs)}")
    return found


def _pbsdsh() -> Path:
    """Return the path of pbsdsh: from PATH, else from PBS's configuration."""
    if found := shutil.which("pbsdsh"):
        return Path(found)
    with contextlib.suppress(OSError):
        for line in Path(os.environ.get("PBS_CONF_FILE", "/etc/pbs.conf")).read_text(encoding="utf-8").splitlines():
            if line.startswith("PBS_EXEC="):
                return Path(line.partition("=")[2].strip()) / "bin" / "pbsdsh"
    return Path("pbsdsh")


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None
