"""Test that incremental learning equals a loop of partial_fit, bit for bit, even after losses."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from dask.sizeof import sizeof
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from hpcml import Dataset, LocalSpec, Outcome
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import Blocks, RowGroups, load
from hpcml.errors import ConfigError, WorkloadError
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.incremental import Incremental, fit_chain
from hpcml.workloads.incremental.scan import Rows, Scan, look
from hpcml.workloads.inputs.moments import Moments

IRIS, CANCER, DIABETES, DIGITS = (
    data(return_X_y=True) for data in (load_iris, load_breast_cancer, load_diabetes, load_digits)
)
LOG = {"loss": "log_loss", "random_state": 0}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def inputs(data: Any, model: Any, seed: int = 0) -> Inputs:
    return Inputs(Dataset(X=data[0], y=data[1]) if isinstance(data, tuple) else data, model, seed)


def learn(cluster: Cluster, given: Inputs, units: Units | None = None, **keys: Any) -> Outcome:
    """Check and run as the launcher does."""
    workload = Incremental(**keys)
    units = units or Units(0)
    prepared = workload.prepare(given)
    units.total = prepared.n_units
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def fails(cluster: Cluster, given: Inputs, told: str, **keys: Any) -> WorkloadError:
    with pytest.raises(WorkloadError, match=told) as caught:
        learn(cluster, given, **keys)
    return caught.value


def blocks_of(data: Any, rows: int) -> list[tuple[Any, Any]]:
    X, y = data
    return [(X[begin : begin + rows], y[begin : begin + rows]) for begin in range(0, len(X), rows)]


def serial(model: Any, blocks: list[tuple[Any, Any]], passes: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Fit without a cluster; return the model and the held-out rows."""
    held = [np.random.default_rng([seed, number]).random(len(X)) < 0.25 for number, (X, _) in enumerate(blocks)]
    labels = {"classes": np.unique(np.concatenate([y for _, y in blocks]))} if hasattr(model, "predict_proba") else {}
    for number in range(1, passes + 1):
        for at in np.random.default_rng([seed, number, 1]).permutation(len(blocks)):
            X, y = blocks[at]
            model.partial_fit(X[~held[at]], y[~held[at]], **labels)
    X_test = np.concatenate([X[mask] for (X, _), mask in zip(blocks, held, strict=True)])
    return model, X_test, np.concatenate([y[mask] for (_, y), mask in zip(blocks, held, strict=True)])


