"""Resolve a request: fill in from the site whatever the user left open."""

from __future__ import annotations

import copy
import math
import os
from typing import TypeVar

from hpcml.batch.current_job import in_job
from hpcml.batch.diagnostic import Diagnostic
from hpcml.batch.request import OWN_RULE, PBS_NOTATION, Environment, Job, Places, Request
from hpcml.batch.schedulers import SCHEDULERS, check_names
from hpcml.keys import violations
from hpcml.site import Queue, Site
from hpcml.spec import MIN_WORKER_MEMORY, AllocationSpec, BatchSpec, EnvironmentSpec, HeadSpec, JobsSpec
from hpcml.units import parse_size, parse_walltime

Spec = TypeVar("Spec", BatchSpec, HeadSpec)

# Dask kills a worker above its memory limit, checking five times a second, and PBS kills a job
# above its own. This margin between both also has room for the process that supervises the workers.
HEADROOM, NANNY = 0.05, 256 * 1024**2


def resolve(
    spec: BatchSpec, head: HeadSpec, site: Site, places: Places, here: bool
) -> tuple[Request, list[Diagnostic]]:
    """Fill in the values that the user left to the site.

    Parameters
    ----------
    here : bool
        Whether the head runs in this process.

    Returns
    -------
    Request
        The resolved request, with a default in place of each invalid value.
    list of Diagnostic
        One error for each invalid value.
    """
    resolution = _Resolution(spec, site, places)
    worker = resolution.worker_job()
    workers, threads = resolution.workers(worker)
    inside = isinstance(spec, AllocationSpec)
    needed = not inside and (not here or in_job())
    head_job = resolution.head_job(head, worker) if needed else None
    reserved = NANNY + (site.head.mem_bytes if inside else 0)
    spec = resolution.spec
    request = Request(
        site=site,
        scheduler=resolution.scheduler,
        jobs=getattr(spec, "jobs", 1),
        worker=worker,
        head=None if here else head_job,
        here=here and not inside,
        own_head=head_job if here else None,
        workers_per_job=workers,
        threads=threads,
        memory_limit=max(0, int(worker.mem * (1 - HEADROOM)) - reserved) // workers,
        least_mem=math.ceil((reserved + workers * MIN_WORKER_MEMORY) / (1 - HEADROOM)),
        local_directory=site.local_directory,
        environment=_environment(spec.environment, places),
        places=places,
        needs=resolution.needs,
        strict=spec.strict,
        min_workers=workers if spec.min_workers is None else spec.min_workers,
        start_timeout=spec.start_timeout,
        max_restarts=resolution.max_restarts(worker),
        idle_timeout=resolution.idle_timeout(),
        max_cost=spec.max_cost,
        encrypted=spec.security == "tls",
    )
    return request, resolution.diagnostics


def _environment(spec: EnvironmentSpec, places: Places) -> Environment:
    venv = _path(spec.venv)
    return Environment(
        script=_path(spec.script or os.environ.get("HPCML_ENV")),
        modules=tuple(spec.modules),
        venv=venv,
        variables=dict(spec.variables),
        python=f"{venv}/bin/python" if venv else places.python,
    )


def _path(text: str | None) -> str | None:
    """Expand ~ and variables in a path, and strip bin/activate from it."""
    if not text:
        return None
    return os.path.expandvars(os.path.expanduser(text)).removesuffix("/bin/activate")  # noqa: PTH111  # no Path: NUL


