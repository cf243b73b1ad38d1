"""Explain in plain words why the scheduler rejected a command.

Messages and codes are those of OpenPBS 23.06 (src/lib/Liblog/pbs_messages.c), Gadi's hooks and
Slurm. Messages without an entry in the table are passed on unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hpcml.batch.schedulers.values import as_integer

Action = Literal["give up", "retry", "wait"]


@dataclass(frozen=True)
class Refusal:
    """Reason why a command was rejected.

    Parameters
    ----------
    sentence : str
        The explanation, including the command's message.
    action : str
        ``retry`` if the server did not answer; ``wait`` until jobs of this user or project have
        left the queue; else ``give up``.
    """

    sentence: str
    remedy: str
    action: Action


_QUEUE = "choose another queue, cluster.queue; qstat -Q lists them"
_SMALLER = "request less: cluster.walltime, cluster.ncpus, cluster.mem; qstat -Qf shows the limits of queues"
_MEMBER = "set cluster.project to a project that you belong to"

# Pattern, action, explanation, remedy. The first match counts. Codes decide only if no pattern
# matches: they are PBSE numbers modulo 256, are ambiguous, and do not distinguish messages of
# hooks.
_REFUSALS: tuple[tuple[str, Action, str, str], ...] = (
    (r"Unknown Host", "give up", "the PBS server's host cannot be found",
     "check PBS_SERVER, /etc/pbs.conf, and the server's name if cluster.queue holds one"),
    (r"cannot connect to server|Couldn't connect to cluster|No free connections|connection table full|[Ss]hutting down|"
     r"Problem loading (?:slurm|jobs)|Unable to contact slurm controller|Socket timed out", "retry",
     "the server does not answer", "wait; the site's status page may have details"),
    (r"Access from host not allowed", "give up", "PBS accepts no commands from this host", "use a login node"),
    (r"support the use of .-l select", "give up", "the site rejects -l select",
     "choose the site's config, for example site=gadi, or set site.dialect=flat"),
    (r"not a member of project", "give up", "the project cannot be charged", _MEMBER),
    (r"Resource: (?P<name>\S+) is required", "give up", "the site requires every job to request {name}",
     "set cluster.storage=..., or cluster.extra_directives=['-l {name}=...']"),
    (r"would exceed .*limit|Maximum number of jobs .*already in", "wait", "the queue accepts no more jobs for now",
     "wait until some have ended, or reduce cluster.jobs"),
    (r"Array job exceeds", "give up", "the array is larger than the site allows", "reduce cluster.jobs"),
    (r"Unknown queue", "give up", "there is no such queue", _QUEUE),
    (r"Queue is not enabled", "give up", "the queue is disabled at present", _QUEUE),
    (r"Access to queue is denied", "give up", "you have no access to the queue", _QUEUE),
    (r"Unauthorized Request", "give up", "PBS denies permission",
     "to submit, check cluster.queue and cluster.project; only owners may change jobs"),
    (r"violates queue|rejected by all possible destinations|exceeds allowable", "give up",
     "the job requests more than the queue allows; PBS does not name the resource", _SMALLER),
    (r"Illegal attribute or resource value (?:Resource_List\.)?(?P<name>\S+)", "give up",
     "PBS cannot parse the value of {name}",
     "correct it; it comes from a key of cluster, or from cluster.extra_directives"),
    (r"Unknown resource:? (?:Resource_List\.)?(?P<name>\S+)", "give up", "this PBS has no resource {name}",
     "leave it out of cluster and cluster.extra_directives, or choose the right site"),
    (r"cannot be used with .select.", "give up", "select and job-wide resources are mixed",
     "remove -l from cluster.extra_directives, and set ncpus and mem with their keys of cluster"),
    (r"illegal -N value|[Nn]ame is too long", "give up", "PBS rejects the job's name",
     "set a shorter cluster.name without spaces"),
    (r"illegal (?P<name>-\w) value|directive error|invalid option", "give up", "the command rejects an option",
     "check cluster.extra_directives and site.commands"),
    (r"Invalid Account|Bad GID", "give up", "the project cannot be charged", _MEMBER),
    (r"Bad UID", "give up", "PBS runs no jobs of this user", "submit as a user other than root"),
    (r"Invalid Job Dependency", "give up", "the job that this one depends on does not exist", ""),
    (r"cannot send environment", "give up", "PBS cannot pass a variable to the job",
     "check cluster.environment.variables: each variable must exist and have balanced quotes"),
    (r"script contains cr", "give up", "the script has Windows line ends", "convert it with dos2unix"),
    (r"script (?:file:|not a file)", "give up", "the job's script cannot be read", ""),
    (r"Unknown Job Id", "give up", "the server does not know the job: it has ended or never existed", ""),
    (r"Job has finished", "give up", "the job has ended", ""),
    (r"illegally formed job identifier", "give up", "invalid job id", ""),
    (r"Unknown node", "give up", "there is no such node", "pbsnodes -a lists them"),
    (r"\bq\w+: (?:command )?not found|No such file or directory: '\w*q(?:sub|stat|del)'", "give up",
     "the PBS commands are not installed here",
     "use a host that has them, after `module load pbs` if the site needs it"),
    (r"[Ii]nvalid partition", "give up", "there is no such queue",
     "choose another queue, cluster.queue; sinfo lists them"),
    (r"time limit is invalid", "give up", "the queue does not allow this walltime", "reduce cluster.walltime"),
    (r"node configuration is not available", "give up", "no node has the requested resources", _SMALLER),
    (r"[Ii]nvalid account", "give up", "the project cannot be charged", _MEMBER),
)  # fmt: skip

# TRYAGAIN, SYSTEM, PROTOCOL, NOCONNECTS, NOSERVER; MAXQUED, ENTLIMCT, ENTLIMRESC
_ACTIONS: dict[int, Action] = {
    **dict.fromkeys((104, 162, 183, 185, 186), "retry"),
    **dict.fromkeys((198, 38, 39), "wait"),
}


def explain_refusal(stderr: bytes | str, code: int) -> Refusal:
    """Explain a failure of qsub, qdel, qstat, pbsnodes or sbatch.

    Parameters
    ----------
    stderr : bytes or str
        Error output; for Slurm's qsub, which writes errors to stdout, both.
    code : int
        Exit code; negative if the command was killed by a signal.
    """
    text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    words = _words(text)
    for pattern, action, meaning, remedy in _REFUSALS:
        match = re.search(pattern, words)
        if match:
            groups = match.groupdict()
            return Refusal(f"{meaning.format(**groups)} ({words})", remedy.format(**groups), action)
    if not words:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return Refusal(f"the command {how} without a message", "", _ACTIONS.get(code, "give up"))
    # A code is meaningful only if it is PBS's own. The text may contain the full number, from 15000
    # up.
    number = re.search(r"\b15\d{3}\b", words)
    own = re.match(r"(?:q|pbs)\w+: ", words)
    known = (as_integer(number[0]) or 0) % 256 if number else code if own else 0
    return Refusal(words, "", _ACTIONS.get(known, "give up"))


def _words(text: str) -> str:
    """Return a command's message in one line, without usage and Slurm's repetitions."""
    lines = [line.strip(" '") for line in re.findall(r"sbatch: (?:error|fatal): (.+)", text)]
    if not lines:
        lines = re.split(r"^usage:", text, flags=re.MULTILINE | re.IGNORECASE)[0].splitlines()
    return "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip()))
