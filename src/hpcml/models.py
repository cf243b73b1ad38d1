"""Build models that need a form with config keys, and load models of earlier runs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import Pipeline

from hpcml import files, runs
from hpcml.data import Dataset
from hpcml.errors import ConfigError
from hpcml.runs import RunPaths

# Formats of a saved model, in order of preference.
_FORMATS = ("skops", "joblib")


def pipeline(**steps: Any) -> Pipeline:
    """Build a Pipeline from named steps, so that each is a config key: ``model.svc.C=3``.

    Parameters
    ----------
    **steps : estimator
        Steps in order; the last one is the predictor.

    Raises
    ------
    ConfigError
        If a step is not an estimator.

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
                f"model.{name}={step}: not an estimator",
                f"to set a parameter of a step: model.STEP.{name}; steps: {', '.join(steps)}",
            )
    return Pipeline(list(steps.items()))


def set_seed(model: Any, seed: int) -> None:
    """Set the seed of every ``random_state`` that is None, so that runs are reproducible."""
    if not hasattr(model, "get_params") or isinstance(model, type):
        return
    for name, value in sorted(model.get_params(deep=True).items()):
        if value is None and name.rpartition("__")[2] == "random_state":
            model.set_params(**{name: seed})


class TargetDependent:
    """A model that is chosen when the target is known: a classifier or a regressor.

    Parameters
    ----------
    classifier, regressor : callable
        Classes of estimators.
    parameters : mapping
        Parameters of the chosen one.
    """

    def __init__(self, classifier: Any, regressor: Any, parameters: Mapping[str, Any]) -> None:
        self.classifier = classifier
        self.regressor = regressor
        self.parameters = dict(parameters)

    def choose(self, data: Dataset) -> Any:
        """Build the estimator that suits the target.

        Raises
        ------
        ConfigError
            If there is no target, or the estimator does not take the parameters.
        """
        if data.y is None:
            raise ConfigError("model: a table needs a target, and there is none", "name it: data.target=COLUMN")
        kind = self.classifier if _are_classes(data.y) else self.regressor
        try:
            return kind(**self.parameters)
        except TypeError as error:
            raise ConfigError(f"model: {kind.__name__}: {error}") from error


# The most distinct integers that are taken for classes.
_FEW_CLASSES = 20


def _are_classes(y: Any) -> bool:
    """Return whether a target holds classes: text, booleans, or few distinct integers."""
    if y.dtype.kind in "OUSb":
        return True
    return y.dtype.kind in "iu" and len(np.unique(y)) <= _FEW_CLASSES


def tabular(**parameters: Any) -> TargetDependent:
    """Build a model for tables of any columns: gradient boosting, with skrub's preprocessing.

    It is a classifier if the target is text, boolean, or has at most 20 distinct integers.

    Parameters
    ----------
    **parameters : object
        Parameters of HistGradientBoostingClassifier or HistGradientBoostingRegressor.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    own = {"categorical_features": "from_dtype", **parameters}
    return TargetDependent(HistGradientBoostingClassifier, HistGradientBoostingRegressor, own)


def tabular_linear(**parameters: Any) -> TargetDependent:
    """Build a linear model for tables of any columns, with skrub's preprocessing.

    It is a classifier if the target is text, boolean, or has at most 20 distinct integers.

    Parameters
    ----------
    **parameters : object
        Parameters of LogisticRegression or Ridge.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    return TargetDependent(LogisticRegression, Ridge, parameters)


def logistic_cv(**parameters: Any) -> LogisticRegressionCV:
    """Build a LogisticRegressionCV without deprecation warnings in any version of scikit-learn.

    Since 1.8 it warns about defaults that will change, unless parameters are set that 1.7 does not
    have. Set the future defaults that the installed version knows, and ``scoring`` to the current
    default, accuracy.

    Parameters
    ----------
    **parameters : object
        Parameters of LogisticRegressionCV, which override these defaults.
    """
    defaults: dict[str, Any] = {"scoring": "accuracy"}
    if "use_legacy_attributes" in inspect.signature(LogisticRegressionCV).parameters:
        defaults |= {"l1_ratios": (0,), "use_legacy_attributes": False}
    return LogisticRegressionCV(**{**defaults, **parameters})


