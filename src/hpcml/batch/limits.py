"""Rules of the check: what the site's queue gives to each job, the workers' and the head's."""

from __future__ import annotations

from collections.abc import Iterator

from hpcml.batch.complaint import Complaint
from hpcml.batch.cost import charge
from hpcml.batch.request import PBS_NOTATION, Job, Request
from hpcml.batch.text import is_queue_name
from hpcml.errors import nearest
from hpcml.site import Queue
from hpcml.units import format_walltime, parse_size, parse_walltime, pbs_size


def _queue_is_known(job: Job, request: Request) -> Iterator[Complaint]:
    site = request.site
    if job.key == "head" and job.queue == request.worker.queue:
        return
    if job.queue is None and not site.routed and not site.open_ended:
        choices = ", ".join(site.queues)
        yield Complaint(f"{job.key}.queue is not set", f"type {job.key}.queue=...: {choices}", site.source)
    elif job.queue is not None and is_queue_name(job.queue) and job.queue not in site.queues and not site.open_ended:
        yield Complaint(
            f"{job.key}.queue={job.queue!r}: {site.name} has no such queue",
            nearest(job.queue, site.queues),
            site.source,
            soft=True,
        )


def _node_has_the_cores(job: Job, request: Request) -> Iterator[Complaint]:
    limits = job.limits
    if limits.ncpus is None:
        return
    queue = request.queue_of(job)
    if limits.ncpus_per_gpu and job.ngpus > limits.ngpus:
        return  # the cores follow from the GPUs
    if job.ncpus > limits.ncpus:
        if job.key == "head":
            remedy = f"use head.ncpus={request.site.head.ncpus}, or leave it out"
        elif job.nodes > 1:
            remedy = f"use cluster.ncpus={limits.ncpus} cluster.nodes={-(-job.total_ncpus // limits.ncpus)}"
        else:
            jobs = -(-max(1, request.jobs) * job.ncpus // limits.ncpus)
            remedy = (
                f"use cluster.ncpus={limits.ncpus} cluster.jobs={jobs}; several nodes in one job only with "
                "cluster=allocation"
            )
        what = "one node of an allocation" if job.nodes > 1 else f"a {_kind(job)} job lives on one node"
        yield Complaint(
            f"{job.key}.ncpus={job.ncpus}: {what} and {queue} has {limits.ncpus}", remedy, request.site.source
        )
    elif limits.whole_nodes and job.ncpus != limits.ncpus:
        yield Complaint(
            f"{job.key}.ncpus={job.ncpus}: {queue} gives whole nodes only, of {limits.ncpus}",
            f"use {job.key}.ncpus={limits.ncpus}", request.site.source, soft=True,
        )  # fmt: skip
    elif job.ncpus % limits.step:
        near = max(limits.step, round(job.ncpus / limits.step) * limits.step)
        yield Complaint(
            f"{job.key}.ncpus={job.ncpus}: {queue} takes multiples of {limits.step}", f"use {job.key}.ncpus={near}",
            request.site.source, soft=True,
        )  # fmt: skip
    elif job.nodes > 1 and request.site.dialect == "flat" and job.ncpus != limits.ncpus:
        yield Complaint(
            f"cluster.ncpus={job.ncpus}: a job on several nodes of {queue} takes whole ones, of {limits.ncpus}",
            f"use cluster.ncpus={limits.ncpus}", request.site.source, soft=True,
        )  # fmt: skip


def _job_is_not_too_large(job: Job, request: Request) -> Iterator[Complaint]:
    limits, queue = job.limits, request.queue_of(job)
    if limits.max_ncpus is not None and job.total_ncpus > limits.max_ncpus and job.ncpus <= (limits.ncpus or job.ncpus):
        nodes = max(1, limits.max_ncpus // max(1, job.ncpus))
        yield Complaint(
            f"cluster.nodes={job.nodes}: {job.total_ncpus} cores, and {queue} gives a job {limits.max_ncpus} at most",
            f"use cluster.nodes={nodes}", request.site.source, soft=True,
        )  # fmt: skip
    if limits.max_nodes is not None and job.nodes > limits.max_nodes:
        yield Complaint(
            f"cluster.nodes={job.nodes}: {queue} gives a job {limits.max_nodes} nodes at most",
            f"use cluster.nodes={limits.max_nodes}{_others(job, request)}", request.site.source, soft=True,
        )  # fmt: skip
    if job.nodes < limits.min_nodes and (job.key == "cluster" or job.queue != request.worker.queue):
        needs = f"{queue} takes jobs of {limits.min_nodes} nodes at least, and"
        text = f"{needs} a {_kind(job)} job lives on one" if job.nodes == 1 else f"{needs} this one has {job.nodes}"
        remedy = f"use cluster=allocation cluster.nodes={limits.min_nodes}{_others(job, request)}"
        if job.key == "head":
            remedy = "use cluster=allocation, or another head.queue"
        yield Complaint(f"{job.key}.queue={job.queue}: {text}", remedy, request.site.source, soft=True)


def _walltime_is_allowed(job: Job, request: Request) -> Iterator[Complaint]:
    most = job.limits.max_walltime(job.total_ncpus)
    if most is not None and job.walltime > most:
        longest = max((tier.ncpus or 0 for tier in job.limits.tiers if parse_walltime(tier.walltime) >= job.walltime),
                      default=0)  # fmt: skip
        fewer = f", or {longest} cores or fewer in a job" if longest else ""
        yield Complaint(
            f"{job.key}.walltime={format_walltime(job.walltime)}: {request.queue_of(job)} gives a job of "
            f"{job.total_ncpus} cores {format_walltime(most)} at most",
            f"use {job.key}.walltime={format_walltime(most)}{fewer}", request.site.source, soft=True,
        )  # fmt: skip


def _node_has_the_memory(job: Job, request: Request) -> Iterator[Complaint]:
    limits = job.limits
    for key, size in (("mem", job.mem), ("jobfs", job.jobfs)):
        if size is not None and (size < 1024**2 if key == "mem" else 0 < size < 1024):
            top = parse_size((limits.mem if key == "mem" else limits.jobfs) or "1TB")
            meant = [f"{size}{unit}" for unit in ("GB", "MB") if 0 < parse_size(f"{size}{unit}") <= top]
            remedy = f"did you mean {job.key}.{key}={meant[0]}?" if meant else "write the unit, for example 4GB"
            yield Complaint(f"{job.key}.{key}={size}: a bare number is bytes", remedy, PBS_NOTATION)
    for key, asked, most in (("mem", job.mem, limits.mem), ("jobfs", job.jobfs or 0, limits.jobfs)):
        if most is not None and asked > parse_size(most):
            larger = sorted(
                (name for name, queue in request.site.queues.items() if key == "mem" and _takes(queue, job)),
                key=lambda name: charge(request.site.queues[name], job.ncpus, job.mem, 1),
            )
            yield Complaint(
                f"{job.key}.{key}={pbs_size(asked)}: a node of {request.queue_of(job)} gives {most} at most",
                f"use {job.key}.{key}={most}" + (f", or {job.key}.queue={larger[0]}" if larger else ""),
                request.site.source, soft=True,
            )  # fmt: skip
    if limits.jobfs is None and job.jobfs and request.site.queues and not request.site.open_ended:
        yield Complaint(
            f"{job.key}.jobfs={pbs_size(job.jobfs)}: {request.site.name} has no such resource",
            f"leave it out; workers spill to {request.local_directory or '$TMPDIR'}", request.site.source,
        )  # fmt: skip


def _gpus_are_there(job: Job, request: Request) -> Iterator[Complaint]:
    limits, queue = job.limits, request.queue_of(job)
    each = limits.ncpus_per_gpu
    known = bool(request.site.queues) and not request.site.open_ended
    if job.ngpus < 0 or (job.ngpus > limits.ngpus and known):
        with_gpus = [name for name, other in request.site.queues.items() if other.ngpus]
        remedy = f"use {job.key}.ngpus={limits.ngpus}" if limits.ngpus else (
            f"use {job.key}.queue={with_gpus[0]}" if with_gpus else f"leave {job.key}.ngpus out"
        )  # fmt: skip
        yield Complaint(
            f"{job.key}.ngpus={job.ngpus}: a node of {queue} has {limits.ngpus or 'none'}", remedy, request.site.source
        )
    elif each is not None and job.ncpus != each * job.ngpus:
        ngpus = min(limits.ngpus, max(1, job.ngpus or round(job.ncpus / each)))
        yield Complaint(
            f"{job.key}.ncpus={job.ncpus}: {queue} wants {each} for each GPU, and ngpus={job.ngpus}",
            f"use cluster.ngpus={ngpus} cluster.ncpus={each * ngpus}" if job.key == "cluster"
            else f"use head.ncpus={each}, or another head.queue",
            request.site.source, soft=True,
        )  # fmt: skip


def _takes(queue: Queue, job: Job) -> bool:
    """Tell whether a queue has the memory and the cores for a job that wants no GPU."""
    return (
        queue.ngpus == 0
        and parse_size(queue.mem or 0) >= job.mem
        and (queue.ncpus or 0) >= job.ncpus
        and job.ncpus % queue.step == 0
    )


def _kind(job: Job) -> str:
    return "head" if job.key == "head" else "worker"


def _others(job: Job, request: Request) -> str:
    """Name the queues that take a job of so many nodes."""
    fitting = [name for name, queue in request.site.queues.items()
               if queue.min_nodes <= job.nodes <= (queue.max_nodes or job.nodes) and name != job.queue]  # fmt: skip
    return f", or {job.key}.queue={fitting[0]}" if fitting else ""


RULES = (
    _queue_is_known, _node_has_the_cores, _job_is_not_too_large, _walltime_is_allowed, _node_has_the_memory,
    _gpus_are_there,
)  # fmt: skip
