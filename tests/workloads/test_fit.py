"""Test that a fit on the whole cluster equals scikit-learn's serial fit, however distributed."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    RandomTreesEmbedding,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from hpcml import Dataset, LocalSpec, Outcome
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.fit import FitEstimator, estimator, forest

CANCER = load_breast_cancer(return_X_y=True)
IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def inputs(data: Any, model: Any, seed: int = 0) -> Inputs:
    return Inputs(Dataset(X=data[0], y=data[1]), model, seed)


def fit(cluster: Cluster, given: Inputs, units: Units | None = None, **keys: Any) -> Outcome:
    """Check and run as the launcher does."""
    workload = FitEstimator(**keys)
    units = units or Units(0)
    prepared = workload.prepare(given)
    units.total = prepared.n_units
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def same_trees(found: Any, serial: Any) -> None:
    """Compare the learned attributes of two forests."""
    assert set(vars(found)) == set(vars(serial))
    assert found.get_params() == serial.get_params()
    assert len(found.estimators_) == len(serial.estimators_)
    for one, other in zip(found.estimators_, serial.estimators_, strict=True):
        assert one.random_state == other.random_state
        for name, state in one.tree_.__getstate__().items():
            np.testing.assert_array_equal(state, other.tree_.__getstate__()[name], err_msg=name)


class TestTrees:
    @pytest.mark.parametrize(
        "model",
        [
            RandomForestClassifier(23, random_state=3),
            RandomForestClassifier(23, random_state=3, bootstrap=False, n_jobs=2),
            RandomForestClassifier(23, random_state=3, max_samples=0.5, class_weight="balanced_subsample"),
            RandomForestClassifier(23, random_state=3, class_weight="balanced", max_features=0.3),
            RandomForestClassifier(23, random_state=np.random.RandomState(8), class_weight={0: 2.0, 1: 1.0}),
            ExtraTreesClassifier(23, random_state=3),
            ExtraTreesClassifier(23, random_state=3, bootstrap=True, warm_start=True),
        ],
        ids=lambda model: repr(model)[:90],
    )
    def test_classifiers(self, cluster: Cluster, model: Any) -> None:
        outcome = fit(cluster, inputs(CANCER, model), chunk=5)
        train, test, y_train, y_test = train_test_split(*CANCER, test_size=0.25, random_state=0, stratify=CANCER[1])
        given = model.get_params()["random_state"]
        state = given if isinstance(given, int) else np.random.RandomState(8)
        serial = type(model)(**{**model.get_params(), "random_state": state}).fit(train, y_train)
        if not isinstance(given, int):  # a generator has advanced
            outcome.model.random_state = serial.random_state = None
        same_trees(outcome.model, serial)
        np.testing.assert_array_equal(outcome.model.predict_proba(test), serial.predict_proba(test))
        np.testing.assert_array_equal(outcome.model.classes_, serial.classes_)
        assert outcome.metrics["test_scores"] == {"score": serial.score(test, y_test)}
        assert outcome.metrics["parallel"] == "trees"

    @pytest.mark.parametrize(
        "model",
        [
            RandomForestRegressor(11, random_state=1),
            RandomForestRegressor(11, random_state=1, criterion="absolute_error", max_samples=40, max_depth=4),
            ExtraTreesRegressor(11, random_state=1),
        ],
        ids=lambda model: repr(model)[:90],
    )
    def test_regressors(self, cluster: Cluster, model: Any) -> None:
        outcome = fit(cluster, inputs(DIABETES, model), test_size=None)
        serial = type(model)(**model.get_params()).fit(*DIABETES)
        same_trees(outcome.model, serial)
        np.testing.assert_array_equal(outcome.model.predict(DIABETES[0]), serial.predict(DIABETES[0]))
        assert outcome.metrics["test_scores"] is None

    def test_several_outputs(self, cluster: Cluster) -> None:
        X, y = DIABETES
        model = RandomForestRegressor(7, random_state=0)
        outcome = fit(cluster, inputs((X, np.c_[y, -y]), model))
        train, _, y_train, _ = train_test_split(X, np.c_[y, -y], test_size=0.25, random_state=0)
        same_trees(outcome.model, RandomForestRegressor(7, random_state=0).fit(train, y_train))

    @pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesRegressor])
    def test_out_of_bag_scores(self, cluster: Cluster, kind: Any) -> None:
        keys = {"n_estimators": 60, "random_state": 0, "bootstrap": True, "oob_score": True}
        units = Units(0)
        outcome = fit(cluster, inputs(CANCER, kind(**keys)), units, chunk=20, test_size=None)
        assert units.total == 4
        serial = kind(**keys).fit(*CANCER)
        same_trees(outcome.model, serial)
        assert outcome.model.oob_score_ == serial.oob_score_

    def test_the_seed_of_the_run_stands_in_for_none(self, cluster: Cluster) -> None:
        outcome = fit(cluster, inputs(IRIS, RandomForestClassifier(6), seed=5), chunk=2, test_size=None)
        same_trees(outcome.model, RandomForestClassifier(6, random_state=5).fit(*IRIS))
        assert outcome.summary["seed"] == "random_state=5, the run's: the model names none"

    def test_a_large_forest_is_scored_on_a_worker(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(estimator, "_SCORED_HERE", 100)
        units = Units(0)
        outcome = fit(cluster, inputs(IRIS, RandomForestClassifier(6)), units, scoring=["accuracy", "f1_macro"])
        assert units.total == 7
        assert set(outcome.metrics["test_scores"]) == {"accuracy", "f1_macro"}

    def test_trees_that_were_grown_are_a_forest_when_the_run_ends(self, cluster: Cluster) -> None:
        class Stopping(Units):
            def finish(self, key: str, result: Any = None) -> None:
                super().finish(key, result)
                if self.done == 3:
                    raise KeyboardInterrupt

        units = Stopping(0)
        with pytest.raises(KeyboardInterrupt):
            fit(cluster, inputs(IRIS, RandomForestClassifier(40)), units, chunk=4)
        left = units.so_far()
        # The third chunk was not passed on.
        assert len(left.model.estimators_) == left.model.n_estimators == 8
        assert left.model.predict(IRIS[0]).shape == (150,)
        assert left.warnings == ["the forest has 8 of 40 trees: those that were grown when the run ended"]

    def test_chunks_are_the_same_whatever_the_cluster(self) -> None:
        assert FitEstimator().prepare(inputs(IRIS, RandomForestClassifier(100))).n_units == 8
        assert FitEstimator().prepare(inputs(CANCER, RandomForestClassifier(8000))).n_units == 57
        assert FitEstimator(chunk=3000).prepare(inputs(IRIS, RandomForestClassifier(8000))).n_units == 3

    def test_a_chunk_that_fails_is_named(self, cluster: Cluster) -> None:
        model = RandomForestRegressor(4, criterion="poisson")
        with pytest.raises(WorkloadError, match=r"trees \d to \d: ValueError: .*Poisson"):
            fit(cluster, inputs((IRIS[0], -np.ones(150)), model))


class Noting(ClassifierMixin, BaseEstimator):
    """Record which process fits it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def fit(self, X: Any, y: Any) -> Noting:
        time.sleep(self.seconds)
        self.classes_, self.process_ = np.unique(y), os.getpid()
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])


