"""The double as a test uses it."""

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

# The testbed of OpenPBS: docs and docker/pbs have the same
NODES = {
    "pbs1": {"arch": "linux", "host": "pbs1", "jobfs": "10gb", "mem": "6gb", "ncpus": 4, "ngpus": 0, "vnode": "pbs1"},
    "pbs2": {"arch": "linux", "host": "pbs2", "jobfs": "10gb", "mem": "6gb", "ncpus": 4, "vnode": "pbs2"},
}
QUEUES: dict[str, Data] = {
    "workq": {},
    "normal": {"max": {"ncpus": 8, "walltime": "48:00:00"}, "default": {"walltime": "01:00:00"}},
    "express": {"max": {"walltime": "00:05:00"}},
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
    """A PBS in one directory, which ends with it. To be used by ``with PbsDouble(tmp_path / "pbs") as pbs:``.

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
            Those that Gadi's hook lets in.
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
            "server": "gadi-pbs" if gadi else next(iter(nodes)),
            "host": "gadi-login-01.gadi.nci.org.au" if gadi else next(iter(nodes)),
            "default_queue": "normal" if gadi else "workq",
            "gadi": gadi,
            "cores_per_node": 48,
            "projects": ["ab12"],
            "user": getpass.getuser(),
            "home": os.environ["HOME"],
            "shell": "/bin/sh",
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

    # --- using it ---

    @property
    def bin(self) -> Path:
        """The directory of qsub, qstat, qdel and pbsnodes, to be put on a PATH."""
        return self.directory / "bin"

    @property
    def env(self) -> dict[str, str]:
        """This process's environment with the double in it, for a subprocess."""
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "PBS_DOUBLE": str(self.directory)}

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command with the double on its PATH."""
        chosen: dict[str, Any] = {"env": self.env, "capture_output": True, "timeout": 60, "check": False, **options}
        return subprocess.run(words, **chosen)  # noqa: PLW1510  (check is among them)

    def job(self, job_id: str) -> dict[str, Any]:
        """Give what ``qstat -x -f -F json`` says of a job, whatever the faults; empty if there is none."""
        full = job_id if "." in job_id else f"{job_id}.{self._data['settings']['server']}"
        found = self._state.read()["jobs"].get(full)
        return job_json(attributes(found)) if found else {}

    def wait(self, job_id: str, *states: str, timeout: float = 60) -> dict[str, Any]:
        """Wait until a job is in one of some states, F if none are named; give what it says of the job."""
        deadline = time.monotonic() + timeout
        while (job := self.job(job_id)).get("job_state") not in (states or ("F",)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is still {job.get('job_state')}: {job.get('comment')}")
            time.sleep(0.05)
        return job

    # --- faults ---

    def change(self, **settings: Any) -> None:
        """Change settings while it runs."""
        with self._state.changed() as data:
            if unknown := settings.keys() - data["settings"].keys():
                raise TypeError(f"the double has no {', '.join(sorted(unknown))}")
            data["settings"].update(settings)

    def server_down(self, down: bool = True) -> None:
        """Let no command reach the server. Jobs run on, but none is started."""
        self.change(down=down)

    def node_down(self, *names: str) -> None:
        """Switch these nodes off, and all others on. Jobs on them die, but show R until node_fail_requeue."""
        self.change(nodes_down=list(names))

    def slow(self, **seconds: float) -> None:
        """Let commands take their time: ``slow(qsub=3)``."""
        self.change(slow=seconds)

    def garble(self, how: str | None) -> None:
        """Spoil what qstat and pbsnodes print: "cut" in the middle, "latin1" a variable; None ends it."""
        assert how in (None, "cut", "latin1")
        self.change(garble=how)

    def change_queue(self, name: str, **settings: Any) -> None:
        """Change a queue: ``change_queue("express", enabled=False)``."""
        with self._state.changed() as data:
            data["queues"][name].update(settings)

    # --- starting and ending ---

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
        """End it and all that it has started; give the daemon's exit code if it had died before."""
        daemon, self._daemon = self._daemon, None
        died = None
        self._state.path("ready").unlink(missing_ok=True)  # for qsub that wait
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
        """Write a command. It knows its own state, as jobs have no PBS_DOUBLE, and is fast, as it needs no packages."""
        code = f"import sys; sys.path.insert(0, {str(_HERE.parent)!r}); from double.commands import main; main()"
        python = shlex.join([sys.executable, "-I", "-S", "-X", "utf8", "-c", code, name])
        known = f'PBS_DOUBLE="${{PBS_DOUBLE:-{self.directory}}}"; export PBS_DOUBLE'
        return f'#!/bin/sh\n{known}\nexec {python} "$@"\n'


def _end_all(mark: bytes) -> None:
    """End what jobs have left behind in other sessions, known by their environment."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if any(f"{name}={value}".encode(errors="surrogateescape").startswith(mark)
                   for name, value in environment.items()):  # fmt: skip
                process.kill()
        except psutil.Error:
            continue
