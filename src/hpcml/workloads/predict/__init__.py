"""Predictions for data larger than memory."""

from __future__ import annotations

from hpcml.workloads.predict.predict import Predict

__all__ = ["Predict"]
