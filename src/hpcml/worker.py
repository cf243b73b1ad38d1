"""What a worker job runs: ``python -P -m hpcml.worker RUN_DIRECTORY JOB``.

All else it reads from the run directory, so that neither its command line nor its environment has anything that others
should not see.
"""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sys

# What the workers are forked from imports this: once a job, and not once a worker.
_PRELOAD = "hpcml.workloads.preload"


def main() -> int:
    """Run the workers of a job; give its exit code."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # read when Dask is imported
    # at once, so that it imports on another core while this process imports Dask and makes sure of its head
    multiprocessing.forkserver.set_forkserver_preload([_PRELOAD])
    multiprocessing.forkserver.ensure_running()
    from hpcml.cluster import workerjob

    return workerjob.main(*sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
