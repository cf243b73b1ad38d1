"""Incremental learning: one model fitted block by block to data larger than memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from hpcml.data import Blocks, Dataset, in_blocks
from hpcml.errors import ConfigError, DataError
from hpcml.keys import check_keys, config_key, documented, flag, kind, number, share, whole
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.incremental import learning_curve
from hpcml.workloads.incremental.learning_curve import Pass
from hpcml.workloads.incremental.scan import check_labels
from hpcml.workloads.incremental.training import Plan, Training
from hpcml.workloads.inputs import block_scores, key_texts
from hpcml.workloads.inputs.block_scores import Score
from hpcml.workloads.inputs.checks import check_data, check_model, check_values, classifies, regresses
from hpcml.workloads.inputs.labels import estimator_name
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.inputs.trials import trial
from hpcml.workloads.inputs.weights import reject_weights
from hpcml.workloads.trial.trial import Trial

if TYPE_CHECKING:
    from distributed import Client


@documented
@dataclass(kw_only=True)
class Incremental:
    """Fit a model by ``partial_fit``, block by block, like :class:`dask_ml.wrappers.Incremental`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    passes: int = config_key(5, "Passes over all blocks, at most", whole())
    shuffle: bool = config_key(
        True,
        "Whether each pass takes the blocks in another order, drawn with the seed; rows stay in their blocks",
        flag(),
    )
    classes: Any = config_key(
        None,
        "All labels of a classifier's target. null: read from all blocks before the first pass",
        kind("list of labels or null"),
        example="[0, 1]",
    )
    test_size: float | None = config_key(
        0.25, "Share of each block's rows held out for the score after each pass. null or 0: no score", share()
    )
    scoring: Any = config_key(
        None,
        key_texts.BLOCK_SCORING,
        kind("scorer, false or null"),
    )
    patience: int | None = config_key(
        None,
        "Stop after this many passes without an improvement by tol, and take the best pass's model. null: never",
        whole(),
    )
    tol: float = config_key(0.001, "Smallest improvement of the score that counts for patience", number(least=0))
    scale: bool = config_key(
        False, "Whether to standardise the features by mean and variance of all training rows", flag()
    )
    block_size: int | None = config_key(None, key_texts.BLOCK_SIZE, whole())

    def __post_init__(self) -> None:
        check_keys(self, "workload.")
        _check_classes(self.classes)

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject a model that cannot learn in blocks, or data that does not suit it."""
        inputs.reject_preprocess("workload=incremental")
        model, data = inputs.model, inputs.data
        check_model(model)
        _check_partial_fit(model)
        check_values(model, varied=[])
        if data is None:
            raise ConfigError("data: incremental learning needs some", "for example data=dask_classification")
        if self.classes is not None and not classifies(model):
            raise ConfigError(
                f"workload.classes={self.classes}: {type(model).__name__} is not a classifier", "leave it out"
            )
        tried = self._check_data(data, model)
        plan = Plan(
            model=model,
            seed=inputs.seed,
            shuffle=self.shuffle,
            classes=self.classes,
            test_size=self.test_size or 0.0,
            score=self._score(data, model),
            scale=self.scale,
        )
        blocks = in_blocks(data, self.block_size)
        n_units = len(blocks) * (1 + self.passes * (1 + (plan.score is not None)))
        run = functools.partial(self._run, plan, blocks)
        return Prepared(n_units, self._describe(model, len(blocks)), run, trial=tried)

    def _describe(self, model: Any, n_blocks: int) -> str:
        passes = f"{'up to ' if self.patience else ''}{self.passes} pass{'' if self.passes == 1 else 'es'}"
        scaled = ", features standardised" if self.scale else ""
        return f"incremental {estimator_name(model)}: {passes} over {n_blocks} blocks{scaled}"

    def _run(self, plan: Plan, blocks: Blocks, client: Client, units: Units) -> Outcome:
        """Scan all blocks, then fit the model in several passes."""
        training = Training(plan, blocks, TaskPool(client, units))
        units.so_far = lambda: self._outcome(training)
        training.look()
        for _ in range(self.passes):
            training.one_pass()
            if self.patience is not None and learning_curve.stale(training.passes, self.tol) >= self.patience:
                break
        units.total = units.done
        return self._outcome(training)

    def _score(self, data: Dataset | Blocks, model: Any) -> Score | None:
        """Resolve the score; None if there is none."""
        score = block_scores.resolve(self.scoring, model)
        name = f"workload.scoring={self.scoring}"
        if score is not None and not (self.test_size and _has_target(data)):
            if self.scoring is not None:
                what = "there is no target" if self.test_size else f"workload.test_size={self.test_size} holds out none"
                raise ConfigError(f"{name}: a score needs rows that are held out, with a target: {what}")
            score = None
        if score is None and self.patience is not None:
            raise ConfigError(
                f"workload.patience={self.patience}: there is no score that could stop getting better",
                "hold out rows, workload.test_size=0.25, and name a score, workload.scoring; or workload.patience=null",
            )
        if score is not None and score.name == "neg_log_loss" and not hasattr(model, "predict_proba"):
            raise ConfigError(
                f"{name}: this {type(model).__name__} gives no probabilities",
                "use workload.scoring=accuracy, or of SGDClassifier ++model.loss=log_loss",
            )
        return score

    def _check_data(self, data: Dataset | Blocks, model: Any) -> Trial | None:
        """Check that the data suits the model; return its trial, if the data is in memory."""
        if isinstance(data, Blocks):
            data.check_numeric(type(model).__name__)
            if not data.has_target and (classifies(model) or regresses(model)):
                raise DataError(
                    f"{data.name}: {type(model).__name__} needs a target, and there is none",
                    "name it: data.target=COLUMN",
                )
            return None
        reject_weights(data, "workload=incremental")
        data = data.dense(type(model).__name__).labelled()
        check_data(data, model)
        if self.classes is not None:
            check_labels(np.unique(data.y).tolist(), self.classes, data.name)
        return trial(functools.partial(_try, model), model, Split(data.X, data.y, None))

    def _outcome(self, training: Training) -> Outcome:
        """Compute the outcome of the finished passes."""
        passes, score = training.passes, training.plan.score
        if not passes:
            return Outcome()
        best = learning_curve.best(passes)
        chosen = passes[-1] if self.patience is None or best is None else best
        model = training.models.get(chosen.number)
        metrics = _metrics(training, best, chosen)
        outcome = Outcome(
            metrics=metrics,
            tables={"learning_curve": learning_curve.table(passes)},
            model=None if model is None else training.whole(model),
            warnings=_doubts(training),
            summary=self._summary(training, metrics),
        )
        if score is None or best is None:
            return outcome
        return replace(outcome, figures={"learning_curve": learning_curve.figure(passes, score.name, training.trivial)})

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


def _metrics(training: Training, best: Pass | None, chosen: Pass) -> dict[str, Any]:
    """Return the metrics of the finished passes, of the best one and of that with the model to take."""
    passes, scan, score = training.passes, training.scan, training.plan.score
    assert scan is not None  # look() runs before the first pass
    last = passes[-1]
    return {
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


def _try(model: Any, X: Any, y: Any, parameters: Mapping[str, Any]) -> None:
    """Fit the model to a few samples."""
    tried = clone(model).set_params(**parameters)
    if y is None:
        tried.partial_fit(X)
    else:
        tried.partial_fit(X, y, **({"classes": np.unique(y)} if classifies(model) else {}))
