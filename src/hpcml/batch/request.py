"""Requests: what a run asks of a scheduler, with nothing left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcml.site import Queue, Site

# Where rules come from that are no site's.
PBS_NOTATION = "PBS's notation, pbs_resources(7B)"
OWN_RULE = "how hpcml runs workers"


@dataclass(frozen=True)
class Job:
    """One batch job. Amounts are those of each of its nodes; sizes are bytes, times seconds.

    Parameters
    ----------
    key : str
        The config group that describes it: cluster or head.
    queue : str or None
        None: the job names none.
    limits : Queue
        What the site says of the queue.
    storage : tuple of str
        File systems that the job names.
    extra : tuple of str
        The user's own directives.
    """

    key: str
    name: str
    queue: str | None
    limits: Queue
    project: str | None
    nodes: int
    ncpus: int
    mem: int
    walltime: int
    jobfs: int | None
    ngpus: int
    storage: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def total_ncpus(self) -> int:
        return self.nodes * self.ncpus


@dataclass(frozen=True)
class Environment:
    """What a job's script does before Python starts, and which Python that is."""

    script: str | None
    modules: tuple[str, ...]
    venv: str | None
    variables: Mapping[str, str]
    python: str


@dataclass(frozen=True)
class Places:
    """What the jobs of a run must be able to see: what it is, and its path."""

    # the working directory, which workers import the user's modules from
    work: str
    # the interpreter that runs hpcml, and the root of its environment
    python: str
    prefix: str
    # where run directories go
    scratch: str
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """All that a run asks of a scheduler.

    Parameters
    ----------
    jobs : int
        How many worker jobs.
    head : Job or None
        None: the head lives in the process that is started, or in the allocation.
    here : bool
        The head lives in the process that is started.
    own_head : Job or None
        The job which that process is in, as far as the request says; it is paid for.
    memory_limit : int
        Dask's, of each worker, in bytes.
    least_mem : int
        The memory of a job with which its workers can live.
    local_directory : str or None
        Where workers spill: a path, or a variable of the job; None: the job's temporary directory.
    min_workers : int
        How many workers must have come before the workload begins.
    start_timeout : int
        How long the workers of a running job may take to come, in seconds.
    replacements : int
        How many lost worker jobs are replaced.
    hold : int or None
        After how long idle jobs are deleted, in seconds; None: never.
    max_cost : float or None
        No more worker jobs are submitted than can be paid with this, in the site's unit.
    needs : mapping of str to str
        Each file system that the jobs must name, and what lies on it.
    """

    site: Site
    scheduler: str
    jobs: int
    worker: Job
    head: Job | None
    here: bool
    own_head: Job | None
    workers_per_job: int
    threads: int
    memory_limit: int
    least_mem: int
    local_directory: str | None
    environment: Environment
    places: Places
    needs: Mapping[str, str]
    strict: bool
    min_workers: int
    start_timeout: int
    replacements: int
    hold: int | None
    max_cost: float | None
    encrypted: bool

    @property
    def all_jobs(self) -> list[Job]:
        """The worker job and, if there is one, the head job."""
        return [self.worker, *([self.head] if self.head else [])]

    @property
    def storages(self) -> dict[str, tuple[str, ...]]:
        """What the jobs name as storage, by key; the head's only where it is another."""
        own = self.head is not None and self.head.storage != self.worker.storage
        return {job.key: job.storage for job in (self.all_jobs if own else [self.worker])}

    def queue_of(self, job: Job) -> str:
        """Name the queue that a job will be in, for messages."""
        known = (name for name, queue in self.site.queues.items() if queue is job.limits)
        return job.queue or next(known, self.site.name)

    @property
    def first_jobs(self) -> int:
        """How many worker jobs are submitted at first: all, or if more follow the work, those of the quorum."""
        return self.jobs if self.hold is None else min(self.jobs, -(-self.min_workers // self.workers_per_job))

    @property
    def workers(self) -> int:
        return self.jobs * self.worker.nodes * self.workers_per_job
