"""Validate a request: run every rule and report all diagnostics together."""

from __future__ import annotations

import fnmatch
import math
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpcml.batch import limits, script_text
from hpcml.batch.cost import price
from hpcml.batch.diagnostic import Diagnostic, Severity
from hpcml.batch.request import OWN_RULE, PBS_NOTATION, Request
from hpcml.batch.schedulers import SCHEDULERS, current_job, scheduler_of
from hpcml.site import HeadRules
from hpcml.spec import MIN_WORKER_MEMORY
from hpcml.units import count, format_size, format_walltime, pbs_size

# A walltime below this many seconds is probably a mistake: 24:00 is not a day.
SHORT = 300

GIB = 1024**3


def check(request: Request) -> list[Diagnostic]:
    """Return all diagnostics for a request, errors and warnings."""
    found = [diagnostic for rule in (*RULES, *script_text.RULES) for diagnostic in rule(request)]
    found += [diagnostic for job in request.all_jobs for rule in limits.RULES for diagnostic in rule(job, request)]
    if not request.strict:
        found = [diagnostic.demoted() if diagnostic.soft else diagnostic for diagnostic in found]
    return list(dict.fromkeys(found))


def _scheduler_exists(request: Request) -> Iterator[Diagnostic]:
    site = request.site
    if request.scheduler not in site.schedulers:
        yield Diagnostic(
            f"cluster={request.scheduler}: {site.name} uses {' and '.join(site.schedulers)}",
            f"use cluster={site.schedulers[0]}",
            site.source,
        )


def _project_is_set(request: Request) -> Iterator[Diagnostic]:
    site = request.site
    if request.worker.project is None and site.project_required:
        also = f", or set ${site.project_variable}" if site.project_variable else ""
        yield Diagnostic(
            f"cluster.project is not set: {site.name} rejects jobs without a project",
            f"type cluster.project=...{also}",
            site.source,
        )


def _cores_are_divided(request: Request) -> Iterator[Diagnostic]:
    job, workers, threads = request.worker, request.workers_per_job, request.threads
    if job.ncpus == workers * threads or job.ncpus > (job.limits.ncpus or job.ncpus):
        return
    fewer = max(number for number in range(1, min(threads, job.ncpus) + 1) if job.ncpus % number == 0)
    remedy = f"use cluster.workers_per_job={job.ncpus // fewer} cluster.threads={fewer}"
    if workers * threads <= (job.limits.ncpus or workers * threads):
        remedy = f"use cluster.ncpus={workers * threads}, or {remedy.removeprefix('use ')}"
    yield Diagnostic(
        f"cluster.ncpus={job.ncpus}: must be workers_per_job={workers} x threads={threads}", remedy, OWN_RULE
    )


def _workers_have_memory(request: Request) -> Iterator[Diagnostic]:
    job = request.worker
    if request.memory_limit >= MIN_WORKER_MEMORY or job.mem < 1024**2:
        return
    if job.ncpus > (job.limits.ncpus or 4096):
        return  # Another rule reports the number of cores.
    wanted = math.ceil(request.least_mem / 1024**3)
    fitting = next(
        (
            number
            for number in range(request.workers_per_job, 0, -1)
            if job.ncpus % number == 0 and request.memory_limit * request.workers_per_job >= number * MIN_WORKER_MEMORY
        ),
        None,
    )
    yield Diagnostic(
        f"cluster.mem={pbs_size(job.mem)}: leaves {format_size(request.memory_limit)} for "
        f"{'the worker' if request.workers_per_job == 1 else f'each of {request.workers_per_job} workers'}; imports "
        f"alone need {format_size(MIN_WORKER_MEMORY)}, so Dask or PBS would kill the worker",
        f"use cluster.mem={wanted}GB"
        + (f", or cluster.workers_per_job={fitting} cluster.threads={job.ncpus // fitting}" if fitting else ""),
        OWN_RULE,
    )


def _cost_is_within_budget(request: Request) -> Iterator[Diagnostic]:
    cost, most = price(request), request.max_cost
    needed = cost.head + cost.workers * request.first_jobs / request.jobs
    if most is not None and needed > most:
        what = count(request.first_jobs, "worker job")
        if cost.head:
            what += " and the head job"
        yield Diagnostic(
            f"cluster.max_cost={most:g}: {what} can cost {cost.show(needed)} for the full walltime",
            f"use cluster.max_cost={math.ceil(needed)}, fewer jobs, or a shorter cluster.walltime",
            OWN_RULE,
        )


def _quorum_is_possible(request: Request) -> Iterator[Diagnostic]:
    if request.min_workers > request.workers:
        yield Diagnostic(
            f"cluster.min_workers={request.min_workers}: the request has only {count(request.workers, 'worker')}",
            f"use cluster.min_workers={request.workers}, or more jobs",
            OWN_RULE,
        )


