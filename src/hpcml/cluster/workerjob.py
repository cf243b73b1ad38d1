"""Run the workers of a worker job, after a check that the head is alive."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import signal
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcml.batch.directives import NO_HEAD
from hpcml.cluster import tls
from hpcml.cluster.spill import private_directory
from hpcml.runs import RunPaths

# The exit code for a node that cannot run the workers.
UNFIT = 4

# Seconds for the head to answer, and a shorter limit for workers that have lost it already. A head
# that was killed has closed its port, which is detected at once.
_HEAD_TIMEOUT, _LOST_TIMEOUT = 5, 2

# Seconds between checks of starting workers for their head, which logs each check.
_STARTING = 5

# Seconds for workers to exit when the job is terminated; PBS waits 10 before it kills.
_END_TIMEOUT = 3

# Packages that need the same version in head and workers, because they exchange pickles.
PACKAGES = ("hpcml", "dask", "distributed", "cloudpickle", "msgpack", "numpy", "scipy", "scikit-learn", "joblib")


@dataclass(frozen=True)
class Orders:
    """Settings that the head writes to the run directory for its worker jobs.

    Parameters
    ----------
    scheduler : str
        The address of Dask's scheduler.
    versions : mapping of str to str
        Versions of the packages that have to be the same.
    """

    scheduler: str
    encrypted: bool
    workers: int
    threads: int
    memory_limit: int
    local_directory: str | None
    interface: str | None
    work: str
    patience: int
    versions: Mapping[str, str]

    def write(self, path: Path) -> None:
        from hpcml.files import write_json

        write_json(path, asdict(self))


class UnfitError(Exception):
    """Raised if workers cannot run on this node; the message includes the reason."""

    def __init__(self, message: str, code: int = UNFIT) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_final(self) -> bool:
        """Whether the condition is permanent; a head that does not answer may only be busy."""
        return self.__cause__ is None or isinstance(self.__cause__, ConnectionError)


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that head and workers share."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def address_of(interface: str | None) -> str:
    """Return the IPv4 address of a network interface, or of that of the default route.

    Dask itself would listen on all interfaces.

    Raises
    ------
    UnfitError
        If the interface does not exist or has no address.
    """
    if interface is None:
        return _default_address()
    import psutil

    there = psutil.net_if_addrs()
    for address in there.get(interface, []):
        if address.family == socket.AF_INET:
            return str(address.address)
    what = "has no IPv4 address" if interface in there else "is not there"
    raise UnfitError(f"site.interface={interface}: {what} on {socket.gethostname()}; it has {', '.join(sorted(there))}")


def _default_address() -> str:
    # A connected datagram socket has the local address of the route, without sending anything.
    # 192.0.2.1 is reserved for documentation (RFC 5737).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            # Without a default route, use the address of the host name.
            return socket.gethostbyname(socket.gethostname())


def _check_head(orders: Orders, paths: RunPaths, timeout: float = _HEAD_TIMEOUT) -> None:
    """Check that the head is alive, since Dask would try to connect for a minute.

    Raises
    ------
    UnfitError
        If the run has ended or the head does not answer.
    """
    if paths.record.exists():
        raise UnfitError("the run has ended: there is a record", NO_HEAD)
    host, _, port = orders.scheduler.rpartition("//")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout) as connection:
            if orders.encrypted:
                context = ssl.create_default_context(cafile=str(paths.tls / "ca.pem"))
                context.check_hostname = False  # the run's authority signs nothing else
                context.load_cert_chain(paths.tls / "worker.pem", paths.tls / "worker.key")
                context.wrap_socket(connection).close()
    except OSError as error:
        raise UnfitError(f"no head answers at {orders.scheduler}: {error}", NO_HEAD) from error


def _check_versions(wanted: Mapping[str, str]) -> None:
    here = versions()
    other = [f"{name} {here.get(name)}, not {version}" for name, version in wanted.items() if here.get(name) != version]
    if other:
        raise UnfitError(
            f"{sys.executable} on {socket.gethostname()} has {'; '.join(other)} as the head has: "
            "cluster.environment must make the environment that hpcml itself is started in"
        )


async def _serve(orders: Orders, paths: RunPaths, job: str, local_directory: str) -> int:
    """Run the workers until the head closes them or the job is terminated."""
    import dask
    from distributed import Nanny

    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    config = {
        "distributed.worker.http.routes": [],
        "distributed.worker.resources": {},
        "distributed.scheduler.dashboard.tls": {"cert": None, "key": None, "ca-file": None},
    }
    common: dict[str, Any] = {
        "nthreads": orders.threads,
        "memory_limit": orders.memory_limit,
        "local_directory": local_directory,
        "host": address_of(orders.interface),
        "death_timeout": orders.patience,
        # The HTTP server of a worker cannot be disabled; without routes and on loopback it exposes
        # nothing.
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
        "config": config,
    }
    if orders.encrypted:
        common |= {"protocol": "tls://", "security": tls.security(paths.tls, "worker")}
    nannies = [Nanny(orders.scheduler, name=f"{job}-{number}", **common) for number in range(orders.workers)]
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)

    async def live() -> None:
        await asyncio.gather(*nannies)
        await asyncio.gather(*(nanny.finished() for nanny in nannies))

    watching = asyncio.ensure_future(_end_without_head(nannies, orders, paths))
    living, ended = asyncio.ensure_future(live()), asyncio.ensure_future(ending.wait())
    await asyncio.wait([living, ended, watching], return_when=asyncio.FIRST_COMPLETED)
    if ending.is_set():
        watching.cancel()
        await asyncio.gather(*(nanny.close(timeout=_END_TIMEOUT) for nanny in nannies), return_exceptions=True)
        living.cancel()
        return 128 + signal.SIGTERM
    if watching.done():
        living.cancel()
        watching.result()
    watching.cancel()
    error = living.exception()
    if error is not None and (gone := _look(orders, paths)) is not None and gone.is_final:
        # They failed to start because the head is gone.
        raise gone from error
    living.result()
    return 0


async def _end_without_head(nannies: list[Any], orders: Orders, paths: RunPaths) -> None:
    """Kill workers that lost their head while they start or close, instead of waiting as Dask does.

    Dask gives a starting worker ``patience`` seconds to find its scheduler, and a closing one half
    a minute for its running tasks.

    Raises
    ------
    UnfitError
        If the head of starting workers is gone. If it only does not answer, it may be busy, and the
        workers wait for it.
    """
    for looks in itertools.count(1):
        await asyncio.sleep(1)
        closing = list(filter(_is_closing, nannies))
        starting = [] if looks % _STARTING else list(filter(_is_starting, nannies))
        if not (closing or starting):
            continue
        gone = await asyncio.to_thread(_look, orders, paths)
        if gone is None:
            continue
        _kill(closing)
        if starting and gone.is_final:
            _kill(starting)
            raise gone


def _kill(nannies: list[Any]) -> None:
    """Kill the worker processes of nannies."""
    for nanny in nannies:
        if nanny.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


def _is_closing(nanny: Any) -> bool:
    from distributed import Status

    return nanny.status in {Status.closing, Status.closing_gracefully}


def _is_starting(nanny: Any) -> bool:
    from distributed import Status

    from hpcml.upstream.distributed import worker_restarts

    return nanny.status in {Status.init, Status.starting} or worker_restarts(nanny)


def _look(orders: Orders, paths: RunPaths) -> UnfitError | None:
    """Return the problem with the head, or None."""
    try:
        _check_head(orders, paths, _LOST_TIMEOUT)
    except UnfitError as error:
        return error
    except OSError:
        # The file system is temporarily unavailable.
        return None
    return None


def main(directory: str, job: str) -> int:
    """Run the workers of a job.

    Returns
    -------
    int
        The exit code of the job: 0 if the head closed the workers.
    """
    paths = RunPaths(Path(directory))
    try:
        try:
            orders = Orders(**json.loads(paths.orders.read_text(encoding="utf-8")))
        except OSError as error:
            raise UnfitError(f"{paths.orders} cannot be read: {error.strerror}", NO_HEAD) from error
        _check_head(orders, paths)
        _check_versions(orders.versions)
        # Append the directory last, so that a user's file such as numpy.py shadows no package;
        # workers inherit sys.path.
        sys.path.append(orders.work)
        base = os.path.expandvars(orders.local_directory or "")
        if "$" in base or (base and not Path(base).is_dir()):
            raise UnfitError(f"site.local_directory={orders.local_directory}: is not there on {socket.gethostname()}")
        with private_directory(base or None) as spill:
            return asyncio.run(_serve(orders, paths, job, spill))
    except UnfitError as error:
        print(f"hpcml: {error}", file=sys.stderr)
        return error.code
    except TimeoutError:
        print("hpcml: the workers did not find the scheduler in time", file=sys.stderr)
        return NO_HEAD
