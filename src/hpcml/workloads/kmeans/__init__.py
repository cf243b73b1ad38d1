"""K-means over blocks."""

from __future__ import annotations

from hpcml.workloads.kmeans.kmeans import KMeans

__all__ = ["KMeans"]
