"""Parse the output of qstat and pbsnodes, distinguishing an outage from an empty answer.

OpenPBS prints the same valid JSON without jobs when the server is down, when a job is unknown or
finished, and when there are no jobs. Only exit code and stderr differ. Output that cannot be
trusted is an outage, never an empty listing.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpcml.batch.schedulers.values import as_bytes, as_integer, as_text, as_time


class State(enum.StrEnum):
    """State of a job, common to all schedulers."""

    NOT_SUBMITTED = "not submitted"
    QUEUED = "queued"
    HELD = "held"
    WAITING = "waiting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    EXITING = "exiting"
    MOVED = "moved"
    FINISHED = "finished"
    UNKNOWN = "unknown"

    @property
    def is_waiting(self) -> bool:
        """Whether the job is queued and not running."""
        return self in {State.QUEUED, State.HELD, State.WAITING}

    @property
    def is_running(self) -> bool:
        """Whether the job occupies nodes."""
        return self in {State.RUNNING, State.SUSPENDED, State.EXITING}

    @property
    def is_final(self) -> bool:
        """Whether the job has left the queue."""
        return self is State.FINISHED


Answer = Literal["listed", "unknown to the server", "finished", "no answer"]

# T: being routed to another queue; B: an array with running subjobs; U: suspended while the owner
# uses the workstation; X: a finished subjob; C: F in Torque and Slurm's wrapper
STATES: dict[str, State] = {
    "Q": State.QUEUED, "T": State.QUEUED, "H": State.HELD, "W": State.WAITING, "R": State.RUNNING, "B": State.RUNNING,
    "E": State.EXITING, "S": State.SUSPENDED, "U": State.SUSPENDED, "M": State.MOVED, "F": State.FINISHED,
    "X": State.FINISHED, "C": State.FINISHED,
}  # fmt: skip

# Exit codes of qstat, PBSE_UNKJOBID and PBSE_HISTJOBID modulo 256, for the last job not shown.
UNKNOWN_JOB, FINISHED_JOB = 153, 35

_UNKNOWN = re.compile(r"(?:\S+: )?Unknown Job Id:? (\d\S*)")
_FINISHED = re.compile(r"(?:\S+: )?(\d\S*) Job has finished\b.*")
_HEADER = {"timestamp", "pbs_version", "pbs_server"}  # Every answer of -F json starts with one of these.


@dataclass(frozen=True)
class JobStatus:
    """Status of one job.

    Parameters
    ----------
    id : str
        Full id, as the server writes it.
    queue : str
        Queue as reported by the server; see :meth:`hpcml.site.Site.queue_named`.
    substate : int or None
        For finished jobs: 91 deleted, 92 done or ended by a dependency, 93 failed.
    resources : dict
        Requested resources (Resource_List).
    used : dict
        Used resources (resources_used).
    nodes : tuple of str
        Hosts in exec_host.
    started : float or None
        Start time, in seconds since the epoch.
    delivered : bool
        Whether PBS delivered the output files.
    """

    id: str
    name: str
    state: State
    queue: str
    substate: int | None = None
    exit_status: int | None = None
    comment: str | None = None
    resources: dict[str, str] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    started: float | None = None
    delivered: bool = True


@dataclass(frozen=True)
class Listing:
    """Answer of qstat.

    Parameters
    ----------
    jobs : dict
        Status by full id.
    unknown : frozenset of str
        Jobs that the server does not know.
    finished : frozenset of str
        Jobs reported as finished without details, because history (``-x``) was not requested.
    outage : str or None
        Reason why the listing proves nothing about jobs that it does not contain.
    """

    jobs: dict[str, JobStatus] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    finished: frozenset[str] = frozenset()
    outage: str | None = None

    def find(self, job_id: str) -> JobStatus | None:
        """Return a job by its full or short id; None if it is not listed."""
        return next((job for listed, job in self.jobs.items() if same_job(listed, job_id)), None)

    def answer(self, job_id: str) -> Answer:
        """Return what this listing proves about a job.

        A listing without errors is complete: jobs that it does not contain are unknown to the
        server, or, without history, no longer known. A listing with errors proves nothing about
        other jobs.
        """
        if self.find(job_id) is not None:
            return "listed"
        if _among(job_id, self.finished):
            return "finished"
        if _among(job_id, self.unknown):
            return "unknown to the server"
        # Without -t qstat shows an array as one job.
        array = re.sub(r"\[\d+\]", "[]", job_id)
        partial = self.outage is not None or self.unknown or self.finished or self.find(array) is not None
        return "no answer" if partial else "unknown to the server"


@dataclass(frozen=True)
class Node:
    """One vnode of pbsnodes. Sizes are in bytes; None if unknown."""

    name: str
    states: tuple[str, ...]
    ncpus: int | None
    mem: int | None
    assigned_ncpus: int
    assigned_mem: int
    jobs: tuple[str, ...]

    @property
    def in_service(self) -> bool:
        """Whether the node runs jobs, even if it is full now."""
        full = {"job-busy", "job-exclusive", "job-sharing", "resv-exclusive", "busy"}
        return bool(self.states) and set(self.states) <= {"free", *full}

    @property
    def can_take_work(self) -> bool:
        """Whether PBS can start a job on it now."""
        return self.states == ("free",) and (self.ncpus is None or self.assigned_ncpus < self.ncpus)


@dataclass(frozen=True)
class Nodes:
    """Answer of pbsnodes; empty in an outage."""

    nodes: dict[str, Node] = field(default_factory=dict)
    outage: str | None = None


def same_job(one: str, other: str) -> bool:
    """Return whether two ids name the same job: either may lack the server's name or its domain.

    >>> same_job("123", "123.pbs-server"), same_job("135[2].pbs-server", "135[2]"), same_job("123", "1234.pbs-server")
    (True, True, False)
    """
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _among(job_id: str, ids: Iterable[str]) -> bool:
    return any(same_job(job_id, one) for one in ids)


def read_json(stdout: bytes, stderr: bytes, code: int) -> Listing:
    """Parse the output of ``qstat [-x] -f -F json``."""
    answer = _load(stdout)
    jobs = None if answer is None else answer.get("Jobs", {})
    return _listing(jobs, stdout, stderr, code)


def read_text(stdout: bytes, stderr: bytes, code: int) -> Listing:
    """Parse the output of ``qstat [-x] -f``, from PBS or Slurm's wrapper."""
    if code == UNKNOWN_JOB and not stdout.strip() and not stderr.strip():
        code = 0  # Slurm's wrapper found no job.
    return _listing(_load_text(stdout.decode(errors="replace")), stdout, stderr, code)


