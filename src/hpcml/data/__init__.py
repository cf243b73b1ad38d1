"""Data: what a workload computes on, and the loaders of files."""

from __future__ import annotations

from hpcml.data.arrays import ArrayFile
from hpcml.data.blocks import Blocks, in_blocks, in_memory
from hpcml.data.dataset import Dataset
from hpcml.data.load import load, paths
from hpcml.data.replicas import Replicas
from hpcml.data.rowgroups import RowGroups
from hpcml.data.table import TableFile

__all__ = [
    "ArrayFile", "Blocks", "Dataset", "Replicas", "RowGroups", "TableFile", "in_blocks", "in_memory", "load", "paths",
]  # fmt: skip
