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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from hpcml import __version__
from hpcml.files import write_json
from hpcml.runs import RunPaths, read_json

State = Literal["DONE", "FAILED", "CANCELLED"]


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


def write_manifest(paths: RunPaths, started: float, origin: Mapping[str, Any]) -> None:
    """Write manifest.json: enough to know later what ran, where, and from which code.

    Parameters
    ----------
    started : float
        Seconds since the epoch.
    origin : mapping
        ``argv``, ``overrides``, ``choices`` and ``git`` (see :func:`git_state`).
    """
    write_json(
        paths.manifest,
        {
            "run": paths.run_id,
            **origin,
            "cwd": str(Path.cwd()),
            "started": started,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
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

    The state is the record's. Without one it is RUNNING when this host still has the run's process, LOST when it has
    not (killed before it could write a record), and UNKNOWN when the run is another host's.
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
        "host": manifest.get("host"),
        "user": manifest.get("user"),
        "git": manifest.get("git"),
        "path": str(paths.root),
    }


def _program(manifest: Mapping[str, Any]) -> str:
    return Path((manifest.get("argv") or ["unknown"])[0]).name


def _guess(manifest: Mapping[str, Any]) -> str:
    if not manifest or manifest.get("host") != socket.gethostname():
        return "UNKNOWN"
    try:
        # the start time tells the run's process from a later one that got its number; the clock may be corrected by a
        # little in between
        same = abs(psutil.Process(manifest["pid"]).create_time() - manifest["process_started"]) < 2
    except psutil.Error:
        same = False
    return "RUNNING" if same else "LOST"
