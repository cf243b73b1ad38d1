"""Check that the user's own configuration of dask_jobqueue has no effect on hpcml."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml
from tests.unit.requests import resolved

from hpcml.batch.directives import worker_script
from hpcml.batch.request import Request
from hpcml.batch.schedulers import scheduler_of
from hpcml.cluster.jobs import Jobs
from hpcml.runs import RunPaths

OVERRIDES = {
    "pbs": ("gadi", ["cluster.project=ab12"]),
    "slurm": ("generic_slurm", ["cluster.ncpus=4", "cluster.mem=8GB", "cluster.project=ab12"]),
}
# Possible content of ~/.config/dask/jobqueue.yaml.
HOSTILE: dict[str, Any] = {
    "name": "mine", "queue": "express", "account": "xx99", "project": None, "walltime": "99:00:00", "interface": "eth9",
    "resource-spec": "select=1:ncpus=1", "job-extra-directives": ["-q hugemem"], "job-directives-skip": ["-l"],
    "local-directory": "/mine", "job-script-prologue": ["module load mine"], "log-directory": None, "cores": 1,
    "memory": "1GB", "processes": 1, "python": "/mine/python", "worker-extra-args": ["--mine"], "job-cpu": 1,
    "job-mem": "1GB", "shebang": "#!/bin/mine", "death-timeout": 1,
}  # fmt: skip


@pytest.fixture
def jobqueue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from hpcml.cluster import jobqueue

    yield jobqueue
    assert "jobqueue.hpcml" not in dask.config.config


def script(jobqueue: Any, request: Request, root: Path) -> str:
    cls = jobqueue.PbsWorkerJob if request.scheduler == "pbs" else jobqueue.SlurmWorkerJob
    jobs = Jobs(request, RunPaths(root), scheduler_of(request.site, request.scheduler))
    with dask.config.set({f"jobqueue.{jobqueue.SECTION}": jobqueue.section(request)}):
        return str(cls("tls://10.6.0.1:8786", "job-0", jobs=jobs).job_script())


@pytest.mark.parametrize("name", ["pbs", "slurm"])
def test_the_users_own_configuration_changes_nothing(
    name: str, jobqueue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request, _ = resolved(*OVERRIDES[name])
    expected = worker_script(request, RunPaths(tmp_path), "job-0")
    assert script(jobqueue, request, tmp_path) == expected
    monkeypatch.setenv("PBS_ACCOUNT", "xx99")
    with dask.config.set({"jobqueue.pbs": HOSTILE, "jobqueue.slurm": HOSTILE}):
        assert script(jobqueue, request, tmp_path) == expected


@pytest.mark.parametrize("scheduler", ["pbs", "slurm"])
def test_the_private_section_is_complete(scheduler: str, jobqueue: Any) -> None:
    """It has every key of dask_jobqueue, so that none is read from elsewhere."""
    known = yaml.safe_load((resources.files("dask_jobqueue") / "jobqueue.yaml").read_text())["jobqueue"][scheduler]
    request, _ = resolved(*OVERRIDES[scheduler])
    assert set(jobqueue.section(request)) == set(known)


def test_importing_it_leaves_the_users_home_and_signals_alone(tmp_path: Path) -> None:
    code = (
        "import signal\nbefore = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        "import hpcml.cluster.jobqueue\n"
        "assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin"})
    assert list(tmp_path.iterdir()) == []
