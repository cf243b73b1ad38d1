"""Test search against scikit-learn's own, and its failures, on one small cluster."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ParameterGrid,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    TimeSeriesSplit,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hpcml import Dataset, LocalSpec, Outcome, Search
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units

DIGITS = load_digits(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
SORTED = (np.arange(60.0).reshape(-1, 1), np.arange(60) // 30)
IRIS = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


def inputs(data: Any, model: Any, groups: Any = None, seed: int = 0) -> Inputs:
    return Inputs(Dataset(X=data[0], y=data[1], groups=groups), model, seed)


def search(cluster: Cluster, given: Inputs, **keys: Any) -> Outcome:
    """Check and run as the launcher does."""
    workload = Search(**keys)
    prepared = workload.prepare(given)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def scores(outcome: Outcome, name: str = "mean_test_score") -> list[Any]:
    return outcome.tables["cv_results"][name]


class TestTheSameAsScikitLearn:
    def test_grid(self, cluster: Cluster) -> None:
        X, y = DIGITS
        grid = {"C": [0.001, 0.1, 1, 10], "kernel": ["rbf", "poly", "sigmoid"], "shrinking": [True, False]}
        outcome = search(cluster, inputs(DIGITS, SVC()), grid=grid)
        train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)
        serial = GridSearchCV(SVC(), grid, cv=3).fit(train, y_train)
        for fold in range(3):
            name = f"split{fold}_test_score"
            np.testing.assert_allclose(scores(outcome, name), serial.cv_results_[name], rtol=0, atol=1e-12)
        assert outcome.metrics["best_params"] == serial.best_params_
        assert outcome.metrics["best_score"] == pytest.approx(serial.best_score_, abs=1e-12)
        assert outcome.metrics["test_scores"]["score"] == pytest.approx(serial.score(test, y_test), abs=1e-12)
        np.testing.assert_array_equal(outcome.model.predict(test), serial.predict(test))

    def test_random_with_distributions_and_several_scores(self, cluster: Cluster) -> None:
        X, y = DIABETES
        space = {"alpha": loguniform(1e-2, 1e2), "fit_intercept": [True, False]}
        keys: dict[str, Any] = {"n_iter": 8, "cv": 4, "scoring": ["r2", "neg_max_error"], "refit": "r2"}
        outcome = search(cluster, inputs(DIABETES, Ridge(), seed=5), grid=space, method="random", **keys)
        train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=5)
        serial = RandomizedSearchCV(Ridge(), space, random_state=5, **keys).fit(train, y_train)
        for name in ("mean_test_r2", "mean_test_neg_max_error", "param_alpha"):
            np.testing.assert_allclose(scores(outcome, name), np.asarray(serial.cv_results_[name], float), atol=1e-12)
        assert outcome.metrics["best_params"] == serial.best_params_
        assert outcome.metrics["test_scores"]["r2"] == pytest.approx(serial.score(test, y_test), abs=1e-12)

    def test_pipeline_forest_and_nulls(self, cluster: Cluster) -> None:
        model = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=0))
        grid = {"randomforestclassifier__max_depth": [2, None], "randomforestclassifier__n_estimators": [5, 10]}
        outcome = search(cluster, inputs(CANCER, model), grid=grid, test_size=None)
        serial = GridSearchCV(model, grid, cv=3).fit(*CANCER)
        np.testing.assert_allclose(scores(outcome), serial.cv_results_["mean_test_score"], atol=1e-12)
        assert outcome.metrics["test_scores"] is None
        assert [json.loads(text) for text in scores(outcome, "params")] == list(ParameterGrid(grid))

    def test_groups_stay_together(self, cluster: Cluster) -> None:
        groups = np.arange(len(IRIS[0])) // 10
        given = inputs(IRIS, LogisticRegression(max_iter=500), groups=groups)
        split = Search().split(given)
        assert len(split.X) + len(split.X_test) == 150
        for asked, cv in ((GroupKFold(3), GroupKFold(3)), (3, StratifiedGroupKFold(3))):
            outcome = search(cluster, given, cv=asked)
            serial = GridSearchCV(LogisticRegression(max_iter=500), {}, cv=cv)
            serial.fit(split.X, split.y, groups=split.groups)
            np.testing.assert_allclose(scores(outcome), serial.cv_results_["mean_test_score"], atol=1e-12)

    def test_time_series(self, cluster: Cluster) -> None:
        given = inputs(DIABETES, Ridge())
        outcome = search(cluster, given, cv=TimeSeriesSplit(3))
        serial = GridSearchCV(Ridge(), {}, cv=TimeSeriesSplit(3)).fit(DIABETES[0][:-111], DIABETES[1][:-111])
        np.testing.assert_allclose(scores(outcome), serial.cv_results_["mean_test_score"], atol=1e-12)
        assert outcome.metrics["test_scores"] == {"score": serial.score(DIABETES[0][-111:], DIABETES[1][-111:])}
        np.testing.assert_array_equal(Search(shuffle=False).split(given).y_test, DIABETES[1][-111:])


class TestOrder:
    """Splitters that depend on the order of samples; shuffled samples would score too high."""

    WALK = (np.arange(400.0).reshape(-1, 1), np.random.default_rng(0).normal(size=400).cumsum())
    PAIRS: ClassVar[Any] = [(np.arange(200), np.arange(200, 300)), (np.arange(100), np.arange(100, 200))]

    @pytest.mark.parametrize(
        "cv",
        [TimeSeriesSplit(4), KFold(4), PAIRS, PredefinedSplit(np.arange(300) // 100)],
        ids=["time series", "folds in a row", "indices", "predefined"],
    )
    def test_a_walk_is_not_learnt_from_its_future(self, cluster: Cluster, cv: Any) -> None:
        model = RandomForestRegressor(n_estimators=10, random_state=0)
        given = inputs(self.WALK, model)
        outcome = search(cluster, given, cv=cv)
        X, y = self.WALK
        serial = GridSearchCV(model, {}, cv=cv).fit(X[:300], y[:300])
        np.testing.assert_allclose(scores(outcome), serial.cv_results_["mean_test_score"], atol=1e-12)
        assert max(scores(outcome)) < 0.2
        assert Search(cv=cv).prepare(given).description.endswith("in the order of the samples")
        np.testing.assert_array_equal(Search(cv=cv).split(given).y_test, y[300:])

    def test_a_splitter_of_the_model(self) -> None:
        model = make_pipeline(StandardScaler(), RidgeCV(cv=TimeSeriesSplit(3)))
        np.testing.assert_array_equal(Search().split(inputs(self.WALK, model)).y_test, self.WALK[1][300:])
        with pytest.raises(ConfigError, match=r"workload.shuffle=true: model.ridgecv.cv=TimeSeriesSplit.* depends"):
            Search(shuffle=True).prepare(inputs(self.WALK, model))

    def test_a_splitter_of_the_users_own_may_depend_on_it(self) -> None:
        class Halves:
            def get_n_splits(self, *_: Any) -> int:
                return 1

            def split(self, X: Any, *_: Any) -> Any:
                yield np.arange(len(X) // 2), np.arange(len(X) // 2, len(X))

        np.testing.assert_array_equal(Search(cv=Halves()).split(inputs(self.WALK, Ridge())).y_test, self.WALK[1][300:])

    @pytest.mark.parametrize(
        "cv", [3, KFold(3, shuffle=True, random_state=0), GroupKFold(3), ShuffleSplit(3), RepeatedKFold(n_splits=3)]
    )
    def test_others_get_them_shuffled(self, cv: Any) -> None:
        given = inputs(self.WALK, Ridge(), groups=np.arange(400) // 20)
        assert (np.diff(Search(cv=cv).split(given).y_test) != np.diff(self.WALK[1][300:])).any()

    @pytest.mark.parametrize("cv", [TimeSeriesSplit(4), KFold(4)])
    def test_shuffling_must_not_be_asked_for(self, cv: Any) -> None:
        with pytest.raises(ConfigError, match=r"workload.shuffle=true: workload.cv=.* depends on the order"):
            Search(cv=cv, shuffle=True).prepare(inputs(self.WALK, Ridge()))

    @pytest.mark.parametrize(
        ("cv", "message"),
        [
            (PredefinedSplit(np.arange(400) // 100), r"PredefinedSplit of 400 samples: there are 300 training samples"),
            ([(np.arange(300), np.arange(300, 400))], r"fold 0 has index 399, and there are 300 training samples"),
            ([(np.arange(10), [-1, 20])], r"fold 0 has index -1"),
            ([([], [1])], r"fold 0 "),
            ([(1, 2)], r"fold 0 is not a pair of indices"),
            ([(["a"], ["b"])], r"fold 0 is not a pair of indices"),
        ],
    )
    def test_indices_that_are_not_of_the_training_samples(self, cv: Any, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            Search(cv=cv).prepare(inputs(self.WALK, Ridge()))
        assert len(str(caught.value)) < 400
        if "400" in message or "399" in message:
            assert "workload.test_size=null" in str(caught.value)
            assert Search(cv=cv, test_size=None).prepare(inputs(self.WALK, Ridge())).n_units > 1

    def test_folds_that_test_on_what_they_train_on_are_named(self) -> None:
        with pytest.warns(UserWarning, match="fold 0 tests on 10 of the samples that it trains on"):
            Search(cv=[(np.arange(50), np.arange(40, 60))]).prepare(inputs(self.WALK, Ridge()))

    def test_classes_that_lie_together(self) -> None:
        with pytest.raises(DataError, match=r"the last 38 samples, .* are all of class 2\n.*test_size"):
            Search(cv=KFold(3)).prepare(inputs(IRIS, SVC()))
        with pytest.raises(DataError, match="have class 2, and the others do not"):
            Search(cv=KFold(3), test_size=0.4).prepare(inputs(IRIS, SVC()))


class Picky(ClassifierMixin, BaseEstimator):
    """Reject some values, as a user's own estimator may."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def fit(self, X: Any, y: Any) -> Picky:
        if self.value == 666 and len(X) == 673:  # one of the two folds of the digits
            os._exit(1)
        if self.value == 665:
            raise SystemExit(5)
        if self.value < 0:
            raise RuntimeError(f"value {self.value} is no good")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[self.value % len(self.classes_)])


