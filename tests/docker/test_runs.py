"""Test runs in worker jobs of the testbeds: results, access by others, and cleanup."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.docker.testbed import ENVIRONMENT, HOSTS, NODES, Testbed, docker

# Half of the fits end at once and the others when the test allows it, so that no run ends before
# the test acts on it.
MINE = """
import time
from pathlib import Path
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Held(ClassifierMixin, BaseEstimator):
    def __init__(self, c=0): self.c = c
    def fit(self, X, y):
        while self.c > 1 and not Path(__file__).with_name("go").exists(): time.sleep(0.2)
        self.classes_ = np.unique(y)
        return self
    def predict(self, X): return np.full(len(X), self.classes_[0])
"""
HELD = (
    "model=custom", "model._target_=mine.Held", "workload.grid={c: [0, 1, 2, 3]}", "workload.cv=4", "trial=false",
)  # fmt: skip
GRID = ("experiment=digits_svc", "workload.grid={C: [0.1, 1, 10], kernel: [rbf, poly]}", "workload.cv=4")

# One whole node per job, so that two jobs are on two nodes; few workers, because one machine has to
# start all of them.
NODE = ("cluster.ncpus=4", "cluster.mem=5500MB", "cluster.workers_per_job=2", "cluster.threads=2")
# For each way, the testbed and the overrides that select it.
WAYS = {
    "slurm": ("slurm", ("site=testbed_slurm", "cluster=slurm")),
    "slurm-pbs": ("slurm", ("site=testbed_slurm", "cluster=pbs")),
    "openpbs": ("pbs", ("site=testbed_openpbs", "cluster=pbs")),
    "openpbs-flat": (
        "pbs",
        ("site=testbed_openpbs", "cluster=pbs", "site.dialect=flat", "site.storage.directive=storage",
         "site.storage.roots={/scratch: scratch}", "cluster.storage=scratch", "cluster.project=ab12",
         "cluster.jobfs=1GB"),
    ),
}  # fmt: skip

# Requests pages of a dashboard that an open one would serve.
ASK = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=20) as page: print(page.status)
    except urllib.error.HTTPError as error: print(error.code)
"""


class Desk:
    """A user's working directory on a testbed, and access to its scheduler."""

    def __init__(self, testbed: Testbed, name: str) -> None:
        self.testbed, self.name, self.way = testbed, name, WAYS[name][1]
        self.work = testbed.make_directory()
        self.runs = self.work / "runs"
        testbed.write(self.work / "mine.py", MINE)

    def local(self) -> dict[str, Any]:
        """Return the metrics of a run in processes of the login host."""
        scratch = self.work / "local"
        self.testbed.run("hpcml", "run", *GRID, "cluster.workers=2", f"scratch={scratch}", cwd=self.work)
        return metrics(json.loads(self.shell("cat local/*/metrics.json")))

    def shell(self, line: str, **kwargs: Any) -> str:
        return self.testbed.run("sh", "-c", line, cwd=self.work, **kwargs).stdout

    def read(self, name: str) -> str:
        """Read a file of the newest run; empty if it does not exist yet."""
        return self.shell(f"cat $(ls -d runs/* | tail -n 1)/{name} 2> /dev/null || true")

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def ids(self) -> list[str]:
        entries = [json.loads(line) for line in self.read("ledger.jsonl").splitlines()]
        return [entry["id"] for entry in entries if entry["event"] == "submitted"]


class Head:
    """An ``hpcml run`` of a desk."""

    def __init__(self, desk: Desk, *args: str) -> None:
        self.desk = desk
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with this object
        words = ("hpcml", "run", *desk.way, f"scratch={desk.runs}", *args)
        command = desk.testbed.command("sh", "-c", 'echo $$ > pid; exec "$@"', "sh", *words, cwd=desk.work)
        self.process = subprocess.Popen(
            ["docker", *command], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output
        )

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def computing(self, done: int = 1) -> None:
        """Wait until some fits have ended; the others wait for :meth:`go`."""

        def check() -> bool:
            assert self.process.poll() is None, self.said()
            progress = self.desk.read("progress.json")
            return bool(progress) and json.loads(progress)["done"] >= done

        self.desk.testbed.wait_for(check, "finished fits", 120)

    def go(self) -> None:
        self.desk.shell("touch go")

    def signal(self, name: str) -> None:
        self.desk.shell(f"kill -{name} $(cat pid)")

    def end(self, seconds: float = 240) -> int:
        """Wait for the end and return the exit code."""
        self.process.wait(seconds)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal("TERM")
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.signal("KILL")
                self.process.wait(30)
        self.output.close()