class Deadly(Noting):
    def __init__(self, how: str = "exit") -> None:
        self.how = how

    def fit(self, X: Any, y: Any) -> Noting:
        if self.how == "raise":
            raise ValueError("not with me")
        if self.how == "exit":
            raise SystemExit(3)
        os._exit(1)


class TestJoblib:
    @pytest.mark.parametrize(
        "model",
        [
            BaggingClassifier(SVC(), n_estimators=8, random_state=0),
            BaggingClassifier(SVC(), n_estimators=8, random_state=0, n_jobs=1),
            OneVsRestClassifier(LinearSVC(random_state=0)),
            VotingClassifier([("svc", SVC()), ("forest", RandomForestClassifier(5, random_state=0))]),
            GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=3),
            make_pipeline(StandardScaler(), BaggingClassifier(n_estimators=5, random_state=0)),
        ],
        ids=lambda model: repr(model)[:60],
    )
    def test_the_same_as_a_serial_fit(self, cluster: Cluster, model: Any) -> None:
        outcome = fit(cluster, inputs(IRIS, model))
        train, test, y_train, y_test = train_test_split(*IRIS, test_size=0.25, random_state=0, stratify=IRIS[1])
        serial = model.fit(train, y_train)
        assert outcome.metrics["parallel"] == "joblib"
        assert outcome.metrics["test_scores"] == {"score": serial.score(test, y_test)}
        np.testing.assert_array_equal(outcome.model.predict(test), serial.predict(test))
        assert repr(outcome.model) == repr(serial)
        assert not outcome.warnings

    def test_a_forest_if_asked_for(self, cluster: Cluster) -> None:
        model = RandomForestClassifier(30, random_state=0, oob_score=True)
        units = Units(0)
        outcome = fit(cluster, inputs(CANCER, model), units, parallel="joblib", test_size=None)
        same_trees(outcome.model, model.fit(*CANCER))
        assert units.total >= 31  # its trees, other calls of joblib, and the fit itself

    def test_what_grows_more_than_trees(self, cluster: Cluster) -> None:
        model = RandomTreesEmbedding(12, random_state=0)
        given = Inputs(Dataset(X=IRIS[0]), model, 0)
        outcome = fit(cluster, given, test_size=None)
        assert (outcome.model.transform(IRIS[0]) != model.fit(IRIS[0]).transform(IRIS[0])).nnz == 0

    def test_all_workers_get_calls(self, cluster: Cluster) -> None:
        outcome = fit(cluster, inputs(IRIS, VotingClassifier([(f"n{n}", Noting(0.1)) for n in range(12)])))
        assert {part.process_ for part in outcome.model.estimators_} == set(cluster.client.run(os.getpid).values())

    def test_calls_have_the_same_keys_each_time(self, cluster: Cluster) -> None:
        class Listing(Units):
            def __init__(self) -> None:
                super().__init__(0)
                self.keys: list[str] = []

            def finish(self, key: str, result: Any = None) -> None:
                super().finish(key, result)
                self.keys.append(key)

        units = Listing()
        fit(cluster, inputs(IRIS, OneVsRestClassifier(LinearSVC())), units)
        assert sorted(units.keys) == [*(f"call {number} of _fit_binary" for number in range(3)), "fit"]

    def test_what_calls_joblib_for_nothing_is_told(self, cluster: Cluster) -> None:
        outcome = fit(cluster, inputs(IRIS, SGDClassifier()), parallel="joblib")
        assert outcome.warnings == [
            "SGDClassifier called joblib for nothing that workers can do: it was fitted in the head, alone"
        ]

    @pytest.mark.parametrize(
        ("how", "told"),
        [
            ("raise", "ValueError: not with me"),
            ("exit", "RuntimeError: SystemExit: 3"),
            ("die", "call 1 of _fit_single_estimator: every worker that tried"),
        ],
    )
    def test_a_call_that_fails_ends_the_fit(self, cluster: Cluster, how: str, told: str) -> None:
        model = VotingClassifier([("good", Noting()), ("bad", Deadly(how))])
        with pytest.raises(WorkloadError, match=told):
            fit(cluster, inputs(IRIS, model))


