"""Specs of runs: the schema of the configs, and the input of the launcher.

Defaults are declared here; conf/ does not repeat them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hpcml.errors import ConfigError
from hpcml.keys import check_keys, choice, config_key, flag, kind, size, walltime, whole
from hpcml.site import REQUIRED, Site
from hpcml.units import parse_size

SIZES = ("small", "full")
MODEL_FORMATS = ("skops", "joblib", "none")
SECURITY = ("tls", "none")
HEAD_PLACES = ("job", "here")

# A worker with scikit-learn imported uses about 200 MB (measured: distributed 2026.8, scikit-learn
# 1.9), and Dask restarts it at 95 % of its limit. With less memory it dies before its first task.
MIN_WORKER_MEMORY = 384 * 1024**2

# Read by the BLAS and OpenMP libraries of NumPy, SciPy and scikit-learn when they are loaded.
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
    """Base class of cluster specs."""


@dataclass
class LocalSpec(ClusterSpec):
    """A Dask cluster on this machine, with ``workers`` processes of ``threads`` threads each."""

    workers: int | None = config_key(
        None, "Worker processes. null: as many as the machine's cores and free memory allow", whole()
    )
    threads: int = config_key(1, "Threads of each worker, for its tasks and for BLAS and OpenMP", whole())
    memory_limit: str | None = config_key(
        None, "Memory of each worker. null: an equal share of 90 % of the machine's", size(), example="4GB"
    )
    start_timeout: int = config_key(120, "Longest wait for all workers to start", whole(), unit="seconds")
    local_directory: str | None = config_key(
        None, "Directory to which workers spill. null: $PBS_JOBFS, else the system's temporary directory"
    )

    def __post_init__(self) -> None:
        check_keys(self, "cluster.")
        if self.memory_limit is not None:
            limit = parse_size(self.memory_limit, "cluster.memory_limit")
            if limit < MIN_WORKER_MEMORY:
                raise ConfigError(
                    f"cluster.memory_limit={self.memory_limit}: a worker needs {MIN_WORKER_MEMORY // 1024**2}MB "
                    "for its imports alone",
                    "use cluster.memory_limit=1GB or more; a bare number is bytes",
                )


@dataclass
class EnvironmentSpec:
    """Setup of a job's shell before Python starts, in this order."""

    script: str | None = config_key(
        None, "File of shell commands that the job sources. null: $HPCML_ENV, which head.pbs sets to its env.sh"
    )
    modules: list[str] = config_key([], "Modules to load with `module load`", example="[python3/3.11.7]")
    venv: str | None = config_key(None, "Virtual environment's directory. null: the one that hpcml runs in")
    variables: dict[str, str] = config_key({}, "Environment variables to export", example="{MY_DATA: /g/data/ab12}")


@dataclass
class BatchSpec(ClusterSpec):
    """Workers in batch jobs. Names, units and notation are those of PBS: 1GB is 1024**3 bytes.

    null is resolved from the site. Numbers, sizes and times are validated together with the site's
    limits, so that all errors are reported at once: :func:`hpcml.batch.resolution.resolve`.

    Attributes
    ----------
    scheduler : str or None
        Scheduler of the class's jobs; None for the site's default.
    """

    scheduler: ClassVar[str | None] = None

    queue: str | None = config_key(None, "Queue, or partition, of the worker jobs. null: the site's default")
    project: str | None = config_key(
        None, "Project, or account, that the jobs are charged to. null: $PROJECT or the site's own variable"
    )
    ncpus: int | None = config_key(
        None,
        "Cores of each worker job, on one node. null: workers_per_job x threads, else all cores of a node",
        whole(),
    )
    mem: str | None = config_key(
        None,
        "Memory of each worker job, on one node, for all its workers. null: the cores' share of a node's",
        size(zero=True),
    )
    ngpus: int | None = config_key(
        None, "GPUs of each worker job. null: as the cores imply in a GPU queue, else none", whole(0)
    )
    jobfs: str | None = config_key(
        None, "Node-local disk of each worker job, for spill. null: as much as its memory", size(zero=True)
    )
    walltime: str = config_key("01:00:00", "Walltime of each worker job", walltime(), example="04:00:00")
    storage: str | None = config_key(
        None,
        "File systems that the jobs use, as the site writes them; with a leading + in addition to those that hpcml "
        "finds. null: those of the run's paths",
        example="+gdata/xy34",
    )
    workers_per_job: int | None = config_key(None, "Worker processes of each job. null: ncpus / threads", whole())
    threads: int | None = config_key(
        None, "Threads of each worker, for tasks, BLAS and OpenMP. null: ncpus / workers_per_job", whole()
    )
    extra_directives: list[str] = config_key(
        [], "More directives for every job script, the head's too, without #PBS or #SBATCH", example='["-m ae"]'
    )
    environment: EnvironmentSpec = config_key(EnvironmentSpec, "Commands that a job runs before it starts Python")
    name: str = config_key("hpcml", "Start of the jobs' names; the run's id follows")
    min_workers: int | None = config_key(
        None, "Workers that must be there before the workload starts. null: those of one job", whole()
    )
    start_timeout: int = config_key(
        300, "Longest wait for the workers of a job after the job has started", whole(), unit="seconds"
    )
    max_restarts: int | None = config_key(
        None, "Lost worker jobs that hpcml replaces before it gives up. null: twice the number of jobs", whole(0)
    )
    max_cost: float | None = config_key(
        None,
        "Budget: hpcml submits no job that could exceed it. null: no limit",
        unit="the site's unit: SU on Gadi, else core-hours",
    )
    security: str = config_key(
        "tls",
        "tls: every connection needs a certificate of this run. none: anybody on the network can run code as you",
        choice(*SECURITY),
    )
    strict: bool = config_key(True, "Whether a request beyond a limit that the site may have changed is an error")

    def __post_init__(self) -> None:
        check_keys(self, "cluster.", ["security"])


