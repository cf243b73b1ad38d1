"""The training of one incremental run: a scan, then passes, each followed by a held-out score."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import make_pipeline

from hpcml.data import Blocks, Dataset
from hpcml.data.blocks import Block
from hpcml.errors import WorkloadError
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.incremental import divergence, learning_curve
from hpcml.workloads.incremental.fit_chain import Chain, Source, State
from hpcml.workloads.incremental.learning_curve import Pass
from hpcml.workloads.incremental.scan import Rows, Scan, loaded, look
from hpcml.workloads.inputs.block_scores import Part, Score


@dataclass(frozen=True)
class Plan:
    """The parameters of a training run.

    Parameters
    ----------
    classes : sequence or None
        As given by the user.
    """

    model: Any
    seed: int
    shuffle: bool
    classes: Sequence[Any] | None
    test_size: float
    score: Score | None
    scale: bool


@dataclass(frozen=True)
class Exam:
    """A score to compute on the held-out rows, and the models to score.

    Parameters
    ----------
    trivial : estimator or None
        Scored only once.
    """

    score: Score
    model: Any
    trivial: Any


@dataclass(frozen=True)
class Marks:
    """A block's contributions to the scores of the model and of the trivial prediction."""

    model: Part
    trivial: Part | None


def mark(number: int, source: Block | Dataset, rows: Rows, exam: Exam) -> Marks | None:
    """Score the held-out rows of a block, on a worker; None if there are none."""
    X, y = rows.of(number, loaded(source), held_out=True)
    if not len(X):
        return None
    trivial = None
    if exam.trivial is not None:
        with contextlib.suppress(Exception):  # a user's scorer may need other methods
            trivial = exam.score.part(exam.trivial, X, y)
    return Marks(exam.score.part(exam.model, X, y), trivial)


