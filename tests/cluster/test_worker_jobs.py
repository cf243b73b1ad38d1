"""Test runs in worker jobs of real schedulers: results, records and cleanup."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.beds import Bed, ids
from tests.cluster.slurm import Slurm

everywhere = pytest.mark.parametrize("bed", ["slurm", "pbs", "openpbs", "openpbs-flat"], indirect=True)
on_real_ones = pytest.mark.parametrize("bed", ["slurm", "openpbs"], indirect=True)


def greeted(host: str, port: int, context: ssl.SSLContext) -> bool:
    """Return whether a Dask server answers a client without a certificate."""
    try:
        with socket.create_connection((host, port), timeout=10) as plain, context.wrap_socket(plain) as stranger:
            stranger.sendall(b"x" * 64)
            return stranger.recv(64) != b""
    except OSError:
        return False


@everywhere
def test_a_run_in_two_jobs_computes_what_a_local_one_does(bed: Bed) -> None:
    grid = ("experiment=digits_svc", "workload.grid={C: [0.1, 1, 10], kernel: [rbf, poly]}", "workload.cv=4")
    code, out = bed.submit("cluster.jobs=2", "cluster.min_workers=4", *grid)
    assert code == 0, out
    record = bed.last("record.json")
    assert (record["state"], record["units_done"], record["workers"]) == ("DONE", 25, 4)
    jobs = record["jobs"]
    assert [job["workers"] for job in jobs] == [2, 2]
    assert all(job["tasks"] > 0 for job in jobs)
    for job in jobs:
        facts = job["each_worker"]
        assert (facts["threads"], facts["thread_variables"]) == (1, ["1"])
        assert facts["memory_limit"] < 1250 * 1024**2  # half of the job's, with headroom
        assert not facts["spill"].startswith(str(bed.scratch))
    assert not set(ids(bed)) & set(bed.jobs())
    metrics = bed.last("metrics.json")
    del metrics["search_s"]
    code, out = bed.run("run", *grid, "cluster.workers=2", f"scratch={bed.scratch}")
    assert code == 0, out
    local = bed.last("metrics.json")
    del local["search_s"]
    assert local == metrics


@on_real_ones
class TestCannotStart:
    def refused(self, bed: Bed, *args: str) -> str:
        code, out = bed.submit("cluster.jobs=2", "cluster.strict=false", *args)
        assert code == 1, out
        assert bed.last("record.json")["state"] == "FAILED"
        assert "Traceback" not in out
        return out

    def test_unknown_queue(self, bed: Bed) -> None:
        out = self.refused(bed, "cluster.queue=nosuch")
        assert "the first worker job was rejected: there is no such queue" in out
        assert "cluster.queue" in out

    def test_walltime_over_the_limit(self, bed: Bed) -> None:
        out = self.refused(bed, "cluster.walltime=99:00:00")
        assert "the first worker job was rejected" in out
        assert "cluster.walltime" in out

    def test_an_interface_that_is_not_there(self, bed: Bed) -> None:
        out = self.refused(bed, "site.interface=ib9")
        assert "site.interface=ib9: is not there on" in out
        assert "lo" in out

    def test_python_missing_on_the_node(self, bed: Bed) -> None:
        out = self.refused(bed, "cluster.environment.venv=/no/such/venv")
        assert "a command of the job was not found" in out
        assert "/no/such/venv/bin/python: No such file or directory" in out
        assert "check the modules and venv in cluster.environment" in out

    def test_another_environment_on_the_node(self, bed: Bed) -> None:
        fake = bed.work / "fake"
        (fake / "dask-9999.dist-info").mkdir(parents=True)
        (fake / "dask-9999.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: dask\nVersion: 9999\n")
        out = self.refused(bed, f"cluster.environment.variables={{PYTHONPATH: {fake}}}")
        assert re.search(r"has dask 9999, not [\d.]+ as the head has", out)

    def test_workers_that_do_not_come(self, bed: Bed) -> None:
        (bed.work / "hang.sh").write_text("sleep 300\n")
        out = self.refused(bed, f"cluster.environment.script={bed.work}/hang.sh", "cluster.start_timeout=5")
        assert "it ran for cluster.start_timeout=5 seconds, and none of its workers reached the head" in out


@pytest.mark.parametrize("bed", ["openpbs"], indirect=True)
def test_a_job_that_can_never_run(bed: Bed) -> None:
    code, out = bed.submit("cluster.mem=40GB", "cluster.strict=false")
    assert code == 1
    assert "can never run: it requests mem=40gb" in out
    assert "the scheduler's own words: Can Never Run" in out


@on_real_ones
def test_workers_have_the_threads_that_were_asked_for(bed: Bed) -> None:
    (bed.work / "probe.py").write_text(
        "import json, os\nfrom sklearn.dummy import DummyClassifier\nfrom threadpoolctl import threadpool_info\n"
        "class Probe(DummyClassifier):\n"
        "    def fit(self, X, y):\n"
        "        import scipy.linalg\n"
        "        facts = [{i['num_threads'] for i in threadpool_info()}, os.environ['OMP_NUM_THREADS'], os.getcwd()]\n"
        "        raise RuntimeError(f'facts: {facts}')\n"
    )
    args = ("model=custom", "model._target_=probe.Probe", "workload.cv=2", "workload.error_score=raise")
    code, out = bed.submit("cluster.workers_per_job=1", "cluster.threads=2", *args)
    assert code == 1
    assert "facts: [{2}, '2', " in out


@pytest.mark.parametrize("bed", ["slurm", "openpbs"], indirect=True)
def test_adaptive_jobs_come_with_the_work_and_go_without_it(
    bed: Bed, slow_run: Callable[..., subprocess.Popen[str]]
) -> None:
    """Many tasks, then one long fit on one worker while the others are idle."""
    code, out = bed.submit(
        "cluster.jobs=3", "cluster.adaptive=true", "cluster.idle_timeout=00:00:03", "model=custom",
        "model._target_=mine.Slow",
        "workload.grid={seconds: [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 15]}", "workload.cv=2",
        "workload.refit=false",
    )  # fmt: skip
    assert code == 0, out
    record = bed.last("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 22)
    assert len(record["jobs"]) == 3  # no more than requested, so jobs do not flap
    log = (max(bed.scratch.iterdir()) / "hpcml.log").read_text()
    assert "more worker jobs" in log
    assert "has been idle, and goes" in log


@on_real_ones
class TestClosedToStrangers:
    def test_scheduler_and_dashboard(self, bed: Bed, slow_run: Callable[..., subprocess.Popen[str]]) -> None:
        slow_run("workload.cv=50")
        run = max(bed.scratch.iterdir())
        host, port = json.loads((run / "orders.json").read_text())["scheduler"].rpartition("/")[2].split(":")
        assert host != "0.0.0.0"
        if bed.name.startswith("slurm"):  # the network of the others is separate
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            assert not greeted(host, int(port), context)
            found = re.search(r"dashboard (http://127.0.0.1:\d+)(/\w{32})/status", (run / "hpcml.log").read_text())
            assert found
            for path in ("/", "/status", "/health", "/metrics", "/json/counts.json", "/sitemap.json"):
                with pytest.raises(urllib.error.HTTPError, match="404"):
                    urllib.request.urlopen(found[1] + path, timeout=10)
            with urllib.request.urlopen(found[1] + found[2] + "/status", timeout=10) as page:
                assert page.status == 200
        assert (run / "tls").stat().st_mode & 0o777 == 0o700
        for path in (run / "tls").iterdir():
            assert path.stat().st_mode & 0o077 == 0
        secrets = [line for path in (run / "tls").glob("*.key") for line in path.read_text().splitlines()[1:-1]]
        told = [p.read_text(errors="replace") for p in run.rglob("*") if p.is_file() and p.parent.name != "tls"
                and p.suffix in {".log", ".sh", ".json", ".jsonl", ".yaml"}]  # fmt: skip
        assert not [line for line in secrets if any(line in text for text in told)]

    def test_the_certificates_are_gone_afterwards(self, bed: Bed) -> None:
        code, out = bed.submit("experiment=digits_svc", "workload.grid={C: [1]}", "workload.cv=2")
        assert code == 0, out
        assert not (max(bed.scratch.iterdir()) / "tls").exists()

    def test_none_is_loud(self, bed: Bed) -> None:
        args = ("experiment=digits_svc", "workload.grid={C: [1]}", "workload.cv=2", "cluster.security=none")
        code, out = bed.submit(*args)
        assert code == 0, out
        assert "WARNING: cluster.security=none: anybody who reaches the scheduler's port runs code as you" in out


def test_jobs_of_slurm_are_an_ordinary_users(slurm: Slurm) -> None:
    assert slurm.uid != 0
    assert Path(slurm.environment["HOME"]).stat().st_uid == slurm.uid