class OnceOnly(Picky):
    """Fit on folds, but not on all the samples."""

    def fit(self, X: Any, y: Any) -> Picky:
        if len(X) > 100:
            raise RuntimeError("too many samples for me")
        return super().fit(X, y)


class TestFailures:
    def test_a_failing_candidate_is_told_and_takes_nobody_down(self, cluster: Cluster) -> None:
        outcome = search(cluster, inputs(IRIS, Picky()), grid={"value": [0, -1, 1]})
        told = "candidate 1 (value=-1) failed in 3 of 3 folds: RuntimeError: value -1 is no good"
        assert list(outcome.warnings) == [told]
        assert outcome.tables["failures"]["fold"] == [0, 1, 2]
        assert "Traceback" in outcome.tables["failures"]["traceback"][0]
        assert scores(outcome)[1] is None
        assert outcome.metrics["best_params"]["value"] in (0, 1)

    def test_many_failing_candidates_are_counted(self, cluster: Cluster) -> None:
        outcome = search(cluster, inputs(IRIS, Picky()), grid={"value": [0, *range(-8, 0)]})
        assert len(outcome.warnings) == 6
        assert outcome.warnings[-1] == "3 more candidates failed: see the table failures"

    def test_all_fail(self, cluster: Cluster) -> None:
        units = Units(6)
        with pytest.raises(WorkloadError, match="all 6 fits failed; first cause: RuntimeError: value -1"):
            Search(grid={"value": [-1, -2]}, refit=False).prepare(inputs(IRIS, Picky())).run(cluster.client, units)
        assert len(units.so_far().tables["failures"]["fold"]) == 6

    def test_raise_stops(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match="RuntimeError: value -1 is no good"):
            search(cluster, inputs(IRIS, Picky()), grid={"value": [-1]}, error_score="raise")

    def test_one_failed_fit_is_not_taken_for_all(self, cluster: Cluster) -> None:
        def scorer(model: Any, X: Any, y: Any) -> Any:
            return "text" if model.value == 1 else 0.5

        outcome = search(cluster, inputs(IRIS, Picky()), grid={"value": [-1, 0, 1]}, refit=False, scoring=scorer)
        assert "candidate 0 (value=-1) failed in 3 of 3 folds: RuntimeError: value -1 is no good" in outcome.warnings[0]
        assert "failed in 3 of 3 folds: ValueError: scoring must return a number, got 'text'" in outcome.warnings[1]
        assert scores(outcome) == [None, 0.5, None]

    def test_a_scorer_that_fails_for_one_candidate_is_told(self, cluster: Cluster) -> None:
        def scorer(model: Any, X: Any, y: Any) -> float:
            if model.value == 1:
                raise RuntimeError("not this one")
            return 0.5

        outcome = search(cluster, inputs(IRIS, Picky()), grid={"value": [0, 1]}, scoring=scorer)
        assert "candidate 1 (value=1) failed in 3 of 3 folds: RuntimeError: not this one" in outcome.warnings[0]

    def test_a_candidate_that_kills_its_worker_takes_nobody_down(self, cluster: Cluster) -> None:
        outcome = search(cluster, inputs(DIGITS, Picky()), grid={"value": [0, 666, 1]}, cv=2)
        assert "candidate 1 (value=666) failed in 1 of 2 folds: every worker that tried it died" in outcome.warnings[0]
        assert [score is None for score in scores(outcome)] == [False, True, False]

    def test_a_fit_that_wants_to_end_the_process(self, cluster: Cluster) -> None:
        outcome = search(cluster, inputs(IRIS, Picky()), grid={"value": [0, 665]})
        assert "candidate 1 (value=665) failed in 3 of 3 folds: RuntimeError: SystemExit: 5" in outcome.warnings[0]
        with pytest.raises(WorkloadError, match="RuntimeError: SystemExit: 5"):
            search(cluster, inputs(IRIS, Picky()), grid={"value": [665]})

    def test_a_scorer_that_fails_everywhere(self, cluster: Cluster) -> None:
        def scorer(model: Any, X: Any, y: Any) -> float:
            raise RuntimeError("none of them")

        with pytest.raises(
            WorkloadError, match="no candidate has a score; first cause: RuntimeError: none of"
        ) as caught:
            search(cluster, inputs(IRIS, SVC()), scoring=scorer)
        assert "cv_results" in caught.value.outcome.tables

    def test_a_refit_that_fails_keeps_the_scores(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match="could not be fitted again: RuntimeError: too many") as caught:
            search(cluster, inputs(IRIS, OnceOnly()))
        assert scores(caught.value.outcome)[0] == pytest.approx(1 / 3, abs=0.1)

    def test_a_test_that_fails_keeps_the_model(self, cluster: Cluster) -> None:
        def scorer(model: Any, X: Any, y: Any) -> float:
            if len(X) == 30:
                raise RuntimeError("not these samples")
            return 1.0

        with pytest.raises(WorkloadError, match="could not be scored: RuntimeError: not these") as caught:
            search(cluster, inputs(IRIS, SVC()), scoring=scorer, test_size=0.2)
        assert isinstance(caught.value.outcome.model, SVC)


