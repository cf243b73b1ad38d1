"""Schema of sites, which describe the limits of a machine. Each has a YAML file in conf/site/."""

from __future__ import annotations

import getpass
import os
import re
import string
from dataclasses import dataclass
from functools import cached_property

from hpcml.errors import ConfigError, nearest
from hpcml.keys import check_keys, choice, config_key, flag, kind, number, size, walltime, whole
from hpcml.units import parse_size, parse_walltime

# flat: -l ncpus=,mem= for the whole job (Gadi rejects select); select: -l select=NODES:ncpus=:mem=;
# wrapper: Slurm's PBS commands, which read select and ignore or reject most other resources
DIALECTS = ("flat", "select", "wrapper")

REQUIRED = "???"  # OmegaConf's marker for a required value


@dataclass
class Tier:
    """Longest walltime of jobs with up to a number of cores."""

    walltime: str = config_key(REQUIRED, "Longest walltime", walltime(), example='"48:00:00"')
    ncpus: int | None = config_key(None, "Cores of the whole job, at most. null: any number", whole())

    @cached_property
    def seconds(self) -> int:
        """``walltime`` in seconds."""
        return parse_walltime(self.walltime)


@dataclass
class Queue:
    """A queue or partition. null means unknown, and disables the checks that need the value."""

    ncpus: int | None = config_key(None, "Cores of a node", whole())
    mem: str | None = config_key(None, "Memory of a node that a job can request", size())
    jobfs: str | None = config_key(None, "Node-local disk that a job can request. null: no such resource", size())
    ngpus: int = config_key(0, "GPUs of a node", whole(0))
    ncpus_per_gpu: int | None = config_key(None, "Cores that a job must request for each GPU", whole())
    ncpus_multiple: int = config_key(
        1, "Cores of a job on one node are a multiple of it; jobs on several nodes take whole nodes", whole()
    )
    whole_nodes: bool = config_key(False, "Whether the site allocates, and charges, whole nodes only", flag())
    min_nodes: int = config_key(1, "Fewest nodes of one job", whole())
    max_nodes: int | None = config_key(None, "Most nodes of one job", whole())
    max_ncpus: int | None = config_key(None, "Most cores of one job", whole())
    tiers: list[Tier] = config_key([], "Longest walltimes, in ascending order of ncpus", kind("list of tiers"))
    max_running: int | None = config_key(None, "Jobs that one user, or project, may have running", whole())
    max_running_ncpus: int | None = config_key(None, "Cores of one user's, or project's, running jobs", whole())
    max_running_ngpus: int | None = config_key(None, "GPUs of one user's, or project's, running jobs", whole())
    max_running_mem: str | None = config_key(None, "Memory of one user's, or project's, running jobs", size())
    max_queued: int | None = config_key(None, "Jobs that one user, or project, may have queued", whole())
    rate: float = config_key(1.0, "Charge for one core-hour", number(least=0), unit="the site's unit")
    charged_mem: str | None = config_key(
        None, "Memory of a node as the charge divides it among its cores. null: memory is not charged", size()
    )

    def check(self, name: str) -> None:
        """Validate the values of a queue.

        Raises
        ------
        ConfigError
        """
        check_keys(self, f"{name}.")
        if self.ncpus_per_gpu is not None and not self.ngpus:
            raise ConfigError(f"{name}.ncpus_per_gpu={self.ncpus_per_gpu}: the queue has no GPUs", f"set {name}.ngpus")
        if self.whole_nodes and self.ncpus is None:
            raise ConfigError(f"{name}.whole_nodes=true: requires the number of cores of a node", f"set {name}.ncpus")
        for place, tier in enumerate(self.tiers):
            check_keys(tier, f"{name}.tiers[{place}].")
        ends = [tier.ncpus or 2**62 for tier in self.tiers]
        if ends != sorted(ends):
            raise ConfigError(f"{name}.tiers: must be in ascending order of ncpus", "null, for any number, comes last")

    @cached_property
    def mem_bytes(self) -> int | None:
        """``mem`` in bytes."""
        return _bytes(self.mem)

    @cached_property
    def jobfs_bytes(self) -> int | None:
        """``jobfs`` in bytes."""
        return _bytes(self.jobfs)

    @cached_property
    def max_running_mem_bytes(self) -> int | None:
        """``max_running_mem`` in bytes."""
        return _bytes(self.max_running_mem)

    @cached_property
    def charged_mem_bytes(self) -> int | None:
        """``charged_mem`` in bytes."""
        return _bytes(self.charged_mem)

    def max_walltime(self, ncpus: int) -> int | None:
        """Return the longest walltime of a job in seconds; None for no limit."""
        for tier in self.tiers:
            if tier.ncpus is None or ncpus <= tier.ncpus:
                return tier.seconds
        return self.tiers[-1].seconds if self.tiers else None


