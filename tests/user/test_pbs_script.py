"""head.pbs, run as PBS runs it: a copy, from the home directory, with PBS's variables. It needs no scheduler."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "pbs"


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A directory to submit from, whose name is not an easy one."""
    made = tmp_path / "my work, $dir"
    made.mkdir()
    shutil.copy(SCRIPTS / "env.sh", made)
    with (made / "env.sh").open("a") as env:
        env.write(f"PATH={Path(sys.executable).parent}:$PATH\n")
    return made


def start(workdir: Path, tmp_path: Path, **variables: str) -> subprocess.Popen[str]:
    spooled = tmp_path / "spool" / "1.server.SC"
    spooled.parent.mkdir()
    shutil.copy(SCRIPTS / "head.pbs", spooled)
    environment = {
        "HOME": os.environ["HOME"],
        "PATH": "/usr/bin:/bin",
        "PBS_O_WORKDIR": str(workdir),
        "PBS_JOBID": "1.server",
        "NCPUS": "1",
        "SCRATCH": str(tmp_path / "scratch"),
        **variables,
    }
    return subprocess.Popen(
        ["bash", str(spooled)],
        cwd=os.environ["HOME"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_overrides_come_through_as_they_stand(workdir: Path, tmp_path: Path) -> None:
    (workdir / "a, 'b' $c.csv").write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    (workdir / "run.args").write_text(
        "data=csv\ndata.path=a, 'b' $c.csv\n\ndata.target=y\nworkload.grid={C: [1, 2]}\nmodel.kernel=linear"
    )
    job = start(workdir, tmp_path, HPCML_ARGS_FILE="run.args")
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 0, out
    (run,) = (tmp_path / "scratch").iterdir()
    overrides = json.loads((run / "manifest.json").read_text())["argv"][2:]
    assert overrides == [
        "data=csv", "data.path=a, 'b' $c.csv", "data.target=y", "workload.grid={C: [1, 2]}", "model.kernel=linear",
    ]  # fmt: skip
    assert json.loads((run / "record.json").read_text())["workers"] == 1  # the job's share, not the machine
    assert "best parameters" in out


def test_the_jobs_exit_code_is_hpcmls(workdir: Path, tmp_path: Path) -> None:
    (workdir / "run.args").write_text("model.gama=3\n")
    job = start(workdir, tmp_path, HPCML_ARGS_FILE="run.args")
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 2
    assert "nearest: gamma" in out


def test_qdel_reaches_hpcml(workdir: Path, tmp_path: Path) -> None:
    (workdir / "run.args").write_text("experiment=digits_svc\nworkload.cv=50\n")
    job = start(workdir, tmp_path, HPCML_ARGS_FILE="run.args")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "scratch").glob("*/progress.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == 143
    (record,) = (tmp_path / "scratch").glob("*/record.json")
    assert json.loads(record.read_text())["state"] == "CANCELLED"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HPCML_ENV": "/no/such/env.sh"}, "hpcml: there is no /no/such/env.sh"),
        ({"HPCML_ARGS_FILE": "no.args"}, "hpcml: HPCML_ARGS_FILE=no.args: cannot be read"),
        ({"HPCML_ENV": "/dev/null"}, "hpcml: there is no command hpcml after /dev/null"),
    ],
)
def test_what_is_missing_is_told(workdir: Path, tmp_path: Path, variables: dict[str, str], message: str) -> None:
    job = start(workdir, tmp_path, **variables)
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 2
    assert message in out
