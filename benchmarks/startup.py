"""Time the first task in a worker job from the start of the process: hpcml and dask_jobqueue.

This starts a Slurm, used through PBS's commands and its own; OpenPBS is timed if HPCML_TEST_OPENPBS
is a command that runs a line of shell on one of its hosts, where ``python`` has hpcml. Names limit
it: ``startup.py pbs slurm openpbs``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.cluster.beds import Bed, OpenPbsBed, SlurmBed
from tests.cluster.slurm import Slurm, available, wait_for

ROUNDS = 5

# Both compute this; the first fit to end writes the time.
TIMED = """
import contextlib, time
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

def rows(): return np.arange(24.0).reshape(12, 2), np.arange(12) % 2

class Timed(ClassifierMixin, BaseEstimator):
    def __init__(self, path=""): self.path = path
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        with contextlib.suppress(FileExistsError), open(self.path, "x") as file:
            file.write(str(time.time()))
        return self
    def predict(self, X): return np.full(len(X), self.classes_[0])
"""

# A user's code without hpcml. By default dask_jobqueue does not use TLS; True makes it create a
# certificate.
BARE = """
import os, sys
from dask_jobqueue import PBSCluster, SLURMCluster
from distributed import Client
from sklearn.model_selection import GridSearchCV
from timed import Timed, rows

kind, name, interface, security, path = sys.argv[1:]
if __name__ == "__main__":
    with {"pbs": PBSCluster, "slurm": SLURMCluster}[kind](
        cores=2, processes=2, memory="2500MiB", queue="normal", walltime="01:00:00", job_name=name,
        interface=interface or None, security=security == "tls" or None, job_script_prologue=["cd " + os.getcwd()],
    ) as cluster, Client(cluster) as client:
        cluster.scale(jobs=1)
        client.submit(Timed(path).fit, *rows()).result()
"""

HPCML = (
    "cluster.jobs=1", "cluster.walltime=01:00:00", "data=custom", "data._target_=timed.rows", "model=custom",
    "model._target_=timed.Timed", "workload.grid=null", "workload.cv=2", "workload.refit=false", "workload.test_size=0",
    "model_format=none",
)  # fmt: skip

IMPORTS = "import time, distributed, sklearn.model_selection; open('ended', 'x').write(str(time.time()))"


class Startup:
    """Time several ways to the first task on one scheduler, in seconds."""

    def __init__(self, bed: Bed, kind: str, interface: str) -> None:
        self.bed, self._kind, self._interface = bed, kind, interface
        self._python = "python" if isinstance(bed, OpenPbsBed) else sys.executable
        self._number = 0
        (bed.work / "timed.py").write_text(TIMED)
        (bed.work / "bare.py").write_text(BARE)

    def ways(self) -> dict[str, Callable[[], float]]:
        return {
            "hpcml": self.hpcml,
            "bare": self.bare,
            "bare, TLS": lambda: self.bare("tls"),
            "trivial job": self.job,
            "imports": self.imports,
        }

    def hpcml(self, *args: str) -> float:
        path = f"+model.path={self.bed.work / 'ended'}"
        overrides = [*self.bed.overrides, f"scratch={self.bed.scratch}", f"cluster.name={self._new_name()}"]
        return self._time(self._python, "-m", "hpcml", "run", *overrides, *HPCML, path, *args)

    def bare(self, security: str = "none") -> float:
        path = str(self.bed.work / "ended")
        return self._time(self._python, "bare.py", self._kind, self._new_name(), self._interface, security, path)

    def job(self) -> float:
        """Time an empty job from the start of qsub or sbatch to the job's first line."""
        mark, name = {"pbs": ("#PBS -N", "qsub"), "slurm": ("#SBATCH -J", "sbatch")}[self._kind]
        script = self.bed.work / "job.sh"
        line = f"echo $EPOCHREALTIME > {shlex.quote(str(self.bed.work))}/ended"
        script.write_text(f"#!/bin/bash\n{mark} {self._new_name()}\n{line}\n")
        return self._time(name, str(script))

    def imports(self) -> float:
        return self._time(self._python, "-c", IMPORTS)

    def _new_name(self) -> str:
        self._number += 1
        return f"startup{os.getpid()}n{self._number}"

    def _time(self, *words: str) -> float:
        """Time a command from its start to the time that it or its job writes.

        Return once its jobs have left the queue.
        """
        ended, started = self.bed.work / "ended", self.bed.work / "started"
        ended.unlink(missing_ok=True)
        # Separate directories for the files that hpcml and Dask write in a home. The clock is read
        # where the command runs, just before it.
        own = "export XDG_STATE_HOME=$PWD/state DASK_CONFIG=$PWD/dask"
        line = f"{own}; echo $EPOCHREALTIME > started; exec {shlex.join(words)}"
        command, environment = self.bed.command("bash", "-c", line)
        process = Popen(
            command, cwd=self.bed.work, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True
        )
        try:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0, f"{shlex.join(words)}: {out}"
            wait_for(lambda: ended.exists() and ended.read_text().strip(), "the first task")
            wait_for(lambda: not self.jobs(), "the jobs' end")
        finally:
            if process.poll() is None:
                process.terminate()  # hpcml deletes its jobs then
                try:
                    process.communicate(timeout=60)
                except TimeoutExpired:
                    process.kill()
            for job in self.jobs():
                self.bed.delete(job)
        return float(ended.read_text()) - float(started.read_text())

    def jobs(self) -> list[str]:
        """Return our jobs in the queue; an OpenPBS may have others of the same user."""
        if isinstance(self.bed, SlurmBed):
            return self.bed.jobs()
        command, environment = self.bed.command("qstat", "-f")
        with Popen(command, env=environment, stdout=PIPE, text=True) as process:
            listing = process.communicate()[0]
        found, job = [], ""
        for text in listing.splitlines():
            job = text.removeprefix("Job Id: ") if text.startswith("Job Id: ") else job
            if f"Job_Name = startup{os.getpid()}n" in text:
                found.append(job)
        return found


