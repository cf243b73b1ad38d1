"""One block's predictions: the unit that a worker does, its checks, and the columns that come of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from distributed import get_worker

from hpcml.data import in_memory, load
from hpcml.data.blocks import Block
from hpcml.errors import ConfigError
from hpcml.parts import Parts
from hpcml.workloads import memory
from hpcml.workloads.fitted import Fitted
from hpcml.workloads.sums import Part, Score

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")

# What a method's columns are called, before the class's name.
_PREFIX = {"predict_proba": "proba", "predict_log_proba": "log_proba", "decision_function": "decision"}

# A model sees so many rows at a time: a pipeline's steps copy what they get, and the copies may be wider.
_SLICE = 100_000

Columns = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is wanted of each block.

    Parameters
    ----------
    methods : tuple of str
        Of :data:`METHODS`.
    score : Score or None
    parts : Parts or None
        Where the table goes; None: nowhere.
    order : tuple of int or None
        Which column of the data is the model's first, second, ...; None: they are in order.
    """

    methods: tuple[str, ...]
    score: Score | None
    parts: Parts | None
    order: tuple[int, ...] | None


@dataclass(frozen=True)
class Done:
    """What comes of a block.

    Parameters
    ----------
    rows, bytes : int
        How many samples it has, and how large its part of the table is.
    score : Part or None
    worker : str
        Who did it.
    peak : int
        That worker's peak resident memory until then, in bytes.
    """

    rows: int
    bytes: int
    score: Part | None
    worker: str
    peak: int


def fit(model: Any, source: Any) -> tuple[Any, tuple[str, ...] | None, list[str]]:
    """Fit a model on a source of data; called on a worker.

    Returns
    -------
    estimator
    tuple of str or None
        The features' names.
    list of str
        What was warned of.
    """
    data = in_memory(load(source))
    with warnings.catch_warnings(record=True) as caught, joblib.parallel_config(backend="sequential"):
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # is meant for who wrote the model's package
        fitted = model.fit(data.X) if data.y is None else model.fit(data.X, data.y)
    return fitted, data.feature_names, list(dict.fromkeys(f"fit: {warning.message}" for warning in caught))


def predict(block: Block, model: Any, request: Request) -> Done:
    """Read a block, predict, write its part of the table; called on a worker.

    Raises
    ------
    ConfigError
        If the block does not suit the model; the message names the block.
    """
    try:
        with joblib.parallel_config(backend="sequential"):  # or a forest takes all cores of the node for itself
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
        assert names is not None  # the order was found by them
        X, names = X[:, request.order], tuple(names[at] for at in request.order)
    columns, predicted = table(model, X, data.y, names, request.methods)
    part = None
    if request.score is not None:
        known = predicted is not None and request.score.of_predictions
        part = request.score.part_of(data.y, predicted) if known else request.score.part(model, X, data.y)
    written = 0 if request.parts is None else request.parts.write(block.number, columns)
    return Done(len(X), written, part, f"worker {get_worker().name}", memory.peak())


def table(model: Any, X: Any, y: Any, names: Sequence[str] | None, methods: Sequence[str]) -> tuple[Columns, Any]:
    """Make the columns, and give what was predicted by ``predict``, None if that was not asked for.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Its columns in the model's order.
    y : array of shape (n_samples,), or None
    names : sequence of str or None
        Of the columns of X.

    Returns
    -------
    dict of str to array of shape (n_samples,)
        ``y`` if there is a target, ``prediction``, ``proba_CLASS`` and so on.
    array or None
    """
    columns: Columns = {} if y is None else _split(y, "y", range(y[:1].size))
    predicted = None
    for method in methods:
        values = np.concatenate([_values(model, method, X[at : at + _SLICE]) for at in range(0, len(X), _SLICE)])
        if method == "predict":
            predicted = values
            columns |= _split(values, "prediction", range(values[:1].size))
        elif method == "transform":
            columns |= _transformed(model, values, names, columns)
        else:
            columns |= _split(values, _PREFIX[method], _classes(model, values))
    return columns, predicted


def _values(model: Any, method: str, X: Any) -> Any:
    values = getattr(model, method)(X)
    if isinstance(values, list) or hasattr(values, "toarray"):
        what = "a list: the model has several outputs" if isinstance(values, list) else "a sparse matrix"
        raise ConfigError(
            f"workload.methods: {method} of {type(model).__name__} gives {what}, which is no table",
            "leave it out; or end the pipeline with a step that gives a dense array",
        )
    return np.asarray(values)


def _split(values: Any, name: str, suffixes: Sequence[Any]) -> Columns:
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{suffix}": values[:, number] for number, suffix in enumerate(suffixes)}


def _classes(model: Any, values: Any) -> Sequence[Any]:
    classes = getattr(model, "classes_", ())
    # a decision between each two classes has other columns (SVC, decision_function_shape="ovo")
    return list(classes) if len(classes) == values[:1].size else range(values[:1].size)


def _transformed(model: Any, values: Any, names: Sequence[str] | None, taken: Mapping[str, Any]) -> Columns:
    values = values.reshape(len(values), -1)
    try:
        found = list(map(str, model.get_feature_names_out(names)))
    except (AttributeError, ValueError, TypeError):  # many have none, or want other names
        found = []
    if len(found) != values.shape[1] or len(set(found)) < len(found):
        found = [f"x{number}" for number in range(values.shape[1])]
    return {f"transform_{name}" if name in taken else name: values[:, n] for n, name in enumerate(found)}