def metrics(found: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics without values that differ between runs."""
    return {name: value for name, value in found.items() if name != "search_s"}


@pytest.fixture
def desk(testbed: Testbed, way: str) -> Iterator[Desk]:
    """Yield a user's desk on a testbed, and fail if a test leaves jobs."""
    yield Desk(testbed, way)
    try:
        testbed.wait_for(lambda: not testbed.jobs(), "an empty queue", 90)
    except AssertionError:
        for job in testbed.jobs():
            testbed.run("qdel", job, check=False)
        raise


@pytest.fixture
def start(desk: Desk) -> Iterator[Callable[..., Head]]:
    """Start a run that computes until the test lets it end."""
    heads: list[Head] = []

    def started(*args: str, done: int = 1) -> Head:
        head = Head(desk, *HELD, *args)
        heads.append(head)
        head.computing(done)
        return head

    yield started
    for head in heads:
        print(head.said())
        head.close()


def by(*ways: str) -> pytest.MarkDecorator:
    """Parametrize a test with the testbeds of these ways."""
    return pytest.mark.parametrize(
        ("testbed", "way"), [(WAYS[way][0], way) for way in ways], ids=ways, indirect=["testbed"]
    )


on_both = by("slurm", "openpbs")


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, Any]]:
    """Cache the results of a local run on each testbed."""
    return {}


@by(*WAYS)
def test_a_run_on_two_nodes_computes_what_a_local_one_does(desk: Desk, expected: dict[str, dict[str, Any]]) -> None:
    head = Head(desk, *GRID, *NODE, "cluster.jobs=2", "cluster.min_workers=4")
    try:
        code = head.end()
        assert code == 0, head.said()
        print(head.said(), desk.testbed.run("qstat").stdout)
    finally:
        head.close()
    # hpcml has seen that the job is complete in Slurm's qstat, but squeue may still list it as
    # completing.
    desk.testbed.wait_for(lambda: not desk.testbed.jobs(), "an empty queue", 10)
    record = desk.json("record.json")
    assert (record["state"], record["units_done"], record["workers"]) == ("DONE", 25, 4)
    assert all(job["tasks"] > 0 for job in record["jobs"])
    assert sorted(job["nodes"] for job in record["jobs"]) == [["node1"], ["node2"]]
    script = desk.read("jobs/job-0.sh")
    if desk.name == "openpbs-flat":
        for directive in ("-P ab12", "-l ncpus=4", "-l jobfs=1", "-l storage="):
            assert f"#PBS {directive}" in script
    else:
        assert {"slurm": "#SBATCH", "slurm-pbs": "#PBS -l", "openpbs": "#PBS -l select=1:"}[desk.name] in script
    scheduler = desk.testbed.scheduler
    if scheduler not in expected:
        expected[scheduler] = desk.local()
    assert metrics(desk.json("metrics.json")) == expected[scheduler]


def listeners(testbed: Testbed) -> dict[str, list[str]]:
    """Print the listening ports of every host, and return the user's as address and port."""
    found = {}
    for host in HOSTS:
        said = testbed.run("ss", "-ltnHe", host=host).stdout
        print(f"--- {host}: ss -ltne\n{said}")
        of_user = [line for line in said.splitlines() if "uid:1000 " in line]
        found[host] = [line.split()[3] for line in of_user]
    return found


