"""The steps of k-means over blocks: functions of one block on a worker, combined in the head.

All work on mean-centred samples, as scikit-learn does: otherwise squared distances of samples far
from the origin would lose their last digits.
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
from hpcml.parts import Parts
from hpcml.workloads.inputs.checks import check_finite
from hpcml.workloads.inputs.moments import Moments

# Bytes of a piece of mean-centred samples, measured for 2 to 50 features: small enough for the
# processor's caches, large enough that scikit-learn's argument checks do not matter.
_PIECE = 2 * 1024**2

# A buffer per thread: Dask configures workers to return memory at once, and allocating it again
# took longer than filling it.
_LOCAL = threading.local()


def moments(X: Any) -> Moments:
    """Compute the moments of a block, on a worker."""
    mean = X.mean(axis=0, dtype=np.float64)
    squares = sum(((x * x).sum(axis=0) for x in pieces(X, mean)), np.zeros(len(mean)))
    return Moments(len(X), mean, squares)


def read(block: Block, _: int) -> Any:
    """Read a block, on a worker.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        In its stored dtype: small integers stay small.

    Raises
    ------
    DataError
        If the block has texts, NaN or infinity.
    """
    data = block.load().dense("k-means")
    check_finite(data, sklearn.cluster.KMeans())
    return np.ascontiguousarray(data.X)


def read_floats(block: Block, number: int) -> Any:
    """Read a block as float64, on a worker, for dask_ml, which requires floating-point numbers."""
    return read(block, number).astype(np.float64, copy=False)


@dataclass(frozen=True)
class Sums:
    """A block's contribution to an iteration: the number and the sum of samples per cluster."""

    counts: Any
    sums: Any

    @classmethod
    def of_all(cls, found: Iterable[Sums]) -> Sums:
        """Combine the contributions of blocks, in their order."""
        return functools.reduce(lambda a, b: Sums(a.counts + b.counts, a.sums + b.sums), found)


def assign(X: Any, _: int, mean: Any, centres: Any) -> Sums:
    """Sum the samples of each cluster, on a worker.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    mean : ndarray of shape (n_features,)
    centres : ndarray of shape (n_clusters, n_features)
        Minus the mean.
    """
    k = len(centres)
    counts, sums = np.zeros(k, dtype=np.int64), np.zeros(centres.shape)
    for x in pieces(X, mean):
        labels = nearest(x, centres)
        counts += np.bincount(labels, minlength=k)
        # A product with the one-hot matrix of the labels needs a single pass over the samples, in
        # order.
        ones, pointers = _one_each(len(x))
        sums += csr_array((ones, labels, pointers), shape=(len(x), k)).T @ x
    return Sums(counts, sums)


def nearest(x: Any, centres: Any) -> Any:
    """Return the index of each sample's nearest centre; shape (n_samples,)."""
    model = copy.copy(_assigner(x.shape[1]))
    model.cluster_centers_ = centres
    return model.predict(x)


def apart(x: Any, labels: Any, centres: Any) -> Any:
    """Return squared distances to the centres, from differences, so equal points give exactly 0."""
    differences = x - centres[labels]
    return np.einsum("ij,ij->i", differences, differences)


@dataclass(frozen=True)
class Far:
    """The samples farthest from their centres: squared distances, centred samples, and labels."""

    apart: Any
    samples: Any
    labels: Any

    @classmethod
    def of_all(cls, found: Iterable[Far], count: int) -> Far:
        """Return the farthest samples of all blocks; of equals the first."""
        parts = list(found)
        together = cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("apart", "samples", "labels"))
        )
        return together._most(count)

    def _most(self, count: int) -> Far:
        first = np.argsort(-self.apart, kind="stable")[:count]
        return Far(self.apart[first], self.samples[first], self.labels[first])


def farthest(X: Any, _: int, mean: Any, centres: Any, count: int) -> Far:
    """Find the samples that are farthest from their centres, on a worker."""
    found = []
    for x in pieces(X, mean):
        labels = nearest(x, centres)
        found.append(Far(apart(x, labels, centres), x, labels)._most(count))
    return Far.of_all(found, count)


def move(sums: Sums, far: Far | None) -> Any:
    """Compute new centres, shape (n_clusters, n_features); empty clusters move to far samples.

    This follows scikit-learn's ``_relocate_empty_clusters_dense`` and ``_average_centers``, except
    that the first of several empty clusters gets the farthest sample: scikit-learn's order is that
    of a partial sort.
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
    """Compute the inertia at the beginning of an iteration from its sums.

    It needs no pass over the samples: sum |x - c|^2 = sum |x|^2 - 2 sum x.c + sum |c|^2. It is
    precise enough for a report, but loses digits where the clusters are much narrower than the
    distances between them.
    """
    crossed = math.fsum((sums.sums * centres).ravel())
    return scatter - 2 * crossed + math.fsum(sums.counts * (centres * centres).sum(axis=1))


@dataclass(frozen=True)
class End:
    """A block's result of the last pass: its inertia, and its number of samples per cluster."""

    inertia: float
    counts: Any


def finish(X: Any, number: int, mean: Any, centres: Any, write: tuple[Parts, int] | None) -> End:
    """Compute a block's labels, distances and inertia for the final centres, on a worker.

    Parameters
    ----------
    write : tuple of Parts and int, or None
        Where to write the labels, and the index of the block's first row in the whole data.
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
    """Build a fitted scikit-learn KMeans from centres.

    Parameters
    ----------
    centres : ndarray of shape (n_clusters, n_features)
    parameters : dict
        Parameters of the estimator.
    """
    model = sklearn.cluster.KMeans(n_clusters=1, n_init=1).fit(np.zeros((1, centres.shape[1])))
    model.set_params(n_clusters=len(centres), **parameters)
    model.cluster_centers_ = np.ascontiguousarray(centres)
    del model.labels_  # of the placeholder sample above
    return model


@functools.lru_cache(maxsize=4)
def _assigner(n_features: int) -> Any:
    """Build a model with a fast ``predict`` for the nearest centre.

    It is several times as fast as ``pairwise_distances_argmin``, which makes poorer use of the
    processor's caches for few clusters.
    """
    # A task has a single thread of its worker.
    with threadpool_limits(1, "openmp"):
        return fitted(np.zeros((1, n_features)), {})


def pieces(X: Any, mean: Any) -> Iterator[Any]:
    """Yield mean-centred samples, piece by piece; each piece overwrites the previous one."""
    shape = (max(1024, _PIECE // (8 * X.shape[1])), X.shape[1])
    if getattr(_LOCAL, "piece", np.empty(0)).shape != shape:
        _LOCAL.piece = np.empty(shape)
    for begin in range(0, len(X), len(_LOCAL.piece)):
        some = X[begin : begin + len(_LOCAL.piece)]
        yield np.subtract(some, mean, out=_LOCAL.piece[: len(some)])


@functools.lru_cache(maxsize=4)
def _one_each(n_samples: int) -> tuple[Any, Any]:
    """Return the values and row pointers of a sparse matrix with one 1 in each row."""
    return np.ones(n_samples), np.arange(n_samples + 1, dtype=np.int32)