class Training:
    """The state of a training run.

    Attributes
    ----------
    passes : list of Pass
        The finished passes.
    models : dict of int to estimator
        The models after the last pass and after the best one, by number of pass.
    trivial : float or None
        The score of the trivial prediction, known after the first pass.
    huge : bool
        Whether the weights after the last pass are out of proportion, see
        :func:`divergence.is_huge`.
    """

    def __init__(self, plan: Plan, blocks: Blocks, pool: TaskPool) -> None:
        self.plan, self.pool, self.n_blocks = plan, pool, len(blocks)
        self.source = Source(pool, blocks)
        self.rows = Rows(plan.test_size, plan.seed)
        self.scan: Scan | None = None
        self.passes: list[Pass] = []
        self.models: dict[int, Any] = {}
        self.trivial: float | None = None
        self.huge = False

    def look(self) -> None:
        """Scan all blocks.

        Raises
        ------
        WorkloadError
            If a block does not suit the model, or blocks are inconsistent.
        """
        plan = self.plan
        self.source.settle(self.source.blocks.n_bytes)
        shared = self.pool.share(self.rows), self.pool.share(plan.model), plan.classes
        self.scan = scan = Scan.of(self._of_each(look, "scan, block", *shared), plan.classes)
        if plan.score is not None and scan.n_held_out == 0:
            raise WorkloadError(
                f"none of {scan.features.n} rows is held out for the score",
                "hold out more: workload.test_size=0.25; or none, without a score: workload.test_size=null",
            )
        self._check_score(scan)
        self.rows = replace(
            self.rows,
            dtype=scan.dtype,
            scaler=scan.scaler() if plan.scale else None,
            text=scan.classes is not None and scan.classes.dtype.kind == "U",
        )

    def one_pass(self) -> None:
        """Fit the model to all blocks once more, and score it.

        Raises
        ------
        WorkloadError
            If that fails, or the model has diverged.
        """
        assert self.scan is not None  # look() runs first
        number, began = len(self.passes) + 1, time.monotonic()
        self.source.settle(self.scan.n_bytes)
        rows = self.pool.share(self.rows)
        seed = [self.plan.seed, number, 1] if self.plan.shuffle else None
        chain = Chain(self.pool, self.source, rows, self.scan.classes)
        state = chain.run(self.models.get(number - 1, self.plan.model), self._order(seed), f"pass {number}")
        fitted = time.monotonic()
        weight = divergence.largest(state.model)
        sound = state.overflow is None and weight != np.inf
        score = self._score(number, state.model, rows) if sound and self.plan.score is not None else None
        self.passes.append(
            Pass(
                number=number,
                samples_seen=state.rows + (self.passes[-1].samples_seen if self.passes else 0),
                score=score,
                fit_s=state.fit_s,
                pass_s=fitted - began,
                score_s=time.monotonic() - fitted,
                largest_weight=weight,
                order=None if seed is None else str(seed),
            )
        )
        self._judge(state, sound)
        self._keep_models(number, state.model)

    def _order(self, seed: list[int] | None) -> list[int]:
        """Return the order of the blocks: drawn with a seed, or as they are."""
        order = range(self.n_blocks) if seed is None else np.random.default_rng(seed).permutation(self.n_blocks)
        return [int(number) for number in order]

    def _keep_models(self, number: int, model: Any) -> None:
        """Add the model of a pass, and drop those of neither the last pass nor the best."""
        best = learning_curve.best(self.passes)
        kept = {number, best.number if best else number}
        self.models = {at: each for at, each in {**self.models, number: model}.items() if at in kept}

    def whole(self, model: Any) -> Any:
        """Prepend the scaler to a model, so that it takes unscaled features."""
        return model if self.rows.scaler is None else make_pipeline(self.rows.scaler, model)

    def _of_each(self, function: Callable[..., Any], name: str, *args: Any) -> list[Any]:
        """Call a function on each block in parallel; return the results in block order."""
        todo = ((f"{name} {number}", (number, self.source(number), *args)) for number in range(self.n_blocks))
        return list(self.pool.ordered(function, todo).values())

    def _score(self, number: int, model: Any, rows: Any) -> float:
        assert self.plan.score is not None  # otherwise it is not called
        trivial = self._trivial() if number == 1 else None
        exam = self.pool.share(Exam(self.plan.score, model, trivial))
        found = self._of_each(mark, f"pass {number}, score of block", rows, exam)
        parts = [part for part in found if part is not None]
        if trivial is not None and all(part.trivial is not None for part in parts):
            self.trivial = self.plan.score.of([part.trivial for part in parts])
        return self.plan.score.of([part.model for part in parts])

    def _trivial(self) -> Any:
        """Return a predictor of the most frequent class or the mean; None if neither applies."""
        assert self.scan is not None  # look() runs first
        if self.scan.target is not None:
            mean = float(self.scan.target.mean)
            return DummyRegressor(strategy="constant", constant=mean).fit([[0.0]], [mean])
        if self.scan.classes is None:
            return None
        counts = self.scan.counts
        return DummyClassifier(strategy="prior").fit([[0.0]] * len(counts), self.scan.classes, sample_weight=counts)

    def _check_score(self, scan: Scan) -> None:
        """Check that the score fits the classes, before a pass is spent on it."""
        score = self.plan.score
        misfit = None if score is None or scan.classes is None else score.misfit(scan.classes)
        if score is not None and misfit is not None:
            raise WorkloadError(
                f"workload.scoring={score.name}: does not go with this target: {misfit}",
                "use workload.scoring=accuracy or f1_macro",
            )

    def _judge(self, state: State, sound: bool) -> None:
        """Stop the run if the model has diverged, because later passes would be no better."""
        scan, plan, last = self.scan, self.plan, self.passes[-1]
        assert scan is not None  # look() runs first
        deviation = scan.features.deviation if self.rows.scaler is None else 1.0
        self.huge = divergence.is_huge(state.model, deviation, scan.target)
        if sound and not divergence.has_diverged(state.model, self.huge, plan.score, last.score, self.trivial):
            return
        scores = None
        if plan.score is not None and last.score is not None and self.trivial is not None:
            scores = f"{plan.score.name} {last.score:.4g}", f"{self.trivial:.4g}"
        raise WorkloadError(
            divergence.message(f"pass {last.number}", last.largest_weight, state.overflow, scores),
            *divergence.remedies(plan.model, scan, plan.scale),
            "the learning curve so far is saved",
        )
