"""Wrap private parts of scikit-learn: parameter checks, scorers, forests, joblib calls."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

VERIFIED = "1.9.1"


def validate_parameters(estimator: Any) -> None:
    """Run scikit-learn's own check of an estimator's parameter values; do nothing if it has none.

    Needed by ``inputs.checks.check_values``, which rejects a wrong value before a cluster starts.
    Public API missing: scikit-learn runs this check in ``fit`` only.

    Raises
    ------
    ValueError
        scikit-learn's InvalidParameterError; :func:`rejected_parameter` reads its message.
    """
    validate = getattr(estimator, "_validate_params", None)
    if validate is not None and not isinstance(estimator, type) and hasattr(estimator, "_parameter_constraints"):
        validate()


def takes_tuple(estimator: Any, name: str) -> bool:
    """Return whether a parameter of an estimator takes a tuple, and no list.

    Needed by ``inputs.tuples``, because configs have lists only. Public API missing: only the
    constraints that :func:`validate_parameters` checks contain the types.
    """
    constraints = getattr(type(estimator), "_parameter_constraints", {}).get(name)
    if not isinstance(constraints, list):
        return False
    return tuple in constraints and not any(kind in ("array-like", list) for kind in constraints if _is_name(kind))


def _is_name(constraint: Any) -> bool:
    return isinstance(constraint, (str, type))


def rejected_parameter(error: ValueError) -> str | None:
    """Return the name of the parameter that an InvalidParameterError rejects.

    Needed by ``inputs.checks.check_values``, which ignores parameters that a search varies. Public
    API missing: only the message has the name.
    """
    found = re.search(r"The '(\w+)' parameter of", str(error))
    return found[1] if found else None


def metric_of(scorer: Any) -> Any:
    """Return the metric of a scorer made by ``make_scorer``; None for any other callable.

    Needed by ``inputs.scoring.check_scores``, which tries scikit-learn's own scorers, and only
    these, on a dummy. Public API missing: a scorer has no public attribute for its metric.
    """
    return getattr(scorer, "_score_func", None)


def score_labels(scorer: Any, true: Any, predicted: Any, weights: Sequence[float]) -> float:
    """Score predicted labels without a model.

    Needed by ``inputs.block_scores``, which counts pairs of labels block by block and scores the
    counts at the end. Public API missing: ``get_scorer`` returns a callable that needs an estimator
    and X.

    Parameters
    ----------
    scorer : callable
        From ``sklearn.metrics.get_scorer``.
    true, predicted : array of shape (n_samples,)
    weights : sequence of float
        Weights of the samples.
    """
    return float(scorer._sign * scorer._score_func(true, predicted, sample_weight=weights, **scorer._kwargs))


def is_forest(model: Any) -> bool:
    """Return whether scikit-learn's own ``fit`` of random forests and extra trees fits this model.

    Needed by ``fit.forest``; a class that overrides ``fit`` does more than grow trees, for example
    IsolationForest. Public API missing: all forests inherit ``fit`` from a private base class.
    """
    from sklearn.ensemble import RandomForestClassifier

    return getattr(type(model), "fit", None) is RandomForestClassifier.fit


def grow_trees(forest: Any, begin: int, X: Any, y: Any, keywords: Mapping[str, Any]) -> Any:
    """Fit the trees of a forest from number ``begin`` on, with their seeds in the whole forest.

    Needed by ``fit.forest``, which grows chunks of one forest on different workers. Public API
    missing: seeds of trees are drawn inside ``fit``. A warm start draws a seed for each existing
    tree and discards it, whatever the tree.

    Parameters
    ----------
    forest : estimator
        Not fitted, with ``warm_start=True`` and ``n_estimators`` set to the end of the chunk;
        modified in place.
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,) or (n_samples, n_outputs)
    keywords : mapping
        More arguments of ``fit``.

    Returns
    -------
    estimator
        The forest with these trees only.
    """
    forest.estimators_ = [None] * begin
    forest.fit(X, y, **keywords)
    forest.estimators_ = forest.estimators_[begin:]
    return forest


def score_out_of_bag(forest: Any, X: Any, y: Any) -> Mapping[str, Any]:
    """Score a fitted forest on the samples that its trees have not seen.

    Needed by ``fit.forest``, which puts a forest together from chunks. Public API missing:
    scikit-learn computes out-of-bag scores inside ``fit`` only, and also in a warm start that has
    no tree left to grow.

    Returns
    -------
    mapping of str to object
        The attributes that this has added to the forest.
    """
    before = set(vars(forest))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warm-start fitting without increasing")
        warnings.filterwarnings("ignore", "class_weight presets")
        forest.fit(X, y)
    return {name: value for name, value in vars(forest).items() if name not in before}


def without_callbacks(keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keyword arguments of a joblib call without those for callbacks of a search.

    Needed by ``TaskPoolBackend``: since scikit-learn 1.9 each call would include the search and the
    nodes of all other calls, which costs 20 ms of pickling per call at 2400 fits. Public API
    missing: callbacks cannot be switched off.
    """
    return {**keywords, "callback_ctx": None, "caller": None} if "callback_ctx" in keywords else keywords


def called_function(function: Any) -> Any:
    """Return the function that joblib is to call, without scikit-learn's wrapper.

    Needed by ``TaskPoolBackend``, which names units after functions. Public API missing:
    ``sklearn.utils.parallel.delayed`` wraps a function in a private class.
    """
    return getattr(function, "function", function)
