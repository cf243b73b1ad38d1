"""The local cluster: size, threads, security and cleanup."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import CancelledError, Client

from hpcml.cluster import Cluster, local_size
from hpcml.cluster import local as module
from hpcml.cluster.local import open_local
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.runs import RunPaths
from hpcml.spec import LocalSpec

GIB = 1024**3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    os.environ["OMP_NUM_THREADS"] = "7"  # as a user's shell may set it
    try:
        with open_local(LocalSpec(workers=2, memory_limit="1GB"), RunPaths(tmp_path_factory.mktemp("c"))) as c:
            yield c
    finally:
        del os.environ["OMP_NUM_THREADS"]


class TestSize:
    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CPU_COUNT", 8)
        monkeypatch.setattr(module, "MEMORY_LIMIT", 10 * GIB)

    @pytest.mark.parametrize(
        ("spec", "workers", "memory"),
        [
            (LocalSpec(), 8, 9 * GIB // 8),
            (LocalSpec(threads=4), 2, 9 * GIB // 2),
            (LocalSpec(threads=20), 1, 9 * GIB),
            (LocalSpec(workers=3), 3, 3 * GIB),
            (LocalSpec(memory_limit="4GB"), 2, 4 * GIB),
            (LocalSpec(workers=5, memory_limit="2GB"), 5, 2 * GIB),
        ],
    )
    def test_from_the_machine_and_the_request(self, spec: LocalSpec, workers: int, memory: int) -> None:
        size = local_size(spec)
        assert (size.workers, size.memory) == (workers, memory)

    def test_share_of_a_pbs_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NCPUS", "3")
        monkeypatch.setenv("PBS_VMEM", str(6 * GIB))
        assert local_size(LocalSpec()).workers == 8  # not a PBS job
        monkeypatch.setenv("PBS_JOBID", "1.server")
        assert (local_size(LocalSpec()).workers, local_size(LocalSpec(workers=2)).memory) == (
            3,
            int(6 * GIB * 0.9) // 2,
        )
        monkeypatch.delenv("NCPUS")
        monkeypatch.setenv("PBS_NCPUS", "2")
        assert local_size(LocalSpec()).workers == 2

    def test_too_many_workers_for_the_memory(self) -> None:
        with pytest.raises(
            ConfigError, match=r"cluster.workers=100: .* each would get .*\n  use cluster.workers=\d+ or fewer"
        ):
            local_size(LocalSpec(workers=100))
        with pytest.raises(
            ConfigError,
            match=r"cluster.memory_limit=4GB: 3 workers .*\n  use cluster.memory_limit=3GB, or cluster.workers=2",
        ):
            local_size(LocalSpec(workers=3, memory_limit="4GB"))

    def test_too_little_memory_for_one_worker(self) -> None:
        with pytest.raises(ConfigError, match=r"use cluster.memory_limit=9GB$"):
            local_size(LocalSpec(memory_limit="400GB"))


def test_threads_of_worker_and_libraries(cluster: Cluster) -> None:
    def threads() -> list[int]:
        import sklearn.svm  # noqa: F401
        from threadpoolctl import threadpool_info

        return [pool["num_threads"] for pool in threadpool_info()]

    assert set(cluster.client.nthreads().values()) == {1}
    for found in cluster.client.run(threads).values():
        assert found
        assert set(found) == {1}  # Without pinning it would be the number of cores, or the 7 of the shell.
    said = cluster.client.run(lambda: [os.environ[name] for name in module.THREAD_VARIABLES])
    assert set(map(tuple, said.values())) == {("1",) * len(module.THREAD_VARIABLES)}


def test_memory_limit_and_load(cluster: Cluster) -> None:
    load = cluster.load()
    assert load.workers == 2
    assert load.memory_limit == 2 * GIB
    assert 0 < load.memory < load.memory_limit


def test_workers_spill_into_a_private_directory(cluster: Cluster) -> None:
    for directory in cluster.client.run(lambda dask_worker: dask_worker.local_directory).values():
        private = next(parent for parent in Path(directory).parents if parent.name.startswith("hpcml-"))
        assert private.stat().st_mode & 0o777 == 0o700


def listening() -> list[Any]:
    """Return the addresses on which this process and its children listen."""
    me = psutil.Process()
    found = []
    for process in [me, *me.children(recursive=True)]:
        found += [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return found


def test_nothing_listens_beyond_loopback(cluster: Cluster) -> None:
    addresses = listening()
    assert len(addresses) >= 4  # scheduler, dashboard and at least two workers
    assert {address.ip for address in addresses} == {"127.0.0.1"}


def test_a_client_without_the_certificate_is_rejected(cluster: Cluster) -> None:
    address = cluster.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises(OSError, match=r"Timed out|refused|closed"):
        Client(address.replace("tls://", "tcp://"), timeout=3)
    host, port = address.removeprefix("tls://").split(":")
    assert not _answers(host, int(port))


def _answers(host: str, port: int) -> bool:
    """Return whether a TLS server answers a client without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=5) as raw, context.wrap_socket(raw) as tls:
            tls.sendall(b"hello")
            return tls.recv(1) != b""
    except (ssl.SSLError, ConnectionError):
        return False


