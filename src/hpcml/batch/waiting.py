"""Why a job does not run, in plain words.

Comments are those of OpenPBS 23.06's scheduler (src/scheduler/job_info.cpp) and server. One that is in no table is
passed on as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcml.batch.values import as_bytes, as_seconds


@dataclass(frozen=True)
class Shortage:
    """What a job lacks, in bytes, seconds or pieces; None where the comment gives no number."""

    resource: str
    requested: int | None = None
    available: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Waiting:
    """Why a job does not run.

    Parameters
    ----------
    never : bool
        It will not run, however long one waits.
    """

    sentence: str
    remedy: str = ""
    never: bool = False
    shortage: Shortage | None = None


_WAIT = "wait: it starts when what it lacks is free"
_FEWER = "wait: it starts when others have ended; to have fewer in the queue, cluster.jobs"
_LESS = "ask for less of a node, cluster.ncpus and cluster.mem, or choose another queue, cluster.queue"
_DESK = "ask the site's help desk"

# Pattern, what it means, what to do. Named groups are filled in. With "Can Never Run" the third is _LESS instead.
_COMMENTS = (
    (r"(?P<who>User|Group|Project) has reached (?P<where>queue \S+?|server)(?:'s)? running (?:job )?limit",
     "as many jobs are running as the site allows a {who} ({where})", _FEWER),
    (r"(?P<where>Queue \S+|Server) job limit (?:has been )?reached(?: for (?P<who>\w+) (?P<name>\S+?))?\.?$",
     "as many jobs are running as the site allows ({where})", _FEWER),
    (r"(?:limit reached on resource|limit on resource) (?P<name>\S+)",
     "the jobs of the user, group or project, or of the queue, together have reached the limit on {name}", _FEWER),
    (r"subjobs limit reached", "as many subjobs are running as the array allows", _WAIT),
    (r"Queue not started", "the queue takes jobs, but starts none at present",
     "wait, or choose another queue, cluster.queue"),
    (r"Dedicated time conflict|cross dedicated time boundary",
     "maintenance (dedicated time) begins before the job would have ended",
     "a shorter job may still fit before it, cluster.walltime"),
    (r"conflict with reservation|interfere with a (?:top job|confirmed reservation)|break strict sorted order",
     "it would delay a job or a reservation that comes first",
     "wait; a shorter or smaller job may start earlier: cluster.walltime, cluster.ncpus"),
    (r"will run in (?P<name>\w+) only|cross into (?P<where>\S+)",
     "the queue runs jobs at certain times only", "wait, or choose another queue, cluster.queue"),
    (r"No available resources on nodes|Not enough free nodes|right type of nodes|too few free resources",
     "no node has free what it asks for", _WAIT),
    (r"Not enough total nodes|largest placement set|pack placement", "no node, or set of nodes, is large enough",
     _LESS),
    (r"too many failed attempts", "PBS has tried too often to start it, and now holds it",
     "check that the directories of the logs exist; delete it with qdel and submit it again"),
    (r"provisioning failed|security breach|Job held by (?P<who>.+?) on ", "it is held",
     "qrls JOB releases it, if you may"),
    (r"PBS Error: (?P<name>.+)", "PBS tried to start it and failed: {name}", f"if it happens again, {_DESK}"),
)  # fmt: skip

_STARTED = re.compile(r"Job (?:run|was sent for execution) at|Job Array Began at")
_SHORTAGE = re.compile(r"Insufficient amount of (?:(?:queue|server) )?resource: (\S+)\s*(\(.*\))?")
_NUMBERS = re.compile(r"\(R: (\S+) A: (\S+) T: (\S+)\)")


def explain_comment(comment: str) -> Waiting:
    """Explain the comment that PBS's scheduler, or its server, put on a job."""
    body = re.sub(r" and (?:terminated|finished|failed)(?: by \S+)?$", "", comment.strip())
    if _STARTED.match(body):
        return Waiting("the job was started")
    if not body:
        return Waiting("PBS has given no reason yet")
    never = body.startswith("Can Never Run")
    body = re.sub(r"^(?:Not Running|Can Never Run): *", "", body)
    head = "the job can never run: " if never else "the job waits: "
    match = _SHORTAGE.search(body)
    if match:
        return _short(head, never, match[1], match[2] or "")
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
    remedy = _WAIT if not never else f"ask for less, {key}, or choose another queue, cluster.queue" if key else _LESS
    match = _NUMBERS.search(numbers)
    if match is None:
        return Waiting(f"{head}there is not enough {resource} {numbers}".rstrip(), remedy, never, Shortage(resource))
    requested, available, total = match.groups()
    sentence = f"{head}it asks for {resource}={requested}, and {available} of {total} is free"
    return Waiting(sentence, remedy, never, Shortage(resource, _amount(requested), _amount(available), _amount(total)))


def _amount(text: str) -> int | None:
    return as_seconds(text) if ":" in text else as_bytes(text)
