"""Cross-validation on a worker: fits and scores one candidate on one fold, as scikit-learn does."""

from __future__ import annotations

import numbers
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring

from hpcml.data import samples
from hpcml.workloads.inputs.checks import is_pairwise
from hpcml.workloads.trial.trial import few_trees

# The training and test indices of a fold.
Fold = tuple[Any, Any]


@dataclass(frozen=True)
class Setup:
    """The settings that all fits of a search share.

    Parameters
    ----------
    scorer : callable
        Called with a fitted model, X and, if there is one, y; returns a number, or numbers by name.
    names : sequence of str
        The names of the scores, as far as they are known; ``score`` for a single one.
    error_score : float or "raise"
        The score of a fit or a scorer that fails.
    weight_argument : str or None
        The argument of ``fit`` that takes weights; None if there are none.
    """

    model: Any
    scorer: Any
    names: Sequence[str]
    error_score: Any
    return_train_score: bool
    weight_argument: str | None = None

    @classmethod
    def of(
        cls,
        model: Any,
        scoring: Any,
        error_score: Any,
        return_train_score: bool = False,
        weight_argument: str | None = None,
    ) -> Setup:
        """Resolve the scorer once for all fits.

        Parameters
        ----------
        scoring : None, callable, or dict of str to callable
        """
        # For several scorers, check_scoring returns one that predicts once for all.
        scorer = check_scoring(model, scoring)
        names = ["score"] if scoring is None else list(scoring) if isinstance(scoring, dict) else []
        return cls(model, scorer, names, error_score, return_train_score, weight_argument)

    def keywords(self, weights: Any) -> dict[str, Any]:
        """Return the arguments of a fit for the weights of its samples."""
        return {} if self.weight_argument is None else {self.weight_argument: weights}


@dataclass(frozen=True)
class Scored:
    """The fit of one candidate on one fold.

    Parameters
    ----------
    test, train : mapping of str to float
        Scores by scorer, ``score`` for a single one; of a failed fit, as far as the names are
        known.
    fit_s, score_s : float
        Seconds.
    traceback : str or None
        As text, if it failed.
    fitted : bool
        False if the fit failed, not just the score.
    """

    test: Mapping[str, float]
    train: Mapping[str, float]
    fit_s: float
    score_s: float
    traceback: str | None = None
    fitted: bool = True


def split(model: Any, X: Any, rows: Any, columns: Any = None) -> Any:
    """Return the samples of a fold; of a precomputed kernel matrix, its rows and columns.

    Parameters
    ----------
    columns : array or None
        The samples that the model was trained on; None: ``rows``.
    """
    if is_pairwise(model):
        return samples.whole(X)[np.ix_(rows, rows if columns is None else columns)]
    return samples.take(X, rows)


def fit_and_score(
    shared: tuple[Setup, Any, Any, Any], folds: Sequence[Fold], fold: int, parameters: Mapping[str, Any]
) -> Scored:
    """Fit a candidate on a fold's training samples and score it on its test samples, on a worker.

    Parameters
    ----------
    shared : tuple of (Setup, X, y, weights)

    Raises
    ------
    Exception
        Any error of the fit or the scorer, if ``error_score`` is "raise".
    """
    setup, X, y, weights = shared
    train, test = folds[fold]
    began = time.perf_counter()
    # Fits fill the cluster, so nested joblib calls of an estimator run sequentially.
    with joblib.parallel_config(backend="sequential"):
        try:
            model = clone(setup.model).set_params(**clone(parameters, safe=False))
            X_train, y_train = split(model, X, train), None if y is None else y[train]
            keywords = setup.keywords(None if weights is None else weights[train])
            if y is None:
                model.fit(X_train, **keywords)
            else:
                model.fit(X_train, y_train, **keywords)
        except Exception:
            if setup.error_score == "raise":
                raise
            return failed(setup, time.perf_counter() - began, traceback.format_exc(), fitted=False)
        fitted = time.perf_counter()
        try:
            scores = score(setup.scorer, model, split(model, X, test, train), None if y is None else y[test])
            in_training = score(setup.scorer, model, X_train, y_train) if setup.return_train_score else {}
        except Exception:
            if setup.error_score == "raise":
                raise
            return failed(setup, fitted - began, traceback.format_exc(), fitted=True)
    return Scored(scores, in_training, fitted - began, time.perf_counter() - fitted)


def try_candidate(setup: Setup, X: Any, y: Any, parameters: Mapping[str, Any]) -> None:
    """Fit and score a candidate on a few samples.

    Raises
    ------
    Exception
        Any error of the fit or the scorer.
    """
    model = clone(setup.model).set_params(**clone(parameters, safe=False))
    model.set_params(**few_trees(model.get_params(deep=True)))
    rows = np.arange(X.shape[0])
    weights = None if setup.weight_argument is None else np.ones(len(rows))
    fit_and_score((replace(setup, model=model, error_score="raise"), X, y, weights), [(rows, rows)], 0, {})


def failed(setup: Setup, fit_s: float, text: str, *, fitted: bool) -> Scored:
    """Return the result of a failed fit.

    Parameters
    ----------
    text : str
        The traceback, or the reason.
    """
    scores = dict.fromkeys(setup.names, setup.error_score)
    return Scored(scores, dict(scores), fit_s, 0.0, text, fitted)


def score(scorer: Any, model: Any, X: Any, y: Any) -> dict[str, float]:
    """Score a fitted model.

    Returns
    -------
    dict of str to float
        Scores by scorer; ``score`` for a single one.
    """
    X = samples.whole(X)
    found = scorer(model, X) if y is None else scorer(model, X, y)
    if not isinstance(found, dict):
        return {"score": _number(found, scorer)}
    return {name: _number(value, scorer) for name, value in found.items()}


def _number(value: Any, scorer: Any) -> float:
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, numbers.Number):
        raise ValueError(f"scoring must return a number, got {value!r} ({type(value)}) from {scorer}")
    return float(value)  # type: ignore[arg-type]  # a complex Number fails here


def refit(shared: tuple[Setup, Any, Any, Any], parameters: Mapping[str, Any]) -> Any:
    """Fit a candidate on all samples, on a worker."""
    setup, X, y, weights = shared
    X, keywords = samples.whole(X), setup.keywords(weights)
    model = clone(setup.model).set_params(**clone(parameters, safe=False))
    with joblib.parallel_config(backend="sequential"):
        return model.fit(X, **keywords) if y is None else model.fit(X, y, **keywords)
