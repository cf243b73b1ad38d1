"""The steps of k-means over blocks: each is a function of one block on a worker, and what is combined in the head.

All work on samples less their mean, as scikit-learn does: squared distances of samples far from the origin would lose
their last digits otherwise.
"""

from __future__ import annotations

import copy
import functools
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.cluster
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from hpcml.data.blocks import Block
from hpcml.errors import DataError
from hpcml.parts import Parts
from hpcml.workloads.checks import check_finite

# Samples less their mean are made in pieces of about so many bytes; measured for 2 to 50 features: small enough for the
# processor's caches, large enough that scikit-learn's checks of its arguments do not show.
_PIECE = 2 * 1024**2

# A thread's piece: Dask has workers give back memory at once, and asking for it again took longer than to fill it.
_LOCAL = threading.local()


@dataclass(frozen=True)
class Facts:
    """Of a block, or of all: how many samples, their mean, and the sum of squares around it, of each feature."""

    n: int
    mean: Any
    scatter: Any

    @classmethod
    def of(cls, X: Any) -> Facts:
        """Compute them for a block; runs on a worker."""
        mean = X.mean(axis=0, dtype=np.float64)
        scatter = sum(((x * x).sum(axis=0) for x in pieces(X, mean)), np.zeros(len(mean)))
        return cls(len(X), mean, scatter)

    @classmethod
    def of_all(cls, found: Iterable[Facts]) -> Facts:
        """Combine those of blocks, in their order (Chan, Golub, LeVeque 1979: the pairwise update)."""
        first, *others = found
        n, mean, scatter = first.n, first.mean, first.scatter
        for other in others:
            apart = other.mean - mean
            scatter = scatter + other.scatter + apart**2 * (n * other.n / (n + other.n))
            mean = mean + apart * (other.n / (n + other.n))
            n += other.n
        return cls(n, mean, scatter)

    @property
    def variance(self) -> float:
        """The mean of the features' variances."""
        return float(np.mean(self.scatter / self.n))


def read(block: Block, _: int) -> Any:
    """Read a block; runs on a worker.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        Of the type that it has: small integers stay small.

    Raises
    ------
    DataError
        If it has texts, NaN or infinity.
    """
    data = block.load()
    if data.is_text:
        raise DataError(f"{data.name}: its samples are texts, and k-means takes numbers")
    check_finite(data, sklearn.cluster.KMeans())
    return np.ascontiguousarray(data.X)


def read_floats(block: Block, number: int) -> Any:
    """Read a block as floating-point numbers, for whom small integers are none; runs on a worker."""
    return read(block, number).astype(np.float64, copy=False)


@dataclass(frozen=True)
class Sums:
    """What an iteration needs of a block: each cluster's number of samples, and their sum."""

    counts: Any
    sums: Any

    @classmethod
    def of_all(cls, found: Iterable[Sums]) -> Sums:
        """Combine those of blocks, in their order."""
        return functools.reduce(lambda a, b: Sums(a.counts + b.counts, a.sums + b.sums), found)


def assign(X: Any, _: int, mean: Any, centres: Any) -> Sums:
    """Sum up the samples of each cluster; runs on a worker.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    mean : ndarray of shape (n_features,)
    centres : ndarray of shape (n_clusters, n_features)
        Less the mean.
    """
    k = len(centres)
    counts, sums = np.zeros(k, dtype=np.int64), np.zeros(centres.shape)
    for x in pieces(X, mean):
        labels = nearest(x, centres)
        counts += np.bincount(labels, minlength=k)
        # a product with the labels' one-hot matrix: one pass over the samples, in their order
        ones, pointers = _one_each(len(x))
        sums += csr_array((ones, labels, pointers), shape=(len(x), k)).T @ x
    return Sums(counts, sums)


def nearest(x: Any, centres: Any) -> Any:
    """Give each sample's nearest centre; shape (n_samples,)."""
    model = copy.copy(_assigner(x.shape[1]))
    model.cluster_centers_ = centres
    return model.predict(x)


def apart(x: Any, labels: Any, centres: Any) -> Any:
    """Give each sample's squared distance from its centre, of differences: what is equal has exactly 0."""
    differences = x - centres[labels]
    return np.einsum("ij,ij->i", differences, differences)


@dataclass(frozen=True)
class Far:
    """The samples of a block that are farthest from their centres: squared distances, samples less the mean, labels."""

    apart: Any
    samples: Any
    labels: Any

    @classmethod
    def of_all(cls, found: Iterable[Far], count: int) -> Far:
        """Give the farthest of all; of equals the first."""
        parts = list(found)
        together = cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("apart", "samples", "labels"))
        )
        return together._most(count)

    def _most(self, count: int) -> Far:
        first = np.argsort(-self.apart, kind="stable")[:count]
        return Far(self.apart[first], self.samples[first], self.labels[first])


