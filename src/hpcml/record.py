"""Manifest and record: the inputs of a run, and its result."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import psutil

from hpcml import __version__
from hpcml.errors import Cancelled, HpcmlError, Interrupted
from hpcml.files import write_json
from hpcml.fingerprints import fingerprints, own_modules
from hpcml.runs import RunPaths, read_json

State = Literal["DONE", "FAILED", "CANCELLED", "INTERRUPTED"]


@dataclass(frozen=True)
class Record:
    """Result of a run. It is written last, so its presence means that the run has ended.

    Parameters
    ----------
    path : str
        Run directory.
    started, ended : float
        Seconds since the epoch.
    wall_s : float
        Seconds from start to end.
    core_s_allocated : float
        Workers x threads x seconds from the cluster's start to its end.
    core_s_busy : float
        Seconds that worker threads spent in tasks, summed over the threads.
    tasks : mapping of str to int
        Number of tasks done by each worker, by name; empty for an attached cluster.
    jobs : sequence of mappings
        For each worker job its id, nodes, duration, number of workers and tasks, and exit reason.
    peak_memory : mapping of str to int
        Peak resident memory in bytes of the head and of each worker that was there at the end.
    """

    run: str
    path: str
    state: State
    exit_code: int
    error: str | None
    started: float
    ended: float
    wall_s: float
    workers: int
    threads: int
    core_s_allocated: float
    core_s_busy: float
    units_done: int
    units_total: int
    tasks: Mapping[str, int]
    jobs: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    summary: Mapping[str, str]
    warnings: Sequence[str]
    peak_memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def efficiency(self) -> float | None:
        """Busy share of the allocated core time, 0 to 1; None if no cluster started."""
        return self.core_s_busy / self.core_s_allocated if self.core_s_allocated else None

    def write(self, paths: RunPaths) -> None:
        """Write record.json."""
        write_json(paths.record, asdict(self))


@dataclass(frozen=True)
class Origin:
    """Origin of a spec, for the manifest.

    Parameters
    ----------
    config : mapping or None
        Resolved config; None to describe the spec's objects.
    choices : mapping
        Selected option of each config group.
    """

    argv: Sequence[str] = field(default_factory=lambda: sys.argv)
    overrides: Sequence[str] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None


def from_json(found: Mapping[str, Any]) -> Record:
    """Build a record from the content of record.json."""
    return Record(**{each.name: found[each.name] for each in fields(Record) if each.name in found})


@dataclass(frozen=True)
class End:
    """State, exit code and error of a run that did not succeed."""

    state: State
    exit_code: int
    text: str


def end_of(error: BaseException) -> End:
    """Return how a record describes the error that ended a run."""
    if isinstance(error, HpcmlError):
        return End("FAILED", error.exit_code, str(error))
    if isinstance(error, Interrupted):
        return End("INTERRUPTED", error.exit_code, "stopped before the walltime of the head job ended")
    if isinstance(error, Cancelled):
        return End("CANCELLED", error.exit_code, f"cancelled by {error}")
    if isinstance(error, KeyboardInterrupt):
        return End("CANCELLED", 128 + signal.SIGINT, "cancelled by SIGINT")
    return End("FAILED", 1, f"{type(error).__name__}: {error}".removesuffix(": "))


def not_started(paths: RunPaths, started: float, end: End) -> Record:
    """Return the record of a run with a head that never started."""
    return Record(
        run=paths.run_id,
        path=str(paths.root),
        state=end.state,
        exit_code=end.exit_code,
        error=end.text,
        started=started,
        ended=time.time(),
        wall_s=time.time() - started,
        workers=0,
        threads=0,
        core_s_allocated=0.0,
        core_s_busy=0.0,
        units_done=0,
        units_total=0,
        tasks={},
        jobs=[],
        metrics={},
        summary={},
        warnings=[],
    )


def write_manifest(paths: RunPaths, started: float, origin: Origin, git: Any, begun: bool = True) -> None:
    """Write manifest.json, which documents what ran, where, and from which code.

    Parameters
    ----------
    started : float
        Seconds since the epoch.
    git : dict or None
        Result of :func:`git_state`.
    begun : bool
        False for a submitted run; its head writes the manifest again when it starts.
    """
    submitted = read_json(paths.manifest).get("submitted")
    here = {"host": socket.gethostname(), "time": started}
    process = {"pid": os.getpid(), "process_started": psutil.Process().create_time()}
    write_json(
        paths.manifest,
        {
            "run": paths.run_id,
            "argv": origin.argv,
            "overrides": origin.overrides,
            "choices": origin.choices,
            "git": git,
            "cwd": str(Path.cwd()),
            "started": started,
            "host": here["host"],
            **({"submitted": here} if not begun else process | ({"submitted": submitted} if submitted else {})),
            "user": _user(),
            "hpcml": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
            "packages": {
                dist.name: dist.version
                for dist in sorted(importlib.metadata.distributions(), key=lambda d: str(d.name).lower())
                if dist.name
            },
        },
    )


def note_files(paths: RunPaths, data: Sequence[str]) -> None:
    """Add fingerprints of the data's files and of the user's own modules to the manifest.

    Parameters
    ----------
    data : sequence of str
        Paths, directories and patterns.
    """
    manifest = read_json(paths.manifest)
    manifest["data"] = [asdict(file) for file in fingerprints(data)]
    manifest["modules"] = [asdict(file) for file in fingerprints(own_modules())]
    write_json(paths.manifest, manifest)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # Many containers have no entry in the password file.
        return str(os.getuid())


def git_state(directory: Path) -> dict[str, Any] | None:
    """Return commit and dirty flag of the repository of a directory; None outside a repository.

    The flag is None if ``git status`` takes too long, as it may on a parallel file system.
    """

    def git(*args: str) -> str | None:
        command = ["git", "-C", str(directory), *args]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        return None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = git("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


@dataclass(frozen=True)
class RunSummary:
    """A run as ``hpcml list`` and ``hpcml status`` show it.

    Parameters
    ----------
    state : str
        That of the record. Without a record: SUBMITTED if no head has started, RUNNING if the run's
        process exists on this host, LOST if it does not (killed before it could write a record),
        and UNKNOWN if the run belongs to another host.
    what : str
        The experiment, the options, or the program that started it.
    started : float or None
        In seconds since the epoch.
    wall_s : float or None
        In seconds.
    core_s_allocated, core_s_busy : float or None
        In core-seconds.
    head_job, note : str or None
        The id of the head job, and a remark on it; see :func:`hpcml.heads.look_up`.
    """

    run: str
    state: str
    what: str
    started: float | None
    wall_s: float | None
    units_done: int | None
    units_total: int | None
    workers: int | None
    threads: int | None
    core_s_allocated: float | None
    core_s_busy: float | None
    metrics: Mapping[str, Any]
    summary: Mapping[str, str]
    error: str | None
    warnings: Sequence[str]
    exit_code: int | None
    head_job: str | None
    note: str | None
    host: str | None
    user: str | None
    git: Any
    path: str


def summarise(paths: RunPaths) -> RunSummary:
    """Summarise a run, whatever its state, from the files of its run directory."""
    manifest, record = read_json(paths.manifest), read_json(paths.record)
    progress = read_json(paths.progress)
    state = record.get("state") or _guess(manifest)
    started = manifest.get("started")
    ended = record.get("ended") or (time.time() if state == "RUNNING" else progress.get("time"))
    return RunSummary(
        run=paths.run_id,
        state=state,
        what=_what(manifest),
        started=started,
        wall_s=ended - started if started and ended else None,
        units_done=record.get("units_done", progress.get("done")),
        units_total=record.get("units_total", progress.get("total")),
        workers=record.get("workers", progress.get("workers")),
        threads=record.get("threads"),
        core_s_allocated=record.get("core_s_allocated"),
        core_s_busy=record.get("core_s_busy"),
        metrics=record.get("metrics") or {},
        summary=record.get("summary") or {},
        error=record.get("error"),
        warnings=record.get("warnings") or [],
        exit_code=record.get("exit_code"),
        head_job=None,
        note=None,
        host=manifest.get("host"),
        user=manifest.get("user"),
        git=manifest.get("git"),
        path=str(paths.root),
    )


def _what(manifest: Mapping[str, Any]) -> str:
    """Return the experiment, else the chosen options, else the program that started the run."""
    choices = manifest.get("choices") or {}
    chosen = choices.get("experiment") or " ".join(str(choice) for choice in choices.values() if choice)
    return str(chosen) or Path((manifest.get("argv") or ["unknown"])[0]).name


def _guess(manifest: Mapping[str, Any]) -> str:
    if manifest and "pid" not in manifest:
        return "SUBMITTED"
    if not manifest or manifest.get("host") != socket.gethostname():
        return "UNKNOWN"
    try:
        # The start time distinguishes the run's process from a later one with the same id; the
        # tolerance allows for corrections of the clock.
        same = abs(psutil.Process(manifest["pid"]).create_time() - manifest["process_started"]) < 2
    except psutil.Error:
        same = False
    return "RUNNING" if same else "LOST"
