"""One incremental run: a look at all blocks, then passes over them, each followed by its held-out score."""

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
from hpcml.workloads import curve, divergence
from hpcml.workloads.chain import Chain, Source, State
from hpcml.workloads.crew import Crew
from hpcml.workloads.curve import Pass
from hpcml.workloads.scan import Rows, Scan, loaded, look
from hpcml.workloads.sums import Part, Score


@dataclass(frozen=True)
class Plan:
    """What is to be done.

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
    """What is asked of the held-out rows, and of whom.

    Parameters
    ----------
    trivial : estimator or None
        It takes part once.
    """

    score: Score
    model: Any
    trivial: Any


@dataclass(frozen=True)
class Marks:
    """What a block adds to the model's score, and to that of the trivial prediction."""

    model: Part
    trivial: Part | None


def mark(number: int, source: Block | Dataset, rows: Rows, exam: Exam) -> Marks | None:
    """Score the held-out rows of a block, on a worker; None if there are none."""
    X, y = rows.of(number, loaded(source), held_out=True)
    if not len(X):
        return None
    trivial = None
    if exam.trivial is not None:
        with contextlib.suppress(Exception):  # a score of the user's own may ask for what it does not have
            trivial = exam.score.part(exam.trivial, X, y)
    return Marks(exam.score.part(exam.model, X, y), trivial)


class Training:
    """The state of a run.

    Attributes
    ----------
    passes : list of Pass
        Those that are done.
    models : dict of int to estimator
        As they were after the pass of that number: the last one, and the best.
    trivial : float or None
        The score of the trivial prediction, known after the first pass.
    huge : bool
        Whether the last pass's weights are out of proportion, see :func:`divergence.is_huge`.
    """

    def __init__(self, plan: Plan, blocks: Blocks, crew: Crew) -> None:
        self.plan, self.crew, self.n_blocks = plan, crew, len(blocks)
        self.source = Source(crew, blocks)
        self.rows = Rows(plan.test_size, plan.seed)
        self.scan: Scan | None = None
        self.passes: list[Pass] = []
        self.models: dict[int, Any] = {}
        self.trivial: float | None = None
        self.huge = False

    def look(self) -> None:
        """Look at all blocks.

        Raises
        ------
        WorkloadError
            If one does not suit the model, or they do not go together.
        """
        plan = self.plan
        self.source.settle(self.source.blocks.n_bytes)
        shared = self.crew.share(self.rows), self.crew.share(plan.model), plan.classes
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
        """Learn from all blocks once more, and score.

        Raises
        ------
        WorkloadError
            If that fails, or the model has diverged.
        """
        assert self.scan is not None  # look() comes first
        number, began = len(self.passes) + 1, time.monotonic()
        self.source.settle(self.scan.n_bytes)
        rows = self.crew.share(self.rows)
        seed = [self.plan.seed, number, 1] if self.plan.shuffle else None
        order = range(self.n_blocks) if seed is None else np.random.default_rng(seed).permutation(self.n_blocks)
        chain = Chain(self.crew, self.source, rows, self.scan.classes)
        state = chain.run(self.models.get(number - 1, self.plan.model), [int(n) for n in order], f"pass {number}")
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
        best = curve.best(self.passes)
        kept = {number, best.number if best else number}
        self.models = {at: model for at, model in {**self.models, number: state.model}.items() if at in kept}

    def whole(self, model: Any) -> Any:
        """Put the scaler before a model, so that it takes features as they come."""
        return model if self.rows.scaler is None else make_pipeline(self.rows.scaler, model)

    def _of_each(self, function: Callable[..., Any], name: str, *args: Any) -> list[Any]:
        """Call a function with each block, in parallel, and give the results in the blocks' order."""
        todo = ((f"{name} {number}", (number, self.source(number), *args)) for number in range(self.n_blocks))
        found = dict(self.crew.each(function, todo))
        return [found[f"{name} {number}"] for number in range(self.n_blocks)]

    def _score(self, number: int, model: Any, rows: Any) -> float:
        assert self.plan.score is not None  # or there is nothing to call this for
        trivial = self._trivial() if number == 1 else None
        exam = self.crew.share(Exam(self.plan.score, model, trivial))
        found = self._of_each(mark, f"pass {number}, score of block", rows, exam)
        parts = [part for part in found if part is not None]
        if trivial is not None and all(part.trivial is not None for part in parts):
            self.trivial = self.plan.score.of([part.trivial for part in parts])
        return self.plan.score.of([part.model for part in parts])

    def _trivial(self) -> Any:
        """Make what predicts the most frequent class, or the mean; None if the model does neither."""
        assert self.scan is not None  # look() comes first
        if self.scan.target is not None:
            mean = float(self.scan.target.mean)
            return DummyRegressor(strategy="constant", constant=mean).fit([[0.0]], [mean])
        if self.scan.classes is None:
            return None
        counts = self.scan.counts
        return DummyClassifier(strategy="prior").fit([[0.0]] * len(counts), self.scan.classes, sample_weight=counts)

    def _check_score(self, scan: Scan) -> None:
        """Refuse a score that does not go with the classes, before the first pass is lost for it."""
        score = self.plan.score
        misfit = None if score is None or scan.classes is None else score.misfit(scan.classes)
        if score is not None and misfit is not None:
            raise WorkloadError(
                f"workload.scoring={score.name}: does not go with this target: {misfit}",
                "use workload.scoring=accuracy or f1_macro",
            )

    def _judge(self, state: State, sound: bool) -> None:
        """End the run if the model has diverged: what comes later would be no better."""
        scan, plan, last = self.scan, self.plan, self.passes[-1]
        assert scan is not None  # look() comes first
        deviation = scan.features.deviation if self.rows.scaler is None else 1.0
        self.huge = divergence.is_huge(state.model, deviation, scan.target)
        if sound and not divergence.has_diverged(state.model, self.huge, plan.score, last.score, self.trivial):
            return
        told = None
        if plan.score is not None and last.score is not None and self.trivial is not None:
            told = f"{plan.score.name} {last.score:.4g}", f"{self.trivial:.4g}"
        raise WorkloadError(
            divergence.message(f"pass {last.number}", last.largest_weight, state.overflow, told),
            *divergence.remedies(plan.model, scan, plan.scale),
            "the learning curve so far is saved",
        )
