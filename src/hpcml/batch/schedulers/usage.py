"""Read the resource usage of a job, and why PBS killed it, from its output files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcml.batch.schedulers.values import as_bytes, as_integer, as_seconds
from hpcml.units import format_size, format_walltime


@dataclass(frozen=True)
class Usage:
    """Resource usage from the end of a job's ``.o`` file on Gadi, in bytes and seconds."""

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


# "Label: value", usually two per line. Values contain no spaces, and a label is never read as a
# value.
_LABEL = r"[A-Za-z]+(?: [A-Za-z]+)*:"
_ROW = re.compile(rf"({_LABEL})[^\S\n]*((?!{_LABEL})\S+)?")


def read_usage(text: str) -> Usage | None:
    """Parse the last usage block in a job's output; return None if it is missing or incomplete.

    The block is complete with its last row, JobFS. PBS appends it some time after the job has
    ended.
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
    """Return why PBS killed a job, from its output or error file; None if the file does not say.

    >>> read_kill("Cgroup mem limit exceeded: Killed process 4711")
    'PBS killed the job: it used more memory than requested; increase cluster.mem'
    """
    if match := _KILLED.search(text):
        return f"PBS killed the job: {_exceeded(match[1].strip())}"
    if match := _JOBFS.search(text):
        figures = f" ({match[2]} of {match[1]})" if match[1] else ""
        return f"PBS killed the job: it wrote more to jobfs than requested{figures}; increase cluster.jobfs"
    if _CGROUP.search(text):
        return "PBS killed the job: it used more memory than requested; increase cluster.mem"
    return None


def _exceeded(reason: str) -> str:
    match = _EXCEEDED.match(reason)
    if match is None:
        return reason
    name, used, limit = match.groups()
    remedy = f"; increase cluster.{name}" if name in {"walltime", "mem"} else ""
    return f"its {name} of {_shown(name, used)} exceeded the limit of {_shown(name, limit)}{remedy}"


def _shown(name: str, amount: str) -> str:
    if name in {"walltime", "cput"} and (seconds := as_seconds(amount)) is not None:
        return format_walltime(seconds)
    if name in {"mem", "vmem"} and (size := as_bytes(amount)) is not None:
        return format_size(size)
    return amount
