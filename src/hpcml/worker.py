"""Run the workers of a worker job: ``python -P -m hpcml.worker RUN_DIRECTORY JOB``.

Everything else is read from the run directory, to keep secrets out of command line and environment.
"""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sys

# Imported once per job by the fork server, not once per worker.
_PRELOAD = "hpcml.workloads.preload"


def main() -> int:
    """Run the workers of a job and return its exit code."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # Read when Dask is imported.
    # Start the fork server first: it imports on another core while this process imports Dask and
    # connects to the head.
    multiprocessing.forkserver.set_forkserver_preload([_PRELOAD])
    multiprocessing.forkserver.ensure_running()
    from hpcml.cluster import workerjob

    return workerjob.main(*sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
