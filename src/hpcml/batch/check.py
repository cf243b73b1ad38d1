"""The check of a request: every rule that it breaks, at once. A rule is a small function, in a table RULES."""

from __future__ import annotations

import fnmatch
import math
import os
import socket
from collections.abc import Iterator

from hpcml.batch import limits, text
from hpcml.batch.complaint import Complaint, Severity
from hpcml.batch.cost import price
from hpcml.batch.request import OWN_RULE, PBS_NOTATION, Request
from hpcml.spec import MIN_WORKER_MEMORY
from hpcml.units import format_size, format_walltime, parse_size, parse_walltime, pbs_size

# A walltime below this, in seconds, was hardly meant: 24:00 is not a day.
SHORT = 300

GIB = 1024**3


def check(request: Request) -> list[Complaint]:
    """List all that is wrong or doubtful with a request."""
    found = [complaint for rule in (*RULES, *text.RULES) for complaint in rule(request)]
    found += [complaint for job in request.all_jobs for rule in limits.RULES for complaint in rule(job, request)]
    if not request.strict:
        found = [complaint.demoted() if complaint.soft else complaint for complaint in found]
    return list(dict.fromkeys(found))


def _scheduler_is_there(request: Request) -> Iterator[Complaint]:
    site = request.site
    if request.scheduler not in site.schedulers:
        yield Complaint(
            f"cluster={request.scheduler}: {site.name} has {' and '.join(site.schedulers)}",
            f"use cluster={site.schedulers[0]}",
            site.source,
        )


def _project_is_known(request: Request) -> Iterator[Complaint]:
    site = request.site
    if request.worker.project is None and site.project_required:
        also = f", or set ${site.project_variable}" if site.project_variable else ""
        yield Complaint(
            f"cluster.project is not set: {site.name} takes no job without one",
            f"type cluster.project=...{also}",
            site.source,
        )


def _cores_are_shared_out(request: Request) -> Iterator[Complaint]:
    job, workers, threads = request.worker, request.workers_per_job, request.threads
    if job.ncpus == workers * threads or job.ncpus > (job.limits.ncpus or job.ncpus):
        return
    fewer = max(number for number in range(1, min(threads, job.ncpus) + 1) if job.ncpus % number == 0)
    remedy = f"use cluster.workers_per_job={job.ncpus // fewer} cluster.threads={fewer}"
    if workers * threads <= (job.limits.ncpus or workers * threads):
        remedy = f"use cluster.ncpus={workers * threads}, or {remedy.removeprefix('use ')}"
    yield Complaint(
        f"cluster.ncpus={job.ncpus}: is not workers_per_job={workers} x threads={threads}", remedy, OWN_RULE
    )


def _workers_can_live(request: Request) -> Iterator[Complaint]:
    job = request.worker
    if request.memory_limit >= MIN_WORKER_MEMORY or job.mem < 1024**2:
        return
    if job.ncpus > (job.limits.ncpus or 4096):
        return  # that is what is wrong
    wanted = math.ceil(request.least_mem / 1024**3)
    fitting = next(
        (
            number
            for number in range(request.workers_per_job, 0, -1)
            if job.ncpus % number == 0 and request.memory_limit * request.workers_per_job >= number * MIN_WORKER_MEMORY
        ),
        None,
    )
    yield Complaint(
        f"cluster.mem={pbs_size(job.mem)}: leaves each of {request.workers_per_job} workers "
        f"{format_size(request.memory_limit)}; imports alone take {format_size(MIN_WORKER_MEMORY)}, and Dask or PBS "
        "would kill it",
        f"use cluster.mem={wanted}GB"
        + (f", or cluster.workers_per_job={fitting} cluster.threads={job.ncpus // fitting}" if fitting else ""),
        OWN_RULE,
    )


def _cost_is_covered(request: Request) -> Iterator[Complaint]:
    cost, most = price(request), request.max_cost
    needed = cost.head + cost.workers * request.first_jobs / request.jobs
    if most is not None and needed > most:
        what = f"{request.first_jobs} worker job{'s' if request.first_jobs > 1 else ''}"
        if cost.head:
            what += " and the head"
        yield Complaint(
            f"cluster.max_cost={most:g}: {what} cost {cost.show(needed)} to their walltime",
            f"use cluster.max_cost={math.ceil(needed)}, fewer jobs, or a shorter cluster.walltime",
            OWN_RULE,
        )


def _quorum_can_come(request: Request) -> Iterator[Complaint]:
    if request.min_workers > request.workers:
        yield Complaint(
            f"cluster.min_workers={request.min_workers}: only {request.workers} workers are asked for",
            f"use cluster.min_workers={request.workers}, or more jobs",
            OWN_RULE,
        )


