"""Cross-validation on a cluster: each fit of a candidate on a fold is a unit of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.search import crossval
from hpcml.workloads.search.crossval import Fold, Scored, Setup
from hpcml.workloads.search.fits import Fit


class CrossValidation:
    """Fit candidates on folds of the training samples, which are sent to the workers once.

    Parameters
    ----------
    split : Split
        Its training samples are fitted on.

    Attributes
    ----------
    finished : list of Fit
        In the order in which they finished.
    """

    def __init__(self, pool: TaskPool, setup: Setup, split: Split) -> None:
        self.setup, self.split = setup, split
        self.finished: list[Fit] = []
        self._pool = pool
        # Never sent with each unit: unpickling an estimator and its scorers takes longer than a
        # separate task.
        self._shared = pool.share((setup, split.X, split.y, split.weights))
        self._shared.spread()

    def score(self, candidates: Sequence[Mapping[str, Any]], folds: Sequence[Fold]) -> list[list[Scored]]:
        """Fit and score all candidates on all folds.

        Returns
        -------
        list of (list of Scored)
            By candidate and fold.

        Raises
        ------
        WorkloadError
            If a fit fails, and ``error_score`` is "raise".
        """
        # One task for all folds, as for all data: Dask queues tasks until a worker is free only if
        # they have few dependencies.
        made = self._pool.spread([(np.asarray(train), np.asarray(test)) for train, test in folds])
        places = {
            f"candidate {number}, fold {fold}": (number, fold)
            for number in range(len(candidates))
            for fold in range(len(folds))
        }
        todo = ((key, (self._shared, made, fold, candidates[number])) for key, (number, fold) in places.items())
        failed = None if self.setup.error_score == "raise" else self._failed
        found: list[list[Any]] = [[None] * len(folds) for _ in candidates]
        for key, scored in self._pool.each(crossval.fit_and_score, todo, failed=failed):
            number, fold = places[key]
            found[number][fold] = scored
            self.finished.append(Fit.of(number, fold, candidates[number], scored))
        return found

    def refit(self, parameters: Mapping[str, Any]) -> Any:
        """Fit a candidate on all training samples, on a worker, because the head is small.

        Raises
        ------
        WorkloadError
        """
        return self._pool.call("refit", crossval.refit, self._shared, parameters)

    def test(self, model: Any) -> Mapping[str, float]:
        """Score a fitted model on the held-out samples, of which large ones stay on a worker.

        Raises
        ------
        Exception
            Any error of the scorer.
        """
        scorer, split = self.setup.scorer, self.split
        if not split.is_large:
            return crossval.score(scorer, model, split.X_test, split.y_test)
        X = self._pool.share(split.X_test)
        found: Mapping[str, float] = self._pool.call("test score", crossval.score, scorer, model, X, split.y_test)
        return found

    def _failed(self, _: str, why: str) -> Scored:
        return crossval.failed(self.setup, 0.0, why.partition("\n")[0], fitted=False)
