"""Trials of estimators: what workloads fit on a few training samples before a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sklearn.utils import get_tags

from hpcml.workloads.inputs.checks import classifies
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.trial.trial import Trial


def trial(
    fit: Callable[[Any, Any, Mapping[str, Any]], None],
    model: Any,
    split: Split,
    candidates: Sequence[Mapping[str, Any]] = ({},),
) -> Trial:
    """Describe the trial of a model.

    Parameters
    ----------
    fit : callable
        See :class:`hpcml.workloads.trial.trial.Trial`.
    """
    has_classes = classifies(model) and split.y is not None and split.y.ndim == 1
    return Trial(fit, split.X, split.y, has_classes, is_pairwise(model), candidates)


def is_pairwise(model: Any) -> bool:
    """Return whether a model takes a matrix with a row and a column for each sample."""
    try:
        return bool(get_tags(model).input_tags.pairwise)
    except AttributeError:  # not a BaseEstimator
        return False
