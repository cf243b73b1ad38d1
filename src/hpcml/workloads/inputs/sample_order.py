"""Splitters that depend on the order of the samples: shuffling first inflates their scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sklearn.model_selection import GroupKFold, PredefinedSplit, StratifiedGroupKFold, TimeSeriesSplit

# These have a `shuffle` parameter, yet group the same samples whatever their order.
_BY_GROUP = (GroupKFold, StratifiedGroupKFold)


def find_ordered(cv: Any, model: Any) -> str | None:
    """Return the key and value of a splitter that depends on the order of the samples, or None.

    Parameters
    ----------
    cv : int or splitter or None
        The workload's splitter.
    model : estimator
        Its own splitters count too, such as that of a ``LogisticRegressionCV``.
    """
    if depends_on_order(cv):
        return f"workload.cv={shown(cv)}"
    parameters = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    for name, value in sorted(parameters.items()):
        if name.rpartition("__")[2] == "cv" and depends_on_order(value):
            return f"model.{name.replace('__', '.')}={shown(value)}"
    return None


def depends_on_order(cv: Any) -> bool:
    """Return whether a splitter produces other folds if the samples are reordered.

    A splitter from outside scikit-learn may do so and is assumed to.
    """
    if cv is None or isinstance(cv, (int, str)):
        return False
    if isinstance(cv, (TimeSeriesSplit, PredefinedSplit)) or is_index_pairs(cv):
        return True
    if isinstance(cv, _BY_GROUP):
        return False
    if type(cv).__module__.startswith("sklearn."):
        return getattr(cv, "shuffle", None) is False
    return True


def is_index_pairs(cv: Any) -> bool:
    """Return whether folds are given as pairs of indices, for training and test."""
    return isinstance(cv, Iterable) and not isinstance(cv, (str, dict)) and not hasattr(cv, "split")


def shown(cv: Any) -> str:
    """Render a splitter as text; of pairs of indices, only their number."""
    if is_index_pairs(cv):
        return f"[{len(list(cv))} pairs of indices]"
    if isinstance(cv, PredefinedSplit):
        return f"PredefinedSplit of {len(cv.test_fold)} samples"
    return str(cv)
