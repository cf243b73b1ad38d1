"""Scores over blocks: what each block adds to a score, and the score of all of them, equal to that of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer, log_loss

from hpcml.errors import ConfigError, nearest
from hpcml.targets import locate
from hpcml.workloads.checks import classifies, regresses
from hpcml.workloads.scoring import check_scorer

# Of which labels, and of what was predicted for them: so the pairs that occur and how often say all.
_OF_LABELS = (
    "accuracy", "balanced_accuracy", "f1", "f1_macro", "f1_micro", "f1_weighted", "jaccard", "jaccard_macro",
    "matthews_corrcoef", "precision", "precision_macro", "precision_micro", "precision_weighted", "recall",
    "recall_macro", "recall_micro", "recall_weighted",
)  # fmt: skip

_OF_NUMBERS = ("r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error")

NAMES = (*_OF_LABELS, "neg_log_loss", *_OF_NUMBERS)

# So many labels, from the least to the greatest, are counted without looking which of them occur.
_FEW = 1000

# What a block adds: to be combined in the blocks' order, so that the last bits do not depend on who was first.
Part = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A score that is summed up over blocks.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`, or a scorer's of the user's own.
    scorer : callable or None
        The user's own ``(estimator, X, y) -> float``; of several blocks its mean, weighted by their rows.
    """

    name: str
    scorer: Callable[[Any, Any, Any], float] | None = None

    @property
    def of_predictions(self) -> bool:
        """Whether it needs nothing of the model but its predictions."""
        return self.scorer is None and self.name != "neg_log_loss"

    def misfit(self, classes: Any) -> str | None:
        """Say why it does not go with such classes, as ``f1`` does not with three; None if it does."""
        if not self.of_predictions:
            return None
        try:
            self.of([self.part_of(classes, classes)])
        except ValueError as error:
            return str(error)
        return None

    def part(self, model: Any, X: Any, y: Any) -> Part:
        """Give what a block adds; called on a worker.

        Parameters
        ----------
        model : estimator
            Fitted.
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        """
        n = len(y)
        if self.scorer is not None:
            return {"n": n, "sum": n * float(self.scorer(model, X, y))}
        if self.name == "neg_log_loss":
            return {"n": n, "sum": -n * float(log_loss(y, model.predict_proba(X), labels=model.classes_))}
        return self.part_of(y, model.predict(X))

    def part_of(self, y: Any, predicted: Any) -> Part:
        """Give what a block adds whose predictions are there already; not for the log loss or a user's own."""
        if self.name in _OF_LABELS:
            return {"n": len(y), "pairs": _pairs(y, predicted)}
        error = np.asarray(y, dtype=np.float64) - predicted
        mean = float(np.mean(y))
        return {
            "n": len(y), "squares": float(error @ error), "absolute": float(np.abs(error).sum()), "mean": mean,
            "spread": float(((y - mean) ** 2).sum()),
        }  # fmt: skip

    def of(self, parts: Sequence[Part]) -> float:
        """Give the score of all blocks.

        Parameters
        ----------
        parts : sequence of Part
            In the blocks' order.
        """
        n = int(sum(part["n"] for part in parts))
        if not self.of_predictions:
            return math.fsum(part["sum"] for part in parts) / n
        if self.name in _OF_LABELS:
            return self._of_pairs(parts)
        squares = math.fsum(part["squares"] for part in parts)
        if self.name == "neg_mean_absolute_error":
            return -math.fsum(part["absolute"] for part in parts) / n
        if self.name == "neg_mean_squared_error":
            return -squares / n
        if self.name == "neg_root_mean_squared_error":
            return -math.sqrt(squares / n)
        spread = _spread(parts, n)
        return 1.0 - squares / spread if spread else float(squares == 0)

    def _of_pairs(self, parts: Sequence[Part]) -> float:
        counts: dict[tuple[Any, Any], int] = {}
        for part in parts:
            for pair, count in part["pairs"].items():
                counts[pair] = counts.get(pair, 0) + count
        true, predicted = zip(*counts, strict=True)
        scorer = get_scorer(self.name)
        # each pair once, with its count as weight: the same to every one of these metrics
        return float(
            scorer._sign
            * scorer._score_func(
                np.array(true), np.array(predicted), sample_weight=list(counts.values()), **scorer._kwargs
            )
        )


def _spread(parts: Sequence[Part], n: int) -> float:
    """Sum the squared distances from the mean of all (Chan, Golub, LeVeque 1979: the pairwise update)."""
    mean = math.fsum(part["n"] * part["mean"] for part in parts) / n
    return math.fsum(part["spread"] + part["n"] * (part["mean"] - mean) ** 2 for part in parts)


def _pairs(y: Any, predicted: Any) -> dict[tuple[Any, Any], int]:
    true, true_at = _labels(np.asarray(y))
    guessed, guessed_at = _labels(np.asarray(predicted))
    counts = np.bincount(true_at * len(guessed) + guessed_at, minlength=len(true) * len(guessed))
    found = np.flatnonzero(counts)
    return {
        (true[at // len(guessed)].item() if hasattr(true[0], "item") else true[at // len(guessed)],
         guessed[at % len(guessed)].item() if hasattr(guessed[0], "item") else guessed[at % len(guessed)]):
        int(counts[at]) for at in found.tolist()
    }  # fmt: skip


def _labels(values: Any) -> tuple[Any, Any]:
    """Give labels, and where each value is among them; without sorting where all are small whole numbers."""
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if high - low < _FEW and abs(low) < 2**31:
            return np.arange(low, high + 1), values.astype(np.int64) - low
    labels, at = np.unique(values, return_inverse=True)
    return labels, at


def resolve(scoring: Any, model: Any) -> Score | None:
    """Make a score of a config's ``scoring``.

    Parameters
    ----------
    scoring : None, False, str or callable
        None: accuracy for classifiers, r2 for regressors, no score for others. False: none. A name with a dot is
        imported: a callable ``(estimator, X, y) -> float``.

    Raises
    ------
    ConfigError
        If it is unknown, cannot be summed up over blocks, or does not fit the model.
    """
    if scoring is False:
        return None
    if scoring is None:
        name = "accuracy" if classifies(model) else "r2" if regresses(model) else None
        return None if name is None else Score(name)
    if callable(scoring):
        return Score(getattr(scoring, "__name__", type(scoring).__name__), check_scorer(scoring, scoring))
    if not isinstance(scoring, str):
        raise ConfigError(f"workload.scoring={scoring!r}: neither a score's name nor a callable")
    if "." in scoring:
        own = check_scorer(locate(scoring, "workload.scoring"), scoring)
        return Score(scoring.rpartition(".")[2], own)
    if scoring not in NAMES:
        raise ConfigError(
            f"workload.scoring={scoring}: is not one that can be summed up over blocks",
            nearest(scoring, NAMES, most=5),
            "your own is workload.scoring=mymodule.scorer, a mean over the blocks",
        )
    if scoring in _OF_NUMBERS and classifies(model):
        raise ConfigError(
            f"workload.scoring={scoring}: a score of numbers, and {type(model).__name__} predicts classes",
            "use workload.scoring=accuracy, f1_macro or neg_log_loss",
        )
    if scoring not in _OF_NUMBERS and regresses(model):
        raise ConfigError(
            f"workload.scoring={scoring}: a score of classes, and {type(model).__name__} predicts numbers",
            "use workload.scoring=r2 or neg_mean_absolute_error",
        )
    return Score(scoring)
