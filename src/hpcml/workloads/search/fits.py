"""Finished fits of a search, both scored and failed ones; a failure does not stop the others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcml.workloads.search.crossval import Scored
from hpcml.workloads.search.grid import described, show

# Candidates listed in warnings; the table has all of them.
_SHOWN = 5


@dataclass(frozen=True)
class Fit:
    """The fit of one candidate on one fold.

    Parameters
    ----------
    scores : mapping of str to float
        Scores by scorer; ``score`` for a single one.
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
    def of(cls, candidate: int, fold: int, parameters: Mapping[str, Any], scored: Scored) -> Fit:
        """Build a Fit from a worker's result."""
        error = scored.traceback
        if error is None and any(math.isnan(score) for score in scored.test.values()):
            error = "its score is NaN"
        return cls(candidate, fold, parameters, scored.test, scored.fit_s, error)

    @property
    def cause(self) -> str:
        """The last line of the traceback: class and message of the error."""
        return (self.traceback or "").strip().rpartition("\n")[2]


def in_order(fits: Sequence[Fit]) -> list[Fit]:
    """Sort fits by candidate and fold."""
    return sorted(fits, key=lambda fit: (fit.candidate, fit.fold))


def failed(fits: Sequence[Fit]) -> list[Fit]:
    """Return the failed fits."""
    return [fit for fit in in_order(fits) if fit.traceback is not None]


def tables(fits: Sequence[Fit]) -> dict[str, dict[str, list[Any]]]:
    """Build tables of the finished fits, for a search that is cut short."""
    return {"fits": _table(fits), **failure_tables(failed(fits))}


def _table(fits: Sequence[Fit]) -> dict[str, list[Any]]:
    ordered = in_order(fits)
    names = sorted({name for fit in ordered for name in fit.scores})
    return {
        "candidate": [fit.candidate for fit in ordered],
        "fold": [fit.fold for fit in ordered],
        "params": [json.dumps(described(fit.parameters)) for fit in ordered],
        **{f"test_{name}": [fit.scores.get(name) for fit in ordered] for name in names},
        "fit_time": [fit.fit_s for fit in ordered],
    }


def failure_tables(failures: Sequence[Fit]) -> dict[str, dict[str, list[Any]]]:
    """Build the table ``failures``; return no table if there are none."""
    if not failures:
        return {}
    return {
        "failures": {
            "candidate": [fit.candidate for fit in failures],
            "fold": [fit.fold for fit in failures],
            "params": [json.dumps(described(fit.parameters)) for fit in failures],
            "error": [fit.cause for fit in failures],
            "traceback": [fit.traceback for fit in failures],
        }
    }


def warnings(failures: Sequence[Fit], folds: int) -> list[str]:
    """Render one line per failing candidate, for the first five of them."""
    by_candidate: dict[int, list[Fit]] = {}
    for fit in failures:
        by_candidate.setdefault(fit.candidate, []).append(fit)
    lines = [
        f"candidate {number} ({show(group[0].parameters)}) failed in {len(group)} of {folds} folds: {group[0].cause}"
        for number, group in by_candidate.items()
    ]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"{more} more candidates failed: see the table failures"] if more > 0 else [])
