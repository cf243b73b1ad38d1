"""Test trials: what fails on a few samples is reported before anything starts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from scipy.stats import loguniform, randint
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

import hpcml
from hpcml.errors import ConfigError
from hpcml.plan import check
from hpcml.spec import LocalSpec, RunSpec
from hpcml.workloads.trial import child
from hpcml.workloads.trial.trial import Trial

pytestmark = pytest.mark.trial


class Odd(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Dies, waits or takes memory."""

    def __init__(self, how: str = "") -> None:
        self.how = how

    def fit(self, X: Any, y: Any) -> Odd:
        self.classes_ = np.unique(y)
        print("nobody should see this", flush=True)
        if self.how == "die":
            os._exit(3)
        if self.how == "wait":
            time.sleep(600)
        if self.how == "hog":
            np.ones(2**30)
        return self

    def predict(self, X: Any) -> Any:
        return np.repeat(self.classes_[0], len(X))


def spec(model: Any, data: Any = None, workload: Any = None, **grid: Any) -> RunSpec:
    workload = workload or hpcml.Search(grid=grid or None)
    return RunSpec(workload, load_iris() if data is None else data, model, cluster=LocalSpec(workers=1))


def rejected(*args: Any, **grid: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check(spec(*args, **grid), trial=True)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_model_that_cannot_be_fitted(tmp_path: Path) -> None:
    wrong = spec(KNeighborsClassifier(n_neighbors=500))
    wrong.scratch = str(tmp_path / "runs")
    with pytest.raises(
        ConfigError, match="the model cannot be fitted: ValueError: Expected n_neighbors <= n_samples_fit"
    ):
        hpcml.run(wrong)
    assert not (tmp_path / "runs").exists()
    wrong.trial = False
    check(wrong, trial=True)


def test_a_value_that_no_candidate_can_be_fitted_with() -> None:
    text = rejected(LogisticRegression(), solver=["lbfgs", "nonsense"], C=[1, 2, 3, 4, 5])
    assert "the model with solver=nonsense cannot be fitted: InvalidParameterError: The 'solver' parameter" in text
    assert "tried with C=1, solver=nonsense" in text


def test_combinations_that_do_not_suit_each_other_are_no_mistake() -> None:
    check(spec(SVC(), kernel=["rbf", "linear"], gamma=["scale", 0.1]), trial=True)
    check(spec(LogisticRegression(), penalty=["l1", "l2"], solver=["lbfgs", "saga"], max_iter=[20]), trial=True)


def test_a_random_search_and_a_scorer() -> None:
    search = hpcml.Search(grid={"n_neighbors": randint(1, 5)}, method="random", n_iter=4)
    check(spec(KNeighborsClassifier(), workload=search), trial=True)

    def broken(model: Any, X: Any, y: Any) -> float:
        raise ZeroDivisionError("no samples of interest")

    text = rejected(KNeighborsClassifier(), None, hpcml.Search(scoring=broken))
    assert "ZeroDivisionError: no samples of interest" in text


@pytest.mark.parametrize(("size", "fails"), [(40, False), (64, False), (65, True)])
def test_a_failure_that_is_due_to_the_few_samples(size: int, fails: bool) -> None:
    """PCA takes no more components than samples: 1347 are trained on, 200 in a trial, and 64 features."""
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(PCA(size), LogisticRegression(max_iter=20))
    if fails:
        assert "n_components=65" in rejected(model, (X, y))
    else:
        check(spec(model, (X, y)), trial=True)
    check(spec(KNeighborsClassifier(n_neighbors=300), (X, y)), trial=True)


def test_a_fit_that_ends_its_process() -> None:
    text = rejected(Odd(), how=["", "die"])
    assert "the model with how=die cannot be fitted: its process died" in text


@pytest.mark.parametrize("how", ["wait", "hog"])
def test_a_fit_beyond_a_limit_is_not_judged(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "_LONGEST_S", 1 if how == "wait" else 60)
    with caplog.at_level(logging.INFO):
        check(spec(Odd(), how=["", how]), trial=True)
    assert ("more than 1 seconds" if how == "wait" else "more than 4GB") in caplog.text
    assert "nobody" not in "".join(capfd.readouterr())


def test_a_process_that_does_not_start_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(child, "start_process", fails)
    with caplog.at_level(logging.INFO):
        check(spec(Odd("die")), trial=True)
    assert "its process did not start" in caplog.text


def test_a_fit() -> None:
    fit = hpcml.FitEstimator(parallel="none")
    assert "its process died" in rejected(Odd("die"), None, fit)
    check(spec(Odd(), None, fit), trial=True)


def test_the_sample_has_every_class() -> None:
    y = np.repeat(np.arange(5), [5000, 3, 2, 1, 300])
    X = np.arange(len(y))[:, None]
    few, classes = Trial(print, X, y, stratify=True).sample(200)
    assert np.bincount(classes).tolist() == [188, 2, 2, 1, 11]
    assert (np.diff(few[:, 0]) > 0).all()
    few, rest = Trial(print, X, None).sample(200)
    assert len(few) == 200
    assert rest is None
    assert len(Trial(print, X[:50], y[:50]).sample(200)[0]) == 50
    square = Trial(print, X @ X.T, y, pairwise=True).sample(10)[0]
    assert square.shape == (10, 10)


class Allocating(Odd):
    """Fails as a library of C++ does, beyond the limit on memory."""

    def fit(self, X: Any, y: Any) -> Allocating:
        raise RuntimeError("bad allocation")


def test_other_ways_to_exceed_the_memory_are_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert check(spec(Allocating()), trial=True).warnings == []
    assert "a fit needs more than 4GB" in caplog.text


def test_a_drawn_value_is_not_judged_by_one_combination() -> None:
    """scikit-learn, too, gives such a candidate no score and goes on."""
    space = {
        "C": loguniform(0.1, 10),
        "penalty": ["l1", "l2"],
        "loss": ["hinge", "squared_hinge"],
        "dual": [True, False],
    }
    search = hpcml.Search(method="random", n_iter=8, grid=space)
    check(spec(LinearSVC(max_iter=50), workload=search), trial=True)


def test_errors_that_speak_of_samples_are_warnings() -> None:
    """The rarest class has 2 of the 200, and of the 2000 samples, and all that calibration needs."""
    y = np.zeros(20_000, dtype=int)
    y[::500] = 1
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    warnings = check(spec(CalibratedClassifierCV(LogisticRegression(), cv=5), (X, y)), trial=True).warnings
    (text,) = [text for text in warnings if "few samples" in text]
    assert text.startswith("the model cannot be fitted on a few samples: ValueError: Requesting 5-fold")


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\n"
        "from hpcml.workloads.trial.child import Child\n"
        "with Child(print, None, None) as child:\n"
        "    child.fit({})\n"
        "    print(list(child._process._processes)[0], flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
