"""The settlement of a request: what the user has left open is filled in from the site."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable

from hpcml.batch.complaint import Complaint
from hpcml.batch.ownjob import in_job
from hpcml.batch.request import OWN_RULE, PBS_NOTATION, Environment, Job, Places, Request
from hpcml.errors import ConfigError
from hpcml.site import Queue, Site
from hpcml.spec import MIN_WORKER_MEMORY, AllocationSpec, BatchSpec, HeadSpec, JobsSpec, PbsSpec, SlurmSpec
from hpcml.units import parse_size, parse_walltime

# Dask ends a worker that exceeds its own limit, looking five times a second, and PBS kills the job that exceeds its: so
# much is kept between the two, and for the process that looks after the workers of a job.
HEADROOM, NANNY = 0.05, 256 * 1024**2


def settle(spec: BatchSpec, head: HeadSpec, site: Site, places: Places, here: bool) -> tuple[Request, list[Complaint]]:
    """Fill in what the user has left to the site.

    Parameters
    ----------
    here : bool
        The head is to live in the process that is started.

    Returns
    -------
    Request
        With a stand-in for each value that cannot be read.
    list of Complaint
        One for each such value.
    """
    settling = _Settling(spec, site, places)
    worker = settling.worker_job()
    workers, threads = settling.workers(worker)
    inside = isinstance(spec, AllocationSpec)
    needed = not inside and (not here or in_job())
    head_job = settling.head_job(head, worker) if needed else None
    kept = NANNY + (parse_size(site.head.mem) if inside else 0)
    spec, environment = settling.spec, spec.environment
    venv = _path(environment.venv)
    request = Request(
        site=site,
        scheduler=settling.scheduler,
        jobs=getattr(spec, "jobs", 1),
        worker=worker,
        head=None if here else head_job,
        here=here and not inside,
        own_head=head_job if here else None,
        workers_per_job=workers,
        threads=threads,
        memory_limit=max(0, int(worker.mem * (1 - HEADROOM)) - kept) // workers,
        least_mem=math.ceil((kept + workers * MIN_WORKER_MEMORY) / (1 - HEADROOM)),
        local_directory=site.local_directory,
        environment=Environment(
            _path(environment.script or os.environ.get("HPCML_ENV")),
            tuple(environment.modules),
            venv,
            dict(environment.variables),
            f"{venv}/bin/python" if venv else places.python,
        ),
        places=places,
        needs=settling.needs,
        strict=spec.strict,
        min_workers=workers if spec.min_workers is None else spec.min_workers,
        start_timeout=spec.start_timeout,
        replacements=2 * (getattr(spec, "jobs", 1) * worker.nodes) if spec.replacements is None else spec.replacements,
        hold=settling.hold(spec) if isinstance(spec, JobsSpec) and spec.adaptive else None,
        max_cost=spec.max_cost,
        encrypted=spec.security == "tls",
    )
    return request, settling.complaints


def _path(text: str | None) -> str | None:
    """Fill in ~ and $HOME; a directory whose script to activate it was named is meant itself."""
    if not text:
        return None
    return os.path.expandvars(os.path.expanduser(text)).removesuffix("/bin/activate")  # noqa: PTH111  # no Path: NUL


def _whole_kb(text: str, key: str) -> int:
    """Read a size as PBS keeps it: rounded up to whole KB. Less than one is left to be complained of."""
    size = parse_size(text, key)
    return size if size < 1024 else -(-size // 1024) * 1024


# The least that counts may be.
_LEAST = {
    "jobs": 1, "nodes": 1, "ncpus": 1, "workers_per_job": 1, "threads": 1, "ngpus": 0, "min_workers": 1,
    "start_timeout": 1, "replacements": 0,
}  # fmt: skip


class _Settling:
    """The values of one request, as far as they are settled, and what could not be read."""

    def __init__(self, spec: BatchSpec, site: Site, places: Places) -> None:
        self.spec, self.site, self.places = copy.copy(spec), site, places
        self.complaints: list[Complaint] = []
        self.scheduler = (
            "slurm" if isinstance(spec, SlurmSpec) else "pbs" if isinstance(spec, PbsSpec) else site.schedulers[0]
        )
        self.project = site.project_of(spec.project)
        self.needs = self._needs()
        for name, least in _LEAST.items():
            value = getattr(spec, name, None)
            if value is not None and value < least:
                text = f"cluster.{name}={value}: must be {least} or more"
                self.complaints.append(Complaint(text, f"use cluster.{name}={least}, or leave it out", OWN_RULE))
                setattr(self.spec, name, least)

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

    def _read(self, parse: Callable[[str, str], int], text: str | None, key: str) -> int | None:
        """Read a size or a time; complain and give None if it is neither."""
        if text is None:
            return None
        try:
            return parse(text, key)
        except ConfigError as error:
            self.complaints.append(Complaint(error.message, "; ".join(error.hints), PBS_NOTATION))
            return None

    def _ask(self, key: str, why: str) -> None:
        self.complaints.append(Complaint(f"cluster.{key} is not set, and {why}", f"type cluster.{key}=...", OWN_RULE))

    def hold(self, spec: JobsSpec) -> int:
        return self._read(parse_walltime, spec.hold, "cluster.hold") or 300

    def worker_job(self) -> Job:
        spec = self.spec
        mem = self._read(_whole_kb, spec.mem, "cluster.mem")
        walltime = self._read(parse_walltime, spec.walltime, "cluster.walltime") or 3600
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
        """Give what is known of a queue; of a misspelt one, what the default queue has, to go on checking with."""
        usual = self.site.queues.get(self.site.default_queue or "")
        known = self.site.queues.get(queue or "")
        guess = None if self.site.open_ended or not self.spec.strict else usual
        return known or guess or Queue()

    def _routed(self, ncpus: int, mem: int | None, walltime: int, nodes: int) -> str | None:
        """Find the first queue that takes a job; where none does, the longest of those that are large enough."""

        def large_enough(queue: Queue) -> bool:
            return (
                ncpus <= (queue.ncpus or ncpus)
                and (mem or 0) <= parse_size(queue.mem or mem or 0)
                and queue.min_nodes <= nodes <= (queue.max_nodes or nodes)
            )

        def longest(name: str) -> tuple[int, int]:
            queue = self.site.queues[name]
            return queue.max_walltime(nodes * ncpus) or 2**62, queue.ncpus or 0

        large = [name for name, queue in self.site.queues.items() if large_enough(queue)]
        fitting = [name for name in large if longest(name)[0] >= walltime]
        return fitting[0] if fitting else max(large or self.site.queues, key=longest, default=None)

    def _cores(self, limits: Queue) -> tuple[int, int]:
        """Settle GPUs and cores; on GPU queues the one follows from the other."""
        spec = self.spec
        ncpus, each = spec.ncpus, limits.ncpus_per_gpu
        if self.site.dialect == "flat" and getattr(spec, "nodes", 1) > 1 and ncpus is None and spec.ngpus is None:
            return limits.ngpus, limits.ncpus or 1  # a job on several nodes takes them whole
        if each is not None:
            ngpus = spec.ngpus if spec.ngpus is not None else min(limits.ngpus, max(1, (ncpus or each) // each))
            return ngpus, ncpus or max(1, ngpus) * each
        if ncpus is None and spec.workers_per_job is not None and not limits.whole_nodes:
            ncpus = spec.workers_per_job * (spec.threads or 1)
        ncpus = ncpus or limits.ncpus
        if ncpus is None:
            self._ask("ncpus", f"how many cores a node of {self.site.name} has is not known")
        return spec.ngpus or 0, ncpus or 1

    def _mem(self, limits: Queue, ncpus: int) -> int:
        """Give a job its share of a node's memory, in whole GB where that is not much."""
        if limits.mem is None or limits.ncpus is None:
            self._ask("mem", f"how much memory a node of {self.site.name} has is not known")
            return ncpus * 1024**3
        share = parse_size(limits.mem) * min(1.0, ncpus / limits.ncpus)
        unit = 1024**3 if share >= 16 * 1024**3 else 1024**2
        return int(share) // unit * unit

    def _jobfs(self, limits: Queue, mem: int) -> int | None:
        """Size the spill: as much again as memory, where the node has it."""
        asked = self._read(_whole_kb, self.spec.jobfs, "cluster.jobfs")
        if asked is not None or limits.jobfs is None or (self.scheduler == "pbs" and self.site.dialect == "wrapper"):
            return asked
        return min(max(mem, 1024**2), parse_size(limits.jobfs))

    def _storage(self, text: str | None) -> tuple[str, ...]:
        found = tuple(dict.fromkeys([*self.site.storage.always, *self.needs]))
        if text is None:
            return found
        separator = self.site.storage.separator
        given = tuple(name for name in text.split(separator) if name)
        return tuple(dict.fromkeys([*found, *given])) if text.startswith("+") and len(text) > 1 else given

    def workers(self, job: Job) -> tuple[int, int]:
        """Settle how a job's cores are shared among workers."""
        workers, threads = self.spec.workers_per_job, self.spec.threads
        if workers is None and threads is None:
            workers = job.ngpus if job.limits.ncpus_per_gpu and job.ngpus else job.ncpus
        if workers is None:
            workers = max(1, job.ncpus // max(1, threads or 1))
        if threads is None:
            threads = max(1, job.ncpus // max(1, workers))
        return max(1, workers), max(1, threads)

    def _head_queue(self, worker: Job, walltime: int) -> str | None:
        """Choose the head's queue: the site's, or the workers' where that lets it live longer."""
        rules = self.site.head
        if self.site.routed:
            return self._routed(rules.ncpus, parse_size(rules.mem), walltime, 1)

        def longest(name: str | None) -> int:
            return min(walltime, self._limits(name).max_walltime(rules.ncpus) or walltime)

        usual = rules.queue or worker.queue
        return worker.queue if longest(worker.queue) > longest(usual) else usual

    def head_job(self, head: HeadSpec, worker: Job) -> Job:
        rules = self.site.head
        if head.ncpus is not None and head.ncpus < 1:
            self.complaints.append(
                Complaint(f"head.ncpus={head.ncpus}: must be 1 or more", "use head.ncpus=1", OWN_RULE)
            )
        wanted = worker.walltime + parse_walltime(rules.wait)
        queue = head.queue or self._head_queue(worker, wanted)
        limits = self._limits(queue)
        each = limits.ncpus_per_gpu
        if limits.whole_nodes or each:
            share = each or limits.ncpus or rules.ncpus
        else:
            share = -(-rules.ncpus // limits.step) * limits.step
        ncpus = max(1, head.ncpus) if head.ncpus is not None else min(share, limits.ncpus or share)
        node = parse_size(limits.mem) if limits.mem else None
        mem = self._read(_whole_kb, head.mem, "head.mem") or parse_size(rules.mem)
        if head.mem is None and node is not None:
            mem = node if limits.whole_nodes else min(mem, node)
        walltime = self._read(parse_walltime, head.walltime, "head.walltime")
        if walltime is None:
            walltime = min(wanted, limits.max_walltime(ncpus) or wanted)
        jobfs = self._read(_whole_kb, head.jobfs, "head.jobfs")
        if jobfs is None and limits.jobfs:
            jobfs = parse_size(rules.jobfs)
        return Job(
            key="head",
            name=f"{self.spec.name}-head",
            queue=None if self.site.routed else queue,
            limits=limits,
            project=worker.project,
            nodes=1,
            ncpus=ncpus,
            mem=mem,
            walltime=walltime,
            jobfs=jobfs,
            ngpus=1 if each else 0,
            storage=worker.storage if head.storage is None else self._storage(head.storage),
            extra=worker.extra,
        )
