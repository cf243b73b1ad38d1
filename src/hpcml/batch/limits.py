"""Rules that compare each job, worker or head, with the limits of its queue."""

from __future__ import annotations

from collections.abc import Iterator

from hpcml.batch.cost import charge
from hpcml.batch.diagnostic import Diagnostic
from hpcml.batch.request import PBS_NOTATION, Job, Request
from hpcml.batch.script_text import is_queue_name
from hpcml.errors import nearest
from hpcml.site import Queue
from hpcml.units import count, format_walltime, parse_size, pbs_size


def _queue_exists(job: Job, request: Request) -> Iterator[Diagnostic]:
    site = request.site
    if job.key == "head" and job.queue == request.worker.queue:
        return
    if job.queue is None and not site.routed and not site.open_ended:
        choices = ", ".join(site.queues)
        yield Diagnostic(f"{job.key}.queue is not set", f"type {job.key}.queue=..., one of: {choices}", site.source)
    elif job.queue is not None and is_queue_name(job.queue) and job.queue not in site.queues and not site.open_ended:
        yield Diagnostic(
            f"{job.key}.queue={job.queue!r}: {site.name} has no such queue",
            nearest(job.queue, site.queues),
            site.source,
            soft=True,
        )


def _node_has_the_cores(job: Job, request: Request) -> Iterator[Diagnostic]:
    most = job.limits.ncpus
    if most is None or job.ncpus <= most or _gpus_are_too_many(job):
        return
    if job.key == "head":
        remedy = f"use head.ncpus={request.site.head.ncpus}, or leave it out"
    elif job.nodes > 1:
        remedy = f"use cluster.ncpus={most} cluster.nodes={-(-job.total_ncpus // most)}"
    else:
        jobs = -(-max(1, request.jobs) * job.ncpus // most)
        remedy = f"use cluster.ncpus={most} cluster.jobs={jobs}; a job on several nodes needs cluster=allocation"
    where = "" if job.nodes > 1 else f", and a {_kind(job)} job runs on one node"
    yield Diagnostic(
        f"{job.key}.ncpus={job.ncpus}: a node of {request.queue_of(job)} has {count(most, 'core')}{where}",
        remedy,
        request.site.source,
    )


def _cores_can_be_allocated(job: Job, request: Request) -> Iterator[Diagnostic]:
    limits, queue = job.limits, request.queue_of(job)
    if limits.ncpus is None or job.ncpus > limits.ncpus or _gpus_are_too_many(job):
        return  # Another rule reports the number.
    if limits.whole_nodes and job.ncpus != limits.ncpus:
        yield Diagnostic(
            f"{job.key}.ncpus={job.ncpus}: {queue} allocates whole nodes only, of {limits.ncpus} cores",
            f"use {job.key}.ncpus={limits.ncpus}", request.site.source, soft=True,
        )  # fmt: skip
    elif job.ncpus % limits.ncpus_multiple:
        multiple = limits.ncpus_multiple
        near = max(multiple, round(job.ncpus / multiple) * multiple)
        yield Diagnostic(
            f"{job.key}.ncpus={job.ncpus}: {queue} requires a multiple of {multiple}", f"use {job.key}.ncpus={near}",
            request.site.source, soft=True,
        )  # fmt: skip
    elif job.nodes > 1 and request.site.dialect == "flat" and job.ncpus != limits.ncpus:
        yield Diagnostic(
            f"cluster.ncpus={job.ncpus}: on several nodes {queue} allocates whole nodes only, of {limits.ncpus} cores",
            f"use cluster.ncpus={limits.ncpus}", request.site.source, soft=True,
        )  # fmt: skip


def _gpus_are_too_many(job: Job) -> bool:
    """Return whether a job asks for more GPUs than a node has, so that its cores are too many as well."""
    return bool(job.limits.ncpus_per_gpu) and job.ngpus > job.limits.ngpus


def _job_has_few_enough_cores(job: Job, request: Request) -> Iterator[Diagnostic]:
    limits = job.limits
    if limits.max_ncpus is not None and job.total_ncpus > limits.max_ncpus and job.ncpus <= (limits.ncpus or job.ncpus):
        nodes = max(1, limits.max_ncpus // max(1, job.ncpus))
        yield Diagnostic(
            f"cluster.nodes={job.nodes}: {count(job.total_ncpus, 'core')}, and {request.queue_of(job)} allows a job "
            f"at most {limits.max_ncpus}",
            f"use cluster.nodes={nodes}", request.site.source, soft=True,
        )  # fmt: skip


def _job_has_few_enough_nodes(job: Job, request: Request) -> Iterator[Diagnostic]:
    most = job.limits.max_nodes
    if most is not None and job.nodes > most:
        yield Diagnostic(
            f"cluster.nodes={job.nodes}: {request.queue_of(job)} allows a job at most {count(most, 'node')}",
            f"use cluster.nodes={most}{_others(job, request)}", request.site.source, soft=True,
        )  # fmt: skip


def _job_has_enough_nodes(job: Job, request: Request) -> Iterator[Diagnostic]:
    least = job.limits.min_nodes
    if job.nodes >= least or (job.key == "head" and job.queue == request.worker.queue):
        return
    nodes = f"a {_kind(job)} job runs on one" if job.nodes == 1 else f"this one has {job.nodes}"
    remedy = f"use cluster=allocation cluster.nodes={least}{_others(job, request)}"
    if job.key == "head":
        remedy = "use cluster=allocation, or another head.queue"
    yield Diagnostic(
        f"{job.key}.queue={job.queue}: {request.queue_of(job)} requires at least {count(least, 'node')} per job, and "
        f"{nodes}",
        remedy, request.site.source, soft=True,
    )  # fmt: skip


def _walltime_is_allowed(job: Job, request: Request) -> Iterator[Diagnostic]:
    most = job.limits.max_walltime(job.total_ncpus)
    if most is not None and job.walltime > most:
        longest = max((tier.ncpus or 0 for tier in job.limits.tiers if tier.seconds >= job.walltime),
                      default=0)  # fmt: skip
        fewer = f", or {longest} cores or fewer in a job" if longest else ""
        yield Diagnostic(
            f"{job.key}.walltime={format_walltime(job.walltime)}: {request.queue_of(job)} allows a job of "
            f"{count(job.total_ncpus, 'core')} at most {format_walltime(most)}",
            f"use {job.key}.walltime={format_walltime(most)}{fewer}", request.site.source, soft=True,
        )  # fmt: skip


def _sizes_have_units(job: Job, request: Request) -> Iterator[Diagnostic]:  # noqa: ARG001
    if job.mem < 1024**2:
        yield _bare_number(job, "mem", job.mem, job.limits.mem_bytes)
    if job.jobfs is not None and 0 < job.jobfs < 1024:
        yield _bare_number(job, "jobfs", job.jobfs, job.limits.jobfs_bytes)


def _bare_number(job: Job, key: str, size: int, most: int | None) -> Diagnostic:
    meant = [f"{size}{unit}" for unit in ("GB", "MB") if 0 < parse_size(f"{size}{unit}") <= (most or 1024**4)]
    remedy = f"did you mean {job.key}.{key}={meant[0]}?" if meant else "write the unit, for example 4GB"
    return Diagnostic(f"{job.key}.{key}={size}: a bare number is bytes", remedy, PBS_NOTATION)


def _node_has_the_memory(job: Job, request: Request) -> Iterator[Diagnostic]:
    most = job.limits.mem_bytes
    if most is None or job.mem <= most:
        return
    larger = sorted(
        (name for name, queue in request.site.queues.items() if _takes(queue, job)),
        key=lambda name: charge(request.site.queues[name], job.ncpus, job.mem, 1),
    )
    queue = f", or {job.key}.queue={larger[0]}" if larger else ""
    yield Diagnostic(
        f"{job.key}.mem={pbs_size(job.mem)}: a node of {request.queue_of(job)} has at most {job.limits.mem}",
        f"use {job.key}.mem={job.limits.mem}{queue}",
        request.site.source,
        soft=True,
    )


def _node_has_the_disk(job: Job, request: Request) -> Iterator[Diagnostic]:
    site, most = request.site, job.limits.jobfs_bytes
    if most is not None and (job.jobfs or 0) > most:
        yield Diagnostic(
            f"{job.key}.jobfs={pbs_size(job.jobfs or 0)}: a node of {request.queue_of(job)} has at most "
            f"{job.limits.jobfs}",
            f"use {job.key}.jobfs={job.limits.jobfs}",
            site.source,
            soft=True,
        )
    if most is None and job.jobfs and site.queues and not site.open_ended:
        yield Diagnostic(
            f"{job.key}.jobfs={pbs_size(job.jobfs)}: {site.name} has no such resource",
            f"leave it out; workers spill to {request.local_directory or '$TMPDIR'}",
            site.source,
        )


def _node_has_the_gpus(job: Job, request: Request) -> Iterator[Diagnostic]:
    if _gpus_are_possible(job, request):
        return
    most = job.limits.ngpus
    with_gpus = [name for name, queue in request.site.queues.items() if queue.ngpus]
    if most:
        remedy = f"use {job.key}.ngpus={most}"
    elif with_gpus:
        remedy = f"use {job.key}.queue={with_gpus[0]}"
    else:
        remedy = f"leave {job.key}.ngpus out"
    yield Diagnostic(
        f"{job.key}.ngpus={job.ngpus}: a node of {request.queue_of(job)} has "
        f"{count(most, 'GPU') if most else 'no GPUs'}",
        remedy,
        request.site.source,
    )


def _gpus_are_possible(job: Job, request: Request) -> bool:
    known = bool(request.site.queues) and not request.site.open_ended
    return job.ngpus >= 0 and (job.ngpus <= job.limits.ngpus or not known)


def _cores_match_the_gpus(job: Job, request: Request) -> Iterator[Diagnostic]:
    limits = job.limits
    each = limits.ncpus_per_gpu
    if each is None or job.ncpus == each * job.ngpus or not _gpus_are_possible(job, request):
        return
    ngpus = min(limits.ngpus, max(1, job.ngpus or round(job.ncpus / each)))
    yield Diagnostic(
        f"{job.key}.ncpus={job.ncpus}: {request.queue_of(job)} requires {count(each, 'core')} per GPU, and "
        f"ngpus={job.ngpus}",
        f"use cluster.ngpus={ngpus} cluster.ncpus={each * ngpus}" if job.key == "cluster"
        else f"use head.ncpus={each}, or another head.queue",
        request.site.source, soft=True,
    )  # fmt: skip


def _takes(queue: Queue, job: Job) -> bool:
    """Return whether a queue has the memory and cores for a job without GPUs."""
    return (
        queue.ngpus == 0
        and (queue.mem_bytes or 0) >= job.mem
        and (queue.ncpus or 0) >= job.ncpus
        and job.ncpus % queue.ncpus_multiple == 0
    )


def _kind(job: Job) -> str:
    return "head" if job.key == "head" else "worker"


def _others(job: Job, request: Request) -> str:
    """Return a hint that names another queue for this many nodes, or an empty string."""
    fitting = [name for name, queue in request.site.queues.items()
               if queue.min_nodes <= job.nodes <= (queue.max_nodes or job.nodes) and name != job.queue]  # fmt: skip
    return f", or {job.key}.queue={fitting[0]}" if fitting else ""


RULES = (
    _queue_exists,
    _node_has_the_cores,
    _cores_can_be_allocated,
    _job_has_few_enough_cores,
    _job_has_few_enough_nodes,
    _job_has_enough_nodes,
    _walltime_is_allowed,
    _sizes_have_units,
    _node_has_the_memory,
    _node_has_the_disk,
    _node_has_the_gpus,
    _cores_match_the_gpus,
)
