"""A wrapper of gradient boosters: classes of any name, and samples of their own to stop early."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from hpcml.data import samples

# Parameters of XGBoost, LightGBM and CatBoost that stop a fit by its score on other samples.
_EARLY_STOPPING = ("early_stopping_rounds", "early_stopping_round")


def early_stopping(model: Any) -> str | None:
    """Return the parameter by which a booster stops early; None if it is not set."""
    parameters = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    return next((name for name in _EARLY_STOPPING if parameters.get(name)), None)


def numbers_classes(model: Any) -> bool:
    """Return whether a model takes the classes 0, 1, ... only."""
    return bool(type(model).__module__.startswith("xgboost.") and is_classifier(model))


def _evaluation(booster: Any, X: Any, y: Any) -> dict[str, Any]:
    """Return the arguments of a booster's fit for the samples that evaluate it."""
    if type(booster).__module__.startswith("xgboost."):
        return {"eval_set": [(X, y)], "verbose": False}
    if "eval_X" in inspect.signature(booster.fit).parameters:  # LightGBM since 4.7
        return {"eval_X": X, "eval_y": y}
    return {"eval_set": [(X, y)]}


def _has(name: str) -> Any:
    return available_if(lambda self: hasattr(getattr(self, "estimator_", self.estimator), name))


def wrap(model: Any, y: Any, varied: Collection[str] = ()) -> Any:
    """Put a booster, or the booster at the end of a pipeline, into a :class:`Booster` if it needs one.

    Parameters
    ----------
    y : array of shape (n_samples,) or None
        The target.
    varied : collection of str
        Parameters that a search varies.
    """
    last = model.steps[-1][1] if isinstance(model, Pipeline) and model.steps else model
    if not needs_wrapping(last, y, varied):
        return model
    if last is model:
        return Booster(model)
    return Pipeline([*model.steps[:-1], (model.steps[-1][0], Booster(last))])


def needs_wrapping(model: Any, y: Any, varied: Collection[str] = ()) -> bool:
    """Return whether a booster may stop early, or takes other classes than those of ``y``."""
    if y is None or isinstance(model, Booster):
        return False
    if early_stopping(model) is not None:
        return True
    own = model.get_params(deep=False) if hasattr(model, "get_params") else {}
    if any(name.rpartition("__")[2] in _EARLY_STOPPING and name.rpartition("__")[2] in own for name in varied):
        return True
    if not numbers_classes(model):
        return False
    classes = np.unique(y)
    return not np.array_equal(classes, np.arange(len(classes)))


class Booster(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A booster of XGBoost, LightGBM or CatBoost with what scikit-learn's estimators can do.

    It numbers classes, because XGBoost takes no others, and gives their names back. If the booster
    stops early, each fit holds out a share of its samples to evaluate it. The booster's parameters
    are those of this estimator too, so that grids name them as before.

    Parameters
    ----------
    estimator : estimator
        The booster.
    eval_size : float
        The share of the samples of a fit that evaluate it, 0 to 1, if the booster stops early.

    Attributes
    ----------
    estimator_ : estimator
        The fitted booster.
    classes_ : ndarray of shape (n_classes,)
        The classes, of a classifier.
    """

    def __init__(self, estimator: Any, eval_size: float = 0.1) -> None:
        self.estimator = estimator
        self.eval_size = eval_size

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; if ``deep``, those of the booster too, under their own names."""
        own = {"estimator": self.estimator, "eval_size": self.eval_size}
        return {**self.estimator.get_params(deep=True), **own} if deep else own

    def set_params(self, **parameters: Any) -> Booster:
        """Set parameters of this estimator or of the booster."""
        own = {name: parameters.pop(name) for name in ("estimator", "eval_size") if name in parameters}
        for name, value in own.items():
            setattr(self, name, value)
        if parameters:
            self.estimator.set_params(**parameters)
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Booster:
        """Fit the booster.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,) or None
            Weights of the samples that are fitted; those that evaluate have none.
        """
        booster, target = clone(self.estimator), np.asarray(y)
        rows, others = self._split(target)
        if is_classifier(booster) and target.ndim == 1:
            self.classes_, target = np.unique(target, return_inverse=True)
        keywords: dict[str, Any] = {}
        if sample_weight is not None:
            keywords["sample_weight"] = np.asarray(sample_weight)[rows]
        if len(others):
            keywords |= _evaluation(booster, samples.take(X, others), target[others])
        self.estimator_ = booster.fit(samples.take(X, rows), target[rows], **keywords)
        return self

    def _split(self, y: Any) -> tuple[Any, Any]:
        """Return the rows to fit, and those to evaluate the fit on."""
        rows = np.arange(len(y))
        if early_stopping(self.estimator) is None:
            return rows, rows[:0]
        seed = self.estimator.get_params().get("random_state") or 0
        if not is_classifier(self.estimator) or y.ndim > 1:
            return tuple(train_test_split(rows, test_size=self.eval_size, random_state=seed))
        _, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
        single = counts[numbers] == 1  # All classes have to be fitted.
        evaluated = min(1.0, max(self.eval_size, len(counts) / max(1, int((~single).sum()))))
        fitted, others = train_test_split(
            rows[~single], test_size=evaluated, random_state=seed, stratify=numbers[~single]
        )
        return np.sort(np.concatenate([fitted, rows[single]])), others

    def predict(self, X: Any) -> Any:
        """Predict the target, of shape (n_samples,)."""
        found = self.estimator_.predict(X)
        return self.classes_[np.ravel(found).astype(int)] if hasattr(self, "classes_") else found

    @_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, of shape (n_samples, n_classes)."""
        return self.estimator_.predict_proba(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of a classifier, or R2 of a regressor."""
        metric = accuracy_score if is_classifier(self.estimator) else r2_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    @property
    def n_features_in_(self) -> int:
        return int(self.estimator_.n_features_in_)

    @property
    def feature_names_in_(self) -> Any:
        return self.estimator_.feature_names_in_

    @property
    def feature_importances_(self) -> Any:
        return self.estimator_.feature_importances_

    def __sklearn_tags__(self) -> Any:
        return self.estimator.__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")
