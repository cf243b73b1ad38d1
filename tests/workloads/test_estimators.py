"""Test what configs and boosters need beyond scikit-learn: tuples, readable grids, a user's choice, classes by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hydra.utils import instantiate
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from xgboost import XGBClassifier, XGBRegressor

import hpcml
from hpcml import Dataset, LocalSpec, Search
from hpcml.boosters import Booster, wrap
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.errors import ConfigError, WorkloadError
from hpcml.plan import check
from hpcml.runs import RunPaths
from hpcml.spec import RunSpec
from hpcml.workloads.base import Inputs, Outcome, Units

X, NUMBERS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


def run(cluster: Cluster, model: Any, y: Any = NAMES, samples: Any = X, **keys: Any) -> Outcome:
    prepared = Search(**keys).prepare(Inputs(Dataset(X=samples, y=y), model, 0))
    return prepared.run(cluster.client, Units(prepared.n_units))


class TestTuples:
    def test_in_a_model_and_in_a_grid(self, cluster: Cluster) -> None:
        model = make_pipeline(MinMaxScaler(feature_range=[0, 2]), LogisticRegression())
        outcome = run(cluster, model, grid={"minmaxscaler__feature_range": [[0, 1], [-1, 1]]})
        assert outcome.metrics["n_failed_fits"] == 0
        assert model.get_params()["minmaxscaler__feature_range"] == [0, 2]  # The user's object is not changed.
        chosen = outcome.model.get_params()["minmaxscaler__feature_range"]
        assert isinstance(chosen, tuple)
        assert outcome.metrics["best_params"] == {"minmaxscaler__feature_range": list(chosen)}

    def test_lists_that_suit_stay(self) -> None:
        prepared = Search(grid={"class_weight": [None, {"setosa": 2}]}).prepare(
            Inputs(Dataset(X=X, y=NAMES), LogisticRegression(), 0)
        )
        assert prepared.trial is not None
        assert [candidate["class_weight"] for candidate in prepared.trial.candidates] == [None, {"setosa": 2}]


def test_estimators_and_functions_in_a_grid_can_be_read_back(cluster: Cluster) -> None:
    model = Pipeline([("reduce", PCA()), ("clf", LogisticRegression())])
    grid = {"reduce": [PCA(2), SelectKBest(f_classif, k=1), "passthrough"], "clf": [KNeighborsClassifier(3)]}
    outcome = run(cluster, model, grid=grid)
    table = outcome.tables["cv_results"]
    assert table["param_clf"] == ["KNeighborsClassifier(n_neighbors=3)"] * 3
    back = [instantiate(json.loads(text), _convert_="all") for text in table["params"]]
    assert [type(candidate["reduce"]) for candidate in back] == [PCA, SelectKBest, str]
    assert back[1]["reduce"].score_func is f_classif
    assert back[0]["clf"].n_neighbors == 3
    functions = run(cluster, SelectKBest(k=2), grid=None, cv=2, scoring=_zero)
    assert functions.metrics["n_failed_fits"] == 0
    grid = {"selectkbest__score_func": [f_classif, mutual_info_classif]}
    outcome = run(cluster, make_pipeline(SelectKBest(k=2), LogisticRegression()), grid=grid)
    shown = {"sklearn.feature_selection._univariate_selection.f_classif", "sklearn.feature_selection._mutual_info"}
    assert outcome.tables["cv_results"]["param_selectkbest__score_func"][0] in shown
    assert "0x" not in outcome.summary["best parameters"]


def _zero(model: Any, X: Any, y: Any) -> float:
    return 0.0


def fewest_neighbours(results: Any) -> Any:
    """Choose the simplest candidate within a standard deviation of the best, as scikit-learn's example does."""
    best = results["mean_test_score"].argmax()
    least = results["mean_test_score"][best] - results["std_test_score"][best]
    return np.flatnonzero(results["mean_test_score"] >= least)[0]


def out_of_range(results: Any) -> int:
    return 99


class TestTheChoiceByAFunction:
    GRID: ClassVar = {"n_neighbors": [1, 3, 5, 7]}

    def test_the_same_as_scikit_learns(self, cluster: Cluster) -> None:
        outcome = run(cluster, KNeighborsClassifier(), grid=self.GRID, refit=fewest_neighbours)
        train, test, y_train, y_test = train_test_split(X, NAMES, random_state=0, stratify=NAMES)
        serial = GridSearchCV(KNeighborsClassifier(), self.GRID, cv=3, refit=fewest_neighbours).fit(train, y_train)
        assert outcome.metrics["best_params"] == serial.best_params_
        assert outcome.metrics["best_index"] == serial.best_index_
        assert outcome.metrics["chosen_by"].endswith(".fewest_neighbours")
        assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)

    def test_by_its_path(self) -> None:
        assert Search(refit="statistics.median").refit is __import__("statistics").median
        with pytest.raises(ConfigError, match=r"workload.refit=statistics.no_such: statistics has no 'no_such'"):
            Search(refit="statistics.no_such")

    def test_a_wrong_index(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match="returned 99, and there are 4 candidates") as error:
            run(cluster, KNeighborsClassifier(), grid=self.GRID, refit=out_of_range)
        assert len(error.value.outcome.tables["cv_results"]["params"]) == 4


