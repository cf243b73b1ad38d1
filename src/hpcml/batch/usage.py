"""Usage: what a job used and why it was killed, as its output files say; for when qstat does not know it any more."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcml.batch.values import as_bytes, as_integer, as_seconds
from hpcml.units import format_size, format_walltime


@dataclass(frozen=True)
class Usage:
    """The block that Gadi's PBS appends to a job's ``.o`` file. Sizes are bytes, times seconds; None was left blank."""

    job_id: str
    project: str | None
    exit_status: int | None
    service_units: float | None
    ncpus: int | None
    ngpus: int | None
    mem_requested: int | None
    mem_used: int | None
    walltime_requested: int | None
    walltime_used: int | None
    jobfs_requested: int | None
    jobfs_used: int | None
    cpu_time: int | None


# "Label: value", two of them in most rows. Values have no spaces, and the second label is not a first one's value.
_LABEL = r"[A-Za-z]+(?: [A-Za-z]+)*:"
_ROW = re.compile(rf"({_LABEL})[^\S\n]*((?!{_LABEL})\S+)?")


def read_usage(text: str) -> Usage | None:
    """Read the last usage block of a job's output; None if there is none, or not yet the whole of it.

    The end of the block is its last row, JobFS: PBS appends it some time after the job has left the queue.
    """
    _, heading, block = text.rpartition("Resource Usage on ")
    if not heading:
        return None
    found = {label.lower(): value for label, value in _ROW.findall(block.split("=====")[0])}
    if "job id:" not in found or "jobfs used:" not in found:
        return None
    return Usage(
        job_id=found["job id:"],
        project=found.get("project:") or None,
        exit_status=as_integer(found.get("exit status:")),
        service_units=_number(found.get("service units:")),
        ncpus=as_integer(found.get("ncpus requested:")),
        ngpus=as_integer(found.get("ngpus requested:")),
        mem_requested=as_bytes(found.get("memory requested:")),
        mem_used=as_bytes(found.get("memory used:")),
        walltime_requested=as_seconds(found.get("walltime requested:")),
        walltime_used=as_seconds(found.get("walltime used:")),
        jobfs_requested=as_bytes(found.get("jobfs requested:")),
        jobfs_used=as_bytes(found.get("jobfs used:")),
        cpu_time=as_seconds(found.get("cpu time used:")),
    )


def _number(text: str | None) -> float | None:
    plain = (text or "").replace(",", "")
    return float(plain) if re.fullmatch(r"\d+(\.\d+)?", plain, re.ASCII) else None


_KILLED = re.compile(r"=>> PBS: job killed: (.+)")
_EXCEEDED = re.compile(r"(\w+) (\S+) exceeded limit (\S+)")
_JOBFS = re.compile(
    r"Job \S+ killed due to exceeding jobfs quota(?:.{0,99}?Quota: (\S+?), Used: ([^\s,]+))?", re.DOTALL
)
_CGROUP = re.compile(r"Cgroup mem\w* limit exceeded", re.IGNORECASE)


def read_kill(text: str) -> str | None:
    """Say why PBS killed a job, from the job's output or error file; None if these do not tell.

    >>> read_kill("=>> PBS: job killed: walltime 3621 exceeded limit 3600")
    'PBS killed the job: its walltime of 01:00:21 exceeded the limit of 01:00:00; give it more, cluster.walltime'
    """
    if match := _KILLED.search(text):
        return f"PBS killed the job: {_exceeded(match[1].strip())}"
    if match := _JOBFS.search(text):
        figures = f" ({match[2]} of {match[1]})" if match[1] else ""
        return f"PBS killed the job: it wrote more to jobfs than it asked for{figures}; give it more, cluster.jobfs"
    if _CGROUP.search(text):
        return "PBS killed the job: it used more memory than it asked for; give it more, cluster.mem"
    return None


def _exceeded(reason: str) -> str:
    match = _EXCEEDED.match(reason)
    if match is None:
        return reason
    name, used, limit = match.groups()
    remedy = f"; give it more, cluster.{name}" if name in {"walltime", "mem"} else ""
    return f"its {name} of {_shown(name, used)} exceeded the limit of {_shown(name, limit)}{remedy}"


def _shown(name: str, amount: str) -> str:
    if name in {"walltime", "cput"} and (seconds := as_seconds(amount)) is not None:
        return format_walltime(seconds)
    if name in {"mem", "vmem"} and (size := as_bytes(amount)) is not None:
        return format_size(size)
    return amount
