"""Sites: what a machine allows, as facts. One YAML file of conf/site/ each; these classes are its schema."""

from __future__ import annotations

import getpass
import math
import os
import re
import shutil
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hpcml.errors import ConfigError, nearest
from hpcml.units import parse_size, parse_walltime

SCHEDULERS = ("pbs", "slurm")

# flat: -l ncpus=,mem= for the whole job (Gadi refuses select); select: -l select=NODES:ncpus=:mem=; wrapper: Slurm's
# own qsub, which reads select and ignores or refuses much else
DIALECTS = ("flat", "select", "wrapper")

MISSING = "???"  # OmegaConf's word for a value that must be given


@dataclass
class Tier:
    """The longest walltime of jobs of up to so many cores."""

    # as PBS writes it: "48:00:00"
    walltime: str = MISSING
    # cores of the whole job; null: any number
    ncpus: int | None = None


@dataclass
class Queue:
    """A queue, or partition. What is null is not known, and nothing that follows from it is checked."""

    # of a node: cores, and the most memory, node-local disk (null: no such resource) and GPUs that a job can ask for
    ncpus: int | None = None
    mem: str | None = None
    jobfs: str | None = None
    ngpus: int = 0
    # with GPUs, ncpus must be this times ngpus
    ncpus_per_gpu: int | None = None
    # the cores of a job on one node are a multiple of it; jobs on several nodes take whole nodes
    step: int = 1
    # the site gives, and charges, nothing less than a node
    whole_nodes: bool = False
    # of one job
    min_nodes: int = 1
    max_nodes: int | None = None
    max_ncpus: int | None = None
    # in ascending order of ncpus
    tiers: list[Tier] = field(default_factory=list)
    # the site's limits on what one user, or project, has running and queued at a time
    max_running: int | None = None
    max_running_ncpus: int | None = None
    max_running_ngpus: int | None = None
    max_running_mem: str | None = None
    max_queued: int | None = None
    # what an hour of a core costs, in the site's unit
    rate: float = 1.0
    # the memory of a node as the charge divides it among its cores; null: memory is not charged
    charged_mem: str | None = None

    def check(self, key: str) -> None:
        """Refuse values that cannot be.

        Raises
        ------
        ConfigError
        """
        for name in ("mem", "jobfs", "charged_mem", "max_running_mem"):
            value = getattr(self, name)
            if value is not None and parse_size(value, f"{key}.{name}") == 0:
                raise ConfigError(f"{key}.{name}={value}: must be more than nothing, or null for none")
        positive = ("ncpus", "ncpus_per_gpu", "step", "min_nodes", "max_nodes", "max_ncpus", "max_running",
                    "max_running_ncpus", "max_running_ngpus", "max_queued")  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{key}.{name}={value}: must be 1 or more, or null if it is not known")
        if self.ngpus < 0 or not 0 <= self.rate < math.inf:
            raise ConfigError(f"{key}: ngpus={self.ngpus} and rate={self.rate} must be 0 or more")
        if self.ncpus_per_gpu is not None and not self.ngpus:
            raise ConfigError(f"{key}.ncpus_per_gpu={self.ncpus_per_gpu}: and there are no GPUs", f"set {key}.ngpus")
        if self.whole_nodes and self.ncpus is None:
            raise ConfigError(f"{key}.whole_nodes=true: how many cores a node has must be known", f"set {key}.ncpus")
        for number, tier in enumerate(self.tiers):
            parse_walltime(tier.walltime, f"{key}.tiers[{number}].walltime")
        ends = [tier.ncpus or 2**62 for tier in self.tiers]
        if ends != sorted(ends):
            raise ConfigError(f"{key}.tiers: must be in ascending order of ncpus", "null, any number, comes last")

    def max_walltime(self, ncpus: int) -> int | None:
        """Give the longest walltime, in seconds, of a job of so many cores; None: there is no such limit."""
        for tier in self.tiers:
            if tier.ncpus is None or ncpus <= tier.ncpus:
                return parse_walltime(tier.walltime)
        return parse_walltime(self.tiers[-1].walltime) if self.tiers else None


