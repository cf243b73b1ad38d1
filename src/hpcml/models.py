"""Models that scikit-learn has no overridable form for."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

from hpcml.errors import ConfigError


def pipeline(**steps: Any) -> Pipeline:
    """Make a scikit-learn Pipeline of named steps, so that each is a config key: ``model.svc.C=3``.

    Parameters
    ----------
    **steps : estimator
        In order; the last one predicts.

    Raises
    ------
    ConfigError
        If a step is no estimator.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import SVC
    >>> pipeline(scale=StandardScaler(), svc=SVC()).named_steps["svc"]
    SVC()
    """
    for name, step in steps.items():
        if step is not None and step != "passthrough" and not hasattr(step, "fit"):
            raise ConfigError(
                f"model.{name}={step}: a step of a pipeline is an estimator",
                f"a parameter of a step is model.STEP.{name}; the steps are {', '.join(steps)}",
            )
    return Pipeline(list(steps.items()))
