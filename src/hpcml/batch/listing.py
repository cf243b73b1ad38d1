"""Listings: what qstat and pbsnodes said, and which of it is an answer.

OpenPBS prints the same valid JSON without jobs when the server is down, when a job is unknown, when it has finished and
when there are no jobs; only exit code and stderr tell these apart. What cannot be trusted is an outage, never empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpcml.batch.values import as_bytes, as_integer, as_text, as_time

State = Literal["queued", "held", "waiting", "running", "exiting", "suspended", "moved", "finished", "unknown"]
Answer = Literal["listed", "unknown to the server", "finished", "no answer"]

# T: being routed to another queue; B: an array of which some subjobs run; U: suspended as the workstation's owner is
# back; X: a subjob that has ended; C: what Torque and Slurm's wrapper say for F
STATES: dict[str, State] = {
    "Q": "queued", "T": "queued", "H": "held", "W": "waiting", "R": "running", "B": "running", "E": "exiting",
    "S": "suspended", "U": "suspended", "M": "moved", "F": "finished", "X": "finished", "C": "finished",
}  # fmt: skip

# Exit codes of qstat: PBSE_UNKJOBID and PBSE_HISTJOBID modulo 256. It gives that of the last job it could not show.
UNKNOWN_JOB, FINISHED_JOB = 153, 35

_UNKNOWN = re.compile(r"(?:\S+: )?Unknown Job Id:? (\d\S*)")
_FINISHED = re.compile(r"(?:\S+: )?(\d\S*) Job has finished\b.*")
_HEADER = {"timestamp", "pbs_version", "pbs_server"}  # one of them begins every answer of -F json


@dataclass(frozen=True)
class JobStatus:
    """One job of a listing.

    Parameters
    ----------
    id : str
        The full id, as the server writes it.
    queue : str
        As the server says it; see :meth:`hpcml.site.Site.queue_named`.
    substate : int or None
        For finished jobs: 91 deleted, 92 done, or ended by a dependency, 93 failed.
    resources : dict
        Resource_List: what it asked for.
    used : dict
        resources_used.
    nodes : tuple of str
        The hosts of exec_host.
    started : float or None
        When it began to run, in seconds since the epoch.
    delivered : bool
        False when PBS could not put the output files where they belong.
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
    """What qstat said.

    Parameters
    ----------
    jobs : dict
        By full id.
    unknown : frozenset of str
        The jobs that the server said it does not know.
    finished : frozenset of str
        The jobs of which it said that they have finished, without saying how: history (``-x``) was not asked for.
    outage : str or None
        Why this listing says nothing about the jobs that it does not name.
    """

    jobs: dict[str, JobStatus] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    finished: frozenset[str] = frozenset()
    outage: str | None = None

    def find(self, job_id: str) -> JobStatus | None:
        """Give a job by its full or short id."""
        return next((job for listed, job in self.jobs.items() if same_job(listed, job_id)), None)

    def answer(self, job_id: str) -> Answer:
        """Tell what this listing says about a job.

        A listing that was made without an error is whole: what it does not name, the server does not have, or, where
        history was not asked for, not any more. One with errors speaks of the jobs that it names only.
        """
        if self.find(job_id) is not None:
            return "listed"
        if _among(job_id, self.finished):
            return "finished"
        if _among(job_id, self.unknown):
            return "unknown to the server"
        # without -t qstat shows an array as one job
        array = re.sub(r"\[\d+\]", "[]", job_id)
        partial = self.outage is not None or self.unknown or self.finished or self.find(array) is not None
        return "no answer" if partial else "unknown to the server"


@dataclass(frozen=True)
class Node:
    """One vnode of pbsnodes. Sizes are in bytes; None is not known."""

    name: str
    states: tuple[str, ...]
    ncpus: int | None
    mem: int | None
    assigned_ncpus: int
    assigned_mem: int
    jobs: tuple[str, ...]

    @property
    def in_service(self) -> bool:
        """Whether it runs jobs, be it full at the moment."""
        full = {"job-busy", "job-exclusive", "job-sharing", "resv-exclusive", "busy"}
        return bool(self.states) and set(self.states) <= {"free", *full}

    @property
    def can_take_work(self) -> bool:
        """Whether PBS can start a job on it now."""
        return self.states == ("free",) and (self.ncpus is None or self.assigned_ncpus < self.ncpus)


@dataclass(frozen=True)
class Nodes:
    """What pbsnodes said; with an outage, it said nothing."""

    nodes: dict[str, Node] = field(default_factory=dict)
    outage: str | None = None


def same_job(one: str, other: str) -> bool:
    """Tell whether two ids mean one job: a server's name may be left out, or its domain.

    >>> same_job("123", "123.pbs-server"), same_job("135[2].pbs-server", "135[2]"), same_job("123", "1234.pbs-server")
    (True, True, False)
    """
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _among(job_id: str, ids: Iterable[str]) -> bool:
    return any(same_job(job_id, one) for one in ids)


