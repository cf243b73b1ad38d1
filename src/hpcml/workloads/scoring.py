"""Scorers: scikit-learn's by name, the user's own by import path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.metrics import get_scorer, get_scorer_names

from hpcml.errors import ConfigError, nearest
from hpcml.targets import locate


def resolve_scoring(scoring: Any, model: Any) -> Any:
    """Make of a config's ``scoring`` what scikit-learn's searches take.

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
        return {str(value).rpartition(".")[2]: _scorer(value) for value in scoring}
    return _scorer(scoring)


def _scorer(value: Any) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise ConfigError(f"workload.scoring={value!r}: neither a scorer's name nor a callable")
    if value in get_scorer_names():
        return get_scorer(value)
    if "." in value:
        return locate(value, "workload.scoring")
    raise ConfigError(f"workload.scoring={value}: unknown", nearest(value, get_scorer_names(), most=5))
