"""Tables of any columns: scores equal to those of the same pipeline in scikit-learn alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import palmerpenguins
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectPercentile, chi2
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from skrub import tabular_pipeline

from hpcml import LocalSpec
from hpcml.cluster import Cluster
from hpcml.cluster.local import open_local
from hpcml.data import Dataset, TableFile, load
from hpcml.errors import ConfigError
from hpcml.models import set_seed, tabular
from hpcml.runs import RunPaths
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.fit import FitEstimator
from hpcml.workloads.inputs.data_warnings import warn_about
from hpcml.workloads.predict import Predict
from hpcml.workloads.search import Search


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with open_local(LocalSpec(workers=2), RunPaths(tmp_path_factory.mktemp("cluster"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def penguins(tmp_path_factory: pytest.TempPathFactory) -> TableFile:
    """A file with text, missing values and numbers, as its package distributes it."""
    path = tmp_path_factory.mktemp("data") / "penguins.csv"
    palmerpenguins.load_penguins().to_csv(path, index=False)
    return TableFile(path=str(path), target="species")


def compute(cluster: Cluster, workload: Any, inputs: Inputs) -> Outcome:
    prepared = workload.prepare(inputs)
    outcome: Outcome = prepared.run(cluster.client, Units(prepared.n_units))
    return outcome


def reference(pipeline: Any, grid: Any, data: Dataset) -> tuple[GridSearchCV, float]:
    """Search with scikit-learn alone, on the samples that hpcml trains on; return its test score too."""
    X, X_test, y, y_test = train_test_split(data.X, data.y, test_size=0.25, random_state=0, stratify=data.y)
    found = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    return found, found.score(X_test, y_test)


def mixed_types() -> Pipeline:
    """scikit-learn's example "Column Transformer with Mixed Types"."""
    numeric = Pipeline([("imputer", SimpleImputer(strategy="median")), ("scaler", StandardScaler())])
    categorical = Pipeline([
        ("encoder", OneHotEncoder(handle_unknown="ignore")), ("selector", SelectPercentile(chi2, percentile=50)),
    ])  # fmt: skip
    preprocessor = ColumnTransformer([
        ("num", numeric, ["bill_length_mm", "body_mass_g"]),
        ("cat", categorical, make_column_selector(dtype_exclude=np.number)),
    ])  # fmt: skip
    return Pipeline([("preprocessor", preprocessor), ("classifier", LogisticRegression())])


