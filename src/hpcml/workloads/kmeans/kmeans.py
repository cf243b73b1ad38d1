"""K-means on blocks that stay on the workers from one iteration to the next."""

from __future__ import annotations

import functools
import math
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn.cluster

from hpcml.data import Blocks, Dataset, in_blocks
from hpcml.errors import ConfigError, WorkloadError, nearest
from hpcml.keys import check_keys, choice, config_key, documented, flag, kind, number, whole
from hpcml.workloads.base import Inputs, Outcome, Prepared, Units
from hpcml.workloads.engine.causes import cause
from hpcml.workloads.engine.persisted_blocks import PersistedBlocks
from hpcml.workloads.inputs import key_texts
from hpcml.workloads.inputs.checks import check_finite
from hpcml.workloads.inputs.moments import Moments
from hpcml.workloads.inputs.weights import reject_weights
from hpcml.workloads.kmeans import lloyd
from hpcml.workloads.kmeans.clusters import Clusters, Iteration
from hpcml.workloads.kmeans.lloyd import Far, Sums
from hpcml.workloads.kmeans.seeding import INITS, Seeding

if TYPE_CHECKING:
    from distributed import Client

ENGINES = ("blocks", "dask_ml")


@documented
@dataclass(kw_only=True)
class KMeans:
    """Find clusters with Lloyd's algorithm, like :class:`sklearn.cluster.KMeans` on all samples.

    The result is exact, not an approximation on mini-batches.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    n_clusters: int = config_key(3, "Number of clusters", whole())
    init: Any = config_key(
        "k-means||",
        "Start: k-means||, k-means++ on a sample, random samples, or the centres themselves",
        kind("one of k-means||, k-means++, random, or array of shape (n_clusters, n_features)"),
        example="[[0, 0], [1, 1], [2, 2]]",
    )
    init_max_iter: int = config_key(2, "Rounds of k-means||", whole())
    oversampling_factor: float | None = config_key(
        None,
        "Samples that a round of k-means|| draws on average, the paper's l. null: twice n_clusters, and at least 10",
        number(above=0),
    )
    max_iter: int = config_key(300, "Most iterations of Lloyd's algorithm", whole())
    tol: float = config_key(
        1e-4,
        "The iteration ends when the centres' squared moves sum up to no more than tol times the mean of the features' "
        "variances, as in scikit-learn (sklearn.cluster._kmeans._tolerance)",
        number(least=0),
    )
    block_size: int | None = config_key(None, key_texts.BLOCK_SIZE, whole())
    labels: bool = config_key(False, "Whether to write each sample's cluster and distance, as a table in parts", flag())
    engine: str = config_key(
        "blocks", "blocks: hpcml's own. dask_ml: dask_ml.cluster.KMeans, for comparison", choice(*ENGINES)
    )

    def __post_init__(self) -> None:
        check_keys(self, "workload.")
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

    def prepare(self, inputs: Inputs) -> Prepared:
        """Reject data that is not numeric or has too few samples.

        The number of units assumes that the iterations do not converge early.
        """
        inputs.refuse("model", what="workload=kmeans")
        inputs.reject_preprocess("workload=kmeans")
        data = inputs.data
        if data is None:
            raise ConfigError("data: there is nothing to cluster", "for example data=blobs")
        if isinstance(data, Dataset):
            reject_weights(data, "workload=kmeans")
            data = data.dense("k-means")
            check_finite(data, sklearn.cluster.KMeans())
        blocks = in_blocks(data, self.block_size)
        blocks.check_numeric("k-means")
        if blocks.n_samples is not None:
            self._check_count(blocks.n_samples, blocks.name)
        if blocks.n_features is not None and not isinstance(self.init, str):
            self._check_width(blocks.n_features)
        begin = self.init if isinstance(self.init, str) else "given centres"
        by = ", by dask_ml" if self.engine == "dask_ml" else ""
        description = f"k-means, {self.n_clusters} clusters from {begin}, {self.max_iter} iterations at most{by}"
        n_units = self._count(len(blocks), inputs.seed)
        return Prepared(n_units, description, functools.partial(self._run, blocks, inputs.seed))

    def _check_count(self, n_samples: int, name: str) -> None:
        if n_samples < self.n_clusters:
            raise ConfigError(f"workload.n_clusters={self.n_clusters}: {name} has {n_samples} samples only")

    def _check_width(self, n_features: int) -> None:
        if self.init.shape[1] != n_features:
            raise ConfigError(f"workload.init: centres of {self.init.shape[1]} features, the data has {n_features}")

    def _count(self, n_blocks: int, seed: int) -> int:
        ends = 2 * n_blocks  # reading, and the last pass
        if self.engine == "dask_ml":
            return ends + 1
        return ends + self._seeding(seed).count(n_blocks) + self.max_iter * n_blocks

    def _seeding(self, seed: int) -> Seeding:
        init = self.init if isinstance(self.init, str) else "given"
        return Seeding(init, self.n_clusters, self.init_max_iter, self._drawn, seed)

    @property
    def _drawn(self) -> float:
        return self.oversampling_factor or max(10, 2 * self.n_clusters)

    def _run(self, blocks: Blocks, seed: int, client: Client, units: Units) -> Outcome:
        """Read the blocks, choose initial centres, iterate, and make a last pass for the labels."""
        began = time.monotonic()
        read = lloyd.read if self.engine == "blocks" else lloyd.read_floats
        persisted = PersistedBlocks(client, units, blocks, read, lloyd.moments)
        of_all = self._all(persisted, blocks.name)
        found = Clusters(of_all, self._parameters(seed), blocks.feature_names, persisted.memory_note())
        found.seconds["read_s"] = time.monotonic() - began
        units.so_far = found.outcome
        if self.engine == "dask_ml":
            self._fit_dask_ml(persisted, found, client, seed, units)
        else:
            began = time.monotonic()
            centres = self._begin(persisted, of_all, seed)
            found.seconds["init_s"] = time.monotonic() - began
            units.total = units.done + (self.max_iter + 1) * len(persisted)
            self.iterate(persisted, centres, found, units)
        units.total = units.done + len(persisted)
        rows = np.cumsum([0, *(facts.n for facts in persisted.facts)])
        parts = units.parts("labels") if self.labels and units.parts is not None else None
        own = {number: parts and (parts, int(rows[number])) for number in range(len(persisted))}
        found.end = list(persisted.each("end", lloyd.finish, of_all.mean, found.centres - of_all.mean, own=own))
        return found.outcome()

    def _all(self, persisted: PersistedBlocks, name: str) -> Moments:
        """Combine the moments of the blocks and make the checks that need them."""
        widths = [len(facts.mean) for facts in persisted.facts]
        odd = [number for number, width in enumerate(widths) if width != widths[0]]
        if odd:
            raise WorkloadError(f"{name}: block {odd[0]} has {widths[odd[0]]} features, block 0 has {widths[0]}")
        of_all = Moments.total(persisted.facts)
        try:
            self._check_count(of_all.n, name)
            if not isinstance(self.init, str):
                self._check_width(widths[0])
        except ConfigError as error:
            raise WorkloadError(error.message, *error.hints) from None
        return of_all

    def _begin(self, persisted: PersistedBlocks, of_all: Moments, seed: int) -> Any:
        if not isinstance(self.init, str):
            return self.init - of_all.mean
        return self._seeding(seed).centres(persisted, of_all)

    def iterate(self, persisted: PersistedBlocks, centres: Any, found: Clusters, units: Units) -> None:
        """Run Lloyd's algorithm on mean-centred samples."""
        mean, scatter = found.of_all.mean, math.fsum(found.of_all.squares)
        enough = self.tol * float(np.mean(found.of_all.variance))
        found.centres = centres + mean
        for count in range(1, self.max_iter + 1):
            began = time.monotonic()
            sums = Sums.of_all(persisted.each(f"iteration {count}", lloyd.assign, mean, centres))
            empty, far = int((sums.counts == 0).sum()), None
            if empty:
                units.total += len(persisted)
                name = f"iteration {count}, farthest"
                far = Far.of_all(persisted.each(name, lloyd.farthest, mean, centres, empty), empty)
            moved = lloyd.move(sums, far)
            shift = float(((moved - centres) ** 2).sum())
            # Labels stop changing just when centres do, so this also covers scikit-learn's early
            # stop.
            inertia = lloyd.inertia(scatter, sums, centres)
            found.add(Iteration(inertia, math.sqrt(shift), empty, time.monotonic() - began), moved + mean)
            centres = moved
            if shift <= enough:
                found.converged = True
                return

    def _fit_dask_ml(
        self, persisted: PersistedBlocks, found: Clusters, client: Client, seed: int, units: Units
    ) -> None:
        import dask_ml.cluster

        from hpcml.workloads.engine.stacked_arrays import stack

        model = dask_ml.cluster.KMeans(
            self.n_clusters,
            init=self.init,
            oversampling_factor=self._drawn,
            init_max_iter=self.init_max_iter,
            max_iter=self.max_iter,
            # dask_ml's tol is absolute, and the shift must be below it: with 0 it would never stop.
            tol=max(self.tol * float(np.mean(found.of_all.variance)), np.finfo(np.float64).tiny),
            random_state=seed,
        )
        began = time.monotonic()
        try:
            with client.as_current(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(
                    stack(persisted.futures, [(facts.n, len(facts.mean)) for facts in persisted.facts], np.float64)
                )
        except Exception as error:
            raise WorkloadError(f"dask_ml.cluster.KMeans failed: {cause(error)}") from error
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
