"""Start and stop the Dask cluster of a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from hpcml.batch.request import Request
from hpcml.cluster.handle import Cluster, Load
from hpcml.cluster.local import WORKERS_SHARE, local_size, open_local
from hpcml.runs import RunPaths
from hpcml.spec import AllocationSpec, AttachSpec, ClusterSpec, LocalSpec

__all__ = ["WORKERS_SHARE", "Cluster", "Load", "local_size", "open_cluster"]


def open_cluster(
    spec: ClusterSpec, request: Request | None, paths: RunPaths, ends: float | None, say: Callable[[str], None]
) -> AbstractContextManager[Cluster]:
    """Start a cluster and close it when the block exits, whether the run succeeds or fails.

    Parameters
    ----------
    request : Request or None
        The resources to request from the batch scheduler; None for a local cluster.
    ends : float or None
        When the job of this process ends, in seconds since the epoch; None if it has no end or the
        end is unknown.
    say : callable
        Reports progress to the user.

    Raises
    ------
    ClusterStartError
        If the workers do not register.
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
    from hpcml.cluster.batch import open_batch  # dask_jobqueue is not needed by a local run

    return open_batch(request, paths, ends, say)
