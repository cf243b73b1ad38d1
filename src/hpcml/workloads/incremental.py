"""Incremental learning: one model, block after block of data larger than memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcml.data import Blocks, Dataset, in_blocks
from hpcml.errors import ConfigError, DataError, check_flag, check_share, check_whole
from hpcml.workloads import curve, summary, sums
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.checks import check_data, check_model, check_values, classifies, regresses
from hpcml.workloads.crew import Crew
from hpcml.workloads.scan import check_labels
from hpcml.workloads.sums import Score
from hpcml.workloads.training import Plan, Training

if TYPE_CHECKING:
    from distributed import Client


@dataclass(kw_only=True)
class Incremental:
    """Fit a model by ``partial_fit`` to one block after the other; what :class:`dask_ml.wrappers.Incremental` is for.

    Parameters
    ----------
    passes : int
        Over all blocks, at most.
    shuffle : bool
        Whether each pass takes the blocks in an order of its own, drawn with the run's seed.
    classes : sequence or None
        All labels that there may be. None: those that a look at all blocks finds.
    test_size : float or None
        The share of rows held out for the score, of every block; None or 0: none, and no score.
    scoring : None, False, str or callable
        As :func:`hpcml.workloads.sums.resolve` takes it. None: accuracy or r2, if rows are held out.
    patience : int or None
        Stop when the score has not been better by ``tol`` for so many passes; the result is then the model of the
        best pass, else that of the last. None: never.
    tol : float
    scale : bool
        Whether to standardise the features, by mean and variance of all training rows.
    rows : int or None
        Of a block, for data in memory; data that comes in blocks has its own.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    passes: int = 5
    shuffle: bool = True
    classes: Any = None
    test_size: float | None = 0.25
    scoring: Any = None
    patience: int | None = None
    tol: float = 0.001
    scale: bool = False
    rows: int | None = None

    def __post_init__(self) -> None:
        for name in ("passes", "patience", "rows"):
            check_whole(f"workload.{name}", getattr(self, name), none=name != "passes")
        for name in ("shuffle", "scale"):
            check_flag(f"workload.{name}", getattr(self, name))
        check_share("workload.test_size", self.test_size)
        if not _is_number(self.tol) or self.tol < 0:
            raise ConfigError(f"workload.tol={self.tol}: must be a number, 0 or more")
        _check_classes(self.classes)

    def check(self, inputs: Inputs) -> int:
        """Refuse a model that cannot learn in blocks, and data that does not suit it; count the units."""
        model, data = inputs.model, inputs.data
        check_model(model)
        _check_partial_fit(model)
        check_values(model, varied=[])
        if data is None:
            raise ConfigError("data: incremental learning needs some", "for example data=dask_classification")
        if self.classes is not None and not classifies(model):
            raise ConfigError(
                f"workload.classes={self.classes}: {type(model).__name__} is no classifier", "leave it out"
            )
        self._check_data(data, model)
        scored = self._score(inputs) is not None
        return len(in_blocks(data, self.rows)) * (1 + self.passes * (1 + scored))

    def describe(self, inputs: Inputs) -> str:
        """Say what will be computed."""
        assert inputs.data is not None  # check() refuses it
        passes = f"{'up to ' if self.patience else ''}{self.passes} pass{'' if self.passes == 1 else 'es'}"
        n_blocks = len(in_blocks(inputs.data, self.rows))
        scaled = ", features standardised" if self.scale else ""
        return f"incremental {summary.name(inputs.model)}: {passes} over {n_blocks} blocks{scaled}"

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Look at all blocks, then learn from them, pass after pass."""
        assert inputs.data is not None  # check() refuses it
        plan = Plan(
            model=inputs.model,
            seed=inputs.seed,
            shuffle=self.shuffle,
            classes=self.classes,
            test_size=self.test_size or 0.0,
            score=self._score(inputs),
            scale=self.scale,
        )
        training = Training(plan, in_blocks(inputs.data, self.rows), Crew(client, units))
        units.so_far = lambda: self._outcome(training)
        training.look()
        for _ in range(self.passes):
            training.one_pass()
            if self.patience is not None and curve.stale(training.passes, self.tol) >= self.patience:
                break
        units.total = units.done
        return self._outcome(training)

    def _score(self, inputs: Inputs) -> Score | None:
        """Resolve the score; None if there is none."""
        score = sums.resolve(self.scoring, inputs.model)
        name = f"workload.scoring={self.scoring}"
        assert inputs.data is not None  # check() refuses it
        if score is not None and not (self.test_size and _has_target(inputs.data)):
            if self.scoring is not None:
                what = "there is no target" if self.test_size else f"workload.test_size={self.test_size} holds out none"
                raise ConfigError(f"{name}: a score needs rows that are held out, with a target: {what}")
            score = None
        if score is None and self.patience is not None:
            raise ConfigError(
                f"workload.patience={self.patience}: there is no score that could stop getting better",
                "hold out rows, workload.test_size=0.25, and name a score, workload.scoring; or workload.patience=null",
            )
        if score is not None and score.name == "neg_log_loss" and not hasattr(inputs.model, "predict_proba"):
            raise ConfigError(
                f"{name}: this {type(inputs.model).__name__} gives no probabilities",
                "use workload.scoring=accuracy, or of SGDClassifier ++model.loss=log_loss",
            )
        return score

    def _check_data(self, data: Dataset | Blocks, model: Any) -> None:
        if isinstance(data, Blocks):
            if not data.has_target and (classifies(model) or regresses(model)):
                raise DataError(
                    f"{data.name}: {type(model).__name__} needs a target, and there is none",
                    "name it: data.target=COLUMN",
                )
            return
        check_data(data, model)
        if data.is_text:
            raise DataError(f"{data.name}: its samples are texts, and only numbers can be learned from in blocks")
        if self.classes is not None:
            check_labels(np.unique(data.y).tolist(), self.classes, data.name)

    def _outcome(self, training: Training) -> Outcome:
        """Tell what the finished passes amount to."""
        passes, scan = training.passes, training.scan
        if not passes or scan is None:
            return Outcome()
        best, last = curve.best(passes), passes[-1]
        chosen = best if self.patience is not None and best is not None else last
        score = training.plan.score
        model = training.models.get(chosen.number)
        metrics = {
            "n_passes": len(passes),
            "n_blocks": training.n_blocks,
            "n_training_rows": scan.features.n,
            "n_held_out_rows": scan.n_held_out,
            "samples_seen": last.samples_seen,
            "scoring": score.name if score else None,
            "final_score": last.score,
            "best_score": best.score if best else None,
            "best_pass": best.number if best else None,
            "trivial_score": training.trivial,
            "model_of_pass": chosen.number,
            "largest_weight": chosen.largest_weight,
            "blocks_kept": training.source.keeps,
            "fit_s": math.fsum(one.fit_s for one in passes),
            "pass_s": math.fsum(one.pass_s for one in passes),
            "score_s": math.fsum(one.score_s for one in passes),
        }
        outcome = Outcome(
            metrics=metrics,
            tables={"learning_curve": curve.table(passes)},
            model=None if model is None else training.whole(model),
            warnings=_doubts(training),
            summary=self._summary(training, metrics),
        )
        if score is None or best is None:
            return outcome
        return replace(outcome, figures={"learning_curve": curve.figure(passes, score.name, training.trivial)})

    def _summary(self, training: Training, metrics: dict[str, Any]) -> dict[str, str]:
        lines = {}
        if metrics["best_score"] is not None:
            name, held_out = metrics["scoring"], metrics["n_held_out_rows"]
            trivial = "" if training.trivial is None else f"; the trivial prediction's is {training.trivial:.4f}"
            final = "-" if metrics["final_score"] is None else f"{metrics['final_score']:.4f}"
            lines[f"held-out {name}"] = f"{final} after pass {metrics['n_passes']}, on {held_out} samples{trivial}"
            lines["best pass"] = f"{metrics['best_pass']}: {metrics['best_score']:.4f}"
        seen, spent = metrics["samples_seen"], metrics["pass_s"]
        lines["learned from"] = f"{seen} samples in {spent:.1f} s, {metrics['fit_s']:.1f} s of them in partial_fit"
        if self.patience is not None and metrics["n_passes"] < self.passes:
            lines["stopped"] = f"no better by {self.tol:g} for {self.patience} passes"
        lines["model of pass"] = str(metrics["model_of_pass"])
        return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_target(data: Dataset | Blocks) -> bool:
    return data.has_target if isinstance(data, Blocks) else data.y is not None


def _doubts(training: Training) -> list[str]:
    if not training.huge or training.plan.scale:
        return []
    weight = training.passes[-1].largest_weight
    return [
        f"the largest weight is {weight:.2g}, out of proportion to the features; workload.scale=true standardises them"
    ]


def _check_partial_fit(model: Any) -> None:
    name = type(model).__name__
    if not hasattr(model, "partial_fit"):
        raise ConfigError(
            f"model: {name} cannot learn in blocks: it has no partial_fit",
            "scikit-learn's that have one: SGDClassifier (model=sgd), SGDRegressor, MLPClassifier, MLPRegressor, "
            "MultinomialNB, GaussianNB, MiniBatchKMeans",
            *(["standardise features with workload.scale=true"] if hasattr(model, "steps") else []),
        )
    if getattr(model, "early_stopping", False) is True:
        raise ConfigError(
            f"model.early_stopping=true: {name} sees one block at a time, and cannot tell when to stop",
            "leave it out; workload.patience=3 does it",
        )
    if getattr(model, "class_weight", None) == "balanced":
        raise ConfigError(
            f"model.class_weight=balanced: {name} sees one block at a time, and cannot count the classes",
            "give the weights: '++model.class_weight={0: 1.0, 1: 2.5}'",
        )


def _check_classes(classes: Any) -> None:
    if classes is None:
        return
    listed = isinstance(classes, Sequence) and not isinstance(classes, str)
    if not listed or len(set(classes)) < max(2, len(classes)):
        raise ConfigError(
            f"workload.classes={classes}: must list two labels or more, each once",
            "for example 'workload.classes=[0,1]'",
        )
    if len({isinstance(label, str) for label in classes}) > 1:
        raise ConfigError(f"workload.classes={classes}: must be all text or all numbers")