def _spill_has_a_disk(request: Request) -> Iterator[Complaint]:
    job, place = request.worker, request.local_directory or ""
    jobfs, most = job.jobfs or 0, job.limits.jobfs
    if most is None or "JOBFS" not in place or jobfs >= min(request.memory_limit, parse_size(most)):
        return
    yield Complaint(
        f"cluster.jobfs={pbs_size(jobfs)}: workers spill to {place}, and not even one worker's "
        f"{format_size(request.memory_limit)} has room there",
        f"use cluster.jobfs={pbs_size(min(job.mem, parse_size(most)))}, or leave it out",
        request.site.source,
        severity="error" if jobfs < GIB else "warning",
    )


def _walltime_is_meant(request: Request) -> Iterator[Complaint]:
    walltime = request.worker.walltime
    if walltime < SHORT:
        yield Complaint(
            f"cluster.walltime={format_walltime(walltime)}: is {walltime} seconds, in which workers hardly start",
            "two hours are 02:00:00, twenty minutes 00:20:00 or 20:00",
            PBS_NOTATION,
            severity="warning",
        )


def _storage_is_named(request: Request) -> Iterator[Complaint]:
    rules, site = request.site.storage, request.site
    for key, names in request.storages.items():
        said = f"{key}.storage={rules.separator.join(names)}"
        if rules.directive is None:
            if names:
                yield Complaint(f"{said}: {site.name} wants none named", f"leave {key}.storage out", site.source)
        elif not names and not (site.project_required and request.worker.project is None):
            yield Complaint(
                f"{key}.storage is empty: {site.name} wants -l {rules.directive}=",
                f"leave {key}.storage out, then it is what the paths of the run need",
                site.source,
            )
        elif all(rules.is_name(name) for name in names) and names:
            whole = rules.separator.join(dict.fromkeys([*names, *request.needs]))
            for name in [name for name in request.needs if name not in names]:
                yield Complaint(
                    f"{said}: does not name {name}, on which lies {request.needs[name]}",
                    f"use {key}.storage={whole}, or leave it out",
                    site.source,
                )


def _worker_jobs_fit_the_queue(request: Request) -> Iterator[Complaint]:
    job, limits, queue = request.worker, request.worker.limits, request.queue_of(request.worker)
    head = request.head if request.head is not None and request.head.limits is limits else None
    key, count = ("nodes", job.nodes) if job.nodes > 1 else ("jobs", request.jobs)
    also = ", of which the head takes one" if head else ""
    running_mem = parse_size(limits.max_running_mem) if limits.max_running_mem else None
    rules = [
        # at most, taken by each and by the head, in words
        ("lets", limits.max_queued, 1 / job.nodes, 1, f"jobs wait{also}"),
        ("runs", limits.max_running, 1 / job.nodes, 1, f"jobs at a time{also}"),
        ("runs", limits.max_running_ncpus, job.ncpus, head.ncpus if head else 0, "cores at a time"),
        ("runs", limits.max_running_ngpus, job.ngpus, 0, "GPUs at a time"),
        ("runs", running_mem, job.mem, head.mem if head else 0, "bytes of memory at a time"),
    ]
    fitting = [int((most - (own if head else 0)) / each) if most is not None and each else count
               for _, most, each, own, _ in rules]  # fmt: skip
    for (does, most, _, _, what), number in zip(rules, fitting, strict=True):
        if count > number:
            yield Complaint(
                f"cluster.{key}={count}: {queue} {does} {_amount(most, what)} {what}",
                f"use cluster.{key}={max(1, min(fitting))}",
                request.site.source,
                soft=True,
            )
            return  # the smallest number keeps to all of them


def _amount(most: float | None, what: str) -> str:
    return pbs_size(int(most or 0)) if what.startswith("bytes") else str(most)


# Directories that every node has for itself.
_NODE_LOCAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def _scratch_is_shared(request: Request) -> Iterator[Complaint]:
    scratch = request.places.scratch
    if request.site.project_required and request.worker.project is None:
        return  # with a project it will be another
    if any(scratch.startswith(f"{root}/") for root in (*_NODE_LOCAL, request.local_directory or _NODE_LOCAL[0])):
        yield Complaint(
            f"scratch={scratch}: lies on one node's own disk, where worker jobs on other nodes cannot see it",
            "use a directory of a shared file system: scratch=...",
            OWN_RULE,
            severity="warning",
        )


