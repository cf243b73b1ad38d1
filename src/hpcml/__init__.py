"""Take a scikit-learn or Dask-ML job from a laptop to a PBS supercomputer and bring the results home."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcml.data import Dataset
    from hpcml.errors import HpcmlError
    from hpcml.launcher import run
    from hpcml.record import Record
    from hpcml.spec import LocalSpec, RunSpec
    from hpcml.workloads.base import Outcome
    from hpcml.workloads.search import Search

__version__ = "0.1.0"

__all__ = ["Dataset", "HpcmlError", "LocalSpec", "Outcome", "Record", "RunSpec", "Search", "run"]

# Where each public name lives. Resolved on first use, because `hpcml --help` and `hpcml list` must not pay for
# importing dask and scikit-learn (several seconds on a cold parallel file system).
_HOMES = {
    "Dataset": "hpcml.data",
    "HpcmlError": "hpcml.errors",
    "LocalSpec": "hpcml.spec",
    "Outcome": "hpcml.workloads.base",
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
