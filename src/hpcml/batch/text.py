"""Rules of the check: what may stand in a job script. No value can add a line, a directive or a command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpcml.batch.complaint import Complaint
from hpcml.batch.request import OWN_RULE, Request
from hpcml.spec import THREAD_VARIABLES

# What may stand in a directive. PBS and Slurm allow more; none of it is worth a line that two parsers read differently.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", re.ASCII)  # PBS_MAXJOBNAME is 230, and the run's id follows
_STORAGE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/=:@-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LOG_PATH = re.compile(r"/[A-Za-z0-9_./+=@~-]*", re.ASCII)

# Directives that hpcml writes itself, and the keys that they come from.
_PBS_OURS = {
    "-N": "cluster.name", "-q": "cluster.queue", "-P": "cluster.project", "-A": "cluster.project",
    "-r": "", "-j": "", "-o": "", "-e": "", "-S": "", "-k": "",
    "-l select": "cluster.ncpus and cluster.mem", "-l ncpus": "cluster.ncpus", "-l mem": "cluster.mem",
    "-l walltime": "cluster.walltime", "-l jobfs": "cluster.jobfs", "-l ngpus": "cluster.ngpus",
    "-l nodes": "cluster.nodes", "-l storage": "cluster.storage", "-l filesystems": "cluster.storage",
}  # fmt: skip
_SLURM_OURS = {
    "-J": "cluster.name", "--job-name": "cluster.name", "-p": "cluster.queue", "--partition": "cluster.queue",
    "-A": "cluster.project", "--account": "cluster.project", "-t": "cluster.walltime", "--time": "cluster.walltime",
    "-c": "cluster.ncpus", "--cpus-per-task": "cluster.ncpus", "-n": "", "--ntasks": "", "-N": "cluster.nodes",
    "--nodes": "cluster.nodes", "--ntasks-per-node": "", "--mem": "cluster.mem", "--tmp": "cluster.jobfs",
    "--gpus-per-node": "cluster.ngpus", "--gpus": "cluster.ngpus", "--gres": "cluster.ngpus",
    "--mem-per-cpu": "cluster.mem", "-o": "", "--output": "", "-e": "", "--error": "", "--requeue": "",
    "--no-requeue": "",
}  # fmt: skip
# What makes another kind of job of it than hpcml can follow.
_REFUSED = {
    "pbs": {
        "-I": "an interactive job",
        "-J": "an array",
        "-C": "another mark of directives",
        "-z": "a job without id",
        "-h": "a held job",
        "-W block": "a command that waits",
    },
    "slurm": {
        "-a": "an array",
        "-H": "a held job",
        "--hold": "a held job",
        "--array": "an array",
        "--wrap": "another script",
        "--parsable": "another answer",
    },
}


def _project_is_plain(request: Request) -> Iterator[Complaint]:
    project = request.worker.project
    if project is not None and not _WORD.fullmatch(project):
        yield _bad_text("cluster.project", project)


def _queue_is_plain(request: Request) -> Iterator[Complaint]:
    for job in request.all_jobs:
        if job.queue is not None and not is_queue_name(job.queue):
            yield _bad_text(f"{job.key}.queue", job.queue)


def is_queue_name(text: str) -> bool:
    """Tell whether a text can be the name of a queue, with or without the server's."""
    return _QUEUE.fullmatch(text) is not None


def _name_is_plain(request: Request) -> Iterator[Complaint]:
    if not _NAME.fullmatch(request.worker.name):
        yield _bad_text("cluster.name", request.worker.name, "100 letters, digits and . _ - at most, a letter first")


def _storage_is_plain(request: Request) -> Iterator[Complaint]:
    rules = request.site.storage
    for key, names in request.storages.items():
        wrong = [name for name in names if not _STORAGE.fullmatch(name) or not rules.is_name(name)]
        if wrong:
            parts = [part for name in names for part in re.split(r"[\s,:+]+", name.rstrip("/")) if part]
            meant = [sorted(rules.names(f"/{part.lstrip('/')}"))[0] if rules.names(f"/{part.lstrip('/')}") else part
                     for part in parts]  # fmt: skip
            right = rules.separator.join(dict.fromkeys(name for name in meant if rules.is_name(name)))
            yield Complaint(
                f"{key}.storage={rules.separator.join(names)!r}: {wrong[0]!r} is no file system's name at "
                f"{request.site.name}",
                f"use {key}.storage={right}" if right and _STORAGE.fullmatch(right.replace(rules.separator, "/")) else
                f"such a name is {' or '.join(sorted(set(rules.roots.values())))}, with {rules.separator} in between",
                request.site.source,
            )  # fmt: skip