def read_json(stdout: bytes, stderr: bytes, code: int) -> Listing:
    """Read ``qstat [-x] -f -F json``."""
    answer = _load(stdout)
    jobs = None if answer is None else answer.get("Jobs", {})
    return _listing(jobs, stdout, stderr, code)


def read_text(stdout: bytes, stderr: bytes, code: int) -> Listing:
    """Read ``qstat [-x] -f``, of PBS or of Slurm's wrapper."""
    if code == UNKNOWN_JOB and not stdout.strip() and not stderr.strip():
        code = 0  # Slurm's wrapper: no job was found, of those asked for or of all
    return _listing(_load_text(stdout.decode(errors="replace")), stdout, stderr, code)


def read_nodes(stdout: bytes, stderr: bytes, code: int) -> Nodes:
    """Read ``pbsnodes -a -F json``."""
    answer = _load(stdout)
    nodes = None if answer is None else answer.get("nodes")
    # a server without nodes would run nothing, so that a list without any is no answer either
    if code != 0 or not isinstance(nodes, dict) or not nodes:
        return Nodes(outage=_failure("pbsnodes", stdout, _lines(stderr), code))
    return Nodes({name: _node(name, _mapping(entry)) for name, entry in nodes.items()})


def _listing(jobs: Any, stdout: bytes, stderr: bytes, code: int) -> Listing:
    """Sort what qstat printed; jobs are attributes by name by id, None if that cannot be read."""
    lines = _lines(stderr)
    unknown = [match[1] for match in map(_UNKNOWN.fullmatch, lines) if match]
    finished = [match[1] for match in map(_FINISHED.fullmatch, lines) if match]
    explained = code == 0 or (code in (UNKNOWN_JOB, FINISHED_JOB) and 0 < len(lines) == len(unknown) + len(finished))
    readable = isinstance(jobs, dict) and all(isinstance(entry, dict) for entry in jobs.values())
    return Listing(
        {job_id: _job(job_id, entry) for job_id, entry in jobs.items()} if readable else {},
        frozenset(unknown),
        frozenset(finished),
        None if explained and readable else _failure("qstat", stdout, lines, code),
    )


def _failure(command: str, stdout: bytes, lines: list[str], code: int) -> str:
    said = ": " + "; ".join(lines) if lines else ""
    if code < 0:
        return f"{command} was killed by signal {-code}{said}"
    if code:
        return f"{command} ended with exit code {code}{said}"
    if not stdout.strip():
        return f"{command} printed nothing{said}"
    start = stdout.decode(errors="replace").strip()[:40]
    return f"{command} printed what is no whole listing, beginning with {start!r}{said}"


def _lines(output: bytes) -> list[str]:
    return [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]


def _load(stdout: bytes) -> dict[str, Any] | None:
    """Parse the JSON of a PBS command; None if it is none, as when it is cut short."""
    try:
        # one variable in Latin-1 makes the whole of it invalid UTF-8; strict: values may hold raw control characters
        answer = json.loads(stdout.decode(errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and answer.keys() & _HEADER else None


def _load_text(text: str) -> dict[str, dict[str, Any]] | None:
    """Parse the text of ``qstat -f`` into what the JSON holds; None if it is no such text, or cut short."""
    jobs: dict[str, dict[str, Any]] = {}
    indent, key, job = "", None, None
    for line in text.split("\n"):
        if match := re.fullmatch(r"Job Id:([ \t])\s*(\S+)\s*", line):
            # PBS indents by four spaces and goes on after a tab; the wrapper indents by a tab and never goes on
            indent, key, job = ("    " if match[1] == " " else "\t"), None, jobs.setdefault(match[2], {})
        elif job is None:
            if line.strip():
                return None
        elif line.startswith(indent) and (match := re.match(r"([A-Za-z][\w.-]*) = ?(.*)", line[len(indent) :])):
            # a variable's value may look like an attribute, so that the first of a name counts
            key = None if match[1] in job else match[1]
            value = match[2]
            if indent == "\t" and (match[1], value) == ("job_state", "U"):
                value = "C"  # the wrapper's U is what it has no letter for: out of memory, past its deadline
            job.setdefault(match[1], value)
        elif line.startswith("\t") and key is not None:
            job[key] += line[1:]
    if not all("job_state" in job for job in jobs.values()):
        return None
    return {job_id: _nested(job) for job_id, job in jobs.items()}


def _nested(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Turn ``Resource_List.mem`` into the JSON's mapping of mappings."""
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
        state=STATES.get(as_text(entry.get("job_state")), "unknown"),
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
        # older versions name each core: 19.pbs/0, 19.pbs/1
        jobs=tuple(dict.fromkeys(job for job in (as_text(job).partition("/")[0].strip() for job in jobs) if job)),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
