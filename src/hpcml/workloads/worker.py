"""Single fits on some worker, with the samples that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcml.workloads.backend import ReportingBackend
from hpcml.workloads.holdout import Split

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Worker:
    """Calls a function on some worker, with the samples that are there already."""

    client: Client
    backend: ReportingBackend
    split: Split

    def call(self, function: Any, *args: Any) -> Any:
        data = map(self.backend.scattered, self.split.arrays)
        return self.client.submit(function, *args, *data, pure=False).result()


def fit(model: Any, X: Any, y: Any = None) -> Any:
    """Fit a model; runs on a worker."""
    try:
        return model.fit(X, y)
    except (SystemExit, KeyboardInterrupt) as error:  # Dask would wait for ever for what its thread has left
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def fit_and_score(model: Any, scorers: Sequence[Any], X: Any, y: Any = None) -> None:
    """Fit a model and score it, for what may be raised; runs on a worker."""
    model.fit(X, y)
    for scorer in scorers:
        scorer(model, X, y)
