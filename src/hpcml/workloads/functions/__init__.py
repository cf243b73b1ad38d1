"""User functions: called for each row of a table, or once with the cluster's client."""

from __future__ import annotations

from hpcml.workloads.functions.function import Function
from hpcml.workloads.functions.map import Map

__all__ = ["Function", "Map"]
