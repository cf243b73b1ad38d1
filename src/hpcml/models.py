"""Models that scikit-learn has no overridable form for."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline


def pipeline(**steps: Any) -> Pipeline:
    """Make a scikit-learn Pipeline of named steps, so that each is a config key: ``model.svc.C=3``.

    Parameters
    ----------
    **steps : estimator
        In order; the last one predicts.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import SVC
    >>> pipeline(scale=StandardScaler(), svc=SVC()).named_steps["svc"]
    SVC()
    """
    return Pipeline(list(steps.items()))
