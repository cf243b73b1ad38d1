"""Initial centres for k-means: k-means||, k-means++ on a sample, or random samples.

Random draws depend only on the seed, the round and the block, not on the workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.cluster
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from hpcml.workloads.engine.persisted_blocks import PersistedBlocks
from hpcml.workloads.inputs.moments import Moments
from hpcml.workloads.kmeans import lloyd

INITS = ("k-means||", "k-means++", "random")

# The sample for k-means++: at least this many samples in all, and this many per cluster.
_SAMPLE, _FOR_EACH = 10_000, 10

# Purposes of the head's generators; those of the blocks are numbered by round and block.
_FIRST, _LAST, _MORE = 0, 1, 2


@dataclass(frozen=True)
class Seeding:
    """Choose the initial centres.

    Parameters
    ----------
    init : str
        One of :data:`INITS`.
    n_clusters : int
    rounds : int
        Rounds of k-means||.
    drawn : float
        Samples that a round of k-means|| draws on average: the paper's l.
    seed : int
    """

    init: str
    n_clusters: int
    rounds: int
    drawn: float
    seed: int

    def count(self, n_blocks: int) -> int:
        """Return the least number of units for a number of blocks, without fetching draws."""
        return (self.rounds + 1) * n_blocks + 1 if self.init == "k-means||" else 1

    def centres(self, persisted: PersistedBlocks, of_all: Moments) -> Any:
        """Compute the initial centres minus the mean, of shape (n_clusters, n_features).

        Parameters
        ----------
        persisted : PersistedBlocks
            The blocks, with their :class:`Moments`.
        of_all : Moments
            The moments of all blocks.
        """
        if self.init == "k-means||":
            return self._scalable(persisted, of_all)
        count = self.n_clusters if self.init == "random" else max(_SAMPLE, _FOR_EACH * self.n_clusters)
        sample = _at_random(persisted, "init sample", self._generator(_FIRST), min(count, of_all.n)) - of_all.mean
        if self.init == "random":
            return sample
        return persisted.call("init", _plusplus, sample, self.n_clusters, self._number(_LAST))

    def _scalable(self, persisted: PersistedBlocks, of_all: Moments) -> Any:
        """Run k-means||.

        Algorithm 2 of Bahmani, Moseley, Vattani, Kumar, Vassilvitskii 2012: Scalable K-Means++.
        """
        candidates = _at_random(persisted, "init first", self._generator(_FIRST), 1) - of_all.mean
        for number in range(1, self.rounds + 1):
            name = f"init round {number}"
            draws = list(persisted.each(name, draw, of_all.mean, candidates, (self.drawn, self.seed, number)))
            picked = Draw.picks(draws, self.drawn)
            if picked:
                more = np.concatenate(list(persisted.each(f"{name}, fetch", _rows, own=picked)))
                candidates = np.concatenate([candidates, more - of_all.mean])
        weights = sum(persisted.each("init weights", weigh, of_all.mean, candidates))
        lacking = self.n_clusters - len(candidates)
        if lacking > 0:
            more = _at_random(persisted, "init more", self._generator(_MORE), lacking) - of_all.mean
            candidates, weights = np.concatenate([candidates, more]), np.append(weights, np.ones(lacking))
        return persisted.call("init", recluster, candidates, weights, self.n_clusters, self._number(_LAST))

    def _generator(self, purpose: int) -> Any:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0, purpose)))

    def _number(self, purpose: int) -> int:
        """Return a seed for scikit-learn."""
        return int(np.random.SeedSequence(self.seed, spawn_key=(0, purpose)).generate_state(1)[0])


@dataclass(frozen=True)
class Draw:
    """A block's candidates in a round, before the cost of all blocks is known; see :func:`draw`."""

    cost: float
    rows: Any
    apart: Any
    chances: Any

    @staticmethod
    def picks(draws: Iterable[Draw], drawn: float) -> Mapping[int, Any]:
        """Return the picked rows by block, once all costs are known."""
        draws = list(draws)
        total = sum(draw.cost for draw in draws)
        chosen = {number: one.rows[drawn * one.apart > one.chances * total] for number, one in enumerate(draws)}
        return {number: rows for number, rows in chosen.items() if len(rows)}


def draw(X: Any, number: int, mean: Any, candidates: Any, how: tuple[float, int, int]) -> Draw:
    """Draw samples, each with the probability ``drawn * d^2 / cost``, on a worker.

    The total cost is not known here, but it is at least this block's. So every row that may be
    picked is returned with the numbers that decide it, which saves a second pass.

    Parameters
    ----------
    how : tuple of float, int and int
        The expected number of samples to draw in total, the seed, and the round.
    """
    drawn, seed, turn = how
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(turn, number)))
    found = [lloyd.apart(x, lloyd.nearest(x, candidates), candidates) for x in lloyd.pieces(X, mean)]
    apart, chances = np.concatenate(found), generator.random(len(X))
    cost = float(apart.sum())
    rows = np.flatnonzero(drawn * apart > chances * cost)
    return Draw(cost, rows, apart[rows], chances[rows])


def weigh(X: Any, _: int, mean: Any, candidates: Any) -> Any:
    """Count the samples nearest to each candidate, on a worker."""
    counts = (np.bincount(lloyd.nearest(x, candidates), minlength=len(candidates)) for x in lloyd.pieces(X, mean))
    return sum(counts).astype(np.float64)  # type: ignore[union-attr]


def recluster(candidates: Any, weights: Any, n_clusters: int, seed: int) -> Any:
    """Cluster the weighted candidates into initial centres, on a worker."""
    model = sklearn.cluster.KMeans(n_clusters, init="k-means++", n_init=10, random_state=seed)
    # Several threads would add in arbitrary order, and there are few candidates.
    with threadpool_limits(1), warnings.catch_warnings():
        # There may be fewer distinct samples than clusters; the outcome warns of that.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(candidates, sample_weight=weights).cluster_centers_


def _plusplus(sample: Any, n_clusters: int, seed: int) -> Any:
    return sklearn.cluster.kmeans_plusplus(sample, n_clusters, random_state=seed)[0]


def _at_random(persisted: PersistedBlocks, name: str, generator: Any, count: int) -> Any:
    """Draw distinct samples uniformly, as floating-point numbers."""
    begins = np.cumsum([0, *(facts.n for facts in persisted.facts)])
    chosen = np.sort(generator.choice(begins[-1], size=count, replace=False, shuffle=False))
    owners = np.searchsorted(begins, chosen, side="right") - 1
    own = {int(block): chosen[owners == block] - begins[block] for block in np.unique(owners)}
    return np.concatenate(list(persisted.each(name, _rows, own=own)))


def _rows(X: Any, _: int, rows: Any) -> Any:
    return X[rows].astype(np.float64)
