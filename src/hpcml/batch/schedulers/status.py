"""Explain in plain words why a job ended.

Exit statuses and substates are those of OpenPBS 23.06 (src/include/job.h, src/resmom/mom_start.c).
"""

from __future__ import annotations

import dataclasses
import re
import signal
from dataclasses import dataclass
from typing import Literal

from hpcml.batch.schedulers.listing import JobStatus, State
from hpcml.batch.schedulers.values import as_bytes, as_seconds
from hpcml.batch.schedulers.waiting import explain_comment
from hpcml.units import format_size, format_walltime, pbs_size

Kind = Literal[
    "done", "failed", "walltime", "memory", "limit", "deleted", "killed", "never ran", "requeued", "moved", "scheduler",
    "not ended", "unknown",
]  # fmt: skip

# Substates of finished jobs. ENDED includes jobs that never ran because of a dependency.
DELETED, ENDED, FAILED = 91, 92, 93


@dataclass(frozen=True)
class Explanation:
    """Reason why a job ended.

    Parameters
    ----------
    kind : str
        ``limit`` is a limit other than walltime and memory, ``scheduler`` a failure of PBS or a
        node, ``not ended`` a job that may still run, ``unknown`` a job that ended in an unknown
        way.
    sentence : str
        What happened, with the values.
    remedy : str
        What to type or look at next; may be empty.
    """

    kind: Kind
    sentence: str
    remedy: str = ""


_LOOK = "read the end of the job's output"
_AGAIN = "submit it again; if that fails too, send the job id to the site's help desk"

# Limits that PBS enforces by killing the job: kind, explanation, remedy. {more} is twice the
# request.
_LIMITS: dict[str, tuple[Kind, str, str]] = {
    "walltime": ("walltime", "the job ran out of walltime", "increase it: cluster.walltime={more}"),
    "mem": ("memory", "the job used more memory than requested", "increase it: cluster.mem={more}; or run fewer "
            "workers in a job: cluster.workers_per_job=1"),
    "vmem": ("memory", "the job used more virtual memory than the site allows", "run fewer workers in a job: "
             "cluster.workers_per_job=1"),
    "ncpus": ("limit", "the job used more cores than requested", "run one thread per core: "
              "cluster.ncpus must be cluster.workers_per_job x cluster.threads"),
    "cput": ("limit", "the job used more CPU time than the site allows", "increase cluster.jobs"),
}  # fmt: skip
_LIMIT_CODES = {-24: "ncpus", -25: "ncpus", -26: "vmem", -27: "mem", -28: "cput", -29: "walltime"}

# JOB_EXEC_* of job.h. PBS requeues the job after some of these, as its state then shows.
_FAILURES = {
    -1: "PBS could not start the job",
    -2: "PBS could not start the job after copying its files",
    -3: "PBS could not start the job",
    -4: "the job ended because the node's PBS daemon was restarted",
    -5: "the job ended because the node's PBS daemon was restarted",
    -6: "the job ended because the node's PBS daemon was restarted",
    -7: "PBS could not restart the job from its checkpoint",
    -10: "the node does not know the user, or the user's group",
    -11: "the job was requeued by qrerun",
    -12: "the job was checkpointed and ended",
    -13: "PBS has no valid password of the user",
    -14: "one of the job's nodes failed",
    -15: "the job was ended to be restarted",
    -16: "a hook of the site rejected the job",
    -17: "a hook of the site rejected the job",
    -18: "a hook of the site ended the job",
    -19: "a hook of the site ended the job",
    -20: "the job's first node became unreachable",
    -21: "PBS found its directory on the node insecure",
    -22: "a hook of the site failed",
    -23: "the job had no valid Kerberos credentials",
    -30: "PBS could not join the job's output files",
}

_CODES = {
    126: ("a command of the job could not be executed", "check the permissions and the first line of the file"),
    127: ("a command of the job was not found", "check the modules and venv in cluster.environment; an empty script "
          "also ends like this"),
    254: ("the job failed with exit code 254, as when PBS cannot start the job's shell", _LOOK),
}  # fmt: skip

# Signals that indicate a crash of the process itself.
_CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}


def explain_exit(job: JobStatus) -> Explanation:
    """Explain how a job ended."""
    found = _explain(job)
    if job.delivered or found.kind == "not ended":
        return found
    sentence = f"{found.sentence}; PBS could not deliver its output files"
    where = "check that the log directory exists and is writable from the nodes"
    return dataclasses.replace(found, sentence=sentence, remedy="; ".join(filter(None, [found.remedy, where])))


