"""Datasets for workloads, and loaders of files."""

from __future__ import annotations

from hpcml.data.arrays import ArrayFile
from hpcml.data.blocks import Blocks, in_blocks, in_memory
from hpcml.data.dataset import Dataset
from hpcml.data.load import load, paths
from hpcml.data.newsgroups import Newsgroups
from hpcml.data.replicas import Replicas
from hpcml.data.rowgroups import RowGroups
from hpcml.data.table import TableFile
from hpcml.data.text import TextFile

__all__ = [
    "ArrayFile", "Blocks", "Dataset", "Newsgroups", "Replicas", "RowGroups", "TableFile", "TextFile", "in_blocks",
    "in_memory", "load", "paths",
]  # fmt: skip