def farthest(X: Any, _: int, mean: Any, centres: Any, count: int) -> Far:
    """Find the samples that are farthest from their centres; runs on a worker."""
    found = []
    for x in pieces(X, mean):
        labels = nearest(x, centres)
        found.append(Far(apart(x, labels, centres), x, labels)._most(count))
    return Far.of_all(found, count)


def move(sums: Sums, far: Far | None) -> Any:
    """Give the new centres, of shape (n_clusters, n_features); a cluster without samples gets one that is far off.

    As scikit-learn's ``_relocate_empty_clusters_dense`` and ``_average_centers``, except that of several empty clusters
    the first gets the farthest sample: scikit-learn's order is that of a partial sort.
    """
    counts, total = sums.counts.copy(), sums.sums.copy()
    empty = np.flatnonzero(counts == 0)
    if far is not None and far.apart.max(initial=0.0) > 0:
        for cluster, sample, label in zip(empty, far.samples, far.labels, strict=False):
            total[label] -= sample
            counts[label] -= 1
            total[cluster], counts[cluster] = sample, 1
    centres = total / np.maximum(counts, 1)[:, None]
    centres[counts == 0] = centres[counts.argmax()]
    return centres


def inertia(scatter: float, sums: Sums, centres: Any) -> float:
    """Give the sum of squared distances from the centres that an iteration began with, of what it has summed up.

    It costs no pass over the samples: sum |x - c|^2 = sum |x|^2 - 2 sum x.c + sum |c|^2. Good for a report; its last
    digits are lost where the clusters are much narrower than they are apart.
    """
    crossed = math.fsum((sums.sums * centres).ravel())
    return scatter - 2 * crossed + math.fsum(sums.counts * (centres * centres).sum(axis=1))


@dataclass(frozen=True)
class End:
    """What the last pass gives of a block: the sum of squared distances, each cluster's number of samples."""

    inertia: float
    counts: Any


def finish(X: Any, number: int, mean: Any, centres: Any, write: tuple[Parts, int] | None) -> End:
    """Compute what the final centres give; runs on a worker.

    Parameters
    ----------
    write : tuple of Parts and int, or None
        Where to write the labels, and the number of the block's first row among all.
    """
    found, labels = [], []
    for x in pieces(X, mean):
        labels.append(nearest(x, centres))
        found.append(apart(x, labels[-1], centres))
    all_labels, all_apart = np.concatenate(labels), np.concatenate(found)
    if write is not None:
        parts, first = write
        rows = np.arange(first, first + len(X))
        parts.write(number, {"row": rows, "cluster": all_labels, "distance": np.sqrt(all_apart)})
    return End(float(all_apart.sum()), np.bincount(all_labels, minlength=len(centres)))


def fitted(centres: Any, parameters: dict[str, Any]) -> Any:
    """Make a fitted scikit-learn KMeans of centres.

    Parameters
    ----------
    centres : ndarray of shape (n_clusters, n_features)
    parameters : dict
        Of the estimator.
    """
    model = sklearn.cluster.KMeans(n_clusters=1, n_init=1).fit(np.zeros((1, centres.shape[1])))
    model.set_params(n_clusters=len(centres), **parameters)
    model.cluster_centers_ = np.ascontiguousarray(centres)
    del model.labels_  # there are as many as samples, and none of them here
    return model


@functools.lru_cache(maxsize=4)
def _assigner(n_features: int) -> Any:
    """Make a model whose ``predict`` finds the nearest centre: the fastest way there is, several times that of
    ``pairwise_distances_argmin``, which does not use the processor's caches as well for few clusters.
    """
    # a task has one of its worker's threads
    with threadpool_limits(1, "openmp"):
        return fitted(np.zeros((1, n_features)), {})


def pieces(X: Any, mean: Any) -> Iterator[Any]:
    """Give the samples less the mean, some at a time; each piece is gone when the next is there."""
    shape = (max(1024, _PIECE // (8 * X.shape[1])), X.shape[1])
    if getattr(_LOCAL, "piece", np.empty(0)).shape != shape:
        _LOCAL.piece = np.empty(shape)
    for begin in range(0, len(X), len(_LOCAL.piece)):
        some = X[begin : begin + len(_LOCAL.piece)]
        yield np.subtract(some, mean, out=_LOCAL.piece[: len(some)])


@functools.lru_cache(maxsize=4)
def _one_each(n_samples: int) -> tuple[Any, Any]:
    """Give the values and the row pointers of a sparse matrix with one 1 in each row."""
    return np.ones(n_samples), np.arange(n_samples + 1, dtype=np.int32)
