"""Samples held out for the test score."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from hpcml.data import Dataset, samples
from hpcml.data.selection import Selection
from hpcml.errors import ConfigError, DataError
from hpcml.workloads.base import Inputs
from hpcml.workloads.inputs.checks import classifies, is_pairwise
from hpcml.workloads.inputs.splits import Split


def hold_out(inputs: Inputs, test_size: float | None, *, stratify: bool, shuffle: bool) -> Split:
    """Hold out samples for the test score: the same ones for the same seed on any cluster.

    Samples of one group stay together, as they do in the folds.

    Parameters
    ----------
    stratify : bool
        Whether both parts keep the class proportions; classifiers only.
    shuffle : bool
        False: the last samples are held out.

    Raises
    ------
    DataError
        If a class has too few samples to be in both parts.
    """
    data = inputs.dataset.labelled()
    if not test_size:
        return _without_test(data)
    stratify = stratify and shuffle and data.y is not None and classifies(inputs.model)
    try:
        train, test = _divide(data, test_size, stratify=stratify, seed=inputs.seed if shuffle else None)
    except ValueError as error:
        raise _too_few(data, test_size, stratify, error) from error
    if not shuffle and data.y is not None and data.y.ndim == 1 and classifies(inputs.model):
        _check_classes(data.name, data.y[train], data.y[test])
    if data.groups is not None:
        _check_groups(data, train, test, test_size)
    pairwise = is_pairwise(inputs.model)
    return Split(
        X=data.X[np.ix_(train, train)] if pairwise else _select(data, train),
        y=_taken(data.y, train),
        groups=_taken(data.groups, train),
        X_test=data.X[np.ix_(test, train)] if pairwise else _select(data, test),
        y_test=_taken(data.y, test),
        is_large=data.is_large and not pairwise,
        weights=_taken(data.weights, train),
    )


def _without_test(data: Dataset) -> Split:
    X = Selection(data.X, np.arange(data.n_samples)) if data.is_large else data.X
    return Split(X, data.y, data.groups, weights=data.weights)


def _divide(data: Dataset, test_size: float, *, stratify: bool, seed: int | None) -> tuple[Any, Any]:
    """Return the rows to train on and those to hold out; without a seed, the last ones."""
    numbers = np.arange(data.n_samples)
    if data.groups is not None and seed is not None:
        splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
        return tuple(next(splitter.split(numbers, groups=data.groups)))
    classes = data.y if stratify else None
    shuffle = seed is not None
    return tuple(train_test_split(numbers, test_size=test_size, shuffle=shuffle, random_state=seed, stratify=classes))


def _too_few(data: Dataset, test_size: float, stratify: bool, error: ValueError) -> DataError:
    hints = ["workload.test_size=null holds out none; workload.stratify=false ignores the classes"]
    if stratify and data.y.dtype.kind == "f":
        hints.append("if the target is a number to predict, use a regressor, for example model=ridge")
    # scikit-learn lists every class that is too small, possibly hundreds.
    why = str(error).partition(" Classes with too few")[0]
    what = f"cannot hold out workload.test_size={test_size} of {data.n_samples} samples"
    return DataError(f"{data.name}: {what}: {why}", *hints)


def _select(data: Dataset, rows: Any) -> Any:
    """Return a selection of large samples, and a copy of others."""
    return Selection(data.X, rows) if data.is_large else samples.take(data.X, rows)


def _taken(values: Any, rows: Any) -> Any:
    return None if values is None else values[rows]


def _check_groups(data: Dataset, train: Any, test: Any, test_size: float) -> None:
    both = np.intersect1d(data.groups[train], data.groups[test])
    if both.size:
        raise DataError(
            f"{data.name}: the last workload.test_size={test_size} of the samples, which are held out, "
            f"cut through group {both[0]}",
            "sort the samples by group, change workload.test_size, or shuffle: workload.shuffle=true",
        )


def _check_classes(name: str, train: Any, test: Any) -> None:
    """Check that the last samples, held out in order, have classes that the others contain."""
    held_out, learnt = np.unique(test), np.unique(train)
    unseen = np.setdiff1d(held_out, learnt)
    if not unseen.size and len(held_out) > 1:
        return
    what = f"have class {unseen[0]!s}, and the others do not" if unseen.size else f"are all of class {held_out[0]!s}"
    raise DataError(
        f"{name}: the last {len(test)} samples, which are held out, {what}",
        "hold out none, workload.test_size=null; or let the splitter shuffle: shuffle: true, random_state: 0",
    )


def order_of(key: str | None, shuffle: bool | None) -> bool:
    """Return whether to shuffle the samples before holding some out.

    Parameters
    ----------
    key : str or None
        The result of :func:`hpcml.workloads.inputs.sample_order.find_ordered`: with such a splitter
        the samples keep their order.
    shuffle : bool or None
        None: shuffle unless the splitter depends on the order.

    Raises
    ------
    ConfigError
        If the user requests a shuffle that would inflate the scores.
    """
    if key is not None and shuffle:
        raise ConfigError(
            f"workload.shuffle=true: {key} depends on the order of the samples",
            "leave it out: then the order is kept, and the last samples are held out",
        )
    return key is None if shuffle is None else shuffle
