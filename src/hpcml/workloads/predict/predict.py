"""Predictions of one model for data of any size, block by block, into a table in parts."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcml.data import Blocks, Dataset, in_blocks, in_memory, load
from hpcml.errors import ConfigError, WorkloadError, nearest
from hpcml.keys import check_keys, config_key, documented, flag, kind, whole
from hpcml.units import format_size
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine import peak_memory
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.engine.task_pool import TaskPool
from hpcml.workloads.inputs import block_scores, key_texts
from hpcml.workloads.inputs.block_scores import Score
from hpcml.workloads.inputs.checks import check_data, check_model, check_values
from hpcml.workloads.inputs.labels import estimator_name
from hpcml.workloads.inputs.preprocessing import suit
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.inputs.trials import trial
from hpcml.workloads.inputs.weights import weight_argument
from hpcml.workloads.predict import categories, predictions
from hpcml.workloads.predict.fitted import Fitted, check_fitted
from hpcml.workloads.predict.predictions import METHODS, Done, Request
from hpcml.workloads.trial.trial import Trial

if TYPE_CHECKING:
    from distributed import Client

# The name of the table and of its directory.
_TABLE = "predictions"


@documented
@dataclass(kw_only=True)
class Predict:
    """Predict with a fitted model, block by block, like :class:`dask_ml.wrappers.ParallelPostFit`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    train: Any = config_key(
        None,
        "Data to fit the model on first; it must fit into a worker's memory. null: the model is fitted already",
        kind("data or null"),
        example="{_target_: sklearn.datasets.load_iris, _partial_: true}",
    )
    methods: Any = config_key(
        ["predict"],
        "Methods of the model whose results become the table's columns, in this order: " + ", ".join(METHODS),
        kind("list of methods"),
    )
    scoring: Any = config_key(
        None,
        key_texts.BLOCK_SCORING,
        kind("scorer, false or null"),
    )
    block_size: int | None = config_key(None, key_texts.BLOCK_SIZE, whole())
    write: bool = config_key(True, "Whether to write the predictions. false: the score alone", flag())

    def __post_init__(self) -> None:
        check_keys(self, "workload.")
        self.methods = [self.methods] if isinstance(self.methods, str) else list(self.methods or ())
        for name in self.methods:
            if name not in METHODS:
                raise ConfigError(f"workload.methods: '{name}' is unknown", nearest(str(name), METHODS, most=5))
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError(
                f"workload.methods={self.methods}: must name one or more, each once", f"choices: {', '.join(METHODS)}"
            )

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject a model that is not fitted or lacks a method, and data that does not suit it."""
        if inputs.data is None:
            raise ConfigError("data: there is nothing to predict for", "for example data=parquet_blocks data.path=FILE")
        data = inputs.data
        train = None if self.train is None else in_memory(load(self.train)).labelled()
        model, fitted = self._fitted(inputs, train)
        for method in self.methods:
            _check_method(model, method, f"workload.methods={method}")
        fitted.order(data.name, data.feature_names)
        score = self._score(data, model)
        if score is not None:
            fitted.check_score(score)
        elif not self.write:
            raise ConfigError(
                "workload.write=false: without a score nothing would come of the run",
                "use workload.write=true; or data with a target, data.target=COLUMN",
            )
        if isinstance(data, Dataset):
            fitted.check_block(data, score)
        else:
            fitted.check_width(data.name, data.n_features)
            fitted.check_types(data.name, data.not_numeric)
        blocks = in_blocks(data, self.block_size)
        fit = ", which is fitted first" if self.train is not None else ""
        return Prepared(
            len(blocks) + (self.train is not None),
            f"{', '.join(self.methods)} of {estimator_name(model)}{fit}",
            functools.partial(self._run, blocks, model, score),
            trial=None if train is None else self._trial(model, train),
        )

    def _trial(self, model: Any, train: Dataset) -> Trial:
        tried = functools.partial(predictions.try_model, model, tuple(self.methods))
        return trial(tried, model, Split(train.X, train.y, None))

    def _run(self, blocks: Blocks, model: Any, score: Score | None, client: Client, units: Units) -> Outcome:
        """Fit the model if required, then predict block by block; workers write the predictions."""
        pool, began = TaskPool(client, units), time.monotonic()
        kept, fitted = Outcome(), Fitted.of(model)
        if self.train is not None:
            model, names, notes = pool.call("fit", predictions.fit, model, self.train)
            kept = Outcome(model=model, warnings=notes, features=names or ())
            fitted = replace(Fitted.of(model), names=names)
            units.so_far = lambda: kept
        parts = units.parts(_TABLE) if self.write and units.parts is not None else None
        request = Request(tuple(self.methods), score, parts, fitted.order(blocks.name, blocks.feature_names))
        found = _Found(kept, score, len(blocks), fit_s=time.monotonic() - began)
        shared = pool.spread(fitted.model)
        todo = ((f"block {number}", (blocks.block(number), shared, request)) for number in range(len(blocks)))
        return found.outcome(pool.ordered(predictions.predict, todo, found.outcome))

    def _fitted(self, inputs: Inputs, train: Dataset | None) -> tuple[Any, Fitted]:
        """Return the model and facts about it, as given or as it will be after the fit."""
        if train is None:
            inputs.reject_preprocess("a model that is already fitted")
            check_model(inputs.model)
            check_fitted(inputs.model)
            return inputs.model, Fitted.of(inputs.model)
        model = suit(replace(inputs, data=train)).model
        check_values(model, varied=())
        check_data(train, model)
        weight_argument(model, train)
        return model, Fitted.on(train, model)

    def _score(self, data: Dataset | Blocks, model: Any) -> Score | None:
        """Resolve the score; None if none was requested or the data has no target."""
        score = block_scores.resolve(self.scoring, model)
        if score is None:
            return None
        problem, *hints = _target_problem(data)
        if problem and self.scoring is None:
            return None
        if problem:
            raise ConfigError(
                f"workload.scoring={score.name}: {data.name} {problem}",
                *hints,
                "or do without a score: workload.scoring=null",
            )
        if score.scorer is None:
            method = "predict_proba" if score.name == "neg_log_loss" else "predict"
            _check_method(model, method, f"workload.scoring={score.name}")
        return score


def _target_problem(data: Dataset | Blocks) -> tuple[str, ...]:
    """Return why predictions cannot be compared with the target, and hints; an empty text if they can."""
    if not (data.has_target if isinstance(data, Blocks) else data.y is not None):
        return "has no target", "name it: data.target=COLUMN"
    if isinstance(data, Dataset) and data.y.ndim > 1:
        return ("has several targets",)
    return ("",)


class _Found:
    """The results of the finished blocks."""

    def __init__(self, kept: Outcome, score: Score | None, n_blocks: int, fit_s: float) -> None:
        self.kept, self.score, self.n_blocks, self.fit_s = kept, score, n_blocks, fit_s
        self.began = time.monotonic()

    def outcome(self, blocks: Mapping[int, Done]) -> Outcome:
        """Combine the blocks in their order, so that their order of completion does not matter.

        Raises
        ------
        WorkloadError
            If the score cannot be computed from them.
        """
        done = list(blocks.values())
        if not done:
            return self.kept
        metrics = self._metrics(done)
        outcome = replace(self.kept, metrics=metrics, warnings=[*self.kept.warnings, *_unknown(done)])
        scored = [part.score for part in done if part.score is not None]
        if self.score is not None and scored:
            try:
                value = self.score.of(scored)
            except Exception as error:
                raise WorkloadError(
                    f"the score {self.score.name} cannot be computed: {cause(error)}",
                    "the predictions are written",
                    outcome=outcome,
                ) from error
            metrics |= {"scoring": self.score.name, "score": value}
        return replace(outcome, summary=_summary(metrics))

    def _metrics(self, done: Sequence[Done]) -> dict[str, Any]:
        peaks: dict[str, int] = {}
        for part in done:
            peaks[part.worker] = max(peaks.get(part.worker, 0), part.peak)
        n_samples, predict_s = sum(part.rows for part in done), time.monotonic() - self.began
        return {
            "n_samples": n_samples,
            "n_blocks": len(done),
            "fit_s": self.fit_s,
            "predict_s": predict_s,
            "rows_per_s": n_samples / predict_s,
            "bytes_written": sum(part.bytes for part in done),
            "peak_memory": {**{name: peaks[name] for name in sorted(peaks)}, "head": peak_memory.peak()},
        }


def _unknown(done: Sequence[Done]) -> list[str]:
    """Return warnings about categories that the model does not know, in any block."""
    found: dict[str, frozenset[str]] = {}
    for part in done:
        for name, values in part.unknown.items():
            found[name] = found.get(name, frozenset()) | values
    return categories.warnings(found)


def _summary(metrics: Mapping[str, Any]) -> dict[str, str]:
    written, blocks = metrics["bytes_written"], metrics["n_blocks"]
    lines = {
        "predictions": f"{metrics['n_samples']} samples in {blocks} block{'s' if blocks > 1 else ''}, "
        f"{metrics['rows_per_s']:.0f} a second, "
        + (f"{format_size(written)} in tables/{_TABLE}" if written else "not written"),
    }
    if "score" in metrics:
        lines[metrics["scoring"]] = f"{metrics['score']:.4f}"
    lines["peak memory"] = peak_memory.show(metrics["peak_memory"])
    return lines


def _check_method(model: Any, method: str, key: str) -> None:
    if hasattr(model, method):
        return
    has = [name for name in METHODS if hasattr(model, name)]
    raise ConfigError(
        f"{key}: {estimator_name(model)} has no {method}",
        f"it has {', '.join(has)}" if has else "it has none of " + ", ".join(METHODS),
    )
