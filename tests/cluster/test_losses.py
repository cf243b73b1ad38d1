"""Test that losses of worker jobs, nodes and heads cost no results and leave no jobs."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from tests.cluster.beds import SLOW, Bed, SlurmBed, end, ids
from tests.cluster.keeper import wait_for

on_real_ones = pytest.mark.parametrize("bed", ["slurm", "openpbs"], indirect=True)


@on_real_ones
def test_a_worker_job_that_is_deleted_is_replaced(bed: Bed, slow_run: Callable[..., subprocess.Popen[str]]) -> None:
    # An OpenPBS may take 10 s to notice a job's end.
    process = slow_run("workload.cv=20", "+model.seconds=0.6")
    victim = ids(bed)[0]
    bed.delete(victim)
    out = end(process)
    assert process.returncode == 0, out
    record = bed.last("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 161)
    log = (max(bed.scratch.iterdir()) / "hpcml.log").read_text()
    assert len(record["jobs"]) == 3, "\n".join(line for line in log.splitlines() if "hpcml." in line)
    (lost,) = [job for job in record["jobs"] if job["id"] == victim]
    assert "deleted" in lost["end"]


# Fails every job on the first node at once, as a missing library or a bad mount does.
BROKEN = """
case ${SLURMD_NODENAME:-$(hostname)} in
    n1|node1) echo "libfoo.so: cannot open shared object file" >&2; exit 1 ;;
esac
"""


@on_real_ones
def test_a_node_that_fails_every_job_at_once(bed: Bed) -> None:
    """A search of about 50 seconds on one good node, in jobs of 40; the bad one is always free."""
    (bed.work / "broken.sh").write_text(BROKEN)
    args = ("+model.seconds=2.5", "workload.cv=10", "cluster.walltime=40", "cluster.strict=false")
    whole = ("cluster.ncpus=4", "cluster.mem=5500MB", "cluster.jobs=2", "cluster.max_restarts=1")
    code, out = bed.submit(*SLOW, *args, *whole, f"cluster.environment.script={bed.work}/broken.sh")
    assert code == 0, out
    record = bed.last("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 81)
    failed = [job for job in record["jobs"] if "exit code 1" in job["end"]]
    # The first job, and one per replacement at a walltime.
    assert 1 <= len(failed) <= 3, record["jobs"]
    log = (max(bed.scratch.iterdir()) / "hpcml.log").read_text()
    assert re.search(r"has failed at once, and keeps its place|failed at once", log)
    assert re.search(r" on n(ode)?1: the job failed with exit code 1; the last line of its output .*libfoo\.so", log)


@on_real_ones
def test_a_search_whose_worker_jobs_are_all_gone_ends(bed: Bed, slow_run: Callable[..., subprocess.Popen[str]]) -> None:
    process = slow_run("workload.cv=40", "cluster.max_restarts=0")
    for job in ids(bed):
        bed.delete(job)
    out = end(process)
    assert process.returncode == 1, out
    assert "no workers are left: all worker jobs have ended, and cluster.max_restarts are used up" in out
    assert re.search(r"worker job \S+ on \S+: the job was (deleted|cancelled)", out), out
    assert bed.last("record.json")["state"] == "FAILED"


@on_real_ones
def test_a_fit_by_joblib_whose_worker_jobs_are_all_gone_ends(bed: Bed) -> None:
    """scikit-learn itself passes the trees of a forest to joblib."""
    (bed.work / "trees.py").write_text(
        "import time\nfrom joblib import Parallel, delayed\nfrom sklearn.dummy import DummyClassifier\n"
        "class Trees(DummyClassifier):\n"
        "    def fit(self, X, y):\n"
        "        Parallel(n_jobs=-1)(delayed(time.sleep)(1) for _ in range(400))\n"
        "        return super().fit(X, y)\n"
    )
    process = bed.start("run", *bed.overrides, f"scratch={bed.scratch}", "workload=fit", "model=custom",
                        "model._target_=trees.Trees", "cluster.jobs=2", "cluster.max_restarts=0")  # fmt: skip
    try:
        wait_for(lambda: list(bed.scratch.glob("*/workers/*.log")), "workers")
        wait_for(lambda: len(ids(bed)) == 2, "two jobs")
        wait_for(lambda: list(bed.scratch.glob("*/progress.json")), "the computation")
        time.sleep(3)  # the fit is sent to a worker
        for job in ids(bed):
            bed.delete(job)
        out = end(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 1, out
    assert "no workers are left: all worker jobs have ended, and cluster.max_restarts are used up" in out


@pytest.mark.parametrize("bed", ["openpbs"], indirect=True)
def test_a_fit_that_takes_more_memory_than_there_is(bed: Bed) -> None:
    args = ("model=custom", "model._target_=mine.Greedy", "workload.grid={c: [0]}", "workload.cv=2")
    code, out = bed.submit("cluster.jobs=1", "cluster.max_restarts=1", *args)
    assert code == 1, out
    assert "memory" in out or "died" in out


@pytest.mark.parametrize(
    ("bed", "number"),
    [("slurm", signal.SIGINT), ("openpbs", signal.SIGTERM), ("openpbs", signal.SIGINT)],
    indirect=["bed"],
)
def test_a_signal_deletes_running_and_queued_jobs(
    bed: Bed, slow_run: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = slow_run("cluster.jobs=8", "workload.cv=50")
    assert len(bed.jobs()) >= 5
    process.send_signal(number)
    out = end(process)
    assert process.returncode == 128 + number, out
    assert not set(ids(bed)) & set(bed.jobs())  # confirmed before the run ended
    record = bed.last("record.json")
    assert record["state"] == "CANCELLED"
    assert (max(bed.scratch.iterdir()) / "tables" / "fits.parquet").exists()


@on_real_ones
def test_a_head_that_is_killed_leaves_nothing_that_burns(
    bed: Bed, slow_run: Callable[..., subprocess.Popen[str]]
) -> None:
    process = slow_run("cluster.jobs=8", "workload.cv=50")
    assert len(bed.jobs()) >= 5
    process.kill()
    process.wait()
    began = time.monotonic()
    wait_for(lambda: not bed.jobs(), "an empty queue")
    print(f"{bed.name}: empty after {time.monotonic() - began:.0f} s")
    logs = [path.read_text() for path in (max(bed.scratch.iterdir()) / "jobs").glob("*.log")]
    assert any("no head answers at tls://" in text for text in logs)  # the queued jobs
    code, out = bed.run("list", "--scratch", str(bed.scratch))
    assert code == 0
    assert "LOST" in out


@pytest.mark.parametrize("bed", ["slurm"], indirect=True)
def test_a_node_that_dies(bed: SlurmBed, slow_run: Callable[..., subprocess.Popen[str]]) -> None:
    process = slow_run("cluster.ncpus=4", "cluster.mem=5500MB")  # a node each
    bed.slurm.kill_node("n1")
    try:
        out = end(process)
    finally:
        bed.slurm.start_node("n1")
    assert process.returncode == 0, out
    assert bed.last("record.json")["units_done"] == 41


@pytest.mark.parametrize("bed", ["slurm"], indirect=True)
def test_a_scheduler_that_is_away_for_a_while(bed: SlurmBed, slow_run: Callable[..., subprocess.Popen[str]]) -> None:
    process = slow_run()
    bed.slurm.stop_controller()
    try:
        time.sleep(5)
        assert process.poll() is None
    finally:
        bed.slurm.start_controller()
    out = end(process)
    assert process.returncode == 0, out
    assert bed.last("record.json")["state"] == "DONE"
