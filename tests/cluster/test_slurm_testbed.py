"""Test the Slurm testbed: it schedules, rejects and kills jobs, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from tests.cluster import slurm as testbeds
from tests.cluster.keeper import wait_for
from tests.cluster.slurm import NODES, Slurm, available
from tests.conftest import ROOT

# Ignores SIGTERM, and has a detached child in another session, which Slurm does not find.
STUBBORN = "trap '' TERM; (setsid sleep 601 &); while :; do sleep 0.1; done"


def write(slurm: Slurm, *lines: str) -> Path:
    """Write a job script into a new directory."""
    script = slurm.make_directory("job-") / "job.sh"
    script.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    return script


def sbatch(slurm: Slurm, script: Path, *options: str) -> str:
    return slurm.run("sbatch", "--parsable", *options, script.name, cwd=script.parent).stdout.strip()


def qsub(slurm: Slurm, script: Path, *options: str) -> str:
    return slurm.run("qsub", *options, script.name, cwd=script.parent).stdout.strip()


def fields(slurm: Slurm, job: str) -> dict[str, str]:
    """Return Slurm's fields of a job, also of one that has ended."""
    shown = slurm.run("scontrol", "--oneliner", "show", "job", job).stdout
    return dict(re.findall(r"(\S+?)=(\S*)", shown))


def wait_for_state(slurm: Slurm, job: str, state: str) -> None:
    wait_for(lambda: fields(slurm, job)["JobState"] == state, f"job {job} to be {state}")


def marked(directory: Path) -> list[str]:
    """Return all processes that refer to a testbed's directory, whichever process started them."""
    found = []
    for process in psutil.process_iter():
        try:
            text = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except psutil.Error:
            continue
        if process.status() != psutil.STATUS_ZOMBIE and any(str(directory) in part for part in text):
            found.append(f"{process.pid} {process.name()}")
    return found


def commands(slurm: Slurm) -> list[str]:
    found = []
    for process in slurm.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(process.cmdline()))
    return found


@pytest.fixture
def own() -> Iterator[Slurm]:
    """Start a testbed for one test to break."""
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    testbed = Slurm()
    testbed.start()
    yield testbed
    if testbed.directory.exists():
        testbed.stop()


def test_all_is_an_ordinary_users(slurm: Slurm) -> None:
    script = write(slurm, "id -u", "grep -E 'Cap(Eff|Amb)' /proc/self/status", f"{sys.executable} -c 'print(6 * 7)'")
    job = sbatch(slurm, script, "--output=out")
    wait_for_state(slurm, job, "COMPLETED")
    uid, *caps, answer = (script.parent / "out").read_text().splitlines()
    assert uid == str(slurm.uid) != "0"
    assert answer == "42"  # the interpreter may be in a directory of root's
    if os.geteuid() == 0:
        may = [f"{1 << 2:016x}"] * 2  # CAP_DAC_READ_SEARCH and no other capability
    else:
        may = re.findall(r"Cap(?:Eff|Amb):\t(\w+)", Path("/proc/self/status").read_text())
    assert caps == [f"CapEff:\t{may[0]}", f"CapAmb:\t{may[1]}"]
    assert slurm.run("id", "-u").stdout == f"{slurm.uid}\n"
    assert sum(bool(re.match("munged|slurmctld|slurmd", command)) for command in commands(slurm)) == 4
    assert {uid for process in slurm.processes() for uid in process.uids()} == {slurm.uid}


def test_sbatch(slurm: Slurm) -> None:
    script = write(slurm, "#SBATCH --ntasks=1 --mem=500 --time=10", "echo on $SLURMD_NODENAME", "pwd", "echo err >&2")
    job = sbatch(slurm, script)
    wait_for_state(slurm, job, "COMPLETED")
    node, directory, err = (script.parent / f"slurm-{job}.out").read_text().splitlines()
    assert node in [f"on {name}" for name in NODES]
    assert (directory, err) == (str(script.parent), "err")


