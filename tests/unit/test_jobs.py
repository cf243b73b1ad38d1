"""Worker jobs without a scheduler: submission, ledger, listings, and orphans."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.unit.requests import resolved

from hpcml import orphans, runs
from hpcml.batch import ledger
from hpcml.batch.schedulers import base as batch_module
from hpcml.batch.schedulers import from_ledger, scheduler_of, to_ledger
from hpcml.batch.schedulers.base import RefusedError
from hpcml.batch.schedulers.listing import JobStatus, Listing, State
from hpcml.batch.schedulers.pbs import Pbs
from hpcml.batch.schedulers.refusal import Refusal
from hpcml.cli import main
from hpcml.cluster import jobs as module
from hpcml.cluster.jobs import Jobs
from hpcml.runs import RunPaths
from hpcml.site import Commands, Site

REQUEST = resolved("testbed_openpbs", [])[0]


class Fake:
    """A scheduler in memory."""

    name = "pbs"

    def __init__(self) -> None:
        self.states: dict[str, JobStatus] = {}
        self.refusals: list[Refusal] = []
        self.taken_silently = False
        self.outage: str | None = None
        self.deleted: list[str] = []

    def submit(self, script: Path, log_file: Path, name: str, known: Sequence[str] = ()) -> str:
        number = f"{len(self.states) + 1}.pbs"
        if self.refusals:
            if self.taken_silently:
                self.states[number] = JobStatus(number, "x", State.QUEUED, "normal")
            raise RefusedError(self.refusals.pop(0), "qsub")
        self.states[number] = JobStatus(number, "x", State.QUEUED, "normal")
        return number

    def listing(self, ids: Sequence[str]) -> Listing:
        if self.outage:
            return Listing(outage=self.outage)
        return Listing({number: self.states[number] for number in ids if number in self.states})

    def delete(self, ids: Sequence[str]) -> None:
        self.deleted += ids
        for number in ids:
            self.states[number] = JobStatus(number, "x", State.FINISHED, "normal", substate=91, exit_status=271)

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
    def test_each_job_is_in_the_ledger_before_and_after_submission(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path)
        assert [job.id for job in found.all.values()] == ["1.pbs", "2.pbs"]
        assert events(tmp_path) == ["submitting", "submitted"] * 2
        assert (tmp_path / "ledger.jsonl").stat().st_mode & 0o077 == 0
        assert set(ledger.read(tmp_path / "ledger.jsonl").jobs.values()) == {"1.pbs", "2.pbs"}

    def test_a_rejection_of_the_first_job_ends_the_start(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals = [Refusal("there is no such queue", "choose another", "give up")]
        found = submitted(fake, tmp_path, 3)
        assert found.trouble is not None
        assert "there is no such queue" in found.trouble.cause
        assert not fake.states  # no attempt to submit the others
        assert events(tmp_path) == ["submitting", "refused"]

    def test_an_unreachable_server_is_retried(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals = [Refusal("no server", "", "retry")] * 3
        found = submitted(fake, tmp_path, 1)
        assert found.trouble is None
        assert [job.id for job in found.alive] == ["1.pbs"]

    def test_a_job_accepted_without_an_answer_is_not_submitted_twice(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals, fake.taken_silently = [Refusal("connection lost", "", "retry")], True
        found = submitted(fake, tmp_path, 1)
        assert list(fake.states) == ["1.pbs"]
        assert [job.id for job in found.alive] == ["1.pbs"]

    def test_retries_are_limited(self, fake: Fake, tmp_path: Path) -> None:
        fake.refusals = [Refusal("no server", "", "retry")] * 100
        found = submitted(fake, tmp_path, 1)
        assert found.trouble is not None

    def test_a_full_disk_ends_the_start(self, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_a_job_is_gone_after_it_is_missing_three_times(self, fake: Fake, tmp_path: Path) -> None:
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
        fake.states["1.pbs"] = JobStatus("1.pbs", "x", State.FINISHED, "normal", substate=93, exit_status=-29)
        found.poll([])
        (job,) = found.all.values()
        assert job.end is not None
        assert job.end.kind == "walltime"
        assert job.registered is not None  # A worker had registered.
        assert events(tmp_path)[-1] == "ended"

    def test_a_job_that_can_never_run(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path, 1)
        comment = "Can Never Run: Insufficient amount of resource: ncpus (R: 9 A: 8 T: 8)"
        fake.states["1.pbs"] = JobStatus("1.pbs", "x", State.QUEUED, "normal", comment=comment)
        found.poll([])
        assert found.trouble is not None
        assert comment in str(found.trouble.hints)

    def test_closing_deletes_and_confirms(self, fake: Fake, tmp_path: Path) -> None:
        found = submitted(fake, tmp_path)
        assert found.close() == []
        assert sorted(fake.deleted) == ["1.pbs", "2.pbs"]
        assert not ledger.read(tmp_path / "ledger.jsonl").anything
        assert {entry["end"] for entry in found.summary()} == {"deleted by hpcml"}

    def test_closing_names_jobs_that_remain(self, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    @pytest.mark.parametrize(
        ("printed", "named", "expected"),
        [
            ("12.gadi-pbs", "", "12.gadi-pbs"),
            ("12[].gadi-pbs", "", "12[].gadi-pbs"),
            ("Welcome to cluster 42\\n12.gadi-pbs\\nSU left:\\n48211", "12.gadi-pbs", "12.gadi-pbs"),
            ("12.gadi-pbs\\n48211", "", "12.gadi-pbs"),
            ("job 12.gadi-pbs has been submitted", "11.gadi-pbs\\n12.gadi-pbs", "12.gadi-pbs"),
            ("48211", "12.gadi-pbs", "12.gadi-pbs"),
            ("9.other\\n12.gadi-pbs\\n7.other", "12.gadi-pbs", "12.gadi-pbs"),
            ("", "12.gadi-pbs", "12.gadi-pbs"),
        ],
    )
    def test_only_a_server_id_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, named: str, expected: str
    ) -> None:
        """Sites wrap qsub. If it prints anything beside an id, the job is looked up by its name."""
        monkeypatch.setattr(batch_module, "_LOOK", 0)
        command(tmp_path / "bin", "qsub", f"printf '{printed}'")
        command(tmp_path / "bin", "qselect", f'[ "$*" = "-N hpcml-run" ] && printf \'{named}\'')
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        pbs = Pbs(Site(name="x", source="x"))
        assert pbs.submit(tmp_path / "s", tmp_path / "l", "hpcml-run", ["11.gadi-pbs"]) == expected

    def test_an_id_of_slurm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_module, "_LOOK", 0)
        command(tmp_path / "bin", "sbatch", "printf '12;cluster\\n48211'")
        command(tmp_path / "bin", "squeue", "echo 12")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        slurm = scheduler_of(Site(name="x", source="x"), "slurm")
        assert slurm.submit(tmp_path / "s", tmp_path / "l", "hpcml-run") == "12"
        command(tmp_path / "bin", "sbatch", "echo '12;cluster'")
        assert slurm.submit(tmp_path / "s", tmp_path / "l", "hpcml-run") == "12"

    def test_a_missing_command(self, tmp_path: Path) -> None:
        site = Site(name="x", source="x", commands={"pbs": Commands(submit="no-such-qsub")})
        with pytest.raises(RefusedError, match="no-such-qsub"):
            Pbs(site).submit(tmp_path / "s", tmp_path / "l", "hpcml-run")

    def test_an_answer_without_an_id(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_module, "_LOOK", 0)
        for printed in ("hello", "48211", "1.a\\n2.b"):
            command(tmp_path / "bin", "qsub", f"printf '{printed}'")
            command(tmp_path / "bin", "qselect", "exit 0")
            monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
            with pytest.raises(RefusedError, match="the scheduler has no job named hpcml-run") as caught:
                Pbs(Site(name="x", source="x")).submit(tmp_path / "s", tmp_path / "l", "hpcml-run")
            assert caught.value.refusal.action == "retry"

    def test_queues_keep_the_names_used_at_submission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = "Job Id: 1.gadi-pbs\\n    Job_Name = x\\n    job_state = R\\n    queue = normal-exec\\n"
        command(tmp_path / "bin", "qstat", f"printf '{answer}'")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        found = Pbs(Site(name="x", source="x", execution_suffix="-exec")).listing(["1.gadi-pbs"])
        assert [job.queue for job in found.jobs.values()] == ["normal"]

    def test_jobs_are_deleted_one_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        command(tmp_path / "bin", "qdel", f'echo "$#" >> {tmp_path}/counts')
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        scheduler_of(Site(name="x", source="x"), "pbs").delete(["1.a", "2.a"])
        assert (tmp_path / "counts").read_text() == "1\n1\n"


class TestOrphans:
    @pytest.fixture
    def lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
        """A run with a killed head and a job in its ledger."""
        monkeypatch.setenv("HPCML_SCRATCH", str(tmp_path / "scratch"))
        paths = runs.create(tmp_path / "scratch")
        import socket

        manifest = {"run": paths.run_id, "host": socket.gethostname(), "pid": 2**22 + 1, "user": "me", "started": 1.0,
                    "argv": ["hpcml", "run"], "overrides": [], "choices": {}, "git": None}  # fmt: skip
        paths.manifest.write_text(json.dumps(manifest))
        book = ledger.Ledger(paths.ledger)
        site = to_ledger(Site(name="x", source="x", commands={"pbs": Commands(status="qstat -x -f")}))
        for job in ("job-0", "job-1"):
            book.note("submitting", job, name=f"hpcml-{paths.run_id}", scheduler="pbs", site=site)
        book.note("submitted", "job-0", id="12.pbs")
        return paths

    def test_the_next_command_names_them(self, lost: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["list"]) == 0
        assert f"note: run {lost.run_id} left worker jobs behind: 12.pbs" in (capsys.readouterr().err)

    def test_clean_deletes_them(
        self, lost: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = "Job Id: 12.pbs\\n    Job_Name = x\\n    job_state = Q\\n    queue = normal\\n"
        command(tmp_path / "bin", "qstat", f"printf '{answer}'")
        command(tmp_path / "bin", "qselect", "echo 12.pbs; echo 13.pbs")  # one without an answer to its submission
        command(tmp_path / "bin", "qdel", f'echo "$1" >> {tmp_path}/deleted')
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert main(["clean"]) == 0
        assert (tmp_path / "deleted").read_text().split() == ["12.pbs"]
        assert "no jobs left" in capsys.readouterr().out
        assert list(orphans.find()) == []
        main(["list"])
        assert "note" not in capsys.readouterr().err

    def test_clean_without_an_answer_changes_nothing(
        self, lost: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("qstat", "qselect", "qdel"):
            command(tmp_path / "bin", name, "echo 'Connection refused' >&2; exit 255")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        assert main(["clean"]) == 1
        assert "the scheduler does not answer about 12.pbs" in capsys.readouterr().out
        assert len(list(orphans.find())) == 1

    def test_a_truncated_ledger(self, lost: RunPaths) -> None:
        with lost.ledger.open("a") as file:
            file.write('{"odd": 1}\n[]\n{"event": "subm')
        left = ledger.read(lost.ledger)
        assert (left.jobs, left.unanswered) == ({"job-0": "12.pbs"}, {"job-1"})
        assert from_ledger(left).name == "pbs"


def test_a_job_describes_its_end() -> None:
    job = module.WorkerJob("job-0", id="1.pbs", state=State.QUEUED, comment="Not Running: Queue not started.")
    assert str(job).startswith("1.pbs: queued: ")
    job.running = time.monotonic() - 5
    assert 5 <= job.seconds <= time.monotonic() - job.running
