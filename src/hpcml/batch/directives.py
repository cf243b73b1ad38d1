"""Render job scripts. All functions are pure: they read no file, environment variable or clock."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from hpcml.batch.request import Environment, Job, Request
from hpcml.batch.schedulers import SCHEDULERS
from hpcml.batch.schedulers.base import Directive
from hpcml.runs import RUN_VARIABLE, RunPaths
from hpcml.spec import THREAD_VARIABLES

# Exit code of a worker job that cannot reach its head.
NO_HEAD = 3

# A job that fails within _SOON seconds occupies its node for _KEPT seconds. Exit codes above
# _LAST_CODE are those of signals.
_SOON, _KEPT, _LAST_CODE = 60, 300, 127


def directives(job: Job, request: Request, run: str, log: str) -> list[Directive]:
    """Return the directives that describe a job to the scheduler.

    Parameters
    ----------
    run : str
        Run id, which becomes part of the job's name.
    log : str
        File for the job's output.

    Returns
    -------
    list of (str, str)
        Flags and values. Each flag, and each resource of ``-l``, occurs once.
    """
    extra = [
        (flag, value) for flag, _, value in (text.partition(" ") for text in (*request.site.directives, *job.extra))
    ]
    name = f"{job.name}-{run}"
    return [*SCHEDULERS[request.scheduler].directives(job, request, name, log), *extra]


def lines(found: Sequence[Directive], scheduler: str) -> list[str]:
    """Render directives as lines of a script."""
    prefix = SCHEDULERS[scheduler].directive_prefix
    return [f"{prefix} {text}" for text in map(_text, found)]


def _text(directive: Directive) -> str:
    flag, value = directive
    if not value:
        return flag
    return f"{flag}={value}" if flag.startswith("--") else f"{flag} {value}"


def options(found: Sequence[Directive]) -> list[str]:
    """Render directives as options of the submit command."""
    return [word for directive in found for word in shlex.split(_text(directive))]


def prologue(environment: Environment) -> list[str]:
    """Render the shell commands that set up the environment."""
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
    """Render the script of a worker job.

    Parameters
    ----------
    paths : RunPaths
        Files of the run, which the job reads.
    job : str
        Name of the job in the run.
    """
    header = directives(request.worker, request, paths.run_id, str(paths.job_log(job)))
    return _script(lines(header, request.scheduler), [*_keep_node(paths, job), *_workers(request, paths, job)])


def _keep_node(paths: RunPaths, job: str) -> list[str]:
    """Render a shell trap that makes a failed job occupy its node for a while.

    Otherwise the next job would start on the same node and fail as well, since PBS cannot exclude a
    node. The job reports to the head, which deletes it once a replacement has started elsewhere or
    is not needed.
    """
    report, new = shlex.quote(str(paths.job_failure(job))), shlex.quote(f"{paths.job_failure(job)}.new")
    return [
        "keep_place() {",
        "    code=$?",
        f"    if (( code == 0 || code == {NO_HEAD} || code > {_LAST_CODE} || SECONDS > {_SOON} )); then return; fi",
        # Standard error goes to the same place as standard output. If that is a pipe, reading it
        # would never end.
        '    output() { [ ! -f "/proc/$$/fd/2" ] || tail -n 20 "/proc/$$/fd/2"; }',
        f'    {{ echo "$HOSTNAME"; echo "$code"; output; }} > {new} && mv {new} {report} || return',
        f"    until [ -e {shlex.quote(str(paths.record))} ] || (( SECONDS > {_KEPT} )); do sleep 2; done",
        "}",
        "trap keep_place EXIT",
    ]


def workers_script(request: Request, paths: RunPaths, name: str, variables: Mapping[str, str]) -> str:
    """Render the script that starts the workers on one node of an allocation.

    Parameters
    ----------
    name : str
        Name of the node in the run.
    variables : mapping of str to str
        Environment variables to export first.
    """
    exports = [f"export {key}={shlex.quote(value)}" for key, value in variables.items()]
    # The command that starts this script on a node would mix the output into that of the job.
    exports.append(f"exec >> {shlex.quote(str(paths.job_log(name)))} 2>&1")
    *first, last = _workers(request, paths, name)
    # With exec, signals sent to the script reach the workers.
    return _script([], [*exports, *first, f"exec {last}"])


def _workers(request: Request, paths: RunPaths, name: str) -> list[str]:
    quote = shlex.quote
    threads, python = str(request.threads), quote(request.environment.python)
    return [
        f"cd {quote(request.places.work)} || exit 1",
        *prologue(request.environment),
        *(f"export {variable}={threads}" for variable in THREAD_VARIABLES),
        # -P keeps a user's file called numpy.py or json.py from shadowing the real module.
        f"{python} -P -m hpcml.worker {quote(str(paths.root))} {quote(name)}",
    ]


def head_script(request: Request, paths: RunPaths, body: str, dependency: Sequence[Directive] = ()) -> str:
    """Render the script of a head job, or of the allocation that contains the head.

    Parameters
    ----------
    body : str
        Text of scripts/pbs/head.pbs; its own directives are dropped.
    dependency : sequence of (str, str)
        Directives for the job that it waits for.
    """
    variables = {
        "HPCML_WORKDIR": request.places.work,
        "HPCML_ENV": str(paths.environment),
        "HPCML_ARGS_FILE": str(paths.arguments),
        RUN_VARIABLE: str(paths.root),
    }
    below = [line for line in body.splitlines() if not line.startswith("#")]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    # PBS delivers the output of a job only after its end; the head's log must be readable before.
    exports.append(f"exec >> {shlex.quote(str(paths.head_log))} 2>&1")
    header = directives(request.head or request.worker, request, paths.run_id, str(paths.job_log("head")))
    return _script(lines([*header, *dependency], request.scheduler), [*exports, *below])


def _script(header: Sequence[str], body: Sequence[str]) -> str:
    text = [*header, *body]
    for line in text:
        # Validation has already rejected such values. This guards against an injected directive or
        # command.
        if not line.isprintable():
            raise ValueError(f"not a line of a script: {line!r}")
    return "\n".join(["#!/bin/bash", *text, ""])