class TestOnOneWorker:
    @pytest.mark.parametrize("model", [SVC(), HistGradientBoostingClassifier(max_iter=3)])
    def test_the_same_as_a_serial_fit(self, cluster: Cluster, model: Any) -> None:
        cluster.client.wait_for_workers(2, timeout=60)  # otherwise none would be idle
        outcome = fit(cluster, inputs(IRIS, model))
        train, test, y_train, y_test = train_test_split(*IRIS, test_size=0.25, random_state=0, stratify=IRIS[1])
        assert outcome.metrics["test_scores"] == {"score": model.fit(train, y_train).score(test, y_test)}
        assert outcome.warnings == [
            f"{type(model).__name__} was fitted on one worker, and 1 of 2 had nothing to do",
        ]

    def test_it_is_fitted_on_a_worker(self, cluster: Cluster) -> None:
        outcome = fit(cluster, inputs(IRIS, Noting()))
        assert outcome.model.process_ in cluster.client.run(os.getpid).values()

    def test_n_jobs_that_only_share_memory_stay_on_one_worker(self, cluster: Cluster) -> None:
        outcome = fit(cluster, inputs(IRIS, SGDClassifier()))
        assert outcome.metrics["parallel"] == "none"
        assert outcome.warnings[0].endswith("; workload.parallel=joblib spreads its joblib calls")

    def test_a_fit_that_fails_is_told(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match="fit: ValueError: not with me"):
            fit(cluster, inputs(IRIS, Deadly("raise")))

    def test_a_score_that_fails_keeps_the_model(self, cluster: Cluster) -> None:
        with pytest.raises(WorkloadError, match="could not be scored: ValueError: no score") as caught:
            fit(cluster, inputs(IRIS, SVC()), scoring=no_score)
        assert caught.value.outcome.model.predict(IRIS[0]).shape == (150,)


def no_score(model: Any, X: Any, y: Any) -> float:
    raise ValueError("no score")