def test_another_user_is_rejected(cluster: Cluster, ordinary_user: Sequence[str]) -> None:
    if not ordinary_user:
        pytest.skip("only root can become another user")
    code = (
        "import os, sys\nfrom distributed import Client, Security\nprint('uid', os.geteuid())\n"
        "for how in ('tcp', 'tls'):\n"
        "    address = sys.argv[1].replace('tls', how)\n"
        "    security = Security.temporary() if how == 'tls' else None\n"
        "    try:\n        Client(address, timeout=4, security=security)\n        print('IN')\n"
        "    except OSError as error:\n        print(how, 'refused')\n"
    )
    address = cluster.client.scheduler.address
    done = subprocess.run(
        [*ordinary_user, sys.executable, "-c", code, address], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["uid 65534", "tcp refused", "tls refused"], done.stderr


def test_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = socket.gethostname()
    orphan, living = tmp_path / f"hpcml-{host}-{dead.pid}-abc", tmp_path / f"hpcml-{host}-{os.getpid()}-abc"
    elsewhere = tmp_path / f"hpcml-other-{dead.pid}-abc"  # Hosts may share the directory.
    for directory in (orphan, living, elsewhere):
        directory.mkdir()
    with open_local(LocalSpec(workers=1, local_directory=str(tmp_path)), RunPaths(tmp_path)):
        assert not orphan.exists()
        assert living.exists()
        assert elsewhere.exists()


def test_workers_that_do_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.LocalCluster, "scale", lambda *_: None)
    before = set(psutil.Process().children(recursive=True))
    message = r"0 of 2 workers started within cluster.start_timeout=1 seconds\n.*cluster.start_timeout=300"
    with (
        pytest.raises(ClusterStartError, match=message),
        open_local(LocalSpec(workers=2, start_timeout=1), RunPaths(tmp_path)),
    ):
        pytest.fail("there is no cluster")
    assert alive() <= before


def alive() -> set[psutil.Process]:
    """Return the running children, except multiprocessing's resource tracker."""
    children = psutil.Process().children(recursive=True)
    return {
        c for c in children if c.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in " ".join(c.cmdline())
    }


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left(tmp_path: Path, error: type[BaseException] | None) -> None:
    before = alive()
    directories: list[str] = []
    try:
        with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as opened:
            directories += opened.client.run(lambda dask_worker: dask_worker.local_directory).values()
            future = opened.client.submit(time.sleep, 60)  # a fit that cannot be interrupted
            assert len(alive()) > len(before)
            if error is not None:
                raise error
            future.cancel()
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert alive() == before
    assert not Path(directories[0]).exists()


def test_busy_time_is_counted(tmp_path: Path) -> None:
    with open_local(LocalSpec(workers=1, threads=2), RunPaths(tmp_path)) as opened:
        opened.client.gather([opened.client.submit(time.sleep, 0.5, key=f"s{n}") for n in range(2)])
    assert 1.0 <= opened.core_s_busy < 1.3
    assert opened.core_s_busy < opened.core_s_allocated


def test_permanently_lost_workers_end_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot import a task ends without replacement; Dask would wait forever."""
    nowhere = types.ModuleType("nowhere")
    exec("def function(): return 1", nowhere.__dict__)
    monkeypatch.setitem(sys.modules, "nowhere", nowhere)
    with open_local(LocalSpec(workers=1), RunPaths(tmp_path)) as opened:
        with pytest.raises(CancelledError):
            opened.client.submit(nowhere.function).result(timeout=60)
        assert opened.first_error() == "the first error in their logs: ModuleNotFoundError: No module named 'nowhere'"