def _whole_kb(text: str | None) -> int | None:
    """Parse a size and round it up to whole KB as PBS does; sizes below 1 KB stay invalid."""
    if text is None:
        return None
    size = parse_size(text)
    return size if size < 1024 else -(-size // 1024) * 1024


class _Resolution:
    """Values of a request that is being resolved, and diagnostics for those that are invalid."""

    def __init__(self, spec: BatchSpec, site: Site, places: Places) -> None:
        self.site, self.places = site, places
        self.diagnostics: list[Diagnostic] = []
        self.spec = self._checked(spec, "cluster.")
        check_names(site)
        self.scheduler = spec.scheduler or site.schedulers[0]
        self.project = site.project_of(spec.project)
        self.needs = self._needs()

    def _checked(self, spec: Spec, prefix: str) -> Spec:
        """Return a spec with defaults in place of invalid values, and add a diagnostic for each."""
        valid = copy.copy(spec)
        for violation in violations(spec, prefix):
            source = PBS_NOTATION if violation.rule.pbs else OWN_RULE
            self.diagnostics.append(Diagnostic(violation.error.message, "; ".join(violation.error.hints), source))
            setattr(valid, violation.name, violation.default)
        return valid

    def _needs(self) -> dict[str, str]:
        environment = self.spec.environment
        paths = {
            "the scratch of the project": self.site.scratch_of(self.project),
            "scratch": self.places.scratch,
            "the working directory": self.places.work,
            "the environment": _path(environment.venv) or self.places.prefix,
            "the environment's script": _path(environment.script or os.environ.get("HPCML_ENV")),
            **{f"data file {number}": path for number, path in enumerate(self.places.data, 1)},
        }
        found: dict[str, str] = {}
        for what, path in paths.items():
            for name in sorted(self.site.storage.names(path or "/")):
                found.setdefault(name, f"{what}, {path}")
        return found

    def _ask(self, key: str, why: str) -> None:
        self.diagnostics.append(Diagnostic(f"cluster.{key} is not set, and {why}", f"type cluster.{key}=...", OWN_RULE))

    def max_restarts(self, worker: Job) -> int:
        if self.spec.max_restarts is not None:
            return self.spec.max_restarts
        return 2 * getattr(self.spec, "jobs", 1) * worker.nodes

    def idle_timeout(self) -> int | None:
        spec = self.spec
        return parse_walltime(spec.idle_timeout) if isinstance(spec, JobsSpec) and spec.adaptive else None

    def worker_job(self) -> Job:
        spec = self.spec
        mem = _whole_kb(spec.mem)
        walltime = parse_walltime(spec.walltime)
        queue = spec.queue or self.site.default_queue
        if queue is None and self.site.routed:
            wanted = spec.ncpus or (spec.workers_per_job or 1) * (spec.threads or 1)
            queue = self._routed(wanted, mem, walltime, getattr(spec, "nodes", 1))
        limits = self._limits(queue)
        ngpus, ncpus = self._cores(limits)
        if mem is None:
            mem = self._mem(limits, ncpus)
        return Job(
            key="cluster",
            name=spec.name,
            queue=None if self.site.routed else queue,
            limits=limits,
            project=self.project if self.site.project else None,
            nodes=getattr(spec, "nodes", 1),
            ncpus=ncpus,
            mem=mem,
            walltime=walltime,
            jobfs=self._jobfs(limits, mem),
            ngpus=ngpus,
            storage=self._storage(spec.storage),
            extra=tuple(spec.extra_directives),
        )

    def _limits(self, queue: str | None) -> Queue:
        """Return the limits of a queue, or for an unknown name those of the default queue."""
        usual = self.site.queues.get(self.site.default_queue or "")
        known = self.site.queues.get(queue or "")
        guess = None if self.site.open_ended or not self.spec.strict else usual
        return known or guess or Queue()

    def _routed(self, ncpus: int, mem: int | None, walltime: int, nodes: int) -> str | None:
        """Return the first queue that accepts a job, else the longest of the large enough ones."""

        def large_enough(queue: Queue) -> bool:
            return (
                ncpus <= (queue.ncpus or ncpus)
                and (mem or 0) <= (queue.mem_bytes or mem or 0)
                and queue.min_nodes <= nodes <= (queue.max_nodes or nodes)
            )

        def longest(name: str) -> tuple[int, int]:
            queue = self.site.queues[name]
            return queue.max_walltime(nodes * ncpus) or 2**62, queue.ncpus or 0

        large = [name for name, queue in self.site.queues.items() if large_enough(queue)]
        fitting = [name for name in large if longest(name)[0] >= walltime]
        return fitting[0] if fitting else max(large or self.site.queues, key=longest, default=None)

    def _cores(self, limits: Queue) -> tuple[int, int]:
        """Compute GPUs and cores; on GPU queues each follows from the other."""
        spec = self.spec
        several = self.site.dialect == "flat" and getattr(spec, "nodes", 1) > 1
        if several and spec.ncpus is None and spec.ngpus is None:
            return limits.ngpus, limits.ncpus or 1  # A job on several nodes gets whole nodes.
        if limits.ncpus_per_gpu is not None:
            return self._gpus_and_cores(limits.ngpus, limits.ncpus_per_gpu)
        return spec.ngpus or 0, self._cores_alone(limits)

    def _gpus_and_cores(self, most: int, each: int) -> tuple[int, int]:
        """Compute GPUs and cores on a queue with this many GPUs in a node and cores for each."""
        ncpus, ngpus = self.spec.ncpus, self.spec.ngpus
        if ngpus is None:
            ngpus = min(most, max(1, (ncpus or each) // each))
        return ngpus, ncpus or max(1, ngpus) * each

    def _cores_alone(self, limits: Queue) -> int:
        """Compute the cores: as given, else as the workers need, else those of a node."""
        spec = self.spec
        ncpus = spec.ncpus
        if ncpus is None and spec.workers_per_job is not None and not limits.whole_nodes:
            ncpus = spec.workers_per_job * (spec.threads or 1)
        ncpus = ncpus or limits.ncpus
        if ncpus is None:
            self._ask("ncpus", f"the number of cores of a node of {self.site.name} is unknown")
        return ncpus or 1

    def _mem(self, limits: Queue, ncpus: int) -> int:
        """Compute a job's share of a node's memory, in whole GB unless it is small."""
        if limits.mem_bytes is None or limits.ncpus is None:
            self._ask("mem", f"the memory of a node of {self.site.name} is unknown")
            return ncpus * 1024**3
        share = limits.mem_bytes * min(1.0, ncpus / limits.ncpus)
        unit = 1024**3 if share >= 16 * 1024**3 else 1024**2
        return int(share) // unit * unit

    def _ignored(self) -> tuple[str, ...]:
        return SCHEDULERS[self.scheduler].ignored_keys(self.site)

    def _jobfs(self, limits: Queue, mem: int) -> int | None:
        """Compute the size of the spill disk: that of memory, limited by the node's disk."""
        asked = _whole_kb(self.spec.jobfs)
        if asked is not None or limits.jobfs_bytes is None or "jobfs" in self._ignored():
            return asked
        return min(max(mem, 1024**2), limits.jobfs_bytes)

    def _storage(self, text: str | None) -> tuple[str, ...]:
        found = tuple(dict.fromkeys([*self.site.storage.always, *self.needs]))
        if text is None:
            return found
        separator = self.site.storage.separator
        given = tuple(name for name in text.split(separator) if name)
        return tuple(dict.fromkeys([*found, *given])) if text.startswith("+") and len(text) > 1 else given

    def workers(self, job: Job) -> tuple[int, int]:
        """Compute the workers of a job and the threads of each."""
        workers, threads = self.spec.workers_per_job, self.spec.threads
        if workers is None and threads is None:
            workers = job.ngpus if job.limits.ncpus_per_gpu and job.ngpus else job.ncpus
        if workers is None:
            workers = max(1, job.ncpus // max(1, threads or 1))
        if threads is None:
            threads = max(1, job.ncpus // max(1, workers))
        return max(1, workers), max(1, threads)

    def _head_queue(self, worker: Job, walltime: int) -> str | None:
        """Return the head's queue: the site's, or the workers' if it allows more walltime."""
        rules = self.site.head
        if self.site.routed:
            return self._routed(rules.ncpus, rules.mem_bytes, walltime, 1)

        def longest(name: str | None) -> int:
            return min(walltime, self._limits(name).max_walltime(rules.ncpus) or walltime)

        usual = rules.queue or worker.queue
        return worker.queue if longest(worker.queue) > longest(usual) else usual

    def head_job(self, head: HeadSpec, worker: Job) -> Job:
        head = self._checked(head, "head.")
        wanted = worker.walltime + self.site.head.wait_seconds
        queue = head.queue or self._head_queue(worker, wanted)
        limits = self._limits(queue)
        ncpus = head.ncpus if head.ncpus is not None else self._head_cores(limits)
        if head.walltime is None:
            walltime = min(wanted, limits.max_walltime(ncpus) or wanted)
        else:
            walltime = parse_walltime(head.walltime)
        return Job(
            key="head",
            name=f"{self.spec.name}-head",
            queue=None if self.site.routed else queue,
            limits=limits,
            project=worker.project,
            nodes=1,
            ncpus=ncpus,
            mem=_whole_kb(head.mem) or self._head_mem(limits),
            walltime=walltime,
            jobfs=self._head_jobfs(limits) if head.jobfs is None else _whole_kb(head.jobfs),
            ngpus=1 if limits.ncpus_per_gpu else 0,
            storage=worker.storage if head.storage is None else self._storage(head.storage),
            extra=worker.extra,
        )

    def _head_cores(self, limits: Queue) -> int:
        """Compute the cores that the queue allocates for the head: of a GPU, a node, or a multiple."""
        rules = self.site.head
        if limits.whole_nodes or limits.ncpus_per_gpu:
            share = limits.ncpus_per_gpu or limits.ncpus or rules.ncpus
        else:
            share = -(-rules.ncpus // limits.ncpus_multiple) * limits.ncpus_multiple
        return min(share, limits.ncpus or share)

    def _head_mem(self, limits: Queue) -> int:
        """Compute the memory of the head: that of the node, if it is allocated whole or too small."""
        usual, node = self.site.head.mem_bytes, limits.mem_bytes
        if node is None:
            return usual
        return node if limits.whole_nodes else min(usual, node)

    def _head_jobfs(self, limits: Queue) -> int | None:
        return self.site.head.jobfs_bytes if limits.jobfs else None