def _spill_fits_on_disk(request: Request) -> Iterator[Diagnostic]:
    job, place = request.worker, request.local_directory or ""
    jobfs, most = job.jobfs or 0, job.limits.jobfs_bytes
    if most is None or "JOBFS" not in place or jobfs >= min(request.memory_limit, most):
        return
    yield Diagnostic(
        f"cluster.jobfs={pbs_size(jobfs)}: workers spill to {place}, which is smaller than the memory of one "
        f"worker, {format_size(request.memory_limit)}",
        f"use cluster.jobfs={pbs_size(min(job.mem, most))}, or leave it out",
        request.site.source,
        severity="error" if jobfs < GIB else "warning",
    )


def _walltime_is_plausible(request: Request) -> Iterator[Diagnostic]:
    walltime = request.worker.walltime
    if walltime < SHORT:
        yield Diagnostic(
            f"cluster.walltime={format_walltime(walltime)}: {walltime} seconds are hardly enough to start workers",
            "write two hours as 02:00:00, twenty minutes as 00:20:00 or 20:00",
            PBS_NOTATION,
            severity="warning",
        )


def _storage_is_named(request: Request) -> Iterator[Diagnostic]:
    rules, site = request.site.storage, request.site
    for key, names in request.storages.items():
        if rules.directive is None:
            if names:
                yield Diagnostic(
                    f"{key}.storage={rules.separator.join(names)}: jobs at {site.name} do not name their storage",
                    f"leave {key}.storage out",
                    site.source,
                )
        elif names:
            yield from _storage_is_complete(request, key, names)
        elif not (site.project_required and request.worker.project is None):
            yield Diagnostic(
                f"{key}.storage is empty: {site.name} requires -l {rules.directive}=",
                f"leave {key}.storage out to have it derived from the paths of the run",
                site.source,
            )


def _storage_is_complete(request: Request, key: str, names: Sequence[str]) -> Iterator[Diagnostic]:
    rules = request.site.storage
    if not all(map(rules.is_name, names)):
        return  # Another rule reports the names.
    whole = rules.separator.join(dict.fromkeys([*names, *request.needs]))
    for name, holds in request.needs.items():
        if name not in names:
            yield Diagnostic(
                f"{key}.storage={rules.separator.join(names)}: does not include {name}, which holds {holds}",
                f"use {key}.storage={whole}, or leave it out",
                request.site.source,
            )


@dataclass(frozen=True)
class _SharedLimit:
    """A limit of a queue on all jobs of a run together.

    Parameters
    ----------
    each, head : float
        How much of it a node of a worker job uses, and how much the head job.
    text : str
        The limit, for messages, with the verb: ``runs 10 jobs at a time``.
    """

    most: int | None
    each: float
    head: float
    text: str

    def fitting(self, requested: int) -> int:
        """Return how many of the requested jobs, or nodes of an allocation, fit."""
        return requested if self.most is None or not self.each else int((self.most - self.head) / self.each)


def _shared_limits(request: Request) -> list[_SharedLimit]:
    job, limits = request.worker, request.worker.limits
    head = request.head if request.head is not None and request.head.limits is limits else None
    jobs, ncpus, mem = (1, head.ncpus, head.mem) if head else (0, 0, 0)
    also = ", including the head job" if head else ""
    queued, running = limits.max_queued, limits.max_running
    return [
        _SharedLimit(queued, 1 / job.nodes, jobs, f"allows {count(queued or 0, 'queued job')}{also}"),
        _SharedLimit(running, 1 / job.nodes, jobs, f"runs {count(running or 0, 'job')} at a time{also}"),
        _SharedLimit(limits.max_running_ncpus, job.ncpus, ncpus,
                     f"runs {count(limits.max_running_ncpus or 0, 'core')} at a time"),
        _SharedLimit(limits.max_running_ngpus, job.ngpus, 0,
                     f"runs {count(limits.max_running_ngpus or 0, 'GPU')} at a time"),
        _SharedLimit(limits.max_running_mem_bytes, job.mem, mem,
                     f"runs {pbs_size(limits.max_running_mem_bytes or 0)} of memory at a time"),
    ]  # fmt: skip


def _worker_jobs_fit_the_queue(request: Request) -> Iterator[Diagnostic]:
    job = request.worker
    key, requested = ("nodes", job.nodes) if job.nodes > 1 else ("jobs", request.jobs)
    limits = _shared_limits(request)
    exceeded = [limit for limit in limits if limit.fitting(requested) < requested]
    if exceeded:
        fitting = min(limit.fitting(requested) for limit in exceeded)  # The remedy respects all limits.
        yield Diagnostic(
            f"cluster.{key}={requested}: {request.queue_of(job)} {exceeded[0].text}",
            f"use cluster.{key}={max(1, fitting)}",
            request.site.source,
            soft=True,
        )


# Directories that are local to each node.
_NODE_LOCAL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def _scratch_is_shared(request: Request) -> Iterator[Diagnostic]:
    scratch = request.places.scratch
    if request.site.project_required and request.worker.project is None:
        return  # The project, once set, changes the default scratch.
    if any(scratch.startswith(f"{root}/") for root in (*_NODE_LOCAL, request.local_directory or _NODE_LOCAL[0])):
        yield Diagnostic(
            f"scratch={scratch}: is on a node's local disk, which worker jobs on other nodes cannot read",
            "use a directory of a shared file system: scratch=...",
            OWN_RULE,
            severity="warning",
        )


