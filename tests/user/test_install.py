"""Test installations: a wheel in a fresh environment, an editable checkout, completion in bash."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(ROOT)]
    subprocess.run(pip, check=True, timeout=300)
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_every_config(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"hpcml/conf/{path.relative_to(ROOT / 'conf')}" in names
    for path in (ROOT / "src" / "hpcml").rglob("*.py"):
        assert str(path.relative_to(ROOT / "src")) in names
    assert "hpcml/py.typed" in names
    for name in ("env.sh", "head.pbs", "submit.sh"):
        assert f"hpcml/scripts/{name}" in names


def test_the_wheel_alone_runs_the_main_job(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # The dependencies are those of this environment; the new one's packages come first, and .pth
    # files are not followed.
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = str(binaries / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--ignore-installed", str(wheel)]
    subprocess.run(install, check=True, timeout=600)
    found = subprocess.check_output([python, "-c", "import hpcml; print(hpcml.__file__)"], text=True)
    assert Path(found.strip()).is_relative_to(tmp_path)
    done = subprocess.run(
        [str(binaries / "hpcml"), "run", "experiment=digits_svc"],
        cwd="/",
        env={**os.environ, "SCRATCH": str(tmp_path / "scratch")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "best parameters  C=1, kernel=rbf, shrinking=True" in done.stdout
    planned = subprocess.run(
        [str(binaries / "hpcml"), "plan", "site=gadi", "cluster.project=ab12"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    (submit,) = [line.split()[0] for line in planned.stdout.splitlines() if "submit.sh" in line]
    assert Path(submit).is_relative_to(tmp_path)
    assert os.access(submit, os.X_OK)


def test_the_editable_install_reads_the_checkouts_configs() -> None:
    code = "import hpcml.conf, hpcml; print(hpcml.conf.__file__); print(hpcml.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.splitlines() == [str(ROOT / "conf/__init__.py"), str(ROOT / "src/hpcml/__init__.py")]


@pytest.mark.parametrize("args", [["--help"], ["list"], ["status", "last"], ["clean"], ["completion"]])
def test_what_computes_nothing_imports_nothing_heavy(tmp_path: Path, args: list[str]) -> None:
    code = (
        "import sys\nfrom hpcml.cli import main\nmain(sys.argv[1:])\n"
        "heavy = {'dask', 'distributed', 'hydra', 'numpy', 'sklearn', 'pandas', 'pyarrow'}\n"
        "print('imported', *(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1].strip() == "imported", done.stderr


def test_completion_in_bash(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "dumb",
        "PS1": "$ ",
    }
    bash = pexpect.spawn(
        "bash", ["--norc", "--noprofile"], env=environment, cwd=str(tmp_path), encoding="utf-8", timeout=20
    )
    bash.setwinsize(50, 200)
    bash.sendline('eval "$(hpcml completion bash)"; bind "set enable-bracketed-paste off"; echo ready-$((1+1))')
    bash.expect("ready-2")
    for typed, completed in [
        ("hpcml ru", "hpcml run "),
        ("hpcml run clu", "ster"),  # and a bell, since both cluster= and cluster. match
        ("hpcml run cluster=lo", "hpcml run cluster=local "),
        ("hpcml run experiment=sgd", "hpcml run experiment=sgd_random "),
        ("hpcml run data=digits model.ker", "hpcml run data=digits model.kernel="),
        ("hpcml status la", "hpcml status last "),
    ]:
        bash.send(typed + "\t")
        bash.expect_exact(completed)
        bash.sendcontrol("u")
    bash.sendline("exit")
    bash.expect(pexpect.EOF)


def test_progress_and_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    args = ["-m", "hpcml", "run", "experiment=digits_svc", "workload.cv=20"]
    run = pexpect.spawn(sys.executable, args, cwd=str(tmp_path), encoding="utf-8", timeout=60, dimensions=(40, 140))
    run.expect(r"[1-9]\d*/961")  # the live bar, with finished units
    run.expect("2 workers|1 workers|workers")
    run.sendintr()
    run.expect("cancelled by SIGINT; nothing is left running")
    run.expect(pexpect.EOF)
    run.close()
    assert run.exitstatus == 130
