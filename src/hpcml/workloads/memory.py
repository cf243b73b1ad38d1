"""How much memory a process has used at most."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from hpcml.units import format_size


def peak() -> int:
    """Give the peak resident memory of this process, in bytes.

    From Linux's ``VmHWM`` where it is to be had: ``ru_maxrss`` begins with the size of the process that started this
    one (proc(5), getrusage(2)), so that a worker of a large head would seem as large as the head.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, the others kilobytes


def show(peaks: dict[str, int]) -> str:
    """Say in one line how much the largest worker and the head have used."""
    workers = [peak for name, peak in peaks.items() if name != "head"]
    which = f"largest of {len(workers)} workers" if len(workers) > 1 else "worker"
    most = f"{format_size(max(workers))} of the {which}, " if workers else ""
    return f"{most}{format_size(peaks['head'])} of the head"