class TestBoosters:
    def test_classes_of_any_name(self, cluster: Cluster) -> None:
        grid = {"max_depth": [1, 2]}
        outcome = run(cluster, XGBClassifier(n_estimators=5, random_state=0), grid=grid)
        train, _, y_train, _ = train_test_split(X, NUMBERS, random_state=0, stratify=NUMBERS)
        serial = GridSearchCV(XGBClassifier(n_estimators=5, random_state=0), grid, cv=3).fit(train, y_train)
        np.testing.assert_allclose(
            outcome.tables["cv_results"]["mean_test_score"], serial.cv_results_["mean_test_score"], atol=1e-12
        )
        assert outcome.metrics["best_params"] == serial.best_params_
        assert outcome.model.predict(X[:1]).tolist() == ["setosa"]
        assert outcome.model.classes_.tolist() == ["setosa", "versicolor", "virginica"]

    def test_a_saved_one_is_read_again(self, tmp_path: Path) -> None:
        spec = RunSpec(Search(cv=2), (X, NUMBERS + 1), XGBClassifier(n_estimators=3), cluster=LocalSpec(workers=1))
        spec.scratch = str(tmp_path)
        record = hpcml.run(spec)
        model = hpcml.models.from_run(record.path)
        assert isinstance(model, Booster)
        assert set(model.predict(X)) == {1, 2, 3}
        assert model.score(X, NUMBERS + 1) > 0.9

    @pytest.mark.parametrize(
        "classifier", [XGBClassifier(early_stopping_rounds=2), LGBMClassifier(early_stopping_round=2)]
    )
    def test_early_stopping(self, classifier: Any) -> None:
        classifier.set_params(n_estimators=200, verbosity=0 if isinstance(classifier, XGBClassifier) else -1)
        wrapped = wrap(make_pipeline(MinMaxScaler(), classifier), NAMES)
        fitted = wrapped.fit(X, NAMES)[-1].estimator_
        best = fitted.best_iteration if isinstance(classifier, XGBClassifier) else fitted.best_iteration_
        assert 0 < best < 150
        assert set(wrapped.predict(X)) == set(NAMES)
        assert wrapped.predict_proba(X).shape == (150, 3)
        assert cross_val_score(wrapped, X, NAMES, cv=2).min() > 0.8

    @pytest.mark.parametrize("at", [3, 50, 120])
    def test_a_class_of_one_sample_is_fitted(self, at: int) -> None:
        y = NAMES.copy()
        y[at] = "alone"
        fitted = wrap(XGBClassifier(n_estimators=20, early_stopping_rounds=2), y).fit(X, y)
        assert fitted.predict_proba(X).shape == (150, 4)
        assert fitted.score(X, y) > 0.9

    @pytest.mark.parametrize("y", [NAMES, NUMBERS])
    def test_a_grid_may_vary_early_stopping(self, cluster: Cluster, y: Any) -> None:
        grid = {"early_stopping_rounds": [None, 2]}
        outcome = run(cluster, XGBClassifier(n_estimators=10), y, grid=grid)
        assert outcome.metrics["n_failed_fits"] == 0

    def test_several_labels(self) -> None:
        y = np.column_stack([NUMBERS == 0, NUMBERS == 1]).astype(int)
        fitted = wrap(XGBClassifier(n_estimators=20, early_stopping_rounds=2), y).fit(X, y)
        assert fitted.predict(X).shape == (150, 2)

    def test_its_parameters_keep_their_names(self) -> None:
        wrapped = Booster(XGBRegressor(early_stopping_rounds=3), eval_size=0.2)
        changed = clone(wrapped).set_params(max_depth=3, eval_size=0.3)
        assert (changed.estimator.max_depth, changed.eval_size) == (3, 0.3)
        assert wrapped.estimator.max_depth is None
        assert not hasattr(wrapped, "predict_proba")

    def test_others_stay_as_they_are(self) -> None:
        for model, y in [(XGBClassifier(), NUMBERS), (XGBRegressor(), NAMES), (Ridge(), NUMBERS), (PCA(), None)]:
            assert wrap(model, y) is model

    def test_weights_reach_the_booster(self) -> None:
        data, y = load_diabetes(return_X_y=True)
        weights = np.where(y > 100, 5.0, 0.1)
        plain = XGBRegressor(n_estimators=5).fit(data, y, sample_weight=weights).predict(data)
        np.testing.assert_array_equal(
            Booster(XGBRegressor(n_estimators=5)).fit(data, y, sample_weight=weights).predict(data), plain
        )


def test_classes_smaller_than_the_number_of_folds() -> None:
    y = np.array(["common"] * 100 + ["rare"] * 48 + ["tiny"] * 2)
    spec = RunSpec(Search(cv=5, test_size=None), (X, y), LogisticRegression(), cluster=LocalSpec(workers=1))
    warnings = check(spec).warnings
    assert warnings == [
        "fewer training samples than workload.cv=5 folds in class 'tiny' (2): some folds test none of them"
    ]


def test_the_name_of_a_model_in_a_pipeline() -> None:
    spec = RunSpec(Search(), (X, None), make_pipeline(MinMaxScaler(), Ridge()), cluster=LocalSpec(workers=1))
    with pytest.raises(ConfigError, match="Ridge needs a target, and there is none"):
        check(spec)
