"""Fits that run their own joblib calls on the cluster; each finished call is a unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import joblib
from sklearn.base import MetaEstimatorMixin

from hpcml.workloads.engine.joblib_backend import TaskPoolBackend
from hpcml.workloads.engine.task_pool import TaskPool

# The most calls into which an ensemble divides its fits.
_CALLS = 256


def has_n_jobs(model: Any) -> bool:
    """Return whether the model, or a part of it, may call joblib."""
    return any(name.rpartition("__")[2] == "n_jobs" for name in model.get_params(deep=True))


def is_made_of_fits(model: Any) -> bool:
    """Return whether fitting the model consists of many fits.

    True for ensembles, one-vs-rest models, and models with their own cross-validation. Others have
    ``n_jobs`` too, but for threads that share memory or for prediction only, which gain nothing
    from a cluster.
    """
    last = model.steps[-1][1] if getattr(model, "steps", None) else model
    many = isinstance(last, MetaEstimatorMixin) or type(last).__name__.endswith("CV")
    return many and hasattr(last, "n_jobs")


def expected(model: Any, n_classes: int) -> int:
    """Estimate the number of joblib calls in a fit before it starts."""
    return max(getattr(model, "n_estimators", 0), len(getattr(model, "estimators", ())), n_classes, 1)


def fit(model: Any, X: Any, y: Any, keywords: Mapping[str, Any], pool: TaskPool) -> Any:
    """Fit a model in the head, with its joblib calls on the workers.

    Parameters
    ----------
    keywords : mapping
        More arguments of the fit.
    pool : TaskPool
        The total of its units grows with the calls, because their number is not known beforehand.

    Raises
    ------
    WorkloadError
        If a call fails, or kills every worker that tries it.
    """
    backend = TaskPoolBackend(pool, _CALLS)
    asked = getattr(model, "n_jobs", None)
    if asked is not None:  # joblib replaces only an unset n_jobs
        model.set_params(n_jobs=None)
    with joblib.parallel_config(backend=backend, n_jobs=-1):
        model.fit(X, y, **keywords)
    return model if asked is None else model.set_params(n_jobs=asked)
