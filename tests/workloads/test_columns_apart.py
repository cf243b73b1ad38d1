"""Test columns that are no features: weights, several targets, and names of samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.model_selection import KFold, train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hpcml
from hpcml import Dataset, FitEstimator, LocalSpec, Search, data
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import ArrayFile, RowGroups, TableFile
from hpcml.errors import ConfigError, DataError
from hpcml.runs import RunPaths
from hpcml.spec import RunSpec
from hpcml.workloads.base import Inputs, Outcome, Units

X, Y = load_diabetes(return_X_y=True)
WEIGHTS = np.random.default_rng(0).integers(0, 5, len(Y)) * 0.5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


@pytest.fixture
def table(tmp_path: Path) -> Path:
    frame = pd.DataFrame(X, columns=[f"f{number}" for number in range(10)])
    frame.insert(3, "w", WEIGHTS)
    frame["y"], frame["z"], frame["who"] = Y, -2 * Y, [f"p{number}" for number in range(len(Y))]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False, row_group_size=100)
    return tmp_path / "t.csv"


def run(cluster: Cluster, workload: Any, source: Any, model: Any) -> Outcome:
    prepared = workload.prepare(Inputs(data.load(source), model, 0))
    outcome: Outcome = prepared.run(cluster.client, Units(prepared.n_units))
    return outcome


class TestWeights:
    @pytest.mark.parametrize("model", [Ridge(), make_pipeline(StandardScaler(), Ridge())])
    def test_a_search(self, cluster: Cluster, table: Path, model: Any) -> None:
        source = TableFile(path=str(table), target="y", weight="w", drop=("z", "who"))
        name = "alpha" if isinstance(model, Ridge) else "ridge__alpha"
        outcome = run(cluster, Search(grid={name: [0.1, 10]}, cv=3), source, model)
        features = pd.DataFrame(X, columns=[f"f{number}" for number in range(10)])
        train, test, y_train, y_test, w_train, _ = train_test_split(features, Y, WEIGHTS, random_state=0)
        argument = "sample_weight" if isinstance(model, Ridge) else "ridge__sample_weight"
        for fold, (inner, held) in enumerate(KFold(3).split(train)):
            given = {argument: w_train[inner]}
            fitted = clone(model).set_params(**{name: 0.1}).fit(train.iloc[inner], y_train[inner], **given)
            score = fitted.score(train.iloc[held], y_train[held])  # Weights are for fits only.
            found = outcome.tables["cv_results"][f"split{fold}_test_score"][0]
            assert found == pytest.approx(score, abs=1e-12)
        best = clone(model).set_params(**outcome.metrics["best_params"]).fit(train, y_train, **{argument: w_train})
        assert outcome.metrics["test_scores"]["score"] == pytest.approx(best.score(test, y_test), abs=1e-12)

    @pytest.mark.parametrize(
        "model", [Ridge(), RandomForestRegressor(6, random_state=0), BaggingRegressor(Ridge(), 3, random_state=0)]
    )
    def test_a_fit(self, cluster: Cluster, model: Any) -> None:
        outcome = run(cluster, FitEstimator(), Dataset(X=X, y=Y, weights=WEIGHTS), model)
        train, test, y_train, y_test, w_train, _ = train_test_split(X, Y, WEIGHTS, random_state=0)
        serial = model.fit(train, y_train, sample_weight=w_train)
        assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)

    def test_arrays(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "d.npz", X=X, y=Y, w=WEIGHTS)
        found = ArrayFile(path=str(tmp_path / "d.npz"), target="y", weight="w").load()
        np.testing.assert_array_equal(found.weights, WEIGHTS)
        np.testing.assert_array_equal(found.take(np.arange(3)).weights, WEIGHTS[:3])

    def test_models_that_take_none(self) -> None:
        given = Inputs(Dataset(X=X, y=Y, weights=WEIGHTS), KNeighborsRegressor(), 0)
        for workload in (Search(), FitEstimator()):
            with pytest.raises(DataError, match="there are weights, and KNeighborsRegressor takes none"):
                workload.prepare(given)

    @pytest.mark.parametrize("workload", [hpcml.Incremental(), hpcml.KMeans(n_clusters=2)])
    def test_workloads_that_take_none(self, workload: Any) -> None:
        model = SGDRegressor() if isinstance(workload, hpcml.Incremental) else None
        with pytest.raises(DataError, match="there are weights, and workload="):
            workload.prepare(Inputs(Dataset(X=X, y=Y, weights=WEIGHTS), model, 0))

    @pytest.mark.parametrize(
        ("weights", "text"),
        [
            ([1.0, -1.0, 2.0], "1 weight of 3 negative, infinite or missing, the first of sample 1: -1"),
            ([1.0, np.nan, np.inf], "2 weights of 3 negative"),
            ([0, 0, 0], "all weights are 0"),
            (["a", "b", "c"], "the weights are not numbers"),
            ([[1.0], [1.0], [1.0]], r"the weights have shape \(3, 1\)"),
        ],
    )
    def test_wrong_ones(self, weights: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            Dataset(X=X[:3], weights=np.array(weights))


class TestTargets:
    def test_several(self, cluster: Cluster, table: Path) -> None:
        source = TableFile(path=str(table), target=["y", "z"], drop=("w", "who"))
        found = data.load(source)
        assert isinstance(found, Dataset)
        np.testing.assert_allclose(found.y, np.column_stack([Y, -2 * Y]))
        assert found.n_features == 10
        outcome = run(cluster, Search(grid={"alpha": [1.0]}), source, Ridge())
        features = pd.DataFrame(X, columns=found.feature_names)
        train, test, y_train, y_test = train_test_split(features, found.y, random_state=0)
        serial = Ridge().fit(train, y_train)
        assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)

    def test_wrong_ones(self, table: Path) -> None:
        with pytest.raises(ConfigError, match=r"data.target=\['y', 'y'\]: must be one column, or several different"):
            TableFile(path=str(table), target=["y", "y"])
        with pytest.raises(DataError, match="some are text and others numbers"):
            TableFile(path=str(table), target=["y", "who"]).load()
        with pytest.raises(DataError, match=r"data.target\[1\]=no: .* has no such column"):
            TableFile(path=str(table), target=["y", "no"]).load()


class TestNames:
    @pytest.mark.parametrize("blocks", [False, True])
    def test_predictions_have_them(self, tmp_path: Path, table: Path, blocks: bool) -> None:
        drop = ("w", "z")
        source: Any = TableFile(path=str(table), target="y", id="who", drop=drop)
        if blocks:
            source = RowGroups(path=str(table.with_suffix(".parquet")), target="y", id="who", drop=drop, block_size=100)
        trained = TableFile(path=str(table), target="y", drop=("w", "z", "who"))
        spec = RunSpec(hpcml.Predict(train=trained), source, Ridge(), cluster=LocalSpec(workers=1))
        spec.scratch = str(tmp_path / "runs")
        record = hpcml.run(spec)
        found = pyarrow.parquet.read_table(Path(record.path) / "tables" / "predictions").to_pandas()
        assert found["id"].tolist() == [f"p{number}" for number in range(len(Y))]
        assert list(found) == ["id", "y", "prediction"]
