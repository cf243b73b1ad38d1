"""Test hpcml from the command line to results on scratch, and its failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import skops.io
import yaml
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.svm import SVC

from hpcml.runs import RunPaths

Hpcml = Any


def only_run(scratch: Path) -> RunPaths:
    (found,) = scratch.iterdir()
    return RunPaths(found)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_main_job(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml("run", "experiment=digits_svc", "cluster.workers=2")
    assert done.returncode == 0, done.stderr
    paths = only_run(tmp_path / "runs")

    X, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    grid = {"C": [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10], "kernel": ["rbf", "poly", "sigmoid"], "shrinking": [True, False]}
    serial = GridSearchCV(SVC(), grid, cv=3).fit(train, y_train)
    table = pyarrow.parquet.read_table(paths.table("cv_results", "parquet")).to_pydict()
    assert len(table["params"]) == 48
    np.testing.assert_allclose(table["mean_test_score"], serial.cv_results_["mean_test_score"], rtol=0, atol=1e-12)
    metrics = read(paths.metrics)
    assert metrics["best_params"] == serial.best_params_
    assert metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)
    model = skops.io.load(paths.model("skops"))
    np.testing.assert_array_equal(model.predict(test), serial.predict(test))

    record = read(paths.record)
    assert (record["state"], record["exit_code"], record["units_done"], record["units_total"]) == ("DONE", 0, 145, 145)
    assert len(record["tasks"]) == record["workers"]
    assert sum(record["tasks"].values()) >= 145 / 10  # joblib combines short calls
    assert 0 < record["core_s_busy"] < record["core_s_allocated"]
    assert yaml.safe_load(paths.config.read_text())["cluster"]["workers"] == 2
    manifest = read(paths.manifest)
    assert manifest["overrides"] == ["experiment=digits_svc", "cluster.workers=2"]
    assert manifest["choices"]["experiment"] == "digits_svc"
    assert paths.root.stat().st_mode & 0o777 == 0o700

    assert "best parameters  C=1, kernel=rbf, shrinking=True" in done.stdout
    assert str(paths.root) in done.stdout
    assert "145/145 done" in done.stderr
    for text in (done.stdout, done.stderr):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "distributed" not in text
    assert "distributed.scheduler" in paths.log.read_text()

    listed = hpcml("list", "--json")  # from the index in the home directory
    assert [run["run"] for run in read_text(listed.stdout)] == [paths.run_id]
    status = hpcml("status", "last")
    assert "DONE" in status.stdout
    assert "C=1, kernel=rbf, shrinking=True" in status.stdout
    assert read_text(hpcml("status", paths.run_id, "--json").stdout)["metrics"] == metrics


def read_text(text: str) -> Any:
    return json.loads(text)


def test_any_estimator_with_nothing_else_configured(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml(
        "run", "workload=search", "data=breast_cancer", "model._target_=sklearn.ensemble.RandomForestClassifier",
        "workload.grid={n_estimators: [50, 100], max_depth: [3, null]}", "cluster.workers=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    paths = only_run(tmp_path / "runs")
    assert set(read(paths.metrics)["best_params"]) == {"n_estimators", "max_depth"}
    params = pyarrow.parquet.read_table(paths.table("cv_results", "parquet")).to_pydict()["param_max_depth"]
    assert params == [3, 3, None, None]


OWN = """
import numpy as np, pathlib, time
from sklearn.base import BaseEstimator, ClassifierMixin

def load(n=60):
    X = np.arange(2.0 * n).reshape(n, 2)
    return X, (np.arange(n) % 2)

def scorer(model, X, y):
    return float((model.predict(X) == y).mean()) + 1

def broken():
    raise RuntimeError("this loader is broken")

