"""Test predictions over any blocks against those on the whole data, and unsuitable data."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import skops.io
import yaml
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from hpcml import Dataset, LocalSpec, Outcome, launcher
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.config.compose import compose
from hpcml.data import Blocks, Replicas, RowGroups, load
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.files import write_json
from hpcml.models import from_run, logistic_cv
from hpcml.parts import Parts
from hpcml.runs import RUN_VARIABLE, RunPaths
from hpcml.spec import RunSpec
from hpcml.workloads.base import Inputs, Units
from hpcml.workloads.fit import FitEstimator
from hpcml.workloads.predict import Predict

CONF = Path(__file__).parents[2] / "conf"
IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)

LOGISTIC = make_pipeline(StandardScaler(), LogisticRegression()).fit(*IRIS)
LINEAR = LinearRegression().fit(*DIABETES)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


def inputs(data: Any, model: Any) -> Inputs:
    if isinstance(data, tuple):
        data = Dataset(X=data[0], y=data[1])
    return Inputs(data, model, 0)


def predict(cluster: Cluster, given: Inputs, root: Path | None = None, **keys: Any) -> Outcome:
    """Check and run as the launcher does."""
    workload = Predict(**keys)
    prepared = workload.prepare(given)
    units = Units(prepared.n_units, None if root is None else lambda name: Parts(root / name))
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def table(root: Path) -> dict[str, Any]:
    """Read the parts, sorted by name."""
    found = pyarrow.parquet.read_table(sorted((root / "predictions").iterdir()))
    return {name: found[name].to_numpy() for name in found.column_names}


def parquet(path: Path, X: Any, y: Any = None, group: int = 40) -> Path:
    columns = {f"f{number}": X[:, number] for number in range(X.shape[1])}
    pyarrow.parquet.write_table(pa.table(columns | ({} if y is None else {"target": y})), path, row_group_size=group)
    return path


class TestTheSameAsScikitLearn:
    def test_a_classifier(self, cluster: Cluster, tmp_path: Path) -> None:
        X, y = IRIS
        methods = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
        outcome = predict(cluster, inputs(IRIS, LOGISTIC), methods=methods, block_size=40, root=tmp_path)
        found = table(tmp_path)
        np.testing.assert_array_equal(found["y"], y)
        np.testing.assert_array_equal(found["prediction"], LOGISTIC.predict(X))
        wanted = {"proba": LOGISTIC.predict_proba, "log_proba": LOGISTIC.predict_log_proba}
        for name, method in {**wanted, "decision": LOGISTIC.decision_function}.items():
            for number in range(3):
                np.testing.assert_allclose(found[f"{name}_{number}"], method(X)[:, number], rtol=0, atol=1e-12)
        assert list(found)[:3] == ["y", "prediction", "proba_0"]
        assert outcome.metrics["score"] == accuracy_score(y, LOGISTIC.predict(X))
        assert (outcome.metrics["n_samples"], outcome.metrics["n_blocks"]) == (150, 4)
        assert outcome.metrics["bytes_written"] == sum(f.stat().st_size for f in (tmp_path / "predictions").iterdir())
        peaks = outcome.metrics["peak_memory"]
        assert set(peaks) <= {"worker 0", "worker 1", "head"}
        assert all(50e6 < size < 5e9 for size in peaks.values())
        assert outcome.model is None

    def test_a_regressor_over_row_groups(self, cluster: Cluster, tmp_path: Path) -> None:
        X, y = DIABETES
        data = RowGroups(path=str(parquet(tmp_path / "d.parquet", X, y)), target="target", block_size=80).load()
        outcome = predict(cluster, inputs(data, LINEAR), root=tmp_path)
        np.testing.assert_allclose(table(tmp_path)["prediction"], LINEAR.predict(X), rtol=1e-12)
        assert outcome.metrics["score"] == pytest.approx(r2_score(y, LINEAR.predict(X)), abs=1e-12)
        assert (outcome.metrics["scoring"], outcome.metrics["n_blocks"]) == ("r2", 6)

    def test_a_transformer(self, cluster: Cluster, tmp_path: Path) -> None:
        model = PCA(3).fit(CANCER[0])
        outcome = predict(cluster, inputs((CANCER[0], None), model), methods="transform", block_size=100, root=tmp_path)
        found = table(tmp_path)
        np.testing.assert_allclose(np.column_stack(list(found.values())), model.transform(CANCER[0]), atol=1e-8)
        assert list(found) == ["pca0", "pca1", "pca2"]
        assert "score" not in outcome.metrics

    def test_several_targets_and_names_that_meet(self, cluster: Cluster, tmp_path: Path) -> None:
        X, Y = DIABETES[0], np.column_stack([DIABETES[1], -DIABETES[1]])
        predict(cluster, inputs((X, Y), LinearRegression().fit(X, Y)), block_size=200, root=tmp_path)
        assert list(table(tmp_path)) == ["y_0", "y_1", "prediction_0", "prediction_1"]
        data = Dataset(X=X[:, :2], y=DIABETES[1], feature_names=("y", "b"))
        predict(cluster, inputs(data, StandardScaler().fit(data.X)), methods="transform", root=tmp_path / "b")
        assert list(table(tmp_path / "b")) == ["y", "transform_y", "b"]

    def test_text_classes_and_clusters(self, cluster: Cluster, tmp_path: Path) -> None:
        names = load_iris().target_names[IRIS[1]].astype(object)
        model = SVC().fit(IRIS[0], names)
        outcome = predict(
            cluster, inputs((IRIS[0], names), model), methods=["predict", "decision_function"], root=tmp_path
        )
        found = table(tmp_path)
        np.testing.assert_array_equal(found["prediction"], model.predict(IRIS[0]))
        assert "decision_setosa" in found
        assert outcome.metrics["score"] == model.score(IRIS[0], names)
        clusters = KMeans(3, n_init=1, random_state=0).fit(IRIS[0])
        predict(
            cluster,
            inputs((IRIS[0], None), clusters),
            methods=["predict", "transform"],
            block_size=60,
            root=tmp_path / "k",
        )
        np.testing.assert_array_equal(table(tmp_path / "k")["prediction"], clusters.predict(IRIS[0]))

    @pytest.mark.parametrize("scoring", ["neg_log_loss", "f1_macro", get_scorer("accuracy")])
    def test_scores(self, cluster: Cluster, scoring: Any) -> None:
        outcome = predict(cluster, inputs(IRIS, LOGISTIC), scoring=scoring, block_size=50, write=False)
        wanted = get_scorer(scoring) if isinstance(scoring, str) else scoring
        assert outcome.metrics["score"] == pytest.approx(wanted(LOGISTIC, *IRIS), abs=1e-12)
        assert "not written" in outcome.summary["predictions"]

    def test_a_model_that_is_fitted_first(self, cluster: Cluster, tmp_path: Path) -> None:
        source = functools.partial(
            make_classification, n_features=2, n_redundant=0, n_informative=2, random_state=1, n_clusters_per_class=1,
            n_samples=1000,
        )  # fmt: skip
        given = inputs(Replicas(source=source, times=30, block_size=7000).load(), logistic_cv(cv=3))
        outcome = predict(cluster, given, train=source, methods=["predict", "predict_proba"], root=tmp_path)
        X, y = source()
        model = logistic_cv(cv=3).fit(X, y)
        np.testing.assert_array_equal(outcome.model.predict(X), model.predict(X))
        np.testing.assert_array_equal(table(tmp_path)["prediction"], np.tile(model.predict(X), 30))
        assert outcome.metrics["score"] == pytest.approx(model.score(X, y), abs=1e-12)
        assert outcome.metrics["n_blocks"] == 5

    def test_what_the_fit_warns_of_is_told(self, cluster: Cluster, tmp_path: Path) -> None:
        outcome = predict(cluster, inputs(IRIS, LogisticRegression(max_iter=2)), train=IRIS, root=tmp_path)
        assert outcome.warnings[0].startswith("fit: lbfgs failed to converge")

    def test_columns_in_another_order_are_found_by_name(self, cluster: Cluster, tmp_path: Path) -> None:
        X, y = IRIS
        train = Dataset(X=X, y=y, feature_names=("a", "b", "c", "d"))
        turned = Dataset(X=X[:, ::-1], y=y, feature_names=("d", "c", "b", "a"))
        predict(cluster, inputs(turned, LogisticRegression(max_iter=500)), train=train, block_size=70, root=tmp_path)
        model = LogisticRegression(max_iter=500).fit(X, y)
        np.testing.assert_array_equal(table(tmp_path)["prediction"], model.predict(X))
        scaled = StandardScaler().fit(X)
        scaled._hpcml_features = ["a", "b", "c", "d"]
        predict(cluster, inputs(turned, scaled), methods="transform", root=tmp_path / "t")
        found = table(tmp_path / "t")
        assert list(found) == ["y", "a", "b", "c", "d"]
        for number, name in enumerate("abcd"):
            np.testing.assert_allclose(found[name], scaled.transform(X)[:, number])

    def test_a_forest_stays_in_its_task(self, cluster: Cluster, tmp_path: Path) -> None:
        model = RandomForestClassifier(10, random_state=0).fit(*IRIS)
        greedy = copy.deepcopy(model).set_params(n_jobs=-1)
        predict(cluster, inputs(IRIS, greedy), block_size=50, root=tmp_path)
        np.testing.assert_array_equal(table(tmp_path)["prediction"], model.predict(IRIS[0]))


class Deadly(ClassifierMixin, BaseEstimator):
    """Kill the first worker that predicts with it."""

    def __init__(self, mark: str = "") -> None:
        self.mark = mark

    def fit(self, X: Any, y: Any) -> Deadly:
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            os._exit(1)
        time.sleep(0.05)
        return (X[:, 0] > 0).astype(int)


def test_a_worker_that_is_killed_is_survived(cluster: Cluster, tmp_path: Path) -> None:
    model = Deadly(str(tmp_path / "mark")).fit(*CANCER)
    outcome = predict(cluster, inputs(CANCER, model), block_size=50, root=tmp_path)
    assert len(table(tmp_path)["prediction"]) == outcome.metrics["n_samples"] == 569


def blocks(parts: list[Any], target: bool = False, n_features: int | None = 2) -> Blocks:
    """Return blocks with shapes that are unknown until they are read."""
    return Blocks(
        rows=[None] * len(parts), recipe=lambda number: functools.partial(_given, parts[number]),
        n_features=n_features, has_target=target, feature_names=("a", "b") if n_features else None, name="tampered",
    )  # fmt: skip


def _given(part: Any) -> Any:
    return part if isinstance(part, tuple) else (part, None)


GOOD = np.arange(6.0).reshape(3, 2)
NAN = np.where(GOOD == 3, np.nan, GOOD)
TWO = LogisticRegression().fit(GOOD, [0, 0, 1])


class TestTamperedBlocks:
    @pytest.mark.parametrize(
        ("data", "model", "message"),
        [
            (blocks([GOOD, NAN]), TWO, r"tampered, block 1: 1 NaN or infinite value in X \(in b\), and Logistic"),
            (blocks([GOOD, GOOD[:0]]), TWO, "tampered, block 1: is empty"),
            (blocks([GOOD, GOOD[:, :1]]), TWO, "tampered, block 1: has 1 features, the others have 2"),
            (blocks([GOOD, np.array([["a", "b"]])]), TWO, "block 1: columns that are not numeric: 'x0' .text., 'x1'"),
            (blocks([GOOD[:, :1]], n_features=None), TWO, "block 0: has 1 features, and LogisticRegression is fitted"),
            (blocks([(GOOD, ["a", "b", "a"])], target=True), TWO, r"block 0: the target is such as .*'a'.*such as .*0"),
            (blocks([(GOOD, [0.5, 1, 0])], target=True), TWO, "block 0: the target is continuous, such as 0.5"),
            (
                blocks([(GOOD, ["a", "b", "a"])], target=True), LinearRegression().fit(GOOD, [0.5, 1, 2]),
                "block 0: the target holds text such as 'a', and LinearRegression predicts numbers",
            ),
            (blocks([GOOD]), OneHotEncoder().fit(GOOD), "block 0: .* gives a sparse matrix"),
        ],
    )  # fmt: skip
    def test_are_named(self, cluster: Cluster, tmp_path: Path, data: Any, model: Any, message: str) -> None:
        method = "predict" if hasattr(model, "predict") else "transform"
        with pytest.raises(WorkloadError, match=message):
            predict(cluster, inputs(data, model), methods=method, root=tmp_path)

    def test_a_missing_value_in_a_file(self, cluster: Cluster, tmp_path: Path) -> None:
        directory = tmp_path / "in"
        directory.mkdir()
        parquet(directory / "1.parquet", GOOD, np.array([0, 1, 0]))
        pyarrow.parquet.write_table(pa.table({"f0": [1.0], "f1": [1.0], "target": [None]}), directory / "2.parquet")
        blocks = RowGroups(path=str(directory), target="target", block_size=1).load()
        model = LogisticRegression().fit(GOOD, [0, 1, 1])
        outcome = Predict().prepare(inputs(blocks, model)).run(cluster.client, Units(2))
        assert outcome.metrics["n_samples"] == 4
        assert outcome.metrics["score"] == model.score(GOOD, [0, 1, 0])

    def test_what_is_done_before_a_failure_is_counted(self, cluster: Cluster, tmp_path: Path) -> None:
        units, workload = Units(9), Predict()
        with pytest.raises(WorkloadError, match="block 8"):
            workload.prepare(inputs(blocks([*[GOOD] * 8, NAN]), TWO)).run(cluster.client, units)
        assert units.so_far().metrics["n_blocks"] == units.done > 0


class TestChecks:
    @pytest.mark.parametrize(
        ("given", "keys", "message"),
        [
            (inputs(IRIS, SVC()), {}, "this SVC is not fitted, and workload.train=null.*\n.*model=from_run"),
            (inputs(IRIS, SVC), {}, "this is the class"),
            (Inputs(None, LOGISTIC, 0), {}, "there is nothing to predict for"),
            (inputs(IRIS, LinearSVC().fit(*IRIS)), {"methods": ["predict_proba"]},
             "workload.methods=predict_proba: LinearSVC has no predict_proba\n  it has predict, decision_function"),
            (inputs(IRIS, SVC()), {"methods": ["predict", "transform"], "train": IRIS}, "SVC has no transform"),
            (inputs(IRIS, LinearSVC().fit(*IRIS)), {"scoring": "neg_log_loss"}, "neg_log_loss: LinearSVC has no"),
            (inputs(CANCER, LOGISTIC), {}, "data: has 30 features, and Pipeline is fitted on 4"),
            (inputs(blocks([GOOD]), LOGISTIC), {}, "tampered: has 2 features, and Pipeline is fitted on 4"),
            (inputs(blocks([GOOD]), SVC()), {"train": IRIS}, "tampered: has 2 features, and SVC is fitted on 4"),
            (inputs(IRIS, LOGISTIC), {"scoring": "r2"}, "score of numbers, and Pipeline predicts classes\n.*accuracy"),
            (inputs(IRIS, LOGISTIC), {"scoring": "f1"}, "scoring=f1: does not go with the classes of Pipeline"),
            (inputs((IRIS[0], None), LOGISTIC), {"scoring": "accuracy"}, "scoring=accuracy: .* has no target"),
            (inputs((IRIS[0], None), LOGISTIC), {"write": False}, "without a score nothing would come of the run"),
            (inputs(IRIS, SVC(C=-1)), {"train": IRIS}, "The 'C' parameter of SVC"),
            (inputs(IRIS, SVC()), {"train": (IRIS[0], np.zeros(150))}, "only one class in the target"),
            (inputs(IRIS, SVC()), {"train": functools.partial(load_iris, as_frame=3)}, "load_iris failed"),
            (inputs((IRIS[0], IRIS[1].astype(str)), LOGISTIC), {}, "the target is such as .*'0'.*write both alike"),
            (inputs((np.full((3, 4), np.nan), [0, 1, 2]), LOGISTIC.steps[1][1]), {}, "12 NaN or infinite values in X"),
        ],
    )  # fmt: skip
    def test_before_any_cluster(self, given: Inputs, keys: dict[str, Any], message: str) -> None:
        with pytest.raises((ConfigError, DataError), match=f"(?s){message}") as caught:
            Predict(**keys).prepare(given)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"methods": ["predct"]}, "'predct' is unknown\n  did you mean 'predict'"),
            ({"methods": []}, "must name one or more"),
            ({"methods": ["predict", "predict"]}, "each once"),
            ({"block_size": 0}, "workload.block_size=0: must be a whole number"),
            ({"write": "yes"}, "workload.write=yes: must be true or false"),
        ],
    )
    def test_values(self, keys: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Predict(**keys)

    def test_columns_are_compared_by_name(self) -> None:
        model, train = LogisticRegression(), Dataset(X=GOOD, y=np.array([0, 1, 1]), feature_names=("a", "c"))
        with pytest.raises(DataError, match=r"tampered: has no column c, which LogisticRegression is fitted on"):
            Predict(train=train).prepare(inputs(blocks([GOOD]), model))
        one = Dataset(X=GOOD[:, :1], y=np.array([0, 1, 1]), feature_names=("a",))
        with pytest.raises(
            DataError, match=r"columns that .* is not fitted on: b\n  leave them out: 'data.drop=\[b\]'"
        ):
            Predict(train=one).prepare(inputs(blocks([GOOD]), model))

    def test_units_are_counted(self) -> None:
        assert Predict(block_size=40).prepare(inputs(IRIS, LOGISTIC)).n_units == 4
        assert Predict(block_size=40, train=IRIS).prepare(inputs(IRIS, SVC())).n_units == 5


def test_the_preset_says_what_the_class_says() -> None:
    preset = yaml.safe_load((CONF / "workload" / "predict.yaml").read_text())
    del preset["_target_"]
    assert preset == dataclasses.asdict(Predict())


def test_the_experiment_has_the_tutorials_numbers() -> None:
    for size, n_samples in (("full", 100_000), ("small", 20_000)):
        composed = compose("hpcml run", ["experiment=predict_large", f"size={size}"])
        assert composed is not None
        spec = composed.build()
        data = load(spec.data)
        assert isinstance(data, Blocks)
        assert (data.n_samples, data.n_features) == (n_samples, 2)
        assert spec.workload.prepare(Inputs(data, spec.model, 0)).n_units == len(data) + 1


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def finished(scratch: Path, number: int, state: str = "DONE", **models: Any) -> RunPaths:
    """Make the files of a finished run that prediction needs."""
    paths = RunPaths(scratch / f"20260101T00000{number}-00000{number}")
    paths.root.mkdir()
    write_json(paths.manifest, {})
    write_json(paths.record, {"state": state})
    for name, model in models.items():
        (skops.io.dump if name == "skops" else joblib.dump)(model, paths.model(name))
    return paths


class TestAModelOfAnEarlierRun:
    def test_is_found_in_every_way(self, scratch: Path) -> None:
        paths = finished(scratch, 1, skops=LOGISTIC)
        for run in ("last", paths.run_id, "000001", str(paths.root), str(paths.model("skops"))):
            model = from_run(run, str(scratch))
            np.testing.assert_array_equal(model.predict(IRIS[0]), LOGISTIC.predict(IRIS[0]))
        pickled = finished(scratch, 2, joblib=LOGISTIC)
        for run in ("last", str(pickled.model("joblib"))):
            np.testing.assert_array_equal(from_run(run, str(scratch)).predict(IRIS[0]), LOGISTIC.predict(IRIS[0]))

    def test_of_types_that_skops_does_not_know(self, scratch: Path) -> None:
        model = HistGradientBoostingRegressor(max_iter=5).fit(*DIABETES)
        paths = finished(scratch, 1, skops=model)
        assert skops.io.get_untrusted_types(file=paths.model("skops"))
        np.testing.assert_array_equal(from_run("last", str(scratch)).predict(DIABETES[0]), model.predict(DIABETES[0]))

    def test_of_another_user_runs_no_code(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        safe = finished(scratch, 1, skops=LOGISTIC)
        own = finished(scratch, 2, skops=HistGradientBoostingRegressor(max_iter=5).fit(*DIABETES), joblib=LOGISTIC)
        monkeypatch.setattr(os, "geteuid", lambda: own.root.stat().st_uid + 1)
        with pytest.raises(
            ConfigError, match=r"joblib: belongs to another user, and loading a pickle .*\n.*cp .*joblib DIR"
        ):
            from_run(str(own.model("joblib")))
        with pytest.raises(ConfigError, match="belongs to another user, and loading it can run code"):
            from_run(own.run_id, str(scratch))
        assert from_run(safe.run_id, str(scratch)).steps

    @pytest.mark.parametrize(
        ("directory", "file", "told"),
        [
            (0o755, 0o664, "is writable by its group"),
            (0o755, 0o646, "is writable by all users"),
            (0o775, 0o644, "is in a directory that is writable by its group"),
            (0o1777, 0o644, None),
            (0o700, 0o666, None),
        ],
    )
    def test_that_others_can_write_runs_no_code(
        self, scratch: Path, directory: int, file: int, told: str | None
    ) -> None:
        paths = finished(scratch, 1, joblib=LOGISTIC)
        paths.model("joblib").chmod(file)
        paths.root.chmod(directory)
        if told is None:
            assert from_run("last", str(scratch)).steps
            return
        with pytest.raises(
            ConfigError, match=rf"model.joblib: {told}, and loading a pickle.*\n.*: chmod go-w .*joblib"
        ):
            from_run("last", str(scratch))

    def test_knows_the_columns_of_its_data(self, scratch: Path) -> None:
        data = Dataset(X=IRIS[0], y=IRIS[1], feature_names=("a", "b", "c", "d"))
        spec = RunSpec(
            workload=FitEstimator(), data=data, model=LogisticRegression(max_iter=500), scratch=str(scratch),
            cluster=LocalSpec(workers=1),
        )  # fmt: skip
        model = from_run(launcher.run(spec).path, str(scratch))
        turned = Dataset(X=IRIS[0][:, ::-1], y=IRIS[1], feature_names=("d", "c", "b", "a"))
        predicted = RunSpec(workload=Predict(), data=turned, model=model, scratch=str(scratch), cluster=spec.cluster)
        assert launcher.run(predicted).metrics["score"] == model.score(*IRIS)
        lacking = Dataset(X=IRIS[0], y=IRIS[1], feature_names=("a", "b", "c", "e"))
        with pytest.raises(DataError, match="data: has no column d, which LogisticRegression is fitted on"):
            Predict().prepare(inputs(lacking, model))

    def test_knows_the_columns_that_it_was_fitted_on_before_it_predicted(self, scratch: Path) -> None:
        train = Dataset(X=IRIS[0], y=IRIS[1], feature_names=("a", "b", "c", "d"))
        turned = Dataset(X=IRIS[0][:, ::-1], y=IRIS[1], feature_names=("d", "c", "b", "a"))
        spec = RunSpec(
            workload=Predict(train=train), data=turned, model=LogisticRegression(max_iter=500), scratch=str(scratch),
            cluster=LocalSpec(workers=1),
        )  # fmt: skip
        assert from_run(launcher.run(spec).path, str(scratch))._hpcml_features == ["a", "b", "c", "d"]

    def test_that_cannot_be_had_is_explained(self, scratch: Path) -> None:
        with pytest.raises(ConfigError, match="no such run"):
            from_run("nope", str(scratch))
        first = finished(scratch, 1, skops=LOGISTIC)
        finished(scratch, 2)
        with pytest.raises(ConfigError, match=f"no model in .*\n.*model.run={first.run_id}"):
            from_run("last", str(scratch))
        failed = finished(scratch, 3, state="FAILED", skops=LOGISTIC)
        with pytest.raises(ConfigError, match=r"is FAILED, not DONE\n.*model.run=.*model.skops"):
            from_run("last", str(scratch))
        failed.record.unlink()
        with pytest.raises(ConfigError, match="is unfinished, not DONE"):
            from_run("last", str(scratch))
        first.model("skops").write_bytes(b"torn")
        with pytest.raises(ConfigError, match="cannot load a model: BadZipFile"):
            from_run(first.run_id, str(scratch))
        with pytest.raises(ConfigError, match="no such file"):
            from_run(str(scratch / "x.joblib"))
        with pytest.raises(ConfigError, match=r"parsed as a number\n.*quote it twice"):
            from_run(123)  # type: ignore[arg-type]
        odd = finished(scratch, 4, joblib=[1, 2])
        with pytest.raises(ConfigError, match="contains a list, not an estimator"):
            from_run(odd.run_id, str(scratch))

    def test_last_in_a_head_job_is_the_last_before_it(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        finished(scratch, 1, skops=LOGISTIC)
        own = finished(scratch, 2)
        finished(scratch, 3, skops=SVC())
        monkeypatch.setenv(RUN_VARIABLE, str(own.root))
        assert from_run("last", str(scratch)).steps

    def test_is_not_changed_by_the_seed(self, scratch: Path) -> None:
        forest = RandomForestClassifier(5).fit(*IRIS)
        paths = finished(scratch, 1, skops=forest)
        composed = compose("hpcml run", ["model=from_run", f"model.run={paths.root}", "workload=predict", "seed=7"])
        assert composed is not None
        model = composed.build().model
        assert model.random_state == 7
        np.testing.assert_array_equal(model.predict_proba(IRIS[0]), forest.predict_proba(IRIS[0]))


def test_logistic_cv_warns_of_nothing_and_takes_its_parameters() -> None:
    model = logistic_cv(cv=3, Cs=4, scoring="neg_log_loss").fit(*CANCER_SCALED)
    assert (model.cv, model.Cs, model.scoring) == (3, 4, "neg_log_loss")


CANCER_SCALED = StandardScaler().fit_transform(CANCER[0]), CANCER[1]
