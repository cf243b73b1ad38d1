"""Rebuild described objects from their config: all estimators and all kinds of parameters."""

from __future__ import annotations

import inspect
import operator
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, DictionaryLearning
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedGroupKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.discovery import all_estimators

from hpcml.describe import describe
from hpcml.upstream.hydra import instantiate

# Constructor arguments; classes that are not listed accept any estimator.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ColumnTransformer": {"transformers": [("scale", StandardScaler(), [0, 1]), ("rest", "passthrough", slice(2, 4))]},
    "FeatureUnion": {"transformer_list": [("pca", PCA(n_components=2)), ("scale", StandardScaler())]},
    "GridSearchCV": {"estimator": Ridge(), "param_grid": {"alpha": [0.1, 1.0]}},
    "HalvingGridSearchCV": {"estimator": Ridge(), "param_grid": {"alpha": [0.1, 1.0]}},
    "RandomizedSearchCV": {"estimator": Ridge(), "param_distributions": {"alpha": [0.1, 1.0]}},
    "HalvingRandomSearchCV": {"estimator": Ridge(), "param_distributions": {"alpha": [0.1, 1.0]}},
    "Pipeline": {"steps": [("scale", StandardScaler()), ("ridge", Ridge())]},
    "SparseCoder": {"dictionary": np.eye(3)},
    "StackingClassifier": {"estimators": [("a", LogisticRegression()), ("b", RandomForestClassifier())]},
    "StackingRegressor": {"estimators": [("a", Ridge()), ("b", Ridge(alpha=2.0))]},
    "VotingClassifier": {"estimators": [("a", LogisticRegression()), ("b", RandomForestClassifier())]},
    "VotingRegressor": {"estimators": [("a", Ridge()), ("b", Ridge(alpha=2.0))]},
}


def again(value: Any) -> Any:
    """Describe a value, pass it through YAML as config.yaml does, and build it."""
    return instantiate({"value": yaml.safe_load(yaml.safe_dump(describe(value)))})["value"]


def parameters(value: Any) -> Any:
    """Return a comparable form of an object: its type and all parameters, recursively."""
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.tolist())
    if hasattr(value, "get_params") and not isinstance(value, type):
        return type(value), {name: parameters(item) for name, item in value.get_params(deep=False).items()}
    if isinstance(value, list | tuple):
        return type(value), [parameters(item) for item in value]
    if isinstance(value, dict):
        return {name: parameters(item) for name, item in value.items()}
    if isinstance(value, float):
        return repr(float(value))  # NaN does not equal itself.
    if hasattr(value, "__dict__") and not callable(value):
        return type(value), parameters(vars(value))
    return value


def make(cls: type) -> Any:
    wanted = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return cls(**(ARGUMENTS.get(cls.__name__) or {key: Ridge() for key in wanted}))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # for classes deprecated by scikit-learn
@pytest.mark.parametrize(("name", "cls"), all_estimators())
def test_every_estimator(name: str, cls: type) -> None:
    estimator = make(cls)
    assert parameters(again(estimator)) == parameters(estimator)


@pytest.mark.parametrize(
    "value",
    [
        make_pipeline(OneHotEncoder(dtype=np.float32), LogisticRegression()),
        ColumnTransformer([("text", OneHotEncoder(), ["a", "b"]), ("rest", SimpleImputer(), slice(1, None))]),
        FunctionTransformer(np.log1p, inverse_func=np.expm1, kw_args={"where": True}),
        FunctionTransformer(operator.neg),
        GaussianProcessRegressor(kernel=RBF(2.0, (1e-3, 1e3)) + WhiteKernel()),
        DictionaryLearning(dict_init=np.arange(6.0).reshape(2, 3)),
        SimpleImputer(missing_values=np.nan),
        SimpleImputer(missing_values=-np.inf),
        KFold(4, shuffle=True, random_state=3),
        StratifiedGroupKFold(3),
        TimeSeriesSplit(n_splits=4, gap=2),
        {"vect__ngram_range": [(1, 1), (1, 2)], "clf": [Ridge(), LogisticRegression()], "dtype": [np.float32, bool]},
        {"weights": [np.array([0.5, 0.5]), None], "n": [np.int64(3), np.float64(0.5)]},
        {"criterion": [len, np.mean]},
    ],
    ids=lambda value: str(value)[:40],
)
def test_parameters_of_every_kind(value: Any) -> None:
    assert parameters(again(value)) == parameters(value)


def test_a_distribution() -> None:
    found = again({"C": stats.loguniform(0.1, 10)})["C"]
    assert (found.dist.name, found.support()) == ("loguniform", (0.1, 10.0))


def test_a_selector_of_columns() -> None:
    found = again(make_column_selector(pattern="^a", dtype_include=float))
    assert (found.pattern, found.dtype_include) == ("^a", float)


def test_data_and_lambdas_are_described_as_text() -> None:
    assert describe(np.zeros((200, 3))) == "array of shape (200, 3), float64"
    assert "lambda" in describe(lambda x: x)