def _head_outlasts_workers(request: Request) -> Iterator[Diagnostic]:
    head, worker = request.head, request.worker
    if head is None or head.walltime > worker.walltime:
        return
    most = head.limits.max_walltime(head.ncpus)
    capped = most is not None and head.walltime >= most
    if capped and worker.walltime > (worker.limits.max_walltime(worker.total_ncpus) or worker.walltime):
        return  # Another rule reports the walltime of the worker jobs.
    severity: Severity = "warning" if head.walltime == worker.walltime else "error"
    wanted = worker.walltime + request.site.head.wait_seconds
    yield Diagnostic(
        f"head.walltime={format_walltime(head.walltime)}: the head job would end before worker jobs that wait in the "
        f"queue, which have a walltime of {format_walltime(worker.walltime)}",
        f"use cluster.walltime={format_walltime(max(head.walltime - 3600, head.walltime // 2))}"
        if capped
        else f"use head.walltime={format_walltime(min(wanted, most or wanted))}",
        OWN_RULE,
        severity,
    )


def _head_has_memory(request: Request) -> Iterator[Diagnostic]:
    head = request.head
    if head is not None and head.mem < MIN_WORKER_MEMORY:
        yield Diagnostic(
            f"head.mem={pbs_size(head.mem)}: scheduler and client need {format_size(MIN_WORKER_MEMORY)} for imports "
            "alone, and memory for the data",
            f"use head.mem={request.site.head.mem}",
            OWN_RULE,
        )


def _head_may_run_here(request: Request) -> Iterator[Diagnostic]:
    rules, site = request.site.head, request.site
    if not request.here or current_job() is not None:
        return
    host = _login_host(rules)
    if host is None and scheduler_of(site, request.scheduler).is_here():
        return
    most = rules.login_seconds
    if most is None or request.worker.walltime + rules.wait_seconds <= most:
        return
    where = f", or start it in {rules.elsewhere}" if rules.elsewhere else ""
    yield Diagnostic(
        f"head.where=here: {f'{host} is' if host else 'if this is'} a login node, where {site.name} kills a "
        f"process after {format_walltime(most)}{_or_above(rules.login_mem)}; the worker jobs wait in the queue and "
        f"then have {format_walltime(request.worker.walltime)}",
        f"use head.where=job{where}",
        site.source,
        severity="error" if host else "warning",
        soft=True,
    )  # fmt: skip


def _login_host(rules: HeadRules) -> str | None:
    """Return this host's name if it is a login node of the site, else None."""
    host = socket.gethostname().partition(".")[0]
    return host if any(fnmatch.fnmatch(host, pattern) for pattern in rules.login_hosts) else None


def _or_above(memory: str | None) -> str:
    return f" or above {memory}" if memory else ""


def _head_job_costs_while_waiting(request: Request) -> Iterator[Diagnostic]:
    if request.head is None:
        return
    cost = price(request)
    remedy = "request only worker jobs that start soon: fewer, or smaller"
    if _fits_in_one_job(request):
        remedy = (
            f"the request fits in one job, in which the head does not wait for workers: cluster=allocation "
            f"cluster.nodes={request.jobs} instead of cluster.jobs"
        )
    yield Diagnostic(
        f"the head job costs {cost.show(cost.head_per_hour)} per hour, even while its worker jobs wait in the queue",
        remedy,
        OWN_RULE,
        severity="warning",
    )


def _fits_in_one_job(request: Request) -> bool:
    """Return whether an allocation with a node for each worker job respects the limits of the queue."""
    worker, limits, nodes = request.worker, request.worker.limits, request.jobs
    total = nodes * worker.ncpus
    if nodes > 1 and request.site.dialect == "flat" and worker.ncpus != limits.ncpus:
        return False  # Jobs on several nodes get whole nodes.
    most = limits.max_walltime(total)
    return (
        total <= (limits.max_ncpus or total)
        and limits.min_nodes <= nodes <= (limits.max_nodes or nodes)
        and (most is None or worker.walltime <= most)
    )


def _keys_are_not_ignored(request: Request) -> Iterator[Diagnostic]:
    others = [name for name in request.site.schedulers if name != request.scheduler]
    for key in SCHEDULERS[request.scheduler].ignored_keys(request.site):
        value = getattr(request.worker, key)
        if value:
            shown = value if key == "ngpus" else pbs_size(value)
            yield Diagnostic(
                f"cluster.{key}={shown}: the scheduler's submit command ignores it without an error",
                f"use cluster={others[0]}" if others else f"leave cluster.{key} out",
                f"site.dialect={request.site.dialect}, measured",
            )


RULES = (
    _scheduler_exists, _project_is_set, _cores_are_divided, _workers_have_memory, _quorum_is_possible,
    _spill_fits_on_disk, _walltime_is_plausible, _storage_is_named, _worker_jobs_fit_the_queue, _scratch_is_shared,
    _head_outlasts_workers, _head_has_memory, _head_may_run_here, _head_job_costs_while_waiting, _keys_are_not_ignored,
    _cost_is_within_budget,
)  # fmt: skip
