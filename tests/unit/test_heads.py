"""Head jobs without a scheduler: submission, rejection, lookup, and the end of the job."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.requests import resolved
from tests.unit.test_jobs import command

from hpcml import runs
from hpcml.batch import current_job, ledger
from hpcml.batch.current_job import CurrentJob, find_current_job
from hpcml.batch.schedulers import to_ledger
from hpcml.batch.schedulers.pbs import Pbs
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
    """Create a command that prints a text; its arguments go to a file with suffix .asked."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def define(name: str, text: str, code: int = 0) -> None:
        command(tmp_path / "bin", name, f"echo \"$@\" >> {tmp_path}/{name}.asked\nprintf '{text}'\nexit {code}")

    return define


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a scratch directory."""
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
        assert f"{desk}/bin" in paths.environment.read_text()  # directory of qsub
        assert [e["event"] for e in map(json.loads, paths.ledger.read_text().splitlines())] == [
            "submitting",
            "submitted",
        ]
        assert ledger.read(paths.ledger).head == "12.pbs"
        assert not ledger.read(paths.ledger).anything  # A head job is not an orphan.
        assert summarise(paths).state == "SUBMITTED"

    def test_a_rejected_head_job(self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
        command(desk / "bin", "qsub", "echo 'qsub: Unknown queue' >&2; exit 170")
        assert main(["submit", *OVERRIDES]) == 1
        assert "the head job was rejected: there is no such queue" in capsys.readouterr().err
        assert summarise(only_run(desk)).state == "FAILED"

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["experiment=digits_svc"], "cluster=local: no batch job to submit"),
            ([*OVERRIDES, "head.where=here"], "head.where=here: `hpcml submit` runs the head in a job"),
            ([*OVERRIDES, "--after"], "hpcml submit: argument --after: expected one argument"),
            ([*OVERRIDES, "--after=99.pbs"], "--after 99.pbs: the scheduler has no job 99.pbs"),
            ([*OVERRIDES, "--after=last"], "no such directory"),
            ([*OVERRIDES, "cluster.ncpus=99"], "cluster.ncpus=99"),
            ([*OVERRIDES, "data=csv", "data.path=no.csv", "data.target=y"], "no.csv"),
        ],
    )
    def test_invalid_requests(
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
            ("    Exit_status = 0\\n    substate = 92\\n", 0, "has already succeeded"),
            ("    Exit_status = 1\\n    substate = 93\\n", 2, "a job after it would never start"),
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

    def test_after_a_running_job(self, desk: Path, says: Says) -> None:
        says("qsub", "13.pbs\\n")
        says("qstat", RUNNING.format(state="R", more=""))
        assert main(["submit", *OVERRIDES, "--after", "12.pbs"]) == 0
        assert "#PBS -W depend=afterok:12.pbs\n" in only_run(desk).job_script("head").read_text()

    def test_waiting_for_a_run_that_ends_without_a_record(
        self, desk: Path, says: Says, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hpcml.submission._RECORD", 0.2)
        says("qsub", "12.pbs\\n")
        says("qstat", RUNNING.format(state="F", more="    Exit_status = 127\\n    substate = 93\\n"))
        assert main(["submit", "--wait", *OVERRIDES]) == 1
        assert "head job 12.pbs ended without a record" in capsys.readouterr().err


class TestLookUp:
    @pytest.fixture
    def submitted(self, desk: Path) -> RunPaths:
        paths = runs.create(desk / "scratch")
        write_manifest(paths, time.time(), Origin(["hpcml", "submit"]), None, begun=False)
        ledger.Ledger(paths.ledger).note("submitted", "head", id="12.pbs", scheduler="pbs", site=to_ledger(SITE))
        return paths

    @pytest.mark.parametrize(
        ("state", "more", "shown"),
        [
            ("Q", "    comment = Not Running: Queue not started.\\n", "SUBMITTED"),
            ("R", "", "RUNNING"),
            ("F", "    Exit_status = 271\\n    substate = 91\\n", "CANCELLED"),
            ("F", "    Exit_status = 1\\n    substate = 93\\n", "LOST"),
        ],
    )
    def test_the_scheduler_is_queried(
        self, submitted: RunPaths, says: Says, capsys: pytest.CaptureFixture[str], *, state: str, more: str, shown: str
    ) -> None:
        says("qstat", RUNNING.format(state=state, more=more))
        assert main(["status", submitted.run_id]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{shown} {submitted.run_id}")
        assert "12.pbs" in out
        assert main(["list"]) == 0
        assert shown in capsys.readouterr().out

    def test_a_head_that_was_deleted_before_it_ran(
        self, submitted: RunPaths, says: Says, capsys: pytest.CaptureFixture[str]
    ) -> None:
        says("qstat", RUNNING.format(state="F", more="    substate = 91\\n"))
        assert main(["status", submitted.run_id, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["state"] == "CANCELLED"
        assert "its head job 12.pbs never started: the job was deleted before it ran" in found["error"]
        assert json.loads(submitted.record.read_text())["state"] == "CANCELLED"  # the scheduler forgets the job

    def test_the_last_line_of_its_log(
        self, submitted: RunPaths, says: Says, capsys: pytest.CaptureFixture[str]
    ) -> None:
        submitted.head_log.parent.mkdir(parents=True, exist_ok=True)
        submitted.head_log.write_text("there is no command hpcml after env.sh\n")
        says("qstat", RUNNING.format(state="F", more="    Exit_status = 2\\n    substate = 93\\n"))
        assert main(["status", submitted.run_id]) == 0
        out = capsys.readouterr().out
        assert "exit code 2; its log ends with: there is no command hpcml after env.sh" in " ".join(out.split())

    def test_no_answer_does_not_mean_lost(
        self, submitted: RunPaths, says: Says, capsys: pytest.CaptureFixture[str], desk: Path
    ) -> None:
        command(desk / "bin", "qstat", "echo 'Connection refused' >&2; exit 255")
        assert main(["status", submitted.run_id]) == 0
        assert capsys.readouterr().out.startswith("SUBMITTED")

    def test_clean_keeps_the_jobs_of_a_running_head(self, submitted: RunPaths, says: Says, desk: Path) -> None:
        book = ledger.Ledger(submitted.ledger)
        book.note("submitting", "job-0", name="x", scheduler="pbs", site=to_ledger(SITE))
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


class TestInterruptedSubmission:
    """A login node may go down while qsub runs."""

    @pytest.fixture
    def asked(self, desk: Path) -> RunPaths:
        paths = runs.create(desk / "scratch")
        write_manifest(paths, time.time(), Origin(["hpcml", "submit"]), None, begun=False)
        gone = subprocess.Popen(["true"])
        gone.wait()
        where = {"host": socket.gethostname(), "pid": gone.pid}
        facts = {"name": "hpcml-head-x", "scheduler": "pbs", "site": to_ledger(SITE)}
        ledger.Ledger(paths.ledger).note("submitting", "head", **facts, **where)
        return paths

    def test_the_job_exists(self, asked: RunPaths, desk: Path, says: Says, capsys: pytest.CaptureFixture[str]) -> None:
        command(desk / "bin", "qselect", '[ "$*" = "-N hpcml-head-x" ] && echo 12.pbs')
        says("qstat", RUNNING.format(state="Q", more=""))
        assert main(["status", asked.run_id, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["state"], found["head_job"]) == ("SUBMITTED", "12.pbs")
        says("qsub", "13.pbs\\n")
        assert main(["submit", *OVERRIDES, "--after", asked.run_id]) == 0
        assert ledger.read(asked.ledger).head == "12.pbs"

    def test_the_job_does_not_exist(
        self, asked: RunPaths, says: Says, capsys: pytest.CaptureFixture[str], desk: Path
    ) -> None:
        says("qselect", "")
        assert main(["status", asked.run_id]) == 0
        out = capsys.readouterr().out
        assert out.startswith("LOST")
        assert "was never submitted: type hpcml submit again" in out
        says("qsub", "13.pbs\\n")
        assert main(["submit", *OVERRIDES, "--after", asked.run_id]) == 2
        assert not (desk / "qsub.asked").exists()

    def test_the_scheduler_does_not_answer(
        self, asked: RunPaths, desk: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command(desk / "bin", "qselect", "echo 'Connection refused' >&2; exit 255")
        assert main(["status", asked.run_id]) == 0
        out = capsys.readouterr().out
        assert out.startswith("SUBMITTED")
        assert "not yet known" in out

    def test_the_submission_is_in_progress(
        self, asked: RunPaths, says: Says, capsys: pytest.CaptureFixture[str], desk: Path
    ) -> None:
        says("qselect", "")
        line = json.loads(asked.ledger.read_text())
        asked.ledger.write_text(json.dumps({**line, "pid": os.getpid()}) + "\n")
        assert main(["status", asked.run_id]) == 0
        assert capsys.readouterr().out.startswith("SUBMITTED")
        assert not (desk / "qselect.asked").exists()

    def test_the_submission_never_began(self, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
        paths = runs.create(desk / "scratch")
        write_manifest(paths, time.time() - 600, Origin(["hpcml", "submit"]), None, begun=False)
        assert main(["status", paths.run_id]) == 0
        assert capsys.readouterr().out.startswith("LOST")

    def test_sigterm_while_qsub_runs(self, desk: Path) -> None:
        command(desk / "bin", "qsub", "touch asked; sleep 2; echo 12.pbs")
        command(desk / "bin", "qdel", "echo $* >> deleted")
        environ = {**os.environ, "PATH": f"{desk}/bin:{os.environ['PATH']}"}
        line = [sys.executable, "-m", "hpcml", "submit", *OVERRIDES]
        process = subprocess.Popen(line, env=environ, stderr=subprocess.PIPE, text=True)
        while not (desk / "asked").exists():
            time.sleep(0.1)
        process.terminate()
        assert "cancelled by SIGTERM" in process.communicate(timeout=60)[1]
        assert process.returncode == 143
        found = summarise(only_run(desk))
        assert (found.state, found.error) == ("CANCELLED", "cancelled by SIGTERM")
        assert (desk / "deleted").read_text().split()[-1] == "12.pbs"


class TestCurrentJob:
    def test_it_ends_when_its_walltime_does(self, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PBS_JOBID", "12.pbs")
        says("qstat", RUNNING.format(state="R", more="    Resource_List.walltime = 01:00:00\\n"))
        began = time.time()
        code = (
            "import sys; sys.path.insert(0, '.')\nfrom hpcml.batch.current_job import find_current_job\n"
            "print(find_current_job(None).ends())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
        )
        assert began - 1 <= float(done.stdout) - 3600 <= time.time()  # PBS reports whole seconds.

    def test_a_scheduler_that_does_not_report_the_end(self, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PBS_JOBID", "12.pbs")
        says("qstat", RUNNING.format(state="R", more=""))
        found = find_current_job(SITE)
        assert found is not None
        assert found.ends() is None

    def test_no_job(self) -> None:
        assert find_current_job(None) is None
        assert not current_job.in_job()

    def test_nodes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = Pbs(SITE)
        assert batch.node_lines() == ()
        (tmp_path / "nodes").write_text("a\na\nb\nb\n")
        monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
        assert batch.node_lines() == ("a", "a", "b", "b")

    def test_an_allocation_of_another_size_is_rejected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "nodes").write_text("a\nb\n")
        monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
        request = resolved("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=3"])[0]
        with pytest.raises(ConfigError, match=r"cluster\.nodes=3: job 12\.pbs has 2: a b"):
            Nodes(request, RunPaths(tmp_path), CurrentJob("12.pbs", Pbs(SITE)))

    def test_each_node_gets_its_own_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some sites list a node once for each core, and pbsdsh counts lines."""
        (tmp_path / "nodes").write_text("a\n" * 48 + "b\n" * 48)
        monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
        request = resolved("gadi", ["cluster=allocation", "cluster.project=ab12", "cluster.nodes=2"])[0]
        nodes = Nodes(request, RunPaths(tmp_path), CurrentJob("12.pbs", Pbs(SITE)))
        assert [node.command[1:3] for node in nodes.all] == [["-n", "0"], ["-n", "48"]]


def test_an_alarm_interrupts() -> None:
    with installed(), pytest.raises(Interrupted), alarm(0.1):
        time.sleep(5)
    with installed(), alarm(None), alarm(60):
        pass


def test_a_submitted_run_starts_only_once(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = runs.create(desk / "scratch")
    write_manifest(paths, time.time(), Origin(["hpcml", "submit"]), None, begun=False)
    monkeypatch.setenv("HPCML_RUN", str(paths.root))
    args = ["run", "experiment=digits_svc", "workload.grid={C: [1]}", "workload.cv=2", "cluster.workers=1"]
    assert main(args) == 0
    assert "HPCML_RUN" not in os.environ
    found = summarise(paths)
    assert (found.state, found.host) == ("DONE", socket.gethostname())
    assert json.loads(paths.manifest.read_text())["submitted"]["host"] == socket.gethostname()
    monkeypatch.setenv("HPCML_RUN", str(paths.root))
    assert main(args) == 2
