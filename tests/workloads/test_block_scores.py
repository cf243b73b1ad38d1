"""Test that scores over blocks equal scikit-learn's on the whole data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, get_scorer

from hpcml.errors import ConfigError
from hpcml.workloads.inputs import block_scores

IRIS, CANCER, DIABETES = (load(return_X_y=True) for load in (load_iris, load_breast_cancer, load_diabetes))

BINARY = {"f1", "jaccard", "precision", "recall"}


def data_of(name: str) -> tuple[Any, Any, Any]:
    if name in block_scores._OF_NUMBERS:
        return *DIABETES, Ridge()
    return *(CANCER if name in BINARY else IRIS), LogisticRegression(max_iter=5000)


@pytest.mark.parametrize("name", block_scores.NAMES)
@pytest.mark.parametrize("bounds", [[0, 50, 120], [0, 1, 2, 70], [0]])
def test_equal_to_scikit_learn(name: str, bounds: list[int]) -> None:
    X, y, model = data_of(name)
    model.fit(X[::3], y[::3])
    score = block_scores.resolve(name, model)
    assert score is not None
    ends = [*bounds[1:], len(X)]
    parts = [score.part(model, X[begin:end], y[begin:end]) for begin, end in zip(bounds, ends, strict=True)]
    assert score.of(parts) == pytest.approx(get_scorer(name)(model, X, y), rel=1e-12)


def test_text_labels_and_one_that_the_model_does_not_know() -> None:
    X, y = IRIS
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = LogisticRegression(max_iter=5000).fit(X[:100], names[:100])
    score = block_scores.Score("f1_macro")
    parts = [score.part(model, X[part], names[part]) for part in (slice(0, 75), slice(75, 150))]
    assert score.of(parts) == pytest.approx(get_scorer("f1_macro")(model, X, names))


def own(model: Any, X: Any, y: Any) -> float:
    return float((model.predict(X) == y).mean())


def test_own_scorer_is_a_mean_over_the_rows() -> None:
    X, y, model = data_of("accuracy")
    model.fit(X, y)
    score = block_scores.resolve(own, model)
    assert score is not None
    parts = [score.part(model, X[:10], y[:10]), score.part(model, X[10:], y[10:])]
    assert score.of(parts) == pytest.approx(own(model, X, y))


def test_what_fits_the_model() -> None:
    assert block_scores.resolve(None, LogisticRegression()) == block_scores.Score("accuracy")
    assert block_scores.resolve(None, Ridge()) == block_scores.Score("r2")
    assert block_scores.resolve(None, KMeans()) is None
    assert block_scores.resolve(False, Ridge()) is None
    for scoring, model, told in (
        ("r2", LogisticRegression(), "a score of numbers, and LogisticRegression predicts classes\n.*accuracy"),
        ("accuracy", Ridge(), "a score of classes, and Ridge predicts numbers\n.*r2"),
        ("roc_auc", LogisticRegression(), "not one that can be summed up over blocks"),
        (3, Ridge(), "neither a score's name nor a callable"),
        ("sklearn.metrics.accuracy_score", LogisticRegression(), "accuracy_score is a metric .*\n.*make_scorer"),
        (accuracy_score, LogisticRegression(), "accuracy_score is a metric of y_true and y_pred, not a scorer"),
        ("math.sqrt", Ridge(), "scoring=math.sqrt: a scorer takes estimator, X and y, and this takes others"),
    ):
        with pytest.raises(ConfigError, match=told):
            block_scores.resolve(scoring, model)
