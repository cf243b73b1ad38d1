"""What a request can cost at most, and what a finished job has cost."""

from __future__ import annotations

from dataclasses import dataclass

from hpcml.batch.request import Job, Request
from hpcml.site import Queue
from hpcml.units import parse_size


@dataclass(frozen=True)
class Price:
    """What a request costs if every job runs to its walltime once, in the site's unit.

    Parameters
    ----------
    per_hour : float
        While head and all worker jobs run.
    workers, head : float
        For their whole walltime; head includes the hours in which the workers wait.
    renewing : bool
        Worker jobs are renewed when their walltime ends and work is left.
    renewed : float or None
        The most that it costs with that: as long as the head lives. None: the head is in no job, and nothing ends it.
    """

    unit: str
    per_hour: float
    workers: float
    head: float
    head_per_hour: float
    renewing: bool = False
    renewed: float | None = None

    @property
    def maximum(self) -> float:
        """Without renewals."""
        return self.workers + self.head

    def show(self, amount: float) -> str:
        """Write an amount with its unit.

        >>> Price("SU", 96, 192, 0, 0).show(1234.567)
        '1,234.57 SU'
        """
        number = f"{amount:,.2f}".rstrip("0").rstrip(".")
        return f"{number} {self.unit.removesuffix('s') if number == '1' else self.unit}"


def charge(queue: Queue, ncpus: int, mem: int, hours: float, nodes: int = 1) -> float:
    """Charge a job as its site does.

    NCI's formula (opus page 236880942, "Job Costs"): rate x max(ncpus, mem / memory per core) x hours, where the memory
    per core is a node's, as charged, divided by a node's cores. Where memory is not charged, it is rate x ncpus x
    hours; where nodes are given whole, ncpus are the node's.

    Parameters
    ----------
    ncpus, mem : int
        Of each node; ``mem`` in bytes.
    hours : float
        Of walltime: the requested for the most that it can cost, the used for what it did.

    Examples
    --------
    >>> normal = Queue(ncpus=48, rate=2, charged_mem="192GB")
    >>> charge(normal, 8, 128 * 1024**3, 5)
    320.0
    """
    cores = float(queue.ncpus if queue.whole_nodes and queue.ncpus else ncpus)
    if queue.charged_mem is not None and queue.ncpus:
        cores = max(cores, mem / (parse_size(queue.charged_mem) / queue.ncpus))
    return queue.rate * cores * nodes * hours


def price(request: Request) -> Price:
    """Price a request."""
    worker, head = request.worker, request.head or request.own_head
    workers_per_hour = request.jobs * _per_hour(worker)
    head_per_hour = _per_hour(head) if head else 0.0
    return Price(
        unit=request.site.unit or "core-hours",
        per_hour=workers_per_hour + head_per_hour,
        workers=workers_per_hour * worker.walltime / 3600,
        head=head_per_hour * head.walltime / 3600 if head else 0.0,
        head_per_hour=head_per_hour,
        renewing=head is not None or request.here,
        renewed=(workers_per_hour + head_per_hour) * head.walltime / 3600 if head else None,
    )


def cost_of(job: Job, seconds: float) -> float:
    """Charge a job for so many seconds."""
    return charge(job.limits, job.ncpus, job.mem, seconds / 3600, job.nodes)


def _per_hour(job: Job) -> float:
    return cost_of(job, 3600)


@dataclass(frozen=True)
class Charged:
    """What a finished job has cost, and how much of that its idle cores were."""

    total: float
    idle: float


def charged(job: Job, walltime_used: float, busy_core_s: float) -> Charged:
    """Charge a finished job.

    Parameters
    ----------
    job : Job
        As it was requested: that is what is charged.
    walltime_used : float
        PBS's ``resources_used.walltime``, in seconds.
    busy_core_s : float
        Core-seconds in which a worker of the job computed a task: a task of a worker with four threads counts four.
    """
    total = cost_of(job, walltime_used)
    allocated = job.total_ncpus * walltime_used
    idle = 1 - min(1.0, busy_core_s / allocated) if allocated else 0.0
    return Charged(total, total * idle)
