"""A single fit of an estimator that takes Dask arrays, on blocks held by the workers."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcml.data import Blocks, Dataset, in_blocks
from hpcml.data.blocks import Block
from hpcml.errors import ConfigError, DataError, WorkloadError
from hpcml.keys import check_keys, config_key, documented, kind, share, whole
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.dask_fit import dask_models, retry
from hpcml.workloads.dask_fit.dask_models import Predictor
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.engine.persisted_blocks import PersistedBlocks
from hpcml.workloads.engine.recomputable import renew
from hpcml.workloads.engine.stacked_arrays import stack
from hpcml.workloads.inputs import block_scores, key_texts
from hpcml.workloads.inputs.block_scores import Part, Score
from hpcml.workloads.inputs.checks import check_model
from hpcml.workloads.inputs.labels import estimator_name
from hpcml.workloads.inputs.weights import reject_weights

if TYPE_CHECKING:
    from distributed import Client


@documented
@dataclass(kw_only=True)
class DaskFit:
    """Fit an estimator of dask_ml, xgboost.dask or lightgbm on all workers at once, and score it.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    test_size: float | None = config_key(
        0.25,
        "Share of each block's samples held out for the score. null or 0: the training samples are scored",
        share(),
    )
    scoring: Any = config_key(
        None,
        key_texts.BLOCK_SCORING,
        kind("scorer, false or null"),
    )
    block_size: int | None = config_key(None, key_texts.BLOCK_SIZE, whole())

    def __post_init__(self) -> None:
        check_keys(self, "workload.")

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject estimators that do not take Dask arrays, and data that does not suit."""
        inputs.reject_preprocess("workload=dask_fit")
        model, data = inputs.model, inputs.data
        if model is None:
            raise ConfigError("model: there is none to fit", "for example model=dask_logistic, xgboost or lightgbm")
        check_model(model)
        dask_models.check_kind(model)
        if data is None:
            raise ConfigError("data: there is nothing to fit on", "for example data=classification")
        blocks = in_blocks(data, self.block_size)
        blocks.check_numeric(type(model).__name__)
        if not blocks.has_target and dask_models.has_target(model):
            kind = type(model).__name__
            raise DataError(f"{blocks.name}: {kind} needs a target, and there is none", "name it: data.target=COLUMN")
        if isinstance(data, Dataset):
            reject_weights(data, "workload=dask_fit")
            data = data.dense(type(model).__name__).labelled()
            dask_models.check_samples(data, model)
            if dask_models.has_classes(model):
                dask_models.check_classes(np.unique(data.y), model, data.name)
        score = self._score(model)
        n_units = len(blocks) * (1 + (score is not None)) + 1
        description = f"one fit of {estimator_name(model)} on all workers"
        return Prepared(n_units, description, functools.partial(self._run, blocks, score, inputs))

    def _score(self, model: Any) -> Score | None:
        if self.scoring is None and dask_models.has_target(model):
            return Score("accuracy" if dask_models.has_classes(model) else "r2")
        score = block_scores.resolve(self.scoring, model)
        if score is not None and not dask_models.has_target(model):
            raise ConfigError(
                f"workload.scoring={score.name}: {estimator_name(model)} predicts nothing to compare with a target",
                "use workload.scoring=null",
            )
        return score

    def _run(self, blocks: Blocks, score: Score | None, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Read the blocks, fit the model to Dask arrays of them, and score it block by block."""
        model = inputs.model
        began, test_size = time.monotonic(), (self.test_size or 0.0) if score is not None else 0.0
        persisted = PersistedBlocks(client, units, blocks, _parted, _Facts.of, model, test_size, inputs.seed)
        classes = self._check_read(persisted, model, blocks.name)
        arrays = _Arrays(persisted)
        metrics: dict[str, Any] = {
            "n_samples": sum(facts.shape[0] for facts in persisted.facts),
            "n_features": persisted.facts[0].shape[1],
            "n_held_out": sum(facts.n_test for facts in persisted.facts) if test_size else 0,
            "read_s": time.monotonic() - began,
        }
        fitted, metrics["fit_s"], warnings = retry.fit(model, arrays, client)
        outcome = Outcome(
            metrics, model=fitted, warnings=[*persisted.memory_note(), *warnings], summary=_summary(metrics)
        )
        units.so_far = lambda: outcome
        units.finish("fit", metrics)
        if score is None:
            return outcome
        predictor = fitted if score.scorer is not None else Predictor(fitted, classes)
        parts = [part for part in persisted.each("score", _part, score, predictor) if part is not None]
        try:
            metrics |= {"scoring": score.name, "score": score.of(parts)}
        except Exception as error:
            raise WorkloadError(
                f"the score {score.name} cannot be computed: {cause(error)}", "the model is saved"
            ) from error
        return replace(outcome, metrics=metrics, summary=_summary(metrics))

    def _check_read(self, persisted: PersistedBlocks, model: Any, name: str) -> Any:
        """Make the checks that need all blocks; return the classes."""
        widths = [facts.shape[1] for facts in persisted.facts]
        odd = [number for number, width in enumerate(widths) if width != widths[0]]
        if odd:
            raise WorkloadError(f"{name}: block {odd[0]} has {widths[odd[0]]} features, block 0 has {widths[0]}")
        if not dask_models.has_classes(model):
            return None
        try:
            classes = np.unique(np.concatenate([facts.classes for facts in persisted.facts]))
            dask_models.check_classes(classes, model, name)
            dask_models.check_each([facts.classes for facts in persisted.facts], classes, model, name)
        except TypeError as error:
            raise WorkloadError(
                f"{name}: the target mixes types: {error}", "make it all text or all numbers"
            ) from error
        except DataError as error:
            raise WorkloadError(error.message, *error.hints) from None
        return classes


