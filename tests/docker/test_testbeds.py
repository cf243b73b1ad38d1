"""Test that the testbeds of docker/ match their site files and run, limit and delete jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docker.testbed import NODES, Testbed, docker

SMALL = "#PBS -l select=1:ncpus=1:mem=500mb"
# Allocate more than the limit of a job of 300 MB, in steps, so that polling notices it.
GREEDY = """
import time
held = []
for _ in range(80):
    held.append(bytearray(20 * 2**20))
    time.sleep(0.2)
time.sleep(120)
"""


@contextlib.contextmanager
def submitted(testbed: Testbed, *lines: str) -> Iterator[str]:
    """Submit a job and delete it afterwards."""
    job = testbed.qsub(testbed.make_directory(), *lines)
    try:
        yield job
    finally:
        testbed.run("qdel", job, check=False)
        testbed.wait_for(lambda: job not in testbed.jobs(), f"the end of job {job}")


def running(testbed: Testbed, job: str) -> None:
    testbed.wait_for(lambda: testbed.qstat(job).get("job_state") == "R", f"the start of job {job}")


def test_hello(testbed: Testbed) -> None:
    directory = testbed.make_directory()
    lines = ["#PBS -l walltime=00:01:00", SMALL, f"cd {directory}", "id -un > who", "hostname > where", "pwd"]
    job = testbed.qsub(directory, *lines, "hpcml --version > version")
    assert testbed.finished(job).get("Exit_status", "0") == "0"  # Slurm's qstat has no Exit_status
    assert testbed.read(directory / "who") == "hpcuser\n"
    assert testbed.read(directory / "where").strip() in NODES
    assert testbed.read(directory / "version") == testbed.run("hpcml", "--version").stdout


def test_two_jobs_that_fill_their_nodes_run_at_once(testbed: Testbed) -> None:
    directory = testbed.make_directory()
    wait = f"cd {directory} && touch at.$(hostname) && for _ in $(seq 600); do [ -e go ] && exit; sleep 0.2; done"
    script = ["#PBS -l select=1:ncpus=4:mem=5gb", "#PBS -l walltime=00:03:00", wait]
    jobs = [testbed.qsub(directory, *script) for _ in range(2)]
    testbed.wait_for(lambda: len(testbed.run("sh", "-c", "ls at.* || true", cwd=directory).stdout.split()) == 2, "both")
    testbed.write(directory / "go", "")
    assert {testbed.finished(job)["exec_host"].split("/")[0] for job in jobs} == set(NODES)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["-q", "express", "-l", "walltime=00:06:00"],
            {"pbs": "violates queue and/or server resource limits", "slurm": "time limit"},
        ),
        (
            ["-q", "normal", "-l", "walltime=49:00:00"],
            {"pbs": "violates queue and/or server resource limits", "slurm": "time limit"},
        ),
        (["-q", "nosuch"], {"pbs": "Unknown queue", "slurm": "invalid partition"}),
    ],
)
def test_what_is_over_a_limit_is_refused(testbed: Testbed, options: list[str], said: dict[str, str]) -> None:
    directory = testbed.make_directory()
    testbed.write(directory / "job.sh", "#!/bin/bash\ntrue\n")
    done = testbed.run("qsub", *options, "job.sh", cwd=directory, check=False)
    assert done.returncode != 0
    assert said[testbed.scheduler] in done.stdout + done.stderr
    assert testbed.jobs() == []


def test_memory_over_the_limit_is_killed(testbed: Testbed) -> None:
    directory = testbed.make_directory()
    testbed.write(directory / "greedy.py", GREEDY)
    greedy = f"exec python {directory}/greedy.py"
    script = ["#PBS -l select=1:ncpus=1:mem=300mb", "#PBS -l walltime=00:05:00", greedy]
    job = testbed.qsub(directory, *script, options=("-e", f"{directory}/err", "-o", f"{directory}/out"))
    job_said = testbed.finished(job)
    said = testbed.read(directory / "err")
    if testbed.scheduler == "pbs":
        assert job_said["Exit_status"] == "-27"
        assert "exceeded limit" in said
    else:
        assert "exceeded memory limit" in said


def test_qdel(testbed: Testbed) -> None:
    with submitted(testbed, SMALL, "#PBS -l walltime=00:05:00", "exec sleep 300") as job:
        running(testbed, job)
        testbed.run("qdel", job)
        testbed.wait_for(lambda: job not in testbed.jobs(), "the job's end", seconds=60)


def test_plan(testbed: Testbed) -> None:
    name = {"pbs": "testbed_openpbs", "slurm": "testbed_slurm"}[testbed.scheduler]
    done = testbed.run("hpcml", "plan", "experiment=digits_svc", f"site={name}", "cluster.jobs=2")
    assert "normal" in done.stdout


def test_files_go_there_and_back(testbed: Testbed, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data").write_bytes(bytes(range(256)))
    directory = testbed.make_directory()
    testbed.put(tmp_path / "in", directory)
    assert testbed.run("stat", "--format=%U", "in/data", cwd=directory, host="node2").stdout == "hpcuser\n"
    assert (testbed.get(directory / "in", tmp_path / "back") / "data").read_bytes() == bytes(range(256))


def test_nothing_is_privileged(testbed: Testbed) -> None:
    for container in testbed.containers.values():
        shown = docker(
            "inspect", "--format={{.HostConfig.Privileged}} {{.HostConfig.CapAdd}}", container
        ).stdout.decode()
        assert shown.split()[0] == "false"
        assert shown.split(maxsplit=1)[1].strip() in ("[]", "[SYS_PTRACE]", "[CAP_SYS_PTRACE]")
    assert testbed.run("id", "-u").stdout == "1000\n"


def test_the_scheduler_stops_and_comes_back(testbed: Testbed) -> None:
    with submitted(testbed, SMALL, "#PBS -l walltime=00:05:00", "exec sleep 300") as job:
        running(testbed, job)
        testbed.stop_controller()
        assert testbed.run("qstat", check=False, timeout=300).returncode != 0
        testbed.start_controller()
        assert testbed.qstat(job)["job_state"] == "R"


def test_a_node_dies_and_comes_back(testbed: Testbed) -> None:
    testbed.kill_node("node2")
    testbed.wait_for(lambda: not testbed.ready(), "the loss to be seen", seconds=150)
    testbed.start_node("node2")
    test_two_jobs_that_fill_their_nodes_run_at_once(testbed)


def test_openpbs_runs_a_job_over_two_nodes(pbs: Testbed) -> None:
    directory = pbs.make_directory()
    lines = ["#PBS -l select=2:ncpus=4:mem=1gb", "#PBS -l walltime=00:02:00", f"cat $PBS_NODEFILE > {directory}/nodes"]
    assert pbs.finished(pbs.qsub(directory, *lines))["Exit_status"] == "0"
    assert pbs.read(directory / "nodes") == "node1\nnode2\n"


@pytest.mark.parametrize("form", ["-l select=1:ncpus=2:mem=1gb:jobfs=1gb", "-l ncpus=2,mem=1gb,jobfs=1gb"])
def test_openpbs_has_the_resources_of_gadi(pbs: Testbed, form: str) -> None:
    lines = [
        f"#PBS {form}",
        "#PBS -P ab12",
        "#PBS -l storage=scratch/ab12+gdata/ab12",
        "#PBS -l filesystems=home:eagle",
    ]
    said = pbs.finished(pbs.qsub(pbs.make_directory(), *lines, "#PBS -l walltime=00:01:00", "true"))
    assert said["Exit_status"] == "0"
    assert "jobfs=1048576kb" in said["exec_vnode"]
    assert said["project"] == "ab12"


# PBS compares a request with the sum over all nodes. A job that only exceeds each single node stays
# "Not Running" indefinitely.
@pytest.mark.parametrize("resource", ["jobfs=21gb", "mem=13gb", "ngpus=1"])
def test_openpbs_knows_what_it_can_never_give(pbs: Testbed, resource: str) -> None:
    with submitted(pbs, f"#PBS -l select=1:ncpus=1:{resource}", "true") as job:
        pbs.wait_for(lambda: "Can Never Run" in pbs.qstat(job).get("comment", ""), "the verdict")


def test_openpbs_has_the_queues_of_its_site(pbs: Testbed) -> None:
    said = pbs.run("qstat", "-Qf").stdout
    assert [line.split()[1] for line in said.splitlines() if line.startswith("Queue:")] == ["normal", "express"]
    assert said.count("resources_max.ncpus = 8") == 2
