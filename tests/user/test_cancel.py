"""Test Ctrl-C, SIGTERM and SIGKILL at any time: no process is left, and the record is right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest

from hpcml.runs import RunPaths

# An estimator that fits slowly on workers, and that the head saves slowly.
SLOW = """
import multiprocessing, pathlib, time
from sklearn.linear_model import LogisticRegression

class Slow(LogisticRegression):
    def fit(self, X, y):
        if multiprocessing.parent_process() is not None:
            time.sleep(PAUSE)
        return super().fit(X, y)
    def __getstate__(self):
        if multiprocessing.parent_process() is None and hasattr(self, "coef_"):
            pathlib.Path("writing").touch()
            time.sleep(2)
        return super().__getstate__()
"""


def group(pgid: int) -> list[str]:
    """Return the living processes of a process group."""
    found = []
    for process in psutil.process_iter(["status", "cmdline"]):
        try:
            if os.getpgid(process.pid) == pgid and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"] or []))
        except ProcessLookupError:
            continue
    return found


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def started(tmp_path: Path) -> Callable[[float], subprocess.Popen[str]]:
    def start(pause: float) -> subprocess.Popen[str]:
        (tmp_path / "slow.py").write_text(SLOW.replace("PAUSE", str(pause)))
        args = [
            "run", "data=iris", "model=custom", "model._target_=slow.Slow", "workload.grid={C: [1, 2, 3, 4]}",
            "cluster.workers=2", "model_format=joblib",
        ]  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "hpcml", *args],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def paths_of(tmp_path: Path) -> RunPaths | None:
    found = list((tmp_path / "runs").glob("*"))
    return RunPaths(found[0]) if found else None


def starting(tmp_path: Path, _: int) -> bool:
    paths = paths_of(tmp_path)
    return paths is not None and paths.worker_logs.is_dir()


def spawning(tmp_path: Path, pgid: int) -> bool:
    return any("spawn_main" in command for command in group(pgid))


def fitting(tmp_path: Path, _: int) -> bool:
    paths = paths_of(tmp_path)
    return paths is not None and paths.progress.is_file() and json.loads(paths.progress.read_text())["workers"] == 2


def writing(tmp_path: Path, _: int) -> bool:
    return (tmp_path / "writing").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
@pytest.mark.parametrize("moment", [starting, spawning, fitting, writing], ids=lambda f: f.__name__)
def test_cancelled(
    tmp_path: Path,
    started: Callable[[float], subprocess.Popen[str]],
    moment: Callable[[Path, int], bool],
    number: signal.Signals,
) -> None:
    process = started(0.05 if moment is writing else 5)
    wait_for(lambda: moment(tmp_path, process.pid), moment.__name__)
    before = group(process.pid)
    # A terminal sends Ctrl-C to the whole group; qdel and kill send SIGTERM to one process.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=120)

    assert before, "there was nothing to cancel"
    if moment in (fitting, writing):
        assert len(before) >= 3
    assert process.returncode == 128 + number, err
    wait_for(lambda: group(process.pid) == [], f"the end of {group(process.pid)}")
    paths = paths_of(tmp_path)
    assert paths is not None
    record = json.loads(paths.record.read_text())
    assert (record["state"], record["exit_code"]) == ("CANCELLED", 128 + number)
    assert f"cancelled by {number.name}; nothing is left running; log: {paths.log}" in err
    assert "Traceback" not in err
    assert out == ""
    if moment is writing:  # finished results are not lost
        assert paths.model("joblib").is_file()
        assert paths.table("cv_results", "parquet").is_file()
    assert not list(paths.root.rglob("*.tmp"))


def test_killed(tmp_path: Path, started: Callable[[float], subprocess.Popen[str]]) -> None:
    process = started(5)
    wait_for(lambda: fitting(tmp_path, process.pid), "fitting")
    process.kill()
    process.communicate(timeout=120)
    wait_for(lambda: group(process.pid) == [], f"the end of {group(process.pid)}")
    shown = subprocess.run(
        [sys.executable, "-m", "hpcml", "status", "last"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert shown.stdout.startswith("LOST ")


def test_what_was_computed_is_kept(tmp_path: Path, started: Callable[[float], subprocess.Popen[str]]) -> None:
    process = started(2)

    def some_done() -> bool:
        paths = paths_of(tmp_path)
        return paths is not None and paths.progress.is_file() and json.loads(paths.progress.read_text())["done"] >= 2

    wait_for(some_done, "some finished fits")
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    paths = paths_of(tmp_path)
    assert paths is not None
    fits = pyarrow.parquet.read_table(paths.table("fits", "parquet")).to_pydict()
    assert len(fits["candidate"]) >= 2
    assert all(0 <= score <= 1 for score in fits["test_score"])


SCRIPT = """
from sklearn.datasets import load_iris
from slow import Slow
from hpcml import LocalSpec, RunSpec, Search, run
if GUARD:
    run(RunSpec(workload=Search(), data=load_iris(return_X_y=True), model=Slow(), cluster=LocalSpec(workers=1)))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_script_of_the_users(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "slow.py").write_text(SLOW.replace("PAUSE", "5"))
    (tmp_path / "job.py").write_text(SCRIPT.replace("GUARD", '__name__ == "__main__"'))
    process = subprocess.Popen(
        [sys.executable, "job.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: fitting_one(tmp_path), "fitting")
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    wait_for(lambda: group(process.pid) == [], f"the end of {group(process.pid)}", seconds=5)
    paths = paths_of(tmp_path)
    assert paths is not None
    assert json.loads(paths.record.read_text())["state"] == "CANCELLED"


def fitting_one(tmp_path: Path) -> bool:
    paths = paths_of(tmp_path)
    return paths is not None and paths.progress.is_file() and json.loads(paths.progress.read_text())["workers"] == 1


def test_a_script_without_its_guard_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW.replace("PAUSE", "0"))
    (tmp_path / "job.py").write_text(SCRIPT.replace("GUARD", "True"))
    done = subprocess.run(  # and not after cluster.start_timeout
        [sys.executable, "job.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert 'must do so behind: if __name__ == "__main__":' in done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_before_anything_began(tmp_path: Path, started: Callable[[float], subprocess.Popen[str]]) -> None:
    process = started(5)
    wait_for(lambda: any("hpcml" in command for command in group(process.pid)), "the interpreter")
    time.sleep(1)  # the script is importing
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in err
