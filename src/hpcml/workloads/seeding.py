"""The centres that k-means begins with: k-means||, k-means++ on a sample, or samples at random.

What is drawn depends on the seed, the round and the block, and on nothing else: not on the workers.
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

from hpcml.workloads import lloyd
from hpcml.workloads.kept import Kept

INITS = ("k-means||", "k-means++", "random")

# k-means++ looks at so many samples, or so many for each cluster, whichever is more.
_SAMPLE, _FOR_EACH = 10_000, 10

# What the generators of the head are for; those of the blocks are numbered by round and block.
_FIRST, _LAST, _MORE = 0, 1, 2


@dataclass(frozen=True)
class Seeding:
    """How to begin.

    Parameters
    ----------
    init : str
        Of :data:`INITS`.
    n_clusters : int
    rounds : int
        Of k-means||.
    drawn : float
        How many samples a round of k-means|| draws, on average: the paper's l.
    seed : int
    """

    init: str
    n_clusters: int
    rounds: int
    drawn: float
    seed: int

    def count(self, n_blocks: int) -> int:
        """Give the least number of units for so many blocks; samples that were drawn are fetched besides."""
        return (self.rounds + 1) * n_blocks + 1 if self.init == "k-means||" else 1

    def centres(self, kept: Kept, of_all: lloyd.Facts) -> Any:
        """Give the centres less the mean, of shape (n_clusters, n_features).

        Parameters
        ----------
        kept : Kept
            Of blocks, with their :class:`lloyd.Facts`.
        of_all : lloyd.Facts
            Of all of them.
        """
        if self.init == "k-means||":
            return self._scalable(kept, of_all)
        count = self.n_clusters if self.init == "random" else max(_SAMPLE, _FOR_EACH * self.n_clusters)
        sample = _at_random(kept, "init sample", self._generator(_FIRST), min(count, of_all.n)) - of_all.mean
        if self.init == "random":
            return sample
        return kept.call("init", _plusplus, sample, self.n_clusters, self._number(_LAST))

    def _scalable(self, kept: Kept, of_all: lloyd.Facts) -> Any:
        """k-means|| (Bahmani, Moseley, Vattani, Kumar, Vassilvitskii 2012: Scalable K-Means++, algorithm 2)."""
        candidates = _at_random(kept, "init first", self._generator(_FIRST), 1) - of_all.mean
        for number in range(1, self.rounds + 1):
            name = f"init round {number}"
            draws = list(kept.each(name, draw, of_all.mean, candidates, (self.drawn, self.seed, number)))
            picked = Draw.picks(draws, self.drawn)
            if picked:
                more = np.concatenate(list(kept.each(f"{name}, fetch", _rows, own=picked)))
                candidates = np.concatenate([candidates, more - of_all.mean])
        weights = sum(kept.each("init weights", weigh, of_all.mean, candidates))
        lacking = self.n_clusters - len(candidates)
        if lacking > 0:
            more = _at_random(kept, "init more", self._generator(_MORE), lacking) - of_all.mean
            candidates, weights = np.concatenate([candidates, more]), np.append(weights, np.ones(lacking))
        return kept.call("init", recluster, candidates, weights, self.n_clusters, self._number(_LAST))

    def _generator(self, purpose: int) -> Any:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0, purpose)))

    def _number(self, purpose: int) -> int:
        """Give a seed for scikit-learn."""
        return int(np.random.SeedSequence(self.seed, spawn_key=(0, purpose)).generate_state(1)[0])


@dataclass(frozen=True)
class Draw:
    """What a round draws of a block, before the cost of all blocks is known: see :func:`draw`."""

    cost: float
    rows: Any
    apart: Any
    chances: Any

    @staticmethod
    def picks(draws: Iterable[Draw], drawn: float) -> Mapping[int, Any]:
        """Give the rows that are picked, by block, now that all costs are known."""
        draws = list(draws)
        total = sum(draw.cost for draw in draws)
        chosen = {number: one.rows[drawn * one.apart > one.chances * total] for number, one in enumerate(draws)}
        return {number: rows for number, rows in chosen.items() if len(rows)}


def draw(X: Any, number: int, mean: Any, candidates: Any, how: tuple[float, int, int]) -> Draw:
    """Draw samples, each with the probability ``drawn * d^2 / cost``; runs on a worker.

    The cost of all blocks is not known here, but it is at least this block's: so what may be picked is given, with the
    numbers that decide it, and no second pass is needed.

    Parameters
    ----------
    how : tuple of float, int and int
        How many samples are to be drawn of all, the seed, and the round.
    """
    drawn, seed, turn = how
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(turn, number)))
    found = [lloyd.apart(x, lloyd.nearest(x, candidates), candidates) for x in lloyd.pieces(X, mean)]
    apart, chances = np.concatenate(found), generator.random(len(X))
    cost = float(apart.sum())
    rows = np.flatnonzero(drawn * apart > chances * cost)
    return Draw(cost, rows, apart[rows], chances[rows])


def weigh(X: Any, _: int, mean: Any, candidates: Any) -> Any:
    """Count the samples that are nearest to each candidate; runs on a worker."""
    counts = (np.bincount(lloyd.nearest(x, candidates), minlength=len(candidates)) for x in lloyd.pieces(X, mean))
    return sum(counts).astype(np.float64)  # type: ignore[union-attr]


def recluster(candidates: Any, weights: Any, n_clusters: int, seed: int) -> Any:
    """Cluster the weighted candidates: the centres to begin with; runs on a worker."""
    model = sklearn.cluster.KMeans(n_clusters, init="k-means++", n_init=10, random_state=seed)
    # several threads would add up in any order; and there are few candidates
    with threadpool_limits(1), warnings.catch_warnings():
        # there may be fewer distinct samples than clusters; that is told at the end
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(candidates, sample_weight=weights).cluster_centers_


def _plusplus(sample: Any, n_clusters: int, seed: int) -> Any:
    return sklearn.cluster.kmeans_plusplus(sample, n_clusters, random_state=seed)[0]


def _at_random(kept: Kept, name: str, generator: Any, count: int) -> Any:
    """Draw distinct samples, each with the same probability; as floating-point numbers."""
    begins = np.cumsum([0, *(facts.n for facts in kept.facts)])
    chosen = np.sort(generator.choice(begins[-1], size=count, replace=False, shuffle=False))
    owners = np.searchsorted(begins, chosen, side="right") - 1
    own = {int(block): chosen[owners == block] - begins[block] for block in np.unique(owners)}
    return np.concatenate(list(kept.each(name, _rows, own=own)))


def _rows(X: Any, _: int, rows: Any) -> Any:
    return X[rows].astype(np.float64)