@dataclass
class JobsSpec(BatchSpec):
    """Worker jobs on one node each."""

    jobs: int = config_key(1, "Number of worker jobs", whole())
    adaptive: bool = config_key(
        False, "Whether to start with one job, add up to `jobs` while there is work, and delete idle ones"
    )
    idle_timeout: str = config_key("00:05:00", "With adaptive: how long an idle worker job is kept", walltime())


@dataclass
class PbsSpec(JobsSpec):
    """PBS worker jobs on one node each."""

    scheduler = "pbs"


@dataclass
class SlurmSpec(JobsSpec):
    """Slurm worker jobs on one node each."""

    scheduler = "slurm"


@dataclass
class AllocationSpec(BatchSpec):
    """One job on several nodes for the head and all workers. Amounts are per node."""

    nodes: int = config_key(1, "Nodes of the allocation", whole())


@dataclass
class AttachSpec(ClusterSpec):
    """An existing Dask cluster, which hpcml uses without starting, supervising or stopping it."""

    scheduler_file: str = config_key(
        REQUIRED, "File that the running scheduler wrote: dask scheduler --scheduler-file FILE"
    )
    tls_ca: str | None = config_key(
        None, "CA certificate (PEM) of a scheduler of tls://. null: that of Dask's own config, distributed.comm.tls"
    )
    tls_cert: str | None = config_key(None, "Client certificate (PEM) for that scheduler")
    tls_key: str | None = config_key(None, "Private key (PEM) of the client certificate")
    min_workers: int = config_key(1, "Connected workers that the workload waits for", whole())
    start_timeout: int = config_key(300, "Longest wait for min_workers", whole(), unit="seconds")

    def __post_init__(self) -> None:
        check_keys(self, "cluster.")
        given = [name for name in ("tls_ca", "tls_cert", "tls_key") if getattr(self, name)]
        if given and len(given) < 3:
            lacking = sorted({"tls_ca", "tls_cert", "tls_key"} - set(given))
            raise ConfigError(f"cluster.{given[0]} is set without {' and '.join(lacking)}", "TLS needs all three")


CLUSTERS: dict[str, type[ClusterSpec]] = {
    "local": LocalSpec, "pbs": PbsSpec, "slurm": SlurmSpec, "allocation": AllocationSpec,
    "attach": AttachSpec,
}  # fmt: skip


