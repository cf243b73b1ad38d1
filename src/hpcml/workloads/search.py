"""Search: a cross-validated grid or random search over any estimator, by scikit-learn's own search on the cluster."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from hpcml.data import in_memory
from hpcml.errors import ConfigError, WorkloadError, check_flag, check_share, check_whole, nearest
from hpcml.files import plain
from hpcml.workloads import fits, grid, summary, worker
from hpcml.workloads.backend import ReportingBackend
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.checks import check_data, check_model, check_parameters, check_values
from hpcml.workloads.fits import Fit
from hpcml.workloads.holdout import Split, count_folds, folds_of, hold_out
from hpcml.workloads.scoring import check_scores, resolve_scoring
from hpcml.workloads.worker import Worker

if TYPE_CHECKING:
    from distributed import Client

METHODS = ("grid", "random")


@dataclass(kw_only=True)
class Search:
    """Find a model's best parameters by cross-validation.

    Parameters
    ----------
    grid : mapping of str to list, sequence of such mappings, or None
        Parameter names and the values to try; for ``method="random"`` a value may be a scipy distribution. None: the
        model as it is, a plain cross-validation.
    method : {"grid", "random"}
        Every combination, or ``n_iter`` samples of them.
    cv : int or scikit-learn splitter
        A number of folds is stratified for classifiers and, if the data has groups, never parts a group.
    scoring : str, callable, or list or mapping of them, or None
        scikit-learn's scorers, or the user's own as ``module.function``; None is the model's ``score``.
    refit : bool or str
        Whether to fit the best candidate on all training samples; of several scorers, the name of the one to choose by.
    test_size : float or None
        The share of samples held out for the test score, 0 to 1; None or 0: none.
    stratify : bool
        Whether the held-out part has the classes' proportions; classifiers only.
    shuffle : bool
        Whether to shuffle before holding out; False holds out the last samples, as time series need.
    error_score : float or "raise"
        The score of a fit that fails; "raise" ends the search at the first.
    return_train_score : bool

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    grid: Any = None
    method: str = "grid"
    n_iter: int = 10
    cv: Any = 3
    scoring: Any = None
    refit: Any = True
    test_size: float | None = 0.25
    stratify: bool = True
    shuffle: bool = True
    error_score: Any = math.nan
    return_train_score: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"workload.method={self.method}: unknown", nearest(self.method, METHODS))
        if isinstance(self.cv, int) and self.cv < 2:
            raise ConfigError(f"workload.cv={self.cv}: needs 2 folds or more")
        if not isinstance(self.cv, int) and not hasattr(self.cv, "get_n_splits"):
            raise ConfigError(
                f"workload.cv={self.cv!r}: neither a number of folds nor a splitter",
                "for example workload.cv=5 or 'workload.cv={_target_: sklearn.model_selection.KFold, n_splits: 5}'",
            )
        for name in ("stratify", "shuffle", "return_train_score"):
            check_flag(f"workload.{name}", getattr(self, name))
        if not isinstance(self.refit, (bool, str)):
            raise ConfigError(f"workload.refit={self.refit}: must be true, false or the name of a scorer")
        check_whole("workload.n_iter", self.n_iter)
        check_share("workload.test_size", self.test_size)
        self.error_score = _error_score(self.error_score)
        self._spaces()

    def check(self, inputs: Inputs) -> int:
        """Refuse unknown parameters and scorers, data that does not suit, and too few samples; count the units."""
        check_model(inputs.model)
        for space in self._spaces():
            check_parameters(inputs.model, space, free=set(space))
        check_values(inputs.model, varied=[name for space in self._spaces() for name in space])
        self._metrics(inputs)
        if inputs.data is None:
            raise ConfigError("data: a search needs some", "for example data=digits")
        check_data(in_memory(inputs.data), inputs.model)
        check_scores(self._metrics(inputs)[0], inputs)
        for space in self._spaces():
            grid.check_distributions(space)
        folds = count_folds(self.split(inputs), self.cv, inputs.model)
        return self.n_candidates * folds + bool(self.refit)

    def _spaces(self) -> list[grid.Space]:
        return grid.normalise(self.grid, self.method)

    @property
    def n_candidates(self) -> int:
        """How many parameter combinations will be tried."""
        return grid.count(self._spaces(), self.method, self.n_iter)

    def describe(self, inputs: Inputs) -> str:
        """Say what will be computed."""
        return f"{self.method} search over {self.n_candidates} candidates of {summary.name(inputs.model)}, cv={self.cv}"

    def split(self, inputs: Inputs) -> Split:
        """Hold out the test samples."""
        return hold_out(inputs, self.test_size, stratify=self.stratify, shuffle=self.shuffle)

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Search on the cluster, fit the best candidate on a worker, score it on the held-out samples."""
        split = self.split(inputs)
        finished: list[Fit] = []
        units.so_far = lambda: Outcome(tables={"fits": fits.table(finished), **fits.failure_tables(finished)})

        def report(call: Mapping[str, Any], result: Any) -> None:
            fit = Fit.of(call, result)
            finished.append(fit)
            units.finish(f"candidate {fit.candidate}, fold {fit.fold}", fit)

        backend = ReportingBackend(client, split.arrays, report, fits.died)
        scoring, metric = self._metrics(inputs)
        search = self._searcher(inputs, split, scoring)
        started = time.monotonic()
        try:
            with joblib.parallel_config(backend=backend, n_jobs=-1):
                search.fit(split.X, split.y, groups=split.groups)
        except Exception as error:
            raise _explain(error, fits.failed(finished), units.total - bool(self.refit)) from error
        results = search.cv_results_
        metrics: dict[str, Any] = {
            "n_candidates": len(results["params"]),
            "n_folds": search.n_splits_,
            "n_failed_fits": len(fits.failed(finished)),
            "search_s": time.monotonic() - started,
        }
        outcome = Outcome(
            metrics=metrics,
            tables={"cv_results": summary.columns(results), **fits.failure_tables(finished)},
            warnings=fits.warnings(finished, search.n_splits_),
        )
        units.so_far = lambda: outcome
        chosen = self._choose(outcome, search, metric, Worker(client, backend, split))
        if chosen.model is not None:
            units.finish("refit")
        return chosen

    def _choose(self, outcome: Outcome, search: Any, metric: str | None, on: Worker) -> Outcome:
        """Choose the best candidate, fit it again and test it."""
        results, metrics = search.cv_results_, dict(outcome.metrics)
        if search.multimetric_ and metric == "score":  # one callable that gives several scores
            metric = self.refit if isinstance(self.refit, str) else None
        if metric is None or f"mean_test_{metric}" not in results:  # several scores, and none of them to choose by
            return replace(
                outcome, summary=summary.best_of_each(results), warnings=[*outcome.warnings, *self._undecided(metric)]
            )
        scores = results[f"mean_test_{metric}"]
        if np.isnan(scores).all():
            cause = self._scoring_error(search, on)
            raise WorkloadError(f"no candidate has a score; first cause: {cause}", outcome=outcome)
        # As scikit-learn ranks: among equals the first, NaN last. It does not choose by itself here, because the fit of
        # the chosen one belongs on a worker, not in the head.
        best = int(results[f"rank_test_{metric}"].argmin())
        metrics["chosen_by"] = metric
        metrics["best_index"] = best
        metrics["best_params"] = plain(results["params"][best])
        metrics["best_score"] = float(scores[best])
        metrics["best_score_std"] = float(results[f"std_test_{metric}"][best])
        if self.refit:
            model = self._refit(results["params"][best], search.estimator, on, outcome)
            outcome = replace(outcome, metrics=metrics, model=model)
            metrics["test_scores"] = self._test(search, on.split, outcome)
        return replace(outcome, metrics=metrics, summary=summary.summarise(metrics, on.split))

    def _metrics(self, inputs: Inputs) -> tuple[Any, str | None]:
        """Resolve scorers, and the name in cv_results_ of the one to choose by."""
        scoring = resolve_scoring(self.scoring, inputs.model)
        if not isinstance(scoring, dict):
            if isinstance(self.refit, str) and self.scoring in (None, *get_scorer_names()):
                raise ConfigError(f"workload.refit={self.refit}: there is one scorer only", "use workload.refit=true")
            return scoring, "score"
        if self.refit is True or (isinstance(self.refit, str) and self.refit not in scoring):
            raise ConfigError(
                f"workload.refit={self.refit}: name the scorer to choose the best candidate by, or false for none",
                nearest(str(self.refit), scoring),
            )
        return scoring, self.refit or None

    def _undecided(self, metric: str | None) -> list[str]:
        if self.refit is False:
            return []
        asked = "the scorer gives several scores" if metric is None else f"there is no score '{metric}'"
        return [f"{asked}: no candidate was chosen and no model fitted; name the score with workload.refit=NAME"]

    def _searcher(self, inputs: Inputs, split: Split, scoring: Any) -> GridSearchCV | RandomizedSearchCV:
        common = {
            "scoring": scoring,
            "cv": folds_of(self.cv, split, inputs.model),
            "refit": False,
            "error_score": self.error_score,
            "return_train_score": self.return_train_score,
            # all at once: joblib's default, twice as many as there are workers, would leave those idle that come later
            "pre_dispatch": "all",
        }
        if self.method == "grid":
            return GridSearchCV(inputs.model, self._spaces(), **common)
        return RandomizedSearchCV(
            inputs.model, self._spaces(), n_iter=self.n_candidates, random_state=inputs.seed, **common
        )

    def _refit(self, parameters: Any, model: Any, on: Worker, outcome: Outcome) -> Any:
        candidate = clone(model).set_params(**clone(parameters, safe=False))
        try:
            return on.call(worker.fit, candidate)
        except Exception as error:
            raise WorkloadError(
                f"the best candidate could not be fitted again: {type(error).__name__}: {error}",
                f"its parameters: {grid.show(parameters)}",
                "the scores of all candidates are saved",
                outcome=outcome,
            ) from error

    def _test(self, search: Any, split: Split, outcome: Outcome) -> dict[str, float] | None:
        if split.X_test is None:
            return None
        try:
            scores: dict[str, float] = {}
            for name, scorer in _scorers(search).items():
                found = scorer(outcome.model, split.X_test, split.y_test)
                scores |= found if isinstance(found, dict) else {name: float(found)}
            return scores
        except Exception as error:
            raise WorkloadError(
                f"the held-out samples could not be scored: {type(error).__name__}: {error}",
                "the model and the scores of all candidates are saved",
                outcome=outcome,
            ) from error

    def _scoring_error(self, search: Any, on: Worker) -> str:
        """Find out why scoring failed: scikit-learn only warns of it, on the worker."""
        candidate = clone(search.estimator).set_params(**search.cv_results_["params"][0])
        try:
            on.call(worker.fit_and_score, candidate, list(_scorers(search).values()))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "every fold's score is NaN"


def _explain(error: Exception, failed: Sequence[Fit], planned: int) -> WorkloadError:
    if len(failed) == planned:
        return WorkloadError(
            f"all {planned} fits failed; first cause: {failed[0].cause}",
            f"with the parameters {grid.show(failed[0].parameters)}",
        )
    return WorkloadError(f"the search failed: {type(error).__name__}: {error}")


def _scorers(search: Any) -> dict[str, Any]:
    return search.scorer_ if isinstance(search.scorer_, dict) else {"score": search.scorer_}


def _error_score(value: Any) -> Any:
    if value == "raise":
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"workload.error_score={value!r}: must be a number, nan, or raise") from None