class Mine(ClassifierMixin, BaseEstimator):
    def __init__(self, shift=0, pause=0.0):
        self.shift, self.pause = shift, pause
    def fit(self, X, y):
        time.sleep(self.pause)
        self.classes_ = np.unique(y)
        print("fitted on a worker")
        return self
    def predict(self, X):
        return ((X[:, 0] // 2).astype(int) + self.shift) % 2
"""


def test_the_users_own_code_from_the_working_directory(hpcml: Hpcml, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    done = hpcml(
        "run", "data=custom", "data._target_=mine.load", "+data.n=80", "model=custom", "model._target_=mine.Mine",
        "workload.grid={shift: [0, 1]}", "workload.scoring=mine.scorer", "cluster.workers=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    paths = only_run(tmp_path / "runs")
    assert read(paths.metrics)["best_params"] == {"shift": 0}
    assert read(paths.metrics)["best_score"] == 2
    assert "trusted=['mine.Mine']" in done.stdout
    assert "fitted on a worker" not in done.stdout + done.stderr
    assert "fitted on a worker" in next(paths.worker_logs.iterdir()).read_text()


def test_a_failing_candidate_is_told(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml("run", "data=iris", "workload.grid={C: [1, -1]}", "cluster.workers=1")
    assert done.returncode == 0
    assert "warning: candidate 1 (C=-1) failed in 3 of 3 folds" in done.stdout
    assert only_run(tmp_path / "runs").table("failures", "csv").is_file()


def test_all_fail(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml("run", "data=iris", "workload.grid={C: [-1]}", "cluster.workers=1")
    paths = only_run(tmp_path / "runs")
    assert done.returncode == 1
    assert "error: all 3 fits failed; first cause: " in done.stderr
    assert f"log: {paths.log}" in done.stderr
    assert read(paths.record)["state"] == "FAILED"
    assert paths.table("failures", "csv").is_file()
    assert "Traceback" not in done.stderr


def test_workers_that_die_of_memory(hpcml: Hpcml, tmp_path: Path) -> None:
    (tmp_path / "hog.py").write_text(
        "import numpy as np\nfrom sklearn.svm import SVC\nclass Hog(SVC):\n"
        "    def fit(self, X, y):\n        self.big = np.ones(300_000_000)\n        return super().fit(X, y)\n"
    )
    done = hpcml(
        "run", "data=iris", "model=custom", "model._target_=hog.Hog", "cluster.workers=1", "cluster.memory_limit=600MB"
    )
    assert done.returncode == 1, done.stderr
    assert "all 3 fits failed; first cause: every worker that tried it died, probably out of memory" in done.stderr
    assert "KilledWorker" not in done.stderr
    assert read(only_run(tmp_path / "runs").record)["state"] == "FAILED"


class TestBadInput:
    """Exit code 2 and one message, before any cluster starts."""

    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            (["experiment=digit"], "did you mean 'digits_svc'"),
            (["model.gama=3"], "did you mean 'gamma'"),
            (["data=csv", "data.path=nope.csv", "data.target=y"], "nope.csv: cannot be read: No such file"),
            (["data=csv", "data.path=ragged.csv", "data.target=y"], "Expected 2 columns, got 3"),
            (
                ["data=csv", "data.path=nan.csv", "data.target=y", "preprocess=none"],
                "1 NaN or infinite value in X (in a), and SVC",
            ),
            (["data=csv", "data.path=one.csv", "data.target=y"], "only one class in the target: 1"),
            (
                ["data=iris", "workload.cv=1000"],
                "cannot be done with 112 training samples (38 more are held out for the test)",
            ),
            (["data=custom", "data._target_=mine.broken"], "RuntimeError: this loader is broken"),
            (["workload.grid={gama: [1]}"], "SVC() has no 'gama'"),
            (["cluster.workers=100000"], "a worker needs 384MB at least"),
            (["cluster.local_directory=/no/such"], "cluster.local_directory=/no/such: not a directory"),
        ],
    )
    def test_message(self, hpcml: Hpcml, tmp_path: Path, args: list[str], expected: str) -> None:
        (tmp_path / "mine.py").write_text(OWN)
        (tmp_path / "ragged.csv").write_text("a,y\n1,2\n1,2,3\n")
        (tmp_path / "nan.csv").write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20)) + ",1\n")
        (tmp_path / "one.csv").write_text("a,y\n" + "".join(f"{i},1\n" for i in range(20)))
        for verb in ("plan", "run"):
            done = hpcml(verb, *args)
            assert done.returncode == 2, done.stderr
            assert done.stdout == ""
            assert done.stderr.startswith("error: ")
            assert expected in done.stderr
            assert "Traceback" not in done.stderr
        # The run had started, so it has a log and a record.
        for found in (tmp_path / "runs").glob("*"):
            assert f"log: {RunPaths(found).log}" in done.stderr
            assert read(RunPaths(found).record)["exit_code"] == 2

    def test_scratch_that_cannot_be_written(self, hpcml: Hpcml, tmp_path: Path, ordinary_user: Sequence[str]) -> None:
        (tmp_path / "locked").mkdir(mode=0o755)
        if not ordinary_user:
            (tmp_path / "locked").chmod(0o555)
        done = hpcml("run", f"scratch={tmp_path / 'locked'}", prefix=ordinary_user)
        assert done.returncode == 2
        assert f"scratch={tmp_path / 'locked'}: cannot create a run directory: " in done.stderr
        assert "is not a writable directory" in done.stderr
        assert list((tmp_path / "locked").iterdir()) == []

    def test_scratch_over_a_limit(self, hpcml: Hpcml, tmp_path: Path) -> None:
        done = hpcml("run", prefix=["prlimit", "--fsize=500000"])
        assert done.returncode == 2
        assert "cannot write 1MB there: File too large" in done.stderr
        assert list((tmp_path / "runs").iterdir()) == []

    def test_scratch_that_is_full(self, hpcml: Hpcml, tmp_path: Path) -> None:
        full = tmp_path / "full"
        full.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(full)]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(
                f"cannot mount a small file system here ({mounted.stderr.strip()}); a size limit is tested above"
            )
        try:
            done = hpcml("run", f"scratch={full}")
            left = list(full.iterdir())
        finally:
            subprocess.run(["umount", str(full)], check=True)
        assert done.returncode == 2
        assert f"scratch={full}: cannot write 1MB there: No space left on device" in done.stderr
        assert left == []


def test_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    command = f"{sys.executable} -m hpcml run data=iris cluster.workers=1 2>&1 | head -1"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=100, check=True, capture_output=True)
    paths = only_run(tmp_path / "runs")
    deadline = time.monotonic() + 30
    while not paths.record.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert read(paths.record)["state"] == "DONE"


def test_plan_starts_and_writes_nothing(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml("plan", "experiment=digits_svc", "cluster.workers=2")
    assert done.returncode == 0, done.stderr
    assert "grid search over 48 candidates of SVC" in done.stdout
    assert "hpcml run experiment=digits_svc cluster.workers=2" in done.stdout
    assert not (tmp_path / "runs").exists()
    found = read_text(hpcml("plan", "--json", "experiment=digits_svc").stdout)
    assert found["units of work"] == "145"
    assert found["config"]["workload"]["cv"] == 3


def test_the_run_directory_is_closed_to_others(hpcml: Hpcml, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    assert hpcml("run", "data=iris", "cluster.workers=1").returncode == 0
    paths = only_run(tmp_path / "runs")
    for directory in (tmp_path, *tmp_path.parents):
        if len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | 0o055)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    assert subprocess.run([*become, "id", "-u"], capture_output=True, text=True, check=True).stdout == "65534\n"
    assert subprocess.run([*become, "ls", str(paths.root.parent)], capture_output=True, check=False).returncode == 0
    denied = subprocess.run([*become, "cat", str(paths.log)], capture_output=True, text=True, check=False)
    assert "Permission denied" in denied.stderr


@pytest.mark.parametrize("job", sorted((Path(__file__).parents[2] / "jobs").glob("*.py")), ids=lambda p: p.stem)
def test_jobs(job: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(job)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "best parameters:" in done.stdout
    paths = only_run(tmp_path / "runs")
    assert read(paths.record)["state"] == "DONE"
    assert yaml.safe_load(paths.config.read_text())["cluster"]["workers"] == 2
    assert "object at 0x" not in paths.config.read_text()
