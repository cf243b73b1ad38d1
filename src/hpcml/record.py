"""Manifest and record: what a run started from, and what became of it."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
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
from hpcml.files import write_json
from hpcml.runs import RunPaths, read_json

State = Literal["DONE", "FAILED", "CANCELLED", "INTERRUPTED"]


@dataclass(frozen=True)
class Record:
    """What became of a run. Written last: its presence says that the run has ended.

    Parameters
    ----------
    path : str
        The run directory.
    started, ended : float
        Seconds since the epoch.
    wall_s : float
        Seconds from start to end.
    core_s_allocated : float
        Workers x threads x seconds from the cluster's start to its end.
    core_s_busy : float
        Seconds that worker threads spent in tasks, summed over the threads.
    tasks : mapping of str to int
        How many tasks each worker has done, by its name; nothing is known of those of an attached cluster.
    jobs : sequence of mappings
        Of each worker job: its id, nodes, seconds, how many workers it brought and tasks they did, how it ended.
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

    @property
    def efficiency(self) -> float | None:
        """Busy share of the allocated core time, 0 to 1; None when no cluster came up."""
        return self.core_s_busy / self.core_s_allocated if self.core_s_allocated else None

    def write(self, paths: RunPaths) -> None:
        """Write record.json."""
        write_json(paths.record, asdict(self))


@dataclass(frozen=True)
class Origin:
    """Where a spec came from; goes into the manifest.

    Parameters
    ----------
    config : mapping or None
        The resolved config; None: described from the spec's objects.
    choices : mapping
        The option chosen of each config group.
    """

    argv: Sequence[str] = field(default_factory=lambda: sys.argv)
    overrides: Sequence[str] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None


def from_json(found: Mapping[str, Any]) -> Record:
    """Make a record of what record.json says."""
    return Record(**{name.name: found[name.name] for name in fields(Record)})


def never_began(paths: RunPaths, started: float, error: str, exit_code: int = 1) -> Record:
    """Make the record of a run whose head job was refused, or whose head was."""
    return Record(
        run=paths.run_id,
        path=str(paths.root),
        state="FAILED",
        exit_code=exit_code,
        error=error,
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
    """Write manifest.json: enough to know later what ran, where, and from which code.

    Parameters
    ----------
    started : float
        Seconds since the epoch.
    git : dict or None
        Of :func:`git_state`.
    begun : bool
        False: the run is submitted, and its head writes the manifest again when it begins.
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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the password file, as in many containers
        return str(os.getuid())


def git_state(directory: Path) -> dict[str, Any] | None:
    """Give commit and dirty flag of the repository around a directory, or None outside of one.

    The flag is None where ``git status`` takes too long, as it may on a parallel file system.
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


def summarise(paths: RunPaths) -> dict[str, Any]:
    """Describe a run for `hpcml list` and `hpcml status`, whatever state it is in.

    The state is the record's. Without one it is SUBMITTED when no head has begun, RUNNING when this host still has the
    run's process, LOST when it has not (killed before it could write a record), and UNKNOWN when the run is another
    host's; :func:`hpcml.heads.look_up` asks the scheduler about those.
    """
    manifest, record = read_json(paths.manifest), read_json(paths.record)
    progress = read_json(paths.progress)
    state = record.get("state") or _guess(manifest)
    started = manifest.get("started")
    ended = record.get("ended") or (time.time() if state == "RUNNING" else progress.get("time"))
    choices = manifest.get("choices") or {}
    return {
        "run": paths.run_id,
        "state": state,
        "what": choices.get("experiment") or " ".join(str(c) for c in choices.values() if c) or _program(manifest),
        "started": started,
        "wall_s": ended - started if started and ended else None,
        "units_done": record.get("units_done", progress.get("done")),
        "units_total": record.get("units_total", progress.get("total")),
        "workers": record.get("workers", progress.get("workers")),
        "threads": record.get("threads"),
        "core_s_allocated": record.get("core_s_allocated"),
        "core_s_busy": record.get("core_s_busy"),
        "metrics": record.get("metrics") or {},
        "summary": record.get("summary") or {},
        "error": record.get("error"),
        "warnings": record.get("warnings") or [],
        "exit_code": record.get("exit_code"),
        "head_job": None,
        "note": None,
        "host": manifest.get("host"),
        "user": manifest.get("user"),
        "git": manifest.get("git"),
        "path": str(paths.root),
    }


def _program(manifest: Mapping[str, Any]) -> str:
    return Path((manifest.get("argv") or ["unknown"])[0]).name


def _guess(manifest: Mapping[str, Any]) -> str:
    if manifest and "pid" not in manifest:
        return "SUBMITTED"
    if not manifest or manifest.get("host") != socket.gethostname():
        return "UNKNOWN"
    try:
        # the start time tells the run's process from a later one that got its number; the clock may be corrected by a
        # little in between
        same = abs(psutil.Process(manifest["pid"]).create_time() - manifest["process_started"]) < 2
    except psutil.Error:
        same = False
    return "RUNNING" if same else "LOST"
