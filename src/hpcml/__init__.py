"""Run scikit-learn and Dask-ML jobs on a laptop or a PBS supercomputer and collect the results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcml.data import Blocks, Dataset
    from hpcml.errors import HpcmlError
    from hpcml.examples.asian_option import AsianOption
    from hpcml.launcher import run
    from hpcml.record import Record
    from hpcml.spec import LocalSpec, RunSpec
    from hpcml.workloads.base import Outcome
    from hpcml.workloads.dask_fit import DaskFit
    from hpcml.workloads.fit import FitEstimator
    from hpcml.workloads.functions import Function, Map
    from hpcml.workloads.incremental import Incremental
    from hpcml.workloads.kmeans import KMeans
    from hpcml.workloads.predict import Predict
    from hpcml.workloads.search import Search

__version__ = "0.1.0"

__all__ = [
    "AsianOption", "Blocks", "DaskFit", "Dataset", "FitEstimator", "Function", "HpcmlError", "Incremental", "KMeans",
    "LocalSpec", "Map", "Outcome", "Predict", "Record", "RunSpec", "Search", "run",
]  # fmt: skip

# Modules of the public names. They are imported on first use, because dask and scikit-learn take
# several seconds to import from a cold parallel file system.
_HOMES = {
    "AsianOption": "hpcml.examples.asian_option",
    "Blocks": "hpcml.data",
    "DaskFit": "hpcml.workloads.dask_fit",
    "Dataset": "hpcml.data",
    "FitEstimator": "hpcml.workloads.fit",
    "Function": "hpcml.workloads.functions",
    "HpcmlError": "hpcml.errors",
    "Incremental": "hpcml.workloads.incremental",
    "KMeans": "hpcml.workloads.kmeans",
    "LocalSpec": "hpcml.spec",
    "Map": "hpcml.workloads.functions",
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
