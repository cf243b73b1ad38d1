"""Checks that data and model fit together, made before anything is started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
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

from hpcml.data import Dataset, samples
from hpcml.errors import ConfigError, DataError, nearest
from hpcml.units import count
from hpcml.upstream import sklearn as upstream

# Transformers that accept NaN and pass it on to the next step of a pipeline.
_KEEP_NAN = (MaxAbsScaler, MinMaxScaler, PowerTransformer, QuantileTransformer, RobustScaler, StandardScaler)


# Modules of estimators whose input is known: numbers only, unless their tags say otherwise.
_KNOWN = ("sklearn", "xgboost", "lightgbm")


# Estimators that take pandas' categories as they are.
_TAKE_CATEGORIES = ("HistGradientBoosting", "XGB", "LGBM")


def check_model(model: Any) -> None:
    """Check that a model is a scikit-learn estimator.

    Raises
    ------
    ConfigError
    """
    if isinstance(model, type):
        raise ConfigError(f"model={model.__qualname__}: this is the class; give an instance: {model.__qualname__}()")
    lacking = [name for name in ("fit", "get_params", "set_params") if not hasattr(model, name)]
    if lacking:
        raise ConfigError(
            f"model: {type(model).__qualname__} is not a scikit-learn estimator: it lacks {' and '.join(lacking)}",
            "choose one with model=svc (hpcml run --help lists them) or model._target_=package.Class",
        )


def check_parameters(model: Any, names: Iterable[str], free: Iterable[str] = ()) -> None:
    """Check that a model has parameters with the given names.

    Parameters
    ----------
    free : iterable of str
        Parameters that are themselves varied, such as a pipeline's step: their own parameters
        cannot be known.

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
    """Validate parameter values by scikit-learn's own checks, except those that a search varies.

    Raises
    ------
    ConfigError
    """
    last_names = {name.rpartition("__")[2] for name in varied}
    for part in (model, *model.get_params(deep=True).values()):
        try:
            upstream.validate_parameters(part)
        except ValueError as error:
            if upstream.rejected_parameter(error) not in last_names:
                raise ConfigError(f"model: {error}") from error


def classifies(model: Any) -> bool:
    """Return whether scikit-learn considers a model a classifier; without tags, it does not."""
    if _of_dask_ml(model):
        return hasattr(model, "predict_proba")
    with contextlib.suppress(AttributeError):
        return bool(is_classifier(model))
    return False


def regresses(model: Any) -> bool:
    """Return whether scikit-learn considers a model a regressor."""
    if _of_dask_ml(model):
        return not hasattr(model, "predict_proba")
    with contextlib.suppress(AttributeError):
        return bool(is_regressor(model))
    return False


def _of_dask_ml(model: Any) -> bool:
    """Return whether a model is one of dask_ml's predictors, which have no tags for their type."""
    return type(model).__module__.startswith(("dask_ml.linear_model", "dask_ml.naive_bayes"))


def is_pairwise(model: Any) -> bool:
    """Return whether a model takes a matrix with a row and a column for each sample."""
    try:
        return bool(get_tags(model).input_tags.pairwise)
    except AttributeError:  # not a BaseEstimator
        return False


def check_data(data: Dataset, model: Any) -> None:
    """Check that the model can be fitted on the data.

    Raises
    ------
    DataError
        For texts with a model for numbers or the reverse, a single class, a continuous target with
        a classifier, a target of text with a regressor, or NaN or infinity that the estimator
        rejects.
    """
    _check_kind(data, model)
    name = type(_last_step(model)).__name__
    if data.y is None and (classifies(model) or regresses(model)):
        raise DataError(f"{data.name}: {name} needs a target, and there is none", _missing_target(data))
    if data.y is not None:
        _check_target(data, model, name)
    check_finite(data, model)


def _check_target(data: Dataset, model: Any, name: str) -> None:
    if data.y.dtype.kind == "f" and not np.isfinite(data.y).all():
        raise DataError(f"{data.name}: {int((~np.isfinite(data.y)).sum())} values of the target are infinite")
    if classifies(model):
        _check_classes(data, name)
    if regresses(model) and data.y.dtype.kind in "OUS":
        raise DataError(
            f"{data.name}: the target holds text such as '{data.y.ravel()[0]}', {name} is a regressor",
            "use a classifier, for example model=svc",
        )


def _check_classes(data: Dataset, name: str) -> None:
    try:
        classes = np.unique(data.y)
    except TypeError as error:
        raise DataError(f"{data.name}: the target mixes types: {error}", "make it all text or all numbers") from error
    if len(classes) < 2:
        raise DataError(f"{data.name}: only one class in the target: {classes[0]!s}", f"{name} needs two or more")
    if type_of_target(data.y).startswith("continuous"):
        raise DataError(
            f"{data.name}: the target is continuous ({len(classes)} distinct values), {name} is a classifier",
            "use a regressor, for example model=ridge",
        )


def _last_step(model: Any) -> Any:
    """Return the predictor at the end of a pipeline, or the model itself."""
    return model.steps[-1][1] if isinstance(model, Pipeline) and model.steps else model


# Names that the column to predict often has.
_TARGETS = ("target", "y", "label", "class", "outcome", "survived", "species")


