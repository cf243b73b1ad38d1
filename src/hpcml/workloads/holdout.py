"""Splits: the samples held out for the test score, and the folds of the cross-validation, tried before a run starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    StratifiedGroupKFold,
    check_cv,
    train_test_split,
)

from hpcml.data import in_memory
from hpcml.errors import DataError
from hpcml.workloads.base import Inputs
from hpcml.workloads.checks import classifies


@dataclass(frozen=True)
class Split:
    """The samples to search on, and those held out; None where there are none."""

    X: Any
    y: Any
    groups: Any
    X_test: Any = None
    y_test: Any = None

    @property
    def arrays(self) -> list[Any]:
        """What a fit takes: X, and y if there is one."""
        return [self.X] if self.y is None else [self.X, self.y]


def hold_out(inputs: Inputs, test_size: float | None, *, stratify: bool, shuffle: bool) -> Split:
    """Hold out samples for the test: the same ones for the same seed, whatever the cluster.

    Samples of one group stay together, as they do in the folds.

    Parameters
    ----------
    stratify : bool
        Whether both parts have the classes' proportions; classifiers only.

    Raises
    ------
    DataError
        If a class has too few samples to be in both parts.
    """
    assert inputs.data is not None  # each workload's check() refuses it
    data, seed = in_memory(inputs.data), inputs.seed
    stratify = stratify and data.y is not None and classifies(inputs.model)
    if not test_size:
        return Split(data.X, data.y, data.groups)
    samples = np.arange(data.n_samples)
    try:
        if data.groups is not None and shuffle:
            splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
            train, test = next(splitter.split(samples, groups=data.groups))
        else:
            train, test = train_test_split(
                samples,
                test_size=test_size,
                shuffle=shuffle,
                random_state=seed if shuffle else None,
                stratify=data.y if stratify and shuffle else None,
            )
    except ValueError as error:
        hints = ["workload.test_size=null holds out none; workload.stratify=false ignores the classes"]
        if stratify and data.y.dtype.kind == "f":
            hints.append("if the target is a number to predict, use a regressor, for example model=ridge")
        raise DataError(
            f"{data.name}: cannot hold out workload.test_size={test_size} of {data.n_samples} samples: "
            # scikit-learn lists every class that is too small, which may be hundreds
            f"{str(error).partition(' Classes with too few')[0]}",
            *hints,
        ) from error
    y, groups = data.y, data.groups
    if groups is not None and np.intersect1d(groups[train], groups[test]).size:
        raise DataError(
            f"{data.name}: workload.shuffle=false cuts through group {np.intersect1d(groups[train], groups[test])[0]}",
            "sort the samples by group, change workload.test_size, or shuffle: workload.shuffle=true",
        )
    return Split(
        data.X[train],
        None if y is None else y[train],
        None if groups is None else groups[train],
        data.X[test],
        None if y is None else y[test],
    )


def folds_of(cv: Any, split: Split, model: Any) -> Any:
    """Make a splitter: scikit-learn's own choice for a number of folds, or one that keeps groups together.

    Parameters
    ----------
    cv : int or splitter
    """
    classifier = classifies(model)
    if isinstance(cv, int) and split.groups is not None:
        return StratifiedGroupKFold(cv) if classifier else GroupKFold(cv)
    return check_cv(cv, split.y, classifier=classifier)


def count_folds(split: Split, cv: Any, model: Any) -> int:
    """Split once for real, as scikit-learn will: too few samples, or no groups, show up here.

    Raises
    ------
    DataError
    """
    try:
        folds = list(folds_of(cv, split, model).split(split.X, split.y, split.groups))
    except ValueError as error:
        hint = "use fewer folds, workload.cv=2, or more data"
        if "group" in str(error):
            hint = "name the groups with data.groups=COLUMN; there must be as many of them as folds"
        held_out = "" if split.X_test is None else f" ({len(split.X_test)} more are held out for the test)"
        raise DataError(
            f"workload.cv={cv}: cannot be done with {len(split.X)} samples{held_out}: {error}",
            hint,
        ) from error
    if split.y is not None and classifies(model):
        for number, (train, _) in enumerate(folds):
            if len(np.unique(split.y[train])) < 2:
                raise DataError(
                    f"workload.cv={cv}: fold {number} would be fitted on one class only",
                    "the samples of a class are too few or lie together: shuffle, stratify, or take other groups",
                )
    return len(folds)
