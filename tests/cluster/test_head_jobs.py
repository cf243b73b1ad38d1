"""Test heads in jobs: without intervention, deleted, at their walltime, and in an allocation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.beds import Bed, OpenPbsBed
from tests.cluster.keeper import wait_for

ROOT = Path(__file__).parents[2]
GRID = ("experiment=digits_svc", "workload.grid={C: [0.1, 1, 10], kernel: [rbf, poly]}", "workload.cv=4")
SLOW = ("model=custom", "model._target_=mine.Slow", "workload.grid={c: [0, 1, 2, 3, 4, 5, 6, 7]}")
ALLOCATION = ("cluster=allocation", "cluster.nodes=2")


everywhere = pytest.mark.parametrize("bed", ["slurm", "pbs", "openpbs", "openpbs-flat"], indirect=True)
on_real_ones = pytest.mark.parametrize("bed", ["slurm", "openpbs"], indirect=True)


def submit(bed: Bed, *args: str, wait: bool = False, timeout: int = 400) -> tuple[int, str]:
    options = ["--wait"] if wait else []
    overrides = (*bed.overrides, f"scratch={bed.scratch}", *args)
    return bed.run("submit", *options, *overrides, timeout=timeout)


def head_job(out: str) -> str:
    found = re.search(r"^  head job +(\d\S*)$", out, re.MULTILINE)
    assert found, out
    return found[1]


def run_of(out: str) -> str:
    found = re.search(r"^run (\d{8}T\d{6}-\w{6})$", out, re.MULTILINE)
    assert found, out
    return found[1]


def read(bed: Bed, run: str, name: str) -> Any:
    path = bed.scratch / run / name
    if not path.exists():
        return {} if name.endswith(".json") else []
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if name.endswith("jsonl") else json.loads(text)


def ids(bed: Bed, run: str) -> list[str]:
    """Return the ids of all jobs of a run, including the head's."""
    return [entry["id"] for entry in read(bed, run, "ledger.jsonl") if entry["event"] == "submitted"]


def ended(bed: Bed, run: str, seconds: float = 400) -> dict[str, Any]:
    wait_for((bed.scratch / run / "record.json").exists, f"the record of {run}", seconds)
    found: dict[str, Any] = read(bed, run, "record.json")
    return found


def computing(bed: Bed, run: str, done: int = 1) -> None:
    def check() -> bool:
        assert not (bed.scratch / run / "record.json").exists(), read(bed, run, "record.json")["error"]
        return bool(read(bed, run, "progress.json").get("done", 0) >= done)

    wait_for(check, "finished units")


@everywhere
def test_submit_and_walk_away(bed: Bed) -> None:
    code, out = submit(bed, *GRID, "cluster.jobs=2", "cluster.min_workers=4")
    assert code == 0, out
    job, run = head_job(out), run_of(out)
    code, shown = bed.run("status", run, "--scratch", str(bed.scratch))
    assert code == 0
    assert re.search(rf"^(SUBMITTED|RUNNING|DONE) {run}", shown, re.MULTILINE), shown
    record = ended(bed, run)
    assert (record["state"], record["units_done"], record["workers"]) == ("DONE", 25, 4)
    assert len(record["jobs"]) == 2
    assert all(entry["tasks"] > 0 for entry in record["jobs"])
    assert ids(bed, run)[0] == job
    wait_for(lambda: not set(ids(bed, run)) & set(bed.jobs()), "an empty queue")
    assert "DONE" in (bed.scratch / run / "head.log").read_text()


def wrap(bed: Bed, body: str) -> str:
    """Write a site that submits by a command of its own; return the arguments that select it.

    SUBMIT in the command is the scheduler's own submit command.
    """
    kind, command = ("pbs", "qsub") if isinstance(bed, OpenPbsBed) else ("slurm", "sbatch")
    path, site = bed.work / "submit", bed.overrides[0].removeprefix("site=")
    line, environment = bed.command("which", command)
    own = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    path.write_text("#!/bin/bash\n" + body.replace("SUBMIT", f'{own} "$@"'))
    path.chmod(0o755)
    (bed.work / "conf" / "site").mkdir(parents=True)
    (bed.work / "conf" / "site" / "wrapped.yaml").write_text(
        f"defaults: [{site}]\ncommands: {{{kind}: {{submit: {path}}}}}\n"
    )
    bed.overrides = ("site=wrapped", *bed.overrides[1:])
    return f"--config-dir={bed.work / 'conf'}"