def from_run(run: str, scratch: str | None = None) -> Any:
    """Load the fitted model of an earlier run.

    Parameters
    ----------
    run : str
        Run id, part of one, run directory, or ``last``; or a model file, .skops or .joblib.
    scratch : str or None
        Where to look for runs; None for all known roots.

    Raises
    ------
    ConfigError
        If the run or model does not exist, the run is not DONE, or loading could run another user's
        code.
    """
    if not isinstance(run, str):
        raise ConfigError(f"model.run={run}: parsed as a number", f"quote it twice: \"model.run='{run}'\"")
    path = _file(run, scratch)
    try:
        model = _load(path)
    except ConfigError:
        raise
    except Exception as error:
        if "module '__main__' has no attribute" in str(error):
            raise ConfigError(
                f"{path}: the model uses a class of the script that fitted it: {error}",
                "define the class in a file of its own, import it in the script, and fit the model again",
            ) from error
        raise ConfigError(
            f"{path}: cannot load a model: {type(error).__name__}: {error}",
            "check that the file is complete, and written with these versions of scikit-learn and the model's package",
        ) from error
    if not hasattr(model, "get_params"):
        raise ConfigError(f"{path}: contains a {type(model).__qualname__}, not an estimator")
    _name_features(model, path)
    return model


def _name_features(model: Any, path: Path) -> None:
    """Set ``_hpcml_features`` to the column names, which a model fitted on an array does not know.

    scikit-learn's ``feature_names_in_`` would cause a warning for each array to predict.
    """
    names = runs.read_json(RunPaths(path.parent).features).get("features")
    if isinstance(names, list) and getattr(model, "n_features_in_", len(names)) == len(names):
        model._hpcml_features = names


def _file(run: str, scratch: str | None) -> Path:
    if Path(run).suffix.removeprefix(".") in _FORMATS:
        path = Path(run).expanduser()
        if not path.is_file():
            raise ConfigError(f"model.run={run}: no such file")
        return path
    paths = _find(run, scratch)
    found, state = _model(paths), runs.read_json(paths.record).get("state")
    if state != "DONE":
        raise ConfigError(
            f"model.run={run}: {paths.run_id} is {state or 'unfinished'}, not DONE",
            *([f"to use its model anyway: model.run={found}"] if found else _advice(scratch)),
        )
    if found is None:
        raise ConfigError(
            f"model.run={run}: no model in {paths.root}: the run fitted none, or model_format was none",
            *_advice(scratch),
        )
    return found


def _find(run: str, scratch: str | None) -> RunPaths:
    own = os.environ.get(runs.RUN_VARIABLE)
    if run == "last" and own:  # In a head job: the last run before this one was submitted.
        earlier = (paths for paths in _newest_first(scratch) if paths.run_id < Path(own).name)
        return next(earlier, None) or runs.find(run, scratch)
    return runs.find(run, scratch)


def _newest_first(scratch: str | None) -> list[RunPaths]:
    return list(runs.find_all(runs.roots(scratch)))[::-1]


def _advice(scratch: str | None) -> list[str]:
    """Return a hint with the last run that has a usable model."""
    for paths in _newest_first(scratch):
        if _model(paths) is not None and runs.read_json(paths.record).get("state") == "DONE":
            return [f"last run with a model: model.run={paths.run_id}"]
    return []


def _model(paths: RunPaths) -> Path | None:
    return next((path for path in map(paths.model, _FORMATS) if path.is_file()), None)


def _load(path: Path) -> Any:
    problem = files.writable_by_others(path)
    if path.suffix == ".joblib":
        if problem is not None:
            raise ConfigError(f"{path}: {problem[0]}, and loading a pickle can run their code", problem[1])
        import joblib

        return joblib.load(path)
    import skops.io

    named = skops.io.get_untrusted_types(file=path)
    if named and problem is not None:
        raise ConfigError(f"{path}: {problem[0]}, and loading it can run code: {', '.join(named[:5])}", problem[1])
    return skops.io.load(path, trusted=named)
