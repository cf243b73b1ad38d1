"""Any workload, timed at several numbers of workers."""

from __future__ import annotations

from hpcml.workloads.scaling.scaling import Scaling

__all__ = ["Scaling"]
