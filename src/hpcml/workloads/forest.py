"""Forests: grown in chunks of trees on the workers, and put together to the one that scikit-learn grows alone."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from hpcml.errors import ConfigError

# Where nobody says how many trees a unit has: as many as take a tenth of a second or more, for each costs the head
# some 10 ms; but at least so many units that each worker of a small cluster gets several, and at most so many. They are
# the same whatever the cluster.
_WORK, _LEAST, _MOST = 4e6, 8, 256

# What merge() gives back to the forest after grow() has set it.
_OWN = ("n_estimators", "warm_start", "n_jobs", "oob_score")


def is_forest(model: Any) -> bool:
    """Tell whether it is fitted by scikit-learn's own ``fit`` of random forests and extra trees.

    Not those that do more than grow trees: IsolationForest, RandomTreesEmbedding, and users' own.
    """
    return getattr(type(model), "fit", None) is RandomForestClassifier.fit


def check(forest: Any) -> None:
    """Refuse what scikit-learn would refuse only after all trees are there.

    Raises
    ------
    ConfigError
    """
    if forest.oob_score and not forest.bootstrap:
        raise ConfigError(
            "model.oob_score=true with model.bootstrap=false: no samples are out of the bag",
            "use model.bootstrap=true, or model.oob_score=false",
        )
    if forest.max_samples is not None and not forest.bootstrap:
        raise ConfigError(
            f"model.max_samples={forest.max_samples} with model.bootstrap=false: every tree gets all samples",
            "use model.bootstrap=true, or model.max_samples=null",
        )


def chunks(n_trees: int, chunk: int | None, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Cut the trees into chunks: of each its first tree, and the first one after it.

    Parameters
    ----------
    chunk : int or None
        How many trees; None: what suits data of this shape, ``(n_samples, n_features)``.

    >>> chunks(10, 4, (1797, 64))
    [(0, 4), (4, 8), (8, 10)]
    >>> [len(chunks(n_trees, None, (1797, 64))) for n_trees in (10, 200, 800, 8000)]
    [5, 8, 31, 250]
    """
    size = chunk or _size(n_trees, *shape)
    return [(begin, min(begin + size, n_trees)) for begin in range(0, n_trees, size)]


def _size(n_trees: int, n_samples: int, n_features: int) -> int:
    # at each level of a tree, all samples are sorted by each feature that is tried: by default sqrt(n_features) of them
    of_tree = n_samples * math.log2(n_samples + 1) * math.sqrt(n_features)
    return max(-(-n_trees // _MOST), min(-(-n_trees // _LEAST), math.ceil(_WORK / of_tree)))


def grow(forest: Any, begin: int, end: int, X: Any, y: Any) -> Any:
    """Grow the trees from ``begin`` to before ``end``; runs on a worker.

    scikit-learn draws a forest's seeds in the order of its trees, and when it goes on with a warm start passes over the
    seeds of those that are there, whatever they are.

    Parameters
    ----------
    forest : estimator
        Not fitted; its ``random_state`` is set.
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    estimator
        A forest of these trees only.
    """
    part = clone(forest).set_params(n_estimators=end, warm_start=True, n_jobs=None, oob_score=False)
    part.estimators_ = [None] * begin
    part.fit(X, y)
    part.estimators_ = part.estimators_[begin:]
    return part


def merge(parts: Sequence[Any], forest: Any) -> Any:
    """Put the parts of a forest together, in their order; the first becomes the whole.

    Parameters
    ----------
    forest : estimator
        Not fitted; what the user asked for.
    """
    whole = copy.copy(parts[0])  # which may be merged again, if the run ends now
    whole.estimators_ = [tree for part in parts for tree in part.estimators_]
    own = {name: getattr(forest, name) for name in _OWN}
    return whole.set_params(**own | {"n_estimators": len(whole.estimators_)})


def out_of_bag(forest: Any, X: Any, y: Any) -> Mapping[str, Any]:
    """Score a grown forest on the samples that its trees have not seen; runs on a worker.

    scikit-learn does so in a warm start that has no trees to grow.

    Returns
    -------
    mapping of str to object
        The attributes that the forest gets.
    """
    scored = forest.set_params(warm_start=True, n_jobs=None)
    before = set(vars(scored))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warm-start fitting without increasing")
        warnings.filterwarnings("ignore", "class_weight presets")
        scored.fit(X, y)
    return {name: value for name, value in vars(scored).items() if name not in before}
