"""The cluster that a run computes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from hpcml.batch.request import Request
from hpcml.cluster.handle import Cluster, Load
from hpcml.cluster.local import local_size, open_local
from hpcml.runs import RunPaths
from hpcml.spec import AllocationSpec, AttachSpec, ClusterSpec, LocalSpec

__all__ = ["Cluster", "Load", "local_size", "open_cluster"]


def open_cluster(
    spec: ClusterSpec, request: Request | None, paths: RunPaths, ends: float | None, say: Callable[[str], None]
) -> AbstractContextManager[Cluster]:
    """Start a cluster, and close it whatever happens.

    Parameters
    ----------
    request : Request or None
        What is asked of a batch scheduler; None for a local cluster.
    ends : float or None
        When the job that this process is in ends, in seconds since the epoch; None: never, or nobody knows.
    say : callable
        Tells the user what is being waited for.

    Raises
    ------
    ClusterStartError
        If the workers do not come.
    """
    if isinstance(spec, AttachSpec):
        from hpcml.cluster.attach import open_attached

        return open_attached(spec, paths, say)
    if request is None:
        assert isinstance(spec, LocalSpec)
        return open_local(spec, paths)
    if isinstance(spec, AllocationSpec):
        from hpcml.cluster.allocation import open_allocation

        return open_allocation(request, paths, say)
    from hpcml.cluster.batch import open_batch  # dask_jobqueue: a local run does without

    return open_batch(request, paths, ends, say)