@dataclass
class Storage:
    """Sites that make a job name the file systems that it uses."""

    # -l NAME=...; null: nothing is named
    directive: str | None = None
    separator: str = "+"
    # the beginning of a path: what is named for it. {project} stands for the part of the path at its place
    roots: dict[str, str] = field(default_factory=dict)
    # named always
    always: list[str] = field(default_factory=list)

    def is_name(self, name: str) -> bool:
        """Tell whether something is the name of a file system here, such as gdata/ab12."""
        if not self.roots or name in self.always:
            return True
        patterns = (re.escape(known).replace(re.escape("{project}"), r"[\w.-]+") for known in self.roots.values())
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    def names(self, path: str) -> set[str]:
        """Give what must be named for a job to see a path; nothing for paths that all jobs see.

        >>> roots = {"/g/data/{project}": "gdata/{project}", "/eagle": "eagle"}
        >>> storage = Storage(directive="storage", roots=roots)
        >>> storage.names("/g/data/ab12/me/venv"), storage.names("/eagle/x"), storage.names("/home/ab/me")
        ({'gdata/ab12'}, {'eagle'}, set())
        """
        if not path.isprintable():  # of a name that no job script can hold, nothing is asked of the file system
            return set()
        found = set()
        for written in {os.path.normpath(path), os.path.realpath(path)}:
            for root, name in self.roots.items():
                pattern = re.escape(root).replace(re.escape("{project}"), "(?P<project>[^/]+)")
                match = re.match(pattern + "(?:/|$)", written)
                if match:
                    found.add(name.format(**match.groupdict()))
        return found


@dataclass
class Commands:
    """How a scheduler is spoken to; null: by the name that everybody uses."""

    # to submit a script
    submit: str | None = None
    # to ask for jobs by their ids
    status: str | None = None
    # of jobs by their ids
    delete: str | None = None


_COMMANDS = {
    "pbs": Commands("qsub", "qstat -x -f", "qdel"),
    "slurm": Commands("sbatch", "scontrol show job", "scancel"),
}


@dataclass
class HeadRules:
    """Where a long-lived head may live, and the smallest job that holds one."""

    # host names (* and ? match as in the shell) on which no process may live or grow for long
    login_hosts: list[str] = field(default_factory=list)
    login_walltime: str | None = None
    login_mem: str | None = None
    # a place for a long-lived head that is no job, in words
    elsewhere: str | None = None
    # the head job; queue null: the workers'
    queue: str | None = None
    ncpus: int = 1
    mem: str = "4GB"
    jobfs: str = "1GB"
    # how long worker jobs are expected to wait in the queue
    wait: str = "02:00:00"


