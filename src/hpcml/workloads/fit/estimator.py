"""FitEstimator: fits one estimator on the whole cluster and scores it on held-out samples."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring

from hpcml.data import samples
from hpcml.errors import ConfigError, HpcmlError, WorkloadError
from hpcml.keys import check_keys, choice, config_key, documented, flag, kind, share, whole
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.fit import forest, joblib_calls
from hpcml.workloads.footprint import footprint
from hpcml.workloads.inputs import key_texts
from hpcml.workloads.inputs.checks import check_data, check_values, classifies
from hpcml.workloads.inputs.hold_out import hold_out, order_of
from hpcml.workloads.inputs.labels import estimator_name, score_lines
from hpcml.workloads.inputs.preprocessing import suit
from hpcml.workloads.inputs.sample_order import find_ordered
from hpcml.workloads.inputs.scoring import check_scores, resolve_scoring
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.inputs.trials import trial
from hpcml.workloads.inputs.weights import weight_argument
from hpcml.workloads.trial.trial import few_trees

if TYPE_CHECKING:
    from distributed import Client

WAYS = ("trees", "joblib", "none")

# Up to this product of trees and held-out samples, the head scores (about two seconds); above it, a
# worker does.
_SCORED_HERE = 20_000_000


@documented
@dataclass(kw_only=True)
class FitEstimator:
    """Fit an estimator.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    parallel: str | None = config_key(
        None,
        "trees: a forest's trees, in chunks. joblib: the estimator's own joblib calls. none: one fit on one worker. "
        "null: what suits the estimator",
        choice(*WAYS),
    )
    chunk: int | None = config_key(
        None,
        "Trees of a unit of work. null: enough for a tenth of a second, and 256 units at most",
        whole(),
    )
    scoring: Any = config_key(
        None,
        key_texts.SCORING,
        kind("scorer, list of scorers, or null"),
    )
    test_size: float | None = config_key(0.25, key_texts.TEST_SIZE, share())
    stratify: bool = config_key(True, key_texts.STRATIFY, flag())
    shuffle: bool | None = config_key(
        None,
        key_texts.SHUFFLE,
        flag(),
    )

    # The checks and the number of units need a sample of large data only.
    plans_on_a_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_keys(self, "workload.")

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject data and scorers that do not suit, and parallel modes that the estimator lacks."""
        if inputs.data is None:
            raise ConfigError("data: a fit needs some", "for example data=digits")
        inputs = suit(inputs)
        check_values(inputs.model, varied=[])
        data = inputs.dataset
        check_data(data, inputs.model)
        self._check_way(inputs.model)
        weight_argument(inputs.model, data)
        if self.test_size:
            check_scores(resolve_scoring(self.scoring, inputs.model), inputs)
        split = self.split(inputs)
        model, size = inputs.model, footprint(data, self.test_size, 0)
        tried = trial(functools.partial(self._try, model), model, split)
        way, name = self.way(model), estimator_name(model)
        if way == "joblib":
            n_units = joblib_calls.expected(model, len(np.unique(data.y)) if classifies(model) else 0)
            description = f"one fit of {name}, its joblib calls on the workers"
            run = functools.partial(self._run, split, inputs, [])
            size = replace(size, in_head=size.data) if data.is_large else size  # The head fits.
            return Prepared(n_units, description, run, size, inputs.notes, tried)
        if way == "none":
            description = f"one fit of {name}, on one worker"
            run = functools.partial(self._run, split, inputs, [])
            return Prepared(1 + split.is_large, description, run, size, inputs.notes, tried)
        forest.check(model)
        chunks = forest.chunks(model.n_estimators, self.chunk, (data.n_all, data.X.shape[1]))
        n_units = len(chunks) + bool(model.oob_score)
        n_units += split.is_large or _is_large(model, split.n_test * data.n_all // data.n_samples)
        description = f"one fit of {name}, its {model.n_estimators} trees in chunks of {chunks[0][1]}"
        run = functools.partial(self._run, split, inputs, chunks)
        return Prepared(n_units, description, run, size, inputs.notes, tried)

    def _check_way(self, model: Any) -> None:
        name = type(model).__name__
        if self.parallel == "trees" and not forest.is_forest(model):
            raise ConfigError(
                f"workload.parallel=trees: {name} is not a random forest or extra trees of scikit-learn",
                "use workload.parallel=joblib for an estimator that has n_jobs",
            )
        if self.parallel == "joblib" and not joblib_calls.has_n_jobs(model):
            raise ConfigError(
                f"workload.parallel=joblib: {name} has no n_jobs, so its fit calls no joblib",
                "use workload.parallel=none; workload=search fits many at a time",
            )
        if self.chunk is not None and self.way(model) != "trees":
            raise ConfigError(f"workload.chunk={self.chunk}: {name} is not grown in chunks of trees")

    def way(self, model: Any) -> str:
        """Return how the fit of a model is parallelised."""
        if self.parallel is not None:
            return self.parallel
        if forest.is_forest(model):
            return "trees"
        return "joblib" if joblib_calls.is_made_of_fits(model) else "none"

    def split(self, inputs: Inputs) -> Split:
        """Hold out the test samples."""
        shuffle = order_of(find_ordered(None, inputs.model), self.shuffle)
        return hold_out(inputs, self.test_size, stratify=self.stratify, shuffle=shuffle)

    def _try(self, model: Any, X: Any, y: Any, parameters: Mapping[str, Any]) -> None:
        """Fit and score the model on a few samples."""
        model = clone(model).set_params(**parameters)
        model.set_params(**few_trees(model.get_params(deep=True)))
        with joblib.parallel_config(backend="sequential"):  # One core suffices for a few samples.
            _fit(model, X, y, {})
            if self.test_size:
                _score(self._scorers(model), model, X, y)

    def _scorers(self, model: Any) -> Mapping[str, Any]:
        scoring = resolve_scoring(self.scoring, model)
        return scoring if isinstance(scoring, dict) else {"score": check_scoring(model, scoring)}

    def _run(
        self, split: Split, inputs: Inputs, chunks: list[tuple[int, int]], client: Client, units: Units
    ) -> Outcome:
        """Fit the model on the cluster and score it on the held-out samples."""
        way, model = self.way(inputs.model), clone(inputs.model)
        lines = {}
        if way == "trees" and model.random_state is None:  # all chunks of a forest share it
            model.set_params(random_state=inputs.seed)
            lines["seed"] = f"random_state={inputs.seed}, the run's: the model names none"
        began = time.monotonic()
        argument = weight_argument(inputs.model, inputs.dataset)
        keywords = {} if argument is None else {argument: split.weights}
        if way == "trees":
            fitted = self._trees(model, chunks, split, keywords, TaskPool(client, units))
        elif way == "joblib":
            fitted = _spread(model, split, keywords, client, units)
        else:
            split = split.laid_out(units.directory)
            fitted = TaskPool(client, units).call("fit", _fit, model, split.X, split.y, keywords)
        metrics: dict[str, Any] = {"parallel": way, "fit_s": time.monotonic() - began}
        if way == "trees":
            metrics["n_trees"] = len(fitted.estimators_)
            lines["forest"] = f"{metrics['n_trees']} trees of {_nodes(fitted)} nodes"
        outcome = Outcome(metrics=metrics, model=fitted, summary=lines, warnings=_idle(way, model, client, units))
        units.so_far = lambda: outcome
        metrics["test_scores"] = self._test(outcome, split, TaskPool(client, units))
        lines |= score_lines(metrics["test_scores"], split)
        return outcome

    def _trees(
        self, model: Any, chunks: list[tuple[int, int]], split: Split, keywords: dict[str, Any], pool: TaskPool
    ) -> Any:
        X, y = pool.spread(split.laid_out(pool.units.directory).X), pool.spread(split.y)
        given = pool.spread(keywords)
        todo = ((f"trees {begin} to {end - 1}", (model, (begin, end), X, y, given)) for begin, end in chunks)
        grown = pool.ordered(forest.grow, todo, lambda done: _partial(list(done.values()), model))
        whole = forest.merge(list(grown.values()), model)
        if model.oob_score:
            found = pool.call("out-of-bag score", forest.out_of_bag, pool.share(whole), X, y)
            vars(whole).update(found)
        return whole

    def _scores_on_worker(self, outcome: Outcome, split: Split) -> bool:
        """Return whether the head is too small, or would be busy for long, unless it has fitted the model itself."""
        way = outcome.metrics["parallel"]
        if way == "joblib":
            return False
        return split.is_large or (way == "trees" and _is_large(outcome.model, split.n_test))

    def _test(self, outcome: Outcome, split: Split, pool: TaskPool) -> Mapping[str, float] | None:
        if split.X_test is None:
            return None
        model = outcome.model
        scorers = self._scorers(model)
        try:
            if self._scores_on_worker(outcome, split):
                shared, X = pool.share(model), pool.share(split.laid_out(pool.units.directory).X_test)
                return dict(pool.call("test score", _score, scorers, shared, X, split.y_test))
            return _score(scorers, model, split.X_test, split.y_test)
        except Exception as error:
            raise WorkloadError(
                f"the held-out samples could not be scored: {cause(error)}", "the model is saved", outcome=outcome
            ) from error


def _fit(model: Any, X: Any, y: Any, keywords: Mapping[str, Any]) -> Any:
    """Fit a model, on a worker."""
    return model.fit(samples.whole(X), y, **keywords)


def _spread(model: Any, split: Split, keywords: Mapping[str, Any], client: Client, units: Units) -> Any:
    units.total = 1
    try:
        fitted = joblib_calls.fit(model, samples.whole(split.X), split.y, keywords, TaskPool(client, units))
    except HpcmlError as error:
        raise WorkloadError(error.message, *error.hints) from error
    except Exception as error:
        raise WorkloadError(f"{type(model).__name__}: {cause(error)}") from error
    units.finish("fit")
    return fitted


def _idle(way: str, model: Any, client: Client, units: Units) -> list[str]:
    """Return warnings about workers that had nothing to do."""
    name, workers = type(model).__name__, len(client.nthreads())
    if way == "joblib" and units.total == 1:
        return [f"{name} called joblib for nothing that workers can do: it was fitted in the head, alone"]
    if way == "none" and workers > 1:
        hint = "; workload.parallel=joblib spreads its joblib calls" if joblib_calls.has_n_jobs(model) else ""
        return [f"{name} was fitted on one worker, and {workers - 1} of {workers} had nothing to do{hint}"]
    return []


def _partial(parts: list[Any], model: Any) -> Outcome:
    if not parts:
        return Outcome()
    partial = forest.merge(parts, model)
    count = len(partial.estimators_)
    text = f"the forest has {count} of {model.n_estimators} trees: those that were grown when the run ended"
    return Outcome(metrics={"parallel": "trees", "n_trees": count}, model=partial, warnings=[text])


def _is_large(model: Any, n_test: int) -> bool:
    """Return whether scoring a forest would keep the head busy for long."""
    return bool(model.n_estimators * n_test > _SCORED_HERE)


def _nodes(model: Any) -> int:
    nodes: int = sum(tree.tree_.node_count for tree in model.estimators_)
    return round(nodes / len(model.estimators_))


def _score(scorers: Mapping[str, Any], model: Any, X: Any, y: Any) -> dict[str, float]:
    """Score a fitted model, in the head or on a worker."""
    X = samples.whole(X)
    scores: dict[str, float] = {}
    for name, scorer in scorers.items():
        found = scorer(model, X, y)
        scores |= found if isinstance(found, dict) else {name: float(found)}
    return scores
