"""What runs in a worker job: the workers, once it is certain that there is a head that wants them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
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

from hpcml.cluster import tls
from hpcml.cluster.spill import private_directory
from hpcml.runs import RunPaths

# Exit codes: the head is gone, or this node cannot do what is asked of it.
NO_HEAD, UNFIT = 3, 4

# How long the head has to answer, in seconds; a head that was killed has closed its port, which is known at once. Less
# when the workers have lost it already.
_HEAD_TIMEOUT, _LOST_TIMEOUT = 5, 2

# Every how many seconds workers that start look for their head: it logs each look.
_STARTING = 5

# How long workers have to end when the job is to end, in seconds; PBS waits 10 before it kills.
_END_TIMEOUT = 3

# What must be the same in head and workers, for they exchange pickles.
PACKAGES = ("hpcml", "dask", "distributed", "cloudpickle", "msgpack", "numpy", "scipy", "scikit-learn", "joblib")


@dataclass(frozen=True)
class Orders:
    """What a head tells its worker jobs, in a file of the run directory.

    Parameters
    ----------
    scheduler : str
        The address of Dask's scheduler.
    versions : mapping of str to str
        Of the packages that must be the same.
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
    """Raised when workers cannot run here; says why."""

    def __init__(self, message: str, code: int = UNFIT) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_final(self) -> bool:
        """Whether it will stay so; a head that is only silent may be busy."""
        return self.__cause__ is None or isinstance(self.__cause__, ConnectionError)


def versions() -> dict[str, str]:
    """Give the versions of what head and workers must have in common."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def address_of(interface: str | None) -> str:
    """Give the IPv4 address of a network interface, or of the default route's: Dask itself would listen on all of them.

    Raises
    ------
    UnfitError
        If there is no such interface, or it has no address.
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
    # A datagram socket says which address it would send from; nothing is sent. 192.0.2.1 is nobody's (RFC 5737).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:  # no default route: a machine's own network
            return socket.gethostbyname(socket.gethostname())


def _check_head(orders: Orders, paths: RunPaths, timeout: float = _HEAD_TIMEOUT) -> None:
    """Refuse to start for a head that is gone, before Dask would look for it for a minute."""
    if paths.record.exists():
        raise UnfitError("the run has ended: there is a record", NO_HEAD)
    host, _, port = orders.scheduler.rpartition("//")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout) as connection:
            if orders.encrypted:
                context = ssl.create_default_context(cafile=str(paths.tls / "ca.pem"))
                context.check_hostname = False  # the authority is the run's own and has signed nobody else
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
    """Run the workers until the head lets them go, or the job is to end."""
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
        # its HTTP server cannot be switched off; it serves nothing, and to this node only
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
    living, told = asyncio.ensure_future(live()), asyncio.ensure_future(ending.wait())
    await asyncio.wait([living, told, watching], return_when=asyncio.FIRST_COMPLETED)
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
        raise gone from error  # for want of a head they did not start
    living.result()
    return 0


async def _end_without_head(nannies: list[Any], orders: Orders, paths: RunPaths) -> None:
    """Kill workers whose head is gone while they start or close: what Dask itself would wait for.

    It gives a worker that starts ``patience`` seconds to find its scheduler, and one that closes half a minute for what
    it computes.

    Raises
    ------
    UnfitError
        If workers have nobody to start for. A head that is only silent may be busy: they wait for it.
    """
    from distributed import Status

    looks = 0
    while True:
        await asyncio.sleep(1)
        looks += 1
        closing = [nanny for nanny in nannies if nanny.status in {Status.closing, Status.closing_gracefully}]
        starting = [] if looks % _STARTING else [nanny for nanny in nannies if _is_starting(nanny)]
        if not (closing or starting):
            continue
        gone = await asyncio.to_thread(_look, orders, paths)
        if gone is None:
            continue
        for nanny in closing + starting if gone.is_final else closing:
            if nanny.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
        if starting and gone.is_final:
            raise gone


def _is_starting(nanny: Any) -> bool:
    from distributed import Status

    again = nanny.process is not None and nanny.process.status is Status.starting  # after its worker has died
    return nanny.status in {Status.init, Status.starting} or again


def _look(orders: Orders, paths: RunPaths) -> UnfitError | None:
    """Say what is wrong with the head, if anything is."""
    try:
        _check_head(orders, paths, _LOST_TIMEOUT)
    except UnfitError as error:
        return error
    except OSError:  # the file system is away for a moment
        return None
    return None


def main(directory: str, job: str) -> int:
    """Run the workers of a job.

    Returns
    -------
    int
        The job's exit code: 0 when the head let the workers go.
    """
    paths = RunPaths(Path(directory))
    try:
        try:
            orders = Orders(**json.loads(paths.orders.read_text(encoding="utf-8")))
        except OSError as error:
            raise UnfitError(f"{paths.orders} cannot be read: {error.strerror}", NO_HEAD) from error
        _check_head(orders, paths)
        _check_versions(orders.versions)
        # last, so that a file of the user's called numpy.py breaks nothing of ours; workers inherit it
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