def _head_outlives_workers(request: Request) -> Iterator[Complaint]:
    head, worker = request.head, request.worker
    if head is None or head.walltime > worker.walltime:
        return
    most = head.limits.max_walltime(head.ncpus)
    capped = most is not None and head.walltime >= most
    if capped and worker.walltime > (worker.limits.max_walltime(worker.total_ncpus) or worker.walltime):
        return  # the workers' walltime is what is wrong
    severity: Severity = "warning" if head.walltime == worker.walltime else "error"
    wanted = worker.walltime + parse_walltime(request.site.head.wait)
    yield Complaint(
        f"head.walltime={format_walltime(head.walltime)}: worker jobs that wait in the queue would still be running, "
        f"for their walltime is {format_walltime(worker.walltime)}, when the head ends",
        f"use cluster.walltime={format_walltime(max(head.walltime - 3600, head.walltime // 2))}"
        if capped
        else f"use head.walltime={format_walltime(min(wanted, most or wanted))}",
        OWN_RULE,
        severity,
    )


def _head_can_live(request: Request) -> Iterator[Complaint]:
    head = request.head
    if head is not None and head.mem < MIN_WORKER_MEMORY:
        yield Complaint(
            f"head.mem={pbs_size(head.mem)}: scheduler and client take {format_size(MIN_WORKER_MEMORY)} for their "
            "imports alone, and hold the data",
            f"use head.mem={request.site.head.mem}",
            OWN_RULE,
        )


def _head_may_live_here(request: Request) -> Iterator[Complaint]:
    rules, site = request.site.head, request.site
    if not request.here or "PBS_JOBID" in os.environ or "SLURM_JOB_ID" in os.environ:
        return
    host = socket.gethostname().partition(".")[0]
    on_login = any(fnmatch.fnmatch(host, pattern) for pattern in rules.login_hosts)
    if rules.login_walltime is None or (site.is_here(request.scheduler) and not on_login):
        return
    most = parse_walltime(rules.login_walltime)
    if request.worker.walltime + parse_walltime(rules.wait) <= most:
        return
    yield Complaint(
        f"head.where=here: {f'{host} is' if on_login else 'if this is'} a login node, where {site.name} ends a process "
        f"after {format_walltime(most)}" + (f" or above {rules.login_mem}" if rules.login_mem else "")
        + f", and the worker jobs have {format_walltime(request.worker.walltime)} after their wait in the queue",
        "use head.where=job" + (f", or start it in {rules.elsewhere}" if rules.elsewhere else ""),
        site.source,
        severity="error" if on_login else "warning",
        soft=True,
    )  # fmt: skip


def _head_waits_for_money(request: Request) -> Iterator[Complaint]:
    head, worker, limits = request.head, request.worker, request.worker.limits
    if head is None:
        return
    cost = price(request)
    remedy = "ask for no more and no larger worker jobs than start soon"
    whole = limits.ncpus is not None and worker.ncpus == limits.ncpus
    total = request.jobs * worker.ncpus
    most = limits.max_walltime(total)
    if (
        (whole or request.jobs == 1 or request.site.dialect != "flat")
        and total <= (limits.max_ncpus or total)
        and limits.min_nodes <= request.jobs <= (limits.max_nodes or request.jobs)
        and (most is None or worker.walltime <= most)
    ):
        remedy = (
            f"all of it fits in one job, in which nothing waits for anything: cluster=allocation "
            f"cluster.nodes={request.jobs} in place of cluster.jobs"
        )
    yield Complaint(
        f"the head job costs {cost.show(cost.head_per_hour)} an hour, also while its worker jobs wait in the queue",
        remedy,
        OWN_RULE,
        severity="warning",
    )


def _wrapper_ignores(request: Request) -> Iterator[Complaint]:
    if request.scheduler == "pbs" and request.site.dialect == "wrapper":
        for key, value in {"ngpus": request.worker.ngpus, "jobfs": request.worker.jobfs}.items():
            if value:
                yield Complaint(
                    f"cluster.{key}={value if key == 'ngpus' else pbs_size(value)}: Slurm's qsub ignores it in silence",
                    "use cluster=slurm" if "slurm" in request.site.schedulers else f"leave cluster.{key} out",
                    "slurm-wlm-torque 22.05, measured",
                )


RULES = (
    _scheduler_is_there, _project_is_known, _cores_are_shared_out, _workers_can_live, _quorum_can_come,
    _spill_has_a_disk, _walltime_is_meant, _storage_is_named, _worker_jobs_fit_the_queue, _scratch_is_shared,
    _head_outlives_workers, _head_can_live, _head_may_live_here, _head_waits_for_money, _wrapper_ignores,
    _cost_is_covered,
)  # fmt: skip