@dataclass
class Storage:
    """Storage directives, for sites at which jobs must name their file systems."""

    directive: str | None = config_key(
        None, "Resource that lists them: -l NAME=... null: jobs list no file systems", example="storage"
    )
    separator: str = config_key("+", "Text between two file systems")
    roots: dict[str, str] = config_key(
        {},
        "Name of the file system by the start of a path; {project} stands for that part of the path",
        example='{"/g/data/{project}": "gdata/{project}"}',
    )
    always: list[str] = config_key([], "File systems that every job lists")

    def check(self, name: str) -> None:
        """Validate the separator and the placeholders.

        Raises
        ------
        ConfigError
        """
        if not self.separator:
            raise ConfigError(f"{name}.separator is empty", "PBS sites use + or :")
        for root, text in self.roots.items():
            _check_template(f"{name}.roots", root, {"project"})
            _check_template(f"{name}.roots.{root}", text, {"project"} if "{project}" in root else set())

    def is_name(self, name: str) -> bool:
        """Return whether a text names a file system of the site, such as gdata/ab12."""
        if not self.roots or name in self.always:
            return True
        patterns = (re.escape(known).replace(re.escape("{project}"), r"[\w.-]+") for known in self.roots.values())
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    def names(self, path: str) -> set[str]:
        """Return the file systems that a job must name to see a path.

        >>> roots = {"/g/data/{project}": "gdata/{project}", "/eagle": "eagle"}
        >>> storage = Storage(directive="storage", roots=roots)
        >>> storage.names("/g/data/ab12/me/venv"), storage.names("/eagle/x"), storage.names("/home/ab/me")
        ({'gdata/ab12'}, {'eagle'}, set())
        """
        if not path.isprintable():  # Rejected elsewhere; os.path.realpath might fail.
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
    """Commands of a scheduler; null for the usual ones."""

    submit: str | None = config_key(None, "Command that submits a job script. null: the scheduler's usual one")
    status: str | None = config_key(None, "Command that reports jobs by their ids. null: the scheduler's usual one")
    delete: str | None = config_key(None, "Command that deletes jobs by their ids. null: the scheduler's usual one")

    def check(self, name: str) -> None:
        """Reject empty commands.

        Raises
        ------
        ConfigError
        """
        for key, command in vars(self).items():
            if command is not None and not command.split():
                raise ConfigError(f"{name}.{key} is empty", "leave it out to use the default")


@dataclass
class HeadRules:
    """Where a head may run, and the size of its job."""

    login_hosts: list[str] = config_key(
        [], "Login nodes' host names, on which long or large processes are killed; * and ? match as in the shell"
    )
    login_walltime: str | None = config_key(
        None, "Longest a process may run on a login node. null: not known", walltime()
    )
    login_mem: str | None = config_key(None, "Most memory of a process on a login node. null: not known", size())
    elsewhere: str | None = config_key(None, "Where else than in a job a long-lived head may run, in words")
    queue: str | None = config_key(None, "Queue of head jobs. null: that of the workers")
    ncpus: int = config_key(1, "Cores of a head job", whole())
    mem: str = config_key("4GB", "Memory of a head job", size())
    jobfs: str = config_key("1GB", "Node-local disk of a head job", size())
    wait: str = config_key("02:00:00", "Expected wait of worker jobs in the queue", walltime())

    @cached_property
    def login_seconds(self) -> int | None:
        """``login_walltime`` in seconds."""
        return None if self.login_walltime is None else parse_walltime(self.login_walltime)

    @cached_property
    def wait_seconds(self) -> int:
        """``wait`` in seconds."""
        return parse_walltime(self.wait)

    @cached_property
    def mem_bytes(self) -> int:
        """``mem`` in bytes."""
        return parse_size(self.mem)

    @cached_property
    def jobfs_bytes(self) -> int:
        """``jobfs`` in bytes."""
        return parse_size(self.jobfs)


