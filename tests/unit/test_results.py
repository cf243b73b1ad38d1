"""Results: tables in both formats, models with skops or joblib, and rescue from a full disk."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import skops.io
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.discovery import all_estimators

from hpcml import Outcome, results, runs
from hpcml.errors import ConfigError, ResultsError
from hpcml.models import from_run
from hpcml.results import check_model_format, save, to_table
from hpcml.runs import RunPaths

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return runs.create(tmp_path)


def test_tables_in_both_formats(paths: RunPaths) -> None:
    columns = {
        "a": [1, None],
        "mixed": [1, "x"],
        "text": ["a,b", 'q"'],
        "list": [[1], None],
        "nan": [0.5, float("nan")],
    }
    save(Outcome(tables={"t": columns}), paths, "skops")
    parquet = pyarrow.parquet.read_table(paths.table("t", "parquet")).to_pydict()
    assert parquet == {
        "a": [1, None],
        "mixed": ["1", '"x"'],
        "text": ["a,b", 'q"'],
        "list": ["[1]", None],
        "nan": [0.5, None],
    }
    csv = pyarrow.csv.read_csv(paths.table("t", "csv")).to_pydict()
    assert csv["a"] == [1, None]
    assert csv["text"] == ["a,b", 'q"']


def test_an_empty_table() -> None:
    assert to_table({"a": []}).num_rows == 0


def test_metrics(paths: RunPaths) -> None:
    save(Outcome(metrics={"score": np.float64(0.5)}), paths, "skops")
    assert json.loads(paths.metrics.read_text()) == {"score": 0.5}


@pytest.mark.parametrize("model", [SVC(), RandomForestClassifier(5)])
def test_a_saved_model_predicts_the_same(paths: RunPaths, model: Any) -> None:
    how, warnings = save(Outcome(model=model.fit(X, Y)), paths, "skops")
    assert how is not None
    loaded = eval(how, {"skops": skops})  # the printed expression
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert warnings == []


def test_joblib_and_none(paths: RunPaths) -> None:
    model = SVC().fit(X, Y)
    how, _ = save(Outcome(model=model), paths, "joblib")
    assert how == f"joblib.load('{paths.model('joblib')}')"
    np.testing.assert_array_equal(joblib.load(paths.model("joblib")).predict(X), model.predict(X))
    assert save(Outcome(model=model), paths, "none") == (None, [])


class Unsafe(SVC):
    """An estimator that skops cannot write."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = (number for number in range(3))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_models_considered_safe_are_written_by_skops() -> None:
    """Check the shortcut for safe models with every estimator of scikit-learn."""
    for name, kind in all_estimators():
        with contextlib.suppress(TypeError):  # It requires another estimator.
            model = kind()
            if results._is_surely_safe(model):
                assert skops.io.loads(skops.io.dumps(model)) is not None, name


def test_values_that_need_a_trial() -> None:
    assert results._is_surely_safe(make_pipeline(StandardScaler(), SVC(C=2)))
    assert results._is_surely_safe(BaggingClassifier(SVC(), n_estimators=3))
    assert not results._is_surely_safe(FunctionTransformer(np.log))
    assert not results._is_surely_safe(make_pipeline(Unsafe()))


def test_models_that_skops_cannot_write_are_rejected_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"Unsafe is not skops-safe(.|\n)*model_format=joblib"):
        check_model_format(Unsafe(), "skops")
    check_model_format(make_pipeline(FunctionTransformer(np.log1p), SVC()), "skops")


def test_models_that_skops_cannot_load_are_rejected() -> None:
    with pytest.raises(ConfigError, match="not skops-safe"):
        check_model_format(make_pipeline(FunctionTransformer(lambda X: X), SVC()), "skops")


def test_models_that_cannot_be_pickled_are_rejected_before_the_run() -> None:
    model = make_pipeline(FunctionTransformer(lambda X: X), SVC())
    with pytest.raises(ConfigError, match=r"model_format=joblib: Pipeline cannot be pickled(.|\n)*model_format=none"):
        check_model_format(model, "joblib")
    check_model_format(model, "none")


def test_a_model_made_unsafe_by_fitting_is_pickled(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TypeError("no such type")

    monkeypatch.setattr(skops.io, "dump", refuse)
    how, warnings = save(Outcome(model=SVC().fit(X, Y)), paths, "skops")
    assert how == f"joblib.load('{paths.model('joblib')}')"
    assert "saved as a pickle" in warnings[0]
    assert not paths.model("skops").exists()


def test_classes_of_a_script(tmp_path: Path) -> None:
    """No other program can load a model of them: said before a run, and named when it is loaded."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, skops.io\n"
        "from sklearn.svm import SVC\n"
        "from hpcml.results import warn_of_script\n"
        "class Mine(SVC): pass\n"
        "warn_of_script(Mine(), 'none')\n"
        "warn_of_script(Mine(), 'skops')\n"
        "skops.io.dump(Mine(), sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path / "m.skops"], capture_output=True, text=True, check=True)
    assert done.stderr.count("UserWarning: model: Mine is defined in the script itself") == 1
    with pytest.raises(ConfigError, match="the model uses a class of the script that fitted it"):
        from_run(str(tmp_path / "m.skops"))


def test_results_are_rescued(paths: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.tempfile, "tempdir", str(tmp_path))
    paths.tables.touch()  # a file in place of the directory
    with pytest.raises(ResultsError, match="could not be written to") as caught:
        save(Outcome(metrics={"a": 1}, tables={"t": {"a": [1]}}), paths, "skops")
    rescue = next(tmp_path.glob(f"hpcml-{paths.run_id}-*"))
    assert str(rescue) in caught.value.hints[0]
    assert RunPaths(rescue).table("t", "parquet").is_file()
    assert RunPaths(rescue).metrics.is_file()