def read_nodes(stdout: bytes, stderr: bytes, code: int) -> Nodes:
    """Parse the output of ``pbsnodes -a -F json``."""
    answer = _load(stdout)
    nodes = None if answer is None else answer.get("nodes")
    # Every server has nodes, so an empty list is not a valid answer either.
    if code != 0 or not isinstance(nodes, dict) or not nodes:
        return Nodes(outage=_failure("pbsnodes", stdout, _lines(stderr), code))
    return Nodes({name: _node(name, _mapping(entry)) for name, entry in nodes.items()})


def _listing(jobs: Any, stdout: bytes, stderr: bytes, code: int) -> Listing:
    """Build a listing from jobs and their attributes, or from None if the output is invalid."""
    lines = _lines(stderr)
    unknown, finished = _ids_in(_UNKNOWN, lines), _ids_in(_FINISHED, lines)
    explained = code == 0 or (code in (UNKNOWN_JOB, FINISHED_JOB) and 0 < len(lines) == len(unknown) + len(finished))
    readable = isinstance(jobs, dict) and all(isinstance(entry, dict) for entry in jobs.values())
    return Listing(
        {job_id: _job(job_id, entry) for job_id, entry in jobs.items()} if readable else {},
        frozenset(unknown),
        frozenset(finished),
        None if explained and readable else _failure("qstat", stdout, lines, code),
    )


def _ids_in(form: re.Pattern[str], lines: list[str]) -> list[str]:
    return [match[1] for match in map(form.fullmatch, lines) if match]


def _failure(command: str, stdout: bytes, lines: list[str], code: int) -> str:
    details = ": " + "; ".join(lines) if lines else ""
    if code < 0:
        return f"{command} was killed by signal {-code}{details}"
    if code:
        return f"{command} ended with exit code {code}{details}"
    if not stdout.strip():
        return f"{command} printed nothing{details}"
    start = stdout.decode(errors="replace").strip()[:40]
    return f"{command} printed an incomplete listing, starting with {start!r}{details}"


def _lines(output: bytes) -> list[str]:
    return [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]