@dataclass
class HeadSpec:
    """The head job, for Dask's scheduler and client. null is resolved from the site."""

    where: str | None = config_key(
        None,
        "job: the head runs in a batch job. here: in the process that you start. null: here for `run`, job for "
        "`submit` and `plan`",
        choice(*HEAD_PLACES),
    )
    queue: str | None = config_key(
        None, "Queue of the head job. null: the site's, or the workers' if it allows more walltime"
    )
    ncpus: int | None = config_key(None, "Cores of the head job. null: the site's site.head.ncpus", whole())
    mem: str | None = config_key(None, "Memory of the head job. null: the site's site.head.mem", size(zero=True))
    walltime: str | None = config_key(
        None, "Walltime of the head job. null: the workers', plus the expected wait in the queue", walltime()
    )
    jobfs: str | None = config_key(
        None, "Node-local disk of the head job. null: the site's site.head.jobfs", size(zero=True)
    )
    storage: str | None = config_key(None, "File systems of the head job. null: those of the workers")

    def __post_init__(self) -> None:
        check_keys(self, "head.", ["where"])


@dataclass
class RunSpec:
    """One run: workload, data, model and cluster.

    Parameters
    ----------
    workload : Workload
        The computation, for example :class:`hpcml.Search`.
    data : Dataset, (X, y) pair, Bunch, loader or callable
        See :func:`hpcml.data.load`.
    model : estimator or None
        A scikit-learn estimator or pipeline.
    preprocess : "auto", "none" or transformer
        The steps before the model.
    """

    workload: Any
    data: Any = None
    model: Any = None
    preprocess: Any = config_key(
        "auto",
        "Steps before the model that turn a table's columns into numbers. auto: those that suit the model, if the "
        "table has text, categories, dates or missing values that it rejects. none: no steps. Or a transformer",
        kind("auto, none or transformer"),
        example="{_target_: mine.prepare}",
    )
    site: Site | None = None
    cluster: ClusterSpec = field(default_factory=LocalSpec)
    head: HeadSpec = field(default_factory=HeadSpec)
    scratch: str | None = config_key(
        None, "Directory for run directories. null: $HPCML_SCRATCH, else $SCRATCH, else the site's, else ./runs"
    )
    seed: int = config_key(
        0, "Seed of the held-out set and of random searches; on the command line also of a model without its own"
    )
    size: str = config_key(
        "full",
        "full: the published configuration of an experiment. small: a smoke test of seconds",
        choice(*SIZES),
    )
    model_format: str = config_key(
        "skops",
        "File format of the fitted model. joblib is a pickle: load only your own",
        choice(*MODEL_FORMATS),
    )
    trial: bool = config_key(
        True,
        "Whether to fit a few samples in a process of its own before anything is started: the first candidate, and "
        "one with each value that varies",
        flag(),
    )
    scaling: list[int] | None = config_key(
        None, "Numbers of workers: the workload runs once with each, and hpcml reports the speedup", example="[1,2,4]"
    )

    def __post_init__(self) -> None:
        check_keys(self, "")
        if isinstance(self.preprocess, str) and self.preprocess not in ("auto", "none"):
            raise ConfigError(
                f"preprocess={self.preprocess}: must be auto, none or a transformer",
                "for example 'preprocess={_target_: sklearn.preprocessing.StandardScaler}'",
            )
        if not 0 <= self.seed < 2**32:
            # numpy.random.RandomState accepts no other seeds.
            raise ConfigError(f"seed={self.seed}: must be between 0 and {2**32 - 1}")
        if self.scaling is not None:
            self._apply_scaling(self.scaling)

    def _apply_scaling(self, workers: list[int]) -> None:
        """Validate the numbers of workers, and make the workload wait for the largest."""
        asked = f"scaling={workers}"
        if not workers or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in workers):
            raise ConfigError(f"{asked}: must be a list of numbers of workers", "for example scaling=[1,2,4]")
        if len(set(workers)) < len(workers):
            raise ConfigError(f"{asked}: {max(workers, key=workers.count)} occurs twice", "list each number once")
        if getattr(self.cluster, "adaptive", False):
            raise ConfigError(
                f"{asked} with cluster.adaptive=true: idle jobs would be deleted",
                "use cluster.adaptive=false",
            )
        if isinstance(self.cluster, (BatchSpec, AttachSpec)):
            self.cluster = replace(self.cluster, min_workers=max(self.cluster.min_workers or 1, *workers))


def default_scratch(site: Site | None, cluster: ClusterSpec) -> str | None:
    """Return the default parent of run directories on a site's scratch; None if it is unknown."""
    if site is None:
        return None
    place = site.scratch_of(site.project_of(cluster.project if isinstance(cluster, BatchSpec) else None))
    return None if place is None else f"{place}/runs"
