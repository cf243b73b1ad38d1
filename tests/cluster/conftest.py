"""One testbed for the tests of a file, whose logs a failing test shows."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import pytest
from tests.cluster.slurm import Slurm, available


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, value in getattr(item, "funcargs", {}).items():
        if report.failed and isinstance(value, Slurm):
            report.sections.append((f"logs of {name}", value.logs()))
    return report
