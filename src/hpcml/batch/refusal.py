"""Why the scheduler refused a command, in plain words.

Messages and codes are those of OpenPBS 23.06 (src/lib/Liblog/pbs_messages.c), Gadi's hooks and Slurm. One that is in no
table is passed on as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hpcml.batch.values import as_integer

Action = Literal["give up", "retry", "wait"]


@dataclass(frozen=True)
class Refusal:
    """Why a command was refused.

    Parameters
    ----------
    sentence : str
        With the command's own words.
    action : str
        ``retry``: the server was not there; ``wait``: until jobs of this user or project have left; else ``give up``.
    """

    sentence: str
    remedy: str
    action: Action


_QUEUE = "choose another, cluster.queue; qstat -Q lists them"
_SMALLER = "ask for less: cluster.walltime, cluster.ncpus, cluster.mem; qstat -Qf shows what the queues allow"
_MEMBER = "name a project that you belong to, cluster.project=ab12"

# Pattern, what to do, what it means, remedy. The first that matches counts: codes are PBSE numbers modulo 256, collide,
# and are the same for all that a hook says.
_REFUSALS: tuple[tuple[str, Action, str, str], ...] = (
    (r"Unknown Host", "give up", "the PBS server's host cannot be found",
     "check PBS_SERVER, /etc/pbs.conf, and the server's name if cluster.queue holds one"),
    (r"cannot connect to server|Couldn't connect to cluster|No free connections|connection table full|[Ss]hutting down|"
     r"Problem loading (?:slurm|jobs)|Unable to contact slurm controller|Socket timed out", "retry",
     "the server does not answer", "nothing to do but wait; the site's status page may say more"),
    (r"Access from host not allowed", "give up", "PBS takes nothing from this host", "run it on a login node"),
    (r"support the use of .-l select", "give up", "the site refuses -l select",
     "choose the site's config, as site=gadi, or set site.dialect=flat"),
    (r"not a member of project", "give up", "the project cannot be charged", _MEMBER),
    (r"Resource: (?P<name>\S+) is required", "give up", "the site wants every job to ask for {name}",
     "cluster.storage=..., or cluster.extra_directives=['-l {name}=...']"),
    (r"would exceed .*limit|Maximum number of jobs .*already in", "wait", "the queue takes no more jobs for now",
     "wait until some have ended, or ask for fewer, cluster.jobs"),
    (r"Array job exceeds", "give up", "the array is larger than the site allows", "ask for fewer, cluster.jobs"),
    (r"Unknown queue", "give up", "there is no such queue", _QUEUE),
    (r"Queue is not enabled", "give up", "the queue takes no jobs at present", _QUEUE),
    (r"Access to queue is denied", "give up", "the queue is not open to you", _QUEUE),
    (r"Unauthorized Request", "give up", "you may not do this",
     "to submit, check cluster.queue and cluster.project; jobs are changed by their owners only"),
    (r"violates queue|rejected by all possible destinations|exceeds allowable", "give up",
     "the job asks for more than the queue allows; PBS does not say of what", _SMALLER),
    (r"Illegal attribute or resource value (?:Resource_List\.)?(?P<name>\S+)", "give up",
     "PBS cannot read the value of {name}",
     "correct it: it comes from a key of cluster, or from cluster.extra_directives"),
    (r"Unknown resource:? (?:Resource_List\.)?(?P<name>\S+)", "give up", "this PBS has no resource {name}",
     "leave it out of cluster and cluster.extra_directives, or choose the right site"),
    (r"cannot be used with .select.", "give up", "select and job-wide resources are mixed",
     "leave -l out of cluster.extra_directives, and set ncpus and mem by their keys of cluster"),
    (r"illegal -N value|[Nn]ame is too long", "give up", "PBS does not take the job's name",
     "shorter and without spaces, cluster.name"),
    (r"illegal (?P<name>-\w) value|directive error|invalid option", "give up", "the command does not take an option",
     "check cluster.extra_directives and site.commands"),
    (r"Invalid Account|Bad GID", "give up", "the project cannot be charged", _MEMBER),
    (r"Bad UID", "give up", "PBS runs no jobs of this user", "submit as another user than root"),
    (r"Invalid Job Dependency", "give up", "the job that this one is to follow is not there", ""),
    (r"cannot send environment", "give up", "a variable cannot be handed to the job",
     "check cluster.environment.variables: each has to exist, and to hold no odd quotes"),
    (r"script contains cr", "give up", "the script has Windows line ends", "convert it with dos2unix"),
    (r"script (?:file:|not a file)", "give up", "the job's script cannot be read", ""),
    (r"Unknown Job Id", "give up", "the server does not know the job: it has ended, or never was", ""),
    (r"Job has finished", "give up", "the job has ended", ""),
    (r"illegally formed job identifier", "give up", "this is no job id", ""),
    (r"Unknown node", "give up", "there is no such node", "pbsnodes -a lists them"),
    (r"\bq\w+: (?:command )?not found|No such file or directory: '\w*q(?:sub|stat|del)'", "give up",
     "PBS's commands are not here", "run where they are, after `module load pbs` if the site needs it"),
    (r"[Ii]nvalid partition", "give up", "there is no such queue", "choose another, cluster.queue; sinfo lists them"),
    (r"time limit is invalid", "give up", "the queue allows no such walltime", "ask for less, cluster.walltime"),
    (r"node configuration is not available", "give up", "no node has what the job asks for", _SMALLER),
    (r"[Ii]nvalid account", "give up", "the project cannot be charged", _MEMBER),
)  # fmt: skip

# TRYAGAIN, SYSTEM, PROTOCOL, NOCONNECTS, NOSERVER; MAXQUED, ENTLIMCT, ENTLIMRESC
_ACTIONS: dict[int, Action] = {
    **dict.fromkeys((104, 162, 183, 185, 186), "retry"),
    **dict.fromkeys((198, 38, 39), "wait"),
}


def explain_refusal(stderr: bytes | str, code: int) -> Refusal:
    """Explain why qsub, qdel, qstat, pbsnodes or sbatch failed.

    Parameters
    ----------
    stderr : bytes or str
        What it said. Slurm's qsub says it on stdout, which is then to be given as well.
    code : int
        Its exit code; negative if it was killed by a signal.
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
        return Refusal(f"the command {how} and said nothing", "", _ACTIONS.get(code, "give up"))
    # a code means something only where it is PBS's own; the number itself, 15000 and more, may stand in the text
    number = re.search(r"\b15\d{3}\b", words)
    own = re.match(r"(?:q|pbs)\w+: ", words)
    known = (as_integer(number[0]) or 0) % 256 if number else code if own else 0
    return Refusal(words, "", _ACTIONS.get(known, "give up"))


def _words(text: str) -> str:
    """Give what a command said in one line, without the usage text and Slurm's repetition of the command."""
    lines = [line.strip(" '") for line in re.findall(r"sbatch: (?:error|fatal): (.+)", text)]
    if not lines:
        lines = re.split(r"^usage:", text, flags=re.MULTILINE | re.IGNORECASE)[0].splitlines()
    return "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip()))
