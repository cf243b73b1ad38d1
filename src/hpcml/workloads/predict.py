"""Predictions of one model for data of any size: block after block on the workers, to a table in parts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpcml.data import Dataset, in_blocks, in_memory, load
from hpcml.errors import ConfigError, WorkloadError, check_flag, check_whole, nearest
from hpcml.units import format_size
from hpcml.workloads import memory, predictions, summary, sums
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.checks import check_data, check_model, check_values
from hpcml.workloads.crew import Crew
from hpcml.workloads.fitted import Fitted, check_fitted
from hpcml.workloads.predictions import METHODS, Done, Request
from hpcml.workloads.sums import Score

if TYPE_CHECKING:
    from distributed import Client

# The table, and its directory.
_TABLE = "predictions"


@dataclass(kw_only=True)
class Predict:
    """Predict with a fitted model; what :class:`dask_ml.wrappers.ParallelPostFit` is for.

    Parameters
    ----------
    train : object
        What to fit the model on first, as :func:`hpcml.data.load` takes it; it must fit into a worker's memory. None:
        the model is fitted already.
    methods : str or sequence of str
        What to ask of the model, in the order of the table's columns; of :data:`METHODS`.
    scoring : None, False, str or callable
        As :func:`hpcml.workloads.sums.resolve` takes it. None: accuracy or r2, if the data has a target.
    rows : int or None
        Of a block, for data in memory; data that comes in blocks has its own.
    write : bool
        Whether to write the predictions; else there is only the score.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    train: Any = None
    methods: Any = field(default_factory=lambda: ["predict"])
    scoring: Any = None
    rows: int | None = None
    write: bool = True

    def __post_init__(self) -> None:
        self.methods = [self.methods] if isinstance(self.methods, str) else list(self.methods or ())
        for name in self.methods:
            if name not in METHODS:
                raise ConfigError(f"workload.methods: '{name}' is unknown", nearest(str(name), METHODS, most=5))
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError(
                f"workload.methods={self.methods}: must name one or more, each once", f"choices: {', '.join(METHODS)}"
            )
        check_whole("workload.rows", self.rows, none=True)
        check_flag("workload.write", self.write)

    def check(self, inputs: Inputs) -> int:
        """Refuse a model that is not fitted or lacks a method, and data that does not suit it; count the units."""
        check_model(inputs.model)
        if inputs.data is None:
            raise ConfigError("data: there is nothing to predict for", "for example data=parquet_blocks data.path=FILE")
        for method in self.methods:
            _check_method(inputs.model, method, f"workload.methods={method}")
        fitted = self._fitted(inputs.model)
        self._order(inputs, fitted)
        score = self._score(inputs)
        if score is not None:
            fitted.check_score(score)
        elif not self.write:
            raise ConfigError(
                "workload.write=false: without a score nothing would come of the run",
                "use workload.write=true; or data with a target, data.target=COLUMN",
            )
        data = inputs.data
        if isinstance(data, Dataset):
            fitted.check_block(data, score)
        else:
            fitted.check_width(data.name, data.n_features)
        return len(in_blocks(data, self.rows)) + (self.train is not None)

    def describe(self, inputs: Inputs) -> str:
        """Say what will be computed."""
        fit = ", which is fitted first" if self.train is not None else ""
        return f"{', '.join(self.methods)} of {summary.name(inputs.model)}{fit}"

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Fit the model if it has to be, then do the blocks on the workers, each of which writes its own."""
        assert inputs.data is not None  # check() refuses it
        crew, began = Crew(client, units), time.monotonic()
        kept, fitted = Outcome(), Fitted.of(inputs.model)
        if self.train is not None:
            model, names, notes = crew.call("fit", predictions.fit, inputs.model, self.train)
            kept = Outcome(model=model, warnings=notes, features=names or ())
            fitted = replace(Fitted.of(model), names=names)
            units.so_far = lambda: kept
        data = in_blocks(inputs.data, self.rows)
        score = self._score(inputs)
        parts = inputs.parts(_TABLE) if self.write and inputs.parts is not None else None
        request = Request(tuple(self.methods), score, parts, self._order(inputs, fitted))
        found = _Found(kept, score, len(data), fit_s=time.monotonic() - began)
        units.so_far = found.outcome
        shared = crew.share(fitted.model)
        todo = ((f"block {number}", (data.block(number), shared, request)) for number in range(len(data)))
        for key, done in crew.each(predictions.predict, todo):
            found.blocks[int(key.removeprefix("block "))] = done
        return found.outcome()

    def _fitted(self, model: Any) -> Fitted:
        """Say what is known of the model, as it is or as it will be."""
        if self.train is None:
            check_fitted(model)
            return Fitted.of(model)
        train = in_memory(load(self.train))
        check_values(model, varied=())
        check_data(train, model)
        return Fitted.on(train, model)

    def _order(self, inputs: Inputs, fitted: Fitted) -> tuple[int, ...] | None:
        assert inputs.data is not None
        return fitted.order(inputs.data.name, inputs.data.feature_names)

    def _score(self, inputs: Inputs) -> Score | None:
        """Resolve the score; None if there is to be none, or no target to compare with."""
        score, data = sums.resolve(self.scoring, inputs.model), inputs.data
        if score is None or data is None:
            return None
        y = data.y if isinstance(data, Dataset) else None
        has_target = y is not None if isinstance(data, Dataset) else data.has_target
        several = y is not None and y.ndim > 1
        if has_target and not several:
            if score.scorer is None:
                method = "predict_proba" if score.name == "neg_log_loss" else "predict"
                _check_method(inputs.model, method, f"workload.scoring={score.name}")
            return score
        if self.scoring is None:
            return None
        reason = "has several targets" if several else "has no target"
        raise ConfigError(
            f"workload.scoring={score.name}: {data.name} {reason}",
            *([] if several else ["name it: data.target=COLUMN"]),
            "or do without a score: workload.scoring=null",
        )


class _Found:
    """What the blocks that are done amount to."""

    def __init__(self, kept: Outcome, score: Score | None, n_blocks: int, fit_s: float) -> None:
        self.kept, self.score, self.n_blocks, self.fit_s = kept, score, n_blocks, fit_s
        self.blocks: dict[int, Done] = {}
        self.began = time.monotonic()

    def outcome(self) -> Outcome:
        """Combine the blocks, in their order: what is first done must not matter.

        Raises
        ------
        WorkloadError
            If the score cannot be computed of them.
        """
        done = [self.blocks[number] for number in sorted(self.blocks)]
        if not done:
            return self.kept
        metrics = self._metrics(done)
        outcome = replace(self.kept, metrics=metrics)
        if self.score is not None:
            try:
                value = self.score.of([part.score for part in done if part.score is not None])
            except Exception as error:
                raise WorkloadError(
                    f"the score {self.score.name} cannot be computed: {type(error).__name__}: {error}",
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
            "peak_memory": {**{name: peaks[name] for name in sorted(peaks)}, "head": memory.peak()},
        }


def _summary(metrics: Mapping[str, Any]) -> dict[str, str]:
    written, blocks = metrics["bytes_written"], metrics["n_blocks"]
    lines = {
        "predictions": f"{metrics['n_samples']} samples in {blocks} block{'s' if blocks > 1 else ''}, "
        f"{metrics['rows_per_s']:.0f} a second, "
        + (f"{format_size(written)} in tables/{_TABLE}" if written else "not written"),
    }
    if "score" in metrics:
        lines[metrics["scoring"]] = f"{metrics['score']:.4f}"
    lines["peak memory"] = memory.show(metrics["peak_memory"])
    return lines


def _check_method(model: Any, method: str, key: str) -> None:
    if hasattr(model, method):
        return
    has = [name for name in METHODS if hasattr(model, name)]
    raise ConfigError(
        f"{key}: {summary.name(model)} has no {method}",
        f"it has {', '.join(has)}" if has else "it has none of " + ", ".join(METHODS),
    )
