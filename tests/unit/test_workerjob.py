"""The process of a worker job, without a scheduler: it ends with its head."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcml.cluster.workerjob import NO_HEAD, Orders, UnfitError, versions
from hpcml.runs import RunPaths
from hpcml.spec import THREAD_VARIABLES

PATIENCE = 100

# A head that dies as soon as a worker job has announced its workers.
HEAD = """
import asyncio, os
from distributed import Scheduler

class Mortal(Scheduler):
    async def add_nanny(self, comm, address):
        asyncio.get_running_loop().call_later(0.02, os._exit, 9)
        await super().add_nanny(comm, address)

async def serve():
    async with Mortal(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(serve())
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_end_if_their_head_dies_during_their_start(tmp_path: Path, workers: int) -> None:
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path, text=True
    )
    try:
        assert head.stdout is not None
        with head.stdout:
            address = head.stdout.readline().strip()
        Orders(
            scheduler=address,
            encrypted=False,
            workers=workers,
            threads=1,
            memory_limit=500_000_000,
            local_directory=None,
            interface="lo",
            work=str(tmp_path),
            patience=PATIENCE,
            versions=versions(),
        ).write(RunPaths(tmp_path).orders)
        began = time.monotonic()
        job = subprocess.run(
            [sys.executable, "-P", "-m", "hpcml.worker", str(tmp_path), "7"],
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, "1"),
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE + 60,
        )
        assert head.wait(10) == 9
    finally:
        head.kill()
        head.wait()
    assert (job.returncode, f"no head answers at {address}" in job.stderr) == (NO_HEAD, True), job.stderr
    assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize(
    ("cause", "final"),
    [(None, True), (ConnectionRefusedError(), True), (ConnectionResetError(), True), (TimeoutError(), False)],
)
def test_a_head_that_does_not_answer_may_be_busy(cause: Exception | None, final: bool) -> None:
    error = UnfitError("no head answers", NO_HEAD)
    error.__cause__ = cause
    assert error.is_final is final
