"""Scores over blocks: partial scores that combine to the score of the whole data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer, log_loss

from hpcml.errors import ConfigError, nearest
from hpcml.targets import locate
from hpcml.upstream import sklearn as upstream
from hpcml.workloads.inputs.checks import classifies, regresses
from hpcml.workloads.inputs.moments import Moments
from hpcml.workloads.inputs.scoring import check_scorer

# These depend only on pairs of true and predicted labels, so counts of the pairs suffice.
_OF_LABELS = (
    "accuracy", "balanced_accuracy", "f1", "f1_macro", "f1_micro", "f1_weighted", "jaccard", "jaccard_macro",
    "matthews_corrcoef", "precision", "precision_macro", "precision_micro", "precision_weighted", "recall",
    "recall_macro", "recall_micro", "recall_weighted",
)  # fmt: skip

_OF_NUMBERS = ("r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error")

NAMES = (*_OF_LABELS, "neg_log_loss", *_OF_NUMBERS)

# Integer labels that span fewer values than this are counted without finding the distinct ones.
_FEW = 1000

# A block's contribution. Parts are combined in the order of the blocks, so that the last bits do
# not depend on which block finished first.
Part = Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """A score that can be combined over blocks.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`, or the name of a user's scorer.
    scorer : callable or None
        A user's scorer ``(estimator, X, y) -> float``; over several blocks, the mean weighted by
        rows.
    """

    name: str
    scorer: Callable[[Any, Any, Any], float] | None = None

    @property
    def of_predictions(self) -> bool:
        """Whether the score needs only the model's predictions."""
        return self.scorer is None and self.name != "neg_log_loss"

    def misfit(self, classes: Any) -> str | None:
        """Return why the score does not fit the classes, such as ``f1`` for three, or None."""
        if not self.of_predictions:
            return None
        try:
            self.of([self.part_of(classes, classes)])
        except ValueError as error:
            return str(error)
        return None

    def part(self, model: Any, X: Any, y: Any) -> Part:
        """Compute the contribution of a block, on a worker.

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
        """Compute the contribution of a block from its predictions; only if ``of_predictions``."""
        if self.name in _OF_LABELS:
            return {"n": len(y), "pairs": _pairs(y, predicted)}
        error = np.asarray(y, dtype=np.float64) - predicted
        return {
            "n": len(y),
            "squares": float(error @ error),
            "absolute": float(np.abs(error).sum()),
            "target": Moments.of(np.asarray(y)),
        }

    def of(self, parts: Sequence[Part]) -> float:
        """Compute the score of all blocks.

        Parameters
        ----------
        parts : sequence of Part
            In the order of the blocks.
        """
        n = int(sum(part["n"] for part in parts))
        if not self.of_predictions:
            return math.fsum(part["sum"] for part in parts) / n
        if self.name in _OF_LABELS:
            return self._of_pairs(parts)
        if self.name == "r2":
            return _r2(parts)
        error = math.fsum(part["absolute" if self.name == "neg_mean_absolute_error" else "squares"] for part in parts)
        return -math.sqrt(error / n) if self.name == "neg_root_mean_squared_error" else -error / n

    def _of_pairs(self, parts: Sequence[Part]) -> float:
        counts: dict[tuple[Any, Any], int] = {}
        for part in parts:
            for pair, count in part["pairs"].items():
                counts[pair] = counts.get(pair, 0) + count
        true, predicted = zip(*counts, strict=True)
        # Each pair occurs once, with its count as weight, which is equivalent for all of these
        # metrics.
        weights = list(counts.values())
        return upstream.score_labels(get_scorer(self.name), np.array(true), np.array(predicted), weights)


def _r2(parts: Sequence[Part]) -> float:
    squares = math.fsum(part["squares"] for part in parts)
    spread = float(Moments.total([part["target"] for part in parts]).squares)
    return 1.0 - squares / spread if spread else float(squares == 0)


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
    """Return the labels and the index of each value, without sorting if all are small integers."""
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if high - low < _FEW and abs(low) < 2**31:
            return np.arange(low, high + 1), values.astype(np.int64) - low
    labels, at = np.unique(values, return_inverse=True)
    return labels, at


def resolve(scoring: Any, model: Any) -> Score | None:
    """Build a score from the ``scoring`` key of a config.

    Parameters
    ----------
    scoring : None, False, str or callable
        None: accuracy for classifiers, r2 for regressors, no score for others. False: none. A name
        with a dot is imported: a callable ``(estimator, X, y) -> float``.

    Raises
    ------
    ConfigError
        If it is unknown, cannot be combined over blocks, or does not fit the model.
    """
    if scoring is False:
        return None
    if scoring is None:
        return _usual(model)
    if callable(scoring):
        return Score(getattr(scoring, "__name__", type(scoring).__name__), check_scorer(scoring, scoring))
    if not isinstance(scoring, str):
        raise ConfigError(f"workload.scoring={scoring!r}: neither a score's name nor a callable")
    if "." in scoring:
        own = check_scorer(locate(scoring, "workload.scoring"), scoring)
        return Score(scoring.rpartition(".")[2], own)
    _check_name(scoring, model)
    return Score(scoring)


def _usual(model: Any) -> Score | None:
    """Return the usual score of a model's kind; None if it has none."""
    if classifies(model):
        return Score("accuracy")
    return Score("r2") if regresses(model) else None


def _check_name(scoring: str, model: Any) -> None:
    """Check that the score can be combined over blocks, and that it suits what the model predicts."""
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
