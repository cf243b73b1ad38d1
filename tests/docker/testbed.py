"""Start, use and stop the testbeds of docker/."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent.parent
HOSTS = ("login", "node1", "node2")
NODES = HOSTS[1:]
BASE = "debian:bookworm-slim"
# Copied before a test's own HOME hides the user's Docker contexts and plugins.
ENVIRONMENT = dict(os.environ)
# For development: HPCML_TESTBEDS=keep leaves the testbeds running and reuses them.
KEEP = ENVIRONMENT.get("HPCML_TESTBEDS") == "keep"


def docker(
    *arguments: str, timeout: float = 120, check: bool = True, data: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a docker command on this machine."""
    done = subprocess.run(
        ["docker", *arguments],
        env=ENVIRONMENT,
        input=data or b"",  # never read the terminal
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0 or not check, f"docker {arguments} gave {done.returncode}: {_text(done)}"
    return done


@functools.cache
def compose_command() -> str | None:
    """Return the command of Docker Compose on this machine, or None."""
    if docker("compose", "version", check=False).returncode == 0:
        return "docker compose"
    return shutil.which("docker-compose")


@functools.cache
def missing(scheduler: str) -> str | None:
    """Return the missing requirements of a testbed and how to install them, or None."""
    try:
        import pytest_docker  # noqa: F401
    except ModuleNotFoundError:
        return "no containers to test in, for want of pytest-docker: pip install pytest-docker"
    get = "on Debian, root gets all of it by .ci/engine"
    if shutil.which("docker") is None:
        return f"no containers to test in, for want of the command docker; {get}"
    if (answer := docker("version", check=False)).returncode != 0:
        return f"no containers to test in, for no engine answers ({_text(answer).splitlines()[-1]}); {get}"
    if compose_command() is None:
        return f"no containers to test in, for want of docker compose; {get}"
    if scheduler == "slurm":
        return None if _at_hand(BASE) else f"no Slurm to test with: {BASE} is not here and cannot be pulled; {get}"
    image = ENVIRONMENT.get("HPCML_OPENPBS_IMAGE")
    if image:
        return None if _at_hand(image) else f"no OpenPBS to test with: HPCML_OPENPBS_IMAGE={image} cannot be had"
    packages = [
        path for ending in ("deb", "rpm", "zip") for path in (ROOT / "docker/pbs/packages").rglob(f"*.{ending}")
    ]
    if not packages and not ENVIRONMENT.get("HPCML_OPENPBS_URL"):
        return (
            "no OpenPBS to test with: name an image that has one in /opt/pbs, HPCML_OPENPBS_IMAGE=..., or put its "
            "released packages into docker/pbs/packages; docker/README.md says more"
        )
    return None


class Testbed:
    """Running containers: a login host with the scheduler's daemons, and two nodes.

    All of them share /home and /scratch.

    Attributes
    ----------
    scheduler
        "slurm" or "pbs".
    project
        Its Compose project; its network is the project's `default`.
    containers
        The container id of each host.
    """

    __test__ = False  # not a test class, despite its name
    user = "hpcuser"
    home = PurePosixPath("/home/hpcuser")
    scratch = PurePosixPath("/scratch/hpcuser")

    def __init__(self, scheduler: str, project: str, containers: Mapping[str, str]) -> None:
        self.scheduler = scheduler
        self.project = project
        self.containers = dict(containers)
        self._addresses: dict[str, str] = {}

    def command(
        self,
        *command: str,
        host: str = "login",
        user: str | None = None,
        cwd: PurePosixPath | str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Return the docker arguments that run a command in a login shell of the user.

        A signal to that docker process does not reach the command; stop it by its process id in the
        container.
        """
        name = user or self.user
        variables = {"USER": name, "LOGNAME": name, "LANG": "C.UTF-8", **(env or {})}
        settings = [f"--env={key}={value}" for key, value in variables.items()]
        where = str(cwd or (self.home if name == self.user else "/"))
        shell = ["bash", "-lc", 'exec "$@"', "bash", *command]
        return [
            "exec",
            "--interactive",
            f"--user={name}",
            f"--workdir={where}",
            *settings,
            self.containers[host],
            *shell,
        ]

    def run(
        self,
        *command: str,
        timeout: float = 120,
        check: bool = True,
        data: bytes | None = None,
        host: str = "login",
        user: str | None = None,
        cwd: PurePosixPath | str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the ordinary user on the login host, by default in the user's home."""
        arguments = self.command(*command, host=host, user=user, cwd=cwd, env=env)
        done = docker(*arguments, timeout=timeout, check=False, data=data)
        said = subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        assert said.returncode == 0 or not check, f"{command} gave {said.returncode}: {said.stdout}{said.stderr}"
        return said

    def make_directory(self) -> PurePosixPath:
        """Make a new directory on the shared scratch, owned by the user."""
        return PurePosixPath(self.run("mktemp", "-d", "-p", str(self.scratch)).stdout.strip())

    def write(self, path: PurePosixPath, text: str) -> None:
        """Write a file that the user owns."""
        self.run("sh", "-c", 'cat > "$1"', "sh", str(path), data=text.encode())

    def read(self, path: PurePosixPath) -> str:
        """Read a file that the user may read."""
        return self.run("cat", str(path)).stdout

    def put(self, source: Path, directory: PurePosixPath) -> None:
        """Copy a file or directory of this machine into a directory of the testbed.

        The user owns the copy.
        """
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=source.name)
        self.run("tar", "-xf", "-", "--no-same-owner", cwd=directory, data=packed.getvalue())

    def get(self, source: PurePosixPath, directory: Path) -> Path:
        """Copy a file or directory of the testbed into a directory of this machine."""
        packed = docker(*self.command("tar", "-cf", "-", source.name, cwd=source.parent)).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(directory, filter="data")
        return directory / source.name

    def qsub(self, directory: PurePosixPath, *lines: str, options: tuple[str, ...] = ()) -> str:
        """Submit a script of these lines from a directory; return the job's id."""
        self.write(directory / "job.sh", "\n".join(["#!/bin/bash", *lines, ""]))
        return self.run("qsub", *options, "job.sh", cwd=directory).stdout.strip()

    def qstat(self, job: str) -> dict[str, str]:
        """Return qstat's fields of a job, finished or not; empty for an unknown id."""
        history = ["-x"] if self.scheduler == "pbs" else []
        said = self.run("qstat", *history, "-f", job, check=False).stdout
        # OpenPBS breaks lines and starts each continuation with a tab; Slurm starts every line with
        # one.
        unbroken = said.replace("\n\t", "") if self.scheduler == "pbs" else said
        return dict(re.findall(r"^\s+(\S+) = (.*)$", unbroken, flags=re.MULTILINE))

    def jobs(self) -> list[str]:
        """Return the ids of all jobs that are queued, running or completing."""
        if self.scheduler == "slurm":
            return self.run("squeue", "--noheader", "--format=%i").stdout.split()
        return re.findall(r"^(\d+\S*)", self.run("qstat").stdout, flags=re.MULTILINE)

    def finished(self, job: str, seconds: float = 120) -> dict[str, str]:
        """Wait until a job has ended; return qstat's fields of it."""
        self.wait_for(lambda: self.qstat(job).get("job_state") in ("C", "F"), f"the end of job {job}", seconds)
        return self.qstat(job)

    def ready(self) -> bool:
        """Return whether the scheduler and both nodes answer."""
        return self.run("testbed", "ready", user="root", check=False).returncode == 0

    def stop_controller(self) -> None:
        """Stop the scheduler's daemons; jobs keep running."""
        self.run("testbed", "stop", user="root")

    def start_controller(self) -> None:
        """Start the scheduler's daemons; return when both nodes answer."""
        self.run("testbed", "start", user="root")
        self.wait_for(self.ready, "the scheduler")

    def kill_node(self, name: str) -> None:
        """Kill a node and all its processes, as a power loss would."""
        self._addresses[name] = self.address(name)
        docker("kill", self.containers[name])

    def start_node(self, name: str) -> None:
        """Start a node that was killed; return when both answer."""
        docker("start", self.containers[name])
        # Docker assigns a free address; OpenPBS would not recognize the node by another.
        assert self.address(name) == self._addresses[name], f"{name}'s address went to another container meanwhile"
        self.wait_for(self.ready, name)

    def address(self, host: str) -> str:
        """Return a host's address on the testbed's network."""
        form = "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", form, self.containers[host]).stdout.decode().strip()

    def logs(self, lines: int = 60) -> str:
        """Return the last lines of all hosts' logs."""
        ends = []
        for host, container in self.containers.items():
            done = docker("logs", f"--tail={lines}", container, check=False)
            ends.append(f"--- {host}\n{_text(done)}")
        return "\n".join(ends)

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 120) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.3)


