"""Labels for estimators and their test scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcml.workloads.inputs.splits import Split


def score_lines(scores: Mapping[str, float] | None, split: Split) -> dict[str, str]:
    """Return the lines of a summary that show the scores on the held-out samples."""
    return {
        "test score" if name == "score" else f"test {name}": f"{score:.4f} on {split.n_test} held-out samples"
        for name, score in (scores or {}).items()
    }


def estimator_name(model: Any) -> str:
    """Return the class name of an estimator, with the names of its steps if it is a pipeline."""
    steps = getattr(model, "steps", None)
    return type(model).__name__ + (f"({', '.join(name for name, _ in steps)})" if steps else "")
