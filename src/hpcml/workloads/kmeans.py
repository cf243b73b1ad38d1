"""K-means on samples in blocks, which stay on the workers from one iteration to the next."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn.cluster

from hpcml.data import Dataset, in_blocks
from hpcml.errors import ConfigError, DataError, WorkloadError, check_flag, check_whole, nearest
from hpcml.workloads import lloyd
from hpcml.workloads.base import Inputs, Outcome, Units
from hpcml.workloads.checks import check_finite
from hpcml.workloads.clusters import Clusters, Iteration
from hpcml.workloads.kept import Kept
from hpcml.workloads.lloyd import Facts, Far, Sums
from hpcml.workloads.seeding import INITS, Seeding

if TYPE_CHECKING:
    from distributed import Client

ENGINES = ("blocks", "dask_ml")


@dataclass(kw_only=True)
class KMeans:
    """Find clusters by Lloyd's iteration: exact, as :class:`sklearn.cluster.KMeans` of all samples would.

    Parameters
    ----------
    n_clusters : int
    init : str or array of shape (n_clusters, n_features)
        How to begin: ``"k-means||"``, ``"k-means++"`` on a sample, ``"random"`` samples, or with these centres.
    init_max_iter : int
        Rounds of k-means||.
    oversampling_factor : float or None
        How many samples a round of k-means|| draws, on average, as dask_ml means it and the paper's l. None: twice
        ``n_clusters``, and 10 at least.
    max_iter : int
    tol : float
        The iteration ends when the centres' squared moves, summed up, are no more than this, relative to the mean of
        the features' variances: what scikit-learn's ``tol`` means (``sklearn.cluster._kmeans._tolerance``).
    rows : int or None
        Of a block, for data in memory; data that comes in blocks has its own.
    labels : bool
        Whether to write each sample's cluster and distance.
    engine : {"blocks", "dask_ml"}
        Ours, or :class:`dask_ml.cluster.KMeans`.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    n_clusters: int = 3
    init: Any = "k-means||"
    init_max_iter: int = 2
    oversampling_factor: float | None = None
    max_iter: int = 300
    tol: float = 1e-4
    rows: int | None = None
    labels: bool = False
    engine: str = "blocks"

    def __post_init__(self) -> None:
        for name in ("n_clusters", "init_max_iter", "max_iter", "rows"):
            check_whole(f"workload.{name}", getattr(self, name), none=name == "rows")
        if not _is_number(self.tol) or self.tol < 0:
            raise ConfigError(f"workload.tol={self.tol}: must be 0 or more, for example 1e-4")
        if self.oversampling_factor is not None and not (
            _is_number(self.oversampling_factor) and self.oversampling_factor > 0
        ):
            raise ConfigError(f"workload.oversampling_factor={self.oversampling_factor}: must be more than 0")
        if self.engine not in ENGINES:
            raise ConfigError(f"workload.engine={self.engine}: unknown", nearest(str(self.engine), ENGINES))
        check_flag("workload.labels", self.labels)
        if isinstance(self.init, str):
            self._check_name(self.init)
        else:
            self.init = self._centres(self.init)

    def _check_name(self, init: str) -> None:
        if init not in INITS:
            raise ConfigError(
                f"workload.init={init}: unknown", nearest(init, INITS), "or centres: 'workload.init=[[0, 0], [1, 1]]'"
            )
        if init == "k-means++" and self.engine == "dask_ml":
            raise ConfigError(
                "workload.init=k-means++: fails in dask_ml with today's scikit-learn",
                "use workload.engine=blocks, or another init",
            )

    def _centres(self, init: Any) -> Any:
        try:
            centres = np.asarray(init, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"workload.init: neither a name nor centres: {error}", f"names: {', '.join(INITS)}"
            ) from None
        if centres.ndim != 2 or len(centres) != self.n_clusters or not np.isfinite(centres).all():
            raise ConfigError(
                f"workload.init: centres of shape {centres.shape}",
                f"give {self.n_clusters} lists, workload.n_clusters, of as many finite numbers as there are features",
            )
        return centres

    def check(self, inputs: Inputs) -> int:
        """Refuse data that is not numeric or has too few samples; count the units there are without convergence."""
        inputs.refuse("model", what="workload=kmeans")
        data = inputs.data
        if data is None:
            raise ConfigError("data: there is nothing to cluster", "for example data=blobs")
        if isinstance(data, Dataset):
            if data.is_text:
                raise DataError(
                    f"{data.name}: its samples are texts, and k-means takes numbers", "for example data=blobs"
                )
            check_finite(data, sklearn.cluster.KMeans())
        blocks = in_blocks(data, self.rows)
        if blocks.n_samples is not None:
            self._check_count(blocks.n_samples, blocks.name)
        if blocks.n_features is not None and not isinstance(self.init, str):
            self._check_width(blocks.n_features)
        return self._count(len(blocks), inputs.seed)

    def _check_count(self, n_samples: int, name: str) -> None:
        if n_samples < self.n_clusters:
            raise ConfigError(f"workload.n_clusters={self.n_clusters}: {name} has {n_samples} samples only")

    def _check_width(self, n_features: int) -> None:
        if self.init.shape[1] != n_features:
            raise ConfigError(f"workload.init: centres of {self.init.shape[1]} features, the data has {n_features}")

    def _count(self, n_blocks: int, seed: int) -> int:
        ends = 2 * n_blocks  # they are read, and the last pass
        if self.engine == "dask_ml":
            return ends + 1
        return ends + self._seeding(seed).count(n_blocks) + self.max_iter * n_blocks

    def describe(self, inputs: Inputs) -> str:  # noqa: ARG002
        """Say what will be computed."""
        begin = self.init if isinstance(self.init, str) else "given centres"
        by = ", by dask_ml" if self.engine == "dask_ml" else ""
        return f"k-means, {self.n_clusters} clusters from {begin}, {self.max_iter} iterations at most{by}"

    def _seeding(self, seed: int) -> Seeding:
        init = self.init if isinstance(self.init, str) else "given"
        return Seeding(init, self.n_clusters, self.init_max_iter, self._drawn, seed)

    @property
    def _drawn(self) -> float:
        return self.oversampling_factor or max(10, 2 * self.n_clusters)

    def run(self, inputs: Inputs, client: Client, units: Units) -> Outcome:
        """Read the blocks, find where to begin, iterate, and pass over the blocks once more for what the end gives."""
        assert inputs.data is not None  # check() refuses it
        blocks = in_blocks(inputs.data, self.rows)
        began = time.monotonic()
        read = lloyd.read if self.engine == "blocks" else lloyd.read_floats
        kept = Kept(client, units, blocks, read, Facts.of)
        of_all = self._all(kept, blocks.name)
        found = Clusters(of_all, self._parameters(inputs.seed), blocks.feature_names, kept.memory_note())
        found.seconds["read_s"] = time.monotonic() - began
        units.so_far = found.outcome
        if self.engine == "dask_ml":
            self._fit_dask_ml(kept, found, client, inputs.seed, units)
        else:
            began = time.monotonic()
            centres = self._begin(kept, of_all, inputs.seed)
            found.seconds["init_s"] = time.monotonic() - began
            units.total = units.done + (self.max_iter + 1) * len(kept)
            self.iterate(kept, centres, found, units)
        units.total = units.done + len(kept)
        rows = np.cumsum([0, *(facts.n for facts in kept.facts)])
        parts = inputs.parts("labels") if self.labels and inputs.parts is not None else None
        own = {number: parts and (parts, int(rows[number])) for number in range(len(kept))}
        found.end = list(kept.each("end", lloyd.finish, of_all.mean, found.centres - of_all.mean, own=own))
        return found.outcome()

    def _all(self, kept: Kept, name: str) -> Facts:
        """Combine what is known of the blocks, and check what could not be known before."""
        widths = [len(facts.mean) for facts in kept.facts]
        odd = [number for number, width in enumerate(widths) if width != widths[0]]
        if odd:
            raise WorkloadError(f"{name}: block {odd[0]} has {widths[odd[0]]} features, block 0 has {widths[0]}")
        of_all = Facts.of_all(kept.facts)
        try:
            self._check_count(of_all.n, name)
            if not isinstance(self.init, str):
                self._check_width(widths[0])
        except ConfigError as error:
            raise WorkloadError(error.message, *error.hints) from None
        return of_all

    def _begin(self, kept: Kept, of_all: Facts, seed: int) -> Any:
        if not isinstance(self.init, str):
            return self.init - of_all.mean
        return self._seeding(seed).centres(kept, of_all)

    def iterate(self, kept: Kept, centres: Any, found: Clusters, units: Units) -> None:
        """Lloyd's iteration, on samples less their mean."""
        mean, scatter = found.of_all.mean, math.fsum(found.of_all.scatter)
        enough = self.tol * found.of_all.variance
        found.centres = centres + mean
        for number in range(1, self.max_iter + 1):
            began = time.monotonic()
            sums = Sums.of_all(kept.each(f"iteration {number}", lloyd.assign, mean, centres))
            empty, far = int((sums.counts == 0).sum()), None
            if empty:
                units.total += len(kept)
                name = f"iteration {number}, farthest"
                far = Far.of_all(kept.each(name, lloyd.farthest, mean, centres, empty), empty)
            moved = lloyd.move(sums, far)
            shift = float(((moved - centres) ** 2).sum())
            # the labels of two iterations are equal just when the centres are, which is how scikit-learn may end sooner
            inertia = lloyd.inertia(scatter, sums, centres)
            found.add(Iteration(inertia, math.sqrt(shift), empty, time.monotonic() - began), moved + mean)
            centres = moved
            if shift <= enough:
                found.converged = True
                return

    def _fit_dask_ml(self, kept: Kept, found: Clusters, client: Client, seed: int, units: Units) -> None:
        import dask_ml.cluster

        from hpcml.workloads.stacked import stack

        model = dask_ml.cluster.KMeans(
            self.n_clusters,
            init=self.init,
            oversampling_factor=self._drawn,
            init_max_iter=self.init_max_iter,
            max_iter=self.max_iter,
            # its own is absolute, and to be more than the moves: with 0 it would never end
            tol=max(self.tol * found.of_all.variance, np.finfo(np.float64).tiny),
            random_state=seed,
        )
        began = time.monotonic()
        try:
            with client.as_current(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(stack(kept.futures, [(facts.n, len(facts.mean)) for facts in kept.facts], np.float64))
        except Exception as error:
            raise WorkloadError(f"dask_ml.cluster.KMeans failed: {type(error).__name__}: {error}") from error
        found.seconds["fit_s"] = time.monotonic() - began
        found.centres, found.n_iter = np.asarray(model.cluster_centers_, dtype=np.float64), int(model.n_iter_)
        found.converged = found.n_iter < self.max_iter
        units.finish("fit", found.centres)

    def _parameters(self, seed: int) -> dict[str, Any]:
        given = not isinstance(self.init, str)
        named = self.init if given or self.init == "random" else "k-means++"
        return {
            "init": self.init if given else named,
            "max_iter": self.max_iter,
            "tol": self.tol,
            "random_state": seed,
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
