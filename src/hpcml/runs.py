"""Create and find run directories. Uses the standard library only, to keep `hpcml list` fast."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcml.errors import ConfigError, ScratchError, nearest

# Environment variable of a head job with the run directory that `hpcml submit` has created.
RUN_VARIABLE = "HPCML_RUN"

_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")

# Upper bound of the files of a run besides its results (config, manifest, log, record), in bytes.
_MIN_FREE = 1024**2


@dataclass(frozen=True)
class RunPaths:
    """Paths of all files in a run directory. No other module defines their names."""

    root: Path

    @property
    def run_id(self) -> str:
        return self.root.name

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def log(self) -> Path:
        return self.root / "hpcml.log"

    @property
    def laid_out(self) -> Path:
        """The data that workers map, until the run ends."""
        return self.root / "data"

    @property
    def worker_logs(self) -> Path:
        return self.root / "workers"

    def worker_log(self, worker: str) -> Path:
        return self.worker_logs / f"worker-{worker}.log"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def orders(self) -> Path:
        return self.root / "orders.json"

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def job_script(self, job: str) -> Path:
        return self.jobs / f"{job}.sh"

    def job_log(self, job: str) -> Path:
        return self.jobs / f"{job}.log"

    def job_failure(self, job: str) -> Path:
        """Return the file in which a failed job reports its node, exit code and last output."""
        return self.jobs / f"{job}.failed"

    @property
    def environment(self) -> Path:
        return self.root / "env.sh"

    @property
    def arguments(self) -> Path:
        return self.root / "arguments"

    @property
    def head_log(self) -> Path:
        return self.root / "head.log"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    def table(self, name: str, suffix: str) -> Path:
        return self.tables / f"{name}.{suffix}"

    def parts(self, name: str) -> Path:
        return self.tables / name

    def figure(self, name: str) -> Path:
        return self.root / "figures" / f"{name}.png"

    def model(self, model_format: str) -> Path:
        return self.root / f"model.{model_format}"

    @property
    def features(self) -> Path:
        return self.root / "features.json"

    @property
    def record(self) -> Path:
        return self.root / "record.json"


def scratch_root(scratch: str | os.PathLike[str] | None, default: str | None = None) -> Path:
    """Return the parent of run directories.

    It is the argument, else ``$HPCML_SCRATCH``, ``$SCRATCH``, the site's default, or ``./runs``.
    """
    chosen = scratch or os.environ.get("HPCML_SCRATCH") or os.environ.get("SCRATCH") or default or "runs"
    return Path.cwd() / Path(chosen).expanduser()


def check_root(scratch: str | os.PathLike[str] | None) -> None:
    """Check that run directories can be created in a root, without creating it.

    Raises
    ------
    ScratchError
    """
    root = scratch_root(scratch)
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise _no_root(root, f"{there} is not a writable directory")


def _no_root(root: Path, reason: str | None) -> ScratchError:
    return ScratchError(
        f"scratch={root}: cannot create a run directory: {reason}",
        "name a writable directory: scratch=/path/to/scratch",
    )


def create(scratch: str | os.PathLike[str] | None) -> RunPaths:
    """Create a run directory with mode 0700, and remember its root for `hpcml list`.

    The run id is the local time and 24 random bits. ``mkdir`` fails for an existing directory, so
    two runs never share one.

    Raises
    ------
    ScratchError
        If the directory cannot be created or written, or the file system is full.
    """
    root = scratch_root(scratch)
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            path = root / f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(3)}"
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                break
        path.chmod(0o700)  # A default ACL may have added permissions.
    except OSError as error:
        raise _no_root(root, error.strerror) from error
    paths = RunPaths(path)
    _check_space(paths)
    _remember(root)
    return paths


def adopt(directory: str) -> RunPaths:
    """Return the run directory that `hpcml submit` has created; a run can start only once.

    Raises
    ------
    ConfigError
        If it is not such a directory, or its run has started.
    """
    paths = RunPaths(Path(directory))
    manifest = read_json(paths.manifest)
    if "submitted" not in manifest or "pid" in manifest or paths.record.exists():
        reason = "that run has already started" if manifest else "not a submitted run"
        raise ConfigError(f"{RUN_VARIABLE}={directory}: {reason}", "outside head jobs, unset the variable")
    return paths


def _check_space(paths: RunPaths) -> None:
    """Write and sync a megabyte, which reveals exceeded quotas and full disks."""
    probe = paths.root / ".probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_MIN_FREE))
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
            paths.root.rmdir()
        raise ScratchError(
            f"scratch={paths.root.parent}: cannot write 1MB there: {error.strerror}",
            "free some space or quota, or name another directory: scratch=/path/to/scratch",
        ) from error


def _index() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "hpcml" / "roots"


def _remember(root: Path) -> None:
    """Add a root to the user's index; errors are ignored, since only `hpcml list` needs it."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the home directory is unknown
        index = _index()
        if str(root) not in _indexed():
            index.parent.mkdir(parents=True, exist_ok=True)
            with index.open("a", encoding="utf-8") as file:  # A short append is atomic.
                file.write(f"{root}\n")


def _indexed() -> list[str]:
    try:
        return _index().read_text(encoding="utf-8").splitlines()
    except (OSError, RuntimeError):
        return []


def roots(scratch: str | None = None) -> list[Path]:
    """Return the roots to search: the argument, else ``$HPCML_SCRATCH``, else all known."""
    given = scratch or os.environ.get("HPCML_SCRATCH")
    if given and not scratch_root(given).is_dir():
        raise ConfigError(f"{scratch_root(given)}: no such directory")
    found = [scratch_root(given)] if given else [Path(line) for line in _indexed()]
    return list(dict.fromkeys(path for path in found if path.is_dir()))


def find_all(places: Sequence[Path]) -> Iterator[RunPaths]:
    """Return the runs below some roots, oldest first."""
    found = []
    for place in places:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            found += [RunPaths(Path(entry.path)) for entry in entries if _RUN_ID.fullmatch(entry.name)]
    return iter(sorted(found, key=lambda paths: paths.run_id))


def find(run: str, scratch: str | None = None) -> RunPaths:
    """Return a run by its id, an unambiguous part of it, its directory, or ``last``.

    Raises
    ------
    ConfigError
        If no run or several runs match.
    """
    if os.sep in run and (Path(run) / RunPaths(Path()).manifest.name).is_file():
        return RunPaths(Path(run).resolve())
    places = roots(scratch)
    known = list(find_all(places))
    if run == "last" and known:
        return known[-1]
    matches = [paths for paths in known if run in paths.run_id]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"run {run}: {len(matches)} runs match", ", ".join(_latest_ids(matches)))
    raise ConfigError(
        f"run {run}: no such run",
        nearest(run, _latest_ids(known)),
        "searched: " + (", ".join(map(str, places)) or "nothing, since there are no runs yet"),
        "to search elsewhere: --scratch DIR",
    )


def _latest_ids(found: Sequence[RunPaths]) -> list[str]:
    return [paths.run_id for paths in found[-5:]]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a run directory; return an empty dict if it is missing or invalid."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