@contextlib.contextmanager
def up(scheduler: str) -> Iterator[Testbed]:
    """Build and start a testbed; yield it when both nodes answer, and remove all but its image."""
    from pytest_docker.plugin import get_docker_services

    file = ROOT / "docker" / scheduler / "compose.yaml"
    project = f"hpcml-{scheduler}" if KEEP else f"hpcml-{scheduler}-{os.getpid()}"
    compose = compose_command()
    assert compose is not None
    words = [*compose.split(), "-f", str(file), "-p", project]
    down = "down -v --timeout 1"
    subprocess.run([sys.executable, ROOT / "docker/prepare.py"], env=ENVIRONMENT, check=True)
    try:
        # docker-compose 1.29 of Debian 12 does not support up --wait.
        with get_docker_services(compose, str(file), project, ["build", "up -d"], []):
            # With --all, since the log of a daemon that did not start has the reason.
            listing = {host: _words([*words, "ps", *_all(compose), "-q", host]) for host in HOSTS}
            testbed = Testbed(scheduler, project, {host: ids[0] for host, ids in listing.items()})
            try:
                testbed.wait_for(testbed.ready, "both nodes", seconds=180)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{testbed.logs()}") from None
            yield testbed
    finally:
        if not KEEP:
            subprocess.run([*words, *down.split()], env=ENVIRONMENT, capture_output=True, check=True)


def _all(compose: str) -> list[str]:
    # docker-compose 1.29 lists stopped containers with -q anyway.
    return ["--all"] if compose == "docker compose" else []


def _words(command: list[str]) -> list[str]:
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout.split()


def _at_hand(image: str) -> bool:
    if docker("image", "inspect", image, check=False).returncode == 0:
        return True
    return docker("pull", "--quiet", image, check=False, timeout=600).returncode == 0


def _text(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode(errors="replace").strip()
