"""A first look at all blocks: labels, moments, what does not suit; and which rows are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from hpcml.data import Dataset
from hpcml.data.blocks import Block
from hpcml.errors import DataError, WorkloadError
from hpcml.workloads.checks import check_finite, classifies, regresses

Label = Any


@dataclass(frozen=True)
class Rows:
    """Which rows of a block a model learns from, which are held out, and in what form it gets them.

    Parameters
    ----------
    test_size : float
        The share that is held out of each block, on average.
    seed : int
    dtype : str or None
        Of the features; None: as they are.
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
        """Say which rows are held out: the same for a block whoever reads it, and whatever the order of the blocks."""
        return np.random.default_rng([self.seed, number]).random(n_rows) < self.test_size

    def of(self, number: int, data: Dataset, held_out: bool) -> tuple[Any, Any]:
        """Give a block's features and target, of the rows held out or of the others."""
        chosen = self.held_out(number, data.n_samples) == held_out
        X = data.X[chosen].astype(self.dtype or data.X.dtype, copy=False)
        if self.scaler is not None and len(X):
            X = self.scaler.transform(X)
        y = None if data.y is None else data.y[chosen]
        return X, y.astype(str) if y is not None and self.text else y


def loaded(source: Block | Dataset) -> Dataset:
    """Read a block, if it is not read yet."""
    return source.load() if isinstance(source, Block) else source


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared distances from the mean; of each column, float64."""

    n: int
    mean: Any
    squares: Any

    @classmethod
    def of(cls, values: Any) -> Moments:
        """Take them of an array of shape (n_rows, ...)."""
        if not len(values):
            return cls(0, np.zeros(values.shape[1:]), np.zeros(values.shape[1:]))
        with np.errstate(over="ignore", invalid="ignore"):  # told where it matters
            mean = values.mean(axis=0, dtype=np.float64)
            return cls(len(values), mean, ((values - mean) ** 2).sum(axis=0, dtype=np.float64))

    def __add__(self, other: Moments) -> Moments:
        # Chan, Golub, LeVeque 1979: the pairwise update
        n = self.n + other.n
        share = other.n / max(n, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = other.mean - self.mean
            squares = self.squares + other.squares + apart**2 * (self.n * share)
            return Moments(n, self.mean + apart * share, squares)

    @property
    def variance(self) -> Any:
        return self.squares / max(self.n, 1)

    @property
    def deviation(self) -> Any:
        return np.sqrt(self.variance)


def _total(parts: Sequence[Moments]) -> Moments:
    """Add neighbours, then neighbours of those and so on: in the blocks' order, and with the least rounding."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [*(first + second for first, second in pairs), *(parts[-1:] if len(parts) % 2 else ())]
    return parts[0]


@dataclass(frozen=True)
class Look:
    """What is to be known of one block.

    Parameters
    ----------
    counts : mapping of label to int, or None
        How many training rows have it; 0 for a label of held-out rows only. None: the model is no classifier.
    features, target : Moments
        Of the training rows; ``target`` of a regressor's.
    """

    name: str
    dtype: str
    n_bytes: int
    n_held_out: int
    features: Moments
    target: Moments | None
    counts: Mapping[Label, int] | None


def look(number: int, source: Block | Dataset, rows: Rows, model: Any, classes: Sequence[Label] | None) -> Look:
    """Look at one block, on a worker.

    Parameters
    ----------
    model : estimator
        That is to be fitted; with the scaler, if there is one.
    classes : sequence or None
        The only labels that there may be.

    Raises
    ------
    DataError
        If the model cannot be fitted on it.
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
    """Refuse labels that are not among the classes given.

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
    """What is known of all blocks; see :class:`Look`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,), or None
        Sorted; None: the model is no classifier.
    counts : list of int
        How many training rows each class has.
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
        """Put the looks at all blocks together.

        Parameters
        ----------
        looks : sequence of Look
            In the blocks' order.
        classes : sequence or None
            As given by the user; None: those that were found.

        Raises
        ------
        WorkloadError
            If blocks do not go together, there is one class only, or no row is left to learn from.
        """
        _compare(looks)
        counts: dict[Label, int] = {}
        for one in looks:
            for label, count in (one.counts or {}).items():
                counts[label] = counts.get(label, 0) + count
        if looks[0].counts is not None and len(counts) < 2:
            raise WorkloadError(
                f"only one class in the target of all {len(looks)} blocks: {next(iter(counts))!r}",
                "a classifier needs two or more",
            )
        features = _total([one.features for one in looks])
        if features.n == 0:
            raise WorkloadError("no row is left to learn from", "hold out less: workload.test_size=0.25")
        known = np.unique(np.array(list(counts if classes is None else classes))) if counts else None
        return cls(
            classes=known,
            counts=[] if known is None else [counts.get(label, 0) for label in known.tolist()],
            features=features,
            target=None if looks[0].target is None else _total([one.target for one in looks if one.target]),
            n_held_out=sum(one.n_held_out for one in looks),
            n_bytes=sum(one.n_bytes for one in looks),
            dtype=np.result_type(*{one.dtype for one in looks}).str,
        )

    def scaler(self) -> StandardScaler:
        """Make a scaler as if it had been fitted on all training rows.

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
        # what is constant but for rounding is not blown up: sklearn.preprocessing._data._is_constant_feature
        rounding = self.features.n * np.finfo(np.float64).eps
        constant = scaler.var_ <= rounding * scaler.var_ + (rounding * scaler.mean_) ** 2
        scaler.scale_ = np.where(constant, 1.0, np.sqrt(scaler.var_))
        return scaler


def _compare(looks: Sequence[Look]) -> None:
    """Refuse blocks that differ from the first in what no model can put up with."""
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
