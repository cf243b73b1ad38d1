"""Trials: fits on a few samples that show whether a run can work before it starts anything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcml.data import samples
from hpcml.data.sampling import evenly, of_each_class
from hpcml.errors import ConfigError, printable
from hpcml.units import count
from hpcml.workloads.trial.child import Child, Stopped

log = logging.getLogger(__name__)

Candidate = Mapping[str, Any]

# Samples of a trial, and of its repetition after a failure, which might be due to so few samples.
SAMPLES, MORE_SAMPLES = 200, 2000

# Candidates to fit at most, and the seconds after which no other one is begun.
_MOST, _BUDGET_S = 50, 20.0

# A value of a parameter fails if this many candidates that have it fail, and none can be fitted.
_TRIES = 3

# Trees of an ensemble in a trial, at most.
_TREES = 10


@dataclass(frozen=True)
class Trial:
    """The fit that a trial makes, its data and its candidates.

    Parameters
    ----------
    fit : callable
        Called in another process with ``X``, ``y`` and a candidate; raises whatever the fit or its
        score raises.
    X, y : samples and array
        All training samples, of which the trial takes a few; ``y`` may be None.
    stratify : bool
        Whether ``y`` has classes, of which all have to be among the few samples.
    pairwise : bool
        Whether ``X`` has a column for each sample, as a precomputed kernel has.
    candidates : sequence of mapping
        Parameters to set before a fit.
    """

    fit: Callable[[Any, Any, Candidate], None]
    X: Any
    y: Any
    stratify: bool = False
    pairwise: bool = False
    candidates: Sequence[Candidate] = field(default=({},))

    @property
    def n_samples(self) -> int:
        return int(self.X.shape[0])

    def sample(self, size: int) -> tuple[Any, Any]:
        """Return about ``size`` samples in their order, evenly spaced, of each class if there are any."""
        rows = evenly(np.arange(self.n_samples), size)
        if self.stratify:
            rows = of_each_class(self.y, size)
        X = samples.whole(self.X)[np.ix_(rows, rows)] if self.pairwise else samples.take(self.X, rows)
        return X, None if self.y is None else self.y[rows]


def check(trial: Trial) -> None:
    """Fit the first candidate, and one with each value of the parameters that vary.

    A value is rejected if no candidate that has it can be fitted, because a grid may contain
    combinations that do not suit each other. A failure on a few samples is repeated with more of
    them, and counts if it is the same then. A fit that takes too long or too much memory shows
    nothing: the log reports it.

    Raises
    ------
    ConfigError
        If a value fails.
    """
    failures = _confirm(trial, _fit_each_value(trial))
    if not failures:
        return
    first, *others = failures
    more = f"; {count(len(others), 'other value')} failed too" if others else ""
    raise ConfigError(
        f"{first.subject()} cannot be fitted: {first.error}{more}",
        *([f"tried with {show(first.candidate)}"] if first.candidate else []),
        "hpcml fits a few samples before it starts anything; trial=false skips this",
    )


@dataclass(frozen=True)
class _Failure:
    """A value whose candidates all failed; ``value`` is None if all candidates failed."""

    candidate: Candidate
    value: tuple[str, str] | None
    error: str

    def subject(self) -> str:
        return "the model" if self.value is None else f"the model with {'='.join(self.value)}"


class _Tally:
    """The values that could be fitted, and the failures of others."""

    def __init__(self) -> None:
        self.tried = 0
        self._good: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], list[tuple[Candidate, str]]] = {}
        self._first: _Failure | None = None
        self._fitted = False

    def wants(self, candidate: Candidate) -> bool:
        """Return whether a fit would show something new: the first one does."""
        undecided = [value for value in _values(candidate) if value not in self._good]
        return not self.tried or any(len(self._failed.get(value, [])) < _TRIES for value in undecided)

    def note(self, candidate: Candidate, error: str | None) -> None:
        self.tried += 1
        if error is None:
            self._fitted = True
            self._good.update(_values(candidate))
            return
        self._first = self._first or _Failure(candidate, None, error)
        for value in _values(candidate):
            self._failed.setdefault(value, []).append((candidate, error))

    def failures(self) -> list[_Failure]:
        if self._first is not None and not self._fitted:
            return [self._first]
        bad = {value: failed[0] for value, failed in self._failed.items() if value not in self._good}
        return [_Failure(candidate, value, error) for value, (candidate, error) in bad.items()]


def _fit_each_value(trial: Trial) -> list[_Failure]:
    """Fit candidates until each value has been fitted once or has failed often enough."""
    tally, ends = _Tally(), time.monotonic() + _BUDGET_S
    with Child(trial.fit, *trial.sample(SAMPLES)) as child:
        for candidate in filter(tally.wants, trial.candidates):
            if tally.tried == _MOST or time.monotonic() > ends:
                log.info("the trial ended after %s", count(tally.tried, "candidate"))
                break
            try:
                tally.note(candidate, child.fit(candidate))
            except Stopped as stopped:
                log.info("the trial was stopped: %s", stopped)
                break
    return tally.failures()


def _confirm(trial: Trial, failures: Sequence[_Failure]) -> list[_Failure]:
    """Return the failures that are not due to the few samples: the same ones occur with more, or any with all."""
    if not failures or trial.n_samples <= SAMPLES:
        return list(failures)
    confirmed = []
    with Child(trial.fit, *trial.sample(MORE_SAMPLES)) as child:
        for failure in failures:
            try:
                error = child.fit(failure.candidate)
            except Stopped as stopped:
                log.info("the trial was stopped: %s", stopped)
                break
            if error is not None and (trial.n_samples <= MORE_SAMPLES or error == failure.error):
                confirmed.append(failure)
            else:
                log.info("%s fails on a few samples only: %s", failure.subject(), failure.error)
    return confirmed


def _values(candidate: Candidate) -> list[tuple[str, str]]:
    """Return a candidate's names with their values, as texts, since estimators cannot be hashed."""
    return [(name, printable(value, 60)) for name, value in candidate.items()]


def show(candidate: Candidate) -> str:
    """Render the parameters of a candidate for the screen."""
    return ", ".join("=".join(value) for value in _values(candidate))


def few_trees(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a trial changes: more than ten trees take time and show no more."""
    return {
        name: _TREES
        for name, value in parameters.items()
        if name.rpartition("__")[2] == "n_estimators" and isinstance(value, int) and value > _TREES
    }
