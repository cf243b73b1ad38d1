"""Does this data suit this model? Asked before anything is started, so that the answer costs nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target

from hpcml.data import Dataset
from hpcml.errors import ConfigError, DataError, nearest

# Transformers that take NaN and hand it on to the next step of a pipeline.
_KEEP_NAN = (MaxAbsScaler, MinMaxScaler, PowerTransformer, QuantileTransformer, RobustScaler, StandardScaler)


def check_model(model: Any) -> None:
    """Refuse what is no scikit-learn estimator.

    Raises
    ------
    ConfigError
    """
    if isinstance(model, type):
        raise ConfigError(f"model={model.__qualname__}: this is the class; give an instance: {model.__qualname__}()")
    lacking = [name for name in ("fit", "get_params", "set_params") if not hasattr(model, name)]
    if lacking:
        raise ConfigError(
            f"model: a {type(model).__qualname__} is no scikit-learn estimator: it has no {' and no '.join(lacking)}",
            "choose one with model=svc (hpcml run --help lists them) or model._target_=package.Class",
        )


def check_parameters(model: Any, names: Iterable[str], free: Iterable[str] = ()) -> None:
    """Refuse names that are no parameters of a model.

    Parameters
    ----------
    free : iterable of str
        Parameters that are varied themselves, such as a pipeline's step: what lies below them cannot be known.

    Raises
    ------
    ConfigError
    """
    known = model.get_params(deep=True)
    for name in names:
        parts = name.split("__")
        varied = any("__".join(parts[:n]) in free for n in range(1, len(parts)))
        if name not in known and not varied:
            raise ConfigError(f"workload.grid: {type(model).__name__}() has no '{name}'", nearest(name, known, most=5))


def check_values(model: Any, varied: Iterable[str]) -> None:
    """Refuse parameter values that scikit-learn's own check refuses, except those that the search varies.

    Raises
    ------
    ConfigError
    """
    last_names = {name.rpartition("__")[2] for name in varied}
    for part in (model, *model.get_params(deep=True).values()):
        validate = getattr(part, "_validate_params", None)  # of every BaseEstimator since scikit-learn 1.2
        if validate is None or isinstance(part, type) or not hasattr(part, "_parameter_constraints"):
            continue
        try:
            validate()
        except ValueError as error:
            named = re.search(r"The '(\w+)' parameter of", str(error))
            if named is None or named[1] not in last_names:
                raise ConfigError(f"model: {error}") from error


def classifies(model: Any) -> bool:
    """Ask scikit-learn whether it is a classifier; one that is none of BaseEstimator's children has no kind."""
    if _of_dask_ml(model):
        return hasattr(model, "predict_proba")
    with contextlib.suppress(AttributeError):
        return bool(is_classifier(model))
    return False


def regresses(model: Any) -> bool:
    """Ask scikit-learn whether it is a regressor."""
    if _of_dask_ml(model):
        return not hasattr(model, "predict_proba")
    with contextlib.suppress(AttributeError):
        return bool(is_regressor(model))
    return False


def _of_dask_ml(model: Any) -> bool:
    """Tell whether it is one of dask_ml's own predictors: they have no tags that would say their kind."""
    return type(model).__module__.startswith(("dask_ml.linear_model", "dask_ml.naive_bayes"))


def check_data(data: Dataset, model: Any) -> None:
    """Refuse data that the model cannot be fitted on.

    Raises
    ------
    DataError
        For texts with a model of numbers or the other way round, one class only, a continuous target with a classifier,
        a target of text with a regressor, NaN or infinity that the estimator refuses.
    """
    _check_kind(data, model)
    classifier, regressor = classifies(model), regresses(model)
    name = type(model).__name__
    if data.y is None and (classifier or regressor):
        raise DataError(
            f"{data.name}: {name} needs a target, and there is none",
            "name it: data.target=COLUMN, or of .npy files data.target=y.npy",
        )
    if data.y is not None and data.y.dtype.kind == "f" and not np.isfinite(data.y).all():
        raise DataError(f"{data.name}: {int((~np.isfinite(data.y)).sum())} values of the target are infinite")
    if data.y is not None and classifier:
        try:
            classes = np.unique(data.y)
        except TypeError as error:
            raise DataError(
                f"{data.name}: the target mixes types: {error}", "make it all text or all numbers"
            ) from error
        if len(classes) < 2:
            raise DataError(f"{data.name}: only one class in the target: {classes[0]!s}", f"{name} needs two or more")
        if type_of_target(data.y).startswith("continuous"):
            raise DataError(
                f"{data.name}: the target is continuous ({len(classes)} distinct values), {name} is a classifier",
                "use a regressor, for example model=ridge",
            )
    if data.y is not None and regressor and data.y.dtype.kind in "OUS":
        raise DataError(
            f"{data.name}: the target holds text such as '{data.y.ravel()[0]}', {name} is a regressor",
            "use a classifier, for example model=svc",
        )
    check_finite(data, model)


