"""The cluster that a run computes on."""

from __future__ import annotations

from hpcml.cluster.handle import Cluster, Load
from hpcml.cluster.local import local_size, open_cluster

__all__ = ["Cluster", "Load", "local_size", "open_cluster"]
