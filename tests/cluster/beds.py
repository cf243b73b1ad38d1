"""The schedulers that the same tests run on: what differs between them, and nothing else."""

from __future__ import annotations

import abc
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.slurm import Slurm

# An estimator that takes its time, and one that takes more memory than a job has: in the user's working directory,
# where workers have to find them.
MINE = """
import os, time
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Slow(ClassifierMixin, BaseEstimator):
    def __init__(self, seconds=0.3, c=0): self.seconds, self.c = seconds, c
    def fit(self, X, y):
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        return self
    def predict(self, X): return np.full(len(X), self.classes_[0])

class Greedy(Slow):
    def fit(self, X, y):
        self.hog = [bytearray(os.urandom(1) * 2**28) for _ in range(64)]
        return super().fit(X, y)
"""


class Bed(abc.ABC):
    """A scheduler, and a user's working directory on it."""

    # what a command says first to hpcml: the site and a request that fits it
    overrides: tuple[str, ...] = ()

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work = name, work
        self.scratch = work / "runs"
        (work / "mine.py").write_text(MINE)

    @abc.abstractmethod
    def command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        """Give a command of the user's as words and environment."""

    @abc.abstractmethod
    def jobs(self) -> list[str]:
        """List the jobs in the queue."""

    @abc.abstractmethod
    def delete(self, job: str) -> None:
        """Take a job out of the queue, as its user would."""

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start hpcml; its output goes to a pipe."""
        command, environment = self.command("hpcml", *args)
        return subprocess.Popen(
            command, cwd=self.work, env={**environment, **(env or {})}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *args: str, timeout: int = 180, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Run hpcml to its end; give exit code and output."""
        process = self.start(*args, env=env)
        try:
            out, _ = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return process.returncode, out

    def submit(self, *args: str, timeout: int = 180) -> tuple[int, str]:
        """Run hpcml with worker jobs to its end."""
        return self.run("run", *self.overrides, f"scratch={self.scratch}", *args, timeout=timeout)

    def last(self, name: str) -> Any:
        """Read a file of the newest run: JSON, or lines of JSON."""
        text = (max(self.scratch.iterdir()) / name).read_text()
        return [json.loads(line) for line in text.splitlines()] if name.endswith("jsonl") else json.loads(text)


class SlurmBed(Bed):
    """The Slurm that needs no Docker, spoken to by its own commands or by PBS's."""

    def __init__(self, slurm: Slurm, cluster: str) -> None:
        super().__init__(f"slurm by {cluster}", slurm.make_directory("work-"))
        self.slurm = slurm
        self.overrides = ("site=testbed_slurm", f"cluster={cluster}", "cluster.ncpus=2", "cluster.mem=2500MB",
                          "site.interface=lo")  # fmt: skip

    def command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        if args[0] == "hpcml":
            args = (sys.executable, "-m", "hpcml", *args[1:])
        return [*self.slurm.prefix, *args], self.slurm.environment

    def jobs(self) -> list[str]:
        return self.slurm.jobs()

    def delete(self, job: str) -> None:
        self.slurm.run("scancel", job)


class OpenPbsBed(Bed):
    """An OpenPBS: ``HPCML_TEST_OPENPBS`` is a command that runs a line of shell as an ordinary user on a host of it,
    which has hpcml and sees the same files as this one.
    """

    overrides = ("site=testbed_openpbs", "cluster=pbs", "cluster.ncpus=2", "cluster.mem=2500MB")

    def __init__(self, prefix: str, extra: Sequence[str] = ()) -> None:
        self.prefix = prefix
        done = subprocess.run([*shlex.split(prefix), "mktemp -d ~/work-XXXXXX; id -u"], capture_output=True, text=True,
                              check=True)  # fmt: skip
        directory, uid = done.stdout.split()
        assert uid != "0", "jobs must be an ordinary user's"
        super().__init__("openpbs", Path(directory))
        self.overrides = (*self.overrides, *extra)

    def command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        line = f"cd {shlex.quote(str(self.work))} && exec {shlex.join(args)}"
        return [*shlex.split(self.prefix), line], dict(os.environ)

    def jobs(self) -> list[str]:
        command, environment = self.command("qselect")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    def delete(self, job: str) -> None:
        command, environment = self.command("qdel", job)
        subprocess.run(command, env=environment, check=True)
