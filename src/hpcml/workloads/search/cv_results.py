"""The table of all scores of a search: ``cv_results_`` as in scikit-learn's searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from hpcml.workloads.search.crossval import Scored, Setup


def results_table(
    candidates: Sequence[Mapping[str, Any]], scored: Sequence[Sequence[Scored]], setup: Setup
) -> dict[str, Any]:
    """Return ``cv_results_`` as scikit-learn's searches do.

    Parameters
    ----------
    candidates : sequence of mapping
        The parameters of each candidate.
    scored : sequence of (sequence of Scored)
        By candidate and fold.

    Returns
    -------
    dict of str to (array of shape (n_candidates,), or list)
        Times in seconds; parameters as masked arrays, masked where a candidate does not have them.
    """
    results: dict[str, Any] = {}
    _store(results, "fit_time", np.array([[fit.fit_s for fit in fits] for fits in scored]))
    _store(results, "score_time", np.array([[fit.score_s for fit in fits] for fits in scored]))
    for name in dict.fromkeys(name for parameters in candidates for name in parameters):
        results[f"param_{name}"] = _masked(name, candidates)
    results["params"] = list(candidates)
    # A callable scorer names its scores only when it succeeds, so failed fits may have no names.
    names = list(dict.fromkeys(name for fits in scored for fit in fits for name in fit.test)) or ["score"]
    for name in names:
        _store(results, f"test_{name}", _scores(scored, "test", name, setup), splits=True, rank=True)
        if setup.return_train_score:
            _store(results, f"train_{name}", _scores(scored, "train", name, setup), splits=True)
    return results


def _scores(scored: Sequence[Sequence[Scored]], kind: str, name: str, setup: Setup) -> Any:
    missing = float("nan") if setup.error_score == "raise" else float(setup.error_score)
    return np.array([[getattr(fit, kind).get(name, missing) for fit in fits] for fits in scored], dtype=float)


def _masked(name: str, candidates: Sequence[Mapping[str, Any]]) -> Any:
    values = np.ma.MaskedArray(np.empty(len(candidates), dtype=object), mask=True)
    for number, parameters in enumerate(candidates):
        if name in parameters:
            values[number] = parameters[name]
    return values


def _store(results: dict[str, Any], name: str, values: Any, *, splits: bool = False, rank: bool = False) -> None:
    if splits:
        for number in range(values.shape[1]):
            results[f"split{number}_{name}"] = values[:, number]
    means = values.mean(axis=1)
    results[f"mean_{name}"], results[f"std_{name}"] = means, values.std(axis=1)
    if not rank:
        return
    # Candidates without a score share the last rank.
    worst = 0.0 if np.isnan(means).all() else np.nanmin(means) - 1
    results[f"rank_{name}"] = rankdata(-np.nan_to_num(means, nan=worst), method="min").astype(np.int32)
