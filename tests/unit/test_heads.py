"""Heads in jobs without a scheduler: what is submitted and refused, where a head is, and when its own job ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.requests import settled
from tests.unit.test_jobs import command

from hpcml import runs
from hpcml.batch import ledger, ownjob
from hpcml.batch.ownjob import OwnJob, own_job
from hpcml.batch.scheduler import Pbs, spoken_to
from hpcml.cli import main
from hpcml.cluster.allocation import Nodes
from hpcml.errors import ConfigError, Interrupted
from hpcml.interrupt import alarm, installed
from hpcml.record import Origin, summarise, write_manifest
from hpcml.runs import RunPaths
from hpcml.site import Site

SITE = Site(name="x", source="x")
OVERRIDES = ["experiment=digits_svc", "site=testbed_openpbs", "cluster=pbs", "cluster.ncpus=1", "cluster.mem=2GB"]
RUNNING = "Job Id: 12.pbs\\n    Job_Name = x\\n    job_state = {state}\\n    queue = normal\\n{more}"

Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Let a command say something; what it was asked is in the file of its name with .asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def define(name: str, text: str, code: int = 0) -> None:
        command(tmp_path / "bin", name, f"echo \"$@\" >> {tmp_path}/{name}.asked\nprintf '{text}'\nexit {code}")

    return define


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a place for runs."""
    monkeypatch.setenv("HPCML_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_run(desk: Path) -> RunPaths:
    (paths,) = runs.find_all([desk / "scratch"])
    return paths


class TestSubmit:
    def test_a_head_job(self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
        says("qsub", "12.pbs\\n")
        assert main(["submit", *OVERRIDES, "workload.grid={C: [1, 2]}"]) == 0
        paths = only_run(desk)
        out = capsys.readouterr().out
        assert f"run {paths.run_id}" in out
        assert "head job  12.pbs" in out
        script = paths.job_script("head").read_text()
        assert f"export HPCML_RUN={paths.root}" in script
        assert paths.arguments.read_text().splitlines() == [*OVERRIDES, "workload.grid={C: [1, 2]}"]
        assert str(Path(sys.executable).parent) in paths.environment.read_text()
        assert f"{desk}/bin" in paths.environment.read_text()  # where qsub was found
        assert [e["event"] for e in map(json.loads, paths.ledger.read_text().splitlines())] == [
            "submitting",
            "submitted",
        ]
        assert ledger.read(paths.ledger).head == "12.pbs"
        assert not ledger.read(paths.ledger).anything  # a head leaves nothing behind that has to be cleaned
        assert summarise(paths)["state"] == "SUBMITTED"

    def test_one_that_is_refused(self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
        command(desk / "bin", "qsub", "echo 'qsub: Unknown queue' >&2; exit 170")
        assert main(["submit", *OVERRIDES]) == 1
        assert "the head job was refused: there is no such queue" in capsys.readouterr().err
        assert summarise(only_run(desk))["state"] == "FAILED"

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["experiment=digits_svc"], "cluster=local: there is nothing to submit"),
            ([*OVERRIDES, "head.where=here"], "head.where=here: `hpcml submit` puts the head in a job"),
            ([*OVERRIDES, "--after"], "--after: of which run, or which job?"),
            ([*OVERRIDES, "--after=99.pbs"], "--after 99.pbs: the scheduler has no job 99.pbs"),
            ([*OVERRIDES, "--after=last"], "there is no such directory to look for runs in"),
            ([*OVERRIDES, "cluster.ncpus=99"], "cluster.ncpus=99"),
            ([*OVERRIDES, "data=csv", "data.path=no.csv", "data.target=y"], "no.csv"),
        ],
    )
    def test_what_is_wrong(
        self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str], args: list[str], said: str
    ) -> None:
        says("qsub", "12.pbs\\n")
        command(desk / "bin", "qstat", "echo 'qstat: Unknown Job Id 99.pbs' >&2; exit 153")
        assert main(["submit", *args]) == 2
        assert said in capsys.readouterr().err
        assert not (desk / "qsub.asked").exists()
        assert not (desk / "scratch").exists()

    @pytest.mark.parametrize(
        ("more", "code", "said"),
        [
            ("    Exit_status = 0\\n    substate = 92\\n", 0, "has ended well already"),
            ("    Exit_status = 1\\n    substate = 93\\n", 2, "a follower of it would never start"),
        ],
    )
    def test_after_a_job_that_has_ended(
        self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str], *, more: str, code: int, said: str
    ) -> None:
        says("qsub", "13.pbs\\n")
        says("qstat", RUNNING.format(state="F", more=more))
        assert main(["submit", *OVERRIDES, "--after", "12.pbs"]) == code
        captured = capsys.readouterr()
        assert said in captured.out + captured.err

    def test_after_one_that_runs(self, desk: Path, says: Says) -> None:
        says("qsub", "13.pbs\\n")
        says("qstat", RUNNING.format(state="R", more=""))
        assert main(["submit", *OVERRIDES, "--after", "12.pbs"]) == 0
        assert "#PBS -W depend=afterok:12.pbs\n" in only_run(desk).job_script("head").read_text()

    def test_waiting_for_one_that_ends_without_a_record(
        self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hpcml.submission._RECORD", 0.2)
        says("qsub", "12.pbs\\n")
        says("qstat", RUNNING.format(state="F", more="    Exit_status = 127\\n    substate = 93\\n"))
        assert main(["submit", "--wait", *OVERRIDES]) == 1
        assert "head job 12.pbs ended without a record" in capsys.readouterr().err


class TestWhereAHeadIs:
    @pytest.fixture
    def submitted(self, desk: Path) -> RunPaths:
        paths = runs.create(desk / "scratch")
        write_manifest(paths, time.time(), Origin(["hpcml", "submit"]), None, begun=False)
        ledger.Ledger(paths.ledger).note("submitted", "head", id="12.pbs", scheduler="pbs", site=spoken_to(SITE))
        return paths

    @pytest.mark.parametrize(
        ("state", "more", "shown"),
        [
            ("Q", "    comment = Not Running: Queue not started.\\n", "SUBMITTED"),
            ("R", "", "RUNNING"),
            ("F", "    Exit_status = 271\\n    substate = 91\\n", "LOST"),
        ],
    )
    def test_the_scheduler_is_asked(
        self, submitted: RunPaths, says: Says, capsys: pytest.CaptureFixture[str], *, state: str, more: str, shown: str
    ) -> None:
        says("qstat", RUNNING.format(state=state, more=more))
        assert main(["status", submitted.run_id]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{shown} {submitted.run_id}")
        assert "12.pbs" in out
        assert main(["list"]) == 0
        assert shown in capsys.readouterr().out

    def test_no_answer_is_no_loss(
        self, submitted: RunPaths, says: Says, capsys: pytest.CaptureFixture[str], desk: Path
    ) -> None:
        command(desk / "bin", "qstat", "echo 'Connection refused' >&2; exit 255")
        assert main(["status", submitted.run_id]) == 0
        assert capsys.readouterr().out.startswith("SUBMITTED")

    def test_clean_deletes_nothing_of_a_head_that_runs(self, submitted: RunPaths, says: Says, desk: Path) -> None:
        book = ledger.Ledger(submitted.ledger)
        book.note("submitting", "job-0", name="x", scheduler="pbs", site=spoken_to(SITE))
        book.note("submitted", "job-0", id="13.pbs")
        manifest = json.loads(submitted.manifest.read_text())
        submitted.manifest.write_text(json.dumps({**manifest, "host": "node7", "pid": 1, "process_started": 1.0}))
        says("qstat", RUNNING.format(state="R", more=""))
        says("qdel", "")
        assert main(["clean"]) == 0
        assert not (desk / "qdel.asked").exists()
        says("qstat", RUNNING.format(state="F", more="    Exit_status = 265\\n    substate = 91\\n"))
        assert main(["clean"]) == 0
        assert "nothing" in json.dumps(ledger.read(submitted.ledger).jobs) or not ledger.read(submitted.ledger).jobs


class TestOwnJob:
    def test_it_ends_when_its_walltime_does(self, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PBS_JOBID", "12.pbs")
        says("qstat", RUNNING.format(state="R", more="    Resource_List.walltime = 01:00:00\\n"))
        began = time.time()
        code = (
            "import sys; sys.path.insert(0, '.')\nfrom hpcml.batch.ownjob import own_job\nprint(own_job(None).ends())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
        )
        assert abs(float(done.stdout) - began - 3600) < 10

    def test_one_that_does_not_say(self, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PBS_JOBID", "12.pbs")
        says("qstat", RUNNING.format(state="R", more=""))
        found = own_job(SITE)
        assert found is not None
        assert found.ends() is None

    def test_no_job(self) -> None:
        assert own_job(None) is None
        assert not ownjob.in_job()

    def test_nodes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = Pbs(SITE)
        assert batch.node_lines() == ()
        (tmp_path / "nodes").write_text("a\na\nb\nb\n")
        monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
        assert batch.node_lines() == ("a", "a", "b", "b")

    def test_an_allocation_of_another_size_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "nodes").write_text("a\nb\n")
        monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
        request = settled("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=3"])[0]
        with pytest.raises(ConfigError, match=r"cluster\.nodes=3: job 12\.pbs has 2: a b"):
            Nodes(request, RunPaths(tmp_path), OwnJob("12.pbs", Pbs(SITE)))

    def test_each_node_gets_its_own_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A site may list a node once for each core: pbsdsh counts lines."""
        (tmp_path / "nodes").write_text("a\n" * 48 + "b\n" * 48)
        monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
        request = settled("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=2"])[0]
        nodes = Nodes(request, RunPaths(tmp_path), OwnJob("12.pbs", Pbs(SITE)))
        assert [node.command[1:3] for node in nodes.all] == [["-n", "0"], ["-n", "48"]]


def test_an_alarm_interrupts() -> None:
    with installed(), pytest.raises(Interrupted), alarm(0.1):
        time.sleep(5)
    with installed(), alarm(None), alarm(60):
        pass


def test_what_was_submitted_is_begun_once(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = runs.create(desk / "scratch")
    write_manifest(paths, time.time(), Origin(["hpcml", "submit"]), None, begun=False)
    monkeypatch.setenv("HPCML_RUN", str(paths.root))
    args = ["run", "experiment=digits_svc", "workload.grid={C: [1]}", "workload.cv=2", "cluster.workers=1"]
    assert main(args) == 0
    assert "HPCML_RUN" not in os.environ
    found: dict[str, Any] = summarise(paths)
    assert (found["state"], found["host"]) == ("DONE", socket.gethostname())
    assert json.loads(paths.manifest.read_text())["submitted"]["host"] == socket.gethostname()
    monkeypatch.setenv("HPCML_RUN", str(paths.root))
    assert main(args) == 2
