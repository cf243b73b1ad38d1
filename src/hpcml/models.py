"""Models that scikit-learn has no overridable form for, and those of earlier runs."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import Pipeline

from hpcml import files, runs
from hpcml.errors import ConfigError
from hpcml.runs import RunPaths

# What a run may have saved its model as, in the order in which they are looked for.
_FORMATS = ("skops", "joblib")


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


def logistic_cv(**parameters: Any) -> LogisticRegressionCV:
    """Make a LogisticRegressionCV that no version of scikit-learn warns of.

    From 1.8 on it warns of defaults that will change, unless parameters are given that 1.7 does not know. Here they are
    what they will become, as far as the installed version knows them; ``scoring`` is accuracy, as the default was.

    Parameters
    ----------
    **parameters : object
        LogisticRegressionCV's own; they come before these defaults.
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
        Its id, a part of it, its directory, or ``last``; or a file of a model, .skops or .joblib.
    scratch : str or None
        Where to look for runs; None: wherever the user has run.

    Raises
    ------
    ConfigError
        If there is no such run or model, the run is not DONE, or loading would run another user's code.
    """
    if not isinstance(run, str):
        raise ConfigError(f"model.run={run}: was read as a number", f"quote it twice: \"model.run='{run}'\"")
    path = _file(run, scratch)
    try:
        model = _load(path)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{path}: no model can be loaded from it: {type(error).__name__}: {error}",
            "is it whole, and written with these versions of scikit-learn and the model's own package?",
        ) from error
    if not hasattr(model, "get_params"):
        raise ConfigError(f"{path}: holds a {type(model).__qualname__}, which is no estimator")
    _name_features(model, path)
    return model


def _name_features(model: Any, path: Path) -> None:
    """Tell the model its columns' names, as ``_hpcml_features``: fitted on an array, it knows only how many they are.

    scikit-learn's own ``feature_names_in_`` would have it warn of every array that it predicts for.
    """
    names = runs.read_json(RunPaths(path.parent).features).get("features")
    if isinstance(names, list) and getattr(model, "n_features_in_", len(names)) == len(names):
        model._hpcml_features = names


def _file(run: str, scratch: str | None) -> Path:
    if Path(run).suffix.removeprefix(".") in _FORMATS:
        path = Path(run).expanduser()
        if not path.is_file():
            raise ConfigError(f"model.run={run}: there is no such file")
        return path
    paths = _find(run, scratch)
    found, state = _model(paths), runs.read_json(paths.record).get("state")
    if state != "DONE":
        raise ConfigError(
            f"model.run={run}: {paths.run_id} is not DONE, but {state or 'has not ended'}",
            *([f"to take its model all the same: model.run={found}"] if found else _advice(scratch)),
        )
    if found is None:
        raise ConfigError(
            f"model.run={run}: there is no model in {paths.root}: that run fitted none, or was told not to save it",
            *_advice(scratch),
        )
    return found


def _find(run: str, scratch: str | None) -> RunPaths:
    own = os.environ.get(runs.RUN_VARIABLE)
    if run == "last" and own:  # in a head job: the last before this run, as it was when this was submitted
        earlier = (paths for paths in _newest_first(scratch) if paths.run_id < Path(own).name)
        return next(earlier, None) or runs.find(run, scratch)
    return runs.find(run, scratch)


def _newest_first(scratch: str | None) -> list[RunPaths]:
    return list(runs.find_all(runs.roots(scratch)))[::-1]


def _advice(scratch: str | None) -> list[str]:
    """Name the last run whose model can be taken."""
    for paths in _newest_first(scratch):
        if _model(paths) is not None and runs.read_json(paths.record).get("state") == "DONE":
            return [f"the last that has one: model.run={paths.run_id}"]
    return []


def _model(paths: RunPaths) -> Path | None:
    return next((path for path in map(paths.model, _FORMATS) if path.is_file()), None)


def _load(path: Path) -> Any:
    doubt = files.others(path)
    if path.suffix == ".joblib":
        if doubt is not None:
            raise ConfigError(f"{path}: {doubt[0]}, and a pickle: loading it would run what code they like", doubt[1])
        import joblib

        return joblib.load(path)
    import skops.io

    named = skops.io.get_untrusted_types(file=path)
    if named and doubt is not None:
        raise ConfigError(
            f"{path}: {doubt[0]}, and names what may run code when it is loaded: {', '.join(named[:5])}", doubt[1]
        )
    return skops.io.load(path, trusted=named)
