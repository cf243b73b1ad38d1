"""Test that each of scikit-learn's estimators is described, checked and fitted, as a search or a fit does it."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import get_tags
from sklearn.utils.discovery import all_estimators

import hpcml
from hpcml.describe import describe
from hpcml.plan import check
from hpcml.spec import LocalSpec, RunSpec

# Transformers of targets, of dicts and of nothing, which no workload fits.
NOT_FOR_DATA = {"DictVectorizer", "FrozenEstimator", "LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer"}

OWN: dict[str, Any] = {
    "CCA": {"n_components": 1},
    "ColumnTransformer": {"transformers": [("all", "passthrough", [0, 1])]},
    "FeatureUnion": {"transformer_list": [("all", "passthrough")]},
    "GaussianRandomProjection": {"n_components": 2},
    "GridSearchCV": {"param_grid": {"C": [1.0]}},
    "HalvingGridSearchCV": {"param_grid": {"C": [1.0]}},
    "HalvingRandomSearchCV": {"param_distributions": {"C": [1.0]}},
    "PLSCanonical": {"n_components": 1},
    "PLSSVD": {"n_components": 1},
    "Pipeline": {"steps": [("only", LogisticRegression())]},
    "RandomizedSearchCV": {"param_distributions": {"C": [1.0]}, "n_iter": 1},
    "SparseCoder": {"dictionary": np.eye(4)},
    "SparseRandomProjection": {"n_components": 2},
}
FOR_REGRESSION = {
    "IsotonicRegression",
    "MultiOutputRegressor",
    "RegressorChain",
    "StackingRegressor",
    "VotingRegressor",
}


def build(name: str, cls: Any) -> Any:
    found = inspect.signature(cls).parameters
    part = Ridge() if name in FOR_REGRESSION else LogisticRegression(max_iter=20)
    parameters = dict(OWN.get(name, {}))
    if "estimators" in found:
        parameters["estimators"] = [("first", part), ("second", part)]
    wanted = found.get("estimator")
    if wanted is not None and (wanted.default is inspect.Parameter.empty or name == "SelfTrainingClassifier"):
        parameters["estimator"] = part
    return cls(**parameters)


def data_for(name: str, estimator: Any) -> tuple[Any, Any]:
    tags = get_tags(estimator)
    X, y = load_iris(return_X_y=True)
    if tags.input_tags.string and not tags.input_tags.two_d_array:
        return np.array(["one or two words", "three other words"] * 75, dtype=object), None
    if tags.input_tags.pairwise:
        return X @ X.T, y
    if name == "IsotonicRegression":
        return X[:, :1], X[:, 1]
    if name in ("ClassifierChain", "MultiOutputClassifier"):
        return X, np.column_stack([y == 0, y == 1]).astype(int)
    if tags.estimator_type == "regressor":
        target = X[:, 0] * 2 + X[:, 1]
        return X, target if tags.target_tags.single_output else np.column_stack([target, y])
    return X, (y > 0).astype(int)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "cls"), [entry for entry in all_estimators() if entry[0] not in NOT_FOR_DATA])
def test_an_estimator(name: str, cls: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = build(name, cls)
        again = instantiate(describe(estimator), _convert_="all")
        assert type(again) is type(estimator)
        assert again.get_params(deep=False).keys() == estimator.get_params(deep=False).keys()
        X, y = data_for(name, estimator)
        workload: Any = hpcml.FitEstimator(test_size=None, parallel="none")
        if hasattr(estimator, "score"):
            workload = hpcml.Search(cv=2)
        tried = check(RunSpec(workload, (X, y), estimator, cluster=LocalSpec(workers=1))).prepared.trial
        assert tried is not None
        tried.fit(*tried.sample(200), {})