@dataclass
class Site:
    """A machine that takes batch jobs.

    Raises
    ------
    ConfigError
        If a value cannot be.
    """

    # the machine's, for messages
    name: str = MISSING
    # where the figures come from
    source: str = MISSING
    # pbs, slurm; the first is what site=... alone means
    schedulers: list[str] = field(default_factory=lambda: ["pbs"])
    # of qsub: flat, select or wrapper
    dialect: str = "select"
    # of a project: -P or -A; null: the site knows none
    project: str | None = "-A"
    project_required: bool = False
    # where a project's name is taken from if none is given
    project_variable: str | None = None
    # null: one must be given
    default_queue: str | None = None
    # PBS chooses the queue by what is asked, and none is named in a job
    routed: bool = False
    # queues that are not listed exist as well, and about these nothing is known
    open_ended: bool = False
    # of jobs in a queue named X, qstat may say X with this ending
    execution_suffix: str = ""
    # the file systems that a job must name
    storage: Storage = field(default_factory=Storage)
    # in every job, as they stand after #PBS
    directives: list[str] = field(default_factory=list)
    # the fabric that scheduler and workers talk over; null: the one of the default route
    interface: str | None = None
    # shared by all nodes; {project} and {user} are filled in, $NAME is taken from the environment
    scratch: str | None = None
    # node-local, for spill; a variable of the job
    local_directory: str | None = None
    # what an hour costs is counted in; null: core-hours
    unit: str | None = None
    # by scheduler, where they are not those that everybody uses
    commands: dict[str, Commands] = field(default_factory=dict)
    # where a head may live
    head: HeadRules = field(default_factory=HeadRules)
    # by name
    queues: dict[str, Queue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.open_ended = self.open_ended or not self.queues
        self._check_choices()
        self._check_texts()
        for name, queue in self.queues.items():
            queue.check(f"site.queues.{name}")

    def _check_choices(self) -> None:
        _choose("site.dialect", self.dialect, DIALECTS)
        for scheduler in self.schedulers or [""]:
            _choose("site.schedulers", scheduler, SCHEDULERS)
        for scheduler in self.commands:
            _choose("site.commands", scheduler, SCHEDULERS)
        if self.project is not None:
            _choose("site.project", self.project, ("-P", "-A"))
        for key, queue in {"default_queue": self.default_queue, "head.queue": self.head.queue}.items():
            if queue is not None and queue not in self.queues and not self.open_ended:
                raise ConfigError(f"site.{key}={queue}: not among site.queues", nearest(queue, self.queues))
        if self.head.ncpus < 1:
            raise ConfigError(f"site.head.ncpus={self.head.ncpus}: must be 1 or more")

    def _check_texts(self) -> None:
        if self.local_directory is not None and not re.fullmatch(r"\$\w+|/[\w./+-]*", self.local_directory):
            raise ConfigError(f"site.local_directory={self.local_directory}: a path, or a variable such as $TMPDIR")
        if not self.storage.separator:
            raise ConfigError("site.storage.separator is empty", "PBS sites have + or :")
        if self.scratch is not None and not self.scratch.startswith(("/", "$")):
            raise ConfigError(f"site.scratch={self.scratch}: must be a full path, or begin with a variable")
        _check_template("site.scratch", self.scratch or "", {"project", "user"})
        for root, name in self.storage.roots.items():
            _check_template("site.storage.roots", root, {"project"})
            _check_template(f"site.storage.roots.{root}", name, {"project"} if "{project}" in root else set())
        for scheduler, commands in self.commands.items():
            for name, command in vars(commands).items():
                if command is not None and not command.split():
                    raise ConfigError(f"site.commands.{scheduler}.{name} is empty", "leave it out for the usual one")
        for key, parse in self._parsed().items():
            value = getattr(self.head, key)
            if value is not None:
                parse(value, f"site.head.{key}")

    @staticmethod
    def _parsed() -> dict[str, Callable[[str, str], int]]:
        return {
            "login_walltime": parse_walltime,
            "login_mem": parse_size,
            "mem": parse_size,
            "jobfs": parse_size,
            "wait": parse_walltime,
        }

    def project_of(self, project: str | None) -> str | None:
        """Give the project to charge: the one asked for, else that of the site's variable."""
        return project or (os.environ.get(self.project_variable) if self.project_variable else None) or None

    def scratch_of(self, project: str | None) -> str | None:
        """Give the user's place on scratch; None if it cannot be known."""
        if self.scratch is None or ("{project}" in self.scratch and not project):
            return None
        path = os.path.expandvars(self.scratch.format(project=project, user=getpass.getuser()))
        return None if "$" in path else path

    def queue_named(self, reported: str) -> str:
        """Give the queue that a job was sent to, from the one that the scheduler says it is in.

        >>> Site(name="x", source="x", execution_suffix="-exec").queue_named("normal-exec")
        'normal'
        """
        return reported.removesuffix(self.execution_suffix)

    def commands_of(self, scheduler: str) -> Commands:
        """Give the commands of a scheduler, all of them named."""
        own, common = self.commands.get(scheduler, Commands()), _COMMANDS[scheduler]
        return Commands(own.submit or common.submit, own.status or common.status, own.delete or common.delete)

    def is_here(self, scheduler: str) -> bool:
        """Tell whether this is the machine: it has the command to submit, and one of the file systems that it names."""
        roots = [Path(root.partition("{")[0]) for root in self.storage.roots]
        command = str(self.commands_of(scheduler).submit).split()[0]
        return shutil.which(command) is not None and (not roots or any(root.is_dir() for root in roots))


def _check_template(key: str, text: str, names: set[str]) -> None:
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ConfigError(f"{key}={text}: {error}") from error
    if used - names:
        known = " and ".join(f"{{{name}}}" for name in sorted(names)) or "nothing"
        raise ConfigError(f"{key}={text}: only {known} can be filled in")


def _choose(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}={value}: choose from {', '.join(choices)}")