@on_real_ones
def test_a_command_that_prints_other_numbers_too(bed: Bed) -> None:
    noisy = wrap(bed, 'echo "quota: 1234 of 5000 SU are used"\nSUBMIT\necho "news: 4711"\n')
    code, out = submit(bed, *GRID, "cluster.jobs=2", noisy, wait=True)
    assert code == 0, out
    found = set(ids(bed, run_of(out)))
    assert len(found) == 3
    assert not {"1234", "4711", "5000"} & {job.partition(".")[0] for job in found}
    assert ended(bed, run_of(out))["state"] == "DONE"
    wait_for(lambda: not found & set(bed.jobs()), "an empty queue")


@on_real_ones
@pytest.mark.parametrize("made", [True, False], ids=["made", "not made"])
def test_a_submission_that_is_killed(bed: Bed, made: bool) -> None:
    """A job that the scheduler accepted is the run's head; otherwise it is reported as lost."""
    asked = bed.work / "asked"
    slow = wrap(bed, ("SUBMIT > /dev/null\n" if made else "") + f"touch {asked}\nsleep 20\n")
    process = bed.start("submit", *bed.overrides, f"scratch={bed.scratch}", *GRID, "cluster.jobs=1", slow)
    try:
        wait_for(asked.exists, "the submission")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    (run,) = [path.name for path in bed.scratch.iterdir()]
    if made:
        wait_for(lambda: "SUBMITTED" not in bed.run("status", run, "--scratch", str(bed.scratch))[1], "its head")
        record = ended(bed, run)
        assert record["state"] == "DONE", record["error"]
        return
    shown = bed.run("status", run, "--scratch", str(bed.scratch))[1]
    assert re.search(rf"^LOST +{run}", shown, re.MULTILINE), shown
    assert "its head job was never submitted: type hpcml submit again" in shown
    assert not bed.jobs() or isinstance(bed, OpenPbsBed)


