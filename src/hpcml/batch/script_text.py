"""Rules for text in job scripts: no value can add a line, directive or command."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpcml.batch.diagnostic import Diagnostic
from hpcml.batch.request import OWN_RULE, Request
from hpcml.batch.schedulers import SCHEDULERS
from hpcml.batch.schedulers.base import directive_names
from hpcml.site import Storage
from hpcml.spec import THREAD_VARIABLES

# Characters allowed in directives. PBS and Slurm allow more, but their parsers disagree about them.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", re.ASCII)  # PBS_MAXJOBNAME is 230, run id included
_STORAGE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/=:@-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LOG_PATH = re.compile(r"/[A-Za-z0-9_./+=@~-]*", re.ASCII)


def _project_is_plain(request: Request) -> Iterator[Diagnostic]:
    project = request.worker.project
    if project is not None and not _WORD.fullmatch(project):
        yield _bad_text("cluster.project", project)


def _queue_is_plain(request: Request) -> Iterator[Diagnostic]:
    for job in request.all_jobs:
        if job.queue is not None and not is_queue_name(job.queue):
            yield _bad_text(f"{job.key}.queue", job.queue)


def is_queue_name(text: str) -> bool:
    """Return whether a text can be the name of a queue, with or without a server."""
    return _QUEUE.fullmatch(text) is not None


def _name_is_plain(request: Request) -> Iterator[Diagnostic]:
    if not _NAME.fullmatch(request.worker.name):
        yield _bad_text(
            "cluster.name", request.worker.name, "use at most 100 letters, digits and . _ -, a letter first"
        )


def _storage_is_plain(request: Request) -> Iterator[Diagnostic]:
    rules = request.site.storage
    for key, names in request.storages.items():
        wrong = [name for name in names if not _STORAGE.fullmatch(name) or not rules.is_name(name)]
        if wrong:
            right = _meant_storage(names, rules)
            yield Diagnostic(
                f"{key}.storage={rules.separator.join(names)!r}: {wrong[0]!r} is not a file system of "
                f"{request.site.name}",
                f"use {key}.storage={right}" if right else
                f"write {' or '.join(sorted(set(rules.roots.values())))}, separated by {rules.separator}",
                request.site.source,
            )  # fmt: skip


def _meant_storage(names: Sequence[str], rules: Storage) -> str | None:
    """Return the file systems meant by paths, or by names with another separator; None if none is known."""
    parts = [part for name in names for part in re.split(r"[\s,:+]+", name.rstrip("/")) if part]
    meant = [min(rules.names(f"/{part.lstrip('/')}"), default=part) for part in parts]
    right = rules.separator.join(dict.fromkeys(filter(rules.is_name, meant)))
    return right if _STORAGE.fullmatch(right.replace(rules.separator, "/")) else None


def _modules_are_plain(request: Request) -> Iterator[Diagnostic]:
    for name in request.environment.modules:
        if not _MODULE.fullmatch(name):
            yield _bad_text("cluster.environment.modules", name, "put other shell commands into env.sh")


def _variables_are_plain(request: Request) -> Iterator[Diagnostic]:
    for name, value in request.environment.variables.items():
        if not _VARIABLE.fullmatch(name):
            yield _bad_text("cluster.environment.variables", name)
        if name in THREAD_VARIABLES:
            yield Diagnostic(
                f"cluster.environment.variables.{name}={value!r}: hpcml sets it to the threads per worker",
                "use cluster.threads",
                OWN_RULE,
            )
        if not value.isprintable():
            yield _bad_text(f"cluster.environment.variables.{name}", value)


def _environment_is_absolute(request: Request) -> Iterator[Diagnostic]:
    paths = {"venv": request.environment.venv, "script": request.environment.script}
    for key, path in paths.items():
        if path is not None and not (path.startswith("/") and path.isprintable()):
            yield Diagnostic(
                f"cluster.environment.{key}={path!r}: must be an absolute path, since jobs start elsewhere",
                f"use cluster.environment.{key}={shlex.quote(str(Path(request.places.work) / _printable(path)))}",
                OWN_RULE,
            )


def _paths_are_plain(request: Request) -> Iterator[Diagnostic]:
    places = request.places
    if not _LOG_PATH.fullmatch(places.scratch):
        yield Diagnostic(
            f"scratch={places.scratch!r}: the scheduler writes logs there and cannot parse such a path",
            "use a path of letters, digits and . _ + = @ ~ -",
            OWN_RULE,
        )
    for what, path in {"the working directory": places.work, "the interpreter": places.python}.items():
        if not path.isprintable():
            yield Diagnostic(f"{what} {path!r} has unprintable characters", "use another", OWN_RULE)


def _extra_directives_are_valid(request: Request) -> Iterator[Diagnostic]:
    kind = SCHEDULERS[request.scheduler]
    mark, rejected, taken = kind.directive_prefix, kind.rejected_directives, kind.taken_directives(request.site)
    for text in request.worker.extra:
        names = directive_names(text)
        key = f"cluster.extra_directives: {text!r}"
        if not names or not text.isprintable():
            yield Diagnostic(f"{key}: not a directive", f"write it as after {mark}, for example '-m ae'", OWN_RULE)
        for name in names:
            if name in rejected:
                yield Diagnostic(f"{key}: would make it {rejected[name]}", "leave it out", OWN_RULE)
            elif (meant := _meant(name, taken)) is not None:
                where = taken[meant]
                yield Diagnostic(
                    f"{key}: {meant} is already set", f"use {where}" if where else "leave it out", OWN_RULE
                )
            taken.setdefault(name, "")


def _meant(name: str, taken: Mapping[str, str]) -> str | None:
    """Return the directive that a new one would repeat; Slurm accepts prefixes."""
    if name in taken:
        return name
    return next((other for other in taken if name.startswith("--") and other.startswith(name)), None)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _bad_text(key: str, value: str, remedy: str = "use letters, digits and . _ - only") -> Diagnostic:
    return Diagnostic(f"{key}={value!r}: not allowed in a job script", remedy, OWN_RULE)


def _site_is_plain(request: Request) -> Iterator[Diagnostic]:
    """Check the text that a site file adds to scripts."""
    site = request.site
    for text in site.directives:
        names = directive_names(text)
        ours = {*itertools.chain.from_iterable(kind.own_directives for kind in SCHEDULERS.values())}
        ours |= set(SCHEDULERS[request.scheduler].rejected_directives)
        if not names or not text.isprintable() or any(name in ours for name in names):
            yield Diagnostic(
                f"site.directives: {text!r}: a site cannot add this directive", "correct the site's file", OWN_RULE
            )
    words = {"interface": site.interface, "storage.directive": site.storage.directive}
    for key, value in words.items():
        if value is not None and not _WORD.fullmatch(value):
            yield _bad_text(f"site.{key}", value)


RULES = (
    _site_is_plain,
    _project_is_plain, _queue_is_plain, _name_is_plain, _storage_is_plain, _modules_are_plain, _variables_are_plain,
    _environment_is_absolute, _paths_are_plain, _extra_directives_are_valid,
)  # fmt: skip
