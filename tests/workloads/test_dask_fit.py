"""Test a fit on all workers by dask_ml, XGBoost and LightGBM, beside scikit-learn's if possible."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import yaml
from sklearn import decomposition, linear_model, preprocessing
from sklearn.datasets import make_classification, make_regression
from sklearn.pipeline import make_pipeline

from hpcml import Dataset
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.config.compose import compose
from hpcml.data import Blocks
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.dask_fit import DaskFit
from hpcml.workloads.inputs.block_scores import Score

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("run"))) as opened:
        yield opened


def classes(n: int = 1200, **more: Any) -> Dataset:
    X, y = make_classification(n, 8, n_redundant=0, flip_y=0.05, random_state=0, **more)
    return Dataset(X=X, y=y)


def numbers(n: int = 1200) -> Dataset:
    X, y = make_regression(n, 8, noise=5.0, random_state=0)
    return Dataset(X=X, y=y)


def run(cluster: Cluster, data: Any, model: Any, **keys: Any) -> Outcome:
    rows = None if isinstance(data, Blocks) else 300
    workload, inputs = DaskFit(**{"block_size": rows, **keys}), Inputs(data, model, 0)
    prepared = workload.prepare(inputs)
    units = Units(prepared.n_units)
    outcome = prepared.run(cluster.client, units)
    assert units.done == units.total
    return outcome


def dask_logistic(**parameters: Any) -> Any:
    from dask_ml.linear_model import LogisticRegression

    return LogisticRegression(**{"solver": "newton", **parameters})


def dask_linear(**parameters: Any) -> Any:
    from dask_ml.linear_model import LinearRegression

    return LinearRegression(**{"solver": "newton", **parameters})


def reloaded(model: Any) -> Any:
    dumped = skops.io.dumps(model)
    return skops.io.loads(dumped, trusted=skops.io.get_untrusted_types(data=dumped))


def test_logistic_regression_finds_what_scikit_learns_does(cluster: Cluster) -> None:
    data = classes()
    found = run(cluster, data, dask_logistic(), test_size=None)
    wanted = linear_model.LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(data.X, data.y)
    np.testing.assert_allclose(found.model.coef_, wanted.coef_[0], rtol=1e-3)
    assert found.metrics["score"] == pytest.approx(wanted.score(data.X, data.y), abs=0.002)
    assert found.metrics["n_held_out"] == 0
    assert (reloaded(found.model).predict(data.X) == found.model.predict(data.X)).all()


@pytest.mark.parametrize("solver", ["admm", "lbfgs", "gradient_descent", "proximal_grad"])
def test_the_other_solvers_come_close(cluster: Cluster, solver: str) -> None:
    data = classes()
    found = run(cluster, data, dask_logistic(solver=solver), test_size=None)
    wanted = linear_model.LogisticRegression().fit(data.X, data.y)
    assert found.metrics["score"] == pytest.approx(wanted.score(data.X, data.y), abs=0.02)


def test_linear_regression_finds_what_scikit_learns_does(cluster: Cluster) -> None:
    data = numbers()
    found = run(cluster, data, dask_linear(), test_size=None)
    wanted = linear_model.LinearRegression().fit(data.X, data.y)
    np.testing.assert_allclose(found.model.coef_, wanted.coef_, rtol=1e-6)
    assert found.metrics["scoring"] == "r2"
    assert found.metrics["score"] == pytest.approx(wanted.score(data.X, data.y), rel=1e-6)


def test_what_is_held_out_is_not_fitted_on_and_is_the_same_each_time(cluster: Cluster) -> None:
    one, two = (run(cluster, classes(), dask_logistic(), scoring="neg_log_loss") for _ in range(2))
    assert one.metrics["n_samples"] == 900
    assert one.metrics["n_held_out"] == 300
    assert one.metrics["score"] == two.metrics["score"] < 0
    assert (one.model.coef_ == two.model.coef_).all()


def test_principal_components_and_scalers_are_scikit_learns(cluster: Cluster) -> None:
    from dask_ml.decomposition import PCA
    from dask_ml.preprocessing import StandardScaler

    data = Dataset(X=classes().X)
    found = run(cluster, data, PCA(3, svd_solver="tsqr"))
    wanted = decomposition.PCA(3).fit(data.X)
    np.testing.assert_allclose(np.abs(found.model.components_), np.abs(wanted.components_), rtol=1e-6, atol=1e-9)
    assert found.metrics["n_samples"] == 1200
    assert "score" not in found.metrics
    assert isinstance(reloaded(found.model).mean_, np.ndarray)
    scaled = run(cluster, data, StandardScaler()).model
    np.testing.assert_allclose(scaled.var_, preprocessing.StandardScaler().fit(data.X).var_, rtol=1e-10)


def test_what_is_as_long_as_the_data_is_left_out_of_the_model(cluster: Cluster) -> None:
    from dask_ml.cluster import KMeans

    model = run(cluster, Dataset(X=classes(600).X), KMeans(2, max_iter=5, random_state=0)).model
    assert not hasattr(model, "labels_")
    assert reloaded(model).cluster_centers_.shape == (2, 8)


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_boosted_trees_become_models_that_need_no_cluster(cluster: Cluster, kind: str) -> None:
    module = pytest.importorskip(kind, reason=f"pip install 'hpcml[{kind}]'")
    if kind == "xgboost":
        import xgboost.dask

        classifier, regressor = xgboost.dask.DaskXGBClassifier, xgboost.dask.DaskXGBRegressor
        local = (module.XGBClassifier, module.XGBRegressor)
    else:
        classifier, regressor = module.DaskLGBMClassifier, module.DaskLGBMRegressor
        local = (module.LGBMClassifier, module.LGBMRegressor)
    quiet = {"verbosity": -1} if kind == "lightgbm" else {}
    data = classes(n_classes=3, n_informative=5)
    found = run(cluster, data, classifier(n_estimators=20, **quiet))
    assert type(found.model) is local[0]
    assert found.metrics["score"] > 0.75
    assert found.model.get_params()["n_estimators"] == 20
    assert (reloaded(found.model).predict(data.X) == found.model.predict(data.X)).all()
    found = run(cluster, numbers(), regressor(n_estimators=20, **quiet), scoring="neg_mean_absolute_error")
    assert type(found.model) is local[1]
    assert found.metrics["score"] > -60


def test_lightgbm_takes_any_classes_but_needs_all_in_every_block(cluster: Cluster) -> None:
    module = pytest.importorskip("lightgbm", reason="pip install 'hpcml[lightgbm]'")
    data, model = classes(), module.DaskLGBMClassifier(n_estimators=5, verbosity=-1)
    named = Dataset(X=data.X, y=np.array(["no", "yes"])[data.y])
    found = run(cluster, named, model, scoring="f1_macro")
    assert found.metrics["score"] > 0.8
    assert set(found.model.predict(data.X)) == {"no", "yes"}
    order = np.argsort(data.y)
    with pytest.raises(WorkloadError, match="block 0 has no sample of class 1 to train on"):
        run(cluster, Dataset(X=data.X[order], y=data.y[order]), model)


def test_a_fit_that_fails_says_why(cluster: Cluster) -> None:
    with pytest.raises(WorkloadError, match="LogisticRegression: the fit failed: ValueError: 'solver' must be"):
        run(cluster, classes(), dask_logistic(solver="nope"))


def test_a_score_that_fails_says_which_and_the_model_is_kept(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(score: Score, parts: Any) -> float:
        raise ValueError("Target is multiclass")

    monkeypatch.setattr(Score, "of", breaks)
    workload, inputs = DaskFit(block_size=300), Inputs(classes(), dask_logistic(), 0)
    units = Units(workload.prepare(inputs).n_units)
    with pytest.raises(WorkloadError, match="the score accuracy cannot be computed: ValueError: Target is multiclass"):
        workload.prepare(inputs).run(cluster.client, units)
    assert units.so_far().model is not None


@dataclasses.dataclass(frozen=True)
class Held:
    """Return a block with a shape that is unknown until it is read."""

    X: Any
    y: Any

    def __call__(self) -> Any:
        return self.X, self.y


def test_what_is_found_only_when_blocks_are_read_is_told(cluster: Cluster) -> None:
    X, y = classes(40).X, classes(40).y
    nan = X.copy()
    nan[3, 0] = np.nan
    assert y is not None
    for blocks, message in (
        ([(X, y), (nan, y)], "data, block 1: 1 NaN or infinite value in X, and LogisticRegression takes none"),
        ([(X, y), (X[:, :5], y)], "data: block 1 has 5 features, block 0 has 8"),
        ([(X, y + 1), (X, y + 1)], "the classes are 1, 2; LogisticRegression takes 0 and 1 only"),
        ([(X, y), (X, y * 3)], "the classes are 0, 1, 3; LogisticRegression takes 0 and 1 only"),
        ([(X, y * 0), (X, y * 0)], "only one class in the target: 0"),
        ([(X, y), (X, y + 0.5)], "the target is continuous, LogisticRegression is a classifier"),
        ([(X[:1], y[:1])], "all of its 1 samples would be held out"),
        ([(X[:0], y[:0])], "is empty"),
    ):
        data = Blocks(
            rows=[None] * len(blocks),
            recipe=lambda number, blocks=blocks: Held(*blocks[number]),
            n_features=None,
            has_target=True,
        )
        with pytest.raises(WorkloadError, match=message):
            run(cluster, data, dask_logistic(), test_size=0.6)


def test_what_can_be_known_before_is_refused_before() -> None:
    from dask_ml.decomposition import PCA
    from dask_ml.wrappers import ParallelPostFit

    data = classes(100)
    nan = data.X.copy()
    nan[0, 0] = np.inf
    sklearns = make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    for model, samples, keys, error, message in (
        (None, data, {}, ConfigError, "model: there is none to fit"),
        (linear_model.LogisticRegression(), data, {}, ConfigError, "would gather all samples in one worker"),
        (sklearns, data, {}, ConfigError, "StandardScaler is of scikit-learn"),
        (ParallelPostFit(sklearns), data, {}, ConfigError, "is not for workload=dask_fit\n  use workload=predict"),
        (PCA(2, svd_solver="randomized"), data, {}, ConfigError, "use model.svd_solver=tsqr"),
        (PCA(2), data, {"scoring": "accuracy"}, ConfigError, "PCA predicts nothing to compare"),
        (dask_logistic(), data, {"scoring": "r2"}, ConfigError, "scoring=r2: a score of numbers, and Logistic"),
        (dask_linear(), data, {"scoring": "accuracy"}, ConfigError, "scoring=accuracy: a score of classes, and Linear"),
        (dask_logistic(), None, {}, ConfigError, "there is nothing to fit on"),
        (dask_logistic(), Dataset(X=data.X), {}, DataError, "needs a target, and there is none"),
        (dask_logistic(), Dataset(X=nan, y=data.y), {}, DataError, "1 NaN or infinite value in X"),
        (dask_logistic(), Dataset(X=data.X, y=data.X[:, 0]), {}, DataError, "the target is continuous"),
        (dask_linear(), Dataset(X=data.X, y=np.array(["a", "b"] * 50)), {}, DataError, "the target holds text"),
        (dask_linear(), Dataset(X=data.X, y=data.X[:, :2]), {}, DataError, "has 2 targets"),
        (dask_logistic(), Dataset(X=np.array(["a", "b"]), y=[0, 1]), {}, DataError, "its samples are texts"),
    ):
        with pytest.raises(error, match=message):
            DaskFit(**keys).prepare(Inputs(samples, model, 0))
    for keys, message in (({"test_size": 1}, "workload.test_size=1"), ({"block_size": 0}, "workload.block_size=0")):
        with pytest.raises(ConfigError, match=message):
            DaskFit(**keys)


def deadly_lightgbm(marks: Path, most: int) -> Any:
    import lightgbm

    def objective(y: Any, predicted: Any) -> tuple[Any, Any]:
        if len(list(marks.iterdir())) < most:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return predicted - y, np.ones_like(predicted)

    return lightgbm.DaskLGBMRegressor(n_estimators=3, objective=objective)


def deadly_xgboost(marks: Path, most: int) -> Any:
    """Return an estimator that kills workers in the middle of its fit; each leaves a file.

    Parameters
    ----------
    most : int
        Number of workers to kill.
    """
    import xgboost.callback
    import xgboost.dask

    class Kill(xgboost.callback.TrainingCallback):  # type: ignore[misc]  # local, so pickled by value
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            if epoch == 2 and len(list(marks.iterdir())) < most:
                (marks / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return False

    return xgboost.dask.DaskXGBClassifier(n_estimators=5, callbacks=[Kill()])


def test_a_fit_that_a_worker_dies_in_begins_again(cluster: Cluster, tmp_path: Path) -> None:
    found = run(cluster, classes(), deadly_xgboost(tmp_path, 1))
    assert 1 <= len(list(tmp_path.iterdir())) <= 2  # both may be running at once
    assert found.warnings == ["DaskXGBClassifier was fitted 2 times, as workers were lost"]
    assert found.model.get_booster().num_boosted_rounds() == 5
    assert found.metrics["score"] > 0.8


@pytest.mark.parametrize("workers", [1, 2])
def test_lightgbm_begins_again_too(tmp_path: Path, workers: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with open_local(LocalSpec(workers=workers), RunPaths(tmp_path)) as cluster:
        found = run(cluster, numbers(), deadly_lightgbm(marks, 1))
    assert found.warnings == ["DaskLGBMRegressor was fitted 2 times, as workers were lost"]
    assert found.model.booster_.num_trees() == 3


def test_a_fit_that_workers_always_die_in_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    wanted = (
        r"^DaskXGBClassifier: the fit failed, try 3 of 3, \d workers? lost: .*"
        r"(\n.*)*  workers die when they run out of memory"
    )
    with pytest.raises(WorkloadError, match=wanted):
        run(cluster, classes(), deadly_xgboost(tmp_path, 100))


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_a_package_that_is_lacking_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'hpcml\[{package}\]'"):
        compose("hpcml run", ["workload=dask_fit", f"model={package}"]).build()


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("experiment", ["dask_logistic", "kmeans_large"])
def test_the_experiments_pass_their_checks(experiment: str, size: str) -> None:
    from hpcml.plan import check

    composed = compose("hpcml run", [f"experiment={experiment}", f"size={size}"])
    assert composed is not None
    assert check(composed.build()).prepared.n_units > 8


def test_the_preset_says_what_the_class_says() -> None:
    preset = yaml.safe_load((CONF / "workload" / "dask_fit.yaml").read_text())
    del preset["_target_"]
    assert preset == {field.name: field.default for field in dataclasses.fields(DaskFit)}
