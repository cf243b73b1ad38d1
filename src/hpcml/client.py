"""The client of a run's cluster."""

from __future__ import annotations

from typing import Any

import distributed


class Client(distributed.Client):  # type: ignore[misc]  # distributed has no types
    """Dask's client, whose ``scheduler_info`` is what the scheduler has just said.

    Dask's own gives what was asked for last, by whatever thread, or by a timer of its own that asks for no workers:
    then there seem to be none.
    """

    def scheduler_info(self, n_workers: int = 5, **kwargs: Any) -> Any:
        if self.asynchronous or self.scheduler is None:
            return super().scheduler_info(n_workers, **kwargs)
        return self.sync(self.scheduler.identity, n_workers=n_workers)