@on_both
def test_strangers_get_nothing(desk: Desk, start: Callable[..., Head]) -> None:
    testbed = desk.testbed
    start(*NODE, "cluster.jobs=2", "cluster.min_workers=4")
    found = listeners(testbed)
    for host in HOSTS:
        allowed = {"127.0.0.1", testbed.address(host)}
        assert {address.rsplit(":", 1)[0] for address in found[host]} == allowed
    to_all = [a for host in HOSTS for a in found[host] if not a.startswith("127.")]
    assert len(to_all) == 1 + 2 * 4  # scheduler; four workers and their nannies
    scheduler = desk.json("orders.json")["scheduler"].removeprefix("tls://")
    assert scheduler in to_all
    log = re.search(r"dashboard http://127.0.0.1:(\d+)(/\w{32})/status", desk.read("hpcml.log"))
    assert log is not None
    port, prefix = log.groups()
    assert found["login"].count(f"127.0.0.1:{port}") == 1

    image = docker("inspect", "--format={{.Config.Image}}", testbed.containers["login"]).stdout.decode().strip()
    stranger = ("run", "--rm", "--interactive", f"--network={testbed.project}_default", "--user=4711:4711")
    source = Path(__file__).with_name("strangers.py").read_bytes()
    command = ("/opt/hpcml/bin/python", "-", scheduler, f"{testbed.address('login')}:{port}", *to_all)
    said = docker(*stranger, "--env=HOME=/tmp", "--workdir=/tmp", image, *command, data=source).stdout.decode()
    print(said)
    answers = json.loads(said)
    assert answers["own"] not in ("nothing", "not reached")
    assert answers["own client"].startswith("connected")
    assert len(answers["greetings"]) == 2 * len(to_all)
    assert set(answers["greetings"].values()) == {"nothing"}
    assert not [how for how, answer in answers["clients"].items() if answer.startswith("connected")]
    assert answers["dashboard"] == "not reached"

    # Another user on the dashboard's host.
    base = f"http://127.0.0.1:{port}"
    hidden = ("/", "/status", "/health", "/metrics", "/json/counts.json", "/sitemap.json", "/" + "0" * 32 + "/status")
    urls = [base + path for path in (*hidden, f"{prefix}/status")]
    statuses = testbed.run("python3", "-", *urls, user="nobody", data=ASK.encode()).stdout.split()
    print(dict(zip(urls, statuses, strict=True)))
    assert statuses == ["404"] * len(hidden) + ["200"]


