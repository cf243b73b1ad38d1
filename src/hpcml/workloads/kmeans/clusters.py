"""The state of a k-means run and its outcome."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcml.workloads.base import Outcome
from hpcml.workloads.inputs.moments import Moments
from hpcml.workloads.kmeans import lloyd
from hpcml.workloads.kmeans.lloyd import End


@dataclass(frozen=True)
class Iteration:
    """One iteration: its initial inertia, the centres' shift, empty clusters, and seconds."""

    inertia: float
    shift: float
    relocated: int
    seconds: float


@dataclass
class Clusters:
    """Centres and the history of their computation.

    Parameters
    ----------
    of_all : Moments
    parameters : dict
        Parameters of the scikit-learn estimator in the outcome.
    feature_names : sequence of str or None
    warnings : list of str
    """

    of_all: Moments
    parameters: dict[str, Any]
    feature_names: tuple[str, ...] | None
    warnings: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    centres: Any = None
    iterations: list[Iteration] = field(default_factory=list)
    n_iter: int = 0
    converged: bool = False
    end: list[End] = field(default_factory=list)

    def add(self, iteration: Iteration, centres: Any) -> None:
        """Record an iteration and the centres that it computed."""
        self.iterations.append(iteration)
        self.centres, self.n_iter = centres, len(self.iterations)

    def outcome(self) -> Outcome:
        """Return the outcome; before the last pass, only the part known so far."""
        if self.centres is None:
            return Outcome(warnings=self.warnings)
        model = lloyd.fitted(self.centres, self.parameters)
        model.n_iter_ = self.n_iter
        if self.inertia is None:
            del model.inertia_
        else:
            model.inertia_ = self.inertia
        tables = {"centers": self._centres_table()}
        if self.iterations:
            tables["iterations"] = {
                name: [getattr(iteration, name) for iteration in self.iterations]
                for name in ("inertia", "shift", "relocated", "seconds")
            }
        return Outcome(self._metrics(), tables, model, [*self.warnings, *self._doubts()], self._summary())

    @property
    def sizes(self) -> list[int] | None:
        """The number of samples in each cluster, known after the last pass."""
        return [int(size) for size in sum(end.counts for end in self.end)] if self.end else None

    @property
    def inertia(self) -> float | None:
        """The sum of squared distances to the nearest centres, known after the last pass."""
        return math.fsum(end.inertia for end in self.end) if self.end else None

    def _metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "n_samples": self.of_all.n,
            "n_features": len(self.of_all.mean),
            "n_clusters": len(self.centres),
            "n_iter": self.n_iter,
            "converged": self.converged,
            **self.seconds,
        }
        if self.iterations:
            metrics["iteration_s"] = self._iteration_s()
        if self.inertia is not None:
            metrics |= {"inertia": self.inertia, "cluster_sizes": self.sizes}
        return metrics

    def _iteration_s(self) -> float:
        return statistics.median(iteration.seconds for iteration in self.iterations)

    def _centres_table(self) -> dict[str, list[Any]]:
        table: dict[str, list[Any]] = {"cluster": list(range(len(self.centres)))}
        if self.sizes is not None:
            table["size"] = self.sizes
        for number, values in enumerate(self.centres.T):
            name = self.feature_names[number] if self.feature_names else f"x{number}"
            table[f"feature {name}" if name in table else name] = values.tolist()
        return table

    def _summary(self) -> dict[str, str]:
        summary = {"clusters": f"{len(self.centres)} of {self.of_all.n} samples x {len(self.of_all.mean)} features"}
        if self.sizes is not None:
            summary["clusters"] += f", sizes {_show(self.sizes)}"
        if self.inertia is not None:
            summary["inertia"] = f"{self.inertia:.6g}"
        each = f", {self._iteration_s():.3g} s each" if self.iterations else ""
        summary["iterations"] = f"{self.n_iter}, {'converged' if self.converged else 'not converged'}{each}"
        return summary

    def _doubts(self) -> list[str]:
        doubts = []
        if self.end and not self.converged:
            doubts.append(
                f"k-means has not converged in {self.n_iter} iterations: raise workload.max_iter or workload.tol"
            )
        distinct = len(np.unique(self.centres, axis=0))
        if distinct < len(self.centres):
            doubts.append(
                f"the samples have {distinct} distinct clusters only, fewer than the {len(self.centres)} wanted"
            )
        return doubts


def _show(sizes: list[int]) -> str:
    shown = ", ".join(map(str, sizes[:8]))
    return shown if len(sizes) <= 8 else f"{shown}, ... ({min(sizes)} to {max(sizes)})"
