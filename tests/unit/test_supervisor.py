"""The supervisor of worker jobs, with a fake clock and scheduler."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.requests import resolved
from tests.unit.test_jobs import Fake

from hpcml.batch.schedulers.listing import JobStatus, State
from hpcml.cluster import job_state, rotation, supervisor
from hpcml.cluster import jobs as jobs_module
from hpcml.cluster.batch import _nobody_came
from hpcml.cluster.job_state import WorkerJob
from hpcml.cluster.jobs import Jobs
from hpcml.cluster.setbacks import Setbacks
from hpcml.cluster.supervisor import Supervisor
from hpcml.cluster.tally import Tally
from hpcml.runs import RunPaths


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


class Rig:
    """A supervisor between a fake Dask cluster and a fake batch scheduler."""

    def __init__(self, root: Path, clock: Clock, **changes: Any) -> None:
        request = resolved("testbed_openpbs", ["cluster.jobs=2", "cluster.walltime=01:00:00"])[0]
        request = dataclasses.replace(request, **changes)
        self.clock, self.fake = clock, Fake()
        self.jobs = Jobs(request, RunPaths(root), self.fake)  # type: ignore[arg-type]
        self.workers: dict[str, Any] = {}
        # Jobs that Dask has been asked to create.
        self.late, self.later = False, list[Callable[[], None]]()
        scheduler = SimpleNamespace(
            workers=self.workers, running=[], queued=[], unrunnable=[], task_prefixes={}, get_events=lambda _: []
        )
        self.cluster = SimpleNamespace(scheduler=scheduler, tally=Tally(), gave_up=None, out_of_time=False)
        self.dask = SimpleNamespace(
            loop=SimpleNamespace(add_callback=_call), worker_spec={}, workers={}, scale=self._scale
        )
        self._scale(jobs=request.first_jobs)
        self.supervisor = Supervisor(self.dask, self.cluster, self.jobs)  # type: ignore[arg-type]

    def _scale(self, jobs: int) -> None:
        if self.late:
            self.later.append(lambda: self._make(jobs))
        else:
            self._make(jobs)

    def _make(self, jobs: int) -> None:
        while len(self.dask.worker_spec) < jobs:
            name = self.jobs.new_name()
            self.dask.worker_spec[name] = None
            asyncio.run(self.jobs.submit(name))

    def job(self, number: int) -> WorkerJob:
        return self.jobs.all[f"job-{number}"]

    def runs(self, number: int, *, node: str = "good", worker: bool = True) -> None:
        """Start a job and register its worker."""
        job = self.job(number)
        self.fake.states[str(job.id)] = JobStatus(str(job.id), "x", State.RUNNING, "normal", nodes=(node,))
        if worker:
            task = SimpleNamespace(name=f"job-{number}-0", processing={"a task": 1}, executing=[])
            self.workers[f"tcp://{number}"] = task

    def fails(self, number: int, *, node: str = "bad", code: int = 1) -> None:
        """Run a job on a node for a moment and let it fail."""
        job = self.job(number)
        self.runs(number, node=node, worker=False)
        self.look_until(lambda: job.running is not None)
        self.workers.pop(f"tcp://{number}", None)
        self.jobs.paths.job_log(job.name).write_text(f"first\nno such file on {node}\n")
        self.fake.states[str(job.id)] = JobStatus(
            str(job.id), "x", State.FINISHED, "normal", substate=93, exit_status=code, nodes=(node,)
        )
        self.look_until(lambda: not job.alive)

    def keeps(self, number: int, *, node: str = "bad") -> None:
        """Let a job fail and occupy its node."""
        self.runs(number, node=node, worker=False)
        self.jobs.paths.job_failure(f"job-{number}").write_text(f"{node}.site\n1\nfirst\nno such file on {node}\n")
        self.look_until(lambda: self.job(number).broken)

    def look(self, seconds: float = 1.0) -> None:
        """Advance the clock second by second and run the supervisor."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += min(1.0, end - self.clock.now)
            self.supervisor.step()

    def look_until(self, condition: Callable[[], bool]) -> None:
        """Advance until a condition holds, as long as the scheduler is left alone."""
        for _ in range(100):
            if condition():
                return
            self.look()
        raise AssertionError("waited in vain")

    @property
    def count(self) -> int:
        """Number of jobs submitted so far."""
        return len(self.jobs.all)


def _call(function: Callable[..., Any], *args: Any) -> None:
    function(*args)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (job_state, jobs_module, rotation, supervisor):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(jobs_module, "_SPACING", 0)
    return made


def test_a_lost_job_is_replaced_at_once(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock)
    rig.runs(0)
    rig.look()
    rig.fails(1)
    assert rig.count == 3


def test_after_two_failures_in_a_row_the_next_submission_waits(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, clock, max_restarts=10)
    rig.runs(0)
    rig.look()
    waits = []
    for number in range(1, 7):
        rig.fails(number)
        began = clock.now
        while rig.count == number + 1:
            rig.look()
        waits.append(clock.now - began)
    assert waits[0] == 0
    assert [round(wait / 30) for wait in waits[1:]] == [1, 2, 4, 8, 10]
    assert "2 jobs in a row failed at once (2 on bad so far): the next worker job is submitted in" in caplog.text
    assert "the last line of its output" in caplog.text
    assert "no such file on bad" in caplog.text


