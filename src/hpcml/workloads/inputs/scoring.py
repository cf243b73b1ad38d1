"""Scorers: scikit-learn's by name, users' own by import path."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import get_scorer, get_scorer_names

from hpcml.data import in_memory
from hpcml.errors import ConfigError, nearest
from hpcml.targets import locate
from hpcml.upstream import sklearn as upstream
from hpcml.workloads.base import Inputs
from hpcml.workloads.inputs.checks import classifies, regresses


def resolve_scoring(scoring: Any, model: Any) -> Any:
    """Resolve the ``scoring`` key of a config to a value that scikit-learn's searches accept.

    Parameters
    ----------
    scoring : None, str, callable, list of str, or mapping of str to str or callable
        A name with a dot is imported: a callable ``(estimator, X, y) -> float``.

    Returns
    -------
    None, callable, or dict of str to callable

    Raises
    ------
    ConfigError
        If a scorer is unknown, or none is given and the model has no ``score``.
    """
    if scoring is None:
        if not hasattr(model, "score"):
            raise ConfigError(
                f"workload.scoring=null: {type(model).__name__} has no score method",
                "name one: workload.scoring=accuracy",
            )
        return None
    if isinstance(scoring, Mapping):
        return {str(name): _scorer(value) for name, value in scoring.items()}
    if isinstance(scoring, (list, tuple)):
        names = [str(getattr(value, "__name__", value)).rpartition(".")[2] for value in scoring]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"workload.scoring: two scorers are called {max(names, key=names.count)}",
                "give each a name: 'workload.scoring={a: ..., b: ...}'",
            )
        return dict(zip(names, map(_scorer, scoring), strict=True))
    return _scorer(scoring)


def _scorer(value: Any) -> Any:
    if callable(value):
        return check_scorer(value, value)
    if not isinstance(value, str):
        raise ConfigError(f"workload.scoring={value!r}: neither a scorer's name nor a callable")
    if value in get_scorer_names():
        return get_scorer(value)
    if "." in value:
        return check_scorer(locate(value, "workload.scoring"), value)
    raise ConfigError(f"workload.scoring={value}: unknown", nearest(value, get_scorer_names(), most=5))


def check_scorer(scorer: Any, given: Any) -> Any:
    """Reject a metric in place of a scorer: it takes y_true and y_pred and would fail each time.

    Parameters
    ----------
    scorer : callable
    given : object
        The scorer as the config names it.

    Returns
    -------
    callable
        The scorer.

    Raises
    ------
    ConfigError
    """
    if str(getattr(scorer, "__module__", "")).startswith("sklearn.metrics.") and hasattr(scorer, "__name__"):
        raise ConfigError(
            f"workload.scoring={given}: {scorer.__name__} is a metric of y_true and y_pred, not a scorer",
            f"wrap it: {{_target_: sklearn.metrics.make_scorer, score_func: {{_target_: sklearn.metrics."
            f"{scorer.__name__}, _partial_: true}}}}",
        )
    try:
        inspect.signature(scorer).bind("estimator", "X", "y")
    except TypeError as error:
        raise ConfigError(
            f"workload.scoring={given}: a scorer takes estimator, X and y, and this takes others: {error}",
            "wrap a metric of y_true and y_pred with sklearn.metrics.make_scorer",
        ) from error
    except ValueError:  # some compiled callables have no signature
        pass
    return scorer


# Samples that suffice to test a scorer.
_ENOUGH = 2000


def check_scores(scoring: Any, inputs: Inputs) -> None:
    """Check scikit-learn's scorers on a dummy model, because some do not fit some targets.

    Raises
    ------
    ConfigError
        For example for ``f1``, which takes two classes, on data with three.
    """
    data = None if inputs.data is None else in_memory(inputs.data)
    if data is None or data.y is None or not (classifies(inputs.model) or regresses(inputs.model)):
        return
    dummy = DummyClassifier(strategy="prior") if classifies(inputs.model) else DummyRegressor()
    step = max(1, data.n_samples // _ENOUGH)  # strided, because samples of a class may lie together
    some = data.labelled().take(slice(None, None, step))
    X, y = some.X, some.y
    dummy.fit(X, y)
    scorers = scoring if isinstance(scoring, dict) else {"score": scoring}
    for scorer in scorers.values():
        name = getattr(upstream.metric_of(scorer), "__name__", None)
        if name is None:  # a user's scorer may need attributes that a dummy model lacks
            continue
        try:
            scorer(dummy, X, y)
        except ValueError as error:
            raise ConfigError(
                f"workload.scoring: {name} does not go with this target: {error}",
                "choose another: accuracy, f1_macro, roc_auc_ovr, r2, neg_mean_absolute_error, ...",
            ) from error