def _check_kind(data: Dataset, model: Any) -> None:
    first = _first(model)
    reader = type(model).__name__ if first is model else f"{type(first).__name__}, the model's first step,"
    takes = _takes_texts(first)
    if data.is_text and takes is False:
        raise DataError(
            f"{data.name}: its samples are texts, and {reader} takes numbers",
            "use model=text_sgd, or begin a pipeline with sklearn.feature_extraction.text.TfidfVectorizer",
        )
    if takes and not data.is_text:
        raise DataError(
            f"{data.name}: its samples are numbers, and {reader} takes texts",
            "use a model for numbers, for example model=svc; texts are data=text data.path=FILE data.text=COLUMN",
        )
    if data.is_text and not any(text.strip() for text in data.X):
        raise DataError(f"{data.name}: all {data.n_samples} texts are empty")


def _first(model: Any) -> Any:
    """Give the step of a pipeline that sees the samples first."""
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        return _first(steps[0]) if steps else model
    return model


def _takes_texts(model: Any) -> bool | None:
    """Say whether an estimator takes texts, one a sample; None if that is not known, or it takes anything."""
    if isinstance(model, FeatureUnion):
        answers = {_takes_texts(_first(part)) for _, part in model.transformer_list if hasattr(part, "fit")}
        return answers.pop() if len(answers) == 1 else None
    if not _speaks_for_itself(model) or get_tags(model).no_validation:
        return None
    return bool(get_tags(model).input_tags.string)


def _speaks_for_itself(model: Any) -> bool:
    """Tell whether an estimator's tags can be relied on: those of scikit-learn's own, which have no others inside."""
    composite = any(hasattr(value, "fit") for value in model.get_params(deep=True).values())
    return not composite and type(model).__module__.startswith("sklearn.")


def check_finite(data: Dataset, model: Any) -> None:
    """Refuse NaN and infinity where the estimator is known to refuse them; the message names the columns.

    Raises
    ------
    DataError
    """
    refused = _refused(model)
    if data.X.dtype.kind != "f" or refused is None:
        return
    bad = refused(data.X)
    if not bad.any():
        return
    columns = np.flatnonzero(bad.any(axis=0))
    names = [data.feature_names[c] if data.feature_names else f"column {c}" for c in columns[:5]]
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    raise DataError(
        f"{data.name}: {int(bad.sum())} values of X are NaN or infinite (in {', '.join(names)}{more}), "
        f"and {type(model).__name__} refuses them",
        _remedy(model),
    )


def _remedy(model: Any) -> str:
    kind = "Classifier" if classifies(model) else "Regressor" if regresses(model) else None
    if kind is None:
        return "remove those samples, or impute them beforehand (sklearn.impute.SimpleImputer)"
    return (
        "remove those samples, impute them in a pipeline (sklearn.impute.SimpleImputer), or use an estimator that "
        f"takes NaN, for example sklearn.ensemble.HistGradientBoosting{kind}"
    )


def _refused(model: Any) -> Callable[[Any], Any] | None:
    """Say which values an estimator is known to refuse, as a function that finds them; None if that is not known.

    Known are scikit-learn's own: all refuse infinity, and their tags say whether they take NaN. A user's class that
    never set the tag inherits "refuses", and composites say nothing of their parts; both may take NaN, so they are let
    through, and a fit that fails is reported with its cause.
    """
    if isinstance(model, Pipeline):
        for _, step in model.steps:
            if step is not None and step != "passthrough" and not isinstance(step, _KEEP_NAN):
                return _refused(step)
        return np.isinf
    if not _speaks_for_itself(model) or hasattr(model, "transformers"):
        return None
    return np.isinf if get_tags(model).input_tags.allow_nan else lambda X: ~np.isfinite(X)