class TestBadRequests:
    @pytest.mark.parametrize(
        ("keys", "told"),
        [
            ({"parallel": "tree"}, "workload.parallel=tree: unknown\n  did you mean 'trees'"),
            ({"chunk": 0}, "workload.chunk=0: must be a whole number"),
            ({"chunk": 2.5}, "workload.chunk=2.5: must be a whole number"),
            ({"chunk": True}, "workload.chunk=True: must be a whole number"),
            ({"test_size": 1}, "workload.test_size=1: must be between 0 and 1"),
            ({"shuffle": "no"}, "workload.shuffle=no: must be true or false"),
        ],
    )
    def test_values(self, keys: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigError) as caught:
            FitEstimator(**keys)
        assert str(caught.value).startswith(told)

    @pytest.mark.parametrize(
        ("model", "keys", "told"),
        [
            (SVC(), {"parallel": "trees"}, "SVC is not a random forest"),
            (IsolationForest(), {"parallel": "trees"}, "IsolationForest is not a random forest"),
            (SVC(), {"parallel": "joblib"}, "SVC has no n_jobs"),
            (SVC(), {"chunk": 3}, "workload.chunk=3: SVC is not grown in chunks of trees"),
            (RandomForestClassifier, {}, "this is the class"),
            (RandomForestClassifier(n_estimators=0), {}, "model: The 'n_estimators' parameter"),
            (RandomForestClassifier(bootstrap=False, oob_score=True), {}, "no samples are out of the bag"),
            (RandomForestClassifier(bootstrap=False, max_samples=9), {}, "every tree gets all samples"),
            (RandomForestClassifier(), {"scoring": "acuracy"}, "workload.scoring=acuracy: unknown"),
            (RandomForestClassifier(), {"scoring": "f1"}, "f1_score does not go with this target"),
            (RandomTreesEmbedding(), {}, "has no score method"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_what_does_not_go_together(self, model: Any, keys: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigError, match=told):
            FitEstimator(**keys).prepare(inputs(IRIS, model))

    def test_data(self) -> None:
        X, y = IRIS
        with pytest.raises(ConfigError, match="data: a fit needs some"):
            FitEstimator().prepare(Inputs(None, SVC(), 0))
        with pytest.raises(DataError, match="only one class"):
            FitEstimator().prepare(inputs((X, np.zeros(150, int)), RandomForestClassifier()))
        with pytest.raises(DataError, match="infinite"):
            FitEstimator().prepare(inputs((np.where(X > 5, np.inf, X), y), RandomForestClassifier()))
        with pytest.raises(DataError, match="cannot hold out"):
            FitEstimator().prepare(inputs((X[:51], y[:51]), RandomForestClassifier()))

    def test_meta_estimators_of_ones_own_without_n_jobs_are_not_spread(self) -> None:
        class Own(MetaEstimatorMixin, BaseEstimator):
            pass

        assert FitEstimator().way(Own()) == "none"


def test_the_preset_says_what_the_class_says() -> None:
    preset = yaml.safe_load((CONF / "workload" / "fit.yaml").read_text())
    del preset["_target_"]
    assert preset == {field.name: field.default for field in dataclasses.fields(FitEstimator)}


def test_missing_values_and_logistic_regression(cluster: Cluster) -> None:
    X = np.where(IRIS[0] > 6, np.nan, IRIS[0])
    outcome = fit(cluster, inputs((X, IRIS[1]), RandomForestClassifier(5)), test_size=None)
    same_trees(outcome.model, RandomForestClassifier(5, random_state=0).fit(X, IRIS[1]))
    assert FitEstimator().way(LogisticRegression()) == "none"


def test_the_parts_of_a_forest_may_be_put_together_twice() -> None:
    X, y = load_iris(return_X_y=True)
    asked = RandomForestClassifier(n_estimators=10, random_state=0)
    parts = [forest.grow(asked, trees, X, y, {}) for trees in forest.chunks(10, 4, X.shape)]
    first, second = forest.merge(parts, asked), forest.merge(parts, asked)
    assert len(first.estimators_) == len(second.estimators_) == 10


def test_the_calls_of_joblib_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    done = []
    for workers in (1, 2):
        with open_local(LocalSpec(workers=workers), RunPaths(tmp_path)) as some:
            units = Units(1)
            model = BaggingClassifier(n_estimators=12, random_state=0)
            FitEstimator(parallel="joblib").prepare(Inputs(Dataset(X=X, y=y), model, 0)).run(some.client, units)
            done.append(units.done)
    assert done == [13, 13]
