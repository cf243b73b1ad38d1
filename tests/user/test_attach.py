"""Test runs on a Dask cluster that is already running, which they leave unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Hpcml
from tests.user.test_cancel import wait_for

GRID = ("experiment=digits_svc", "workload.grid={C: [1, 2]}", "workload.cv=2", "cluster=attach")


@pytest.fixture
def scheduler_file(tmp_path: Path) -> Iterator[Path]:
    """Start a scheduler and two workers, as a user does."""
    file = tmp_path / "scheduler.json"
    where = ("--host", "127.0.0.1", "--no-dashboard")
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file), *where]
    workers = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), *where]
    workers += ["--nworkers", "2", "--nthreads", "1", "--local-directory", str(tmp_path / "spill")]
    processes = []
    with (tmp_path / "dask.log").open("w") as log:
        for command in ([*scheduler, "--port", "0"], workers):
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=dict(os.environ)))
        wait_for(file.exists, "the scheduler's file")
        yield file
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def test_a_run_on_it(scheduler_file: Path, hpcml: Hpcml, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from sklearn.svm import SVC\n\nclass Mine(SVC):\n    pass\n")
    args = (f"cluster.scheduler_file={scheduler_file}", "cluster.min_workers=2", f"scratch={tmp_path}/runs")
    # Run twice, since the first run must leave the cluster as it was.
    for model in ((), ("model=custom", "model._target_=mine.Mine")):
        done = hpcml("run", *GRID, *args, *model)
        assert done.returncode == 0, done.stderr
        record = json.loads((max((tmp_path / "runs").iterdir()) / "record.json").read_text())
        assert (record["state"], record["units_done"], record["workers"]) == ("DONE", 5, 2)
        assert 0 < record["core_s_busy"] < record["core_s_allocated"]


def test_too_few_workers(scheduler_file: Path, hpcml: Hpcml, tmp_path: Path) -> None:
    args = (f"cluster.scheduler_file={scheduler_file}", "cluster.min_workers=3", "cluster.start_timeout=2")
    done = hpcml("run", *GRID, *args, f"scratch={tmp_path}/runs")
    assert done.returncode == 1
    assert "of cluster.min_workers=3 workers were there within cluster.start_timeout=2 seconds" in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (None, 2, "No such file or directory"),
        ("{}", 2, "has no scheduler's address"),
        ('{"address": "tcp://127.0.0.1:9"}', 1, "no scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_no_scheduler(hpcml: Hpcml, tmp_path: Path, text: str | None, code: int, said: str) -> None:
    if text is not None:
        (tmp_path / "scheduler.json").write_text(text)
    done = hpcml("run", *GRID, "cluster.scheduler_file=scheduler.json", f"scratch={tmp_path}/runs")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
