"""Check that the data of a run fits into the memory of its head and workers."""

from __future__ import annotations

from dataclasses import replace

from hpcml.batch.diagnostic import Diagnostic
from hpcml.batch.request import OWN_RULE, Request
from hpcml.cluster import WORKERS_SHARE, local_size
from hpcml.errors import ConfigError
from hpcml.spec import LocalSpec
from hpcml.units import count, format_size, pbs_size
from hpcml.workloads.footprint import Footprint

# Dask kills a worker above this share of its memory: distributed.worker.memory.terminate
_TERMINATE = 0.95

_MB = 1024**2


def check_local(spec: LocalSpec, needed: Footprint) -> None:
    """Check that the data fits into the local workers and the head next to them.

    Raises
    ------
    ConfigError
    """
    size = local_size(spec)
    least = needed.worker(size.threads)
    usable = local_size(replace(spec, workers=1, memory_limit=None)).memory
    machine = usable / WORKERS_SHARE
    fitting = min(int(_TERMINATE * usable // (1.1 * least)), int((machine - needed.head) // least))
    if least > _TERMINATE * size.memory:
        raise ConfigError(_too_much(needed, size.threads, size.memory), _more_here(least, fitting, size.workers))
    if needed.head + size.workers * least > machine:
        raise ConfigError(
            f"data: {format_size(needed.data)} is too much for this machine's {format_size(machine)}: the head needs "
            f"at least {format_size(needed.head)}, and each of {count(size.workers, 'worker')} {format_size(least)}",
            _more_here(least, fitting, size.workers),
        )


def check_request(request: Request, needed: Footprint, threads_given: bool) -> list[Diagnostic]:
    """Return errors if the data does not fit into the workers or the head job of a request.

    Parameters
    ----------
    threads_given : bool
        Whether the user set the threads of a worker; otherwise fewer workers get more threads.
    """
    found = []
    least, job = needed.worker(request.threads), request.worker
    if least > _TERMINATE * request.memory_limit:
        more = f"cluster.mem={_more(job.mem * least, request.memory_limit)}"
        remedy = "use " + " or ".join([*_fewer_of_a_job(request, needed, threads_given), more])
        found.append(Diagnostic(_too_much(needed, request.threads, request.memory_limit), remedy, OWN_RULE))
    if request.head is not None and needed.head > request.head.mem:
        text = (
            f"data: {format_size(needed.data)} is too much for a head of {format_size(request.head.mem)}: it needs "
            f"at least {format_size(needed.head)}, for the data, its parts, and copies that are being sent"
        )
        found.append(Diagnostic(text, f"use head.mem={_more(needed.head, 1)}", OWN_RULE))
    return found


def _too_much(needed: Footprint, threads: int, memory: int) -> str:
    return (
        f"data: {format_size(needed.data)} is too much for workers of {format_size(memory)}: each needs at least "
        f"{format_size(needed.worker(threads))}, with {needed.describe(threads)}"
    )


def _more_here(least: int, fitting: int, there: int) -> str:
    if fitting >= there:
        return f"increase their memory: cluster.memory_limit={_more(least, 1)}"
    if fitting > 0:
        return f"use fewer workers: cluster.workers={fitting}"
    return "even one worker does not fit: use fewer samples, or a machine with more memory"


def _fewer_of_a_job(request: Request, needed: Footprint, threads_given: bool) -> list[str]:
    whole, cores = request.memory_limit * request.workers_per_job, request.worker.ncpus
    for number in range(request.workers_per_job - 1, 0, -1):
        if cores % number:
            continue
        threads = request.threads if threads_given else cores // number
        if needed.worker(threads) <= _TERMINATE * whole / number:
            return [f"cluster.workers_per_job={number}"]
    return []


def _more(mem: float, limit: float) -> str:
    """Render a sufficient amount of memory, with a reserve of a tenth."""
    return pbs_size(-(-int(1.1 * mem / (_TERMINATE * limit)) // _MB) * _MB)