def _environment_is_plain(request: Request) -> Iterator[Complaint]:
    environment = request.environment
    for name in environment.modules:
        if not _MODULE.fullmatch(name):
            yield _bad_text("cluster.environment.modules", name, "what else the shell should do goes into env.sh")
    for name, value in environment.variables.items():
        if not _VARIABLE.fullmatch(name):
            yield _bad_text("cluster.environment.variables", name)
        if name in THREAD_VARIABLES:
            yield Complaint(
                f"cluster.environment.variables.{name}={value!r}: hpcml sets it to the threads of a worker",
                "use cluster.threads",
                OWN_RULE,
            )
        if not value.isprintable():
            yield _bad_text(f"cluster.environment.variables.{name}", value)
    paths = {"venv": environment.venv, "script": environment.script}
    for key, path in paths.items():
        if path is not None and not (path.startswith("/") and path.isprintable()):
            yield Complaint(
                f"cluster.environment.{key}={path!r}: jobs start elsewhere and need a full path",
                f"use cluster.environment.{key}={shlex.quote(str(Path(request.places.work) / _printable(path)))}",
                OWN_RULE,
            )


def _places_can_be_named(request: Request) -> Iterator[Complaint]:
    places = request.places
    if not _LOG_PATH.fullmatch(places.scratch):
        yield Complaint(
            f"scratch={places.scratch!r}: the scheduler is told to write logs below it, and reads such a name wrongly",
            "use a path of letters, digits and . _ + = @ ~ -",
            OWN_RULE,
        )
    for what, path in {"the working directory": places.work, "the interpreter": places.python}.items():
        if not path.isprintable():
            yield Complaint(f"{what} {path!r} has characters that cannot be printed", "use another", OWN_RULE)


def _extra_directives_are_new(request: Request) -> Iterator[Complaint]:
    mark = "#PBS" if request.scheduler == "pbs" else "#SBATCH"
    taken = _taken(request)
    for text in request.worker.extra:
        names = directive_names(text)
        key = f"cluster.extra_directives: {text!r}"
        if not names or not text.isprintable():
            yield Complaint(f"{key}: is no directive", f"write one, as it stands after {mark}: '-m ae'", OWN_RULE)
        for name in names:
            if name in _REFUSED[request.scheduler]:
                yield Complaint(f"{key}: makes {_REFUSED[request.scheduler][name]} of it", "leave it out", OWN_RULE)
            elif (meant := _meant(name, taken)) is not None:
                where = taken[meant]
                yield Complaint(
                    f"{key}: {meant} is there already", f"use {where}" if where else "leave it out", OWN_RULE
                )
            taken.setdefault(name, "")


def _meant(name: str, taken: Mapping[str, str]) -> str | None:
    """Find what a directive sets that is set already; Slurm takes the beginning of a long option for the whole."""
    if name in taken:
        return name
    return next((other for other in taken if name.startswith("--") and other.startswith(name)), None)


def _taken(request: Request) -> dict[str, str]:
    """Give the directives that hpcml writes itself, with the keys that they come from."""
    if request.scheduler == "slurm":
        return dict(_SLURM_OURS)
    return {**{name: "" for text in request.site.directives for name in directive_names(text)}, **_PBS_OURS}


def directive_names(text: str) -> list[str]:
    """Give what a directive sets: its flag, or the resources of its -l. Nothing for what is no directive, or several.

    >>> directive_names("-m ae"), directive_names("-l place=free,software=x"), directive_names("--mem=1G")
    (['-m'], ['-l place', '-l software'], ['--mem'])
    >>> directive_names("-m ae -q express"), directive_names("rm -rf ."), directive_names("-M 'me")
    ([], [], [])
    """
    try:
        first, *rest = shlex.split(text)
    except ValueError:  # nothing in it, or a quote that is not closed
        return []
    if not re.match(r"--?[A-Za-z]", first) or len(rest) > 1 or any(word.startswith("-") for word in rest):
        return []
    if first.startswith("--"):
        return [first.partition("=")[0]]
    value = " ".join([first[2:], *rest]).strip()
    if first[:2] in {"-l", "-W"}:  # PBS does not mind upper case
        names = [part.partition("=")[0].lower() for part in value.split(",")]
        return [f"{first[:2]} {name}" for name in names] if all(names) else []
    return [first[:2]]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _bad_text(key: str, value: str, remedy: str = "use letters, digits and . _ - only") -> Complaint:
    return Complaint(f"{key}={value!r}: cannot stand in a job script", remedy, OWN_RULE)


def _site_is_plain(request: Request) -> Iterator[Complaint]:
    """Look at what a site's own file puts into scripts; its author may be mistaken too."""
    site = request.site
    for text in site.directives:
        names = directive_names(text)
        ours = {**_PBS_OURS, **_SLURM_OURS, **_REFUSED[request.scheduler]}
        if not names or not text.isprintable() or any(name in ours for name in names):
            yield Complaint(
                f"site.directives: {text!r}: is no directive that a site may add", "mend the site's file", OWN_RULE
            )
    words = {"interface": site.interface, "storage.directive": site.storage.directive}
    for key, value in words.items():
        if value is not None and not _WORD.fullmatch(value):
            yield _bad_text(f"site.{key}", value)


RULES = (
    _site_is_plain,
    _project_is_plain, _queue_is_plain, _name_is_plain, _storage_is_plain, _environment_is_plain, _places_can_be_named,
    _extra_directives_are_new,
)  # fmt: skip
