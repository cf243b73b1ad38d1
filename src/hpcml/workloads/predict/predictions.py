"""Predictions for one block: the unit of work on a worker, its checks, and the table's columns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
from distributed import get_worker
from sklearn.base import clone

from hpcml.data import Dataset, in_memory, load, samples
from hpcml.data.blocks import Block
from hpcml.data.dataset import missing
from hpcml.errors import ConfigError
from hpcml.parts import Parts
from hpcml.workloads.engine import peak_memory
from hpcml.workloads.inputs.block_scores import Part, Score
from hpcml.workloads.inputs.weights import weight_argument
from hpcml.workloads.predict.categories import unknown_categories
from hpcml.workloads.predict.fitted import Fitted
from hpcml.workloads.trial.trial import few_trees

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")

# The prefix of a method's columns, before the name of the class.
_PREFIX = {"predict_proba": "proba", "predict_log_proba": "log_proba", "decision_function": "decision"}

# Rows passed to a model at a time: the steps of a pipeline copy their input, and the copies may be
# wider.
_SLICE = 100_000

Columns = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """The request for each block.

    Parameters
    ----------
    methods : tuple of str
        From :data:`METHODS`.
    score : Score or None
    parts : Parts or None
        Where to write the table; None: nowhere.
    order : tuple of int or None
        The index in the data of the model's first, second, ... column; None: they are in order.
    """

    methods: tuple[str, ...]
    score: Score | None
    parts: Parts | None
    order: tuple[int, ...] | None


@dataclass(frozen=True)
class Done:
    """The result of a block.

    Parameters
    ----------
    rows, bytes : int
        The number of samples, and the size of its part of the table.
    score : Part or None
    worker : str
        The worker that processed it.
    peak : int
        That worker's peak resident memory until then, in bytes.
    unknown : mapping of str to frozenset
        Categories that the model does not know, by the name of the column.
    """

    rows: int
    bytes: int
    score: Part | None
    worker: str
    peak: int
    unknown: Mapping[str, frozenset[str]] = field(default_factory=dict)


def fit(model: Any, source: Any) -> tuple[Any, tuple[str, ...] | None, list[str]]:
    """Fit a model to data from a source, on a worker.

    Returns
    -------
    estimator
    tuple of str or None
        The names of the features.
    list of str
        The warnings of the fit.
    """
    with warnings.catch_warnings(record=True) as caught, joblib.parallel_config(backend="sequential"):
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # for the authors of the package
        data = in_memory(load(source)).labelled()
        argument = weight_argument(model, data)
        keywords = {} if argument is None else {argument: data.weights}
        fitted = model.fit(data.X, **keywords) if data.y is None else model.fit(data.X, data.y, **keywords)
    return fitted, data.feature_names, list(dict.fromkeys(f"fit: {warning.message}" for warning in caught))


def try_model(model: Any, methods: Sequence[str], X: Any, y: Any, parameters: Mapping[str, Any]) -> None:
    """Fit a model to a few samples, and predict them."""
    fitted = clone(model).set_params(**parameters)
    fitted.set_params(**few_trees(fitted.get_params(deep=True)))
    with joblib.parallel_config(backend="sequential"):
        fitted = fitted.fit(X) if y is None else fitted.fit(X, y)
        table(fitted, X, y, None, methods)


def predict(block: Block, model: Any, request: Request) -> Done:
    """Read a block, predict, and write its part of the table, on a worker.

    Raises
    ------
    ConfigError
        If the block does not suit the model; the message names the block.
    """
    try:
        with joblib.parallel_config(backend="sequential"):  # a forest would use all cores
            return _predict(block, model, request)
    except ConfigError as error:
        named = f"block {block.number}"
        if named in error.message:
            raise
        raise type(error)(f"{named}: {error.message}", *error.hints) from error


def _predict(block: Block, model: Any, request: Request) -> Done:
    data = block.load()
    Fitted.of(model).check_block(data, request.score)
    X, names = data.X, data.feature_names
    if request.order is not None:
        assert names is not None  # the order was derived from them
        X, names = samples.columns(X, request.order), tuple(names[at] for at in request.order)
    if samples.is_frame(X) and not hasattr(model, "feature_names_in_") and not samples.not_numeric(X):
        X = samples.dense(X, data.name, type(model).__name__)  # It was fitted on an array, and would warn about names.
    columns, predicted = table(model, X, data.y, names, request.methods)
    if data.ids is not None:
        columns = {"id": data.ids, **columns}
    part = None if request.score is None else _score(request.score, model, replace(data, X=X), predicted)
    written = 0 if request.parts is None else request.parts.write(block.number, columns)
    unknown = unknown_categories(model, X)
    return Done(data.n_samples, written, part, f"worker {get_worker().name}", peak_memory.peak(), unknown)


def _score(score: Score, model: Any, data: Dataset, predicted: Any) -> Part | None:
    """Score the samples of a block that have a target; None if none has."""
    assert data.y is not None  # there is no score without a target
    with_target = ~missing(data.y)
    if not with_target.any():
        return None
    known = data.take(with_target)
    if predicted is not None and score.of_predictions:
        return score.part_of(known.y, predicted[with_target])
    return score.part(model, known.X, known.y)


def table(model: Any, X: Any, y: Any, names: Sequence[str] | None, methods: Sequence[str]) -> tuple[Columns, Any]:
    """Build the columns; return also the result of ``predict``, or None if not requested.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Columns in the model's order.
    y : array of shape (n_samples,), or None
    names : sequence of str or None
        The names of the columns of X.

    Returns
    -------
    dict of str to array of shape (n_samples,)
        ``y`` if there is a target, ``prediction``, ``proba_CLASS`` and so on.
    array or None
    """
    columns: Columns = {} if y is None else _split(y, "y", range(y[:1].size))
    predicted = None
    for method in methods:
        values = np.concatenate([_values(model, method, part) for part in _slices(X)])
        if method == "predict":
            predicted = values
            columns |= _split(values, "prediction", range(values[:1].size))
        elif method == "transform":
            columns |= _transformed(model, values, names, columns)
        else:
            columns |= _split(values, _PREFIX[method], _classes(model, values))
    return columns, predicted


def _slices(X: Any) -> Iterator[Any]:
    return (samples.take(X, slice(at, at + _SLICE)) for at in range(0, X.shape[0], _SLICE))


def _values(model: Any, method: str, X: Any) -> Any:
    values = getattr(model, method)(X)
    if isinstance(values, list) or hasattr(values, "toarray"):
        what = "a list: the model has several outputs" if isinstance(values, list) else "a sparse matrix"
        raise ConfigError(
            f"workload.methods: {method} of {type(model).__name__} gives {what}, which is not a table",
            "leave it out; or end the pipeline with a step that gives a dense array",
        )
    return np.asarray(values)


def _split(values: Any, name: str, suffixes: Sequence[Any]) -> Columns:
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{suffix}": values[:, number] for number, suffix in enumerate(suffixes)}


def _classes(model: Any, values: Any) -> Sequence[Any]:
    classes = getattr(model, "classes_", ())
    # One-vs-one decisions have a column per pair of classes (SVC, decision_function_shape="ovo").
    return list(classes) if len(classes) == values[:1].size else range(values[:1].size)


def _transformed(model: Any, values: Any, names: Sequence[str] | None, taken: Mapping[str, Any]) -> Columns:
    values = values.reshape(len(values), -1)
    try:
        found = list(map(str, model.get_feature_names_out(names)))
    except (AttributeError, ValueError, TypeError):  # many lack it, or need other names
        found = []
    if len(found) != values.shape[1] or len(set(found)) < len(found):
        found = [f"x{number}" for number in range(values.shape[1])]
    return {f"transform_{name}" if name in taken else name: values[:, n] for n, name in enumerate(found)}
