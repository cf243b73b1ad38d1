"""FitEstimator: one estimator, fitted once on the data by the whole cluster, and scored on held-out samples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring

from hpcml.data import in_memory
from hpcml.errors import ConfigError, HpcmlError, WorkloadError, check_flag, check_share, check_whole, nearest
from hpcml.workloads import calls, forest, summary, worker
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.checks import check_data, check_model, check_values, classifies
from hpcml.workloads.crew import Crew
from hpcml.workloads.holdout import Split, hold_out
from hpcml.workloads.scoring import check_scores, resolve_scoring

if TYPE_CHECKING:
    from distributed import Client

WAYS = ("trees", "joblib", "none")

# So many trees times held-out samples are scored in the head, in about two seconds; more of them on a worker.
_SCORED_HERE = 20_000_000


@dataclass(kw_only=True)
class FitEstimator:
    """Fit an estimator.

    Parameters
    ----------
    parallel : {"trees", "joblib", "none"} or None
        How the fit is spread: a forest's trees in chunks; the estimator's own joblib calls; or not at all, on one
        worker. None: what suits the estimator.
    chunk : int or None
        Trees of a unit; None: so many that a unit takes a tenth of a second or more, and there are 256 units at most.
    scoring : str, callable, or list or mapping of them, or None
        scikit-learn's scorers, or the user's own as ``module.function``; None is the model's ``score``.
    test_size : float or None
        The share of samples held out for the test score, 0 to 1; None or 0: none.
    stratify : bool
        Whether the held-out part has the classes' proportions; classifiers only.
    shuffle : bool
        Whether to shuffle before holding out; False holds out the last samples, as time series need.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    parallel: str | None = None
    chunk: int | None = None
    scoring: Any = None
    test_size: float | None = 0.25
    stratify: bool = True
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.parallel is not None and self.parallel not in WAYS:
            raise ConfigError(f"workload.parallel={self.parallel}: unknown", nearest(str(self.parallel), WAYS))
        check_whole("workload.chunk", self.chunk, none=True)
        check_share("workload.test_size", self.test_size)
        for name in ("stratify", "shuffle"):
            check_flag(f"workload.{name}", getattr(self, name))

    def check(self, inputs: Inputs) -> int:
        """Refuse data and scorers that do not suit, and ways to spread that the estimator has not; count the units."""
        check_model(inputs.model)
        check_values(inputs.model, varied=[])
        if inputs.data is None:
            raise ConfigError("data: a fit needs some", "for example data=digits")
        data = in_memory(inputs.data)
        check_data(data, inputs.model)
        self._check_way(inputs.model)
        if self.test_size:
            check_scores(resolve_scoring(self.scoring, inputs.model), inputs)
        split = self.split(inputs)
        way = self.way(inputs.model)
        if way == "joblib":
            return calls.expected(inputs.model, len(np.unique(data.y)) if classifies(inputs.model) else 0)
        if way == "none":
            return 1
        forest.check(inputs.model)
        return len(self._chunks(inputs)) + bool(inputs.model.oob_score) + _is_large(inputs.model, split)

    def _check_way(self, model: Any) -> None:
        name = type(model).__name__
        if self.parallel == "trees" and not forest.is_forest(model):
            raise ConfigError(
                f"workload.parallel=trees: {name} is no random forest and no extra trees of scikit-learn's",
                "use workload.parallel=joblib for an estimator that has n_jobs",
            )
        if self.parallel == "joblib" and not calls.has_n_jobs(model):
            raise ConfigError(
                f"workload.parallel=joblib: {name} has no n_jobs, so its fit calls no joblib",
                "use workload.parallel=none; workload=search fits many at a time",
            )
        if self.chunk is not None and self.way(model) != "trees":
            raise ConfigError(f"workload.chunk={self.chunk}: {name} is not grown in chunks of trees")

    def way(self, model: Any) -> str:
        """Give the way in which the fit of a model is spread."""
        if self.parallel is not None:
            return self.parallel
        if forest.is_forest(model):
            return "trees"
        return "joblib" if calls.is_made_of_fits(model) else "none"

    def describe(self, inputs: Inputs) -> str:
        """Say what will be computed."""
        name, way = summary.name(inputs.model), self.way(inputs.model)
        if way == "trees":
            _, size = self._chunks(inputs)[0]
            return f"one fit of {name}, its {inputs.model.n_estimators} trees in chunks of {size}"
        return f"one fit of {name}, {'its joblib calls on the workers' if way == 'joblib' else 'on one worker'}"

    def split(self, inputs: Inputs) -> Split:
        """Hold out the test samples."""
        return hold_out(inputs, self.test_size, stratify=self.stratify, shuffle=self.shuffle)

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Fit on the cluster, and score the held-out samples."""
        split, way = self.split(inputs), self.way(inputs.model)
        model, lines = clone(inputs.model), {}
        if way == "trees" and model.random_state is None:  # the chunks of one forest must agree on it
            model.set_params(random_state=inputs.seed)
            lines["seed"] = f"random_state={inputs.seed}, the run's: the model names none"
        began = time.monotonic()
        if way == "trees":
            fitted = self._trees(model, self._chunks(inputs), split, Crew(client, units))
        elif way == "joblib":
            fitted = _spread(model, split, client, units)
        else:
            fitted = Crew(client, units).call("fit", worker.fit, model, split.X, split.y)
        metrics: dict[str, Any] = {"parallel": way, "fit_s": time.monotonic() - began}
        if way == "trees":
            metrics["n_trees"] = len(fitted.estimators_)
            lines["forest"] = f"{metrics['n_trees']} trees of {_nodes(fitted)} nodes"
        outcome = Outcome(metrics=metrics, model=fitted, summary=lines, warnings=_idle(way, model, client, units))
        units.so_far = lambda: outcome
        metrics["test_scores"] = self._test(outcome, split, Crew(client, units))
        lines |= summary.test_lines(metrics["test_scores"], split)
        return outcome

    def _chunks(self, inputs: Inputs) -> list[tuple[int, int]]:
        assert inputs.data is not None  # check() refuses it
        return forest.chunks(inputs.model.n_estimators, self.chunk, in_memory(inputs.data).X.shape)

    def _trees(self, model: Any, chunks: list[tuple[int, int]], split: Split, crew: Crew) -> Any:
        grown: dict[str, Any] = {f"trees {begin} to {end - 1}": None for begin, end in chunks}
        crew.units.so_far = lambda: _partial(grown, model)
        X, y = crew.share(split.X), crew.share(split.y)
        todo = ((key, (model, *bounds, X, y)) for key, bounds in zip(grown, chunks, strict=True))
        for key, part in crew.each(forest.grow, todo):
            grown[key] = part
        whole = forest.merge(list(grown.values()), model)
        if model.oob_score:
            found = crew.call("out-of-bag score", forest.out_of_bag, crew.share(whole), X, y)
            vars(whole).update(found)
        return whole

    def _test(self, outcome: Outcome, split: Split, crew: Crew) -> Mapping[str, float] | None:
        if split.X_test is None:
            return None
        model = outcome.model
        scoring = resolve_scoring(self.scoring, model)
        scorers = scoring if isinstance(scoring, dict) else {"score": check_scoring(model, scoring)}
        try:
            if outcome.metrics["parallel"] == "trees" and _is_large(model, split):
                shared = crew.share(model)
                return dict(crew.call("test score", _score, scorers, shared, crew.share(split.X_test), split.y_test))
            return _score(scorers, model, split.X_test, split.y_test)
        except Exception as error:
            told = error.message if isinstance(error, HpcmlError) else f"{type(error).__name__}: {error}"
            raise WorkloadError(
                f"the held-out samples could not be scored: {told}", "the model is saved", outcome=outcome
            ) from error


def _spread(model: Any, split: Split, client: Client, units: Units) -> Any:
    units.total = 1
    try:
        fitted = calls.fit(model, split.X, split.y, client, units)
    except HpcmlError as error:
        raise WorkloadError(error.message, *error.hints) from error
    except Exception as error:
        raise WorkloadError(f"{type(model).__name__}: {type(error).__name__}: {error}") from error
    units.finish("fit")
    return fitted


def _idle(way: str, model: Any, client: Client, units: Units) -> list[str]:
    """Warn of workers that had nothing to do."""
    name, workers = type(model).__name__, len(client.nthreads())
    if way == "joblib" and units.total == 1:
        return [f"{name} called joblib for nothing that workers can do: it was fitted in the head, alone"]
    if way == "none" and workers > 1:
        hint = "; workload.parallel=joblib spreads its joblib calls" if calls.has_n_jobs(model) else ""
        return [f"{name} was fitted on one worker, and {workers - 1} of {workers} had nothing to do{hint}"]
    return []


def _partial(grown: Mapping[str, Any], model: Any) -> Outcome:
    parts = [part for part in grown.values() if part is not None]
    if not parts:
        return Outcome()
    partial = forest.merge(parts, model)
    count = len(partial.estimators_)
    text = f"the forest has {count} of {model.n_estimators} trees: those that were grown when the run ended"
    return Outcome(metrics={"parallel": "trees", "n_trees": count}, model=partial, warnings=[text])


def _is_large(model: Any, split: Split) -> bool:
    """Tell whether scoring a forest would keep the head busy for long."""
    return split.X_test is not None and model.n_estimators * len(split.X_test) > _SCORED_HERE


def _nodes(model: Any) -> int:
    nodes: int = sum(tree.tree_.node_count for tree in model.estimators_)
    return round(nodes / len(model.estimators_))


def _score(scorers: Mapping[str, Any], model: Any, X: Any, y: Any) -> dict[str, float]:
    """Score a fitted model; runs here or on a worker."""
    scores: dict[str, float] = {}
    for name, scorer in scorers.items():
        found = scorer(model, X, y)
        scores |= found if isinstance(found, dict) else {name: float(found)}
    return scores
