"""A single fit on the whole cluster."""

from __future__ import annotations

from hpcml.workloads.fit.estimator import FitEstimator

__all__ = ["FitEstimator"]
