"""Finished fits: what each scored, and which failed, with their parameters and without taking the others down."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from hpcml.files import plain
from hpcml.workloads.grid import show

# Candidates that are told one by one; all of them are in the table.
_MOST_TOLD = 5


@dataclass(frozen=True)
class Fit:
    """One candidate's fit on one fold.

    Parameters
    ----------
    scores : mapping of str to float
        By scorer; ``score`` if there is one only.
    traceback : str or None
        As text, if it failed.
    """

    candidate: int
    fold: int
    parameters: Mapping[str, Any]
    scores: Mapping[str, float]
    fit_s: float
    traceback: str | None

    @classmethod
    def of(cls, call: Mapping[str, Any], result: Mapping[str, Any]) -> Fit:
        """Read it from one call of scikit-learn's ``_fit_and_score`` and its result."""
        scores = result["test_scores"]
        scores = scores if isinstance(scores, Mapping) else {"score": scores}
        error = result.get("fit_error")
        if error is None and any(math.isnan(score) for score in scores.values()):
            error = "its score is NaN: the scorer failed or gave NaN; the worker's log in workers/ may say why"
        return cls(
            candidate=call["candidate_progress"][0],
            fold=call["split_progress"][0],
            parameters=call["parameters"],
            scores=scores,
            fit_s=result["fit_time"],
            traceback=error,
        )

    @property
    def cause(self) -> str:
        """The last line of the traceback: class and message of the error."""
        return (self.traceback or "").strip().rpartition("\n")[2]


def in_order(fits: Sequence[Fit]) -> list[Fit]:
    """Sort by candidate and fold."""
    return sorted(fits, key=lambda fit: (fit.candidate, fit.fold))


def failed(fits: Sequence[Fit]) -> list[Fit]:
    """Choose those that failed."""
    return [fit for fit in in_order(fits) if fit.traceback is not None]


def table(fits: Sequence[Fit]) -> dict[str, list[Any]]:
    """Make columns of finished fits: what a search that is cut short leaves behind."""
    ordered = in_order(fits)
    names = sorted({name for fit in ordered for name in fit.scores})
    return {
        "candidate": [fit.candidate for fit in ordered],
        "fold": [fit.fold for fit in ordered],
        "params": [json.dumps(plain(fit.parameters)) for fit in ordered],
        **{f"test_{name}": [fit.scores.get(name) for fit in ordered] for name in names},
        "fit_time": [fit.fit_s for fit in ordered],
    }


def failure_tables(fits: Sequence[Fit]) -> dict[str, dict[str, list[Any]]]:
    """Make the table ``failures``, or none if there are none."""
    failures = failed(fits)
    if not failures:
        return {}
    return {
        "failures": {
            "candidate": [fit.candidate for fit in failures],
            "fold": [fit.fold for fit in failures],
            "params": [json.dumps(plain(fit.parameters)) for fit in failures],
            "error": [fit.cause for fit in failures],
            "traceback": [fit.traceback for fit in failures],
        }
    }


def warnings(fits: Sequence[Fit], folds: int) -> list[str]:
    """Write one line per failing candidate, the first five of them."""
    by_candidate: dict[int, list[Fit]] = {}
    for fit in failed(fits):
        by_candidate.setdefault(fit.candidate, []).append(fit)
    lines = [
        f"candidate {number} ({show(group[0].parameters)}) failed in {len(group)} of {folds} folds: {group[0].cause}"
        for number, group in by_candidate.items()
    ]
    more = len(lines) - _MOST_TOLD
    return lines[:_MOST_TOLD] + ([f"{more} more candidates failed: see the table failures"] if more > 0 else [])


class _Dead(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Stands in for an estimator whose fit did not come to an end: this one fails as any other may."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def set_params(self, **_: Any) -> _Dead:
        return self

    def fit(self, *_: Any, **__: Any) -> None:
        raise RuntimeError(self.reason)


def died(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], reason: str) -> Any:
    """Give the result of a ``_fit_and_score`` that did not come to an end: that of a fit that failed."""
    _, *data = args
    return function(_Dead(reason), *data, **kwargs)
