"""What was asked: the dataclasses that are both the schema of the configs and the launcher's input.

Their defaults are the defaults of the configs; conf/ repeats none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hpcml.errors import ConfigError
from hpcml.site import MISSING, Site
from hpcml.units import parse_size

SIZES = ("small", "full")
MODEL_FORMATS = ("skops", "joblib", "none")
SECURITY = ("tls", "none")

# A worker that has imported scikit-learn holds about 200 MB (measured: distributed 2026.8, scikit-learn 1.9), and Dask
# restarts one at 95 % of its limit: below this it would die before its first task.
MIN_WORKER_MEMORY = 384 * 1024**2

# Read by the BLAS and OpenMP libraries that NumPy, SciPy and scikit-learn come with, when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass
class ClusterSpec:
    """What is asked of a machine; one subclass a kind of cluster."""


@dataclass
class LocalSpec(ClusterSpec):
    """A Dask cluster on this machine: ``workers`` processes of ``threads`` threads each."""

    # worker processes; null: as many as the machine's cores (cgroups and affinity counted) and memory allow
    workers: int | None = None
    # threads of each worker; BLAS and OpenMP are pinned to the same number
    threads: int = 1
    # memory of each worker, for example 4GB; null: an equal share of 90 % of the machine's
    memory_limit: str | None = None
    # how long the workers may take to start, in seconds
    start_timeout: int = 120
    # where workers spill; null: $PBS_JOBFS, else the system's temporary directory
    local_directory: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "start_timeout"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"cluster.{name}={value}: must be 1 or more")
        if self.memory_limit is not None:
            size = parse_size(self.memory_limit, "cluster.memory_limit")
            if size < MIN_WORKER_MEMORY:
                raise ConfigError(
                    f"cluster.memory_limit={self.memory_limit}: a worker needs {MIN_WORKER_MEMORY // 1024**2}MB "
                    "for its imports alone",
                    "use cluster.memory_limit=1GB or more; a bare number is bytes",
                )


@dataclass
class EnvironmentSpec:
    """What a job does before Python starts, in this order."""

    # a file of shell commands to read; null: $HPCML_ENV, which head.pbs sets to the env.sh that it has read
    script: str | None = None
    # for module load
    modules: list[str] = field(default_factory=list)
    # a virtual environment's directory; null: the one that hpcml itself runs in
    venv: str | None = None
    # to export
    variables: dict[str, str] = field(default_factory=dict)


@dataclass
class BatchSpec(ClusterSpec):
    """Workers in batch jobs. Names, units and notation are PBS's: 1GB is 1024**3 bytes, 02:00:00 two hours.

    What is null comes from the site.
    """

    # where the jobs go, and who pays for them
    queue: str | None = None
    project: str | None = None
    # of a job, on one node; ncpus is workers_per_job x threads
    ncpus: int | None = None
    mem: str | None = None
    ngpus: int | None = None
    # node-local disk of a job, for spill
    jobfs: str | None = None
    # of a job, as PBS writes it: 02:00:00, or seconds
    walltime: str = "01:00:00"
    # as the site writes it: scratch/ab12+gdata/ab12; null: what the run's paths need; +gdata/xy34: that, and more
    storage: str | None = None
    # worker processes of a job, and threads of each; BLAS and OpenMP are pinned to the same number
    workers_per_job: int | None = None
    threads: int | None = None
    # more lines of every job's script, the head's too, as they stand after #PBS or #SBATCH: ["-m ae"]
    extra_directives: list[str] = field(default_factory=list)
    # what a job does before Python starts
    environment: EnvironmentSpec = field(default_factory=EnvironmentSpec)
    # the beginning of the jobs' names; the run's id follows
    name: str = "hpcml"
    # the workload begins when so many workers have come, and others join later; null: those of one job
    min_workers: int | None = None
    # how long the workers of a job that runs may take to come, in seconds
    start_timeout: int = 300
    # lost worker jobs, or nodes' workers, that may be started anew; null: twice as many as there are
    replacements: int | None = None
    # no more is submitted than this pays for, in the site's unit: SU on Gadi, else core-hours; null: no such limit
    max_cost: float | None = None
    # tls: every connection needs a certificate of the run; none: anybody on the network can run code as you
    security: str = "tls"
    # false: what only breaks a limit that the site may have changed is a warning
    strict: bool = True

    def __post_init__(self) -> None:
        if self.security not in SECURITY:
            raise ConfigError(f"cluster.security={self.security}: choose from {', '.join(SECURITY)}")


@dataclass
class JobsSpec(BatchSpec):
    """Worker jobs, each on one node."""

    # how many worker jobs
    jobs: int = 1
    # begin with one job, submit more, up to as many as were asked for, while there is work for them, and delete those
    # that have been idle for as long as hold says
    adaptive: bool = False
    hold: str = "00:05:00"


@dataclass
class PbsSpec(JobsSpec):
    """Worker jobs of PBS, each on one node."""


@dataclass
class SlurmSpec(JobsSpec):
    """Worker jobs of Slurm, each on one node."""


@dataclass
class AllocationSpec(BatchSpec):
    """One job on several nodes, in which head and workers live; the keys of a job are those of one of its nodes."""

    # how many nodes
    nodes: int = 1


@dataclass
class AttachSpec(ClusterSpec):
    """A Dask cluster that runs already, and goes on afterwards: nothing of it is started, watched or ended."""

    # the file that its scheduler has written: dask scheduler --scheduler-file
    scheduler_file: str = MISSING
    # PEM files for a scheduler of tls://; null: those of your own Dask config, distributed.comm.tls
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    # the workload begins when so many workers are there
    min_workers: int = 1
    # how long that may take, in seconds
    start_timeout: int = 300

    def __post_init__(self) -> None:
        given = [name for name in ("tls_ca", "tls_cert", "tls_key") if getattr(self, name)]
        if given and len(given) < 3:
            lacking = sorted({"tls_ca", "tls_cert", "tls_key"} - set(given))
            raise ConfigError(f"cluster.{given[0]} is set without {' and '.join(lacking)}", "TLS takes all three")


CLUSTERS: dict[str, type[ClusterSpec]] = {
    "local": LocalSpec, "pbs": PbsSpec, "slurm": SlurmSpec, "allocation": AllocationSpec,
    "attach": AttachSpec,
}  # fmt: skip


@dataclass
class HeadSpec:
    """The job in which the head lives, that is Dask's scheduler and the client. What is null comes from the site."""

    # job: in a job of its own; here: in the process that is started; null: here for `run`, job for `submit` and `plan`
    where: str | None = None
    # of the head job
    queue: str | None = None
    ncpus: int | None = None
    mem: str | None = None
    # null: the workers', and the wait in the queue that is expected
    walltime: str | None = None
    # of the head job
    jobfs: str | None = None
    # null: the workers'
    storage: str | None = None

    def __post_init__(self) -> None:
        if self.where not in (None, "job", "here"):
            raise ConfigError(f"head.where={self.where}: choose job or here")