@dataclass
class Site:
    """A machine that runs batch jobs.

    Raises
    ------
    ConfigError
        If a value is invalid.
    """

    name: str = config_key(REQUIRED, "The machine's name, for messages")
    source: str = config_key(REQUIRED, "Where the figures come from, with a date")
    schedulers: list[str] = config_key(
        ["pbs"], "Its schedulers: pbs, slurm. The first is the default", example="[slurm]"
    )
    dialect: str = config_key(
        "select",
        "How PBS resources are written. flat: -l ncpus=,mem= for the whole job. select: -l select=NODES:ncpus=:mem=. "
        "wrapper: as Slurm's PBS commands read them",
        choice(*DIALECTS),
    )
    project: str | None = config_key(
        "-A", "Option that names the project. null: the site has no projects", choice("-P", "-A")
    )
    project_required: bool = config_key(False, "Whether every job must name a project", flag())
    project_variable: str | None = config_key(
        None, "Environment variable that holds the default project", example="PROJECT"
    )
    default_queue: str | None = config_key(None, "Queue of worker jobs if the user names none. null: one must be given")
    routed: bool = config_key(False, "Whether PBS chooses the queue, so that jobs name none", flag())
    open_ended: bool = config_key(
        False, "Whether there are more queues than those listed, of which nothing is known", flag()
    )
    execution_suffix: str = config_key("", "Suffix of the queue that PBS reports for jobs sent to a routing queue")
    storage: Storage = config_key(Storage, "The file systems that a job must list")
    directives: list[str] = config_key([], "Directives of every job, without #PBS", example='["-W group_list=ab12"]')
    interface: str | None = config_key(
        None, "Network interface between scheduler and workers. null: that of the default route", example="ib0"
    )
    scratch: str | None = config_key(
        None,
        "User's directory on a file system that all nodes share; {project} and {user} are filled in, $NAME is taken "
        "from the environment",
        example="/scratch/{project}/{user}",
    )
    local_directory: str | None = config_key(
        None, "Node-local directory to which workers spill: a path, or a variable of the job", example="$PBS_JOBFS"
    )
    unit: str | None = config_key(None, "Unit of charges. null: core-hours", example="SU")
    commands: dict[str, Commands] = config_key(
        {}, "Commands by scheduler, where they differ from the usual ones", kind("mapping of commands")
    )
    head: HeadRules = config_key(HeadRules, "Where a head may run")
    queues: dict[str, Queue] = config_key({}, "Queues, or partitions, by name", kind("mapping of queues"))

    def __post_init__(self) -> None:
        self.open_ended = self.open_ended or not self.queues
        check_keys(self, "site.")
        check_keys(self.head, "site.head.")
        self._check_choices()
        self._check_texts()
        for name, queue in self.queues.items():
            queue.check(f"site.queues.{name}")

    def _check_choices(self) -> None:
        for name, queue in {"default_queue": self.default_queue, "head.queue": self.head.queue}.items():
            if queue is not None and queue not in self.queues and not self.open_ended:
                raise ConfigError(f"site.{name}={queue}: not in site.queues", nearest(queue, self.queues))

    def _check_texts(self) -> None:
        if self.local_directory is not None and not re.fullmatch(r"\$\w+|/[\w./+-]*", self.local_directory):
            raise ConfigError(f"site.local_directory={self.local_directory}: must be a path, or a variable: $TMPDIR")
        if self.scratch is not None and not self.scratch.startswith(("/", "$")):
            raise ConfigError(f"site.scratch={self.scratch}: must be an absolute path, or start with a variable")
        _check_template("site.scratch", self.scratch or "", {"project", "user"})
        self.storage.check("site.storage")
        for scheduler, commands in self.commands.items():
            commands.check(f"site.commands.{scheduler}")

    def project_of(self, project: str | None) -> str | None:
        """Return the project to charge: the one requested, else that of the site's variable."""
        return project or (os.environ.get(self.project_variable) if self.project_variable else None) or None

    def scratch_of(self, project: str | None) -> str | None:
        """Return the user's scratch directory; None if it is unknown."""
        if self.scratch is None or ("{project}" in self.scratch and not project):
            return None
        path = os.path.expandvars(self.scratch.format(project=project, user=getpass.getuser()))
        return None if "$" in path else path

    def queue_named(self, reported: str) -> str:
        """Return the queue that a job was submitted to, given the queue that the scheduler reports.

        >>> Site(name="x", source="x", execution_suffix="-exec").queue_named("normal-exec")
        'normal'
        """
        return reported.removesuffix(self.execution_suffix)


def _bytes(size: str | None) -> int | None:
    return None if size is None else parse_size(size)


def _check_template(key: str, text: str, names: set[str]) -> None:
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ConfigError(f"{key}={text}: {error}") from error
    if used - names:
        known = " and ".join(f"{{{name}}}" for name in sorted(names)) or "none"
        raise ConfigError(f"{key}={text}: allowed placeholders: {known}")
