"""Beds for tests that run on every scheduler; each bed hides the peculiarities of one."""

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

from tests.cluster.openpbs import Elsewhere, OpenPbs
from tests.cluster.slurm import Slurm

# A slow estimator and one that exceeds the memory of its job, in the user's working directory, from
# which workers import them.
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


# Most tests bring models that wait, die or fail when they are fitted on a worker.
NO_TRIAL = "trial=false"


# A search with units that sleep.
SLOW = ("model=custom", "model._target_=mine.Slow", "workload.grid={c: [0, 1, 2, 3, 4, 5, 6, 7]}", "workload.cv=5")


class Bed(abc.ABC):
    """A scheduler, and a user's working directory on it."""

    # Arguments of every hpcml command: the site and a request that fits it.
    overrides: tuple[str, ...] = ()

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work = name, work
        self.scratch = work / "runs"
        (work / "mine.py").write_text(MINE)

    @abc.abstractmethod
    def command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        """Return the words and the environment of a command that the user runs."""

    @abc.abstractmethod
    def jobs(self) -> list[str]:
        """Return the jobs in the queue."""

    @abc.abstractmethod
    def delete(self, job: str) -> None:
        """Delete a job as its user would."""

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start hpcml with its output in a pipe."""
        command, environment = self.command("hpcml", *args)
        return subprocess.Popen(
            command, cwd=self.work, env={**environment, **(env or {})}, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *args: str, timeout: int = 400, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Run hpcml to its end; return exit code and output."""
        process = self.start(*args, env=env)
        try:
            out, _ = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return process.returncode, out

    def submit(self, *args: str, timeout: int = 400) -> tuple[int, str]:
        """Run hpcml with worker jobs to its end."""
        return self.run("run", *self.overrides, f"scratch={self.scratch}", *args, timeout=timeout)

    def last(self, name: str) -> Any:
        """Read a file of the newest run: JSON, or lines of JSON."""
        text = (max(self.scratch.iterdir()) / name).read_text()
        return [json.loads(line) for line in text.splitlines()] if name.endswith("jsonl") else json.loads(text)


class SlurmBed(Bed):
    """The Slurm without Docker, used through its own commands or through its PBS wrappers."""

    def __init__(self, slurm: Slurm, cluster: str) -> None:
        super().__init__(f"slurm by {cluster}", slurm.make_directory("work-"))
        self.slurm = slurm
        self.overrides = ("site=testbed_slurm", f"cluster={cluster}", "cluster.ncpus=2", "cluster.mem=2500MB",
                          "site.interface=lo", NO_TRIAL)  # fmt: skip

    def command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        if args[0] == "hpcml":
            args = (sys.executable, "-m", "hpcml", *args[1:])
        return [*self.slurm.prefix, *args], self.slurm.environment

    def jobs(self) -> list[str]:
        return self.slurm.jobs()

    def delete(self, job: str) -> None:
        self.slurm.run("scancel", job)


class OpenPbsBed(Bed):
    """OpenPBS, in its own dialect or, with more overrides, in Gadi's."""

    overrides = ("site=testbed_openpbs", "cluster=pbs", "cluster.ncpus=2", "cluster.mem=2500MB", NO_TRIAL)

    def __init__(self, openpbs: OpenPbs | Elsewhere, extra: Sequence[str] = ()) -> None:
        super().__init__("openpbs", openpbs.make_directory("work-"))
        self.openpbs = openpbs
        self.overrides = (*self.overrides, *extra)

    def command(self, *args: str) -> tuple[list[str], dict[str, str]]:
        line = f"cd {shlex.quote(str(self.work))} && exec {shlex.join(args)}"
        return self.openpbs.command(line), dict(os.environ)

    def jobs(self) -> list[str]:
        return self.openpbs.jobs()

    def delete(self, job: str) -> None:
        self.openpbs.run(f"qdel {job}")


def end(process: subprocess.Popen[str], timeout: int = 400) -> str:
    try:
        out, _ = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        raise
    return out


def ids(bed: Bed) -> list[str]:
    return [entry["id"] for entry in bed.last("ledger.jsonl") if entry["event"] == "submitted"]