def compare(title: str, ways: Mapping[str, Callable[[], float]]) -> None:
    """Print medians of alternated runs, and their ratios to dask_jobqueue with its defaults."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    loads = []
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            loads.append(os.getloadavg()[0])
            seconds = way()
            if number:  # the first round warms up file caches
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    load = f"load {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores"
    print(f"{title}: 1 job of 2 workers x 1 thread, median of {ROUNDS}; {load}")
    for name, median in medians.items():
        # On a shared machine, the best of each is more reliable than the median.
        ratio, best = median / medians["bare"], min(times[name]) / min(times["bare"])
        seen = f"{min(times[name]):.3f} to {max(times[name]):.3f}"
        print(f"{name:<12} {median:7.3f} s  {ratio:5.2f} of bare  (best of each: {best:.2f}; {seen})")
    bound = medians["trivial job"] + medians["imports"]
    print(
        f"{'lower bound':<12} {bound:7.3f} s  {bound / medians['bare']:5.2f} of bare  (a trivial job, then one import)"
    )


@contextmanager
def directory_of(bed: Bed) -> Iterator[Bed]:
    """Provide a bed and remove its directory afterwards."""
    try:
        yield bed
    finally:
        shutil.rmtree(bed.work, ignore_errors=True)


def main(start: type[Startup], kinds: Sequence[str]) -> None:
    """Compare on each available scheduler, or on those named on the command line.

    Parameters
    ----------
    kinds : sequence of str
        The commands to use for Slurm: pbs, slurm.
    """
    only = sys.argv[1:]
    missing = available()
    wanted = [kind for kind in kinds if not only or kind in only]
    if missing is not None:
        print(missing)
    elif wanted:
        with Slurm() as slurm:
            for kind in wanted:
                with directory_of(SlurmBed(slurm, kind)) as bed:
                    compare(f"Slurm, cluster={kind}", start(bed, kind, "lo").ways())
    prefix = os.environ.get("HPCML_TEST_OPENPBS")
    if prefix is None:
        print("no OpenPBS: set HPCML_TEST_OPENPBS to a command that runs a line of shell on a host that has one")
    elif not only or "openpbs" in only:
        with directory_of(OpenPbsBed(prefix)) as bed:
            compare("OpenPBS, cluster=pbs", start(bed, "pbs", "").ways())


if __name__ == "__main__":
    main(Startup, ("pbs", "slurm"))
