"""Peak memory of a process."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcml.units import format_size

if TYPE_CHECKING:
    from distributed import Worker


def peak() -> int:
    """Return the peak resident memory of this process, in bytes.

    Read from Linux's ``VmHWM`` where available: ``ru_maxrss`` starts at the size of the parent
    process (proc(5), getrusage(2)), so that a worker of a large head would seem as large as the
    head.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, others kilobytes


def of_worker(dask_worker: Worker) -> tuple[str, int]:
    """Return the name of a worker and its peak, if it runs there by ``Client.run``."""
    return f"worker {dask_worker.name}", peak()


def show(peaks: dict[str, int]) -> str:
    """Render the peak memory of the largest worker and of the head in one line."""
    workers = [peak for name, peak in peaks.items() if name != "head"]
    which = f"largest of {len(workers)} workers" if len(workers) > 1 else "worker"
    most = f"{format_size(max(workers))} of the {which}, " if workers else ""
    return f"{most}{format_size(peaks['head'])} of the head"
