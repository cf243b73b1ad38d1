"""Grid and random search with cross-validation."""

from __future__ import annotations

from hpcml.workloads.search.search import Search

__all__ = ["Search"]
