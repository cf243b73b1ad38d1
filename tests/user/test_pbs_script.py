"""Test head.pbs as PBS runs it: a copy, from the home directory, with PBS's variables.

This needs no scheduler.
"""

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
    """Make a directory to submit from, with a difficult name."""
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
    # The job's share of the machine.
    assert json.loads((run / "record.json").read_text())["workers"] == 1
    assert "best parameters" in out


def test_the_jobs_exit_code_is_hpcmls(workdir: Path, tmp_path: Path) -> None:
    (workdir / "run.args").write_text("model.gama=3\n")
    job = start(workdir, tmp_path, HPCML_ARGS_FILE="run.args")
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 2
    assert "did you mean 'gamma'" in out


def test_qdel_reaches_hpcml(workdir: Path, tmp_path: Path) -> None:
    (workdir / "run.args").write_text("experiment=digits_svc\nworkload.cv=50\n")
    job = start(workdir, tmp_path, HPCML_ARGS_FILE="run.args")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "scratch").glob("*/progress.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=120)
    assert job.returncode == 143
    (record,) = (tmp_path / "scratch").glob("*/record.json")
    assert json.loads(record.read_text())["state"] == "CANCELLED"


def test_an_environment_script_may_use_variables_that_are_not_set(workdir: Path, tmp_path: Path) -> None:
    with (workdir / "env.sh").open("a") as env:
        env.write("export LD_LIBRARY_PATH=/x:$LD_LIBRARY_PATH\n")
    (workdir / "run.args").write_text("model.gama=3\n")
    job = start(workdir, tmp_path, HPCML_ARGS_FILE="run.args")
    out, _ = job.communicate(timeout=120)
    assert "did you mean 'gamma'" in out


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
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 2
    assert message in out


class TestSubmit:
    """submit.sh, with a qsub that prints its arguments."""

    @pytest.fixture
    def machine(self, tmp_path: Path) -> dict[str, str]:
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        for name, text in {
            "qsub": 'printf "%s\\0" "$@" > "$SEEN"; exit "${QSUB_EXIT:-0}"',
            "sbatch": 'printf "%s\\0" "$@" "$HPCML_ARGS_FILE" "$HPCML_ENV" > "$SEEN"',
            "hpcml": 'printf "%s\\0" "$@" > "$SEEN"',
        }.items():
            (bin_ / name).write_text(f"#!/bin/bash\n{text}\n")
            (bin_ / name).chmod(0o755)
        return {"PATH": f"{bin_}:/usr/bin:/bin", "SEEN": str(tmp_path / "seen"), "HOME": os.environ["HOME"]}

    @staticmethod
    def submit(
        machine: dict[str, str], cwd: Path, *args: str | bytes, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPTS / "submit.sh"), *args]
        env = {**machine, **variables}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)

    @staticmethod
    def seen(machine: dict[str, str]) -> list[bytes]:
        return Path(machine["SEEN"]).read_bytes().split(b"\0")[:-1]

    HARD = (
        b"workload.grid={C: [1, 2]}", b"data.path=a, 'b' \"c\" $HOME `id` \\n *.csv", b"+model.x=\xe9t\xe9",
        b" spaces ", b"-q=express", b"--", "名=é".encode(),
    )  # fmt: skip

    @pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
    def test_overrides_come_through_byte_for_byte(
        self, machine: dict[str, str], workdir: Path, tmp_path: Path, locale: str
    ) -> None:
        done = self.submit(machine, workdir, "-P", "ab12", "-l", "ncpus=48,mem=190GB", "--", *self.HARD, LC_ALL=locale)
        assert done.returncode == 0, done.stderr
        *options, flag, variables, script = self.seen(machine)
        assert options == [b"-P", b"ab12", b"-l", b"ncpus=48,mem=190GB"]
        assert flag == b"-v"
        assert script == str(SCRIPTS / "head.pbs").encode()
        name, _, file = variables.decode().partition("=")
        assert name == "HPCML_ARGS_FILE"
        assert "/" not in file  # a name without its path, which may have commas and quotes
        # The job is a copy of head.pbs in another directory, with the environment that PBS sets.
        spooled = tmp_path / "1.SC"
        shutil.copy(SCRIPTS / "head.pbs", spooled)
        (workdir / "env.sh").write_text("")
        job = subprocess.run(
            ["bash", str(spooled)],
            cwd=tmp_path,
            env={**machine, "PBS_O_WORKDIR": str(workdir), "HPCML_ARGS_FILE": file, "LC_ALL": locale},
            capture_output=True,
            text=True,
            check=False,
        )
        assert job.returncode == 0, job.stderr
        assert self.seen(machine) == [b"run", *self.HARD]

    def test_variables_of_the_users_are_kept(self, machine: dict[str, str], workdir: Path) -> None:
        self.submit(machine, workdir, "-v", "A=1,B=2", "-vC=3", "--", "seed=1")
        assert self.seen(machine)[1].startswith(b"A=1,B=2,C=3,HPCML_ARGS_FILE=")

    def test_an_env_sh_of_the_users_is_wanted(self, machine: dict[str, str], tmp_path: Path) -> None:
        done = self.submit(machine, tmp_path, "--", "seed=1")
        assert done.returncode == 2
        assert f"there is no {tmp_path}/env.sh: cp '{SCRIPTS}/env.sh' ." in done.stderr
        shutil.copy(SCRIPTS / "env.sh", tmp_path)
        assert "env.sh says nothing" in self.submit(machine, tmp_path, "--", "seed=1").stderr
        assert not Path(machine["SEEN"]).exists()

    def test_it_may_lie_elsewhere(self, machine: dict[str, str], tmp_path: Path, workdir: Path) -> None:
        shutil.copy(workdir / "env.sh", tmp_path / "mine.sh")
        self.submit(machine, tmp_path, "--", "seed=1", HPCML_ENV="mine.sh")
        assert f"HPCML_ENV={tmp_path}/mine.sh," in self.seen(machine)[1].decode()
        self.submit(machine, tmp_path, "-v", f"HPCML_ENV={tmp_path}/mine.sh", "--", "seed=1")
        assert self.seen(machine)[1].decode().count("HPCML_ENV=") == 1

    def test_a_path_that_qsub_would_split_is_refused(self, machine: dict[str, str], workdir: Path) -> None:
        (workdir / "a,b.sh").write_text("true\n")
        done = self.submit(machine, workdir, "--", "seed=1", HPCML_ENV="a,b.sh")
        assert done.returncode == 2
        assert "qsub -v garbles the path" in done.stderr

    def test_slurm(self, machine: dict[str, str], workdir: Path) -> None:
        self.submit(machine, workdir, "--time=1:00", "--", "seed=1", HPCML_SUBMIT="sbatch")
        *options, script, file, environment = self.seen(machine)
        assert options == [b"--ignore-pbs", b"--time=1:00"]
        assert script.endswith(b"head.pbs")
        assert (workdir / file.decode()).read_text() == "seed=1\n"
        assert environment == f"{workdir}/env.sh".encode()

    def test_a_refused_job_leaves_no_file_and_its_exit_code(self, machine: dict[str, str], workdir: Path) -> None:
        done = self.submit(machine, workdir, "--", "seed=1", QSUB_EXIT="188")
        assert done.returncode == 188
        assert not list(workdir.glob("*.args"))

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ((), "usage: submit.sh [qsub options] -- OVERRIDES"),
            (("seed=1",), "usage: submit.sh"),
            (("-q", "normal", "--"), "usage: submit.sh"),
            (("--", "a=1\nb=2"), "an override is one line: a=1"),
        ],
    )
    def test_a_wrong_command(self, machine: dict[str, str], workdir: Path, args: tuple[str], message: str) -> None:
        done = self.submit(machine, workdir, *args)
        assert done.returncode == 2
        assert message in done.stderr
        assert not Path(machine["SEEN"]).exists()

    def test_another_machine(self, machine: dict[str, str], workdir: Path) -> None:
        done = self.submit(machine, workdir, "--", "seed=1", HPCML_SUBMIT="no-such-qsub")
        assert done.returncode == 2
        assert "there is no command no-such-qsub on this machine: start it on a login node" in done.stderr