def _load(stdout: bytes) -> dict[str, Any] | None:
    """Parse the JSON of a PBS command; return None if it is invalid, for example truncated."""
    try:
        # One variable in Latin-1 makes the output invalid UTF-8, and values may contain raw control
        # characters, which strict=False allows.
        answer = json.loads(stdout.decode(errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and answer.keys() & _HEADER else None


class _TextParser:
    """Parse the text of ``qstat -f`` line by line.

    PBS indents by four spaces and continues lines with a tab; Slurm's wrapper indents by a tab and
    does not continue lines.
    """

    _JOB = re.compile(r"Job Id:([ \t])\s*(\S+)\s*")
    _ATTRIBUTE = re.compile(r"([A-Za-z][\w.-]*) = ?(.*)")

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, str]] = {}
        self._job: dict[str, str] | None = None
        self._indent = ""
        # The attribute that the next line may continue.
        self._key: str | None = None

    def feed(self, line: str) -> bool:
        """Parse a line, and return whether it belongs to a job or is blank."""
        if match := self._JOB.fullmatch(line):
            self._indent, self._key = ("    " if match[1] == " " else "\t"), None
            self._job = self.jobs.setdefault(match[2], {})
        elif self._job is None:
            return not line.strip()
        elif line.startswith(self._indent) and (match := self._ATTRIBUTE.match(line, len(self._indent))):
            self._add(self._job, match[1], match[2])
        elif line.startswith("\t") and self._key is not None:
            self._job[self._key] += line[1:]
        return True

    def _add(self, job: dict[str, str], key: str, value: str) -> None:
        # The value of a variable may look like an attribute, so only the first of a name counts.
        self._key = None if key in job else key
        if self._indent == "\t" and (key, value) == ("job_state", "U"):
            value = "C"  # The wrapper prints U for other final states, such as out of memory.
        job.setdefault(key, value)


def _load_text(text: str) -> dict[str, dict[str, Any]] | None:
    """Parse the text of ``qstat -f`` to the structure of the JSON; None if incomplete."""
    parser = _TextParser()
    if not all(map(parser.feed, text.split("\n"))):
        return None
    if not all("job_state" in job for job in parser.jobs.values()):
        return None
    return {job_id: _nested(job) for job_id, job in parser.jobs.items()}


def _nested(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Convert ``Resource_List.mem`` to nested mappings as in the JSON."""
    plain: dict[str, Any] = {}
    groups: dict[str, dict[str, str]] = {}
    for key, value in attributes.items():
        group, dot, name = key.partition(".")
        if dot:
            groups.setdefault(group, {})[name] = value
        else:
            plain[key] = value
    return plain | groups


def _job(job_id: str, entry: Mapping[str, Any]) -> JobStatus:
    hosts = (part.partition("/")[0].strip() for part in as_text(entry.get("exec_host")).split("+"))
    return JobStatus(
        id=job_id,
        name=as_text(entry.get("Job_Name")),
        state=STATES.get(as_text(entry.get("job_state")), State.UNKNOWN),
        queue=as_text(entry.get("queue")),
        substate=as_integer(entry.get("substate")),
        exit_status=as_integer(entry.get("Exit_status")),
        comment=as_text(entry.get("comment")).strip() or None,
        resources={name: as_text(value) for name, value in _mapping(entry.get("Resource_List")).items()},
        used={name: as_text(value) for name, value in _mapping(entry.get("resources_used")).items()},
        nodes=tuple(dict.fromkeys(host for host in hosts if host)),
        started=as_time(as_text(entry.get("stime")), "%a %b %d %H:%M:%S %Y"),
        delivered=as_integer(entry.get("Stageout_status")) != 0,
    )


def _node(name: str, entry: Mapping[str, Any]) -> Node:
    has, gives = _mapping(entry.get("resources_available")), _mapping(entry.get("resources_assigned"))
    jobs = entry.get("jobs", [])
    jobs = jobs if isinstance(jobs, list) else as_text(jobs).split(",")
    return Node(
        name=name,
        states=tuple(state.strip() for state in as_text(entry.get("state")).split(",") if state.strip()),
        ncpus=as_integer(has.get("ncpus")),
        mem=as_bytes(has.get("mem")),
        assigned_ncpus=as_integer(gives.get("ncpus")) or 0,
        assigned_mem=as_bytes(gives.get("mem")) or 0,
        # Older versions list each core, such as 19.pbs/0, 19.pbs/1.
        jobs=tuple(dict.fromkeys(job for job in (as_text(job).partition("/")[0].strip() for job in jobs) if job)),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
