"""Warnings about columns and samples that make scores too good, or that no model can learn from."""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hpcml.data import Dataset
from hpcml.errors import printable
from hpcml.workloads.inputs.checks import classifies

log = logging.getLogger(__name__)

# The most samples that are looked at, so that a large table costs a second or two.
_MOST = 1_000_000

# The most columns that one warning names.
_SHOWN = 5

# Shares of samples from which copies, and a single class, are worth a warning.
_COPIES, _LARGEST_CLASS = 0.01, 0.9

# Combinations of values for each sample, above which copies are no coincidence.
_COMBINATIONS = 100

# A correlation from which a column is a copy of the target in other units.
_COPY = 1 - 1e-9

# Names of columns that identify the origin of a sample.
_ORIGIN = re.compile(r"(.*[_ .])?(id|patient|subject|participant|person|user|customer|group|family)([_ .]?id)?", re.I)


def warn_about(data: Dataset, model: Any) -> None:
    """Warn about columns and samples of a pandas frame that the user should look at."""
    if not hasattr(data.X, "iloc"):
        return
    for text in _texts(data, model):
        warnings.warn(f"{data.name}: {text}", stacklevel=2)


def _texts(data: Dataset, model: Any) -> list[str]:
    """Return the warnings; none for a table so odd that they cannot be computed: checks report it."""
    try:
        X = data.X.set_axis(data.feature_names, axis=1)  # names as texts
        some = replace(data, X=X).take(slice(0, _MOST))
        return [*_columns(some), *_samples(some, model)]
    except (TypeError, ValueError, AttributeError) as error:
        log.debug("no warnings about the table: %s", error)
        return []


def _columns(data: Dataset) -> Iterator[str]:
    X, n_samples = data.X, data.n_samples
    distinct = {str(name): int(number) for name, number in X.nunique().items()}
    yield from _useless([name for name, number in distinct.items() if number == 0], "empty")
    if n_samples > 1:
        yield from _useless([name for name in distinct if distinct[name] == 1 and not X[name].hasnans], "constant")
        unique = [name for name in distinct if distinct[name] == n_samples]
        names = [name for name in unique if _counts_up(X[name]) or _is_text(X[name])]
        yield from _useless(names, "different in every sample, like a row number or name")
    if data.groups is None:
        yield from _origins(
            {name: number for name, number in distinct.items() if 1 < number <= n_samples / 2}, n_samples
        )


def _useless(names: list[str], what: str) -> Iterator[str]:
    if names:
        yield f"{_named(names)} {what}; {_drop(names)}"


def _origins(repeated: Mapping[str, int], n_samples: int) -> Iterator[str]:
    for name in filter(_ORIGIN.fullmatch, repeated):
        yield (
            f"column '{printable(name)}' has {repeated[name]} values in {n_samples} samples: if samples of "
            f"one value belong together, keep them in one fold: data.groups={name}"
        )


def _samples(data: Dataset, model: Any) -> Iterator[str]:
    if data.y is None or data.y.ndim > 1:
        return
    is_copy = _is_encoding if classifies(model) else _is_linear_copy
    copies = [str(name) for name in data.X.columns if is_copy(data.X[name], data.y)]
    if copies:
        yield f"{_named(copies)} a copy or an encoding of the target, so every score is too good; {_drop(copies)}"
    share = float(data.X.assign(**{"\0target": data.y}).duplicated().mean())
    if share >= _COPIES and _could_differ(data.X):
        yield (
            f"{100 * share:.2g} % of the samples are copies of others: a copy in the training and in the test samples "
            "makes scores too good"
        )
    if classifies(model):
        classes, counts = np.unique(data.y, return_counts=True)
        largest = int(counts.argmax())
        if counts[largest] / data.n_samples >= _LARGEST_CLASS:
            yield (
                f"{100 * counts[largest] / data.n_samples:.3g} % of the samples are of class "
                f"{printable(str(classes[largest]))}, which an accuracy does not show; "
                "use workload.scoring=balanced_accuracy"
            )


def _could_differ(X: Any) -> bool:
    """Return whether the columns have values enough for all samples to differ; a few categories do not."""
    return math.prod(map(float, X.nunique(dropna=False))) >= _COMBINATIONS * len(X)


def _counts_up(column: Any) -> bool:
    return column.dtype.kind in "iu" and bool(column.is_monotonic_increasing)


def _is_text(column: Any) -> bool:
    return str(column.dtype) in ("str", "string", "object", "category")


def _is_linear_copy(column: Any, y: Any) -> bool:
    """Return whether a column of numbers is the target in other units."""
    if y.dtype.kind not in "iuf" or column.dtype.kind not in "iuf":
        return False
    return _is_linear(column.to_numpy(dtype=float), y.astype(float))


def _is_encoding(column: Any, y: Any) -> bool:
    """Return whether a column has one value for each class."""
    codes, classes = column.factorize()
    _, target = np.unique(y, return_inverse=True)
    n_classes = int(target.max()) + 1
    if len(classes) != n_classes or n_classes < 2 or (codes < 0).any():
        return False
    pairs = np.unique(codes * n_classes + target)
    return len(pairs) == n_classes


def _is_linear(x: Any, y: Any) -> bool:
    finite = np.isfinite(x) & np.isfinite(y)
    if finite.sum() < 3:
        return False
    x, y = x[finite] - x[finite].mean(), y[finite] - y[finite].mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return spread > 0 and abs(float(x @ y)) >= _COPY * spread


def _named(names: list[str]) -> str:
    listed = ", ".join(f"'{printable(name)}'" for name in names[:_SHOWN])
    if len(names) == 1:
        return f"column {listed} is"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"columns {listed}{more} are"


def _drop(names: list[str]) -> str:
    return f"exclude: 'data.drop=[{','.join(names[:_SHOWN])}]'"