class TestEqualToScikitLearn:
    @pytest.mark.parametrize(
        ("model", "grid", "prefix"),
        [
            (RandomForestClassifier(10, random_state=0), {"max_depth": [2, 4]}, "randomforestclassifier__"),
            (LogisticRegression(), {"C": [0.1, 1.0]}, "logisticregression__"),
            (
                HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype", random_state=0),
                {"max_depth": [2, 3]},
                "histgradientboostingclassifier__",
            ),
        ],
    )
    def test_a_search_over_a_mixed_table(
        self, cluster: Cluster, penguins: TableFile, model: Any, grid: Any, prefix: str
    ) -> None:
        data = load(penguins)
        assert isinstance(data, Dataset)
        alone = tabular_pipeline(clone(model))
        set_seed(alone, 0)
        names = {f"{prefix}{name}": values for name, values in grid.items()}
        expected, test_score = reference(alone, names, data)
        found = compute(cluster, Search(grid=grid), Inputs(data, model, 0, "auto"))
        np.testing.assert_allclose(
            found.tables["cv_results"]["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-12
        )
        assert found.metrics["test_scores"]["score"] == pytest.approx(test_score, rel=1e-12)
        assert found.metrics["best_params"] == expected.best_params_
        np.testing.assert_array_equal(found.model.predict(data.X), expected.predict(data.X))

    def test_ones_own_column_transformer(self, cluster: Cluster, penguins: TableFile) -> None:
        data = load(penguins)
        assert isinstance(data, Dataset)
        grid = {"preprocessor__num__imputer__strategy": ["mean", "median"], "classifier__C": [0.1, 1.0]}
        expected, test_score = reference(mixed_types(), grid, data)
        found = compute(cluster, Search(grid=grid), Inputs(data, mixed_types(), 0, "auto"))
        np.testing.assert_allclose(
            found.tables["cv_results"]["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-12
        )
        assert found.metrics["test_scores"]["score"] == pytest.approx(test_score, rel=1e-12)

    @pytest.mark.parametrize("target", ["species", "body_mass_g"])
    def test_tabular_fits_and_predicts(self, cluster: Cluster, penguins: TableFile, target: str) -> None:
        data = load(TableFile(path=penguins.path, target=target))
        assert isinstance(data, Dataset)
        kind = "classifier" if target == "species" else "regressor"
        with pytest.warns(UserWarning, match="2 of 344 samples have no target") if target != "species" else _quiet():
            found = compute(cluster, FitEstimator(test_size=None), Inputs(data, tabular(), 0, "auto"))
        known = data.take(~pd.isna(data.y))
        alone = set_seeds(tabular_pipeline(kind)).fit(known.X, known.y)
        np.testing.assert_array_equal(found.model.predict(known.X), alone.predict(known.X))
        predicted = compute(cluster, Predict(block_size=100), Inputs(data, found.model, 0))
        assert predicted.metrics["n_samples"] == 344
        assert predicted.metrics["score"] == pytest.approx(alone.score(known.X, known.y), rel=1e-12)

    def test_training_and_prediction_in_one_run(self, cluster: Cluster, penguins: TableFile) -> None:
        data = load(penguins)
        assert isinstance(data, Dataset)
        outcome = compute(cluster, Predict(train=penguins), Inputs(data, LogisticRegression(), 0, "auto"))
        alone = set_seeds(tabular_pipeline(LogisticRegression())).fit(data.X, data.y)
        assert outcome.metrics["score"] == pytest.approx(alone.score(data.X, data.y), rel=1e-12)


class TestOtherForms:
    def test_sparse_samples(self, cluster: Cluster) -> None:
        X = scipy.sparse.random_array((120, 30), density=0.1, format="csr", rng=np.random.default_rng(0))
        y = np.arange(120) % 3
        data = Dataset(X=X, y=y)
        expected, test_score = reference(LinearSVC(random_state=0), {"C": [0.1, 1.0]}, data)
        found = compute(cluster, Search(grid={"C": [0.1, 1.0]}), Inputs(data, LinearSVC(random_state=0), 0))
        np.testing.assert_allclose(
            found.tables["cv_results"]["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-12
        )
        assert found.metrics["test_scores"]["score"] == pytest.approx(test_score, rel=1e-12)
        outcome = compute(cluster, Predict(block_size=50), Inputs(data, expected.best_estimator_, 0))
        assert outcome.metrics["score"] == expected.best_estimator_.score(X, y)

    def test_several_labels_and_targets(self, cluster: Cluster) -> None:
        X, y = make_multilabel_classification(n_samples=90, random_state=0)
        found = compute(
            cluster,
            FitEstimator(test_size=None),
            Inputs(Dataset(X=X, y=y), RandomForestClassifier(5, random_state=0), 0),
        )
        alone = RandomForestClassifier(5, random_state=0).fit(X, y)
        np.testing.assert_array_equal(found.model.predict(X), alone.predict(X))
        outputs = compute(cluster, Search(), Inputs(Dataset(X=X, y=X[:, :2]), Ridge(), 0))
        assert outputs.model.coef_.shape == (2, X.shape[1])

    def test_text_columns_are_rejected_by_workloads_for_numbers(self, penguins: TableFile) -> None:
        from sklearn.linear_model import SGDClassifier

        from hpcml.workloads.incremental import Incremental
        from hpcml.workloads.kmeans import KMeans

        message = r"columns that are not numeric: 'island' \(text\), 'sex' \(text\), and .* takes numbers"
        for workload, model in ((KMeans(), None), (Incremental(), SGDClassifier())):
            with pytest.raises(ConfigError, match=message):
                workload.prepare(Inputs(load(penguins), model, 0))

    def test_a_transformer_that_would_be_ignored_is_rejected(self) -> None:
        from hpcml.workloads.kmeans import KMeans

        with pytest.raises(ConfigError, match="preprocess: workload=kmeans takes no transformer"):
            KMeans().prepare(Inputs(Dataset(X=np.eye(9)), None, 0, StandardScaler()))
        fitted = Ridge().fit(np.eye(3), [1, 2, 3])
        with pytest.raises(ConfigError, match="a model that is already fitted takes no transformer"):
            Predict().prepare(Inputs(Dataset(X=np.eye(3)), fitted, 0, StandardScaler()))


def set_seeds(pipeline: Any) -> Any:
    set_seed(pipeline, 0)
    return pipeline


def _quiet() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("model", [LogisticRegression(), tabular()])
def test_categories_that_the_model_does_not_know(cluster: Cluster, penguins: TableFile, model: Any) -> None:
    data = load(penguins)
    assert isinstance(data, Dataset)
    known = data.take(np.asarray(data.X["island"] != "Biscoe"))
    fitted = compute(cluster, FitEstimator(test_size=None), Inputs(known, model, 0, "auto")).model
    outcome = compute(cluster, Predict(block_size=100), Inputs(data, fitted, 0))
    assert outcome.warnings == ["column 'island' has values that the model was not fitted on: 'Biscoe'"]
    assert outcome.metrics["n_samples"] == 344
    assert compute(cluster, Predict(), Inputs(known, fitted, 0)).warnings == []


def test_columns_whose_names_are_numbers(cluster: Cluster) -> None:
    """As pandas names them without a header."""
    X = pd.DataFrame({0: np.arange(60.0), 1: ["red", "blue", "green"] * 20, 2: np.arange(60) % 7})
    data = Dataset(X=X, y=np.arange(60) % 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = compute(cluster, FitEstimator(test_size=None), Inputs(data, LogisticRegression(), 0, "auto")).model
    assert compute(cluster, Predict(), Inputs(data, model, 0)).warnings == []


def test_categories_that_are_numbers_are_known(cluster: Cluster) -> None:
    X = pd.DataFrame({"a": pd.Categorical([1, 2, 3] * 20), "b": ["x", "?", "N/A"] * 20, "c": np.arange(60.0) % 50})
    data = Dataset(X=X, y=np.arange(60) % 2)
    model = compute(cluster, FitEstimator(test_size=None), Inputs(data, LogisticRegression(), 0, "auto")).model
    assert compute(cluster, Predict(), Inputs(data, model, 0)).warnings == []


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (pd.DataFrame({"a": [[1], [2]] * 10, "b": range(20)}), np.arange(20) % 2),
        (pd.DataFrame(np.arange(40.0).reshape(20, 2), columns=["a", "a"]), np.arange(20) % 2),
        (pd.DataFrame({"a": range(20), "b": [np.nan] * 20}), np.arange(20) + 0.5),
    ],
)
def test_warnings_never_end_a_run(X: Any, y: Any) -> None:
    data = Dataset(X=X, y=y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_about(data, LogisticRegression() if y.dtype.kind == "i" else Ridge())
    assert all(str(warning.message).startswith("data: ") for warning in caught)


def test_numbers_without_relation_are_no_copy_of_the_target() -> None:
    rng = np.random.default_rng(0)
    warn_about(Dataset(X=pd.DataFrame({"a": rng.normal(size=400)}), y=rng.permutation(400) * 1000), Ridge())
    with pytest.warns(UserWarning, match="column 'a' is a copy or an encoding of the target"):
        warn_about(Dataset(X=pd.DataFrame({"a": np.arange(400) / 7}), y=np.arange(400)), Ridge())