def _missing_target(data: Dataset) -> str:
    """Return a hint with the column that is probably the target: of a usual name, or the last."""
    if not samples.is_frame(data.X):
        return "name it: data.target=COLUMN, or of .npy files data.target=y.npy"
    names = samples.names(data.X) or ("",)
    usual = [name for name in names if name.casefold() in _TARGETS]
    return f"did you mean data.target={[*usual, names[-1]][0]}?"


def _check_kind(data: Dataset, model: Any) -> None:
    first = first_step(model)
    reader = type(model).__name__ if first is model else f"{type(first).__name__}, the model's first step,"
    takes = _takes_texts(first)
    if data.is_text and takes is False:
        raise DataError(
            f"{data.name}: its samples are texts, and {reader} takes numbers",
            "use model=text_sgd, or begin a pipeline with sklearn.feature_extraction.text.TfidfVectorizer",
        )
    others = rejected_columns(model, samples.not_numeric(data.X))
    if others:
        raise DataError(
            f"{data.name}: {samples.describe_columns(others)}, and {reader} takes numbers",
            "encode them: preprocess=auto",
            f"or exclude them: 'data.drop=[{','.join(others)}]'",
        )
    if takes and not data.is_text and not samples.is_frame(data.X):
        raise DataError(
            f"{data.name}: its samples are numbers, and {reader} takes texts",
            "use a model for numbers, for example model=svc; texts are data=text data.path=FILE data.text=COLUMN",
        )
    if isinstance(data.X, np.ndarray):
        _check_texts(data)


def _check_texts(data: Dataset) -> None:
    if data.is_text and not any(text.strip() for text in data.X):
        raise DataError(f"{data.name}: all {data.n_samples} texts are empty")


def first_step(model: Any) -> Any:
    """Return the step of a pipeline that sees the samples first."""
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        return first_step(steps[0]) if steps else model
    return model


def takes_only_numbers(model: Any) -> bool:
    """Return whether an estimator, and each estimator in it, is known to take only numbers."""
    first = first_step(model)
    if type(first).__module__.partition(".")[0] not in _KNOWN or hasattr(first, "transformers"):
        return False
    parts = [value for value in first.get_params(deep=True).values() if hasattr(value, "fit")]
    if not all(map(takes_only_numbers, parts)):
        return False
    tags = get_tags(first)
    return bool(parts) or not (tags.no_validation or tags.input_tags.string or tags.input_tags.categorical)


def rejected_columns(model: Any, types: Mapping[str, str]) -> dict[str, str]:
    """Return the columns, of those that are not numbers, that an estimator is known to reject.

    Parameters
    ----------
    types : mapping of str to str
        See :func:`hpcml.data.samples.not_numeric`.
    """
    if not types or not takes_only_numbers(model):
        return {}
    takes_categories = any(text in type(first_step(model)).__name__ for text in _TAKE_CATEGORIES)
    return {name: dtype for name, dtype in types.items() if not (takes_categories and dtype == "category")}


def _takes_texts(model: Any) -> bool | None:
    """Return whether an estimator takes texts, one per sample; None if unknown or indifferent."""
    if isinstance(model, FeatureUnion):
        answers = {_takes_texts(first_step(part)) for _, part in model.transformer_list if hasattr(part, "fit")}
        return answers.pop() if len(answers) == 1 else None
    if not _speaks_for_itself(model) or get_tags(model).no_validation:
        return None
    tags = get_tags(model).input_tags
    return bool(tags.string and not tags.two_d_array)  # Those that take both read tables with columns of text.


def _speaks_for_itself(model: Any) -> bool:
    """Return whether an estimator's tags are reliable: scikit-learn's own that nest no others."""
    composite = any(hasattr(value, "fit") for value in model.get_params(deep=True).values())
    return not composite and type(model).__module__.startswith("sklearn.")


def check_finite(data: Dataset, model: Any) -> None:
    """Check for NaN and infinity if the estimator rejects them; the message names the columns.

    Raises
    ------
    DataError
    """
    rejected = rejected_values(model)
    if rejected is None:
        return
    counts = samples.count_values(data.X, rejected)
    columns = np.flatnonzero(counts)
    if not len(columns):
        return
    names = [data.feature_names[c] if data.feature_names else f"column {c}" for c in columns[:5]]
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    raise DataError(
        f"{data.name}: {count(int(counts.sum()), 'NaN or infinite value')} in X (in {', '.join(names)}{more}), "
        f"and {type(model).__name__} rejects them",
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


def rejected_values(model: Any) -> Callable[[Any], Any] | None:
    """Return a function that finds the values an estimator is known to reject, or None.

    Only scikit-learn's own estimators are known: all reject infinity, and their tags state whether
    they accept NaN. A user's class that never set the tag inherits "rejects", and composites do not
    report the tags of their parts. Both may accept NaN, so they pass this check, and a fit that
    fails is reported with its cause.
    """
    if isinstance(model, Pipeline):
        for _, step in model.steps:
            if step is not None and step != "passthrough" and not isinstance(step, _KEEP_NAN):
                return rejected_values(step)
        return np.isinf
    if not _speaks_for_itself(model) or hasattr(model, "transformers"):
        return None
    return np.isinf if get_tags(model).input_tags.allow_nan else lambda X: ~np.isfinite(X)
