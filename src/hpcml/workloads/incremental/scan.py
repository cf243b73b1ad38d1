"""The scan of all blocks before the first pass: labels, moments, checks, and the held-out rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from hpcml.data import Dataset
from hpcml.data.blocks import Block
from hpcml.errors import DataError, WorkloadError
from hpcml.workloads.inputs.checks import check_finite, classifies, regresses
from hpcml.workloads.inputs.moments import Moments

Label = Any


@dataclass(frozen=True)
class Rows:
    """The training and held-out rows of a block, and the form in which the model gets them.

    Parameters
    ----------
    test_size : float
        The share of each block to hold out, on average.
    seed : int
    dtype : str or None
        The dtype of the features; None: as stored.
    scaler : StandardScaler or None
    text : bool
        Whether labels are text.
    """

    test_size: float
    seed: int
    dtype: str | None = None
    scaler: StandardScaler | None = None
    text: bool = False

    def held_out(self, number: int, n_rows: int) -> Any:
        """Return the mask of held-out rows; it depends only on the seed and the block's number."""
        return np.random.default_rng([self.seed, number]).random(n_rows) < self.test_size

    def of(self, number: int, data: Dataset, held_out: bool) -> tuple[Any, Any]:
        """Return a block's features and target, of the held-out rows or of the others."""
        chosen = self.held_out(number, data.n_samples) == held_out
        X = data.X[chosen].astype(self.dtype or data.X.dtype, copy=False)
        if self.scaler is not None and len(X):
            X = self.scaler.transform(X)
        y = None if data.y is None else data.y[chosen]
        return X, y.astype(str) if y is not None and self.text else y


def loaded(source: Block | Dataset) -> Dataset:
    """Load the numbers of a block unless it is already loaded; leave out samples without a target."""
    return (source.load() if isinstance(source, Block) else source).dense("workload=incremental").labelled()


@dataclass(frozen=True)
class Look:
    """Facts about one block.

    Parameters
    ----------
    counts : mapping of label to int, or None
        Training rows per label; 0 for a label of held-out rows only. None: the model is not a
        classifier.
    features, target : Moments
        Moments of the training rows; ``target`` only for a regressor.
    """

    name: str
    dtype: str
    n_bytes: int
    n_held_out: int
    features: Moments
    target: Moments | None
    counts: Mapping[Label, int] | None


def look(number: int, source: Block | Dataset, rows: Rows, model: Any, classes: Sequence[Label] | None) -> Look:
    """Check one block and collect facts about it, on a worker.

    Parameters
    ----------
    model : estimator
        The model to fit, with the scaler, if there is one.
    classes : sequence or None
        The only labels allowed.

    Raises
    ------
    DataError
        If the model cannot be fitted to the block.
    """
    data = loaded(source)
    check_finite(data, model)
    held_out = rows.held_out(number, data.n_samples)
    counts = target = None
    if data.y is not None and data.y.ndim > 1:
        raise DataError(f"{data.name}: the target has shape {data.y.shape}; only one of one column can be learned")
    if classifies(model):
        counts = _counts(data, held_out)
        check_labels(counts, classes, data.name)
    elif regresses(model):
        target = Moments.of(_numbers(data, model)[~held_out])
    return Look(
        name=data.name,
        dtype=data.X.dtype.str,
        n_bytes=data.X.nbytes + (0 if data.y is None else data.y.nbytes),
        n_held_out=int(held_out.sum()),
        features=Moments.of(data.X[~held_out]),
        target=target,
        counts=counts,
    )


def _counts(data: Dataset, held_out: Any) -> dict[Label, int]:
    if data.y.dtype.kind == "f" and (data.y != np.floor(data.y)).any():
        example = data.y[data.y != np.floor(data.y)][0]
        raise DataError(
            f"{data.name}: the target is continuous, for example {example}", "use a regressor, for example SGDRegressor"
        )
    try:
        labels, at = np.unique(data.y, return_inverse=True)
    except TypeError as error:
        raise DataError(f"{data.name}: the target mixes types: {error}", "make it all text or all numbers") from error
    counts = np.bincount(at[~held_out], minlength=len(labels))
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def _numbers(data: Dataset, model: Any) -> Any:
    if data.y.dtype.kind in "OUS":
        raise DataError(
            f"{data.name}: the target holds text such as '{data.y[0]}', {type(model).__name__} is a regressor",
            "use a classifier, for example model=sgd",
        )
    if not np.isfinite(data.y).all():
        raise DataError(f"{data.name}: {int((~np.isfinite(data.y)).sum())} values of the target are infinite")
    return data.y


