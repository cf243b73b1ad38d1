"""Random forests, grown in chunks of trees and merged into the forest of scikit-learn's own fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone

from hpcml.data import samples
from hpcml.errors import ConfigError
from hpcml.upstream import sklearn as upstream

# Default size of a unit: enough trees for a tenth of a second or more, because each unit costs the
# head some 10 ms; but at least _LEAST units, so that each worker of a small cluster gets several,
# and at most _MOST. The sizes do not depend on the cluster.
_WORK, _LEAST, _MOST = 4e6, 8, 256

# Parameters that grow() changes and merge() restores.
_OWN = ("n_estimators", "warm_start", "n_jobs", "oob_score")


def is_forest(model: Any) -> bool:
    """Return whether scikit-learn's own ``fit`` of random forests and extra trees fits the model.

    False for estimators that do more than grow trees: IsolationForest, RandomTreesEmbedding, and
    users' own.
    """
    return upstream.is_forest(model)


def check(forest: Any) -> None:
    """Reject parameters that scikit-learn would reject only after growing all trees.

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
    """Split the trees into chunks: for each, its first tree and the first one after it.

    Parameters
    ----------
    chunk : int or None
        Trees per chunk; None: a default for data of this shape, ``(n_samples, n_features)``.

    >>> chunks(10, 4, (1797, 64))
    [(0, 4), (4, 8), (8, 10)]
    >>> [len(chunks(n_trees, None, (1797, 64))) for n_trees in (10, 200, 800, 8000)]
    [5, 8, 31, 250]
    """
    size = chunk or _size(n_trees, *shape)
    return [(begin, min(begin + size, n_trees)) for begin in range(0, n_trees, size)]


def _size(n_trees: int, n_samples: int, n_features: int) -> int:
    # Each level of a tree sorts all samples by each candidate feature, by default sqrt(n_features)
    # of them.
    of_tree = n_samples * math.log2(n_samples + 1) * math.sqrt(n_features)
    return max(-(-n_trees // _MOST), min(-(-n_trees // _LEAST), math.ceil(_WORK / of_tree)))


def grow(forest: Any, trees: tuple[int, int], X: Any, y: Any, keywords: Mapping[str, Any]) -> Any:
    """Grow some trees, on a worker.

    Parameters
    ----------
    forest : estimator
        Not fitted; its ``random_state`` is set.
    trees : tuple of int
        The number of the first one, and of the first one not to grow.
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,) or (n_samples, n_outputs)
    keywords : mapping
        More arguments of ``fit``.

    Returns
    -------
    estimator
        A forest of these trees only.
    """
    begin, end = trees
    part = clone(forest).set_params(n_estimators=end, warm_start=True, n_jobs=None, oob_score=False)
    return upstream.grow_trees(part, begin, samples.whole(X), y, keywords)


def merge(parts: Sequence[Any], forest: Any) -> Any:
    """Merge the parts of a forest in their order; a copy of the first becomes the whole.

    Parameters
    ----------
    forest : estimator
        Not fitted, with the user's parameters.
    """
    whole = copy.copy(parts[0])  # a copy: parts may be merged again
    whole.estimators_ = [tree for part in parts for tree in part.estimators_]
    own = {name: getattr(forest, name) for name in _OWN}
    return whole.set_params(**own | {"n_estimators": len(whole.estimators_)})


def out_of_bag(forest: Any, X: Any, y: Any) -> Mapping[str, Any]:
    """Score a forest on each tree's out-of-bag samples, on a worker.

    Returns
    -------
    mapping of str to object
        Attributes to set on the forest.
    """
    return upstream.score_out_of_bag(forest.set_params(warm_start=True, n_jobs=None), samples.whole(X), y)
