"""Take a scikit-learn or Dask-ML job from a laptop to a PBS supercomputer and bring the results home."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcml.data import Blocks, Dataset
    from hpcml.errors import HpcmlError
    from hpcml.launcher import run
    from hpcml.record import Record
    from hpcml.spec import LocalSpec, RunSpec
    from hpcml.workloads.asian import AsianOption
    from hpcml.workloads.base import Outcome
    from hpcml.workloads.dask_fit import DaskFit
    from hpcml.workloads.estimator import FitEstimator
    from hpcml.workloads.function import Function
    from hpcml.workloads.incremental import Incremental
    from hpcml.workloads.kmeans import KMeans
    from hpcml.workloads.map import Map
    from hpcml.workloads.predict import Predict
    from hpcml.workloads.search import Search

__version__ = "0.1.0"

__all__ = [
    "AsianOption", "Blocks", "DaskFit", "Dataset", "FitEstimator", "Function", "HpcmlError", "Incremental", "KMeans",
    "LocalSpec", "Map", "Outcome", "Predict", "Record", "RunSpec", "Search", "run",
]  # fmt: skip

# Where each public name lives. Resolved on first use, because `hpcml --help` and `hpcml list` must not pay for
# importing dask and scikit-learn (several seconds on a cold parallel file system).
_HOMES = {
    "AsianOption": "hpcml.workloads.asian",
    "Blocks": "hpcml.data",
    "DaskFit": "hpcml.workloads.dask_fit",
    "Dataset": "hpcml.data",
    "FitEstimator": "hpcml.workloads.estimator",
    "Function": "hpcml.workloads.function",
    "HpcmlError": "hpcml.errors",
    "Incremental": "hpcml.workloads.incremental",
    "KMeans": "hpcml.workloads.kmeans",
    "LocalSpec": "hpcml.spec",
    "Map": "hpcml.workloads.map",
    "Outcome": "hpcml.workloads.base",
    "Predict": "hpcml.workloads.predict",
    "Record": "hpcml.record",
    "RunSpec": "hpcml.spec",
    "Search": "hpcml.workloads.search",
    "run": "hpcml.launcher",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hpcml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
