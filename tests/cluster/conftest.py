"""Start the schedulers that tests run on, one testbed per file; a failing test shows its logs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator

import pytest
from tests.cluster.beds import SLOW, Bed, OpenPbsBed, SlurmBed
from tests.cluster.keeper import wait_for
from tests.cluster.openpbs import Elsewhere, OpenPbs
from tests.cluster.openpbs import missing as openpbs_missing
from tests.cluster.slurm import Slurm, available

OPENPBS = os.environ.get("HPCML_TEST_OPENPBS")  # read here: tests run without HPCML_*


@pytest.fixture(scope="module")  # stop it before other tests look at listening ports
def slurm() -> Iterator[Slurm]:
    """Start a Slurm with two idle nodes and cancel the jobs that a test leaves."""
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    with Slurm() as testbed:
        yield testbed
        deadline = time.monotonic() + 20  # cancelled jobs may take KillWait to end
        while testbed.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = testbed.jobs()
        assert not left, f"tests left jobs behind:\n{testbed.run('scontrol', 'show', 'job', *left).stdout}"


@pytest.fixture(scope="session")  # its network is separate, so other tests do not see its ports
def openpbs() -> Iterator[OpenPbs | Elsewhere]:
    """Start an OpenPBS with two free nodes and delete the jobs that a test leaves."""
    if OPENPBS is not None:
        yield Elsewhere(OPENPBS)
        return
    reason = openpbs_missing()
    if reason is not None:
        pytest.skip(reason)
    with OpenPbs() as testbed:
        yield testbed


@pytest.fixture
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """Yield a bed and delete all jobs that the test submitted."""
    if not request.param.startswith("openpbs"):
        made: Bed = SlurmBed(request.getfixturevalue("slurm"), request.param)
    else:
        flat = ("site.dialect=flat", "site.storage.directive=storage", "site.storage.roots={/scratch: scratch}",
                "cluster.storage=scratch", "cluster.project=ab12", "cluster.jobfs=1GB")  # fmt: skip
        openpbs = request.getfixturevalue("openpbs")
        made = OpenPbsBed(openpbs, flat if request.param == "openpbs-flat" else ())
    before = set(made.jobs())
    yield made
    try:
        wait_for(lambda: not set(made.jobs()) - before, f"jobs left on {made.name}: {set(made.jobs()) - before}")
    except AssertionError:
        # An OpenPBS may have jobs of other users.
        for job in submitted(made) & set(made.jobs()):
            made.delete(job)
        raise
    shutil.rmtree(made.work, ignore_errors=True)


@pytest.fixture
def slow_run(bed: Bed) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a long run and return once it computes."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, done: int = 2) -> subprocess.Popen[str]:
        process = bed.start("run", *bed.overrides, f"scratch={bed.scratch}", "cluster.jobs=2", *SLOW, *args)
        started.append(process)

        def computing() -> bool:
            assert process.poll() is None, process.communicate()[0]
            found = list(bed.scratch.glob("*/progress.json"))
            return bool(found) and json.loads(max(found).read_text())["done"] >= done

        wait_for(computing, "finished units")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def submitted(bed: Bed) -> set[str]:
    """Return the ids of all jobs that the runs of a test submitted."""
    lines = [line for path in bed.scratch.glob("*/ledger.jsonl") for line in path.read_text().splitlines()]
    return {entry["id"] for entry in map(json.loads, lines) if entry["event"] == "submitted"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, value in getattr(item, "funcargs", {}).items():
        if report.failed and isinstance(value, Slurm | OpenPbs):
            report.sections.append((f"logs of {name}", value.logs()))
    return report