@dataclass
class RunSpec:
    """One run: what to compute, on what, with what, where.

    Parameters
    ----------
    workload : Workload
        What to compute, for example :class:`hpcml.Search`.
    data : Dataset, (X, y) pair, Bunch, loader or callable
        See :func:`hpcml.data.load`.
    model : estimator or None
        Any scikit-learn estimator or pipeline.
    """

    workload: Any
    data: Any = None
    model: Any = None
    site: Site | None = None
    cluster: ClusterSpec = field(default_factory=LocalSpec)
    head: HeadSpec = field(default_factory=HeadSpec)
    # where run directories are made; null: $HPCML_SCRATCH, else $SCRATCH, else the site's, else ./runs
    scratch: str | None = None
    # of the held-out samples and of random searches; from the command line also of a model that leaves its own open
    seed: int = 0
    # of an experiment: full has the numbers that it is known for, small takes seconds
    size: str = "full"
    # how the fitted model is saved: skops, joblib (a pickle: load only your own) or none
    model_format: str = "skops"
    # numbers of workers, such as [1, 2, 4]: the workload runs once with each, and how much faster it gets is told
    scaling: list[int] | None = None

    def __post_init__(self) -> None:
        if self.model_format not in MODEL_FORMATS:
            raise ConfigError(f"model_format={self.model_format}: choose from {', '.join(MODEL_FORMATS)}")
        if self.size not in SIZES:
            raise ConfigError(f"size={self.size}: choose from {', '.join(SIZES)}")
        if not 0 <= self.seed < 2**32:
            # numpy.random.RandomState accepts no other
            raise ConfigError(f"seed={self.seed}: must lie between 0 and {2**32 - 1}")
        if self.scaling is not None:
            self._settle_scaling(self.scaling)

    def _settle_scaling(self, workers: list[int]) -> None:
        """Refuse numbers that are none of workers, and have the workload wait for as many as the largest."""
        asked = f"scaling={workers}"
        if not workers or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in workers):
            raise ConfigError(f"{asked}: must be numbers of workers, 1 or more", "for example scaling=[1,2,4]")
        if len(set(workers)) < len(workers):
            raise ConfigError(f"{asked}: {max(workers, key=workers.count)} is there twice", "name each number once")
        if getattr(self.cluster, "adaptive", False):
            raise ConfigError(
                f"{asked} with cluster.adaptive=true: jobs whose workers rest would be deleted",
                "use cluster.adaptive=false",
            )
        if isinstance(self.cluster, (BatchSpec, AttachSpec)):
            self.cluster = replace(self.cluster, min_workers=max(self.cluster.min_workers or 1, *workers))


def default_scratch(site: Site | None, cluster: ClusterSpec) -> str | None:
    """Give the directory of run directories on a site's scratch; None if it cannot be known."""
    if site is None:
        return None
    place = site.scratch_of(site.project_of(cluster.project if isinstance(cluster, BatchSpec) else None))
    return None if place is None else f"{place}/runs"
