"""Why a job ended, in plain words.

Exit statuses and substates are those of OpenPBS 23.06 (src/include/job.h, src/resmom/mom_start.c).
"""

from __future__ import annotations

import dataclasses
import re
import signal
from dataclasses import dataclass
from typing import Literal

from hpcml.batch.listing import JobStatus
from hpcml.batch.values import as_bytes, as_seconds
from hpcml.batch.waiting import explain_comment
from hpcml.units import format_size, format_walltime, pbs_size

Kind = Literal[
    "done", "failed", "walltime", "memory", "limit", "deleted", "killed", "never ran", "requeued", "moved", "scheduler",
    "not ended", "unknown",
]  # fmt: skip

# Substates of finished jobs. ENDED is also that of jobs that never ran, for want of what they depended on.
DELETED, ENDED, FAILED = 91, 92, 93


@dataclass(frozen=True)
class Explanation:
    """Why a job ended.

    Parameters
    ----------
    kind : str
        ``limit`` is one other than walltime and memory, ``scheduler`` a failure of PBS or a node, ``not ended`` a job
        that may still run, ``unknown`` one that ended without the scheduler saying how.
    sentence : str
        What happened, with the values.
    remedy : str
        What to type or look at next; empty if there is nothing to do.
    """

    kind: Kind
    sentence: str
    remedy: str = ""


_LOOK = "read the end of the job's output"
_AGAIN = "submit it again; if it happens again, tell the site's help desk the job's id"

# Of the limits that PBS enforces by killing: what it is called, and what to do. {more} is twice what it had.
_LIMITS: dict[str, tuple[Kind, str, str]] = {
    "walltime": ("walltime", "the job ran out of walltime", "give it longer, cluster.walltime={more}"),
    "mem": ("memory", "the job used more memory than it asked for", "give it more, cluster.mem={more}, or run fewer "
            "workers in a job, cluster.workers_per_job=1"),
    "vmem": ("memory", "the job used more virtual memory than the site allows", "run fewer workers in a job, "
             "cluster.workers_per_job=1"),
    "ncpus": ("limit", "the job used more cores than it asked for", "run as many threads as there are cores: "
              "cluster.ncpus must be cluster.workers_per_job x cluster.threads"),
    "cput": ("limit", "the job used more CPU time than the site allows", "split the work over more jobs, cluster.jobs"),
}  # fmt: skip
_LIMIT_CODES = {-24: "ncpus", -25: "ncpus", -26: "vmem", -27: "mem", -28: "cput", -29: "walltime"}

# JOB_EXEC_* of job.h. Of these PBS puts some jobs back in the queue; the job's state tells.
_FAILURES = {
    -1: "PBS could not start the job",
    -2: "PBS could not start the job, after its files had been put in place",
    -3: "PBS could not start the job",
    -4: "the node's PBS daemon was restarted, which ended the job",
    -5: "the node's PBS daemon was restarted, which ended the job",
    -6: "the node's PBS daemon was restarted, which ended the job",
    -7: "PBS could not restart the job from its checkpoint",
    -10: "the node does not know the user, or the user's group",
    -11: "PBS was told to run the job anew (qrerun)",
    -12: "the job was checkpointed and ended",
    -13: "PBS holds no valid password of the user",
    -14: "one of the job's nodes failed",
    -15: "the job was ended to be restarted",
    -16: "a hook of the site refused to run the job",
    -17: "a hook of the site refused to run the job",
    -18: "a hook of the site ended the job",
    -19: "a hook of the site ended the job",
    -20: "the job's first node could not be reached any more",
    -21: "PBS found its directory on the node insecure",
    -22: "a hook of the site failed",
    -23: "the job had no valid Kerberos credentials",
    -30: "PBS could not join the job's output files",
}

_CODES = {
    126: ("a command of the job could not be executed", "check that the file is executable and its first line right"),
    127: ("a command of the job was not found", "check cluster.environment: modules and venv; an empty script ends so, "
          "too"),
    254: ("the job failed with exit code 254, as it does when PBS cannot start the job's shell", _LOOK),
}  # fmt: skip

