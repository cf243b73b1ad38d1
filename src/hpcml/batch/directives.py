"""From a request to job scripts. Pure text: nothing here reads a file, an environment variable or a clock."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from hpcml.batch.request import Environment, Job, Request
from hpcml.runs import RUN_VARIABLE, RunPaths
from hpcml.spec import THREAD_VARIABLES
from hpcml.units import format_walltime, pbs_size

Directive = tuple[str, str]

MARKS = {"pbs": "#PBS", "slurm": "#SBATCH"}


def directives(job: Job, request: Request, run: str, log: str) -> list[Directive]:
    """Say to the scheduler what a job is.

    Parameters
    ----------
    run : str
        The run's id; the job's name carries it.
    log : str
        The file that the job's output goes to.

    Returns
    -------
    list of (str, str)
        Flags and values, each flag, and each resource of ``-l``, once.
    """
    extra = [
        (flag, value) for flag, _, value in (text.partition(" ") for text in (*request.site.directives, *job.extra))
    ]
    name = f"{job.name}-{run}"
    own = _slurm(job, name, log) if request.scheduler == "slurm" else _pbs(job, request, name, log)
    return [*own, *extra]


def _pbs(job: Job, request: Request, name: str, log: str) -> list[Directive]:
    site = request.site
    wrapper = site.dialect == "wrapper"
    found = [("-N", name)]
    if job.queue is not None:
        found.append(("-q", job.queue))
    if job.project is not None and site.project is not None:
        found.append((site.project, job.project))
    if site.dialect == "flat":
        found += [("-l", f"{name}={value}") for name, value in _totals(job).items()]
    else:
        found.append(("-l", f"select={job.nodes}:" + ":".join(f"{key}={value}" for key, value in _chunk(job).items())))
    found.append(("-l", f"walltime={format_walltime(job.walltime)}"))
    if (
        job.nodes > 1
        and site.dialect != "flat"
        and not any("place=" in text for text in (*site.directives, *job.extra))
    ):
        found.append(("-l", "place=scatter"))  # or PBS may put all chunks on one node
    if job.storage and not wrapper:
        found.append(("-l", f"{site.storage.directive}={site.storage.separator.join(job.storage)}"))
    # A worker job that PBS starts again would look for a head that is gone; a head, for a run that has its record
    found.append(("-r", "n"))
    # Slurm's qsub ignores these in a script: they are for its command line
    return found if wrapper else [*found, ("-j", "oe"), ("-o", log), ("-S", "/bin/bash")]


def _totals(job: Job) -> dict[str, str]:
    """Gadi's resources are the job's, and PBS splits them evenly among its nodes."""
    found = {"ncpus": str(job.total_ncpus), "mem": pbs_size(job.nodes * job.mem)}
    if job.ngpus:
        found["ngpus"] = str(job.nodes * job.ngpus)
    if job.jobfs:
        found["jobfs"] = pbs_size(job.nodes * job.jobfs)
    return found


def _chunk(job: Job) -> dict[str, str]:
    found = {"ncpus": str(job.ncpus), "mem": pbs_size(job.mem)}
    if job.ngpus:
        found["ngpus"] = str(job.ngpus)
    if job.jobfs:
        found["jobfs"] = pbs_size(job.jobfs)
    return found


def _slurm(job: Job, name: str, log: str) -> list[Directive]:
    found = [("--job-name", name)]
    if job.queue is not None:
        found.append(("--partition", job.queue))
    if job.project is not None:
        found.append(("--account", job.project))
    # One task a node, in which hpcml starts the workers: a task each would be bound to cores of its own
    found += [("--nodes", str(job.nodes)), ("--ntasks-per-node", "1"), ("--cpus-per-task", str(job.ncpus))]
    found.append(("--mem", _slurm_size(job.mem)))
    if job.ngpus:
        found.append(("--gpus-per-node", str(job.ngpus)))
    if job.jobfs:
        found.append(("--tmp", _slurm_size(job.jobfs)))
    found.append(("--time", format_walltime(job.walltime)))
    return [*found, ("--no-requeue", ""), ("--output", log)]


def _slurm_size(size: int) -> str:
    return pbs_size(size).removesuffix("B")


def lines(found: Sequence[Directive], scheduler: str) -> list[str]:
    """Write directives as lines of a script."""
    return [f"{MARKS[scheduler]} {text}" for text in map(_text, found)]


def _text(directive: Directive) -> str:
    flag, value = directive
    if not value:
        return flag
    return f"{flag}={value}" if flag.startswith("--") else f"{flag} {value}"


def options(found: Sequence[Directive]) -> list[str]:
    """Write directives as options of the command to submit."""
    return [word for directive in found for word in shlex.split(_text(directive))]


def prologue(environment: Environment) -> list[str]:
    """Write what makes the environment, as commands of a shell."""
    quote = shlex.quote
    found = []
    if environment.script is not None:
        found.append(f". {quote(environment.script)}")
    if environment.modules:
        found.append(f"module load {shlex.join(environment.modules)}")
    if environment.venv is not None:
        found.append(f". {quote(environment.venv + '/bin/activate')}")
    return found + [f"export {name}={quote(value)}" for name, value in environment.variables.items()]


def worker_script(request: Request, paths: RunPaths, job: str) -> str:
    """Write the script of a worker job.

    Parameters
    ----------
    paths : RunPaths
        Where the job finds what else it must know.
    job : str
        The job's name in the run.
    """
    header = directives(request.worker, request, paths.run_id, str(paths.job_log(job)))
    return _script(lines(header, request.scheduler), _workers(request, paths, job))


def workers_script(request: Request, paths: RunPaths, name: str, variables: Mapping[str, str]) -> str:
    """Write what starts the workers of one node of an allocation.

    Parameters
    ----------
    name : str
        The node's name in the run.
    variables : mapping of str to str
        To export first.
    """
    exports = [f"export {key}={shlex.quote(value)}" for key, value in variables.items()]
    # pbsdsh would hand the output to the job's
    exports.append(f"exec >> {shlex.quote(str(paths.job_log(name)))} 2>&1")
    return _script([], [*exports, *_workers(request, paths, name)])


def _workers(request: Request, paths: RunPaths, name: str) -> list[str]:
    quote = shlex.quote
    threads, python = str(request.threads), quote(request.environment.python)
    return [
        f"cd {quote(request.places.work)} || exit 1",
        *prologue(request.environment),
        *(f"export {variable}={threads}" for variable in THREAD_VARIABLES),
        # -P: no file of the user's called numpy.py or json.py comes before the real one
        f"exec {python} -P -m hpcml.worker {quote(str(paths.root))} {quote(name)}",
    ]


def head_script(request: Request, paths: RunPaths, body: str, dependency: Sequence[Directive] = ()) -> str:
    """Write the script of a head job, or of the allocation in which the head lives.

    Parameters
    ----------
    body : str
        The text of scripts/pbs/head.pbs; its own directives are left out.
    dependency : sequence of (str, str)
        What it has to wait for.
    """
    variables = {
        "HPCML_WORKDIR": request.places.work,
        "HPCML_ENV": str(paths.environment),
        "HPCML_ARGS_FILE": str(paths.arguments),
        RUN_VARIABLE: str(paths.root),
    }
    below = [line for line in body.splitlines() if not line.startswith("#")]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    # PBS gives a job's output away when the job has ended: what the head says goes to its log at once
    exports.append(f"exec >> {shlex.quote(str(paths.head_log))} 2>&1")
    header = directives(request.head or request.worker, request, paths.run_id, str(paths.job_log("head")))
    return _script(lines([*header, *dependency], request.scheduler), [*exports, *below])


def _script(header: Sequence[str], body: Sequence[str]) -> str:
    text = [*header, *body]
    for line in text:
        # the check has refused such values already; a line more would be a directive or a command more
        if not line.isprintable():
            raise ValueError(f"not a line of a script: {line!r}")
    return "\n".join(["#!/bin/bash", *text, ""])
