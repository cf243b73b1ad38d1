"""`partial_fit` over blocks, in several passes."""

from __future__ import annotations

from hpcml.workloads.incremental.incremental import Incremental

__all__ = ["Incremental"]
