"""Time `hpcml submit` to the end of the first task, beside job scripts written by hand.

Worker jobs and an allocation are timed on a Slurm that this starts, and on OpenPBS if
HPCML_TEST_OPENPBS is a command that runs a line of shell on one of its hosts, where ``python`` has
hpcml. Names limit it: ``submit.py slurm openpbs``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.startup import HPCML, Startup, main

# A user's scripts without hpcml: a head in a small job that starts worker jobs; and, as in NCI's
# tutorial, one job on two nodes with a scheduler, workers started by pbsdsh, and a client that
# waits for the first of them.
HEAD = """
cd {work}
exec {python} bare.py {kind} {name} "{interface}" none {path}
"""
NODES = """
cd {work}
rm -f scheduler.json
{python} -m distributed.cli.dask_scheduler --scheduler-file scheduler.json {listen} --no-dashboard --port 0 &
{launcher} /bin/bash -lc "export PATH='$PATH'; cd {work}; \
    exec {python} -m distributed.cli.dask_worker --scheduler-file scheduler.json \
    {listen} --nworkers 2 --nthreads 1 --no-dashboard --memory-limit 1GB" &
{python} first.py {path}
kill %1
wait
"""
FIRST = """
import sys
from distributed import Client
from timed import Timed, rows

if __name__ == "__main__":
    with Client(scheduler_file="scheduler.json") as client:
        client.wait_for_workers(1)
        client.submit(Timed(sys.argv[1]).fit, *rows()).result()
        client.shutdown()
"""


class Submit(Startup):
    """Start the same computation in several ways on one scheduler, always in jobs."""

    def ways(self) -> dict[str, Callable[[], float]]:
        (self.bed.work / "first.py").write_text(FIRST)
        return {
            "hpcml, jobs": self.hpcml_jobs,
            "bare": self.by_hand_jobs,
            "hpcml, alloc.": self.hpcml_allocation,
            "by hand, alloc.": self.by_hand_allocation,
            "trivial job": self.job,
            "imports": self.imports,
        }

    def hpcml_jobs(self) -> float:
        return self._submit()

    def hpcml_allocation(self) -> float:
        return self._submit("cluster=allocation", "cluster.nodes=2")

    def _submit(self, *shape: str) -> float:
        given = [text for text in HPCML if not (shape and text.startswith("cluster.jobs"))]
        path = f"+model.path={self.bed.work / 'ended'}"
        overrides = [*self.bed.overrides, f"scratch={self.bed.scratch}", f"cluster.name={self._new_name()}"]
        return self._time(self._python, "-m", "hpcml", "submit", *overrides, *given, *shape, path)

    def _hand(self, body: str, nodes: int, ncpus: int, mem: int) -> float:
        name = self._new_name()
        slurm = self._kind == "slurm"
        header = (
            f"#SBATCH -J {name}\n#SBATCH --nodes={nodes} --ntasks-per-node=1 --cpus-per-task={ncpus} --mem={mem}M"
            if slurm
            else f"#PBS -N {name}\n#PBS -l select={nodes}:ncpus={ncpus}:mem={mem}mb\n#PBS -l place=scatter"
        )
        environment = "" if slurm else f'export PATH="{self._path()}"\n'
        script = self.bed.work / "hand.sh"
        text = body.format(
            work=self.bed.work, python=self._python, kind=self._kind, interface=self._interface, name=f"{name}w",
            path=self.bed.work / "ended", launcher=f"srun --overlap --cpus-per-task={ncpus}" if slurm else "pbsdsh --",
            listen=f"--interface {self._interface}" if self._interface else "",
        )  # fmt: skip
        script.write_text(f"#!/bin/bash\n{header}\n{environment}{text}")
        return self._time("sbatch" if slurm else "qsub", str(script))

    def _path(self) -> str:
        command, _ = self.bed.command("printenv", "PATH")
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def by_hand_jobs(self) -> float:
        return self._hand(HEAD, 1, 1, 1000)

    def by_hand_allocation(self) -> float:
        return self._hand(NODES, 2, 2, 2500)


if __name__ == "__main__":
    main(Submit, ["slurm"])
