"""A fully resolved request for batch jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcml.site import Queue, Site

# Sources of rules that do not come from a site.
PBS_NOTATION = "PBS's notation, pbs_resources(7B)"
OWN_RULE = "hpcml"


@dataclass(frozen=True)
class Job:
    """One batch job. Amounts are per node; sizes are in bytes, times in seconds.

    Parameters
    ----------
    key : str
        Config group that describes the job: cluster or head.
    queue : str or None
        None if the job does not name a queue.
    limits : Queue
        Limits of the queue at this site.
    storage : tuple of str
        File systems that the job requests.
    extra : tuple of str
        Directives added by the user.
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
    """Setup of a job's shell before Python starts, and the Python interpreter to use."""

    script: str | None
    modules: tuple[str, ...]
    venv: str | None
    variables: Mapping[str, str]
    python: str


@dataclass(frozen=True)
class Places:
    """Paths that all jobs of a run must be able to read."""

    # Working directory, from which workers import the user's modules.
    work: str
    # Interpreter that runs hpcml, and the root of its environment.
    python: str
    prefix: str
    # Parent of the run directories.
    scratch: str
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """A run's complete request to a scheduler.

    Parameters
    ----------
    jobs : int
        Number of worker jobs.
    head : Job or None
        Head job; None if the head runs in this process or in the allocation.
    here : bool
        Whether the head runs in this process.
    own_head : Job or None
        Expected size of the job that contains this process, to include it in the cost.
    memory_limit : int
        Dask's memory limit of each worker, in bytes.
    least_mem : int
        Smallest memory of a job in which its workers can start.
    local_directory : str or None
        Spill directory of the workers, which may contain a variable of the job. None for the job's
        temporary directory.
    min_workers : int
        Number of workers to wait for before the workload starts.
    start_timeout : int
        Seconds that the workers of a running job may take to register.
    max_restarts : int
        Maximum number of lost worker jobs to replace.
    idle_timeout : int or None
        Seconds after which idle jobs are deleted; None for never.
    max_cost : float or None
        Budget for worker jobs, in the site's unit.
    needs : mapping of str to str
        File systems that the jobs must request, each with a path that lies on it.
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
    max_restarts: int
    idle_timeout: int | None
    max_cost: float | None
    encrypted: bool

    @property
    def all_jobs(self) -> list[Job]:
        """The worker job and, if there is one, the head job."""
        return [self.worker, *([self.head] if self.head else [])]

    @property
    def storages(self) -> dict[str, tuple[str, ...]]:
        """Storage of the jobs by config group; the head's is included only if it differs."""
        own = self.head is not None and self.head.storage != self.worker.storage
        return {job.key: job.storage for job in (self.all_jobs if own else [self.worker])}

    def queue_of(self, job: Job) -> str:
        """Return a name for the queue of a job, for messages."""
        known = (name for name, queue in self.site.queues.items() if queue is job.limits)
        return job.queue or next(known, self.site.name)

    @property
    def first_jobs(self) -> int:
        """Number of worker jobs to submit first: all, or if adaptive those of the quorum."""
        return self.jobs if self.idle_timeout is None else min(self.jobs, -(-self.min_workers // self.workers_per_job))

    @property
    def workers(self) -> int:
        return self.jobs * self.worker.nodes * self.workers_per_job
