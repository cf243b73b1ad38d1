"""Splits: the samples to train and to test on, and folds for cross-validation.

They are computed before a run starts, so that errors appear early.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    PredefinedSplit,
    StratifiedGroupKFold,
    check_cv,
)

from hpcml.data import samples
from hpcml.data.selection import Selection
from hpcml.errors import DataError
from hpcml.workloads.inputs.checks import classifies
from hpcml.workloads.inputs.sample_order import shown

# The most classes that a message names.
_SHOWN = 5


@dataclass(frozen=True)
class Split:
    """The training samples and the held-out ones; None for absent arrays.

    ``X`` and ``X_test`` are selections if the samples are large, see :mod:`hpcml.data.selection`.

    Parameters
    ----------
    is_large : bool
        Whether the held-out samples are too large for the head.
    weights : ndarray or None
        Weights of the training samples.
    """

    X: Any
    y: Any
    groups: Any
    X_test: Any = None
    y_test: Any = None
    is_large: bool = False
    weights: Any = None

    @property
    def arrays(self) -> list[Any]:
        """The arguments of a fit: X, and y if there is one."""
        return [self.X] if self.y is None else [self.X, self.y]

    def laid_out(self, directory: Path | None) -> Split:
        """Return the same split for workers, with samples that can be sent.

        Parameters
        ----------
        directory : Path or None
            Where to write large samples. None: the workers may have other file systems.
        """
        laid = None
        if isinstance(self.X, Selection) and directory is not None:
            laid = self.X.laid_out(directory)
        if laid is None:
            return replace(self, X=samples.whole(self.X), X_test=samples.whole(self.X_test))
        tested = Selection(laid.source, self.X_test.rows) if isinstance(self.X_test, Selection) else self.X_test
        return replace(self, X=laid, X_test=tested)

    @property
    def n_train(self) -> int:
        return int(self.X.shape[0])

    @property
    def n_test(self) -> int:
        return 0 if self.X_test is None else int(self.X_test.shape[0])


@dataclass(frozen=True)
class Folds:
    """The folds of a cross-validation.

    Parameters
    ----------
    split : Split
        The indices refer to its training samples.
    indices : sequence of (ndarray, ndarray)
        For each fold, the indices of the samples to train on and of those to test on.
    """

    split: Split
    indices: Sequence[tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.indices)


def _folds_of(cv: Any, split: Split, model: Any) -> Any:
    """Return a splitter: scikit-learn's default for a number of folds, or a group splitter.

    Parameters
    ----------
    cv : int, splitter, or sequence of (indices for training, indices for test)
    """
    classifier = classifies(model)
    if isinstance(cv, int) and split.groups is not None:
        return StratifiedGroupKFold(cv) if classifier else GroupKFold(cv)
    return check_cv(cv, split.y, classifier=classifier)


def make_folds(split: Split, cv: Any, model: Any) -> Folds:
    """Split the training samples into folds, as scikit-learn does.

    Raises
    ------
    DataError
        If the split fails, or the indices of a fold are not those of training samples.
    """
    _check_predefined(split, cv)
    try:
        with warnings.catch_warnings():
            # Ours names the classes.
            warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
            splitter = _folds_of(cv, split, model)
            found = splitter.split(_samples_for(splitter, split.X), split.y, split.groups)
            folds = [tuple(map(np.asarray, fold)) for fold in found]
    except (ValueError, TypeError) as error:
        hint = "use fewer folds, workload.cv=2, or more data"
        if "group" in str(error):
            hint = "name the groups with data.groups=COLUMN; there must be as many of them as folds"
        raise DataError(
            f"workload.cv={shown(cv)}: cannot be done with {_parts(split)}: {error}",
            hint,
        ) from error
    _warn_of_tiny_classes(split, cv, model)
    for number, fold in enumerate(folds):
        _check_fold(number, fold, split, cv)
    if split.y is not None and classifies(model):
        for number, (train, _) in enumerate(folds):
            if len(np.unique(split.y[train])) < 2:
                raise DataError(
                    f"workload.cv={shown(cv)}: fold {number} would be fitted on one class only",
                    "the samples of a class are too few or lie together: shuffle, stratify, or take other groups",
                )
    return Folds(split, folds)


def _samples_for(splitter: Any, X: Any) -> Any:
    """Return the samples for a splitter: scikit-learn's own only count them."""
    return X if type(splitter).__module__.startswith("sklearn.") else samples.whole(X)


def _warn_of_tiny_classes(split: Split, cv: Any, model: Any) -> None:
    """Warn of classes with fewer training samples than folds."""
    if not isinstance(cv, int) or split.y is None or split.y.ndim > 1 or not classifies(model):
        return
    classes, counts = np.unique(split.y, return_counts=True)
    tiny = [f"'{name}' ({n})" for name, n in zip(classes, counts, strict=True) if n < cv]
    if tiny:
        more = f" and {len(tiny) - _SHOWN} more" if len(tiny) > _SHOWN else ""
        warnings.warn(
            f"fewer training samples than workload.cv={cv} folds in class {', '.join(tiny[:_SHOWN])}{more}: "
            "some folds test none of them",
            stacklevel=2,
        )


def _check_predefined(split: Split, cv: Any) -> None:
    if isinstance(cv, PredefinedSplit) and len(cv.test_fold) != split.n_train:
        raise DataError(
            f"workload.cv={shown(cv)}: there are {_parts(split)}",
            "hold out none, workload.test_size=null: then it is of all samples"
            if split.X_test is not None
            else "it needs an entry for each sample",
        )


def _check_fold(number: int, fold: tuple[Any, ...], split: Split, cv: Any) -> None:
    key = f"workload.cv={shown(cv)}: fold {number}"
    if len(fold) != 2 or any(part.ndim != 1 or part.dtype.kind not in "iub" for part in fold):
        raise DataError(f"{key} is not a pair of indices", "wanted: the indices for training, and those for the test")
    train, test = (np.flatnonzero(part) if part.dtype.kind == "b" else part for part in fold)
    for part in (train, test):
        if not part.size:
            raise DataError(f"{key} has no samples in one of its parts", "use fewer folds, or more data")
        if part.min() < 0 or part.max() >= split.n_train:
            wrong = part.min() if part.min() < 0 else part.max()
            hint = "hold out none, workload.test_size=null: then the indices count all samples"
            raise DataError(
                f"{key} has index {wrong}, and there are {_parts(split)}", *([hint] if split.X_test is not None else [])
            )
    trained = np.zeros(split.n_train, dtype=bool)
    trained[train] = True
    both = int(trained[test].sum())
    if both:
        warnings.warn(f"{key} tests on {both} of the samples that it trains on: its score is too good", stacklevel=2)


def _parts(split: Split) -> str:
    held_out = "" if split.X_test is None else f" ({split.n_test} more are held out for the test)"
    return f"{split.n_train} training samples{held_out}"
