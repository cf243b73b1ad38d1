"""`hpcml plan`, and the same checks in `hpcml run`, from the command line."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from hpcml.batch.schedulers.base import Scheduler
from hpcml.cli import main


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setattr(Scheduler, "is_here", lambda self: False)
    monkeypatch.chdir(tmp_path)


def login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that jobs can be submitted on this machine."""
    monkeypatch.setattr(Scheduler, "is_here", lambda self: True)


def plan(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    code = main(["plan", "--json", *args])
    return code, json.loads(capsys.readouterr().out)


GADI = ("experiment=digits_svc", "site=gadi", "cluster.project=ab12", "cluster.jobs=4")


def test_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *GADI]) == 0
    text = capsys.readouterr().out
    for part in (
        "grid search over 48 candidates of SVC, cv=3", "units of work  145", "NCI Gadi", "4 x 48 cores, 192GB",
        "192: 48 on each node, 1 thread and 3.79GB each, spill to $PBS_JOBFS", "1 core, 4GB, 1GB jobfs, 03:00:00",
        "390 SU for one walltime of each job, including 6 SU for the head job; 386 SU per hour",
            "at most 1,158 SU: jobs are renewed while work remains and the head runs; cluster.max_cost limits the cost",
            "/scratch/ab12/me/runs/RUN",
        "warning: the head job costs 2 SU per hour", "cluster=allocation cluster.nodes=4",
        "#PBS -l storage=scratch/ab12", "#PBS -l walltime=03:00:00",
    ):  # fmt: skip
        assert part in text
    command = shlex.split(text.partition("or by hand\n")[2].splitlines()[0])
    assert command[0].endswith("submit.sh")
    assert os.access(command[0], os.X_OK)
    assert command[command.index("--") + 1 :] == list(GADI)
    assert command[1:7] == ["-q", "normal", "-P", "ab12", "-l", "ncpus=1"]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = plan(capsys, *GADI)
    assert code == 0
    assert found["request"]["cost"]["maximum"] == 390
    assert (found["request"]["workers"], found["request"]["interface"]) == (192, "ib0")
    assert found["request"]["worker_job"]["mem"] == 192 * 1024**3
    assert set(found["scripts"]) == {"env.sh", "head", "worker"}
    assert {diagnostic["severity"] for diagnostic in found["diagnostics"]} == {"warning"}
    assert "145 units of work can keep only 145 of 192 workers busy" in [
        diagnostic["text"] for diagnostic in found["diagnostics"]
    ]
    assert found["config"]["cluster"]["jobs"] == 4


def test_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ("cluster.ncpus=100", "cluster.walltime=49:00:00")
    code, found = plan(capsys, *GADI, *wrong)
    assert code == 2
    assert len([diagnostic for diagnostic in found["diagnostics"] if diagnostic["severity"] == "error"]) == 2
    assert "scripts" not in found
    assert main(["plan", *GADI, *wrong]) == 2
    text = capsys.readouterr().out
    assert "error: cluster.ncpus=100: a node of normal has 48 cores, and a worker job runs on one node" in text
    assert "#PBS" not in text


def test_a_mistake_in_the_config_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = plan(capsys, *GADI, "cluster.ncpuss=4")
    assert code == 2
    assert "did you mean 'ncpus'" in found["diagnostics"][0]["remedy"]


def test_a_cluster_of_jobs_needs_a_site(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "cluster=pbs"]) == 2
    assert "type site=gadi" in capsys.readouterr().err


def test_run_makes_the_same_check_before_anything_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", *GADI, "cluster.ncpus=100", "cluster.name=a b", f"scratch={tmp_path}/runs"]) == 2
    text = capsys.readouterr().err
    assert "the request has 2 errors" in text
    assert "cluster.ncpus=100" in text
    assert "cluster.name='a b'" in text
    assert not (tmp_path / "runs").exists()


def test_run_starts_the_head_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *GADI, "head.where=job"]) == 2
    assert "head.where=job: `hpcml run` runs the head in this process" in capsys.readouterr().err


def test_a_head_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = plan(capsys, *GADI, "head.where=here", "cluster.walltime=00:20:00")
    assert code == 0
    assert set(found["scripts"]) == {"worker"}
    assert found["command"].startswith("hpcml run experiment=digits_svc")
    assert found["request"]["cost"]["head"] == 0


def test_an_allocation(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = plan(capsys, *GADI[:3], "cluster=allocation", "cluster.nodes=2")
    assert code == 0
    assert set(found["scripts"]) == {"env.sh", "head"}
    assert "#PBS -l ncpus=96\n" in found["scripts"]["head"]
    assert found["command"].startswith("hpcml submit ")
    assert "-l ncpus=96" in found["by_hand"]


def test_slurm(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = plan(capsys, "site=generic_slurm", "cluster.ncpus=4", "cluster.mem=8GB", f"scratch={Path.home()}")
    assert code == 0
    assert found["by_hand"].startswith("HPCML_SUBMIT=sbatch ")
    assert "--mem=4G" in found["by_hand"]


class TestData:
    ARGS = (*GADI[1:], "data=csv", "data.path=/g/data/xy77/flights.csv", "data.target=delay")

    def test_its_storage_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, found = plan(capsys, *self.ARGS)
        assert found["request"]["worker_job"]["storage"] == ["scratch/ab12", "gdata/xy77"]

    def test_it_is_not_read_on_another_machine(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, found = plan(capsys, *self.ARGS)
        assert code == 0
        assert "the data was not checked: /g/data/xy77/flights.csv: cannot be read" in found["diagnostics"][-1]["text"]

    def test_it_is_read_on_the_site(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        login_node(monkeypatch)
        monkeypatch.setenv("HPCML_SCRATCH", str(tmp_path / "runs"))
        code, found = plan(capsys, *self.ARGS)
        assert code == 2
        assert "flights.csv" in found["diagnostics"][0]["text"]

    def test_storage_without_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, found = plan(capsys, *self.ARGS, "cluster.storage=scratch/ab12")
        assert code == 2
        assert "does not include gdata/xy77, which holds data file 1, /g/data" in found["diagnostics"][0]["text"]


def test_unwritable_scratch_on_the_site(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login_node(monkeypatch)
    (tmp_path / "file").touch()
    code, found = plan(capsys, *GADI, f"scratch={tmp_path}/file")
    assert code == 2
    assert "cannot create a run directory" in found["diagnostics"][0]["text"]


def test_a_local_run_is_planned_as_before(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, found = plan(capsys, "cluster.workers=2", f"scratch={tmp_path}")
    assert code == 0
    assert found["command"] == f"hpcml run cluster.workers=2 scratch={tmp_path}"
    assert found["cluster"].startswith("2 workers")
    assert found["diagnostics"] == []
