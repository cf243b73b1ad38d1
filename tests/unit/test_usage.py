"""Gadi's usage block, and PBS's messages about kills, in the output of jobs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.openpbs import Sample, samples

from hpcml.batch.schedulers.usage import Usage, read_kill, read_usage

RULE = "=" * 86
BLOCK = f"""{RULE}
                  Resource Usage on 2025-03-13 11:13:31:
   Job Id:             136906625.gadi-pbs
   Project:            vp91
   Exit Status:        -17 (Job execution failed due to hook rejection; delete the job at end)
   Service Units:      0.00
   NCPUs Requested:    12                     NCPUs Used: 12
                                           CPU Time Used:
   Memory Requested:   95.0GB                Memory Used: 0B
   NGPUs Requested:    1                 GPU Utilisation: 0%
                                         GPU Memory Used:
   Walltime requested: 08:00:00            Walltime Used:
   JobFS requested:    10.0GB                 JobFS used:
{RULE}
"""
FULL = (
    BLOCK.replace("-17 (Job execution failed due to hook rejection; delete the job at end)", "0")
    .replace("Units:      0.00", "Units:      1,234.50")
    .replace("CPU Time Used:", "CPU Time Used: 26:00:01")
    .replace("Memory Used: 0B", "Memory Used: 8.5GB")
    .replace("Walltime Used:", "Walltime Used: 00:00:00")
    .replace("JobFS used:", "JobFS used: 8.0MB")
)
GB = 1024**3


def test_ncis_sample() -> None:
    assert read_usage(f"hello\n{BLOCK}") == Usage(
        job_id="136906625.gadi-pbs", project="vp91", exit_status=-17, service_units=0.0, ncpus=12, ngpus=1,
        mem_requested=95 * GB, mem_used=0, walltime_requested=8 * 3600, walltime_used=None, jobfs_requested=10 * GB,
        jobfs_used=None, cpu_time=None,
    )  # fmt: skip


@pytest.mark.parametrize("text", [FULL, FULL.upper().replace("RESOURCE USAGE ON", "Resource Usage on"),
                                  FULL.replace("Requested", "requested").replace("Used", "used")])  # fmt: skip
def test_all_values_in_any_case(text: str) -> None:
    found = read_usage(text)
    assert found is not None
    assert (found.exit_status, found.service_units, found.cpu_time) == (0, 1234.5, 26 * 3600 + 1)
    assert (found.mem_used, found.walltime_used, found.jobfs_used) == (int(8.5 * GB), 0, 8 * 1024**2)


def test_a_blank_value_does_not_take_its_neighbours() -> None:
    found = read_usage(FULL.replace("08:00:00", "        ").replace("1                 GPU", "                  GPU"))
    assert found is not None
    assert (found.walltime_requested, found.walltime_used, found.ngpus) == (None, 0, None)


def test_the_last_block_counts() -> None:
    found = read_usage(BLOCK + "resubmitted\n" + FULL)
    assert found is not None
    assert found.exit_status == 0
    assert read_usage(FULL + "Project: other\n") == read_usage(FULL)


@pytest.mark.parametrize("text", ["", "hello\n", "Resource Usage on", BLOCK.partition("   Walltime")[0]])
def test_no_block_or_half_of_one(text: str) -> None:
    assert read_usage(text) is None


WALLTIME = "PBS killed the job: its walltime of 00:00:{} exceeded the limit of 00:00:15; increase cluster.walltime"
KILLS = {
    "jobfile_wall.sh.e113": WALLTIME.format(30),
    "jobfile_wall_trap.sh.e114": WALLTIME.format(23),
    "jobfile_wall_ignore.sh.e115": WALLTIME.format(23),
    "jobfile_memkill.sh.e116": (
        "PBS killed the job: its mem of 824MB exceeded the limit of 100MB; increase cluster.mem"
    ),
}


@pytest.mark.parametrize("sample", samples("usage"), ids=lambda sample: sample.name)
def test_recorded_output(sample: Sample) -> None:
    text = sample.stdout.decode()
    assert read_kill(text) == KILLS.get(sample.name)
    assert read_usage(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Job 12345678.gadi-pbs killed due to exceeding jobfs quota",
            "it wrote more to jobfs than requested; increase",
        ),
        (
            "x\nJob 1.gadi-pbs killed due to exceeding jobfs quota. Quota: 100MB, Used: 1GB, Host: n1\n",
            "it wrote more to jobfs than requested (1GB of 100MB); increase cluster.jobfs",
        ),
        ("Cgroup memory limit exceeded: Killed process 1", "cluster.mem"),
        ("=>> PBS: job killed: ncpus 5.2 exceeded limit 4 (burst)", "its ncpus of 5.2 exceeded the limit of 4"),
        ("=>> PBS: job killed: cput 120 exceeded limit 60", "its cput of 00:02:00 exceeded the limit of 00:01:00"),
        ("=>> PBS: job killed: something new\n", "PBS killed the job: something new"),
    ],
)
def test_kills(text: str, expected: str) -> None:
    assert expected in str(read_kill(text))


@settings(database=None, deadline=None)
@given(st.text(), st.text(), st.sampled_from([BLOCK, FULL]))
def test_anything(before: str, inside: str, block: str) -> None:
    for text in (before, f"=>> PBS: job killed: {before}", f"=>> PBS: job killed: walltime {before} exceeded limit 1"):
        read_kill(text)
    read_usage(before)
    read_usage(block.replace("vp91", inside))
    assert read_usage(before + block) is not None