@on_real_ones
@pytest.mark.parametrize("how", ["qsub", "submit.sh"])
def test_by_hand(bed: Bed, how: str) -> None:
    (bed.work / "env.sh").write_text(f"export PATH={Path(sys.executable).parent}:$PATH\n")
    if isinstance(bed, OpenPbsBed):
        path = subprocess.run(bed.command("printenv", "PATH")[0], capture_output=True, text=True, check=True).stdout
        (bed.work / "env.sh").write_text(f"export PATH={path}")
    overrides = [*bed.overrides, f"scratch={bed.scratch}", *GRID, "cluster.jobs=2"]
    pbs = isinstance(bed, OpenPbsBed)
    options = ["-l", "select=1:ncpus=1:mem=1gb", "-l", "walltime=00:10:00"] if pbs else ["--mem=1G", "--time=10"]
    if how == "qsub":
        (bed.work / "run.args").write_text("".join(f"{text}\n" for text in overrides))
        tell = ["-v", "HPCML_ARGS_FILE=run.args"] if pbs else ["--ignore-pbs", "--export=ALL,HPCML_ARGS_FILE=run.args"]
        words = ["qsub" if pbs else "sbatch", *options, *tell, str(ROOT / "scripts/pbs/head.pbs")]
    else:
        words = ["env", *([] if pbs else ["HPCML_SUBMIT=sbatch"]), str(ROOT / "scripts/pbs/submit.sh"), *options]
        words += ["--", *overrides]
    command, environment = bed.command(*words)
    done = subprocess.run(command, cwd=bed.work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    job = re.findall(r"\d+\S*", done.stdout)[-1]
    wait_for(lambda: list(bed.scratch.glob("*/record.json")), "the record")
    record = bed.last("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 25), record["error"]
    found = bed.last("ledger.jsonl")
    assert found[0]["job"] == "head"
    assert found[0]["id"].partition(".")[0] == job.partition(".")[0]
    wait_for(lambda: not bed.jobs() or isinstance(bed, OpenPbsBed), "an empty queue")


@on_real_ones
class TestAllocation:
    def test_workers_on_every_node(self, bed: Bed) -> None:
        code, out = submit(bed, *ALLOCATION, *GRID, "cluster.min_workers=4", wait=True)
        assert code == 0, out
        record = ended(bed, run_of(out))
        assert (record["state"], record["units_done"]) == ("DONE", 25)
        assert [entry["workers"] for entry in record["jobs"]] == [2, 2]
        assert all(entry["tasks"] > 0 for entry in record["jobs"])
        assert len({entry["nodes"][0] for entry in record["jobs"]}) == 2
        for entry in record["jobs"]:
            facts = entry["each_worker"]
            assert (facts["threads"], facts["thread_variables"]) == (1, ["1"])
            assert not facts["spill"].startswith(str(bed.scratch))
        assert not (bed.scratch / run_of(out) / "tls").exists()
        wait_for(lambda: not set(ids(bed, run_of(out))) & set(bed.jobs()), "an empty queue")

    def test_a_failed_run_gives_its_exit_code(self, bed: Bed) -> None:
        args = ("model=custom", "model._target_=mine.Nothing", "workload.cv=2")
        (bed.work / "mine.py").write_text(
            (bed.work / "mine.py").read_text()
            + "\nclass Nothing(Slow):\n    def fit(self, X, y): raise ValueError('no such thing')\n"
        )
        code, out = submit(bed, *ALLOCATION, *args, "workload.error_score=raise", wait=True)
        assert code == 1, out
        assert "no such thing" in out
        assert ended(bed, run_of(out))["state"] == "FAILED"

    def test_workers_that_cannot_start(self, bed: Bed) -> None:
        (bed.work / "broken.sh").write_text("[ -z ${HPCML_RUN+x} ] && exit 3\n")
        code, out = submit(bed, *ALLOCATION, *GRID, f"cluster.environment.script={bed.work}/broken.sh", wait=True)
        assert code == 1, out
        assert "0 of 4 workers came" in out
        assert "exit status 3" in out or "exit code 3" in out  # the wording of pbsdsh, or of srun

    def test_outside_of_a_job(self, bed: Bed) -> None:
        code, out = bed.submit(*ALLOCATION, *GRID)
        assert code == 2
        assert "use hpcml submit instead of hpcml run" in out


@on_real_ones
class TestAfter:
    def test_a_run(self, bed: Bed) -> None:
        code, out = submit(bed, *SLOW, "workload.cv=3", "cluster.jobs=1")
        assert code == 0, out
        first = run_of(out)
        code, out = submit(bed, *GRID, "cluster.jobs=1", f"--after={first}")
        assert code == 0, out
        second = run_of(out)
        assert ended(bed, first)["state"] == "DONE"
        began = read(bed, first, "record.json")["ended"]
        assert ended(bed, second)["state"] == "DONE"
        assert read(bed, second, "record.json")["started"] > began
        code, out = submit(bed, *GRID, "cluster.jobs=1", f"--after={first}")
        assert code == 0, out
        assert "is already DONE: nothing to wait for" in out

    @pytest.mark.parametrize(
        ("after", "said"),
        [("987654", "the scheduler has no job 987654"), ("20200101T000000-abcdef", "no such run")],
    )
    def test_what_is_not_there(self, bed: Bed, after: str, said: str) -> None:
        code, out = submit(bed, *GRID, "--after", after)
        assert code == 2
        assert said in out

    def test_a_run_that_failed(self, bed: Bed) -> None:
        code, out = submit(bed, *GRID, "cluster.environment.venv=/no/such", wait=True)
        assert code != 0
        run = run_of(out)
        code, out = submit(bed, *GRID, f"--after={run}")
        assert code == 2, out
        assert "would never start" in out


def in_the_queue(bed: Bed, run: str, least: int) -> bool:
    return len(set(ids(bed, run)[1:]) & set(bed.jobs())) >= least


WHEN: dict[str, Callable[[Bed, str], None]] = {
    "before its workers are there": lambda bed, run: wait_for(lambda: ids(bed, run)[1:], "a worker job"),
    "while they register": lambda bed, run: wait_for(
        lambda: list((bed.scratch / run / "workers").glob("*.log")), "a worker", 60
    ),
    "while they compute": lambda bed, run: computing(bed, run, 2),
}


@on_real_ones
@pytest.mark.parametrize("when", WHEN)
def test_a_head_job_that_is_deleted(bed: Bed, when: str) -> None:
    code, out = submit(bed, *SLOW, "workload.cv=50", "cluster.jobs=6", "cluster.strict=false")
    assert code == 0, out
    run = run_of(out)
    WHEN[when](bed, run)
    bed.delete(head_job(out))
    began = time.monotonic()
    wait_for(lambda: not set(ids(bed, run)) & set(bed.jobs()), "an empty queue")
    took = time.monotonic() - began
    print(f"{bed.name}: head job deleted {when}: queue empty after {took:.1f} s; {len(ids(bed, run))} jobs")
    record = ended(bed, run, 5)
    assert (record["state"], record["exit_code"]) == ("CANCELLED", 143)
    time.sleep(3)  # time for a late job to appear
    assert not set(ids(bed, run)) & set(bed.jobs())


@on_real_ones
@pytest.mark.parametrize("cluster", ["jobs", "allocation"])
def test_a_head_job_whose_walltime_ends(bed: Bed, cluster: str) -> None:
    shape = {
        "jobs": ("cluster.jobs=2", "cluster.walltime=45", "site.head.wait=15", "head.walltime=60"),
        "allocation": (*ALLOCATION, "cluster.walltime=60"),
    }[cluster]
    code, out = submit(bed, *SLOW, "workload.cv=80", *shape, "cluster.strict=false", wait=True)
    assert code == 75, out
    record = ended(bed, run_of(out))
    assert (record["state"], record["exit_code"]) == ("INTERRUPTED", 75)
    assert 25 < record["wall_s"] < 58
    assert record["units_done"] > 10
    assert (bed.scratch / run_of(out) / "tables" / "fits.parquet").exists()
    wait_for(lambda: not set(ids(bed, run_of(out))) & set(bed.jobs()), "an empty queue")


@on_real_ones
def test_worker_jobs_leave_before_their_walltime(bed: Bed) -> None:
    """A search of about 100 seconds in two jobs of 60 loses nothing and counts repeated work."""
    args = ("workload.cv=10", "+model.seconds=4", "cluster.jobs=2", "cluster.walltime=60", "cluster.strict=false")
    code, out = bed.submit(*SLOW, *args, "cluster.workers_per_job=1", "cluster.threads=2")
    assert code == 0, out
    record = bed.last("record.json")
    assert (record["state"], record["units_done"]) == ("DONE", 81)
    jobs = record["jobs"]
    assert len(jobs) >= 4
    left = [entry for entry in jobs if entry["end"] == "drained before its walltime ended"]
    assert len(left) >= 2
    assert sum(entry["tasks"] for entry in jobs) - sum(entry["redone"] for entry in jobs) >= 81
    assert all(entry["seconds"] < 66 for entry in jobs)
    print([(entry["id"], entry["seconds"], entry["end"], entry["tasks"], entry["redone"]) for entry in jobs])


@pytest.mark.parametrize("bed", ["slurm"], indirect=True)
def test_a_unit_that_is_longer_than_a_walltime_ends_the_run(bed: Bed) -> None:
    """An adaptive run ends as well, although it submits jobs while work waits."""
    args = ("workload.cv=2", "+model.seconds=300", "cluster.jobs=2", "cluster.walltime=40", "cluster.strict=false")
    code, out = bed.submit(*SLOW, *args, "cluster.adaptive=true", "cluster.max_restarts=0")
    assert code == 1, out
    assert "no task was finished within a job's cluster.walltime=00:00:40, time and again" in out


@pytest.mark.parametrize("bed", ["slurm"], indirect=True)
def test_no_more_is_submitted_than_can_be_paid(bed: Bed) -> None:
    """Two jobs of two cores and a minute cost 0.067 core-hours; replacements would double that."""
    args = ("workload.cv=60", "+model.seconds=2", "cluster.jobs=2", "cluster.walltime=60", "cluster.strict=false")
    code, out = bed.submit(*SLOW, *args, "cluster.max_cost=0.07")
    assert code == 1, out
    assert "cluster.max_cost=0.07 pays for no more" in out
    assert len(bed.last("record.json")["jobs"]) == 2
    assert (max(bed.scratch.iterdir()) / "tables" / "fits.parquet").exists()


@on_real_ones
def test_clean_leaves_a_running_run_alone(bed: Bed) -> None:
    code, out = submit(bed, *SLOW, "workload.cv=50", "cluster.jobs=1")
    assert code == 0, out
    run = run_of(out)
    computing(bed, run)
    manifest = bed.scratch / run / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "host": "another"}))  # as on a cluster
    code, out = bed.run("clean", "--scratch", str(bed.scratch))
    assert code == 0, out
    assert in_the_queue(bed, run, 1)
    code, shown = bed.run("list", "--scratch", str(bed.scratch))
    assert "RUNNING" in shown
    bed.delete(ids(bed, run)[0])
    assert ended(bed, run, 30)["state"] == "CANCELLED"