def _explain(job: JobStatus) -> Explanation:
    code = job.exit_status
    if job.state.is_waiting and code is not None:
        why = _FAILURES.get(code, f"the job ended with exit code {code}")
        return Explanation("requeued", f"{why}, and PBS has requeued it")
    if job.state is State.MOVED:
        return Explanation("moved", "the job was moved to another server", "query it on that server")
    if job.state not in {State.FINISHED, State.UNKNOWN}:
        return Explanation("not ended", f"the job is {job.state}")
    if code is None:
        return _without_code(job)
    limit = _exceeded(job, code)
    if limit is not None:
        return _over(job, limit)
    if code < 0:
        return Explanation("scheduler", _FAILURES.get(code, f"PBS ended the job with exit status {code}"), _AGAIN)
    if job.substate == DELETED:
        return _deleted(job)
    return _by_code(job, code)


def _without_code(job: JobStatus) -> Explanation:
    if job.state is State.UNKNOWN:
        return Explanation("unknown", "the scheduler does not report the state of the job")
    if job.substate == DELETED:
        return _deleted(job) if job.nodes else _never_ran(job)
    if job.substate == ENDED and not job.nodes:
        return Explanation(
            "never ran",
            "the job did not run: a job that it depends on failed or does not exist",
            "check how that job ended, and submit both again",
        )
    return Explanation("unknown", "the job has ended; the scheduler does not report how", _LOOK)


def _never_ran(job: JobStatus) -> Explanation:
    """Explain a job that was deleted before it ran, by its comment if that says why it could not."""
    comment = re.sub(r" and terminated( by .*)?$", "", job.comment or "")
    if not comment.startswith("Can Never Run"):
        return Explanation("never ran", "the job was deleted before it ran")
    never = explain_comment(comment)
    why = never.sentence.replace("the job", "it", 1)
    return Explanation("never ran", f"the job was deleted before it ran; {why}", never.remedy)


def _deleted(job: JobStatus) -> Explanation:
    match = re.search(r" and terminated by (\S+)", job.comment or "")
    return Explanation("deleted", "the job was deleted" + (f" by {match[1]}" if match else ""))


def _exceeded(job: JobStatus, code: int) -> str | None:
    """Return the limit for which PBS killed a job; None if it was not killed for one.

    Before 22.05.11 PBS recorded only the signal, 271 or 265. A job deleted by qdel has the same
    exit status, but another substate.
    """
    if code in _LIMIT_CODES:
        return _LIMIT_CODES[code]
    match = re.search(r" and exceeded resource (\w+)", job.comment or "")
    if match:
        return match[1]
    if code in {265, 271, 137, 143} and job.substate != DELETED:
        for name, read in (("walltime", as_seconds), ("mem", as_bytes)):
            used, asked = read(job.used.get(name)), read(job.resources.get(name))
            if used is not None and asked and used >= asked:
                return name
    return None


def _over(job: JobStatus, name: str) -> Explanation:
    default: tuple[Kind, str, str] = ("limit", f"the job used more {name} than requested", f"request more {name}")
    kind, sentence, remedy = _LIMITS.get(name, default)
    used, asked = job.used.get(name), job.resources.get(name)
    figures = f" (used {_shown(used)}, requested {_shown(asked)})" if used and asked else ""
    return Explanation(kind, sentence + figures, remedy.format(more=_twice(job, name)))


def _shown(amount: str) -> str:
    """Return memory in readable units, and anything else unchanged."""
    size = as_bytes(amount) if re.search(r"[a-z]", amount, re.IGNORECASE) else None
    return amount if size is None else format_size(size)


def _twice(job: JobStatus, name: str) -> str:
    """Return twice the requested or used amount, in the notation of the config."""
    amounts = (job.resources.get(name), job.used.get(name))
    if name == "walltime":
        return format_walltime(2 * max(as_seconds(amount) or 0 for amount in amounts) or 3600)
    size = 2 * max(as_bytes(amount) or 0 for amount in amounts) or 4 * 1024**3
    unit = 1024**3 if size >= 4 * 1024**3 else 1024**2
    return pbs_size(-(-size // unit) * unit)


def _by_code(job: JobStatus, code: int) -> Explanation:
    if code == 0 and job.substate == FAILED:
        which = "a subjob of the array" if "[]" in job.id else "the job"
        return Explanation("failed", f"{which} failed, although the exit code is 0", _LOOK)
    if code == 0:
        return Explanation("done", "the job succeeded")
    if code > 256:
        return _by_signal(job, code - 256, "the job's shell")
    if code in _CODES:
        return Explanation("failed", *_CODES[code])
    if 128 < code <= 128 + signal.SIGRTMAX:
        return _by_signal(job, code - 128, "a process of the job")
    return Explanation("failed", f"the job failed with exit code {code}", _LOOK)


def _by_signal(job: JobStatus, number: int, process: str) -> Explanation:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name in _CRASHES:
        return Explanation("failed", f"{process} crashed with {name}", _LOOK)
    if name == "SIGKILL":
        more = _twice(job, "mem")
        remedy = f"probably out of memory: increase it, cluster.mem={more}, and {_LOOK}"
        return Explanation("killed", f"{process} was killed with SIGKILL", remedy)
    return Explanation("killed", f"{process} was ended by {name}", _LOOK)
