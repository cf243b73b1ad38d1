"""The table of a search and the lines of its summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcml.workloads.inputs.labels import score_lines
from hpcml.workloads.inputs.splits import Split
from hpcml.workloads.search import grid


def columns(results: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Convert cv_results_ into columns.

    ``params`` becomes JSON that a config can contain, and distinguishes a value of None from a
    parameter that was not set.
    """
    columns = {}
    for name, values in results.items():
        if name == "params":
            columns[name] = [json.dumps(grid.described(parameters)) for parameters in values]
        else:
            columns[name] = [grid.label(value) for value in np.ma.asarray(values).tolist()]
    return columns


def best_of_each(results: Mapping[str, Any]) -> dict[str, str]:
    """Render one line per score: its best value and the parameters that reached it."""
    lines = {}
    for name in results:
        if name.startswith("mean_test_") and not np.isnan(results[name]).all():
            best = int(np.nanargmax(results[name]))
            shown = grid.show(results["params"][best])
            lines[f"best {name.removeprefix('mean_test_')}"] = f"{results[name][best]:.4f}: {shown}"
    return lines


def summarise(metrics: Mapping[str, Any], best: Mapping[str, Any], split: Split) -> dict[str, str]:
    """Render the lines about the selected candidate.

    Parameters
    ----------
    best : mapping
        Its parameters.
    """
    lines = {"best parameters": grid.show(best)}
    of = f"best of {metrics['n_candidates']} candidates x {metrics['n_folds']} folds"
    if "best_score" in metrics:
        name = "cv score" if metrics["chosen_by"] == "score" else f"cv {metrics['chosen_by']}"
        lines[name] = f"{metrics['best_score']:.4f} (sd {metrics['best_score_std']:.4f}), {of}"
    else:
        lines["chosen by"] = f"{metrics['chosen_by']}, {of}"
    return lines | score_lines(metrics.get("test_scores"), split)