def _parted(block: Block, number: int, model: Any, test_size: float, seed: int) -> tuple[Any, ...]:
    """Read a block and split it into training and held-out samples, on a worker.

    Returns
    -------
    tuple
        Training samples and target, held-out samples and target, and the classes in training.
    """
    data = block.load().dense(estimator_name(model)).labelled()
    dask_models.check_samples(data, model)
    X = data.X if data.X.dtype.kind == "f" else data.X.astype(np.float64)
    y: Any = data.y if dask_models.has_target(model) else None
    if y is not None and y.dtype.kind == "b":
        y = y.astype(np.int8)
    held = np.zeros(len(X), dtype=bool)
    count = round(test_size * len(X))
    if count == len(X):
        raise DataError(f"{data.name}: all of its {count} samples would be held out", "take larger blocks")
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    held[generator.choice(len(X), size=count, replace=False)] = True
    if y is None:
        return X, None, X[:0], None, np.array([])
    classes = np.unique(y[~held]) if dask_models.has_classes(model) else np.array([])
    return (X[~held], y[~held], X[held], y[held], classes) if count else (X, y, X, y, classes)


@dataclass(frozen=True)
class _Facts:
    """Facts about a split block.

    These are the shape of its training samples, the dtypes, the number of scored samples, and the
    classes.
    """

    shape: tuple[int, int]
    types: tuple[Any, Any]
    n_test: int
    classes: Any

    @classmethod
    def of(cls, held: tuple[Any, ...]) -> _Facts:
        X, y, X_test, _, classes = held
        return cls(X.shape, (X.dtype, None if y is None else y.dtype), len(X_test), classes)


class _Arrays:
    """Dask arrays of the training samples; other than those, workers keep only samples to score."""

    def __init__(self, persisted: PersistedBlocks) -> None:
        self._facts = persisted.facts
        self._X = persisted.items(0)
        self._y = None if persisted.facts[0].types[1] is None else persisted.items(1)
        persisted.narrow(slice(2, 4))

    def renew(self) -> bool:
        """Recompute chunks that Dask gave up on because workers died; return whether all exist."""
        return renew([*self._X, *(self._y or [])])

    def __call__(self) -> tuple[Any, Any]:
        """Return X and y; y is None without a target."""
        shapes, types = [one.shape for one in self._facts], [one.types for one in self._facts]
        X = stack([chunk.future for chunk in self._X], shapes, np.result_type(*(of_x for of_x, _ in types)))
        if self._y is None:
            return X, None
        y_type = np.result_type(*(of_y for _, of_y in types))
        return X, stack([chunk.future for chunk in self._y], [shape[:1] for shape in shapes], y_type)


def _part(held: tuple[Any, Any], _: int, score: Score, model: Any) -> Part | None:
    """Score the held-out samples of a block, on a worker."""
    X, y = held
    return score.part(model, X, y) if len(X) else None


def _summary(metrics: Mapping[str, Any]) -> dict[str, str]:
    shape = f"{metrics['n_samples']} samples x {metrics['n_features']} features"
    lines = {"fit": f"{metrics['fit_s']:.3g} s on {shape}"}
    if "score" in metrics:
        on = f"{metrics['n_held_out']} held-out" if metrics["n_held_out"] else "the training"
        lines[metrics["scoring"]] = f"{metrics['score']:.4f} on {on} samples"
    return lines
