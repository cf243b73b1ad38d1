"""The interface of the fake OpenPBS for tests."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from .formats import attributes, job_json
from .state import Data, State

_HERE = Path(__file__).parent
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"

# As configured by docker/pbs/configuration.qmgr
NODES = {
    name: {"arch": "linux", "host": name, "jobfs": "10gb", "mem": "6gb", "ncpus": 4, "ngpus": 0, "vnode": name}
    for name in ("node1", "node2")
}
QUEUES: dict[str, Data] = {
    "normal": {"max": {"ncpus": 8, "walltime": "48:00:00"}, "default": {"walltime": "01:00:00"}},
    "express": {"max": {"ncpus": 8, "walltime": "00:05:00"}, "default": {"walltime": "00:05:00"}},
}
GADI_NODES = {
    name: {"arch": "linux", "host": name, "jobfs": "400gb", "mem": "190gb", "ncpus": 48, "vnode": name}
    for name in ("gadi-cpu-clx-0001", "gadi-cpu-clx-0002")
}
GADI_QUEUES: dict[str, Data] = {
    "normal": {"exec": "normal-exec", "max": {"ncpus": 20736, "walltime": "48:00:00"}},
    "express": {"exec": "express-exec", "max": {"ncpus": 3168, "walltime": "24:00:00"}},
}


class PbsDouble:
    """A PBS in one directory: ``with PbsDouble(tmp_path / "pbs") as pbs:``.

    Parameters
    ----------
    directory : Path
        Where it keeps its state; the commands are in ``bin``.
    gadi : bool
        Gadi's dialect: no select, projects, queues with -exec, names of nodes, PBS_JOBFS, the usage block.
    nodes : mapping
        resources_available of each node; sizes are only counted, but cores are not checked against this machine's.
    queues : mapping
        For each: ``max`` and ``default`` resources, ``enabled``, ``started``, ``denied``, ``max_queued``, ``exec``.
    settings
        home
            Where jobs start, $HOME by default.
        kill_delay
            Seconds from SIGTERM to SIGKILL; 10 on a real one.
        node_fail_requeue
            Seconds until a job on a node that is down is queued again; 310 on a real one.
        undelivered_delay
            Seconds that a job waits in E when its output can't be delivered; about 100 on a real one.
        projects
            Those that the hook accepts.
    """

    def __init__(
        self,
        directory: Path,
        *,
        gadi: bool = False,
        nodes: Mapping[str, Mapping[str, Any]] | None = None,
        queues: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self._state = State(directory)
        self._daemon: subprocess.Popen[bytes] | None = None
        nodes = nodes or (GADI_NODES if gadi else NODES)
        now = int(time.time())
        defaults: Data = {
            "server": "gadi-pbs" if gadi else "login",
            "host": "gadi-login-01.gadi.nci.org.au" if gadi else "login",
            "default_queue": "normal",
            "gadi": gadi,
            "cores_per_node": 48,
            "projects": ["ab12"],
            "user": getpass.getuser(),
            "home": os.environ["HOME"],
            "shell": "/bin/bash",
            "path": f"{self.bin}:{_PATH}",
            "kill_delay": 2.0,
            "update_delay": 0.5,
            "undelivered_delay": 2.0,
            "node_fail_requeue": 310.0,
            "poll": 0.1,
            "look": 0.3,
            "max_queued_of": "generic",
            "down": False,
            "nodes_down": [],
            "slow": {},
            "garble": None,
        }
        if unknown := settings.keys() - defaults.keys():
            raise TypeError(f"the double has no {', '.join(sorted(unknown))}")
        self._data: Data = {
            "settings": {**defaults, **settings},
            "next": 0,
            "jobs": {},
            "nodes": {name: {"available": dict(has), "changed": now} for name, has in nodes.items()},
            "queues": {name: dict(queue) for name, queue in (queues or (GADI_QUEUES if gadi else QUEUES)).items()},
        }

    # --- use ---

    @property
    def bin(self) -> Path:
        """Directory of qsub, qstat, qdel and pbsnodes, for PATH."""
        return self.directory / "bin"

    @property
    def env(self) -> dict[str, str]:
        """Environment for a subprocess that uses the fake."""
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "PBS_DOUBLE": str(self.directory)}

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command with the fake on its PATH."""
        chosen: dict[str, Any] = {"env": self.env, "capture_output": True, "timeout": 60, "check": False, **options}
        return subprocess.run(words, **chosen)  # noqa: PLW1510  (check is among them)

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job from ``qstat -x -f -F json``, ignoring faults; empty if unknown."""
        full = job_id if "." in job_id else f"{job_id}.{self._data['settings']['server']}"
        found = self._state.read()["jobs"].get(full)
        return job_json(attributes(found)) if found else {}

    def wait(self, job_id: str, *states: str, timeout: float = 60) -> dict[str, Any]:
        """Wait until a job is in one of several states (default: F), and return it."""
        deadline = time.monotonic() + timeout
        while (job := self.job(job_id)).get("job_state") not in (states or ("F",)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is still {job.get('job_state')}: {job.get('comment')}")
            time.sleep(0.05)
        return job

    # --- faults ---

    def change(self, **settings: Any) -> None:
        """Change settings while the server runs."""
        with self._state.changed() as data:
            if unknown := settings.keys() - data["settings"].keys():
                raise TypeError(f"the double has no {', '.join(sorted(unknown))}")
            data["settings"].update(settings)

    def server_down(self, down: bool = True) -> None:
        """Make the server unreachable. Running jobs continue, and no others start."""
        self.change(down=down)

    def node_down(self, *names: str) -> None:
        """Switch off exactly these nodes. Their jobs die, but show R until node_fail_requeue."""
        self.change(nodes_down=list(names))

    def slow(self, **seconds: float) -> None:
        """Delay commands: ``slow(qsub=3)``."""
        self.change(slow=seconds)

    def garble(self, how: str | None) -> None:
        """Corrupt qstat and pbsnodes: "cut" truncates, "latin1" adds a variable; None stops."""
        assert how in (None, "cut", "latin1")
        self.change(garble=how)

    def change_queue(self, name: str, **settings: Any) -> None:
        """Change a queue: ``change_queue("express", enabled=False)``."""
        with self._state.changed() as data:
            data["queues"][name].update(settings)

    # --- start and stop ---

    def __enter__(self) -> Self:
        self._state.create(self._data)
        for name in ("qsub", "qstat", "qdel", "pbsnodes"):
            command = self.bin / name
            command.write_text(self._command(name))
            command.chmod(0o755)
        with self._log.open("wb") as log:
            code = f"import sys; sys.path.insert(0, {str(_HERE.parent)!r}); from double.server import main; main()"
            self._daemon = subprocess.Popen(
                [sys.executable, "-I", "-X", "utf8", "-c", code, str(self.directory)],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._state.path("ready").exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the double's daemon did not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        died = self.stop()
        if died is not None and kind is None:
            raise RuntimeError(f"the double's daemon died with {died}:\n{self._log.read_text()}")

    def stop(self) -> int | None:
        """Stop the server and its processes, and return the daemon's exit code if it had died."""
        daemon, self._daemon = self._daemon, None
        died = None
        self._state.path("ready").unlink(missing_ok=True)  # for waiting qsub processes
        if daemon is not None:
            died = daemon.poll()
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        _end_all(f"PBS_NODEFILE={self.directory / 'aux'}{os.sep}".encode())
        return died

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _command(self, name: str) -> str:
        """Write a command that knows its state (jobs lack PBS_DOUBLE) and needs no packages."""
        code = f"import sys; sys.path.insert(0, {str(_HERE.parent)!r}); from double.commands import main; main()"
        python = shlex.join([sys.executable, "-I", "-S", "-X", "utf8", "-c", code, name])
        known = f'PBS_DOUBLE="${{PBS_DOUBLE:-{self.directory}}}"; export PBS_DOUBLE'
        return f'#!/bin/sh\n{known}\nexec {python} "$@"\n'


def _end_all(mark: bytes) -> None:
    """Kill processes that jobs have left in other sessions, found by their environment."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if any(f"{name}={value}".encode(errors="surrogateescape").startswith(mark)
                   for name, value in environment.items()):  # fmt: skip
                process.kill()
        except psutil.Error:
            continue
