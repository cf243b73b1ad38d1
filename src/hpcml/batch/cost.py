"""Compute the maximum cost of a request, and the cost of finished jobs."""

from __future__ import annotations

from dataclasses import dataclass

from hpcml.batch.request import Job, Request
from hpcml.site import Queue


@dataclass(frozen=True)
class Price:
    """Cost of a request if all jobs run to their walltime once, in the site's unit.

    Parameters
    ----------
    per_hour : float
        Cost of an hour in which the head job and all worker jobs run.
    workers, head : float
        Cost of the full walltime. That of the head includes the hours that the workers wait.
    renewing : bool
        Whether worker jobs are renewed when their walltime ends and work remains.
    renewed : float or None
        Maximum cost with renewals, until the head job ends. None if the head is not in a job, so
        that no limit is known.
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
        """Maximum cost without renewals."""
        return self.workers + self.head

    def show(self, amount: float) -> str:
        """Render an amount with its unit.

        >>> Price("SU", 96, 192, 0, 0).show(1234.567)
        '1,234.57 SU'
        """
        number = f"{amount:,.2f}".rstrip("0").rstrip(".")
        return f"{number} {self.unit.removesuffix('s') if number == '1' else self.unit}"


def charge(queue: Queue, ncpus: int, mem: int, hours: float, nodes: int = 1) -> float:
    """Compute the charge for a job by the rules of its site.

    NCI's formula (opus page 236880942, "Job Costs") is rate x max(ncpus, mem / memory per core) x
    hours, in which the memory per core is the charged memory of a node divided by its cores.
    Without a charge for memory it is rate x ncpus x hours. On exclusive nodes, ncpus is that of the
    node.

    Parameters
    ----------
    ncpus, mem : int
        Amounts per node; ``mem`` in bytes.
    hours : float
        Requested walltime for the maximum cost, used walltime for the actual cost.

    Examples
    --------
    >>> normal = Queue(ncpus=48, rate=2, charged_mem="192GB")
    >>> charge(normal, 8, 128 * 1024**3, 5)
    320.0
    """
    cores = float(queue.ncpus if queue.whole_nodes and queue.ncpus else ncpus)
    if queue.charged_mem_bytes is not None and queue.ncpus:
        cores = max(cores, mem / (queue.charged_mem_bytes / queue.ncpus))
    return queue.rate * cores * nodes * hours


def price(request: Request) -> Price:
    """Compute the cost of a request."""
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
    """Compute the charge for a number of seconds of a job."""
    return charge(job.limits, job.ncpus, job.mem, seconds / 3600, job.nodes)


def _per_hour(job: Job) -> float:
    return cost_of(job, 3600)


@dataclass(frozen=True)
class Charged:
    """Cost of a finished job, in total and for its idle cores."""

    total: float
    idle: float


def charged(job: Job, walltime_used: float, busy_core_s: float) -> Charged:
    """Compute the cost of a finished job.

    Parameters
    ----------
    job : Job
        The job as requested, since sites charge for requested resources.
    walltime_used : float
        PBS's ``resources_used.walltime``, in seconds.
    busy_core_s : float
        Core-seconds in which a worker of the job executed a task: a task on a worker with four
        threads counts as four cores.
    """
    total = cost_of(job, walltime_used)
    allocated = job.total_ncpus * walltime_used
    idle = 1 - min(1.0, busy_core_s / allocated) if allocated else 0.0
    return Charged(total, total * idle)
