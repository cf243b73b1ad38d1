"""What came out of a search: its table, and the lines of its summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcml.files import plain
from hpcml.workloads import grid
from hpcml.workloads.holdout import Split


def columns(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Turn cv_results_ into columns; ``params`` becomes JSON, which tells a value of None from one that was not set."""
    columns = {}
    for name, values in results.items():
        if name == "params":
            columns[name] = [json.dumps(plain(parameters)) for parameters in values]
        else:
            columns[name] = [plain(value) for value in np.ma.asarray(values).tolist()]
    return columns


def best_of_each(results: Mapping[str, Any]) -> dict[str, str]:
    """Write one line per score: its best value, and whose it is."""
    lines = {}
    for name in results:
        if name.startswith("mean_test_") and not np.isnan(results[name]).all():
            best = int(np.nanargmax(results[name]))
            shown = grid.show(results["params"][best])
            lines[f"best {name.removeprefix('mean_test_')}"] = f"{results[name][best]:.4f}: {shown}"
    return lines


def summarise(metrics: Mapping[str, Any], split: Split) -> dict[str, str]:
    """Write the lines about the candidate that was chosen."""
    lines = {
        "best parameters": grid.show(metrics["best_params"]),
        "cv score"
        if metrics["chosen_by"] == "score"
        else f"cv {metrics['chosen_by']}": f"{metrics['best_score']:.4f} (sd {metrics['best_score_std']:.4f}), "
        f"best of {metrics['n_candidates']} candidates x {metrics['n_folds']} folds",
    }
    return lines | test_lines(metrics.get("test_scores"), split)


def test_lines(scores: Mapping[str, float] | None, split: Split) -> dict[str, str]:
    """Write the lines about the held-out samples."""
    return {
        "test score" if name == "score" else f"test {name}": f"{score:.4f} on {len(split.X_test)} held-out samples"
        for name, score in (scores or {}).items()
    }


def name(model: Any) -> str:
    """Name an estimator; a pipeline by its steps."""
    steps = getattr(model, "steps", None)
    return type(model).__name__ + (f"({', '.join(name for name, _ in steps)})" if steps else "")
