"""Fits that failed: told with their parameters, without taking the others down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcml.files import plain
from hpcml.workloads.grid import show

# Candidates that are told one by one; all of them are in the table.
_MOST_TOLD = 5


@dataclass(frozen=True)
class Failure:
    """A fit that raised: which candidate on which fold, and the traceback as text."""

    candidate: int
    fold: int
    parameters: Mapping[str, Any]
    traceback: str

    @property
    def cause(self) -> str:
        """The last line of the traceback: class and message of the error."""
        return self.traceback.strip().splitlines()[-1]


def table(failures: Sequence[Failure]) -> dict[str, dict[str, list[Any]]]:
    """Make the table ``failures``, or none if there are none."""
    if not failures:
        return {}
    return {
        "failures": {
            "candidate": [failure.candidate for failure in failures],
            "fold": [failure.fold for failure in failures],
            "params": [json.dumps(plain(failure.parameters)) for failure in failures],
            "error": [failure.cause for failure in failures],
            "traceback": [failure.traceback for failure in failures],
        }
    }


def warnings(failures: Sequence[Failure], folds: int) -> list[str]:
    """Write one line per failing candidate, the first five of them."""
    by_candidate: dict[int, list[Failure]] = {}
    for failure in failures:
        by_candidate.setdefault(failure.candidate, []).append(failure)
    lines = [
        f"candidate {number} ({show(group[0].parameters)}) failed in {len(group)} of {folds} folds: {group[0].cause}"
        for number, group in by_candidate.items()
    ]
    more = len(lines) - _MOST_TOLD
    return lines[:_MOST_TOLD] + ([f"{more} more candidates failed: see tables/failures.csv"] if more > 0 else [])
