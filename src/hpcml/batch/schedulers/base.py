"""The interface of batch schedulers. To add one, write a subclass of Scheduler in this package."""

from __future__ import annotations

import abc
import logging
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hpcml.batch.request import Job, Request
from hpcml.batch.schedulers.listing import Listing, same_job
from hpcml.batch.schedulers.refusal import Refusal, explain_refusal
from hpcml.errors import HpcmlError, printable
from hpcml.site import Commands, Site

log = logging.getLogger(__name__)

# Flag of a directive, and its value.
Directive = tuple[str, str]

# Seconds after which a command is killed. PBS's own clients wait for an unreachable server.
TIMEOUT = 60

# Number of attempts to find a new job by its name, and seconds between them.
_LOOKS, _LOOK = 5, 2.0

# Exit code of a shell that cannot find a command.
_NO_COMMAND = 127


class RefusedError(HpcmlError):
    """Raised when the scheduler rejects a job.

    Parameters
    ----------
    refusal : Refusal
        Reason of the rejection, and whether to try again.
    """

    def __init__(self, refusal: Refusal, command: str) -> None:
        super().__init__(refusal.sentence, *filter(None, [refusal.remedy]), f"the command was: {command}")
        self.refusal = refusal


@dataclass(frozen=True)
class Answer:
    """Output and exit code of a command."""

    stdout: bytes
    stderr: bytes
    code: int


class Scheduler(abc.ABC):
    """A batch scheduler, with the commands and dialect of a site.

    Parameters
    ----------
    site : Site
        Site that defines commands and dialect.

    Attributes
    ----------
    name : str
        Name in ``site.schedulers`` and ``cluster=NAME``.
    usual : Commands
        Default commands.
    directive_prefix : str
        Prefix of a directive's line in a script.
    job_variable : str
        Environment variable with the id of the job, inside the job.
    node_variables : tuple of str
        Variables of a job that its other nodes need and the scheduler does not copy there.
    disk_variable : str
        Variable with the job's directory on the node's local disk; empty if there is none.
    submit_prefix : str
        Text before a call of ``submit.sh`` that selects this scheduler.
    own_directives : mapping of str to str
        Directives that hpcml writes itself, with the config keys that set them.
    rejected_directives : mapping of str to str
        Directives that would make the job one that hpcml cannot follow, with that kind of job.
    """

    name: ClassVar[str]
    usual: ClassVar[Commands]
    directive_prefix: ClassVar[str]
    job_variable: ClassVar[str]
    node_variables: ClassVar[tuple[str, ...]] = ()
    disk_variable: ClassVar[str] = ""
    submit_prefix: ClassVar[str] = ""
    own_directives: ClassVar[Mapping[str, str]]
    rejected_directives: ClassVar[Mapping[str, str]]

    def __init__(self, site: Site) -> None:
        own = site.commands.get(self.name, Commands())
        self.site = site
        self.commands = Commands(
            own.submit or self.usual.submit, own.status or self.usual.status, own.delete or self.usual.delete
        )

    # Text

    @classmethod
    @abc.abstractmethod
    def directives(cls, job: Job, request: Request, name: str, log: str) -> list[Directive]:
        """Return the directives that describe a job to the scheduler.

        Parameters
        ----------
        name : str
            Name of the job.
        log : str
            File for the job's output.
        """

    @classmethod
    def taken_directives(cls, site: Site) -> dict[str, str]:  # noqa: ARG003  # used by subclasses
        """Return the directives that hpcml writes at a site, with the config keys that set them."""
        return dict(cls.own_directives)

    @classmethod
    def ignored_keys(cls, site: Site) -> tuple[str, ...]:  # noqa: ARG003  # used by subclasses
        """Return the cluster keys that the scheduler ignores without an error."""
        return ()

    @abc.abstractmethod
    def after(self, number: str) -> list[Directive]:
        """Return the directives that start a job after another has succeeded."""

    # Commands

    @property
    @abc.abstractmethod
    def id_form(self) -> str:
        """Regular expression for the output of the submit command; its last group is the job id."""

    @abc.abstractmethod
    def submit(self, script: Path, log_file: Path, name: str, known: Collection[str] = ()) -> str:
        """Submit a script.

        Parameters
        ----------
        log_file : Path
            File for the job's output, for schedulers that accept it only on the command line.
        name : str
            Name of the job, to look up its id if the output is ambiguous.
        known : collection of str
            Ids of other jobs with this name.

        Returns
        -------
        str
            The full job id.

        Raises
        ------
        RefusedError
        """

    @abc.abstractmethod
    def listing(self, ids: Sequence[str]) -> Listing:
        """Query the status of several jobs in one call."""

    @abc.abstractmethod
    def delete(self, ids: Sequence[str], timeout: float = TIMEOUT) -> None:
        """Delete jobs, queued or running. The next listing shows the result.

        Parameters
        ----------
        timeout : float
            Timeout of each command, in seconds.
        """

    @abc.abstractmethod
    def named(self, name: str) -> list[str] | None:
        """Return the ids of this user's jobs with a name; None if the scheduler does not answer."""

    # Inside a job

    @classmethod
    def cores(cls) -> int | None:
        """Return the cores of the job on this node; None to use the operating system's number."""
        return None

    @classmethod
    def memory(cls) -> int | None:
        """Return the job's memory on this node in bytes; None to use the system's number."""
        return None

    @abc.abstractmethod
    def node_lines(self) -> tuple[str, ...]:
        """Return the nodes of the current job, its first node first; a node may repeat."""

    @abc.abstractmethod
    def on_node(self, line: int, host: str, ncpus: int) -> list[str]:
        """Return the prefix of a command that runs it on a node of the current job.

        Parameters
        ----------
        line : int
            Index of the node in :meth:`node_lines`.
        """

    # Common to all schedulers

    def is_here(self) -> bool:
        """Return whether this machine has the site's submit command and file systems."""
        roots = [Path(root.partition("{")[0]) for root in self.site.storage.roots]
        command = shlex.split(str(self.commands.submit))[0]
        return shutil.which(command) is not None and (not roots or any(root.is_dir() for root in roots))

    @classmethod
    def job_id(cls) -> str | None:
        """Return the id of the job that contains this process; None if there is none."""
        return os.environ.get(cls.job_variable) or None

    def id_of(self, answer: Answer, command: Sequence[str], name: str, known: Collection[str]) -> str:
        """Return the id of a new job from the output of the submit command.

        Sites wrap these commands and print banners and accounts that contain numbers. If the output
        has anything beside an id, look up the job by its name.

        Raises
        ------
        RefusedError
            If the job was rejected, or, with ``retry``, if its id is unknown.
        """
        if answer.code != 0:
            raise _refused(answer, command)
        lines = output_lines(answer.stdout)
        found = [match[match.lastindex or 0] for line in lines if (match := re.fullmatch(self.id_form, line))]
        if len(lines) == 1 and found:
            return found[0]
        number = self._newest(name, known)
        if number is not None:
            return number
        if len(found) == 1:
            return found[0]
        words = printable(" ".join([*lines, *output_lines(answer.stderr)])) or "nothing"
        refusal = Refusal(f"the command printed {words!r}, and the scheduler has no job named {name}", "", "retry")
        raise RefusedError(refusal, shlex.join(command))

    def _newest(self, name: str, known: Collection[str]) -> str | None:
        """Return the id of the latest job with a name; None if there are only known ones."""
        for attempt in range(_LOOKS):
            if attempt:
                time.sleep(_LOOK)  # A routing queue may hide a new job for a moment.
            new = [number for number in self.named(name) or [] if not any(same_job(number, one) for one in known)]
            if new:
                return max(new, key=_number)
        return None


