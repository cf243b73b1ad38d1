"""What was asked: the dataclasses that are both the schema of the configs and the launcher's input.

Their defaults are the defaults of the configs; conf/ repeats none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpcml.errors import ConfigError
from hpcml.units import parse_size

MODEL_FORMATS = ("skops", "joblib", "none")

# A worker that has imported scikit-learn holds about 200 MB (measured: distributed 2026.8, scikit-learn 1.9), and Dask
# restarts one at 95 % of its limit: below this it would die before its first task.
MIN_WORKER_MEMORY = 384 * 1024**2


@dataclass
class LocalSpec:
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
    cluster: LocalSpec = field(default_factory=LocalSpec)
    # where run directories are made; null: $HPCML_SCRATCH, else $SCRATCH, else ./runs
    scratch: str | None = None
    # of the held-out samples and of random searches; from the command line also of a model that leaves its own open
    seed: int = 0
    # how the fitted model is saved: skops, joblib (a pickle: load only your own) or none
    model_format: str = "skops"

    def __post_init__(self) -> None:
        if self.model_format not in MODEL_FORMATS:
            raise ConfigError(f"model_format={self.model_format}: choose from {', '.join(MODEL_FORMATS)}")
        if not 0 <= self.seed < 2**32:
            # numpy.random.RandomState accepts no other
            raise ConfigError(f"seed={self.seed}: must lie between 0 and {2**32 - 1}")