class TestTheSameAsALoop:
    @pytest.mark.parametrize("passes", [1, 3])
    @pytest.mark.parametrize(
        ("data", "model", "rows"),
        [
            (IRIS, SGDClassifier(**LOG), 25),  # sorted by class, so the first block has only one
            (DIGITS, MultinomialNB(), 300),
            (DIGITS, MLPClassifier((10,), random_state=0), 400),  # its optimizer has state
            (DIABETES, SGDRegressor(random_state=0), 100),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_weights_and_scores(self, cluster: Cluster, data: Any, model: Any, rows: int, passes: int) -> None:
        outcome = learn(cluster, inputs(data, model, seed=7), passes=passes, block_size=rows)
        expected, X, y = serial(model, blocks_of(data, rows), passes, seed=7)
        for name in ("coef_", "intercept_", "feature_log_prob_", "coefs_"):
            for ours, theirs in zip(getattr(outcome.model, name, ()), getattr(expected, name, ()), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        score = r2_score if isinstance(model, SGDRegressor) else accuracy_score
        assert outcome.metrics["final_score"] == pytest.approx(score(y, expected.predict(X)), rel=1e-12)
        assert outcome.tables["learning_curve"]["pass"] == list(range(1, passes + 1))
        assert outcome.metrics["samples_seen"] == passes * (len(data[0]) - len(X))

    @pytest.mark.parametrize("constant", ["_KEPT", "_STRETCH"])
    def test_where_blocks_are_kept_and_when_the_head_sees_the_model_changes_nothing(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, constant: str
    ) -> None:
        monkeypatch.setattr(fit_chain, constant, {"_KEPT": 0.0, "_STRETCH": 3}[constant])
        outcome = learn(cluster, inputs(DIGITS, SGDClassifier(**LOG)), passes=2, block_size=200)
        expected, *_ = serial(SGDClassifier(**LOG), blocks_of(DIGITS, 200), 2)
        np.testing.assert_array_equal(outcome.model.coef_, expected.coef_)
        assert outcome.metrics["blocks_kept"] is (constant != "_KEPT")

    def test_one_worker(self, cluster: Cluster, tmp_path: Path) -> None:
        given, keys = inputs(CANCER, SGDClassifier(**LOG)), {"passes": 2, "block_size": 80, "scale": True}
        with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as one:
            alone = learn(one, given, **keys)
        together = learn(cluster, given, **keys)
        np.testing.assert_array_equal(alone.model[-1].coef_, together.model[-1].coef_)
        assert alone.tables["learning_curve"]["score"] == together.tables["learning_curve"]["score"]

    def test_text_labels_and_blocks_in_order(self, cluster: Cluster) -> None:
        names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[IRIS[1]]
        outcome = learn(cluster, inputs((IRIS[0], names), GaussianNB()), block_size=40, shuffle=False)
        assert list(outcome.model.classes_) == ["setosa", "versicolor", "virginica"]
        assert outcome.metrics["final_score"] > 0.85
        assert outcome.tables["learning_curve"]["order"] == [None] * 5

    def test_without_a_target(self, cluster: Cluster) -> None:
        model = MiniBatchKMeans(3, random_state=0, n_init=1)
        given = Inputs(Dataset(X=IRIS[0]), model, 0)
        outcome = learn(cluster, given, passes=2, block_size=60, test_size=None, shuffle=False)
        for _ in range(2):
            for begin in range(0, 150, 60):
                model.partial_fit(IRIS[0][begin : begin + 60])
        np.testing.assert_array_equal(outcome.model.cluster_centers_, model.cluster_centers_)
        assert outcome.metrics["final_score"] is None
        assert not outcome.figures

    def test_parquet(self, cluster: Cluster, tmp_path: Path) -> None:
        X, y = CANCER
        for number, (begin, end) in enumerate([(0, 300), (300, 569)]):
            table = pa.table({**{f"x{i:02}": X[begin:end, i] for i in range(30)}, "y": y[begin:end]})
            pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet", row_group_size=100)
        data = load(RowGroups(path=str(tmp_path), target="y", block_size=100))
        outcome = learn(cluster, inputs(data, SGDClassifier(**LOG)), passes=2)
        blocks = [*blocks_of((X[:300], y[:300]), 100), *blocks_of((X[300:], y[300:]), 100)]
        np.testing.assert_array_equal(outcome.model.coef_, serial(SGDClassifier(**LOG), blocks, 2)[0].coef_)

    def test_dask_arrays_of_unknown_length(self, cluster: Cluster) -> None:
        X, y = (da.from_array(part, chunks=150) for part in DIGITS)
        data = load((X[y < 5], y[y < 5]))
        outcome = learn(cluster, inputs(data, SGDClassifier(**LOG)), passes=1)
        blocks = [(X[y < 5], y[y < 5]) for X, y in blocks_of(DIGITS, 150)]
        np.testing.assert_array_equal(outcome.model.coef_, serial(SGDClassifier(**LOG), blocks, 1)[0].coef_)


def test_dask_knows_how_large_blocks_and_models_are() -> None:
    block = Dataset(X=DIGITS[0], y=DIGITS[1])
    assert sizeof(block) > block.X.nbytes + block.y.nbytes
    model = MLPClassifier((10,), max_iter=1, random_state=0).partial_fit(*DIGITS, classes=np.arange(10))
    assert sizeof(fit_chain.State(model)) > sum(weights.nbytes for weights in model.coefs_)


class TestScaling:
    def test_mean_and_variance_are_those_of_all_training_rows(self) -> None:
        X = np.c_[DIGITS[0] * 1e3 + 1e7, np.full(len(DIGITS[0]), 0.1)]  # with constant columns
        rows, parts = Rows(0.25, 3), []
        held = []
        for number, (block, y) in enumerate(blocks_of((X, DIGITS[1]), 170)):
            parts.append(look(number, Dataset(X=block, y=y), rows, SGDClassifier(), None))
            held.append(rows.held_out(number, len(block)))
        ours, theirs = Scan.of(parts, None).scaler(), StandardScaler().fit(X[~np.concatenate(held)])
        np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
        np.testing.assert_allclose(ours.scale_, theirs.scale_, rtol=1e-12)
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-9, atol=1e-9)
        assert ours.n_samples_seen_ == theirs.n_samples_seen_

    def test_the_model_takes_features_as_they_come(self, cluster: Cluster) -> None:
        outcome = learn(cluster, inputs(CANCER, SGDClassifier(**LOG)), scale=True, block_size=100)
        assert isinstance(outcome.model, Pipeline)
        X, y = CANCER
        assert accuracy_score(y, outcome.model.predict(X)) > 0.95
        _, X_test, y_test = serial(SGDClassifier(**LOG), blocks_of(CANCER, 100), 1)
        assert outcome.metrics["final_score"] == accuracy_score(y_test, outcome.model.predict(X_test))

    def test_moments_of_no_rows(self) -> None:
        some = Moments.of(np.array([[1.0], [3.0]]))
        assert (Moments.of(np.empty((0, 1))) + some).variance == [1.0]
        assert (some + Moments.of(np.empty((0, 1)))).mean == [2.0]


class Scripted(SGDClassifier):
    """An estimator with scripted scores, one for each pass over two blocks."""

    def __init__(self, script: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.script = script

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Scripted:
        self.calls_ = getattr(self, "calls_", 0) + 1
        return self


def scripted(model: Any, X: Any, y: Any) -> float:
    return float(model.script[model.calls_ // 2 - 1])


class TestStopping:
    @pytest.mark.parametrize(
        ("script", "keys", "passes", "chosen"),
        [
            ((0.5, 0.7, 0.7, 0.6, 0.9), {"patience": 2}, 4, 2),
            ((0.5, 0.7, 0.6, 0.8, 0.7), {"patience": 2}, 5, 4),
            ((0.5, 0.505, 0.511, 0.512, 0.513), {"patience": 2, "tol": 0.01}, 5, 5),
            ((0.5, 0.505, 0.509, 0.9, 0.9), {"patience": 2, "tol": 0.01}, 3, 3),
            ((0.5, 0.7, 0.6, 0.6, 0.6), {}, 5, 5),
        ],
    )
    def test_early(self, cluster: Cluster, script: Any, keys: Any, passes: int, chosen: int) -> None:
        outcome = learn(cluster, inputs(IRIS, Scripted(script)), block_size=75, scoring=scripted, **keys)
        assert outcome.metrics["n_passes"] == passes
        assert outcome.metrics["model_of_pass"] == chosen
        assert outcome.model.calls_ == 2 * chosen
        assert ("stopped" in outcome.summary) == (passes < 5)

    def test_what_there_is_when_it_is_cut_short(self, cluster: Cluster) -> None:
        class Short(Units):
            def finish(self, key: str, result: Any = None) -> None:
                if key == "pass 3, fit of block 1":
                    raise KeyboardInterrupt
                super().finish(key, result)

        units = Short(0)
        with pytest.raises(KeyboardInterrupt):
            learn(cluster, inputs(IRIS, SGDClassifier(**LOG)), units, block_size=50)
        outcome = units.so_far()
        assert outcome.tables["learning_curve"]["pass"] == [1, 2]
        assert outcome.model.coef_.shape == (3, 4)
        assert "learning_curve" in outcome.figures


class Deadly(SGDClassifier):
    """Kill ``most`` workers after four blocks; each leaves a file."""

    def __init__(self, marks: str = "", most: int = 0) -> None:
        super().__init__(**LOG)
        self.marks, self.most = marks, most

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        self.seen_ = getattr(self, "seen_", 0) + 1
        if self.seen_ == 5 and len(list(Path(self.marks).iterdir())) < self.most:
            (Path(self.marks) / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().partial_fit(X, y, classes)


class Failing(SGDClassifier):
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        self.seen_ = getattr(self, "seen_", 0) + 1
        if self.seen_ == 6:
            raise RuntimeError("six")
        return super().partial_fit(X, y, classes)


@pytest.mark.parametrize(("most", "stretch"), [(1, 16), (2, 16), (2, 3)])
def test_workers_that_die_with_the_model_change_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, stretch: int
) -> None:
    monkeypatch.setattr(fit_chain, "_STRETCH", stretch)
    outcome = learn(cluster, inputs(DIGITS, Deadly(str(tmp_path), most)), passes=2, block_size=200)
    assert len(list(tmp_path.iterdir())) == most
    expected, *_ = serial(SGDClassifier(**LOG), blocks_of(DIGITS, 200), 2)
    np.testing.assert_array_equal(outcome.model.coef_, expected.coef_)


def test_blocks_are_done_when_the_model_after_them_is_there(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_chain, "_STRETCH", 4)
    units, given = Units(0), []
    finish = units.finish
    units.finish = lambda key, result=None: given.append((key, result)) or finish(key)  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(WorkloadError, match="fit of block 5: RuntimeError: six"):
        learn(cluster, inputs(DIGITS, Failing(**LOG)), units, passes=1, block_size=200, shuffle=False)
    fits = [(key, result) for key, result in given if "fit" in key]
    assert [key for key, _ in fits] == [f"pass 1, fit of block {number}" for number in range(4)]
    assert fits[3][1].model.seen_ == 4


class TestFailures:
    def test_a_fit_that_kills_its_workers(self, cluster: Cluster, tmp_path: Path) -> None:
        given = inputs(DIGITS, Deadly(str(tmp_path), 100))
        told = "^pass 1, fit of block 4: every worker that tried it died"
        fails(cluster, given, told, block_size=200, shuffle=False)

    def test_a_fit_that_fails(self, cluster: Cluster) -> None:
        given = inputs(IRIS, MultinomialNB())
        told = r"pass 1, fit of block \d: ValueError: Negative values in data passed to MultinomialNB"
        fails(cluster, given, told, block_size=75, scale=True)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_tutorials_settings_diverge_and_are_told(self, cluster: Cluster, seed: int) -> None:
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((4000, 20))
        y = (X[:, 0] + rng.standard_normal(4000) > 0).astype(int)
        model = SGDClassifier(loss="squared_error", penalty="l2", tol=1e-3, random_state=seed)
        error = fails(
            cluster, inputs((X, y), model),
            r"the model diverged in pass 1: its largest weight is \d(\.\d)?e\+1\d; its held-out accuracy 0\.\d+, where "
            r"the trivial prediction's is 0\.\d", block_size=500,
        )  # fmt: skip
        assert error.hints[:2] == (
            "squared_error fits numbers; take a loss of classes: ++model.loss=log_loss",
            "make small, constant steps: ++model.learning_rate=constant ++model.eta0=0.001",
        )
        assert error.outcome is None  # units.so_far has it
        for better in ({"loss": "log_loss", "alpha": 0.01}, {"learning_rate": "constant", "eta0": 0.001}):
            outcome = learn(cluster, inputs((X, y), model.set_params(**better)), block_size=500, passes=2)
            assert outcome.metrics["final_score"] > 0.7

    def test_features_that_are_not_scaled(self, cluster: Cluster) -> None:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((1000, 5)) * [1, 1, 1, 1e4, 1e6] + 1e3
        y = (X - 1e3) @ [1.0, 1.0, 1.0, 1e-4, 1e-6]
        units = Units(0)
        with pytest.raises(WorkloadError, match=r"the model diverged in pass 1: its largest weight is \d") as caught:
            learn(cluster, inputs((X, y), SGDRegressor(random_state=0)), units, block_size=200)
        assert "workload.scale=true" in caught.value.hints[0]
        assert units.so_far().tables["learning_curve"]["pass"] == [1]
        assert units.so_far().model is None
        assert learn(cluster, inputs((X, y), SGDRegressor(random_state=0)), block_size=200, scale=True).metrics[
            "final_score"
        ] == pytest.approx(1, abs=0.01)

    def test_numbers_that_scikit_learn_gives_up_on(self, cluster: Cluster) -> None:
        X = np.full((100, 2), 1e307)
        y = np.arange(100.0)
        error = fails(
            cluster, inputs((X, y), SGDRegressor()), "scikit-learn says: Floating-point under-/overflow", block_size=50
        )
        assert "workload.scale=true" in error.hints[0]

    def test_weights_out_of_proportion_that_score_well_are_a_warning(self, cluster: Cluster) -> None:
        outcome = learn(cluster, inputs(CANCER, SGDClassifier(**LOG)), block_size=100)
        assert outcome.metrics["final_score"] > 0.8
        assert "out of proportion to the features; workload.scale=true" in outcome.warnings[0]

    @pytest.mark.parametrize("scoring", ["f1", "neg_log_loss", "accuracy"])
    def test_scores(self, cluster: Cluster, scoring: str) -> None:
        given = inputs(IRIS, SGDClassifier(**LOG))
        if scoring == "f1":
            fails(cluster, given, "workload.scoring=f1: does not go with this target", block_size=50, scoring=scoring)
        else:
            metrics = learn(cluster, given, block_size=50, scoring=scoring, scale=True).metrics
            assert metrics["trivial_score"] == pytest.approx(
                {"neg_log_loss": -np.log(3), "accuracy": 1 / 3}[scoring], abs=0.1
            )


@dataclasses.dataclass(frozen=True)
class Given:
    """Return the block that it was built with."""

    block: tuple[Any, Any]

    def __call__(self) -> tuple[Any, Any]:
        return self.block


def parts(*blocks: tuple[Any, Any]) -> Blocks:
    """Make data from the given blocks."""
    return Blocks(rows=[len(X) for X, _ in blocks], recipe=lambda n: Given(blocks[n]), n_features=None, has_target=True)


A, B = (IRIS[0][:60], IRIS[1][:60]), (IRIS[0][60:].copy(), IRIS[1][60:])
WITH_NAN = B[0].copy()
WITH_NAN[3, 1] = np.nan


class TestTamperedBlocks:
    @pytest.mark.parametrize(
        ("data", "model", "keys", "told"),
        [
            (parts(A, (WITH_NAN, B[1])), SGDClassifier(), {}, "block 1: 1 NaN or infinite value in X.*column 1"),
            (parts(A, (WITH_NAN, B[1])), SGDClassifier(), {"scale": True}, "block 1: 1 NaN or infinite value in X"),
            (parts(A, (B[0], B[1].astype(str))), SGDClassifier(), {}, "block 1: its labels are such as '1'"),
            (parts(A, (np.full((90, 4), "x"), B[1])), SGDClassifier(), {}, "block 1: columns that are not numeric"),
            (parts(A, (B[0][:, 1:], B[1])), SGDClassifier(), {}, "block 1: has 3 features, and .*block 0 has 4"),
            (parts(A, (B[0], B[1] + 0.5)), SGDClassifier(), {}, "block 1: the target is continuous, for example 1.5"),
            (parts(A, (B[0], B[1].astype(str))), SGDRegressor(), {}, "block 1: the target holds text such as '1'"),
            (parts((A[0], np.zeros(60))), SGDClassifier(), {}, "only one class in the target of all 1 blocks: 0.0"),
            (parts(A, B), SGDClassifier(), {"classes": [0, 1]}, "block 1: the label 2 is not among .*[0, 1]"),
            (parts(A, (B[0], B[1] * np.inf)), SGDRegressor(), {}, "block 1: 90 values of the target are infinite"),
            (parts((A[0][:2], A[1][-2:])), SGDRegressor(), {"test_size": 0.001}, "none of 2 rows is held out"),
            (parts((A[0][:2], A[1][-2:])), SGDRegressor(), {"test_size": 0.999}, "no row is left to learn from"),
        ],
    )  # fmt: skip
    def test_are_told(self, cluster: Cluster, data: Any, model: Any, keys: Any, told: str) -> None:
        fails(cluster, inputs(data, model), told, **keys)

    def test_an_empty_one_among_those_of_unknown_length(self, cluster: Cluster) -> None:
        X, y = (da.from_array(part, chunks=50) for part in IRIS)
        fails(cluster, inputs(load((X[y > 0], y[y > 0])), SGDClassifier()), "block 0: is empty")

    def test_a_class_that_was_given_and_does_not_occur(self, cluster: Cluster) -> None:
        outcome = learn(cluster, inputs(parts(A, B), GaussianNB()), classes=[3, 2, 1, 0])
        assert list(outcome.model.classes_) == [0, 1, 2, 3]


class TestChecks:
    @pytest.mark.parametrize(
        ("given", "keys", "told"),
        [
            (inputs(IRIS, LogisticRegression()), {}, "LogisticRegression cannot learn in blocks.*\n.*model=sgd"),
            (inputs(IRIS, make_pipeline(StandardScaler(), SGDClassifier())), {}, "Pipeline(.|\n)*workload.scale=true"),
            (inputs(IRIS, SGDClassifier(early_stopping=True)), {}, "workload.patience=3 does it"),
            (inputs(IRIS, SGDClassifier(class_weight="balanced")), {}, "cannot count the classes"),
            (inputs(IRIS, SGDClassifier(alpha=-1)), {}, "model: The 'alpha' parameter"),
            (inputs(IRIS, SGDClassifier()), {"scoring": "neg_log_loss"}, "this SGDClassifier gives no probabilities"),
            (inputs(IRIS, SGDClassifier()), {"scoring": "r2"}, "workload.scoring=r2: a score of numbers"),
            (
                inputs(DIABETES, SGDRegressor()),
                {"scoring": "accuracy"},
                "workload.scoring=accuracy: a score of classes",
            ),
            (inputs(DIABETES, SGDRegressor()), {"classes": [0, 1]}, "SGDRegressor is not a classifier"),
            (inputs((DIABETES[0], DIABETES[1] / 2), SGDClassifier()), {}, "the target is continuous"),
            (inputs((IRIS[0], np.zeros(150)), SGDClassifier()), {}, "only one class"),
            (inputs((WITH_NAN, B[1]), SGDClassifier()), {}, "1 NaN or infinite value in X"),
            (inputs(IRIS, SGDClassifier()), {"classes": [0, 1]}, "the label 2 is not among workload.classes"),
            (
                inputs(IRIS, SGDClassifier()),
                {"test_size": 0, "scoring": "accuracy"},
                "workload.test_size=0 holds out none",
            ),
            (inputs(IRIS, SGDClassifier()), {"test_size": None, "patience": 2}, "no score that could stop"),
            (inputs((IRIS[0], None), SGDClassifier()), {}, "SGDClassifier needs a target"),
            (inputs(load((da.ones((4, 2)), None)), SGDClassifier()), {}, "SGDClassifier needs a target"),
            (inputs(parts(A, B), SGDClassifier()), {"block_size": 10}, "block_size=10: data is already in blocks"),
            (Inputs(None, SGDClassifier(), 0), {}, "incremental learning needs some"),
            (Inputs(Dataset(X=["a text"] * 9, y=[0, 1, 1] * 3), SGDClassifier(), 0), {}, "its samples are texts"),
        ],
    )
    def test_before_any_cluster(self, given: Inputs, keys: dict[str, Any], told: str) -> None:
        with pytest.raises(ConfigError, match=told) as caught:
            Incremental(**keys).prepare(given)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        "keys",
        [
            {"passes": 0}, {"passes": None}, {"passes": True}, {"patience": 0}, {"block_size": 1.5}, {"shuffle": "yes"},
            {"scale": None}, {"test_size": 1}, {"test_size": "a"}, {"tol": -1}, {"classes": [1]}, {"classes": "ab"},
            {"classes": [1, 1]}, {"classes": [1, "a"]},
        ],
    )  # fmt: skip
    def test_values_out_of_range(self, keys: dict[str, Any]) -> None:
        ((name, _),) = keys.items()
        with pytest.raises(ConfigError, match=f"workload.{name}="):
            Incremental(**keys)

    def test_units_are_counted(self) -> None:
        assert Incremental(block_size=50).prepare(inputs(IRIS, SGDClassifier())).n_units == 3 * (1 + 5 * 2)
        assert Incremental(block_size=50, test_size=None).prepare(inputs(IRIS, SGDClassifier())).n_units == 3 * (1 + 5)
        assert Incremental(block_size=50, patience=2, passes=1).prepare(inputs(IRIS, SGDClassifier())).description == (
            "incremental SGDClassifier: up to 1 pass over 3 blocks"
        )


def test_the_preset_says_what_the_class_says() -> None:
    preset = yaml.safe_load((Path(__file__).parents[2] / "conf" / "workload" / "incremental.yaml").read_text())
    del preset["_target_"]
    assert preset == {field.name: field.default for field in dataclasses.fields(Incremental)}