def test_jobs_are_tried_one_at_a_time_until_one_succeeds(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock, max_restarts=10, jobs=4)
    rig.runs(0)
    rig.look()
    for number in (1, 2):
        rig.runs(number, worker=False)
    rig.fails(1)
    rig.fails(2)
    rig.fails(3)
    assert rig.count == 5  # the replacement of the first failure
    rig.fails(4)
    rig.look(300)
    assert rig.count == 6
    rig.look(600)  # It waits in the queue, and no others are submitted.
    assert rig.count == 6
    rig.runs(5)
    rig.look(30)
    assert rig.count == 6
    rig.look(60)
    assert rig.count == 8


def test_a_pending_replacement_keeps_the_cluster_going(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock, max_restarts=3)
    rig.runs(0)
    rig.look()
    rig.fails(1)
    rig.fails(2)
    rig.fails(0)
    assert not rig.jobs.alive
    assert not rig.supervisor.hopeless()
    rig.look(130)
    assert rig.jobs.alive
    rig.fails(3)
    rig.look(130)
    rig.fails(4)
    assert rig.supervisor.hopeless()
    assert rig.supervisor._why() == "all worker jobs have ended, and cluster.max_restarts are used up"
    assert any("on bad: the job failed with exit code 1" in text for text in rig.jobs.last_words())
    assert any(f"({rig.jobs.paths.job_log('job-4')}): no such file on bad" in text for text in rig.jobs.last_words())


def test_a_job_that_occupies_its_node_is_deleted_after_its_replacement_started(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock)
    rig.runs(0)
    rig.look()
    rig.keeps(1)
    assert rig.count == 3
    assert not rig.job(1).usable
    assert rig.fake.deleted == []
    assert "1 on bad: the job failed with exit code 1" not in rig.jobs.describe(rig.job(1))
    assert "on bad: the job failed with exit code 1; the last line of its output" in rig.jobs.describe(rig.job(1))
    rig.runs(2)
    rig.look(2)
    assert rig.fake.deleted == [rig.job(1).id]
    assert rig.jobs.summary()[1]["end"] == "the job failed with exit code 1"
    assert rig.count == 3  # Its deletion is not a loss.


def test_a_node_stays_occupied_until_dask_creates_the_next_job(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock)
    rig.runs(0)
    rig.look()
    rig.late = True
    rig.keeps(1)
    rig.look(3)
    assert rig.fake.deleted == []
    rig.later.pop()()
    rig.look(3)
    assert rig.fake.deleted == []


def test_a_node_is_not_occupied_without_a_replacement(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock, max_restarts=0)
    rig.runs(0)
    rig.look()
    rig.keeps(1)
    assert rig.fake.deleted == [rig.job(1).id]
    assert rig.count == 2


def test_the_first_jobs_keep_their_nodes(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock)
    rig.keeps(0)
    rig.keeps(1)
    assert rig.supervisor.hopeless()
    error = _nobody_came(rig.jobs)
    assert "  no such file on bad" in error.hints


def test_a_handover_does_not_use_the_budget_for_failures(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock, max_restarts=0, jobs=1)
    rig.runs(0)
    rig.look()
    rig.cluster.tally.tasks["job-0-0"] = 5
    rig.look(3600 - 400)  # Another job is submitted near the end of its walltime.
    while rig.count == 1:
        rig.look()
    rig.job(0).deleted = True  # It drains.
    rig.fails(1)
    assert rig.count == 3
    rig.fails(2)
    rig.look(200)
    assert rig.count == 4
    rig.fails(3)
    rig.look(200)
    assert rig.count == 4


def test_an_adaptive_cluster_has_a_limited_budget(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock, max_restarts=2, idle_timeout=60, jobs=4)
    rig.cluster.scheduler.unrunnable.extend(range(100))
    rig.runs(0)
    rig.look(2)
    assert rig.count == 4
    for number in range(1, 6):
        rig.fails(number)
        rig.look(300)
    assert rig.count == 6


def test_jobs_that_dask_does_not_create_are_not_awaited(tmp_path: Path, clock: Clock) -> None:
    rig = Rig(tmp_path, clock)
    rig.jobs.all.clear()
    assert not rig.supervisor.hopeless()
    rig.look(30)
    assert not rig.supervisor.hopeless()
    rig.look(40)
    assert rig.supervisor.hopeless()
    assert rig.supervisor._why() == "worker jobs were requested, but Dask created none"
    assert not rig.supervisor._out_of_time()
    assert "no worker job was submitted" in _nobody_came(rig.jobs).message


def test_waits_after_setbacks_grow_up_to_five_minutes() -> None:
    setbacks = Setbacks()
    waits = []
    for _ in range(50):
        setbacks.add(["a"], 100.0)
        waits.append(setbacks.wait(100.0))
    assert waits[:7] == [0, 30, 60, 120, 240, 300, 300]
    assert waits[-1] == 300
    assert setbacks.wait(399.0) == 1
    setbacks.end()
    assert setbacks.wait(100.0) == 0