def several(model: Any, X: Any, y: Any) -> dict[str, float]:
    accuracy = float((model.predict(X) == y).mean())
    return {"a": accuracy, "b": 1 - accuracy}


def test_one_scorer_that_gives_several_scores(cluster: Cluster) -> None:
    chosen = search(cluster, inputs(IRIS, SVC()), grid={"C": [0.001, 1]}, scoring=several, refit="a")
    assert chosen.metrics["best_params"] == {"C": 1}
    assert set(chosen.metrics["test_scores"]) == {"a", "b"}
    workload = Search(grid={"C": [0.001, 1]}, scoring=several)
    open_ended = workload.prepare(inputs(IRIS, SVC())).run(cluster.client, Units(7))
    assert open_ended.model is None
    assert "workload.refit=NAME" in open_ended.warnings[-1]
    assert "C=1" in open_ended.summary["best a"]


def test_several_scores_and_no_choice(cluster: Cluster) -> None:
    outcome = search(cluster, inputs(IRIS, SVC()), scoring=["accuracy", "f1_macro"], refit=False)
    assert {"mean_test_accuracy", "mean_test_f1_macro"} <= set(outcome.tables["cv_results"])
    assert "best_params" not in outcome.metrics
    assert outcome.model is None


def test_no_refit_still_gives_the_best_parameters(cluster: Cluster) -> None:
    outcome = search(cluster, inputs(IRIS, SVC()), grid={"C": [0.001, 1]}, refit=False)
    assert outcome.metrics["best_params"] == {"C": 1}
    assert outcome.model is None


