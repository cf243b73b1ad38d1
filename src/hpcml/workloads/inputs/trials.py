"""Trials of estimators: what workloads fit on a few training samples before a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcml.workloads.inputs.checks import classifies, is_pairwise
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.trial.trial import Trial


def trial(
    fit: Callable[[Any, Any, Mapping[str, Any]], None],
    model: Any,
    split: Split,
    candidates: Sequence[Mapping[str, Any]] = ({},),
    *,
    is_grid: bool = True,
) -> Trial:
    """Describe the trial of a model.

    Parameters
    ----------
    fit : callable
        See :class:`hpcml.workloads.trial.trial.Trial`.
    """
    has_classes = classifies(model) and split.y is not None and split.y.ndim == 1
    return Trial(fit, split.X, split.y, has_classes, is_pairwise(model), candidates, is_grid)