def test_both_nodes(slurm: Slurm) -> None:
    script = write(slurm, "srun --label bash -c 'echo $SLURMD_NODENAME'")
    job = sbatch(slurm, script, "--nodes=2", "--ntasks-per-node=1", "--mem=500", "--time=10", "--output=out")
    wait_for_state(slurm, job, "COMPLETED")
    assert sorted((script.parent / "out").read_text().splitlines()) == ["0: n1", "1: n2"]


def test_qsub(slurm: Slurm) -> None:
    script = write(
        slurm,
        "#PBS -N hello",
        "#PBS -q express",
        "#PBS -l select=1:ncpus=1:mem=500mb",
        "#PBS -l walltime=00:05:00",
        "echo $PBS_JOBID $PBS_JOBNAME $PBS_QUEUE $PBS_O_WORKDIR",
        "until [ -e go ]; do sleep 0.1; done",
    )
    job = qsub(slurm, script)
    assert job.isdigit()
    wait_for_state(slurm, job, "RUNNING")
    shown = slurm.run("qstat", "-f", job).stdout
    for line in ("job_state = R", "queue = express", "Job_Name = hello", "Resource_List.walltime = 00:05:00"):
        assert f"\t{line}\n" in shown
    assert shown.startswith(f"Job Id:\t{job}\n")
    assert re.search(r"\texec_host = n[12]/1\n", shown)
    (script.parent / "go").touch()
    wait_for_state(slurm, job, "COMPLETED")
    # spank_pbs sets the job's name and queue only.
    assert (script.parent / f"job.sh.o{job}").read_text() == f"{job} hello express {script.parent}\n"
    assert (script.parent / f"job.sh.e{job}").read_text() == ""
    assert "\tjob_state = C\n" in slurm.run("qstat", "-f", job).stdout


@pytest.mark.parametrize(
    ("directive", "said"),
    [
        ("#SBATCH --time=48:01:00", "Requested time limit is invalid"),
        ("#SBATCH --partition=express --time=00:06:00", "Requested time limit is invalid"),
        ("#SBATCH --mem=6001", "Memory specification can not be satisfied"),
        ("#SBATCH --cpus-per-task=5", "CPU count per node can not be satisfied"),
        ("#SBATCH --partition=nosuch", "invalid partition specified: nosuch"),
        ("#PBS -l walltime=48:01:00", "Requested time limit is invalid"),
        ("#PBS -l select=1:ncpus=1:mem=6001mb", "Memory specification can not be satisfied"),
        ("#PBS -l select=1:ncpus=5:mem=500mb", "CPU count per node can not be satisfied"),
        ("#PBS -q nosuch", "invalid partition specified: nosuch"),
    ],
)
def test_what_is_over_a_limit_is_refused(slurm: Slurm, directive: str, said: str) -> None:
    script = write(slurm, directive, "true")
    pbs = directive.startswith("#PBS")
    done = slurm.run("qsub" if pbs else "sbatch", script.name, cwd=script.parent, check=False)
    assert done.returncode == 1
    # The wrapper qsub prints all messages on stdout.
    assert said in (done.stdout if pbs else done.stderr)


def test_memory_over_the_limit_is_killed(slurm: Slurm) -> None:
    script = write(slurm, f"{sys.executable} -c 'import time; held = b\"x\" * 300_000_000; time.sleep(600)'", "echo no")
    job = sbatch(slurm, script, "--mem=100", "--time=10", "--output=out")
    wait_for_state(slurm, job, "FAILED")
    said = (script.parent / "out").read_text()
    assert f"StepId={job}.batch exceeded memory limit" in said
    assert "no\n" not in said
    assert fields(slurm, job)["ExitCode"] == "0:9"


@pytest.mark.parametrize("command", ["qdel", "scancel"])
@pytest.mark.parametrize("options", [(), ("--hold",)], ids=["running", "queued"])
def test_cancelled(slurm: Slurm, command: str, options: Sequence[str]) -> None:
    script = write(slurm, "trap 'echo asked; exit 0' TERM", "echo began", "while :; do sleep 0.1; done")
    job = sbatch(slurm, script, "--mem=500", "--time=10", "--output=out", *options)
    out = script.parent / "out"
    if options:
        assert slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%T %r").stdout == "PENDING JobHeldUser\n"
    else:
        wait_for(lambda: out.exists() and out.read_text() == "began\n", "the job's first word")
    slurm.run(command, job)
    wait_for(lambda: job not in slurm.jobs(), "the job's end")
    assert fields(slurm, job)["JobState"] == "CANCELLED"
    assert out.exists() == (not options)
    if not options:
        assert out.read_text().endswith("asked\n")


