"""Estimators that fit on Dask arrays: Dask-ML, XGBoost, LightGBM."""

from __future__ import annotations

from hpcml.workloads.dask_fit.dask_fit import DaskFit

__all__ = ["DaskFit"]
