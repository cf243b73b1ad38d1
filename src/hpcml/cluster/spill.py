"""The directory where workers spill: node-local, private, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def private_directory(base: str | None) -> Iterator[str]:
    """Make a directory, mode 0700, that is gone afterwards."""
    node_local = os.environ.get("PBS_JOBFS")
    if base is None and node_local and Path(node_local).is_dir():
        base = node_local
    base = base or tempfile.gettempdir()
    _remove_orphans(Path(base))
    made = tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=base)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _prefix() -> str:
    # The host, because the directory may be one that hosts share, and a process number means nothing on another.
    return f"hpcml-{socket.gethostname()}-"


def _remove_orphans(base: Path) -> None:
    """Remove what runs of this user on this host left behind that were killed before they could."""
    for directory in base.glob(f"{_prefix()}*-*"):
        pid = directory.name.removeprefix(_prefix()).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdigit() and not psutil.pid_exists(int(pid)) and directory.lstat().st_uid == os.getuid():
                shutil.rmtree(directory, ignore_errors=True)
