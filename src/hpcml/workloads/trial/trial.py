"""Trials: fits on a few samples that show whether a run can work before it starts anything."""

from __future__ import annotations

import logging
import re
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

# Failures to repeat with more samples, at most.
_CONFIRMED = 2

# Words of errors that few samples may cause, although they would be the same with more of them.
_OF_SAMPLES = re.compile(
    r"sample|class|document|example|fold|member|component|neighbo|split|vocabulary|row|label|group|cluster|quantile",
    re.I,
)

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
    is_grid : bool
        Whether the candidates are all combinations of some values.
    """

    fit: Callable[[Any, Any, Candidate], None]
    X: Any
    y: Any
    stratify: bool = False
    pairwise: bool = False
    candidates: Sequence[Candidate] = field(default=({},))
    is_grid: bool = True

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


def check(trial: Trial) -> list[str]:
    """Fit the first candidate, and one with each value of the parameters that vary.

    A value is rejected if no candidate that has it can be fitted, because a grid may contain
    combinations that do not suit each other. A failure on a few samples is repeated with more of
    them, and counts if it is the same then and does not speak of the samples. A fit that takes too
    long or too much memory shows nothing: the log reports it.

    Returns
    -------
    list of str
        Warnings about failures that may be due to so few samples.

    Raises
    ------
    ConfigError
        If a value fails.
    """
    ends = time.monotonic() + _BUDGET_S
    doubtful = []
    for failure in _fit_each_value(trial, ends)[:_CONFIRMED]:
        if _is_confirmed(trial, failure):
            raise failure.error_of_request()
        doubtful.append(f"{failure.subject()} cannot be fitted on a few samples: {failure.error}")
    return doubtful


@dataclass(frozen=True)
class _Failure:
    """A value whose candidates all failed; ``value`` is None if all candidates failed."""

    candidate: Candidate
    value: tuple[str, str] | None
    error: str

    def subject(self) -> str:
        return "the model" if self.value is None else f"the model with {'='.join(self.value)}"

    def error_of_request(self) -> ConfigError:
        return ConfigError(
            f"{self.subject()} cannot be fitted: {self.error}",
            *([f"tried with {show(self.candidate)}"] if self.candidate else []),
            "hpcml fits a few samples before it starts anything; trial=false skips this",
        )


class _Tally:
    """The values that could be fitted, and the failures of others."""

    def __init__(self, trial: Trial) -> None:
        self.tried = 0
        self._trial = trial
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
        bad = [value for value in self._failed if value not in self._good and self._is_decided(value)]
        first = {value: self._failed[value][0] for value in bad}
        return [_Failure(candidate, value, error) for value, (candidate, error) in first.items()]

    def _is_decided(self, value: tuple[str, str]) -> bool:
        """Return whether enough candidates with a value have failed: three, or all of a grid.

        A value that a random search has drawn may have met an unsuitable combination only.
        """
        failed = len(self._failed[value])
        if failed >= _TRIES:
            return True
        return self._trial.is_grid and failed == sum(value in _values(each) for each in self._trial.candidates)


def _fit_each_value(trial: Trial, ends: float) -> list[_Failure]:
    """Fit candidates until each value has been fitted once or has failed often enough."""
    tally = _Tally(trial)
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


def _is_confirmed(trial: Trial, failure: _Failure) -> bool:
    """Return whether a failure is not due to the few samples."""
    if trial.n_samples <= SAMPLES:
        return True
    with Child(trial.fit, *trial.sample(MORE_SAMPLES)) as child:
        try:
            error = child.fit(failure.candidate)
        except Stopped as stopped:
            log.info("the trial was stopped: %s", stopped)
            return False
    if error is None or trial.n_samples <= MORE_SAMPLES:
        return error is not None
    return error == failure.error and not _OF_SAMPLES.search(error)


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