# Signals by which a process ends through a fault of its own.
_CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}


def explain_exit(job: JobStatus) -> Explanation:
    """Explain how a job ended."""
    told = _explain(job)
    if job.delivered or told.kind == "not ended":
        return told
    sentence = f"{told.sentence}; PBS could not put its output files where they belong"
    where = "check that the directory of the logs exists and can be written from the nodes"
    return dataclasses.replace(told, sentence=sentence, remedy="; ".join(filter(None, [told.remedy, where])))


def _explain(job: JobStatus) -> Explanation:
    code = job.exit_status
    if job.state in {"queued", "held", "waiting"} and code is not None:
        why = _FAILURES.get(code, f"the job ended with exit code {code}")
        return Explanation("requeued", f"{why}, and PBS has put it back in the queue")
    if job.state == "moved":
        return Explanation("moved", "the job was moved to another server", "ask that server for it")
    if job.state not in {"finished", "unknown"}:
        return Explanation("not ended", f"the job is {job.state}")
    if code is None and job.state == "unknown":
        return Explanation("unknown", "the scheduler does not say how the job is")
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
    comment = re.sub(r" and terminated( by .*)?$", "", job.comment or "")
    if job.substate == DELETED and job.nodes:
        return _deleted(job)
    if job.substate == DELETED:
        never = explain_comment(comment) if comment.startswith("Can Never Run") else None
        why = f"; {never.sentence.replace('the job', 'it', 1)}" if never else ""
        return Explanation("never ran", f"the job was deleted before it ran{why}", never.remedy if never else "")
    if job.substate == ENDED and not job.nodes:
        return Explanation(
            "never ran",
            "the job did not run: a job that it depends on did not end as it had to, or does not exist",
            "see how that job ended, and submit both again",
        )
    return Explanation("unknown", "the job has ended; the scheduler does not say how", _LOOK)


def _deleted(job: JobStatus) -> Explanation:
    match = re.search(r" and terminated by (\S+)", job.comment or "")
    return Explanation("deleted", "the job was deleted" + (f" by {match[1]}" if match else ""))


def _exceeded(job: JobStatus, code: int) -> str | None:
    """Name the limit for which PBS killed a job.

    Before 22.05.11 PBS recorded the signal only, 271 or 265, as for qdel, whose substate is another.
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
    default: tuple[Kind, str, str] = ("limit", f"the job used more {name} than it asked for", f"ask for more {name}")
    kind, sentence, remedy = _LIMITS.get(name, default)
    used, asked = job.used.get(name), job.resources.get(name)
    figures = f" (used {_shown(used)}, asked for {_shown(asked)})" if used and asked else ""
    return Explanation(kind, sentence + figures, remedy.format(more=_twice(job, name)))


def _shown(amount: str) -> str:
    """Show memory in readable units, anything else as it is."""
    size = as_bytes(amount) if re.search(r"[a-z]", amount, re.IGNORECASE) else None
    return amount if size is None else format_size(size)


def _twice(job: JobStatus, name: str) -> str:
    """Give twice what a job asked for, or used if that is more, as one would write it in a config."""
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
        return Explanation("done", "the job ended well")
    if code > 256:
        return _by_signal(job, code - 256, "the job's shell")
    if code in _CODES:
        return Explanation("failed", *_CODES[code])
    if 128 < code <= 128 + signal.SIGRTMAX:
        return _by_signal(job, code - 128, "a process of the job")
    return Explanation("failed", f"the job failed with exit code {code}", _LOOK)


def _by_signal(job: JobStatus, number: int, who: str) -> Explanation:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name in _CRASHES:
        return Explanation("failed", f"{who} crashed with {name}", _LOOK)
    if name == "SIGKILL":
        more = _twice(job, "mem")
        remedy = f"most often for want of memory: give it more, cluster.mem={more}, and {_LOOK}"
        return Explanation("killed", f"{who} was killed with SIGKILL", remedy)
    return Explanation("killed", f"{who} was ended by {name}", _LOOK)