def test_two_side_by_side_and_one_stops(slurm: Slurm, own: Slurm) -> None:
    job = sbatch(slurm, write(slurm, "sleep 600"), "--mem=500", "--time=10")
    others = [sbatch(own, write(own, STUBBORN), "--mem=500", "--time=10") for _ in range(2)]
    wait_for_state(slurm, job, "RUNNING")
    assert slurm.jobs() == [job]
    assert sorted(own.jobs()) == others
    wait_for(lambda: commands(own).count("sleep 601") == 2, "the jobs' children")
    own.run("scancel", others[0])
    wait_for(lambda: own.jobs() == others[1:], "the end of a job that must be killed")
    assert commands(own).count("sleep 601") == 2  # a detached child, which is hard to find
    own.stop()
    assert marked(own.directory) == []
    assert not own.directory.exists()
    assert fields(slurm, job)["JobState"] == "RUNNING"
    slurm.run("scancel", job)
    wait_for(lambda: slurm.jobs() == [], "the job's end")


def test_nothing_survives_who_started_it() -> None:
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    code = "import sys; from tests.cluster.slurm import Slurm; s = Slurm(); s.start(); print(s.directory); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert directory.name.startswith("slurm-")
        assert len(marked(directory)) >= 8
        process.kill()
    try:
        wait_for(lambda: marked(directory) == [], "the end of daemons whose testbed was killed")
    finally:
        subprocess.run(["rm", "-rf", directory], check=True)


def test_a_node_that_dies_and_comes_back(own: Slurm) -> None:
    jobs = [
        sbatch(own, write(own, "sleep 600"), "--mem=500", "--time=10", "--nodelist=n1", "--no-requeue"),
        sbatch(own, write(own, "sleep 600"), "--mem=500", "--time=10", "--nodelist=n1", "--requeue"),
        sbatch(own, write(own, "sleep 600"), "--mem=500", "--time=10", "--nodelist=n2"),
    ]
    for job in jobs:
        wait_for_state(own, job, "RUNNING")
    own.kill_node("n1")
    assert own.nodes()["n1"] == "down"
    lost, queued, elsewhere = (fields(own, job) for job in jobs)
    assert (lost["JobState"], lost["Reason"]) == ("NODE_FAIL", "NodeDown")
    assert (queued["JobState"], queued["Restarts"]) == ("PENDING", "1")
    assert elsewhere["JobState"] == "RUNNING"
    own.start_node("n1")
    assert own.nodes()["n1"] == "idle"


def test_a_controller_that_stops_and_comes_back(own: Slurm) -> None:
    script = write(own, "until [ -e go ]; do sleep 0.1; done", "touch done")
    job = sbatch(own, script, "--mem=500", "--time=10")
    wait_for_state(own, job, "RUNNING")
    own.stop_controller()
    assert not any(command.startswith("slurmctld") for command in commands(own))
    (script.parent / "go").touch()
    wait_for((script.parent / "done").exists, "what runs on a node, which needs no controller")
    own.start_controller()
    wait_for_state(own, job, "COMPLETED")


def test_missing_programs_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(testbeds, "SYSTEM_PATH", str(tmp_path))
    said = available()
    assert said is not None
    assert said.startswith("no Slurm to test with, for want of munged, slurmctld, ")
    assert f"apt-get install {testbeds.PACKAGES}" in said


def test_a_start_that_fails_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    monkeypatch.setattr(testbeds, "CONFIG", f"{testbeds.CONFIG}NoSuchSetting=1\n")
    testbed = Slurm()
    with pytest.raises(AssertionError, match=r"slurmctld.* ended(.|\n)*NoSuchSetting"):
        testbed.start()
    assert marked(testbed.directory) == []
    assert not testbed.directory.exists()
