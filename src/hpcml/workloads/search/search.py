"""Search: scikit-learn's grid and random search with cross-validation, on a cluster."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import ParameterGrid, ParameterSampler

from hpcml.errors import ConfigError, WorkloadError, nearest
from hpcml.keys import check_keys, choice, config_key, documented, flag, kind, share, whole
from hpcml.targets import locate
from hpcml.units import count
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.footprint import footprint
from hpcml.workloads.inputs import key_texts
from hpcml.workloads.inputs.checks import check_data, check_parameters, check_values
from hpcml.workloads.inputs.hold_out import hold_out, order_of
from hpcml.workloads.inputs.labels import estimator_name
from hpcml.workloads.inputs.preprocessing import suit
from hpcml.workloads.inputs.sample_order import find_ordered, is_index_pairs, shown
from hpcml.workloads.inputs.scoring import check_scores, resolve_scoring
from hpcml.workloads.inputs.splits import Folds, Split, make_folds
from hpcml.workloads.inputs.trials import trial
from hpcml.workloads.inputs.tuples import tuples_in
from hpcml.workloads.inputs.weights import weight_argument
from hpcml.workloads.search import crossval, fits, grid, summary
from hpcml.workloads.search.crossval import Setup
from hpcml.workloads.search.cv_results import results_table
from hpcml.workloads.search.validation import CrossValidation

if TYPE_CHECKING:
    from distributed import Client

METHODS = ("grid", "random")


@documented
@dataclass(kw_only=True)
class Search:
    """Find a model's best parameters by cross-validation.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    grid: Any = config_key(
        None,
        "Parameters and the values to try; with method=random a value may be a scipy distribution. null: the model "
        "as it is, a plain cross-validation",
        kind("mapping of lists, list of such mappings, or null"),
        example="{C: [0.1, 1, 10]}",
    )
    method: str = config_key("grid", "grid: all combinations. random: n_iter samples of them", choice(*METHODS))
    n_iter: int = config_key(10, "Candidates to draw with method=random", whole())
    cv: Any = config_key(
        3,
        "Number of folds, stratified for classifiers and of whole groups if the data has groups; or a splitter",
        kind("whole number, 2 or more, splitter, or list of pairs of indices"),
        example="{_target_: sklearn.model_selection.KFold, n_splits: 5}",
    )
    scoring: Any = config_key(
        None,
        key_texts.SCORING,
        kind("scorer, list of scorers, or null"),
    )
    refit: Any = config_key(
        True,
        "Whether to fit the best candidate on all training samples; with several scorers, the name of the one that "
        "chooses it; or your own function of cv_results_ that returns the index of the best, as mymodule.choose",
        kind("true, false, a scorer's name or a function"),
    )
    test_size: float | None = config_key(0.25, key_texts.TEST_SIZE, share())
    stratify: bool = config_key(True, key_texts.STRATIFY, flag())
    shuffle: bool | None = config_key(
        None,
        key_texts.SHUFFLE,
        flag(),
    )
    error_score: Any = config_key(
        math.nan, "Score of a fit that fails. raise: end the search at the first failure", kind("number or raise")
    )
    return_train_score: bool = config_key(False, "Whether to compute the scores on the training samples too", flag())

    # The checks and the number of units need a sample of large data only.
    plans_on_a_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_keys(self, "workload.")
        if isinstance(self.cv, int) and self.cv < 2:
            raise ConfigError(f"workload.cv={self.cv}: needs 2 folds or more")
        if not isinstance(self.cv, int) and not hasattr(self.cv, "get_n_splits") and not is_index_pairs(self.cv):
            raise ConfigError(
                f"workload.cv={self.cv!r}: neither a number of folds, nor a splitter, nor pairs of indices",
                "for example workload.cv=5 or 'workload.cv={_target_: sklearn.model_selection.KFold, n_splits: 5}'",
            )
        if isinstance(self.refit, str) and "." in self.refit:
            self.refit = locate(self.refit, "workload.refit")
        if not isinstance(self.refit, (bool, str)) and not callable(self.refit):
            raise ConfigError(
                f"workload.refit={self.refit}: must be true, false, the name of a scorer or a function of cv_results_"
            )
        self.error_score = _error_score(self.error_score)
        self._spaces()

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject unknown parameters and scorers, data that does not suit, and too few samples."""
        if inputs.data is None:
            raise ConfigError("data: a search needs some", "for example data=digits")
        inputs = suit(inputs, varied={name for space in self._spaces() for name in space})
        spaces = [grid.with_prefix(space, inputs.model, inputs.prefix) for space in self._spaces()]
        spaces = [tuples_in(space, inputs.model) for space in spaces]
        for space in spaces:
            check_parameters(inputs.model, space, free=set(space))
        check_values(inputs.model, varied=[name for space in spaces for name in space])
        scoring = self._scoring(inputs)
        data = inputs.dataset
        check_data(data, inputs.model)
        check_scores(scoring, inputs)
        for space in spaces:
            grid.check_distributions(space)
        split = self.split(inputs)
        folds = make_folds(split, self.cv, inputs.model)
        share = 1 - 1 / self.cv if isinstance(self.cv, int) else 0.5
        weights = weight_argument(inputs.model, data)
        setup = Setup.of(inputs.model, scoring, self.error_score, self.return_train_score, weights)
        candidates = self._candidates(spaces, inputs.seed)
        return Prepared(
            self.n_candidates * len(folds) + bool(self.refit) * (1 + split.is_large),
            self._describe(inputs.model),
            functools.partial(self._run, setup, folds, candidates),
            footprint(data, self.test_size, share, 1.0 if self.refit else share),
            inputs.notes,
            trial(
                functools.partial(crossval.try_candidate, setup),
                inputs.model,
                split,
                candidates,
                is_grid=self.method == "grid",
            ),
        )

    def _spaces(self) -> list[grid.Space]:
        return grid.normalise(self.grid, self.method)

    @property
    def n_candidates(self) -> int:
        """The number of parameter combinations to try."""
        return grid.count(self._spaces(), self.method, self.n_iter)

    def _describe(self, model: Any) -> str:
        name, ordered = estimator_name(model), find_ordered(self.cv, model)
        kept = "" if ordered is None else ", in the order of the samples"
        return f"{self.method} search over {self.n_candidates} candidates of {name}, cv={shown(self.cv)}{kept}"

    def split(self, inputs: Inputs) -> Split:
        """Hold out the test samples."""
        shuffle = order_of(find_ordered(self.cv, inputs.model), self.shuffle)
        return hold_out(inputs, self.test_size, stratify=self.stratify, shuffle=shuffle)

    def _run(
        self, setup: Setup, folds: Folds, candidates: Sequence[dict[str, Any]], client: Client, units: Units
    ) -> Outcome:
        """Search on the cluster, refit the best candidate, and score it on the held-out samples."""
        validation = CrossValidation(TaskPool(client, units), setup, folds.split.laid_out(units.directory))
        units.so_far = lambda: Outcome(tables=fits.tables(validation.finished))
        started = time.monotonic()
        scored = validation.score(candidates, folds.indices)
        failures = fits.failed(validation.finished)
        if not any(fit.fitted for row in scored for fit in row):
            raise WorkloadError(
                f"all {len(validation.finished)} fits failed; first cause: {failures[0].cause}",
                f"with the parameters {grid.show(failures[0].parameters)}",
            )
        results = results_table(candidates, scored, setup)
        metrics: dict[str, Any] = {
            "n_candidates": len(scored),
            "n_folds": len(folds),
            "n_failed_fits": len(failures),
            "search_s": time.monotonic() - started,
        }
        outcome = Outcome(
            metrics=metrics,
            tables={"cv_results": summary.columns(results), **fits.failure_tables(failures)},
            warnings=fits.warnings(failures, len(folds)),
        )
        units.so_far = lambda: outcome
        return self._choose(outcome, results, validation)

    def _candidates(self, spaces: list[grid.Space], seed: int) -> list[dict[str, Any]]:
        """Return the parameters to try, the same as scikit-learn's searches and in their order."""
        if self.method == "grid":
            return list(ParameterGrid(spaces))
        return list(ParameterSampler(spaces, n_iter=self.n_candidates, random_state=seed))

    def _choose(self, outcome: Outcome, results: Mapping[str, Any], validation: CrossValidation) -> Outcome:
        """Select the best candidate, refit it, and score it on the held-out samples."""
        if callable(self.refit):
            best = _call(self.refit, results, outcome)
            metrics = {**outcome.metrics, "chosen_by": grid.label(self.refit)}
            metric = "score" if "mean_test_score" in results else None
            return self._finish(replace(outcome, metrics=metrics), best, metric, results, validation)
        metric = self._metric(validation.setup.names)
        names = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
        if metric == "score" and names != ["score"]:  # a callable that returns several scores
            metric = self.refit if isinstance(self.refit, str) else None
        if metric not in names:  # several scores, and no choice among them
            return replace(
                outcome, summary=summary.best_of_each(results), warnings=[*outcome.warnings, *self._undecided(metric)]
            )
        scores = results[f"mean_test_{metric}"]
        if np.isnan(scores).all():
            causes = [fit.cause for fit in fits.failed(validation.finished)] or ["every fold's score is NaN"]
            raise WorkloadError(f"no candidate has a score; first cause: {causes[0]}", outcome=outcome)
        # As in scikit-learn: the first among equals, and NaN last.
        best = int(results[f"rank_test_{metric}"].argmin())
        metrics = {**outcome.metrics, "chosen_by": metric}
        return self._finish(replace(outcome, metrics=metrics), best, metric, results, validation)

    def _finish(
        self,
        outcome: Outcome,
        best: int,
        metric: str | None,
        results: Mapping[str, Any],
        validation: CrossValidation,
    ) -> Outcome:
        """Refit the best candidate, and score it on the held-out samples."""
        parameters, split = results["params"][best], validation.split
        metrics: dict[str, Any] = {**outcome.metrics, "best_index": best, "best_params": grid.described(parameters)}
        if metric is not None:
            metrics["best_score"] = float(results[f"mean_test_{metric}"][best])
            metrics["best_score_std"] = float(results[f"std_test_{metric}"][best])
        if self.refit:
            model = self._refit(parameters, validation, outcome)
            outcome = replace(outcome, metrics=metrics, model=model)
            metrics["test_scores"] = self._test(outcome, validation)
        return replace(outcome, metrics=metrics, summary=summary.summarise(metrics, parameters, split))

    def _scoring(self, inputs: Inputs) -> Any:
        """Resolve the scorers, and check that ``refit`` names one of them.

        Raises
        ------
        ConfigError
        """
        scoring = resolve_scoring(self.scoring, inputs.model)
        if not isinstance(scoring, dict):
            if isinstance(self.refit, str) and self.scoring in (None, *get_scorer_names()):
                raise ConfigError(f"workload.refit={self.refit}: there is one scorer only", "use workload.refit=true")
        elif self.refit is True or (isinstance(self.refit, str) and self.refit not in scoring):
            raise ConfigError(
                f"workload.refit={self.refit}: name the scorer to choose the best candidate by, or false for none",
                nearest(str(self.refit), scoring),
            )
        return scoring

    def _metric(self, names: Sequence[str]) -> str | None:
        """Return the name of the score to choose by, if there is one."""
        return "score" if list(names) in (["score"], []) else self.refit or None

    def _undecided(self, metric: str | None) -> list[str]:
        if self.refit is False:
            return []
        asked = "the scorer gives several scores" if metric is None else f"there is no score '{metric}'"
        return [f"{asked}: no candidate was chosen and no model fitted; name the score with workload.refit=NAME"]

    def _refit(self, parameters: Any, validation: CrossValidation, outcome: Outcome) -> Any:
        try:
            return validation.refit(parameters)
        except WorkloadError as error:
            raise WorkloadError(
                f"the best candidate could not be fitted again: {error.message.removeprefix('refit: ')}",
                f"its parameters: {grid.show(parameters)}",
                "the scores of all candidates are saved",
                *error.hints,
                outcome=outcome,
            ) from error

    def _test(self, outcome: Outcome, validation: CrossValidation) -> Mapping[str, float] | None:
        if validation.split.X_test is None:
            return None
        try:
            return validation.test(outcome.model)
        except Exception as error:
            raise WorkloadError(
                f"the held-out samples could not be scored: {cause(error)}",
                "the model and the scores of all candidates are saved",
                outcome=outcome,
            ) from error


def _call(choose: Any, results: Mapping[str, Any], outcome: Outcome) -> int:
    """Return the index of the candidate that the user's function chooses."""
    name, n = grid.label(choose), len(results["params"])
    try:
        best = int(choose(results))
    except Exception as error:
        raise WorkloadError(
            f"workload.refit={name}: {cause(error)}", "the scores of all candidates are saved", outcome=outcome
        ) from error
    if not 0 <= best < n:
        raise WorkloadError(
            f"workload.refit={name} returned {best}, and there are {count(n, 'candidate')}",
            "it must return the index of one, from 0 on; the scores of all are saved",
            outcome=outcome,
        )
    return best


def _error_score(value: Any) -> Any:
    if value == "raise":
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"workload.error_score={value!r}: must be a number, nan, or raise") from None
