"""Explain in plain words why a job does not run.

The comments are those of OpenPBS 23.06's scheduler (src/scheduler/job_info.cpp) and server.
Comments without an entry in the table are passed on unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcml.batch.schedulers.values import as_bytes, as_seconds


@dataclass(frozen=True)
class Shortage:
    """Resource that a job lacks, in bytes, seconds or units; None if the comment has no number."""

    resource: str
    requested: int | None = None
    available: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Waiting:
    """Reason why a job does not run.

    Parameters
    ----------
    never : bool
        Whether the job can never run, however long it waits.
    """

    sentence: str
    remedy: str = ""
    never: bool = False
    shortage: Shortage | None = None


_WAIT = "wait: it starts when the resource becomes free"
_FEWER = "wait: it starts when others have ended; to queue fewer jobs, reduce cluster.jobs"
_LESS = "request less of a node (cluster.ncpus, cluster.mem) or another queue (cluster.queue)"
_DESK = "ask the site's help desk"

# Pattern, explanation, remedy, with named groups filled in. "Can Never Run" replaces the remedy by
# _LESS.
_COMMENTS = (
    (r"(?P<who>User|Group|Project) has reached (?P<where>queue \S+?|server)(?:'s)? running (?:job )?limit",
     "as many jobs are running as the site allows a {who} ({where})", _FEWER),
    (r"(?P<where>Queue \S+|Server) job limit (?:has been )?reached(?: for (?P<who>\w+) (?P<name>\S+?))?\.?$",
     "as many jobs are running as the site allows ({where})", _FEWER),
    (r"(?:limit reached on resource|limit on resource) (?P<name>\S+)",
     "the jobs of the user, group or project, or of the queue, together have reached the limit on {name}", _FEWER),
    (r"subjobs limit reached", "as many subjobs are running as the array allows", _WAIT),
    (r"Queue not started", "the queue accepts jobs but is not starting any",
     "wait, or choose another queue: cluster.queue"),
    (r"Dedicated time conflict|cross dedicated time boundary",
     "maintenance (dedicated time) begins before the job would have ended",
     "a shorter job may fit before it: cluster.walltime"),
    (r"conflict with reservation|interfere with a (?:top job|confirmed reservation)|break strict sorted order",
     "it would delay a job or reservation with priority",
     "wait; a shorter or smaller job may start earlier: cluster.walltime, cluster.ncpus"),
    (r"will run in (?P<name>\w+) only|cross into (?P<where>\S+)",
     "the queue runs jobs at certain times only", "wait, or choose another queue: cluster.queue"),
    (r"No available resources on nodes|Not enough free nodes|right type of nodes|too few free resources",
     "no node has the requested resources free", _WAIT),
    (r"Not enough total nodes|largest placement set|pack placement", "no node, or set of nodes, is large enough",
     _LESS),
    (r"too many failed attempts", "PBS tried too often to start it, and now holds it",
     "check that the log directories exist; delete it with qdel and submit it again"),
    (r"provisioning failed|security breach|Job held by (?P<who>.+?) on ", "it is held",
     "qrls JOB releases it, if you have permission"),
    (r"PBS Error: (?P<name>.+)", "PBS failed to start it: {name}", f"if it happens again, {_DESK}"),
)  # fmt: skip

_STARTED = re.compile(r"Job (?:run|was sent for execution) at|Job Array Began at")
_SHORTAGE = re.compile(r"Insufficient amount of (?:(?:queue|server) )?resource: (\S+)\s*(\(.*\))?")
_NUMBERS = re.compile(r"\(R: (\S+) A: (\S+) T: (\S+)\)")


def explain_comment(comment: str) -> Waiting:
    """Explain the comment on a job from PBS's scheduler or server."""
    body = re.sub(r" and (?:terminated|finished|failed)(?: by \S+)?$", "", comment.strip())
    if _STARTED.match(body):
        return Waiting("the job was started")
    if not body:
        return Waiting("PBS has given no reason yet")
    never = body.startswith("Can Never Run")
    body = re.sub(r"^(?:Not Running|Can Never Run): *", "", body)
    head = "the job can never run: " if never else "the job waits: "
    match = _SHORTAGE.search(body)
    return _short(head, never, match[1], match[2] or "") if match else _by_table(head, never, body)


def _by_table(head: str, never: bool, body: str) -> Waiting:
    """Explain a comment by the table, or quote it."""
    for pattern, meaning, remedy in _COMMENTS:
        match = re.search(pattern, body, re.IGNORECASE)
        if match:
            groups = {name: _lowered(value or "") for name, value in match.groupdict().items()}
            terminal = never or "too many failed attempts" in body
            return Waiting(head + meaning.format(**groups), _LESS if never else remedy, terminal)
    return Waiting(f"{head}PBS says {body!r}", _DESK if never else "", never)


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def _short(head: str, never: bool, resource: str, numbers: str) -> Waiting:
    key = f"cluster.{resource}" if resource in {"ncpus", "mem", "ngpus", "walltime", "jobfs"} else None
    remedy = _WAIT if not never else f"request less ({key}) or another queue (cluster.queue)" if key else _LESS
    match = _NUMBERS.search(numbers)
    if match is None:
        return Waiting(f"{head}not enough {resource} {numbers}".rstrip(), remedy, never, Shortage(resource))
    requested, available, total = match.groups()
    sentence = f"{head}it requests {resource}={requested}, and {available} of {total} is free"
    return Waiting(sentence, remedy, never, Shortage(resource, _amount(requested), _amount(available), _amount(total)))


def _amount(text: str) -> int | None:
    return as_seconds(text) if ":" in text else as_bytes(text)
