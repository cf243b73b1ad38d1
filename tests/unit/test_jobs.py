"""Worker jobs without a scheduler: submission, the ledger, what is made of its answers, and what a killed head left."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.unit.requests import settled

from hpcml import leftovers, runs
from hpcml.batch import ledger
from hpcml.batch.listing import JobStatus, Listing
from hpcml.batch.refusal import Refusal
from hpcml.batch.scheduler import Pbs, RefusedError, again, scheduler, spoken_to
from hpcml.cli import main
from hpcml.cluster import jobs as module
from hpcml.cluster.jobs import Jobs
from hpcml.runs import RunPaths
from hpcml.site import Commands, Site

REQUEST = settled("testbed_openpbs", [])[0]


class Fake:
    """A scheduler in memory."""

    name = "pbs"

    def __init__(self) -> None:
        self.states: dict[str, JobStatus] = {}
        self.refusals: list[Refusal] = []
        self.taken_silently = False
        self.outage: str | None = None
        self.deleted: list[str] = []

    def submit(self, script: Path, log_file: Path) -> str:
        number = f"{len(self.states) + 1}.pbs"
        if self.refusals:
            if self.taken_silently:
                self.states[number] = JobStatus(number, "x", "queued", "normal")
            raise RefusedError(self.refusals.pop(0), "qsub")
        self.states[number] = JobStatus(number, "x", "queued", "normal")
        return number

    def listing(self, ids: Sequence[str]) -> Listing:
        if self.outage:
            return Listing(outage=self.outage)
        return Listing({number: self.states[number] for number in ids if number in self.states})

    def delete(self, ids: Sequence[str]) -> None:
        self.deleted += ids
        for number in ids:
            self.states[number] = JobStatus(number, "x", "finished", "normal", substate=91, exit_status=271)

    def named(self, name: str) -> list[str] | None:
        return list(self.states)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(module, "_SPACING", 0)
    monkeypatch.setattr(module, "_PAUSE", 0)
    monkeypatch.setattr(module, "_UNSEEN", -1)
    return Fake()


def submitted(fake: Fake, root: Path, count: int = 2) -> Jobs:
    async def submit() -> Jobs:
        made = Jobs(REQUEST, RunPaths(root), fake)  # type: ignore[arg-type]
        await asyncio.gather(*(made.submit(f"job-{number}") for number in range(count)))
        return made

    return asyncio.run(submit())


def events(root: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (root / "ledger.jsonl").read_text().splitlines()]


class TestSubmission:
    def test_each_is_in_the_ledger_before_and_after(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path)
        assert [job.id for job in found.all.values()] == ["1.pbs", "2.pbs"]
        assert events(tmp_path) == ["submitting", "submitted"] * 2
        assert (tmp_path / "ledger.jsonl").stat().st_mode & 0o077 == 0
        assert set(ledger.read(tmp_path / "ledger.jsonl").jobs.values()) == {"1.pbs", "2.pbs"}

    def test_a_refusal_of_the_first_ends_it(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals = [Refusal("there is no such queue", "choose another", "give up")]
        found = submitted(fake, tmp_path, 3)
        assert found.trouble is not None
        assert "there is no such queue" in found.trouble.cause
        assert not fake.states  # the others were not tried
        assert events(tmp_path) == ["submitting", "refused"]

    def test_a_server_that_is_away_is_asked_again(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals = [Refusal("no server", "", "retry")] * 3
        found = submitted(fake, tmp_path, 1)
        assert found.trouble is None
        assert [job.id for job in found.alive] == ["1.pbs"]

    def test_a_job_that_was_taken_without_an_answer_is_not_submitted_twice(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals, fake.taken_silently = [Refusal("connection lost", "", "retry")], True
        found = submitted(fake, tmp_path, 1)
        assert list(fake.states) == ["1.pbs"]
        assert [job.id for job in found.alive] == ["1.pbs"]

    def test_a_server_that_stays_away_is_given_up(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals = [Refusal("no server", "", "retry")] * 100
        found = submitted(fake, tmp_path, 1)
        assert found.trouble is not None

    def test_a_disk_that_is_full_ends_it(self, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ledger.Ledger, "note", full)
        found = submitted(fake, tmp_path, 1)
        assert found.trouble is not None
        assert "No space left on device" in found.trouble.cause


class TestWatching:
    def test_an_outage_changes_nothing(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path)
        fake.outage = "no server"
        for _ in range(10):
            found.poll([])
        assert len(found.alive) == 2

    def test_a_job_is_gone_when_it_is_missed_three_times(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path)
        del fake.states["1.pbs"]
        found.poll([])
        found.poll([])
        assert len(found.alive) == 2
        found.poll([])
        assert [job.id for job in found.alive] == ["2.pbs"]
        assert [job.id for job in found.all.values() if not job.alive and job.registered is None] == ["1.pbs"]

    def test_how_a_job_ended_is_explained(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path, 1)
        found.poll(["job-0"])
        fake.states["1.pbs"] = JobStatus("1.pbs", "x", "finished", "normal", substate=93, exit_status=-29)
        found.poll([])
        (job,) = found.all.values()
        assert job.end is not None
        assert job.end.kind == "walltime"
        assert job.registered is not None  # it had brought a worker
        assert events(tmp_path)[-1] == "ended"

    def test_a_job_that_can_never_run(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path, 1)
        comment = "Can Never Run: Insufficient amount of resource: ncpus (R: 9 A: 8 T: 8)"
        fake.states["1.pbs"] = JobStatus("1.pbs", "x", "queued", "normal", comment=comment)
        found.poll([])
        assert found.trouble is not None
        assert comment in str(found.trouble.hints)

    def test_closing_deletes_and_confirms(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path)
        assert found.close() == []
        assert sorted(fake.deleted) == ["1.pbs", "2.pbs"]
        assert not ledger.read(tmp_path / "ledger.jsonl").anything
        assert {entry["end"] for entry in found.summary()} == {"deleted by hpcml"}

    def test_closing_names_what_does_not_go(self, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_GONE", 1)
        found = submitted(fake, tmp_path, 1)
        fake.outage = "no server"
        assert found.close() == ["1.pbs"]
        assert [entry["end"] for entry in found.summary()] == ["it could not be deleted"]
        assert ledger.read(tmp_path / "ledger.jsonl").anything


def command(directory: Path, name: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)


class TestPbs:
    def test_the_whole_id_is_taken_and_no_number_of_a_banner(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command(tmp_path / "bin", "qsub", "echo 'Welcome to cluster 42'; echo 136906625.gadi-pbs")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert Pbs(Site(name="x", source="x")).submit(tmp_path / "s", tmp_path / "l") == "136906625.gadi-pbs"

    def test_a_command_that_is_not_there(self, tmp_path: Path) -> None:
        site = Site(name="x", source="x", commands={"pbs": Commands(submit="no-such-qsub")})
        with pytest.raises(RefusedError, match="no-such-qsub"):
            Pbs(site).submit(tmp_path / "s", tmp_path / "l")

    def test_an_answer_without_an_id_is_no_job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        command(tmp_path / "bin", "qsub", "echo hello")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        with pytest.raises(RefusedError):
            Pbs(Site(name="x", source="x")).submit(tmp_path / "s", tmp_path / "l")

    def test_queues_have_the_names_that_jobs_were_sent_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = "Job Id: 1.gadi-pbs\\n    Job_Name = x\\n    job_state = R\\n    queue = normal-exec\\n"
        command(tmp_path / "bin", "qstat", f"printf '{answer}'")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        found = Pbs(Site(name="x", source="x", execution_suffix="-exec")).listing(["1.gadi-pbs"])
        assert [job.queue for job in found.jobs.values()] == ["normal"]

    def test_jobs_are_deleted_one_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        command(tmp_path / "bin", "qdel", f'echo "$#" >> {tmp_path}/counts')
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        scheduler(Site(name="x", source="x"), "pbs").delete(["1.a", "2.a"])
        assert (tmp_path / "counts").read_text() == "1\n1\n"


class TestLeftovers:
    @pytest.fixture
    def lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
        """A run whose head was killed, with a job in its ledger."""
        monkeypatch.setenv("HPCML_SCRATCH", str(tmp_path / "scratch"))
        paths = runs.create(tmp_path / "scratch")
        import socket

        manifest = {"run": paths.run_id, "host": socket.gethostname(), "pid": 2**22 + 1, "user": "me", "started": 1.0,
                    "argv": ["hpcml", "run"], "overrides": [], "choices": {}, "git": None}  # fmt: skip
        paths.manifest.write_text(json.dumps(manifest))
        book = ledger.Ledger(paths.ledger)
        site = spoken_to(Site(name="x", source="x", commands={"pbs": Commands(status="qstat -x -f")}))
        for job in ("job-0", "job-1"):
            book.note("submitting", job, name=f"hpcml-{paths.run_id}", scheduler="pbs", site=site)
        book.note("submitted", "job-0", id="12.pbs")
        return paths

    def test_the_next_command_names_them(self, lost: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["list"]) == 0
        assert f"note: run {lost.run_id} ended before it saw its worker jobs gone; those that may be left: 12.pbs" in (
            capsys.readouterr().err
        )

    def test_clean_deletes_them(
        self, lost: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = "Job Id: 12.pbs\\n    Job_Name = x\\n    job_state = Q\\n    queue = normal\\n"
        command(tmp_path / "bin", "qstat", f"printf '{answer}'")
        command(tmp_path / "bin", "qselect", "echo 12.pbs; echo 13.pbs")  # one that no answer came for
        command(tmp_path / "bin", "qdel", f'echo "$1" >> {tmp_path}/deleted')
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert main(["clean"]) == 0
        assert (tmp_path / "deleted").read_text().split() == ["12.pbs"]
        assert "nothing is left" in capsys.readouterr().out
        assert list(leftovers.find()) == []
        main(["list"])
        assert "note" not in capsys.readouterr().err

    def test_clean_without_an_answer_changes_nothing(
        self, lost: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("qstat", "qselect", "qdel"):
            command(tmp_path / "bin", name, "echo 'Connection refused' >&2; exit 255")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert main(["clean"]) == 1
        assert "no answer about 12.pbs" in capsys.readouterr().out
        assert len(list(leftovers.find())) == 1

    def test_a_ledger_that_was_cut_off(self, lost: RunPaths) -> None:
        with lost.ledger.open("a") as file:
            file.write('{"odd": 1}\n[]\n{"event": "subm')
        left = ledger.read(lost.ledger)
        assert (left.jobs, left.unanswered) == ({"job-0": "12.pbs"}, {"job-1"})
        assert again(left).name == "pbs"


def test_a_job_says_what_became_of_it() -> None:
    job = module.WorkerJob("job-0", id="1.pbs", state="queued", comment="Not Running: Queue not started.")
    assert str(job).startswith("1.pbs: queued: ")
    job.running = time.monotonic() - 5
    assert 4 < job.seconds < 10
