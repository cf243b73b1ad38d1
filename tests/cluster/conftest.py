"""One testbed for the tests of a file, whose logs a failing test shows; and the schedulers that tests run on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator, Iterator

import pytest
from tests.cluster.beds import Bed, OpenPbsBed, SlurmBed
from tests.cluster.slurm import Slurm, available, wait_for

OPENPBS = os.environ.get("HPCML_TEST_OPENPBS")
NO_OPENPBS = "no OpenPBS: set HPCML_TEST_OPENPBS to a command that runs a line of shell on a host that has one"


@pytest.fixture(scope="module")  # gone before other tests look at what listens on this machine
def slurm() -> Iterator[Slurm]:
    """Give a Slurm with two idle nodes; what a test submits, it ends."""
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    with Slurm() as testbed:
        yield testbed
        deadline = time.monotonic() + 20  # what was cancelled may take KillWait to end
        while testbed.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = testbed.jobs()
        assert not left, f"tests left jobs behind:\n{testbed.run('scontrol', 'show', 'job', *left).stdout}"


@pytest.fixture
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """Give a scheduler; whatever a test does there, no job is left."""
    if not request.param.startswith("openpbs"):
        made: Bed = SlurmBed(request.getfixturevalue("slurm"), request.param)
    elif OPENPBS is None:
        pytest.skip(NO_OPENPBS)
    else:
        flat = ("site.dialect=flat", "site.storage.directive=storage", "site.storage.roots={/scratch: scratch}",
                "cluster.storage=scratch", "cluster.project=ab12", "cluster.jobfs=1GB")  # fmt: skip
        made = OpenPbsBed(OPENPBS, flat if request.param == "openpbs-flat" else ())
    before = set(made.jobs())
    yield made
    try:
        wait_for(lambda: not set(made.jobs()) - before, f"jobs left on {made.name}: {set(made.jobs()) - before}", 60)
    except AssertionError:
        for job in submitted(made) & set(made.jobs()):  # an OpenPBS may have others
            made.delete(job)
        raise
    shutil.rmtree(made.work, ignore_errors=True)


def submitted(bed: Bed) -> set[str]:
    """List what the runs of a test have submitted."""
    lines = [line for path in bed.scratch.glob("*/ledger.jsonl") for line in path.read_text().splitlines()]
    return {entry["id"] for entry in map(json.loads, lines) if entry["event"] == "submitted"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, value in getattr(item, "funcargs", {}).items():
        if report.failed and isinstance(value, Slurm):
            report.sections.append((f"logs of {name}", value.logs()))
    return report
