"""Preprocessing: the steps before a model that turn a table's columns into numbers.

The steps are part of the model: each fold fits them on its own training samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from hpcml import boosters
from hpcml.data import Dataset, in_memory, samples
from hpcml.errors import ConfigError
from hpcml.models import TargetDependent, set_seed
from hpcml.workloads.base import Inputs
from hpcml.workloads.inputs.checks import check_model, rejected_columns, rejected_values, takes_only_numbers
from hpcml.workloads.inputs.data_warnings import warn_about
from hpcml.workloads.inputs.tuples import with_tuples


def suit(inputs: Inputs, varied: Collection[str] = ()) -> Inputs:
    """Load the data without samples that lack a target, and put preprocessing before the model.

    Parameters
    ----------
    varied : collection of str
        Parameters that a search varies.

    Returns
    -------
    Inputs
        ``model`` is a pipeline if it needs preprocessing; ``prefix`` then stands before the names
        of the model's own parameters.

    Raises
    ------
    ConfigError
        If ``preprocess`` is not a transformer.
    DataError
        If the data cannot be read, or no sample has a target.
    """
    if inputs.data is None:
        return inputs
    data = in_memory(inputs.data).labelled()
    suited = _preprocessed(inputs, data)
    model = with_tuples(boosters.wrap(suited.model, data.y, varied))
    last = model.steps[-1][1] if isinstance(model, Pipeline) and model.steps else model
    if not isinstance(last, boosters.Booster) or boosters.early_stopping(last) is None:
        return replace(suited, model=model)
    notes = {**suited.notes, "early stopping": f"{100 * last.eval_size:g} % of the samples of each fit evaluate it"}
    return replace(suited, model=model, notes=notes)


def _preprocessed(inputs: Inputs, data: Dataset) -> Inputs:
    model, how = inputs.model, inputs.preprocess
    chosen = isinstance(model, TargetDependent)
    if isinstance(model, TargetDependent):
        model = model.choose(data)
        set_seed(model, inputs.seed)
    check_model(model)
    warn_about(data, model)
    steps = _steps(how, model, data, inputs.seed, always=chosen)
    if not steps:
        return replace(inputs, data=data, model=model)
    notes = {"table": describe(data.X)} if samples.is_frame(data.X) else {}
    if isinstance(model, Pipeline):
        return replace(inputs, data=data, model=Pipeline([*steps, *model.steps]), notes=notes)
    name = type(model).__name__.lower()
    return replace(inputs, data=data, model=Pipeline([*steps, (name, model)]), prefix=f"{name}__", notes=notes)


def _steps(how: Any, model: Any, data: Dataset, seed: int, *, always: bool) -> list[tuple[str, Any]]:
    if how in (None, "none"):
        return []
    if isinstance(how, str):
        needed = always or needs_preprocessing(model, data)
        return _automatic(model, seed) if needed else []
    if isinstance(how, Pipeline):
        return list(how.steps)
    if not (hasattr(how, "fit") and hasattr(how, "transform")):
        raise ConfigError(
            f"preprocess: {type(how).__name__} is not a transformer: it lacks fit or transform",
            "for example 'preprocess={_target_: sklearn.preprocessing.StandardScaler}'",
        )
    return [("preprocess", how)]


def _automatic(model: Any, seed: int) -> list[tuple[str, Any]]:
    """Return the steps that skrub puts before a model of this kind."""
    from skrub import tabular_pipeline  # Takes most of a second to import.

    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    try:
        pipeline = tabular_pipeline(last)
    except TypeError as error:
        raise ConfigError(f"preprocess=auto: {type(last).__name__}: {error}", "use preprocess=none") from error
    steps = Pipeline(pipeline.steps[:-1])
    set_seed(steps, seed)
    return list(steps.steps)


def needs_preprocessing(model: Any, data: Dataset) -> bool:
    """Return whether a table has columns or missing values that the model is known to reject.

    A model that handles columns itself, such as a ColumnTransformer, and any class that is not
    known, gets the table as it is.
    """
    if not samples.is_frame(data.X) or not takes_only_numbers(model):
        return False
    rejected = rejected_columns(model, samples.not_numeric(data.X))
    return bool(rejected) or (_rejects_missing(model) and any(samples.missing(data.X).values()))


def _rejects_missing(model: Any) -> bool:
    """Return whether an estimator of known parts rejects missing values."""
    rejected = rejected_values(model)
    if rejected is None:  # a composite, whose tag is that of its parts
        return not get_tags(model).input_tags.allow_nan
    return rejected is not np.isinf


def describe(X: Any) -> str:
    """Count the columns of a frame by kind: ``3 numeric, 2 categorical, 1 date; 4 % missing``."""
    counts = Counter(samples.kinds(X).values())
    listed = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    shares = samples.missing(X)
    return f"{listed}; {100 * sum(shares.values()) / len(shares):.2g} % missing"