def check_labels(labels: Mapping[Label, int] | Sequence[Label], classes: Sequence[Label] | None, name: str) -> None:
    """Check that all labels are among the given classes.

    Raises
    ------
    DataError
    """
    unknown = [] if classes is None else [label for label in labels if label not in classes]
    if classes is not None and unknown:
        raise DataError(
            f"{name}: the label {unknown[0]!r} is not among workload.classes={list(classes)}",
            "add it; or have them found by a look at all blocks: workload.classes=null",
        )


@dataclass(frozen=True)
class Scan:
    """Facts about all blocks; see :class:`Look`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), or None
        Sorted; None: the model is not a classifier.
    counts : list of int
        Training rows per class.
    """

    classes: Any
    counts: list[int]
    features: Moments
    target: Moments | None
    n_held_out: int
    n_bytes: int
    dtype: str

    @classmethod
    def of(cls, looks: Sequence[Look], classes: Sequence[Label] | None) -> Scan:
        """Combine the facts about all blocks.

        Parameters
        ----------
        looks : sequence of Look
            In the order of the blocks.
        classes : sequence or None
            As given by the user; None: those found in the blocks.

        Raises
        ------
        WorkloadError
            If blocks are inconsistent, there is a single class, or no training row is left.
        """
        _compare(looks)
        counts = _total_counts(looks)
        features = Moments.total([one.features for one in looks])
        if features.n == 0:
            raise WorkloadError("no row is left to learn from", "hold out less: workload.test_size=0.25")
        known = np.unique(np.array(list(counts if classes is None else classes))) if counts else None
        targets = [one.target for one in looks if one.target is not None]
        return cls(
            classes=known,
            counts=[] if known is None else [counts[label] for label in known.tolist()],
            features=features,
            target=Moments.total(targets) if targets else None,
            n_held_out=sum(one.n_held_out for one in looks),
            n_bytes=sum(one.n_bytes for one in looks),
            dtype=np.result_type(*{one.dtype for one in looks}).str,
        )

    def scaler(self) -> StandardScaler:
        """Build a scaler equal to one fitted on all training rows.

        Raises
        ------
        WorkloadError
            If a feature is not finite.
        """
        bad = np.flatnonzero(~np.isfinite(self.features.squares))
        if len(bad):
            raise WorkloadError(
                f"{len(bad)} features cannot be standardised, the first is column {bad[0]}: it has NaN or infinity, or "
                "overflows when squared",
                "remove those samples, or do without: workload.scale=false",
            )
        scaler = StandardScaler()
        scaler.mean_, scaler.var_ = self.features.mean, self.features.variance
        scaler.n_samples_seen_, scaler.n_features_in_ = np.int64(self.features.n), len(scaler.mean_)
        # A feature that is constant up to rounding is not scaled, as in
        # sklearn.preprocessing._data._is_constant_feature.
        rounding = self.features.n * np.finfo(np.float64).eps
        constant = scaler.var_ <= rounding * scaler.var_ + (rounding * scaler.mean_) ** 2
        scaler.scale_ = np.where(constant, 1.0, np.sqrt(scaler.var_))
        return scaler


def _total_counts(looks: Sequence[Look]) -> Counter[Label]:
    """Return the training rows per label; empty if the model is not a classifier."""
    counts: Counter[Label] = Counter()
    for one in looks:
        counts.update(one.counts or {})
    if looks[0].counts is not None and len(counts) < 2:
        raise WorkloadError(
            f"only one class in the target of all {len(looks)} blocks: {next(iter(counts))!r}",
            "a classifier needs two or more",
        )
    return counts


def _compare(looks: Sequence[Look]) -> None:
    """Check that all blocks agree with the first in their features and type of labels."""
    first = looks[0]
    for one in looks[1:]:
        widths = len(one.features.mean), len(first.features.mean)
        if widths[0] != widths[1]:
            raise WorkloadError(f"{one.name}: has {widths[0]} features, and {first.name} has {widths[1]}")
        if one.counts is not None and first.counts is not None:
            labels = next(iter(one.counts)), next(iter(first.counts))
            if isinstance(labels[0], str) != isinstance(labels[1], str):
                raise WorkloadError(
                    f"{one.name}: its labels are such as {labels[0]!r}, those of {first.name} such as {labels[1]!r}",
                    "make them all text or all numbers",
                )
