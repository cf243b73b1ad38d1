"""Use a running Dask cluster, found by its scheduler file, and leave it running."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed import Security

from hpcml import interrupt
from hpcml.background import looking, wait_until
from hpcml.client import Client
from hpcml.cluster.handle import Cluster, Size
from hpcml.cluster.workerjob import versions
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.runs import RunPaths
from hpcml.spec import AttachSpec
from hpcml.upstream.distributed import remote_compute_seconds, run_on_workers

log = logging.getLogger(__name__)

# Timeouts for a scheduler and workers that hpcml did not start, in seconds.
_CONNECT, _CLOSE, _ANSWER = "20s", 5, 60


class AttachedCluster(Cluster):
    """A Dask cluster that hpcml did not start."""

    # Compute time of the scheduler's tasks before the run, in seconds.
    busy_before = 0.0

    def measure(self) -> None:
        """Update the core-seconds; all cores count as allocated since the connection."""
        self.core_s_allocated = (time.monotonic() - self.started) * self.size.workers * self.size.threads
        # The scheduler may be gone, and the run already has its results.
        with contextlib.suppress(Exception):
            self.core_s_busy = remote_compute_seconds(self.client, _CLOSE) - self.busy_before


@contextlib.contextmanager
def open_attached(spec: AttachSpec, paths: RunPaths, say: Callable[[str], None]) -> Iterator[Cluster]:
    """Connect to a running scheduler, wait for enough workers, and disconnect at the end.

    Raises
    ------
    ConfigError
        If the scheduler file does not exist or is not a scheduler file.
    ClusterStartError
        If the scheduler does not answer, too few workers register, or their packages differ from
        those of the head.
    """
    address = _address(Path(spec.scheduler_file).expanduser())
    security = None
    if spec.tls_ca is not None:
        names = {"tls_ca_file": spec.tls_ca, "tls_client_cert": spec.tls_cert, "tls_client_key": spec.tls_key}
        security = Security(require_encryption=True, **names)
    try:
        with interrupt.deferred():
            client = Client(address, security=security, timeout=_CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise ClusterStartError(
            f"cluster.scheduler_file={spec.scheduler_file}: no scheduler answers at {address}: {error}",
            "is it still running? For a tls:// one, set cluster.tls_ca, tls_cert and tls_key",
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(client.close, timeout=_CLOSE)
        workers = _await_workers(client, spec)
        _check_workers(client)
        size = Size(
            len(workers),
            max(worker["nthreads"] for worker in workers.values()),
            min(worker["memory_limit"] for worker in workers.values()),
        )
        cluster = AttachedCluster(client, None, size, client.dashboard_link, paths)
        cluster.measure()
        cluster.busy_before = cluster.core_s_busy
        say(f"{len(workers)} workers are there, at {address}")
        stack.callback(cluster.measure)
        with looking("attached", _watch(cluster, spec), 1.0):
            yield cluster


def _address(file: Path) -> str:
    try:
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
    except OSError as error:
        raise ConfigError(
            f"cluster.scheduler_file={file}: {error.strerror}", "dask scheduler --scheduler-file FILE writes one"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"cluster.scheduler_file={file}: has no scheduler's address",
            "dask scheduler --scheduler-file FILE writes one",
        ) from error
    return str(address)


def _await_workers(client: Client, spec: AttachSpec) -> Mapping[str, Any]:
    workers: Mapping[str, Any] = {}

    def enough() -> bool:
        nonlocal workers
        workers = client.scheduler_info(n_workers=-1)["workers"]
        return len(workers) >= spec.min_workers

    if not wait_until(enough, spec.start_timeout, 0.2):
        raise ClusterStartError(
            f"{len(workers)} of cluster.min_workers={spec.min_workers} workers were there within "
            f"cluster.start_timeout={spec.start_timeout} seconds",
            "start more, or ask for fewer",
        )
    return workers


def _check_workers(client: Client) -> None:
    """Check that the workers can import hpcml and have the package versions of the head."""
    work = str(Path.cwd())

    def look() -> dict[str, str]:
        import hpcml.cluster.workerjob

        # The function is pickled, so it imports as little as possible.
        if work not in sys.path and os.path.isdir(work):  # noqa: PTH112
            sys.path.append(work)
        return hpcml.cluster.workerjob.versions()

    here = versions()
    try:
        answers = run_on_workers(client, look, _ANSWER)
    except TimeoutError as error:
        raise ClusterStartError(
            f"not all workers answered within {_ANSWER} seconds", "are they computing for somebody else?"
        ) from error
    for worker, found in answers.items():
        if isinstance(found, BaseException):
            raise ClusterStartError(
                f"worker {worker} cannot work for hpcml: {type(found).__name__}: {found}",
                "its environment must have what this one has",
            )
        other = [
            f"{name} {found.get(name)}, not {version}" for name, version in here.items() if found.get(name) != version
        ]
        if other:
            raise ClusterStartError(
                f"worker {worker} has {'; '.join(other)} as this process has", "start it in the same environment"
            )


def _watch(cluster: AttachedCluster, spec: AttachSpec) -> Callable[[], bool]:
    """Return a check that ends the run after ``start_timeout`` seconds without workers."""
    since: list[float] = []

    def look() -> bool:
        if cluster.load().workers:
            since.clear()
        elif not since:
            since.append(time.monotonic())
        elif time.monotonic() - since[0] > spec.start_timeout:
            cluster.gave_up = f"for cluster.start_timeout={spec.start_timeout} seconds"
            log.error("no workers are left %s", cluster.gave_up)
            cluster.client.close()
            return True
        return False

    return look
