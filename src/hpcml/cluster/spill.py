"""Create and remove the node-local, private directory in which workers spill."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from hpcml.batch.schedulers import node_directory


@contextlib.contextmanager
def private_directory(base: str | None) -> Iterator[str]:
    """Create a directory with mode 0700 and remove it at the end."""
    node_local = node_directory()
    if base is None and node_local and Path(node_local).is_dir():
        base = node_local
    base = base or tempfile.gettempdir()
    _remove_orphans(Path(base))
    directory = tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=base)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _prefix() -> str:
    # The name includes the host because several hosts may share the directory, and a process id is
    # valid on one host only.
    return f"hpcml-{socket.gethostname()}-"


def _remove_orphans(base: Path) -> None:
    """Remove directories that killed processes of this user left on this host."""
    for directory in base.glob(f"{_prefix()}*-*"):
        pid = directory.name.removeprefix(_prefix()).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdigit() and not psutil.pid_exists(int(pid)) and directory.lstat().st_uid == os.getuid():
                shutil.rmtree(directory, ignore_errors=True)