@on_both
def test_a_node_stops(desk: Desk, start: Callable[..., Head]) -> None:
    head = start(*NODE, "cluster.jobs=2", "cluster.min_workers=4")
    began = time.monotonic()
    desk.testbed.kill_node("node2")
    try:
        head.go()
        code = head.end()
        left = desk.testbed.jobs()
        print(f"{desk.name}: exit {code} after {time.monotonic() - began:.0f} s, queue {left}")
    finally:
        desk.testbed.start_node("node2")
    print(head.said(), desk.read("hpcml.log"))
    assert code == 0, head.said()
    record = desk.json("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 17)
    # PBS does not end a job until its node answers again.
    if desk.testbed.scheduler == "pbs":
        (lost,) = [job for job in record["jobs"] if job["nodes"] == ["node2"]]
        assert left == [lost["id"]]
        assert lost["end"] == "it could not be deleted"
        assert f"still in the queue: {lost['id']}; try again: hpcml clean" in head.said()


@on_both
def test_the_scheduler_is_away_for_a_minute(desk: Desk, start: Callable[..., Head]) -> None:
    head = start(*NODE, "cluster.jobs=2", "cluster.min_workers=4")
    began = time.monotonic()
    desk.testbed.stop_controller()
    try:
        desk.testbed.wait_for(lambda: "does not answer" in desk.read("hpcml.log"), "the outage to be seen", 150)
        print(f"{desk.name}: the outage was seen after {time.monotonic() - began:.0f} s")
        time.sleep(max(0, began + 60 - time.monotonic()))
        assert head.process.poll() is None, head.said()
    finally:
        desk.testbed.start_controller()
    print(f"{desk.name}: away for {time.monotonic() - began:.0f} s")
    desk.testbed.wait_for(lambda: "the scheduler answers again" in desk.read("hpcml.log"), "its end to be seen", 150)
    head.go()
    assert head.end() == 0, head.said()
    assert desk.testbed.jobs() == []
    record = desk.json("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 17)
    print([line for line in desk.read("hpcml.log").splitlines() if "WARNING" in line])


# Prints the process ids of workers and nannies.
WORKERS = "grep -la 'hpcml[.]worker' /proc/[0-9]*/cmdline 2> /dev/null || true"


@on_both
def test_the_node_of_a_head_in_a_job_dies(desk: Desk) -> None:
    testbed = desk.testbed
    words = ("hpcml", "submit", *desk.way, f"scratch={desk.runs}", *HELD, *NODE, "cluster.jobs=1")
    print(testbed.run(*words, cwd=desk.work).stdout)
    testbed.wait_for(lambda: json.loads(desk.read("progress.json") or '{"done": 0}')["done"], "finished fits")
    lost = desk.json("manifest.json")["host"]
    (other,) = [node for node in NODES if node != lost]
    assert desk.shell(WORKERS, host=other)
    testbed.kill_node(lost)
    began = time.monotonic()
    try:
        testbed.wait_for(lambda: not desk.shell(WORKERS, host=other), "the workers' end", 60)
        took = time.monotonic() - began
        print(f"{desk.name}: the workers ended {took:.1f} s after {lost} had died")
    finally:
        testbed.start_node(lost)
        for job in testbed.jobs():
            testbed.run("qdel", job, check=False)
    print(desk.read("jobs/job-0.log"))


@by("openpbs")
def test_a_project_that_the_user_is_no_member_of(desk: Desk) -> None:
    head = Head(desk, *GRID, "cluster.project=zz99")
    try:
        assert head.end(60) == 1
        print(head.said())
        assert "rejected: the project cannot be charged (qsub: You are not a member of project zz99" in head.said()
        assert "set cluster.project to a project that you belong to" in head.said()
    finally:
        head.close()
    assert desk.ids() == []
    assert desk.json("record.json")["state"] == "FAILED"


# More jobs than fit: two run, two wait.
CROWD: Sequence[str] = (*NODE, "cluster.jobs=4", "cluster.min_workers=2", "cluster.strict=false")


def crowded(desk: Desk, start: Callable[..., Head]) -> Head:
    head = start(*CROWD)
    desk.testbed.wait_for(lambda: len(desk.testbed.jobs()) == 4, "all jobs to be in the queue")
    print(desk.testbed.run("qstat").stdout)
    return head


@on_both
def test_sigterm_deletes_running_and_queued_jobs(desk: Desk, start: Callable[..., Head]) -> None:
    head = crowded(desk, start)
    began = time.monotonic()
    head.signal("TERM")
    code = head.end(60)
    print(f"{desk.name}: exit {code} after {time.monotonic() - began:.1f} s, queue {desk.testbed.jobs()}")
    assert code == 143, head.said()
    assert desk.testbed.jobs() == []
    assert desk.json("record.json")["state"] == "CANCELLED"
    assert desk.shell("ls runs/*/tables/fits.parquet")
    assert not desk.shell("ls -d runs/*/tls 2> /dev/null || true")


@on_both
def test_a_head_that_is_killed_leaves_nothing(desk: Desk, start: Callable[..., Head]) -> None:
    head = crowded(desk, start)
    began = time.monotonic()
    head.signal("KILL")
    code = head.end(30)
    desk.testbed.wait_for(lambda: not desk.testbed.jobs(), "an empty queue", 60)
    print(f"{desk.name}: exit {code}, queue empty after {time.monotonic() - began:.1f} s")
    assert code == 137, head.said()
    logs = desk.read("jobs/*.log")
    print(logs)
    assert "no head answers at tls://" in logs  # the queued jobs
    done = desk.testbed.run("hpcml", "list", "--scratch", str(desk.runs), cwd=desk.work)
    listed = done.stdout
    print(listed, done.stderr)
    assert "LOST" in listed