def _number(job_id: str) -> int:
    return int(re.match(r"\d*", job_id)[0] or 0)  # type: ignore[index]  # The pattern always matches.


def run(command: Sequence[str], timeout: float = TIMEOUT) -> Answer:
    """Run a scheduler command; a missing command or a timeout is returned as a failure."""
    log.debug("%s", shlex.join(command))
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return Answer(b"", f"{command[0]} did not answer within {timeout:g} seconds".encode(), 255)
    except OSError as error:
        return Answer(b"", f"{command[0]}: {error.strerror}".encode(), _NO_COMMAND)
    if done.returncode:
        log.debug("exit code %d: %s", done.returncode, done.stderr.decode(errors="replace").strip())
    return Answer(done.stdout, done.stderr, done.returncode)


def _refused(answer: Answer, command: Sequence[str]) -> RefusedError:
    # Slurm's qsub prints its error on stdout.
    return RefusedError(explain_refusal(answer.stderr + answer.stdout, answer.code), shlex.join(command))


def output_lines(text: bytes) -> list[str]:
    """Return the non-blank lines of an answer."""
    return [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]


def directive_names(text: str) -> list[str]:
    """Return the names that a directive sets: its flag, or the resources of ``-l``.

    >>> directive_names("-m ae"), directive_names("-l place=free,software=x"), directive_names("--mem=1G")
    (['-m'], ['-l place', '-l software'], ['--mem'])
    >>> directive_names("-m ae -q express"), directive_names("rm -rf ."), directive_names("-M 'me")
    ([], [], [])
    """
    try:
        first, *rest = shlex.split(text)
    except ValueError:  # empty, or an unclosed quote
        return []
    if not re.match(r"--?[A-Za-z]", first) or len(rest) > 1 or any(word.startswith("-") for word in rest):
        return []
    if first.startswith("--"):
        return [first.partition("=")[0]]
    flag, value = first[:2], " ".join([first[2:], *rest]).strip()
    return [f"{flag} {name}" for name in _resources(value)] if flag in {"-l", "-W"} else [flag]


def _resources(value: str) -> list[str]:
    """Return the names in ``name=value,name=value``; empty if one lacks its name."""
    names = [part.partition("=")[0].lower() for part in value.split(",")]  # PBS ignores case here.
    return names if all(names) else []