def test_one_worker_is_used_too(tmp_path: Path) -> None:
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as one:
        search(one, inputs(IRIS, Picky()), grid={"value": [0, -1]})
        assert any("fit_and_score" in name for name in one.client.run_on_scheduler(_prefixes))


def _prefixes(dask_scheduler: Any) -> list[str]:
    return list(dask_scheduler.task_prefixes)


def test_a_forest_stays_in_its_task(cluster: Cluster) -> None:
    search(cluster, inputs(IRIS, RandomForestClassifier(n_jobs=-1, random_state=0)), cv=2)
    names = cluster.client.run_on_scheduler(_prefixes)
    assert any("fit_and_score" in name for name in names)
    assert not any("build_trees" in name for name in names)


def with_nan(data: Any) -> Any:
    X = data[0].copy()
    X[3, 1] = np.nan
    return X, data[1]


class TestChecks:
    @pytest.mark.parametrize(
        ("given", "keys", "message"),
        [
            (inputs(IRIS, SVC), {}, "this is the class; give an instance: SVC"),
            (inputs(IRIS, SVC(C="abc")), {}, "model: The 'C' parameter of SVC must be a float"),
            (inputs(IRIS, make_pipeline(SVC(C=-1))), {}, "model: The 'C' parameter of SVC must be a float"),
            (inputs(IRIS, SVC()), {"scoring": "sklearn.metrics.accuracy_score"}, "is a metric of y_true and y_pred"),
            (inputs(IRIS, SVC()), {"scoring": "f1"}, "f1_score does not go with this target: .*multiclass"),
            (inputs(IRIS, SVC()), {"scoring": lambda y_true, y_pred: 0}, "a scorer takes estimator, X and y"),
            (
                inputs(IRIS, SVC()),
                {"method": "random", "grid": {"C": loguniform(0, 1)}},
                "workload.grid.C: (nothing can be drawn|what is drawn)",
            ),
            (inputs(IRIS, SVC()), {"scoring": [len, "nope.len"], "refit": "len"}, "two scorers are called len"),
            (inputs((IRIS[0], np.r_[np.inf, IRIS[0][1:, 0]]), SVC()), {}, "1 values of the target are infinite"),
            (inputs((IRIS[0], np.array([1, "a"] * 75, dtype=object)), SVC()), {}, "the target mixes types"),
            (
                inputs((np.full((150, 1), np.inf), IRIS[1]), RandomForestClassifier()),
                {},
                "150 NaN or infinite values in X",
            ),
            (inputs(IRIS, object()), {}, "object is not a scikit-learn estimator: it lacks fit"),
            (Inputs(None, SVC(), 0), {}, "data: a search needs some"),
            (inputs(IRIS, SVC()), {"grid": {"gama": [1]}}, r"SVC\(\) has no 'gama'\n  did you mean 'gamma'"),
            (inputs(IRIS, make_pipeline(SVC())), {"grid": {"svc__gama": [1]}}, "did you mean 'svc__gamma'"),
            (
                inputs(IRIS, SVC()),
                {"scoring": "acuracy"},
                "workload.scoring=acuracy: unknown\n  did you mean 'accuracy'",
            ),
            (inputs(IRIS, SVC()), {"scoring": ["accuracy", "f1_macro"]}, "name the scorer"),
            (inputs(IRIS, SVC()), {"scoring": "accuracy", "refit": "f1"}, "there is one scorer only"),
            (inputs(IRIS, SVC()), {"scoring": "nope.scorer"}, "no module named 'nope'"),
            (inputs((IRIS[0], None), SVC()), {}, "SVC needs a target, and there is none"),
            (inputs((IRIS[0], np.ones(150)), SVC()), {}, "only one class in the target: 1.0"),
            (inputs((IRIS[0], IRIS[0][:, 0] + 0.05), SVC()), {}, "target is continuous .*\n.*model=ridge"),
            (inputs(DIABETES, SVC()), {}, "cannot hold out .*too few(.|\n)*use a regressor, for example model=ridge"),
            (inputs((IRIS[0], np.array(["a"] * 150)), Ridge()), {}, "target holds text such as 'a'"),
            (inputs(with_nan(IRIS), SVC()), {}, r"1 NaN or infinite value in X \(in column 1\), and SVC rejects"),
            (inputs(with_nan(IRIS), make_pipeline(StandardScaler(), SVC())), {}, "and Pipeline rejects them"),
            (inputs(with_nan(IRIS), make_pipeline(SVC())), {}, "NaN or infinite"),
            (inputs(with_nan(IRIS), make_pipeline(SimpleImputer(), SVC())), {}, None),
            (inputs(with_nan(IRIS), HistGradientBoostingClassifier()), {}, None),
            (inputs(with_nan(IRIS), Picky()), {}, None),
            (inputs((IRIS[0][:4], [0, 1, 0, 1]), SVC()), {"cv": 3, "test_size": None}, "n_splits=3 cannot be greater"),
            (inputs((IRIS[0][:6], [0, 0, 0, 0, 0, 1]), SVC()), {}, "least populated class.* 1 member"),
            (inputs(IRIS, SVC()), {"cv": GroupKFold(3)}, "The 'groups' parameter should not be None"),
            (inputs(SORTED, SVC()), {"cv": KFold(2), "test_size": None}, "fitted on one class only"),
        ],
    )
    def test_before_any_cluster(self, given: Inputs, keys: dict[str, Any], message: str | None) -> None:
        if message is None:
            assert Search(**keys).prepare(given).n_units == 4
            return
        with pytest.raises((ConfigError, DataError), match=message) as caught:
            Search(**keys).prepare(given)
        assert caught.value.exit_code == 2

    def test_a_value_that_the_search_varies_may_be_bad_at_first(self) -> None:
        assert Search(grid={"C": [1, 2]}).prepare(inputs(IRIS, SVC(C=-1))).n_units == 7

    def test_a_group_is_not_cut(self) -> None:
        given = inputs(DIABETES, Ridge(), groups=np.arange(442) // 20)
        with pytest.raises(DataError, match=r"the last workload.test_size=0.25 of the samples.* cut through group \d"):
            Search(shuffle=False).prepare(given)

    def test_an_estimator_outside_of_scikit_learns_family(self) -> None:
        class Duck:
            def fit(self, X: Any, y: Any) -> Any: ...
            def score(self, X: Any, y: Any) -> float: ...
            def get_params(self, deep: bool = True) -> dict[str, Any]:
                return {}

            def set_params(self, **_: Any) -> Any: ...

        assert Search(cv=KFold(3)).prepare(inputs(IRIS, Duck())).n_units == 4

    def test_a_step_that_is_varied_frees_what_lies_below(self) -> None:
        model = make_pipeline(StandardScaler(), SVC())
        grid = [{"svc": [RandomForestClassifier()], "svc__n_estimators": [5, 10]}, {"svc__C": [1]}]
        assert Search(grid=grid).prepare(inputs(IRIS, model)).n_units == 3 * 3 + 1

    def test_random_counts_no_more_than_there_is(self) -> None:
        assert Search(method="random", n_iter=10, grid={"C": [1, 2]}).n_candidates == 2
        assert Search(method="random", n_iter=10, grid={"C": loguniform(1, 2)}).n_candidates == 10

    def test_error_score_of_a_config(self) -> None:
        assert math.isnan(Search(error_score="nan").error_score)
        assert Search(error_score=0).error_score == 0
