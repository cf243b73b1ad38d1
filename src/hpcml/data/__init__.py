"""Data: what a workload computes on, and the loaders of files."""

from __future__ import annotations

from hpcml.data.arrays import ArrayFile
from hpcml.data.dataset import Dataset, load, paths
from hpcml.data.table import TableFile

__all__ = ["ArrayFile", "Dataset", "TableFile", "load", "paths"]
