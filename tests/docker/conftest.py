"""Start both testbeds, each from its first test to its last; a failing test shows its logs."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from tests.docker.testbed import Testbed, missing, up


def _give(scheduler: str) -> Iterator[Testbed]:
    lacking = missing(scheduler)
    if lacking is not None:
        pytest.skip(lacking)
    with up(scheduler) as testbed:
        yield testbed


@pytest.fixture(scope="session")
def slurm() -> Iterator[Testbed]:
    """Start the Slurm of docker/slurm."""
    yield from _give("slurm")


@pytest.fixture(scope="session")
def pbs() -> Iterator[Testbed]:
    """Start the OpenPBS of docker/pbs."""
    yield from _give("pbs")


@pytest.fixture(scope="session", params=["slurm", "pbs"])
def testbed(request: pytest.FixtureRequest) -> Testbed:
    """Yield one testbed, then the other."""
    given: Testbed = request.getfixturevalue(request.param)
    return given


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    used = {id(value): value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Testbed)}
    if report.failed:
        report.sections += [(f"logs of {testbed.project}", testbed.logs()) for testbed in used.values()]
    return report
