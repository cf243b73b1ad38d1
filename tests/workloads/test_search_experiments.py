"""Test that small search experiments find scikit-learn's best parameters and scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from sklearn.datasets import make_classification
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, train_test_split
from sklearn.svm import SVC

from hpcml import LocalSpec, Outcome
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.config.compose import compose
from hpcml.data import Blocks, load
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


def small(cluster: Cluster, experiment: str) -> tuple[Inputs, Outcome]:
    composed = compose("hpcml run", [f"experiment={experiment}", "size=small"])
    assert composed is not None
    spec = composed.build()
    given = Inputs(load(spec.data), spec.model, spec.seed)
    prepared = spec.workload.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return given, outcome


def test_sgd_random_gathers_dasks_blocks_and_both_parameters_count(cluster: Cluster) -> None:
    given, outcome = small(cluster, "sgd_random")
    assert isinstance(given.data, Blocks)
    assert (len(given.data), given.data.n_samples, given.data.n_features) == (2, 5000, 20)
    X, y = given.data.whole.X, given.data.whole.y
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=0, stratify=y)
    space = {"alpha": loguniform(1e-5, 1e-1), "l1_ratio": uniform(0, 1)}
    model = SGDClassifier(penalty="elasticnet", max_iter=1000, random_state=10)
    serial = RandomizedSearchCV(model, space, n_iter=8, cv=3, random_state=0).fit(train, y_train)
    np.testing.assert_allclose(
        outcome.tables["cv_results"]["mean_test_score"], serial.cv_results_["mean_test_score"], rtol=0, atol=1e-12
    )
    assert outcome.metrics["best_params"] == serial.best_params_
    assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)
    other = model.set_params(alpha=0.05, l1_ratio=1.0).fit(train, y_train).coef_.copy()
    assert not np.allclose(other, model.set_params(l1_ratio=0.0).fit(train, y_train).coef_)


def test_svc_grid_is_the_posters_on_all_samples(cluster: Cluster) -> None:
    given, outcome = small(cluster, "svc_grid")
    X, y = make_classification(n_samples=400, random_state=0)
    np.testing.assert_array_equal(given.data.X, X)  # type: ignore[union-attr]
    grid = {"C": [0.1, 1, 10], "kernel": ["rbf", "poly", "sigmoid"], "shrinking": [True, False]}
    serial = GridSearchCV(SVC(gamma="auto"), grid, cv=3).fit(X, y)
    assert outcome.metrics["best_params"] == serial.best_params_
    assert outcome.metrics["best_score"] == pytest.approx(serial.best_score_, abs=1e-12)


@pytest.mark.parametrize(("experiment", "candidates"), [("svc_grid", 48), ("digits_svc", 48), ("sgd_random", 60)])
def test_the_full_size_has_all_candidates(experiment: str, candidates: int) -> None:
    composed = compose("hpcml run", [f"experiment={experiment}"])
    assert composed is not None
    spec = composed.build()
    assert spec.workload.n_candidates == candidates
    if experiment == "svc_grid":
        assert load(spec.data).n_samples == 20000
        assert spec.model.gamma == "auto"
