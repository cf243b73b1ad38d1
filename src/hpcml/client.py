"""The client of a run's cluster."""

from __future__ import annotations

from typing import Any

import distributed

from hpcml.upstream.distributed import identity


class Client(distributed.Client):  # type: ignore[misc]  # distributed has no types
    """A Dask client that always queries the scheduler in ``scheduler_info``.

    Dask's own client returns the answer to the last request of any thread, or of a timer that asks
    for no workers and so makes the cluster look empty.
    """

    def scheduler_info(self, n_workers: int = 5, **kwargs: Any) -> Any:
        if self.asynchronous or self.scheduler is None:
            return super().scheduler_info(n_workers, **kwargs)
        return identity(self, n_workers)
